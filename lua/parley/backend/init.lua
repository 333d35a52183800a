--- `complete(messages)`: a conversation in, the events of its next turn out; behind it live sessions, found again by
--- the fingerprint of the history.
local attachments = require "parley.backend.attachments"
local clear = require "parley.claude.clear"
local commands = require "parley.claude.commands"
local conversation = require "parley.backend.conversation"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local claude_event = require "parley.claude.event"
local files = require "parley.base.files"
local history = require "parley.base.history"
local launch = require "parley.claude.launch"
local limits = require "parley.session.limits"
local login = require "parley.claude.login"
local options = require "parley.base.options"
local own_options = require "parley.backend.own_options"
local paths = require "parley.claude.paths"
local policies = require "parley.policy"
local pool = require "parley.backend.pool"
local process = require "parley.claude.process"
local routing = require "parley.policy.routing"
local session = require "parley.session"
local session_tools = require "parley.hub.session_tools"
local tables = require "parley.base.tables"
local taken = require "parley.backend.taken"
local task = require "parley.base.task"
local tui = require "parley.claude.tui"
local turn = require "parley.backend.turn"
local uv = require "luv"

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

local NOT_FOR_ALL = { session_id = true, resume_session_id = true, fork_session = true, base_env = true }

---@class parley.Backend
---@field options table
---@field policies table      those that the backend calls itself
---@field package pool parley.Pool
---@field package attachments parley.Attachments
---@field package mcp_paths table<string, string>  by the servers, as JSON
---@field package mcp_lock parley.Semaphore        one task writes or removes them
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

--- Makes a backend. Nothing is started before the first `complete`.
---@param given? parley.BackendOptions
---@return parley.Backend
--- Raises `ValueError` for bad options and policies.
function M.new(given)
  local rules = own_options.rules(rules_for_all(), NOT_FOR_ONE)
  local set = options.check(rules.all, given, "parley.backend")
  launch.check_files(set, "parley.backend")
  session_tools.check(set, "parley.backend")
  policies.check_accept(set.accept, set.policies, "parley.backend")
  session.check(set, set, "parley.backend")
  local own, of_sessions = policies.of_backend(set.policies, set.history_injection_mode)
  set.policies = of_sessions
  return setmetatable({
    options = set, policies = own, pool = pool.new { limit = set.max_sessions, idle_timeout_ms = set.idle_timeout_ms },
    attachments = attachments.new(), mcp_paths = {}, mcp_lock = task.semaphore(1), rules = rules,
    kin = setmetatable({}, { __mode = "k" }), spent = limits.nothing(),
  }, Backend)
end

--- Removes what was written: all of it, whatever happens. The first error comes out.
local function remove_mcp_configs(self)
  local failure
  for text, path in pairs(self.mcp_paths) do
    self.mcp_paths[text] = nil
    local ok, err = pcall(self.policies.mcp_config.remove, path)
    failure = failure or not ok and { err } or nil
  end
  if failure then error(failure[1], 0) end
end

local function remove_files(self)
  self.attachments:close()
  remove_mcp_configs(self)
end

--- The file that holds the servers, written on first use.
local function mcp_path_of(self, servers)
  local text, err = core.json.encode(servers, { sort_keys = true })
  if not text then
    error(errors.value_error("mcp_servers cannot be written as JSON: " .. err.message, { option = "mcp_servers" }), 0)
  end
  local _ <close> = self.mcp_lock:acquire()
  if self.closed then error(errors.closed_error "the backend is closed", 0) end
  local path = self.mcp_paths[text] or self.policies.mcp_config.write(servers)
  self.mcp_paths[text] = path
  if not self.closed then return path end
  remove_mcp_configs(self) -- it was closed by somebody who could not wait for the policy
  error(errors.closed_error "the backend is closed", 0)
end

local function mcp_config_of(self, set)
  local given = set.mcp_config or {}
  local list = type(given) == "table" and tables.joined(given) or { given }
  if set.mcp_servers then table.insert(list, mcp_path_of(self, set.mcp_servers)) end
  return list
end

--- The files for `--mcp-config`: those of the option, and the one that holds `mcp_servers`, written on first use.
---@return string[] paths  empty without either
function Backend:mcp_config_argument() return mcp_config_of(self, self.options) end

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

