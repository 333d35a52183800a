--- Spare sessions: fresh ones of the backend's options that wait for a conversation to begin. They are made while
--- nothing else is going on, one at a time, and are the first to go when a place is needed.
local clock = require "parley.base.clock"
local task = require "parley.base.task"

local M = {}

---@class parley.Spares
---@field private count integer
---@field private pool parley.Pool
---@field private make fun()        starts one, in a task
---@field private task? parley.Task  that makes one
---@field private timer? parley.Timer
---@field private failed? true      the last one could not be made
---@field private closed? true
local Spares = {}
Spares.__index = Spares

--- Makes the spares of a backend.
---@param count integer
---@param pool parley.Pool
---@param make fun()  starts a session and gives it to the pool; runs as a task, may raise
---@return parley.Spares
function M.new(count, pool, make)
  return setmetatable({ count = count, pool = pool, make = make }, Spares)
end

local function is_wanted(self)
  return not (self.closed or self.task or self.failed) and self.pool:is_quiet() and self.pool:has_free_place()
    and self.pool:count_spares() < self.count
end

local function make(self)
  self.task = task.new_root(function()
    local ok = pcall(self.make)
    self.failed = not (ok or task.current():cancellation()) or nil -- the next turn says why, or goes well
    self.task = nil
    self:refill()
  end)
end

--- Makes one where one is wanted, from the loop.
function Spares:refill()
  if self.timer or not is_wanted(self) then return end
  self.timer = clock.after(0, function()
    self.timer = nil
    if is_wanted(self) then make(self) end
  end)
end

--- A turn has ended well: what could not be made may be tried again.
function Spares:encourage()
  self.failed = nil
  self:refill()
end

--- Somebody waits for a place: one that is being made gives its own up.
function Spares:yield()
  if self.task then self.task:cancel "its place is needed" end
end

function Spares:close()
  self.closed = true
  if self.timer then self.timer:close() end
  self.timer = nil
  self:yield()
end

return M
