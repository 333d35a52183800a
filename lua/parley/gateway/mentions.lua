--- Claude Code attaches the file that an `@path` in a message names. What a client of a plain model sends is text: such
--- a path must not read the server's files, those of other clients' images among them.
local files = require "parley.base.files"
local history = require "parley.base.history"
local launch = require "parley.claude.launch"
local problems = require "parley.gateway.problems"
local uv = require "luv"

local M = {}

--- A path without `.` and `..`, as the program resolves it: by its letters, whatever is a link.
local function resolved(path, folder, home)
  if path:sub(1, 1) == "~" then path = home .. path:sub(2) end
  if path:sub(1, 1) ~= "/" then path = folder .. "/" .. path end
  local parts = {}
  for part in path:gmatch "[^/]+" do
    if part == ".." then table.remove(parts) elseif part ~= "." then table.insert(parts, part) end
  end
  return "/" .. table.concat(parts, "/")
end

--- White space to JavaScript that `%s` does not know.
local SPACES = { "\u{A0}", "\u{1680}", "\u{2028}", "\u{2029}", "\u{202F}", "\u{205F}", "\u{3000}", "\u{FEFF}" }
for code = 0x2000, 0x200A do table.insert(SPACES, utf8.char(code)) end

--- `、`, `。` and `？`, behind which the program sees a mention, too; and some that look like them by the byte.
local SIGNS = "[\xE3\xEF][\x80\xBC][\x81\x82\x9F]@"

local function with_plain_spaces(text)
  if not text:find "[\xC2\xE1-\xE3\xEF]" then return text end
  for _, space in ipairs(SPACES) do text = text:gsub(space, " ") end
  return text
end

--- Up to its last letter. A pattern that begins with the signs would be tried at each of them, and take minutes.
local function without_signs(word) return word:match "^.*[%w_]" or "" end

--- What a word behind `@` may name: all of it, without lines behind `#`, without the signs at its end.
local function names_in(word)
  local bare = word:match "^[^#]*"
  return { word, bare, without_signs(word), without_signs(bare) }
end

--- The words behind each `@`, as 2.1.332 takes them: behind white space or one of some signs, to the next white space,
--- or between quotes, be they hidden by others. What stands up to the next `@` is looked at anywhere: it is all that is
--- left of `@name@[…](claude-ref:…)`.
local function words_in(text)
  local words, at = {}, 0
  text = " " .. with_plain_spaces(text)
  for _, each in ipairs { text, (text:gsub(SIGNS, " @")) } do
    for word in each:gmatch "%s@(%S+)" do table.insert(words, word) end
  end
  for word in text:gmatch '@([^%s"@]+)' do table.insert(words, word) end
  while true do
    at = text:find('@"', at + 1, true)
    if not at then return words end
    table.insert(words, text:match('^"([^"]+)"', at + 1))
  end
end

--- What tells whether there is something at a path. It looks first whether the folder, or the root, has a name of that
--- kind at all: that costs nothing, and a text may have a million words.
local function looker(folder)
  folder = resolved(folder, "/")
  local known = {}
  local function may_have(parent, path)
    if not known[parent] then
      local entries, is_whole = files.entries(parent)
      local names = { is_whole = is_whole }
      for _, entry in ipairs(entries) do names["/" .. entry.name] = true end
      known[parent] = names
    end
    local first = path:match("^/[^/]+", #parent == 1 and 1 or #parent + 1)
    return not first or not known[parent].is_whole or known[parent][first]
  end
  return function(path)
    local is_inside = path:sub(1, #folder + 1) == folder .. "/"
    return may_have(is_inside and folder or "/", path) and uv.fs_lstat(path) ~= nil
  end
end

--- The mention in a text of a file that is there.
---@param text string
---@param folder string  the program's, absolute
---@param home? string    the program's, default none
---@return string? mention
function M.find(text, folder, home)
  local is_there, seen = looker(folder), { [""] = true }
  for _, word in ipairs(words_in(text)) do
    for _, name in ipairs(seen[word] and {} or names_in(word)) do
      if not seen[name] and is_there(resolved(name, folder, home or "")) then return "@" .. name end
      seen[name] = true
    end
  end
end

--- What is kept of an answer when a transcript is written: see rules 2 and 3 of `native_jsonl`.
local function says_something(message)
  for _, block in ipairs(history.blocks_of(message.content)) do
    if block.type ~= "thinking" and (block.type ~= "text" or block.text:find "%S") then return true end
  end
  return false
end

--- The texts of the user's at the end must be text, and name no file of the server's: those that come before an answer
--- that says nothing may be typed with the last one.
---@param messages table[]
---@param set table  the program's options: `cwd`, `extra_env`
--- Raises a `parley.gateway.Problem`.
function M.check(messages, set)
  local folder = uv.fs_realpath(set.cwd) or set.cwd
  local home = launch.environment(set).HOME or (uv.os_get_passwd() or {}).homedir
  for i = #messages, 1, -1 do
    local message = messages[i]
    if message.role == "assistant" and says_something(message) then return end
    for _, block in ipairs(history.blocks_of(message.content)) do
      local mention = block.type == "text" and M.find(block.text, folder, home)
      if mention then
        problems.refuse("messages: '%s' names a file of the server, which Claude Code would attach: put a space "
          .. "behind the @", mention)
      end
    end
  end
end

return M
