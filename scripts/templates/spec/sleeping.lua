-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  it("gives away the place of the shortest conversation, which is woken when it goes on", testing.task(function()
    local kit <close> = testing.kit()
    kit.options.policies, kit.options.max_sessions = { sleeping = "NAME.lua" }, 2
    local backend <close> = parley.backend(kit.options)
    local long, short = backend:conversation(), backend:conversation()
    local of_long = long:ask("one").result.session_id
    long:ask "two"
    local of_short = short:ask("three").result.session_id
    backend:conversation():ask "four" -- there are only two places
    assert.truthy(backend:live_sessions()[of_long])
    assert.is_nil(backend:live_sessions()[of_short])
    assert.equal(of_short, short:ask("five").result.session_id)
  end))
end)
