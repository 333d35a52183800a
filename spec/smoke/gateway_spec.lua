-- The gateway over the real program: what a plain model is told, text as it streams, a client's tools; the official
-- clients, and the program itself, as clients.
local core = require "parley.core"
local files = require "parley.base.files"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local live = require "spec.smoke.live"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local uv = require "luv"

local PREFIX = "mcp__parley__"
local CLIENTS, NODE = uv.cwd() .. "/build/clients", "/usr/bin/node"

local function probe(n) return { type = "tool_use", name = PREFIX .. "probe", input = { n = n } } end
local function text(said) return { type = "text", text = said } end

--- Whether the last message holds a text, which may stand between what another Claude Code says beside it.
local function holds(words)
  return function(_, request)
    local last = request.body.messages[#request.body.messages]
    for _, message in ipairs { last, request.body.messages[#request.body.messages - 1] } do
      if assert(core.json.encode(message)):find(words, 1, true) then return true end
    end
  end
end

--- What the model does, by the words of the message; as the clients' scenarios want it.
local RULES = {
  { on = "lines", blocks = { text "one\ntwo\nthree" }, line_ms = 2500 },
  { on = "work", blocks = { text "let me see", probe(1) } },
  { on = "work", step = 1, blocks = { probe(2), probe(3) } },
  { on = "work", step = 2, blocks = { probe(4) } },
  { on = "work", step = 3, blocks = { text "all done" } },
  { on = "slowly", blocks = { text "now", probe(1), probe(2) }, drip_ms = 900 },
  { on = "think", blocks = { { type = "thinking", thinking = "hmm", signature = "c2ln" }, text "first",
    text "second" } },
  { on = holds "run it", blocks = { { type = "tool_use", name = PREFIX .. "Bash",
    input = { command = "echo tool-out", description = "as asked" } } } },
  { on = "limited", status = 429 }, { on = "overloaded", status = 529 }, { on = "late", delay_ms = 1500, status = 529 },
  { on = "endless", blocks = { text(("line\n"):rep(600)) }, line_ms = 50 },
  { on = "once", status = 529, times = 1 },
}

local TOOLS = { { name = "probe", description = "is looked at", input_schema = { type = "object",
  properties = { n = { type = "integer" } }, required = { "n" } } } }

describe("the gateway, on the real program,", function()
  if not live.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  --- An `it` with a gateway on the real program, whose folder is not trusted yet.
  local function serves(name, body, idle_timeout_ms)
    it(name, helper.task(function()
      local api <close> = messages_api.start { script = RULES }
      local home <close> = offline_home.new { base_url = api.url, variables = { CLAUDE_CODE_MAX_RETRIES = "0" } }
      local gateway <close> = gateways.start { max_sessions = helper.long(4, 50), queue = 100, grace_ms = 500,
        idle_timeout_ms = idle_timeout_ms, plain_folder = home.home .. "/plain",
        backend = { executable = live.claude, cwd = home.cwd, extra_env = home.extra_env } }
      body(gateway, api, home)
    end, 600000))
  end

  serves("tells a plain model the client's words and no others", function(gateway, api, home)
    assert(files.put(home.home .. "/.claude/CLAUDE.md", "MEMORY of the user", "w"))
    assert(files.put(home.home .. "/CLAUDE.md", "MEMORY of a project", "w"))
    local answer = gateway:ask("hello", { system = "Be brief." })
    assert.equal(200, answer.status, answer.body)
    assert.equal("echo: hello", gateways.text_of(answer.json))
    local body = api:turns()[1].body
    assert.equal("Be brief.", body.system[#body.system].text)
    for _, tool in ipairs(body.tools or {}) do assert.equal("DeferredToolPlaceholder", tool.name) end
    assert.is_nil(assert(core.json.encode(body)):find("MEMORY", 1, true))
    assert.same({}, files.names(gateway.server.plain_folder))
    gateway:ask("hello")
    local none = api:turns()[2].body.system
    assert.matches("^You are Claude Code", none[#none].text) -- the program's own line, and nothing behind it
  end)

  serves("streams text as it comes, which joined is the message", function(gateway)
    local reader <close> = gateway:open("/v1/messages", { model = "sonnet", stream = true,
      messages = { { role = "user", content = "lines" } } })
    reader:expect "one\\n"
    assert.is_true(live.is_oldest or not reader.text:find("message_stop", 1, true)) -- that one tells nothing of it
    reader:expect "message_stop"
    local whole = gateway:ask("lines")
    assert.equal("one\ntwo\nthree", gateways.text_of(whole.json))
  end)

  serves("gives thinking before the text, where the client asks for it", function(gateway)
    for _, stream in ipairs { false, true } do
      local answer = gateway:ask("think", { stream = stream, thinking = { type = "adaptive" } })
      local message = stream and gateways.assemble(answer.body) or answer.json
      assert.same({ "thinking", "hmm", "c2ln" }, { message.content[1].type, message.content[1].thinking,
        message.content[1].signature })
      assert.same({ "first", "second" }, { message.content[2].text, message.content[3].text })
    end
  end)

  for word, rounds in pairs { work = { "1", "2+3", "4", "" }, slowly = { "1+2", "" } } do
    serves("calls the client's tools in one turn: " .. word, function(gateway, api)
      local messages, seen = { { role = "user", content = word } }, {}
      repeat
        local answer = gateway:ask(messages, { tools = TOOLS, stream = true })
        assert.equal(200, answer.status, answer.body)
        local message = gateways.assemble(answer.body)
        local numbers, results = {}, {}
        for _, block in ipairs(message.content) do
          if block.type == "tool_use" then
            table.insert(numbers, block.input.n)
            table.insert(results, { type = "tool_result", tool_use_id = block.id, content = "got " .. block.input.n })
          end
        end
        table.insert(seen, table.concat(numbers, "+"))
        table.insert(messages, { role = "assistant", content = message.content })
        table.insert(messages, { role = "user", content = results })
      until #numbers == 0
      assert.same(rounds, seen)
      local got = {}
      for _, message in ipairs(api:last_messages()) do
        for _, block in ipairs(type(message.content) == "table" and message.content or {}) do
          if block.type == "tool_result" then
            table.insert(got, type(block.content) == "string" and block.content or block.content[1].text)
          end
        end
      end
      table.sort(got)
      local expected = word == "work" and { "got 1", "got 2", "got 3", "got 4" } or { "got 1", "got 2" }
      assert.same(expected, got)
      assert.equal(1, gateway.server.backend:live_session_count())
    end)
  end

  serves("goes on from a written history with results that nobody waits for", function(gateway, api)
    local answer = gateway:ask({ { role = "user", content = "before" }, { role = "assistant", content = { {
      type = "tool_use", id = "toolu_01abc", name = "probe", input = { n = 7 } } } }, { role = "user", content = { {
      type = "tool_result", tool_use_id = "toolu_01abc", content = "seven" } } } }, { tools = TOOLS })
    assert.equal(200, answer.status, answer.body)
    local told = assert(core.json.encode(api:last_messages()))
    assert.matches(PREFIX .. "probe", told, 1, true)
    assert.matches("seven", told, 1, true)
  end)

  serves("attaches no file that a history names, where that goes into the message", function(gateway, api, home)
    local secret = helper.write(home.home .. "/secret.txt", "top secret")
    gateway.server.backend.policies.injection = require "parley.policy.injection.concat_message"
    local answer = gateway:ask { { role = "user", content = "see @" .. secret }, { role = "assistant",
      content = ("(@%s) and @%s"):format(secret, secret) }, { role = "user", content = "well?" } }
    assert.equal(200, answer.status, answer.body)
    local told = assert(core.json.encode(api:last_messages()))
    assert.matches("see @ " .. secret, told, 1, true)
    assert.is_nil(told:find("top secret", 1, true))
  end)

  --- The words and the pictures of all messages, in order.
  local function shown(request)
    local list = {}
    for _, message in ipairs(request.body.messages) do
      for _, block in ipairs(type(message.content) == "table" and message.content or { text(message.content) }) do
        local is_beside = (block.text or ""):find "^<system%-reminder>"
        if not is_beside then table.insert(list, block.type == "text" and block.text or block.type) end
      end
    end
    return list
  end

  for how, idle_ms in pairs { ["in a session that lives on"] = 900000, ["in one that is woken for each"] = 1 } do
    serves("has a picture in each later turn, though its file goes with its own, " .. how, function(gateway, api)
      local messages, ids = { { role = "user", content = { text "look", { type = "image", source = {
        type = "base64", media_type = "image/png", data = core.text.to_base64(live.PICTURE) } } } } }, {}
      for _, next_words in ipairs { "and?", "so?", "" } do
        local answer = gateway:ask(messages)
        assert.equal(200, answer.status, answer.body)
        local lives_on = idle_ms > 1
        helper.eventually(function() return lives_on or gateway.server.backend:live_session_count() == 0 end)
        ids[gateway.lines[#gateway.lines]:match "session=(%S+)"] = true
        table.insert(messages, { role = "assistant", content = answer.json.content })
        table.insert(messages, { role = "user", content = next_words })
      end
      local turns = api:turns()
      assert.equal(3, #turns)
      local file = assert(core.json.encode(turns[1].body.messages)):match "@(/[^%s\"]+%.png)"
      assert.is_nil(uv.fs_stat(file:match "^(.*)/"))
      local pictures = 0
      for _, word in ipairs(shown(turns[3])) do pictures = pictures + (word == "image" and 1 or 0) end
      assert.equal(1, pictures)
      for i, words in ipairs { "and?", "so?" } do -- and nothing of the file
        local before, after = shown(turns[i]), shown(turns[i + 1])
        local answer = #before + 1
        assert.matches("^echo: ", after[answer])
        assert.same(words, after[answer + 1])
        assert.equal(answer + 1, #after)
      end
      assert.is_nil(next(ids, (next(ids)))) -- one session, however often it was started
    end, idle_ms)
  end

  for _, file in ipairs { "anthropic", "openai" } do
    if uv.fs_stat(NODE) and uv.fs_stat(CLIENTS .. "/node_modules") and not live.is_oldest then
      serves("takes the official client: " .. file, function(gateway)
        local program = helper.run({ NODE, ("spec/clients/%s.mjs"):format(file) }, { env = helper.environment {
          CLIENTS = CLIENTS, BASE_URL = "http://127.0.0.1:" .. gateway.server.port, TOKEN = gateways.TOKEN,
          COUNT = helper.long("2", "50"), TURNS = helper.long("2", "10") } })
        assert.equal(0, program.status, program.output .. program.errors)
        assert.matches("ok many at a time\n", program.output)
      end)
    end
  end

  serves("takes the program itself as a client, with its own tools", function(gateway, api)
    local outer <close> = offline_home.new { base_url = "http://127.0.0.1:" .. gateway.server.port,
      variables = { ANTHROPIC_API_KEY = gateways.TOKEN } }
    local environment = helper.environment(outer.extra_env)
    local function ask(words)
      return helper.run({ live.claude, "-p", words, "--model", "sonnet", "--permission-mode", "bypassPermissions" },
        { env = environment, cwd = outer.cwd, input = "" })
    end
    local program = ask "hello there"
    assert.equal(0, program.status, program.output .. program.errors)
    assert.matches("echo: ", program.output, 1, true)
    assert.matches("hello there", assert(core.json.encode(api:last_messages())), 1, true)
    program = ask "run it"
    assert.equal(0, program.status, program.output .. program.errors)
    assert.matches("tool-out", assert(core.json.encode(api:last_messages())), 1, true)
  end)
end)
