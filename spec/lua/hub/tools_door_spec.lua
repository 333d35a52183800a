local core = require "parley.core"
local helper = require "spec.helper"
local http = require "parley.http"
local http_client = require "parley.testing.http_client"
local mcp = require "parley.hub.mcp"
local task = require "parley.base.task"
local tools = require "parley.hub.tools"
local tools_door = require "parley.hub.tools_door"

--- Serves one tool over HTTP.
local function serve(run, progress_ms)
  local tool_server = mcp.new { tools = tools.check({ { name = "wait", description = "waits", run = run } }, "spec"),
    session_id = function() return "s" end, on_error = function() end, on_known = function() end }
  local server = http.serve { handler = function(request, response)
    tools_door.serve(tool_server, request, response, progress_ms)
  end }
  local url = ("http://127.0.0.1:%d/"):format(server.port)
  local function post(message)
    return http_client.request { url = url, body = type(message) == "string" and message
      or core.json.encode(message) }
  end
  return setmetatable({ url = url, post = post }, { __close = function()
    tool_server:close()
    server:close()
  end })
end

local function a_call(input, token)
  return { jsonrpc = "2.0", id = 1, method = "tools/call", params = { name = "wait", arguments = input,
    _meta = { progressToken = token } } }
end

describe("the door to a session's tools", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  it("answers a request with JSON, and a notification with nothing", helper.task(function()
    local door <close> = serve(function() return "done" end)
    local answer = door.post(a_call {})
    assert.same({ 200, "application/json" }, { answer.status, answer.headers["content-type"] })
    assert.equal("done", core.json.decode(answer.body).result.content[1].text)
    local taken = door.post { jsonrpc = "2.0", method = "notifications/initialized" }
    assert.same({ 202, "" }, { taken.status, taken.body })
  end))

  it("has no stream of its own, and takes no other methods", helper.task(function()
    local door <close> = serve(function() return "" end)
    assert.equal(405, http_client.request({ url = door.url, method = "GET" }).status)
    assert.equal(405, http_client.request({ url = door.url, method = "DELETE" }).status)
  end))

  it("refuses what is no JSON", helper.task(function()
    local door <close> = serve(function() return "" end)
    local answer = door.post "{"
    assert.same({ 400, -32700 }, { answer.status, core.json.decode(answer.body).error.code })
  end))

  it("carries a megabyte each way", helper.task(function()
    local door <close> = serve(function(input) return input.text end)
    local text = ("ü€"):rep(200000)
    local answer = door.post(a_call { text = text })
    assert.is_true(core.json.decode(answer.body).result.content[1].text == text)
  end))

  it("tells that a long call goes on, until it is answered", helper.task(function()
    local go, is_late = task.condition(), false
    local door <close> = serve(function()
      go:wait_until(function() return is_late end)
      return "line one\nline two"
    end, 10)
    local calling = task.spawn(door.post, a_call({}, 7))
    local without_token = task.spawn(door.post, a_call {})
    task.spawn(function()
      go:wait(200) -- several signs of life
      is_late = true
      go:notify()
    end)
    local answer = calling:await()
    assert.equal("text/event-stream", answer.headers["content-type"])
    local events = {}
    for data in answer.body:gmatch "data: ([^\n]*)" do table.insert(events, core.json.decode(data)) end
    assert.is_true(#events > 2)
    assert.same({ jsonrpc = "2.0", method = "notifications/progress", params = { progressToken = 7, progress = 1 } },
      events[1])
    assert.equal("line one\nline two", events[#events].result.content[1].text)
    assert.matches("^: \n\n", without_token:await().body)
  end))

  it("lets a call go on whose client has gone", helper.task(function()
    local is_over, go = false, task.condition()
    local door <close> = serve(function()
      go:wait()
      is_over = true
      return ""
    end)
    local calling = task.spawn(door.post, a_call {})
    helper.eventually(function() return #go.waiting > 0 end)
    calling:cancel()
    pcall(calling.await, calling)
    helper.eventually(function() return door.post "{" end) -- the server has seen it by then
    go:notify()
    helper.eventually(function() return is_over end)
  end))
end)
