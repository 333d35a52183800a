--- One message and all that follows until it is answered: takes in the transcript's records and what the program is
--- seen to be doing, and keeps what the settling policy judges by. The state machine below it is `parley.core`'s.
local core = require "parley.core"
local agents = require "parley.session.agents"
local claude_event = require "parley.claude.event"
local clock = require "parley.base.clock"
local commands = require "parley.claude.commands"
local receipt = require "parley.session.receipt"
local retries = require "parley.claude.retries"
local settling = require "parley.policy.settling"
local used = require "parley.base.usage"

local M = {}

---@class parley.LiveTurn
---@field text string             the message as it is typed
---@field is_command boolean      a slash command, which has an end of its own
---@field is_exact? boolean       a command that the program has shown to be no other
---@field package parent? any       what the record of the message follows from
---@field ran? string             the command that the program says it runs
---@field events parley.Event[]   not yet reported
---@field open_tools table[]     tool_use blocks without a result, in the order of the calls
---@field queued boolean         the message waits behind a turn of the program's own
---@field package calls table<string, true>       the tool calls that were reported, by id
---@field package decisions {id: string, fields: table}[]  about calls that were not reported yet
---@field package machine parley.TurnMachine
---@field matches fun(recorded: string, sent: string): boolean  the delivery policy's comparison
---@field package early table[]   records that came before the message's own and may follow from it
---@field package chain table<string, true>     the records of this turn, by `uuid`
---@field package endings table<string, string>  kind of a last record to the record that it follows
---@field has_joined? boolean     it is a part of a turn of the program's own
---@field limit? parley.LimitReached  why the turn was interrupted
---@field answered_at? string    when the last answer came, as its record has it
---@field package usage table<string, table>     of each answer, by its message's id
---@field package agents table<any, string>      sub-agents and workflows in the background that were not heard of again
---@field withdrawn? string     the message before, whose record may still come
---@field submitted_at? parley.Moment  when Enter was pressed
---@field package stopped? string       why a hook of the user's has the program give no answer
---@field package attached table<string, true>  the files that the program has attached, by their paths
---@field package expected? parley.AttachedFile[]  those that it should
---@field package failed? string        what the program says of the command, which has failed
---@field package api_error? parley.Event  the last answer, when it is an error
---@field package message_id? string    of the answer that came last, errors aside
---@field package calls_tools? boolean  that answer has a call
---@field package interrupted_at? parley.Moment  when ESC was asked for
---@field package last_retry? parley.Retry
---@field package seen? table     the machine's facts, until the next record
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
    events = {}, early = {}, chain = {}, endings = {}, usage = {}, open_tools = {}, agents = {}, queued = false,
    calls = {}, decisions = {}, attached = {},
  }, Turn)
end

local function apply(self, name, fields)
  self.seen = nil
  self.machine:apply(name, fields)
end

--- What the machine has seen, to be read only: it is asked about at every look.
local function seen_by(self)
  self.seen = self.seen or self.machine:facts()
  return self.seen
end

--- Says what the message has the program attach.
---@param expected parley.AttachedFile[]
function Turn:expect_attached(expected) self.expected = expected end

---@return string  see `turn:state()` in `parley.core`
function Turn:state() return self.machine:state() end

--- Tells of an event that is no record: `"submit"`, `"interrupt"`, `"end"`, ….
---@param name string
function Turn:apply(name)
  if name == "interrupt" then self.interrupted_at = clock.moment() end
  apply(self, name)
end

--- Tells that Enter is about to be pressed.
---@param withdrawn? string  the message before, when it was interrupted and its record had not come by then
---@param is_exact? boolean  the program has shown that it runs this command and no other
function Turn:submit(withdrawn, is_exact)
  apply(self, "submit")
  self.withdrawn, self.is_exact, self.submitted_at = withdrawn, is_exact, clock.moment()
end

--- Whether ESC has ended it, or will.
---@return boolean
function Turn:is_interrupting() return seen_by(self).interrupting end

--- Whether what it has started in the background is waited for.
---@return boolean
function Turn:awaits_agents() return next(self.agents) ~= nil and not self:is_interrupting() end

