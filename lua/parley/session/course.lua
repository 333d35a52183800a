--- The course of one turn, from its first key to its verdict: what was seen when, and what is waited for until when. It
--- is made with the message and dropped with the result.
local clear = require "parley.claude.clear"
local clock = require "parley.base.clock"
local deadlines = require "parley.session.deadlines"
local files = require "parley.base.files"
local receipt = require "parley.session.receipt"
local retries = require "parley.claude.retries"
local tui = require "parley.claude.tui"
local versions = require "parley.claude.version"

local M = {}

--- A line of the transcript that is not whole is waited for, in a turn that seems to be over.
local LINE_MS = 10000
--- Enter that was swallowed leaves the message in the composer, and is pressed again. Not soon: where the program is
--- only slow, the second one would come late and answer whatever dialog is up by then.
local ENTER_AGAIN_MS = 1500
--- So long where the status has changed since: a dialog took the Enter, or the message is taken and the screen is late.
local ENTER_AGAIN_MOVED_MS = 5000
--- So often at most: where the program gives the message back each time, that must not go on for ever.
local MOST_ENTERS = 10
--- A program that goes on though ESC was pressed so often again, a second apart, does something else for it.
local UNHEARD_ESCAPES = 2
--- A transcript of which nothing is there so long after Enter may have been moved before it was read; so often it is
--- looked for.
local MISSING_MS = 1000
--- A program that has gone on to another session may have taken the message before: its record may be so late.
local LEFT_MS = 2000
--- A permission prompt may be on the screen before the call that it is about is in the transcript; so long it may take.
local CALL_MS = 5000
--- And so long where others are there already: not every dialog is about a call that is in the transcript.
local OTHER_CALL_MS = 1500

---@class parley.Course
---@field turn parley.LiveTurn
---@field began_at number
---@field deadline number               `turn_timeout_ms` from there; `math.huge`
---@field package limit? number         `turn_timeout_ms`
---@field entered_at? number            when Enter was pressed first
---@field package entered_time? parley.Moment  the same
---@field package terminal parley.Terminal
---@field package typist parley.Typist
---@field package dialogs parley.Dialogs
---@field package transcript parley.Transcript
---@field package callbacks parley.Callbacks
---@field package successor parley.Successor
---@field package settling table        the policy
---@field package deadlines parley.Deadlines
---@field package withdrawn? string     the message before, whose record may still come
---@field package clears? "clear"|"branch"  the command begins another session
---@field package entered? parley.Entered  what was seen at the last Enter; nil where none is pressed
---@field package entered_again integer  how often it was pressed again
---@field package escaped_again integer  how often ESC was
---@field package stamp? any            of the status, before Enter
---@field package sought_at? number    when the transcript was looked for elsewhere
---@field package last_enter? number
---@field package left_since? number    since when the program is in another session
---@field package free_since? number    since when nothing is in the way of the message
---@field package dialog_since? number  since when the dialog that is up waits to be answered
local Course = {}
Course.__index = Course
Course.__name = "parley.Course"

--- Makes the course of a turn; its time does not run yet.
---@param session parley.Session  whose parts it works with
---@param turn parley.LiveTurn
---@return parley.Course
function M.new(session, turn)
  local now = clock.now()
  return setmetatable({
    turn = turn, began_at = now, deadline = math.huge, limit = session.options.turn_timeout_ms, entered_again = 0,
    escaped_again = 0,
    terminal = session.terminal, typist = session.typist, dialogs = session.dialogs, transcript = session.transcript,
    callbacks = session.callbacks, settling = session.policies.settling, withdrawn = session.withdrawn,
    successor = session.successor,
    deadlines = deadlines.new { terminal = session.terminal, transcript = session.transcript,
      options = session.options, now = now },
    clears = turn.is_command and clear.kind(turn.text) or nil,
  }, Course)
end

--- Has its time run from now.
function Course:begin()
  self.began_at = clock.now()
  self.deadline = self.began_at + (self.limit or math.huge)
end

--- Raises when its time is over.
function Course:check_time()
  if clock.now() < self.deadline then return end
  local retry = self.turn:retry()
  self.terminal:fail("timeout", ("the turn took longer than %g ms (turn_timeout_ms)%s"):format(self.limit,
    retry and (", as the program tried again: %s, attempt %d of %d"):format(retry.message, retry.attempt,
      retry.max_attempts) or ""), { retry = retry })
end

local function count_from_now(self)
  local now = clock.now()
  self.entered_at, self.last_enter, self.free_since = now, now, now
  self.entered_time = clock.moment()
  self.deadlines:restart(now)
end

