local uv = require "luv"
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local task = require "parley.base.task"
local sleep = require("parley.base.task").sleep -- which is tried here, and waited with nowhere
local helper = require "spec.helper"

---Wait for what never comes.
local function forever() task.condition():wait() end

---An action for a `<close>` variable.
local function defer(action)
  return setmetatable({}, { __close = function(_, err) action(err) end })
end

---Call back from the loop, outside of any task.
local function from_loop(callback) clock.after(0, callback) end

---The error that a function raises.
local function error_of(fn, ...)
  local outcome = table.pack(pcall(fn, ...))
  assert.is_false(outcome[1], "no error was raised")
  return outcome[2]
end

---A task that was cancelled.
local function raised_cancelled(child) assert.equal("Cancelled", error_of(child.await, child).code) end

describe("task", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    check_leaks()
    helper.remove_folders()
  end)

  describe("run", function()
    it("returns all results, nil among them", function()
      assert.same({ n = 4, 1, nil, 3, nil }, table.pack(task.run(function(...) return ... end, 1, nil, 3, nil)))
    end)

    it("raises the very error object that was raised", function()
      local err = setmetatable({ "mine" }, { __tostring = function() return "mine" end })
      assert.equal(err, error_of(task.run, function() error(err) end))
    end)

    it("does not begin in a task that was cancelled", helper.task(function()
      local ran = 0
      local one = task.spawn(function()
        for _ = 1, 3 do
          pcall(task.run, function()
            ran = ran + 1
            helper.until_cancelled()
          end)
        end
      end)
      helper.tick()
      one:cancel()
      pcall(one.await, one)
      assert.equal(1, ran)
    end))

    it("in a callback leaves nobody asleep who is woken behind it", helper.task(function()
      local woken, began = task.condition(), task.now()
      local timer <close> = task.closing(uv.new_timer())
      timer.handle:start(1, 0, function()
        task.run(function() task.condition():wait(1) end)
        woken:notify()
      end)
      assert.is_true(woken:wait(20000))
      assert.is_true(task.now() - began < 10000)
    end))

    it("fails a task that calls coroutine.yield, where it does", function()
      local closed
      local err = error_of(task.run, function()
        local _ <close> = defer(function()
          helper.tick()
          closed = true
        end)
        coroutine.yield "a value that nobody takes"
        closed = "went on"
      end)
      assert.same({ "ValueError", "coroutine.yield was called in a task, which waits with parley.task", true },
        { err.code, err.message, closed })
      assert.matches("task_spec", task.traceback(err))
      task.run(function()
        assert.is_false(pcall(function() coroutine.yield() end))
        helper.tick()
      end)
    end)

    it("raises it unchanged through children, timeouts and shields", function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.run, function()
        task.timeout(1000, function()
          task.shield(function()
            task.spawn(function()
              helper.tick()
              error(err, 0)
            end):await()
          end)
        end)
      end))
      assert.same({ "EX", "it broke" }, { err.code, err.message })
      assert.is_nil(err.cause)
    end)

    it("raises strings with their place", function()
      assert.matches("task_spec%.lua:%d+: oops$", error_of(task.run, function() error "oops" end))
    end)

    it("remembers where an error object came from", function()
      local err = errors.new("EX", "it broke")
      local function the_culprit() error(err) end
      pcall(task.run, function()
        the_culprit()
        return 1
      end)
      assert.matches("the_culprit", task.traceback(err))
    end)

    it("makes the running task known inside, and only there", function()
      local outer = task.current()
      task.run(function()
        local inner = task.current()
        assert.is_not_nil(inner)
        assert.not_equal(outer, inner)
        local child = task.spawn(function() return task.current() end)
        assert.equal(child, child:await())
        assert.equal(inner, task.current())
      end)
      assert.equal(outer, task.current())
    end)

    it("runs inside a task, and the other tasks go on meanwhile", helper.task(function()
      local log = {}
      local sibling = task.spawn(function()
        table.insert(log, "sibling")
        return "done"
      end)
      local result = task.run(function()
        helper.tick()
        table.insert(log, "nested")
        return 7
      end)
      assert.equal(7, result)
      assert.same({ "sibling", "nested" }, log)
      assert.equal("done", sibling:await())
    end))

    it("is cancelled with the task that it runs in, but where that is shielded", helper.task(function()
      local log = {}
      local function wait(name)
        local ok, err = pcall(task.run, function() task.condition():wait(name == "open" and 60000 or 1) end)
        table.insert(log, ("%s %s"):format(name, ok or err.code))
      end
      local open = task.spawn(wait, "open")
      local shielded = task.spawn(task.shield, wait, "shielded")
      task.spawn(function()
        open:cancel()
        shielded:cancel()
      end)
      pcall(open.await, open)
      shielded:await()
      assert.same({ "shielded true", "open Cancelled" }, log)
    end, 30000))

    it("keeps a nested failure to the one who called it", helper.task(function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.run, function()
        task.spawn(error, err, 0)
        forever()
      end))
      helper.tick()
    end))
  end)

  describe("a parent", function()
    it("does not finish before its children", function()
      local log = {}
      local result = task.run(function()
        task.spawn(function()
          task.spawn(function()
            for _ = 1, 3 do helper.tick() end
            table.insert(log, "grandchild")
          end)
          table.insert(log, "child")
        end)
        table.insert(log, "parent")
        return "result"
      end)
      assert.same({ "parent", "child", "grandchild" }, log)
      assert.equal("result", result)
    end)

    it("goes on while they run", function()
      local log = {}
      task.run(function()
        local child = task.spawn(function() table.insert(log, "child") end)
        assert.is_false(child:is_done())
        table.insert(log, "parent")
      end)
      assert.same({ "parent", "child" }, log)
    end)

    it("that fails cancels them and waits until they have cleaned up", helper.task(function()
      local log = {}
      local err = errors.new("EX", "it broke")
      local parent = task.spawn(function()
        task.spawn(function()
          local _ <close> = defer(function()
            task.shield(helper.tick)
            table.insert(log, "cleaned up")
          end)
          forever()
        end)
        helper.tick()
        error(err, 0)
      end)
      assert.equal(err, error_of(parent.await, parent))
      assert.same({ "cleaned up" }, log)
    end))
  end)

  describe("a failure that nobody awaits", function()
    it("fails the parent with the child's own error", function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.run, function()
        task.spawn(error, err, 0)
        forever()
      end))
    end)

    it("fails a parent that has returned already", function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.run, function()
        task.spawn(error, err, 0)
        return "result"
      end))
    end)

    it("cancels the siblings", function()
      local err, cancellation = errors.new("EX", "it broke"), nil
      pcall(task.run, function()
        task.spawn(function() cancellation = error_of(forever) end)
        task.spawn(error, err, 0)
      end)
      assert.is_true(errors.is(cancellation, "Cancelled"))
      assert.equal(err, cancellation.cause)
    end)

    it("goes up level by level", function()
      local err = errors.new("EX", "it broke")
      local middle
      assert.equal(err, error_of(task.run, function()
        middle = task.spawn(function()
          task.spawn(error, err, 0)
          forever()
        end)
        forever()
      end))
      assert.equal(err, select(2, middle:result()))
    end)

    it("yields to the error that the parent raises itself", function()
      local own = errors.new("EOWN", "the parent's")
      assert.equal(own, error_of(task.run, function()
        task.spawn(error, errors.new("EX", "it broke"), 0)
        pcall(forever)
        error(own, 0)
      end))
    end)

    it("is not undone by a parent that swallows the cancellation", function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.run, function()
        task.spawn(error, err, 0)
        pcall(forever)
        return "all is well"
      end))
    end)

    it("keeps the first of several", function()
      local first = errors.new("EX", "first")
      assert.equal(first, error_of(task.run, function()
        task.spawn(function()
          pcall(forever)
          error(errors.new("EX", "second"), 0)
        end)
        task.spawn(error, first, 0)
      end))
    end)
  end)

  describe("await", function()
    it("returns what a task returned, however often it is asked", helper.task(function()
      local child = task.spawn(function() return 1, nil, 3 end)
      assert.same({ n = 3, 1, nil, 3 }, table.pack(child:await()))
      assert.same({ n = 3, 1, nil, 3 }, table.pack(child:await()))
      assert.same({ true, 1, nil, 3 }, { child:result() })
    end))

    it("raises what the task raised, and the parent lives on", helper.task(function()
      local err = errors.new("EX", "it broke")
      local child = task.spawn(error, err, 0)
      assert.equal(err, error_of(child.await, child))
      assert.equal(err, error_of(child.await, child))
      helper.tick()
    end))

    it("raises Cancelled for a task that was cancelled", helper.task(function()
      local child = task.spawn(forever)
      helper.tick()
      child:cancel "not needed"
      local err = error_of(child.await, child)
      assert.same({ "Cancelled", "not needed" }, { err.code, err.message })
      assert.equal(err, child:cancellation())
    end))

    it("serves several waiters", helper.task(function()
      local gate = task.condition()
      local child = task.spawn(function()
        gate:wait()
        return "x"
      end)
      local one, two = task.spawn(child.await, child), task.spawn(child.await, child)
      helper.tick()
      gate:notify()
      assert.equal("xx", one:await() .. two:await())
    end))

    it("gives the failure to whoever waits, parent or not", helper.task(function()
      local err = errors.new("EX", "it broke")
      local gate = task.condition()
      local failing = task.spawn(function()
        gate:wait()
        error(err, 0)
      end)
      local sibling = task.spawn(function() return error_of(failing.await, failing) end)
      helper.tick()
      gate:notify()
      assert.equal(err, sibling:await())
    end))

    it("that is cancelled counts as nobody", function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.run, function()
        local gate = task.condition()
        local failing = task.spawn(function()
          gate:wait()
          error(err, 0)
        end)
        local sibling = task.spawn(failing.await, failing)
        helper.tick()
        sibling:cancel()
        helper.tick()
        gate:notify()
        forever()
      end))
    end)
  end)

  describe("cancellation", function()
    it("is raised where the task waits", helper.task(function()
      local where
      local child = task.spawn(function()
        where = "before"
        forever()
        where = "after"
      end)
      helper.tick()
      child:cancel()
      assert.is_true(errors.is(error_of(child.await, child), "Cancelled"))
      assert.equal("before", where)
    end))

    it("is sticky: every later wait and spawn raises it again", helper.task(function()
      local raised = {}
      local child = task.spawn(function()
        for index = 1, 3 do raised[index] = error_of(forever) end
        raised[4] = error_of(task.spawn, forever)
      end)
      helper.tick()
      child:cancel()
      child:await()
      assert.equal(4, #raised)
      for _, err in ipairs(raised) do assert.equal(child:cancellation(), err) end
    end))

    it("goes down the tree", helper.task(function()
      local reached = {}
      local function wait_at(name)
        local err = error_of(forever)
        reached[name] = err.message
        error(err, 0)
      end
      local child = task.spawn(function()
        task.spawn(function()
          task.spawn(wait_at, "deepest")
          wait_at "middle"
        end)
        wait_at "top"
      end)
      for _ = 1, 3 do helper.tick() end
      child:cancel "enough"
      pcall(child.await, child)
      assert.same({ top = "enough", middle = "enough", deepest = "enough" }, reached)
    end))

    it("does not go up", helper.task(function()
      local child = task.spawn(forever)
      helper.tick()
      child:cancel()
      for _ = 1, 3 do helper.tick() end
      assert.is_nil(task.current():cancellation())
      assert.is_true(child:is_done())
    end))

    it("before the first step keeps the body from running", helper.task(function()
      local has_run = false
      local child = task.spawn(function() has_run = true end)
      child:cancel()
      assert.is_true(errors.is(error_of(child.await, child), "Cancelled"))
      assert.is_false(has_run)
    end))

    it("of oneself takes effect at the next wait", helper.task(function()
      local child = task.spawn(function()
        task.current():cancel "my own wish"
        local before = "still running"
        return before, error_of(forever).message
      end)
      assert.same({ "still running", "my own wish" }, { child:await() })
    end))

    it("does not lose a value that came at the same time", helper.task(function()
      local wake
      local child = task.spawn(function()
        local value = task.suspend(function(give) wake = give end)
        return value, error_of(forever).code
      end)
      helper.tick()
      wake "the value"
      child:cancel()
      assert.same({ "the value", "Cancelled" }, { child:await() })
    end))

    it("raises the error object that it was given", helper.task(function()
      local err = errors.new("EMINE", "stop")
      local child = task.spawn(forever)
      helper.tick()
      child:cancel(err)
      assert.equal(err, error_of(child.await, child))
    end))

    it("keeps its first reason", helper.task(function()
      local child = task.spawn(forever)
      child:cancel "first"
      child:cancel "second"
      assert.equal("first", error_of(child.await, child).message)
    end))

    it("of a task that has ended changes nothing", helper.task(function()
      local child = task.spawn(function() return 5 end)
      child:await()
      child:cancel()
      assert.is_nil(child:cancellation())
      assert.equal(5, child:await())
    end))

    it("undoes what the wait had arranged, once", helper.task(function()
      local undone = 0
      local child = task.spawn(function()
        task.suspend(function()
          return function() undone = undone + 1 end
        end)
      end)
      helper.tick()
      child:cancel()
      pcall(child.await, child)
      assert.equal(1, undone)
    end))
  end)

  describe("a close variable", function()
    it("may wait while a cancellation unwinds, when it is shielded", helper.task(function()
      local log = {}
      local child = task.spawn(function()
        local _ <close> = defer(function(err)
          table.insert(log, err.code)
          task.shield(function()
            for _ = 1, 3 do helper.tick() end
          end)
          table.insert(log, "closed")
        end)
        forever()
      end)
      helper.tick()
      child:cancel()
      pcall(child.await, child)
      assert.same({ "Cancelled", "closed" }, log)
    end))

    it("may wait while an error unwinds", helper.task(function()
      local log = {}
      local child = task.spawn(function()
        local _ <close> = defer(function()
          helper.tick()
          table.insert(log, "closed")
        end)
        error "oops"
      end)
      assert.matches("oops", error_of(child.await, child))
      assert.same({ "closed" }, log)
    end))

    it("may wait when its block is left", helper.task(function()
      local log = {}
      do
        local _ <close> = defer(function()
          helper.tick()
          table.insert(log, "closed")
        end)
      end
      table.insert(log, "after")
      assert.same({ "closed", "after" }, log)
    end))

    it("closes a luv handle", helper.task(function()
      local timer = uv.new_timer()
      do
        local _ <close> = task.closing(timer)
        assert.is_false(timer:is_closing())
      end
      assert.is_true(timer:is_closing())
      local _ <close> = task.closing(timer) -- a second time changes nothing
    end))
  end)

  describe("shield", function()
    it("lets its waits end in their own time", helper.task(function()
      local gate, log = task.condition(), {}
      local child = task.spawn(function()
        task.shield(function()
          gate:wait()
          table.insert(log, "inside")
        end)
        table.insert(log, error_of(forever).code)
      end)
      helper.tick()
      child:cancel()
      helper.tick()
      assert.same({}, log)
      gate:notify()
      child:await()
      assert.same({ "inside", "Cancelled" }, log)
    end))

    it("returns results and raises errors, and ends with either", helper.task(function()
      assert.same({ 1, 2 }, { task.shield(function(...) return ... end, 1, 2) })
      local child = task.spawn(function()
        pcall(task.shield, error, "oops")
        forever()
      end)
      helper.tick()
      child:cancel()
      assert.equal("Cancelled", error_of(child.await, child).code)
    end))

    it("covers the children started in it", helper.task(function()
      local gate = task.condition()
      local child = task.spawn(function()
        return task.shield(function()
          return task.timeout(4000, function()
            gate:wait()
            return "cleaned up"
          end)
        end)
      end)
      for _ = 1, 2 do helper.tick() end
      child:cancel()
      helper.tick()
      gate:notify()
      assert.equal("cleaned up", child:await())
    end))

    it("nests", helper.task(function()
      local gate = task.condition()
      local child = task.spawn(function()
        task.shield(function()
          task.shield(helper.tick)
          gate:wait()
        end)
        return "through"
      end)
      for _ = 1, 3 do helper.tick() end
      child:cancel()
      gate:notify()
      assert.equal("through", child:await())
    end))
  end)

  describe("timeout", function()
    it("returns what the function returns in time", helper.task(function()
      assert.same({ n = 3, 1, nil, 3 }, table.pack(task.timeout(1000, function(...) return ... end, 1, nil, 3)))
    end))

    it("raises ETIMEDOUT that says how long it was", helper.task(function()
      local err = error_of(task.timeout, 1, forever)
      assert.is_true(errors.is(err, "ETIMEDOUT"))
      assert.matches("1 ms", err.message)
    end))

    it("raises after the function has cleaned up", helper.task(function()
      local log = {}
      pcall(task.timeout, 100, function()
        local _ <close> = defer(function()
          task.shield(helper.tick)
          table.insert(log, "closed")
        end)
        forever()
      end)
      assert.same({ "closed" }, log)
    end))

    it("leaves the caller as it was", helper.task(function()
      pcall(task.timeout, 1, forever)
      assert.is_nil(task.current():cancellation())
      helper.tick()
    end))

    it("raises the function's own error", helper.task(function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.timeout, 1000, error, err, 0))
    end))

    it("tells its own end from a cancellation of the caller, which waits for the function's closes", helper.task(
      function()
        local log = {}
        local child = task.spawn(function()
          local err = error_of(task.timeout, 4000, function()
            local _ <close> = defer(function()
              task.shield(helper.tick)
              table.insert(log, "closed")
            end)
            forever()
          end)
          table.insert(log, "caller")
          return err
        end)
        for _ = 1, 2 do helper.tick() end
        child:cancel "from above"
        local err = child:await()
        assert.same({ "Cancelled", "from above" }, { err.code, err.message })
        assert.same({ "closed", "caller" }, log)
      end))

    it("of the inner kind is told from the outer by its message", helper.task(function()
      local _ <close> = require("parley.testing").world {} -- where no stall makes both of them late
      local inner
      local outer = error_of(task.timeout, 20, function()
        inner = error_of(task.timeout, 1, forever)
        forever()
      end)
      assert.matches("1 ms", inner.message)
      assert.matches("20 ms", outer.message)
      assert.not_equal(inner, outer)
    end))

    it("without a limit is a plain call", helper.task(function()
      local current = task.current()
      for _, limit in ipairs { false, math.huge } do
        assert.equal(current, task.timeout(limit or nil, task.current))
      end
    end))
  end)

  it("a wait for a time ends no earlier, and leaves no timer when it is cancelled", helper.task(function()
    local pause = task["sleep"]
    local before = task.now()
    pause(3)
    assert.is_true(task.now() - before >= 3)
    local child = task.spawn(pause, 60000)
    helper.tick()
    child:cancel()
    pcall(child.await, child)
    assert.is_true(task.now() - before < 30000)
  end))

  describe("condition", function()
    it("wakes every task that waits, and none that comes later", helper.task(function()
      local condition, woken = task.condition(), 0
      local function wait()
        assert.is_true(condition:wait())
        woken = woken + 1
      end
      task.spawn(wait)
      task.spawn(wait)
      helper.tick()
      condition:notify()
      local late = task.spawn(wait)
      for _ = 1, 3 do helper.tick() end
      assert.equal(2, woken)
      late:cancel()
    end))

    it("keeps nothing for whoever waits after the notification", helper.task(function()
      local condition = task.condition()
      condition:notify()
      assert.is_false(condition:wait(1))
    end))

    it("gives false when the time is over, and true when it was notified before", helper.task(function()
      local condition = task.condition()
      assert.is_false(condition:wait(1))
      assert.is_false(condition:wait(0))
      task.spawn(condition.notify, condition)
      assert.is_true(condition:wait(4000))
    end))

    it("waits without limit for an infinite time", helper.task(function()
      local condition = task.condition()
      task.spawn(condition.notify, condition)
      assert.is_true(condition:wait(math.huge))
    end))

    it("forgets a waiter that was cancelled", helper.task(function()
      local condition = task.condition()
      local child = task.spawn(condition.wait, condition, 60000)
      helper.tick()
      child:cancel()
      assert.equal("Cancelled", error_of(child.await, child).code)
    end))

    it("can be notified from a callback of the loop", helper.task(function()
      local condition = task.condition()
      from_loop(function() condition:notify() end)
      assert.is_true(condition:wait())
    end))
  end)

  describe("channel", function()
    it("hands values over in order", helper.task(function()
      local channel, received = task.channel(), {}
      task.spawn(function()
        for number = 1, 5 do channel:send(number) end
        channel:close()
      end)
      for number in channel do table.insert(received, number) end
      assert.same({ 1, 2, 3, 4, 5 }, received)
    end))

    it("makes senders wait for room", helper.task(function()
      local channel, sent = task.channel(2), 0
      local sender = task.spawn(function()
        for number = 1, 4 do
          channel:send(number)
          sent = number
        end
      end)
      for _ = 1, 3 do helper.tick() end
      assert.equal(2, sent)
      assert.equal(1, channel:receive())
      for _ = 1, 3 do helper.tick() end
      assert.equal(3, sent)
      assert.same({ 2, 3, 4 }, { channel:receive(), channel:receive(), channel:receive() })
      sender:await()
    end))

    it("gives each value to one receiver", helper.task(function()
      local channel, received = task.channel(), {}
      local function receive()
        for value in channel do table.insert(received, value) end
      end
      local one, two = task.spawn(receive), task.spawn(receive)
      for number = 1, 6 do channel:send(number) end
      channel:close()
      one:await()
      two:await()
      table.sort(received)
      assert.same({ 1, 2, 3, 4, 5, 6 }, received)
    end))

    it("gives what is left after the close, then nil", helper.task(function()
      local channel = task.channel(2)
      channel:send(false)
      channel:close()
      assert.same({ false, nil }, { channel:receive(), channel:receive() })
    end))

    it("raises ClosedError for a send after the close, and for one that waited", helper.task(function()
      local channel = task.channel(1)
      channel:send "full"
      local waiting = task.spawn(function() return error_of(channel.send, channel, "x").code end)
      helper.tick()
      channel:close()
      assert.equal("ClosedError", waiting:await())
      assert.equal("ClosedError", error_of(channel.send, channel, "x").code)
    end))

    it("ends a waiting receiver at the close", helper.task(function()
      local channel = task.channel()
      local receiver = task.spawn(channel.receive, channel)
      helper.tick()
      channel:close()
      assert.is_nil(receiver:await())
    end))

    it("loses no value to a receiver that is cancelled", helper.task(function()
      local channel = task.channel()
      local receiver = task.spawn(channel.receive, channel)
      helper.tick()
      channel:send "kept"
      receiver:cancel()
      local ok, value = pcall(receiver.await, receiver)
      assert.equal("kept", ok and value or channel:receive())
    end))

    it("refuses nil", helper.task(function()
      local channel = task.channel()
      assert.error_matches(function() channel:send(nil) end, "Channel:send takes a value, not nothing")
    end))
  end)

  describe("semaphore", function()
    it("has no more permits out than it counts", helper.task(function()
      local semaphore, out, most = task.semaphore(2), 0, 0
      local children = {}
      for index = 1, 6 do
        children[index] = task.spawn(function()
          local _ <close> = semaphore:acquire()
          out = out + 1
          most = math.max(most, out)
          helper.tick()
          out = out - 1
        end)
      end
      for _, child in ipairs(children) do child:await() end
      assert.same({ 0, 2 }, { out, most })
    end))

    it("serves first come, first served, latecomers included", helper.task(function()
      local semaphore, order = task.semaphore(1), {}
      local first = semaphore:acquire()
      local children = {}
      for index = 1, 3 do
        children[index] = task.spawn(function()
          local _ <close> = semaphore:acquire()
          table.insert(order, index)
        end)
      end
      helper.tick()
      first.release()
      do
        local _ <close> = semaphore:acquire() -- asked last, though the permit was given back a moment ago
        table.insert(order, "last")
      end
      for _, child in ipairs(children) do child:await() end
      assert.same({ 1, 2, 3, "last" }, order)
    end))

    it("takes a permit back once", helper.task(function()
      local semaphore = task.semaphore(1)
      local permit = semaphore:acquire()
      permit.release()
      permit:release()
      local _ <close> = semaphore:acquire()
      assert.equal("ETIMEDOUT", error_of(task.timeout, 1, semaphore.acquire, semaphore).code)
    end))

    it("loses no permit to a waiter that is cancelled", helper.task(function()
      local semaphore = task.semaphore(1)
      local permit = semaphore:acquire()
      local waiter = task.spawn(semaphore.acquire, semaphore)
      helper.tick()
      waiter:cancel()
      pcall(waiter.await, waiter)
      permit:release()
      local _ <close> = semaphore:acquire()
    end))

    it("loses no permit to a waiter that is cancelled in the moment it gets it", helper.task(function()
      for _, cancels_first in ipairs { true, false } do
        local semaphore = task.semaphore(1)
        local permit = semaphore:acquire()
        local waiter = task.spawn(function()
          local _ <close> = semaphore:acquire()
          forever()
        end)
        helper.tick()
        if cancels_first then waiter:cancel() end
        permit:release()
        waiter:cancel()
        pcall(waiter.await, waiter)
        local _ <close> = semaphore:acquire()
      end
    end))
  end)

  describe("a deadlock", function()
    it("of the main task is an error with code EDEADLK", function()
      assert.is_true(errors.is(error_of(task.run, forever), "EDEADLK"))
    end)

    it("of children is the same, and their closes run", function()
      local log = {}
      local err = error_of(task.run, function()
        task.spawn(function()
          local _ <close> = defer(function() table.insert(log, "closed") end)
          forever()
        end)
      end)
      assert.equal("EDEADLK", err.code)
      assert.same({ "closed" }, log)
    end)

    it("that not even a cancellation ends is an error object, too", function()
      assert.is_true(errors.is(error_of(task.run, function() task.shield(forever) end), "EDEADLK"))
    end)

    it("is none while a timer may still wake somebody", function()
      local condition = task.condition()
      assert.is_false(task.run(condition.wait, condition, 2))
    end)
  end)

  describe("a callback of the loop that raises", function()
    it("fails the main task with its error object", function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.run, function()
        from_loop(function() error(err, 0) end)
        forever()
      end))
    end)

    it("fails it with a string and the place", function()
      assert.matches("task_spec%.lua:%d+: oops", error_of(task.run, function()
        from_loop(function() error "oops" end)
        forever()
      end))
    end)

    it("fails it with no value at all", function()
      assert.matches("^nil", error_of(task.run, function()
        from_loop(function() error(nil) end)
        forever()
      end))
    end)

    it("fails it when it comes at the very end", function()
      local err = errors.new("EX", "it broke")
      assert.equal(err, error_of(task.run, function()
        local timer = uv.new_timer()
        timer:close(function() error(err, 0) end)
        return "result"
      end))
    end)

    it("lets the closes of the tasks run", function()
      local log = {}
      pcall(task.run, function()
        local _ <close> = defer(function() table.insert(log, "closed") end)
        from_loop(function() error "oops" end)
        forever()
      end)
      assert.same({ "closed" }, log)
    end)

    it("leaves the next run alone", function()
      pcall(task.run, function()
        from_loop(function() error "oops" end)
        forever()
      end)
      assert.equal(1, task.run(function()
        helper.tick()
        return 1
      end))
    end)
  end)

  it("woken by a timer runs at once, also when that was due before the loop began to wait", helper.task(function()
    local far <close> = task.closing(uv.new_timer())
    local near <close> = task.closing(uv.new_timer())
    local is_far_over = false
    far.handle:start(5000, 0, function() is_far_over = true end)
    task.suspend(function(wake)
      near.handle:start(1, 0, function() wake() end)
      local begun = task.now()
      while task.now() < begun + 5 do end -- luacheck: ignore 542
    end)
    assert.is_false(is_far_over)
  end))

  describe("a call that waits", function()
    local complaint = "this call waits, so it must run inside a task"

    --- The error of a chunk whose line 2 makes a wrong call.
    local function wrong(call)
      local chunk = assert(load("local task = ...\n" .. call, "=mine"))
      return error_of(chunk, task)
    end

    local function is_clear(call, expected)
      it("with a wrong argument is a clear error at the caller's line: " .. call, helper.task(function()
        local err = wrong("task." .. call)
        assert.equal("mine:2: " .. expected, (err:gsub("%-?nan", "-nan")))
      end))
    end

    for call, what in pairs {
      ["spawn(nil)"] = "a function, not nothing",
      ["spawn(5)"] = "a function, not 5",
      ["run()"] = "a function, not nothing",
      ["new_root 'x'"] = 'a function, not "x"',
      ["shield(nil)"] = "a function, not nothing",
      ["timeout(5)"] = "a function, not nothing",
      ["timeout('soon', print)"] = 'milliseconds, not "soon"',
      ["sleep(nil)"] = "milliseconds, not nothing",
      ["sleep(0/0)"] = "milliseconds, not -nan",
      ["semaphore(0)"] = "a positive integer, not 0",
      ["semaphore()"] = "a positive integer, not nothing",
      ["channel(-1)"] = "a positive integer, not -1",
      ["channel(0)"] = "a positive integer, not 0",
      ["channel(1.5)"] = "a positive integer, not 1.5",
      ["suspend(nil)"] = "a function, not nothing",
    } do
      is_clear(call, ("task.%s takes %s"):format(call:match "^[%w_]+", what))
    end
    is_clear("channel():send(nil)", "Channel:send takes a value, not nothing")
    is_clear("condition():wait 'x'", 'Condition:wait takes milliseconds, not "x"')

    it("of a task's method without the task is one, too", helper.task(function()
      local child = task.spawn(helper.tick)
      assert.matches("Task:await takes a task, not nothing", error_of(child.await))
      assert.matches("Task:cancel takes a task, not 5", error_of(child.cancel, 5))
    end))

    it("for oneself, or for who waits for one, is an error at once", helper.task(function()
      local me = task.current()
      local message = "a task cannot await itself, or one that waits for it"
      assert.equal(message, error_of(me.await, me).message)
      local child = task.spawn(me.await, me)
      assert.equal(message, error_of(child.await, child).message)
      local first, second
      first = task.spawn(function() return second:await() end)
      second = task.spawn(function() return first:await() end)
      assert.equal(message, error_of(first.await, first).message)
    end))

    it("sleeps as long as it is told, endless time included", helper.task(function()
      local sleeper = task.spawn(sleep, math.huge)
      helper.tick()
      assert.is_false(sleeper:is_done())
      sleeper:cancel()
      raised_cancelled(sleeper)
    end))

    it("blames no line of the library, wherever in it the wait is", helper.task(function()
      -- A terminal that edits lines throws away what is too much for one, and nobody has to wait.
      local deaf = helper.write_script(helper.temporary_folder() .. "/deaf", "stty raw; echo deaf; exec sleep 60")
      local process = require("parley.claude.process").new { executable = deaf }
      local chunk = assert(load("local process, text = ...\nreturn function() process:write(text) end", "=mine"))
      process:start()
      local _ <close> = defer(function() process:close() end)
      helper.eventually(function() return process.screen:text():find "deaf" end)
      local _, err = coroutine.resume(coroutine.create(chunk(process, ("x"):rep(1 << 20))))
      assert.matches("^mine:2: " .. complaint, err)
    end))

    it("is a clear error in a callback of the loop, at the caller's line", helper.task(function()
      local err, has_called = nil, false
      from_loop(function()
        err = error_of(function() task.condition():wait() end)
        has_called = true
      end)
      helper.eventually(function() return has_called end)
      assert.matches(complaint, err)
      assert.matches("task_spec%.lua", err)
    end))

    it("is a clear error in a coroutine of the script's own", helper.task(function()
      local _, err = coroutine.resume(coroutine.create(forever))
      assert.matches(complaint, err)
      assert.matches("task_spec%.lua", err)
    end))

    it("is a clear error outside of a task", function()
      local program = task.run(helper.run, { "/usr/bin/env", "lua5.4", "-e", [[
        local task = require "parley.base.task"
        print(pcall(task.run, function() return task.current() ~= nil end))
        print(task.current())
        print(pcall(function() task.condition():wait() end))
        print(pcall(task.spawn, print))
      ]] }, { env = helper.plain_lua_environment() })
      local lines = {}
      for line in program.output:gmatch "[^\n]+" do table.insert(lines, line) end
      assert.equal("true\ttrue", lines[1], program.errors)
      assert.equal("nil", lines[2])
      assert.matches("^false\t.*" .. complaint, lines[3])
      assert.matches("^false\t.*must be called inside a task", lines[4])
    end)
  end)

  describe("wherever", function()
    local function wait_and_say()
      helper.tick()
      return "waited"
    end
    local function at_once() return "at once" end

    it("waits in a task, though it is cancelled", helper.task(function()
      local said
      local child = task.spawn(function() said = task.wherever(wait_and_say, at_once) end)
      helper.tick()
      child:cancel()
      pcall(child.await, child)
      assert.equal("waited", said)
    end))

    it("waits in a coroutine of the script's own", helper.task(function()
      assert.equal("waited", coroutine.wrap(function() return task.wherever(wait_and_say, at_once) end)())
    end))

    it("waits where no loop runs", function()
      local program = task.run(helper.run, { "/usr/bin/env", "lua5.4", "-e", [[
        local task = require "parley.base.task"
        print(task.wherever(function() task.condition():wait(1) return "waited" end, error))
      ]] }, { env = helper.plain_lua_environment() })
      assert.equal("waited\n", program.output, program.errors)
    end)

    it("does the other thing in a callback of the loop", helper.task(function()
      local said
      from_loop(function() said = task.wherever(wait_and_say, at_once) end)
      helper.eventually(function() return said end)
      assert.equal("at once", said)
    end))
  end)

  it("spawn in a callback of the loop is a clear error, also while a task runs the loop", helper.task(function()
    local err
    task.run(function()
      from_loop(function() err = error_of(task.spawn, forever) end)
      helper.eventually(function() return err end)
    end)
    assert.matches("inside a task", err)
  end))

  it("cancels its children in the order in which they were made", helper.task(function()
    local ended = {}
    local parent = task.spawn(function()
      for number = 1, 30 do
        task.spawn(function()
          pcall(forever)
          table.insert(ended, number)
        end)
      end
      forever()
    end)
    helper.tick()
    helper.tick()
    parent:cancel()
    pcall(parent.await, parent)
    assert.equal(30, #ended)
    for number, one in ipairs(ended) do assert.equal(number, one) end
  end))

  it("can be read in messages", helper.task(function()
    local child = task.spawn(forever)
    helper.tick()
    assert.equal("parley.Task (waiting)", tostring(child))
    child:cancel()
    pcall(child.await, child)
    assert.equal("parley.Task (done)", tostring(child))
  end))
end)
