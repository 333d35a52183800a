--- How the tools of a session are reached over HTTP: MCP's "streamable HTTP", as far as the program needs it.
---
--- An answer that comes soon is plain JSON. One that does not is a stream of events, which tells every while that the
--- call goes on: 2.1.197 gives up a call that has brought nothing for five minutes.
local core = require "parley.core"
local task = require "parley.base.task"

local M = {}

local json = core.json
local JSON = { ["content-type"] = "application/json" }
local STREAM = { ["content-type"] = "text/event-stream", ["cache-control"] = "no-cache" }

--- So long an answer may take before it becomes a stream, and so often that says something.
M.PROGRESS_MS = 20000

local PARSE_ERROR = { jsonrpc = "2.0", id = json.null, error = { code = -32700, message = "this is no JSON" } }

local function encoded(value) return assert(json.encode(value)) end

--- What the program gave to know a call's progress by.
local function progress_token(message)
  local params = type(message) == "table" and message.params
  local meta = type(params) == "table" and params._meta
  return type(meta) == "table" and meta.progressToken or nil
end

--- Tells that a call goes on.
local function tell_progress(response, token, count)
  if token == nil then return response:comment "" end
  response:event(nil, encoded { jsonrpc = "2.0", method = "notifications/progress",
    params = { progressToken = token, progress = count } })
end

local function answer(server, message, response, progress_ms)
  local outcome, done = nil, task.condition()
  local answering = task.spawn(function()
    outcome = table.pack(server:answer(message))
    done:notify()
  end)
  local count = 0
  while not done:wait_until(function() return outcome or answering:is_done() end, progress_ms) do
    if count == 0 then response:start(200, STREAM) end
    count = count + 1
    tell_progress(response, progress_token(message), count)
  end
  answering:await()
  if count > 0 then
    response:event(nil, encoded(outcome[1]))
    response:finish()
  elseif outcome[1] then
    response:send(200, JSON, encoded(outcome[1]))
  else
    response:send(202)
  end
end

--- Takes in a request, to the end of its answer.
---@param server parley.ToolServer
---@param request parley.http.Request
---@param response parley.http.Response
---@param progress_ms? number  default `PROGRESS_MS`
function M.serve(server, request, response, progress_ms)
  if request.method ~= "POST" then return response:send(405, { allow = "POST" }) end
  local message = json.decode(request:body())
  if message == nil then return response:send(400, JSON, encoded(PARSE_ERROR)) end
  answer(server, message, response, progress_ms or M.PROGRESS_MS)
end

return M
