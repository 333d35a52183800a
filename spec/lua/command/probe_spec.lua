-- What `parley doctor --probe-turn` measures, on the stand-in.
local helper = require "spec.helper"
local probe = require "parley.command.probe"
local readiness = require "parley.policy.readiness"
local testing = require "parley.testing"

describe("the probe", function()
  local kit, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit()
  end)

  after_each(function()
    kit:close()
    check_leaks()
  end)

  it("cancels a start, and looks what that leaves", helper.task(function()
    kit.options.policies = { readiness = { state = function(view)
      return #kit:events "started" > 1 and "starting" or readiness.state(view)
    end } }
    local facts = probe.measure(kit.options, { turn = true })
    assert.equal("success", facts.turn.subtype)
    assert.same({ process = false }, facts.cancelled)
  end))

  it("ends a program that was ready before its start could be cancelled, and tells nothing", helper.task(function()
    kit.options.policies = { readiness = { state = function(view)
      return kit:taken()[1] and "ready" or readiness.state(view)
    end } }
    local facts = probe.measure(kit.options, { turn = true })
    assert.equal("success", facts.turn.subtype)
    assert.is_nil(facts.cancelled)
    assert.same({}, kit:processes())
  end))
end)
