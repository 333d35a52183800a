--- A world whose time jumps to the next timer whenever nothing else is left to do: for `clock.use`.
local uv = require "luv"

local M = {}

---@return table clock  with `time`, in milliseconds since it was made
function M.new()
  local world = { time = 0, timers = {} }
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
    if not first then return is_alive end
    table.remove(world.timers, place)
    world.time = math.max(world.time, first.at)
    first.callback()
    return true
  end
  return world
end

return M
