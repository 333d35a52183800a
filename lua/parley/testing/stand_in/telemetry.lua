--- What the program tells over OpenTelemetry of its API requests, where its environment says so: in batches, some time
--- after the answer.
local clock = require "parley.base.clock"
local core = require "parley.core"
local task = require "parley.base.task"

local M = {}

local DEFAULT_INTERVAL_MS = 5000
local PRICE_USD = 0.000002 -- of a token, whichever

---@class parley.testing.Telemetry
---@field package outside parley.testing.Outside
---@field package profile parley.testing.Profile
---@field package waiting table[]  attributes of what was not sent yet
---@field package news parley.Condition
---@field package is_on boolean
local Telemetry = {}
Telemetry.__index = Telemetry

--- Telemetry of a program; without the switches in the environment nobody is told anything.
---@param given {outside: parley.testing.Outside, profile: parley.testing.Profile, is_off?: boolean}
---@return parley.testing.Telemetry
function M.new(given)
  local environment = given.outside.environment
  local is_on = environment.CLAUDE_CODE_ENABLE_TELEMETRY == "1" and environment.OTEL_LOGS_EXPORTER == "otlp"
    and environment.OTEL_EXPORTER_OTLP_LOGS_PROTOCOL == "http/json" and not given.is_off
  return setmetatable({ outside = given.outside, profile = given.profile, waiting = {}, news = task.condition(),
    is_on = is_on }, Telemetry)
end

local function attribute(name, value)
  local kind = type(value) == "string" and "stringValue" or math.type(value) == "integer" and "intValue"
    or "doubleValue"
  return { key = name, value = { [kind] = value } }
end

local function report_of(records)
  local list = core.json.array {}
  for _, attributes in ipairs(records) do
    local fields = core.json.array {}
    for name, value in pairs(attributes) do table.insert(fields, attribute(name, value)) end
    table.insert(list, { body = { stringValue = "claude_code." .. attributes["event.name"] }, attributes = fields })
  end
  return { resourceLogs = { { scopeLogs = { { logRecords = list } } } } }
end

local function send(self)
  local environment, records = self.outside.environment, self.waiting
  self.waiting = {}
  pcall(self.outside.http, { url = environment.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT, idle_ms = 10000,
    headers = { ["content-type"] = "application/json" }, body = core.json.encode(report_of(records)) })
end

--- Sends what there is, for ever.
function Telemetry:run()
  local interval = tonumber(self.outside.environment.OTEL_LOGS_EXPORT_INTERVAL) or DEFAULT_INTERVAL_MS
  while true do
    while not self.waiting[1] do self.news:wait() end
    task.sleep(interval)
    send(self)
  end
end

local function note(self, attributes)
  if not self.is_on then return end
  attributes["event.timestamp"] = clock.timestamp()
  table.insert(self.waiting, attributes)
  self.news:notify()
end

--- Tells of a request that was answered.
---@param tokens integer
function Telemetry:answered(tokens)
  local cost = tokens * PRICE_USD
  note(self, { ["event.name"] = "api_request", output_tokens = tokens,
    cost_usd = self.profile.tells_costs_as_text and ("%.17g"):format(cost) or cost })
end

--- Tells of a message that was taken.
function Telemetry:prompted() note(self, { ["event.name"] = "user_prompt", prompt = "<REDACTED>" }) end

return M
