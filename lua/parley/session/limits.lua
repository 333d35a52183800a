--- How much a turn may use, and all turns of a backend together: tool calls, tokens that the model writes, US
--- dollars. A limit that is reached ends the turn that runs, as ESC would. A call is known before it runs where the
--- program calls back; tokens and cost are known when a message is complete, so that one message may pass a limit on
--- them.
local errors = require "parley.base.errors"

local M = {}

local function at_least(least)
  return function(value) return value < least and "at least " .. least or nil end
end

local function is_over_zero(value) return (value ~= value or value <= 0) and "more than 0" or nil end

local CALLS = { type = "integer", check = at_least(0) }
local TOKENS = { type = "integer", check = at_least(1) }
local COST = { type = "number", check = is_over_zero }

--- Options of a session: of each turn, and, with `total`, of all of them. A backend's sessions share the latter.
---@type table<string, parley.OptionRule>
M.rules = { costs = { type = "boolean", default = false }, max_tool_calls = CALLS, max_output_tokens = TOKENS,
  max_cost_usd = COST, max_total_tool_calls = CALLS, max_total_output_tokens = TOKENS, max_total_cost_usd = COST }

--- Those that one request cannot have for itself.
M.TOTALS = { max_total_tool_calls = true, max_total_output_tokens = true, max_total_cost_usd = true }

--- What a session that is started under a limit has and another has not: the program calls it, or tells what it costs.
--- How high the limit is, is no matter; one on tokens needs nothing.
M.STARTED_FOR = { max_tool_calls = true, max_cost_usd = true, max_output_tokens = false }

local KINDS = {
  { field = "tool_calls", turn = "max_tool_calls", total = "max_total_tool_calls", text = "%d" },
  { field = "output_tokens", turn = "max_output_tokens", total = "max_total_output_tokens", text = "%d" },
  { field = "cost_usd", turn = "max_cost_usd", total = "max_total_cost_usd", text = "%.6g" },
}

---@class parley.Spent
---@field tool_calls integer
---@field output_tokens integer
---@field cost_usd number

---@class parley.LimitReached
---@field name string     `"max_tool_calls"`, …
---@field message string

---@class parley.Limits
---@field package set table         the options of the turn that runs
---@field package used parley.Spent  since the last turn ended
---@field package spent parley.Spent  by all who share it
---@field package calls table<string, true>  that were counted, by id
---@field package cost number       of the session that was counted
local Limits = {}
Limits.__index = Limits
Limits.__name = "parley.Limits"

--- What was used when nothing was.
---@return parley.Spent
function M.nothing() return { tool_calls = 0, output_tokens = 0, cost_usd = 0 } end

--- Whether these options need to know what the program's requests cost.
---@param set table
---@return boolean
function M.need_costs(set)
  return set.costs or set.max_cost_usd ~= nil or set.max_total_cost_usd ~= nil
end

--- Whether these options need to know of a tool call before it runs.
---@param set table
---@return boolean
function M.need_calls(set) return (set.max_tool_calls or set.max_total_tool_calls) ~= nil end

--- Makes the limits of a session.
---@param set table  see `M.rules`
---@return parley.Limits
function M.new(set)
  return setmetatable({ set = set, used = M.nothing(), spent = M.nothing(), calls = {}, cost = 0 }, Limits)
end

--- Holds for the next turn.
---@param set table
---@param spent parley.Spent  by all who share the limits of a backend; what this session uses is added
function Limits:use(set, spent) self.set, self.spent = set, spent end

--- Whether a limit on the cost holds.
---@return boolean
function Limits:is_on_cost() return (self.set.max_cost_usd or self.set.max_total_cost_usd) ~= nil end

local function add(self, field, count)
  self.used[field] = self.used[field] + count
  self.spent[field] = self.spent[field] + count
end

--- Counts a call, once, whoever tells of it.
---@param id string
function Limits:count_call(id)
  if self.calls[id] then return end
  self.calls[id] = true
  add(self, "tool_calls", 1)
end

--- Takes in what the turn's messages have used up to now.
---@param tokens integer
function Limits:count_tokens(tokens) add(self, "output_tokens", tokens - self.used.output_tokens) end

--- Takes in what the session has cost up to now.
---@param total number
function Limits:count_cost(total)
  add(self, "cost_usd", total - self.cost)
  self.cost = total
end

--- A call that would be one too many is; tokens and money are used up when nothing is left.
local function is_reached(kind, used, limit)
  if not limit then return false end
  return used > limit or used == limit and kind.field ~= "tool_calls"
end

local function reached(kind, name, set, used)
  if not is_reached(kind, used[kind.field], set[name]) then return nil end
  return { name = name, message = ("%s (%s) is reached"):format(name, kind.text:format(set[name])) }
end

--- The limit that is reached.
---@return parley.LimitReached?
function Limits:reached()
  for _, kind in ipairs(KINDS) do
    local found = reached(kind, kind.turn, self.set, self.used) or reached(kind, kind.total, self.set, self.spent)
    if found then return found end
  end
end

--- Raises `SessionError` (reason `"limit"`) where a limit for all turns is reached.
function Limits:check() M.check(self.set, self.spent) end

--- Ends a turn: the next one is counted anew.
function Limits:end_turn() self.used, self.calls = M.nothing(), {} end

--- Refuses a turn where a limit for all of them is reached.
---@param set table
---@param spent parley.Spent
--- Raises `SessionError` (reason `"limit"`).
function M.check(set, spent)
  for _, kind in ipairs(KINDS) do
    local found = reached(kind, kind.total, set, spent)
    if found then
      error(errors.session_error(found.message .. ": nothing more is sent", { reason = "limit",
        limit = found.name }), 0)
    end
  end
end

return M
