--- A time that jumps to the next timer whenever nothing else is left to do, beside real files and what the kernel tells
--- of them: for `clock.use`, and for specs on a fake process that wait for what would take minutes. With a real program
--- it would not wait for that.
local uv = require "luv"
local clock = require "parley.base.clock"
local helper = require "spec.helper"
local task = require "parley.base.task"

local M = {}

---@return table clock  with `time`, in milliseconds since it was made
function M.new()
  local world = { time = 0, timers = {}, ran = 0 }
  function world.now() return world.time end
  function world.wall() return 1e12 + world.time end
  function world.after(milliseconds, callback)
    local timer = { at = world.time + milliseconds, callback = callback }
    function timer.close() timer.callback = nil end
    setmetatable(timer, { __close = timer.close })
    table.insert(world.timers, timer)
    return timer
  end
  function world.pass(mode)
    local is_alive = uv.run "nowait"
    if mode == "nowait" then return is_alive end
    local first, place
    for i, timer in ipairs(world.timers) do
      if timer.callback and (not first or timer.at < first.at) then first, place = timer, i end
    end
    if world.is_watched and world.ran ~= world.looked_at then -- what that has brought comes first
      world.looked_at = world.ran
      return true
    end
    world.looked_at = nil
    if not first then return is_alive end
    table.remove(world.timers, place)
    world.time = math.max(world.time, first.at)
    first.callback()
    return true
  end
  return world
end

--- For busted's `it`: as `helper.task`, in such a time.
---@param fn fun()
---@return fun()
function M.task(fn)
  return helper.task(function()
    local world = M.new()
    world.is_watched = true
    task.schedule_by(function(ready, first)
      world.ran = world.ran + 1
      return ready[first]
    end)
    clock.use(world)
    local _ <close> = setmetatable({}, { __close = function()
      task.schedule_by(nil)
      clock.use()
    end })
    fn()
  end)
end

return M
