--- What the program says of each of its API requests, over OpenTelemetry: the one way in which it tells what they cost
--- while it runs. Seen on 2.1.110, 2.1.197 and 2.1.332. The transcript of 2.1.332 has the cost (`cost-state`) only once
--- the program has ended; those of the others never.
local M = {}

--- So often the program sends what it has. It answers no sooner for being told often.
local INTERVAL_MS = 50

--- Switches of the user's own telemetry. Ours would take its place, or switch on more than was asked for.
local OF_THE_USER = { "CLAUDE_CODE_ENABLE_TELEMETRY", "OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER",
  "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED" }

--- What has the program tell of its requests.
---@param url string  ends in `/`
---@param environment table<string, string>  of the program
---@return table<string, string>? variables
---@return string? why  there are none: the user's own telemetry stays as it is
function M.variables(url, environment)
  for _, name in ipairs(OF_THE_USER) do
    if environment[name] and environment[name] ~= "" then return nil, name .. " is set" end
  end
  return {
    CLAUDE_CODE_ENABLE_TELEMETRY = "1", OTEL_LOGS_EXPORTER = "otlp",
    OTEL_EXPORTER_OTLP_LOGS_PROTOCOL = "http/json", OTEL_EXPORTER_OTLP_LOGS_ENDPOINT = url .. "v1/logs",
    OTEL_LOGS_EXPORT_INTERVAL = tostring(INTERVAL_MS),
  }
end

local function list_in(value, name)
  local list = type(value) == "table" and value[name]
  return type(list) == "table" and list or {}
end

--- The attributes of a record, by name.
local function attributes_of(record)
  local found = {}
  for _, each in ipairs(list_in(record, "attributes")) do
    local value = type(each) == "table" and each.value
    if type(value) == "table" then found[tostring(each.key)] = select(2, next(value)) end
  end
  return found
end

---@class parley.ApiRequest  one that was answered
---@field cost_usd number
---@field at string  when, as the transcript's records have it

--- The API requests that a report tells of.
---@param report any  decoded
---@return parley.ApiRequest[]
function M.requests(report)
  local requests = {}
  for _, resource in ipairs(list_in(report, "resourceLogs")) do
    for _, scope in ipairs(list_in(resource, "scopeLogs")) do
      for _, record in ipairs(list_in(scope, "logRecords")) do
        local attributes = attributes_of(record)
        local cost = tonumber(attributes.cost_usd) -- a text on 2.1.110
        local is_cost = cost and cost >= 0 and cost < math.huge -- whoever tells of less than none lifts a limit
        if attributes["event.name"] == "api_request" and is_cost then
          table.insert(requests, { cost_usd = cost, at = tostring(attributes["event.timestamp"] or "") })
        end
      end
    end
  end
  return requests
end

return M
