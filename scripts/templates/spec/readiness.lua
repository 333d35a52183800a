-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local default = require "parley.policy.readiness"
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  local policy = dofile "NAME.lua"

  --- Has a message sent; the views in which the program was ready.
  local function views_when_ready(kit)
    local views = {}
    kit.options.policies = { readiness = {
      state = function(view)
        local state = policy.state(view)
        if state == "ready" then table.insert(views, view) end
        return state
      end,
    } }
    local backend <close> = parley.backend(kit.options)
    assert.equal("echo: Hello.", backend:conversation():ask("Hello.").text)
    return views
  end

  it("takes a message when the program is ready, and not while a row says that it is at work", testing.task(function()
    local kit <close> = testing.kit()
    local view = views_when_ready(kit)[1]
    table.insert(view.rows, "  Auto-updating…")
    assert.equal("ready", default.state(view))
    assert.equal("busy", policy.state(view))
  end))
end)
