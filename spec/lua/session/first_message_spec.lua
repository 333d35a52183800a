-- The first message as an argument of the program, on the stand-in: no key is pressed for it, and it is taken once.
local errors = require "parley.base.errors"
local helper = require "spec.helper"
local parley = require "parley"
local promise = require "spec.promise"
local session = require "parley.session"
local task = require "parley.base.task"
local testing = require "parley.testing"
local process = require "parley.claude.process"

local failure_of, say, each, on = helper.failure_of, helper.say, promise.each, promise.on

local AHEAD = { first_message = "argument" }
local function ahead(more)
  local all = { first_message = "argument" }
  for name, value in pairs(more or {}) do all[name] = value end
  return all
end

---Options of a scene whose session is not started.
local function not_started(more)
  local all = { is_not_started = true, session = AHEAD }
  for name, value in pairs(more or {}) do all[name] = value end
  return all
end

local function begin(live, text)
  live:start(text)
  return say(live, text)
end

---What was typed besides the terminal's own answers.
local function typed(kit)
  local list = {}
  for _, record in ipairs(kit:events "received") do
    if not record.bytes:find "^\27%[%?[%d;]*c$" then table.insert(list, record.bytes) end
  end
  return list
end

---The words that a stand-in was started with, behind `--`.
local function message_of(kit, index)
  local words = kit:events "started"[index or 1].argv
  for place, word in ipairs(words) do
    if word == "--" then return words[place + 1] end
  end
end

