--- Standard output: everything that a command prints goes through here, so that nothing is lost without a word.
---
--- A reader that has gone (`parley sessions | head`) is nobody's mistake: the command ends there without a message,
--- with the status that SIGPIPE gives other programs. An output that is closed or full is an error.
local uv = require "luv"
local errors = require "parley.base.errors"

local M = {}

local EPIPE_STATUS = 141 -- 128 and the number of SIGPIPE
--- How often to try again where whoever shares the descriptor has made it one that does not wait.
local AGAIN_MS = 10

--- An error of standard output.
---@param code string     the system's
---@param problem string  its text
---@return parley.Error
function M.error(code, problem)
  -- The host has put something that cannot be written in the place of a descriptor that was closed.
  local why = code == "EBADF" and "it is closed" or problem:gsub("^%u+: ", "")
  return errors.new(code, "cannot write to standard output: " .. why, { stream = "stdout" })
end

--- Writes, at once.
---@param ... string
--- Raises an error with the system's code.
function M.write(...)
  io.stdout:flush() -- what was printed before comes before
  local bytes, offset = table.concat { ... }, 0
  while offset < #bytes do
    local written, problem, code = uv.fs_write(1, offset == 0 and bytes or bytes:sub(offset + 1), -1)
    if written then
      offset = offset + written
    elseif code == "EAGAIN" then
      uv.sleep(AGAIN_MS)
    else
      error(M.error(code, problem), 0)
    end
  end
end

--- The exit status of an error that nobody needs to be told of: the reader of standard output has gone.
---@param err any
---@return integer? status  nil for other errors
function M.quiet_status(err)
  return errors.is(err, "EPIPE") and err.stream == "stdout" and EPIPE_STATUS or nil
end

return M
