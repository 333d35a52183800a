--- A line for each request: who, what, how it ended, how long it took. Nothing of what was said.
local clock = require "parley.base.clock"
local core = require "parley.core"

local M = {}

---@class parley.gateway.LogEntry
---@field id string
---@field method string
---@field path string
---@field status integer
---@field ms number
---@field token? string         its name
---@field conversation? string  the header
---@field session? string
---@field attached? boolean     to the turn of an earlier request
---@field error? string

local ORDER = { "token", "conversation", "session", "attached", "error" }

--- What a client chose stands in one line, and in letters that a terminal shows.
local function shown(value)
  local text = tostring(value):gsub("[%c\x7f-\xff]", "?")
  return text:find "[%s\"]" and ("%q"):format(text) or text
end

--- A line.
---@param entry parley.gateway.LogEntry
---@param is_json boolean
---@return string
function M.line(entry, is_json)
  local at = clock.timestamp()
  if is_json then
    local copy = { time = at }
    for name, value in pairs(entry) do copy[name] = value end
    copy.ms = math.floor(entry.ms + 0.5)
    return assert(core.json.encode(copy, { sort_keys = true })) .. "\n"
  end
  local parts = { at, entry.method, shown(entry.path), entry.status, ("%.0f ms"):format(entry.ms), entry.id }
  for _, name in ipairs(ORDER) do
    if entry[name] then table.insert(parts, ("%s=%s"):format(name, shown(entry[name]))) end
  end
  return table.concat(parts, " ") .. "\n"
end

return M
