-- The call that a permission dialog is about, told by the program itself where it calls back.
local helper = require "spec.helper"
local parley = require "parley"
local testing = require "parley.testing"

describe("a dialog of a program that calls back", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local TALL = ("ls\n"):rep(60) .. "rm -rf victim"

  ---The commands that the dialogs policy was told, and the events, of two calls in one message.
  local function commands_told(make, options, profile)
    local kit <close> = make { profile = profile, script = { answers = { { on = "DOIT", tools = {
      { name = "Bash", input = { command = "touch a\n" .. TALL, description = "x" }, permission = true },
      { name = "Bash", input = { command = "touch b\n" .. TALL, description = "x" }, permission = true },
    } } } } }
    local told = {}
    for name, value in pairs(options) do kit.options[name] = value end
    kit.options.permission_mode = "default"
    kit.options.policies = { dialogs = { decide = function(dialog)
      table.insert(told, dialog.tool_use and dialog.tool_use.input.command:match "[^\n]*" or "unknown")
      return { choose = 1 }
    end } }
    local backend <close> = parley.backend(kit.options)
    local answered = {}
    for event in backend:complete { { role = "user", content = "DOIT please" } } do
      local is_one = event.subtype == "dialog_answered"
      if is_one then table.insert(answered, event.tool_use and event.tool_use.id or "unknown") end
    end
    return told, answered
  end

  for where, make in pairs { [""] = testing.world, [", on a real terminal"] = testing.kit } do
    for _, profile in ipairs { "2.1.330", "2.1.197", "2.1.110" } do
      it(("is about its call, though the screen does not show it whole (%s%s)"):format(profile, where),
        helper.task(function()
          local told, answered = commands_told(make, { hooks = { Stop = function() end } }, profile)
          assert.same({ "touch a", "touch b" }, told)
          assert.is_true(answered[1] ~= answered[2] and answered[1]:find "^toolu" ~= nil, answered[1])
        end))
    end
  end

  it("is about nobody knows what where it does not", helper.task(function()
    local told, answered = commands_told(testing.world, {}, "2.1.330")
    assert.same({ "unknown", "unknown" }, told)
    assert.same({ "unknown", "unknown" }, answered)
  end))
end)
