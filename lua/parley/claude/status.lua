--- The status file that 2.1.110 and later keep for each process: watched, read at every change.
local clock = require "parley.base.clock"
local core = require "parley.core"
local files = require "parley.base.files"
local kernel = require "parley.claude.kernel"

local M = {}

---@class parley.Status
local Status = {}
Status.__index = Status
Status.__name = "parley.Status"

--- Watches the status file of a process that has only just begun: what is there now was left by another one of its
--- number.
---@param path string
---@param on_change fun()
---@return parley.Status
function M.watch(path, on_change)
  local folder, name = path:match "^(.*)/([^/]+)$"
  files.make_folder(folder)
  local self = setmetatable({ path = path, on_change = on_change, text = files.read(path) }, Status)
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

--- Reads the file again.
function Status:read()
  local text = files.read(self.path)
  if text == self.text then return end
  self.text = text
  local value = text and core.json.decode(text)
  if text and type(value) ~= "table" then return end -- caught in the middle of a write: the next event brings the rest
  if value and type(value.version) ~= "string" then value.version = nil end -- `null` says as much
  self.value = value
  self.on_change()
end

function Status:close()
  if self.handle then self.handle:close() end
  self.handle = nil
end

return M
