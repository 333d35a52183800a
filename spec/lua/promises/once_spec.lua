-- Promise 1 of the README, on the stand-in, in a world with a clock of its own. Each spec fails when the
-- promise is broken.
local helper = require "spec.helper"
local promise = require "spec.promise"
local task = require "parley.base.task"

local ENDS, failure_of, say, count_of = promise.ENDS, helper.failure_of, helper.say, promise.count_of
local on, each = promise.on, promise.each

describe("promise 1, once:", function()
  promise.check_leaks()

  each("a message is taken once, though keys and Enter are lost",
    { script = { faults = { lose_keys = 1, lose_returns = 1 } } }, function(live, kit)
      assert.equal("success", say(live, "hello").verdict)
      assert.same({ "hello" }, kit:taken())
      assert.equal("success", say(live, "hello").verdict)
      assert.same({ "hello", "hello" }, kit:taken())
    end)

  each("a message is taken once, though a dialog comes up and takes its Enter",
    { script = { faults = { dialog_at_return = true } } }, function(live, kit)
      assert.equal("success", say(live, "hello").verdict)
      assert.same({ "hello" }, kit:taken())
    end)

  on(ENDS, "a message whose record comes late is not sent again",
    { script = { faults = { late_flush_ms = 2000 } } }, function(live, kit)
      assert.equal("success", say(live, "hello").verdict)
      assert.same({ "hello" }, kit:taken())
    end)

  each("a message is known by its record, though everybody's clock is set back before that is written",
    { session = { turn_timeout_ms = 20000 } }, function(live, kit)
      local settings = 0
      function kit.on_typed(_, bytes)
        if not bytes:find "\r" then return end
        settings, kit.time.set_by = settings + 1, kit.time.set_by - 5000
      end
      for _, text in ipairs { "hello", "and on" } do assert.equal("success", say(live, text).verdict) end
      assert.same({ "hello", "and on" }, kit:taken())
      assert.equal(2, settings)
    end)

  each("Enter is not pressed again and again for one that stays in the composer, whatever becomes of it",
    { script = { faults = { lose_returns = 40 } }, session = { file_wait_timeout_ms = 60000 } }, function(live, kit)
      failure_of("SessionError", say, live, "hello")
      assert.equal(11, select(2, kit:received():gsub("\r", "")))
      assert.same({}, kit:taken())
    end)

  on({ "2.1.330" }, "Enter is not pressed again for one whose record comes very late",
    { script = { faults = { late_flush_ms = 6000 } } }, function(live, kit)
      assert.equal("success", say(live, "hello").verdict)
      assert.equal(1, select(2, kit:received():gsub("\r", "")))
    end)

  on({ "2.1.330" }, "the time that a dialog takes is not the message's", {
    script = { faults = { lose_returns = 1, dialog_ms = 300 } },
    session = { file_wait_timeout_ms = 6500,
      policies = { dialogs = { decide = function() return { choose = 1 } end } } },
  }, function(live, kit)
    local said = say(live, "hello")
    assert.equal("success", said.verdict)
    assert.equal(1, count_of(said, "dialog_answered"))
    assert.same({ "hello" }, kit:taken())
  end)

  each("a message is taken once, though a dialog comes up while the editor has it", {
    faults = { late_ms = 0 }, script = { startup_delay_ms = 5, faults = { dialog_ms = 30 } },
    session = { policies = { dialogs = { decide = function() return { choose = 1 } end } } },
  }, function(live, kit)
    local text = "one `\n@/{\n@' 7  B'@aé\n…." -- goes through the editor
    assert.equal("success", say(live, text).verdict)
    assert.same({ text }, kit:taken())
  end)

  each("a command whose Enter was lost is not taken for one that ran because a dialog comes up", {
    script = { faults = { lose_returns = 1, dialog_ms = 300 } },
    session = { policies = { dialogs = { decide = function(dialog)
      return dialog.choices[1] and { choose = 1 } or { keys = "\27" }
    end } } },
  }, function(live, kit)
    for _ in live:command "/cost" do end -- luacheck: ignore 542
    assert.equal(1, #kit:events "command")
  end)

  on({ "2.1.330" }, "one that is not taken is an error that says so",
    { script = { faults = { lose_keys = 100000 } } }, function(live, kit)
      local err = failure_of("SessionError", say, live, "hello")
      assert.equal("delivery", err.reason)
      assert.same({}, kit:taken())
    end)

  each("behind a turn of the program's own it is taken once, and has its own answer", {
    script = { answers = { { on = "first", text = "one", own_turn = { text = "<task-notification>x", after_ms = 1 } },
      { on = "task-notification", text = "about it", delay_ms = 700 } } },
  }, function(live, kit)
    local said = say(live, "first")
    assert.same({ "success", { "one" }, 3 }, { said.verdict, said.texts, #said.events }) -- no more than its own
    said = say(live, "second")
    assert.same({ "echo: second" }, said.texts)
    assert.equal("success", said.verdict)
    assert.same({ "first", "second" }, kit:taken())
  end)

  each("behind a message that the program begins with it is taken once, though the record of that comes late",
    { script = { initial_prompt = "begin", faults = { late_flush_ms = 2000 } } }, function(live, kit)
      local said = say(live, "second")
      assert.same({ "echo: second" }, said.texts)
      assert.same({ "begin", "second" }, kit:taken())
    end)

  each("behind one in the very words of it, too, and the answer is its own", { script = { initial_prompt = "hi",
    faults = { late_flush_ms = 2000 }, answers = {
      { on = function(_, number) return number == 1 end, text = "to the agent's" }, { text = "to ours" } } } },
    function(live, kit)
      assert.same({ "to ours" }, say(live, "hi").texts)
      assert.same({ "hi", "hi" }, kit:taken())
    end)

  each("behind two messages of a person's, of which the second waits in the queue, it is taken once",
    { script = { answers = { { on = "mine", text = "yours", delay_ms = 2000 } } } }, function(live, kit)
      say(live, "first")
      for _, text in ipairs { "mine", "and mine" } do
        live.process:write(text)
        helper.eventually(function() return live.process.screen:text():find("❯[^\n]*" .. text .. "%s*\n") end)
        live.process:write "\r"
        helper.eventually(function() return live:state() == "busy" end)
      end
      local said = say(live, "second")
      assert.same({ "echo: second" }, said.texts)
      assert.same({ "first", "mine", "and mine", "second" }, kit:taken())
    end)

  local CALLS = { script = { answers = {
    { on = "first", text = "one", own_turn = { text = "<task-notification>x", after_ms = 1000 } },
    { on = "task-notification", steps = { { text = "let me look", tool = { name = "Bash", duration_ms = 4000 } },
      { text = "about it" } } },
  } } }

  --- Has the program's own turn begin before the first key that is pressed, or the first that is this one, goes to it.
  local function hold(live, held)
    local write = live.process.write
    function live.process.write(self, bytes, ...)
      if not held or bytes == held then
        live.process.write = nil
        task.condition():wait(2000)
      end
      return write(self, bytes, ...)
    end
  end

  each("within a turn of the program's own that calls a tool it is taken once, and its answer is the one behind it",
    CALLS, function(live, kit)
      assert.same({ "one" }, say(live, "first").texts)
      hold(live, "\r")
      local said = say(live, "second")
      assert.same({ "echo: second" }, said.texts)
      assert.equal("success", said.verdict)
      assert.equal(1, count_of(said, "message_joined"))
      assert.equal("second", said.events[1]:text())
      assert.same({ "first", "second" }, kit:taken())
      assert.same({ "echo: third" }, say(live, "third").texts)
    end)

  local decides = { policies = { permission = { decide = function() return { allow = true } end } } }
  each("a permission policy is kept in such a turn, too", { script = CALLS.script, session = decides },
    function(live)
      assert.same({ "one" }, say(live, "first").texts)
      hold(live, "\r")
      assert.same({ "echo: second" }, say(live, "second").texts)
    end)

  each("where that has begun before Enter is pressed it is waited for", CALLS, function(live, kit)
    assert.same({ "one" }, say(live, "first").texts)
    hold(live)
    local said = say(live, "second")
    assert.same({ "echo: second" }, said.texts)
    assert.equal(0, count_of(said, "message_joined"))
    assert.same({ "first", "second" }, kit:taken())
  end)
end)
