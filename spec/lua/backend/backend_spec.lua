--- What the backend does with a conversation, over fake processes.
local core = require "parley.core"
local fake_backends = require "spec.fake_backends"
local helper = require "spec.helper"
local parley = require "parley"
local json = require("parley.core").json

local place ---@type spec.FakeBackends
before_each(function() place = fake_backends.begin() end)
after_each(function() place:finish() end)

local user = fake_backends.user
local assistant = fake_backends.assistant
local text = fake_backends.text
local HISTORY = fake_backends.HISTORY
local with_history = fake_backends.with_history
local collect = fake_backends.collect
local talk = fake_backends.talk
local types = fake_backends.types
local raised = helper.failure_of
local taken = fake_backends.taken

describe("a backend", function()
  it("refuses bounds of what is kept that its index would refuse", function()
    for _, bounds in ipairs { { count = 0 }, { count = 1.5 }, { days = 0 }, { days = 0 / 0 }, { bytes = math.huge },
      { age = 1 } } do
      assert.matches("'retention'", raised("ValueError", parley.backend, { retention = bounds }).message)
    end
  end)
end)

describe("complete", function()
  describe("1. refuses, and starts nothing:", function()
    local CASES = {
      { "no messages", {}, "empty" },
      { "no list", "hi", "must be a list" },
      { "an assistant's last message", { user "a", assistant "b" }, "must be the user's", 2 },
      { "an unknown role", { { role = "system", content = "x" }, user "a" }, "system", 1 },
      { "a missing content", { user "a", assistant "b", { role = "user" } }, "no content", 3 },
      { "a malformed block", { user { { type = "text" } } }, "'text' must be a string", 1 },
      { "an image that cannot be sent", { user { text "see", { type = "image" } } },
        "type 'image', whose source is 'nil'", 1 },
      { "a tool result to be typed", { user "a", assistant "b", user { { type = "tool_result", tool_use_id = "t" } } },
        "type 'tool_result'", 3 },
      { "nothing but white space", { user " \n" }, "nothing in it", 1 },
      { "a key", { user "a", assistant "b", user "\27[201~" }, "U%+001B", 3 },
      { "a command", { user "/exit" }, "command", 1 },
      { "bytes that are no text", { user "\xff" }, "UTF%-8", 1 },
    }
    for _, case in ipairs(CASES) do
      it(case[1], helper.task(function()
        local backend <close> = place:backend()
        local err = raised("ValueError", backend.complete, backend, case[2])
        assert.matches(case[3], err.message)
        assert.equal(case[4], err.index)
        if case[4] then assert.matches(("messages[%d]"):format(case[4]), err.message, 1, true) end
        assert.same({}, place.fakes)
      end))
    end

    it("a request that is no table", helper.task(function()
      local backend <close> = place:backend()
      raised("ValueError", backend.complete, backend, { user "hi" }, "tag")
    end))

    it("anything once it is closed", helper.task(function()
      local backend = place:backend()
      backend:close()
      raised("ClosedError", backend.complete, backend, { user "hi" })
      backend:close()
      assert.same({}, place.fakes)
    end))

    it("a factory that makes no session", helper.task(function()
      local backend <close> = parley.backend { cwd = place.cwd, session_factory = function() return 5 end }
      local err = raised("ValueError", collect, backend, { user "hi" })
      assert.matches("session_factory must return a session, not a number", err.message)
    end))
  end)

  describe("2. of one message", function()
    it("types it once into a fresh session and reports the turn", helper.task(function()
      local backend <close> = place:backend()
      local events = collect(backend, { user "say hi" })
      assert.equal("user assistant result", types(events))
      assert.equal("echo: say hi", events[2]:text())
      local result = events[3]
      assert.equal("success", result.subtype)
      assert.equal("end_turn", result.stop_reason)
      assert.equal(place.fakes[1].session_id, result.session_id)
      assert.equal(1, result.num_turns)
      assert.equal(1, #place.fakes)
      assert.is_false(place.fakes[1].is_resumed)
      assert.equal(0, place.fakes[1].start_offset)
      assert.same({ "say hi" }, taken(place.fakes[1]))
      assert.equal(1, select(2, place.fakes[1]:written():gsub("say hi", "")))
    end))

    it("sends the text blocks of a message, a line each", helper.task(function()
      local backend <close> = place:backend()
      talk(backend, { user { text "a", text "b" } })
      assert.same({ "a\nb" }, taken(place.fakes[1]))
    end))

    it("starts nothing before the first event is asked for", helper.task(function()
      local backend <close> = place:backend()
      local turn = backend:complete { user "hi" }
      assert.same({}, place.fakes)
      turn:close()
      assert.is_nil(turn())
      assert.same({}, place.fakes)
    end))
  end)

  it("3. live_sessions shows a session while its turn runs, idle, and not after close", helper.task(function()
    local backend <close> = place:backend()
    assert.same({}, backend:live_sessions())
    for event in backend:complete { user "hi" } do
      if event.type == "user" then
        assert.same({ [place.fakes[1].session_id] = place.fakes[1] }, backend:live_sessions())
        assert.equal(1, backend:live_session_count())
      end
    end
    assert.same({ [place.fakes[1].session_id] = place.fakes[1] }, backend:live_sessions())
    assert.same({ [place.fakes[1].session_id] = "ready" }, backend:session_states())
    backend:close()
    assert.same({}, backend:live_sessions())
    assert.equal(0, backend:live_session_count())
  end))

  describe("4. of a conversation that goes on", function()
    local CYCLE = {
      { type = "thinking", thinking = "hm", signature = "c2ln" }, text "let me",
      { type = "tool_use", id = "toolu_1", name = "Bash", input = { command = "ls", description = "d" } },
    }

    --- A fake that uses a tool in its first turn.
    local function with_tool(message, fake)
      if message ~= "list it" then return "echo: " .. message end
      fake:append_assistant(CYCLE, "tool_use")
      fake.transcript:tool_result(CYCLE[3], "a.lua", false, core.uuid.generate())
      return { { type = "thinking", thinking = "so", signature = "c2ln" }, text "one", text "file" }
    end

    it("types the new text only, into the same session", helper.task(function()
      local backend <close> = place:backend()
      local _, _, messages = talk(backend, { user "one" })
      table.insert(messages, user "two")
      local result, said = talk(backend, messages)
      assert.equal("echo: two", said)
      assert.equal(2, result.num_turns)
      assert.equal(1, #place.fakes)
      assert.same({ "one", "two" }, taken(place.fakes[1]))
      assert.equal(1, backend:live_session_count())
    end))

    local prompt, call, results = user "list it", CYCLE[3], { type = "tool_result", tool_use_id = "toolu_1" }
    local function result_of(fields)
      local block = {}
      for name, value in pairs(results) do block[name] = value end
      for name, value in pairs(fields) do block[name] = value end
      return block
    end
    local function copied(value) return (json.decode(assert(json.encode(value)))) end
    for what, history in pairs {
      ["what the events said, block by block"] = { prompt, assistant { CYCLE[1], CYCLE[2], call },
        user { result_of { content = "a.lua", is_error = false } },
        assistant { { type = "thinking", thinking = "so", signature = "c2ln" }, text "one", text "file" } },
      ["no thinking, is_error absent"] = { user { text "list it" }, assistant { CYCLE[2], call },
        user { result_of { content = { text "a.lua" } } }, assistant { text "one", text "file" } },
      ["split messages, is_error null, keys in another order"] = { prompt, assistant "let me",
        assistant { copied(call) },
        user { result_of { content = "a.lua", is_error = json.null } }, assistant "one", assistant "file" },
      ["cache_control on everything"] = {
        user { { type = "text", text = "list it", cache_control = { type = "ephemeral" } } },
        assistant { CYCLE[2], call }, user { result_of { content = "a.lua", cache_control = { type = "ephemeral" } } },
        assistant { text "one", { type = "text", text = "file", cache_control = { type = "ephemeral" } } } },
      ["the final text, as one"] = { prompt, assistant "onefile" },
      ["the final text, a line a block"] = { prompt, assistant "one\nfile" },
    } do
      it("finds the session of a client that keeps " .. what, helper.task(function()
        local backend <close> = place:backend({}, { reply = with_tool })
        talk(backend, { prompt })
        local messages = table.move(history, 1, #history, 1, {})
        table.insert(messages, user "go on")
        assert.equal(2, talk(backend, messages).num_turns)
        assert.equal(1, #place.fakes)
      end))
    end

    for what, answer in pairs {
      ["another answer"] = { assistant "two files" },
      ["another tool result"] = { assistant { CYCLE[2], call }, user { result_of { content = "b" } },
        assistant { text "one", text "file" } },
    } do
      it("does not take it for one with " .. what, helper.task(function()
        local backend <close> = place:backend({}, { reply = with_tool })
        talk(backend, { prompt })
        local messages = table.move(answer, 1, #answer, 2, { prompt })
        table.insert(messages, user "go on")
        assert.equal(1, talk(backend, messages).num_turns)
        assert.equal(2, #place.fakes)
      end))
    end

    it("hashes only what is new when the caller hands over the same tables", helper.task(function()
      local backend <close> = place:backend { state = false }
      local messages, hashed, blake2b = {}, 0, core.digest.blake2b
      for i = 1, 100, 2 do
        messages[i], messages[i + 1] = user(("%d "):format(i):rep(9000)), assistant(("%d "):format(i):rep(9000))
      end
      finally(function() core.digest.blake2b = blake2b end)
      core.digest.blake2b = function(bytes, size)
        hashed = hashed + #bytes
        return blake2b(bytes, size)
      end
      table.insert(messages, user "one")
      messages = select(3, talk(backend, messages))
      assert.is_true(hashed > 2000000)
      hashed = 0
      table.insert(messages, user "two")
      assert.equal(2, talk(backend, messages).num_turns)
      assert.is_true(hashed < 2000, hashed)
    end))

    it("does not mind what the caller does to its own list meanwhile", helper.task(function()
      local backend <close> = place:backend()
      local messages = { user "one" }
      for event in backend:complete(messages) do
        if event.type == "assistant" then table.insert(messages, assistant(event.content)) end
      end
      table.insert(messages, user "two")
      assert.equal(2, talk(backend, messages).num_turns)
    end))

    it("keeps a session whose turn had no output", helper.task(function()
      local backend <close> = place:backend({}, { reply = function(message)
        return message == "hush" and {} or "loud"
      end })
      local result, _, messages = talk(backend, { user "hush" })
      assert.equal("error_no_output", result.subtype)
      table.insert(messages, user "now")
      assert.equal(2, talk(backend, messages).num_turns)
    end))
  end)
end)

describe("13. what is public", function()
  it("makes the same key from events as the backend stores", helper.task(function()
    local stored
    local routing = require "parley.policy.routing"
    local backend <close> = place:backend { policies = { routing = { keys = function(request, answer)
      stored = routing.keys(request, answer)
      return stored
    end } } }
    local events = collect(backend, { user "hi" })
    local messages = parley.synthesize_turn_messages(events)
    table.insert(messages, 1, user "hi")
    assert.equal(stored[1], parley.hash_history(messages))
  end))
end)

describe("warm", function()
  it("starts a session that complete finds ready", helper.task(function()
    local backend <close> = place:backend()
    assert.is_true(backend:warm(HISTORY))
    assert.equal(1, backend:live_session_count())
    assert.equal(1, talk(backend, with_history()).num_turns)
    assert.equal(1, #place.fakes)
    assert.is_true(backend:warm {})
    assert.equal(1, talk(backend, { user "hi" }).num_turns)
    assert.equal(2, #place.fakes)
  end))

  it("keeps nothing when the history would go with the message, or the start fails", helper.task(function()
    local backend <close> = place:backend { history_injection_mode = "concat_message" }
    assert.is_false(backend:warm(HISTORY))
    assert.equal(0, backend:live_session_count())
    local other <close> = place:backend({ max_sessions = 1 }, { prepare = function(fake)
      fake.options.on_start = function() fake:exit() end
    end })
    for _ = 1, 2 do raised("SessionError", other.warm, other, {}) end
    raised("ValueError", other.warm, other, "hi")
  end))
end)

describe("a wrong call of a backend", function()
  it("is refused before anything starts", helper.task(function()
    local backend <close> = place:backend()
    local function refused(pattern, name, ...)
      assert.matches(pattern, helper.failure_of("ValueError", backend[name], backend, ...).message, 1, true)
    end
    refused("not one message: put it into a list", "complete", { role = "user", content = "hi" })
    refused("not one message: put it into a list", "warm", { role = "user", content = "hi" })
    refused("messages must be a list, not nothing", "command", nil, "/compact")
    refused("a command is one line that begins with a slash and its name, not nothing", "command", {})
    refused("its name, not \"compact\"", "command", {}, "compact")
    assert.same({}, place.fakes)
  end))
end)
