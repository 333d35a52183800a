--- The folder of what outlives a process: `$XDG_STATE_HOME/parley`, else `~/.local/state/parley`; nobody else's.
local uv = require "luv"
local errors = require "parley.base.errors"
local files = require "parley.base.files"

local M = {}

--- Where it is.
---@param environment? table<string, string>  default: this process'
---@return string path
function M.path(environment)
  environment = environment or uv.os_environ()
  local state = environment.XDG_STATE_HOME or ""
  if state:sub(1, 1) ~= "/" then state = (environment.HOME or uv.os_homedir()) .. "/.local/state" end
  return state .. "/parley"
end

local REASONS = { EROFS = "read_only", EACCES = "read_only", ENOSPC = "full", EDQUOT = "full" }

local function fail(reason, message) error(errors.state_error(message, { reason = reason }), 0) end

--- Sees to it that a folder, where there is one, is the user's alone.
---@param path string
--- Raises `StateError`.
function M.check(path)
  local stat, user = uv.fs_stat(path), uv.getuid()
  if not stat then return end
  if stat.type ~= "directory" then
    fail("folder", ("no state can be kept: '%s' is a %s"):format(path, stat.type))
  elseif stat.uid ~= user then
    fail("folder", ("the state folder '%s' belongs to user %d, not to this one, %d: name another in XDG_STATE_HOME")
      :format(path, stat.uid, user))
  elseif stat.mode & 63 ~= 0 then -- 077
    fail("folder", ("others can reach into the state folder '%s' (mode %o): chmod 700 '%s'"):format(path,
      stat.mode & 511, path))
  end
end

--- Makes a folder where there is none, and checks it.
---@param path string
--- Raises `StateError`.
function M.make(path)
  local ok, err = files.make_folder(path)
  if not ok then fail(REASONS[err.code] or "folder", "no state can be kept: " .. err.message) end
  M.check(path)
end

return M
