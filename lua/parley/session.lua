--- One live conversation: a process, its transcript and the turn that runs.
---
--- What happens is observed, never guessed: every output of the terminal, every line of the transcript and every change
--- of the status file notifies `changed`; a waiting task then looks at all of them. Decisions are the policies'.
local core = require "parley.core"
local errors = require "parley.errors"
local event = require "parley.event"
local options = require "parley.options"
local paths = require "parley.paths"
local status = require "parley.status"
local task = require "parley.task"
local tui = require "parley.policy.tui"
local typist = require "parley.typist"
local watcher = require "parley.watcher"

local M = {}

--- Enter that was swallowed leaves the message in the composer; it is pressed again after so long.
local ENTER_AGAIN_MS = 400
--- A dialog is read when it has stood still for so long, for it is drawn in pieces.
local DIALOG_STILL_MS = 80

--- The options of a session beside those of its process.
---@type table<string, parley.OptionRule>
M.rules = {
  accept = { type = "list of strings", default = {} },
  startup_timeout_ms = { type = "milliseconds", default = 60000 },
  turn_timeout_ms = { type = "milliseconds" },
  stall_timeout_ms = { type = "milliseconds", default = 300000 },
  file_wait_timeout_ms = { type = "milliseconds", default = 30000 },
  long_text = { type = "string", default = "pasted", check = options.one_of { "typed", "pasted", "refuse" } },
  mentions = { type = "string", default = "allow", check = options.one_of { "allow", "refuse" } },
  policies = { type = "table", default = {} },
}

local POLICIES = { "readiness", "dialogs", "delivery", "settling" }

---@class parley.Session
---@field process parley.Process
---@field session_id string
---@field jsonl_path string
---@field changed parley.Condition
---@field turns integer        how many have ended
---@field policies table
---@field delivery parley.DeliveryOptions
---@field package turn parley.Turn
local Session = {}
Session.__index = Session
Session.__name = "parley.Session"

--- Fills in what a table of policies leaves out.
---@param given table<string, table>
---@return table<string, table>
local function with_defaults(given)
  local policies = {}
  for _, name in ipairs(POLICIES) do
    policies[name] = setmetatable(given[name] or {}, { __index = require("parley.policy." .. name) })
  end
  return policies
end

--- Makes a session that is not started yet.
---@param process parley.Process
---@param given? table        see `M.rules`
---@param jsonl_path? string  its transcript; default: where the program will write it
---@param start_offset? integer  what stands before it in the transcript is passed over; default 0
---@return parley.Session
--- Raises `ValueError` for bad options.
function M.new(process, given, jsonl_path, start_offset)
  local set = options.check(M.rules, given, "parley.session")
  return setmetatable({
    process = process,
    session_id = process.session_id,
    jsonl_path = jsonl_path or paths.resolve_jsonl_path(process.session_id, process.cwd, process.environment),
    start_offset = start_offset or 0,
    changed = process.changed,
    options = set,
    delivery = { long_text = set.long_text, mentions = set.mentions },
    policies = with_defaults(set.policies),
    turn = core.turn.new(),
    turns = 0,
    events = {}, chain = {}, endings = {}, usage = {},
  }, Session)
end

--- What a policy gets to see.
---@return parley.View
function Session:view()
  local screen = self.process.screen
  local generation = screen:generation()
  if generation ~= self.seen_generation then
    local row, column, visible = screen:cursor()
    self.seen_generation = generation
    self.picture = { rows = screen:rows(), cursor = { row = row, column = column, visible = visible },
      modes = screen:modes(), title = screen:title() }
    self.version = self.version or tui.version(self.picture.rows)
  end
  local current = self.status and self.status.value
  return {
    rows = self.picture.rows, cursor = self.picture.cursor, modes = self.picture.modes, title = self.picture.title,
    status = current, version = current and current.version or self.version,
    elapsed_ms = self.started_at and task.now() - self.started_at or 0,
  }
end

