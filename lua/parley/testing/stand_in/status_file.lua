--- `CONFIG/sessions/PID.json`, where the version keeps it.
local clock = require "parley.base.clock"
local core = require "parley.core"
local files = require "parley.base.files"

local M = {}

---@class parley.testing.StatusFile
local StatusFile = {}
StatusFile.__index = StatusFile

--- The file of a process.
---@param owner parley.testing.Configuration
---@param profile parley.testing.Profile
---@param pid integer
---@return parley.testing.StatusFile
function M.new(owner, profile, pid)
  return setmetatable({ path = owner:status_path(pid), pid = pid, folder = owner.folder .. "/sessions",
    kind = profile.status_file, cwd = owner.cwd, version = profile.version }, StatusFile)
end

local function now() return math.floor(clock.wall()) end

--- Writes the file, whole where it can be. On a full disk the room of the one that is there must do; where its folder
--- has gone, the program does without.
function StatusFile:write(fields)
  local record = { pid = self.pid, sessionId = self.session_id, cwd = self.cwd, startedAt = self.started_at,
    kind = "interactive", entrypoint = "cli" }
  if self.kind ~= "plain" then record.version = self.version end
  for name, value in pairs(fields) do record[name] = value end
  local text = core.json.encode(record)
  if not pcall(files.write, self.path, text, true) then files.put(self.path, text, "w") end
end

--- Writes the file as it is before the composer is ready: without a status.
---@param session_id string
function StatusFile:create(session_id)
  if self.kind == "none" then return end
  files.make_folder(self.folder)
  self.session_id, self.started_at = session_id, now()
  self:write {}
end

--- Writes a status: not into a file that it cannot read (2.1.110 to 2.1.332).
---@param session_id string
---@param status string
---@param waiting_for? string
function StatusFile:set(session_id, status, waiting_for)
  if self.kind == "none" then return end
  self.session_id = session_id
  local former = files.read(self.path)
  if former and not core.json.decode(former) then return end
  if self.kind ~= "live" then return self:write {} end
  self:write { status = status, waitingFor = waiting_for, updatedAt = now(), statusUpdatedAt = now() }
end

function StatusFile:remove() files.remove(self.path) end

return M
