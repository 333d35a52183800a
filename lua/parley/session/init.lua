--- One live conversation: a process, its transcript and the turn that runs.
---
--- What happens is observed, never guessed: every output of the terminal, every line of the transcript and every change
--- of the status file notifies `changed`; a waiting task then looks at all of them. Decisions are the policies'.
local clear = require "parley.session.clear"
local commands = require "parley.claude.commands"
local deadlines = require "parley.session.deadlines"
local dialog = require "parley.session.dialog"
local errors = require "parley.base.errors"
local options = require "parley.base.options"
local paths = require "parley.claude.paths"
local policies = require "parley.policy"
local task = require "parley.base.task"
local terminal = require "parley.session.terminal"
local transcript = require "parley.session.transcript"
local tui = require "parley.claude.tui"
local turn = require "parley.session.turn"
local typist = require "parley.session.typist"

local M = {}

--- Enter that was swallowed leaves the message in the composer, and is pressed again. Not soon: where the program is
--- only slow, the second one would come late and answer whatever dialog is up by then.
local ENTER_AGAIN_MS = 1500
--- So long where the status has changed since: a dialog took the Enter, or the message is taken and the screen is late.
local ENTER_AGAIN_MOVED_MS = 5000
--- An ESC that changed nothing for so long (it reached another turn, or a dialog) is pressed again.
local ESCAPE_AGAIN_MS = 1000
--- A permission prompt may be on the screen before the call that it is about is in the transcript; so long it may take.
local CALL_MS = 5000
--- And so long where others are there already: not every dialog is about a call that is in the transcript.
local OTHER_CALL_MS = 1500

--- The options of a session beside those of its process.
---@type table<string, parley.OptionRule>
M.rules = {
  accept = { type = "list of strings", default = {} },
  startup_timeout_ms = { type = "milliseconds", default = 60000 },
  turn_timeout_ms = { type = "milliseconds" },
  -- 2.1.330 gives up an API request that brings nothing after 336 s, and tries again: that is waited for.
  stall_timeout_ms = { type = "milliseconds", default = 600000 },
  file_wait_timeout_ms = { type = "milliseconds", default = 30000 },
  long_text = { type = "string", check = function() return "left out: a text of any length is sent as it is" end },
  mentions = { type = "string", default = "allow", check = options.one_of { "allow", "refuse" } },
  policies = { type = "table", default = {} },
}

---@class parley.Session
---@field process parley.Process
---@field session_id string
---@field jsonl_path string
---@field changed parley.Condition
---@field turns integer        how many have ended
---@field turn? parley.LiveTurn  the one that runs, or ran last
---@field policies table
---@field terminal parley.Terminal
---@field typist parley.Typist
---@field dialogs parley.Dialogs
---@field delivery parley.DeliveryOptions
local Session = {}
Session.__index = Session
Session.__name = "parley.Session"

--- When the turn that runs has taken its time.
local function turn_deadline(self)
  local limit = self.running and self.options.turn_timeout_ms
  return limit and self.began_at + limit or math.huge
end

--- Raises when the session was closed, or when the turn's time is over.
local function check(self)
  if self.closed then error(errors.closed_error "the session is closed", 0) end
  if task.now() < turn_deadline(self) then return end
  local retry = self.turn:retry()
  self.terminal:fail("timeout", ("the turn took longer than %g ms (turn_timeout_ms)%s"):format(
    self.options.turn_timeout_ms, retry and (", as the program tried again: %s, attempt %d of %d"):format(
      retry.message, retry.attempt, retry.max_attempts) or ""), { retry = retry })
end

local function answer_dialog(self)
  local answered = self.dialogs:answer(self.running and self.turn.open_tools or {})
  if not answered or not self.running then return end
  self.turn:notice("dialog_answered", { session_id = self.session_id, kind = answered.kind, text = answered.text,
    choice = answered.choice, keys = answered.keys, message = answered.text })
end

