--- Which of the quiet sessions are put to sleep first, and when.
---
--- To replace it, return a table with `choose`. It is called when a request needs the place of another session, and
--- every few seconds while any lives; it gets plain data and must not wait. Sessions that are in use, pinned, or have
--- something running in the background are never among those that it is asked about.
local M = {}

M.contract = { choose = { returns = "a list of strings" } }

---@class parley.QuietSession
---@field session_id string
---@field idle_ms number      since its last turn
---@field turns integer       that have ended in it
---@field tokens? integer     of its conversation, as the model had it last
---@field cost_usd? number    of its turns, where costs are known
---@field size? integer       of its transcript, in bytes
---@field memory? integer     of its process, in bytes
---@field is_warm boolean     the model's cache of its conversation still stands; a later turn pays for all of it anew
---@field cools_ms number     until it does not: five minutes after the last turn, or an hour where that was asked for

---@class parley.SleepPressure: parley.MemoryPressure
---@field places integer      how many are needed now: 1 when a request waits for one, else 0

--- The share of ten seconds, in percent, in which something waited for memory; and how much of the limit is used.
local SHORT, DIRE = { some = 10, share = 0.9 }, { some = 40, share = 0.97 }

local function is_beyond(pressure, bound)
  return (pressure.some or 0) >= bound.some
    or pressure.limit ~= nil and pressure.used / pressure.limit >= bound.share
end

--- Least recently used first, those whose cache has gone before those whose cache is warm. Without a request that needs
--- a place it is one at a time, and only when memory is short; a warm one only when that is dire.
---@param sessions parley.QuietSession[]
---@param pressure parley.SleepPressure
---@return string[] ids  to be put to sleep, in this order; of a place that is needed the first one counts
function M.choose(sessions, pressure)
  local is_dire = is_beyond(pressure, DIRE)
  if pressure.places == 0 and not is_beyond(pressure, SHORT) then return {} end
  table.sort(sessions, function(one, other)
    if one.is_warm ~= other.is_warm then return other.is_warm end
    if one.idle_ms ~= other.idle_ms then return one.idle_ms > other.idle_ms end
    return one.session_id < other.session_id
  end)
  local first = sessions[1]
  if not first or first.is_warm and pressure.places == 0 and not is_dire then return {} end
  return { first.session_id }
end

return M