--- Whether the transcript says that it is over.
---@return boolean
function Turn:is_certain() return seen_by(self).certainty == "certain" end

--- Whether the API error that came last is the interruption: 2.1.110 and 2.1.197 say "Prompt is too long" of a
--- conversation whose compaction ESC has cut off.
local function is_cut_off(self)
  local failure = self.api_error
  return failure ~= nil and self.interrupted_at ~= nil and not self.interrupted_at:is_after(failure.timestamp or "")
end

--- What the settling policy judges by.
---@return parley.TurnFacts  without `offers_duration`
function Turn:facts()
  local facts = self.machine:facts()
  if facts.api_error and is_cut_off(self) then facts.api_error, facts.interrupted = false, true end
  facts.is_command, facts.queued, facts.open_tools = self.is_command, self.queued, #self.open_tools
  facts.stopped = self.stopped ~= nil and facts.assistant_blocks == 0
  facts.failed = self.failed ~= nil and facts.assistant_blocks == 0
  return facts
end

--- Adds an event that is not in the transcript.
---@param subtype string
---@param fields table
function Turn:notice(subtype, fields)
  fields.type, fields.subtype = "system", subtype
  table.insert(self.events, claude_event.new(fields))
end

--- Tells of a decision about a tool call, once the call itself was told of.
---@param id? string  of the `tool_use` block; nil for one that the transcript will not show
---@param fields table
function Turn:decided(id, fields)
  if id and not self.calls[id] then return table.insert(self.decisions, { id = id, fields = fields }) end
  self:notice("permission", fields)
end

--- Tells of the decisions that wait for a call which was reported now; all of them at the end.
local function report_decisions(self, is_end)
  local waiting = self.decisions
  self.decisions = {}
  for _, each in ipairs(waiting) do self:decided(not is_end and each.id or nil, each.fields) end
end

--- Whether a text that the program was given is the message, or the one before that was interrupted.
---@param text string
---@return boolean
function Turn:expects(text)
  return self.matches(text, self.text) or self.withdrawn ~= nil and self.matches(text, self.withdrawn)
end

---@return boolean  whether the model has something left to do, by what was seen last
function Turn:goes_on()
  local facts = seen_by(self)
  local is_last = facts.last_is_answer and facts.stop_reason ~= nil and facts.stop_reason ~= "tool_use"
    and not facts.broken_off
  return self:is_accepted() and not facts.interrupting and not is_last and facts.certainty ~= "certain"
end

---@return boolean  true when the transcript has shown the message
function Turn:is_accepted()
  local state = self.machine:state()
  return state == "running" or state == "waiting"
end

--- What the program writes behind a message that a hook of the user's has it stop at.
local STOPPED = "^Operation stopped by hook:?%s*(.*)$"

--- Follows the records of this turn from the message on: each names the one before it.
local function follow(self, record, starts)
  if type(record.uuid) ~= "string" then return end
  if starts or self.chain[record.parentUuid] or record.subtype == "compact_boundary" then
    self.chain[record.uuid] = true
  end
end

local function close_tool(self, id)
  for i, call in ipairs(self.open_tools) do
    if call.id == id then return table.remove(self.open_tools, i) end
  end
end

local function follow_agents(self, record, text)
  for _, name in ipairs(agents.follow(self.agents, record, text)) do apply(self, name) end
end

--- Kinds of user events that are part of the conversation. What the program writes itself is told by its text only
--- behind the message, which may begin with the same words.
local SAID = { typed = true, results = true }

local function take_user(self, record, event)
  local results, text = event:blocks "tool_result", event:text()
  for _, block in ipairs(results) do close_tool(self, block.tool_use_id) end
  follow_agents(self, record, text)
  local stopped = seen_by(self).assistant_blocks == 0 and #results == 0 and text:match(STOPPED) or nil
  self.stopped = stopped or self.stopped
  -- That the user has interrupted is a part of it, too: the model is told, and goes on from there.
  local is_interruption = text:find "^%[Request interrupted by user" ~= nil
  event.is_meta = stopped ~= nil or not is_interruption and not SAID[claude_event.kind(event)] or nil
  if is_interruption then
    self.open_tools = {}
    apply(self, "interrupted")
  elseif #results > 0 then
    self.api_error = nil
    apply(self, "tool_result")
  else
    apply(self, "meta")
  end
