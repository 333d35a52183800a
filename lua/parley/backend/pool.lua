--- Live sessions: which are idle under which keys, which are in use, and how many there may be.
---
--- A lease is exclusive: a session in use stands under no key. A caller gets, at once, the idle session under its key,
--- or a place for one more while fewer than `limit` are alive, or the place of the idle session least recently used
--- that is not pinned. Else it waits, first come, first served; nothing that it could have is idle while it does.
--- Whoever wants the session of a key and no other waits for the one that is in use, and holds up nobody.
---
--- A wait that nothing can end but the end of the waiter's own turn, or of turns that wait for each other so, is an
--- error at once (see `find_stuck`).
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

---@class parley.Lease         what a caller wants and has; it stays the caller's table
---@field key? string          what the session is looked for under
---@field wait? boolean        for the one that is in use under the key, rather than have another
---@field pin? boolean         nobody has its place afterwards while it is idle
---@field prefix? string       what its keys begin with, and no policy knows of
---@field timeout_ms? number   how long it may wait
---@field task? parley.Task    who uses it now
---@field package is_anonymous? true

---@class parley.Pool
---@field package limit integer
---@field package idle_timeout_ms? number
---@field package entries table<parley.Session, table>  every live session: `keys`, `is_idle`, `is_pinned`, `used`,
---                                `timer`, `lease`, `prefix`, `number`, `is_taken`, `taker`
---@field package places integer   taken, by a session or by a caller that is about to add one
---@field package leases table<parley.Lease, true>  of the callers that have a session or a place
---@field package waiting table[]  callers, first come first: `lease`, `task`, `wake`
---@field package stalled table<parley.Task, table>  the same, by their tasks
---@field package choosy integer    how many of them want the session of a key and no other
---@field package uses integer       releases so far, by which the sessions are told apart
---@field package added integer      sessions so far
---@field package observer? fun()    what `task` tells of tasks that wait for each other
---@field package closed? true
local Pool = {}
Pool.__index = Pool
Pool.__name = "parley.Pool"

--- Makes an empty pool.
---@param given {limit: integer, idle_timeout_ms?: number}  live processes at a time; an idle session is ended after so
---       long, nil: never
---@return parley.Pool
function M.new(given)
  local idle_timeout_ms = given.idle_timeout_ms
  if idle_timeout_ms == math.huge then idle_timeout_ms = nil end
  return setmetatable({
    limit = given.limit, idle_timeout_ms = idle_timeout_ms, entries = {}, places = 0, leases = {}, waiting = {},
    stalled = {}, choosy = 0, uses = 0, added = 0,
  }, Pool)
end

local function stop_timer(entry)
  if entry.timer then entry.timer:close() end
  entry.timer = nil
end

local function take(entry)
  stop_timer(entry)
  entry.is_idle, entry.keys = false, {}
end

--- Forgets the idle sessions whose process has ended.
local function sweep(self)
  for session, entry in pairs(self.entries) do
    if entry.is_idle and not session.process:is_alive() then
      stop_timer(entry)
      session:kill()
      self.entries[session] = nil
      self.places = self.places - 1
    end
  end
end

--- Whether the session that a caller wants, and no other, is another's now, or will be that of somebody before it.
local function is_in_use(self, lease)
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

--- What a caller can have at once; it does not wait, so that nobody comes between looking and taking.
---@return {session?: parley.Session, victim?: parley.Session}?  without either: a free place; nil: nothing
local function find(self, lease)
  sweep(self)
  local entries, key = self.entries, lease.key
  local session, victim
  for candidate, entry in pairs(entries) do
    if entry.is_idle then
      if key and entry.keys[key] and (not session or entry.used > entries[session].used) then session = candidate end
      local may_end = not entry.is_pinned
      if may_end and (not victim or entry.used < entries[victim].used) then victim = candidate end
    end
  end
  if session then return { session = session } end
  if is_in_use(self, lease) then return nil end
  if self.places < self.limit then return {} end
  return victim and { victim = victim }
end

local function grant(self, lease)
  local found = find(self, lease)
  if not found then return nil end
  local session = found.session or found.victim
  if session then take(self.entries[session]) else self.places = self.places + 1 end
  if found.session then self.entries[session].lease = lease end
  if not lease.is_anonymous then self.leases[lease] = true end
  return found
end

-- Waiting -------------------------------------------------------------------------------------------------------------

--- Whether a lease may end while those who are stuck wait on.
local function may_end(lease, stuck) return not (lease.task and task.hangs_on(lease.task, stuck)) end

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
local function find_stuck(self)
  if self.choosy == 0 and may_have_place(self, self.stalled) then return nil end
  local stuck, has_changed = {}, true
  for one in pairs(self.stalled) do stuck[one] = true end
  while has_changed do
    has_changed = false
    local has_place = may_have_place(self, stuck)
    for _, waiter in ipairs(self.waiting) do
      local may_go_on = has_place
      if is_in_use(self, waiter.lease) then may_go_on = may_have_session(self, waiter, stuck) end
      if may_go_on and stuck[waiter.task] then stuck[waiter.task], has_changed = nil, true end
    end
  end
  for i = #self.waiting, 1, -1 do
    if stuck[self.waiting[i].task] then return self.waiting[i] end
  end
