--- The gateway: clients of the Anthropic Messages API and of OpenAI's Chat Completions hold their conversations through
--- a backend's sessions.
---
---     local server <close> = gateway.serve { backend = options, tokens = { { name = "me", token = "…" } } }
local backends = require "parley.backend"
local defer = require "parley.base.defer"
local deliver = require "parley.gateway.deliver"
local desks = require "parley.gateway.desk"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local http = require "parley.base.http"
local indexes = require "parley.sleep.index"
local keeper = require "parley.sleep.keeper"
local log = require "parley.gateway.log"
local metrics = require "parley.gateway.metrics"
local options = require "parley.base.options"
local plain = require "parley.gateway.plain"
local problems = require "parley.gateway.problems"
local replies = require "parley.gateway.reply"
local routes = require "parley.gateway.routes"
local routing = require "parley.gateway.routing"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local tokens = require "parley.gateway.tokens"
local windows = require "parley.gateway.window"
local uv = require "luv"

local M = {}

--- The options of a gateway.
---@type table<string, parley.OptionRule>
M.rules = {
  backend = { type = "table", copy = false, default = {} },
  tokens = { type = "table", copy = false },
  is_agent = { type = "boolean", default = false },
  plain_folder = { type = "string" },
  host = { type = "string", default = "127.0.0.1" },
  port = { type = "integer", default = 0 },
  socket = { type = "string" },
  hosts = { type = "list of strings", default = {} },
  max_sessions = { type = "positive integer", default = 8 },
  queue = { type = "integer", default = 16 },
  idle_timeout_ms = { type = "milliseconds", default = 900000 },
  tool_wait_ms = { type = "milliseconds", default = 600000 },
  grace_ms = { type = "milliseconds", default = 5000 },
  body_bytes = { type = "positive integer", default = 32 * 1024 * 1024 },
  is_strict = { type = "boolean", default = false },
  log = { type = "callable", copy = false },
  is_json_log = { type = "boolean", default = false },
}

--- The body has a limit of its own, whose excess is told in JSON.
local LIMITS = { body_bytes = 1 << 40, idle_ms = 120000, head_bytes = 64 * 1024 }

---@class parley.gateway.Server
---@field backend parley.Backend
---@field desk parley.gateway.Desk
---@field metrics parley.gateway.Metrics
---@field window parley.gateway.Window
---@field http parley.http.Server
---@field port? integer
---@field host? string
---@field path? string            of a unix socket
---@field model? string           the default
---@field plain_folder? string
---@field body_bytes integer
---@field package tokens parley.gateway.Tokens
---@field package set table
---@field package keeper parley.Task  the parent of all turns
local Server = {}
Server.__index = Server
Server.__name = "parley.gateway.Server"

-- Who may ask ---------------------------------------------------------------------------------------------------------

--- A name in `Host` may be one that was made to point here; an address was not.
local function is_own_host(self, value)
  if self.path then return true end
  local name = (value or ""):lower():match "^%[([%x:.]+)%]" or (value or ""):lower():match "^([^:]+)"
  if not name then return false end
  if name == "localhost" or name:find "^[%d.]+$" or name:find ":" then return true end
  for _, own in ipairs(tables.joined({ self.set.host }, self.set.hosts)) do
    if name == own:lower() then return true end
  end
  return false
end

local function check(self, call, route)
  local request = call.request
  if not is_own_host(self, request.headers.host) then
    error(problems.new(403, "this server does not go by the name in 'Host' (--allow-host NAME)"), 0)
  end
  if not route then error(problems.new(404, ("there is no %s"):format(request.path)), 0) end
  if route.is_window then windows.check_origin(request.headers) end
  call.owner = self.tokens:owner(request.headers) or route.is_window and self.window:owner(request.headers) or nil
  call.note.token = call.owner
  if not route.is_open and not call.owner then
    error(problems.new(401, "a token is needed: x-api-key, or authorization: Bearer (parley serve --print-token)"), 0)
  end
  if not route.methods[request.method] then
    call.headers.allow = route.allow
    error(problems.new(405, ("%s takes %s"):format(request.path, route.allow)), 0)
  end
end

-- Requests ------------------------------------------------------------------------------------------------------------

local function write_line(self, call, began, name)
  local note, status = call.note, call.response.status or 499 -- nothing was sent: the client had gone
  note.status, note.ms = status, task.now() - began
  self.metrics:count("parley_requests_total", { path = name, status = tostring(status) })
  self.metrics:observe("parley_request_seconds", note.ms)
  if self.set.log then self.set.log(log.line(note, self.set.is_json_log)) end
end

local function answer_problem(call, protocol, err)
  local problem = problems.of(err)
  call.note.error = problem.reason
  call.server.metrics:count("parley_failures_total", { reason = problem.reason })
  if call.response.status then return call.response:abort() end
  deliver.problem(call.response, protocol, problem, call.headers, call.id)
end

local function handle(self, request, response)
  local began, id = task.now(), replies.id "req"
  local route, part, name = routes.find(request.path)
  local call = { server = self, request = request, response = response, id = id,
    headers = { ["request-id"] = id, ["x-request-id"] = id },
    note = { id = id, method = request.method, path = request.path } }
  local _ <close> = defer(function() write_line(self, call, began, name) end)
  local ok, err = pcall(function()
    check(self, call, route)
    route.handle(call, part and http.unescape(part))
  end)
  if ok then return end
  if errors.is(err, "Cancelled") and task.current():cancellation() then error(err, 0) end
  answer_problem(call, route and route.protocol or routes.protocol_of(request.path), err)
end

