-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  --- Asks with the policy in place.
  local function ask(kit, text)
    kit.options.policies = { delivery = "NAME.lua" }
    local backend <close> = parley.backend(kit.options)
    return backend:conversation():ask(text)
  end

  it("refuses a message with a key in it, before anything is started", testing.task(function()
    local kit <close> = testing.kit()
    local ok, err = pcall(ask, kit, "Use sk-ant-api03-x for it.")
    assert.is_false(ok)
    assert.equal("ValueError", err.code)
    assert.matches("looks like a secret", err.message)
    assert.same({}, kit:events "started")
  end))

  it("sends any other as it is", testing.task(function()
    local kit <close> = testing.kit()
    ask(kit, "Which keys does it use?")
    assert.same({ "Which keys does it use?" }, kit:taken()) -- what the program was told
  end))
end)
