-- Tools that are Lua functions, called by the real program: what they get, what the model gets, and when they end.
local core = require "parley.core"
local errors = require "parley.base.errors"
local helper = require "spec.helper"
local live = require "spec.smoke.live"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local parley = require "parley"
local task = require "parley.base.task"

local PREFIX = "mcp__parley__"

--- What the model answers: calls of a tool with these inputs, all in one message, when the message is `call`.
local function calls(inputs, name)
  return { { on = "call", blocks = function()
    local blocks = {}
    for i, input in ipairs(inputs) do
      blocks[i] = { type = "tool_use", name = PREFIX .. (name or "probe"), input = input }
    end
    return blocks
  end } }
end

local function probe(run, changes)
  local tool = { name = "probe", description = "is looked at by a spec", run = run }
  for field, value in pairs(changes or {}) do tool[field] = value end
  return { tool }
end

--- Runs a turn.
local function ask(backend)
  local said = { events = {}, failures = {} }
  for event in backend:complete { { role = "user", content = "call" } } do
    table.insert(said.events, event)
    if event.subtype == "tool_error" then table.insert(said.failures, event) end
    if event.type == "result" then said.verdict = event.subtype end
  end
  return said
end

--- What the model got of its calls: the blocks `tool_result` of the last request.
local function results_of(server)
  local results = {}
  for _, message in ipairs(server:last_messages()) do
    for _, block in ipairs(type(message.content) == "table" and message.content or {}) do
      if block.type == "tool_result" then table.insert(results, block) end
    end
  end
  return results
end

--- The text of a result.
local function text_of(block)
  local content = block.content
  if type(content) == "string" then return content end
  local parts = {}
  for i, each in ipairs(content) do parts[i] = each.text or "[" .. each.type .. "]" end
  return table.concat(parts, "\n")
end

describe("tools that are Lua functions, on the real program,", function()
  if not live.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  --- An `it` with a backend whose model makes these calls.
  local function calling(name, script, tools, body, timeout_ms, variables)
    it(name, helper.task(function()
      local server <close> = messages_api.start { script = script }
      local home <close> = offline_home.new { base_url = server.url, variables = variables }
      local backend <close> = parley.backend { executable = live.claude, cwd = home.cwd, extra_env = home.extra_env,
        tools = tools, turn_timeout_ms = timeout_ms or 120000 }
      body(backend, server)
    end, timeout_ms or 240000))
  end

  local AWKWARD = { text = "ü \"quoted\" \\ 🏔\nline\ttab", empty = "", list = core.json.array {}, none = core.json.null,
    deep = { { { a = { b = { 1, 2.5, -3 } } } } }, yes = true, ["a key"] = "x", big = ("y"):rep(1 << 20) }
  local given
  calling("get their input as the model wrote it", calls { AWKWARD }, probe(function(input)
    given = input
    return "taken"
  end), function(backend, server)
    local said = ask(backend)
    assert.equal("success", said.verdict)
    assert.is_true(given.big == AWKWARD.big)
    given.big, AWKWARD.big = nil, nil
    assert.same(AWKWARD, given)
    local results = results_of(server)
    assert.same({ 1, "taken" }, { #results, text_of(results[1]) })
    local call = said.events[2]
    assert.equal("probe", call.tool_names[call:blocks("tool_use")[1].id])
  end)

  it("are there where the user forbids hooks, and beside --strict-mcp-config", helper.task(function()
    local server <close> = messages_api.start { script = calls { {} } }
    local home <close> = offline_home.new { base_url = server.url }
    local backend <close> = parley.backend { executable = live.claude, cwd = home.cwd, extra_env = home.extra_env,
      tools = probe(function() return "called" end), extra_args = { "--strict-mcp-config" },
      settings = { disableAllHooks = true } }
    assert.equal("success", ask(backend).verdict)
    assert.equal("called", text_of(results_of(server)[1]))
  end))

  local LONGEST = ("x"):rep(64)
  calling("may have names of 64 characters", calls({ {} }, LONGEST), probe(function() return "called" end,
    { name = LONGEST }), function(backend, server)
    assert.equal("success", ask(backend).verdict)
    assert.equal("called", text_of(results_of(server)[1]))
  end)

  local TEN, runs = {}, 0
  for number = 1, 10 do TEN[number] = { number = number } end
  calling("are called ten at a time, each once", calls(TEN), probe(function(input)
    runs = runs + 1
    return "number " .. input.number
  end), function(backend, server)
    assert.equal("success", ask(backend).verdict)
    local texts = {}
    for i, block in ipairs(results_of(server)) do texts[i] = text_of(block) end
    local expected = {}
    for number = 1, 10 do expected[number] = "number " .. number end
    assert.same(expected, texts)
    assert.equal(10, runs)
  end)

  calling("tell the model what they raise", calls { { city = "Atlantis" }, { city = 5 } }, probe(function()
    error(errors.new("ENOENT", "no such city"), 0)
  end, { input_schema = { type = "object", properties = { city = { type = "string" } } } }),
    function(backend, server)
      local said = ask(backend)
      assert.equal("success", said.verdict)
      local results = results_of(server)
      assert.same({ true, true }, { results[1].is_error, results[2].is_error })
      assert.matches("no such city", text_of(results[1]))
      assert.matches("input%.city must be of type string, not 5", text_of(results[2]))
      assert.same({ "ENOENT", "ValueError" }, { said.failures[1].error.code, said.failures[2].error.code })
    end)

  local PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
  calling("may answer with a picture, or with nothing", calls { { picture = true }, {} }, probe(function(input)
    if not input.picture then return "" end
    return { { type = "text", text = "see:" }, { type = "image", source = { type = "base64", media_type = "image/png",
      data = PIXEL } } }
  end), function(backend, server)
    assert.equal("success", ask(backend).verdict)
    local results = results_of(server)
    assert.matches("see:", text_of(results[1]))
    assert.matches("%[image%]", text_of(results[1]))
    assert.equal(2, #results)
  end)

  local LONG = ("word "):rep(200000)
  calling("have the program cut what is over 25,000 tokens", calls { {} }, probe(function() return LONG end),
    function(backend, server)
      assert.equal("success", ask(backend).verdict)
      local got = text_of(results_of(server)[1])
      assert.is_true(#got < #LONG / 2, "got " .. #got)
    end)

  local started, closed = task.condition(), false
  calling("end with an interrupt", calls { {} }, probe(function()
    local _ <close> = setmetatable({}, { __close = function() closed = true end })
    started:notify()
    task.condition():wait()
    return "never"
  end), function(backend)
    local turn = backend:complete { { role = "user", content = "call" } }
    task.spawn(function()
      started:wait()
      turn:interrupt()
    end)
    local verdict
    for event in turn do verdict = event.type == "result" and event.subtype end
    assert.equal("interrupted", verdict)
    helper.eventually(function() return closed end)
  end)

  local wait_ms = helper.long(3000, 150000)
  calling(("take their time: %d s"):format(wait_ms // 1000), calls { {} }, probe(function()
    task.condition():wait(wait_ms)
    return "at last"
  end), function(backend, server)
    assert.equal("success", ask(backend).verdict)
    assert.equal("at last", text_of(results_of(server)[1]))
  end, wait_ms + 240000)
end)
