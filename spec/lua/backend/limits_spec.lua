-- Costs and limits of turns and backends, in a world, and over a real pty and the hub.
local helper = require "spec.helper"
local parley = require "parley"
local testing = require "parley.testing"

local SLOW = { script = { answers = { { on = "SLOW", tool = { name = "Bash", duration_ms = 60000 } } } } }
local WRITES = { script = { answers = { { on = "WRITETOOL",
  tool = { name = "Bash", leaves = "touch ran", result = "done" } } } } }
local PRICE = 0.00001 -- of one answer of the stand-in

describe("a backend with limits", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function spec(name, given, body, kit_options, make)
    it(name, helper.task(function()
      local kit <close> = (make or testing.world)(kit_options)
      for key, value in pairs(given) do kit.options[key] = value end
      local backend <close> = parley.backend(kit.options)
      body(backend, backend:conversation(), kit)
    end))
  end

  local function result_of(talk, text, request) return talk:send(text, request):result() end

  local function notices(turn, subtype)
    local found = {}
    for event in turn:events() do
      if event.subtype == subtype then table.insert(found, event) end
    end
    return found
  end

  local function near(expected, cost)
    assert.is_true(math.abs(expected - cost) < 1e-12, ("%s instead of %s"):format(cost, expected))
  end

  local function spec_everywhere(name, given, body)
    for _, profile in ipairs { "2.1.330", "2.1.197", "2.1.110" } do
      for place, make in pairs { ["in a world"] = testing.world, ["on a real terminal"] = testing.kit } do
        spec(("%s (%s, %s)"):format(name, profile, place), given, body, { profile = profile }, make)
      end
    end
  end

  spec_everywhere("tells what a turn has cost, each by itself", { costs = true }, function(_, talk)
    near(PRICE, result_of(talk, "hello").cost_usd)
    near(2 * PRICE, result_of(talk, "USETOOL please").cost_usd)
    near(PRICE, result_of(talk, "hello").cost_usd)
  end)

  spec_everywhere("does not run the call that is one too many", { max_tool_calls = 1 }, function(_, talk)
    local turn = talk:send "TWOTOOLS please"
    local result = turn:result()
    assert.same({ "error_limit", "max_tool_calls", true }, { result.subtype, result.limit, result.is_error })
    assert.equal("max_tool_calls (1) is reached", result.message)
    assert.equal("success", result_of(talk, "USETOOL please").subtype)
    assert.equal("limit", helper.failure_of("SessionError", talk.ask, talk, "TWOTOOLS please").reason)
  end)

  spec("costs nothing that it was not asked about", {}, function(_, talk)
    assert.is_nil(result_of(talk, "hello").cost_usd)
  end)

  spec("has a call over the limit denied where it can be", { max_tool_calls = 0 }, function(_, talk, kit)
    assert.equal("error_limit", result_of(talk, "WRITETOOL please").subtype)
    assert.is_nil(require("luv").fs_stat(kit.options.cwd .. "/ran"))
  end, WRITES, testing.kit)

  spec("interrupts where the program does not call", { max_tool_calls = 0 },
    function(_, talk)
      local turn = talk:send "SLOW please"
      assert.same({ "error_limit", "max_tool_calls" }, { turn:result().subtype, turn:result().limit })
      local lacks = notices(turn, "hooks_unavailable")
      assert.equal(1, #lacks)
      assert.matches("disableAllHooks, .*allowManagedHooksOnly", lacks[1].message)
    end, { settings = { disableAllHooks = true }, script = SLOW.script })

  spec("interrupts once the tokens are used up, unless that was the end", { max_output_tokens = 5 }, function(_, talk)
    assert.equal("success", result_of(talk, "hello").subtype)
    local result = result_of(talk, "SLOW please")
    assert.same({ "error_limit", "max_output_tokens", 5 }, { result.subtype, result.limit,
      result.usage.output_tokens })
  end, SLOW)

  spec("interrupts once the money is gone", { max_cost_usd = PRICE * 0.9 }, function(_, talk)
    local result = result_of(talk, "SLOW please")
    assert.same({ "error_limit", "max_cost_usd" }, { result.subtype, result.limit })
    near(PRICE, result.cost_usd)
    assert.equal("success", result_of(talk, "hello").subtype)
  end, SLOW)

  spec("has limits of one request", {}, function(_, talk)
    local result = result_of(talk, "TWOTOOLS please", { options = { max_tool_calls = 1 } })
    assert.equal("error_limit", result.subtype)
    assert.equal("success", result_of(talk, "TWOTOOLS please").subtype)
  end)

  spec("goes on in its session under another limit", { max_output_tokens = 1000, max_tool_calls = 5 },
    function(backend, talk)
      result_of(talk, "hello")
      local id = next(backend:live_sessions())
      assert.equal("success", result_of(talk, "again", { options = { max_output_tokens = 500, max_tool_calls = 3 } })
        .subtype)
      assert.equal(id, next(backend:live_sessions()))
      assert.equal(1, backend:live_session_count())
    end)

  spec("refuses what comes once a limit for all is reached", { max_total_output_tokens = 10 }, function(backend, talk)
    assert.equal("success", result_of(talk, "one").subtype)
    assert.equal("success", result_of(backend:conversation(), "two").subtype)
    for _ = 1, 2 do
      local err = helper.failure_of("SessionError", talk.send, talk, "three")
      assert.same({ "limit", "max_total_output_tokens" }, { err.reason, err.limit })
    end
  end)

  spec("interrupts at a limit for all", { max_total_tool_calls = 3 }, function(backend, talk)
    assert.equal("success", result_of(talk, "TWOTOOLS please").subtype)
    local result = result_of(backend:conversation(), "TWOTOOLS please")
    assert.same({ "error_limit", "max_total_tool_calls" }, { result.subtype, result.limit })
    assert.equal("limit", helper.failure_of("SessionError", talk.send, talk, "three").reason)
  end)

  spec("keeps a turn that was stopped, when asked", { max_output_tokens = 5 }, function(_, talk)
    local turn = talk:send "SLOW please"
    assert.equal("error_limit", turn:result().subtype)
    assert.equal(0, #talk.messages)
    assert.is_true(talk:keep(turn))
    assert.equal("SLOW please", talk.messages[1].content)
    assert.equal("success", result_of(talk, "hello").subtype)
  end, SLOW)

  spec("says that costs are not known, and goes on", { costs = true }, function(_, talk)
    local turn = talk:send "hello"
    assert.is_nil(turn:result().cost_usd)
    assert.equal(1, #notices(turn, "costs_unavailable"))
    assert.equal(0, #notices(talk:send "hello", "costs_unavailable"))
  end, { script = { faults = { no_telemetry = true } } })

  spec("fails where a limit on them cannot be kept", { max_cost_usd = 1 }, function(_, talk)
    local err = helper.failure_of("SessionError", talk.ask, talk, "hello")
    assert.equal("costs", err.reason)
  end, { script = { faults = { no_telemetry = true } } })

  spec("leaves the user's own telemetry alone", { costs = true }, function(_, talk)
    local turn = talk:send "hello"
    assert.is_nil(turn:result().cost_usd)
    assert.matches("OTEL_LOGS_EXPORTER is set", notices(turn, "costs_unavailable")[1].message)
  end, { extra_env = { OTEL_LOGS_EXPORTER = "console" } })

  it("is refused what is no limit, and what one request cannot have", helper.task(function()
    assert.equal("max_tool_calls", helper.failure_of("ValueError", parley.backend, { max_tool_calls = -1 }).option)
    local backend <close> = parley.backend {}
    assert.equal("max_total_cost_usd", helper.failure_of("ValueError", backend.complete, backend,
      { { role = "user", content = "x" } }, { options = { max_total_cost_usd = 1 } }).option)
  end))
end)
