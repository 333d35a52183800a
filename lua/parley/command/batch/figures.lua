--- What a report tells of a batch's results, gathered one at a time. Of several results about one conversation the last
--- one counts; what is kept of one is some numbers, and of one that failed its error.
local core = require "parley.core"

local M = {}

---@class parley.batch.Entry  one conversation
---@field id string|integer|nil
---@field line integer
---@field error? table       of one that has failed: `code`, `message`, `reason`, `turn`, `screen`
---@field attempts integer
---@field duration_ms? number
---@field turn_ms number[]
---@field sent integer       tokens that went to the model, cached ones included
---@field received integer   tokens that came from it
---@field cost_usd? number   where the results tell it
---@field last_said? string  of one that has failed: the last text of the user's

---@class parley.batch.Figures
---@field entries parley.batch.Entry[]  in the order in which they were finished
---@field failed parley.batch.Entry[]
---@field codes {code: string, count: integer}[]  of the failed ones, the most frequent first
---@field sent integer
---@field received integer
---@field cost_usd? number
---@field began? string   the earliest time at which one was started
local Figures = {}
Figures.__index = Figures

local SENT = { "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens" }

local MOST = 2 ^ 53

local function number_of(value) return type(value) == "number" and math.abs(value) < MOST and value or nil end

local function table_of(value) return type(value) == "table" and value or {} end

local function numbers_of(list)
  local numbers = {}
  for _, value in ipairs(table_of(list)) do table.insert(numbers, number_of(value)) end
  return numbers
end

--- The text of the last message of the user's that is one.
local function last_said(messages)
  messages = table_of(messages)
  for i = #messages, 1, -1 do
    local message = table_of(messages[i])
    local content = message.role == "user" and message.content
    if type(content) == "string" then return content end
    for _, block in ipairs(table_of(content)) do
      if table_of(block).type == "text" and type(block.text) == "string" then return block.text end
    end
  end
end

local function error_of(given)
  local err = {}
  for _, name in ipairs { "code", "message", "reason", "turn", "screen" } do
    local value = table_of(given)[name]
    if value ~= nil and value ~= core.json.null then err[name] = tostring(value) end
  end
  err.code = err.code or "unknown"
  return err
end

local function entry_of(result)
  local usage, sent = table_of(result.usage), 0
  for _, name in ipairs(SENT) do sent = sent + (number_of(usage[name]) or 0) end
  local has_failed = result.verdict == "failed"
  return {
    id = result.id ~= core.json.null and result.id or nil, line = result.line,
    error = has_failed and error_of(result.error) or nil, last_said = has_failed and last_said(result.messages) or nil,
    attempts = number_of(result.attempts) or 0, duration_ms = number_of(result.duration_ms),
    turn_ms = numbers_of(result.turn_ms), sent = sent, received = number_of(usage.output_tokens) or 0,
    cost_usd = number_of(result.cost_usd) or number_of(table_of(result.result).cost_usd),
    began = type(result.started_at) == "string" and result.started_at or nil,
  }
end

--- Takes the results in.
---@param results fun(): table?  for the generic `for`, as they stand in the output
---@return parley.batch.Figures
function M.of(results)
  local by_name, order = {}, 0
  for result in results do
    local entry = entry_of(result)
    order = order + 1
    entry.order = order
    by_name[entry.id ~= nil and "id " .. tostring(entry.id) or "line " .. entry.line] = entry
  end
  local self = setmetatable({ entries = {}, failed = {}, codes = {}, sent = 0, received = 0 }, Figures)
  for _, entry in pairs(by_name) do table.insert(self.entries, entry) end
  table.sort(self.entries, function(one, other) return one.order < other.order end)
  local counts = {}
  for _, entry in ipairs(self.entries) do
    self.sent, self.received = self.sent + entry.sent, self.received + entry.received
    if entry.cost_usd then self.cost_usd = (self.cost_usd or 0) + entry.cost_usd end
    if entry.began and (not self.began or entry.began < self.began) then self.began = entry.began end
    if entry.error then
      table.insert(self.failed, entry)
      counts[entry.error.code] = (counts[entry.error.code] or 0) + 1
    end
  end
  for code, count in pairs(counts) do table.insert(self.codes, { code = code, count = count }) end
  table.sort(self.codes, function(one, other)
    return one.count > other.count or one.count == other.count and one.code < other.code
  end)
  return self
end

--- A number of each conversation that has one, sorted.
---@param name "duration_ms"|"sent"|"received"|"cost_usd"
---@return number[]
function Figures:each(name)
  local values = {}
  for _, entry in ipairs(self.entries) do table.insert(values, entry.attempts > 0 and entry[name] or nil) end
  table.sort(values)
  return values
end

--- How long every turn took, sorted.
---@return number[]
function Figures:turns()
  local values = {}
  for _, entry in ipairs(self.entries) do table.move(entry.turn_ms, 1, #entry.turn_ms, #values + 1, values) end
  table.sort(values)
  return values
end

return M
