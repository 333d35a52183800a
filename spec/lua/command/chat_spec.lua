local chat = require "parley.command.chat"
local consent = require "parley.command.chat.consent"
local conversation = require "parley.backend.conversation"
local errors = require "parley.base.errors"
local claude_event = require "parley.claude.event"
local files = require "parley.base.files"
local helper = require "spec.helper"
local output = require "parley.command.chat.output"
local parley = require "parley"
local task = require "parley.base.task"
local testing = require "parley.testing"
local turns = require "parley.backend.turn"

local function turn_of(next_event)
  return turns.new { next = next_event, abandon = function() end, session = function() end }
end

--- A backend that answers from a list; what it was asked stands in `asked`.
local function fake_backend(answers)
  local backend = { asked = {}, prepared = {}, commands = {} }
  local function turn()
    local answer = table.remove(answers, 1)
    if type(answer) == "function" then return answer() end
    local events = answer or { claude_event.new { type = "result", subtype = "success" } }
    return turn_of(function() return table.remove(events, 1) end)
  end
  function backend:conversation(messages) return conversation.new(self, messages) end
  function backend:complete(messages)
    table.insert(self.asked, messages)
    return turn()
  end
  function backend:command(messages, text)
    table.insert(self.commands, { messages, text })
    return turn()
  end
  function backend:warm(messages) table.insert(self.prepared, messages) end
  function backend.session_states() return {} end
  function backend.live_session_count() return 1 end
  return backend
end

--- An input that says a list of lines.
local function fake_input(lines)
  return {
    read = function()
      local line = table.remove(lines, 1)
      if line == false then return nil, "interrupt" end
      return line, line == nil and "end" or nil
    end,
    wait_for_interrupt = function() task.condition():wait() end,
    remember = function() end,
    beside = function(_, write) write() end,
  }
end

local function answer(text)
  return {
    claude_event.new { type = "user", content = { { type = "text", text = "…" } } },
    claude_event.new { type = "assistant", content = { { type = "text", text = text } } },
    claude_event.new { type = "result", subtype = "success" },
  }
end

