local claude_event = require "parley.claude.event"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local http_client = require "parley.testing.http_client"
local parley = require "parley"
local session_tools = require "parley.hub.session_tools"
local task = require "parley.base.task"
local testing = require "parley.testing"

local CITY = { type = "object", properties = { city = { type = "string" } }, required = { "city" } }

local function weather(run)
  return { { name = "weather", description = "tells the weather", input_schema = CITY, run = run or function(input)
    return "sunny in " .. input.city
  end } }
end

--- A simulated program whose model calls a tool, and the options to drive it: in a world, or of `changes.make`.
local function kit_of(tool, changes)
  local script = { answers = { { on = "call", tool = tool, times = changes and changes.times } } }
  for name, value in pairs(changes and changes.script or {}) do script[name] = value end
  local kit = (changes and changes.make or testing.world) { script = script, profile = changes and changes.profile }
  kit.options.tools = changes and changes.tools
  return kit
end

--- Runs a turn: its last text, all its events, and those that tell of a tool's error.
local function ask(backend, text, request)
  local events, failures, said = {}, {}, nil
  for event in backend:complete({ { role = "user", content = text or "call" } }, request) do
    table.insert(events, event)
    if event.subtype == "tool_error" then table.insert(failures, event) end
    if event.type == "assistant" then said = event:text() end
  end
  return said, events, failures
end

local function result_block(events)
  for _, event in ipairs(events) do
    local block = event.type == "user" and event:blocks("tool_result")[1]
    if block then return block end
  end
end

