--- `complete(messages)`: a conversation in, the events of its next turn out; behind it live sessions, found again by
--- the fingerprint of the history.
local attachments = require "parley.backend.attachments"
local commands = require "parley.claude.commands"
local conversation = require "parley.backend.conversation"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local history = require "parley.base.history"
local keeper = require "parley.sleep.keeper"
local launch = require "parley.claude.launch"
local limits = require "parley.session.limits"
local login = require "parley.claude.login"
local options = require "parley.base.options"
local mcp_files = require "parley.backend.mcp_files"
local own_options = require "parley.backend.own_options"
local paths = require "parley.claude.paths"
local policies = require "parley.policy"
local pool = require "parley.backend.pool"
local routing = require "parley.policy.routing"
local session = require "parley.session"
local session_tools = require "parley.hub.session_tools"
local sleeping = require "parley.backend.sleeping"
local spares = require "parley.backend.spares"
local starting = require "parley.backend.starting"
local tables = require "parley.base.tables"
local taken = require "parley.backend.taken"
local task = require "parley.base.task"
local turn = require "parley.backend.turn"

local M = {}

local INJECTIONS = { "native_jsonl", "concat_message" }

local function is_retention(value)
  for name, bound in pairs(value) do
    local is_whole = math.type(bound) == "integer" or name == "days" and math.type(bound) == "float"
    local is_known = name == "days" or name == "count" or name == "bytes"
    if not (is_known and is_whole and bound > 0) then
      return "{days, count, bytes}, numbers of more than 0, count and bytes whole ones"
    end
  end
end

local function are_servers(value)
  local _, err = core.json.encode(value)
  return err and ("servers by name that JSON can hold (%s)"):format(err.message)
end

local function is_count(value) return value < 0 and "0 or more" or nil end

--- The options of a backend beside those of its processes and sessions.
---@type table<string, parley.OptionRule>
M.rules = {
  history_injection_mode = { type = "string", default = "native_jsonl", check = options.one_of(INJECTIONS) },
  max_sessions = { type = "positive integer", default = 8 },
  idle_timeout_ms = { type = "milliseconds" },
  mcp_servers = { type = "table", copy = false, check = are_servers },
  state = { type = { "boolean", "string", "table" }, default = true, copy = false, check = keeper.is_state },
  durability = { type = "string", default = "process", check = options.one_of { "process", "power" } },
  retention = { type = "table", default = { days = 30, count = 100000 }, check = is_retention },
  spares = { type = "integer", default = 0, check = is_count },
  session_factory = { type = "callable" },
}

local NOT_FOR_ALL = { session_id = true, resume_session_id = true, fork_session = true, base_env = true }

---@class parley.Backend
---@field options table
---@field policies table      those that the backend calls itself
---@field package pool parley.Pool
---@field package attachments parley.Attachments
---@field package mcp parley.McpFiles
---@field package keeper parley.Keeper  of the conversations that outlive their processes
---@field package sleeping parley.Sleeping
---@field package spares parley.Spares
---@field package rules parley.OwnOptionRules
---@field package kin table<parley.Session, {prefix: string, kin: string}>  under which options each was started
---@field package spent parley.Spent  by all its turns
---@field package adopted? { hash: string, id: string, path: string }  a session that goes on in its own transcript
---@field package closed? true
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

local NOT_FOR_ONE = tables.merged({ policies = true, hooks = true }, limits.TOTALS)
for name in pairs(M.rules) do NOT_FOR_ONE[name] = name ~= "mcp_servers" or nil end

--- What its pool asks of a backend, and tells it.
local function pool_options(self)
  return { limit = self.options.max_sessions, idle_timeout_ms = self.options.idle_timeout_ms,
    choose = function(idle, lease) return self.sleeping:choose(idle, lease) end,
    may_end = function(live) return self.sleeping:may_sleep(live) end,
    on_leaving = function(live) self.keeper:leaving(live) end,
    on_leave = function(live)
      self.keeper:rest(live)
      starting.forget_seed(self, live)
    end,
    on_wait = function() self.spares:yield() end, on_quiet = function() self.spares:refill() end }
