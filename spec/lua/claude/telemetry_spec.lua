local telemetry = require "parley.claude.telemetry"

describe("the program's telemetry", function()
  local function record(attributes)
    local list = {}
    for name, value in pairs(attributes) do table.insert(list, { key = name, value = { anyValue = value } }) end
    return { attributes = list }
  end

  local function report(...) return { resourceLogs = { { scopeLogs = { { logRecords = { ... } } } } } } end

  it("is switched on for what its requests cost, and goes to a place of ours", function()
    local variables = telemetry.variables("http://127.0.0.1:1/secret/", { PATH = "/bin" })
    assert.equal("1", variables.CLAUDE_CODE_ENABLE_TELEMETRY)
    assert.equal("http://127.0.0.1:1/secret/v1/logs", variables.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT)
    assert.is_nil(variables.OTEL_LOG_USER_PROMPTS)
  end)

  it("stays the user's own", function()
    for _, name in ipairs { "CLAUDE_CODE_ENABLE_TELEMETRY", "OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER" } do
      local variables, why = telemetry.variables("http://127.0.0.1:1/", { [name] = "x" })
      assert.is_nil(variables)
      assert.equal(name .. " is set", why)
    end
    assert.is_truthy(telemetry.variables("http://127.0.0.1:1/", { OTEL_LOGS_EXPORTER = "" }))
  end)

  it("tells of requests: numbers, and texts on 2.1.110", function()
    assert.same({ { cost_usd = 0.5, at = "2026-01-01T00:00:00.000Z" }, { cost_usd = 0.25, at = "" } },
      telemetry.requests(report(record { ["event.name"] = "api_request", cost_usd = 0.5,
        ["event.timestamp"] = "2026-01-01T00:00:00.000Z" }, record { ["event.name"] = "user_prompt", cost_usd = 9 },
        record { ["event.name"] = "api_request", cost_usd = "0.25" }, record { ["event.name"] = "api_request" })))
  end)

  it("may be anything", function()
    for _, odd in ipairs { {}, { resourceLogs = 1 }, { resourceLogs = { 1, { scopeLogs = { false } } } },
      report(1, { attributes = { 1, { key = 2, value = 3 }, { value = {} } } }),
      report(record { ["event.name"] = "api_request", cost_usd = -0.5 },
        record { ["event.name"] = "api_request", cost_usd = "1e999" }) } do
      assert.same({}, telemetry.requests(odd))
    end
    assert.same({}, telemetry.requests(nil))
  end)
end)
