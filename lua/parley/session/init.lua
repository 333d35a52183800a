--- One live conversation: a process, its transcript and the turn that runs.
---
--- What happens is observed, never guessed: every output of the terminal, every line of the transcript and every change
--- of the status file notifies `changed`; a waiting task then looks at all of them. Decisions are the policies'.
local asked = require "parley.session.asked"
local callbacks = require "parley.session.callbacks"
local clock = require "parley.base.clock"
local commands = require "parley.claude.commands"
local costs = require "parley.hub.costs"
local course = require "parley.session.course"
local defer = require "parley.base.defer"
local dialog = require "parley.session.dialog"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local limits = require "parley.session.limits"
local options = require "parley.base.options"
local paths = require "parley.claude.paths"
local policies = require "parley.policy"
local session_tools = require "parley.hub.session_tools"
local successor = require "parley.session.successor"
local terminal = require "parley.session.terminal"
local transcript = require "parley.session.transcript"
local tui = require "parley.claude.tui"
local turn = require "parley.session.turn"
local typist = require "parley.session.typist"
local usage = require "parley.base.usage"

local M = {}

--- The options of a session beside those of its process.
---@type table<string, parley.OptionRule>
M.rules = options.merge(limits.rules, {
  accept = { type = "list of strings", default = {} },
  startup_timeout_ms = { type = "milliseconds", default = 60000 },
  turn_timeout_ms = { type = "milliseconds" },
  -- 2.1.330 gives up an API request that brings nothing after 336 s, and tries again: that is waited for.
  stall_timeout_ms = { type = "milliseconds", default = 600000 },
  file_wait_timeout_ms = { type = "milliseconds", default = 30000 },
  mentions = { type = "string", default = "allow", check = options.one_of { "allow", "refuse" } },
  first_message = { type = "string", default = "typed", check = options.one_of { "typed", "argument" } },
  policies = { type = "table", default = {} },
  hooks = { type = "table", default = {} },
  tools = { type = "table", copy = false },
  partial = { type = "boolean" },
})

--- Checks options that belong together; `parley.backend` does so before anything is started.
---@type fun(set: table, of_process: table, where: string)
M.check = callbacks.check

---@class parley.Session
---@field process parley.Process
---@field session_id string        another after `/clear`
---@field jsonl_path string        its transcript
---@field changed parley.Condition  of the process
---@field policies table           those of a session
---@field turn? parley.LiveTurn    the one that runs, or ran last
---@field turns integer            how many have ended
---@field used table<string, integer>  tokens, by all of them
---@field closed? true
---@field options table            checked, see `M.rules`
---@field reports_partial? boolean  the turns have partial events, where the option has the program tell of text
---@field delivery parley.DeliveryOptions
---@field serving table<parley.Task, true>  that answer calls of the program's: its turn goes on when they have ended
---@field start_offset integer     what stands before it in the transcript is passed over
---@field terminal parley.Terminal
---@field typist parley.Typist
---@field dialogs parley.Dialogs
---@field transcript parley.Transcript
---@field successor parley.Successor
---@field callbacks parley.Callbacks
---@field asked parley.Asked
---@field course? parley.Course    of the turn that runs
---@field tools? parley.SessionTools  the script's own
---@field costs? parley.Costs      where somebody wants to know them
---@field limits parley.Limits
---@field request? table           what the caller of the turn that runs has said besides
---@field refusal? string         why the program may be about to end the turn, or itself: a dialog was refused
---@field ahead? string            the message that has gone with the start, until `send` is told of it
---@field background? integer     what ran behind its last turn, where the program has told
---@field withdrawn? string        the message before, when it was interrupted and its record may still come
local Session = {}
Session.__index = Session
Session.__name = "parley.Session"

--- Raises when the session was closed, or when the turn's time is over.
local function check(self)
  if self.closed then error(errors.closed_error "the session is closed", 0) end
  if self.course then self.course:check_time() end
end

local function answer_dialog(self)
  local answered = self.dialogs:answer(self.course and self.turn.open_tools or {})
  if answered then self.refusal = answered.refusal end
  if not (answered and self.course) then return end
  self.turn:notice("dialog_answered", { session_id = self.session_id, kind = answered.kind, text = answered.text,
    choice = answered.choice, keys = answered.keys, denied = answered.denied, message = answered.text,
    tool_use = answered.tool_use })
end