--- What the program is doing, by the readiness policy.
---@return "starting"|"ready"|"busy"|"dialog"
function Session:state() return self.policies.readiness.state(self:view()) end

--- Raises a `SessionError` with the last screen.
---@param reason string
---@param message string
---@param fields? table
function Session:fail(reason, message, fields)
  local all = { reason = reason, session_id = self.session_id, screen = self.process.screen:text() }
  for name, value in pairs(fields or {}) do all[name] = value end
  error(errors.session_error(message, all), 0)
end

local function describe_exit(exit)
  if exit.signal then return "was ended by " .. exit.signal end
  return ("exited with status %s"):format(exit.exit_code)
end

local function last_line(text)
  return text:match "([^\n]*%S)%s*$" or "nothing"
end

--- Raises when the session was closed or its process has ended.
function Session:check()
  if self.closed then error(errors.closed_error "the session is closed", 0) end
  if self.process:is_alive() then return end
  self.process:drain(200)
  local exit = self.process:exit_record() or { not_started = true }
  self:fail("exit", ("the program %s; the last line on its screen: %s"):format(describe_exit(exit),
    last_line(self.process.screen:text())), { exit = exit })
end

--- Answers the dialog that is up, by the policy.
--- Raises `DialogError` when the policy does not answer it.
function Session:answer_dialog()
  local dialogs = self.policies.dialogs
  local since, seen = task.now(), nil
  while self:state() == "dialog" do
    self:check()
    local dialog = dialogs.recognize(self:view())
    local text = dialog and dialog.text
    if text ~= seen then since, seen = task.now(), text end
    local still_ms = task.now() - since
    -- One that was answered stays on the screen for a while; one whose rows say nothing yet is still being drawn.
    local patience = (text == nil or text == self.answered or dialog.kind == "unknown") and 2000 or DIALOG_STILL_MS
    if still_ms >= patience then return self:decide(dialog) end
    self.changed:wait(patience - still_ms)
  end
end

--- Moves the pointer to a choice, looking after each step, and presses Enter.
local function choose(self, dialog, choice)
  for _ = 1, 3 * #dialog.choices do
    local current = self.policies.dialogs.recognize(self:view())
    if not current or current.kind ~= dialog.kind or #current.choices ~= #dialog.choices then return end
    if current.selected == choice then return self.process:write "\r" end
    self.process:write(current.selected < choice and "\27[B" or "\27[A")
    local deadline, generation = task.now() + 1000, self.process.screen:generation()
    while self.process.screen:generation() == generation and task.now() < deadline do
      self.changed:wait(deadline - task.now())
    end
  end
  self:fail("dialog", "the dialog's pointer does not move to the choice", { dialog = dialog })
end

--- Puts a dialog to the policy and does what it says.
---@param dialog? parley.Dialog
function Session:decide(dialog)
  dialog = dialog or { kind = "unknown", text = self.process.screen:text(), choices = {}, remedy = "look at it" }
  local decision = self.policies.dialogs.decide(dialog, self.options.accept)
  self.answered = dialog.text
  if decision.choose then
    choose(self, dialog, decision.choose)
  elseif decision.keys then
    self.process:write(decision.keys)
  else
    local title = dialog.text:match "^[^\n]*" or ""
    error(errors.dialog_error(("the program asks (%s: %q) and nothing may answer: %s"):format(dialog.kind, title,
      decision.fail or dialog.remedy), { dialog = dialog, session_id = self.session_id,
      screen = self.process.screen:text() }), 0)
  end
end

--- Waits until the composer takes a message, answering dialogs on the way.
---@param milliseconds? number  default: the start-up time-out
function Session:wait_until_ready(milliseconds)
  milliseconds = milliseconds or self.options.startup_timeout_ms
  local deadline = task.now() + milliseconds
  while true do
    self:check()
    local state = self:state()
    if state == "ready" then
      self.answered = nil
      return
    end
    if state == "dialog" then self:answer_dialog() end
    local left = deadline - task.now()
    if left <= 0 then
      self:fail("timeout", ("the program was not ready for a message within %g ms (%s)"):format(milliseconds, state))
    end
    if state ~= "dialog" then self.changed:wait(left) end
  end
