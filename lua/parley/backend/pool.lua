--- Live sessions: which are idle under which keys, which are in use, and how many there may be.
---
--- A lease is exclusive: a session in use stands under no key. A caller gets, at once, the idle session under its key,
--- or a place for one more while fewer than `limit` are alive, or the place of the idle session least recently used
--- that is not pinned. Else it waits, first come, first served; nothing that it could have is idle while it does.
--- Whoever wants the session of a key and no other waits for the one that is in use, and holds up nobody.
---
--- A wait that nothing can end but the end of the waiter's own turn, or of turns that wait for each other so, is an
--- error at once (see `stuck.lua`).
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local stuck = require "parley.backend.stuck"
local taking = require "parley.backend.taking"
local task = require "parley.base.task"

local M = {}

local LOOK_AGAIN_MS = 250 -- one that may not end yet is looked at no sooner

---@class parley.Lease         what a caller wants and has; it stays the caller's table
---@field key? string          what the session is looked for under
---@field wait? boolean        for the one that is in use under the key, rather than have another
---@field pin? boolean         nobody has its place afterwards while it is idle
---@field prefix? string       what its keys begin with, and no policy knows of
---@field takes_spare? boolean  a spare session will do
---@field timeout_ms? number   how long it may wait
---@field task? parley.Task    who uses it now
---@field package is_anonymous? true

---@class parley.Pool
---@field package limit integer
---@field package idle_timeout_ms? number
---@field package choose function  as the rest, see `parley.PoolOptions`
---@field package may_end function
---@field package on_leaving function
---@field package on_leave function
---@field package on_wait function
---@field package on_quiet function
---@field package entries table<parley.Session, table>  every live session: `keys`, `is_idle`, `is_pinned`, `used`,
---                                `timer`, `lease`, `prefix`, `number`, `ending`, `is_spare`,
---                                `is_taken`, `taker`
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

local function nothing() end

---@class parley.PoolOptions
---@field limit integer             live processes at a time
---@field idle_timeout_ms? number   an idle session is ended after so long; nil: never
---@field choose? fun(idle: parley.Session[], lease: parley.Lease): parley.Session?  whose place a caller gets, of the
---                                 idle ones, the least recently used first; default: that one
---@field may_end? fun(session: parley.Session): boolean  whether an idle time-out ends it; default: it does
---@field on_leaving? fun(session: parley.Session)  is told of an idle one that is about to end,
---@field on_leave? fun(session: parley.Session)    and that has ended
---@field on_wait? fun()            is told when somebody must wait
---@field on_quiet? fun()           is told when nobody has or wants anything

--- Makes an empty pool.
---@param given parley.PoolOptions
---@return parley.Pool
function M.new(given)
  local idle_timeout_ms = given.idle_timeout_ms
  if idle_timeout_ms == math.huge then idle_timeout_ms = nil end
  return setmetatable({
    limit = given.limit, idle_timeout_ms = idle_timeout_ms, entries = {}, places = 0, leases = {}, waiting = {},
    stalled = {}, choosy = 0, uses = 0, added = 0, on_leaving = given.on_leaving or nothing,
    on_leave = given.on_leave or nothing, on_wait = given.on_wait or nothing, on_quiet = given.on_quiet or nothing,
    choose = given.choose or function(idle) return idle[1] end, may_end = given.may_end or function() return true end,
  }, Pool)
end

--- The sessions that a predicate takes, the oldest first, so that what is done to them is done in the same order each
--- time.
local function in_order(entries, takes)
  local list = {}
  for session, entry in pairs(entries) do
    if not takes or takes(entry, session) then table.insert(list, session) end
  end
  if list[2] then
    table.sort(list, function(one, other) return entries[one].number < entries[other].number end)
  end
  return list
end

local function stop_timer(entry)
  if entry.timer then entry.timer:close() end
  entry.timer = nil
end

local function take(entry)
  stop_timer(entry)
  entry.is_idle, entry.is_spare, entry.keys = false, nil, {}
