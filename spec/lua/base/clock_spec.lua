-- Time, and a world that owns it.
local uv = require "luv"
local clock = require "parley.base.clock"
local helper = require "spec.helper"
local simulated_clock = require "spec.simulated_clock"
local task = require "parley.base.task"

describe("the clock", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    clock.use()
    check_leaks()
  end)

  it("goes on, in milliseconds with fractions", function()
    local before, hrtime = clock.now(), uv.hrtime() / 1e6
    local after = clock.now()
    assert.is_true(before <= hrtime and hrtime <= after)
  end)

  it("knows everybody's time, and writes it as transcripts do", function()
    local before, seconds, after = clock.wall(), os.time(), clock.wall()
    assert.is_true(before // 1000 <= seconds and seconds <= after // 1000)
    assert.equal("2025-11-22T03:18:22.084Z", clock.timestamp(1763781502084.9))
    assert.equal("03:18", clock.date("!%H:%M", 1763781502084))
    assert.truthy(clock.timestamp() >= clock.timestamp(before))
  end)

  it("knows what was written before a moment, though everybody's clock is set meanwhile", function()
    local at, set = 1000, 0
    clock.use { now = function() return at end, wall = function() return 1e12 + at + set end }
    local moment, before, same = clock.moment(), clock.timestamp(1e12 + 999), clock.timestamp()
    at = 3000
    for _, by in ipairs { 0, 60000, -30 } do
      set = by
      assert.same({ true, false, false }, { moment:is_after(before), moment:is_after(same),
        moment:is_after(clock.timestamp()) })
    end
    set = -60000
    assert.is_false(moment:is_after(clock.timestamp()))
    assert.is_true(moment:is_after(clock.timestamp(1e12 + set)))
  end)

  it("calls back once, not before the time is over", helper.task(function()
    local began, calls, changed = clock.now(), 0, task.condition()
    clock.after(20, function()
      calls = calls + 1
      changed:notify()
    end)
    assert.is_true(changed:wait(5000))
    assert.is_true(clock.now() - began >= 20)
    assert.equal(1, calls)
  end))

  it("calls back no earlier, though the loop counts whole milliseconds and looks at any moment", function()
    while clock.now() % 1 < 0.8 do end -- the loop has forgotten that much
    local began, took = clock.now(), nil
    clock.after(2, function() took = clock.now() - began end)
    while not took do clock.pass("nowait") end
    assert.is_true(took >= 2, took)
  end)

  it("does not call back when it was closed, however often", helper.task(function()
    local has_called = false
    local timer = clock.after(1, function() has_called = true end)
    timer:close()
    timer:close()
    do
      local _ <close> = clock.after(1, function() has_called = true end)
    end
    local last = task.condition()
    clock.after(10, function() last:notify() end)
    last:wait()
    assert.is_false(has_called)
  end))

  it("counts from now, though the loop has stood still", helper.task(function()
    uv.update_time()
    local until_then = clock.now() + 30
    while clock.now() < until_then do end
    local began, over = clock.now(), task.condition()
    clock.after(20, function() over:notify() end)
    over:wait()
    assert.is_true(clock.now() - began >= 20)
  end))

  it("calls back again and again, until that is closed", helper.task(function()
    local calls, over, timer = 0, task.condition(), nil
    timer = clock.every(1, function()
      calls = calls + 1
      if calls == 3 then
        timer:close()
        clock.after(10, function() over:notify() end)
      end
    end)
    over:wait()
    assert.equal(3, calls)
  end))

  it("takes a time that is no end and one that is over", function()
    local far <close> = clock.after(math.huge, function() end)
    assert.truthy(far)
    task.run(function()
      local over = task.condition()
      clock.after(-5, function() over:notify() end)
      assert.is_true(over:wait(5000))
    end)
  end)

  it("can be replaced as a whole: an hour of tasks takes no time", function()
    local began, world = clock.now(), simulated_clock.new()
    clock.use(world)
    local order = {}
    local ok, err = pcall(task.run, function()
      task.spawn(function()
        assert.is_false(task.condition():wait(3600000))
        table.insert(order, "hour")
      end)
      assert.is_false(task.condition():wait(60000))
      table.insert(order, "minute")
      local condition = task.condition()
      assert.is_false(condition:wait(1000))
      assert.equal(61000, task.now())
      local is_in_time, late = pcall(task.timeout, 5000, condition.wait, condition, 10000)
      assert.is_false(is_in_time)
      assert.equal("ETIMEDOUT", late.code)
      assert.equal("2001-09-09T01:47:46.000Z", clock.timestamp())
    end)
    clock.use()
    assert.is_true(ok, tostring(err))
    assert.same({ "minute", "hour" }, order)
    assert.equal(3600000, world.time)
    assert.is_true(clock.now() - began < 10000)
  end)
end)
