--- One who looks at a session's terminal: a snapshot of the screen, then what comes, by its place in all that the
--- program has ever written. Nobody waits for a viewer: one that is slow loses what it has not taken, and gets a new
--- snapshot instead.
local snapshot = require "parley.base.snapshot"

local M = {}

--- So much waits for a viewer; a snapshot is less than that, mostly.
M.QUEUE_BYTES = 64 * 1024

---@class parley.gateway.Look
---@field kind "snapshot"|"bytes"|"end"
---@field from? integer     how many bytes the program had written before these
---@field to? integer       and with them; of a snapshot both are the same
---@field bytes? string
---@field rows? integer     of a snapshot
---@field columns? integer

---@class parley.gateway.Viewer
---@field drops integer     how often it was too slow
---@field package process parley.Process
---@field package pieces string[]
---@field package size integer      of the pieces
---@field package wants_snapshot boolean
---@field package is_alternate boolean
---@field package to integer        the place of the last byte that it has
local Viewer = {}
Viewer.__index = Viewer
Viewer.__name = "parley.gateway.Viewer"

local function start_anew(self)
  self.pieces, self.size, self.wants_snapshot = {}, 0, true
end

--- The primary screen is not in a snapshot of the alternate one: whoever changes between them starts anew.
local function has_changed_screen(self)
  local is_alternate = self.process.screen:modes().alternate_screen
  local has_changed = is_alternate ~= self.is_alternate
  self.is_alternate = is_alternate
  return has_changed
end

local function take(self, bytes, received)
  if has_changed_screen(self) or not bytes then return start_anew(self) end
  if self.wants_snapshot or received <= self.to then return end
  if self.size + #bytes > M.QUEUE_BYTES then
    self.drops = self.drops + 1
    return start_anew(self)
  end
  table.insert(self.pieces, bytes)
  self.size, self.to = self.size + #bytes, received
end

--- Begins to look.
---@param process parley.Process
---@return parley.gateway.Viewer  a `<close>` variable
function M.new(process)
  local self = setmetatable({ process = process, drops = 0, to = 0,
    is_alternate = process.screen:modes().alternate_screen }, Viewer)
  start_anew(self)
  self.stop = process:watch(function(bytes, received) take(self, bytes, received) end)
  return self
end

--- What there is to show, without waiting.
---@return parley.gateway.Look?
function Viewer:take()
  local process = self.process
  if self.wants_snapshot then
    local rows, columns = process.screen:size()
    start_anew(self)
    self.wants_snapshot, self.to = false, process.received
    return { kind = "snapshot", from = process.received, to = process.received, bytes = snapshot.of(process.screen),
      rows = rows, columns = columns }
  elseif self.size > 0 then
    local bytes = table.concat(self.pieces)
    self.pieces, self.size = {}, 0
    return { kind = "bytes", from = self.to - #bytes, to = self.to, bytes = bytes }
  elseif process:exit_record() then
    return { kind = "end" }
  end
end

--- Waits until there is something to show.
---@param milliseconds? number  at most so long
---@return parley.gateway.Look? look  nil when nothing has come
function Viewer:next(milliseconds)
  local look
  self.process.changed:wait_until(function()
    look = self:take()
    return look
  end, milliseconds)
  return look
end

function Viewer:close() self.stop() end

Viewer.__close = Viewer.close

return M
