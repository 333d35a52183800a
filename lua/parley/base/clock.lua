--- The one door to time: nobody else reads a clock or starts a timer. So a simulated world can own time, all of it.
local uv = require "luv"

local M = {}

local LONGEST_MS = 1 << 53

---@class parley.Timer
---@field package handle? userdata  while it may still call
local Timer = {}
Timer.__index = Timer
Timer.__name = "parley.Timer"

--- Has it call no more. A second call does nothing, nor does one after it has called.
function Timer:close()
  if self.handle then self.handle:close() end
  self.handle = nil
end

Timer.__close = Timer.close

---@class parley.Clock  what `use` replaces
local real = {}

--- Milliseconds on a monotonic clock with no fixed origin, with fractions.
---@return number
function real.now() return uv.hrtime() / 1e6 end

--- Milliseconds since 1970 as everybody's clock has it, with fractions: what other programs' timestamps compare with.
---@return number
function real.wall()
  local seconds, microseconds = uv.gettimeofday()
  return seconds * 1e3 + microseconds / 1e3
end

--- Calls back once, from the loop, and no earlier than that.
---@param milliseconds number
---@param callback fun()
---@return parley.Timer timer  closed by the call
function real.after(milliseconds, callback)
  local timer = setmetatable({ handle = uv.new_timer() }, Timer)
  local due = real.now() + milliseconds
  local function start(left)
    timer.handle:start(left < LONGEST_MS and math.max(0, math.ceil(left)) or LONGEST_MS, 0, function()
      local early = due - real.now() -- the loop counts whole milliseconds: it may call up to one too soon
      if early > 0 then return start(early) end
      timer:close()
      callback()
    end)
  end
  uv.update_time() -- the loop's clock stands still while Lua runs
  start(milliseconds)
  return timer
end

--- Lets the loop call back: `"once"` waits for something to happen, `"nowait"` does not. A world that owns time jumps
--- to its next timer where this one waits.
---@param mode "once"|"nowait"
---@return boolean is_alive  false when nothing is left that could call back
function real.pass(mode) return uv.run(mode) end

--- Puts another clock in the place of the world's, for all that ask from now on.
---@param clock? parley.Clock  with the functions that differ; nil: the world's
function M.use(clock)
  for name, fn in pairs(real) do M[name] = clock and clock[name] or fn end
end

M.now, M.wall, M.after, M.pass = real.now, real.wall, real.after, real.pass

--- Calls back again and again, each time so long after the last.
---@param milliseconds number
---@param callback fun()
---@return parley.Timer
function M.every(milliseconds, callback)
  local timer = setmetatable({}, Timer)
  local function call()
    timer.handle = M.after(milliseconds, call)
    callback()
  end
  timer.handle = M.after(milliseconds, call)
  return timer
end

--- A time in words.
---@param format string  as `os.date` takes it
---@param wall? number   default: now
---@return string
function M.date(format, wall) return os.date(format, (wall or M.wall()) // 1000) --[[@as string]] end

--- A time as transcripts have it.
---@param wall? number  default: now
---@return string  ISO 8601, UTC: `"2025-11-22T03:18:22.884Z"`
function M.timestamp(wall)
  wall = math.floor(wall or M.wall())
  return M.date("!%Y-%m-%dT%H:%M:%S", wall) .. (".%03dZ"):format(wall % 1000)
end

--- Two readings of the clocks are never so far apart that less than this is a clock that was set.
local SET_MS = 50

---@class parley.Moment  when something was done here, for the timestamps that other programs write
---@field package wall number
---@field package now number
local Moment = {}
Moment.__index = Moment
Moment.__name = "parley.Moment"

--- The moment that is now.
---@return parley.Moment
function M.moment() return setmetatable({ wall = M.wall(), now = M.now() }, Moment) end

--- Whether a timestamp is of before this moment. Everybody's clock may have been set back since: then what was written
--- behind that has a time of its own, and counts by the clock as it is now.
---@param timestamp string  ISO 8601, UTC, of this machine's clock, written until now
---@return boolean
function Moment:is_after(timestamp)
  local wall = M.wall() - (M.now() - self.now)
  return timestamp < M.timestamp(wall < self.wall - SET_MS and wall or self.wall)
end

return M
