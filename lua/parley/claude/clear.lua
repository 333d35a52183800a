--- Where a program goes on after `/clear` or `/branch`, or another name of theirs: it starts a new session in the same
--- process. 2.1.197 and later say so in the status file, older ones only by a new transcript.
local files = require "parley.base.files"

local M = {}

--- What each command does; `/fork` does something else in later versions, which say where they go on.
local DOES = { clear = "clear", new = "clear", reset = "clear", branch = "branch", fork = "branch" }

--- What a command begins a session by, where it is one that does.
---@param text string
---@return "clear"|"branch"|nil kind
function M.kind(text) return DOES[text:lower():match "^/(%l+)%f[%s\0]"] end

--- The files beside a transcript: for `find`, before the command is given.
---@param jsonl_path string
---@return table<string, true> names
function M.remember(jsonl_path)
  local names = {}
  for _, name in ipairs(files.names(jsonl_path:match "^(.*)/")) do names[name] = true end
  return names
end

--- Finds the transcript that was begun since. Another session of the folder may have begun one too: it holds no
--- `/clear`, and nothing that was copied from this one (`/branch`, which has written no word of its own by then).
---@param jsonl_path string
---@param before table<string, true>  from `remember`
---@param kind "clear"|"branch"
---@return string? session_id
function M.find(jsonl_path, before, kind)
  local folder, own = jsonl_path:match "^(.*)/(.*)%.jsonl$"
  local mark = kind == "clear" and "<command%-name>/clear"
    or '"forkedFrom":{[^}]*"sessionId":"' .. own:gsub("%p", "%%%0") .. '"'
  for _, name in ipairs(files.names(folder)) do
    local id = not before[name] and name:match "^(.*)%.jsonl$"
    local text = id and files.read(folder .. "/" .. name)
    if text and text:find(mark) then return id end
  end
end

return M
