--- One turn of a session, for the client that has asked for it: it may take several requests, for each call of the
--- client's tools ends an answer, and the request that brings the results goes on with the same turn.
local composer = require "parley.gateway.composer"
local core = require "parley.core"
local errors = require "parley.base.errors"
local problems = require "parley.gateway.problems"
local replies = require "parley.gateway.reply"
local schema = require "parley.base.schema"
local task = require "parley.base.task"

local M = {}

--- So long nothing more must come before the calls of a message are all of them. The program writes them when the
--- message has ended, in one go (2.1.110 to 2.1.332).
local SETTLE_MS = 100

---@class parley.gateway.RunHost  what a run tells
---@field calls_open fun(run: parley.gateway.Run)    the client is told of calls
---@field calls_closed fun(run: parley.gateway.Run)
---@field ended fun(run: parley.gateway.Run, outcome: string)
---@field event fun(event: parley.Event)
---@field broken fun(err: any)   something has failed that should not have
---@field tool_wait_ms number

---@class parley.gateway.Run
---@field asked parley.gateway.Asked  the last request's
---@field owner string         the token's name
---@field scope string         what its keys begin with
---@field reply? parley.gateway.Reply  that is written
---@field open table<string, table>  the calls that the client has been told of, by id
---@field turn? parley.Turn
---@field session_id? string
---@field is_over boolean
---@field is_strict boolean
---@field task? parley.Task
---@field waiting? parley.Task  ends it when results do not come in time
---@field package results table<string, table>
---@field package changed parley.Condition
---@field package host parley.gateway.RunHost
local Run = {}
Run.__index = Run
Run.__name = "parley.gateway.Run"

--- Makes a run that has not begun.
---@param given {asked: parley.gateway.Asked, owner: string, scope: string, host: parley.gateway.RunHost,
---       is_strict: boolean}
---@return parley.gateway.Run
function M.new(given)
  return setmetatable({ asked = given.asked, owner = given.owner, scope = given.scope, host = given.host,
    is_strict = given.is_strict, reply = replies.new(given.asked.model), open = {}, results = {},
    changed = task.condition(), is_over = false, composer = composer.new(given.asked.wants_thinking) }, Run)
end

