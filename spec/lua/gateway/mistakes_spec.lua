-- What is wrong with a request is said as such, and what is ignored is named, in each form of an answer.
local asked = require "parley.gateway.asked"
local files = require "parley.base.files"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local json = require("parley.core").json
local openai = require "parley.gateway.openai"
local runs = require "parley.gateway.run"

local function ask(text, fields)
  local body = { model = "sonnet", max_tokens = 100, messages = { { role = "user", content = text } } }
  for name, value in pairs(fields or {}) do body[name] = value end
  return body
end

describe("an answer", function()
  local function serves(...) it(gateways.serves(...)) end

  serves("beyond max_tokens is whole, and says so in a header", function(gateway)
    local answer = gateway:request("/v1/messages", ask("hello there", { max_tokens = 1 }))
    assert.equal(200, answer.status)
    assert.matches("max_tokens", answer.headers["parley-ignored"])
  end)

  serves("of Chat Completions says so in its last event", function(gateway)
    local answer = gateway:request("/v1/chat/completions", ask("hello there", { max_tokens = 1, stream = true }))
    assert.truthy(answer.body:find '"parley_ignored":%["max_tokens"%]')
  end)

  serves("names fields of any name", function(gateway)
    local answer = gateway:request("/v1/messages", ask("hello there", { ["x\r\ny: 1"] = 1 }))
    assert.same({ { "hello there" }, 200 }, { gateway.kit:taken(), answer.status })
    assert.equal("x??y: 1", answer.headers["parley-ignored"])
  end)

  serves("to a path that is no text is that nothing is there", function(gateway)
    assert.equal(404, gateway:request("/v1/models/%ff", nil, nil, "GET").status)
  end)
end)

--- The error of a request, as it comes over the wire.
local function problem_of(body, is_openai)
  return helper.failure_of("ApiError", function()
    local came = assert(json.decode(assert(json.encode(body))))
    asked.read(is_openai and openai.translate(came) or came)
  end)
end

describe("a request of Chat Completions", function()
  for what, message in pairs {
    ["calls that are no list"] = { role = "assistant", tool_calls = 5 },
    ["a call for a list of calls"] = { role = "assistant", tool_calls = { id = "a" } },
    ["a part for a list of parts"] = { role = "user", content = { type = "text", text = "two" } },
    ["a system text that is none"] = { role = "system", content = { { type = "text", text = json.null } } },
  } do
    it(("with %s is a bad one"):format(what), function()
      assert.matches("^messages%.0%.", problem_of({ model = "m", messages = { message, ask("x").messages[1] } }, true)
        .message)
    end)
  end

  it("with a message, or a tool, for a list of them is a bad one", function()
    assert.equal("messages: must be a list", problem_of({ model = "m", messages = { role = "user" } }, true).message)
    assert.equal("tools: must be a list", problem_of(ask("x", { tools = { type = "function" } }), true).message)
  end)
end)

