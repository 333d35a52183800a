--- Sends a reply to one reader, whole or as it comes.
local core = require "parley.core"
local problems = require "parley.gateway.problems"
local tables = require "parley.base.tables"

local M = {}

--- So long nothing is sent of a stream that has nothing yet, once its message was taken: what fails at once is told
--- with a status. A session may have to be started first, or another's turn to end; so long that may take.
M.OPENING_MS, M.STARTING_MS = 500, 5000
--- A sign of life, while the model thinks.
M.PING_MS = 15000

---@class parley.gateway.Delivery
---@field protocol table         `parley.gateway.anthropic` or `parley.gateway.openai`
---@field headers table<string, string>
---@field id string              of the request
---@field wants_usage boolean

--- Answers with a problem.
---@param response parley.http.Response
---@param protocol table
---@param problem parley.gateway.Problem
---@param headers table<string, string>
---@param id string
function M.problem(response, protocol, problem, headers, id)
  local all = problems.headers(problem)
  for name, value in pairs(headers) do all[name] = value end
  all["content-type"] = "application/json"
  response:send(problem.status, all, assert(core.json.encode(protocol.problem(problem, id))))
end

--- Answers with the whole message, once it is there.
---@param response parley.http.Response
---@param reply parley.gateway.Reply
---@param given parley.gateway.Delivery
function M.whole(response, reply, given)
  reply.changed:wait_until(function() return reply.is_over end)
  if reply.problem then return M.problem(response, given.protocol, reply.problem, given.headers, given.id) end
  local headers = { ["content-type"] = "application/json" }
  for name, value in pairs(given.headers) do headers[name] = value end
  if reply.ignored then
    headers["parley-ignored"] = table.concat(tables.joined({ headers["parley-ignored"] }, reply.ignored), ", ")
  end
  response:send(200, headers, assert(core.json.encode(given.protocol.whole(reply))))
end

local function open(response, given)
  local headers = { ["content-type"] = "text/event-stream; charset=utf-8", ["cache-control"] = "no-cache",
    ["x-accel-buffering"] = "no" } -- nginx would keep the events
  for name, value in pairs(given.headers) do headers[name] = value end
  response:start(200, headers)
end

--- Sends what there is of a reply, as it comes, with a sign of life where nothing does.
local function send_items(writer, reply)
  local sent, pinged = 0, false
  while true do
    local item = reply.items[sent + 1]
    if item then
      sent = sent + 1
      writer.item(item)
    elseif reply.is_over then
      return
    elseif not pinged or not reply.changed:wait(M.PING_MS) then
      pinged = true
      if not reply.items[sent + 1] then writer.ping() end
    end
  end
end

--- Answers with the message as it comes.
---@param response parley.http.Response
---@param reply parley.gateway.Reply
---@param given parley.gateway.Delivery
function M.streamed(response, reply, given)
  local function has_something() return reply:has_begun() or reply.is_over end
  reply.changed:wait_until(function() return has_something() or reply.is_accepted end, M.STARTING_MS)
  if reply.is_accepted then reply.changed:wait_until(has_something, M.OPENING_MS) end
  if reply.problem and not reply:has_begun() then
    return M.problem(response, given.protocol, reply.problem, given.headers, given.id)
  end
  open(response, given)
  local writer = given.protocol.writer(response, given)
  send_items(writer, reply)
  if reply.problem then writer.fail(reply.problem) else writer.finish() end
  response:finish()
end

return M