end

local make_spare ---@type fun(self: parley.Backend)

--- Makes a backend. Nothing but its spare sessions is started before the first `complete`.
---@param given? parley.BackendOptions
---@return parley.Backend
--- Raises `ValueError` for bad options and policies.
function M.new(given)
  local rules = own_options.rules(rules_for_all(), NOT_FOR_ONE)
  local set = options.check(rules.all, given, "parley.backend")
  launch.check_files(set, "parley.backend")
  launch.check_environment(set, "parley.backend")
  session_tools.check(set, "parley.backend")
  policies.check_accept(set.accept, set.policies, "parley.backend")
  session.check(set, set, "parley.backend")
  local own, of_sessions = policies.of_backend(set.policies, set.history_injection_mode)
  set.policies = of_sessions
  local self = setmetatable({
    options = set, policies = own, attachments = attachments.new(), mcp = mcp_files.new(own.mcp_config), rules = rules,
    kin = setmetatable({}, { __mode = "k" }), spent = limits.nothing(), sleeping = sleeping.new(own.sleeping),
    keeper = keeper.new { state = set.state, durability = set.durability, retention = set.retention,
      extra_env = set.extra_env },
  }, Backend)
  self.pool = pool.new(pool_options(self))
  self.sleeping:serve(self.pool)
  self.spares = spares.new(set.spares, self.pool, function() make_spare(self) end)
  self.spares:refill()
  return self
end

local function remove_files(self)
  self.attachments:close()
  self.mcp:close()
end

--- The files for `--mcp-config`: those of the option, and the one that holds `mcp_servers`, written on first use.
---@return string[] paths  empty without either
function Backend:mcp_config_argument() return self.mcp:arguments(self.options) end

--- Asks the routing policy; its options are checked like the caller's.
---@return parley.Lease  with `set`, the options
local function route(self, request)
  local policy = self.policies.routing
  if policy.route ~= routing.route then request.sessions = self.pool:list() end
  local answer, why = policy.route(request)
  if not answer then
    error(errors.value_error(("%s refuses the request: %s"):format(policy.described, why)), 0)
  end
  local set, prefix, kin = self.rules:apply(self.options, {
    { options = request.options, where = "the options of the request" },
    { options = answer.options, where = "the options from " .. (policy.described or "the default") },
  })
  return { set = set, prefix = prefix, kin = kin, name = answer.key, key = answer.key and prefix .. answer.key,
    wait = answer.wait, pin = answer.pin, timeout_ms = set.turn_timeout_ms }
end

--- Finds or makes the session of a request.
local function acquire(self, run)
  local key, of_kin = run.key, own_options.find_kin(self.kin, self.pool, run)
  run.session = self.pool:acquire(of_kin or key, run)
  run.key = key
  run.is_leased, run.has_place, run.payload = run.session ~= nil, run.session == nil, run.text
  if run.is_over then error(errors.closed_error "the turn was closed", 0) end
  if run.has_place then starting.begin(self, run) elseif of_kin then starting.renew(self, run) end
  if run.ended then
    starting.tell(run, "background_ended", { ended = run.ended.session_id,
      message = ("the session %s, with what it had running in the background (%d), was ended for its place: all %d "
        .. "(max_sessions) were taken"):format(run.ended.session_id, run.ended.background, self.options.max_sessions) })
  end
  local why = self.sleeping:complaint()
  if why then starting.tell(run, "policy_failed", { message = why }) end
  local problem = self.keeper:complaint()
  if problem then
    starting.tell(run, "state_unavailable", { cause = problem,
      message = "conversations are not kept beyond their processes: " .. problem.message })
  end
  local loss = self.keeper:loss()
  if loss then starting.tell(run, loss.type, { path = loss.path, aside = loss.aside, message = loss.message }) end
