--- The status file that 2.1.110 and later keep for each process: watched, read at every change.
local clock = require "parley.base.clock"
local core = require "parley.core"
local files = require "parley.base.files"
local kernel = require "parley.claude.kernel"
local paths = require "parley.claude.paths"

local M = {}

--- What is no JSON for longer is no write that goes on: the program writes none where it cannot read its own (2.1.332).
local TORN_MS = 1000

---@class parley.Status
local Status = {}
Status.__index = Status
Status.__name = "parley.Status"

--- Finds the program where it is not the process that was started, but one that this has started: of a wrapper.
---@param pid integer       of the wrapper
---@param environment table<string, string>  the program's
---@param session_id string  of the session that runs in it
---@return integer? pid  of the program; nil where none has written that it is
---@return string? path  of its status file
function M.find(pid, environment, session_id)
  for _, one in ipairs(kernel.descendants { pid }) do
    local path = paths.status_file(one.pid, environment)
    local value = core.json.decode(files.read(path) or "")
    if type(value) == "table" and value.sessionId == session_id then return one.pid, path end
  end
end

--- Watches the status file of a process that has only just begun: what is there now was left by another one of its
--- number.
---@param path string
---@param on_change fun()
---@param is_its_own? boolean  what is there now is the process's
---@return parley.Status
function M.watch(path, on_change, is_its_own)
  local folder, name = path:match "^(.*)/([^/]+)$"
  files.make_folder(folder)
  local text = not is_its_own and files.read(path) or nil
  local self = setmetatable({ path = path, on_change = on_change, text = text }, Status)
  self.handle = kernel.new_watch()
  local ok = self.handle:start(folder, {}, function(_, changed)
    if changed == nil or changed == name then self:read() end
  end)
  if not ok then -- no inotify watch to be had: look often enough for a person
    self.handle:close()
    self.handle = clock.every(250, function() self:read() end)
  end
  self:read()
  return self
end

--- Whether what was believed before holds: the file is caught in the middle of a write.
local function is_torn(self, is_new)
  if is_new or not self.torn_at then self.torn_at = clock.now() end
  return self.value == nil or clock.now() < self.torn_at + TORN_MS
end

--- Reads the file again.
function Status:read()
  local text = files.read(self.path)
  local is_new = text ~= self.text
  if not (is_new or self.torn_at) then return end
  self.text = text
  local value = text and core.json.decode(text)
  if text and type(value) ~= "table" then
    if is_torn(self, is_new) then return end
    value = nil
  else
    self.torn_at = nil
  end
  if value and type(value.version) ~= "string" then value.version = nil end -- `null` says as much
  self.value = value
  self.on_change()
end

function Status:close()
  if self.handle then self.handle:close() end
  self.handle = nil
end

return M
