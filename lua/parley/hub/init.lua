--- What the program of one session calls: `/SECRET/hooks/EVENT`. Who wants an event subscribes to it before the start;
--- the folder that tells the program whom to call holds those events and no others.
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local hook_events = require "parley.claude.hook_events"
local listener = require "parley.hub.listener"
local permission = require "parley.hub.permission"
local plugin = require "parley.hub.plugin"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local version = require "parley.claude.version"

local M = {}

---@alias parley.HookHandler fun(payload: table): table?  runs as a task; what it returns is the hook's answer

---@class parley.Hub
---@field version? string      of the program, once it was learned
---@field package entry? parley.HubEntry
---@field package folder? string
---@field package handlers table<string, parley.HookHandler[]>
---@field package on_failure fun(event: string, err: any)
---@field package serving table<parley.Task, true>
local Hub = {}
Hub.__index = Hub
Hub.__name = "parley.Hub"

--- Makes a hub that nobody can call yet.
---@param given {on_failure: fun(event: string, err: any), serving?: table<parley.Task, true>}  `on_failure` is told
---       what a handler raises; the hook has no answer then. In `serving` stand the tasks in which handlers run
---@return parley.Hub
function M.new(given)
  return setmetatable({ handlers = {}, on_failure = given.on_failure, serving = given.serving or {} }, Hub)
end

--- Subscribes to an event. Several handlers of one are called one after the other; their answers are joined, the first
--- one's before the others'.
---@param event string
---@param handler parley.HookHandler
function Hub:on(event, handler)
  self.handlers[event] = self.handlers[event] or {}
  table.insert(self.handlers[event], handler)
end

--- Whether anybody wants anything.
---@return boolean
function Hub:is_needed() return next(self.handlers) ~= nil end

--- A decision about a call is about the input that it was made on: no other's stands beside it, and of two inputs none
--- is made that nobody has given. A denial stands above what was said before it, as in the program itself. What a
--- handler says stays as it is, for it may say the same again.
local function join(answer, other)
  if other.permissionDecision == "deny" and answer.permissionDecision ~= "deny" then answer, other = other, answer end
  local joined, mine, its = tables.merged(other, answer), answer.hookSpecificOutput, other.hookSpecificOutput
  local decided = answer.permissionDecision ~= nil and answer or other.permissionDecision ~= nil and other
  if decided then joined.updatedInput = decided.updatedInput end
  if type(mine) == "table" and type(its) == "table" then joined.hookSpecificOutput = join(mine, its) end
  return joined
end

--- What a handler says, which the program can be told.
local function ask(event, handler, payload)
  local said = handler(payload)
  if said == nil then return {} end
  if type(said) ~= "table" then
    error(errors.value_error(("the hook '%s' must return a table or nil, not a %s"):format(event, type(said))), 0)
  end
  local _, problem = core.json.encode(said)
  if problem then
    error(errors.value_error(("what the hook '%s' returns cannot be written as JSON: %s"):format(event,
      problem.message)), 0)
  end
  return said
end

--- Calls an event's handlers. One that fails is reported, and says nothing; what the others say stands.
---@param event string
---@param payload table
---@return table answer
function Hub:dispatch(event, payload)
  local answer, here = {}, task.current()
  self.serving[here] = true
  local _ <close> = defer(function() self.serving[here] = nil end)
  for _, handler in ipairs(self.handlers[event] or {}) do
    local ok, said = pcall(ask, event, handler, payload)
    local cancellation = task.current():cancellation()
    if cancellation then error(cancellation, 0) end
    if ok then answer = join(answer, said) else self.on_failure(event, said) end
  end
  return answer
end

--- Answers for what cannot be read. A call that nobody can be asked about does not run: on an error it would.
local function refuse(self, event, problem)
  self.on_failure(event, errors.value_error("what the program tells cannot be read: " .. problem))
  return event == "PreToolUse" and permission.denial "the call cannot be read, so nobody can say whether it may run"
    or {}
end

local function serve_hook(self, event, request, response)
  local payload, problem = core.json.decode(request:body())
  if type(payload) == "table" then return listener.answer(response, self:dispatch(event, payload)) end
  listener.answer(response, refuse(self, event, problem and problem.message or "it is no object"))
end

local function serve(self, path, request, response)
  local event = path:match "^hooks/(%a+)$"
  if event and self.handlers[event] then
    if request.method ~= "POST" then return response:send(405, nil, "") end
    return serve_hook(self, event, request, response)
  end
  response:send(404, nil, "")
end

--- Learns which version it is, from the program itself; it waits.
---@param process parley.Process
function Hub:learn(process) self.version = version.of(process.argv[1], process.environment) end

--- Makes the program of a process call, before it is started and once its version is known.
---@param process parley.Process
---@return string[] missing  events that somebody subscribed to and this version does not have
--- Raises an error with the system's code when nothing can listen or be written.
function Hub:open(process)
  local events, missing = {}, {}
  for event in pairs(self.handlers) do
    table.insert(hook_events.has(event, self.version) and events or missing, event)
  end
  table.sort(events)
  table.sort(missing)
  self.entry = listener.attach(function(...) serve(self, ...) end)
  self.folder = plugin.write { url = self.entry.url, events = events }
  process:prepare { arguments = { "--plugin-dir", self.folder },
    variables = listener.variables_for(process.environment) }
  return missing
end

--- Whether the program can call.
---@return boolean
function Hub:is_open() return self.entry ~= nil end

--- Nobody can call any more, and nothing is left. May be called again.
function Hub:close()
  if self.folder then plugin.remove(self.folder) end
  if self.entry then self.entry:close() end
  self.folder, self.entry = nil, nil
end

return M