end

local function begin_turn(self, run)
  if run.command and run.payload ~= run.text then
    error(errors.value_error(("%s needs a session that has the history, which would go with the next message here")
      :format(run.command)), 0)
  end
  local live, said = run.session, run.said
  if run.set.tools then live.tools:use(run.set.tools) end
  starting.prepare(self, live, run.set)
  run.steps = run.command and live:command(run.command, said) or live:send(run.payload, said)
  if run.attached and live.turn and live.turn.expect_attached then -- one of the caller's own may have none
    live.turn:expect_attached(self.attachments:files(run.attached))
  end
end

--- Whether a session was lost since its last turn, before anything of this one was sent: it has died, or somebody has
--- had its program go on in another one.
local function was_lost(run, err)
  local last = run.session and run.session.turn -- nil: somebody has closed the turn
  return run.is_leased and errors.is(err, "SessionError") and (err.reason == "exit" or err.other_session_id ~= nil)
    and last ~= nil and #run.events == 0 and last:state() == "typing"
end

--- Begins the turn again in another process.
local function begin_again(self, run, err)
  if err.other_session_id then
    starting.renew(self, run)
    starting.tell(run, "session_left", { other_session_id = err.other_session_id,
      message = ("somebody has had the program go on in another session, %s (/clear, /branch or /resume): another "
        .. "process goes on with this conversation"):format(err.other_session_id) })
  else
    starting.discard(self, run, true)
    starting.begin(self, run)
  end
  begin_turn(self, run)
end

--- Whether what the program goes on with after a command is not this conversation: another session, or one with words
--- for the model that come with the next message, that a panel was closed (2.1.197 and before), or that the command is
--- unknown (2.1.110).
local function leaves_conversation(events)
  local had_panel = false
  for _, event in ipairs(events) do
    if event.subtype == "session_changed" then return true end
    had_panel = had_panel or event.subtype == "dialog_answered" and event.kind == "panel"
    if had_panel and event.subtype == "local_command" then return true end
    if event.type == "user" and event:text():find(commands.UNKNOWN) then return true end
  end
  return false
end

--- Ends a session in the midst of something.
local function drop(self, live)
  local _ <close> = defer(function() starting.lose(self, live) end)
  self.pool:discard(live)
end

--- Lets a session wait for what comes next in its conversation.
local function keep(self, run, result, names)
  local told = self.sleeping:note(run.session, run.events, result)
  self.keeper:note(run.session, { keys = names, set = run.set, facts = told, cost_usd = result.cost_usd })
  local keys = {}
  for i, name in ipairs(names) do keys[i] = run.prefix .. name end
  self.pool:release(run.session, keys)
  self.spares:encourage()
end

--- Errors behind which a session is what it was.
local CHANGES_NOTHING = { error_command = true, error_no_output = true }

--- Stores the session for what the client will send next, or ends it after a failed turn.
local function settle(self, run, result)
  local is_stopped = result.subtype == "interrupted" or result.subtype == "error_limit"
  if result.is_error and not is_stopped and not CHANGES_NOTHING[result.subtype] then return drop(self, run.session) end
  if run.command then
    if leaves_conversation(run.events) then return drop(self, run.session) end
    if #run.request.history > 0 then return keep(self, run, result, { run.name }) end
    return self.pool:release(run.session, { run.key })
  end
  local answer = history.synthesize_turn_messages(run.events)
  -- A message that was interrupted before its answer began is not in the program's history, but may be in the client's.
  if is_stopped and #answer == 0 then return drop(self, run.session) end
  keep(self, run, result, self.policies.routing.keys(run.request,
    { messages = answer, events = run.events, result = result }))
end

--- The program has the pictures of a message by the end of its turn, and its transcript too.
local function remove_attached(self, run)
  if run.attached then self.attachments:remove(run.attached) end
  run.attached = nil
end

