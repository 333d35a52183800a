-- Tasks that begin in libuv callbacks.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local helper = require "spec.helper"
local task = require "parley.base.task"

describe("a group", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- Runs a function in a libuv callback.
  local function in_callback(fn)
    clock.after(0, fn)
  end

  it("starts tasks from a callback, which wait like any", helper.task(function()
    local group <close> = task.group()
    local channel = task.channel()
    in_callback(function()
      group:spawn(function(word)
        helper.tick()
        channel:send(word)
      end, "hello")
    end)
    assert.equal("hello", channel:receive())
  end))

  it("gives what its task returned to who awaits it", helper.task(function()
    local group <close> = task.group()
    assert.equal(5, group:spawn(function() return 5 end):await())
  end))

  it("tells its handler of a failure, with where it came from, and goes on", helper.task(function()
    local seen = {}
    local group <close> = task.group { on_error = function(err, traceback) table.insert(seen, { err, traceback }) end }
    local failure = errors.value_error "wrong"
    assert.is_nil(group:spawn(function() error(failure, 0) end):await())
    assert.equal(failure, seen[1][1])
    assert.matches("group_spec", seen[1][2])
    group:spawn(function() -- what fails below it, too
      task.spawn(function() error("below", 0) end)
      helper.until_cancelled()
    end):await()
    assert.equal("below", seen[2][1])
    assert.equal("still here", group:spawn(function() return "still here" end):await())
  end))

  it("fails the task that made it with what its handler raises", function()
    local ok, err = pcall(task.run, function()
      local group <close> = task.group { on_error = function() error("the handler", 0) end }
      group:spawn(function() error("the task", 0) end)
      helper.until_cancelled()
    end)
    assert.is_false(ok)
    assert.equal("the handler", err)
  end)

  it("cancels what runs in it when it is closed, and waits for that", helper.task(function()
    local is_over, seen, begun = false, nil, task.condition()
    do
      local group <close> = task.group { on_error = function(err) seen = err end }
      group:spawn(function()
        local _ <close> = setmetatable({}, { __close = function()
          task.shield(helper.tick)
          is_over = true
        end })
        begun:notify()
        helper.until_cancelled()
      end)
      begun:wait()
    end
    assert.is_true(is_over)
    assert.is_nil(seen)
  end))

  it("is closed in one of its own tasks, and in a callback", helper.task(function()
    local group = task.group()
    local one = group:spawn(function() group:close() end)
    pcall(one.await, one)
    local other, is_closed = task.group(), task.condition()
    local sleeper = other:spawn(helper.until_cancelled)
    in_callback(function()
      other:close()
      is_closed:notify()
    end)
    is_closed:wait()
    assert.is_false((pcall(sleeper.await, sleeper)))
  end))

  it("takes nothing when it is closed, and says so without raising", helper.task(function()
    local group = task.group()
    group:close()
    local one, err = group:spawn(function() end)
    assert.is_nil(one)
    assert.is_true(errors.is(err, "ClosedError"))
    local owner_ended
    task.spawn(function() owner_ended = task.group() end):await()
    assert.is_nil((owner_ended:spawn(function() end)))
  end))

  it("does not let the task that made it end before its tasks", function()
    local is_over
    task.run(function()
      local group = task.group()
      group:spawn(function()
        helper.tick()
        is_over = true
      end)
    end)
    assert.is_true(is_over)
  end)

  for what, case in pairs {
    ["is made outside of any task"] = { function()
      task.run(function()
        local answer = task.channel()
        in_callback(function() answer:try_send(table.pack(pcall(task.group))) end)
        error(answer:receive()[2], 0)
      end)
    end, "task.group must be called inside a task" },
    ["has a handler that is none"] = { function() task.run(task.group, { on_error = "log" }) end,
      "task.group: option 'on_error' must be a value of type callable, not \"log\"" },
    ["has an option that there is not"] = { function() task.run(task.group, { on_eror = print }) end,
      "task.group has no option 'on_eror'; did you mean 'on_error'?" },
    ["is to start what is no function"] = { function()
      task.run(function() task.group():spawn "serve" end)
    end, "Group:spawn takes a function, not \"serve\"" },
  } do
    it("is refused when it " .. what, function()
      local ok, err = pcall(case[1])
      assert.is_false(ok)
      assert.truthy(tostring(err):find(case[2], 1, true), tostring(err))
    end)
  end

  it("has a task that began while its owner waits for its children cancelled with them", helper.task(function()
    local group
    local owner = task.spawn(function()
      group = task.group()
      group:spawn(helper.until_cancelled)
    end)
    helper.tick()
    helper.tick()
    group:spawn(helper.until_cancelled)
    owner:cancel()
    task.timeout(10000, pcall, owner.await, owner)
  end))
end)

describe("Channel:try_send", function()
  it("puts in what there is room for, and never waits", helper.task(function()
    local channel = task.channel(2)
    assert.is_true(channel:try_send(1))
    assert.is_true(channel:try_send(2))
    assert.same({ false, "full" }, { channel:try_send(3) })
    assert.equal(1, channel:receive())
    assert.is_true(channel:try_send(3))
    channel:close()
    assert.same({ false, "closed" }, { channel:try_send(4) })
    assert.equal(2, channel:receive())
    assert.equal(3, channel:receive())
    assert.is_nil(channel:receive())
    assert.is_false((pcall(channel.try_send, channel, nil)))
  end))

  it("wakes who waits for a value, from a callback", helper.task(function()
    local channel = task.channel()
    clock.after(0, function() channel:try_send "x" end)
    assert.equal("x", channel:receive())
  end))
end)
