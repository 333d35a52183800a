-- parley serve, as a program: its tokens, who may ask, its log, its end.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local http_client = require "parley.testing.http_client"
local testing = require "parley.testing"
local tokens = require "parley.gateway.tokens"
local uv = require "luv"

describe("parley serve", function()
  local check_leaks, kit, state

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit { script = { answers = { { on = "slow", blocks = { { type = "text", text = "one\ntwo\nthree" } },
      line_ms = 400 }, { on = "hang", hang = true } } } }
    state = helper.temporary_folder()
  end)
  after_each(function()
    helper.task(function() -- of a server that was killed
      helper.eventually(function() return #kit:processes() == 0 end)
    end)()
    kit:close()
    helper.remove_folders()
    check_leaks()
  end)

  local function environment(more)
    return helper.environment(kit.environment, { HOME = kit.home, XDG_STATE_HOME = state }, more)
  end

  --- Starts it on a free port, with a token unless words say otherwise.
  local function serve(words, more)
    local program = helper.start({ helper.host, "serve", "--port", "0", "--executable", kit.executable,
      table.unpack(words or {}) }, { env = environment(more), input = false })
    program.changed:wait_until(function() return program.errors:find "plain model,.-\n" or program.status end, 60000)
    program.port = program.errors:match "listening on http://%S-:(%d+)\n"
    program.token = (files.read(state .. "/parley/token") or ""):match "%S+"
    return program
  end

  local function request(program, path, body, headers, method)
    local all = { ["x-api-key"] = program.token }
    for name, value in pairs(headers or {}) do all[name] = value or nil end
    local answer = http_client.request { url = ("http://127.0.0.1:%s%s"):format(program.port, path), headers = all,
      body = body and assert(core.json.encode(body)), method = method }
    answer.json = core.json.decode(answer.body)
    return answer
  end

  local function ask(text) return { model = "sonnet", messages = { { role = "user", content = text } } } end

  it("makes a token at its first start, for its owner alone, and keeps it", helper.task(function()
    local program = helper.run({ helper.host, "serve", "--print-token" }, { env = environment() })
    local token = program.output:match "^(parley%-%x+)\n$"
    assert.is_truthy(token and #token > 64, program.output)
    assert.equal(384, uv.fs_stat(state .. "/parley/token").mode & 511) -- 0600
    assert.equal(448, uv.fs_stat(state .. "/parley").mode & 511) -- 0700
    local server <close> = serve()
    assert.equal(token, server.token)
    assert.equal(200, request(server, "/v1/messages", ask "hello").status)
    assert.equal(200, request(server, "/v1/models", nil,
      { ["x-api-key"] = false, authorization = "Bearer " .. token }).status)
    assert.is_nil(server.errors:find(token, 1, true)) -- and tells it nobody
  end))

  it("leaves no token where the disk is full, and says so", helper.task(function()
    local program = helper.run({ "sh", "-c", [[ulimit -f 0; exec "$0" serve --print-token]], helper.host },
      { env = environment() })
    assert.matches("cannot write the token to '.*': file too large", program.errors)
    assert.same({}, helper.names_in(state .. "/parley"))
    assert.equal(0, helper.run({ helper.host, "serve", "--print-token" }, { env = environment() }).status)
  end))

  it("refuses a token's file that others may read", helper.task(function()
    helper.run({ helper.host, "serve", "--print-token" }, { env = environment() })
    assert(uv.fs_chmod(state .. "/parley/token", tonumber("644", 8)))
    local program = helper.run({ helper.host, "serve" }, { env = environment() })
    assert.equal(1, program.status)
    assert.matches("chmod 600", program.errors, 1, true)
  end))

  it("takes tokens with names, and writes who has asked", helper.task(function()
    local server <close> = serve({ "--token", "ada=ada-token-1" }, { PARLEY_TOKEN = "bob=bob-token-1,carl=carl-token" })
    for name, token in pairs { ada = "ada-token-1", bob = "bob-token-1", carl = "carl-token" } do
      assert.equal(200, request(server, "/v1/models", nil, { ["x-api-key"] = token }).status)
      server.changed:wait_until(function() return server.errors:find("token=" .. name, 1, true) end, 10000)
    end
    for _, token in ipairs { "ada-token-2", "ada", "ada=ada-token-1", "" } do
      assert.equal(401, request(server, "/v1/models", nil, { ["x-api-key"] = token }).status)
    end
    assert.equal(401, request(server, "/v1/models", nil, { ["x-api-key"] = false }).status)
    local program = helper.run({ helper.host, "serve", "--token", "short" }, { env = environment() })
    assert.equal(1, program.status)
    assert.matches("at least 8", program.errors, 1, true)
  end))

  it("answers to its own names alone, and lets no web page in", helper.task(function()
    local server <close> = serve { "--allow-host", "parley.example" }
    for host, status in pairs { ["localhost:1"] = 200, ["127.0.0.1"] = 200, ["[::1]:80"] = 200,
      ["parley.example:8765"] = 200, ["evil.example"] = 403, ["127.0.0.1.evil.example"] = 403 } do
      assert.equal(status, request(server, "/v1/models", nil, { host = host }).status, host)
    end
    local answer = request(server, "/v1/messages", nil, { origin = "http://evil.example" }, "OPTIONS")
    assert.equal(405, answer.status)
    for name in pairs(answer.headers) do assert.is_nil(name:find "^access%-control") end
  end))

  it("has what clients look for", helper.task(function()
    local server <close> = serve()
    local open = { ["x-api-key"] = false }
    assert.equal(200, request(server, "/api/hello", nil, open).status)
    assert.equal("ok\n", request(server, "/healthz", nil, open).body)
    assert.equal("claude-x-5", request(server, "/v1/models/claude-x-5").json.id)
    assert.equal("not_found_error", request(server, "/v1/models/gpt").json.error.type)
    assert.is_true(#request(server, "/v1/models?limit=1000").json.data >= 3)
    local counted = request(server, "/v1/messages/count_tokens", ask(("word "):rep(1000)))
    assert.is_true(counted.json.input_tokens > 1000 and counted.json.input_tokens < 3000)
    assert.same({ true, "true" }, { counted.json.parley_estimate, counted.headers["parley-estimate"] })
    assert.equal(404, request(server, "/v1/nothing").status)
    assert.equal(405, request(server, "/v1/messages").status)
    assert.equal(401, request(server, "/metrics", nil, open).status)
    assert.matches('parley_requests_total{path="/healthz",status="200"} 1', request(server, "/metrics").body, 1, true)
    assert.equal(200, request(server, "/v1/messages?beta=true", ask "hello").status)
  end))

  it("writes a line of JSON for each request, and nothing of what was said", helper.task(function()
    local server <close> = serve { "--json-log" }
    request(server, "/v1/messages", ask "a secret", { ["parley-conversation"] = "c1" })
    server.changed:wait_until(function() return server.errors:find '"path":"/v1/messages".-\n' end, 10000)
    local entry = core.json.decode(server.errors:match '({[^\n]*"/v1/messages"[^\n]*})\n')
    assert.same({ "POST", "/v1/messages", 200, "default", "c1" },
      { entry.method, entry.path, entry.status, entry.token, entry.conversation })
    assert.matches("^%x+%-", entry.session)
    assert.is_nil(server.errors:find("a secret", 1, true))
  end))

  it("listens on a unix socket, in whose place no other may stand", helper.task(function()
    local path = state .. "/socket"
    local server <close> = serve { "--socket", path }
    assert.equal(384, uv.fs_stat(path).mode & 511) -- 0600
    local curl = { "/bin/sh", "-c", ('command -v curl >/dev/null || exit 77; exec curl -s --unix-socket %s '
      .. '-H "x-api-key: %s" http://any/v1/models'):format(path, server.token) }
    local program = helper.run(curl, { env = environment() })
    if program.status == 77 then return pending "needs curl" end
    assert.equal("list", core.json.decode(program.output).object)
    local other = helper.run({ helper.host, "serve", "--socket", path, "--executable", kit.executable },
      { env = environment() })
    assert.matches("already", other.errors, 1, true)
    server:kill "sigkill"
    server:wait()
    local again <close> = serve { "--socket", path }
    assert.equal(0, helper.run(curl, { env = environment() }).status, again.errors)
  end))

  it("finishes what runs when it is told to end", helper.task(function()
    local server <close> = serve()
    local answer
    local asking = require("parley.base.task").spawn(function()
      answer = request(server, "/v1/messages", ask "slow")
    end)
    helper.eventually(function() return #kit:taken() == 1 end)
    server:kill "sigterm"
    asking:await()
    assert.same({ 200, "one\ntwo\nthree" }, { answer.status, answer.json.content[1].text })
    assert.equal(143, server:wait().status)
    assert.matches("finishing 1 turns, for 30 s at most", server.errors, 1, true)
    assert.same({}, kit:processes())
  end))

  it("leaves nothing behind when it is killed", helper.task(function()
    local server <close> = serve()
    local task = require "parley.base.task"
    local asking = {}
    for i = 1, 4 do asking[i] = task.spawn(pcall, request, server, "/v1/messages", ask("hang " .. i)) end
    helper.eventually(function() return #kit:taken() >= 3 end) -- the last one may be starting
    server:kill "sigkill"
    server:wait()
    for _, one in ipairs(asking) do assert.is_false((one:await())) end
    helper.eventually(function() return #kit:processes() == 0 end)
  end))

  it("says what is wrong with its command line", helper.task(function()
    for words, problem in pairs { ["--port x"] = "'x' is not a port", ["--queue x"] = "whole number",
      ["--max-sessions 0"] = "whole number from 1", ["--cwd /tmp"] = "--cwd is for --agent" } do
      local list = { helper.host, "serve" }
      for word in words:gmatch "%S+" do table.insert(list, word) end
      local program = helper.run(list, { env = environment() })
      assert.equal(1, program.status)
      assert.matches(problem, program.errors, 1, true)
    end
  end))
end)

describe("a token", function()
  it("may have a name", function()
    assert.same({ name = "default", token = "abcdefgh" }, tokens.parse "abcdefgh")
    assert.same({ name = "ada", token = "abcdefgh" }, tokens.parse "ada=abcdefgh")
    assert.same({ name = "default", token = "abcdefgh==" }, tokens.parse "abcdefgh==")
    for _, text in ipairs { "", "short", "has space", "ada=", "ada=short" } do assert.is_nil((tokens.parse(text))) end
  end)

  it("of two with one name is an error", function()
    helper.failure_of("ValueError", tokens.new, { { name = "a", token = "12345678" }, { name = "a", token = "1" } })
  end)
end)
