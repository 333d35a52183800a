-- Waiting for what somebody else will make true.
local clock = require "parley.base.clock"
local helper = require "spec.helper"
local task = require "parley.base.task"

describe("Condition:wait_until", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  it("returns what the predicate gives, and does not wait where that is true", helper.task(function()
    local condition = task.condition()
    assert.equal("value", condition:wait_until(function() return "value" end, 0))
    assert.equal("value", condition:wait_until(function() return "value" end))
  end))

  it("asks again at every notify", helper.task(function()
    local condition, count, asked = task.condition(), 0, 0
    task.spawn(function()
      for _ = 1, 3 do
        count = count + 1
        condition:notify()
        helper.tick()
      end
    end)
    assert.equal(3, condition:wait_until(function()
      asked = asked + 1
      return count == 3 and count
    end, 5000))
    assert.equal(4, asked)
  end))

  it("gives up when the time is over, which others' notifies do not put off", helper.task(function()
    local condition, began = task.condition(), clock.now()
    local timer <close> = clock.every(5, function() condition:notify() end)
    assert.is_false(condition:wait_until(function() return false end, 50))
    assert.is_nil(condition:wait_until(function() return nil end, 0))
    local took = clock.now() - began
    assert.is_true(took >= 49 and took < 5000, ("it took %g ms"):format(took))
    assert.truthy(timer)
  end))

  it("asks a last time when the time is over", helper.task(function()
    local condition, deadline = task.condition(), clock.now() + 20
    assert.is_true(condition:wait_until(function() return clock.now() >= deadline end, 20))
  end))

  it("waits as long as it takes without a time", helper.task(function()
    local condition, is_true = task.condition(), false
    clock.after(5, function()
      is_true = true
      condition:notify()
    end)
    assert.is_true(condition:wait_until(function() return is_true end))
  end))

  it("names what is wrong with its arguments", helper.task(function()
    local condition = task.condition()
    assert.has_error(function() condition:wait_until(5) end)
    local _, err = pcall(condition.wait_until, condition, function() end, "x")
    assert.truthy(tostring(err):find('Condition:wait_until takes milliseconds, not "x"', 1, true), tostring(err))
  end))
end)
