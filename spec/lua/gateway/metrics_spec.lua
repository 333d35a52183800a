-- GET /metrics, in Prometheus' format: what each number is of.
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local metrics = require "parley.gateway.metrics"

local SCRIPT = { answers = { { on = "bad", api_error = { status = 400, text = "as asked", retries = 0 } },
  { on = "tool", steps = { { tool = { name = "probe", input = {} } }, { text = "done" } } } } }

describe("the metrics", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- The lines' values, by name and labels.
  local function values_of(text)
    local values = {}
    for line in text:gmatch "[^\n]+" do
      local name, value = line:match "^([%w_]+%b{}) (%S+)$"
      if not name then name, value = line:match "^([%w_]+) (%S+)$" end
      if name then values[name] = tonumber(value) end
    end
    return values
  end

  it(gateways.serves("count requests, turns, tokens, failures and sessions, and how long they took",
    { kit = { script = SCRIPT } }, function(gateway)
      gateway:ask("one", { stream = true })
      gateway:ask "bad"
      gateway:ask("never", nil, { ["x-api-key"] = "wrong-token-0123" })
      gateway:ask("tool", { tools = { { name = "probe", input_schema = { type = "object" } } } })
      helper.eventually(function() return gateway.server.desk:waiting_for_tools() == 1 end)
      local values = values_of(gateway:request "/metrics".body)
      local function is(expected, name) assert.equal(expected, values[name], name) end
      is(2, 'parley_requests_total{path="/v1/messages",status="200"}')
      is(1, 'parley_requests_total{path="/v1/messages",status="400"}')
      is(1, 'parley_requests_total{path="/v1/messages",status="401"}')
      is(4, "parley_request_seconds_count")
      is(1, 'parley_turns_total{outcome="success"}')
      is(1, "parley_turn_seconds_count")
      is(1, 'parley_failures_total{reason="authentication_error"}')
      is(1, 'parley_sessions{state="ready"}')
      is(1, 'parley_sessions{state="busy"}')
      is(1, "parley_running")
      is(1, "parley_waiting_for_tools")
      is(0, "parley_queue")
      assert.is_true(values.parley_first_text_seconds_count >= 1)
      assert.is_true(values['parley_tokens_total{kind="output_tokens"}'] > 0)
      assert.is_true(values.parley_turn_seconds_sum > 0 and values.parley_turn_seconds_sum < 60)
    end))

  it("are whole in their format, each with its kind, and buckets that add up", function()
    local made = metrics.new()
    made:count("parley_requests_total", { path = 'a"b\\c\nd', status = "200" })
    for _, ms in ipairs { 10, 200, 200, 400000 } do made:observe("parley_turn_seconds", ms) end
    local text = made:text { parley_running = 3 }
    assert.matches('parley_requests_total{path="a\\"b\\\\c\\nd",status="200"} 1\n', text, 1, true)
    assert.matches('parley_turn_seconds_bucket{le="0.05"} 1\n', text, 1, true)
    assert.matches('parley_turn_seconds_bucket{le="0.25"} 3\n', text, 1, true)
    assert.matches('parley_turn_seconds_bucket{le="300"} 3\n', text, 1, true)
    assert.matches('parley_turn_seconds_bucket{le="+Inf"} 4\nparley_turn_seconds_sum 400.41\n', text, 1, true)
    assert.matches("parley_turn_seconds_count 4\n", text, 1, true)
    assert.matches("# TYPE parley_running gauge\nparley_running 3\n", text, 1, true)
    for line in text:gmatch "[^\n]+" do
      assert.is_truthy(line:find "^# HELP [%w_]+ " or line:find "^# TYPE [%w_]+ %l+$" or line:find "^[%w_]+%b{} %S+$"
        or line:find "^[%w_]+ %S+$", line)
    end
    assert.is_false(pcall(made.count, made, "parley_unknown"))
  end)

  it("grow by a turn of some seconds after months of them, too", function()
    local made = metrics.new()
    for _ = 1, 40000 do made:observe("parley_turn_seconds", 30125) end
    made:observe("parley_turn_seconds", 4250)
    assert.matches("parley_turn_seconds_sum 1205004.25\n", made:text {}, 1, true)
  end)
end)