end

--- Starts the program and waits until it takes a message.
--- Raises `CLINotFoundError`, `SessionError`, `DialogError`; the process is ended then.
function Session:start()
  local guard <close> = setmetatable({}, { __close = function(_, err)
    if err then self:close() end
  end })
  local function notify() self.changed:notify() end
  self.started_at = task.now()
  self.process:start()
  local pid = self.process:pid()
  if pid then self.status = status.watch(paths.status_file(pid, self.process.environment), notify) end
  self.watcher = watcher.open { path = self.jsonl_path, offset = self.start_offset, on_change = notify }
  self:wait_until_ready()
end

--- What a message becomes on its way, or a `ValueError`.
---@param text string
---@return string prepared
function Session:prepare(text)
  local prepared, why = self.policies.delivery.prepare(text, self.delivery)
  if not prepared then error(errors.value_error("the message cannot be sent: " .. why), 0) end
  return prepared
end

--- Records that the program writes under the user's name.
local function is_typed(record, happening)
  local text = happening:text()
  return record.promptSource ~= "system" and not happening.is_meta and #happening:blocks "tool_result" == 0
    and not text:find "^<task%-notification>" and not text:find "^<command%-" and not text:find "^<local%-command"
    and not text:find "^%[Request interrupted"
end

local function receipt(self, record, happening)
  if not is_typed(record, happening) then return false end
  local text = happening:text()
  if not self.policies.delivery.matches(text, self.text) then
    self:fail("delivery", ("the message arrived changed: %q instead of %q"):format(text:sub(1, 80),
      self.text:sub(1, 80)), { sent = self.text, received = text })
  end
  self.turn:apply "accept"
  return true
end

local function user_record(self, happening)
  local results = #happening:blocks "tool_result"
  if happening:text():find "^%[Request interrupted by user" then
    self.turn:apply "interrupted"
  elseif results > 0 then
    self.turn:apply("tool_result", { tools = results })
  else
    self.turn:apply "meta"
  end
end

local function assistant_record(self, happening)
  self.turn:apply("assistant", {
    stop_reason = happening.stop_reason, tools = #happening:blocks "tool_use", api_error = happening.is_error,
  })
  self.api_error = happening.is_error and happening or nil
  if happening.message_id and happening.usage then self.usage[happening.message_id] = happening.usage end
end

--- The records that the program writes last may overtake those before them in the file: they count when the record
--- that they follow has been seen in this turn.
local function take_endings(self)
  for kind, parent in pairs(self.endings) do
    if self.chain[parent] then
      self.endings[kind] = nil
      self.turn:apply(kind)
    end
  end
end

local ENDINGS = { turn_duration = "duration", stop_hook_summary = "stop" }

--- Follows the records of this turn from the message on: each names the one before it.
local function follow(self, record, starts)
  local parent = record.parentUuid
  if type(record.uuid) ~= "string" then return end
  if starts or self.chain[parent] or record.subtype == "compact_boundary" then self.chain[record.uuid] = true end
end

local function is_accepted(self)
  local state = self.turn:state()
  return state == "running" or state == "waiting"
end

local function on_record(self, record)
  self.version = type(record.version) == "string" and record.version or self.version
  local happening = event.from_record(record)
  local ending = happening and happening.type == "system" and ENDINGS[happening.subtype]
  if ending then
    self.endings[ending] = record.parentUuid
    self.offers_duration = self.offers_duration or ending == "duration"
    follow(self, record, false)
  elseif is_accepted(self) then
    follow(self, record, false)
    if happening and happening.type == "user" then user_record(self, happening) end
    if happening and happening.type == "assistant" then assistant_record(self, happening) end
    if happening then table.insert(self.events, happening) end
  elseif happening and happening.type == "user" and self.turn:state() == "submitted"
      and receipt(self, record, happening) then
    follow(self, record, true)
    table.insert(self.events, happening)
  end
  if is_accepted(self) then take_endings(self) end