end

--- Whether an error cut an answer off behind a whole call: the program has the call run and goes on (2.1.110, 2.1.197,
--- 2.1.332), and the error's record may come before the result or behind it. An error that the API gave in place of an
--- answer has a status; a compaction that has failed, whatever it was, is called an invalid request.
local function is_broken_off(self, event)
  local is_cut = event.is_error and not event.api_error_status and event.error ~= "invalid_request"
  return is_cut and self.calls_tools or false
end

local function take_assistant(self, event)
  local calls = event:blocks "tool_use"
  for _, block in ipairs(calls) do
    table.insert(self.open_tools, block)
    if block.id then self.calls[block.id] = true end
  end
  if not event.is_error then
    self.calls_tools = calls[1] ~= nil or self.calls_tools and event.message_id == self.message_id
    self.message_id = event.message_id
  end
  local is_whole = event.stop_reason and not event.is_error
  self.answered_at = is_whole and event.timestamp or self.answered_at
  apply(self, "assistant", { stop_reason = event.stop_reason, api_error = event.is_error,
    broken_off = is_broken_off(self, event) })
  self.api_error = event.is_error and event or nil
  if event.message_id and event.usage then self.usage[event.message_id] = event.usage end
end

--- Tells why the turn is going to be interrupted.
---@param limit parley.LimitReached
function Turn:stop_at(limit) self.limit = self.limit or limit end

--- Reports that the program will try an API request again, once for each attempt.
---@param retry parley.Retry
---@param session_id? string
function Turn:announce_retry(retry, session_id)
  local last = self.last_retry
  if last and last.attempt == retry.attempt and last.max_attempts == retry.max_attempts then return end
  self.last_retry = retry
  self:notice("api_retry", { session_id = session_id, attempt = retry.attempt, max_attempts = retry.max_attempts,
    wait_ms = retry.wait_ms, message = retry.message })
end

--- The retry that was announced last, when nothing has come of it yet.
---@return parley.Retry?
function Turn:retry() return self.last_retry end

--- The records that the program writes last may overtake those before them in the file: they count when the record that
--- they follow has been seen in this turn.
local function take_endings(self)
  for _, kind in ipairs { "stop", "duration" } do
    local parent = self.endings[kind]
    if parent and self.chain[parent] then
      self.endings[kind] = nil
      -- A Stop hook that has the model go on leaves a word to it, and then the same record.
      if kind ~= "stop" or seen_by(self).last_is_answer then apply(self, kind) end
    end
  end
end

--- Whether the model has said its last word, with no sub-agent left whose report is a part of it.
local function is_answered(self)
  local facts = seen_by(self)
  return facts.last_is_answer and settling.is_final(facts.stop_reason) and not facts.broken_off and facts.agents == 0
end

--- Whether a record begins a turn of the program's own, about what has ended in the background.
local function begins_own_turn(self, record)
  return claude_event.is_notification(record) and not record.isSidechain and is_answered(self)
end

--- Whether a record is of a message that a person at the terminal has entered behind this one.
local function is_anothers(self, record, event)
  if self.is_command or event.type ~= "user" or claude_event.kind(event) ~= "typed" then return false end
  if type(record.origin) == "table" and record.origin.kind ~= "human" then return false end
  return not (self.withdrawn and self.matches(event:text(), self.withdrawn))
end

local ENDINGS = { turn_duration = "duration", stop_hook_summary = "stop" }

