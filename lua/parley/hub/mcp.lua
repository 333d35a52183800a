--- One session's tools, as the program calls them: the Model Context Protocol, a request's table in, an answer's table
--- out. What carries them is another's affair.
---
--- A call runs in a task that belongs to nobody but this server: the request that asked for it may be cut off and made
--- again, with the same id, and then gets the same answer. It ends when it is done, when the program says that nobody
--- wants it any more, and with the turn.
local clock = require "parley.base.clock"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local schema = require "parley.base.schema"
local task = require "parley.base.task"
local tools = require "parley.hub.tools"

local M = {}

--- The revisions that are spoken alike here. A program that asks for another is offered the newest of these.
local REVISIONS = { ["2025-11-25"] = true, ["2025-06-18"] = true, ["2025-03-26"] = true, ["2024-11-05"] = true }
local NEWEST = "2025-11-25"

local INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32600, -32601, -32602

--- Where the program says which `tool_use` block a call is of.
local TOOL_USE_ID = "claudecode/toolUseId"

---@class parley.ToolServerOptions
---@field tools parley.Tool[]       checked
---@field session_id fun(): string
---@field on_error fun(failure: parley.ToolFailure)
---@field on_known fun()  called when the program asks which tools there are
---@field serving? table<parley.Task, true>  in which the tasks of calls stand

---@class parley.ToolFailure
---@field tool string          its name
---@field tool_use_id string
---@field message string       what the model is told
---@field input table
---@field error any            what `run` raised, or the `ValueError` about its input or result
---@field traceback? string

---@class parley.ToolServer
---@field known_after_ms? number  the program has asked which tools there are, so long after it had introduced itself
---@field package calls table<any, table>     by id, tool and input, done ones until the turn's end
---@field package requests table<any, table>  the call of a request that waits for its answer
local Server = {}
Server.__index = Server
Server.__name = "parley.ToolServer"

--- Makes the server of a session.
---@param given parley.ToolServerOptions
---@return parley.ToolServer
function M.new(given)
  local self = setmetatable({ session_id = given.session_id, on_error = given.on_error, on_known = given.on_known,
    serving = given.serving or {}, calls = {}, requests = {} }, Server)
  self:use(given.tools)
  return self
end

--- Changes what the tools do, from the next call on.
---@param list parley.Tool[]  checked
function Server:use(list)
  self.described, self.tools = tools.described(list), {}
  for _, tool in ipairs(list) do self.tools[tool.name] = tool end
end

-- Calls ---------------------------------------------------------------------------------------------------------------

--- A message as JSON can hold it.
local function as_text(message)
  return utf8.len(message) and message or (message:gsub("[\x80-\xff]", function(byte)
    return ("\\x%02X"):format(byte:byte())
  end))
end

local function result_of(content, is_error) return { content = content, isError = is_error or false } end

--- The answer to a call that went wrong, which the script is told of, too.
local function fail(server, call, err)
  local message = as_text(errors.message(err))
  server.on_error { tool = call.facts.tool, tool_use_id = call.facts.id, message = message, input = call.input,
    error = err, traceback = task.traceback(err) }
  return result_of({ { type = "text", text = message } }, true)
end

local function run(server, call, tool)
  local here = task.current()
  server.serving[here] = true
  local _ <close> = defer(function() server.serving[here] = nil end)
  local problem = schema.problem(tool.input_schema, call.input, "input")
  if problem then return fail(server, call, errors.value_error(problem)) end
  local running = task.spawn(tool.run, call.input, call.facts)
  local ok, result = pcall(running.await, running)
  if task.current():cancellation() then
    return result_of({ { type = "text", text = "the call was cancelled" } }, true)
  end
  if not ok then return fail(server, call, result) end
  local content, why = tools.content(result)
  if content then return result_of(content) end
  return fail(server, call, errors.value_error(("the result of the tool '%s' %s"):format(tool.name, why)))
end

--- The call that a request is about: the one that runs, or ran, under the same id with the same input, or a new one.
--- What stands between the program and the model may count its ids anew in each message.
local function call_of(server, id, tool, input)
  local key = id ~= nil and core.json.encode({ id, tool.name, input }, { sort_keys = true }) or nil
  local call = key and server.calls[key]
  if call then return call end
  call = { input = input, facts = { id = id, tool = tool.name, session_id = server.session_id() } }
  server.calls[key or call] = call
  call.task = task.new_root(run, server, call, tool)
  return call
end

local methods = {}

function methods.initialize(server, params)
  local asked = params.protocolVersion
  server.greeted_at = clock.now()
  return { protocolVersion = REVISIONS[asked] and asked or NEWEST, capabilities = { tools = {} },
    serverInfo = { name = "parley", version = "1" } }
end

function methods.ping() return {} end

methods["tools/list"] = function(server)
  server.known_after_ms = clock.now() - (server.greeted_at or clock.now())
  server.on_known()
  return { tools = server.described }
end

methods["tools/call"] = function(server, params, id)
  local tool = server.tools[params.name]
  if not tool then return nil, INVALID_PARAMS, "there is no tool of this name: " .. tostring(params.name) end
  local input = params.arguments == nil and {} or params.arguments
  if type(input) ~= "table" then return nil, INVALID_PARAMS, "'arguments' must be an object" end
  if server.closed then return result_of({ { type = "text", text = "the session has ended" } }, true) end
  local meta = type(params._meta) == "table" and params._meta or {}
  local call = call_of(server, meta[TOOL_USE_ID], tool, input)
  server.requests[id] = call
  local _ <close> = defer(function() server.requests[id] = nil end)
  return call.task:await()
end

local notifications = {}

notifications["notifications/cancelled"] = function(server, params)
  local call = server.requests[params.requestId]
  if call then call.task:cancel "the program has cancelled the call" end
end

local function failure(id, code, message)
  return { jsonrpc = "2.0", id = id, error = { code = code, message = message } }
end

--- Answers a request. A call of a tool waits until that has ended.
---@param request any  decoded JSON
---@return table? answer  nothing for a notification
function Server:answer(request)
  if type(request) ~= "table" or type(request.method) ~= "string" then
    return failure(type(request) == "table" and request.id or nil, INVALID_REQUEST, "this is no request")
  end
  local params = type(request.params) == "table" and request.params or {}
  if request.id == nil then
    local take = notifications[request.method]
    if take then take(self, params) end
    return nil
  end
  local method = methods[request.method]
  if not method then return failure(request.id, NO_METHOD, "no such method: " .. request.method) end
  local result, code, message = method(self, params, request.id)
  if not result then return failure(request.id, code, message) end
  return { jsonrpc = "2.0", id = request.id, result = result }
end

-- The end -------------------------------------------------------------------------------------------------------------

local function cancel_all(server, reason)
  local running = {}
  for key, call in pairs(server.calls) do
    call.task:cancel(reason)
    if call.task:is_done() then server.calls[key] = nil else table.insert(running, call.task) end
  end
  return running
end

--- Ends the calls of a turn that is over, and forgets those that are done. It does not wait.
function Server:end_turn() cancel_all(self, "the turn is over") end

--- Ends every call, and waits for that; a libuv callback, which cannot wait, does not. Further calls do nothing.
function Server:close()
  self.closed = true
  local running = cancel_all(self, "the session was closed")
  if not running[1] then return end
  task.wherever(function()
    for _, each in ipairs(running) do pcall(each.await, each) end -- a call that closes its own session ends later
  end, function() end)
end

Server.__close = Server.close

return M
