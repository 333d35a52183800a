--- Live sessions: which are idle under which keys, which are in use, and how many there may be.
---
--- A lease is exclusive: a session in use stands under no key. A caller gets, at once, the idle session under its key,
--- or a place for one more while fewer than `limit` are alive, or the place of the idle session least recently used.
--- Else it waits, first come, first served; nothing is idle while somebody waits.
local errors = require "parley.base.errors"
local task = require "parley.base.task"
local uv = require "luv"

local M = {}

---@class parley.Pool
---@field package limit integer
---@field package idle_timeout_ms? number
---@field package entries table<parley.Session, table>  every live session: `keys`, `is_idle`, `used`, `timer`
---@field package places integer   taken, by a session or by a caller that is about to add one
---@field package waiting table[]  callers, first come first: `key`, `wake`
---@field package closed? true
local Pool = {}
Pool.__index = Pool
Pool.__name = "parley.Pool"

--- Makes an empty pool.
---@param limit integer            live processes at a time
---@param idle_timeout_ms? number  an idle session is ended after so long; nil: never
---@return parley.Pool
function M.new(limit, idle_timeout_ms)
  return setmetatable({
    limit = limit, idle_timeout_ms = idle_timeout_ms, entries = {}, places = 0, waiting = {}, clock = 0,
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
      session:retire()
      self.entries[session] = nil
      self.places = self.places - 1
    end
  end
end

--- What a caller can have at once; it does not wait, so that nobody comes between looking and taking.
---@return {session?: parley.Session, victim?: parley.Session}?  without either: a free place; nil: nothing
local function grant(self, key)
  sweep(self)
  local entries = self.entries
  local session, victim
  for candidate, entry in pairs(entries) do
    if entry.is_idle then
      if key and entry.keys[key] and (not session or entry.used > entries[session].used) then session = candidate end
      if not victim or entry.used < entries[victim].used then victim = candidate end
    end
  end
  if session then
    take(entries[session])
    return { session = session }
  elseif self.places < self.limit then
    self.places = self.places + 1
    return {}
  elseif victim then
    take(entries[victim])
    return { victim = victim }
  end
end

--- Gives what has become free to those who wait.
local function serve(self)
  while self.waiting[1] do
    local granted = grant(self, self.waiting[1].key)
    if not granted then return end
    table.remove(self.waiting, 1).wake(granted)
  end
end

local function wait_in_line(self, key)
  return task.suspend(function(wake)
    local waiter = { key = key, wake = wake }
    table.insert(self.waiting, waiter)
    return function()
      for i, other in ipairs(self.waiting) do
        if other == waiter then return table.remove(self.waiting, i) end
      end
    end
  end)
end

--- Gets the idle session that waits under a key, or else a place for a new one, waiting for it if need be.
---@param key? string
---@return parley.Session? session  the caller's until `release` or `drop`; nil: a place, for `add` or `give_back`
--- Raises `ClosedError` when the pool is closed.
function Pool:acquire(key)
  if self.closed then error(errors.closed_error "the backend is closed", 0) end
  local granted = grant(self, key) or wait_in_line(self, key)
  if not granted then error(errors.closed_error "the backend is closed", 0) end
  if granted.victim then self:vacate(granted.victim) end
  return granted.session
end

--- Gives back a place that was not used.
function Pool:give_back()
  self.places = self.places - 1
  serve(self)
end

--- Puts a session into the caller's place; it is in use.
---@param session parley.Session
--- Raises `ClosedError` when the pool was closed meanwhile.
function Pool:add(session)
  if self.closed then error(errors.closed_error "the backend is closed", 0) end
  self.entries[session] = { keys = {}, is_idle = false, used = 0 }
end

--- Ends a lease: the session waits under these keys.
---@param session parley.Session
---@param keys string[]
function Pool:release(session, keys)
  local entry = self.entries[session]
  if not entry then return end -- the pool was closed
  self.clock = self.clock + 1
  entry.is_idle, entry.used = true, self.clock
  for _, key in ipairs(keys) do entry.keys[key] = true end
  if self.idle_timeout_ms and self.idle_timeout_ms < math.huge then
    entry.timer = uv.new_timer()
    uv.update_time()
    entry.timer:start(math.ceil(self.idle_timeout_ms), 0, function()
      take(entry)
      entry.is_idle, entry.used = true, 0 -- it keeps its place until the process has ended, or somebody waits for that
      session:retire()
    end)
  end
  serve(self)
end

--- Ends a session that is in use; its place stays the caller's.
---@param session parley.Session
function Pool:vacate(session)
  local ok, err = pcall(session.close, session)
  self.entries[session] = nil
  if ok then return end
  self:give_back()
  error(err, 0)
end

--- Ends a session that is in use and frees its place.
---@param session parley.Session
function Pool:drop(session)
  if not self.entries[session] then return end
  self:vacate(session)
  self:give_back()
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

---@return integer
function Pool:count()
  sweep(self)
  local count = 0
  for _ in pairs(self.entries) do count = count + 1 end
  return count
end

--- Ends every session, all at a time; whoever waits for a place gets a `ClosedError`.
function Pool:close()
  self.closed = true
  local waiting, closing = self.waiting, {}
  self.waiting = {}
  for _, waiter in ipairs(waiting) do waiter.wake() end
  for session, entry in pairs(self.entries) do
    stop_timer(entry)
    table.insert(closing, task.spawn(pcall, session.close, session))
  end
  for _, one in ipairs(closing) do one:await() end
  self.entries = {}
end

return M
