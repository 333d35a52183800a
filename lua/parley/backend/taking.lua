--- The part of the pool by which one session, and no other, goes to somebody who is no caller: a person.
local task = require "parley.base.task"

local M = {}

---@class parley.PoolEntry   of `sessions`
---@field session parley.Session
---@field in_use boolean
---@field taken boolean
---@field lease? parley.Lease  of who has it

local function hold(self, entry, lease)
  if entry.timer then entry.timer:close() end
  lease.pin = entry.is_pinned
  entry.timer, entry.is_spare = nil, nil
  entry.is_idle, entry.is_taken, entry.lease = false, true, lease
  self.leases[lease] = true
end

--- Adds it to a pool.
---@param Pool table
function M.install(Pool)
  --- Gives a session to a lease; a turn that runs in it ends first. Nobody finds it until `release`, and the keys under
  --- which it was waiting are told of it in `list`.
  ---@param session parley.Session
  ---@param lease parley.Lease
  ---@return boolean taken  false when it is another's that is no caller, or has ended, or is about to
  function Pool:take_over(session, lease)
    local entry = self.entries[session]
    if not entry or entry.is_taken or entry.taker or entry.ending or self.closed then return false end
    if entry.is_idle then
      hold(self, entry, lease)
      return true
    end
    local ok, given = pcall(task.suspend, function(wake)
      entry.taker = { wake = function(is_given)
        entry.taker = nil
        if is_given then hold(self, entry, lease) end
        wake(is_given)
      end }
      return function() entry.taker = nil end
    end)
    if ok then return given end
    if entry.lease == lease then self:release(session, self:keys_of(session)) end -- given, and cancelled at once
    error(given, 0)
  end

  --- The keys under which a session waits, or was waiting when it was taken over.
  ---@param session parley.Session
  ---@return string[] keys  sorted
  function Pool:keys_of(session)
    local keys = {}
    for key in pairs(self.entries[session].keys) do table.insert(keys, key) end
    table.sort(keys)
    return keys
  end

  --- What lives, the oldest first.
  ---@return parley.PoolEntry[]
  function Pool:sessions()
    self:count() -- those that have ended are forgotten
    local list = {}
    for session, entry in pairs(self.entries) do
      table.insert(list, { session = session, in_use = not entry.is_idle, taken = entry.is_taken or false,
        lease = entry.lease, number = entry.number })
    end
    table.sort(list, function(one, other) return one.number < other.number end)
    return list
  end
end

return M