describe("the first message as an argument", function()
  promise.check_leaks()

  for _, text in ipairs { "hello there", "  a\tb\n!c", ("line\n"):rep(300) .. "end \\", "@ `$HOME` 'x' \"y\" 日本 😀" } do
    each(("arrives as it is: %q"):format(text:sub(1, 20)), not_started(), function(live, kit)
      local said = begin(live, text)
      assert.equal("success", said.verdict)
      assert.equal(text, said.events[1]:text())
      assert.same({ text }, kit:taken())
      assert.same({}, typed(kit))
      assert.equal("success", say(live, "and this is typed").verdict)
      assert.same({ text, "and this is typed" }, kit:taken())
    end)
  end

  for what, text in pairs {
    ["begins like a flag"] = "-p", ["is a word, as its commands are"] = "doctor",
    ["is too long for one"] = ("0123456789 "):rep(11916) .. "end",
  } do
    each("is typed where it " .. what, not_started(), function(live, kit)
      assert.equal("success", begin(live, text).verdict)
      assert.is_nil(message_of(kit))
      assert.same({ text }, kit:taken())
    end)
  end

  on({ "2.1.330" }, "is typed in a fork, whose transcript begins with what was said before", not_started(),
    function(live, kit)
      assert.equal("success", begin(live, "hello there").verdict)
      live:close()
      local fork <close> = promise.new(kit, AHEAD, { resume_session_id = live.session_id, fork_session = true })
      assert.equal("success", begin(fork, "hello there").verdict)
      assert.is_nil(message_of(kit, 2))
    end)

  each("is refused like one that is typed, before anything is started", not_started(), function(live, kit)
    for _, text in ipairs { "", "a\27b", "/exit", "exit", "\xFF" } do
      assert.matches("cannot be sent", tostring(failure_of("ValueError", live.start, live, text)))
      live = promise.new(kit, AHEAD)
    end
    assert.same({}, kit:events "started")
  end)

  each("waits for the dialogs of the start", not_started { trusted = false, bypass_accepted = false,
    session = ahead { accept = { "trust", "bypass" } } }, function(live, kit)
      assert.equal("success", begin(live, "hello there").verdict)
      assert.same({ "hello there" }, kit:taken())
    end)

  each("is not taken where those are not answered", not_started { trusted = false }, function(live, kit)
    local err = failure_of("DialogError", live.start, live, "hello there")
    assert.equal("trust", err.dialog.kind)
    assert.same({}, kit:taken())
  end)

  each("is taken once, though a dialog comes up by itself", not_started {
    script = { faults = { dialog_ms = 1 } },
    session = ahead { policies = { dialogs = { decide = function() return { choose = 1 } end } } },
  }, function(live, kit)
    assert.equal("success", begin(live, "hello there").verdict)
    assert.same({ "hello there" }, kit:taken())
  end)

  each("has its tool calls asked about with what they are", not_started {
    script = { answers = { { tool = { name = "Bash", input = { command = "ls -l" }, result = "done",
      permission = true }, after = "after the tool" } }, flush_ms = 300 },
    session = ahead { policies = { dialogs = { decide = function(dialog)
      return dialog.tool_use and dialog.tool_use.input.command == "ls -l" and { choose = 1 } or { fail = "what is it?" }
    end } } },
  }, function(live)
    assert.same({ "after the tool" }, begin(live, "hello there").texts)
  end)

  each("is answered, though all of it is over before anybody asks for an event", not_started(), function(live, kit)
    live:start "hello there"
    helper.eventually(function() return live:state() == "ready" and #kit:taken() == 1 end)
    task.condition():wait(5000)
    local said = say(live, "hello there")
    assert.same({ "echo: hello there" }, said.texts)
  end)

  each("can be interrupted", not_started { script = { answers = { { on = "hello", delay_ms = 60000 } } } },
    function(live, kit)
      live:start "hello there"
      assert.is_false(live:interrupt()) -- nobody follows it yet
      local waiter = task.spawn(function()
        helper.eventually(function() return live:state() == "busy" end)
        live:interrupt()
      end)
      assert.equal("interrupted", say(live, "hello there").verdict)
      waiter:await()
      assert.equal("success", say(live, "next").verdict)
      assert.same({ "hello there", "next" }, kit:taken())
    end)

  each("is not the one that was said before in the same words", not_started(), function(live, kit)
    assert.equal("success", begin(live, "hello there").verdict)
    live:close()
    local again <close> = promise.new(kit, AHEAD, { resume_session_id = live.session_id })
    local said = begin(again, "hello there")
    assert.same({ "echo: hello there" }, said.texts)
    assert.same({ "hello there", "hello there" }, kit:taken())
  end)

  each("has the time of a turn from the start's end on", not_started { script = { startup_delay_ms = 2000 },
    session = ahead { turn_timeout_ms = 1500 } }, function(live)
      assert.equal("success", begin(live, "hello there").verdict)
    end)

  each("has no Enter pressed for it, whatever stands in the composer", not_started {
    script = { startup_delay_ms = 6000, profile_changes = { prompt_ms = 6000 } } }, function(live, kit)
      local waiter = task.spawn(function()
        helper.eventually(function() return live:state() == "ready" end)
        live.process:write "hello there"
      end)
      assert.equal("success", begin(live, "hello there").verdict)
      waiter:await()
      assert.same({ "hello there" }, kit:taken())
      assert.same({ "hello there" }, typed(kit))
    end)

  on({ "2.1.330" }, "has others wait", not_started(), function(live)
    live:start "hello there"
    assert.equal("busy", failure_of("SessionError", live.send, live, "another").reason)
    assert.equal("success", say(live, "hello there").verdict)
  end)

  for _, crash in ipairs { "before_record", "after_user" } do
    each("is not sent again to another program when that one dies " .. crash, { is_not_started = true,
      script = { answers = { { on = "hello", crash = crash } } } }, function(_, kit)
        local set = ahead(kit.options)
        local backend <close> = parley.backend(set)
        local history = { { role = "user", content = "q" }, { role = "assistant", content = "a" },
          { role = "user", content = "hello there" } }
        local ok, err = pcall(function() backend:complete(history):result() end)
        assert.is_false(ok)
        assert.is_true(errors.is(err, "SessionError"))
        assert.equal("exit", err.reason)
        assert.same({ "hello there" }, kit:taken())
      end)
  end

  it("may have been taken where the program dies behind a dialog of the turn", function()
    local taken_count = 0
    for seed = 1, 40 do
      local script = { startup_delay_ms = 5, faults = { dialog_ms = 5 },
        answers = { { on = "hello", crash = "before_record" } } }
      local world <close> = testing.world { seed = seed, faults = { late_ms = 40, disk_late_ms = 100 },
        script = script }
      local is_taken = false
      world.on_event = function(record) is_taken = is_taken or record.event == "taken" end
      local ok, err = pcall(task.run, function()
        local live <close> = session.new(process.new(world.options), AHEAD)
        live:start "hello there"
      end)
      if is_taken and not ok then
        taken_count = taken_count + 1
        assert.is_false(err.at_start)
      end
    end
    assert.is_true(taken_count > 0)
  end)
end)

describe("the first message of a backend as an argument", function()
  promise.check_leaks()

  local function with_backend(given, body)
    return helper.task(function()
      local world <close> = testing.world(given)
      local backend <close> = parley.backend(ahead(world.options))
      body(backend, world)
    end)
  end

  local HISTORY = { { role = "user", content = "q" }, { role = "assistant", content = "a" } }

  it("goes with a written history, and the next is typed", with_backend({}, function(backend, world)
    local talk = backend:conversation(HISTORY)
    assert.equal("echo: one two", talk:ask("one two").text)
    assert.equal("echo: three", talk:ask("three").text)
    assert.equal("one two", message_of(world))
    assert.equal(1, #world:events "started")
    assert.same({ "one two", "three" }, world:taken())
  end))

  it("goes with the history in it where the program refuses to resume", with_backend({
    script = function(_, number)
      return number == 1 and { faults = { startup_exit = { status = 1,
        text = "No conversation found with session ID: x" } } } or {}
    end }, function(backend, world)
      local events = {}
      for event in backend:conversation(HISTORY):send "one two" do table.insert(events, event) end
      assert.equal("injection_fallback", events[1].subtype)
      assert.equal("success", events[#events].subtype)
      assert.matches("one two$", message_of(world, 2))
      assert.equal(1, #world:taken())
    end))

  it("is not given to a second program, whatever the first one has died of", with_backend({
    script = { faults = { startup_exit = { status = 1, text = "Something is wrong" } } } }, function(backend, world)
      local talk = backend:conversation(HISTORY)
      assert.equal("exit", failure_of("SessionError", talk.ask, talk, "one two").reason)
      assert.equal(1, #world:events "started")
    end))

  it("is that of a renewed session, too", with_backend({}, function(backend, world)
    local talk = backend:conversation()
    talk:ask "one two"
    talk.options = { model = "haiku" }
    assert.equal("echo: three four", talk:ask("three four").text)
    assert.equal("three four", message_of(world, 2))
  end))

  it("is typed into a session that waits, and is no command", with_backend({}, function(backend, world)
    assert.is_true(backend:warm {})
    assert.equal("echo: one two", backend:conversation():ask("one two").text)
    backend:command({ { role = "user", content = "x" }, { role = "assistant", content = "y" } }, "/cost"):result()
    assert.is_nil(message_of(world, 1))
    assert.is_nil(message_of(world, 2))
  end))
end)

describe("the first message as an argument on a pty", function()
  promise.check_leaks()

  for _, profile in ipairs(promise.PROFILES) do
    it("is told of by the program, and arrives (" .. profile .. ")", helper.task(function()
      local kit <close> = testing.kit { profile = profile }
      local prompts = {}
      local live <close> = session.new(process.new(kit.options), ahead { hooks = {
        UserPromptSubmit = function(payload) table.insert(prompts, payload.prompt) end,
        PreToolUse = function() end,
      } })
      local text = ("a line of it\n"):rep(8000) .. "end"
      local said = begin(live, text)
      assert.equal("success", said.verdict)
      assert.same({ text }, prompts)
      assert.same({ text }, kit:taken())
      assert.same({}, typed(kit))
    end))
  end

  it("is typed where the model has tools of the script's own", helper.task(function()
    local kit <close> = testing.kit()
    local live <close> = session.new(process.new(kit.options), ahead { tools = { { name = "hello",
      description = "says hello", input_schema = { type = "object" }, run = function() return "hello" end } } })
    assert.equal("success", begin(live, "hello there").verdict)
    assert.is_nil(message_of(kit))
  end))
end)
