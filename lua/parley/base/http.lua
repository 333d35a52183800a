--- An HTTP/1.1 server on the loop of the script.
---
---     local server <close> = http.serve { port = 8080, handler = function(request, response)
---       response:send(200, { ["content-type"] = "text/plain" }, "hello\n")
---     end }
---
--- A handler runs as a task: it may wait, spawn tasks of its own, hold `<close>` variables. When its client goes away
--- it is cancelled. One that fails is answered with 500 and told to `on_error`; the server goes on.
local clock = require "parley.base.clock"
local connections = require "parley.base.http.connection"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local options = require "parley.base.options"
local requests = require "parley.base.http.request"
local task = require "parley.base.task"
local uv = require "luv"

local M = { unescape = requests.unescape }

local BACKLOG = 511
local REFUSED_AT_ONCE = 64 -- so many at a time are told why
local SWEEP_MS = 1000      -- how late a deadline may be seen, at most

local function port_number(value)
  if value < 0 or value > 65535 then return "a port" end
end

--- Of a longer one libuv 1.44 binds the beginning.
local LONGEST_PATH = 107

local function socket_path(value)
  if #value > LONGEST_PATH then return ("the path of a socket, at most %d bytes"):format(LONGEST_PATH) end
end

--- What libuv takes for one; of IPv4 the system knows shorter forms, too.
local function address(value)
  local found = uv.getaddrinfo(value, nil, { numerichost = true })
  if not found or not value:find ":" and found[1].addr ~= value then return "an address, as 127.0.0.1 or ::1" end
end

local function some_time(value)
  if value == 0 then return "more than 0" end
end

M.rules = {
  handler = { type = "callable", copy = false },
  host = { type = "string", default = "127.0.0.1", check = address },
  port = { type = "integer", default = 0, check = port_number }, path = { type = "string", check = socket_path },
  on_error = { type = "callable", copy = false }, limits = { type = "table", default = {} },
  is_detached = { type = "boolean", default = false }, makes_room = { type = "boolean", default = false },
}
M.limits = {
  head_bytes = { type = "positive integer", default = 16 * 1024 },
  headers = { type = "positive integer", default = 100 },
  body_bytes = { type = "positive integer", default = 16 * 1024 * 1024 },
  head_ms = { type = "milliseconds", default = 10000, check = some_time },
  idle_ms = { type = "milliseconds", default = 60000, check = some_time },
  connections = { type = "positive integer", default = 4096 },
}

---@class parley.http.Limits
---@field head_bytes? integer   of a request's head, default 16 kB; beyond: 431
---@field headers? integer      in it, default 100; beyond: 431
---@field body_bytes? integer   default 16 MB; beyond: 413
---@field head_ms? number       for a head to be whole, default 10 s; beyond: 408
---@field idle_ms? number       without a byte of a body or of the next request, or read of an answer, default 60 s
---@field connections? integer  at a time, default 4096; beyond: 503

---@class parley.http.ServeOptions
---@field handler fun(request: parley.http.Request, response: parley.http.Response)
---@field host? string           an address, default 127.0.0.1
---@field port? integer          default 0, a free one
---@field path? string           a unix socket instead, for this user alone, at most 107 bytes; removed at the end
---@field limits? parley.http.Limits
---@field on_error? fun(err: any, request: parley.http.Request, traceback?: string)  default: to standard error
---@field is_detached? boolean  it outlives the task that has begun to serve
---@field makes_room? boolean   where connections are too many, one that waits for a request goes for the new one

---@class parley.http.Server
---@field port? integer
---@field host? string
---@field path? string
---@field package scope parley.Task  the parent of all handlers
local Server = {}
Server.__index = Server
Server.__name = "parley.http.Server"

local function report(err, request, traceback)
  io.stderr:write(("parley.http: %s %s: %s\n%s\n"):format(request.method, request.target, errors.text(err),
    traceback or ""))
end

--- Hands a request to a handler, in a task of its own.
---@package
function Server:handle(connection, request, response)
  table.insert(self.waiting, { connection, request, response })
  self.news:notify()
end

---@package
function Server:forget(connection)
  if not self.connections[connection] then return end
  self.connections[connection] = nil
  self.count = self.count - 1
end

--- Answers for a handler that has failed, as far as that can be done.
local function answer_failure(server, connection, request, response, err)
  if errors.is(err, "Cancelled") then return connection:close() end
  local status = err == request.failure and err.status or errors.is(err, "EFBIG") and err.status
  if not status then server.on_error(err, request, task.traceback(err)) end
  if response.state ~= "new" then
    if not connection.is_answered then connection:cut() end
  elseif not connection.is_closed then
    if status then connection:close_after() end
    response:send(status or 500, { ["content-type"] = "text/plain" }, (status and err.message or "it failed") .. "\n")
  end
end

--- Runs a handler to its end, and what it left open.
local function run_handler(server, request, response)
  server.handler(request, response)
  if response.state == "new" then
    error(errors.value_error(("the handler gave no answer to %s %s"):format(request.method, request.target)), 0)
  end
end

local function serve_one(server, connection, request, response)
  if connection.is_closed then return end
  local handler = task.spawn(run_handler, server, request, response)
  connection.handler = handler
  local ok, err = pcall(handler.await, handler)
  connection.handler = nil
  if ok and response.state == "open" then ok, err = pcall(response.finish, response) end
  if not ok then answer_failure(server, connection, request, response, err) end
  connection:release()
end