describe("chat", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- Talks to the end of the lines. Returns the status, what was shown, the chat.
  local function talk(lines, backend, options)
    local shown = {}
    local function show(text) table.insert(shown, text) end
    local talking = chat.new {
      backend = backend, input = fake_input(lines), is_interactive = not (options and options.is_filter),
      output = output.new { write = show, aside = show, columns = function() return 80 end,
        paint = function(_, text) return text end, has_status = false },
    }
    if options and options.asker then options.asker:attach(talking) end
    local status = talking:run()
    return status, table.concat(shown), talking
  end

  it("shows nothing of a wait that is over", helper.task(function()
    local shown, tick, pause = {}, task.condition(), task["sleep"]
    task["sleep"] = function() tick:wait() end
    finally(function() task["sleep"] = pause end)
    local function show(text) table.insert(shown, text) end
    local seen = output.new { write = show, aside = show, columns = function() return 80 end,
      paint = function(_, text) return text end, has_status = true }
    local clear = seen.clear
    function seen:clear()
      clear(self)
      tick:notify() -- a second is over just as the turn is
    end
    chat.new { backend = fake_backend { answer "one" }, input = fake_input { "hello" }, is_interactive = true,
      output = seen }:run()
    helper.tick()
    assert.matches("one", table.concat(shown))
    assert.equal("\n", shown[#shown])
  end))

  it("sends each message behind what was said before", helper.task(function()
    local backend = fake_backend { answer "one", answer "two" }
    local status, shown = talk({ "first", "", "second" }, backend)
    assert.equal(0, status)
    assert.equal("one\n\n\ntwo\n\n", shown)
    assert.equal(3, #backend.asked[2])
    assert.same({ role = "user", content = "first" }, backend.asked[2][1])
    assert.equal("one", backend.asked[2][2].content[1].text)
    assert.same({ role = "user", content = "second" }, backend.asked[2][3])
  end))

  it("starts claude before the first message is there", helper.task(function()
    local backend = fake_backend {}
    local _, _, talking = talk({}, backend)
    talking.starting:await()
    assert.same({ {} }, backend.prepared)
  end))

  it("leaves a message without an answer out of the conversation", helper.task(function()
    local failed = { claude_event.new { type = "result", subtype = "error_api", is_error = true, message = "busy" } }
    local backend = fake_backend { failed, answer "yes" }
    local _, shown, talking = talk({ "first", "second" }, backend)
    assert.truthy(shown:find("the turn ended with error_api: busy", 1, true))
    assert.same({ role = "user", content = "second" }, backend.asked[2][1])
    assert.equal(2, #talking.talk.messages)
  end))

  --- A turn that calls a tool and comes to no result of it.
  local function dies_in_tool(ending)
    return function()
      local is_over, call = false, claude_event.new { type = "assistant", content = {
        { type = "tool_use", id = "toolu_1", name = "Bash", input = { command = "make" } } } }
      return turn_of(function()
        local event = call or not is_over and ending() or nil
        call, is_over = nil, call == nil
        return event
      end)
    end
  end

  for what, ending in pairs {
    ["an error"] = function() error(errors.session_error("no answer within 5 s", { reason = "timeout" }), 0) end,
    ["a dialog"] = function() error(errors.dialog_error "the program asks", 0) end,
    ["an API error"] = function()
      return claude_event.new { type = "result", subtype = "error_api", is_error = true, message = "busy" }
    end,
    ["an interrupt that leaves the call without a result"] = function()
      return claude_event.new { type = "result", subtype = "interrupted" }
    end,
  } do
    it("leaves the conversation as it was when a turn died inside a tool call, by " .. what, helper.task(function()
      local backend = fake_backend { answer "one", dies_in_tool(ending), answer "two" }
      local _, shown, talking = talk({ "first", "second", "third" }, backend)
      assert.truthy(shown:find("the message is not part of the conversation", 1, true))
      assert.same({ "first", "third" }, { backend.asked[3][1].content, backend.asked[3][3].content })
      assert.equal(4, #talking.talk.messages)
    end))
  end

  it("goes on after an error of the session", helper.task(function()
    local backend = fake_backend { function() error(errors.session_error "the program is gone", 0) end, answer "yes" }
    local status, shown = talk({ "first", "second" }, backend)
    assert.equal(0, status)
    assert.truthy(shown:find("the program is gone", 1, true))
    assert.truthy(shown:find("yes", 1, true))
  end))

  it("stops at the first error where nobody sits", helper.task(function()
    local backend = fake_backend { function() error(errors.session_error "the program is gone", 0) end, answer "yes" }
    local ok, err = pcall(talk, { "first", "second" }, backend, { is_filter = true })
    assert.is_false(ok)
    assert.equal("the program is gone", err.message)
    assert.equal(1, #backend.asked)
  end))

  describe("whose turn was interrupted", function()
    local function interrupted()
      return { claude_event.new { type = "result", subtype = "interrupted", message = "by a policy" } }
    end
    local PROBLEM = "the turn ended with interrupted: by a policy"

    it("says why where the person did not do it", helper.task(function()
      local status, shown = talk({ "first", "second" }, fake_backend { interrupted(), answer "yes" })
      assert.equal(0, status)
      assert.truthy(shown:find(PROBLEM, 1, true))
      local ok, err = pcall(talk, { "first" }, fake_backend { interrupted() }, { is_filter = true })
      assert.is_false(ok)
      assert.equal(PROBLEM, err.message)
    end))

    it("calls it no error where the person did, at a question about a call", helper.task(function()
      local asker = consent.new()
      local backend = fake_backend { function()
        asker:policy().decide { name = "Bash", input = { command = "rm x" } }
        local events = interrupted()
        return turn_of(function() return table.remove(events, 1) end)
      end }
      local _, shown = talk({ "first", false }, backend, { asker = asker })
      assert.truthy(shown:find("(interrupted)", 1, true))
      assert.is_nil(shown:find(PROBLEM, 1, true))
    end))
  end)

  it("leaves at the second Ctrl-C in a row", helper.task(function()
    local backend = fake_backend { answer "one" }
    local status = talk({ false, "first", false, false, "never" }, backend)
    assert.equal(130, status)
    assert.equal(1, #backend.asked)
  end))

  it("does not hide a fault of its own", helper.task(function()
    local backend = fake_backend { function() error "a bug" end }
    local ok, err = pcall(talk, { "first" }, backend)
    assert.is_false(ok)
    assert.truthy(tostring(err):find "a bug")
  end))

  it("runs commands of claude's in the conversation, but not /clear", helper.task(function()
    local backend = fake_backend { answer "one" }
    local _, shown = talk({ "first", "/claude compact", "/claude /clear" }, backend)
    assert.equal(1, #backend.commands)
    assert.equal("/compact", backend.commands[1][2])
    assert.equal(2, #backend.commands[1][1])
    assert.truthy(shown:find("use /new", 1, true))
  end))
end)

--- What chat asks of the backend beside `complete`.
describe("the backend", function()
  local check_leaks, kit

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.world { script = { answers = {
      { on = "tool", tool = { name = "Bash", input = { command = "make" }, duration_ms = 60000 } },
      { on = "long", text = "At last.", delay_ms = 60000 },
    } } }
  end)
  after_each(function()
    kit:close()
    check_leaks()
  end)

  local function it_does(sentence, fn) it(sentence, helper.task(fn, 20000)) end

  local function say(text) return { { role = "user", content = text } } end

  local function subtype_of(backend, messages)
    local subtype
    for event in backend:complete(messages) do subtype = event.subtype end
    return subtype
  end

  --- Runs a turn and interrupts it once a predicate over its events holds. Returns the events.
  local function interrupted(backend, messages, is_time)
    local events = {}
    local turn <close> = backend:complete(messages)
    local interrupter = task.spawn(function()
      helper.eventually(function() return is_time(events) and turn:interrupt() end)
    end)
    for event in turn do table.insert(events, event) end
    interrupter:await()
    assert.is_false(turn:interrupt())
    return events
  end

  it_does("prepares a session that the first message finds", function()
    local backend <close> = parley.backend(kit.options)
    assert.is_true(backend:warm {})
    assert.equal("success", subtype_of(backend, say "hello"))
    assert.equal(1, #kit:events "started")
  end)

  it_does("prepares no second one where one waits", function()
    local backend <close> = parley.backend(kit.options)
    assert.is_true(backend:warm {})
    assert.is_true(backend:warm {})
    assert.equal(1, #kit:events "started")
  end)

  it_does("does not warm a history that must go with the message", function()
    kit.options.history_injection_mode = "concat_message"
    local backend <close> = parley.backend(kit.options)
    assert.is_false(backend:warm { { role = "user", content = "a" }, { role = "assistant", content = "b" } })
    assert.equal(0, backend:live_session_count())
  end)

  it_does("interrupts a turn and keeps its session for the conversation", function()
    local backend <close> = parley.backend(kit.options)
    local events = interrupted(backend, say "tool", function(events) return #events >= 2 end)
    assert.equal("interrupted", events[#events].subtype)
    local messages = say "tool"
    for _, message in ipairs(parley.synthesize_turn_messages(events)) do table.insert(messages, message) end
    table.insert(messages, { role = "user", content = "hello" })
    assert.equal("success", subtype_of(backend, messages))
    assert.equal(1, #kit:events "started")
    assert.same({ "tool", "hello" }, kit:taken())
  end)

  it_does("ends the session of a message that was interrupted before its answer began", function()
    local backend <close> = parley.backend(kit.options)
    interrupted(backend, say "long", function() return #kit:taken() == 1 end)
    assert.equal(0, backend:live_session_count())
  end)

  it_does("runs a command in the conversation's session", function()
    local backend <close> = parley.backend(kit.options)
    assert.equal("success", subtype_of(backend, say "hello"))
    local messages = say "hello"
    table.insert(messages, { role = "assistant", content = "echo: hello" })
    local last
    for event in backend:command(messages, "/compact") do last = event end
    assert.equal("success", last.subtype)
    table.insert(messages, { role = "user", content = "again" })
    assert.equal("success", subtype_of(backend, messages))
    assert.equal(1, #kit:events "started")
  end)

  it_does("starts nothing for a command that changes the user's settings", function()
    local backend <close> = parley.backend(kit.options)
    local ok, err = pcall(backend.command, backend, {}, "/model haiku")
    assert.is_false(ok)
    assert.equal("ValueError", err.code)
    assert.matches("the option `model`", err.message)
    assert.same({}, kit:events "started")
  end)

  for profile, starts in pairs { ["2.1.110"] = 2, ["2.1.197"] = 2, ["2.1.330"] = 1 } do
    it_does("tells what a panel shows, and the model nothing of it, on " .. profile, function()
      kit:use { profile = profile }
      local backend <close> = parley.backend(kit.options)
      assert.equal("success", subtype_of(backend, say "hello"))
      local messages, panel, last = say "hello", nil, nil
      table.insert(messages, { role = "assistant", content = "echo: hello" })
      for event in backend:command(messages, "/status") do
        if event.subtype == "dialog_answered" then panel = event end
        last = event
      end
      assert.same({ "success", "panel" }, { last.subtype, panel.kind })
      assert.matches("Version: +" .. profile:gsub("%.", "%%."), panel.text)
      table.insert(messages, { role = "user", content = "again" })
      assert.equal("success", subtype_of(backend, messages))
      assert.equal(starts, #kit:events "started")
      for id in pairs(backend:live_sessions()) do
        for _, record in ipairs(helper.json_lines(files.read(kit:transcript_path(id)))) do
          assert.falsy(tostring(record.content):find("dismissed", 1, true))
        end
      end
    end)
  end

  describe("in permission mode default", function()
    local function decide(lines, calls)
      local asker, shown = consent.new(), {}
      local input = fake_input(lines)
      asker:attach { pause = function() end, input = input,
        output = { clear = function() end, note = function(_, text) table.insert(shown, text) end } }
      local decisions = {}
      for i, call in ipairs(calls) do decisions[i] = asker:policy().decide(call) end
      return decisions, shown
    end

    local function bash(command) return { name = "Bash", input = { command = command } } end

    it("asks about each call, shown whole", helper.task(function()
      local decisions, shown = decide({ "y", "no", "", "use rg instead", false },
        { bash "rm x", bash "rm y", bash "grep z", bash "rm \27[2Jz" })
      assert.same({ allow = true }, decisions[1])
      assert.equal("the user does not want this", decisions[2].deny)
      assert.equal("the user says: use rg instead", decisions[3].deny)
      assert.is_true(decisions[4].interrupt)
      assert.same({ "Bash: rm x", "Bash: rm y", "Bash: grep z", "Bash: rm ?[2Jz" }, shown)
    end))

    it("shows all of a call's input", helper.task(function()
      local _, shown = decide({ "y", "y", "y", "y" }, { { name = "Bash",
        input = { run_in_background = true, dangerouslyDisableSandbox = true, command = "ls" } },
        { name = "mcp__db__run", input = { command = "select", database = "production" }, agent = {} },
        { name = "Odd", input = { command = { "ls" } } }, { name = "None", input = {} } })
      assert.same({ 'Bash: ls\n{"dangerouslyDisableSandbox":true,"run_in_background":true}',
        'a sub-agent\'s mcp__db__run: select\n{"database":"production"}', 'Odd: {"command":["ls"]}', "None: {}" },
        shown)
    end))

    it("asks no more about a tool that was always allowed", helper.task(function()
      local decisions, shown = decide({ "always" }, { bash "a", bash "b" })
      assert.same({ { allow = true }, { allow = true } }, decisions)
      assert.equal(1, #shown)
    end))
  end)
end)
