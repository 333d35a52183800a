-- A client's own tools: its calls come as the API gives them, and their results go on with the same turn.
local core = require "parley.core"
local gateways = require "spec.gateway"
local helper = require "spec.helper"

local TOOLS = { { name = "probe", description = "is looked at by a spec", input_schema = { type = "object",
  properties = { n = { type = "integer" } }, required = { "n" } } } }

--- Three rounds, the second with two calls.
local ROUNDS = { { on = "work", steps = {
  { text = "let me see", tool = { name = "probe", input = { n = 1 } } },
  { tools = { { name = "probe", input = { n = 2 } }, { name = "probe", input = { n = 3 } } } },
  { tool = { name = "probe", input = { n = 4 } } },
  { text = "all done" },
} } }

local function calls_of(message)
  local calls = {}
  for _, block in ipairs(message.content) do
    if block.type == "tool_use" then table.insert(calls, block) end
  end
  return calls
end

local function results(calls, make)
  local content = {}
  for i, call in ipairs(calls) do
    content[i] = { type = "tool_result", tool_use_id = call.id,
      content = make and make(call) or "got " .. call.input.n }
  end
  return content
end

describe("a client's tools", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function serves(...) it(gateways.serves(...)) end

  for what, stream in pairs { whole = false, streamed = true } do
    serves("are called in rounds, two at a time, " .. what, { kit = { script = { answers = ROUNDS } } },
      function(gateway)
        local messages, rounds = { { role = "user", content = "work" } }, {}
        repeat
          local answer = gateway:ask(messages, { tools = TOOLS, stream = stream })
          assert.equal(200, answer.status, answer.body)
          local message = stream and gateways.assemble(answer.body) or answer.json
          local calls = calls_of(message)
          local numbers = {}
          for i, call in ipairs(calls) do
            numbers[i] = call.input.n
            assert.equal("probe", call.name)
            assert.matches("^toolu_", call.id)
          end
          table.insert(rounds, table.concat(numbers, "+") .. " " .. message.stop_reason)
          table.insert(messages, { role = "assistant", content = message.content })
          if #calls > 0 then table.insert(messages, { role = "user", content = results(calls) }) end
        until #calls == 0
        assert.same({ "1 tool_use", "2+3 tool_use", "4 tool_use", " end_turn" }, rounds)
        assert.equal("let me see", messages[2].content[1].text)
        assert.equal("all done", gateways.text_of(messages[#messages]))
        assert.same({ "work" }, gateway.kit:taken())
        -- The next message finds the session.
        table.insert(messages, { role = "user", content = "and now?" })
        gateway:ask(messages, { tools = TOOLS })
        assert.same({ 1, { "work", "and now?" } }, { #gateway.kit:events "started", gateway.kit:taken() })
      end)
  end

  --- What the program was told of its calls, by its transcript.
  local function told(gateway)
    local found = {}
    for id in pairs(gateway.server.backend:live_sessions()) do
      local path = gateway.kit.home .. "/.claude/projects/" .. gateway.server.plain_folder:gsub("[^%w]", "-")
      for _, record in ipairs(helper.json_lines(require("parley.base.files").read(("%s/%s.jsonl"):format(path, id)))) do
        for _, block in ipairs(record.type == "user" and type(record.message.content) == "table"
          and record.message.content or {}) do
          if block.type == "tool_result" then table.insert(found, block) end
        end
      end
    end
    return found
  end

  local ONE = { { on = "work", text = "let me see", tool = { name = "probe", input = { n = 1 } }, after = "done" } }

  local function start_work(gateway)
    local message = gateway:ask("work", { tools = TOOLS }).json
    return message, { { role = "user", content = "work" }, { role = "assistant", content = message.content } }
  end

  serves("may give images, errors, and words beside the result", { kit = { script = { answers = ONE } } },
    function(gateway)
      local message, messages = start_work(gateway)
      local picture = { type = "image", source = { type = "base64", media_type = "image/png", data = "iVBORw==" } }
      local content = results(calls_of(message), function() return { { type = "text", text = "see" }, picture } end)
      table.insert(content, { type = "text", text = "and hurry" })
      table.insert(messages, { role = "user", content = content })
      assert.equal("done", gateways.text_of(gateway:ask(messages, { tools = TOOLS }).json))
      local block = told(gateway)[1]
      assert.same({ "see", "image", "and hurry" }, { block.content[1].text, block.content[2].type,
        block.content[3].text })
      assert.equal(calls_of(message)[1].id, block.tool_use_id)
    end)

  serves("may fail", { kit = { script = { answers = ONE } } }, function(gateway)
    local message, messages = start_work(gateway)
    table.insert(messages, { role = "user", content = { { type = "tool_result", is_error = true, content = "no luck",
      tool_use_id = calls_of(message)[1].id } } })
    assert.equal(200, gateway:ask(messages, { tools = TOOLS }).status)
    assert.same({ "no luck", true }, { told(gateway)[1].content, told(gateway)[1].is_error })
  end)

  serves("must all have their results", { kit = { script = { answers = { { on = "work", tools = {
    { name = "probe", input = { n = 1 } }, { name = "probe", input = { n = 2 } } }, after = "done" } } } } },
    function(gateway)
      local message, messages = start_work(gateway)
      local calls = calls_of(message)
      assert.equal(2, #calls)
      table.insert(messages, { role = "user", content = results { calls[1] } })
      local answer = gateway:ask(messages, { tools = TOOLS })
      assert.equal(400, answer.status)
      assert.matches(calls[2].id, answer.json.error.message, 1, true)
      messages[3].content = results(calls) -- the turn still waits
      assert.equal("done", gateways.text_of(gateway:ask(messages, { tools = TOOLS }).json))
    end)

  serves("leave nothing running when their results have come", { kit = { script = { answers = ONE } } },
    function(gateway)
      local message, messages = start_work(gateway)
      table.insert(messages, { role = "user", content = results(calls_of(message)) })
      assert.equal("done", gateways.text_of(gateway:ask(messages, { tools = TOOLS }).json))
      helper.eventually(function() return tostring(gateway.server.group) == "parley.Group (0 tasks)" end, 10000)
    end)

  serves("are answered by their owner alone", { kit = { script = { answers = ONE } } }, function(gateway)
    local message, messages = start_work(gateway)
    table.insert(messages, { role = "user", content = results(calls_of(message)) })
    gateway:ask(messages, { tools = TOOLS }, { ["x-api-key"] = "your-token-0123456789" })
    assert.equal(2, #gateway.kit:events "started")
    assert.equal("done", gateways.text_of(gateway:ask(messages, { tools = TOOLS }).json))
  end)

  serves("whose result does not come end their session; one that comes too late goes on from a written history",
    { tool_wait_ms = 400, kit = { script = { answers = ONE } } }, function(gateway)
      local message, messages = start_work(gateway)
      helper.eventually(function() return gateway.server.desk.running == 0 end)
      helper.eventually(function() return gateway.server.backend:live_session_count() == 0 end)
      table.insert(messages, { role = "user", content = results(calls_of(message)) })
      local answer = gateway:ask(messages, { tools = TOOLS })
      assert.equal(200, answer.status, answer.body)
      assert.equal("echo: Go on with these results.", gateways.text_of(answer.json))
      assert.equal(2, #gateway.kit:events "started")
      assert.equal("got 1", told(gateway)[1].content)
    end)

  serves("that call with what does not fit their schema are answered by Parley", { kit = { script = { answers = {
    { on = "work", steps = { { tool = { name = "probe", input = { n = "x" } } }, { text = "done" } } } } } } },
    function(gateway)
      local message = start_work(gateway)
      assert.same({ "end_turn", "done" }, { message.stop_reason, gateways.text_of(message) })
      assert.is_true(told(gateway)[1].is_error)
    end)

  serves("may have a schema that Claude Code would not take", function(gateway)
    local answer = gateway:ask("hello", { tools = { { name = "a", description = "A.", input_schema = { type = "object",
      anyOf = { { required = core.json.array { "x" } } } } } } })
    assert.same({ 200, "tools.0.input_schema.anyOf" }, { answer.status, answer.headers["parley-ignored"] })
  end)
end)