end

local function deadlock(self, lease)
  local message
  if is_in_use(self, lease) then
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

local function refuse_stuck(self)
  while self.waiting[1] do
    local waiter = find_stuck(self)
    if not waiter then return end
    waiter.wake { failure = deadlock(self, waiter.lease) }
  end
end

local function has_any(self)
  if self.places < self.limit then return true end
  for _, entry in pairs(self.entries) do
    if entry.is_idle then return true end
  end
  return false
end

--- Gives what has become free to those who wait.
local function serve(self)
  local i = 1
  while self.waiting[i] and has_any(self) do
    local waiter = self.waiting[i]
    local granted = grant(self, waiter.lease)
    if granted then waiter.wake(granted) else i = i + 1 end
  end
  refuse_stuck(self)
end

local function late(self, lease)
  local what = is_in_use(self, lease) and "the session under its key"
    or ("one of the %d places (max_sessions)"):format(self.limit)
  return errors.session_error(("the request has waited %g ms (turn_timeout_ms) for %s, which is in use"):format(
    lease.timeout_ms, what), { reason = "timeout" })
end

local function remove(list, value)
  for i, other in ipairs(list) do
    if other == value then return table.remove(list, i) end
  end
end

local function join(self, waiter)
  table.insert(self.waiting, waiter)
  self.stalled[waiter.task] = waiter
  if waiter.lease.wait then self.choosy = self.choosy + 1 end
  self.observer = self.observer or function() refuse_stuck(self) end
  task.observe_awaiting(self.observer, true)
end

local function leave(self, waiter)
  remove(self.waiting, waiter)
  self.stalled[waiter.task] = nil
  if waiter.lease.wait then self.choosy = self.choosy - 1 end
  if not self.waiting[1] then task.observe_awaiting(self.observer, false) end
  stop_timer(waiter)
end

local function wait_in_line(self, lease)
  return task.suspend(function(wake)
    local waiter = { lease = lease, task = task.current() }
    function waiter.wake(granted)
      leave(self, waiter)
      wake(granted)
    end
    join(self, waiter)
    if lease.timeout_ms and lease.timeout_ms < math.huge then
      waiter.timer = clock.after(lease.timeout_ms, function() waiter.wake { failure = late(self, lease) } end)
    end
    refuse_stuck(self)
    return function()
      leave(self, waiter)
      serve(self) -- who waits for the same session now comes first
    end
  end)
end

--- Ends a session; its place stays whose lease it is, unless that fails.
local function end_session(self, session, lease)
  local ok, err = pcall(session.close, session)
  local entry = self.entries[session]
  self.entries[session] = nil
  if entry and entry.taker then entry.taker.wake(false) end
  if ok then return end
  self:release_place(lease)
  error(err, 0)
end

--- Gets the idle session that waits under a key, or else a place for a new one, waiting for it if need be.
---@param key? string
---@param lease? parley.Lease  what more is wanted, and by whom; of a caller that says nothing nobody knows why it waits
---@return parley.Session? session  until `release` or `discard`; nil: a place, for `add` or `release_place`
--- Raises `ClosedError` when the pool is closed, `SessionError` (reason `"timeout"` or `"deadlock"`).
function Pool:acquire(key, lease)
  if self.closed then error(errors.closed_error "the backend is closed", 0) end
  lease = lease or { is_anonymous = true }
  lease.key = key
  local granted = grant(self, lease) or wait_in_line(self, lease)
  if not granted then error(errors.closed_error "the backend is closed", 0) end
  if granted.failure then error(granted.failure, 0) end
  if granted.victim then end_session(self, granted.victim, lease) end
  return granted.session
end

local function end_lease(self, lease)
  if lease then self.leases[lease] = nil end
end

--- Gives back a place that was not used.
---@param lease? parley.Lease
function Pool:release_place(lease)
  end_lease(self, lease)
  self.places = self.places - 1
  serve(self)
end

--- Puts a session into the caller's place; it is in use.
---@param session parley.Session
---@param lease? parley.Lease
--- Raises `ClosedError` when the pool was closed meanwhile.
function Pool:add(session, lease)
  if self.closed then error(errors.closed_error "the backend is closed", 0) end
  self.added = self.added + 1
  self.entries[session] = { keys = {}, is_idle = false, used = 0, lease = lease, prefix = lease and lease.prefix or "",
    number = self.added }
end