--- Tells that the program has the message from its start on.
function Course:sent_ahead()
  if self.terminal:state() == "ready" then self.stamp = self.terminal:stamp() end -- it is about to take it, or is done
  count_from_now(self)
end

--- Has another session of the folder be cleared. May be called again.
function Course:let_go() self.successor:let_go() end

--- Types the message and presses Enter, unless the turn is interrupted first.
function Course:deliver()
  if self.clears then self.successor:prepare() end
  local terminal, turn = self.terminal, self.turn
  local is_ready = terminal:wait_until_ready()
  if is_ready then self.successor:check() end
  self.transcript:check "nothing was sent"
  self.transcript:read(turn) -- what came after the last verdict is no part of this turn
  local typed, is_exact
  if is_ready then typed, is_exact = self.typist:type(turn.text, turn.is_command) end
  if not typed then return end
  self.successor:check() -- what a person has entered before may have waited for a turn of the program's own
  self.stamp = terminal:stamp()
  turn:submit(self.withdrawn, is_exact)
  count_from_now(self)
  self.entered = self.typist:enter()
end

--- Takes in what the transcript has.
---@return boolean any
---@return boolean more  there may be more of it
function Course:read() return self.transcript:read(self.turn) end

--- Whether the transcript is to be looked for elsewhere now: there should be something of it, and there is none in its
--- place. Not at each look: it goes through all folders of `projects`.
---@return boolean
function Course:misses_transcript()
  if not self.entered_at or self.transcript:offset() > 0 then return false end
  local now = clock.now()
  if now < (self.sought_at or self.entered_at) + MISSING_MS then return false end
  self.sought_at = now
  return true
end

--- The session that a command has gone on to, `/clear` for one.
---@return string? session_id
function Course:next_session()
  return self.turn.is_command and self.successor:next(self.clears) or nil
end

--- Tells that it goes on there.
---@return parley.Moment? since  when the command was entered
function Course:follow()
  self:let_go()
  return self.entered_time
end

--- A command leaves no receipt that all versions share; an empty composer says that it was taken. A dialog does not: it
--- may have come by itself, and leaves the command where it was. One of the command's own may leave another text.
local function accept_command(self, state)
  local turn, typist = self.turn, self.typist
  if not turn.is_command or turn:state() ~= "submitted" then return end
  local is_taken = state == "busy" or state == "ready" and (typist:is_empty()
    or self.free_since > self.entered_at and not typist:still_holds(turn.text, self.entered))
  if is_taken then turn:apply "accept" end
end

--- 2.1.110 has no transcript before the first message, and shows on the screen alone that a hook has refused that. A
--- message that is taken makes one before it is answered: where there is any, the same words are an answer's, or the
--- record of the refusal comes.
local function check_refusal(self, state)
  if state ~= "ready" or self.turn.is_command or self.turn:state() ~= "submitted" then return end
  local why = tui.refusal(self.terminal:view().rows)
  if why and not files.size(self.transcript.path) and self.typist:is_empty() then receipt.refuse(self.turn, why) end
end

