--- What a session has the program call it about: the receipt of a message, the permission of a tool call, the hooks of
--- the caller's own. Where nothing of it is wanted, nothing listens and the program is started as ever.
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local event = require "parley.claude.event"
local hook_events = require "parley.claude.hook_events"
local hub = require "parley.hub"
local limits = require "parley.session.limits"
local partials = require "parley.session.partials"
local permission = require "parley.hub.permission"
local receipt = require "parley.session.receipt"
local task = require "parley.base.task"
local versions = require "parley.claude.version"

local M = {}

---@class parley.Callbacks
---@field hub parley.Hub
---@field package session parley.Session
---@field package needs string[]     what is an error where the program does not call, in words
---@field package wishes string[]    what is only missed then
---@field package asking integer     calls that the permission policy is at
---@field package heard? parley.LiveTurn  the last one whose message the program has told of
---@field package was_called? true  the program has told of a message, its own or another
---@field package checked? parley.LiveTurn  the last one for which that was looked at
---@field package failure? parley.Error  for the turn that runs
---@field package mode string        the caller's permission mode
---@field package partials? parley.Partials  of the turn that the program was heard of in
---@field package has_told? true
---@field package lack? string       what cannot be had, until that was said
local Callbacks = {}
Callbacks.__index = Callbacks
Callbacks.__name = "parley.Callbacks"

--- Words of a command line that let every call run.
local BYPASSES = { ["--permission-mode"] = true, ["--dangerously-skip-permissions"] = true }

--- Checks what the hub needs of a session's options.
---@param set table  `hooks`, `policies`
---@param of_process table  `permission_mode`, `dangerously_skip_permissions`, `extra_args`
---@param where string
--- Raises `ValueError`.
function M.check(set, of_process, where)
  hook_events.check(set.hooks or {}, where)
  if not (set.policies or {}).permission then return end
  local skips = of_process.dangerously_skip_permissions
  permission.mode_for(not skips and of_process.permission_mode or "bypassPermissions", where)
  for _, word in ipairs(of_process.extra_args or {}) do
    if BYPASSES[word:match "^[^=]*"] then
      error(errors.value_error(("%s: option 'extra_args' has %s, which a permission policy cannot be kept beside; give "
        .. "the option 'permission_mode'"):format(where, word), { option = "extra_args" }), 0)
    end
  end
end

local function is_of_program(prompt)
  local content = { { type = "text", text = prompt } }
  return event.kind(event.new { type = "user", content = content }) ~= "typed"
end

--- Whether the program's message is the one that was sent. One that is not is stopped before the model sees it.
local function on_prompt(self, payload)
  local session = self.session
  local turn = session.course and session.turn
  self.was_called = true
  if not turn or turn:state() ~= "submitted" then return nil end
  local prompt = tostring(payload.prompt)
  local is_ours = turn.is_command or turn:expects(prompt)
  if not is_ours and is_of_program(prompt) then -- a turn of the program's own
    self.partials = nil
    return nil
  end
  self.heard = turn
  self.partials = session.reports_partial and partials.new(session.session_id) or nil
  if self.desk then self.desk:forget() end
  session.asked:forget()
  session.changed:notify()
  if is_ours then return nil end
  self.failure = receipt.changed(turn, prompt, ", and was stopped")
  return { decision = "block", reason = "it is not the message that was sent" }
end

local function unavailable(self)
  local missed = #self.needs > 0 and self.needs or self.wishes
  return ("the program does not call (the settings forbid it: disableAllHooks, allowedHttpHookUrls, a managed "
    .. "allowManagedHooksOnly, or a sandbox without 127.0.0.1 in its network.allowedDomains; or it has no hooks over "
    .. "HTTP), so there is no %s"):format(table.concat(missed, ", no "))
end

local function no_hooks(message, fields)
  fields = fields or {}
  fields.reason = "hooks"
  return errors.session_error(message, fields)
end

local function tell_decision(self, call, decision)
  local session = self.session
  local turn = session.course and session.turn
  if not turn then return end
  local said = decision.allow and "allow" or decision.deny and "deny" or decision.ask and "ask" or "default"
  turn:decided(not call.agent and call.id or nil, { session_id = session.session_id, tool_use_id = call.id,
    name = call.name, input = call.input, changed_input = decision.input, decision = said, message = decision.deny,
    agent = call.agent, error = decision.error })
  self.failure = self.failure or decision.error
  session.changed:notify()
  if decision.interrupt then
    session:interrupt(("%s has interrupted it at a call of %s: %s"):format(
      session.policies.permission.described, call.name, decision.deny))
  end
end

local function call_of(self, payload)
  local agent = payload.agent_id and { id = payload.agent_id, type = payload.agent_type } or nil
  return { id = payload.tool_use_id, name = payload.tool_name, input = payload.tool_input or {},
    session_id = payload.session_id, cwd = payload.cwd, permission_mode = self.mode, agent = agent,
    request = self.session.request }
end

--- The program has gone away from a question. When nobody has had it do so, the call may run now: it is ended.
local function on_lost_question(self, call)
  local session = self.session
  if session.closed or not session.course or session.turn:is_interrupting() then return end
  self.failure = no_hooks(("the program has not waited for the decision about its call of %s"):format(call.name),
    { tool_use = { id = call.id, name = call.name, input = call.input } })
  session.process:signal "SIGKILL"
  session.changed:notify()
end

--- So long the program may take to be interrupted.
local INTERRUPT_MS = 5000

--- Counts a call. One that is over a limit does not run, and ends the turn: an answer at once would have the model go
--- on.
local function refuse_over_limit(self, call)
  local session = self.session
  if call.id then session.limits:count_call(call.id) end
  local limit = session.course and session.limits:reached()
  if not limit then return nil end
  session:stop_at(limit)
  task.sleep(INTERRUPT_MS)
  return permission.denial(limit.message)
