local helper = require "spec.helper"
local limits = require "parley.session.limits"
local options = require "parley.base.options"

describe("limits", function()
  local function name_of(live)
    local reached = live:reached()
    return reached and reached.name
  end

  it("are passed by the call that is one too many, counted once whoever tells of it", function()
    local live = limits.new { max_tool_calls = 2 }
    live:count_call "a"
    live:count_call "a"
    live:count_call "b"
    assert.is_nil(live:reached())
    live:count_call "c"
    assert.same({ name = "max_tool_calls", message = "max_tool_calls (2) is reached" }, live:reached())
    live:end_turn()
    assert.is_nil(live:reached())
    assert.equal(3, live.spent.tool_calls)
  end)

  it("are reached by the tokens and the money that leave nothing", function()
    local live = limits.new { max_output_tokens = 10, max_cost_usd = 0.5 }
    live:count_tokens(9)
    live:count_cost(0.25)
    assert.is_nil(live:reached())
    live:count_tokens(10)
    assert.equal("max_output_tokens", name_of(live))
    live:end_turn()
    live:count_cost(0.5)
    assert.is_nil(live:reached())
    live:count_cost(0.75)
    assert.equal("max_cost_usd", name_of(live))
    assert.same({ tool_calls = 0, output_tokens = 10, cost_usd = 0.75 }, live.spent)
  end)

  it("are shared where they are for all", function()
    local set, spent = { max_total_output_tokens = 10 }, limits.nothing()
    local one, other = limits.new(set), limits.new(set)
    one:use(set, spent)
    other:use(set, spent)
    one:count_tokens(6)
    assert.is_nil(other:reached())
    other:count_tokens(6)
    assert.equal("max_total_output_tokens", name_of(one))
    local err = helper.failure_of("SessionError", limits.check, set, spent)
    assert.equal("limit", err.reason)
    assert.equal("max_total_output_tokens", err.limit)
    assert.equal("max_total_output_tokens (10) is reached: nothing more is sent", err.message)
  end)

  it("must be numbers that can be", function()
    for name, values in pairs { max_tool_calls = { -1, 1.5, "1" }, max_output_tokens = { 0, 0.5 },
      max_cost_usd = { 0, -1, 0 / 0, "1" }, max_total_cost_usd = { 0 } } do
      for _, value in ipairs(values) do
        local err = helper.failure_of("ValueError", options.check, limits.rules, { [name] = value }, "x")
        assert.equal(name, err.option)
      end
    end
    assert.equal(0, options.check(limits.rules, { max_tool_calls = 0 }, "x").max_tool_calls)
  end)
end)
