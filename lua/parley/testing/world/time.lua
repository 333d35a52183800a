--- The time of a world: it stands still while anything is left to do, and then jumps to the next event. What happens at
--- the same moment happens in an order that the seed decides.
local uv = require "luv"

local M = {}

local UNCAUGHT = "parley.uncaught" -- where `parley.base.task` looks for what a callback raised

--- The world's time at its start, since 1970.
local FIRST_WALL = 1764000000000
--- Times are whole multiples of a millisecond's binary fraction: so they add up exactly, and who waits until another
--- time is not left a rounding error short of it.
local GRAIN = 1024
--- So often the loop is passed at one moment only by what never ends.
local MOST_AT_ONCE = 200000
--- Timers that were closed are left in the heap until they are many.
local LEAST_CLOSED = 32
--- The world outside is looked at so seldom: for signals, and for the deadline of the spec.
local PASSES_A_LOOK = 4096

---@class parley.testing.WorldEvent
---@field at number
---@field order integer
---@field callback? fun()  nil once it was closed
---@field owner? any       the program that it belongs to; false: the world's own

---@class parley.testing.Time
---@field now number
---@field set_by number  so far everybody's clock was set meanwhile, forward or back
---@field owner_of fun(): any  the program that acts now
---@field acting? any          the program whose event is handled now
---@field steps integer        so many events have happened
---@field on_step? fun(steps: integer)  is called before each
local Time = {}
Time.__index = Time

local Timer = { __name = "parley.testing.Timer" }
Timer.__index = Timer
function Timer:close()
  if not self.callback then return end
  self.callback, self.owner = nil, nil
  self.time:count_closed()
end
Timer.__close = Timer.close

---@param chance parley.testing.Chance
---@return parley.testing.Time
function M.new(chance)
  return setmetatable({ now = 0, set_by = 0, chance = chance, heap = {}, size = 0, closed = 0, at_once = 0, steps = 0,
    passes = 0, owner_of = function() end }, Time)
end

-- The heap is where a world spends its time: so an event's two numbers are compared in place.

function Time:push(event)
  local heap, place = self.heap, self.size + 1
  local at, order = event.at, event.order
  self.size = place
  while place > 1 do
    local above = place // 2
    local other = heap[above]
    if other.at < at or other.at == at and other.order <= order then break end
    heap[place] = other
    place = above
  end
  heap[place] = event
end

function Time:pop()
  local heap, first, last = self.heap, self.heap[1], self.heap[self.size]
  heap[self.size] = nil
  self.size = self.size - 1
  local size, place, below = self.size, 1, 2
  if size == 0 then return first end
  local at, order = last.at, last.order
  while below <= size do
    local next, other = heap[below], heap[below + 1]
    if other and (other.at < next.at or other.at == next.at and other.order < next.order) then
      next, below = other, below + 1
    end
    if at < next.at or at == next.at and order <= next.order then break end
    heap[place] = next
    place, below = below, below * 2
  end
  heap[place] = last
  return first
end

--- Takes in that one more of the heap calls back no more: when most do not, they go.
function Time:count_closed()
  self.closed = self.closed + 1
  if self.closed < LEAST_CLOSED or self.closed * 2 < self.size then return end
  local heap, size = self.heap, self.size
  self.heap, self.size, self.closed = {}, 0, 0
  for place = 1, size do
    if heap[place].callback then self:push(heap[place]) end
  end
end

--- Calls back so much later.
---@param milliseconds number
---@param callback fun()
---@param owner? any  default: the program that acts now; false: the world itself
---@return parley.Timer
function Time:after(milliseconds, callback, owner)
  milliseconds = milliseconds > 0 and -(-milliseconds * GRAIN // 1) / GRAIN or 0 -- rounded up
  local event = setmetatable({ at = self.now + milliseconds, order = self.chance:number(),
    callback = callback, owner = owner, is_own = owner == false, time = self }, Timer)
  if owner == nil then event.owner = self.owner_of() end
  self:push(event)
  return event
end

--- The next event that still calls back, at the top of the heap.
function Time:first()
  while self.size > 0 do
    local first = self.heap[1]
    local owner = first.owner
    if not first.callback or owner and owner.is_dead then
      self.closed = self.closed - (first.callback and 0 or 1)
      self:pop()
    elseif owner and owner.held then
      table.insert(owner.held, self:pop())
    else
      return first
    end
  end
end

--- Puts an event back that was held while its owner was stopped.
function Time:resume(event)
  event.at = math.max(event.at, self.now)
  self:push(event)
end

local function traced(err) return type(err) == "string" and debug.traceback(err, 2) or err end

local function handle(self, event)
  self:pop()
  local callback = event.callback
  event.callback, self.acting = nil, event.owner
  local ok, err = xpcall(callback, traced)
  self.acting = nil
  if not ok then debug.getregistry()[UNCAUGHT] = err end
end

--- Lets the next event happen, for `clock.use`.
---@param mode "once"|"nowait"
---@return boolean is_alive
function Time:pass(mode)
  self.at_once = self.at_once + 1
  if self.at_once > MOST_AT_ONCE then
    self.at_once, self.now = 0, self.now + 1
    debug.getregistry()[UNCAUGHT] = ("the world stands still at %.3f ms: something happens again and again"):format(
      self.now)
  end
  self.passes = self.passes + 1
  if self.passes % PASSES_A_LOOK == 0 then
    uv.run "nowait" -- whoever wakes a task stops the loop, which stands as it is: only the next run is a look
    uv.run "nowait"
  end
  local first = self:first()
  if not first then return false end
  if first.at > self.now then
    if mode == "nowait" then return true end
    self.now, self.at_once = first.at, 0
  end
  self.steps = self.steps + 1
  local ok, problem = true, nil
  if self.on_step then ok, problem = pcall(self.on_step, self.steps) end
  if not ok then debug.getregistry()[UNCAUGHT] = problem end
  handle(self, first)
  return true
end

--- The timers that could still call back, but for the programs'.
---@return integer
function Time:count()
  local count = 0
  for place = 1, self.size do
    local event = self.heap[place]
    if event.callback and not event.owner and not event.is_own then count = count + 1 end
  end
  return count
end

--- What `clock.use` takes.
---@return parley.Clock
function Time:clock()
  return {
    now = function() return self.now end,
    wall = function() return FIRST_WALL + self.set_by + self.now end,
    after = function(milliseconds, callback) return self:after(milliseconds, callback) end,
    pass = function(mode) return self:pass(mode) end,
  }
end

return M