end

--- An idle session has ended, and its place is free.
local function forget(self, session)
  stop_timer(self.entries[session])
  self.entries[session] = nil
  self.places = self.places - 1
  self.on_leave(session)
end

--- Forgets the idle sessions whose process has ended; who is ending one does that himself.
local function sweep(self)
  local function has_ended(entry, session) return entry.is_idle and not (entry.ending or session.process:is_alive()) end
  for _, session in ipairs(in_order(self.entries, has_ended)) do
    session:kill()
    forget(self, session)
  end
end

--- The session whose place a caller gets: one that is about to end anyhow, a spare one, or whom `choose` says.
local function victim_of(self, lease)
  local candidates, spare = {}, nil
  for _, session in ipairs(in_order(self.entries, function(entry) return entry.is_idle end)) do
    local entry = self.entries[session]
    if entry.ending then return session end
    if not entry.is_pinned then
      if entry.is_spare then spare = session else table.insert(candidates, session) end
    end
  end
  if spare or not candidates[1] then return spare end
  table.sort(candidates, function(one, other) return self.entries[one].used < self.entries[other].used end)
  return self.choose(candidates, lease)
end

--- The idle session that a caller looks for, the last used one; or a spare one where it may begin in that.
local function idle_for(self, lease)
  local entries, found, spare = self.entries, nil, nil
  local function is_its(entry) return lease.key ~= nil and entry.keys[lease.key] ~= nil end
  local function fits(entry) return entry.is_idle and (entry.is_spare or is_its(entry)) end
  for _, session in ipairs(in_order(entries, fits)) do
    local entry = entries[session]
    if is_its(entry) and (not found or entry.used > entries[found].used) then found = session end
    if entry.is_spare then spare = session end
  end
  return found or lease.takes_spare and spare or nil
end

--- What a caller can have at once; it does not wait, so that nobody comes between looking and taking.
---@return {session?: parley.Session, victim?: parley.Session}?  without either: a free place; nil: nothing
local function find(self, lease)
  sweep(self)
  local session = idle_for(self, lease)
  if session then return { session = session } end
  if stuck.is_in_use(self, lease) then return nil end
  if self.places < self.limit then return {} end
  local victim = victim_of(self, lease)
  return victim and { victim = victim }
end

local function grant(self, lease)
  local found = find(self, lease)
  if not found then return nil end
  local session = found.session or found.victim
  if session then take(self.entries[session]) else self.places = self.places + 1 end
  if found.victim then self.on_leaving(found.victim) end
  if found.session then self.entries[session].lease = lease end
  if not lease.is_anonymous then self.leases[lease] = true end
  return found
end

-- Waiting -------------------------------------------------------------------------------------------------------------

local function refuse_stuck(self)
  while self.waiting[1] do
    local waiter = stuck.find(self)
    if not waiter then return end
    waiter.wake { failure = stuck.error(self, waiter.lease) }
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
  if self:is_quiet() then self.on_quiet() end
end

--- Forgets those that have ended, for whoever only looks: their places are for those who wait.
local function look(self)
  local places = self.places
  sweep(self)
  if self.places < places and self.waiting[1] then serve(self) end
end

local function late(self, lease)
  local what = stuck.is_in_use(self, lease) and "the session under its key"
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
    self.on_wait()
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

local function end_lease(self, lease)
  if lease then self.leases[lease] = nil end
end

--- Ends a session; its place stays whose lease it is, unless that fails. One that was about to end by itself does so
--- when whoever waits for that goes away, and takes its place along.
local function end_session(self, session, lease)
  local entry = self.entries[session] or {}
  local ending = entry.ending
  local ok, err = pcall(ending and ending.await or session.close, ending or session)
  if ending and not ending:is_done() then
    entry.is_idle = true
    end_lease(self, lease)
    error(err, 0)
  end
  self.entries[session] = nil
  if entry.taker then entry.taker.wake(false) end
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
  look(self)
  local granted = grant(self, lease) or wait_in_line(self, lease)
  if not granted then error(errors.closed_error "the backend is closed", 0) end
  if granted.failure then error(granted.failure, 0) end
  if granted.victim then
    end_session(self, granted.victim, lease)
    self.on_leave(granted.victim)
  end
  return granted.session
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

