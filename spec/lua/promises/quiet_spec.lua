-- Promise 9 of the README, on the stand-in over a real pty. Each spec fails when the promise is broken.
local uv = require "luv"
local task = require "parley.base.task"
local helper = require "spec.helper"
local promise = require "spec.promise"

promise.on_pty = true

local say, each = helper.say, promise.each

describe("promise 9, quiet:", function()
  promise.check_leaks()

  each("an idle session wakes nobody", {}, function(live)
    say(live, "hello")
    local looked = 0
    local state = live.state
    function live:state() -- whoever looks at the session asks for its state
      looked = looked + 1
      return state(self)
    end
    assert.equal("notify", live.transcript:mode())
    uv.walk(function(handle)
      if uv.handle_get_type(handle) == "timer" and handle:is_active() then assert.equal(0, handle:get_repeat()) end
    end)
    local before = uv.getrusage()
    pcall(task.timeout, 300, function() task.condition():wait() end)
    local after = uv.getrusage()
    local used = (after.utime.sec - before.utime.sec) * 1e6 + after.utime.usec - before.utime.usec
    assert.equal(0, looked)
    assert.is_true(used < 30000, ("%d µs of CPU"):format(used))
  end)
end)
