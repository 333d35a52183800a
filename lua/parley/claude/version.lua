--- Which version an executable is, known before it is started for a conversation.
local program = require "parley.base.program"
local uv = require "luv"

local M = {}

local PATIENCE_MS = 10000

local known = {} -- by what tells one file from another

local function identity_of(path)
  local stat = uv.fs_stat(path)
  return stat and ("%s %d %d %d.%d"):format(uv.fs_realpath(path), stat.ino, stat.size, stat.mtime.sec, stat.mtime.nsec)
end

--- Asks the program once (`--version`); the answer is kept while the file stays what it is. It waits.
---@param executable string
---@param environment table<string, string>
---@return string? version  `"2.1.332"`; nil when it says none
function M.of(executable, environment)
  local path = program.find(executable, environment)
  local identity = path and identity_of(path)
  if not identity then return nil end
  if not known[identity] then
    local text = program.output({ path, "--version" }, environment, PATIENCE_MS)
    known[identity] = text and text:match "%d+%.%d+%.%d+" or nil
  end
  return known[identity]
end

return M
