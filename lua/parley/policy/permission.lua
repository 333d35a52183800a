--- Whether a tool call may run. It is asked about every call before that runs, in every permission mode, those of
--- sub-agents too; about exactly this call, by its id and its whole input.
---
--- To use one, return a table with `decide`. It may wait (`parley.task`) as long as it likes. When it fails, the call
--- is denied, and the turn raises what it failed with. Without one, and where `decide` returns nil, the program's own
--- rules hold: in permission mode `bypassPermissions` the call runs, in the others what the program would ask about
--- goes to the dialogs policy.
local M = {}

local function is_one(decision)
  local count = (decision.allow and 1 or 0) + (decision.deny and 1 or 0) + (decision.ask and 1 or 0)
  if count ~= 1 then return false, "one with " .. (count == 0 and "none" or "several") .. " of allow, deny and ask" end
  if decision.input and not decision.allow then return false, "one with an input, and not allowed" end
  if decision.interrupt and not decision.deny then return false, "one that interrupts, and does not deny" end
  return true
end

M.contract = {
  decide = { returns = "{allow = boolean?, input = table?, deny = string?, interrupt = boolean?, ask = boolean?}",
    or_nil = "nil", fits = is_one },
}

---@class parley.Call
---@field id? string          of the `tool_use` block
---@field name string         of the tool
---@field input table         whole
---@field session_id string
---@field cwd string
---@field permission_mode? string  the caller's
---@field agent? {id: string, type?: string}  the sub-agent that calls
---@field request? table      what the caller of `complete` has passed as such

---@class parley.Permission
---@field allow? boolean      it runs, whatever the program's own rules say
---@field input? table        instead of the model's
---@field deny? string        why it does not run, for the model
---@field interrupt? boolean  the turn ends, too
---@field ask? boolean        a dialog comes up, for the dialogs policy

--- Decides about a call.
---@param _ parley.Call
---@return parley.Permission? permission  nil: as the program's own rules say
function M.decide(_) return nil end

return M
