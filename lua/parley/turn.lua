--- One message and all that follows until it is answered: takes in the transcript's records and what the program is seen
--- to be doing, and keeps what the settling policy judges by. The state machine below it is `parley.core`'s.
local core = require "parley.core"
local errors = require "parley.errors"
local event = require "parley.event"

local M = {}

---@class parley.LiveTurn
---@field text string             the message as it is typed
---@field is_command boolean      a slash command, which has an end of its own
---@field events parley.Event[]   not yet reported
---@field open_tools table<string, table>  tool_use blocks without a result, by id
---@field package machine parley.Turn
local Turn = {}
Turn.__index = Turn
Turn.__name = "parley.LiveTurn"

--- Makes a turn whose message is about to be typed.
---@param text string
---@param matches fun(recorded: string, text: string): boolean  the delivery policy's comparison
---@param is_command? boolean
---@return parley.LiveTurn
function M.new(text, matches, is_command)
  local machine = core.turn.new()
  machine:apply "begin"
  return setmetatable({
    text = text, matches = matches, is_command = is_command or false, machine = machine,
    events = {}, early = {}, chain = {}, endings = {}, usage = {}, open_tools = {},
  }, Turn)
end

---@return string  see `turn:state()` in `parley.core`
function Turn:state() return self.machine:state() end

--- Tells of an event that is no record: `"submit"`, `"interrupt"`, `"end"`, ….
---@param name string
function Turn:apply(name) self.machine:apply(name) end

--- What the settling policy judges by.
---@return table
function Turn:facts()
  local facts = self.machine:facts()
  facts.is_command = self.is_command
  return facts
end

--- Adds an event that is not in the transcript.
---@param subtype string
---@param fields table
function Turn:notice(subtype, fields)
  fields.type, fields.subtype = "system", subtype
  table.insert(self.events, event.new(fields))
end

---@return boolean  true when the transcript has shown the message
function Turn:is_accepted()
  local state = self.machine:state()
  return state == "running" or state == "waiting"
end

local COMMAND_MARKS = { "^<command%-", "^<local%-command", "^<task%-notification>", "^%[Request interrupted" }

--- Whether a user record is what somebody has typed, and not written by the program under the user's name.
local function is_typed(record, happening)
  if record.promptSource == "system" or happening.is_meta or #happening:blocks "tool_result" > 0 then return false end
  local text = happening:text()
  for _, mark in ipairs(COMMAND_MARKS) do
    if text:find(mark) then return false end
  end
  return true
end

--- The record that proves that the message has arrived. One that differs is an error: it is not what was sent.
local function is_receipt(self, record, happening)
  if not is_typed(record, happening) then return false end
  local text = happening:text()
  if self.matches(text, self.text) then return true end
  error(errors.session_error(("the message arrived changed: %q instead of %q"):format(text:sub(1, 80),
    self.text:sub(1, 80)), { reason = "delivery", sent = self.text, received = text }), 0)
end

--- What a command leaves in the transcript, each kind of command something else.
local function is_of_command(record, happening)
  if happening.type == "system" then
    return happening.subtype == "local_command" or happening.subtype == "compact_boundary"
      or happening.subtype == "informational"
  end
  local text = happening:text()
  return happening.type == "user"
    and (text:find "<command%-name>" or text:find "^<local%-command" or record.isCompactSummary == true)
end

--- What a command writes last, when it starts no turn of the model.
local function ends_command(happening)
  return happening.type == "system" and (happening.subtype == "local_command" or happening.subtype == "informational")
    or happening.type == "user" and happening:text():find "^<local%-command%-stdout" ~= nil
end

--- Follows the records of this turn from the message on: each names the one before it.
local function follow(self, record, starts)
  if type(record.uuid) ~= "string" then return end
  if starts or self.chain[record.parentUuid] or record.subtype == "compact_boundary" then
    self.chain[record.uuid] = true
  end
end

