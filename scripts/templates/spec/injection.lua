-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  --- Goes on with a history of so many turns; what the program was told, and its command line.
  local function go_on(turns)
    local history = {}
    for i = 1, turns do
      table.insert(history, { role = "user", content = "Question " .. i })
      table.insert(history, { role = "assistant", content = "Answer " .. i })
    end
    local kit <close> = testing.kit()
    kit.options.policies = { injection = "NAME.lua" }
    local backend <close> = parley.backend(kit.options)
    backend:conversation(history):ask "And now?"
    local _, process = next(backend:live_sessions())
    return kit:taken()[1], table.concat(process.argv, " ")
  end

  it("tells a short history as a text", testing.task(function()
    local told, command_line = go_on(1)
    assert.matches("Question 1.*Answer 1.*And now%?$", told)
    assert.falsy(command_line:find("--resume", 1, true))
  end))

  it("has a long one resumed", testing.task(function()
    local told, command_line = go_on(3)
    assert.equal("And now?", told)
    assert.truthy(command_line:find("--resume", 1, true))
  end))
end)
