--- What a session costs, as its program says of each API request: those of sub-agents and of its own are among them. It
--- has an address of its own, which the program's commands find in their environment, too.
local clock = require "parley.base.clock"
local core = require "parley.core"
local listener = require "parley.hub.listener"
local tables = require "parley.base.tables"
local telemetry = require "parley.claude.telemetry"

local M = {}

--- So long after a turn the report of its last request is waited for. It takes some 50 ms.
local PATIENCE_MS = 3000

---@class parley.Costs
---@field total number        of all that was told, in US dollars
---@field unknown? string     why there is nothing to be known
---@field package has_heard boolean
---@field package has_complained? true
---@field package latest string  when the last request was answered that was told of
---@field package before number  the total when the last turn ended
---@field package due? number    until when a report is waited for
---@field package on_report fun()
---@field package entry? parley.HubEntry
local Costs = {}
Costs.__index = Costs
Costs.__name = "parley.Costs"

--- Makes the costs of a session that is not started yet.
---@param given {on_report: fun()}  called when something was told
---@return parley.Costs
function M.new(given)
  return setmetatable({ on_report = given.on_report, total = 0, before = 0, latest = "", has_heard = false }, Costs)
end

local function take(self, report)
  self.has_heard = true
  for _, request in ipairs(telemetry.requests(report)) do
    self.total = self.total + request.cost_usd
    if request.at > self.latest then self.latest = request.at end
  end
  self.on_report()
end

local function serve(self, path, request, response)
  if path ~= "v1/logs" or request.method ~= "POST" then return response:send(404, nil, "") end
  local report = core.json.decode(request:body())
  if type(report) ~= "table" then return response:send(400, nil, "") end
  take(self, report)
  listener.answer(response, {})
end

--- Has a process that is about to start tell what its requests cost.
---@param process parley.Process
--- Raises an error with the system's code when nothing can listen.
function Costs:open(process)
  local entry = listener.attach(function(...) serve(self, ...) end)
  local variables, why = telemetry.variables(entry.url, process.environment)
  if not variables then
    entry:close()
    self.unknown = why .. ": the program's telemetry is the user's own"
    return
  end
  self.entry = entry
  process:prepare { variables = tables.merged(variables, listener.variables_for(process.environment)) }
end

--- Looks whether all of a turn that is over was told of. The last request is told of a moment after its answer stands
--- in the transcript.
---@param answered_at? string  the timestamp of the turn's last answer
---@return number? due  until when that is waited for; nil: there is nothing to wait for
function Costs:look(answered_at)
  if self.unknown or not answered_at or self.latest >= answered_at then return nil end
  self.due = self.due or clock.now() + PATIENCE_MS
  if clock.now() < self.due then return self.due end
  if not self.has_heard then
    self.unknown = "the program tells nothing of its requests; settings may have switched its telemetry off, or "
      .. "taken it elsewhere"
  end
end

--- Why nothing is known; once, for it stays so.
---@return string?
function Costs:complaint()
  if self.has_complained or not self.unknown then return nil end
  self.has_complained = true
  return "it is not known what the turns cost: " .. self.unknown
end

--- What the turn that runs has cost up to now.
---@return number? cost  nil where that is not known
function Costs:of_turn() return not self.unknown and self.total - self.before or nil end

--- Ends a turn. What is told of later counts for the next one.
---@return number? cost  in US dollars
function Costs:end_turn()
  local cost = self:of_turn()
  self.before, self.due = self.total, nil
  return cost
end

--- Nobody can tell any more. May be called again.
function Costs:close()
  if self.entry then self.entry:close() end
  self.entry = nil
end

return M
