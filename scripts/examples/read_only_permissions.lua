-- A permission policy: tools that only read run, every other call is denied, with a word to the model. It judges the
-- call itself, before it runs, in every permission mode; sub-agents' calls too.
--
--   parley ask --policy permission=scripts/examples/read_only_permissions.lua "What is in here?"
local READ_ONLY = { Read = true, Grep = true, Glob = true, LS = true, NotebookRead = true, WebSearch = true,
  Agent = true, Task = true, TodoWrite = true }
local HARMLESS = { ls = true, cat = true, head = true, tail = true, wc = true, pwd = true, stat = true }

local M = {}

--- One plain command that reads, and nothing behind it.
local function is_harmless(command)
  return type(command) == "string" and not command:find "[;&|<>`$\n(]" and HARMLESS[command:match "^%s*(%S+)"] == true
end

function M.decide(call)
  if READ_ONLY[call.name] or call.name == "Bash" and is_harmless(call.input.command) then return { allow = true } end
  return { deny = "only what reads is allowed here" }
end

return M
