-- A conversation in one line: what it says, what it keeps, what it refuses. In a world.
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local parley = require "parley"
local task = require "parley.base.task"
local testing = require "parley.testing"

describe("a conversation", function()
  local check_leaks, kit, backend
  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.world()
    backend = parley.backend(kit.options)
  end)
  after_each(function()
    parley.run(backend.close, backend)
    kit:close()
    helper.remove_folders()
    check_leaks()
  end)

  local function raised(code, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok, "nothing was raised")
    assert.is_true(errors.is(err, code), tostring(err))
    return err
  end

  --- The texts of its messages, with the first letter of their roles.
  local function said(talk)
    local list = {}
    for i, message in ipairs(talk.messages) do list[i] = message.role:sub(1, 1) .. ": " .. parley.text_of(message) end
    return table.concat(list, "\n")
  end

  local function argv(number)
    local started = kit:events "started"
    return table.concat(started[number or #started].argv, " ")
  end

  it("asks and answers in a line, and goes on in the same session", helper.task(function()
    local talk = backend:conversation()
    local answer = talk:ask "one"
    assert.equal("echo: one", answer.text)
    assert.equal("echo: one", tostring(answer))
    assert.equal("> echo: one", "> " .. answer)
    assert.equal("success", answer.result.subtype)
    assert.equal("user assistant result", ("%s %s %s"):format(answer.events[1].type, answer.events[2].type,
      answer.events[3].type))
    assert.equal(1, #answer.messages)
    assert.equal(2, talk:ask("two").result.num_turns)
    assert.equal("u: one\na: echo: one\nu: two\na: echo: two", said(talk))
    assert.equal(1, #kit:events "started")
  end))

  it("goes on in another process where a person has entered /clear, and its next message is told once", helper.task(
    function()
      local talk = backend:conversation()
      local id = talk:ask("one").result.session_id
      for _, process in pairs(backend:live_sessions()) do
        process:write "/clear"
        helper.eventually(function() return process.screen:text():find("❯\u{A0}/clear", 1, true) end)
        process:write "\r"
        helper.eventually(function() return kit:events("command")[1] end)
      end
      task.condition():wait(1000) -- until the status says so
      local answer = talk:ask "two"
      assert.equal("echo: two", answer.text)
      assert.same({ id, 2 }, { answer.result.session_id, answer.result.num_turns })
      assert.equal("session_left", answer.events[1].subtype)
      assert.are_not.equal(id, answer.events[1].other_session_id)
      assert.equal("echo: three", talk:ask("three").text)
      assert.same({ "one", "two", "three" }, kit:taken())
      assert.matches("--resume " .. id, argv(2), 1, true)
      assert.equal(6, #helper.texts_in(kit:transcript_path(id)))
    end))

  it("has the text of the last message, behind tool calls", helper.task(function()
    kit:use { answers = { { text = "let me look", tool = { name = "Bash", input = { command = "ls" }, result = "a" },
      after = "one file" } } }
    local talk = backend:conversation()
    local answer = talk:ask "what is here?"
    assert.equal("one file", answer.text)
    assert.equal(3, #answer.messages)
    assert.equal(4, #talk.messages)
  end))

  it("streams, and grows when the turn has ended", helper.task(function()
    local talk = backend:conversation()
    for event in talk:send "one" do
      if event.type == "user" then assert.equal(0, #talk.messages) end
      if event.type == "result" then assert.equal(2, #talk.messages) end
    end
    assert.equal("echo: two", talk:send("two"):text())
    assert.equal(4, #talk.messages)
    assert.equal(talk.turn.session_id, (next(backend:live_sessions())))
  end))

  it("takes blocks, a block and an answer where it takes a text", helper.task(function()
    local talk = backend:conversation()
    assert.equal("echo: a\nb", talk:ask { { type = "text", text = "a" }, { type = "text", text = "b" } }.text)
    local answer = talk:ask { type = "text", text = "c" }
    assert.equal("echo: echo: c", talk:ask(answer).text)
  end))

  it("goes on from messages, without touching the list", helper.task(function()
    local before = { { role = "user", content = "My name is Ada." }, { role = "assistant", content = "Hello." } }
    local talk = backend:conversation(before)
    talk:ask "And I am?"
    assert.equal(2, #before)
    assert.equal("u: My name is Ada.\na: Hello.\nu: And I am?\na: echo: And I am?", said(talk))
    assert.truthy(argv():find("--resume", 1, true))
  end))

  describe("does not grow by a turn", function()
    it("that ended with an error, which is raised", helper.task(function()
      local talk = backend:conversation()
      local err = raised("SessionError", talk.ask, talk, "ERR400")
      assert.equal("api", err.reason)
      assert.equal("error_api", err.result.subtype)
      assert.truthy(#err.events > 0)
      assert.same({}, talk.messages)
      assert.equal("echo: again", talk:ask("again").text)
      assert.equal(2, #talk.messages)
    end))

    it("that was interrupted, unless it is kept", helper.task(function()
      local talk = backend:conversation()
      local turn <close> = talk:send "SLOW"
      local waiter = task.spawn(function() return pcall(turn.result, turn) end)
      helper.eventually(function() return kit:taken()[1] end)
      helper.eventually(function() return turn:interrupt() end)
      assert.is_true((waiter:await()))
      assert.equal("interrupted", turn:result().subtype)
      assert.same({}, talk.messages)
      assert.is_false(talk:keep(turn))
    end))

    it("that ends with a call without an id, which nothing can answer", helper.task(function()
      local call = { role = "assistant", content = { { type = "tool_use", name = "Bash", input = {} } } }
      local turn = backend:conversation():send "one"
      function turn.messages() return { call } end
      assert.is_false(backend:conversation():keep(turn))
    end))

    it("that is kept already", helper.task(function()
      local talk = backend:conversation()
      local turn = talk:send "one"
      turn:result()
      assert.is_true(talk:keep(turn))
      assert.equal(2, #talk.messages)
    end))

    it("that is kept already, and by another since", helper.task(function()
      local talk, other = backend:conversation(), backend:conversation()
      local turn = talk:send "one"
      turn:result()
      assert.is_true(other:keep(turn))
      assert.is_true(talk:keep(turn))
      assert.is_true(other:keep(turn))
      assert.equal("u: one\na: echo: one", said(talk))
      assert.equal("u: one\na: echo: one", said(other))
    end))

    it("that is none, or an error", helper.task(function()
      for _, given in ipairs { {}, { message = "it broke" }, "one" } do
        local ok, err = pcall(backend:conversation().keep, backend:conversation(), given)
        assert.same({ false, "ValueError" }, { ok, err.code })
      end
    end))

    it("that a fork has kept, and that was taken back", helper.task(function()
      local talk = backend:conversation()
      local turn = talk:send "one"
      turn:result()
      local fork = talk:fork()
      assert.is_true(fork:keep(turn))
      assert.equal("u: one\na: echo: one", said(fork))
      talk:rewind()
      assert.is_true(talk:keep(turn))
      assert.equal("u: one\na: echo: one", said(talk))
    end))

    it("that was left", helper.task(function()
      local talk = backend:conversation()
      for event in talk:send "one" do
        if event.type == "user" then break end
      end
      assert.same({}, talk.messages)
      assert.equal("echo: two", talk:ask("two").text)
      assert.equal("u: two\na: echo: two", said(talk))
    end))

    it("that could not be sent", helper.task(function()
      local talk = backend:conversation()
      raised("ValueError", talk.ask, talk, "/exit")
      assert.same({}, talk.messages)
    end))
  end)

  it("has one turn at a time; one that was never begun is no turn", helper.task(function()
    local talk = backend:conversation()
    local forgotten = talk:send "never"
    local turn <close> = talk:send "one"
    turn()
    local err = raised("SessionError", talk.ask, talk, "two")
    assert.equal("busy", err.reason)
    assert.matches("talk:ask must wait", err.message)
    raised("SessionError", talk.rewind, talk)
    turn:result()
    assert.is_nil(forgotten())
    assert.equal("echo: two", talk:ask("two").text)
    assert.same({ "one", "two" }, kit:taken())
  end))

  it("forks, and each goes on by itself", helper.task(function()
    local talk = backend:conversation()
    talk:ask "one"
    local fork = talk:fork()
    local left, right = task.spawn(talk.ask, talk, "left"), task.spawn(fork.ask, fork, "right")
    assert.same({ "echo: left", "echo: right" }, { left:await().text, right:await().text })
    assert.equal("u: one\na: echo: one\nu: left\na: echo: left", said(talk))
    assert.equal("u: one\na: echo: one\nu: right\na: echo: right", said(fork))
  end))

  it("is rewound by turns, tool calls and all", helper.task(function()
    local talk = backend:conversation()
    talk:ask "one"
    talk:ask "USETOOL"
    talk:ask "three"
    local taken = talk:rewind(2)
    assert.equal("USETOOL", parley.text_of(taken[1]))
    assert.equal("u: one\na: echo: one", said(talk))
    assert.equal("echo: four", talk:ask("four").text)
    talk:rewind()
    assert.equal(2, #talk.messages)
  end))

  it("is saved for its owner alone and loaded again", helper.task(function()
    local path = helper.temporary_folder() .. "/talk.json"
    local talk = backend:conversation()
    talk:ask "one"
    talk:save(path)
    assert.equal("600", ("%o"):format(require("luv").fs_stat(path).mode & 511))
    local again = backend:conversation(parley.load(path))
    assert.equal(2, again:ask("two").result.num_turns)
    assert.equal(1, #kit:events "started")
    backend:conversation():save(path)
    assert.equal("[]\n", files.read(path))
    assert.same({}, parley.load(path))
  end))

  describe("with options of its own", function()
    it("has them in each of its turns, and keeps its session", helper.task(function()
      local talk = backend:conversation(nil, { model = "haiku" })
      talk:ask "one"
      assert.equal(2, talk:ask("two").result.num_turns)
      assert.truthy(argv():find("--model haiku", 1, true))
      assert.equal(1, #kit:events "started")
    end))

    for what, options in pairs {
      ["a time without an end"] = function() return { turn_timeout_ms = math.huge } end,
      ["a variable that is no UTF-8"] = function(variables)
        variables.NAME = "\xff"
        return { extra_env = variables }
      end,
      ["a variable whose name is no UTF-8"] = function(variables)
        variables["NAME\xff"] = "x"
        return { extra_env = variables }
      end,
    } do
      it("has " .. what .. " among them as a backend has, and keeps its session", helper.task(function()
        local variables = {}
        for name, value in pairs(kit.options.extra_env) do variables[name] = value end
        local talk = backend:conversation(nil, options(variables))
        talk:ask "one"
        assert.equal(2, talk:ask("two").result.num_turns)
        assert.equal(1, #kit:events "started")
      end))
    end

    it("are told apart by what is no UTF-8", helper.task(function()
      local talk = backend:conversation()
      for i, value in ipairs { "\xff", "\xfe", "\xff" } do
        local variables = { NAME = value }
        for name, given in pairs(kit.options.extra_env) do variables[name] = given end
        talk.options.extra_env = variables
        talk:ask "one"
        assert.equal(i, #kit:events "started")
      end
    end))

    local NONE, HALF = '{"type":"user","uu\n', '{"type":"user","uu'
    for what, line in pairs { ["a line that is none"] = NONE, ["half a line"] = HALF } do
      it("goes on in another transcript than one with " .. what, helper.task(function()
        local talk = backend:conversation()
        local id = talk:ask("one").result.session_id
        if line == HALF then talk:ask "two" end
        files.put(kit:transcript_path(id), line, "a")
        if line == NONE then talk:ask "two" end
        talk.options.model = "opus"
        local third = talk:ask "three"
        assert.not_equal(id, third.result.session_id)
        assert.same({ "one", "two", "three" }, kit:taken())
        local text = files.read(kit:transcript_path(third.result.session_id))
        for _, word in ipairs { "one", "two", "three" } do assert.truthy(text:find("echo: " .. word, 1, true), word) end
      end))
    end

    it("goes on in the same transcript when model, effort or permission mode change", helper.task(function()
      local talk = backend:conversation()
      local id = talk:ask("one").result.session_id
      talk.options.model = "opus"
      local second = talk:ask "two"
      assert.equal(id, second.result.session_id)
      assert.equal(2, second.result.num_turns)
      assert.matches("--resume " .. id:gsub("%-", "%%-") .. " .*--model opus", argv())
      local third = talk:ask("three", { options = { effort = "low", permission_mode = "plan" } })
      assert.equal(id, third.result.session_id)
      assert.matches("--permission%-mode plan .*--model opus .*--effort low", argv())
      assert.equal(3, #kit:events "started")
      assert.equal(1, backend:live_session_count())
      talk:ask("four", { options = { effort = "high" } })
      assert.matches("%-%-effort high", argv())
      local texts = {}
      for _, record in ipairs(helper.json_lines(files.read(kit:transcript_path(id)))) do
        local content = record.type == "user" and record.message.content
        if type(content) == "string" then table.insert(texts, content) end
      end
      assert.same({ "one", "two", "three", "four" }, texts)
      assert.same({ "one", "two", "three", "four" }, kit:taken())
    end))

    it("goes on in the same transcript when its route says so", helper.task(function()
      local options = { policies = { routing = { route = function(request)
        local model = parley.text_of(request.last):find "^easy" and "haiku" or "opus"
        return { key = parley.hash_history(request.history), options = { model = model } }
      end } } }
      for name, value in pairs(kit.options) do options[name] = value end
      local routed <close> = parley.backend(options)
      local talk, ids = routed:conversation(), {}
      for i, text in ipairs { "hard", "easy", "easy, too", "hard again" } do
        local result = talk:ask(text).result
        ids[result.session_id] = result.num_turns
        assert.equal(i, result.num_turns)
      end
      assert.same({ [next(ids)] = 4 }, ids)
      assert.equal(3, #kit:events "started")
      assert.equal(1, routed:live_session_count())
    end))

    it("starts another where one is unset, which a resumed program would find in the transcript", helper.task(function()
      local talk = backend:conversation(nil, { model = "opus" })
      local id = talk:ask("one").result.session_id
      talk.options.model = nil
      assert.not_equal(id, talk:ask("two").result.session_id)
    end))

    it("finds the very same session when they change back before they were used", helper.task(function()
      local talk = backend:conversation(nil, { model = "opus" })
      talk:ask "one"
      talk.options.model = "haiku"
      talk.options.model = "opus"
      assert.equal(2, talk:ask("two").result.num_turns)
      assert.equal(1, #kit:events "started")
    end))

    it("goes on in a written history when the transcript is gone", helper.task(function()
      local talk = backend:conversation()
      local id = talk:ask("one").result.session_id
      local environment = parley.build_env { extra_env = kit.options.extra_env }
      local path = parley.resolve_jsonl_path(id, kit.options.cwd, environment)
      files.remove(path)
      talk.options.model = "opus"
      assert.not_equal(id, talk:ask("two").result.session_id)
      assert.equal("u: one\na: echo: one\nu: two\na: echo: two", said(talk))
    end))

    it("starts another session, from the history, when others change", helper.task(function()
      local talk = backend:conversation()
      local id = talk:ask("one").result.session_id
      talk.options.append_system_prompt = "Be brief."
      assert.not_equal(id, talk:ask("two").result.session_id)
      assert.equal(2, backend:live_session_count())
    end))
  end)

  describe("with a schema", function()
    local SCHEMA = { type = "object", required = { "risk" }, additionalProperties = false,
      properties = { risk = { type = "integer", minimum = 1, maximum = 5 } } }

    local function answers(...)
      local list = {}
      for i, text in ipairs { ... } do list[i] = { text = text, times = 1 } end
      kit:use { answers = list }
    end

    it("has the value of an answer that fits, and says the schema in the message", helper.task(function()
      answers '{"risk": 4}'
      local talk = backend:conversation()
      local answer = talk:ask("How risky?", { schema = SCHEMA })
      assert.same({ risk = 4 }, answer.value)
      assert.matches('^How risky%?\n\n.*fits this JSON Schema:\n{"additionalProperties":false,.*}$', kit:taken()[1])
      assert.equal(2, #talk.messages)
    end))

    it("asks once more with what was wrong", helper.task(function()
      answers('{"risk": "high"}', 'Here it is:\n```json\n{"risk": 5}\n```')
      local talk = backend:conversation()
      assert.same({ risk = 5 }, talk:ask("How risky?", { schema = SCHEMA }).value)
      assert.matches('%$%.risk must be of type integer, not "high"', kit:taken()[2])
      assert.equal(4, #talk.messages)
    end))

    it("raises a ValidationError when that does not fit either", helper.task(function()
      answers("I do not know.", '{"risk": 9}')
      local talk = backend:conversation()
      local err = raised("ValidationError", talk.ask, talk, "How risky?", { schema = SCHEMA })
      assert.matches("%$%.risk must be at most 5, not 9", err.message)
      assert.equal('{"risk": 9}', err.answer.text)
      assert.equal(2, #kit:taken())
      assert.matches("it is no JSON", kit:taken()[2])
    end))
  end)
end)
