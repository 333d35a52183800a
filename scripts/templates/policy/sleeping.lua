-- A sleeping policy: which of the quiet sessions are put to sleep first, and when.
--
--   parley chat --policy sleeping=NAME.lua
--   parley.backend { policies = { sleeping = "NAME.lua" } }
--
-- A session that sleeps has no process; the next message of its conversation wakes it. This one gives away the place of
-- the shortest conversation, and leaves memory to the default.
local default = require "parley.policy.sleeping"

local M = {}

--- Called when a request needs a place (`pressure.places` is 1), and every few seconds else; it must not wait. A session
--- has `session_id`, `idle_ms`, `turns`, `tokens`, `cost_usd`, `size`, `memory`, `is_warm`, `cools_ms`. It returns the
--- ids of those that are to sleep, in their order.
function M.choose(sessions, pressure)
  if pressure.places == 0 then return default.choose(sessions, pressure) end
  table.sort(sessions, function(one, other) return one.turns < other.turns end)
  return { sessions[1].session_id }
end

return M
