--- Bytes from standard input on the loop, whatever it is: a terminal, a pipe, a file.
local uv = require "luv"
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

---@class parley.Stdin
---@field package handle? userdata
local Stdin = {}
Stdin.__index = Stdin

--- A file is always ready, so the loop cannot wait for it: it is read piece by piece in libuv's threads.
local function read_file(self, on_bytes)
  if self.is_closed then return end
  uv.fs_read(0, 65536, -1, function(problem, bytes)
    if self.is_closed then return end
    local is_over = problem ~= nil or bytes == nil or bytes == ""
    on_bytes(not is_over and bytes or nil, problem)
    if not is_over then read_file(self, on_bytes) end
  end)
end

--- Opens standard input.
---@param on_bytes fun(bytes: string?, problem: string?)  no bytes at the end, which may be a problem
---@return parley.Stdin
--- Raises `ValueError` when standard input is closed or of a kind that cannot be read.
function M.open(on_bytes)
  local self = setmetatable({}, Stdin)
  local kind = uv.guess_handle(0)
  if kind == "file" then
    read_file(self, on_bytes)
    return self
  end
  if kind == "tty" then
    self.handle = uv.new_tty(0, true)
    self.is_terminal = true
  elseif kind == "pipe" then
    self.handle = uv.new_pipe(false)
    self.handle:open(0)
  elseif kind == "tcp" then
    self.handle = uv.new_tcp()
    self.handle:open(0)
  end
  if not self.handle then error(errors.value_error "standard input cannot be read", 0) end
  self.on_read = function(problem, bytes) on_bytes(bytes, problem) end
  self:resume()
  return self
end

--- Leaves a terminal's or a pipe's bytes to somebody else.
function Stdin:pause()
  if self.handle then self.handle:read_stop() end
end

--- Reads again.
function Stdin:resume()
  if self.handle and not self.is_closed then self.handle:read_start(self.on_read) end
end

--- Reads to the end. Returns nil when nothing has come for so long.
local function read_all(first_ms)
  local changed, received, is_over, problem = task.condition(), {}, false, nil
  local _ <close> = M.open(function(bytes, failed)
    if bytes then table.insert(received, bytes) else is_over, problem = true, failed end
    changed:notify()
  end)
  while not is_over do
    local has_come = changed:wait(not received[1] and first_ms or nil)
    if not has_come then return nil end
  end
  return table.concat(received), problem
end

--- Waits for the end of standard input.
---@return string bytes  all of it
--- Raises `ValueError` when it cannot be read.
function M.read()
  local text, problem = read_all()
  if problem then error(errors.value_error("cannot read standard input: " .. problem), 0) end
  return text
end

--- What is piped in beside something that does for itself: "" for a terminal, and for what cannot be read, as nohup
--- leaves it.
---@param first_ms number  how long to wait for the first of it: a pipe that nobody writes to or closes is no input
---@return string? text  nil when nothing has come
function M.read_beside(first_ms)
  local kind = uv.guess_handle(0)
  if kind ~= "file" and kind ~= "pipe" and kind ~= "tcp" then return "" end
  local text, problem = read_all(first_ms)
  if problem and text ~= "" then error(errors.value_error("cannot read standard input: " .. problem), 0) end
  return text
end

--- How many columns the terminal has.
---@return integer columns  80 when that is not known
function Stdin:columns()
  local columns = self.is_terminal and self.handle:get_winsize()
  return columns and columns > 0 and columns or 80
end

--- How many rows and columns the terminal has.
---@return integer rows     24 when that is not known
---@return integer columns
function Stdin:size()
  local columns, rows
  if self.is_terminal then columns, rows = self.handle:get_winsize() end
  return rows and rows > 0 and rows or 24, columns and columns > 0 and columns or 80
end

--- Has each key of a terminal come as it is, Ctrl-C among them, or as it was before.
---@param is_raw boolean
function Stdin:set_raw(is_raw)
  if self.is_terminal and not self.is_closed then self.handle:set_mode(is_raw and 1 or 0) end
end

function Stdin:close()
  self.is_closed = true
  if not self.handle or self.handle:is_closing() then return end
  if not self.is_terminal then self.handle:set_blocking(true) end -- as it was, for who reads it next
  self.handle:close()
end

Stdin.__close = Stdin.close

return M
