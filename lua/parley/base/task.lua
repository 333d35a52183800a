--- Structured concurrency on luv.
---
--- The model. A task is a coroutine in a tree.
---  * A parent does not finish before its children.
---  * A failure that nobody awaits cancels the siblings and fails the parent.
---  * Cancellation goes down the tree. It is an error object with code `Cancelled`, raised where the task waits, and
---    sticky: each later wait raises it again, but for those inside `shield`.
---  * The body runs under `xpcall` inside its coroutine, so `<close>` variables run while unwinding. One that waits
---    does so inside `shield`, for the task may unwind because it was cancelled.
---
--- Callbacks never resume a task: they put it on the ready list, and `run`, the only place that pumps the loop,
--- resumes it from there. So a task can be woken from anywhere, and no Lua frame of a task stands below a callback.
local uv = require "luv"
local clock = require "parley.base.clock"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local group = require "parley.base.group"
local options = require "parley.base.options"
local sync = require "parley.base.sync"
local tables = require "parley.base.tables"

local M = {}

---@class parley.Task
---@field package thread thread
---@field package number integer        so many were made before it
---@field package parent? parley.Task
---@field package root parley.Task  the main task that it belongs to
---@field package children table<parley.Task, true>
---@field package state "new"|"ready"|"running"|"waiting"|"done"
---@field package outcome? table        packed results of `xpcall`
---@field package cancelled? parley.Error
---@field package inner? parley.Task    the main task that this one runs by `run`
---@field package failure? any          what an unawaited child raised
---@field package shields integer
---@field package awaiters function[]
---@field package awaiting? parley.Task  the task whose end it waits for
---@field package is_ending? true       its function has returned, and it waits for its children
local Task = {}
Task.__index = Task
Task.__name = "parley.Task"

local UNCAUGHT = "parley.uncaught" -- where the host keeps an error that a raw libuv callback raised
local registry = debug.getregistry()
local current ---@type parley.Task?
local is_turning = false -- the loop runs, for `pump`
local ready, ready_first, ready_last = {}, 1, 0
local made = 0 -- so many tasks
local tracebacks = setmetatable({}, { __mode = "k" })
local last_string_traceback

local function enqueue(task)
  task.state, task.awaiting = "ready", nil
  ready_last = ready_last + 1
  ready[ready_last] = task
  -- libuv runs the timers that are due before it waits, and then waits all the same: it must not, for a task is ready.
  if is_turning then uv.stop() end
end

local function remember_traceback(err)
  if errors.is(err, "Cancelled") then return err end -- whose cause has one of its own, and they are many
  if type(err) == "table" then
    tracebacks[err] = tracebacks[err] or debug.traceback(nil, 2)
  else
    last_string_traceback = debug.traceback(nil, 2)
  end
  return err
end

--- Where an error that a task raised came from.
---@param err any
---@return string? traceback
function M.traceback(err)
  if type(err) == "table" then return tracebacks[err] end
  return last_string_traceback
end

--- The running task, or nil outside of any.
---@return parley.Task?
function M.current() return current end

--- Where the library stands, as the source of each of its files begins.
local LIBRARY = debug.getinfo(1, "S").source:match "^(.*)base/task%.lua$"

