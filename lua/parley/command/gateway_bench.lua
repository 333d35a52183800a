--- What the gateway costs: beside the same turn without it, for a stream's first text, in requests, in memory.
local clock = require "parley.base.clock"
local backends = require "parley.backend"
local clients = require "parley.command.bench_client"
local core = require "parley.core"
local defer = require "parley.base.defer"
local files = require "parley.base.files"
local gateway = require "parley.gateway"
local task = require "parley.base.task"
local uv = require "luv"

local M = {}

local connect, ask, send, expect = clients.connect, clients.ask, clients.send, clients.expect

local function body_of(messages, stream)
  return assert(core.json.encode { model = "sonnet", max_tokens = 1000, stream = stream, messages = messages })
end

-- The server, as a program of its own ---------------------------------------------------------------------------------

local function start(options, folder)
  local words = { "serve", "--port", "0", "--executable", options.executable, "--max-sessions", "4", "--queue", "100" }
  local errors, news, text = uv.new_pipe(false), task.condition(), ""
  local environment = { "XDG_STATE_HOME=" .. folder, "PARLEY_TOKEN=" .. clients.TOKEN, "PATH=" .. os.getenv "PATH" }
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
local function rate(port, count, each, work)
  local began, running = clock.now(), {}
  for number = 1, count do
    running[number] = task.spawn(function()
      local client <close> = connect(port)
      for i = 1, each do work(client, number, i) end
    end)
  end
  for _, one in ipairs(running) do one:await() end
  return count * each / (clock.now() - began) * 1000
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
  local before = memory_of(server.pid)
  local idling <close> = clients.many(server.port, count, function(client) ask(client, "GET", "/healthz") end)
  assert(#idling == count)
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

-- Who looks in --------------------------------------------------------------------------------------------------------

local VIEWERS = 10

--- The turns of a new conversation, with those who look on.
local function watched_turns(port, count, look)
  local client <close>, messages, values = connect(port), {}, {}
  local viewers
  for i = 0, count do
    table.insert(messages, { role = "user", content = ("watched by %s, turn %d"):format(tostring(look), i) })
    local began = clock.now()
    local answer = assert(core.json.decode(ask(client, "POST", "/v1/messages", body_of(messages))))
    if i > 0 then table.insert(values, clock.now() - began) end
    table.insert(messages, { role = "assistant", content = answer.content })
    if i == 0 and look then
      local lines = assert(core.json.decode(ask(client, "GET", "/sessions")))
      viewers = look(lines[#lines].id)
    end
  end
  if viewers then viewers.__close(viewers) end
  return values
end

--- Opens streams of a session.
local function open_viewers(port, id, count, also)
  return clients.many(port, count, function(client)
    send(client, "GET", ("/sessions/%s/stream"):format(id))
    expect(client, "event: snapshot.-\n\n")
    if also then also(client) end
  end)
end

--- From the host's reading of what a program has written until a viewer's connection has it.
local function latency(options, folder, count)
  local server <close> = gateway.serve { backend = options, tokens = { { name = "bench", token = clients.TOKEN } },
    plain_folder = folder .. "/plain" }
  local client <close>, messages = connect(server.port), {}
  local function turn(text)
    table.insert(messages, { role = "user", content = text })
    local answer = assert(core.json.decode(ask(client, "POST", "/v1/messages", body_of(messages))))
    table.insert(messages, { role = "assistant", content = answer.content })
  end
  turn "first"
  local id, process = next(server.backend:live_sessions())
  local viewer <close> = connect(server.port)
  local written, values = {}, {}
  send(viewer, "GET", ("/sessions/%s/stream"):format(id))
  expect(viewer, "event: snapshot.-\n\n")
  local stop = process:watch(function(_, received) written[received or 0] = clock.now() end)
  viewer.on_bytes = function(bytes)
    for to in bytes:gmatch "\nid: (%d+)\n" do
      local began = written[math.tointeger(tonumber(to))]
      if began then table.insert(values, clock.now() - began) end
    end
  end
  for i = 1, count do turn("next " .. i) end
  stop()
  return values
end

local function window(server, options, folder, report, say)
  local count = 30
  local alone = watched_turns(server.port, count)
  local watched = watched_turns(server.port, count, function(id) return open_viewers(server.port, id, VIEWERS) end)
  local stuck = watched_turns(server.port, count, function(id)
    return open_viewers(server.port, id, VIEWERS, function(client) client.socket:read_stop() end)
  end)
  report("window: a turn that nobody watches", alone, "ms")
  report(("window: a turn that %d watch"):format(VIEWERS), watched, "ms")
  report(("window: a turn that %d watch who read nothing"):format(VIEWERS), stuck, "ms")
  local function ratio(values) return values[(#values + 1) // 2] / alone[(#alone + 1) // 2] end
  say("window:   as many times as long as unwatched", ("%8.2f, %.2f"):format(ratio(watched), ratio(stuck)))
  local client <close> = connect(server.port)
  local lines = assert(core.json.decode(ask(client, "GET", "/sessions")))
  local before = memory_of(server.pid)
  local viewers <close> = open_viewers(server.port, lines[1].id, 100)
  say(("window: memory a viewer, of %d"):format(#viewers), ("%8.1f kB"):format((memory_of(server.pid) - before)
    / #viewers))
  report("window: from the program's output to a viewer", latency(options, folder, 20), "ms")
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
  window(server, options, folder, report, say)
end

return M
