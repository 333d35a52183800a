local batch = require "parley.command.batch"
local helper = require "spec.helper"
local progress = require "parley.command.batch.progress"

local function counts(fields)
  local made = batch.counts()
  for name, value in pairs(fields) do made[name] = value end
  return made
end

describe("a batch's progress", function()
  it("says how many are done, failed and running, how fast, and how long it will take", function()
    assert.equal("[============            ] 50 of 100 done  2 failed  8 running  5.0/s  0:10 left",
      progress.bar(counts { total = 100, succeeded = 48, failed = 2, running = 8 }, 10, 120))
  end)

  it("does not count what an earlier run did as this one's speed", function()
    assert.equal("60 of 100 done, 2 failed, 8 running, 1.0/s, 0:40 left",
      progress.line(counts { total = 100, succeeded = 10, resumed = 50, resumed_failed = 2, running = 8 }, 10))
  end)

  it("does without what is not known", function()
    assert.equal("3 done, 0 failed, 1 running, 18.0/min", progress.line(counts { succeeded = 3, running = 1 }, 10))
  end)

  it("never exceeds the width, and leaves the least important out first", function()
    local halfway = counts { total = 100, succeeded = 48, failed = 2, running = 8 }
    for width = 0, 130 do
      assert.is_true(#progress.bar(halfway, 10, width) <= math.max(0, width - 1), "width " .. width)
    end
    assert.equal("50 of 100 done  2 failed", progress.bar(halfway, 10, 30))
  end)

  it("does not pass the whole when a shard has more than its share", function()
    assert.equal("[========================] 12 of 12 done  0 failed  0 running  1.2/s  0:00 left",
      progress.bar(counts { total = 10, succeeded = 12 }, 10, 100))
  end)

  it("sums up", function()
    assert.equal("3 succeeded, 1 failed, 7 done before (2 of them failed); 1:02:03, 12 tokens in, 5 out",
      progress.summary(counts { succeeded = 3, failed = 1, resumed = 7, resumed_failed = 2,
        usage = { input_tokens = 2, cache_read_input_tokens = 10, output_tokens = 5 } }, 3723))
  end)

  it("spells durations as people do", function()
    assert.same({ "0:00", "0:59", "1:00", "59:59", "1:00:00" }, { progress.duration(0.4), progress.duration(59),
      progress.duration(59.6), progress.duration(3599), progress.duration(3600) })
  end)

  it("writes a line now and then where nothing can be redrawn", helper.task(function()
    local program <close> = helper.start { helper.host, "-e", [[
      local counts = { total = 10, succeeded = 2, failed = 1, resumed = 0, resumed_failed = 0, running = 2, usage = {} }
      local _ <close> = require "parley.command.batch.progress".open(counts, false, 20)
      require "parley.base.task".condition():wait()]] }
    helper.eventually(function()
      local _, count = program.errors:gsub("parley: 3 of 10 done, 1 failed, 2 running, [%d.]+/%a+, %d+:%d%d left\n", "")
      return count > 1
    end)
    assert.is_nil(program.errors:find "[\r\27]")
  end))

  it("leaves no bar that was due as it was closed", helper.task(function()
    local program = helper.run { helper.host, "-e", [[
      local task = require "parley.base.task"
      local counts = { total = 10, succeeded = 2, failed = 1, resumed = 0, resumed_failed = 0, running = 2, usage = {} }
      local reports = require "parley.command.batch.progress".open(counts, true, 20)
      local closing = task.spawn(function()
        task.condition():wait(15)
        reports:close()
      end)
      task.condition():wait(1) -- both have begun
      require "luv".sleep(60) -- until both are due
      closing:await()]] }
    assert.equal("\27[K", ("\r\27[K" .. program.errors):match "[^\r]*$")
  end))

  it("says nothing that the terminal would obey", helper.task(function()
    local program = helper.run { helper.host, "-e", [[
      local reports <close> = require "parley.command.batch.progress".open({}, false, 20)
      reports:say "a\27[2J"]] }
    assert.equal("parley: a\u{fffd}[2J\n", program.errors)
  end))
end)
