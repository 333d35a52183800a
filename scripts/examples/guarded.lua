-- Asks with a permission policy of the script's own: tools that read run, every other call is denied with a word to the
-- model, and what was decided is printed.
--
--   parley scripts/examples/guarded.lua "Which tests are missing here?"
local parley = require "parley"

local question = ... or error(parley.errors.value_error "usage: guarded.lua QUESTION", 0)
local READS = { Read = true, Grep = true, Glob = true, LS = true }

local permission = {}

function permission.decide(call)
  if READS[call.name] then return { allow = true } end
  return { deny = call.name .. " is not allowed: only reading is" }
end

local backend <close> = parley.backend {
  executable = os.getenv "PARLEY_CLAUDE", policies = { permission = permission },
}
for event in backend:conversation():send(question) do
  if event.type == "assistant" and event:text() ~= "" then print(event:text()) end
  if event.subtype == "permission" then io.stderr:write(event.name, ": ", event.decision, "\n") end
end