--- Ends an idle session, outside of any task. It keeps its place until the process has ended, or somebody waits for
--- that.
local function retire(self, session, entry)
  take(entry)
  self.on_leaving(session)
  entry.is_idle, entry.used, entry.is_pinned = true, 0, false
  session:kill()
  serve(self)
  entry.ending = task.new_root(function()
    pcall(session.close, session)
    if self.entries[session] == entry and entry.is_idle then forget(self, session) end
    serve(self)
  end)
end

--- Ends an idle session after its time, unless it may not end yet.
local function begin_idling(self, session, entry, milliseconds)
  entry.timer = clock.after(milliseconds, function()
    entry.timer = nil
    if self.may_end(session) then return retire(self, session, entry) end
    begin_idling(self, session, entry, math.max(milliseconds, LOOK_AGAIN_MS))
  end)
end

--- Ends a lease: the session waits under these keys. Where nobody can find it again it is not pinned.
---@param session parley.Session
---@param keys string[]
---@param is_spare? boolean  it waits for whoever takes a spare one
function Pool:release(session, keys, is_spare)
  local entry = self.entries[session]
  if not entry then return end -- the pool was closed
  self.uses = self.uses + 1
  if entry.is_taken then entry.keys, entry.is_taken = {}, nil end
  entry.is_idle, entry.used = true, self.uses
  entry.is_pinned = entry.lease ~= nil and entry.lease.pin and #keys > 0
  end_lease(self, entry.lease)
  entry.lease = nil
  if self.closed then return end -- it is about to end
  for _, key in ipairs(keys) do entry.keys[key] = true end
  entry.is_spare = is_spare
  if entry.taker then
    entry.taker.wake(true)
  elseif self.idle_timeout_ms and not is_spare then
    begin_idling(self, session, entry, self.idle_timeout_ms)
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

--- Whether nobody has or wants anything.
---@return boolean
function Pool:is_quiet() return not self.closed and not next(self.leases) and not self.waiting[1] end

---@return boolean
function Pool:has_free_place()
  sweep(self)
  return self.places < self.limit
end

---@return integer
function Pool:count_spares()
  local count = 0
  for _, entry in pairs(self.entries) do
    if entry.is_spare then count = count + 1 end
  end
  return count
end

--- The idle sessions that nobody has pinned, the oldest first; spare ones and those that are about to end are none.
---@return parley.Session[]
function Pool:quiet()
  look(self)
  local list = {}
  for _, session in ipairs(in_order(self.entries)) do
    local entry = self.entries[session]
    if entry.is_idle and not (entry.is_pinned or entry.is_spare or entry.ending) then table.insert(list, session) end
  end
  return list
end

--- Ends an idle session, without waiting for that.
---@param session parley.Session
function Pool:retire(session)
  local entry = self.entries[session]
  if entry and entry.is_idle and not entry.ending then retire(self, session, entry) end
end

---@return table<string, parley.Process>  by session id
function Pool:processes()
  look(self)
  local processes = {}
  for session in pairs(self.entries) do processes[session.session_id] = session.process end
  return processes
end

---@return table<string, string>  what each session's program is doing, by session id
function Pool:states()
  look(self)
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
  look(self)
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
  look(self)
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

--- Ends every session, all at a time; whoever waits for a place gets a `ClosedError`.
function Pool:close()
  turn_away(self)
  local closing = {}
  for _, session in ipairs(in_order(self.entries)) do
    local entry = self.entries[session] -- somebody may be ending it, too
    table.insert(closing, task.spawn(function()
      pcall(session.close, session)
      if entry.is_idle then self.on_leave(session) end -- or it has ended in the midst of something
    end))
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

taking.install(Pool)

return M
