--- What tasks wait for each other at: conditions, channels, semaphores. `parley.task` offers them, and gives what they
--- are built on.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local tables = require "parley.base.tables"

local M = {}

local suspend, check

--- Gives what is needed of the tasks; the task module calls it once.
---@param of_tasks {suspend: function, check: function}
function M.use(of_tasks) suspend, check = of_tasks.suspend, of_tasks.check end

---@class parley.Condition
---@field package waiting function[]
local Condition = {}
Condition.__index = Condition
Condition.__name = "parley.Condition"

--- A condition: tasks wait for it, anybody notifies them.
---@return parley.Condition
function M.condition() return setmetatable({ waiting = {} }, Condition) end

--- Waits for the next `notify`.
---@param milliseconds? number  at most so long
---@return boolean notified  false when the time was over
function Condition:wait(milliseconds)
  if milliseconds then check("Condition:wait", milliseconds, "milliseconds") end
  return suspend(function(wake)
    local timer
    local function stop(notified)
      if timer then timer:close() end
      tables.remove(self.waiting, stop)
      wake(notified)
    end
    if milliseconds and milliseconds < math.huge then
      timer = clock.after(milliseconds, function() stop(false) end)
    end
    table.insert(self.waiting, stop)
    return function() stop(false) end
  end)
end

--- Waits until a predicate gives a true value, which is asked now, at every `notify`, and when the time is over.
---@param predicate fun(): any
---@param milliseconds? number  at most so long
---@return any value  what the predicate gave last: false or nil when the time was over
function Condition:wait_until(predicate, milliseconds)
  check("Condition:wait_until", predicate, "a function")
  if milliseconds then check("Condition:wait_until", milliseconds, "milliseconds") end
  local deadline = clock.now() + (milliseconds or math.huge)
  while true do
    local value = predicate()
    local left = deadline - clock.now()
    if value or left <= 0 then return value end
    self:wait(left)
  end
end

--- Wakes every task that waits now.
function Condition:notify()
  local waiting = self.waiting
  self.waiting = {}
  for _, stop in ipairs(waiting) do stop(true) end
end

---@class parley.Channel
local Channel = {}
Channel.__index = Channel
Channel.__name = "parley.Channel"

--- A queue between tasks.
---@param capacity? integer  how many values may wait in it before `send` waits; default 1; `math.huge` for no limit
---@return parley.Channel
function M.channel(capacity)
  if capacity ~= nil and capacity ~= math.huge then check("task.channel", capacity, "a positive integer") end
  return setmetatable({ capacity = capacity or 1, values = {}, changed = M.condition(), closed = false }, Channel)
end

--- Puts a value in, waiting for room.
---@param value any  not nil
function Channel:send(value)
  check("Channel:send", value, "a value")
  while not self.closed and #self.values >= self.capacity do self.changed:wait() end
  if self.closed then error(errors.closed_error "the channel is closed", 0) end
  table.insert(self.values, value)
  self.changed:notify()
end

--- Puts a value in where there is room, and never waits: for libuv callbacks.
---@param value any  not nil
---@return boolean sent
---@return "full"|"closed"? why
function Channel:try_send(value)
  check("Channel:try_send", value, "a value")
  if self.closed then return false, "closed" end
  if #self.values >= self.capacity then return false, "full" end
  table.insert(self.values, value)
  self.changed:notify()
  return true
end

--- Takes the oldest value out, waiting for one.
---@return any value  nil once the channel is closed and empty
function Channel:receive()
  while #self.values == 0 do
    if self.closed then return nil end
    self.changed:wait()
  end
  local value = table.remove(self.values, 1)
  self.changed:notify()
  return value
end

--- Ends the channel: `send` raises `ClosedError` from now on, `receive` gives what is left and then nil.
function Channel:close()
  self.closed = true
  self.changed:notify()
end

--- For the generic `for`: receives until the channel is closed and empty.
function Channel:__call() return self:receive() end

---@class parley.Semaphore
local Semaphore = {}
Semaphore.__index = Semaphore
Semaphore.__name = "parley.Semaphore"

--- A semaphore: at most `count` permits are out at a time, handed out first come, first served.
---@param count integer
---@return parley.Semaphore
function M.semaphore(count)
  check("task.semaphore", count, "a positive integer")
  return setmetatable({ free = count, waiting = {} }, Semaphore)
end

--- Takes a permit, waiting for one.
---@return table permit  give it back with `permit:release()`, or hold it in a `<close>` variable
function Semaphore:acquire()
  if self.free > 0 and #self.waiting == 0 then
    self.free = self.free - 1
  else
    suspend(function(wake)
      table.insert(self.waiting, wake)
      return function() tables.remove(self.waiting, wake) end
    end)
  end
  local held = true
  local permit = {}
  function permit.release()
    if not held then return end
    held = false
    local wake = table.remove(self.waiting, 1)
    if wake then wake() else self.free = self.free + 1 end
  end
  return setmetatable(permit, { __close = permit.release })
end

return M
