-- Prints timings: start-up, fingerprints, JSON, the index, and what Parley adds to a turn.
-- That is what a turn costs beyond the program's own way, and what it costs to have the program call.
local parley = require "parley"
local cli = require "parley.command.cli"
local clock = require "parley.base.clock"
local core = require "parley.core"
local files = require "parley.base.files"
local gateway_bench = require "parley.command.gateway_bench"
local index = require "parley.sleep.index"
local memory_bench = require "parley.command.memory_bench"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local testing = require "parley.testing"
local uv = require "luv"

local function median(values)
  table.sort(values)
  return values[(#values + 1) // 2]
end

local function report(what, values, unit)
  local middle = median(values)
  local late = #values >= 200 and ("p99 %.2f, "):format(values[math.ceil(#values * 0.99)]) or ""
  cli.write(("%-58s median %8.2f %s  (min %.2f, %smax %.2f, n %d)\n"):format(what, middle, unit, values[1], late,
    values[#values], #values))
end

local function say(what, figure) cli.write(("%-58s        %s\n"):format(what, figure)) end

local function timed(count, fn)
  local values = {}
  for i = 1, count do
    local began = clock.now()
    fn()
    values[i] = clock.now() - began
  end
  return values
end

local function start_up()
  report("start-up of an empty script", timed(20, function()
    parley.task.suspend(function(wake)
      local child
      child = uv.spawn(uv.exepath(), { args = { "-e", "" } }, function()
        child:close()
        wake()
      end)
    end)
  end), "ms")
end

local function history_of(megabytes, size)
  local messages, text = {}, ("All work and no play makes Jack a dull boy. "):rep(size // 44)
  while #messages * #text < megabytes * 1e6 do
    local i = #messages + 1
    messages[i] = { role = i % 2 == 1 and "user" or "assistant", content = text .. i }
  end
  return messages
end

local function fingerprints()
  local ROUNDS, histories = 15, {}
  for i = 1, ROUNDS do histories[i] = history_of(10, 2000) end -- each is new to it once
  collectgarbage()
  report("fingerprint of 10 MB in messages of 2 kB", timed(ROUNDS, function()
    parley.hash_history(table.remove(histories))
  end), "ms")
  local messages = history_of(10, 2000)
  parley.hash_history(messages)
  report("the same again, one message more", timed(20, function()
    table.insert(messages, { role = "user", content = "next" })
    parley.hash_history(messages)
  end), "ms")
end

local function json()
  local messages = history_of(10, 2000)
  local text = assert(parley.json.encode(messages))
  report("JSON, 10 MB: decode", timed(5, function() assert(parley.json.decode(text)) end), "ms")
  report("JSON, 10 MB: encode", timed(5, function() assert(parley.json.encode(messages)) end), "ms")
end

local SLEEPERS = 100000

local function key_of(number) return ("%064x"):format(number) end

--- As many sessions as nobody has the time to put one by one.
local function fill(path)
  local file <close> = assert(core.sqlite.open(path))
  assert(file:script(([[
    BEGIN;
    WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < %d)
    INSERT INTO sessions SELECT i, printf('00000000-0000-4000-8000-%%012d', i), 'scope', '/transcripts/' || i,
      40000 + i, '0123456789abcdef0123456789abcdef', '/home/somebody/src/thing',
      '{"model":"haiku","permission_mode":"default"}', '["--model","haiku","--permission-mode","default"]',
      '["HOME","PATH","TERM"]', 'haiku', 3, 12345, 0.25, 1700000000000 + i, 1700000000000 + i, 'asleep',
      1700000000000 + i FROM number;
    INSERT INTO keys SELECT printf('%%064x', id), id FROM sessions;
    COMMIT;
    PRAGMA wal_checkpoint(TRUNCATE)]]):format(SLEEPERS)))
end

local function memory_of_host(path)
  local command = ([[exec '%s' -e '
    local store = assert(require("parley.sleep.index").open { path = "%s" })
    for i = 1, 1000 do store:find(("%%064x"):format(i * 100), "scope") end
    print(require("luv").resident_set_memory())']]):format(uv.exepath(), path)
  local pipe <close> = assert(io.popen(command))
  return tonumber(pipe:read "a") / 1e6
end

local function index_of_conversations()
  local folder = files.temporary_folder "parley-bench"
  local path = folder .. "/sessions.db"
  for _, durability in ipairs { "process", "power" } do
    local store <close> = assert(index.open { path = path, durability = durability })
    if durability == "process" then
      assert(store:put { session_id = "first", keys = {}, scope = "scope", path = "/t", state = "asleep" }) -- makes it
      assert(store:forget "first")
      fill(path)
      report(("index of %d conversations: look-up by fingerprint"):format(SLEEPERS), timed(2000, function()
        assert(#store:find(key_of(math.random(SLEEPERS)), "scope") <= 1)
      end), "ms")
    end
    local function put(lease)
      local entry = lease and lease.entry or store:find(key_of(math.random(SLEEPERS)), "scope")[1]
      if not entry then return nil end
      entry.keys, entry.turns = { key_of(SLEEPERS + math.random(1 << 40)) }, entry.turns + 1
      return entry
    end
    local entries = {}
    while #entries < 1000 do table.insert(entries, put()) end
    report(("  a turn is stored, durability '%s'"):format(durability), timed(1000, function()
      assert(store:put(table.remove(entries)))
    end), "ms")
    report(("  a session is leased and given back, '%s'"):format(durability), timed(200, function()
      local lease = assert(store:lease(("00000000-0000-4000-8000-%012d"):format(math.random(SLEEPERS))))
      assert(lease:release(put(lease)))
    end), "ms")
  end
  report("  memory of a host that has it open", { memory_of_host(path) }, "MB")
  files.remove_tree(folder)
end

--- The transcript's last line, as the kernel saw it arrive: when the program had done its part.
local function arrival_of_last_line(path)
  local stat = uv.fs_stat(path)
  return stat.mtime.sec * 1e3 + stat.mtime.nsec / 1e6
end

--- Warm turns on one session: from `complete` to its result, and from Enter to the last line of the transcript.
local function turns(name, options, count)
  local backend <close> = parley.backend(options)
  local talk = backend:conversation()
  local whole, own, over, typing = {}, {}, {}, {}
  for i = 0, count do
    local began = clock.wall()
    local result = talk:send("turn " .. i):result()
    local ended = clock.wall()
    if i > 0 then -- the first turn starts the program
      local arrived = arrival_of_last_line(parley.resolve_jsonl_path(result.session_id, options.cwd, options.extra_env))
      local entered = began + (result.typing_ms or 0)
      table.insert(whole, ended - began)
      table.insert(own, arrived - entered)
      table.insert(over, (ended - began) - (arrived - entered))
      table.insert(typing, result.typing_ms or 0)
    end
  end
  report(name .. ": warm turn, complete to result", whole, "ms")
  report(name .. ": the program's own way, Enter to its last line", own, "ms")
  report(name .. ": what Parley adds", over, "ms")
  report(name .. ":   of that, typing until the composer shows the message", typing, "ms")
end

--- From spawn to the accepted message, beside the time at which the program was ready.
local function starts(name, options, count)
  local ready, entered, accepted = {}, {}, {}
  for i = 1, count do
    local began = parley.task.now()
    local session <close> = parley.session(options)
    session:start()
    ready[i] = parley.task.now() - began
    local sent = parley.task.now()
    for event in session:send "hello" do
      if event.type == "user" then accepted[i] = parley.task.now() - sent end
      if event.type == "result" then entered[i] = event.typing_ms end
    end
  end
  report(name .. ": from spawn until it is ready", ready, "ms")
  report(name .. ": from ready until Enter is pressed", entered, "ms")
  report(name .. ": from ready until the transcript has the message", accepted, "ms")
end

--- From `complete` to the message in the transcript, of a program that is started for it.
local function first_messages(name, options, count)
  local accepted = { typed = {}, argument = {} }
  for _ = 1, count do
    for how, values in pairs(accepted) do
      local set = { first_message = how }
      for key, value in pairs(options) do set[key] = value end
      local backend <close> = parley.backend(set)
      local began = clock.now()
      for event in backend:complete { { role = "user", content = "hello there" } } do
        if event.type == "user" then table.insert(values, clock.now() - began) end
      end
    end
  end
  for _, how in ipairs { "typed", "argument" } do
    report(("%s: from complete to its first message, %s"):format(name, how), accepted[how], "ms")
  end
end

--- From `complete` to the message in the transcript: of a program that is started for it, and of one that is woken.
local function waking(name, options, count)
  local fresh, woken = {}, {}
  local function accepted(backend, messages, values)
    local began = clock.now()
    local turn = backend:complete(messages)
    for event in turn:events() do
      if event.type == "user" then table.insert(values, clock.now() - began) end
    end
    return turn
  end
  for i = 1, count do
    local messages = { { role = "user", content = "hello " .. i } }
    do
      local backend <close> = parley.backend(options)
      for _, message in ipairs(accepted(backend, messages, fresh):messages()) do table.insert(messages, message) end
    end
    table.insert(messages, { role = "user", content = "are you awake?" })
    local backend <close> = parley.backend(options)
    assert(accepted(backend, messages, woken):result().num_turns == 2, "it was not woken")
  end
  report(name .. ": from complete to the accepted message, a fresh start", fresh, "ms")
  report(name .. ": the same, of a conversation that slept", woken, "ms")
end

--- Whether so many sessions live and are ready.
local function are_ready(backend, count)
  for _, state in pairs(backend:session_states()) do
    if state ~= "ready" then return false end
  end
  return backend:live_session_count() == count
end

--- The first answer of a new conversation that takes a spare session, beside the program's own one-shot way.
local function spares(name, options, count)
  local own, spare, direct = parley.build_env(options), {}, {}
  local set = { spares = 1 }
  for key, value in pairs(options) do set[key] = value end
  local backend <close> = parley.backend(set)
  for i = 1, count do
    testing.eventually(function() return are_ready(backend, i) end, 60000, "a spare session")
    local began = clock.now()
    backend:complete({ { role = "user", content = "hello " .. i } }):result()
    table.insert(spare, clock.now() - began)
    local environment = {}
    for key, value in pairs(own) do table.insert(environment, key .. "=" .. value) end
    began = clock.now()
    parley.task.suspend(function(wake)
      local child
      child = assert(uv.spawn(options.executable, { args = { "-p", "hello" }, env = environment, cwd = options.cwd,
        stdio = {} }, function()
        child:close()
        wake()
      end))
    end)
    table.insert(direct, clock.now() - began)
  end
  report(name .. ": first answer of a new conversation, with a spare", spare, "ms")
  report(name .. ": the same by `claude -p`", direct, "ms")
end

--- From `send` until Enter is pressed, by the text's length: what is short is typed, the others go through the editor.
local function lengths(name, options, count)
  for _, length in ipairs { 20, 5000, 100000, 1000000 } do
    local session <close>, values = parley.session(options), {}
    session:start()
    for i = 0, count do
      local text = ("%d "):format(i) .. ("All work and no play. "):rep(length // 22 + 1):sub(1, length - 4) .. "."
      for event in session:send(text) do
        if event.type == "result" and i > 0 then values[i] = event.typing_ms end
      end
    end
    report(("%s: from send to Enter, %d characters"):format(name, length), values, "ms")
  end
end

local function nothing() end

--- What the program may be asked to call, each alone, by the turn that shows what it costs.
local CALLS = {
  { text = "turn %d", { "nothing" }, { "the receipt", hooks = { UserPromptSubmit = nothing } },
    { "the receipt and Stop", hooks = { Stop = nothing } }, { "the receipt and partial text", partial = true },
    { "costs", costs = true } },
  { text = "USETOOL %d", { "nothing" }, { "the receipt", hooks = { UserPromptSubmit = nothing } },
    { "a permission policy", policies = { permission = { decide = function() return { allow = true } end } } },
    { "the receipt and PostToolUse", hooks = { PostToolUse = nothing } } },
}

local function with(options, more)
  local set = {}
  for _, each in ipairs { options, more } do
    for key, value in pairs(each) do
      if type(key) == "string" then set[key] = value end
    end
  end
  return set
end

--- Warm turns of sessions that are called and of one that is not, one after the other in each round, so that all meet
--- the same machine; the difference is taken within a round.
local function called(name, options, count, given)
  local backends <close> = setmetatable({}, { __close = function(list)
    for _, backend in ipairs(list) do backend:close() end
  end })
  local talks, whole, added = {}, {}, {}
  for i, each in ipairs(given) do
    backends[i] = parley.backend(with(options, each))
    talks[i], whole[i], added[i] = backends[i]:conversation(), {}, {}
  end
  for round = 0, count do
    local took = {}
    for step = 1, #given do
      local i = (round + step) % #given + 1
      local began = clock.now()
      talks[i]:ask(given.text:format(round))
      took[i] = clock.now() - began
    end
    for i = 1, round > 0 and #given or 0 do -- the first turn starts the program
      table.insert(whole[i], took[i])
      table.insert(added[i], took[i] - took[1])
    end
  end
  for i, each in ipairs(given) do
    local what = ("%s: %s, called for %s"):format(name, given.text:match "%a+", each[1])
    report(what, whole[i], "ms")
    if i > 1 then report(("%s:   more than for nothing"):format(name), added[i], "ms") end
  end
end

local function main()
  start_up()
  fingerprints()
  json()
  index_of_conversations()
  if os.getenv "PARLEY_CLAUDE" then
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local options = { executable = os.getenv "PARLEY_CLAUDE", cwd = home.cwd, extra_env = home.extra_env }
    local name = "claude " .. (os.getenv "PARLEY_CLAUDE_VERSION" or "")
    starts(name, options, 5)
    first_messages(name, options, 5)
    waking(name, options, 5)
    spares(name, options, 5)
    lengths(name, options, 5)
    turns(name, options, 40)
    for _, given in ipairs(CALLS) do called(name, options, 30, given) end
    memory_bench.run(name, options, { 1, 5, 10 }, say)
  else
    local kit <close> = testing.kit { script = { startup_delay_ms = 0, flush_ms = 100 } }
    starts("stand-in", kit.options, 5)
    first_messages("stand-in", kit.options, 5)
    waking("stand-in", kit.options, 5)
    lengths("stand-in", kit.options, 5)
    turns("stand-in", kit.options, 40)
    for _, given in ipairs(CALLS) do called("stand-in", kit.options, 15, given) end
    memory_bench.run("stand-in", kit.options, { 10 }, say)
    gateway_bench.run(kit.options, report, say)
  end
  return 0
end

return cli.run({
  name = "bench", summary = "Prints timings.", define = function() end, main = main,
  examples = "  parley bench",
}, ...)
