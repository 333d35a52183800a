-- What the real program says of its costs, and what a limit does to it.
local helper = require "spec.helper"
local files = require "parley.base.files"
local smoke = require "spec.smoke.live"

local say, is_fine = helper.say, smoke.is_fine

describe("costs and limits with the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function result_of(live, text)
    local events = say(live, text).events
    return events[#events]
  end

  smoke.converses("tells what each turn has cost", { session = { costs = true } }, function(live, server)
    local one = result_of(live, "hello").cost_usd
    assert.is_true(one > 0)
    local two = result_of(live, "USETOOL please").cost_usd
    assert.is_true(two > 1.5 * one, ("%s and %s"):format(one, two)) -- two requests; the program has others of its own
    assert.is_true(result_of(live, "AGENT please").cost_usd > 1.5 * one)
    is_fine(live, server)
  end)

  smoke.converses("does not run the call that is one too many", { session = { max_tool_calls = 1 },
    process = { permission_mode = "bypassPermissions" } }, function(live, server)
    local said = say(live, "TWOTOOLS please")
    local result = said.events[#said.events]
    assert.same({ "error_limit", "max_tool_calls" }, { result.subtype, result.limit })
    is_fine(live, server)
  end)

  smoke.converses("runs none where none may", { session = { max_tool_calls = 0 } }, function(live, server, home)
    assert.equal("error_limit", say(live, "WRITETOOL please").verdict)
    assert.is_nil(files.read(home.cwd .. "/written.txt"))
    is_fine(live, server)
  end)

  smoke.converses("stops a turn whose tokens are used up", { session = { max_output_tokens = 1 } },
    function(live, server)
      assert.equal("error_limit", say(live, "SLOWTOOL please").verdict)
      is_fine(live, server)
    end)

  smoke.converses("stops a turn whose money is gone", { session = { max_cost_usd = 0.0000001 } },
    function(live, server)
      assert.equal("error_limit", say(live, "SLOWTOOL please").verdict)
      assert.equal("success", say(live, "hello").verdict)
      is_fine(live, server)
    end)

  smoke.converses("says where costs are not to be known", { session = { costs = true },
    settings = { env = { OTEL_LOGS_EXPORTER = "none" } } }, function(live)
    local said = say(live, "hello")
    assert.is_nil(said.events[#said.events].cost_usd)
    assert.equal(1, #smoke.of_subtype(said, "costs_unavailable"))
  end)
end)
