--- `complete(messages)`: a conversation in, the events of its next turn out; behind it live sessions, found again by
--- the fingerprint of the history.
local core = require "parley.core"
local errors = require "parley.errors"
local event = require "parley.event"
local files = require "parley.files"
local history = require "parley.history"
local launch = require "parley.launch"
local options = require "parley.options"
local paths = require "parley.paths"
local pool = require "parley.pool"
local process = require "parley.process"
local session = require "parley.session"
local task = require "parley.task"

local M = {}

local INJECTIONS = { "native_jsonl", "concat_message" }

--- The options of a backend beside those of its processes and sessions.
---@type table<string, parley.OptionRule>
M.rules = {
  history_injection_mode = { type = "string", default = "native_jsonl", check = options.one_of(INJECTIONS) },
  max_sessions = { type = "positive integer", default = 8 },
  idle_timeout_ms = { type = "milliseconds" },
  mcp_servers = { type = "table", copy = false },
  session_factory = { type = "callable" },
}

--- What a caller may set for one request.
local NOT_FOR_ALL = { session_id = true, resume_session_id = true, fork_session = true, base_env = true }

---@class parley.Backend
---@field options table
---@field policies table
---@field package pool parley.Pool
local Backend = {}
Backend.__index = Backend
Backend.__name = "parley.Backend"

local function rules_for_all()
  local process_rules = {}
  for name, rule in pairs(launch.rules) do
    if not NOT_FOR_ALL[name] then process_rules[name] = { type = rule.type, check = rule.check, copy = rule.copy } end
  end
  return options.merge(process_rules, session.rules, M.rules)
end

--- Policies that a backend calls itself; the others are its sessions'.
local OWN_POLICIES = { routing = true, injection = true, mcp_config = true }

--- A policy is a table of functions; a string names the Lua file that returns it.
---@param name string
---@param given any
---@return table policy
--- Raises `ValueError`, naming the policy and its file.
function M.load_policy(name, given)
  local where = ("the policy '%s'"):format(name)
  if type(given) == "string" then
    where = ("the policy '%s' (%s)"):format(name, given)
    local chunk, problem = loadfile(given, "t")
    if not chunk then error(errors.value_error(where .. " cannot be loaded: " .. problem, { policy = name }), 0) end
    local ok, result = pcall(chunk)
    if not ok then
      error(errors.value_error(("%s fails when it is loaded: %s"):format(where, tostring(result)),
        { policy = name, cause = result }), 0)
    end
    given = result
  end
  if type(given) ~= "table" then
    error(errors.value_error(("%s must be a table of functions, not a %s"):format(where, type(given)),
      { policy = name }), 0)
  end
  local default = name == "injection" and require "parley.policy.injection.native_jsonl"
    or require("parley.policy." .. name)
  local known = false
  for field, value in pairs(given) do
    if type(default[field]) == "function" then
      known = true
      if type(value) ~= "function" then
        error(errors.value_error(("%s: '%s' must be a function, not a %s"):format(where, field, type(value)),
          { policy = name }), 0)
      end
    end
  end
  if not known then
    local names = {}
    for field, value in pairs(default) do
      if type(value) == "function" then table.insert(names, "'" .. field .. "'") end
    end
    table.sort(names)
    error(errors.value_error(("%s has none of the functions of such a policy: %s"):format(where,
      table.concat(names, ", ")), { policy = name }), 0)
  end
  return given
end

local POLICIES = { "routing", "injection", "mcp_config", "readiness", "dialogs", "delivery", "settling" }

local function load_policies(given, injection_mode)
  for name in pairs(given) do
    local expected = options.one_of(POLICIES)(name)
    if expected then
      error(errors.value_error(("there is no policy '%s': it must be %s"):format(tostring(name), expected),
        { option = "policies" }), 0)
    end
  end
  local own, of_sessions = {}, {}
  for _, name in ipairs(POLICIES) do
    local policy = given[name] ~= nil and M.load_policy(name, given[name]) or {}
    if OWN_POLICIES[name] then
      local default = name == "injection" and require("parley.policy.injection." .. injection_mode)
        or require("parley.policy." .. name)
      own[name] = setmetatable({}, { __index = function(_, field) return policy[field] or default[field] end })
    else
      of_sessions[name] = policy
    end
  end
  return own, of_sessions
