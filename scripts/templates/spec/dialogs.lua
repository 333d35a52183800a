-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  --- Asks a model that wants to run a command.
  local function ask(command)
    -- A script says what the simulated program does; `permission = true` has it ask whether the call may run.
    local call = { name = "Bash", input = { command = command }, result = "clean", permission = true }
    local kit <close> = testing.kit { script = { answers = { { tool = call, after = "Done." } } } }
    kit.options.permission_mode = "default" -- in the kit's own, bypassPermissions, nobody is asked
    kit.options.policies = { dialogs = "NAME.lua" }
    local backend <close> = parley.backend(kit.options)
    return backend:conversation():ask "Look around."
  end

  it("allows a command of the list", testing.task(function()
    local answer = ask "git status"
    assert.equal("Done.", answer.text)
    for _, event in ipairs(answer.events) do
      if event.subtype == "dialog_answered" then assert.equal("permission", event.kind) end
    end
  end))

  it("refuses any other, which ends the turn", testing.task(function()
    local ok, err = pcall(ask, "rm -r src")
    assert.is_false(ok)
    assert.equal("interrupted", err.reason)
    assert.matches("only git status", err.message)
  end))

  it("leaves what comes up at the start to `accept`", testing.task(function()
    local kit <close> = testing.kit { trusted = false }
    kit.options.policies = { dialogs = "NAME.lua" }
    local backend <close> = parley.backend(kit.options)
    local talk = backend:conversation()
    local ok, err = pcall(talk.ask, talk, "Hello.")
    assert.is_false(ok)
    assert.equal("DialogError", err.code)
    assert.equal("trust", err.dialog.kind)
  end))
end)
