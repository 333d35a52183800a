-- A permission policy: files are written below one folder (the request's `folder`, else the working directory) and
-- nowhere else, and no command runs. What only reads is left to the program's own rules.
--
--   parley ask --policy permission=scripts/examples/write_below.lua "Write a poem to poem.txt"
local uv = require "luv"

local M = {}

local WRITES = { Write = "file_path", Edit = "file_path", MultiEdit = "file_path", NotebookEdit = "notebook_path" }

--- The real path of a file that may not be there yet; nil where it would leave by a link or by `..`.
local function real_path(path, cwd)
  if path:sub(1, 1) ~= "/" then path = cwd .. "/" .. path end
  local missing = ""
  while not uv.fs_lstat(path) do
    local parent, name = path:match "^(.*)/+([^/]+)/*$"
    if not parent or name == ".." then return nil end
    path, missing = parent == "" and "/" or parent, "/" .. name .. missing
  end
  local real = uv.fs_realpath(path)
  return real and real .. missing
end

function M.decide(call)
  if call.name == "Bash" then return { deny = "no commands here" } end
  local field = WRITES[call.name]
  if not field then return nil end
  local folder = uv.fs_realpath(call.request and call.request.folder or call.cwd)
  local path = type(call.input[field]) == "string" and real_path(call.input[field], call.cwd)
  if path and folder and path:sub(1, #folder + 1) == folder .. "/" then return { allow = true } end
  return { deny = "files may be written below " .. tostring(folder) .. " only" }
end

return M
