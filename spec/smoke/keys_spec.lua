-- The simulated program and the real one under the same keys and faults: where they differ, the simulated one is wrong.
local helper = require "spec.helper"
local keys = require "spec.simulation.keys"
local smoke = require "spec.smoke.live"

describe("the world and the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks
  after_each(function() check_leaks() end)

  local profile = smoke.is_newest and "2.1.330" or smoke.is_oldest and "2.1.110" or "2.1.197"

  local foreseen = {} -- before the real one lives: a world has all the time for itself

  before_each(helper.task(function()
    check_leaks = helper.leaks()
    for seed = 1, keys.SEEDS do foreseen[seed] = keys.foresee(seed, profile) end
  end))

  smoke.converses("show the same after each key and fault", function(live, server)
    local wrong = {}
    for seed = 1, keys.SEEDS do
      local before = #server:turns()
      local ok, why = pcall(keys.hold_against, seed, foreseen[seed], live.process, function()
        local texts = {}
        for place, turn in ipairs(server:turns()) do
          if place > before then table.insert(texts, turn.text) end
        end
        return texts
      end)
      if not ok then
        table.insert(wrong, tostring(why))
        break -- what is left in the composer would be in the way of the next
      end
    end
    assert.same({}, wrong)
  end)
end)
