--- What the programs of a world call on this host, and what comes of it: the hub's listener without a network. A call
--- may be late, its answer too, and its connection may break in the middle; calls may overtake each other.
local clock = require "parley.base.clock"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

---@class parley.testing.WorldCalls
---@field package world parley.testing.World
---@field package servers table<integer, {handler: function, running: table<table, true>}>  by their ports
---@field package last_port integer
local Calls = {}
Calls.__index = Calls

---@param world parley.testing.World
---@return parley.testing.WorldCalls
function M.new(world) return setmetatable({ world = world, servers = {}, last_port = 1024 }, Calls) end

local function cancel(call)
  if not call.handler:is_done() then call.handler:cancel "its client has gone" end
end

--- For `listener.use`: what `parley.http.serve` is outside.
---@param given {handler: fun(request: table, response: table)}
---@return {port: integer, close: fun()}
function Calls:serve(given)
  self.last_port = self.last_port + 1
  local port, own = self.last_port, { handler = given.handler, running = {} }
  self.servers[port] = own
  self.world:opened(own, "a listener")
  return { port = port, close = function()
    if self.servers[port] ~= own then return end
    self.servers[port] = nil
    self.world:closed(own)
    for call in pairs(own.running) do cancel(call) end
  end }
end

local function begin(program, server, port, given)
  local call = { program = program, news = task.condition() }
  local request = { method = given.method or "POST", path = given.url:match "^http://[^/]+(.*)$",
    headers = { host = "127.0.0.1:" .. port }, body = function() return given.body or "" end }
  local response = { send = function(_, status, headers, body)
    call.answer = { status = status, headers = headers or {}, body = body or "" }
  end }
  server.running[call] = true
  call.handler = task.new_root(function()
    local _ <close> = defer(function()
      server.running[call] = nil
      call.is_over = true
      call.news:notify()
    end)
    local ok, err = pcall(server.handler, request, response)
    if not ok and not errors.is(err, "Cancelled") then call.answer = { status = 500, headers = {}, body = "" } end
  end)
  return call
end

--- Asks a server of this host, as a task of a program.
---@param program parley.testing.WorldProgram
---@param given parley.testing.HttpRequest
---@return parley.testing.HttpAnswer
--- Raises an error object: `ECONNREFUSED`, `EPROTO` where the connection has broken, `ETIMEDOUT`.
function Calls:request(program, given)
  local world = self.world
  task.sleep(world:lateness())
  local port = math.tointeger(tonumber(given.url:match "^http://127%.0%.0%.1:(%d+)/"))
  local server = self.servers[port]
  if not server then error(errors.new("ECONNREFUSED", "nothing listens at " .. given.url), 0) end
  local call = begin(program, server, port, given)
  local _ <close> = defer(function()
    if not call.is_over then world:after(world:lateness(), function() cancel(call) end) end
  end)
  if world:goes_wrong "broken" then
    world:tell(program, "breaks a call off", given.url:match "[^/]*$")
    task.sleep(world:lateness())
    error(errors.new("EPROTO", "the connection broke"), 0)
  end
  local deadline = clock.now() + (given.idle_ms or math.huge)
  while not call.is_over do
    if not call.news:wait(math.max(0, deadline - clock.now())) then
      error(errors.new("ETIMEDOUT", "no answer came"), 0)
    end
  end
  task.sleep(world:lateness())
  return call.answer or error(errors.new("EPROTO", "the connection ended before the answer was whole"), 0)
end

--- A program has ended, and with it its connections.
---@param program parley.testing.WorldProgram
function Calls:forget(program)
  for _, server in pairs(self.servers) do
    for call in pairs(server.running) do
      if call.program == program then cancel(call) end
    end
  end
end

return M