--- Makes the session that `injection` asks for.
local function make_session(self, set, id, injection, jsonl_path)
  local offset = injection.start_offset or 0
  local factory = self.options.session_factory
  if factory then
    local made = factory(self, id, injection.resume or false, jsonl_path, offset)
    if type(made) == "table" and type(made.start) == "function" then return made end
    error(errors.value_error("session_factory must return a session, not a " .. type(made),
      { option = "session_factory" }), 0)
  end
  local of_process, of_session = tables.picked(set, launch.rules), tables.picked(set, session.rules)
  of_process[injection.resume and "resume_session_id" or "session_id"] = id
  of_process.mcp_config = mcp_config_of(self, set)
  return session.new(process.new(of_process), of_session, { path = jsonl_path, offset = offset })
end

--- Starts a session in the place that the run holds.
local function start(self, run, injection, id, path)
  if run.is_over then error(errors.closed_error "the turn was closed", 0) end
  local live = make_session(self, run.set, id, injection, path)
  self.kin[live] = { prefix = run.prefix, kin = run.kin, set = run.set }
  self.pool:add(live, run)
  run.session, run.has_place, run.payload, run.is_resumed = live, false, injection.text, injection.resume
  if live.limits then live.limits:use(run.set, self.spent) end -- the message may go with the start
  live:start(run.is_message and injection.text or nil, run.said)
end