--- What its terminal asks of a session.
---@return parley.Guard
local function guard_of(self)
  return {
    check = function() check(self) end,
    deadline = function() return turn_deadline(self) end,
    is_interrupted = function() return self.running == true and self.turn:facts().interrupting end,
    is_command = function() return self.running and self.turn.is_command or nil end,
    attend = function() answer_dialog(self) end,
    ready = function() self.dialogs:forget() end,
    notice = function(subtype, message)
      self.turn:notice(subtype, { session_id = self.session_id, message = message })
    end,
    session_id = function() return self.session_id end,
  }
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
  policies.check_accept(set.accept, set.policies, "parley.session")
  local self = setmetatable({
    process = process,
    session_id = process.session_id,
    jsonl_path = jsonl_path or paths.resolve_jsonl_path(process.session_id, process.cwd, process.environment),
    start_offset = start_offset or 0,
    changed = process.changed,
    options = set,
    delivery = { mentions = set.mentions },
    policies = policies.of_session(set.policies),
    turns = 0,
  }, Session)
  self.terminal = terminal.new(process, self.policies.readiness, set, guard_of(self))
  self.typist = typist.new(self.terminal, self.policies.delivery, self.delivery)
  self.dialogs = dialog.new(self.terminal, self.policies.dialogs, set.accept, process.cwd)
  return self
end

--- What a policy gets to see.
---@return parley.View
function Session:view() return self.terminal:view() end

--- What the program is doing, by the readiness policy.
---@return "starting"|"ready"|"busy"|"dialog"
function Session:state() return self.terminal:state() end

--- Waits until the composer takes a message, answering dialogs on the way.
---@return boolean ready  false when the turn was interrupted first
function Session:wait_until_ready() return self.terminal:wait_until_ready() end

--- Starts the program and waits until it takes a message.
--- Raises `CLINotFoundError`, `SessionError`, `DialogError`, with `at_start` true; the process is ended then.
function Session:start()
  local _ <close> = setmetatable({}, { __close = function(_, err)
    if errors.is(err, "SessionError") or errors.is(err, "DialogError") then err.at_start = true end
    if err ~= nil then self:close() end
  end })
  if self.closed then error(errors.closed_error "the session is closed", 0) end
  transcript.check(self, "it was not started")
  self.terminal:start()
  transcript.open(self, self.start_offset)
  self.terminal:wait_until_ready()
end

--- What a message becomes on its way, or a `ValueError`.
---@param text string
---@return string prepared
function Session:prepare(text)
  if type(text) ~= "string" then
    error(errors.value_error("a message must be a string, not " .. options.describe(text)), 0)
  end
  local view = self.terminal.has_started and self.terminal:view() or nil
  local prepared, why = self.policies.delivery.prepare(text, self.delivery, view)
  if not prepared then error(errors.value_error("the message cannot be sent: " .. why), 0) end
  return prepared
end

--- Presses a key again that had no effect. Returns when to look for that next.
local function press_again(self, facts, state, now)
  if facts.interrupting then
    if state ~= "busy" and state ~= "dialog" then return math.huge end
    if now >= (self.escaped_at or 0) + ESCAPE_AGAIN_MS then
      self.escaped_at = now
      self.terminal:press "\27"
    end
    return self.escaped_at + ESCAPE_AGAIN_MS
  end
  if facts.state ~= "submitted" or facts.queued then return math.huge end
  local patience = self.terminal:stamp() == self.stamp and ENTER_AGAIN_MS or ENTER_AGAIN_MOVED_MS
  if now >= math.max(self.last_enter, self.free_since) + patience then
    self.last_enter = now
    if self.typist:still_holds(self.turn.text, self.entered) then
      self.entered = self.typist:enter()
    end
  end
  return math.max(self.last_enter, self.free_since) + patience
end

--- A command leaves no receipt that all versions share; an empty composer says that it was taken. A dialog does not: it
--- may have come by itself, and leaves the command where it was. One of the command's own may leave another text.
local function accept_command(self, state)
  if not self.turn.is_command or self.turn:state() ~= "submitted" then return end
  local is_taken = state == "busy" or state == "ready" and (self.typist:is_empty()
    or self.free_since > self.entered_at and not self.typist:still_holds(self.turn.text, self.entered))
  if is_taken then self.turn:apply "accept" end
end