--- Takes in what the program is seen to be doing. `any`: there was a record.
local function observe(self, state, any)
  local turn, terminal = self.turn, self.terminal
  accept_command(self, state)
  check_refusal(self, state)
  local moved = turn:observe(state, terminal:stamp() ~= self.stamp)
  local retry = state ~= "ready" and retries.on_screen(terminal:view().rows)
  if retry then turn:announce_retry(retry, terminal:session_id()) end
  if state ~= "dialog" then
    self.dialogs:forget()
    self.dialog_since = nil
  end
  local now = clock.now()
  if state == "busy" then self.free_since = now end -- it may be at a hook of the user's, before it takes the message
  self.deadlines:look_for_life(now, any or moved, #turn.open_tools > 0, turn:awaits_agents())
  return now
end

--- Whether the program has given the message back, unanswered: somebody has pressed ESC, or Ctrl+C, at the terminal. A
--- screen that is late shows it as well: where that alone tells, the program must have been seen at work, and behind a
--- last record it tells nothing.
local function is_given_back(self, facts, current)
  local may_be = facts.state == "running" and facts.quiet and facts.assistant_blocks == 0 and not facts.is_command
  local is_known = facts.busy_seen or current ~= nil and current.status ~= nil
  return may_be and is_known and facts.certainty ~= "certain" and self.typist:shows(self.turn.text)
end

local function facts_of(self)
  local facts, current = self.turn:facts(), self.terminal:status()
  facts.asking = self.callbacks:is_asking()
  facts.given_back = is_given_back(self, facts, current)
  facts.offers_duration = self.transcript.offers_duration or current ~= nil and versions.has_duration(current.version)
  return facts
end

--- The settling policy's verdict; nil, and when it is to be asked again.
local function settle(self, facts, now)
  if facts.asking and not facts.interrupting then return nil, math.huge end
  local verdict, missing = self.settling.judge(facts, now - self.deadlines:still_since(facts))
  if not verdict then return nil, now + math.max(1, missing or math.huge) end -- of no number, or none above 0, too
  if verdict.subtype == "error_no_output" or facts.certainty ~= "certain" then -- what is missing may be lost
    self.transcript:check "what the program did is not known"
  end
  local line_due = self.deadlines:still_since(facts) + LINE_MS
  local waits = facts.certainty ~= "certain" and now < line_due and self.transcript:is_in_a_line()
  if waits and self.terminal.process:is_alive() then return nil, line_due end
  return verdict
end

--- Brings a dialog to its policy once the call that it is about is known. Returns when it is brought in any case; nil
--- when it was, and all is to be looked at again.
local function dialog_due(self, facts, state, now)
  if state ~= "dialog" or facts.interrupting then return math.huge end
  local calls = self.turn.open_tools
  self.dialog_since = self.dialog_since or now
  local due = self.dialog_since + (#calls == 0 and CALL_MS or OTHER_CALL_MS)
  local is_waited_for = not facts.is_command and now < due and not self.dialogs:has_call(calls)
  if not is_waited_for then self.deadlines:spare(self.terminal:attend()) end
  self.free_since = clock.now()
  if is_waited_for then return due end
  self.dialog_since = nil
end

--- Presses ESC again, and says once that it has no effect.
local function escape_again(self)
  self.terminal:escape()
  self.escaped_again = self.escaped_again + 1
  if self.escaped_again ~= UNHEARD_ESCAPES then return end
  self.turn:notice("interrupt_unheard", { session_id = self.terminal:session_id(), message = "the program goes on, "
    .. "though ESC was pressed to interrupt it: perhaps the user's key bindings (keybindings.json) have \"escape\" do "
    .. "something else than \"chat:cancel\"" })
end

--- Presses a key again that had no effect. Returns when that is to be looked for next.
local function key_due(self, facts, state, now)
  local terminal = self.terminal
  if facts.interrupting then
    if state ~= "busy" and state ~= "dialog" then return math.huge end
    if now >= terminal:next_escape() then escape_again(self) end
    return terminal:next_escape()
  end
  local waits = facts.state == "submitted" and not facts.queued and self.entered and self.entered_again < MOST_ENTERS
  if not waits then return math.huge end
  local patience = terminal:stamp() == self.stamp and ENTER_AGAIN_MS or ENTER_AGAIN_MOVED_MS
  if now >= math.max(self.last_enter, self.free_since) + patience then
    self.last_enter = now
    if self.typist:still_holds(self.turn.text, self.entered) and self.typist:close_popup() then
      self.entered, self.entered_again = self.typist:enter(), self.entered_again + 1
    end
  end
  return math.max(self.last_enter, self.free_since) + patience
end

--- When a message is given up that the program may have taken in another session. Raises when that is now.
local function left_due(self, facts, now)
  local is_sent = facts.state == "submitted" and not facts.is_command and not facts.interrupting
  local id = is_sent and self.successor:elsewhere()
  self.left_since = id and (self.left_since or now) or nil
  local due = (self.left_since or math.huge) + LEFT_MS
  if now < due then return due end
  self.terminal:fail("delivery", ("the program has gone on to another session, %s, as the message was sent: somebody "
    .. "has entered /clear, /branch or /resume, and it may have taken the message there"):format(id),
    { other_session_id = id })
end

--- Looks at everything once: queues events, gives the verdict.
---@param any boolean   there was a record
---@param more boolean  there may be more of them
---@return parley.Verdict? verdict
---@return number? due  until when nothing is to be expected from the clock alone
function Course:look(any, more)
  local turn, terminal = self.turn, self.terminal
  if not turn:is_certain() then terminal:check() end
  local state = terminal:turn_state()
  local now = observe(self, state, any)
  local facts = facts_of(self)
  local verdict, settles_at = settle(self, facts, now)
  if verdict then return verdict end
  terminal:check()
  local stalls_at = self.deadlines:stall_due(facts, now) -- first: a dialog that does not go away is brought each time
  local dialog_at = #turn.events == 0 and not more and dialog_due(self, facts, state, now)
  if not dialog_at then return nil, now end
  return nil, math.min(settles_at, dialog_at, stalls_at, left_due(self, facts, now),
    self.deadlines:receipt_due(facts, now, self.free_since), key_due(self, facts, state, now))
end

return M
