-- A permission policy: a session may make so many tool calls (PARLEY_CALLS, default 20). The one after that is denied
-- and ends the turn. What is within the budget is left to the program's own rules.
--
--   PARLEY_CALLS=5 parley ask --policy permission=scripts/examples/call_budget.lua "Tidy up this folder"
local M = {}

local LIMIT = tonumber(os.getenv "PARLEY_CALLS") or 20
local made = {} -- by session

function M.decide(call)
  local count = (made[call.session_id] or 0) + 1
  made[call.session_id] = count
  if count > LIMIT then return { deny = ("%d tool calls are enough"):format(LIMIT), interrupt = true } end
end

return M