--- 2.1.110 has no transcript before the first message, and shows on the screen alone that a hook has refused that.
local function check_refusal(self, state)
  if state ~= "ready" or self.turn.is_command or self.turn:state() ~= "submitted" then return end
  local why = tui.refusal(self:view().rows)
  if why and why ~= self.refusal_before and self.typist:is_empty() then self.turn:refuse(why) end
end

--- Goes on with the session that `/clear` has started.
local function follow_session(self)
  local current = self.terminal:status()
  local id = current and current.status and current.sessionId
    or self.beside and clear.find(self.jsonl_path, self.beside)
  if not id or id == self.session_id then return end
  local path = self.jsonl_path:gsub("[^/]*$", id .. ".jsonl")
  self.turn:notice("session_changed", { session_id = id, message = "the program goes on in session " .. id })
  self.session_id, self.jsonl_path, self.beside = id, path, nil
  transcript.open(self, 0)
end

local function conclude(self, verdict)
  self.withdrawn = self.turn:state() == "submitted" and self.turn.text or nil -- its record may still come
  if self.turn:facts().interrupting then self.typist:expect_more() end -- and what an interrupt gives back
  self.turns = self.turns + 1
  self.turn:conclude(verdict, { duration_ms = task.now() - self.began_at, num_turns = self.turns,
    typing_ms = (self.entered_at or task.now()) - self.began_at, session_id = self.session_id })
end

