-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  --- Asks a model that stops for a reason.
  local function ask(stop_reason)
    local script = { answers = { { text = "Once upon a time", stop_reason = stop_reason } } }
    local kit <close> = testing.kit { script = script }
    kit.options.policies = { settling = "NAME.lua" }
    local backend <close> = parley.backend(kit.options)
    return backend:conversation():ask "Tell me a story."
  end

  it("takes an answer that was cut off for a failure", testing.task(function()
    local ok, err = pcall(ask, "stop_sequence")
    assert.is_false(ok)
    assert.equal("error_cut", err.result.subtype)
    assert.equal("stop_sequence", err.result.stop_reason)
  end))

  it("takes one that came to its end as it is", testing.task(function()
    assert.equal("success", ask("end_turn").result.subtype)
  end))
end)
