--- Who has a session, in words: a process is told from a later one of the same id by when it started. The lock tells
--- whether it has it still; this says who that is.
local uv = require "luv"
local descendants = require "parley.base.descendants"
local files = require "parley.base.files"

local M = {}

---@class parley.sleep.Process
---@field pid integer
---@field started string    see `parley.core.Process`
---@field boot string       which start of the machine that is counted from
---@field namespace string  where the id means that process: containers have their own

--- This process.
---@return parley.sleep.Process
function M.this()
  local pid = uv.os_getpid()
  return {
    pid = pid, started = descendants.started(pid) or "",
    boot = (files.read "/proc/sys/kernel/random/boot_id" or ""):match "%S*",
    namespace = uv.fs_readlink "/proc/self/ns/pid" or "",
  }
end

--- Whether a process lives, as far as it can be seen from here.
---@param process parley.sleep.Process
---@param this parley.sleep.Process
---@return boolean? lives  nil: it is one of another container
function M.lives(process, this)
  if process.boot ~= this.boot then return false end
  if process.namespace ~= this.namespace then return nil end
  return descendants.started(process.pid) == process.started
end

return M