--- Brings a dialog to its policy once the call that it is about is known. Returns how long that may still take.
local function look_at_dialog(self, facts, now)
  self.dialog_since = self.dialog_since or now
  local missing = self.dialog_since + (#self.turn.open_tools == 0 and CALL_MS or OTHER_CALL_MS) - now
  local is_waited_for = not facts.is_command and missing > 0 and not self.dialogs:has_call(self.turn.open_tools)
  if not is_waited_for then answer_dialog(self) end
  self.free_since = task.now()
  if is_waited_for then return missing end
  self.dialog_since = nil
  return 0
end

--- Looks at everything once: queues events, gives the verdict. Returns how long nothing is to be expected from the
--- clock alone.
local function look(self)
  if self.closed then check(self) end
  local any, more = transcript.read(self)
  if not self.process:is_alive() and not more then
    self.process:drain(200)
    transcript.read(self) -- its last words
  end
  local facts = self.turn:facts()
  if facts.certainty ~= "certain" then self.terminal:check() end
  local state = self:state()
  accept_command(self, state)
  check_refusal(self, state)
  if self.turn.is_command then follow_session(self) end
  local moved = self.turn:observe(state, self.terminal:stamp() ~= self.stamp)
  local retry = state ~= "ready" and tui.retry(self:view().rows)
  if retry then self.turn:announce_retry(retry, self.session_id) end
  if state ~= "dialog" then
    self.dialogs:forget()
    self.dialog_since = nil
  end
  local now = task.now()
  if state == "busy" then self.free_since = now end -- it may be at a hook of the user's, before it takes the message
  if any or moved or not self.last_change then self.last_change = now end
  deadlines.look_for_life(self, now, any or moved)

  local current = self.terminal:status()
  facts = self.turn:facts()
  facts.offers_duration = self.offers_duration or current ~= nil and current.status ~= nil
  -- One that was not seen at work may still be about to begin: then the screen must be still as well.
  local since = facts.busy_seen and self.last_change or self.last_sign
  local verdict, look_again = self.policies.settling.judge(facts, now - since)
  if verdict then
    if verdict.subtype == "error_no_output" or facts.certainty ~= "certain" then -- what is missing may be lost
      transcript.check(self, "what the program did is not known")
    end
    conclude(self, verdict)
    return 0
  end
  self.terminal:check()
  if #self.turn.events > 0 or more then return 0 end
  if state == "dialog" and not facts.interrupting then
    local missing = look_at_dialog(self, facts, now)
    if missing == 0 then return 0 end
    look_again = math.min(look_again or math.huge, missing)
  end
  return math.min(look_again or math.huge, deadlines.next_deadline(self, facts, now) - now,
    press_again(self, facts, state, now) - now)
end

local function deliver(self)
  local is_typed = self.terminal:wait_until_ready()
  transcript.check(self, "nothing was sent")
  transcript.read(self) -- what came after the last verdict is no part of this turn
  is_typed = is_typed and self.typist:type(self.turn.text, self.turn.is_command)
  if not is_typed then return end -- it was interrupted, and look gives the verdict
  self.stamp = self.terminal:stamp()
  self.refusal_before = tui.refusal(self:view().rows)
  self.turn:submit(self.withdrawn)
  local now = task.now() -- free_since: since when nothing is in the way
  self.entered_at, self.last_enter, self.free_since, self.last_sign, self.last_life = now, now, now, now, now
  self.last_change = nil
  self.entered = self.typist:enter()
end

local function next_event(self)
  if self.turn:state() == "typing" and not self.turn:facts().interrupting then deliver(self) end
  while true do
    local first = table.remove(self.turn.events, 1)
    if first then
      if first.type == "result" then self.running = false end
      return first
    end
    if self.turn:state() == "ended" then return nil end
    local wait = look(self)
    if wait > 0 and #self.turn.events == 0 then self.terminal:wait(task.now() + wait) end
  end
end

local function begin(self, text, is_command)
  if self.closed then error(errors.closed_error "the session is closed", 0) end
  if self.running then error(errors.session_error("a turn is running in this session", { reason = "busy" }), 0) end
  local function matches(recorded, sent) return self.policies.delivery.matches(recorded, sent, self.delivery) end
  self.turn = turn.new(text, matches, is_command)
  self.running, self.began_at, self.entered_at = true, task.now(), nil
  self.last_sign, self.last_life, self.last_change = self.began_at, self.began_at, nil
  local closer = setmetatable({}, { __close = function()
    if self.running then self:close() end
  end })
  local function step()
    local results = table.pack(pcall(next_event, self))
    if results[1] then return results[2] end
    local err = results[2]
    local is_ours = errors.is(err, "SessionError")
    if is_ours then err.screen = err.screen or self.process.screen:text() end
    self:close()
    if is_ours and err.reason == "exit" then err.exit = err.exit or self.process:exit_record() end
    error(err, 0)
  end
  return step, nil, nil, closer
end

--- Sends a message and reports what follows, to the `result`.
---@param text string
---@return fun(): parley.Event? next_event  for the generic `for`; leaving the loop early closes the session
---@return nil
---@return nil
---@return table closer
--- Raises `ValueError` before a key is pressed; then `SessionError`, `DialogError`, `Cancelled`, which close the
--- session.
function Session:send(text) return begin(self, self:prepare(text), false) end

--- Runs one of the program's own commands and reports what follows, to the `result`. A command that opens a dialog
--- brings it to the dialogs policy. After `/clear` the session goes on under a new id.
---@param text string  `"/compact"`, on one line
---@return fun(): parley.Event? next_event  as of `send`
---@return nil
---@return nil
---@return table closer
--- Raises `ValueError` for what is no command, or one that changes the user's settings; then as `send` does.
function Session:command(text)
  commands.check(text)
  self.beside = text:find "^/clear%f[%s\0]" and clear.remember(self.jsonl_path) or nil
  return begin(self, text:gsub("%s+$", ""), true)
end

--- Interrupts the turn that runs: its events end with a `result` of subtype `interrupted`, or of the one that it came
--- to before ESC did, and the session takes the next message. What the program gives back of the message, or what of it
--- was typed, is cleared before that.
---@return boolean interrupted  false when no turn runs
function Session:interrupt()
  local state = self.running and self.turn:state()
  if not state or state == "ended" or state == "failed" then return false end
  local facts, last = self.turn:facts(), self.escaped_at or -math.huge
  if facts.interrupting then return true end
  self.turn:apply "interrupt"
  self.changed:notify()
  -- Two presses that find nothing to interrupt open a menu: none where the turn has ended, none soon after another.
  local is_over = facts.quiet and self:state() == "ready"
  if state == "typing" or is_over or task.now() < last + ESCAPE_AGAIN_MS then return true end
  self.escaped_at = task.now()
  self.terminal:press "\27"
  return true
end

local function release(self)
  self.closed = true
  if self.watcher then self.watcher:close() end
  self.terminal:close()
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
  self.changed:notify()
end

Session.__close = function(self) self:close() end

return M
