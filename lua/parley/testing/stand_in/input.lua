--- The terminal as input: raw mode, what it sends, its size.
local uv = require "luv"
local task = require "parley.base.task"
local keys = require "parley.testing.stand_in.keys"

local M = {}

--- A write of at least so many plain bytes is waited for to its end: the kernel hands it over in pieces.
local LONG_WRITE, GATHER_MS = 800, 15

---@class parley.testing.Input
---@field is_closed boolean  nothing more will come
local Input = {}
Input.__index = Input

--- Takes the terminal over.
---@param options {on_resize: fun(), ignores_hangup?: boolean}
---@return parley.testing.Input? input
---@return string? problem
function M.open(options)
  if uv.guess_handle(0) ~= "tty" then return nil, "standard input is not a terminal" end
  local self = setmetatable({ chunks = {}, arrived = task.condition() }, Input)
  self.terminal = assert(uv.new_tty(0, true))
  self.terminal:set_mode(1)
  self.ignores_hangup = options.ignores_hangup
  self:start()
  self.resized = uv.new_signal()
  self.resized:start("sigwinch", options.on_resize)
  return self
end

--- Reads what is written to the terminal.
function Input:start()
  self.terminal:read_start(function(_, bytes)
    if bytes then
      table.insert(self.chunks, bytes)
    else
      self.is_closed = not self.ignores_hangup
      self.terminal:read_stop()
    end
    self.arrived:notify()
  end)
end

--- Stops reading: what is written to the terminal stays there until it is full.
function Input:stop() self.terminal:read_stop() end

---@return integer rows
---@return integer columns
function Input:size()
  local columns, rows = self.terminal:get_winsize()
  return (rows or 0) > 0 and rows or 24, (columns or 0) > 0 and columns or 80
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
  if self.terminal:is_closing() then return end
  self.terminal:set_mode(0)
  self.terminal:close()
  self.resized:close()
end

return M
