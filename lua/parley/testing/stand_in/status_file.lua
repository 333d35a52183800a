--- `CONFIG/sessions/PID.json`, where the version keeps it.
local uv = require "luv"
local core = require "parley.core"
local configuration = require "parley.testing.stand_in.configuration"

local M = {}

---@class parley.testing.StatusFile
local StatusFile = {}
StatusFile.__index = StatusFile

--- The file of a process.
---@param owner parley.testing.Configuration
---@param profile parley.testing.Profile
---@param pid? integer  default: this process
---@return parley.testing.StatusFile
function M.new(owner, profile, pid)
  pid = math.tointeger(pid or uv.os_getpid())
  return setmetatable({ path = owner:status_path(pid), pid = pid, folder = owner.folder .. "/sessions",
    kind = profile.status_file, cwd = owner.cwd, version = profile.version }, StatusFile)
end

local function now()
  local seconds, microseconds = uv.gettimeofday()
  return seconds * 1000 + microseconds // 1000
end

--- Writes the file, whole or not at all. The program does without when it cannot, and makes no folder a second time.
function StatusFile:write(fields)
  local record = { pid = self.pid, sessionId = self.session_id, cwd = self.cwd, startedAt = self.started_at,
    kind = "interactive", entrypoint = "cli" }
  if self.kind == "live" then record.version = self.version end
  for name, value in pairs(fields) do record[name] = value end
  local file = io.open(self.path .. ".tmp", "wb")
  if not file then return end
  local is_written = file:write(core.json.encode(record))
  is_written = file:close() and is_written
  if is_written then os.rename(self.path .. ".tmp", self.path) else os.remove(self.path .. ".tmp") end
end

--- Writes the file as it is before the composer is ready: without a status.
---@param session_id string
function StatusFile:create(session_id)
  if self.kind == "none" then return end
  configuration.make_folders(self.folder)
  self.session_id, self.started_at = session_id, now()
  self:write {}
end

--- Writes a status.
---@param session_id string
---@param status string
---@param waiting_for? string
function StatusFile:set(session_id, status, waiting_for)
  if self.kind == "none" then return end
  self.session_id = session_id
  if self.kind == "plain" then return self:write {} end
  self:write { status = status, waitingFor = waiting_for, updatedAt = now(), statusUpdatedAt = now() }
end

function StatusFile:remove() os.remove(self.path) end

return M
