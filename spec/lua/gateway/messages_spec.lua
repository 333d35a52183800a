-- The Messages API over the simulated claude: whole, streamed, and what cannot be had.
local core = require "parley.core"
local defer = require "parley.base.defer"
local deliver = require "parley.gateway.deliver"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local http = require "parley.base.http"

local THINK = { { on = "think", thinking = "hmm", blocks = { { type = "text", text = "first\nline" },
  { type = "text", text = "second" } } } }

describe("POST /v1/messages", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function serves(...) it(gateways.serves(...)) end

  serves("answers with a message", function(gateway)
    local answer = gateway:ask "hello"
    assert.equal(200, answer.status)
    local message = answer.json
    assert.same({ { type = "text", text = "echo: hello" } }, { table.unpack(message.content) })
    assert.same({ "message", "assistant", "sonnet", "end_turn" },
      { message.type, message.role, message.model, message.stop_reason })
    assert.equal(core.json.null, message.stop_sequence)
    assert.matches("^msg_%x+$", message.id)
    assert.is_true(message.usage.output_tokens > 0)
    assert.is_true(message.parley_usage.output_tokens > 0)
    assert.matches("^req_%x+$", answer.headers["request-id"])
    assert.same({ "hello" }, gateway.kit:taken())
  end)

  serves("goes on in the session that has the history", function(gateway)
    local first = gateway:ask("one").json
    local messages = { { role = "user", content = "one" }, { role = "assistant", content = first.content },
      { role = "user", content = "two" } }
    assert.equal("echo: two", gateways.text_of(gateway:ask(messages).json))
    assert.equal(1, #gateway.kit:events "started")
    assert.same({ "one", "two" }, gateway.kit:taken())
  end)

  serves("takes what the system says in the middle, and neighbours of one role", function(gateway)
    gateway:ask { { role = "user", content = "one" }, { role = "user", content = "two" },
      { role = "system", content = "It is late." } }
    assert.same({ "one\ntwo\n<system-reminder>\nIt is late.\n</system-reminder>" }, gateway.kit:taken())
  end)

  for what, content in pairs { ["as a text"] = "echo: one",
    ["with a mark for the cache"] = { { type = "text", text = "echo: one",
      cache_control = { type = "ephemeral" } } } } do
    serves("finds it when the client keeps answers " .. what, function(gateway)
      gateway:ask "one"
      gateway:ask { { role = "user", content = "one" }, { role = "assistant", content = content },
        { role = "user", content = "two" } }
      assert.equal(1, #gateway.kit:events "started")
    end)
  end

  serves("begins another where the history is another's", function(gateway)
    gateway:ask "one"
    local answer = gateway:ask { { role = "user", content = "one" }, { role = "assistant", content = "something else" },
      { role = "user", content = "two" } }
    assert.equal("echo: two", gateways.text_of(answer.json))
    assert.equal(2, #gateway.kit:events "started")
  end)

  serves("takes neither system prompt nor tools of the machine's user, and no token of the client's", function(gateway)
    gateway:ask("hello", { system = { { type = "text", text = "Be" }, { type = "text", text = "brief." } } })
    local _, process = next(gateway.server.backend:live_sessions())
    local line = table.concat(process.argv, "|")
    assert.matches("|--system-prompt|Be\n\nbrief.|", line, 1, true)
    assert.matches("|--setting-sources||--strict-mcp-config|--tools||", line .. "|", 1, true)
    assert.matches("|--model|sonnet|", line, 1, true)
    assert.is_nil(line:find(gateways.TOKEN, 1, true))
    assert.equal(gateway.server.plain_folder, process.cwd)
  end)

  serves("says of each thing that cannot be had that it cannot", function(gateway)
    local answer = gateway:ask({ { role = "user", content = "hello" }, { role = "assistant", content = "I begin" } },
      { temperature = 0.5, top_p = 0.5, top_k = 5, stop_sequences = { "x" }, max_tokens = 1,
        tools = { { name = "a", input_schema = { type = "object" } }, { type = "web_search_20250305", name = "w" } },
        tool_choice = { type = "any" } })
    assert.equal(200, answer.status)
    assert.equal("echo: hello", gateways.text_of(answer.json))
    assert.equal("messages (an answer begun), stop_sequences, temperature, tool_choice (any), "
      .. "tools.1 (web_search_20250305), top_k, top_p, max_tokens", answer.headers["parley-ignored"])
  end)

  serves("says nothing of what has no effect", function(gateway)
    local answer = gateway:ask("hello", { temperature = 1, metadata = { user_id = "x" }, stop_sequences = {},
      top_p = core.json.null, tool_choice = { type = "auto" } })
    assert.is_nil(answer.headers["parley-ignored"])
  end)

  serves("refuses it when it is strict", { is_strict = true }, function(gateway)
    local answer = gateway:ask("hello", { temperature = 0.5 })
    assert.same({ 400, "invalid_request_error" }, { answer.status, answer.json.error.type })
    assert.matches("temperature", answer.json.error.message)
    assert.equal(400, gateway:ask("hello", { max_tokens = 1 }).status)
    assert.equal(200, gateway:ask("hello").status)
  end)

  serves("gives thinking as the transcript has it", { kit = { script = { answers = THINK } } }, function(gateway)
    local message = gateway:ask("think").json
    assert.same({ "thinking", "text", "text" }, { message.content[1].type, message.content[2].type,
      message.content[3].type })
    assert.same({ "hmm", "first\nline", "second" }, { message.content[1].thinking, message.content[2].text,
      message.content[3].text })
  end)

  local bad = {
    ["no JSON"] = { "{", "the body is no JSON" },
    ["a list"] = { "[]", "must be a JSON object" },
    ["no model"] = { { messages = {} }, "model: must be" },
    ["a model that is a flag"] = { { model = "--help", messages = { { role = "user", content = "x" } } },
      "model: must" },
    ["no messages"] = { { model = "sonnet" }, "at least one message" },
    ["a role that is none"] = { { model = "sonnet", messages = { { role = "tool", content = "x" } } },
      "messages.0 has the role \"tool\"" },
    ["an answer alone"] = { { model = "sonnet", messages = { { role = "assistant", content = "x" } } },
      "the last one must be the user's" },
    ["an image by its address"] = { { model = "sonnet", messages = { { role = "user", content = {
      { type = "image", source = { type = "url", url = "http://x/" } } } } } }, "only 'base64' can be sent" },
    ["a document"] = { { model = "sonnet", messages = { { role = "user", content = { { type = "document",
      source = { type = "text", data = "x" } } } } } }, "cannot be sent" },
    ["a result nobody asked for"] = { { model = "sonnet", messages = { { role = "user", content = { { type =
      "tool_result", tool_use_id = "toolu_x", content = "x" } } } } }, "without its tool_use" },
    ["a tool without a name"] = { { model = "sonnet", messages = { { role = "user", content = "x" } },
      tools = { { description = "x" } } }, "tools.0.name must be" },
    ["max_tokens of no number"] = { { model = "sonnet", max_tokens = "x", messages = { { role = "user",
      content = "x" } } }, "max_tokens: must be" },
    ["text that would press a key"] = { { model = "sonnet", messages = { { role = "user", content = "a\27b" } } },
      "U+001B" },
  }
  it("refuses what is no request, with the protocol's error", helper.task(function()
    local gateway <close> = gateways.start()
    for what, case in pairs(bad) do
      local answer = gateway:request("/v1/messages", case[1])
      assert.equal(400, answer.status, what .. ": " .. answer.body)
      assert.same({ "error", "invalid_request_error" }, { answer.json.type, answer.json.error.type }, what)
      assert.is_truthy(answer.json.error.message:find(case[2], 1, true), what .. ": " .. answer.json.error.message)
      assert.equal(answer.headers["request-id"], answer.json.request_id)
    end
    assert.same({}, gateway.kit:taken())
  end))

  it("is reached while others without a token keep all the connections that there may be", helper.task(function()
    local former = http.limits.connections.default
    http.limits.connections.default = 3
    local _ <close> = defer(function() http.limits.connections.default = former end)
    local gateway <close> = gateways.start()
    local others = {}
    local _ <close> = defer(function()
      for _, each in ipairs(others) do each:close() end
    end)
    for i = 1, 3 do
      others[i] = gateway:open("/healthz", "", { ["x-api-key"] = false }, "GET")
      others[i]:expect "ok"
    end
    helper.eventually(function() return gateway:request("/healthz").status == 200 end)
  end))

  serves("refuses a body that is too large, whether it says so or not", { body_bytes = 1000 }, function(gateway)
    local big = { model = "sonnet", messages = { { role = "user", content = ("x"):rep(2000) } } }
    local answer = gateway:request("/v1/messages", big)
    assert.same({ 413, "request_too_large" }, { answer.status, answer.json.error.type })
    local text = core.json.encode(big)
    local reader <close> = gateway:open("/v1/messages", ("%x\r\n%s\r\n0\r\n\r\n"):format(#text, text),
      { ["transfer-encoding"] = "chunked", ["content-length"] = false })
    reader:expect "request_too_large"
  end)

  for status, case in pairs { [400] = { "invalid_request_error" }, [429] = { "rate_limit_error", "30" },
    [529] = { "overloaded_error", "5" }, [500] = { "api_error" }, [413] = { "request_too_large" } } do
    local script = { answers = { { api_error = { status = status, text = "as asked", retries = 0 } } } }
    serves(("tells an error of the API, %d"):format(status), { kit = { script = script } }, function(gateway)
      local answer = gateway:ask "hello"
      assert.same({ status, case[1] }, { answer.status, answer.json.error.type })
      assert.equal(case[2], answer.headers["retry-after"])
    end)
  end

  serves("says what to do about a login that is none", { kit = { script = { answers = { { api_error = {
    text = "Not logged in · Please run /login", error = "authentication_failed" } } } } } }, function(gateway)
    local answer = gateway:ask "hello"
    assert.equal(500, answer.status)
    assert.equal("false", answer.headers["x-should-retry"])
    assert.matches("run `claude` once and log in", answer.json.error.message, 1, true)
  end)

  serves("says what to do about a dialog", { backend = { permission_mode = "bypassPermissions" },
    kit = { bypass_accepted = false, trusted = false }, is_agent = true }, function(gateway)
    local answer = gateway:ask "hello"
    assert.same({ 500, "false" }, { answer.status, answer.headers["x-should-retry"] })
    assert.matches("trust", answer.json.error.message, 1, true)
  end)

  serves("reads no file of the server's that a plain model's client names", function(gateway)
    local secret = helper.write(gateway.kit.folder .. "/secret.txt", "top secret")
    for _, text in ipairs { "see @" .. secret, ("see @%s."):format(secret), ('see @"%s"'):format(secret),
      ("see @%s#L1-2"):format(secret), "@../secret.txt" } do
      local answer = gateway:ask(text)
      assert.equal(400, answer.status, text)
      assert.matches("names a file of the server", answer.json.error.message, 1, true)
    end
    for _, text in ipairs { "@Override is fine", "me@example.org", "import x from @/no/such/file" } do
      assert.equal(200, gateway:ask(text).status, text)
    end
  end)

  serves("reads none that the history names, where that goes into the message",
    { backend = { history_injection_mode = "concat_message" } }, function(gateway)
      local secret = helper.write(gateway.kit.folder .. "/secret.txt", "top secret")
      assert.equal(200, gateway:ask({ { role = "user", content = "see @" .. secret }, { role = "assistant",
        content = "@" .. secret }, { role = "user", content = "well?" } }).status)
      local typed = gateway.kit:taken()[1]
      assert.matches("[User]: see @ " .. secret, typed, 1, true)
      assert.matches("[Assistant]: @ " .. secret, typed, 1, true)
    end)
end)

describe("POST /v1/messages, streamed,", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function serves(...) it(gateways.serves(...)) end

  serves("is the message that it would be whole", { kit = { script = { answers = THINK } } }, function(gateway)
    local answer = gateway:ask("think", { stream = true, thinking = { type = "adaptive" } })
    assert.matches("^text/event%-stream", answer.headers["content-type"])
    local message, names = gateways.assemble(answer.body)
    local whole = gateway:ask("think").json
    assert.same({ table.unpack(whole.content) }, { table.unpack(message.content) })
    assert.same({ whole.stop_reason, whole.usage, whole.parley_usage },
      { message.stop_reason, message.usage, message.parley_usage })
    assert.equal("message_start", names[1])
  end)

  serves("streams text before the message is whole", { kit = { script = { answers = { {
    blocks = { { type = "text", text = "one\ntwo\nthree" } }, line_ms = 300 } } } } }, function(gateway)
    local reader <close> = gateway:open("/v1/messages", { model = "sonnet", stream = true,
      messages = { { role = "user", content = "count" } } })
    reader:expect "one\\n"
    assert.is_nil(reader.text:find("three", 1, true))
    reader:expect "message_stop"
    local _, _, body = reader.text:find "\r\n\r\n(.*)"
    body = body:gsub("%x+\r\n(.-)\r\n", "%1")
    assert.equal("one\ntwo\nthree", gateways.text_of((gateways.assemble(body))))
  end)

  serves("says at once that it lives", { kit = { script = { answers = { { delay_ms = 1500 } } } } }, function(gateway)
    local answer = gateway:ask("slow", { stream = true })
    local _, names = gateways.assemble(answer.body)
    assert.same({ "message_start", "ping", "content_block_start" }, { names[1], names[2], names[3] })
  end)

  serves("says again and again that it lives, as long as nothing else comes",
    { kit = { script = { answers = { { text = "after all", delay_ms = 2500 } } } } }, function(gateway)
      local ping_ms = deliver.PING_MS
      deliver.PING_MS = 100
      local answer = gateway:ask("slow", { stream = true })
      deliver.PING_MS = ping_ms
      local pings = select(2, answer.body:gsub("event: ping\n", ""))
      assert.is_true(pings >= 5, pings)
      assert.equal("after all", gateways.text_of((gateways.assemble(answer.body))))
    end)

  serves("tells an error that comes at once with its status, and a later one as an event", { kit = { script = {
    answers = { { on = "now", api_error = { status = 400, text = "as asked" } },
      { on = "later", api_error = { status = 529, text = "as asked", retries = 1, retry_ms = 1500 } } } } } },
    function(gateway)
      local opening_ms, starting_ms = deliver.OPENING_MS, deliver.STARTING_MS
      deliver.OPENING_MS, deliver.STARTING_MS = 60000, 60000 -- at once on a busy machine, too
      local answer = gateway:ask("now", { stream = true })
      deliver.OPENING_MS, deliver.STARTING_MS = opening_ms, starting_ms
      assert.same({ 400, "invalid_request_error" }, { answer.status, answer.json.error.type })
      answer = gateway:ask("later", { stream = true })
      assert.equal(200, answer.status)
      local _, _, problem = gateways.assemble(answer.body)
      assert.same({ "error", "overloaded_error", answer.headers["request-id"] },
        { problem.type, problem.error.type, problem.request_id })
    end)

  serves("has the whole message once, though the program has asked the API again", { kit = { script = { answers = {
    { retries = 2, retry_ms = 200, blocks = { { type = "text", text = "one\ntwo\nthree" } }, line_ms = 20 } } } } },
    function(gateway)
      for _, stream in ipairs { true, false } do
        local answer = gateway:ask("again", { stream = stream })
        assert.equal(200, answer.status)
        local message = stream and gateways.assemble(answer.body) or answer.json -- one message_start, and no error
        assert.equal("one\ntwo\nthree", gateways.text_of(message))
        assert.equal("end_turn", message.stop_reason)
      end
    end)

  serves("says once that text does not stream, where the program does not tell of it",
    { kit = { profile = "2.1.110" } }, function(gateway)
      for _ = 1, 2 do gateways.assemble(gateway:ask("hello", { stream = true }).body) end
      local count = 0
      for _, line in ipairs(gateway.lines) do count = count + (line:find "no partial text" and 1 or 0) end
      assert.equal(1, count)
    end)

  serves("names in the end what went beyond what was asked", function(gateway)
    local message = gateways.assemble(gateway:ask("hello", { stream = true, max_tokens = 1 }).body)
    assert.same({ "max_tokens" }, { table.unpack(message.parley_ignored) })
  end)
end)
