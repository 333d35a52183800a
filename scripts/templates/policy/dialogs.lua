-- A dialogs policy: what to do with what comes up on the screen.
--
--   parley ask --permission-mode default --policy dialogs=NAME.lua "What has changed here?"
--   parley.backend { permission_mode = "default", policies = { dialogs = "NAME.lua" } }
--
-- About calls a permission policy is asked earlier, in every mode, and has a word for the model: `parley new policy
-- --kind permission`. This one answers the dialogs themselves: trust, questions, plans, and calls outside of
-- `bypassPermissions`.
local default = require "parley.policy.dialogs"

local M = {}

local COMMANDS = { ["git status"] = true, ["git diff"] = true }

--- `dialog` has `kind`, `text`, `choices`, `selected`, and `tool_use` where it is about one call that is shown whole;
--- `accept` is the option of that name. It may wait, as for a person.
function M.decide(dialog, accept)
  if dialog.kind == "permission" then
    local call = dialog.tool_use
    if not call then return { fail = "the call that it is about cannot be seen whole" } end
    if call.name == "Bash" and COMMANDS[call.input.command] then return { allow = true } end
    return { deny = "only git status and git diff run here" } -- which ends the turn
  end
  -- Others: { choose = 2 } or { choose = "No" } (a choice, by its number or how its label begins), { keys = "\27" }.
  return default.decide(dialog, accept)
end

return M