end

local function system_event(self, subtype, fields)
  fields.type, fields.subtype, fields.session_id = "system", subtype, self.session_id
  table.insert(self.events, event.new(fields))
end

--- Takes in what the transcript has; true when there was something.
local function read_transcript(self)
  local any = false
  while true do
    local kind, value = self.watcher:next()
    if kind == "record" then
      on_record(self, value)
    elseif kind == "malformed" then
      system_event(self, "malformed_line", { line = value.line, message = tostring(value.error) })
    elseif kind == "truncated" or kind == "replaced" then
      system_event(self, "transcript_" .. kind, { message = "the transcript was " .. kind })
    elseif value then
      self:fail("transcript", "the transcript cannot be read: " .. tostring(value), { cause = value })
    else
      return any
    end
    any = true
  end
end

--- Tells the turn what the program is seen to be doing. "Quiet" counts when something has happened since Enter.
local function observe(self)
  local state = self:state()
  local facts = self.turn:facts()
  local name = state == "busy" and "busy" or state == "ready" and "quiet" or state == "dialog" and "dialog"
  local stamp = self.status and self.status.value and self.status.value.statusUpdatedAt
  if name == "quiet" and not (facts.busy_seen or facts.records > 0 or facts.interrupting or stamp ~= self.stamp) then
    return state, false
  end
  if not name or name == "dialog" and facts.state == "submitted" then return state, false end
  if name == "quiet" and facts.quiet or name == "busy" and facts.busy_seen and not facts.quiet
      and facts.state ~= "waiting" then
    return state, false
  end
  self.turn:apply(name)
  return state, true
end

local function watch_retries(self)
  local retry = tui.retry(self:view().rows)
  local key = retry and ("%d/%d"):format(retry.attempt, retry.max_attempts)
  if retry and key ~= self.retry then
    system_event(self, "api_retry", { attempt = retry.attempt, max_attempts = retry.max_attempts,
      wait_ms = retry.wait_ms, message = retry.message })
  end
  self.retry = key
end

local function sum_usage(parts)
  local total = {}
  for _, usage in pairs(parts) do
    for name, value in pairs(usage) do
      if math.type(value) == "integer" then total[name] = (total[name] or 0) + value end
    end
  end
  return total
end

local function conclude(self, verdict)
  self.turn:apply "end"
  self.turns = self.turns + 1
  local is_error = verdict.subtype ~= "success" and verdict.subtype ~= "interrupted"
  table.insert(self.events, event.new {
    type = "result", subtype = verdict.subtype, stop_reason = verdict.stop_reason, is_error = is_error,
    error = self.api_error and self.api_error.error, api_error_status = self.api_error and
      self.api_error.api_error_status, message = self.api_error and self.api_error:text() or nil,
    duration_ms = task.now() - self.began_at, num_turns = self.turns, session_id = self.session_id,
    usage = sum_usage(self.usage),
  })
end

--- Raises when a deadline of the turn has passed; else returns when the next one does.
local function next_deadline(self, now)
  local limits = {
    { self.began_at, self.options.turn_timeout_ms, "the turn took longer than %g ms" },
    { self.last_sign, self.options.stall_timeout_ms, "the program has shown no sign of life for %g ms" },
    self.turn:state() == "submitted" and { self.entered_at, self.options.file_wait_timeout_ms,
      "the transcript does not show the message %g ms after it was sent" } or nil,
  }
  local nearest = math.huge
  for _, limit in pairs(limits) do
    local since, milliseconds, message = table.unpack(limit, 1, 3)
    if milliseconds then
      if now >= since + milliseconds then self:fail("timeout", message:format(milliseconds)) end
      nearest = math.min(nearest, since + milliseconds)
    end
  end
  return nearest
end