--- Takes in a record of a turn whose message was seen.
local function take_accepted(self, record, event)
  -- A command is accepted by what the screen shows: its first record comes behind that.
  local is_first = self.is_command and next(self.chain) == nil and receipt.has_come(self, record, event)
  follow(self, record, is_first)
  if record.type == "attachment" and type(record.attachment) == "table" then
    follow_agents(self, record, tostring(record.attachment.prompt))
    if record.attachment.filename then self.attached[record.attachment.filename] = true end
  end
  if not event then return end
  if event.type == "user" then take_user(self, record, event) end
  if event.type == "assistant" then take_assistant(self, event) end
  if event.type == "system" then follow_agents(self, record, "") end
  local retry = event.type == "system" and retries.in_record(record)
  if retry then return self:announce_retry(retry, event.session_id) end
  -- A call's result may be written late, behind the request that has it and is tried again.
  if event.type == "assistant" or event.subtype == "compact_boundary" then self.last_retry = nil end
  table.insert(self.events, event)
  report_decisions(self, false)
end

--- Takes in a message of a person's. Behind the answer it ends the turn, for where the program writes no last record
--- (2.1.110) nothing else lies between the two. One that goes on from where this one did has come in its place: the
--- person has pressed ESC and entered something else. Else the program answers both as one (2.1.332, Ctrl+X Ctrl+S, or
--- a message that was queued while a tool ran).
local function take_anothers(self, record, event)
  local facts = seen_by(self)
  local is_instead = facts.assistant_blocks == 0 and record.parentUuid == self.parent
  if record.type == "user" and (is_instead or is_answered(self)) then
    if is_instead then apply(self, "interrupted") end
    return apply(self, "duration")
  end
  take_accepted(self, record, event)
  self:notice("message_added", { session_id = event.session_id, message = "somebody has entered another message at the "
    .. "terminal, and the program answers both as one" })
end

--- Lines may overtake each other in the first flush: what came before the message and follows from it is taken in now.
local function take_early(self)
  local index = 1
  while index <= #self.early do
    if self.chain[self.early[index].parentUuid] then
      local record = table.remove(self.early, index)
      take_accepted(self, record, claude_event.from_record(record))
      index = 1
    else
      index = index + 1
    end
  end
end

--- Follows the message through the queue behind a turn of the program's own. What leaves that is often not named: it is
--- taken for the message, which then is waited for while the program works, and `file_wait_timeout_ms` longer.
local function follow_queue(self, record)
  local is_named = type(record.content) == "string"
  local is_ours = is_named and self.matches(record.content, self.text)
  if record.operation == "enqueue" then
    self.queued = self.queued or is_ours
  elseif is_ours or not is_named then
    self.queued = false
  end
end

--- Says that the message is a part of a turn of the program's own: a result of a tool has carried it to the model.
local function tell_of_joining(self, record, event)
  self.has_joined = record.type == "attachment"
  if not self.has_joined then return end
  self:notice("message_joined", { session_id = event.session_id, message = "the program had begun a turn of its own, "
    .. "and gave the model the message within it, in words of its own around it" })
end

--- Takes in a record that came after Enter and may be the message's own.
local function take_submitted(self, record, event)
  if record.type == "queue-operation" then follow_queue(self, record) end
  if not receipt.has_come(self, record, event) then
    if type(record.uuid) == "string" then table.insert(self.early, record) end
    return
  end
  apply(self, "accept")
  self.parent = record.type == "user" and record.parentUuid
  follow(self, record, true)
  table.insert(self.events, event)
  tell_of_joining(self, record, event)
  follow_agents(self, record, "")
end