local function next_event(self, run)
  run.task = task.current()
  if not run.steps then
    acquire(self, run)
    begin_turn(self, run)
  end
  local notice = table.remove(run.notices, 1)
  if notice then return notice end
  local ok, event = pcall(run.steps)
  if not ok then
    if not was_lost(run, event) then error(event, 0) end
    begin_again(self, run, event)
    return next_event(self, run)
  end
  if event then table.insert(run.events, event) end
  if event and event.type == "result" then
    login.explain(event, run.set)
    settle(self, run, event)
    run.session = nil
    remove_attached(self, run)
  end
  return event
end

--- Ends what a request holds, after an error or when its loop was left.
local function abandon(self, run)
  run.is_over = true
  local _ <close> = defer(function() remove_attached(self, run) end)
  local live, has_place = run.session, run.has_place
  run.session, run.has_place = nil, false
  if live then
    task.shield(drop, self, live)
  elseif has_place then
    self.pool:release_place(run)
  end
end

--- Checks a request and finds its route. Nothing is started. The run is the pool's lease, too.
local function new_run(self, messages, request)
  if self.closed then error(errors.closed_error "the backend is closed", 0) end
  limits.check(self.options, self.spent)
  history.check(messages)
  self.rules:check_request(request, self.policies.routing ~= routing)
  local count, asked = #messages, tables.merged(request)
  asked.messages = tables.joined(messages) -- the caller may go on with its own list
  asked.last, asked.history = messages[count], table.move(messages, 1, count - 1, 1, {})
  local text, attached = self.attachments:text_of(history.blocks_of(messages[count].content), count)
  local _ <close> = defer(function(err)
    if err ~= nil and attached then self.attachments:remove(attached) end
  end)
  local run = route(self, asked)
  run.takes_spare = #asked.history == 0 and run.set == self.options and self.policies.injection.described == nil
  policies.check_text(self.options.policies, run.set, text, count)
  run.request, run.said, run.text, run.events, run.notices = asked, request, text, {}, {}
  run.attached = attached
  return run
end

--- The turn that a run is, as its caller holds it, and as the four values of a generic `for`.
local function turn_of(self, run)
  local made = turn.new {
    session = function() return run.session end,
    abandon = function() abandon(self, run) end,
    next = function()
      local ok, event = pcall(next_event, self, run)
      if ok then return event end
      abandon(self, run)
      if self.closed and not errors.is(event, "Cancelled") then
        event = errors.cancelled("the backend was closed during the turn", { cause = event })
      end
      error(event, 0)
    end,
  }
  return made, nil, nil, made
end

--- Sends the last message of a conversation and reports what follows, to the `result`.
---@param messages table[]  messages of the Messages API; all but the last are the history
---@param request? table    `options`, those of the backend that differ for it; further fields for the routing policy
---@return parley.Turn turn  an iterator, so that it stands in a generic `for`; leaving the loop early cancels the turn
---@return nil
---@return nil
---@return parley.Turn closer  the same
--- Raises `ValueError` (with `index`) before anything is started; `ClosedError`; from the loop `CLINotFoundError`,
--- `SessionError`, `DialogError`, `Cancelled`. A turn that raises has closed its session.
function Backend:complete(messages, request)
  local run = new_run(self, messages, request)
  run.is_message = true
  return turn_of(self, run)
end

--- The conversation as it would be if it went on: what has no last message yet has a route, too.
local function to_go_on(messages)
  history.check_list(messages)
  return tables.joined(messages, { { role = "user", content = "…" } })
end

--- Runs one of the program's own commands in the session of a conversation, found by the conversation as it is.
---@param messages table[]  the conversation so far; may be empty
---@param text string       `"/compact"`
---@param request? table    as for `complete`
---@return parley.Turn turn  as for `complete`
---@return nil
---@return nil
---@return parley.Turn closer
--- Raises what `complete` raises, `ValueError` for a command that changes the user's settings, such as `/model`, and
--- from the loop `ValueError` when the history would have to go with a message.
function Backend:command(messages, text, request)
  commands.check(text)
  local run = new_run(self, to_go_on(messages), request)
  run.command = text
  return turn_of(self, run)
