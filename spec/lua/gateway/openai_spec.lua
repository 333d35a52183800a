-- OpenAI's Chat Completions over the simulated claude.
local core = require "parley.core"
local gateways = require "spec.gateway"
local helper = require "spec.helper"

local TOOLS = { { type = "function", ["function"] = { name = "probe", description = "x", parameters = {
  type = "object", properties = { n = { type = "integer" } } } } } }

--- The chunks of a stream, and whether `[DONE]` came last.
local function chunks_of(body)
  local chunks = {}
  for data in body:gmatch "data: ([^\n]+)" do table.insert(chunks, data) end
  local is_done = table.remove(chunks) == "[DONE]"
  for i, data in ipairs(chunks) do chunks[i] = assert(core.json.decode(data)) end
  return chunks, is_done
end

--- The message of a stream, put together as the official client does.
local function assemble(body)
  local chunks, is_done = chunks_of(body)
  assert.is_true(is_done)
  local message = { content = "", tool_calls = {} }
  for _, chunk in ipairs(chunks) do
    assert.equal(chunks[1].id, chunk.id)
    local choice = chunk.choices[1]
    if choice then
      assert.equal(0, choice.index)
      local delta = choice.delta
      message.role = message.role or delta.role
      message.content = message.content .. (delta.content or "")
      for _, call in ipairs(delta.tool_calls or {}) do
        local known = message.tool_calls[call.index + 1]
        if not known then
          assert.equal(#message.tool_calls, call.index)
          known = { id = call.id, type = call.type, ["function"] = { name = call["function"].name, arguments = "" } }
          message.tool_calls[call.index + 1] = known
        end
        known["function"].arguments = known["function"].arguments .. call["function"].arguments
      end
      if choice.finish_reason ~= core.json.null then message.finish_reason = choice.finish_reason end
    end
    if chunk.usage and chunk.usage ~= core.json.null then message.usage = chunk.usage end
  end
  return message
end

describe("POST /v1/chat/completions", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function serves(...) it(gateways.serves(...)) end

  local function chat(gateway, messages, fields)
    local body = { model = "sonnet", messages = messages }
    for name, value in pairs(fields or {}) do body[name] = value end
    return gateway:request("/v1/chat/completions", body,
      { ["x-api-key"] = false, authorization = "Bearer " .. gateways.TOKEN })
  end

  serves("answers with a completion", function(gateway)
    local answer = chat(gateway, { { role = "developer", content = "Be brief." },
      { role = "user", content = "hello" } })
    assert.equal(200, answer.status, answer.body)
    local body = answer.json
    assert.same({ "chat.completion", "sonnet", "assistant", "echo: hello", "stop" }, { body.object, body.model,
      body.choices[1].message.role, body.choices[1].message.content, body.choices[1].finish_reason })
    assert.equal(body.usage.prompt_tokens + body.usage.completion_tokens, body.usage.total_tokens)
    assert.matches("^chatcmpl%-%x+$", body.id)
    assert.matches("^req_", answer.headers["x-request-id"])
    assert.matches("--system-prompt Be brief.",
      table.concat(select(2, next(gateway.server.backend:live_sessions())).argv, " "), 1, true)
  end)

  serves("streams chunks to [DONE], with the usage where it is wanted", function(gateway)
    local messages = { { role = "user", content = "hello" } }
    local message = assemble(chat(gateway, messages, { stream = true }).body)
    assert.same({ "assistant", "echo: hello", "stop" }, { message.role, message.content, message.finish_reason })
    assert.is_nil(message.usage)
    message = assemble(chat(gateway, messages, { stream = true, stream_options = { include_usage = true } }).body)
    assert.is_true(message.usage.completion_tokens > 0)
  end)

  for what, stream in pairs { whole = false, streamed = true } do
    serves("calls the client's functions, two at a time, " .. what, { kit = { script = { answers = { { on = "work",
      text = "let me see", tools = { { name = "probe", input = { n = 1 } }, { name = "probe", input = { n = 2 } } },
      after = "done" } } } } }, function(gateway)
      local messages = { { role = "user", content = "work" } }
      local answer = chat(gateway, messages, { tools = TOOLS, stream = stream })
      local message = stream and assemble(answer.body) or answer.json.choices[1].message
      local reason = stream and message.finish_reason or answer.json.choices[1].finish_reason
      assert.same({ "tool_calls", "let me see", 2 }, { reason, message.content, #message.tool_calls })
      assert.same({ "probe", '{"n":2}' }, { message.tool_calls[2]["function"].name,
        message.tool_calls[2]["function"].arguments })
      table.insert(messages, { role = "assistant", content = message.content, tool_calls = message.tool_calls })
      for _, call in ipairs(message.tool_calls) do
        table.insert(messages, { role = "tool", tool_call_id = call.id, content = "fine" })
      end
      answer = chat(gateway, messages, { tools = TOOLS })
      assert.equal("done", answer.json.choices[1].message.content, answer.body)
      table.insert(messages, { role = "assistant", content = "done" })
      table.insert(messages, { role = "user", content = "more" })
      assert.equal("echo: more", chat(gateway, messages, { tools = TOOLS }).json.choices[1].message.content)
      assert.equal(1, #gateway.kit:events "started")
    end)
  end

  serves("takes images as data", function(gateway)
    local answer = chat(gateway, { { role = "user", content = { { type = "text", text = "see" },
      { type = "image_url", image_url = { url = "data:image/png;base64,iVBORw0KGgo=" } } } } })
    assert.equal(200, answer.status, answer.body)
    assert.matches("^see\n@/", gateway.kit:taken()[1])
    answer = chat(gateway, { { role = "user", content = { { type = "image_url",
      image_url = { url = "http://x" } } } } })
    assert.same({ 400, "invalid_request_error" }, { answer.status, answer.json.error.type })
  end)

  serves("tells errors as the protocol does", { kit = { script = { answers = {
    { on = "late", api_error = { status = 529, text = "as asked", retries = 1, retry_ms = 1500 } },
    { on = "now", api_error = { status = 429, text = "as asked", retries = 0 } } } } } }, function(gateway)
    local answer = gateway:request("/v1/chat/completions", "{}", { ["x-api-key"] = "wrong-token" })
    assert.same({ 401, "invalid_api_key" }, { answer.status, answer.json.error.code })
    answer = chat(gateway, { { role = "user", content = "now" } })
    assert.same({ 429, "30" }, { answer.status, answer.headers["retry-after"] })
    answer = chat(gateway, { { role = "user", content = "late" } }, { stream = true })
    assert.equal(200, answer.status)
    local last
    for data in answer.body:gmatch "data: ([^\n]+)" do last = core.json.decode(data) end
    assert.equal("overloaded_error", last.error.type)
  end)

  serves("says what cannot be had", function(gateway)
    local answer = chat(gateway, { { role = "user", content = "hello" } }, { temperature = 0.1, n = 2, seed = 5,
      stop = { "x" }, tool_choice = "required", logit_bias = core.json.null, reasoning_effort = "low" })
    assert.equal("n, seed, stop, temperature, tool_choice (any)", answer.headers["parley-ignored"])
    assert.matches("--effort low", table.concat(select(2, next(gateway.server.backend:live_sessions())).argv, " "), 1,
      true)
  end)
end)
