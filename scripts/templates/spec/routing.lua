-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  --- Asks with the policy in place; the answer, and the command line of the program that gave it.
  local function ask(kit, text)
    kit.options.policies = { routing = "NAME.lua" }
    local backend <close> = parley.backend(kit.options)
    local answer = backend:conversation():ask(text)
    local _, process = next(backend:live_sessions())
    return answer, table.concat(process.argv, " ")
  end

  it("sends a short question to the small model", testing.task(function()
    -- A script says what the simulated program answers; without one it answers "echo: " and the message.
    local kit <close> = testing.kit { script = { answers = { { on = "2 + 2", text = "4" } } } }
    local answer, command_line = ask(kit, "2 + 2?")
    assert.equal("4", answer.text)
    assert.same({ "2 + 2?" }, kit:taken()) -- what the program was told
    assert.truthy(command_line:find("--model haiku", 1, true))
  end))

  it("leaves a long one to the model that the user has chosen", testing.task(function()
    local kit <close> = testing.kit()
    local _, command_line = ask(kit, ("Why? "):rep(40))
    assert.falsy(command_line:find("--model", 1, true))
  end))
end)
