local errors = require "parley.base.errors"
local helper = require "spec.helper"
local mcp = require "parley.hub.mcp"
local task = require "parley.base.task"
local tools = require "parley.hub.tools"

--- A server of one tool, and the failures that it tells of.
local function server_of(run, input_schema)
  local failures = {}
  local server = mcp.new {
    tools = tools.check({ { name = "weather", description = "tells the weather", input_schema = input_schema,
      run = run } }, "spec"),
    session_id = function() return "the session" end,
    on_error = function(failure) table.insert(failures, failure) end,
    on_known = function() end,
  }
  return server, failures
end

local last_id = 0

--- Calls the tool as the program does.
local function call(server, input, tool_use_id, request_id)
  last_id = last_id + 1
  return server:answer { jsonrpc = "2.0", id = request_id or last_id, method = "tools/call", params = {
    name = "weather", arguments = input, _meta = { ["claudecode/toolUseId"] = tool_use_id } } }.result
end

local function text_of(result) return result.content[1].text end

describe("the server of a session's tools", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  it("introduces itself in the revision that it is asked for", helper.task(function()
    local server <close> = server_of(function() return "" end)
    for asked, given in pairs { ["2025-11-25"] = "2025-11-25", ["2024-11-05"] = "2024-11-05",
      ["2031-01-01"] = "2025-11-25" } do
      local answer = server:answer { jsonrpc = "2.0", id = 0, method = "initialize",
        params = { protocolVersion = asked } }
      assert.equal(given, answer.result.protocolVersion)
      assert.same({ tools = {} }, answer.result.capabilities)
    end
  end))

  it("knows no other methods, server/discover among them", helper.task(function()
    local server <close> = server_of(function() return "" end)
    local answer = server:answer { jsonrpc = "2.0", id = "probe", method = "server/discover", params = {} }
    assert.same({ jsonrpc = "2.0", id = "probe", error = { code = -32601,
      message = "no such method: server/discover" } }, answer)
    assert.equal(-32600, server:answer({ id = 1 }).error.code)
    assert.equal(-32600, server:answer("[]").error.code)
  end))

  it("answers no notification", helper.task(function()
    local server <close> = server_of(function() return "" end)
    assert.is_nil(server:answer { jsonrpc = "2.0", method = "notifications/initialized" })
    assert.is_nil(server:answer { jsonrpc = "2.0", method = "notifications/unheard_of", params = {} })
  end))

  it("lists its tools", helper.task(function()
    local server <close> = server_of(function() return "" end)
    assert.same({ { name = "weather", description = "tells the weather", inputSchema = { type = "object" } } },
      server:answer({ jsonrpc = "2.0", id = 1, method = "tools/list" }).result.tools)
  end))

  it("gives a tool its input, and the call's id and session", helper.task(function()
    local given
    local server <close> = server_of(function(...) given = { ... } return "sunny" end)
    local input = { city = "Zürich 🏔", deep = { { { "x" } } }, empty = {}, text = ("y"):rep(1 << 20) }
    assert.same({ content = { { type = "text", text = "sunny" } }, isError = false }, call(server, input, "toolu_1"))
    assert.same({ input, { id = "toolu_1", tool = "weather", session_id = "the session" } }, given)
  end))

  it("gives an empty input where there are no arguments", helper.task(function()
    local given
    local server <close> = server_of(function(input) given = input return "" end)
    call(server, nil, "toolu_1")
    assert.same({}, given)
  end))

  it("checks the input before the tool runs, and tells both", helper.task(function()
    local has_run = false
    local server <close>, failures = server_of(function() has_run = true return "" end,
      { type = "object", properties = { path = { type = "string" } }, required = { "path" } })
    local result = call(server, { path = 5 }, "toolu_1")
    assert.is_true(result.isError)
    assert.equal("input.path must be of type string, not 5", text_of(result))
    assert.equal("input lacks 'path'", text_of(call(server, {}, "toolu_2")))
    assert.is_false(has_run)
    assert.same({ "weather", "toolu_1", "ValueError" }, { failures[1].tool, failures[1].tool_use_id,
      failures[1].error.code })
  end))

  it("tells the model what a tool raises, and the script where", helper.task(function()
    local server <close>, failures = server_of(function(input)
      if input.kind == "object" then error(errors.new("ENOENT", "no such city"), 0) end
      error(input.kind == "table" and { a = 1 } or input.kind, 0)
    end)
    for kind, text in pairs { ["no city"] = "no city", object = "no such city",
      table = 'an error without a text: {"a":1}', ["ab\xff"] = "ab\\xFF" } do
      local result = call(server, { kind = kind }, "toolu_" .. kind)
      assert.same({ true, text }, { result.isError, text_of(result) })
      assert.equal(text, failures[#failures].message)
      assert.is_truthy(failures[#failures].traceback:find("mcp_spec.lua", 1, true))
    end
  end))

  it("takes the failure of a task that a tool has spawned for its own", helper.task(function()
    local server <close>, failures = server_of(function()
      task.spawn(error, "the child failed", 0)
      task.condition():wait()
      return "never"
    end)
    assert.equal("the child failed", text_of(call(server, {}, "toolu_1")))
    assert.equal(1, #failures)
  end))

  it("refuses a result that is none", helper.task(function()
    local server <close>, failures = server_of(function() return { temperature = 5 } end)
    local result = call(server, {}, "toolu_1")
    assert.same({ true, "the result of the tool 'weather' must be a text or blocks, not another table" },
      { result.isError, text_of(result) })
    assert.equal("ValueError", failures[1].error.code)
  end))

  it("has no tool of another name", helper.task(function()
    local server <close> = server_of(function() return "" end)
    local answer = server:answer { jsonrpc = "2.0", id = 1, method = "tools/call", params = { name = "wether" } }
    assert.same({ code = -32602, message = "there is no tool of this name: wether" }, answer.error)
  end))

  it("runs ten calls at a time", helper.task(function()
    local running, most, all = 0, 0, task.condition()
    local server <close> = server_of(function(input)
      running = running + 1
      most = math.max(most, running)
      all:notify()
      all:wait_until(function() return most == 10 end)
      return "number " .. input.number
    end)
    local calls = {}
    for number = 1, 10 do calls[number] = task.spawn(call, server, { number = number }, "toolu_" .. number) end
    for number, each in ipairs(calls) do assert.equal("number " .. number, text_of(each:await())) end
  end))

  it("runs a call once that is made twice with one id, and answers both", helper.task(function()
    local runs, go = 0, task.condition()
    local server <close> = server_of(function()
      runs = runs + 1
      go:wait()
      return "run " .. runs
    end)
    local first = task.spawn(call, server, {}, "toolu_1")
    local second = task.spawn(call, server, {}, "toolu_1")
    helper.eventually(function() return runs > 0 end)
    go:notify()
    assert.same({ "run 1", "run 1" }, { text_of(first:await()), text_of(second:await()) })
    assert.equal("run 1", text_of(call(server, {}, "toolu_1")))
  end))

  it("takes one with another input for another, though its id is the same", helper.task(function()
    local server <close> = server_of(function(input) return "sunny in " .. input.city end)
    for _, city in ipairs { "Bern", "Ulm", "Bern" } do
      assert.equal("sunny in " .. city, text_of(call(server, { city = city }, "call_0")))
    end
  end))

  it("lets a call run on whose request was cut off", helper.task(function()
    local runs, go = 0, task.condition()
    local server <close> = server_of(function()
      runs = runs + 1
      go:wait()
      return "run " .. runs
    end)
    local first = task.spawn(call, server, {}, "toolu_1")
    helper.eventually(function() return runs > 0 end)
    first:cancel()
    pcall(first.await, first)
    local second = task.spawn(call, server, {}, "toolu_1")
    helper.tick()
    go:notify()
    assert.equal("run 1", text_of(second:await()))
  end))

  it("forgets what a call gave when the turn is over", helper.task(function()
    local runs = 0
    local server <close> = server_of(function() runs = runs + 1 return "" end)
    call(server, {}, "toolu_1")
    server:end_turn()
    call(server, {}, "toolu_1")
    assert.equal(2, runs)
  end))

  describe("cancels a call, with its <close> variables,", function()
    local closed, started

    --- A tool that waits for ever.
    local function waiting_server()
      closed, started = false, false
      return server_of(function()
        local _ <close> = setmetatable({}, { __close = function() closed = true end })
        started = true
        task.condition():wait()
        return "never"
      end)
    end

    local function begin(server)
      local calling = task.spawn(call, server, {}, "toolu_1", 7)
      helper.eventually(function() return started end)
      return calling
    end

    local function check(calling, failures)
      local result = calling:await()
      assert.same({ true, true, "the call was cancelled" }, { closed, result.isError, text_of(result) })
      assert.same({}, failures)
    end

    it("when the program says so", helper.task(function()
      local server <close>, failures = waiting_server()
      local calling = begin(server)
      server:answer { jsonrpc = "2.0", method = "notifications/cancelled", params = { requestId = 6 } }
      helper.tick()
      assert.is_false(closed)
      server:answer { jsonrpc = "2.0", method = "notifications/cancelled", params = { requestId = 7 } }
      check(calling, failures)
    end))

    it("when the turn is over", helper.task(function()
      local server <close>, failures = waiting_server()
      local calling = begin(server)
      server:end_turn()
      check(calling, failures)
    end))

    it("when the session is closed, which waits for it", helper.task(function()
      local server, failures = waiting_server()
      local calling = begin(server)
      server:close()
      assert.is_true(closed)
      check(calling, failures)
      assert.equal("the session has ended", text_of(call(server, {}, "toolu_2")))
    end))
  end)

  it("may be closed by one of its own calls", helper.task(function()
    local server
    server = server_of(function()
      server:close()
      return "closed"
    end)
    assert.equal("the call was cancelled", text_of(call(server, {}, "toolu_1")))
  end))

  it("has a call do what the tools do that were given last", helper.task(function()
    local server <close> = server_of(function() return "first" end)
    server:use(tools.check({ { name = "weather", description = "", run = function() return "second" end } }, "spec"))
    assert.equal("second", text_of(call(server, {}, "toolu_1")))
  end))
end)
