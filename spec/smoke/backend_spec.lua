-- The backend on the real program: conversations, histories, cancellation. What the model sees is what our API got.
local core = require "parley.core"
local errors = require "parley.base.errors"
local fake_backends = require "spec.fake_backends"
local files = require "parley.base.files"
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local parley = require "parley"
local task = require "parley.base.task"
local uv = require "luv"

local user, assistant, text = fake_backends.user, fake_backends.assistant, fake_backends.text
local collect, talk = fake_backends.collect, fake_backends.talk

local smoke = require "spec.smoke.live"

local claude = os.getenv "PARLEY_CLAUDE"

--- What a request to the API holds of a conversation, a line a block. What the program adds by itself is left out: it
--- comes as reminders, and from 2.1.19x on in messages of the role "system".
local function seen_by(request)
  local lines = {}
  for _, message in ipairs(request.body.messages) do
    local blocks = type(message.content) == "string" and { text(message.content) } or message.content
    for _, block in ipairs(blocks) do
      local said = block.type == "text" and block.text
        or block.type == "tool_use" and ("call %s %s"):format(block.name, block.input.command)
        or block.type == "tool_result" and "result " .. (type(block.content) == "table" and block.content[1].text
          or block.content)
      if said and message.role ~= "system" and not said:find "^<system%-reminder>" then
        table.insert(lines, message.role .. ": " .. said:gsub("%s+$", ""))
      end
    end
  end
  return lines
end

--- The pids of the live sessions.
local function pids_of(backend)
  local pids = {}
  for _, process in pairs(backend:live_sessions()) do table.insert(pids, process:pid()) end
  return pids
end

local function is_gone(pid) return select(3, uv.kill(pid, 0)) == "ESRCH" end

local HISTORY = {
  user "My name is Beaver.",
  assistant { text "Let me write that down.",
    { type = "tool_use", id = "toolu_seed", name = "Bash", input = { command = "echo Beaver >name" } } },
  user { { type = "tool_result", tool_use_id = "toolu_seed", content = "written", is_error = false } },
  assistant "Got it.",
}

