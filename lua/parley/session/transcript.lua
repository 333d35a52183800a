--- The transcript of a session: opened, checked, and read into the turn that runs.
local files = require "parley.base.files"
local paths = require "parley.claude.paths"
local watcher = require "parley.claude.watcher"

local M = {}

--- The records that stand before an offset, by what tells them apart.
local function records_before(path, offset)
  local seen = {}
  local text = offset > 0 and files.read(path) or ""
  for id in text:sub(1, offset):gmatch '"uuid":"([%x-]+)"' do seen[id] = true end
  return seen
end

--- Begins to read a session's transcript.
---@param session parley.Session
---@param offset integer  what stands before it is passed over
function M.open(session, offset)
  if session.watcher then session.watcher:close() end
  session.seen, session.reads_again = records_before(session.jsonl_path, offset), false
  session.watcher = watcher.open { path = session.jsonl_path, offset = offset,
    on_change = function() session.changed:notify() end }
end

--- Raises when the program cannot write its transcript: it would answer, and nobody would see it.
---@param session parley.Session
---@param consequence string
function M.check(session, consequence)
  local problem = paths.transcript_problem(session.jsonl_path)
  if not problem then return end
  session.terminal:fail("transcript", ("the program cannot write its transcript, so %s: %s"):format(consequence,
    problem), { path = session.jsonl_path })
end

--- Whether a record was taken in before: a file that was replaced, or cut and written anew, may hold it once more.
local function is_repeated(session, record)
  local id = record.uuid or record.timestamp -- what stands outside the chain has no uuid
  if type(id) ~= "string" then return false end
  local is_seen = session.seen[id]
  session.seen[id] = true
  return session.reads_again and is_seen == true
end

local function take(session, record)
  if type(record.version) == "string" then session.terminal:learn_version(record.version) end
  if session.turn:take(record) == "duration" then session.offers_duration = true end
end

--- Takes in what the transcript has, to the turn's end: what comes after it is not this turn's.
---@param session parley.Session
---@return boolean any   there was something
---@return boolean more  there may be more of it
function M.read(session)
  local any = false
  while true do
    local kind, value = session.watcher:next()
    if kind == nil then
      if value then
        session.terminal:fail("transcript", "the transcript cannot be read: " .. tostring(value), { cause = value })
      end
      return any, false
    elseif kind == "record" then
      if not is_repeated(session, value) then take(session, value) end
      if session.turn:facts().certainty == "certain" then return true, true end
    elseif kind == "malformed" then
      session.turn:notice("malformed_line", { line = value.line, message = tostring(value.error) })
    else
      session.reads_again = true
      session.turn:notice("transcript_" .. kind, { message = "the transcript was " .. kind })
    end
    any = true
  end
end

return M