local function press_enter_again(self, now)
  if self.turn:state() ~= "submitted" or self.turn:facts().interrupting then return math.huge end
  if now < self.last_enter + ENTER_AGAIN_MS then return self.last_enter + ENTER_AGAIN_MS end
  if typist.still_holds(self, self.text) then typist.enter(self) end
  self.last_enter = now
  return now + ENTER_AGAIN_MS
end

--- Looks at everything once: queues events, gives the verdict. Returns how long nothing more is to be expected by
--- the clock alone.
local function look(self)
  local any = read_transcript(self)
  if self.turn:state() == "ended" then return end
  self:check()
  local state, moved = observe(self)
  watch_retries(self)
  local now = task.now()
  if any or moved or not self.last_change then self.last_change = now end
  local generation = self.process.screen:generation()
  if any or moved or generation ~= self.sign_generation then self.last_sign, self.sign_generation = now, generation end

  local facts = self.turn:facts()
  local offers_status = self.status and self.status.value and self.status.value.status ~= nil
  facts.offers_duration = self.offers_duration or offers_status or false
  local verdict, look_again = self.policies.settling.judge(facts, now - self.last_change)
  if verdict then return conclude(self, verdict) end
  if state == "dialog" and #self.events == 0 then
    self:answer_dialog()
    return 0
  end
  return math.min(look_again or math.huge, next_deadline(self, now) - now, press_enter_again(self, now) - now)
end

local function deliver(self)
  self:wait_until_ready()
  read_transcript(self) -- what came after the last verdict is no part of this turn
  self.events, self.chain, self.endings, self.usage, self.api_error = {}, {}, {}, {}, nil
  typist.type(self, self.text)
  self.stamp = self.status and self.status.value and self.status.value.statusUpdatedAt
  self.turn:apply "submit"
  self.entered_at, self.last_enter, self.last_sign, self.last_change = task.now(), task.now(), task.now(), nil
  typist.enter(self)
end

local function next_event(self)
  if self.turn:state() == "typing" then deliver(self) end
  while true do
    local first = table.remove(self.events, 1)
    if first and first.type == "result" then self.running = nil end
    if first then return first end
    if self.turn:state() == "ended" then return nil end
    local wait = look(self)
    if #self.events == 0 then self.changed:wait(wait) end
  end
end

--- Sends a message and reports what follows, to the `result`.
---@param text string
---@return fun(): parley.Event? next_event  for the generic `for`; leaving the loop early closes the session
---@return nil
---@return nil
---@return table closer
--- Raises `ValueError` before a key is pressed; then `SessionError`, `DialogError`, `Cancelled`, which close the session.
function Session:send(text)
  if self.closed then error(errors.closed_error "the session is closed", 0) end
  if self.running then error(errors.session_error("a turn is running in this session", { reason = "busy" }), 0) end
  self.text = self:prepare(text)
  self.turn:apply "begin"
  self.running, self.began_at = true, task.now()
  local closer = setmetatable({}, { __close = function()
    if self.running then self:close() end
  end })
  local function step()
    local results = table.pack(pcall(next_event, self))
    if results[1] then return results[2] end
    self:close()
    error(results[2], 0)
  end
  return step, nil, nil, closer
end

--- Interrupts the turn that runs: its events end with a `result` of subtype `interrupted`. The session takes the next
--- message.
---@return boolean interrupted  false when no turn runs
function Session:interrupt()
  local state = self.turn:state()
  if state ~= "submitted" and state ~= "running" and state ~= "waiting" then return false end
  self.turn:apply "interrupt"
  self.process:write "\27"
  return true
end

local function release(self)
  self.closed = true
  if self.watcher then self.watcher:close() end
  if self.status then self.status:close() end
end

--- Ends the program and lets go of everything. A second call does nothing.
---@param grace_ms? number
function Session:close(grace_ms)
  release(self)
  self.process:terminate(grace_ms)
  self.changed:notify()
end

--- Ends the program without waiting for it. For callers that cannot wait.
function Session:retire()
  release(self)
  self.process:retire()
end

Session.__close = function(self) self:close() end

return M