end

--- Splits checked options into those of the process and those of the session.
local function split(set)
  local of_process, of_session = {}, {}
  for name, value in pairs(set) do
    if launch.rules[name] then of_process[name] = value end
    if session.rules[name] then of_session[name] = value end
  end
  return of_process, of_session
end

--- Makes a backend. Nothing is started before the first `complete`.
---@param given? table  see the README's table of options
---@return parley.Backend
--- Raises `ValueError` for bad options and policies.
function M.new(given)
  local set = options.check(rules_for_all(), given, "parley.backend")
  local own, of_sessions = load_policies(set.policies, set.history_injection_mode)
  set.policies = of_sessions
  launch.check((split(set)), "parley.backend")
  return setmetatable({
    options = set, policies = own, pool = pool.new(set.max_sessions, set.idle_timeout_ms),
  }, Backend)
end

--- The files for `--mcp-config`: those of the option, and the one that holds `mcp_servers`, written on first use.
---@return string[] paths  empty without either
function Backend:mcp_config_argument()
  local given = self.options.mcp_config or {}
  local list = type(given) == "table" and table.move(given, 1, #given, 1, {}) or { given }
  if self.options.mcp_servers then
    self.mcp_path = self.mcp_path or self.policies.mcp_config.write(self.options.mcp_servers)
    table.insert(list, self.mcp_path)
  end
  return list
end

--- The text of the message to be sent.
local function text_to_send(messages)
  local parts = {}
  for i, block in ipairs(history.blocks_of(messages[#messages].content)) do
    if block.type ~= "text" then
      error(errors.value_error(("messages[%d].content[%d] is a block of type '%s', which cannot be typed"):format(
        #messages, i, block.type), { index = #messages }), 0)
    end
    table.insert(parts, block.text)
  end
  return table.concat(parts, "\n")
end

--- What the delivery policy says of the message before anything is started.
local function check_text(self, text, index)
  local delivery = setmetatable(self.options.policies.delivery or {}, { __index = require "parley.policy.delivery" })
  local prepared, why = delivery.prepare(text, { long_text = self.options.long_text, mentions = self.options.mentions })
  if not prepared then
    error(errors.value_error(("messages[%d] cannot be sent: %s"):format(index, why), { index = index }), 0)
  end
end

--- Asks the routing policy; its options are checked like the caller's.
local function route(self, request)
  local answer, why = self.policies.routing.route(request)
  if answer == nil then
    error(errors.value_error("the routing policy refuses the request: " .. tostring(why or "no reason given")), 0)
  end
  if type(answer) ~= "table" or answer.key ~= nil and type(answer.key) ~= "string" then
    error(errors.value_error "the routing policy must return {key = string?, options = table?}", 0)
  end
  local own = options.check(rules_for_all(), answer.options or {}, "the routing policy's options")
  local set = {}
  for name, value in pairs(self.options) do set[name] = value end
  for name in pairs(answer.options or {}) do set[name] = own[name] end
  local text = answer.options and next(answer.options) and assert(core.json.encode(answer.options, { sort_keys = true }))
  local prefix = text and core.digest.hex(core.digest.blake2b(text, 16)) .. "/" or ""
  return { key = answer.key and prefix .. answer.key, prefix = prefix, set = set }
end

--- Makes the session that `injection` asks for.
local function make_session(self, set, id, injection, jsonl_path)
  local offset = injection.start_offset or 0
  if self.options.session_factory then
    return self.options.session_factory(self, id, injection.resume or false, jsonl_path, offset)
  end
  local of_process, of_session = split(set)
  of_process[injection.resume and "resume_session_id" or "session_id"] = id
  of_process.mcp_config = self:mcp_config_argument()
  return session.new(process.new(of_process), of_session, jsonl_path, offset)
end

--- Prepares a fresh session for a history, by a policy.
local function inject(self, set, policy, request, text)
  local id = core.uuid.generate()
  local environment = launch.environment(set)
  local jsonl_path = paths.resolve_jsonl_path(id, set.cwd, environment)
  local injection = policy.prepare {
    history = request.history, text = text, session_id = id, jsonl_path = jsonl_path, cwd = paths.real_folder(set.cwd),
    model = set.model, permission_mode = set.permission_mode,
  }
  if type(injection) ~= "table" or type(injection.text) ~= "string" then
    error(errors.value_error "the injection policy must return {text = string, resume = boolean?, …}", 0)
  end
  return make_session(self, set, id, injection, jsonl_path), injection
end

--- Starts a fresh session in a reserved place. When the program does not resume from the written history, the history
--- goes into the message, once.
local function start_fresh(self, run)
  local pooled, live, injection = false, nil, nil
  local guard <close> = setmetatable({}, { __close = function()
    if not pooled then self.pool:give_back() end
  end })
  live, injection = inject(self, run.set, self.policies.injection, run.request, run.text)
  self.pool:add(live)
  pooled = true
  run.session, run.payload = live, injection.text
  local ok, err = pcall(live.start, live)
  if ok then return end
  local is_refused = injection.resume and errors.is(err, "SessionError")
  self.pool:drop(live)
  run.session = nil
  if not is_refused then error(err, 0) end
  files.remove(live.jsonl_path)
  self.pool:reserve()
  pooled = false
  live, injection = inject(self, run.set, require "parley.policy.injection.concat_message", run.request, run.text)
  self.pool:add(live)
  pooled = true
  run.session, run.payload = live, injection.text
  table.insert(run.notices, event.new { type = "system", subtype = "injection_fallback", session_id = live.session_id,
    message = "the program did not resume from the written history; it went into the message instead", cause = err })
  live:start()
end

--- Finds or makes the session of a request.
local function acquire(self, run)
  local leased = self.pool:lease(run.key)
  if not leased then
    local reserved = self.pool:reserve(function()
      leased = self.pool:lease(run.key)
      return leased ~= nil
    end)
    if reserved then return start_fresh(self, run) end
  end
  run.session, run.payload = leased, run.text
end

--- Stores the session for what the client will send next, or ends it after a failed turn.
local function settle(self, run, result)
  if result.is_error and result.subtype ~= "error_no_output" then return self.pool:drop(run.session) end
  if run.command then return self.pool:release(run.session, { run.key }) end
  local answer = history.synthesize_turn_messages(run.events)
  -- A message that was interrupted before its answer began is not in the program's history, but may be in the client's.
  if result.subtype == "interrupted" and #answer == 0 then return self.pool:drop(run.session) end
  local keys = self.policies.routing.keys(run.request, { messages = answer, events = run.events, result = result })
  for i, key in ipairs(keys) do keys[i] = run.prefix .. key end
  self.pool:release(run.session, keys)
end

local function next_event(self, run)
  if not run.steps then
    acquire(self, run)
    run.steps = run.command and run.session:command(run.command) or run.session:send(run.payload)
  end
  local notice = table.remove(run.notices, 1)
  if notice then return notice end
  local happening = run.steps()
  if happening then table.insert(run.events, happening) end
  if happening and happening.type == "result" then
    run.over = true
    settle(self, run, happening)
  end
  return happening
end

--- Ends what a request holds, after an error or when its loop was left.
local function abandon(self, run)
  if run.over then return end
  run.over = true
  if run.session then task.shield(function() self.pool:drop(run.session) end) end
end

--- Checks a request and finds its route. Nothing is started.
local function new_run(self, messages, request)
  if self.closed then error(errors.closed_error "the backend is closed", 0) end
  history.check(messages)
  local asked = {}
  for name, value in pairs(request or {}) do asked[name] = value end
  asked.messages, asked.last = messages, messages[#messages]
  asked.history = table.move(messages, 1, #messages - 1, 1, {})
  local text = text_to_send(messages)
  check_text(self, text, #messages)
  local found = route(self, asked)
  return { request = asked, text = text, key = found.key, prefix = found.prefix, set = found.set, events = {},
    notices = {} }
end

--- The four values of a generic `for` over the events of a run.
local function events_of(self, run)
  local handle = setmetatable({}, { __close = function() abandon(self, run) end })
  function handle.interrupt() return run.session ~= nil and not run.over and run.session:interrupt() end
  local function step()
    if run.over then return nil end
    local results = table.pack(pcall(next_event, self, run))
    if results[1] then return results[2] end
    abandon(self, run)
    local err = results[2]
    if self.closed and not errors.is(err, "Cancelled") then
      err = errors.cancelled("the backend was closed during the turn", { cause = err })
    end
    error(err, 0)
  end
  return step, nil, nil, handle
end

--- Sends the last message of a conversation and reports what follows, to the `result`.
---@param messages table[]  messages of the Messages API; all but the last are the history
---@param request? table    further fields of the request for the routing policy, such as `tag`
---@return fun(): parley.Event? next_event  for the generic `for`; leaving the loop early cancels the turn
---@return nil
---@return nil
---@return table handle  a `<close>` value; `handle.interrupt()`, from another task, interrupts the turn: its events end
---                      with a `result` of subtype `interrupted`. It returns false when no turn runs (yet)
--- Raises `ValueError` (with `index`) before anything is started; `ClosedError`; from the loop `CLINotFoundError`,
--- `SessionError`, `DialogError`, `Cancelled`. A turn that raises has closed its session.
function Backend:complete(messages, request) return events_of(self, new_run(self, messages, request)) end

--- The conversation as it would be if it went on: what has no last message yet has a route, too.
local function to_go_on(messages)
  local going_on = table.move(messages, 1, #messages, 1, {})
  table.insert(going_on, { role = "user", content = "…" })
  return going_on
end

--- Runs one of the program's own commands in the session of a conversation, which is found by the conversation as it is.
---@param messages table[]  the conversation so far; may be empty
---@param text string       `"/compact"`
---@param request? table    as for `complete`
---@return fun(): parley.Event? next_event  as for `complete`
---@return nil
---@return nil
---@return table handle
function Backend:command(messages, text, request)
  local run = new_run(self, to_go_on(messages), request)
  run.command = text
  return events_of(self, run)
end

--- Starts a session for a conversation before its next message is known; `complete` finds it ready then.
---@param messages table[]  the conversation so far; may be empty
---@param request? table    as for `complete`
---@return boolean prepared  false when the history would have to go with the message
--- Raises what `complete` raises.
function Backend:prepare(messages, request)
  local run = new_run(self, to_go_on(messages), request)
  acquire(self, run)
  local is_ready = run.payload == run.text
  if is_ready then self.pool:release(run.session, { run.key }) else self.pool:drop(run.session) end
  return is_ready
end

--- The processes that live now, idle ones included, by session id.
---@return table<string, parley.Process>
function Backend:live_sessions() return self.pool:processes() end

--- What the live sessions are doing, by session id: `"starting"`, `"ready"`, `"busy"` or `"dialog"`.
---@return table<string, string>
function Backend:session_states() return self.pool:states() end

---@return integer
function Backend:live_session_count() return self.pool:count() end

local function remove_mcp_config(self)
  if self.mcp_path then self.policies.mcp_config.remove(self.mcp_path) end
  self.mcp_path = nil
end

--- Ends every session and removes what was written. Turns that run raise `Cancelled`. A second call does nothing.
function Backend:close()
  if self.closed then return end
  self.closed = true
  task.shield(function() self.pool:close() end)
  remove_mcp_config(self)
end

Backend.__close = Backend.close

-- A backend that was never closed leaves no file when the host ends.
Backend.__gc = function(self) pcall(remove_mcp_config, self) end

return M
