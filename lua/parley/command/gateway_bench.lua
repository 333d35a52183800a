--- What the gateway costs: beside the same turn without it, for a stream's first text, in requests, in memory.
local clock = require "parley.base.clock"
local backends = require "parley.backend"
local core = require "parley.core"
local defer = require "parley.base.defer"
local files = require "parley.base.files"
local task = require "parley.base.task"
local uv = require "luv"

local M = {}

local TOKEN = "bench-token-0123456789"

-- A client that keeps its connection ----------------------------------------------------------------------------------

local Client = {}
Client.__index = Client

local function connect(port)
  local self = setmetatable({ socket = uv.new_tcp(), text = "", news = task.condition() }, Client)
  local problem = task.suspend(function(wake) self.socket:connect("127.0.0.1", port, wake) end)
  assert(not problem, problem)
  self.socket:read_start(function(_, bytes)
    self.text = self.text .. (bytes or "")
    self.has_ended = not bytes
    self.news:notify()
  end)
  return self
end

function Client:close() self.socket:close() end
Client.__close = Client.close

--- Waits until what has come has a pattern, and gives what stands up to its end.
local function expect(self, pattern)
  self.news:wait_until(function() return self.text:find(pattern) or self.has_ended end)
  local _, last = self.text:find(pattern)
  assert(last, "the server has ended the connection")
  return last
end

--- Sends a request; what comes back is left in `text`.
local function send(self, method, path, body)
  self.text = ""
  self.socket:write(("%s %s HTTP/1.1\r\nhost: localhost\r\nx-api-key: %s\r\ncontent-length: %d\r\n\r\n%s"):format(
    method, path, TOKEN, #(body or ""), body or ""))
end

--- Sends a request and waits for its whole answer.
local function ask(self, method, path, body)
  send(self, method, path, body)
  local head = expect(self, "\r\n\r\n")
  local length = tonumber(self.text:match "content%-length: (%d+)")
  self.news:wait_until(function() return #self.text >= head + length end)
  return self.text:sub(head + 1)
end

local function body_of(messages, stream)
  return assert(core.json.encode { model = "sonnet", max_tokens = 1000, stream = stream, messages = messages })
end

-- The server, as a program of its own ---------------------------------------------------------------------------------

local function start(options, folder)
  local words = { "serve", "--port", "0", "--executable", options.executable, "--max-sessions", "4", "--queue", "100" }
  local errors, news, text = uv.new_pipe(false), task.condition(), ""
  local environment = { "XDG_STATE_HOME=" .. folder, "PARLEY_TOKEN=" .. TOKEN, "PATH=" .. os.getenv "PATH" }
  for name, value in pairs(options.extra_env) do table.insert(environment, name .. "=" .. value) end
  local server = { exited = task.condition() }
  server.handle, server.pid = uv.spawn(uv.exepath(), { args = words, stdio = { nil, nil, errors }, env = environment },
    function()
      server.is_over = true
      server.exited:notify()
    end)
  errors:read_start(function(_, bytes)
    text = text .. (bytes or "")
    news:notify()
  end)
  news:wait_until(function() return text:find "listening on [^\n]+\n" end, 20000)
  server.port = assert(tonumber(text:match "listening on http://[%d.]+:(%d+)"), text)
  return setmetatable(server, { __close = function()
    task.shield(function()
      server.handle:kill "sigterm"
      server.exited:wait_until(function() return server.is_over end)
    end)
    server.handle:close()
    errors:close()
  end })
end

local function memory_of(pid)
  return tonumber((files.read(("/proc/%d/status"):format(pid)) or ""):match "VmRSS:%s+(%d+)") or 0
end

-- Figures -------------------------------------------------------------------------------------------------------------

--- Turns of one conversation: from the request to its whole answer, and to its first text.
local function turns(port, count)
  local client <close>, messages = connect(port), {}
  local whole, first = {}, {}
  for i = 0, count do
    table.insert(messages, { role = "user", content = "turn " .. i })
    local began = clock.now()
    local answer = assert(core.json.decode(ask(client, "POST", "/v1/messages", body_of(messages))))
    if i > 0 then table.insert(whole, clock.now() - began) end
    table.insert(messages, { role = "assistant", content = answer.content })
  end
  for i = 1, count do
    table.insert(messages, { role = "user", content = "streamed " .. i })
    local began = clock.now()
    send(client, "POST", "/v1/messages", body_of(messages, true))
    expect(client, "text_delta")
    table.insert(first, clock.now() - began)
    expect(client, "\r\n0\r\n\r\n")
    table.insert(messages, { role = "assistant", content = "echo: streamed " .. i })
  end
  return whole, first
end

--- The same turns without a gateway.
local function own_turns(options, count)
  local backend <close> = backends.new(options)
  local talk, values = backend:conversation(), {}
  for i = 0, count do
    local began = clock.now()
    talk:ask("turn " .. i)
    if i > 0 then table.insert(values, clock.now() - began) end
  end
  return values
end

--- How many requests a second so many clients get answered.
local function rate(port, clients, each, work)
  local began, running = clock.now(), {}
  for number = 1, clients do
    running[number] = task.spawn(function()
      local client <close> = connect(port)
      for i = 1, each do work(client, number, i) end
    end)
  end
  for _, one in ipairs(running) do one:await() end
  return clients * each / (clock.now() - began) * 1000
end

local function talk_turn(talks)
  return function(client, number, i)
    local messages = talks[number] or {}
    talks[number] = messages
    table.insert(messages, { role = "user", content = ("client %d, turn %d"):format(number, i) })
    local answer = assert(core.json.decode(ask(client, "POST", "/v1/messages", body_of(messages))))
    table.insert(messages, { role = "assistant", content = answer.content })
  end
end

--- Connections that do nothing: what each takes, and what another's request takes beside them.
local function idle(server, count, say)
  local clients, before = {}, memory_of(server.pid)
  local _ <close> = defer(function()
    for _, client in ipairs(clients) do client:close() end
  end)
  for i = 1, count do
    clients[i] = connect(server.port)
    ask(clients[i], "GET", "/healthz")
  end
  say(("gateway: memory a connection, of %d idle ones"):format(count),
    ("%8.1f kB"):format((memory_of(server.pid) - before) / count))
  local values, client <close> = {}, connect(server.port)
  for i = 1, 200 do
    local began = clock.now()
    ask(client, "GET", "/healthz")
    values[i] = clock.now() - began
  end
  return values
end

--- Measures a gateway on a stand-in.
---@param options table  of a kit
---@param report fun(what: string, values: number[], unit: string)
---@param say fun(what: string, figure: string)
function M.run(options, report, say)
  local folder = files.temporary_folder "parley-bench"
  local _ <close> = defer(function() files.remove_tree(folder) end)
  report("gateway: the same turns without it", own_turns(options, 30), "ms")
  local server <close> = start(options, folder)
  local whole, first = turns(server.port, 30)
  report("gateway: a turn, from the request to its answer", whole, "ms")
  report("gateway: from the request to the first streamed text", first, "ms")
  say("gateway: requests a second, GET /healthz, 8 clients", ("%8.0f"):format(rate(server.port, 8, 1000,
    function(client) ask(client, "GET", "/healthz") end)))
  say("gateway: turns a second, 4 sessions", ("%8.1f"):format(rate(server.port, 4, 20, talk_turn {})))
  report("gateway: GET /healthz beside 1,000 idle connections", idle(server, 1000, say), "ms")
end

return M