--- Looks after time: one timer for all, and none while nobody is connected.
local function keep_time(server)
  local limits = server.limits
  local pause = math.max(5, math.min(SWEEP_MS, limits.head_ms / 4, limits.idle_ms / 4))
  while true do
    server.arrival:wait_until(function() return next(server.connections) or next(server.refused) end)
    task.sleep(pause)
    local now = clock.now()
    for _, set in ipairs { server.connections, server.refused } do
      local all = {}
      for connection in pairs(set) do table.insert(all, connection) end
      for _, connection in ipairs(all) do connection:check_time(now) end
    end
  end
end

local function close_all(server)
  if not server.socket:is_closing() then server.socket:close() end
  for _, set in ipairs { server.connections, server.refused } do
    local all = {}
    for connection in pairs(set) do table.insert(all, connection) end
    for _, connection in ipairs(all) do connection:close() end
  end
end

--- The task that all others of a server are children of.
local function supervise(server)
  local _ <close> = defer(function() close_all(server) end)
  task.spawn(keep_time, server)
  server.news:notify()
  while true do
    local waiting = server.waiting
    server.waiting = {}
    for _, each in ipairs(waiting) do task.spawn(serve_one, server, table.unpack(each)) end
    if not server.waiting[1] then server.news:wait() end
  end
end

--- Those that were refused count for themselves, so that they keep no place.
local function refuse(server, socket)
  local crowd = server.crowd
  if crowd.count >= REFUSED_AT_ONCE then return socket:close() end
  crowd.count = crowd.count + 1
  crowd.connections[connections.refuse(crowd, socket, 503, "too many connections")] = true
end

--- Ends the connection whose request has the least time left to come.
local function make_room(server)
  local first, due = nil, math.huge
  for connection in pairs(server.connections) do
    local instant = connection:spare_until()
    if instant and instant < due then first, due = connection, instant end
  end
  if first then first:close() end
end

local function accept(server)
  local socket = server.is_tcp and uv.new_tcp() or uv.new_pipe(false)
  if not server.socket:accept(socket) then return socket:close() end
  if server.is_tcp then socket:nodelay(true) end
  if server.makes_room and server.count >= server.limits.connections then make_room(server) end
  if server.count >= server.limits.connections then
    refuse(server, socket)
  else
    server.count = server.count + 1
    server.connections[connections.new(server, socket)] = true
  end
  server.arrival:notify()
end

--- How a listener is called: an address with colons has brackets.
local function place_of(at) return at.path or (at.host:find ":" and "[%s]:%d" or "%s:%d"):format(at.host, at.port) end

local function listen(server, given)
  local socket = given.path and uv.new_pipe(false) or uv.new_tcp()
  local ok, message, code
  if given.path then
    ok, message, code = socket:bind(given.path)
    if ok then ok, message, code = uv.fs_chmod(given.path, tonumber("600", 8)) end
  else
    ok, message, code = socket:bind(given.host, given.port)
  end
  if ok then
    ok, message, code = socket:listen(BACKLOG, function(err)
      if not err and not socket:is_closing() then accept(server) end
    end)
  end
  if not ok then
    socket:close()
    error(errors.new(code, ("cannot listen on %s: %s"):format(place_of(given), message)), 0)
  end
  server.socket = socket
end

--- Serves until it is closed. A task that has begun to serve ends after that.
---@param given parley.http.ServeOptions
---@return parley.http.Server
--- Raises `ValueError` for bad options, and an error object with the system's code when it cannot listen: `EADDRINUSE`.
function M.serve(given)
  given = options.check(M.rules, given, "parley.http.serve")
  local limits = options.check(M.limits, given.limits, "parley.http.serve: limits")
  if not given.handler then
    error(errors.value_error("parley.http.serve: option 'handler' must be a function, not nothing",
      { option = "handler" }), 0)
  end
  local server = setmetatable({
    is_tcp = not given.path, path = given.path, limits = limits, makes_room = given.makes_room, handler = given.handler,
    on_error = given.on_error or report, connections = {}, count = 0, waiting = {}, news = task.condition(),
    arrival = task.condition(),
  }, Server)
  server.crowd = { limits = limits, is_tcp = server.is_tcp, connections = {}, count = 0, forget = Server.forget }
  server.refused = server.crowd.connections
  listen(server, given)
  if server.is_tcp then
    local name = server.socket:getsockname()
    server.host, server.port = name.ip, name.port
  end
  local ok, err = pcall(function()
    local is_child = task.current() ~= nil and not given.is_detached
    server.scope = (is_child and task.spawn or task.new_root)(supervise, server)
    -- A task that is cancelled before it runs would close nothing.
    if task.may_wait() and not given.is_detached then server.news:wait() end
  end)
  if not ok then
    close_all(server)
    error(err, 0)
  end
  return server
end

--- Whether the caller is a handler of this server, which cannot wait for its own end.
local function is_inside(server)
  local one = task.current()
  while one and one ~= server.scope do one = one.parent end
  return one ~= nil
end

--- Stops listening, cancels the handlers, ends every connection, and waits for all of that. In a handler of its own it
--- does not wait. Further calls do nothing.
function Server:close()
  self.scope:cancel "the server was closed"
  if not is_inside(self) then
    task.wherever(function() pcall(self.scope.await, self.scope) end, function() end)
  end
  close_all(self)
end

Server.__close = Server.close

--- Where it listens: the path of its socket, or address and port.
---@return string
function Server:place() return place_of(self) end

function Server:__tostring() return ("%s (%s)"):format(Server.__name, self:place()) end

return M
