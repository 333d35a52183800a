--- Hooks: shell commands from the settings, run for real, with a JSON object on standard input.
local core = require "parley.core"

local M = {}

---@class parley.testing.Hooks
local Hooks = {}
Hooks.__index = Hooks

--- Hooks of a session.
---@param options {configuration: parley.testing.Configuration, profile: parley.testing.Profile,
---        outside: parley.testing.Outside, common: fun(): table}  `common` gives the fields that every hook gets
---@return parley.testing.Hooks
function M.new(options) return setmetatable(options, Hooks) end

--- Whether an event has hooks that this version runs.
---@param event string
---@return boolean
function Hooks:has(event)
  return self.profile.hook_events[event] ~= nil and #self.configuration:hooks(event) > 0
end

--- Runs an event's hooks, one after the other.
---@param event string
---@param fields? table   what the event adds to the input
---@return table[] results  with `command` and, where the output is JSON, `decoded`
function Hooks:run(event, fields)
  local results = {}
  if not self:has(event) then return results end
  local input = self.common()
  input.hook_event_name = event
  for name, value in pairs(fields or {}) do input[name] = value end
  for _, command in ipairs(self.configuration:hooks(event)) do
    local result = self.outside.shell(command, core.json.encode(input) .. "\n", self.configuration.cwd)
    result.command = command
    result.decoded = result.output:match "^%s*{" and core.json.decode(result.output) or nil
    table.insert(results, result)
  end
  return results
end

--- What `UserPromptSubmit` hooks have against a message.
---@param results table[]
---@return {why?: string, hides_message: boolean}? refusal
---@return {why?: string}? stop  the message is kept, and not answered
function M.objections(results)
  for _, result in ipairs(results) do
    local said = result.decoded or {}
    local specific = said.hookSpecificOutput or {}
    if result.status == 2 then
      return { why = ("[%s]: %s"):format(result.command, result.errors), hides_message = false }
    elseif said.decision == "block" then
      return { why = said.reason or "Blocked by hook", hides_message = specific.suppressOriginalPrompt == true }
    elseif said.continue == false then
      return nil, { why = said.stopReason }
    end
  end
end

--- The decision of a permission hook.
---@param results table[]
---@return "allow"|"deny"|nil
function M.decision(results)
  for _, result in ipairs(results) do
    local specific = result.decoded and result.decoded.hookSpecificOutput or {}
    local decision = specific.permissionDecision or specific.decision and specific.decision.behavior
    if decision == "allow" or decision == "deny" then return decision end
    if result.status == 2 then return "deny" end
  end
end

return M
