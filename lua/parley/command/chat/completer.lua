--- What Tab completes in a chat: its commands, and the names of files.
local uv = require "luv"
local files = require "parley.base.files"

local M = {}

--- The entries of a folder that begin like a name; a folder's ends with a slash. A dot asks for the hidden ones.
local function entries(folder, beginning)
  local found = {}
  for _, entry in ipairs(files.entries(folder)) do
    local name, kind = entry.name, entry.type
    if name:sub(1, #beginning) == beginning and (name:sub(1, 1) ~= "." or beginning:sub(1, 1) == ".") then
      if kind == "link" then kind = (uv.fs_stat(folder .. "/" .. name) or {}).type end
      table.insert(found, name .. (kind == "directory" and "/" or ""))
    end
  end
  table.sort(found)
  return found
end

local function files_like(word)
  local shown, beginning = word:match "^(.*/)([^/]*)$"
  local folder = shown or "."
  if not shown then shown, beginning = "", word end
  local home = os.getenv "HOME"
  if home and folder:find "^~/" then folder = home .. folder:sub(2) end
  local found = entries(folder, beginning)
  for i, name in ipairs(found) do found[i] = shown .. name end
  return found
end

local function beginning_with(word, words)
  local found = {}
  for _, each in ipairs(words) do
    if each:sub(1, #word) == word then table.insert(found, each) end
  end
  return found
end

--- Makes a completer. It looks at the text before the cursor: a command, what a command takes, the path behind an `@`
--- or with a slash in it.
---@param commands table<string, string[]|"file"|false>  what each takes: words, a file
---@return fun(text: string): string word, string[] candidates  the word that is completed, and what it may become
function M.new(commands)
  local names = {}
  for name in pairs(commands) do table.insert(names, name) end
  table.sort(names)
  return function(text)
    if text:find "^/[^%s/]*$" then return text, beginning_with(text, names) end
    local command, rest = text:match "^(/%a+)!?%s+(.*)$"
    local takes = commands[command]
    if takes == "file" then return rest, files_like(rest) end
    if takes then return rest, beginning_with(rest, takes) end
    local word = text:match "%S*$"
    local path = word:match "^@(.*)$"
    if path then
      local found = files_like(path)
      for i, name in ipairs(found) do found[i] = "@" .. name end
      return word, found
    end
    return word, word:find "/" and files_like(word) or {}
  end
end

--- What all of them begin with.
---@param candidates string[]  at least one
---@return string
function M.common(candidates)
  local common = candidates[1]
  for _, each in ipairs(candidates) do
    while each:sub(1, #common) ~= common do common = common:sub(1, #common - 1) end
  end
  while not utf8.len(common) do common = common:sub(1, -2) end -- no half characters
  return common
end

return M
