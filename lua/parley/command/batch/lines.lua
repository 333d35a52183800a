--- A file or a stream line by line, in the memory of one line. A pipe that is slow to deliver keeps nobody waiting.
local uv = require "luv"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local task = require "parley.base.task"

local M = {}

local CHUNK = 1 << 16

---@class parley.batch.Lines
---@field number integer   of the line that `next` returned last, counting from 1
---@field offset integer   bytes up to the end of that line
local Lines = {}
Lines.__index = Lines
Lines.__name = "parley.batch.Lines"

local function check(result, problem, name)
  if result == nil then error(errors.value_error(("cannot read '%s': %s"):format(name, files.reason(problem))), 0) end
  return result
end

--- For files, where reading never waits for long.
local function file_chunks(descriptor, name)
  return function()
    local bytes, problem = uv.fs_read(descriptor, CHUNK, -1)
    check(bytes, problem, name)
    return bytes ~= "" and bytes or nil
  end
end

--- Asks the loop for one chunk at a time, so that a fast writer waits for us.
local function stream_chunks(handle, name)
  return function()
    local problem, bytes = task.suspend(function(wake)
      handle:read_start(function(...)
        handle:read_stop()
        wake(...)
      end)
      return function() handle:read_stop() end
    end)
    if problem then check(nil, problem, name) end
    return bytes
  end
end

local function open_stream(descriptor, kind)
  if kind == "tty" then return assert(uv.new_tty(descriptor, true)) end
  local handle = kind == "pipe" and uv.new_pipe(false) or uv.new_tcp()
  assert(handle:open(descriptor))
  return handle
end

--- Opens a file, or standard input for `-`.
---@param path string
---@return parley.batch.Lines
--- Raises `ValueError` when it cannot be opened; `next` raises it when it cannot be read.
function M.open(path)
  local name = path == "-" and "standard input" or path
  local descriptor = 0
  if path ~= "-" then
    local opened, problem = uv.fs_open(path, "r", 0)
    descriptor = check(opened, problem, name)
  end
  if uv.fs_fstat(descriptor).type == "directory" then
    uv.fs_close(descriptor)
    check(nil, "it is a folder", name)
  end
  local kind = uv.guess_handle(descriptor)
  if kind == "pipe" or kind == "tty" or kind == "tcp" then
    local handle = open_stream(descriptor, kind)
    return M.new(stream_chunks(handle, name), function()
      if kind ~= "tty" then handle:set_blocking(true) end -- as it was, for who reads it next
      handle:close()
    end)
  end
  return M.new(file_chunks(descriptor, name), function()
    if descriptor > 0 then uv.fs_close(descriptor) end
  end)
end

--- Reads a descriptor of a regular file from where it stands; it stays the caller's.
---@param descriptor integer
---@param name string  for messages
---@return parley.batch.Lines
function M.of_descriptor(descriptor, name) return M.new(file_chunks(descriptor, name)) end

--- Cuts chunks into lines.
---@param next_chunk fun(): string?
---@param close? fun()
---@return parley.batch.Lines
function M.new(next_chunk, close)
  return setmetatable({ next_chunk = next_chunk, close_source = close, buffer = "", position = 1, number = 0,
    offset = 0 }, Lines)
end

local function finish(self, pieces, has_break)
  local line = table.concat(pieces)
  self.number = self.number + 1
  self.offset = self.offset + #line + (has_break and 1 or 0)
  if self.number == 1 then line = line:gsub("^\xEF\xBB\xBF", "") end -- a mark of UTF-8 that some editors write
  return line, has_break
end

--- The next line, without its line feed, and of the first one without a byte order mark.
---@return string? line       nil at the end
---@return boolean has_break  false for a last line that no line feed ends
function Lines:next()
  local pieces = {}
  while self.buffer do
    local stop = self.buffer:find("\n", self.position, true)
    table.insert(pieces, self.buffer:sub(self.position, (stop or 0) - 1))
    if stop then
      self.position = stop + 1
      return finish(self, pieces, true)
    end
    self.buffer, self.position = self.next_chunk(), 1
  end
  if table.concat(pieces) == "" then return nil, false end
  return finish(self, pieces, false)
end

function Lines:close()
  if self.close_source then self.close_source() end
  self.close_source = nil
end

Lines.__close = Lines.close

--- Counts the lines of a regular file that are not blank.
---@param path string
---@return integer? count  nil for what can be read only once
function M.count(path)
  local stat = path ~= "-" and uv.fs_stat(path)
  if not stat or stat.type ~= "file" then return nil end
  local lines <close> = M.open(path)
  local count = 0
  for line in function() return (lines:next()) end do
    if line:find "%S" then count = count + 1 end
  end
  return count
end

return M