--- What there is now, for the metrics.
---@return table
function Server:gauges()
  local states = {}
  for _, state in pairs(self.backend:session_states()) do states[state] = (states[state] or 0) + 1 end
  return { parley_sessions = states, parley_running = self.desk.running, parley_queue = self.desk:queued(),
    parley_waiting_for_tools = self.desk:waiting_for_tools() }
end

-- The server ----------------------------------------------------------------------------------------------------------

--- A task that outlives the one that has begun to serve, so that what runs can be finished. Turns are its children.
local function start_keeper(self)
  local ready = task.condition()
  self.keeper = task.new_root(function()
    local group <close> = task.group { on_error = function(err, traceback)
      io.stderr:write(("parley serve: %s%s\n"):format(errors.text(err), traceback or ""))
    end }
    self.group = group
    ready:notify()
    task.condition():wait()
  end)
  ready:wait_until(function() return self.group end)
end

--- The index of conversations that outlive their processes. Without one their histories are written anew.
local function open_index(self, set, given)
  if given.state == false or type(given.state) == "table" then return given.state or nil end
  local path = type(given.state) == "string" and given.state or keeper.path_for(given.extra_env)
  local index, problem = indexes.open { path = path, durability = given.durability, retention = given.retention,
    on_event = set.log and function(event) set.log(("parley serve: %s\n"):format(event.message)) end }
  if index then
    index:prune()
  elseif type(given.state) == "string" then
    error(problem, 0)
  elseif set.log then
    set.log(("parley serve: conversations are not kept beyond their processes: %s\n"):format(problem.message))
  end
  self.own_index = index
  return index
end

local function make_backend(self, set)
  local given = tables.merged(set.backend, { max_sessions = set.max_sessions, idle_timeout_ms = set.idle_timeout_ms,
    partial = true })
  local accept = given.accept
  if not set.is_agent then
    self.plain_folder = plain.folder(set.plain_folder)
    given = plain.options(given, self.plain_folder)
  end
  local index = open_index(self, set, given)
  given.state = index or false
  given.policies = tables.merged(given.policies, { routing = routing.new { plain = self.plain_folder and given,
    policy = (given.policies or {}).routing, accept = accept, index = index } })
  self.model = given.model
  self.backend = backends.new(given)
end

--- A socket that a server has left that was killed is in nobody's way.
local function clear_socket(path)
  local stat = uv.fs_lstat(path)
  if not stat or stat.type ~= "socket" then return end
  local pipe = uv.new_pipe(false)
  local problem = task.suspend(function(wake) pipe:connect(path, wake) end)
  pipe:close()
  if problem then files.remove(path) end
end

local function check_address(host)
  local expected = http.rules.host.check(host)
  if not expected then return end
  error(errors.value_error(("the host to listen on must be %s, not '%s'"):format(expected, host)), 0)
end

local function listen(self, set)
  if not set.socket then check_address(set.host) end
  if set.socket then clear_socket(set.socket) end
  self.http = http.serve { host = not set.socket and set.host or nil, port = not set.socket and set.port or nil,
    path = set.socket, limits = LIMITS, is_detached = true, makes_room = true,
    handler = function(request, response) handle(self, request, response) end }
  self.host, self.port, self.path = self.http.host, self.http.port, set.socket
end

--- Serves until it is closed. The task that has begun to serve may end before that.
---@param given table  see `M.rules`; `backend`: the options of `parley.backend`; `tokens`: `{name, token}`, in a list;
---       `is_agent`: with Claude Code's own tools, in the folder `backend.cwd`; `plain_folder`: another than the
---       plain model's own; `hosts`: names that `Host` may have;
---       `log(line)` gets a line for each request
---@return parley.gateway.Server
--- Raises `ValueError`, and what the system says when it cannot listen.
function M.serve(given)
  local set = options.check(M.rules, given, "parley.gateway.serve")
  if not set.tokens or not set.tokens[1] then
    error(errors.value_error "parley.gateway.serve: option 'tokens' must have at least one", 0)
  end
  local self = setmetatable({ set = set, metrics = metrics.new(), body_bytes = set.body_bytes,
    tokens = tokens.new(set.tokens) }, Server)
  local _ <close> = defer(function(err)
    if err ~= nil then self:close() end
  end)
  make_backend(self, set)
  start_keeper(self)
  self.desk = desks.new { backend = self.backend, group = self.group, metrics = self.metrics,
    max_sessions = set.max_sessions, queue = set.queue, tool_wait_ms = set.tool_wait_ms, grace_ms = set.grace_ms,
    is_strict = set.is_strict, plain_folder = self.plain_folder,
    say = set.log and function(text) set.log(("parley serve: %s\n"):format(text)) end }
  self.window = windows.new { backend = self.backend, group = self.group }
  listen(self, set)
  return self
end

--- Takes in no new turn, and waits for those that run.
---@param milliseconds number  at most so long
---@return boolean done  false when something still runs
function Server:drain(milliseconds) return self.desk:drain(milliseconds) end

local function end_all(self)
  if self.http then self.http:close() end
  if self.backend then self.backend:close() end
  if self.own_index then self.own_index:close() end
end

--- Ends every turn and session, and stops listening. Further calls do nothing.
function Server:close()
  if self.is_closed then return end
  self.is_closed = true
  if self.keeper then self.keeper:cancel "the server was closed" end
  task.wherever(function()
    if self.keeper then pcall(self.keeper.await, self.keeper) end
    end_all(self)
  end, function() end_all(self) end)
end

Server.__close = Server.close

function Server:__tostring() return ("%s (%s)"):format(Server.__name, self.http:place()) end

return M