--- Ends a lease: the session waits under these keys. Where nobody can find it again it is not pinned.
---@param session parley.Session
---@param keys string[]
function Pool:release(session, keys)
  local entry = self.entries[session]
  if not entry then return end -- the pool was closed
  self.uses = self.uses + 1
  if entry.is_taken then entry.keys, entry.is_taken = {}, nil end
  entry.is_idle, entry.used = true, self.uses
  entry.is_pinned = entry.lease ~= nil and entry.lease.pin and #keys > 0
  end_lease(self, entry.lease)
  entry.lease = nil
  for _, key in ipairs(keys) do entry.keys[key] = true end
  if entry.taker then return entry.taker.wake(true) end
  if self.idle_timeout_ms then
    entry.timer = clock.after(self.idle_timeout_ms, function()
      take(entry)
      -- It keeps its place until the process has ended, or somebody waits for that.
      entry.is_idle, entry.used, entry.is_pinned = true, 0, false
      session:kill()
      serve(self)
    end)
  end
  serve(self)
end

--- Ends a session that is in use and frees its place.
---@param session parley.Session
---@param keeps_place? boolean  the place stays the caller's
function Pool:discard(session, keeps_place)
  local entry = self.entries[session]
  if not (entry or keeps_place) then return end -- the pool was closed
  end_session(self, session, entry and entry.lease)
  if not keeps_place then self:release_place(entry.lease) end
end

local function hold(self, entry, lease)
  stop_timer(entry)
  lease.pin = entry.is_pinned
  entry.is_idle, entry.is_taken, entry.lease = false, true, lease
  self.leases[lease] = true
end

--- Gives one session, and no other, to somebody who is no caller; a turn that runs in it ends first. Nobody finds it
--- until `release`, and the keys under which it was waiting are told of it in `list`.
---@param session parley.Session
---@param lease parley.Lease
---@return boolean taken  false when it is another's that is no caller, or has ended
function Pool:take_over(session, lease)
  local entry = self.entries[session]
  if not entry or entry.is_taken or entry.taker or self.closed then return false end
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

---@class parley.PoolEntry   of `sessions`
---@field session parley.Session
---@field in_use boolean
---@field taken boolean
---@field lease? parley.Lease  of who has it

--- What lives, the oldest first.
---@return parley.PoolEntry[]
function Pool:sessions()
  sweep(self)
  local list = {}
  for session, entry in pairs(self.entries) do
    table.insert(list, { session = session, in_use = not entry.is_idle, taken = entry.is_taken or false,
      lease = entry.lease, number = entry.number })
  end
  table.sort(list, function(one, other) return one.number < other.number end)
  return list
end

---@return table<string, parley.Process>  by session id
function Pool:processes()
  sweep(self)
  local processes = {}
  for session in pairs(self.entries) do processes[session.session_id] = session.process end
  return processes
end

---@return table<string, string>  what each session's program is doing, by session id
function Pool:states()
  sweep(self)
  local states = {}
  for session in pairs(self.entries) do states[session.session_id] = session:state() end
  return states
end

---@class parley.LiveSession     as a routing policy sees it
---@field session_id string
---@field state? string          `"starting"`, `"ready"`, `"busy"` or `"dialog"`: what its program is doing
---@field in_use boolean         a request has it
---@field pinned boolean
---@field turns integer          that have ended in it
---@field keys string[]          under which it waits; of one in use, the one that it was asked for by
---@field taken? true            a person has it, and the keys are those under which it waited before

--- What lives, as plain data.
---@return parley.LiveSession[]  by session id
function Pool:list()
  sweep(self)
  local list = {}
  for session, entry in pairs(self.entries) do
    local keys = { entry.lease and entry.lease.key }
    for key in pairs(entry.keys) do table.insert(keys, key) end
    table.sort(keys)
    for i, key in ipairs(keys) do keys[i] = key:sub(#entry.prefix + 1) end
    table.insert(list, { session_id = session.session_id, state = session.state and session:state(),
      in_use = not entry.is_idle, pinned = entry.is_pinned or false, turns = session.turns or 0, keys = keys,
      taken = entry.is_taken })
  end
  table.sort(list, function(left, right) return left.session_id < right.session_id end)
  return list
end

---@return integer
function Pool:count()
  sweep(self)
  local count = 0
  for _ in pairs(self.entries) do count = count + 1 end
  return count
end

local function turn_away(self)
  self.closed = true
  while self.waiting[1] do self.waiting[1].wake() end
  for _, entry in pairs(self.entries) do
    stop_timer(entry)
    if entry.taker then entry.taker.wake(false) end
  end
end

--- The sessions, the oldest first: that they end in the same order each time is what a world with a seed is for.
local function in_order(entries)
  local list = {}
  for session in pairs(entries) do table.insert(list, session) end
  table.sort(list, function(one, other) return entries[one].number < entries[other].number end)
  return list
end

--- Ends every session, all at a time; whoever waits for a place gets a `ClosedError`.
function Pool:close()
  turn_away(self)
  local closing = {}
  for _, session in ipairs(in_order(self.entries)) do
    table.insert(closing, task.spawn(pcall, session.close, session))
  end
  for _, one in ipairs(closing) do one:await() end
  self.entries = {}
end

--- Ends every session without waiting for it. For callers that cannot wait.
function Pool:kill()
  turn_away(self)
  for _, session in ipairs(in_order(self.entries)) do session:kill() end
  self.entries = {}
end

return M
