--- Who has a session open: the program says so in files of its own (2.1.110 and later), which may outlive it.
local core = require "parley.core"
local descendants = require "parley.base.descendants"
local files = require "parley.base.files"
local mark = require "parley.base.mark"
local paths = require "parley.claude.paths"
local task = require "parley.base.task"

local M = {}

--- The process that has a session open, ours or a person's.
---@param id string  of the session
---@param environment table<string, string>  of programs that would go on with it
---@return integer? pid
function M.of(id, environment)
  local folder = paths.config_folder(environment) .. "/sessions"
  for _, name in ipairs(files.names(folder)) do
    local pid = math.tointeger(tonumber(name:match "^(%d+)%.json$"))
    local text = pid and files.read(folder .. "/" .. name) or ""
    local status = text:find(id, 1, true) and core.json.decode(text) -- they may be many, and are others' for the most
    if type(status) == "table" and status.sessionId == id and descendants.started(pid) then return pid end
  end
end

--- A program whose host was killed a moment ago is about to end: so long it is waited for, and so often looked.
local ENDING_MS, LOOK_MS = 5000, 20

--- Whether a process may be about to end: a host like this one has started it, or the kernel has taken its memory away
--- already, and it has no environment any more (Linux 6.18: /proc/PID/environ is empty or cannot be opened, 100 ms long
--- for 1.5 GB, while /proc/PID/stat tells of one that runs).
local function may_be_ending(pid)
  local environment = files.read(("/proc/%d/environ"):format(pid)) or ""
  return environment == "" or ("\0" .. environment):find("\0" .. mark.VARIABLE .. "=", 1, true) ~= nil
end

--- The same, once those have ended that are about to.
---@param id string
---@param environment table<string, string>
---@return integer? pid
function M.settled(id, environment)
  local pid, deadline = M.of(id, environment), task.now() + ENDING_MS
  while pid and may_be_ending(pid) and task.now() < deadline do
    task.sleep(LOOK_MS)
    pid = M.of(id, environment)
  end
  return pid
end

return M
