-- A dialogs policy: some of git's commands run, every other call that the program asks about is refused. It judges the
-- call itself, where the program shows it whole. What else comes up (trust, a plan, a question) is left to the default.
--
--   parley ask --permission-mode default --policy dialogs=scripts/examples/git_only.lua "What has changed here?"
local default = require "parley.policy.dialogs"

local M = {}

local ALLOWED = { ["git status"] = true, ["git diff"] = true, ["git log --oneline"] = true }

function M.decide(dialog, accept)
  if dialog.kind ~= "permission" then return default.decide(dialog, accept) end
  local call = dialog.tool_use
  if not call then return { fail = "the call that it is about cannot be seen whole" } end
  if call.name == "Bash" and ALLOWED[call.input.command] then return { allow = true } end
  return { deny = "only git status, git diff and git log --oneline run here" }
end

return M
