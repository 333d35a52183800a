--- Waits that nothing can end: who waits for a place of the pool, or for the session of a key, that is held by tasks
--- which go on only when one of those who wait does.
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

--- Whether the session that a caller wants, and no other, is another's now, or will be that of somebody before it.
---@param self parley.Pool
---@param lease parley.Lease
---@return boolean
function M.is_in_use(self, lease)
  if not lease.wait then return false end
  for other in pairs(self.leases) do
    if other.key == lease.key then return true end
  end
  for _, waiter in ipairs(self.waiting) do
    if waiter.lease == lease then return false end
    if waiter.lease.key == lease.key then return true end
  end
  return false
end

--- Whether a lease may end while those who are stuck wait on: its turn does not while a call in it hangs on them.
local function may_end(lease, stuck)
  for one in pairs(lease.session and lease.session.serving or {}) do
    if task.hangs_on(one, stuck) then return false end
  end
  return not (lease.task and task.hangs_on(lease.task, stuck))
end

--- Whether a place may become free while those who are stuck wait on.
local function may_have_place(self, stuck)
  local held = 0
  for lease in pairs(self.leases) do
    if may_end(lease, stuck) then return true end
    held = held + 1
  end
  for _, entry in pairs(self.entries) do
    local is_kept = entry.is_idle and entry.is_pinned and not entry.timer
    if is_kept then held = held + 1 end
  end
  return held < self.places -- of the others nobody knows
end

--- The same for the session that a waiter wants and no other.
local function may_have_session(self, waiter, stuck)
  local key = waiter.lease.key
  for lease in pairs(self.leases) do
    if lease.key == key and may_end(lease, stuck) then return true end
  end
  for _, other in ipairs(self.waiting) do
    if other == waiter then return false end
    if other.lease.key == key and not stuck[other.task] then return true end
  end
end

--- The waiter that came last of those whom nothing can serve: all that they wait for is held by tasks that go on only
--- when one of them does, or by pinned sessions that nothing ends.
---@param self parley.Pool
---@return table? waiter
function M.find(self)
  if self.choosy == 0 and may_have_place(self, self.stalled) then return nil end
  local stuck, has_changed = {}, true
  for one in pairs(self.stalled) do stuck[one] = true end
  while has_changed do
    has_changed = false
    local has_place = may_have_place(self, stuck)
    for _, waiter in ipairs(self.waiting) do
      local may_go_on = has_place
      if M.is_in_use(self, waiter.lease) then may_go_on = may_have_session(self, waiter, stuck) end
      if may_go_on and stuck[waiter.task] then stuck[waiter.task], has_changed = nil, true end
    end
  end
  for i = #self.waiting, 1, -1 do
    if stuck[self.waiting[i].task] then return self.waiting[i] end
  end
end

--- What a caller that nothing can serve is told.
---@param self parley.Pool
---@param lease parley.Lease
---@return parley.Error
function M.error(self, lease)
  local message
  if M.is_in_use(self, lease) then
    message = "this request waits for the session under its key, which is used by a turn that waits for this request; "
      .. "leave that turn's loop first"
  elseif not next(self.leases) then
    message = ("there is no place for this session: all %d (max_sessions) are kept by sessions that are pinned"):format(
      self.limit)
  else
    message = ("this request waits for a place that only its own end could free: all %d (max_sessions) are held by "
      .. "turns that wait for it; leave their loops first, or raise max_sessions"):format(self.limit)
  end
  return errors.session_error(message, { reason = "deadlock" })
end

return M