--- Starts a fresh session for a history, in the place that the run holds. A seed that nobody went on from is removed.
local function start_with(self, run, policy)
  local set, id = run.set, core.uuid.generate()
  local path = paths.resolve_jsonl_path(id, set.cwd, launch.environment(set))
  local injection = policy.prepare {
    history = run.request.history, text = run.text, session_id = id, jsonl_path = path,
    cwd = paths.real_folder(set.cwd), model = set.model, permission_mode = set.permission_mode or "bypassPermissions",
  }
  local _ <close> = defer(function(err)
    if err ~= nil and injection.resume then files.remove(path) end
  end)
  policies.check_text(self.options.policies, set, injection.text, #run.request.messages)
  start(self, run, injection, id, path)
end

--- Whether the program itself has said that it does not go on from the written history.
local function is_refused(err)
  return err.reason == "exit" and err.exit ~= nil and err.exit.signal == nil
    and tui.refuses_to_resume(tostring(err.screen))
end

--- Starts a session, and when that fails with a written history, makes room for another start.
---@return table? failure
local function try_to_start(self, run, way, ...)
  local ok, err = pcall(way, self, run, ...)
  if ok then return nil end
  local may_be_tried_again = run.session and run.is_resumed and errors.is(err, "SessionError")
  if not may_be_tried_again or err.reason == "transcript" then error(err, 0) end
  if run.session.ahead and not is_refused(err) then error(err, 0) end -- it may have taken the message
  self.pool:discard(run.session, true)
  run.session, run.has_place = nil, true
  return err
end

--- Starts a fresh session. A crash or a start that takes too long says nothing of the written history: it is tried
--- again, once. When the program refuses to resume from it, it goes into the message, once.
local function start_fresh(self, run)
  local err = try_to_start(self, run, start_with, self.policies.injection)
  if err and not is_refused(err) then err = try_to_start(self, run, start_with, self.policies.injection) end
  if not err then return end
  if not is_refused(err) then error(err, 0) end
  start_with(self, run, require "parley.policy.injection.concat_message")
  table.insert(run.notices, claude_event.new { type = "system", subtype = "injection_fallback",
    session_id = run.session.session_id, cause = err,
    message = "the program did not resume from the written history; it went into the message instead" })
end

--- Has a new process go on with a transcript, or starts a fresh session where that cannot be.
---@return boolean resumed
local function go_on(self, run, id, path)
  local stat = uv.fs_stat(path)
  local injection = { resume = true, text = run.text, start_offset = stat and stat.size }
  if stat and not try_to_start(self, run, start, injection, id, path) then return true end
  start_fresh(self, run)
  return false
end

--- Has another process go on with the transcript of the session that the run leases: under the options of the run.
local function renew(self, run)
  local former = run.session
  self.pool:discard(former, true)
  run.session, run.is_leased, run.has_place, self.kin[former] = nil, false, true, nil
  if go_on(self, run, former.session_id, former.jsonl_path) then run.session:succeed(former) end
end

--- Starts the session of a history that no session has: from its own transcript when it is the one that was adopted.
local function begin_session(self, run)
  local adopted = self.adopted
  if not adopted or history.hash_history(run.request.history) ~= adopted.hash then return start_fresh(self, run) end
  self.adopted = nil -- two must not write in one transcript
  local _ <close> = defer(function(err)
    if err ~= nil then self.adopted = adopted end
  end)
  if go_on(self, run, adopted.id, adopted.path) then return end
  table.insert(run.notices, claude_event.new { type = "system", subtype = "injection_fallback",
    session_id = run.session.session_id,
    message = ("the program did not go on with the session %s; another one has what was said"):format(adopted.id) })
end

--- Finds or makes the session of a request.
local function acquire(self, run)
  local key, of_kin = run.key, own_options.find_kin(self.kin, self.pool, run)
  run.session = self.pool:acquire(of_kin or key, run)
  run.key = key
  run.is_leased, run.has_place, run.payload = run.session ~= nil, run.session == nil, run.text
  if run.is_over then error(errors.closed_error "the turn was closed", 0) end
  if run.has_place then begin_session(self, run) elseif of_kin then renew(self, run) end
end

local function begin_turn(self, run)
  if run.command and run.payload ~= run.text then
    error(errors.value_error(("%s needs a session that has the history, which would go with the next message here")
      :format(run.command)), 0)
  end
  local live, said = run.session, run.said
  if run.set.tools then live.tools:use(run.set.tools) end
  if live.limits then live.limits:use(run.set, self.spent) end
  run.steps = run.command and live:command(run.command, said) or live:send(run.payload, said)
end

--- Whether a session had died since its last turn, before anything of this one was sent.
local function was_dead(run, err)
  local last = run.session.turn
  return run.is_leased and errors.is(err, "SessionError") and err.reason == "exit" and last ~= nil
    and #run.events == 0 and last:state() == "typing"
end

--- Whether a command has left words for the model with the next message: that a panel was closed (2.1.197 and before),
--- or that the command is unknown (2.1.110).
local function leaves_words(events)
  local had_panel = false
  for _, event in ipairs(events) do
    had_panel = had_panel or event.subtype == "dialog_answered" and event.kind == "panel"
    if had_panel and event.subtype == "local_command" then return true end
    if event.type == "user" and event:text():find "^Unknown command: /" then return true end
  end
  return false
end

--- Stores the session for what the client will send next, or ends it after a failed turn.
local function settle(self, run, result)
  local is_stopped = result.subtype == "interrupted" or result.subtype == "error_limit"
  if result.is_error and not is_stopped and result.subtype ~= "error_no_output" then
    return self.pool:discard(run.session)
  end
  if run.command then
    local is_emptied = clear.is(run.command) -- what it goes on with is not this conversation
    if is_emptied or leaves_words(run.events) then return self.pool:discard(run.session) end
    return self.pool:release(run.session, { run.key })
  end
  local answer = history.synthesize_turn_messages(run.events)
  -- A message that was interrupted before its answer began is not in the program's history, but may be in the client's.
  if is_stopped and #answer == 0 then return self.pool:discard(run.session) end
  local keys = {}
  local given = self.policies.routing.keys(run.request, { messages = answer, events = run.events, result = result })
  for i, key in ipairs(given) do keys[i] = run.prefix .. key end
  self.pool:release(run.session, keys)
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
    if not was_dead(run, event) then error(event, 0) end
    self.pool:discard(run.session, true)
    run.session, run.has_place, run.is_leased = nil, true, false
    start_fresh(self, run)
    begin_turn(self, run)
    return next_event(self, run)
  end
  if event then table.insert(run.events, event) end
  if event and event.type == "result" then
    login.explain(event, run.set)
    settle(self, run, event)
    run.session = nil
  end
  return event
end

--- Ends what a request holds, after an error or when its loop was left.
local function abandon(self, run)
  run.is_over = true
  local live, has_place = run.session, run.has_place
  run.session, run.has_place = nil, false
  if live then
    task.shield(self.pool.discard, self.pool, live)
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
  local text = self.attachments:text_of(history.blocks_of(messages[count].content), count)
  local run = route(self, asked)
  policies.check_text(self.options.policies, run.set, text, count)
  run.request, run.said, run.text, run.events, run.notices = asked, request, text, {}, {}
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
---@param id string         the session's
---@param path string       its transcript, where a program of these options looks for it
function Backend:adopt(messages, id, path)
  self.adopted = { hash = history.hash_history(messages), id = id, path = path }
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
  task.wherever(function()
    self.pool:close()
    local _ <close> = self.mcp_lock:acquire()
    remove_files(self)
  end, function()
    self.pool:kill()
    remove_files(self)
  end)
end

taken.install(Backend, renew)
Backend.__close = Backend.close

-- A backend that was never closed leaves no file when the host ends.
Backend.__gc = function(self) pcall(remove_files, self) end

return M
