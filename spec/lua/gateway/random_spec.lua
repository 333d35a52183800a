-- Clients of every kind at once: some talk, some call tools, some go away, ask again, send rubbish or read slowly.
-- Nothing is lost, doubled or crossed, and in the end nothing is left. With PARLEY_LONG=1 for two minutes.
local core = require "parley.core"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local task = require "parley.base.task"

local SEED = math.tointeger(tonumber(os.getenv "PARLEY_SEED")) or 20261129
local FOR_MS, CLIENTS = helper.long(8000, 120000), 10

local SCRIPT = { answers = {
  { on = "TOOLS", steps = { { text = "let me see", tools = { { name = "probe", input = { n = 1 } },
    { name = "probe", input = { n = 2 } } } }, { text = "all done" } } },
  { on = "LINES", blocks = { { type = "text", text = ("line\n"):rep(20) } }, line_ms = 20 },
  { on = "HANG", hang = true },
  { on = "BROKEN", api_error = { status = 400, text = "as asked" } },
} }
local TOOLS = { { name = "probe", input_schema = { type = "object" } } }

describe("random clients", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local count, finished

  --- A text that nobody else says.
  local function text_of(word)
    count = count + 1
    return ("%s %d"):format(word, count)
  end

  local function body_of(messages, fields)
    local body = { model = "sonnet", max_tokens = 1000, messages = messages }
    for name, value in pairs(fields or {}) do body[name] = value end
    return body
  end

  local function said(text) return { { role = "user", content = text } } end

  --- Asks until there is room, as clients do.
  local function ask(gateway, messages, fields)
    local answer
    repeat answer = gateway:ask(messages, fields) until answer.status ~= 429
    assert.equal(200, answer.status, answer.body)
    return fields and fields.stream and gateways.assemble(answer.body) or answer.json
  end

  local acts = {}

  function acts.talk(gateway, chance)
    local messages = {}
    for _ = 1, chance(1, 4) do
      local text, is_streamed = text_of "talk", chance(0, 1) == 1
      table.insert(messages, { role = "user", content = text })
      local message = ask(gateway, messages, { stream = is_streamed })
      assert.equal("echo: " .. text, gateways.text_of(message))
      finished[text] = true
      table.insert(messages, { role = "assistant", content = message.content })
    end
  end

  function acts.tools(gateway, chance)
    local text = text_of "TOOLS"
    local messages = said(text)
    local message = ask(gateway, messages, { tools = TOOLS, stream = chance(0, 1) == 1 })
    local results = {}
    for _, block in ipairs(message.content) do
      if block.type == "tool_use" then
        table.insert(results, { type = "tool_result", tool_use_id = block.id, content = "fine" })
      end
    end
    assert.equal(2, #results)
    table.insert(messages, { role = "assistant", content = message.content })
    table.insert(messages, { role = "user", content = results })
    assert.equal("all done", gateways.text_of(ask(gateway, messages, { tools = TOOLS })))
    finished[text] = true
  end

  function acts.abort(gateway, chance)
    local text = text_of "LINES"
    local reader = gateway:open("/v1/messages", body_of(said(text), { stream = true }))
    reader.news:wait(chance(1, 400))
    reader:close()
  end

  function acts.retry(gateway, chance)
    local text = text_of "LINES"
    local body = body_of(said(text), { stream = true })
    local reader = gateway:open("/v1/messages", body)
    reader.news:wait_until(function()
      return reader.text:find "text_delta" or reader.has_ended or reader.text:find "HTTP/1.1 4"
    end, 60000)
    local was_refused = not reader.text:find "text_delta"
    reader:close()
    if was_refused then return end
    helper.tick()
    local answer = gateway:request("/v1/messages", body, { ["x-stainless-retry-count"] = tostring(chance(1, 2)) })
    assert.equal(200, answer.status, answer.body)
    assert.equal(("line\n"):rep(20), gateways.text_of((gateways.assemble(answer.body))))
    finished[text] = true
  end

  function acts.hang(gateway, chance)
    if chance(1, 5) > 1 then return end -- it keeps a session for the grace
    local reader = gateway:open("/v1/messages", body_of(said(text_of "HANG")))
    reader.news:wait(chance(1, 400))
    reader:close()
  end

  function acts.stranger(gateway)
    local answer = gateway:ask(text_of "never", nil, { ["x-api-key"] = "wrong-token-0123" })
    assert.equal(401, answer.status)
  end

  function acts.rubbish(gateway, chance)
    local rubbish = { "{", "[]", '{"model":1}', "\0\1\2", '{"model":"sonnet","messages":[{"role":"x"}]}' }
    assert.equal(400, gateway:request("/v1/messages", rubbish[chance(1, #rubbish)]).status)
  end

  function acts.half(gateway)
    local reader = gateway:open("/v1/messages", '{"model":', { ["content-length"] = "1000" })
    reader.news:wait(5)
    reader:close()
  end

  function acts.broken(gateway)
    local answer = gateway:ask(text_of "BROKEN")
    assert.is_true(answer.status == 400 or answer.status == 429, answer.body)
  end

  function acts.slow(gateway)
    local text = text_of "LINES"
    local reader <close> = gateway:open("/v1/messages", body_of(said(text), { stream = true }))
    reader.socket:read_stop()
    reader.news:wait(300)
    reader.socket:read_start(function(_, bytes)
      reader.text = reader.text .. (bytes or "")
      reader.has_ended = not bytes
      reader.news:notify()
    end)
    reader.news:wait_until(function()
      return reader.text:find "\r\n0\r\n\r\n" or reader.has_ended or reader.text:find "HTTP/1.1 429"
    end, 60000)
    if reader.text:find "HTTP/1.1 429" then return end
    assert.matches("message_stop", reader.text, 1, true)
    finished[text] = true
  end

  local NAMES = {}
  for name in pairs(acts) do table.insert(NAMES, name) end
  table.sort(NAMES)

  --- Numbers that are the same for the same seed.
  local function chance_of(seed)
    local state = seed
    return function(least, most)
      state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
      return least + (state >> 33) % (most - least + 1)
    end
  end

  it("lose nothing, double nothing and leave nothing (seed " .. SEED .. ")", helper.task(function()
    count, finished = 0, {}
    local gateway <close> = gateways.start { kit = { script = SCRIPT }, max_sessions = 4, queue = 6, grace_ms = 5000,
      tool_wait_ms = 60000, idle_timeout_ms = 2000 }
    local ends, running = task.now() + FOR_MS, {}
    for client = 1, CLIENTS do
      running[client] = task.spawn(function()
        local chance = chance_of(SEED + client * 1000)
        while task.now() < ends do acts[NAMES[chance(1, #NAMES)]](gateway, chance) end
      end)
    end
    for _, one in ipairs(running) do one:await() end
    helper.eventually(function() return gateway.server.desk.running == 0 end, 60000, "the end of all turns")
    local times = {}
    for _, text in ipairs(gateway.kit:taken()) do times[text] = (times[text] or 0) + 1 end
    for text in pairs(finished) do assert.equal(1, times[text], text) end
    for text, number in pairs(times) do
      assert.equal(1, number, text)
      assert.is_nil(text:find "never", text)
    end
    assert.is_true(count > CLIENTS)
    assert.equal("table", type(core.json.decode(gateway:ask("still there?").body)))
  end, FOR_MS + 300000))
end)