--- What its terminal asks of a session.
---@return parley.Guard
local function guard_of(self)
  return {
    check = function() check(self) end,
    deadline = function() return self.course and self.course.deadline or math.huge end,
    is_interrupted = function() return self.course ~= nil and self.turn:is_interrupting() end,
    is_command = function() return self.course and self.turn.is_command or nil end,
    is_before_message = function() return not self.course or self.turn:state() == "typing" end,
    attend = function()
      answer_dialog(self)
      return self.dialogs.policy_ms
    end,
    refusal = function() return self.refusal end,
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
---@param resumed? { path: string, offset?: integer }  a transcript that is there already: what stands before the
---       offset (0) is passed over; default: the one that the program will write
---@return parley.Session
--- Raises `ValueError` for bad options.
function M.new(process, given, resumed)
  local set = options.check(M.rules, given, "parley.session")
  policies.check_accept(set.accept, set.policies, "parley.session")
  callbacks.check(set, process.set or {}, "parley.session")
  session_tools.check(set, "parley.session")
  local self = setmetatable({
    process = process,
    session_id = process.session_id,
    jsonl_path = resumed and resumed.path
      or paths.resolve_jsonl_path(process.session_id, process.cwd, process.environment),
    start_offset = resumed and resumed.offset or 0,
    changed = process.changed,
    options = set, reports_partial = set.partial,
    delivery = { mentions = set.mentions },
    policies = policies.of_session(set.policies),
    turns = 0,
    used = {}, serving = {},
    asked = asked.new(),
    limits = limits.new(set),
  }, Session)
  if limits.need_costs(set) then
    self.costs = costs.new { on_report = function()
      self.limits:count_cost(self.costs.total)
      self.changed:notify()
    end }
  end
  self.terminal = terminal.new { process = process, readiness = self.policies.readiness, options = set,
    guard = guard_of(self) }
  self.typist = typist.new(self.terminal, self.policies.delivery, self.delivery)
  self.transcript = transcript.new(self.terminal, self.jsonl_path)
  self.successor = successor.new(self.terminal, self.transcript)
  self.dialogs = dialog.new { terminal = self.terminal, policy = self.policies.dialogs, accept = set.accept,
    cwd = process.cwd, asked = self.asked }
  self.callbacks = callbacks.new(self)
  self.tools = set.tools and session_tools.new(self, set.tools)
  return self
end

--- What a policy gets to see.
---@return parley.View
function Session:view() return self.terminal:view() end

--- What the program is doing, by the readiness policy.
---@return "starting"|"ready"|"busy"|"dialog"
---@return number? stamp  when the status that says so was written, in milliseconds since 1970
function Session:state()
  self.terminal:look()
  return self.terminal:state(), self.terminal:stamp()
end

--- Waits until the composer takes a message, answering dialogs on the way.
---@return boolean ready  false when the turn was interrupted first
function Session:wait_until_ready() return self.terminal:wait_until_ready() end

--- Makes the turn that runs from now on.
local function new_turn(self, text, is_command, request)
  self.limits:check()
  local function matches(recorded, sent) return self.policies.delivery.matches(recorded, sent, self.delivery) end
  self.turn = turn.new(text, matches, is_command)
  self.course, self.request, self.refusal = course.new(self, self.turn), request, nil
end

--- Has the program take a message by itself once it is ready, where that can be. Tools of the script's own may not be
--- there by then, and a fork writes what was said before into its transcript anew.
local function send_ahead(self, text, request)
  local is_fork = self.process.set and self.process.set.fork_session
  if self.options.first_message ~= "argument" or self.tools or is_fork then return end
  local prepared = self:as_typed(text)
  local word = self.policies.delivery.argument(prepared)
  if not word then return end
  self.limits:check()
  self.process:prepare { message = word }
  new_turn(self, prepared, false, request)
  self.turn:submit()
  self.ahead, self.start_offset = text, math.max(self.start_offset, files.size(self.jsonl_path) or 0)
end

--- Whether the program may have taken the message that has gone with the start: it was past what it asks before, or
--- asks something that it does not ask then.
local function may_have_taken(self)
  if not self.ahead then return false end
  if (files.size(self.jsonl_path) or 0) > self.start_offset then return true end
  local view = self.terminal:view()
  local asked_now = self.policies.dialogs.recognize(view)
  return tui.composer(view.rows) ~= nil or asked_now ~= nil and asked_now.kind == "unknown"
end

--- Starts the program and waits until it takes a message, or has taken this one.
---@param text? string    the message that is sent first: with the option `first_message = "argument"` it goes on the
---                       command line, where it fits. `send` is to be told of it all the same
---@param request? table  as of `send`
--- Raises `ValueError` for a message that cannot be sent; `CLINotFoundError`, `SessionError`, `DialogError`, with
--- `at_start` true, but for a message that has gone with the start and may have been taken. The process is ended then.
function Session:start(text, request)
  local _ <close> = defer(function(err)
    if errors.is(err, "SessionError") or errors.is(err, "DialogError") then err.at_start = not may_have_taken(self) end
    if err ~= nil then self:close() end
  end)
  if self.closed then error(errors.closed_error "the session is closed", 0) end
  self.transcript:check "it was not started"
  if self.tools then self.tools:open(self.process) end
  if self.costs then self.costs:open(self.process) end
  self.callbacks:open()
  if text then send_ahead(self, text, request) end
  if self.closed then error(errors.closed_error "the session is closed", 0) end -- while the hub asked for the version
  self.terminal:start()
  self.transcript:open(self.jsonl_path, self.start_offset)
  self.terminal:wait_until_ready(self.ahead ~= nil)
  self.jsonl_path = self.transcript:follow()
  self.successor:begin()
  if self.tools then self.tools:wait_until_known(self.terminal, self.options.startup_timeout_ms) end
end

--- What a message becomes on its way, or a `ValueError`.
---@param text string
---@return string prepared
function Session:as_typed(text)
  if type(text) ~= "string" then
    error(errors.value_error("a message must be a string, not " .. options.describe(text)), 0)
  end
  local view = self.terminal.has_started and self.terminal:view() or nil
  local prepared, why = self.policies.delivery.prepare(text, self.delivery, view)
  if not prepared then error(errors.value_error("the message cannot be sent: " .. why), 0) end
  return prepared
end

--- Goes on with the session that `/clear` or `/branch` has started, or `/resume` has opened.
local function follow(self, id, since)
  self.session_id, self.jsonl_path = id, self.jsonl_path:gsub("[^/]*$", id .. ".jsonl")
  self.transcript:open(self.jsonl_path, 0, since)
  self.successor:begin()
end

local function conclude(self, verdict)
  self.jsonl_path = self.transcript:follow()
  local now, began_at = clock.now(), self.course.began_at
  local state = self.turn:state()
  if state ~= "typing" then self.withdrawn = state == "submitted" and self.turn.text or nil end -- it may still come
  if self.turn:is_interrupting() then self.typist:expect_more() end -- and what an interrupt gives back
  self.turns = self.turns + 1
  usage.add(self.used, self.turn:used())
  if self.tools then self.tools:end_turn() end
  self.limits:end_turn()
  local cost = self.costs and self.costs:end_turn()
  self.turn:conclude(verdict, { duration_ms = now - began_at, num_turns = self.turns,
    cost_usd = cost, typing_ms = (self.course.entered_at or now) - began_at, session_id = self.session_id,
    message = verdict.subtype == "interrupted" and self.refusal or nil })
end

--- Ends the turn when it has reached a limit, unless it is at its end anyhow.
---@param limit parley.LimitReached
function Session:stop_at(limit)
  self.turn:stop_at(limit)
  self:interrupt()
end

--- Takes in which calls there are and what the turn has used up to now. `any`: there was a record.
local function take_stock(self, any)
  if any then
    for id in pairs(self.turn:reported_calls()) do self.limits:count_call(id) end
    self.limits:count_tokens(self.turn:used().output_tokens or 0)
    self.asked:settle(self.turn:reported_calls(), self.turn.open_tools)
  end
  local limit = self.turn:goes_on() and self.limits:reached()
  if limit then self:stop_at(limit) end
end

--- Until when it is waited to learn what the turn has cost.
local function await_costs(self)
  if not self.costs then return nil end
  local due = self.costs:look(self.turn.answered_at)
  local message = not due and self.costs:complaint()
  if not message then return due end
  if self.limits:is_on_cost() then
    error(errors.session_error(message .. "; so no limit on it can be kept", { reason = "costs" }), 0)
  end
  self.turn:notice("costs_unavailable", { session_id = self.session_id, message = message })
end

--- Looks at everything once. Returns until when nothing is to be expected from the clock alone.
local function look(self)
  if self.closed then check(self) end
  local any, more = self.course:read()
  local is_missing = self.course:misses_transcript()
  if is_missing or self.transcript.has_moved then self.jsonl_path = self.transcript:follow(is_missing) end
  self.callbacks:look()
  local id = self.course:next_session()
  if id and id ~= self.session_id then
    self.turn:notice("session_changed", { session_id = id, message = "the program goes on in session " .. id })
    follow(self, id, self.course:follow())
  end
  local verdict, due = self.course:look(any, more)
  take_stock(self, any)
  due = not verdict and due or await_costs(self)
  if due then return due end
  conclude(self, verdict)
  return clock.now()
end

local function next_event(self)
  local events = self.turn.events
  if self.turn:state() == "typing" and not self.turn:is_interrupting() then self.course:deliver() end
  while true do
    local first = table.remove(events, 1)
    if first then
      if first.type == "result" then
        self.course:let_go()
        self.course = nil
      end
      if self.tools then self.tools.name(first) end
      return first
    end
    if self.turn:state() == "ended" then return nil end
    local due = look(self)
    if due > clock.now() and #events == 0 then self.terminal:wait(due) end
  end
end

--- The events of the turn that runs.
local function events_of(self)
  local closer = defer(function()
    if self.course then self:close() end
  end)
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

local function begin(self, text, is_command, request)
  if self.closed then error(errors.closed_error "the session is closed", 0) end
  if self.course then error(errors.session_error("a turn is running in this session", { reason = "busy" }), 0) end
  self.limits:check()
  new_turn(self, text, is_command, request)
  self.course:begin()
  return events_of(self)
end

--- Sends a message and reports what follows, to the `result`. One that has gone with the start is not sent again.
---@param text string
---@param request? table  for the permission policy
---@return fun(): parley.Event? next_event  for the generic `for`; leaving the loop early closes the session
---@return nil
---@return nil
---@return table closer
--- Raises `ValueError` before a key is pressed; then `SessionError`, `DialogError`, `Cancelled`, which close the
--- session.
function Session:send(text, request)
  if self.ahead == nil or self.ahead ~= text or self.closed then
    return begin(self, self:as_typed(text), false, request)
  end
  self.ahead = nil
  self.course:begin()
  self.course:sent_ahead()
  return events_of(self)
end

--- Runs one of the program's own commands and reports what follows, to the `result`. A command that opens a dialog
--- brings it to the dialogs policy. After `/clear` the session goes on under a new id.
---@param text string  `"/compact"`, on one line
---@param request? table  for the permission policy
---@return fun(): parley.Event? next_event  as of `send`
---@return nil
---@return nil
---@return table closer
--- Raises `ValueError` for what is no command, or one that changes the user's settings; then as `send` does.
function Session:command(text, request)
  commands.check(text)
  return begin(self, text:match "^.*%S", true, request)
end

--- Counts its turns on from those of the session whose conversation it goes on with.
---@param former parley.Session
function Session:succeed(former)
  self.turns, self.request = former.turns, former.request
  self.used = former.used or self.used -- of one that slept the calls before are not known by kind
end

--- Goes by what the program says of itself, between turns: somebody may have typed `/clear` into it.
function Session:recognise()
  local id = self.successor:elsewhere()
  if id then follow(self, id) end -- nothing of it was read
end

--- Says whether the turns from now on report their text as it comes.
---@param is_wanted? boolean
function Session:report_partial(is_wanted) self.reports_partial = is_wanted end

--- Whether a line of the transcript could not be read, so that a process that went on from it might not know all that
--- was said.
---@return boolean
function Session:has_damage() return self.transcript:is_damaged() end

--- Up to where the transcript was taken in.
---@return integer?  nil before the start
function Session:read_to() return self.transcript:offset() end

--- Says how much runs behind the turn that has ended, where the program has told.
---@param count integer
function Session:keep_background(count) self.background = count end

--- Interrupts the turn that runs: its events end with a `result` of subtype `interrupted`, or of the one that it came
--- to before ESC did, and the session takes the next message. What the program gives back of the message, or what of it
--- was typed, is cleared before that.
---@param why? string  the `message` of that result
---@return boolean interrupted  false when no turn runs
function Session:interrupt(why)
  local state = self.course and not self.ahead and self.turn:state()
  if not state or state == "ended" then return false end
  local facts = self.turn:facts()
  if facts.interrupting then return true end
  self.refusal = why
  self.turn:apply "interrupt"
  self.changed:notify()
  -- Two presses that find nothing to interrupt open a menu: none where the turn has ended, none soon after another.
  local is_over = not self.process:is_alive() or facts.quiet and self:state() == "ready"
  if state == "typing" or is_over or clock.now() < self.terminal:next_escape() then return true end
  local ok, err = pcall(self.terminal.escape, self.terminal)
  if not ok and err.reason ~= "exit" then error(err, 0) end -- of a program that has gone the turn itself tells
  return true
end

--- Adds an event to the turn that runs; without one nothing is told.
---@param subtype string
---@param fields table
function Session:notice(subtype, fields)
  if not self.course then return end
  fields.session_id = self.session_id
  self.turn:notice(subtype, fields)
  self.changed:notify()
end

local function let_go(self)
  self.closed = true
  if self.course then self.course:let_go() end
  if self.costs then self.costs:close() end
  self.transcript:close()
  self.terminal:close()
end

--- Ends the program and lets go of everything. A second call does nothing.
---@param grace_ms? number
function Session:close(grace_ms)
  let_go(self)
  self.process:close(grace_ms)
  if self.tools then self.tools:close() end
  self.callbacks:close()
  self.changed:notify()
end

--- Ends the program without waiting for it. For callers that cannot wait.
function Session:kill()
  let_go(self)
  self.process:kill()
  if self.tools then self.tools:close() end
  self.callbacks:close()
  self.changed:notify()
end

Session.__close = function(self) self:close() end

return M
