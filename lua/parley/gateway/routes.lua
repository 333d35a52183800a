--- What there is under which path. A handler gets the visit and answers; what it raises is told in the words of the
--- protocol that the path is of.
local anthropic = require "parley.gateway.anthropic"
local asked = require "parley.gateway.asked"
local core = require "parley.core"
local defer = require "parley.base.defer"
local deliver = require "parley.gateway.deliver"
local models = require "parley.gateway.models"
local openai = require "parley.gateway.openai"
local problems = require "parley.gateway.problems"
local task = require "parley.base.task"
local window = require "parley.gateway.window.routes"

local M = {}

---@class parley.gateway.Call
---@field server parley.gateway.Server
---@field request parley.http.Request
---@field response parley.http.Response
---@field owner? string     the token's name
---@field id string
---@field headers table<string, string>  of every answer
---@field note parley.gateway.LogEntry

local function send_json(call, value, headers)
  local all = { ["content-type"] = "application/json" }
  for name, each in pairs(call.headers) do all[name] = each end
  for name, each in pairs(headers or {}) do all[name] = each end
  call.response:send(200, all, assert(core.json.encode(value)))
end

--- The body, as JSON.
local function read_body(call)
  local limit = call.server.body_bytes
  local length = tonumber(call.request.headers["content-length"])
  if length and length > limit then
    error(problems.new(413, ("the body has more than %d bytes"):format(limit)), 0)
  end
  local text = call.request:body(limit)
  local body, err = core.json.decode(text, { strict = true })
  if body == nil then problems.refuse("the body is no JSON: %s", err.message) end
  return body, text
end

--- Headers that hold secrets, or say nothing of the client.
local HIDDEN = { authorization = true, ["x-api-key"] = true, cookie = true, ["proxy-authorization"] = true }

local function shown_headers(headers)
  local shown = {}
  for name, value in pairs(headers) do
    if not HIDDEN[name] then shown[name] = value end
  end
  return shown
end

local CONVERSATION, LONGEST_ID = "^[%w._:-]+$", 200

local function visit_of(call, text)
  local headers = call.request.headers
  local conversation = headers["parley-conversation"]
  if conversation and (#conversation > LONGEST_ID or not conversation:find(CONVERSATION)) then
    problems.refuse("parley-conversation: must be 1 to %d letters, digits and any of . _ : -", LONGEST_ID)
  end
  call.note.conversation = conversation
  return { owner = call.owner, conversation = conversation, retry_count = headers["x-stainless-retry-count"],
    path = call.request.path, body = text,
    http = { path = call.request.path, method = call.request.method, headers = shown_headers(headers),
      client = call.owner, conversation = conversation } }
end

local function note_end(call, taken, began)
  local run = taken.run
  call.note.session = run and run.session_id
  call.note.attached = taken.is_attached or nil
  if taken.reply.problem then call.note.error = taken.reply.problem.reason end
  local text_at = not taken.is_attached and taken.reply.text_at
  if text_at then call.server.metrics:observe("parley_first_text_seconds", math.max(0, text_at - began)) end
end

--- Answers a request for a message, in either protocol.
local function complete(call, protocol, translate)
  local began = task.now()
  local body, text = read_body(call)
  local desk = call.server.desk
  local taken, request = desk:take(visit_of(call, text), function() return asked.read(translate(body)) end)
  if #request.ignored > 0 then call.headers["parley-ignored"] = table.concat(request.ignored, ", ") end
  local has_all = false
  desk:enter(taken)
  local _ <close> = defer(function()
    note_end(call, taken, began)
    desk:leave(taken, has_all)
  end)
  local send = request.is_streamed and deliver.streamed or deliver.whole
  send(call.response, taken.reply, { protocol = protocol, headers = call.headers, id = call.id,
    wants_usage = protocol.is_openai and openai.wants_usage(body) })
  has_all = call.response:is_whole()
end

local handlers = {}

function handlers.messages(call)
  complete(call, anthropic, function(body) return body end)
end

function handlers.chat(call) complete(call, openai, openai.translate) end

function handlers.count_tokens(call)
  local request = asked.read((read_body(call)))
  send_json(call, { input_tokens = models.estimate(request.messages, request.system, request.tools),
    parley_estimate = true }, { ["parley-estimate"] = "true" })
end

function handlers.models(call) send_json(call, models.list(call.server.model)) end

function handlers.model(call, name)
  local found = models.find(name, call.server.model)
  if not found then error(problems.new(404, ("there is no model '%s'"):format(name)), 0) end
  send_json(call, found)
end

function handlers.hello(call) call.response:send(200, call.headers) end

function handlers.health(call)
  local is_draining = call.server.desk.is_draining
  local headers = { ["content-type"] = "text/plain" }
  for name, value in pairs(call.headers) do headers[name] = value end
  call.response:send(is_draining and 503 or 200, headers, is_draining and "draining\n" or "ok\n")
end

function handlers.metrics(call)
  local headers = { ["content-type"] = "text/plain; version=0.0.4" }
  for name, value in pairs(call.headers) do headers[name] = value end
  call.response:send(200, headers, call.server.metrics:text(call.server:gauges()))
end

---@class parley.gateway.Route
---@field methods table<string, true>
---@field handle fun(call: parley.gateway.Call, part?: string)
---@field is_open? boolean  without a token
---@field protocol table    whose words its problems are told in

local function route(methods, name, protocol, is_open)
  local set = {}
  for method in methods:gmatch "%S+" do set[method] = true end
  return { methods = set, handle = handlers[name], protocol = protocol, is_open = is_open,
    allow = (methods:gsub(" ", ", ")) }
end

local ROUTES = {
  ["/v1/messages"] = route("POST", "messages", anthropic),
  ["/v1/messages/count_tokens"] = route("POST", "count_tokens", anthropic),
  ["/v1/chat/completions"] = route("POST", "chat", openai),
  ["/v1/models"] = route("GET HEAD", "models", anthropic),
  ["/api/hello"] = route("GET HEAD", "hello", anthropic, true),
  ["/healthz"] = route("GET HEAD", "health", anthropic, true),
  ["/metrics"] = route("GET HEAD", "metrics", anthropic),
}
local MODEL = route("GET HEAD", "model", anthropic)

--- Finds what a path means.
---@param path string
---@return parley.gateway.Route?
---@return string? part  of the path, for the handler
---@return string name   for logs and metrics: no path of a client's own making
function M.find(path)
  if ROUTES[path] then return ROUTES[path], nil, path end
  local model = path:match "^/v1/models/(.+)$"
  if model then return MODEL, model, "/v1/models/ID" end
  local found, part, name = window.find(path)
  return found, part, name or "other"
end

--- Whose words a problem without a route is told in.
---@param path string
---@return table
function M.protocol_of(path) return path:find "^/v1/chat/" and openai or anthropic end

return M