end

--- Starts a session for a conversation before its next message is known; `complete` finds it ready then.
---@param messages table[]  the conversation so far; may be empty
---@param request? table    as for `complete`
---@return boolean warmed  false when the history would have to go with the message
--- Raises what `complete` raises.
function Backend:warm(messages, request)
  local run = new_run(self, to_go_on(messages), request)
  local _ <close> = defer(function() abandon(self, run) end)
  run.task = task.current()
  acquire(self, run)
  if run.payload ~= run.text then return false end
  self.pool:release(run.session, { run.key })
  run.session = nil
  return true
end

--- Starts a spare session.
function make_spare(self)
  local run = { request = { history = {}, messages = {} }, set = self.options, prefix = "", kin = "", text = "…",
    notices = {}, task = task.current() }
  local _ <close> = defer(function() abandon(self, run) end)
  self.pool:acquire(nil, run)
  run.has_place = true
  starting.fresh(self, run)
  self.pool:release(run.session, {}, true)
  run.session = nil
end

--- A conversation of its own: what is said in it stays with it.
---@param messages? table[]  what was said before, for example from `parley.load`
---@param own? parley.OwnOptions  options of its turns that differ from the backend's; `talk.options` may be changed
---@param request? table     fields of its requests for a routing policy
---@return parley.Conversation
--- Raises `ValueError`.
function Backend:conversation(messages, own, request)
  self.rules:apply(self.options, { { options = own, where = "the options of the conversation" } })
  self.rules:check_request(request, self.policies.routing ~= routing)
  return conversation.new(self, messages, own, request)
end

--- Says that a conversation has a transcript: the program goes on with that, with all that stands in it, when the
--- conversation does. Without it, and where the program does not take it, a new session gets the messages. Nobody else
--- may have it open.
---@param messages table[]  what was said
---@param id? string        the session's; nil: it has none that is to be gone on with, nor one that sleeps
---@param path? string      its transcript; default: where a program of the backend's options looks for it
--- Raises `ValueError`.
function Backend:adopt(messages, id, path)
  local hash = history.hash_history(messages)
  if path ~= nil and type(path) ~= "string" then
    error(errors.value_error("the transcript of a session must be a path, not " .. options.describe(path)), 0)
  end
  if id ~= nil then
    local usual = paths.resolve_jsonl_path(id, self.options.cwd, launch.environment(self.options))
    path = path or paths.moved_to(usual) or usual
  end
  self.adopted = { hash = hash, id = id, path = path }
end

--- The processes that live now, idle ones included, by session id.
---@return table<string, parley.Process>
function Backend:live_sessions() return self.pool:processes() end

--- What the live sessions are doing, by session id: `"starting"`, `"ready"`, `"busy"` or `"dialog"`.
---@return table<string, string>
function Backend:session_states() return self.pool:states() end

---@return integer
function Backend:live_session_count() return self.pool:count() end

--- Ends every session and removes what was written. Turns that run raise `Cancelled`. It may be called again, and from
--- anywhere: a libuv callback, which cannot wait, returns before the programs have ended.
function Backend:close()
  self.closed = true
  self.mcp:refuse()
  self.sleeping:close()
  self.spares:close()
  task.wherever(function()
    local _ <close> = defer(function()
      local _ <close> = self.mcp:lock()
      remove_files(self)
    end)
    local _ <close> = defer(function() self.keeper:close() end)
    self.pool:close()
  end, function()
    self.pool:kill()
    for live in pairs(self.kin) do starting.forget_seed(self, live) end
    self.keeper:close()
    remove_files(self)
  end)
end

taken.install(Backend, starting.renew)
Backend.__close = Backend.close

-- A backend that was never closed leaves no file when the host ends.
Backend.__gc = function(self) pcall(remove_files, self) end

return M
