-- A sleeping policy for a small machine: a session sleeps once its prompt cache has gone (PARLEY_QUIET, default 300
-- seconds, for those that never had one), the one that takes most memory first when a place is needed.
--
--   parley chat --policy sleeping=scripts/examples/sleep_early.lua
local M = {}

local QUIET_MS = (tonumber(os.getenv "PARLEY_QUIET") or 300) * 1000

local function is_quiet(session) return not session.is_warm and session.idle_ms >= QUIET_MS end

function M.choose(sessions, pressure)
  table.sort(sessions, function(one, other)
    if one.is_warm ~= other.is_warm then return other.is_warm end
    return (one.memory or 0) > (other.memory or 0)
  end)
  local ids = {}
  for _, session in ipairs(sessions) do
    if pressure.places > 0 or is_quiet(session) then table.insert(ids, session.session_id) end
  end
  return ids
end

return M