local function take_user(self, happening)
  local results = happening:blocks "tool_result"
  for _, block in ipairs(results) do self.open_tools[block.tool_use_id] = nil end
  if happening:text():find "^%[Request interrupted by user" then
    self.machine:apply "interrupted"
  elseif #results > 0 then
    self.machine:apply("tool_result", { tools = #results })
  else
    self.machine:apply "meta"
  end
end

local function take_assistant(self, happening)
  local calls = happening:blocks "tool_use"
  for _, block in ipairs(calls) do self.open_tools[block.id] = block end
  self.machine:apply("assistant", {
    stop_reason = happening.stop_reason, tools = #calls, api_error = happening.is_error,
  })
  self.api_error = happening.is_error and happening or nil
  if happening.message_id and happening.usage then self.usage[happening.message_id] = happening.usage end
end

--- The records that the program writes last may overtake those before them in the file: they count when the record that
--- they follow has been seen in this turn.
local function take_endings(self)
  for kind, parent in pairs(self.endings) do
    if self.chain[parent] then
      self.endings[kind] = nil
      self.machine:apply(kind)
    end
  end
end

local ENDINGS = { turn_duration = "duration", stop_hook_summary = "stop" }

--- Takes in a record of a turn whose message was seen.
local function take_accepted(self, record, happening)
  follow(self, record, false)
  if not happening then return end
  if happening.type == "user" then take_user(self, happening) end
  if happening.type == "assistant" then take_assistant(self, happening) end
  table.insert(self.events, happening)
end

--- Lines may overtake each other in the first flush: what came before the message and follows from it is taken in now.
local function take_early(self)
  local index = 1
  while index <= #self.early do
    if self.chain[self.early[index].parentUuid] then
      local record = table.remove(self.early, index)
      take_accepted(self, record, event.from_record(record))
      index = 1
    else
      index = index + 1
    end
  end
end

--- Takes in a record that came after Enter and may be the message's own.
local function take_submitted(self, record, happening)
  local arrived
  if self.is_command then
    arrived = happening and is_of_command(record, happening)
  else
    arrived = happening and happening.type == "user" and is_receipt(self, record, happening)
  end
  if not arrived then
    if type(record.uuid) == "string" then table.insert(self.early, record) end
    return
  end
  self.machine:apply "accept"
  follow(self, record, true)
  table.insert(self.events, happening)
end

--- Takes in a record of the transcript. Those before the message belong to no turn and are passed over.
---@param record table
---@return string? ending  `"duration"` or `"stop"` when this is a record that the program writes last
--- Raises `SessionError` (reason `"delivery"`) when the message has arrived changed.
function Turn:take(record)
  local happening = event.from_record(record)
  local ending = happening and happening.type == "system" and ENDINGS[happening.subtype] or nil
  if ending then
    self.endings[ending] = record.parentUuid
    follow(self, record, false)
  elseif self:is_accepted() then
    take_accepted(self, record, happening)
  elseif self.machine:state() == "submitted" then
    take_submitted(self, record, happening)
  end
  if self:is_accepted() then
    take_early(self)
    take_endings(self)
    if self.is_command and happening and ends_command(happening) then self.machine:apply "stop" end
  end
  return ending
end

local SIGNS = { busy = "busy", ready = "quiet", dialog = "dialog" }

--- Takes in what the program is seen to be doing. "Ready" counts when something has happened since Enter.
---@param state "starting"|"ready"|"busy"|"dialog"
---@param has_moved boolean  the status file was written since Enter
---@return boolean changed
function Turn:observe(state, has_moved)
  local sign, facts = SIGNS[state], self.machine:facts()
  if not sign then return false end
  if sign == "quiet" then
    local counts = facts.busy_seen or facts.records > 0 or facts.interrupting or has_moved
      or self.is_command and facts.state == "running"
    if facts.quiet or not counts then return false end
  elseif sign == "busy" and facts.busy_seen and not facts.quiet and facts.state ~= "waiting" then
    return false
  elseif sign == "dialog" and facts.state ~= "running" then
    return false
  end
  self.machine:apply(sign)
  return true
end

local function sum(parts)
  local total = {}
  for _, usage in pairs(parts) do
    for name, value in pairs(usage) do
      if math.type(value) == "integer" then total[name] = (total[name] or 0) + value end
    end
  end
  return total
end

--- Ends the turn with a verdict: the last event is its result.
---@param verdict parley.Verdict
---@param fields table  further fields of the result
function Turn:conclude(verdict, fields)
  self.machine:apply "end"
  local failure = self.api_error
  fields.type, fields.subtype, fields.stop_reason = "result", verdict.subtype, verdict.stop_reason
  fields.is_error = verdict.subtype ~= "success" and verdict.subtype ~= "interrupted"
  fields.usage = sum(self.usage)
  if failure and fields.is_error then
    fields.error, fields.api_error_status, fields.message = failure.error, failure.api_error_status, failure:text()
  end
  table.insert(self.events, event.new(fields))
end

return M
