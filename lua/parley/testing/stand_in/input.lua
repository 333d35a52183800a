--- The terminal as input: what it sends, its size.
local task = require "parley.base.task"
local keys = require "parley.testing.stand_in.keys"

local M = {}

--- A write of at least so many plain bytes is waited for to its end: the kernel hands it over in pieces.
local LONG_WRITE, GATHER_MS = 800, 15

---@class parley.testing.Input
---@field is_closed boolean  nothing more will come
---@field private terminal parley.testing.OutsideTerminal
---@field private chunks string[]
local Input = {}
Input.__index = Input

--- Takes the terminal over.
---@param outside parley.testing.Outside
---@param options {on_resize: fun(), ignores_hangup?: boolean}
---@return parley.testing.Input? input
---@return string? problem
function M.open(outside, options)
  local terminal, problem = outside.open_terminal()
  if not terminal then return nil, problem end
  local self = setmetatable({ terminal = terminal, chunks = {}, arrived = task.condition(), is_closed = false,
    ignores_hangup = options.ignores_hangup }, Input)
  self:start()
  self.resized = outside.on_signal("sigwinch", options.on_resize)
  return self
end

--- Reads what is written to the terminal.
function Input:start()
  self.terminal:read(function(bytes)
    table.insert(self.chunks, bytes)
    if not bytes then self.is_closed = not self.ignores_hangup end
    self.arrived:notify()
  end)
end

--- Stops reading: what is written to the terminal stays there until it is full.
function Input:stop() self.terminal:stop() end

---@return integer rows
---@return integer columns
function Input:size()
  local rows, columns = self.terminal:size()
  return rows > 0 and rows or 24, columns > 0 and columns or 80
end

--- Waits for bytes.
---@param milliseconds? number
---@return string? bytes  nil when the time was over, or the terminal's other end is closed
function Input:take(milliseconds)
  if not self.chunks[1] and not self.is_closed then self.arrived:wait(milliseconds) end
  if not self.chunks[1] then return nil end
  local bytes = table.remove(self.chunks, 1)
  while #bytes >= LONG_WRITE and keys.is_text(bytes) do
    if not self.chunks[1] then self.arrived:wait(GATHER_MS) end
    local more = table.remove(self.chunks, 1)
    if not more then break end
    bytes = bytes .. more
  end
  return bytes
end

function Input:close()
  self.terminal:close()
  self.resized:close()
end

return M
