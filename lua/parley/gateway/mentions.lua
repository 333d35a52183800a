--- Claude Code attaches the file that an `@path` in a message names. What a client of a plain model sends is text: such
--- a path must not read the server's files, those of other clients' images among them.
local uv = require "luv"

local M = {}

--- A path without `.` and `..`, as the program resolves it: by its letters, whatever is a link.
local function resolved(path, folder)
  if path:sub(1, 1) == "~" then path = (os.getenv "HOME" or "") .. path:sub(2) end
  if path:sub(1, 1) ~= "/" then path = folder .. "/" .. path end
  local parts = {}
  for part in path:gmatch "[^/]+" do
    if part == ".." then table.remove(parts) elseif part ~= "." then table.insert(parts, part) end
  end
  return "/" .. table.concat(parts, "/")
end

--- What a word behind `@` may name: all of it, without a line behind `#`, without the signs at its end.
local function names_in(word)
  local bare = word:gsub("#[^#]*$", "")
  return { word, bare, (word:gsub("[^%w_]+$", "")), (bare:gsub("[^%w_]+$", "")) }
end

--- The mention in a text of a file that is there.
---@param text string
---@param folder string  the program's
---@return string? mention
function M.find(text, folder)
  for _, pattern in ipairs { '@"([^"\n]+)"', "@([^%s\"]+)" } do
    for word in text:gmatch(pattern) do
      for _, name in ipairs(names_in(word)) do
        local is_path = name ~= "" and (name:find "[/~]" or name:find "^%.") or uv.fs_lstat(folder .. "/" .. name)
        if is_path and uv.fs_lstat(resolved(name, folder)) then return "@" .. name end
      end
    end
  end
end

return M
