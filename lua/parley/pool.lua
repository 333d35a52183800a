--- Live sessions: which are idle under which keys, which are in use, and how many there may be.
---
--- A lease is exclusive: a session that is leased stands under no key. Whoever wants to start one when `limit` are alive
--- gets the place of the idle session least recently used, or waits, first come, first served.
local errors = require "parley.errors"
local task = require "parley.task"
local uv = require "luv"

local M = {}

---@class parley.Pool
---@field package limit integer
---@field package entries table<parley.Session, table>  every live session
---@field package places integer        reserved or taken
---@field package waiting function[]
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
  if entry.timer and not entry.timer:is_closing() then entry.timer:close() end
  entry.timer = nil
end

local function give_place(self)
  local wake = table.remove(self.waiting, 1)
  if wake then wake() end
end

--- Forgets a session and frees its place.
local function forget(self, session)
  local entry = self.entries[session]
  if not entry then return end
  stop_timer(entry)
  self.entries[session] = nil
  self.places = self.places - 1
  give_place(self)
end

local function idle_least_recently_used(self)
  local found
  for session, entry in pairs(self.entries) do
    if entry.idle and (not found or entry.used < self.entries[found].used) then found = session end
  end
  return found
end

--- Takes the idle session that waits under a key.
---@param key? string
---@return parley.Session? session  nil when there is none; it is the caller's until `release` or `drop`
function Pool:lease(key)
  local found
  for session, entry in pairs(self.entries) do
    local better = not found or entry.used > self.entries[found].used
    if key and entry.idle and entry.keys[key] and better then
      if session.process:is_alive() then found = session else self:drop(session) end
    end
  end
  if not found then return nil end
  local entry = self.entries[found]
  stop_timer(entry)
  entry.idle, entry.keys = false, {}
  return found
end

--- Waits for a place for one more session. It must be given to `add` or back with `give_back`.
---@param is_served? fun(): boolean  looked at after each wait; true ends it without a place
---@return boolean reserved
function Pool:reserve(is_served)
  local queued = false
  while self.closed == nil do
    if is_served and is_served() then
      if queued then give_place(self) end
      return false
    end
    -- Who came first goes first: a newcomer does not overtake those who wait.
    if queued or #self.waiting == 0 then
      if self.places < self.limit then
        self.places = self.places + 1
        return true
      end
      local victim = idle_least_recently_used(self)
      if victim then
        self.entries[victim].idle = false
        self.places = self.places + 1 -- its place is ours: nobody may take it while the process ends
        victim:close()
        forget(self, victim)
        return true
      end
    end
    task.suspend(function(wake)
      table.insert(self.waiting, queued and 1 or #self.waiting + 1, wake)
      return function()
        for i, waiting in ipairs(self.waiting) do
          if waiting == wake then return table.remove(self.waiting, i) end
        end
      end
    end)
    queued = true
  end
  error(errors.closed_error "the backend is closed", 0)
end

--- Gives back a place that was reserved and not used.
function Pool:give_back()
  self.places = self.places - 1
  give_place(self)
end

--- Puts a session into a reserved place; it is leased.
---@param session parley.Session
function Pool:add(session)
  self.entries[session] = { keys = {}, idle = false, used = 0 }
end

--- Ends a lease: the session waits under these keys.
---@param session parley.Session
---@param keys string[]
function Pool:release(session, keys)
  local entry = self.entries[session]
  if not entry then return end
  self.clock = self.clock + 1
  entry.idle, entry.used, entry.keys = true, self.clock, {}
  for _, key in ipairs(keys) do entry.keys[key] = true end
  if self.idle_timeout_ms then
    entry.timer = uv.new_timer()
    entry.timer:start(math.ceil(self.idle_timeout_ms), 0, function()
      session:retire()
      forget(self, session)
    end)
  end
  give_place(self)
end

--- Ends a session and forgets it.
---@param session parley.Session
function Pool:drop(session)
  local entry = self.entries[session]
  if entry then entry.idle = false end
  session:close()
  forget(self, session)
end

---@return table<string, parley.Process>  by session id
function Pool:processes()
  local processes = {}
  for session in pairs(self.entries) do processes[session.session_id] = session.process end
  return processes
end

---@return table<string, string>  what each session's program is doing, by session id
function Pool:states()
  local states = {}
  for session in pairs(self.entries) do states[session.session_id] = session:state() end
  return states
end

---@return integer
function Pool:count()
  local count = 0
  for _ in pairs(self.entries) do count = count + 1 end
  return count
end

--- Ends every session, all at a time; whoever waits for a place gets a `ClosedError`.
function Pool:close()
  self.closed = true
  for session, entry in pairs(self.entries) do
    stop_timer(entry)
    session.process:signal "SIGTERM"
  end
  for session in pairs(self.entries) do
    session:close()
    self.entries[session] = nil
  end
  local waiting = self.waiting
  self.waiting = {}
  for _, wake in ipairs(waiting) do wake() end
end

return M
