--- Counts, in the format of Prometheus.
local M = {}

local BUCKETS = { 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300 } -- seconds

--- What there is: its kind, and what it is for.
local KNOWN = {
  parley_requests_total = { "counter", "Requests, by path and status." },
  parley_request_seconds = { "histogram", "From a request's head to the end of its answer." },
  parley_turns_total = { "counter", "Turns that have ended, by outcome." },
  parley_turn_seconds = { "histogram", "From the message to the end of the turn." },
  parley_first_text_seconds = { "histogram", "From the request to the first text of its answer." },
  parley_tokens_total = { "counter", "Tokens, by kind." },
  parley_dialogs_total = { "counter", "Dialogs that were answered, by kind." },
  parley_failures_total = { "counter", "Requests and turns that failed, by reason." },
  parley_attached_total = { "counter", "Requests that were given the turn of an earlier one." },
  parley_sessions = { "gauge", "Live sessions, by state." },
  parley_running = { "gauge", "Turns that run, those that wait for a tool's result among them." },
  parley_waiting_for_tools = { "gauge", "Turns that wait for a tool's result." },
  parley_queue = { "gauge", "Turns that wait for a session." },
}

---@class parley.gateway.Metrics
---@field package values table<string, table<string, number>>  by name and labels
local Metrics = {}
Metrics.__index = Metrics
Metrics.__name = "parley.gateway.Metrics"

---@return parley.gateway.Metrics
function M.new() return setmetatable({ values = {}, series = {} }, Metrics) end

local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }
local function escaped(value) return (tostring(value):gsub('[\\"\n]', ESCAPES)) end

local function labelled(labels, more)
  local parts = {}
  for name, value in pairs(labels or {}) do table.insert(parts, ('%s="%s"'):format(name, escaped(value))) end
  table.sort(parts)
  if more then table.insert(parts, more) end
  return #parts > 0 and "{" .. table.concat(parts, ",") .. "}" or ""
end

--- Counts.
---@param name string
---@param labels? table<string, string>
---@param amount? number  default 1
function Metrics:count(name, labels, amount)
  assert(KNOWN[name], name)
  local values, key = self.values[name] or {}, labelled(labels)
  self.values[name] = values
  values[key] = (values[key] or 0) + (amount or 1)
end

--- Notes how long something took.
---@param name string
---@param milliseconds number
function Metrics:observe(name, milliseconds)
  assert(KNOWN[name], name)
  local series = self.series[name] or { sum = 0, count = 0 }
  self.series[name] = series
  local seconds = milliseconds / 1000
  series.sum, series.count = series.sum + seconds, series.count + 1
  for i, bound in ipairs(BUCKETS) do
    if seconds <= bound then series[i] = (series[i] or 0) + 1 end
  end
end

--- The mean of what was observed.
---@param name string
---@return number? milliseconds
function Metrics:mean(name)
  local series = self.series[name]
  return series and series.sum / series.count * 1000 or nil
end

local function number(value) return math.type(value) == "integer" and tostring(value) or ("%.14g"):format(value) end

local function add_values(lines, name, values)
  local keys = {}
  for key in pairs(values) do table.insert(keys, key) end
  table.sort(keys)
  for _, key in ipairs(keys) do table.insert(lines, ("%s%s %s"):format(name, key, number(values[key]))) end
end

local function add_series(lines, name, series)
  for i, bound in ipairs(BUCKETS) do
    table.insert(lines, ('%s_bucket{le="%g"} %d'):format(name, bound, series[i] or 0))
  end
  table.insert(lines, ('%s_bucket{le="+Inf"} %d'):format(name, series.count))
  table.insert(lines, ("%s_sum %s"):format(name, number(series.sum)))
  table.insert(lines, ("%s_count %d"):format(name, series.count))
end

--- All of it.
---@param gauges table<string, table<string, number>|number>  values of now: a number, or numbers by the label `state`
---@return string
function Metrics:text(gauges)
  local names, lines = {}, {}
  for name in pairs(KNOWN) do table.insert(names, name) end
  table.sort(names)
  for _, name in ipairs(names) do
    local kind, help = KNOWN[name][1], KNOWN[name][2]
    table.insert(lines, ("# HELP %s %s"):format(name, help))
    table.insert(lines, ("# TYPE %s %s"):format(name, kind))
    if kind == "histogram" then
      add_series(lines, name, self.series[name] or { sum = 0, count = 0 })
    elseif kind == "counter" then
      add_values(lines, name, self.values[name] or {})
    else
      local given, values = gauges[name] or 0, {}
      for state, value in pairs(type(given) == "table" and given or {}) do
        values[labelled { state = state }] = value
      end
      add_values(lines, name, type(given) == "table" and values or { [""] = given })
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

return M
