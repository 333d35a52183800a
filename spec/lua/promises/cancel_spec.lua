-- Promise 6 of the README, on the stand-in, in a world with a clock of its own. Each spec fails when the
-- promise is broken.
local task = require "parley.base.task"
local helper = require "spec.helper"
local promise = require "spec.promise"

local ENDS, say, on, each = promise.ENDS, helper.say, promise.on, promise.each

--- A paste of that size does not fit into what the kernel holds for a program that does not read.
local LONG = ("line\n"):rep(100000)

describe("promise 6, cancel is clean:", function()
  promise.check_leaks()

  on(ENDS, "what was cut off by an interrupt, in a program that is stopped, joins nothing", {}, function(live, kit)
    live.process:signal "SIGSTOP"
    local waiter = task.spawn(function()
      helper.eventually(function() return live.typist.keys_may_follow end)
      live:interrupt()
    end)
    assert.equal("interrupted", say(live, LONG).verdict)
    waiter:await()
    live.process:signal "SIGCONT"
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "next" }, kit:taken())
  end)

  each("a loop that is left leaves nothing", {}, function(live, kit)
    for _ in live:send "SLOW" do break end -- luacheck: ignore 512
    assert.is_false(live.process:is_alive())
    assert.same({}, kit:processes())
  end)

  each("a task that is cancelled leaves nothing", {}, function(live, kit)
    local talk = task.spawn(function() say(live, "SLOW") end)
    helper.eventually(function() return live.turn and live.turn:state() == "running" end)
    talk:cancel()
    pcall(talk.await, talk)
    assert.same({}, kit:processes())
  end)

  each("an interrupted message is not glued to the next", {}, function(live, kit)
    for number = 1, 3 do
      local waiter = task.spawn(function()
        helper.eventually(function() return #kit:taken() == number and live.turn:state() ~= "typing" end)
        live:interrupt()
      end)
      assert.equal("interrupted", say(live, "SLOW").verdict)
      waiter:await()
    end
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "SLOW", "SLOW", "SLOW", "next" }, kit:taken())
  end)

  each("an interrupt while text streams has the program end", { script = { answers = {
    { on = "COUNT", text = ("line\n"):rep(200), line_ms = 200, delay_ms = 2000 } } } }, function(live, kit)
    local waiter = task.spawn(function()
      helper.eventually(function() return live.turn and live.turn:state() == "running" end)
      task.condition():wait(8000)
      live:interrupt()
    end)
    local said = say(live, "COUNT")
    waiter:await()
    assert.equal("interrupted", said.verdict)
    assert.matches("^%[Request interrupted by user", said.events[#said.events - 1]:text())
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "COUNT", "next" }, kit:taken())
  end)

  for what, session in pairs { ["an interrupt"] = {}, ["a limit"] = { max_output_tokens = 5 } } do
    each(what .. " that the user's key bindings keep from the program is told of, once", { session = session,
      script = { answers = { { tool = { name = "Bash", input = {}, result = "done", duration_ms = 9000 } } } },
    }, function(live, kit)
      helper.write(kit.home .. "/.claude/keybindings.json",
        '{"bindings":[{"context":"Chat","bindings":{"escape":"chat:undo"}}]}')
      local said = say(live, "hello", function(event)
        if what == "an interrupt" and #event:blocks "tool_use" > 0 then assert.is_true(live:interrupt()) end
      end)
      assert.equal(1, promise.count_of(said, "interrupt_unheard"))
      assert.same({ "success", session.max_output_tokens and "max_output_tokens" }, { said.verdict, said.result.limit })
    end)
  end

  each("an interrupt while the program compacts is one", { script = { answers = {
    { on = "LONG", text = "at last", compacts = true, delay_ms = 60000 } } } }, function(live)
    say(live, "hello")
    assert.equal("interrupted", say(live, "LONG", function(event)
      if event.type == "user" then live:interrupt() end
    end).verdict)
    assert.same({ "echo: next" }, say(live, "next").texts)
  end)

  each("an interrupt in a tool, or in the typing, is one too", {}, function(live, kit)
    assert.equal("interrupted", say(live, "SLOWTOOL", function(event)
      if #event:blocks "tool_use" > 0 then live:interrupt() end
    end).verdict)
    local waiter = task.spawn(function()
      helper.eventually(function() return live.turn:state() == "typing" end)
      live:interrupt()
    end)
    assert.equal("interrupted", say(live, ("line\n"):rep(200)).verdict)
    waiter:await()
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "SLOWTOOL", "next" }, kit:taken())
  end)
end)