--- The level, for `error` in the function that calls this, of the line that called into the library.
local function outside()
  local level = 2
  while true do
    local info = debug.getinfo(level, "S")
    if not info then return 0 end
    if info.what ~= "C" and info.source:sub(1, #LIBRARY) ~= LIBRARY then return level - 1 end
    level = level + 1
  end
end

local EXPECTED = {
  ["a function"] = function(value) return options.is_of(value, "callable") end,
  ["a positive integer"] = function(value) return options.is_of(value, "positive integer") end,
  ["milliseconds"] = function(value) return type(value) == "number" and value == value end,
  ["a task"] = function(value) return getmetatable(value) == Task end,
  ["a value"] = function(value) return value ~= nil end,
}

--- Raises, at the line of the caller's, when an argument is wrong.
local function check(what, value, expected)
  if EXPECTED[expected](value) then return end
  error(("%s takes %s, not %s"):format(what, expected, options.describe(value)), outside())
end

--- Whether the caller may wait: it is a task, and not in a coroutine of the task's own or in a libuv callback.
---@return boolean
function M.may_wait() return current ~= nil and coroutine.running() == current.thread end

--- Waits until `register`'s argument is called. Everything that waits is built on this.
---
--- `register(wake)` arranges for `wake(...)` to be called, at once or later; the first call counts. It may return a
--- function that undoes the arrangement, which is called when the task is cancelled first.
---@param register fun(wake: fun(...)): fun()?
---@return any ...  what `wake` was given
function M.suspend(register)
  check("task.suspend", register, "a function")
  local task = current
  if not task or not M.may_wait() then
    error("this call waits, so it must run inside a task, and not in a coroutine of its own (see parley.run)",
      outside())
  end
  if task.cancelled and task.shields == 0 then error(task.cancelled, 0) end
  local results, is_over
  local abandon = register(function(...)
    if is_over then return end
    is_over, results = true, table.pack(...)
    if task.state == "waiting" then enqueue(task) end
  end)
  if not results then
    task.state = "waiting"
    coroutine.yield()
  end
  if not results then -- a value that came with the cancellation is not lost: the next wait raises
    is_over = true
    if abandon then abandon() end
    error(task.cancelled, 0)
  end
  return table.unpack(results, 1, results.n)
end

local function cancel(task, err)
  if task.state == "done" or task.cancelled then return end
  task.cancelled = err
  for _, child in ipairs(tables.in_order(task.children, "number")) do
    if not child.shielded then cancel(child, err) end
  end
  if task.inner and not task.inner.shielded then cancel(task.inner, err) end
  if task.state == "waiting" and task.shields == 0 then enqueue(task) end
end

local function is_cancellation(task, err)
  return err ~= nil and err == task.cancelled or errors.is(err, "Cancelled")
end

local function fail(parent, err)
  parent.failure = parent.failure or err or errors.text(err) -- nil and false are failures, too
  cancel(parent, errors.cancelled("a child task failed: " .. errors.text(err), { cause = err }))
end

local function finish(task, outcome)
  task.state, task.outcome = "done", outcome
  local parent = task.parent
  if parent then parent.children[task] = nil end
  local awaited = #task.awaiters > 0
  for _, wake in ipairs(task.awaiters) do wake() end
  if parent and not outcome[1] and not awaited and not is_cancellation(task, outcome[2]) then
    fail(parent, outcome[2])
  end
  if parent and parent.on_child_end then parent.on_child_end() end
end

--- What looks for tasks that wait for each other, whenever one begins to await another.
local observers = {}

--- Has a function called whenever a task begins to await another, or stops that.
---@param observer fun()
---@param is_on boolean
function M.observe_awaiting(observer, is_on) observers[observer] = is_on or nil end

local function tell_observers()
  for observer in pairs(observers) do observer() end
end

--- Whether a task goes on only when one of these does: it is one of them, or awaits one that does.
---@param task parley.Task
---@param tasks table<parley.Task, any>
---@return boolean
function M.hangs_on(task, tasks)
  local seen = {}
  local function hangs(one)
    if not one or seen[one] then return false end
    if tasks[one] then return true end
    seen[one] = true
    for child in pairs(one.is_ending and one.children or {}) do
      if hangs(child) then return true end
    end
    return hangs(one.awaiting)
  end
  return hangs(task)
end

local function await_children(task)
  task.shields, task.is_ending = task.shields + 1, true
  if next(task.children) then tell_observers() end
  while next(task.children) do
    M.suspend(function(wake)
      task.on_child_end = wake
      return nil
    end)
    task.on_child_end = nil
  end
  task.shields = task.shields - 1
end

local function body(task, fn, ...)
  local outcome
  if task.cancelled then
    outcome = table.pack(false, task.cancelled)
  else
    outcome = table.pack(xpcall(fn, remember_traceback, ...))
  end
  if not outcome[1] then
    local children = tables.in_order(task.children, "number")
    for _, child in ipairs(children) do cancel(child, errors.cancelled "the parent task failed") end
  end
  await_children(task)
  if task.failure and (outcome[1] or is_cancellation(task, outcome[2])) then
    outcome = table.pack(false, task.failure)
  end
  finish(task, outcome)
end

local function new_task(parent, fn, ...)
  made = made + 1
  local task = setmetatable({ parent = parent, children = {}, awaiters = {}, shields = 0, number = made }, Task)
  task.root = parent and parent.root or task
  local arguments = table.pack(...)
  task.thread = coroutine.create(function()
    body(task, fn, table.unpack(arguments, 1, arguments.n))
  end)
  if parent then
    parent.children[task] = true
    task.shielded = parent.shields > 0
  end
  enqueue(task)
  return task
end

--- Nobody would ever resume a task that called `coroutine.yield`: it goes on with an error, raised right there.
local function refuse_yield(task)
  debug.sethook(task.thread, function()
    debug.sethook()
    error(errors.value_error "coroutine.yield was called in a task, which waits with parley.task", 0)
  end, "", 1)
  enqueue(task)
end

local function resume(task)
  local outer = current
  current, task.state = task, "running"
  local ok, err = coroutine.resume(task.thread)
  current = outer
  if not ok then finish(task, table.pack(false, err)) end
  if ok and task.state == "running" then refuse_yield(task) end
end

local choose ---@type fun(ready: parley.Task[], first: integer, last: integer): parley.Task?

--- Has somebody else say which of the tasks that are ready goes next: for worlds that try every order. By default it
--- is first come, first served.
---@param fn? fun(ready: parley.Task[], first: integer, last: integer): parley.Task?
---       returns one of the list, having put the first one in its place; nil when that shall not run now
---@return fun(task: parley.Task) enqueue  puts one that was not run on the list again
function M.schedule_by(fn)
  choose = fn
  return enqueue
end

--- The main task that a task belongs to.
---@param task parley.Task
---@return parley.Task
function M.root(task) return task.root end

local function drain()
  local last = ready_last
  while ready_first <= last do
    local task = not choose and ready[ready_first] or choose and choose(ready, ready_first, last)
    ready[ready_first] = nil
    ready_first = ready_first + 1
    if task and task.state == "ready" then resume(task) end
  end
end

--- Runs a function as the main task and the loop with it, until the task and all its children have ended.
---@param fn fun(...): ...
---@param ... any  arguments of `fn`
---@return any ...  the results of `fn`
--- Raises what `fn` raised, unchanged. A task that waits for what cannot happen is an error with code `EDEADLK`.
function M.run(fn, ...)
  check("task.run", fn, "a function")
  local outer = current or { shields = 0 }
  if outer.cancelled and outer.shields == 0 then error(outer.cancelled, 0) end
  local task = new_task(nil, fn, ...)
  task.shielded, outer.inner = outer.shields > 0, task
  local _ <close> = defer(function() outer.inner = nil end)
  M.pump(task)
  if task.outcome[1] then return table.unpack(task.outcome, 2, task.outcome.n) end
  error(task.outcome[2], 0)
end

--- Makes a main task without running it, for hosts that need a hold of it (to cancel it on a signal).
---@param fn fun(...): ...
---@param ... any
---@return parley.Task
function M.new_root(fn, ...)
  check("task.new_root", fn, "a function")
  return new_task(nil, fn, ...)
end

--- Lets the loop call back, outside of any task. Raises nothing: a raw callback's error is the second result.
local function turn_loop(mode)
  local outer, was_turning = current, is_turning -- a task, or a callback, that runs a main task pumps from inside
  current, is_turning = nil, true
  local is_alive = clock.pass(mode)
  current, is_turning = outer, was_turning
  local uncaught = registry[UNCAUGHT]
  registry[UNCAUGHT] = nil
  return is_alive, uncaught
end

--- Runs the loop until a task made by `new_root` has ended.
---@param task parley.Task
--- Raises an error with code `EDEADLK` when a task that was cancelled still waits for what cannot happen.
function M.pump(task)
  while task.state ~= "done" do
    drain()
    if task.state == "done" then break end
    local is_alive, uncaught = turn_loop(ready_first <= ready_last and "nowait" or "once")
    if uncaught ~= nil then
      fail(task, uncaught)
    elseif not is_alive and ready_first > ready_last then
      if task.stuck then
        error(errors.new("EDEADLK", "a task that was cancelled waits for what cannot happen"), 0)
      end
      task.stuck = true
      fail(task, errors.new("EDEADLK", "every task waits and nothing is left that could wake one"))
    end
  end
  local _, uncaught = turn_loop "nowait" -- let the handles closed last report it
  if uncaught ~= nil and task.outcome[1] then task.outcome = table.pack(false, uncaught) end
end

--- Whether a task ends only when another has: it is that one, or above it, or awaits such a one.
local function is_behind(task, other)
  local above, one = {}, other
  while one do
    above[one], one = true, one.parent
  end
  return M.hangs_on(task, above)
end

--- Starts a child of the current task. It runs when the current one waits next.
---@param fn fun(...): ...
---@param ... any
---@return parley.Task
function M.spawn(fn, ...)
  check("task.spawn", fn, "a function")
  local task = current or error("task.spawn must be called inside a task (see parley.run)", outside())
  if task.cancelled and task.shields == 0 then error(task.cancelled, 0) end
  return new_task(task, fn, ...)
end

--- Waits for the task's end. Returns what its function returned, or raises what it raised.
---@return any ...
--- Raises `ValueError` in a task that waits for itself so, as a parent ends after its children.
function Task:await()
  check("Task:await", self, "a task")
  if self.state ~= "done" then
    if current and is_behind(self, current) then
      error(errors.value_error "a task cannot await itself, or one that waits for it", 0)
    end
    M.suspend(function(wake)
      table.insert(self.awaiters, wake)
      current.awaiting = self
      tell_observers()
      return function() tables.remove(self.awaiters, wake) end
    end)
  end
  if self.outcome[1] then return table.unpack(self.outcome, 2, self.outcome.n) end
  error(self.outcome[2], 0)
end

--- Cancels the task and its children. Has no effect on one that has ended or was cancelled before.
---@param reason? string|parley.Error  a sentence, or the error object to raise in it
function Task:cancel(reason)
  check("Task:cancel", self, "a task")
  if type(reason) ~= "table" then reason = errors.cancelled(reason or "the task was cancelled") end
  cancel(self, reason)
end

--- How the task ended: true and the results, or false and the error; nothing while it runs.
---@return boolean? ok
---@return any ...
function Task:result()
  if self.outcome then return table.unpack(self.outcome, 1, self.outcome.n) end
end

---@return boolean
function Task:is_done() return self.state == "done" end

--- The error that the task was cancelled with, if it was.
---@return parley.Error?
function Task:cancellation() return self.cancelled end

function Task:__tostring() return ("%s (%s)"):format(Task.__name, self.state) end

--- Runs a function whose waits a cancellation does not end: for cleaning up, in a `__close` that waits.
---@param fn fun(...): ...
---@param ... any
---@return any ...
function M.shield(fn, ...)
  check("task.shield", fn, "a function")
  local task = current
  if not task then return fn(...) end
  task.shields = task.shields + 1
  local _ <close> = defer(function() task.shields = task.shields - 1 end)
  return fn(...)
end

--- Runs a function that waits to its end, wherever the caller stands: in a task, behind a shield; where no loop runs,
--- as a main task of its own. A libuv callback can wait for nothing.
---@param fn fun(): ...
---@param at_once fun(): ...  what a libuv callback does instead
---@return any ...  what the function gave
function M.wherever(fn, at_once)
  if M.may_wait() then return M.shield(fn) end
  if not is_turning and not uv.loop_mode() then return M.run(fn) end
  return at_once()
end

--- Waits.
---@param milliseconds number
function M.sleep(milliseconds)
  check("task.sleep", milliseconds, "milliseconds")
  M.suspend(function(wake)
    local timer = clock.after(milliseconds, wake)
    return function() timer:close() end
  end)
end

--- Runs a function, in a child task, for a limited time.
---@param milliseconds? number  nil for no limit
---@param fn fun(...): ...
---@param ... any
---@return any ...
--- Raises an error with code `ETIMEDOUT` when the time is over, after the function has cleaned up.
function M.timeout(milliseconds, fn, ...)
  if milliseconds then check("task.timeout", milliseconds, "milliseconds") end
  check("task.timeout", fn, "a function")
  if not milliseconds or milliseconds == math.huge then return fn(...) end
  local child = M.spawn(fn, ...)
  local late = errors.new("ETIMEDOUT", ("it took longer than %g ms"):format(milliseconds))
  local _ <close> = clock.after(milliseconds, function() cancel(child, late) end)
  local outcome = table.pack(pcall(child.await, child))
  if not child:is_done() then -- this task was cancelled: the child goes first
    child:cancel(current.cancelled)
    M.shield(pcall, child.await, child)
  end
  if outcome[1] then return table.unpack(outcome, 2, outcome.n) end
  error(outcome[2], 0)
end

--- Wraps a luv handle so that `local x <close>` closes it.
---@param handle userdata
---@return table
function M.closing(handle)
  return setmetatable({ handle = handle }, { __close = function()
    if not handle:is_closing() then handle:close() end
  end })
end

--- Milliseconds on a monotonic clock with no fixed origin.
---@return number
function M.now() return clock.now() end

sync.use { suspend = M.suspend, check = check }
group.use { task = M, start = new_task, check = check }
M.condition, M.channel, M.semaphore, M.group = sync.condition, sync.channel, sync.semaphore, group.group

return M
