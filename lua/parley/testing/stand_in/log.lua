--- The log of a stand-in: what it received and what it took, one JSON object a line, for specs to compare.
local core = require "parley.core"
local descendants = require "parley.base.descendants"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local options = require "parley.base.options"
local suggest = require "parley.base.suggest"

local M = {}

local EVENTS = { "started", "ready", "received", "taken", "command", "deaf", "ended" }
local TOLD = { "asked", "answered", "returned" }

---@class parley.testing.Log
local Log = {}
Log.__index = Log

--- A log.
---@param path? string  nil for none
---@param pid integer  of the process whose events they are
---@param note? fun(record: table)  gets the events instead
---@return parley.testing.Log
function M.new(path, pid, note) return setmetatable({ path = path, pid = pid, note = note }, Log) end

--- Adds an event. Raw bytes must be given as `hex`, as JSON has no bytes.
---@param event "started"|"ready"|"received"|"taken"|"command"|"deaf"|"ended"
---@param fields table
function Log:add(event, fields)
  if not self.path and not self.note then return end
  local record = { event = event, pid = self.pid }
  for name, value in pairs(fields) do record[name] = value end
  if self.note then return self.note(record) end
  if event == "started" then record.born = descendants.started(self.pid) end -- its id may be another's one day
  assert(files.put(self.path, core.json.encode(record) .. "\n", "a"))
end

--- Tells of what only a world wants to know.
---@param event "asked"|"answered"|"returned"
---@param fields table
function Log:tell(event, fields)
  if self.note then self:add(event, fields) end
end

---@param bytes string
function Log:received(bytes)
  if self.note then return self:add("received", { bytes = bytes }) end
  if not self.path then return end
  self:add("received", { hex = bytes:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end) })
end

--- The events in a log file.
---@param path string
---@return table[] events  with `bytes` for `hex`
function M.read(path)
  local events = {}
  for line in (files.read(path) or ""):gmatch "[^\n]+" do
    local event = core.json.decode(line)
    if type(event) == "table" then
      event.bytes = event.hex and event.hex:gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end)
      table.insert(events, event)
    end
  end
  return events
end

--- The events of a kind.
---@param events table[]
---@param kind? string     nil for all
---@param where string     who asks, for the message
---@param is_told? boolean  of a world, which is told more
---@return table[]
--- Raises `ValueError` for a kind that there is not.
function M.select(events, kind, where, is_told)
  local known = table.move(EVENTS, 1, #EVENTS, 1, {})
  if is_told then table.move(TOLD, 1, #TOLD, #known + 1, known) end
  local expected = kind ~= nil and options.one_of(known)(kind)
  if expected then
    error(errors.value_error(("%s takes %s, not %s%s"):format(where, expected, options.describe(kind),
      suggest.near(tostring(kind), known))), 0)
  end
  local found = {}
  for _, record in ipairs(events) do
    if not kind or record.event == kind then table.insert(found, record) end
  end
  return found
end

return M
