-- Many conversations over few processes, and the deaths of their host, in simulated worlds. The long form is that of
-- `make check`; `make simulate` plays others.
local asleep = require "spec.simulation.asleep"
local helper = require "spec.helper"

describe("conversations over few processes", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- Plays worlds that share one index, one after the other.
  local function play(plan, worlds)
    local moved = 0
    local folder <close> = setmetatable({ path = helper.temporary_folder() }, { __close = helper.remove_folders })
    for number = 1, worlds do
      plan.seed, plan.path = number, folder.path .. "/state/sessions.db"
      local outcome = asleep.play(plan)
      assert.is_nil(outcome.problem, ("seed %d: %s"):format(number, outcome.problem))
      assert.equal(plan.conversations * plan.turns, outcome.turns)
      assert.equal(plan.kills, outcome.kills)
      moved = moved + outcome.moved
    end
    return moved
  end

  it("are each in one session from the first turn to the last", function()
    local moved = play({ conversations = helper.long(40, 200), turns = 3, places = helper.long(4, 20),
      clients = helper.long(6, 30), kills = 0 }, helper.long(1, 3))
    assert.equal(0, moved)
  end)

  it("lose nothing and double nothing when their host is killed", function()
    play({ conversations = helper.long(12, 60), turns = 3, places = helper.long(4, 20), clients = helper.long(5, 30),
      kills = helper.long(3, 10) }, helper.long(3, 5))
  end)
end)
