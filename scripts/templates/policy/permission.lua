-- A permission policy: whether a tool call may run.
--
--   parley ask --policy permission=NAME.lua "What is in here?"
--   parley.backend { policies = { permission = "NAME.lua" } }
--
-- The program asks before each call, in every permission mode, sub-agents' calls too. What fails here denies the call.
local READS = { Read = true, Grep = true, Glob = true, LS = true }
local COMMANDS = { ["git status"] = true, ["git diff"] = true, ["make test"] = true }

local M = {}

--- `call` has `id`, `name`, `input` (whole), `cwd`, `session_id`, `permission_mode`, `agent` (of a sub-agent) and
--- `request`, what was passed to `complete` or is the batch's (`id`, `metadata`, `turn`). It may wait, as for a person.
function M.decide(call)
  if READS[call.name] then return { allow = true } end -- input = { … } has it run with another one
  if call.name == "Bash" and COMMANDS[call.input.command] then return { allow = true } end
  if call.name == "AskUserQuestion" then return { ask = true } end -- a dialog, for the dialogs policy
  -- The model is told why, and goes on; with `interrupt = true` the turn ends. nil leaves it to the program's rules.
  return { deny = "only reading, git status, git diff and make test are allowed here" }
end

return M
