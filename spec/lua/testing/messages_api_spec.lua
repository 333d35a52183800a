local helper = require "spec.helper"
local json = require("parley.core").json
local messages_api = require "parley.testing.messages_api"
local task = require "parley.base.task"
local uv = require "luv"

--- Sends bytes and gives what comes back: all until the server closes, or until `is_enough(bytes)`.
local function exchange(server, bytes, is_enough)
  return task.timeout(5000, function()
    local socket = uv.new_tcp()
    local _ <close> = task.closing(socket)
    local received, ended, news = "", false, task.condition()
    socket:connect("127.0.0.1", server.port, function(err)
      assert(not err, err)
      socket:write(bytes)
      socket:read_start(function(_, piece)
        if piece then received = received .. piece else ended = true end
        news:notify()
      end)
    end)
    while not ended and not (is_enough and is_enough(received)) do news:wait() end
    return received
  end)
end

local function http(method, path, body, headers)
  local head = ("%s %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n"):format(method, path, #body)
  return head .. (headers or "") .. "\r\n" .. body
end

local CLOSE = "connection: close\r\n"

local function unchunk(body)
  local pieces = {}
  local position = 1
  while true do
    local size, start = body:match("^(%x+)\r\n()", position)
    if not size or tonumber(size, 16) == 0 then return table.concat(pieces), size ~= nil end
    size = tonumber(size, 16)
    table.insert(pieces, body:sub(start, start + size - 1))
    position = start + size + 2
  end
end

--- Asks the Messages API.
---@return table result  `status`, `body` (decoded), `events` (of a stream), `is_whole`
local function ask(server, request, path)
  local answer = exchange(server, http("POST", path or "/v1/messages?beta=true", json.encode(request), CLOSE))
  local head, body = answer:match "^(.-)\r\n\r\n(.*)$"
  if not head then return { is_whole = false } end
  local result = { status = tonumber(head:match "^HTTP/1.1 (%d+)"), is_whole = true, events = {} }
  if head:find("transfer-encoding: chunked", 1, true) then body, result.is_whole = unchunk(body) end
  if head:find("text/event-stream", 1, true) then
    for kind, data in body:gmatch "event: (%S+)\ndata: ([^\n]*)\n\n" do
      local event = assert(json.decode(data))
      assert.equal(kind, event.type)
      table.insert(result.events, event)
    end
  else
    result.body = json.decode(body)
  end
  return result
end

local function user(...)
  local blocks = {}
  for index, text in ipairs { ... } do blocks[index] = { type = "text", text = text } end
  return { role = "user", content = blocks }
end

local function turn(...) return { model = "m", max_tokens = 1000, messages = { ... } } end

local function text_of(result)
  local texts = {}
  for _, block in ipairs(result.body.content) do table.insert(texts, block.text) end
  return table.concat(texts, "|")
end

describe("the Messages API stand-in", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- An `it` whose body is a task with a running server.
  local function serves(name, options, body)
    it(name, helper.task(function()
      local server <close> = messages_api.start(options)
      body(server)
    end))
  end

  describe("as an HTTP server", function()
    serves("answers requests one after the other on one connection", {}, function(server)
      local request = http("POST", "/v1/messages/count_tokens", json.encode(turn(user "x")))
      local answer = exchange(server, request .. request, function(bytes)
        return select(2, bytes:gsub("input_tokens", "")) == 2
      end)
      assert.equal(2, select(2, answer:gsub("HTTP/1.1 200 OK", "")))
    end)

    serves("reads a body in chunks", {}, function(server)
      local body = json.encode(turn(user "hello"))
      local head = "POST /v1/messages HTTP/1.1\r\nHost: x\r\n" .. CLOSE .. "Transfer-Encoding: chunked\r\n\r\n"
      local bytes = head .. ("%X;x=y\r\n%s\r\n1\r\n%s\r\n0\r\nTrailer: z\r\n\r\n"):format(#body - 1, body:sub(1, -2),
        body:sub(-1))
      assert.truthy(exchange(server, bytes):find("echo: hello", 1, true))
    end)

    serves("asks for the body that a client holds back", {}, function(server)
      local answer = exchange(server,
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n",
        function(bytes) return #bytes > 0 end)
      assert.equal("HTTP/1.1 100 Continue\r\n\r\n", answer)
    end)

    serves("has nothing at other paths, and no body for HEAD", {}, function(server)
      assert.truthy(exchange(server, http("GET", "/", "", CLOSE)):find("^HTTP/1.1 404 .*not_found_error"))
      assert.truthy(exchange(server, http("HEAD", "/api/hello", "", CLOSE)):find("^HTTP/1.1 404 .*\r\n\r\n$"))
      assert.equal("other", server.requests[2].kind)
    end)

    serves("says that a port is taken", {}, function(server)
      local ok, err = pcall(messages_api.start, { port = server.port })
      assert.is_false(ok)
      assert.equal("EADDRINUSE", err.code)
    end)

    serves("closes twice without harm, with an answer under way", {}, function(server)
      local child = task.spawn(ask, server, turn(user "SLOW"))
      local request = server:wait_for(function(request) return request.kind == "turn" end)
      server:close()
      server:close()
      assert.equal("aborted", request.state)
      assert.is_false(child:await().is_whole)
    end)
  end)

  describe("without a script", function()
    serves("echoes the whole text that the user typed last", {}, function(server)
      local long = ("line ä\n"):rep(50) .. "end"
      assert.equal("echo: " .. long, text_of(ask(server, turn(user("<system-reminder>\nx", long)))))
      assert.equal("echo: plain", text_of(ask(server, turn({ role = "user", content = "plain" }))))
    end)

    serves("passes over what the program adds by itself", {}, function(server)
      local continuation = "[Your previous response had no visible output. Please continue …]"
      local result = ask(server, turn(user("old\n", "new\n", continuation), { role = "system", content = "tools" }))
      assert.equal("echo: new", text_of(result))
    end)

    serves("takes no word from the history, and none from inside another", {}, function(server)
      local result = ask(server, turn(user "THINK", { role = "assistant", content = "ok" }, user "UNTHINKABLE ERR4000"))
      assert.equal("echo: UNTHINKABLE ERR4000", text_of(result))
    end)

    serves("calls a tool, and echoes once the result is there", {}, function(server)
      local question = user "USETOOL now"
      local call = ask(server, turn(question)).body
      assert.equal("tool_use", call.stop_reason)
      assert.equal("Bash", call.content[2].name)
      local result = { role = "user", content = {
        { type = "tool_result", tool_use_id = call.content[2].id, content = "tool-out" },
      } }
      local answer = ask(server, turn(question, { role = "assistant", content = call.content }, result))
      assert.equal("end_turn", answer.body.stop_reason)
      assert.equal("echo: USETOOL now", text_of(answer))
      assert.equal(1, server:turns()[2].step)
    end)

    serves("gives every tool call an id of its own", {}, function(server)
      local one, two = ask(server, turn(user "TWOTOOLS")).body, ask(server, turn(user "TWOTOOLS")).body
      local ids = {}
      for _, body in ipairs { one, two } do
        for _, block in ipairs(body.content) do ids[block.id] = true end
        ids[body.id] = true
      end
      local count = 0
      for _ in pairs(ids) do count = count + 1 end
      assert.equal(6, count)
    end)

    for word, reason in pairs {
      MAXTOK = "max_tokens", REFUSE = "refusal", STOPSEQ = "stop_sequence", PAUSE = "pause_turn", EMPTY = "end_turn",
    } do
      serves(("stops for %s at %s"):format(reason, word), {}, function(server)
        assert.equal(reason, ask(server, turn(user(word))).body.stop_reason)
      end)
    end

    for _, status in ipairs { 400, 401, 413, 429, 500, 529 } do
      serves("fails with " .. status, {}, function(server)
        for _ = 1, 2 do
          local result = ask(server, turn(user("ERR" .. status)))
          assert.equal(status, result.status)
          assert.equal("error", result.body.type)
        end
      end)
    end

    serves("sends the headers of an error that its script names", { script = {
      { on = "limit", status = 429, message = "slow down", headers = { ["x-should-retry"] = "false" } } } },
      function(server)
        local answer = exchange(server, http("POST", "/v1/messages", json.encode(turn(user "limit")), CLOSE))
        assert.is_truthy(answer:find "^HTTP/1.1 429 ", answer)
        assert.is_truthy(answer:find("\r\nx-should-retry: false\r\n", 1, true), answer)
        assert.is_truthy(answer:find("slow down", 1, true))
      end)

    serves("fails once a message at RETRYONCE", {}, function(server)
      assert.equal(529, ask(server, turn(user "RETRYONCE")).status)
      assert.equal(200, ask(server, turn(user "RETRYONCE")).status)
      assert.equal(529, ask(server, turn(user "RETRYONCE again")).status)
    end)

    serves("puts files into the program's working directory", {}, function(server)
      local request = turn(user "WRITETOOL")
      request.system = "Environment:\n - Primary working directory: /tmp/a \"b\"\n - Is a git repository: false"
      assert.equal('/tmp/a "b"/written.txt', ask(server, request).body.content[1].input.file_path)
    end)

    serves("answers a title request in its schema, whatever it quotes", {}, function(server)
      local request = turn(user "<session>\nERR400 SLOW\n</session>")
      request.output_config = { format = { type = "json_schema", schema = {
        type = "object", properties = { title = { type = "string" }, sure = { type = "boolean" } },
      } } }
      local result = ask(server, request)
      assert.same({ title = "stand-in", sure = false }, json.decode(text_of(result)))
      assert.same({}, server:turns())
    end)

    serves("counts tokens", {}, function(server)
      assert.same({ input_tokens = 10 }, ask(server, turn(user "ERR400"), "/v1/messages/count_tokens").body)
    end)
  end)

  describe("as a stream", function()
    local function stream(text)
      local request = turn(user(text))
      request.stream = true
      return request
    end

    serves("sends the events of each block in order", {}, function(server)
      local kinds, texts = {}, {}
      for _, event in ipairs(ask(server, stream "THINK").events) do
        table.insert(kinds, event.type)
        if event.delta and event.delta.text then table.insert(texts, event.delta.text) end
      end
      assert.equal("message_start content_block_start content_block_delta content_block_delta content_block_stop "
        .. "content_block_start content_block_delta content_block_stop "
        .. "content_block_start content_block_delta content_block_stop message_delta message_stop",
        table.concat(kinds, " "))
      assert.same({ "first text", "second text" }, texts)
    end)

    serves("brings a tool's input as JSON", {}, function(server)
      local events = ask(server, stream "TWOTOOLS").events
      assert.same({}, events[2].content_block.input)
      assert.equal("echo A", json.decode(events[3].delta.partial_json).command)
      assert.equal("tool_use", events[#events - 1].delta.stop_reason)
    end)

    serves("ends without an end at CUT", {}, function(server)
      local result = ask(server, stream "CUT")
      assert.is_false(result.is_whole)
      assert.equal("content_block_delta", result.events[#result.events].type)
      assert.equal("aborted", server.requests[1].state)
    end)

    serves("sends a text line by line where the script says so", {
      script = { {
        on = "count", blocks = { { type = "text", text = "1\n2\n3" } }, line_ms = 1, drip_ms = 1, delay_ms = 1,
      } },
    }, function(server)
      local texts = {}
      for _, event in ipairs(ask(server, stream "count").events) do
        table.insert(texts, event.delta and event.delta.text)
      end
      assert.same({ "1\n", "2\n", "3" }, texts)
    end)

    serves("notices that the client went away", {}, function(server)
      local bytes = http("POST", "/v1/messages", json.encode(stream "COUNT"))
      exchange(server, bytes, function(received) return received:find("\"2\\n\"", 1, true) end)
      assert.equal("/v1/messages", server:wait_for(function(request) return request.state == "aborted" end).path)
    end)
  end)

  describe("with a script", function()
    serves("adds up the rules that apply, the first one first", { script = {
      { on = "a.b", stop_reason = "refusal" },
      { on = function(text) return #text > 3 end, blocks = {}, stop_reason = "max_tokens" },
    } }, function(server)
      assert.equal("end_turn", ask(server, turn(user "acb")).body.stop_reason)
      assert.equal("refusal", ask(server, turn(user "a.b")).body.stop_reason)
      local both = ask(server, turn(user "a.b.")).body
      assert.equal("refusal", both.stop_reason)
      assert.same({}, both.content)
    end)

    serves("answers later steps of a turn where a rule names them", {
      script = { { on = "go", step = 1, blocks = { { type = "text", text = "one" } } } },
    }, function(server)
      assert.equal("echo: go", text_of(ask(server, turn(user "go"))))
      assert.equal("one", text_of(ask(server, turn(user "go", { role = "assistant", content = "x" }))))
    end)

    for message, given in pairs {
      ["messages_api.start has no option 'scirpt'; did you mean 'script'?"] = { scirpt = {} },
      ["messages_api.start: script[1] has no option 'delya_ms'; did you mean 'delay_ms'?"] =
        { script = { { on = "x", delya_ms = 5 } } },
      ["messages_api.start: option 'script' must be a list of rules, or a function"] =
        { script = { on = "x", blocks = {} } },
      ["messages_api.start: script[1]: option 'blocks' must be a list of content blocks, and [1] needs 'text', a "
        .. "string"] =
        { script = { { on = "x", blocks = { { type = "text", txt = "x" } } } } },
      ["messages_api.start: script[1]: option 'blocks' must be a list of content blocks, and [2] has no 'type'"] =
        { script = { { on = "x", blocks = { { type = "mine" }, "text" } } } },
      ["messages_api.start: script[1]: option 'usage' must be a table with input_tokens and output_tokens"] =
        { script = { { on = "x", usage = { input = 3 } } } },
      ["messages_api.start: script[2] must have 'on'"] = { script = { { on = "x" }, { status = 500 } } },
    } do
      it("is refused when it is wrong: " .. message, function()
        local ok, err = pcall(messages_api.start, given)
        assert.is_false(ok)
        assert.equal(message, err.message)
      end)
    end

    serves("may be a function", {
      script = function(text, request)
        if text == "fail" then return { status = 503, message = "as " .. request.kind } end
      end,
    }, function(server)
      local failure = ask(server, turn(user "fail"))
      assert.equal(503, failure.status)
      assert.equal("as turn", failure.body.error.message)
      assert.equal("echo: else", text_of(ask(server, turn(user "else"))))
    end)
  end)

  describe("with a script that answers wrong", function()
    for text, given in pairs {
      ["ValueError: the Messages API's script has no option 'stauts'; did you mean 'status'?"] =
        { script = function() return { stauts = 500 } end },
      ['ValueError: the Messages API\'s script takes a table of options, not "hello"'] =
        { script = function() return "hello" end },
      ["ValueError: the Messages API's script: option 'blocks' must be a list of content blocks, and [1] has no "
        .. "'type'"] =
        { script = { { on = "hi", blocks = function() return { "text" } end } } },
    } do
      serves("says so: " .. text, given, function(server)
        local said = ask(server, turn(user "hi"))
        assert.same({ 400, { type = "invalid_request_error", message = text } }, { said.status, said.body.error })
      end)
    end
  end)

  serves("refuses what the API would refuse", {}, function(server)
    for message, body in pairs {
      ["messages: at least one is needed"] = { model = "m", max_tokens = 5, messages = json.array {} },
      ["max_tokens: a positive whole number is needed"] = { model = "m", messages = { user "hi" } },
      ["model: a text is needed"] = { max_tokens = 5, messages = { user "hi" } },
      ["messages.0: a role and a content are needed"] = { model = "m", max_tokens = 5, messages = { "x" } },
      ["messages.0: content: a text or a list of blocks is needed"] =
        { model = "m", max_tokens = 5, messages = { { role = "user" } } },
      ["messages.0: content.0: no text"] =
        { model = "m", max_tokens = 5, messages = { { role = "user", content = { { type = "text" } } } } },
      ["the body is no JSON object"] = "no object",
    } do
      local said = ask(server, body)
      assert.same({ 400, { type = "invalid_request_error", message = message } }, { said.status, said.body.error })
    end
    assert.equal(10, ask(server, { model = "m", messages = { user "hi" } }, "/v1/messages/count_tokens").body
      .input_tokens)
  end)

  for status, kind in pairs { [402] = "billing_error", [403] = "permission_error", [504] = "timeout_error" } do
    serves(("names the error %d as the API does"):format(status), {}, function(server)
      local said = ask(server, turn(user("ERR" .. status)))
      assert.same({ status, kind }, { said.status, said.body.error.type })
    end)
  end

  describe("as a witness", function()
    serves("keeps every request, decoded, in order", {}, function(server)
      exchange(server, http("HEAD", "/", "", CLOSE))
      local first, second = turn(user "one"), turn(user "one", { role = "assistant", content = "x" }, user "two")
      ask(server, first)
      ask(server, second)
      assert.equal(3, #server.requests)
      assert.same(first, server.requests[2].body)
      assert.equal("/v1/messages?beta=true", server.requests[3].path)
      assert.equal("x", server.requests[3].headers.host)
      assert.same(second.messages, server:last_messages())
    end)

    serves("waits for a request, and not for ever", {}, function(server)
      local child = task.spawn(ask, server, turn(user "later"))
      assert.equal("later", server:wait_for(function(request) return request.text == "later" end).text)
      child:await()
      local ok, err = pcall(server.wait_for, server, function() return false end, 1)
      assert.is_false(ok)
      assert.equal("ETIMEDOUT", err.code)
    end)

    it("runs as a program of its own, until a signal", helper.task(function()
      local program <close> = helper.start { helper.host, "-e",
        "return require('parley.testing.messages_api').main(...)", "0" }
      program:expect "\n"
      local server = { port = tonumber(program.output:match "listening on http://127.0.0.1:(%d+)\n") }
      assert.equal("echo: hi", text_of(ask(server, turn(user "hi"))))
      program:kill "sigterm"
      assert.equal(128 + 15, program:wait().status)
    end))

    it("appends a line for each request to its log", helper.task(function()
      local path = os.tmpname()
      local server <close> = messages_api.start { log = path }
      ask(server, turn(user "logged"))
      local file <close> = assert(io.open(path))
      os.remove(path)
      assert.same({
        method = "POST", path = "/v1/messages?beta=true", kind = "turn", text = "logged", step = 0, messages = 1,
      }, json.decode(file:read "l"))
    end))
  end)
end)
