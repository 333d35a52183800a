--- Which transcripts there are, and what each is about, without reading more of them than that takes.
local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local claude_event = require "parley.claude.event"

local M = {}

local BLOCK = 1 << 20
local FIRST_WORDS = 200 -- bytes kept of the first message

---@class parley.TranscriptEntry
---@field id string         the session's
---@field path string
---@field size integer      bytes
---@field modified integer  seconds since the epoch

--- The transcripts in a folder, newest first.
---@param folder string  a project's, see `parley.paths`
---@return parley.TranscriptEntry[] entries  none when there is no such folder
function M.list(folder)
  local entries = {}
  for _, name in ipairs(files.names(folder)) do
    local id = name:match "^(.+)%.jsonl$"
    local stat = core.uuid.is_valid(id) and uv.fs_stat(folder .. "/" .. name)
    if stat and stat.type == "file" then
      table.insert(entries, { id = id, path = folder .. "/" .. name, size = stat.size, modified = stat.mtime.sec,
        order = stat.mtime.sec + stat.mtime.nsec / 1e9 })
    end
  end
  table.sort(entries, function(a, b)
    if a.order ~= b.order then return a.order > b.order end
    return a.id < b.id
  end)
  return entries
end

--- The transcripts of every project, newest first.
---@param config_folder string  see `paths.config_folder`
---@return parley.TranscriptEntry[] entries
function M.list_all(config_folder)
  local entries = {}
  for _, name in ipairs(files.names(config_folder .. "/projects")) do
    for _, entry in ipairs(M.list(config_folder .. "/projects/" .. name)) do table.insert(entries, entry) end
  end
  table.sort(entries, function(a, b) return a.order > b.order end)
  return entries
end

--- The lines of a block that may be messages of the user: others are not even cut out. A quote inside a JSON string is
--- escaped, so this text stands in no message.
local function candidates(block)
  local position, line_start = 1, 1
  return function()
    while true do
      local hit = block:find('"type":"user"', position, true)
      if not hit then return nil end
      local line_end = block:find("\n", line_start, true)
      while line_end and line_end < hit do
        line_start = line_end + 1
        line_end = block:find("\n", line_start, true)
      end
      local line = block:sub(line_start, (line_end or #block + 1) - 1)
      position = (line_end or #block) + 1
      line_start = position
      if not line:find('"tool_use_id"', 1, true) then return line end
    end
  end
end

---@class parley.TranscriptSummary
---@field turns integer        messages that were typed, taken back ones included
---@field first_words? string  the beginning of the first, on one line
---@field cwd? string          where it was typed

--- What a transcript is about. Streams the file; only lines that may be messages are decoded.
---@param path string
---@return parley.TranscriptSummary? summary
---@return string? problem  without the path
function M.summary(path)
  local file, problem = io.open(path, "rb")
  if not file then return nil, problem:sub(#path + 3) end -- what stands behind the path
  local _ <close> = file
  local summary = { turns = 0 }
  while true do
    local block, rest = file:read(BLOCK, "L")
    if not block and rest then return nil, rest end -- what was wrong
    if not block then return summary end
    for line in candidates(rest and block .. rest or block) do
      local record = core.json.decode(line)
      local event = type(record) == "table" and claude_event.from_record(record)
      if event and event.type == "user" and claude_event.kind(event) == "typed" then
        summary.turns = summary.turns + 1
        if not summary.first_words then
          summary.first_words = errors.beginning(event:text():gsub("%s+", " "):match "^ ?(.-) ?$", FIRST_WORDS)
          summary.cwd = type(record.cwd) == "string" and record.cwd or nil
        end
      end
    end
  end
end

--- The ids that share the longest beginning with a word, newest first.
local function near(word, entries)
  local function shared(id)
    local length = 0
    while length < #word and id:byte(length + 1) == word:byte(length + 1) do length = length + 1 end
    return length
  end
  local best, ids = 2, {}
  for _, entry in ipairs(entries) do
    local length = shared(entry.id)
    if length > best then best, ids = length, {} end
    if length == best and #ids < 3 then table.insert(ids, entry.id) end
  end
  return ids
end

local function fail(message, ids)
  local hint = ids[1] and ("; there %s %s"):format(#ids == 1 and "is" or "are", table.concat(ids, ", "))
    or " (parley sessions --all lists them)"
  error(errors.value_error(message .. hint), 0)
end

--- Finds a transcript.
---@param word string  a file, a session's id, or the beginning of one
---@param entries parley.TranscriptEntry[]  where ids are looked up
---@return string path
--- Raises `ValueError`, which names ids that are near.
function M.find(word, entries)
  local lower, found = word:lower(), {}
  for _, entry in ipairs(entries) do
    if entry.id:lower() == lower then return entry.path end
    if #word >= 4 and entry.id:sub(1, #word):lower() == lower then table.insert(found, entry) end
  end
  if #found == 1 then return found[1].path end
  if found[1] then
    local ids = {}
    for i = 1, math.min(#found, 5) do ids[i] = found[i].id end
    fail(("'%s' begins the ids of %d sessions"):format(word, #found), ids)
  end
  if uv.fs_stat(word) then return word end
  fail(("no session and no file '%s'"):format(word), near(lower, entries))
end

return M