--- Takes in a record of the transcript. Those before the message belong to no turn and are passed over; a command has
--- no receipt, and is told by the time from what a turn of the program's own writes late.
---@param record table
---@return string? ending  `"duration"` or `"stop"` when this is a record that the program writes last
--- Raises `SessionError` when the message has arrived changed (reason `"delivery"`), or was refused (`"refused"`).
function Turn:take(record)
  local time = self.is_command and self.submitted_at and record.timestamp
  if type(time) == "string" and self.submitted_at:is_after(time) then return nil end
  local event = claude_event.from_record(record)
  local ending = event and event.type == "system" and ENDINGS[event.subtype] or nil
  if ending then
    self.endings[ending] = record.parentUuid
    follow(self, record, false)
  elseif self:is_accepted() and event and begins_own_turn(self, record) then
    apply(self, "duration") -- nothing else lies between the two on 2.1.110, which writes no last record
  elseif self:is_accepted() and event and is_anothers(self, record, event) then
    take_anothers(self, record, event)
  elseif self:is_accepted() then
    take_accepted(self, record, event)
  elseif self.machine:state() == "submitted" then
    take_submitted(self, record, event)
  end
  if self:is_accepted() then
    take_early(self)
    take_endings(self)
    if self.is_command and event then
      self.ran = self.ran or receipt.command_run(self, event)
      self.failed = commands.failure_in(event) or self.failed
      if receipt.ends_command(event) and not agents.started(record) then apply(self, "finished") end
    end
  end
  return ending
end

local SIGNS = { busy = "busy", ready = "quiet", dialog = "dialog" }

--- Takes in what the program is seen to be doing. "Ready" counts when something has happened since Enter: a turn may be
--- too short to be seen at work.
---@param state "starting"|"ready"|"busy"|"dialog"
---@param has_moved boolean  the status file was written since Enter
---@return boolean changed
function Turn:observe(state, has_moved)
  local sign, facts = SIGNS[state], seen_by(self)
  if not sign then return false end
  if sign == "quiet" then
    local counts = facts.busy_seen or facts.interrupting or has_moved or facts.state == "running"
    if facts.quiet or not counts then return false end
  elseif sign == "busy" and facts.busy_seen and not facts.quiet and facts.state ~= "waiting" then
    return false
  elseif sign == "dialog" and (facts.state ~= "running" or facts.certainty == "certain") then
    return false -- one that comes up behind the end is the next turn's affair
  end
  apply(self, sign)
  return true
end

--- What the answers have used up to now.
---@return table<string, integer> usage
function Turn:used()
  local total = {}
  for _, each in pairs(self.usage) do used.add(total, each) end
  return total
end

--- The ids of the calls that were reported.
---@return table<string, true>
function Turn:reported_calls() return self.calls end

--- Tells of what the program should have attached to a message that it has taken, and has not: it says nothing of a
--- picture that it cannot read, or may not. One that it was interrupted before may be attached yet.
local function report_missing(self, verdict)
  local is_early = verdict.subtype == "interrupted" and seen_by(self).assistant_blocks == 0
  if not self:is_accepted() or is_early then return end
  for _, file in ipairs(self.expected or {}) do
    if not self.attached[file.path] then
      self:notice("attachment_missing", { path = file.path, index = file.index,
        message = ("the program has not attached the picture content[%d] of the message, so the model has no more of "
          .. "it than a name: it may be broken or too large, or the settings forbid to read it"):format(file.index) })
    end
  end
end

--- What a verdict is called: a turn that a limit has interrupted says so.
local function subtype_of(self, verdict)
  return self.limit and verdict.subtype == "interrupted" and "error_limit" or verdict.subtype
end

--- Ends the turn with a verdict: the last event is its result.
---@param verdict parley.Verdict
---@param fields table  further fields of the result
function Turn:conclude(verdict, fields)
  report_missing(self, verdict)
  apply(self, "end")
  report_decisions(self, true)
  local failure = self.api_error
  fields.type, fields.subtype, fields.stop_reason = "result", subtype_of(self, verdict), verdict.stop_reason
  fields.is_error = fields.subtype ~= "success" and fields.subtype ~= "interrupted"
  fields.usage = self:used()
  if self.limit then fields.limit, fields.message = self.limit.name, self.limit.message end
  if failure and fields.is_error and fields.subtype ~= "error_limit" then
    fields.error, fields.api_error_status, fields.message = failure.error, failure.api_error_status, failure:text()
  elseif verdict.subtype == "error_hook" then
    fields.message = "a hook (UserPromptSubmit) has the program stop at the message"
      .. (self.stopped ~= "" and ": " .. self.stopped or "")
  elseif verdict.subtype == "error_command" then
    fields.message = self.failed
  end
  table.insert(self.events, claude_event.new(fields))
end

return M