end

local function on_call(self, payload)
  local call = call_of(self, payload)
  local refusal = refuse_over_limit(self, call)
  if refusal or not self.desk then return refusal end
  self.asking = self.asking + 1
  local _ <close> = defer(function()
    self.asking = self.asking - 1
    if task.current():cancellation() then on_lost_question(self, call) end
    self.session.changed:notify()
  end)
  return self.desk:ask(call)
end

--- Text that is shown. A sub-agent's is none of the turn's, and what comes before the message is none either.
local function on_display(self, payload)
  local session = self.session
  if payload.agent_id or not session.course or self.heard ~= session.turn or not self.partials then return end
  self.partials:take(payload)
  session.changed:notify()
end

--- Has the program tell of text as it shows it, where its version does.
local function want_partials(self)
  if not hook_events.has("MessageDisplay", self.hub.version) then
    self.lack = ("this version of the program (%s) does not tell of text while it streams, so there is no partial text")
      :format(self.hub.version or "unknown")
    return
  end
  table.insert(self.wishes, "partial text")
  self.hub:on("MessageDisplay", function(payload) on_display(self, payload) end)
end

--- A dialog is about to come up.
local function on_dialog(self, payload)
  local said = self.desk and self.desk:confirm(payload.tool_name, payload.tool_input)
  if not said then self.session.asked:announce(payload) end
  return said
end

--- Makes the callbacks of a session. Nobody can call yet.
---@param session parley.Session
---@return parley.Callbacks
--- Raises `ValueError`.
function M.new(session)
  local self = setmetatable({ session = session, needs = {}, wishes = {}, asking = 0,
    mode = session.process.permission_mode }, Callbacks)
  self.hub = hub.new { serving = session.serving, on_failure = function(name, err)
    if session.course then
      session.turn:notice("hook_failed", { session_id = session.session_id, event = name,
        message = errors.text(err), error = err })
    end
  end }
  if session.policies.permission then
    table.insert(self.needs, "permission policy")
    self.desk = permission.new { policy = session.policies.permission, mode = self.mode,
      on_decision = function(call, decision) tell_decision(self, call, decision) end }
  end
  if limits.need_calls(session.options) then table.insert(self.wishes, "denial of a call that is over the limit") end
  if self.desk or self.wishes[1] then
    self.hub:on("PreToolUse", function(payload) return on_call(self, payload) end)
  end
  if next(session.options.hooks) then table.insert(self.needs, "hook") end
  for name, handler in pairs(session.options.hooks) do self.hub:on(name, handler) end
  return self
end

--- The turn is over; versions that know say what still runs behind it.
local function on_stop(session, payload)
  local tasks, crons = payload.background_tasks, payload.session_crons
  if type(tasks) ~= "table" and type(crons) ~= "table" then return end
  session:keep_background(#(type(tasks) == "table" and tasks or {}) + #(type(crons) == "table" and crons or {}))
end

--- Has the program call, from its start on.
--- Raises `SessionError` (reason `"hooks"`) when its version has not what is wanted, or the system's error.
function Callbacks:open()
  local process, is_partial = self.session.process, self.session.options.partial
  if not is_partial and not self.hub:is_needed() then return end
  self.hub:learn(process)
  if is_partial then want_partials(self) end
  if not self.hub:is_needed() then return end
  self.hub:on("UserPromptSubmit", function(payload) return on_prompt(self, payload) end)
  self.hub:on("PreToolUse", function(payload) self.session.asked:tell(payload) end)
  self.hub:on("PermissionRequest", function(payload) return on_dialog(self, payload) end)
  if not versions.has_duration(self.hub.version) or self.session.options.hooks.Stop then
    self.hub:on("Stop", function(payload) return on_stop(self.session, payload) end)
  end
  local missing = self.hub:open(process)
  if missing[1] then
    error(no_hooks(("this version of the program (%s) has no hook '%s'"):format(self.hub.version or "unknown",
      table.concat(missing, "', '"))), 0)
  end
  if self.desk then process:prepare { permission_mode = permission.mode_for(self.mode, "parley.session") } end
end

--- Looks whether the program calls: its message is told of before the transcript has it, but 2.1.197 tells of none
--- that has joined a turn.
local function check_armed(self, turn)
  self.checked = turn
  if self.heard == turn or turn.has_joined and self.was_called then return end
  if #self.needs > 0 then error(no_hooks(unavailable(self)), 0) end
  if not self.has_told then self.lack = unavailable(self) end
end

--- Says what cannot be had, once.
local function tell_lack(self, turn)
  turn:notice("hooks_unavailable", { session_id = self.session.session_id, message = self.lack })
  self.lack, self.has_told = nil, true
end

--- Looks at what was called, in a turn.
--- Raises `SessionError` for a message that arrived changed, and where the program does not call; what the permission
--- policy has raised.
function Callbacks:look()
  local failure = self.failure
  self.failure = nil
  if failure then error(failure, 0) end
  local turn = self.session.turn
  if self.partials and self.heard == turn then self.partials:settle(turn.events, turn:is_accepted()) end
  if turn.is_command or not turn:is_accepted() then return end
  if self.hub:is_open() and self.checked ~= turn then check_armed(self, turn) end
  if self.lack then tell_lack(self, turn) end
end

--- Whether the program waits for a decision about a call.
---@return boolean
function Callbacks:is_asking() return self.asking > 0 end

--- Nobody can call any more. May be called again.
function Callbacks:close() self.hub:close() end

return M
