local helper = require "spec.helper"
local promise = require "spec.promise"

local say = helper.say
local function run(live, command) return say(live, command, nil, true) end

local COMMANDS = { ["deploy-prod"] = { text = "deploy to production" },
  greet = { text = "greet", arguments = { "who" } }, move = { text = "move", arguments = { "what", "where" } } }

describe("a command, over which the list of commands pops up,", function()
  promise.check_leaks()

  promise.each("is run as it was typed, or not at all", { script = { commands = COMMANDS } }, function(live)
    for _, command in ipairs { "/deploy", "/deploy-prd", "/depl", "/clea" } do
      local said = run(live, command)
      assert.same({ "error_command", "Unknown command: " .. command }, { said.verdict, said.result.message })
    end
    assert.same({ "echo: deploy to production " }, run(live, "/deploy-prod").texts)
    assert.same({ "echo: deploy to production now" }, run(live, "/deploy-prod now").texts)
    assert.same({ "echo: still there?" }, say(live, "still there?").texts)
  end)

  promise.each("is told of where the list came late and another was run", { script = { commands = COMMANDS,
    faults = { list_at_return = true } } }, function(live, _, profile)
    local command = profile == "2.1.330" and "/deploy" or "/deploy-prd"
    local err = helper.failure_of("SessionError", run, live, command)
    assert.same({ "delivery", command, "/deploy-prod" }, { err.reason, err.sent, err.received })
    assert.matches("^the program has run /deploy%-prod instead of \"" .. command:gsub("%-", "%%-") .. "\"", err.message)
  end)

  promise.each("is run where arguments that it names are missing", { script = { commands = COMMANDS } }, function(live)
    for command, text in pairs { ["/greet"] = "greet ", ["/greet Bob"] = "greet Bob", ["/move"] = "move ",
      ["/move it"] = "move it", ["/move it there"] = "move it there" } do
      assert.same({ "echo: " .. text }, run(live, command).texts)
    end
  end)

  promise.each("and where the list came late and has put those names behind it", { script = { commands = COMMANDS,
    faults = { list_at_return = true } } }, function(live)
    assert.same({ "echo: greet " }, run(live, "/greet").texts)
  end)

  promise.each("is not run where the list came late and has put another in its place", { script = { commands = COMMANDS,
    faults = { list_at_return = true } } }, function(live, kit)
    local err = helper.failure_of("SessionError", run, live, "/gree")
    assert.equal("delivery", err.reason)
    assert.matches('list of commands has put "/greet  %[who%]" in the place of "/gree"; nothing was run', err.message)
    assert.same({}, kit:taken())
  end)

  promise.on({ "2.1.197", "2.1.330" }, "waits for a turn of the program's own, of which nothing is the command's", {
    script = { answers = {
      { on = "BG", text = "started",
        own_turn = { after_ms = 500, text = "<task-notification>done</task-notification>" } },
      { on = "<task-notification>", after = "own",
        tool = { name = "Bash", input = { command = "x" }, result = "r", duration_ms = 4000 } },
    } } }, function(live)
    say(live, "BG")
    local state
    local enter = live.typist.enter
    live.typist.enter = function(...)
      state = live.terminal:state()
      return enter(...)
    end
    local said = run(live, "/qqqq")
    assert.same({ "ready", "error_command", {} }, { state, said.verdict, said.texts })
  end)
end)
