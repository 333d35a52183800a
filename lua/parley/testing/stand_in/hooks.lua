--- Hooks: shell commands, run for real with a JSON object on standard input, and URLs, which get it posted.
local core = require "parley.core"
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

local DEFAULT_TIMEOUT_S = 600

---@class parley.testing.Hooks
local Hooks = {}
Hooks.__index = Hooks

--- Hooks of a session.
---@param options {configuration: parley.testing.Configuration, profile: parley.testing.Profile,
---        outside: parley.testing.Outside, faults: table, common: fun(): table}  `common` gives the fields that every
---        hook gets
---@return parley.testing.Hooks
function M.new(options) return setmetatable(options, Hooks) end

--- The program tells these only commands.
local WITHOUT_HTTP = { SessionStart = true, Setup = true }

local function hooks_of(self, event, fields)
  local found, events, tool_name = {}, self.profile.hook_events, fields and fields.tool_name
  for _, hook in ipairs(events[event] and self.configuration:hooks(event, events, tool_name) or {}) do
    if hook.type == "command" or not WITHOUT_HTTP[event] then table.insert(found, hook) end
  end
  return found
end

--- Whether an event has hooks that this version runs.
---@param event string
---@param fields? table  what the event adds to the input
---@return boolean
function Hooks:has(event, fields) return #hooks_of(self, event, fields) > 0 end

--- Whether a URL on loopback is called directly, and not by way of a proxy that knows nothing of it.
local function is_reached(environment)
  local proxy = environment.HTTP_PROXY or environment.http_proxy
  if not proxy or proxy == "" then return true end
  for each in (environment.no_proxy or environment.NO_PROXY or ""):gmatch "[^,%s]+" do
    if each == "127.0.0.1" or each == "*" then return true end
  end
  return false
end

--- What a server says to the input; nothing where nobody answers in time.
local function ask(self, hook, input)
  if not is_reached(self.outside.environment) then return {} end
  local ok, answer = pcall(self.outside.http, { url = hook.url, headers = { ["content-type"] = "application/json" },
    body = input, idle_ms = self.faults.drop_hooks_ms or (hook.timeout or DEFAULT_TIMEOUT_S) * 1000 })
  if not ok and errors.is(answer, "Cancelled") then error(answer, 0) end
  return ok and answer or {}
end

--- Posts the input to a URL. Whatever is no 2xx with JSON counts as no hook at all.
local function post(self, hook, input)
  local started = task.now()
  local answer = ask(self, hook, input)
  local is_fine = answer.status and answer.status >= 200 and answer.status < 300
  local decoded = is_fine and core.json.decode(answer.body) or nil
  return { status = 0, output = "", errors = "", command = hook.url, milliseconds = math.floor(task.now() - started),
    decoded = type(decoded) == "table" and decoded or nil }
end

--- Runs an event's hooks, one after the other.
---@param event string
---@param fields? table   what the event adds to the input
---@return table[] results  with `command` and, where the output is JSON, `decoded`
function Hooks:run(event, fields)
  local results = {}
  local hooks = hooks_of(self, event, fields)
  if #hooks == 0 then return results end
  local input = self.common()
  input.hook_event_name = event
  for name, value in pairs(fields or {}) do input[name] = value end
  local text = core.json.encode(input)
  for _, hook in ipairs(hooks) do
    local result
    if hook.type == "http" then
      result = post(self, hook, text)
    else
      result = self.outside.shell(hook.command, text .. "\n", self.configuration.cwd)
      result.command = hook.command
      result.decoded = result.output:match "^%s*{" and core.json.decode(result.output) or nil
    end
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

--- Which of several decisions counts (2.1.110, 2.1.197, 2.1.332: the one that denies).
local WEIGHTS = { allow = 1, ask = 2, deny = 3 }

local function decision_in(result)
  local specific = result.decoded and result.decoded.hookSpecificOutput or {}
  local of_dialog = specific.decision or {}
  local decision = specific.permissionDecision or of_dialog.behavior
  if WEIGHTS[decision] then
    return decision, { reason = specific.permissionDecisionReason or of_dialog.message,
      input = specific.updatedInput or of_dialog.updatedInput }
  end
  if result.status == 2 then return "deny", {} end
end

--- The decision of an event's permission hooks.
---@param results table[]
---@return "allow"|"deny"|"ask"|nil
---@return table? specific  what came with it: a reason, a changed input
function M.decision(results)
  local decision, specific
  for _, result in ipairs(results) do
    local one, with = decision_in(result)
    if one and (not decision or WEIGHTS[one] > WEIGHTS[decision]) then decision, specific = one, with end
  end
  return decision, specific
end

return M
