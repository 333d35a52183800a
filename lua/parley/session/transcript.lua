--- The transcript of a session: opened, checked, and read into the turn that runs.
local core = require "parley.core"
local files = require "parley.base.files"
local mode = require "parley.session.mode"
local paths = require "parley.claude.paths"
local tail = require "parley.claude.tail"

local M = {}

---@class parley.Transcript
---@field offers_duration boolean   this program writes a last record for each turn
---@field package is_torn boolean  a line of it could not be read
---@field path string
---@field has_moved? boolean  the program has said so, and it was not followed yet
---@field package terminal parley.Terminal
---@field package knows_mode? boolean  a message has told in which permission mode it was taken
---@field package tail? parley.Tail  while it is open
---@field package held integer   bytes of a line that had no end when all else was read
---@field package seen table<string, true>  the records that were taken in, by what tells them apart
---@field package reads_again boolean  the file was replaced, or cut and written anew: it may hold them once more
---@field package since? parley.Moment  what has an earlier time was said before it was opened
local Transcript = {}
Transcript.__index = Transcript
Transcript.__name = "parley.Transcript"

--- Makes a transcript that is not open yet.
---@param terminal parley.Terminal  of the program that writes it
---@param path string
---@return parley.Transcript
function M.new(terminal, path)
  return setmetatable({ terminal = terminal, path = path, offers_duration = false, is_torn = false, seen = {},
    reads_again = false, held = 0 }, Transcript)
end

--- The records that stand in a text, by what tells them apart.
local function records_in(text)
  local found = {}
  for id in text:gmatch '"uuid":"([%x-]+)"' do found[id] = true end
  return found
end

local function records_before(path, offset)
  return records_in(offset > 0 and (files.read(path) or ""):sub(1, offset) or "")
end

local function open_tail(self, offset)
  local changed = self.terminal.process.changed
  self.tail = tail.open { path = self.path, offset = offset, on_change = function() changed:notify() end }
end

--- Begins to read, another file in the place of the one before.
---@param path string
---@param offset integer  what stands before it is passed over
---@param since? parley.Moment  and so is what has an earlier time: a session that goes on under another id may have the
---                        conversation up to there copied (`/branch`) or in its file already (`/resume`), times and all
function Transcript:open(path, offset, since)
  self:close()
  self.path, self.seen, self.reads_again = path, records_before(path, offset), false
  self.since = since
  self.is_torn, self.held = false, 0
  open_tail(self, offset)
end

--- Goes on to read where the program has moved the file to.
---@param is_due? boolean  there must be one, of which nothing was read: there is none before the first message
---@return string path  where it is
function Transcript:follow(is_due)
  self.has_moved = false
  local offset = self.tail and self.tail:offset() or 0
  local path = (is_due or offset > 0) and paths.moved_to(self.path)
  if not path then return self.path end
  self.tail:close()
  self.path, self.held = path, 0
  open_tail(self, offset)
  return path
end

--- What keeps the program from writing it, if anything does.
---@return string?
function Transcript:problem() return paths.transcript_problem(self.path) end

--- Raises when the program cannot write it: it would answer, and nobody would see it.
---@param consequence string
function Transcript:check(consequence)
  local problem = self:problem()
  if not problem then return end
  self.terminal:fail("transcript", ("the program cannot write its transcript, so %s: %s"):format(consequence,
    problem), { path = self.path })
end

--- Whether a record was taken in before, or is of before.
local function is_repeated(self, record)
  if self.since and type(record.timestamp) == "string" and self.since:is_after(record.timestamp) then return true end
  local id = record.uuid or record.timestamp -- what stands outside the chain has no uuid
  if type(id) ~= "string" then return false end
  local is_seen = self.seen[id]
  self.seen[id] = true
  return self.reads_again and is_seen == true
end

local function take(self, turn, record)
  if type(record.version) == "string" then self.terminal:learn_version(record.version) end
  self.has_moved = self.has_moved or record.type == "relocated"
  if turn:take(record) == "duration" then self.offers_duration = true end
  local has = record.permissionMode -- no command has one
  if self.knows_mode or not (has and turn:is_accepted()) then return end
  self.knows_mode = true
  local lack = mode.lack(self.terminal.process, has)
  if not lack then return end
  lack.session_id = record.sessionId
  turn:notice("permission_mode_unavailable", lack)
end

--- Takes in what there is, to the turn's end: what comes after it is not this turn's.
---@param turn parley.LiveTurn
---@return boolean any   there was something
---@return boolean more  there may be more of it
function Transcript:read(turn)
  local any = false
  while true do
    local kind, value = self.tail:next()
    if kind == nil then
      if value then
        self.terminal:fail("transcript", "the transcript cannot be read: " .. tostring(value), { cause = value })
      end
      local held = self.tail:held()
      local has_grown = held > self.held -- a long line is a sign of life before it is whole
      self.held = held
      return any or has_grown, false
    elseif kind == "record" then
      self.held = 0
      if not is_repeated(self, value) then take(self, turn, value) end
      if turn:is_certain() then return true, true end
    elseif kind == "malformed" then
      self.is_torn = true
      turn:notice("malformed_line", { line = value.line, message = tostring(value.error) })
    else
      self.reads_again = true
      turn:notice("transcript_" .. kind, { message = "the transcript was " .. kind })
    end
    any = true
  end
end

--- Whether whoever goes on from it may miss something: a line could not be read, or it was replaced or cut, and what
--- stands there now has not all that was read before (the program that runs writes on, 2.1.110 to 2.1.332).
---@return boolean
function Transcript:is_damaged()
  if self.is_torn or not self.reads_again then return self.is_torn end
  local found = records_in(files.read(self.path) or "")
  for id in pairs(self.seen) do
    if core.uuid.is_valid(id) and not found[id] then return true end
  end
  return false
end

--- Whether the last line is not whole: the program is in the middle of a write.
---@return boolean
function Transcript:is_in_a_line() return self.held > 0 end

--- Up to where it was read; nil before it was opened.
---@return integer?
function Transcript:offset() return self.tail and self.tail:offset() end

--- How changes are noticed; nil before it was opened.
---@return "notify"|"poll"?
function Transcript:mode() return self.tail and self.tail:mode() end

--- Closes the file. May be called again.
function Transcript:close()
  if self.tail then self.tail:close() end
  self.tail = nil
end

return M
