--- Tasks for what begins outside of any: a libuv callback, a library that knows nothing of tasks. `parley.task.group`
--- offers them.
---
---     local group <close> = task.group { on_error = function(err) log(err) end }
---     server:listen(16, function() group:spawn(serve, accept(server)) end)
---
--- The tasks are children of the one that made the group, which ends after them. But what fails in one goes to
--- `on_error` and is nobody else's affair.
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local options = require "parley.base.options"
local tables = require "parley.base.tables"

local M = {}

local task, start, check

--- Gives what is needed of the tasks; the task module calls it once.
---@param given {task: table, start: fun(owner: parley.Task, fn: function, ...): parley.Task, check: function}
function M.use(given) task, start, check = given.task, given.start, given.check end

--- The options of a group.
---@type table<string, parley.OptionRule>
M.rules = { on_error = { type = "callable", copy = false } }

---@class parley.Group
---@field package owner parley.Task
---@field package on_error fun(err: any, traceback?: string)
---@field package tasks table<parley.Task, true>
---@field package closed? true
local Group = {}
Group.__index = Group
Group.__name = "parley.Group"

local function report(err, traceback)
  io.stderr:write(("parley: a task of a group failed: %s%s\n"):format(errors.text(err), traceback or ""))
end

--- Makes a group, in a task, whose children its tasks are. It ends with `group:close()` or its `<close>` variable,
--- which cancel what runs in it.
---@param given? {on_error?: fun(err: any, traceback?: string)}  called in the task that failed; default: a line on
---              standard error. What it raises itself fails the task that made the group
---@return parley.Group
--- Raises `ValueError` for bad options.
function M.group(given)
  local set = options.check(M.rules, given, "task.group")
  local owner = task.current()
  if not owner then
    error(errors.value_error "task.group must be called inside a task (see parley.run)", 0)
  end
  return setmetatable({ owner = owner, on_error = set.on_error or report, tasks = {} }, Group)
end

local function run(group, fn, ...)
  local self = task.current()
  local _ <close> = defer(function() group.tasks[self] = nil end)
  local inner = task.spawn(fn, ...)
  local results = table.pack(pcall(inner.await, inner))
  if results[1] then return table.unpack(results, 2, results.n) end
  if self:cancellation() then error(self:cancellation(), 0) end
  if not errors.is(results[2], "Cancelled") then group.on_error(results[2], task.traceback(results[2])) end
end

--- Starts a task, from anywhere: another task, a libuv callback.
---@param fn fun(...): ...
---@param ... any
---@return parley.Task? task  awaiting it gives what `fn` returned, and nothing when that failed
---@return parley.Error? err  `ClosedError`: the group was closed, or the task that made it has ended
function Group:spawn(fn, ...)
  check("Group:spawn", fn, "a function")
  if self.closed or self.owner:is_done() or self.owner:cancellation() then
    return nil, errors.closed_error "the group is closed"
  end
  local one = start(self.owner, run, self, fn, ...)
  self.tasks[one], one.shielded = true, false -- what shields its owner is not around it
  return one
end

--- Whether the current task is one of a group's, or below it.
local function is_inside(one)
  local here = task.current()
  while here and here ~= one do here = here.parent end
  return here ~= nil
end

--- Cancels the tasks and waits for their end. In one of them it does not wait for that one, in a libuv callback for
--- none. Further calls do nothing.
function Group:close()
  self.closed = true
  local others = {}
  for _, one in ipairs(tables.in_order(self.tasks, "number")) do
    one:cancel "the group was closed"
    if not is_inside(one) then table.insert(others, one) end
  end
  task.wherever(function()
    for _, one in ipairs(others) do pcall(one.await, one) end
  end, function() end)
end

Group.__close = Group.close

function Group:__tostring()
  local count = 0
  for _ in pairs(self.tasks) do count = count + 1 end
  return ("%s (%d tasks%s)"):format(Group.__name, count, self.closed and ", closed" or "")
end

return M
