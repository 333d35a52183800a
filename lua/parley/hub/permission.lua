--- Asks a permission policy about the program's tool calls.
---
--- Hooks fail open: a call about which the program hears nothing runs as if nobody were to be asked. So the program
--- runs in a mode in which such a call comes to a dialog; what the caller's mode means is said here.
local core = require "parley.core"
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

--- The program would give up later than this, and run the call.
local PATIENCE_MS = 23 * 60 * 60 * 1000

--- So long the program may take to be interrupted.
local INTERRUPT_MS = 5000

--- The mode in which the program runs for a mode that the caller wants.
local RUNS_IN = { bypassPermissions = "default", default = "default", dontAsk = "dontAsk", plan = "plan" }

---@class parley.PermissionDesk
---@field package policy table
---@field package mode string                 the caller's
---@field package decided table<string, table>  the last decision, by the call's name and input
---@field package on_decision fun(call: parley.Call, decision: table)
local Desk = {}
Desk.__index = Desk
Desk.__name = "parley.PermissionDesk"

--- The mode for the program.
---@param mode string  the caller's
---@param where string
---@return string
--- Raises `ValueError` for one in which calls would run that nobody was asked about.
function M.mode_for(mode, where)
  if RUNS_IN[mode] then return RUNS_IN[mode] end
  error(errors.value_error(("%s: a permission policy cannot be kept in permission mode '%s', in which the program runs "
    .. "what it hears nothing about; give bypassPermissions, default, dontAsk or plan"):format(where, mode),
    { option = "permission_mode" }), 0)
end

--- Makes what asks a policy.
---@param given {policy: table, mode: string, on_decision: fun(call: parley.Call, decision: table)}
---@return parley.PermissionDesk
function M.new(given)
  return setmetatable({ policy = given.policy, mode = given.mode, on_decision = given.on_decision, decided = {} }, Desk)
end

local function identity(name, input) return core.json.encode({ name, input }, { sort_keys = true }) end

--- The policy's decision. Whatever goes wrong denies; what it was is for the script, and no word to the model.
local function decide(self, call)
  local ok, decision = pcall(task.timeout, PATIENCE_MS, self.policy.decide, call)
  if not ok then
    local cancellation = task.current():cancellation()
    if cancellation then error(cancellation, 0) end
    return { deny = "it cannot be decided whether this may run", error = decision }
  end
  local _, problem = core.json.encode { decision or {} } -- as deep as it will be written
  if problem then
    return { deny = "it cannot be decided whether this may run", error = errors.value_error(
      "the policy 'permission' has given a decision that cannot be written as JSON: " .. problem.message) }
  end
  if decision then return decision end
  return self.mode == "bypassPermissions" and { allow = true } or {}
end

local function answer(event, fields)
  fields.hookEventName = event
  return { hookSpecificOutput = fields }
end

--- The answer to `PreToolUse` that has a call not run.
---@param why string  for the model
---@return table hook_answer
function M.denial(why)
  return answer("PreToolUse", { permissionDecision = "deny", permissionDecisionReason = why })
end

local function kind_of(decision) return decision.allow and "allow" or decision.deny and "deny" or "other" end

--- Keeps a decision for the dialog that may come up. A dialog names no id: where two calls that are the same were
--- decided differently, none of the decisions is known to be about it.
local function note(self, name, input, decision)
  local key = identity(name, input)
  local former = self.decided[key]
  local differs = former and kind_of(former) ~= kind_of(decision)
  self.decided[key] = differs and {} or decision
end

--- Decides about a call: the hook `PreToolUse`.
---@param call parley.Call
---@return table? hook_answer
function Desk:ask(call)
  local decision = decide(self, call)
  note(self, call.name, decision.input or call.input, decision)
  self.on_decision(call, decision)
  if decision.allow then
    return answer("PreToolUse", { permissionDecision = "allow", updatedInput = decision.input,
      permissionDecisionReason = "allowed by Parley's permission policy" })
  elseif decision.deny then
    if decision.interrupt then task.sleep(INTERRUPT_MS) end -- an answer would have the model go on
    return M.denial(decision.deny)
  elseif decision.ask then
    return answer("PreToolUse", { permissionDecision = "ask", permissionDecisionReason = "a person decides" })
  end
end

--- Forgets what was decided, in a turn before.
function Desk:forget() self.decided = {} end

--- The program is about to put a dialog up (`PermissionRequest`) about a call that may have been decided: some of its
--- own rules stand above an answer to `PreToolUse`.
---@param name string
---@param input table
---@return table? hook_answer  nil: let it come up
function Desk:confirm(name, input)
  local decision = self.decided[identity(name, input)] or {}
  local said = decision.allow and { behavior = "allow", updatedInput = input }
    or decision.deny and { behavior = "deny", message = decision.deny }
  return said and answer("PermissionRequest", { decision = said }) or nil
end

return M