--- Waits for the client's result of a call.
local function wait_for_result(self, id)
  local result = self.changed:wait_until(function() return self.results[id] end)
  self.results[id] = nil
  if not result.is_error then return result.content end
  local parts = {}
  for _, block in ipairs(result.content) do table.insert(parts, block.text) end
  error(errors.new("ToolResult", #parts > 0 and table.concat(parts, "\n") or "the tool has failed"), 0)
end

--- The session's tools: each waits for what the client says.
---@return parley.Tool[]?
function Run:tools()
  if not self.asked.tools then return nil end
  local list = {}
  for i, tool in ipairs(self.asked.tools) do
    list[i] = { name = tool.name, description = tool.description, input_schema = tool.input_schema,
      run = function(_, call) return wait_for_result(self, call.id) end }
  end
  return list
end

local function tool_of(self, name)
  for _, tool in ipairs(self.asked.tools or {}) do
    if tool.name == name then return tool end
  end
end

--- The calls that are the client's to answer: one whose input does not fit its schema is answered by Parley itself.
local function calls_to_tell(self)
  local calls = {}
  for _, call in ipairs(self.composer.calls) do
    local tool = tool_of(self, call.name)
    if tool and not schema.problem(tool.input_schema, call.input, "input") then table.insert(calls, call) end
  end
  self.composer.calls = {}
  return calls
end

--- What turned out to be beyond what was asked.
local function overrun(self, usage)
  local most = self.asked.max_tokens
  if not most or usage.output_tokens <= most then return nil end
  if self.is_strict then
    error(problems.new(400, ("max_tokens: the answer has %d tokens, and %d were asked for; Claude Code cannot be held "
      .. "to that"):format(usage.output_tokens, most)), 0)
  end
  return { "max_tokens" }
end

--- Ends the answer with the calls that there are.
local function tell_calls(self)
  local calls = calls_to_tell(self)
  if #calls == 0 or self.is_over then return end
  self.composer:check_end()
  local reply = self.reply
  for _, call in ipairs(calls) do
    reply:keep(call)
    reply:block(call)
    self.open[call.id] = call
  end
  local last, all = self.composer:used()
  local ignored = overrun(self, last)
  self.reply, self.composer.reply = nil, nil
  self.given = reply
  self.host.calls_open(self) -- before the client can know
  reply:finish("tool_use", last, all, ignored)
end

--- Sees to it that calls are told of, once they are all there.
local function watch_calls(self)
  while true do
    self.changed:wait_until(function() return #self.composer.calls > 0 and self.reply end)
    local count
    repeat
      count = #self.composer.calls
      task.sleep(SETTLE_MS)
    until count == #self.composer.calls
    tell_calls(self)
  end
end

--- Gives the results of all open calls, for a request that is answered by what follows.
---@param asked parley.gateway.Asked
---@return parley.gateway.Reply
--- Raises a problem when a result is missing.
function Run:answer(asked)
  for id in pairs(self.open) do
    if not asked.results[id] then
      problems.refuse("messages: there is no tool_result for the tool_use '%s' of the message before", id)
    end
  end
  self.asked, self.reply = asked, replies.new(asked.model)
  self.composer.reply = self.reply
  self.reply:accept()
  for id in pairs(self.open) do self.results[id] = asked.results[id] end
  self.open = {}
  self.host.calls_closed(self)
  self.changed:notify()
  return self.reply
end

--- Takes in an event.
local function take(self, event)
  if event.type == "result" then return end
  self.changed:wait_until(function() return self.reply end) -- between calls and their results nothing is to come
  self.composer.reply = self.reply
  if event.type == "partial" then
    self.composer:partial(event)
  elseif event.type == "assistant" then
    self.composer:assistant(event)
  elseif event.type == "user" then
    self.reply:accept()
    for _, block in ipairs(event:blocks "tool_result") do self.composer:forget_call(block.tool_use_id) end
  end
  self.changed:notify()
end

local function finish(self, result)
  if result.subtype ~= "success" then
    if result.subtype == "error_no_output" then
      self.composer.stop_reason = self.composer.stop_reason or "end_turn"
    else
      error(problems.of_result(result), 0)
    end
  end
  self.changed:wait_until(function() return self.reply end)
  self.composer:check_end()
  local last, all = self.composer:used()
  local ignored = overrun(self, last)
  self.reply:finish(result.stop_reason or self.composer.stop_reason or "end_turn", last, all, ignored)
end

local function play(self, begin)
  local watcher = task.spawn(watch_calls, self)
  self.turn = begin(self)
  local turn <close> = self.turn
  for event in turn:events() do
    self.session_id = event.session_id or self.session_id
    self.host.event(event)
    take(self, event)
    if event.type == "result" then finish(self, event) end
  end
  watcher:cancel "the turn has ended"
end

--- Runs the turn to its end; whatever goes wrong ends the answer.
---@param begin fun(run: parley.gateway.Run): parley.Turn
function Run:play(begin)
  local player = task.spawn(play, self, begin)
  local ok, err = pcall(player.await, player)
  self.is_over = true
  local problem = not ok and (self.why or problems.of(err, self.asked.places)) or nil
  if problem and problem.reason == "internal" then self.host.broken(err) end
  if problem and self.reply then self.reply:fail(problem) end
  self.open, self.results = {}, {}
  self.host.calls_closed(self)
  self.host.ended(self, ok and "success" or problem.reason)
  if self.task:cancellation() then error(self.task:cancellation(), 0) end
end

--- Ends the turn: its session ends with it.
---@param problem parley.gateway.Problem  what its answer ends with
function Run:stop(problem)
  if self.is_over then return end
  self.why = self.why or problem
  self.task:cancel(errors.cancelled(problem.message))
end

-- Keys ----------------------------------------------------------------------------------------------------------------

--- The key of the session that has what came before this request.
---@return string
function Run:first_key()
  local messages = self.asked.messages
  return self.scope .. composer.fingerprint(table.move(messages, 1, #messages - 1, 1, {}))
end

--- The keys under which the session waits for the next request: the history as the client will send it.
---@return string[]
function Run:keys()
  local reply, keys = self.reply, {}
  if not reply then return keys end
  local content = #reply.content > 0 and reply.content or core.json.array { { type = "text", text = "" } }
  for i, form in ipairs(composer.forms(content)) do
    keys[i] = self.scope .. composer.fingerprint(self.asked.messages, form)
  end
  return keys
end

return M
