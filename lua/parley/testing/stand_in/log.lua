--- The log of a stand-in: what it received and what it took, one JSON object a line, for specs to compare.
local uv = require "luv"
local core = require "parley.core"

local M = {}

---@class parley.testing.Log
local Log = {}
Log.__index = Log

--- A log.
---@param path? string  nil for none
---@return parley.testing.Log
function M.new(path) return setmetatable({ path = path, pid = math.tointeger(uv.os_getpid()) }, Log) end

--- Adds an event. Raw bytes must be given as `hex`, as JSON has no bytes.
---@param event "started"|"ready"|"received"|"taken"|"command"|"ended"
---@param fields table
function Log:add(event, fields)
  if not self.path then return end
  local record = { event = event, pid = self.pid }
  for name, value in pairs(fields) do record[name] = value end
  local file = assert(io.open(self.path, "ab"))
  file:write(core.json.encode(record), "\n")
  file:close()
end

---@param bytes string
function Log:received(bytes)
  if not self.path then return end
  self:add("received", { hex = bytes:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end) })
end

--- The events in a log file.
---@param path string
---@return table[] events  with `bytes` for `hex`
function M.read(path)
  local events = {}
  local file = io.open(path, "rb")
  if not file then return events end
  for line in file:lines() do
    local event = core.json.decode(line)
    if type(event) == "table" then
      event.bytes = event.hex and event.hex:gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end)
      table.insert(events, event)
    end
  end
  file:close()
  return events
end

return M