local function with_history(words)
  local messages = table.move(HISTORY, 1, #HISTORY, 1, {})
  table.insert(messages, user(words))
  return messages
end

describe("the backend on the real program", function()
  if not claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  local function talks(name, options, body)
    it(name, helper.task(function()
      local server <close> = messages_api.start()
      local home <close> = offline_home.new { base_url = server.url }
      local all = { executable = claude, cwd = home.cwd, extra_env = home.extra_env, turn_timeout_ms = 60000 }
      for option, value in pairs(options) do all[option] = value end
      local backend <close> = parley.backend(all)
      body(server, backend, home)
    end, 240000))
  end

  ---Whether one of its transcripts begins behind a /clear.
  local function has_cleared(home)
    local folder = parley.resolve_jsonl_path(core.uuid.generate(), home.cwd, { HOME = home.home }):match "^(.*)/"
    for _, name in ipairs(files.names(folder)) do
      if name:find "%.jsonl$" and files.read(folder .. "/" .. name):find("<command-name>/clear", 1, true) then
        return true
      end
    end
  end

  --- The pictures of the last request, and the places of those that were told of as missing.
  local function seen_of(server, backend, ...)
    local content, missing, pictures = { text "look" }, {}, 0
    for i, bytes in ipairs { ... } do
      content[i + 1] = { type = "image", source = { type = "base64", media_type = "image/png",
        data = core.text.to_base64(bytes) } }
    end
    for _, event in ipairs(collect(backend, { { role = "user", content = content } })) do
      if event.subtype == "attachment_missing" then table.insert(missing, event.index) end
    end
    for _, message in ipairs(server:last_messages()) do
      for _, block in ipairs(type(message.content) == "table" and message.content or {}) do
        pictures = pictures + (block.type == "image" and 1 or 0)
      end
    end
    return pictures, missing
  end

  talks("tells of pictures that the program does not attach, and of no others", {}, function(server, backend)
    local large, odd = smoke.PICTURE .. ("rubbish\0"):rep(800000), smoke.PICTURE .. "x"
    local pictures, missing = seen_of(server, backend, smoke.PICTURE, large, odd)
    assert.equal(2, pictures)
    assert.same({ 3 }, missing)
  end)

  talks("tells of pictures that the settings forbid to read", {
    settings = { permissions = { deny = { "Read(//**/parley-attached-*/**)" } } },
  }, function(server, backend)
    local pictures, missing = seen_of(server, backend, smoke.PICTURE)
    assert.equal(0, pictures)
    assert.same({ 2 }, missing)
  end)

  talks("takes a fresh turn", {}, function(server, backend)
    local events = collect(backend, { user "say hi" })
    assert.equal("user", events[1].type)
    local result = events[#events]
    assert.equal("success", result.subtype)
    assert.equal("end_turn", result.stop_reason)
    assert.equal(1, result.num_turns)
    assert.same({ "user: say hi" }, seen_by(server:turns()[1]))
    assert.equal(1, #server:turns())
    local pid = pids_of(backend)[1]
    assert.is_false(is_gone(pid))
    backend:close()
    assert.is_true(is_gone(pid))
  end)

  local cleared = smoke.is_oldest and {} -- nothing tells of it there
    or { ["between two turns"] = "first", ["while a turn runs"] = "SLOWTOOL first" }
  for when, words in pairs(cleared) do
    talks("goes on in another process where a person has entered /clear " .. when, {}, function(server, backend, home)
      local one = backend:conversation()
      local asking = task.spawn(one.ask, one, words)
      server:wait_for(function(request) return request.kind == "turn" end, 60000)
      if when == "between two turns" then asking:await() end
      for _, process in pairs(backend:live_sessions()) do
        process:write "/clear"
        helper.eventually(function() return process.screen:text():find "❯%S*%s?/clear" end)
        process:write "\r"
      end
      asking:await()
      helper.eventually(function() return has_cleared(home) end)
      local answer = one:ask "next"
      assert.equal("echo: next", answer.text)
      assert.equal("session_left", answer.events[1].subtype)
      local count = 0
      for _, request in ipairs(server:turns()) do count = count + (request.text == "next" and 1 or 0) end
      assert.equal(1, count)
      local turns = server:turns()
      assert.equal("user: " .. words, seen_by(turns[#turns])[1])
    end)
  end

  talks("goes on in the live session, tool cycle and thinking and all", {}, function(server, backend)
    local result, _, messages = talk(backend, { user "USETOOL one" })
    local pid = pids_of(backend)[1]
    for turn, words in ipairs { "THINK two", "three" } do
      table.insert(messages, user(words))
      local next_result
      next_result, _, messages = talk(backend, messages)
      assert.equal(turn + 1, next_result.num_turns)
      assert.equal(result.session_id, next_result.session_id)
    end
    assert.same({ pid }, pids_of(backend))
    local said = {}
    for _, message in ipairs(messages) do
      if message.role == "user" and type(message.content) == "string" then table.insert(said, message.content) end
    end
    assert.same({ "USETOOL one", "THINK two", "three" }, said)
    assert.equal("user: three", seen_by(server:turns()[#server:turns()])[9])
  end)

  talks("goes on in its own transcript under another model, effort and permission mode", {}, function(server, backend)
    local conversation = backend:conversation()
    local id = conversation:ask("USETOOL one").result.session_id
    local before = server:turns()[#server:turns()].body.model
    conversation.options = { model = "claude-haiku-4-5", effort = "low", permission_mode = "plan" }
    local answer = conversation:ask "two"
    assert.equal(id, answer.result.session_id)
    assert.equal(2, answer.result.num_turns)
    local request = server:turns()[#server:turns()]
    assert.not_equal(before, request.body.model)
    assert.matches("haiku", request.body.model)
    local seen = seen_by(request)
    assert.equal("user: USETOOL one", seen[1])
    assert.equal("user: two", seen[#seen])
    assert.equal(1, backend:live_session_count())
    conversation.options.model = before
    assert.equal(id, conversation:ask("three").result.session_id)
    assert.equal(before, server:turns()[#server:turns()].body.model)
  end)

  talks("has an injected transcript in the next request", {}, function(server, backend)
    local events = collect(backend, with_history "What is my name?")
    local result = events[#events]
    assert.equal("What is my name?", events[1]:text())
    assert.equal("success", result.subtype)
    assert.equal(1, result.num_turns)
    assert.same({
      "user: My name is Beaver.", "assistant: Let me write that down.", "assistant: call Bash echo Beaver >name",
      "user: result written", "assistant: Got it.", "user: What is my name?",
    }, seen_by(server:turns()[1]))
    local messages = with_history "What is my name?"
    for _, message in ipairs(parley.synthesize_turn_messages(events)) do table.insert(messages, message) end
    table.insert(messages, user "And yours?")
    assert.equal(2, talk(backend, messages).num_turns)
    assert.equal(1, backend:live_session_count())
  end)

  talks("tells the calls of a history apart that have one id", {}, function(server, backend)
    local messages = {}
    for _, word in ipairs { "one", "two" } do
      table.move({ user(word), assistant { { type = "tool_use", id = "call_0", name = "Bash",
        input = { command = word } } }, user { { type = "tool_result", tool_use_id = "call_0", content = word } },
        assistant "Done." }, 1, 4, #messages + 1, messages)
    end
    local conversation = backend:conversation(messages)
    local id = conversation:ask("three").result.session_id
    local told = { "user: one", "assistant: call Bash one", "user: result one", "assistant: Done.", "user: two",
      "assistant: call Bash two", "user: result two", "assistant: Done.", "user: three" }
    assert.same(told, seen_by(server:turns()[1]))
    assert.equal(id, conversation:ask("four").result.session_id)
    conversation:rewind(1)
    conversation:ask "five"
    table.move({ "assistant: echo: three", "user: five" }, 1, 2, #told + 1, told)
    assert.same(told, seen_by(server:turns()[#server:turns()]))
  end)

  talks("has the model that it would have without a written history", {}, function(server, backend)
    talk(backend, { user "hello" })
    talk(backend, with_history "What is my name?")
    local turns = server:turns()
    assert.equal(turns[1].body.model, turns[#turns].body.model)
  end)

  talks("has an injected preamble in the next request", { history_injection_mode = "concat_message" },
    function(server, backend)
      local result, _, messages = talk(backend, with_history "What is my name?")
      assert.equal("success", result.subtype)
      local preamble = "Previous conversation context:\n[User]: My name is Beaver.\n"
        .. "[Assistant]: Let me write that down.\n"
        .. '[used the tool Bash with {"command":"echo Beaver >name"}]\n[User]: [the tool answered: written]\n'
        .. "[Assistant]: Got it.\nContinue from here. New user message: What is my name?"
      assert.same({ "user: " .. preamble }, seen_by(server:turns()[1]))
      table.insert(messages, user "And yours?")
      assert.equal(2, talk(backend, messages).num_turns)
    end)

  talks("sends the user's last words of a history with the message", {}, function(server, backend)
    talk(backend, { user "a", assistant "b", user "c", user "d" })
    assert.same({ "user: a", "assistant: b", "user: c\nd" }, seen_by(server:turns()[1]))
  end)

  talks("has no unsigned thinking and no call without a result in the next request", {}, function(server, backend)
    talk(backend, {
      user "a",
      assistant { { type = "thinking", thinking = "hm" }, text "b",
        { type = "tool_use", id = "toolu_1", name = "Bash", input = { command = "ls" } } },
      user "c", assistant "d", user "e",
    })
    assert.same({ "user: a", "assistant: b", "assistant: call Bash ls",
      "user: result The conversation has no result for this call.", "user: c", "assistant: d", "user: e" },
      seen_by(server:turns()[1]))
  end)

  talks("goes the other way when the program does not resume from the seed", { policies = { injection = {
    prepare = function(request)
      local prepared = require("parley.policy.injection.native_jsonl").prepare(request)
      files.write(request.jsonl_path, "{}\n")
      return prepared
    end,
  } } }, function(server, backend)
    local events = collect(backend, with_history "What is my name?")
    assert.equal("injection_fallback", events[1].subtype)
    assert.matches("^user: Previous conversation context:", seen_by(server:turns()[1])[1])
    assert.equal("success", events[#events].subtype)
    assert.equal(1, backend:live_session_count())
  end)

  talks("cancels in mid-turn: the process is gone, the next call works", {}, function(server, backend)
    local pid
    for event in backend:complete { user "COUNT" } do
      pid = pids_of(backend)[1]
      if event.type == "user" then break end
    end
    assert.is_true(is_gone(pid))
    assert.equal(0, backend:live_session_count())
    local running = task.spawn(pcall, collect, backend, { user "SLOW again" })
    server:wait_for(function(request) return request.kind == "turn" and request.text == "SLOW again" end)
    pid = pids_of(backend)[1]
    running:cancel()
    pcall(running.await, running)
    assert.is_true(is_gone(pid))
    local result, said = talk(backend, { user "next" })
    assert.equal("echo: next", said)
    assert.equal(1, result.num_turns)
  end)

  talks("finds a session dead that was killed meanwhile", {}, function(server, backend)
    local _, _, messages = talk(backend, { user "one" })
    uv.kill(pids_of(backend)[1], "sigkill")
    table.insert(messages, user "two")
    local result, said = talk(backend, messages)
    assert.equal("echo: two", said)
    assert.equal(2, result.num_turns) -- another process woke the conversation
    assert.same({ "user: one", "assistant: echo: one", "user: two" }, seen_by(server:turns()[2]))
  end)

  talks("keeps 8 conversations of 5 turns apart, 4 at a time", { max_sessions = 4 }, function(server, backend)
    local CONVERSATIONS, TURNS = 8, 5
    local most, conversations = 0, {}
    local function converse(name)
      local messages = {}
      for turn = 1, TURNS do
        local words = ("conversation %s turn %d"):format(name, turn)
        table.insert(messages, user(words))
        local result, said, longer = talk(backend, messages)
        assert.equal("success", result.subtype)
        assert.equal("echo: " .. words, said)
        most = math.max(most, backend:live_session_count())
        messages = longer
      end
    end
    for i = 1, CONVERSATIONS do conversations[i] = task.spawn(converse, string.char(64 + i)) end
    for i = 1, CONVERSATIONS do conversations[i]:await() end
    assert.equal(4, most)
    local turns = server:turns()
    assert.equal(CONVERSATIONS * TURNS, #turns)
    for _, request in ipairs(turns) do
      local name, turn = request.text:match "^conversation (%u) turn (%d)$"
      local expected = {}
      for i = 1, tonumber(turn) do
        local words = ("conversation %s turn %d"):format(name, i)
        table.insert(expected, "user: " .. words)
        if i < tonumber(turn) then table.insert(expected, "assistant: echo: " .. words) end
      end
      assert.same(expected, seen_by(request))
    end
  end)
end)

describe("the backend with an account #account", function()
  if os.getenv "RUN_CLAUDE_SMOKE" ~= "1" then
    return pending "needs an account: RUN_CLAUDE_SMOKE=1 make smoke"
  end

  local function talks(name, body)
    it(name, helper.task(function()
      local cwd = helper.temporary_folder()
      finally(helper.remove_folders)
      local backend <close> = parley.backend { executable = claude, cwd = cwd, accept = { "trust", "bypass" } }
      body(backend, cwd)
    end, 240000))
  end

  talks("says hi", function(backend)
    local events = collect(backend, { user "say hi" })
    local last
    for _, event in ipairs(events) do last = event.type == "assistant" and event or last end
    assert.matches("%S", last:text())
    assert.equal("end_turn", last.stop_reason)
    assert.equal(last.stop_reason, events[#events].stop_reason)
  end)

  talks("remembers an injected name", function(backend, cwd)
    local seeded = "Got it — your name is Beaver."
    local result, said = talk(backend, { user "My name is Beaver. Please remember it.", assistant(seeded),
      user "What is my name? Answer with just the name, one word." })
    assert.matches("Beaver", said)
    local path = parley.resolve_jsonl_path(result.session_id, cwd)
    assert.is_truthy(files.read(path):find(seeded, 1, true))
  end)

  talks("cancels a long count and says hi afterwards", function(backend)
    local pid
    local ok, err = pcall(function()
      for _ in backend:complete { user "Count from 1 to 500, one number per line." } do
        pid = pids_of(backend)[1]
        error(errors.cancelled "enough", 0)
      end
    end)
    assert.is_false(ok)
    assert.equal("Cancelled", err.code)
    assert.is_true(is_gone(pid))
    local result, said = talk(backend, { user "say hi" })
    assert.matches("%S", said)
    assert.equal(1, result.num_turns)
  end)
end)