describe("a request", function()
  it("with a block, or a tool, for a list of them is a bad one", function()
    local text = { type = "text", text = "be good" }
    assert.equal("system: must be a text or a list of text blocks", problem_of(ask("x", { system = text })).message)
    assert.equal("tools: must be a list", problem_of(ask("x", { tools = { name = "probe" } })).message)
  end)

  local DOCUMENT = { type = "document", source = { type = "text", media_type = "text/plain", data = "x" } }
  local NO_PICTURE = { type = "image", source = { type = "base64", media_type = "image/png", data = "a" } }
  local CALL = { role = "assistant", content = { { type = "tool_use", id = "a", name = "t", input = {} } } }
  local RESULT = { type = "tool_result", tool_use_id = "a", content = "5" }
  local TEXT = { type = "text", text = "x" }
  it("that cannot be sent is told where, as it counts itself", helper.task(function()
    local gateway <close> = gateways.start()
    local function said(messages) return gateway:ask(messages).json.error.message end
    local first, answer = { role = "user", content = "x" }, { role = "assistant", content = "y" }
    assert.matches("^messages%.3%.content%.1 is a block of type 'document'", said { first, answer, first,
      { role = "user", content = { TEXT, DOCUMENT } } })
    assert.matches("^messages%.2%.content%.2 is a block of type 'image'", said { first, CALL,
      { role = "user", content = { RESULT, TEXT, NO_PICTURE } } })
    assert.matches("^messages%.3%.content%.1: a block", said { first, first, CALL,
      { role = "user", content = { RESULT, DOCUMENT } } })
    assert.matches("^messages%.2 cannot be sent: ", said { first, first, { role = "user", content = "a\27b" }, answer })
    assert.matches("^messages%.2 cannot be sent: ", said { { role = "user", content = "a\27b" },
      { role = "assistant", content = " " }, first })
    assert.same({}, gateway.kit:taken())
  end))

  it("with a name that two tools have says which", function()
    local tool, other = { name = "a" }, { type = "web_search_20250305", name = "w" }
    assert.equal("tools.3.name is 'a', which tools.1 has already",
      problem_of(ask("x", { tools = { other, tool, other, tool } })).message)
  end)
end)

describe("an address to listen on", function()
  it("that is a name is a mistake", helper.task(function()
    local err = helper.failure_of("ValueError", gateways.start, { host = "localhost" })
    assert.matches("must be an address, as 127.0.0.1 or ::1, not 'localhost'", err.message, 1, true)
  end))

  it("that has colons has brackets in what is said of it", helper.task(function()
    local gateway <close> = gateways.start { host = "::1" }
    local server = gateway.server
    assert.equal(("parley.gateway.Server ([::1]:%d)"):format(server.port), tostring(server))
    assert.equal(("parley.http.Server ([::1]:%d)"):format(server.port), tostring(server.http))
  end))
end)

describe("an index of conversations that is damaged", function()
  after_each(helper.remove_folders)

  it("is told of in the log", helper.task(function()
    local path = helper.temporary_folder() .. "/state/sessions.db"
    files.make_folder(path:match "^(.*)/")
    files.write(path, ("no database "):rep(1000))
    local gateway <close> = gateways.start { backend = { state = path } }
    assert.matches("^parley serve: .* is damaged .*; it was moved to '.*', and a new one begun\n$", gateway.lines[1])
  end))
end)

describe("a document beside the result of a tool", function()
  it("is refused, for nobody would be told of it", function()
    local err = problem_of { model = "m", messages = {
      { role = "user", content = "x" },
      { role = "assistant", content = { { type = "tool_use", id = "a", name = "t", input = {} } } },
      { role = "user", content = { { type = "tool_result", tool_use_id = "a", content = "5" },
        { type = "document", source = { type = "text", media_type = "text/plain", data = "x" } } } } } }
    assert.same({ 400, 'messages.2.content.1: a block of type "document" cannot be given beside a result' },
      { err.status, err.message })
  end)
end)

describe("a picture beside the result of a tool that has failed", function()
  it("is named as what cannot be had", helper.task(function()
    local tools = json.array { { name = "t", input_schema = { type = "object" } } }
    local request = asked.read { model = "m", tools = tools, messages = {
      { role = "user", content = "x" },
      { role = "assistant", content = { { type = "tool_use", id = "a", name = "t", input = {} } } },
      { role = "user", content = { { type = "tool_result", tool_use_id = "a", is_error = true, content = "no" },
        { type = "image", source = { type = "base64", media_type = "image/png", data = "aaaa" } } } } } }
    assert.same({ "messages (a picture beside a result that is an error)" }, request.ignored)
    local run = runs.new { asked = request, owner = "me", scope = "", is_strict = false,
      host = { calls_closed = function() end } }
    run.open = { a = {} }
    run:answer(request)
    assert.is_false((pcall(run:tools()[1].run, {}, { id = "a" })))
  end))
end)
