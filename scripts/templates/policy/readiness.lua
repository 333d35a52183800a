-- A readiness policy: whether the program takes a message now.
--
--   parley ask --policy readiness=NAME.lua "What is 2 + 2?"
--   parley.backend { policies = { readiness = "NAME.lua" } }
--
-- This one has the program left alone, too, while its screen shows certain rows.
local default = require "parley.policy.readiness"

local M = {}

--- Lua patterns; a row that one fits says that the program is at work.
local AT_WORK = { "^%s*Auto%-updating", "^%s*Installing" }

--- Called at every change of the screen or the status file; it must not wait. `view` has `rows` (the screen), `cursor`,
--- `title`, `status` (the status file), `version`, `elapsed_ms`, `has_started`, …
--- It returns "starting", "ready", "busy" or "dialog".
function M.state(view)
  local state = default.state(view)
  if state ~= "ready" then return state end
  for _, row in ipairs(view.rows) do
    for _, pattern in ipairs(AT_WORK) do
      if row:find(pattern) then return "busy" end
    end
  end
  return state
end

return M