describe("tools that are Lua functions", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  for where, make in pairs { [""] = testing.world, [", on a real terminal"] = testing.kit } do
    for _, profile in ipairs { "2.1.330", "2.1.197", "2.1.110" } do
      it("are called by the model of " .. profile .. where, helper.task(function()
        local kit <close> = kit_of({ name = "weather", input = { city = "Zürich" } },
          { make = make, profile = profile, tools = weather() })
        local backend <close> = parley.backend(kit.options)
        local said, events, failures = ask(backend)
        assert.equal("echo: TOOLRESULT sunny in Zürich", said)
        assert.same({}, failures)
        local call = events[2]
        local block = call:blocks("tool_use")[1]
        assert.equal("mcp__parley__weather", block.name)
        assert.same({ [block.id] = "weather" }, call.tool_names)
      end))
    end
  end

  it("are named by the ids of their calls, as far as these have one", function()
    local event = claude_event.new { type = "assistant", content = {
      { type = "tool_use", name = "mcp__parley__a" }, { type = "tool_use", name = "mcp__parley__b", id = "1" } } }
    session_tools.new({}, {}).name(event)
    assert.same({ ["1"] = "b" }, event.tool_names)
  end)

  it("are there for the first message, where the program would not wait for them", helper.task(function()
    local kit <close> = kit_of({ name = "weather", input = { city = "Bern" } },
      { profile = "2.1.197", tools = weather(), script = { connect_delay_ms = 200 } })
    local backend <close> = parley.backend(kit.options)
    assert.equal("echo: TOOLRESULT sunny in Bern", (ask(backend)))
  end))

  it("are an error where the program does not ask for them", helper.task(function()
    local kit <close> = kit_of({ name = "weather" }, { tools = weather(), script = { connect_delay_ms = 60000 } })
    kit.options.startup_timeout_ms = 500
    local backend <close> = parley.backend(kit.options)
    local ok, err = pcall(ask, backend)
    assert.is_false(ok)
    assert.same({ "SessionError", "tools" }, { err.code, err.reason })
    assert.equal(0, backend:live_session_count())
  end))

  it("are called in a session without a backend", helper.task(function()
    local kit <close> = kit_of({ name = "weather", input = { city = "Bern" } })
    kit.options.tools = weather()
    local session <close> = parley.session(kit.options)
    session:start()
    local said
    for event in session:send "call" do said = event.type == "assistant" and event:text() or said end
    assert.equal("echo: TOOLRESULT sunny in Bern", said)
  end))

  it("get the id of their call, and the session's", helper.task(function()
    local given
    local kit <close> = kit_of({ name = "weather", input = { city = "x" } },
      { tools = weather(function(_, call) given = call return "" end) })
    local backend <close> = parley.backend(kit.options)
    local _, events = ask(backend)
    assert.same({ id = events[2]:blocks("tool_use")[1].id, tool = "weather", session_id = events[#events].session_id },
      given)
  end))

  it("may answer with a picture", helper.task(function()
    local source = { type = "base64", media_type = "image/png", data = "iVBORw==" }
    local kit <close> = kit_of({ name = "weather", input = { city = "x" } }, { tools = weather(function()
      return { { type = "text", text = "see:" }, { type = "image", source = source } }
    end) })
    local backend <close> = parley.backend(kit.options)
    local _, events = ask(backend)
    assert.same({ { type = "text", text = "see:" }, { type = "image", source = source } },
      result_block(events).content)
  end))

  it("tell the model what they raise, and the script in an event", helper.task(function()
    local kit <close> = kit_of({ name = "weather", input = { city = "Atlantis" } },
      { tools = weather(function() error(errors.new("ENOENT", "no such city"), 0) end) })
    local backend <close> = parley.backend(kit.options)
    local said, events, failures = ask(backend)
    assert.equal("echo: TOOLRESULT no such city", said)
    assert.is_true(result_block(events).is_error)
    local failure = failures[1]
    assert.same({ "weather", "no such city", "ENOENT", "Atlantis" }, { failure.tool, failure.message,
      failure.error.code, failure.input.city })
    assert.equal(1, #failures)
    assert.equal("success", events[#events].subtype)
  end))

  it("do not run with an input that does not fit", helper.task(function()
    local runs = 0
    local kit <close> = kit_of({ name = "weather", input = { city = 5 } },
      { tools = weather(function() runs = runs + 1 return "" end) })
    local backend <close> = parley.backend(kit.options)
    assert.equal("echo: TOOLRESULT input.city must be of type string, not 5", (ask(backend)))
    assert.equal(0, runs)
  end))

  it("end with the turn that is interrupted, which then goes on", helper.task(function()
    local started, closed = task.condition(), false
    local kit <close> = kit_of({ name = "weather", input = { city = "x" } }, { times = 1,
      tools = weather(function()
        local _ <close> = setmetatable({}, { __close = function() closed = true end })
        started:notify()
        task.condition():wait()
        return "never"
      end) })
    local backend <close> = parley.backend(kit.options)
    local turn = backend:complete { { role = "user", content = "call" } }
    task.spawn(function()
      started:wait()
      turn:interrupt()
    end)
    local last
    for event in turn do last = event end
    assert.equal("interrupted", last.subtype)
    helper.eventually(function() return closed end)
  end))

  it("end with the loop that is left", helper.task(function()
    local started, closed = task.condition(), false
    local kit <close> = kit_of({ name = "weather", input = { city = "x" } }, { tools = weather(function()
      local _ <close> = setmetatable({}, { __close = function() closed = true end })
      started:notify()
      task.condition():wait()
      return "never"
    end) })
    local backend <close> = parley.backend(kit.options)
    local turning = task.spawn(ask, backend)
    started:wait()
    turning:cancel()
    pcall(turning.await, turning)
    assert.is_true(closed)
    assert.equal(0, backend:live_session_count())
  end))

  it("take longer than the program would wait", helper.task(function()
    local kit <close> = kit_of({ name = "weather", input = { city = "x" } }, {
      script = { profile_changes = { mcp_background_ms = 20, mcp_calls_again = true } },
      tools = weather(function()
        task.condition():wait(200) -- longer than that
        return "at last"
      end) })
    local backend <close> = parley.backend(kit.options)
    assert.equal("echo: TOOLRESULT at last", (ask(backend)))
  end))

  it("run once where the program goes on without them and calls again", helper.task(function()
    local runs, closed = 0, false
    local kit <close> = kit_of({ name = "weather", input = { city = "x" } }, {
      script = { profile_changes = { mcp_background_ms = 20, mcp_calls_again = true } },
      tools = weather(function()
        local _ <close> = setmetatable({}, { __close = function() closed = true end })
        runs = runs + 1
        task.condition():wait()
        return ""
      end) })
    kit.options.extra_env.CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS = "20" -- the user's own word counts
    local backend <close> = parley.backend(kit.options)
    assert.matches("moved to the background", (ask(backend)))
    assert.equal(1, runs)
    helper.eventually(function() return closed end, nil, "the end of a call whose turn is over")
  end))

  it("may be those of one request", helper.task(function()
    local kit <close> = kit_of({ name = "weather", input = { city = "Bern" } })
    local backend <close> = parley.backend(kit.options)
    local number = 0
    local function request()
      number = number + 1
      local own = number
      return { options = { tools = weather(function() return "answer " .. own end) } }
    end
    assert.equal("echo: TOOLRESULT answer 1", (ask(backend, "call", request())))
    assert.equal(1, backend:live_session_count())
    -- The same tools to the model, other functions: the session that has them, and the functions of this request.
    assert.is_true(backend:warm({}, request()))
    assert.equal("echo: TOOLRESULT answer 3", (ask(backend, "call", request())))
    assert.equal(2, backend:live_session_count())
  end))

  it("are behind a door that lets in nobody else, and is closed with the session", helper.task(function()
    local kit <close> = kit_of({ name = "weather", input = { city = "x" } }, { make = testing.kit, tools = weather() })
    local backend <close> = parley.backend(kit.options)
    ask(backend)
    local path
    for _, process in pairs(backend:live_sessions()) do path = process.argv[#process.argv] end
    assert.equal("600", ("%o"):format(require("luv").fs_stat(path).mode & 511))
    local server = core.json.decode(files.read(path)).mcpServers.parley
    local function status(url, headers)
      return http_client.request({ url = url, body = "{}", headers = headers }).status
    end
    assert.equal(200, status(server.url))
    assert.equal(404, status((server.url:gsub("%x/mcp$", "/mcp"))))
    assert.equal(404, status((server.url:gsub("mcp$", "other"))))
    assert.equal(403, status(server.url, { origin = "http://example.org" }))
    assert.equal(403, status(server.url, { host = "example.org" }))
    backend:close()
    assert.is_nil(files.read(path))
    local ok, err = pcall(status, server.url)
    assert.same({ false, "ECONNREFUSED" }, { ok, err.code })
  end))

  it("are reached in spite of a proxy", helper.task(function()
    local kit <close> = kit_of({ name = "weather", input = { city = "x" } }, { tools = weather() })
    kit.options.extra_env.HTTP_PROXY, kit.options.extra_env.NO_PROXY = "http://proxy:3128", "example.org"
    local backend <close> = parley.backend(kit.options)
    ask(backend)
    for _, process in pairs(backend:live_sessions()) do
      assert.equal("example.org,127.0.0.1,localhost", process.environment.NO_PROXY)
    end
  end))

  for described, case in pairs {
    ["no list"] = { { tools = weather()[1] }, "option 'tools' must be a list of tools" },
    ["a session factory"] = { { tools = weather(), session_factory = print }, "does not go with 'session_factory'" },
    ["a server of their own name"] = { { tools = weather(), mcp_servers = { parley = {} } },
      "does not go with 'mcp_servers.parley'" },
  } do
    it("are refused with " .. described, function()
      local ok, err = pcall(parley.backend, case[1])
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
      assert.is_truthy(err.message:find(case[2], 1, true), err.message)
    end)
  end

  it("are checked as an option of a request and of a session, too", helper.task(function()
    local backend <close> = parley.backend {}
    for _, make in ipairs {
      function() parley.session { tools = { {} } } end,
      function() backend:complete({ { role = "user", content = "x" } }, { options = { tools = { {} } } }) end,
    } do
      local ok, err = pcall(make)
      assert.is_false(ok)
      assert.matches("option 'tools'%[1%]%.name must be", err.message)
    end
  end))
end)
