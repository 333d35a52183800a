-- Questions about tool calls, in `parley chat`.
local helper = require "spec.helper"
local terminals = require "parley.testing.terminal"
local testing = require "parley.testing"

local QUESTION = "allow it? yes, always, or what to tell the model:"
local SANDBOXLESS = { command = "ls", dangerouslyDisableSandbox = true }

local function calls(on, input, delay_ms)
  return { on = on, delay_ms = delay_ms, after = "That was it.",
    tool = { name = "Bash", input = input, permission = true, result = "done" } }
end
local SCRIPT = { answers = { calls("at once", { command = "rm -rf build" }),
  calls("soon", { command = "rm -rf build" }, 2000), calls("no sandbox", SANDBOXLESS) } }

describe("parley chat, when a call needs a permission,", function()
  local check_leaks, kit

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit { script = SCRIPT }
  end)
  after_each(function()
    helper.close_behind(kit)
    check_leaks()
    helper.remove_folders()
  end)

  local function open(term, arguments)
    local argv = { helper.host, "chat", "--executable", kit.executable, "--permission-mode", "default",
      table.unpack(arguments or {}) }
    local terminal = terminals.open { argv = argv, cwd = kit.cwd, rows = 40, columns = 120,
      environment = helper.environment({ TERM = term }, kit.environment) }
    terminal:wait_for "Ctrl-D leaves\n>"
    return terminal
  end

  for _, term in ipairs { "xterm-256color", "dumb" } do
    local function it_does(sentence, fn) it(sentence .. ", on " .. term, helper.task(fn, 40000)) end

    --- The question stands there, and the call, which is shown beside it or before it.
    local function wait_for_question(terminal)
      terminal:wait_for "Bash: rm -rf build\n"
      terminal:wait_for(QUESTION)
      terminal:wait_for "[Bash] rm -rf build"
    end

    it_does("takes nothing for its answer that was typed before the question", function()
      local terminal <close> = open(term)
      terminal:write "soon\r"
      helper.eventually(function() return #kit:taken() == 1 end)
      terminal:write "yes\ralways\r"
      wait_for_question(terminal)
      terminal:write "no\rand then\r"
      terminal:wait_for "the user does not want this"
      terminal:wait_for "echo: and then\n"
      assert.same({ "soon", "yes", "always", "and then" }, kit:taken())
    end)

    it_does("ends the row of a question that nobody answers in time", function()
      local terminal <close> = open(term, { "--turn-timeout", "5" })
      terminal:write "at once\r"
      wait_for_question(terminal)
      terminal:write "ye"
      terminal:wait_for "\nSessionError: the turn took longer than 5000 ms"
    end)
  end

  it("leaves a line that is half typed before the question to the next prompt", helper.task(function()
    local terminal <close> = open "xterm-256color"
    terminal:write "soon\r"
    helper.eventually(function() return #kit:taken() == 1 end)
    terminal:write "yes"
    terminal:wait_for(QUESTION)
    terminal:write "\ry\r" -- an empty answer, and one to the question that was not asked again by then
    terminal:wait_for(function() return select(2, terminal.screen:text():gsub("allow it%?", "")) == 2 end)
    terminal:write "no\r"
    terminal:wait_for "the user does not want this"
    terminal:wait_for "echo: yesy\n"
  end, 40000))

  it("shows all of its input", helper.task(function()
    local terminal <close> = open "xterm-256color"
    terminal:write "no sandbox\r"
    terminal:wait_for 'Bash: ls\n{"dangerouslyDisableSandbox":true}\n'
    terminal:wait_for(QUESTION)
    terminal:write "yes\r"
    terminal:wait_for "That was it.\n\n>"
  end, 40000))
end)
