--- Who has taken over which session: one person each, for as long as that person's connection is seen.
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local problems = require "parley.gateway.problems"
local task = require "parley.base.task"
local uv = require "luv"

local M = {}

---@class parley.gateway.Hold
---@field id string          a secret of whoever has it
---@field owner string
---@field person? string      a name that a client has for itself
---@field hold parley.Hold
---@field package streams integer   open ones
---@field package seen_at number
---@field package ending? parley.Task  gives it back

---@class parley.gateway.Holds
---@field package backend parley.Backend
---@field package group parley.Group
---@field package by_id table<string, parley.gateway.Hold>
---@field package vanish_ms number
---@field package patience_ms number
local Holds = {}
Holds.__index = Holds

---@param given {backend: parley.Backend, group: parley.Group, vanish_ms: number}
---@return parley.gateway.Holds
function M.new(given)
  return setmetatable({ backend = given.backend, group = given.group, vanish_ms = given.vanish_ms, by_id = {},
    patience_ms = 600000, changed = task.condition() }, Holds)
end

local function find_by_session(self, session)
  for _, one in pairs(self.by_id) do
    if one.hold.session == session then return one end
  end
end

--- Who has a session.
---@param session parley.Session
---@return string? owner
function Holds:holder(session)
  local one = find_by_session(self, session)
  return one and one.owner
end

--- Whether a session is on its way back: another process goes on with it.
---@param id string  the session's
---@return boolean
function Holds:is_returning(id)
  for _, one in pairs(self.by_id) do
    if one.ending and one.session_id == id then return true end
  end
  return false
end

--- Gives back what is given back by itself; the program may be at work.
local function watch(self, one)
  while not one.ending do
    local due = one.streams > 0 and math.huge or one.seen_at + self.vanish_ms
    if clock.now() >= due then
      one.hold:wait_until_quiet(self.patience_ms)
      local is_gone = one.streams == 0 and clock.now() >= one.seen_at + self.vanish_ms -- still
      if is_gone then self:finish(one) end
    else
      self.changed:wait(due < math.huge and due - clock.now() or nil)
    end
  end
end

--- Takes a session over, once the turn that runs in it has ended. Who has it by a request that was given up, of which
--- the answer was lost, gets it by the next one.
---@param entry parley.PoolEntry
---@param owner string
---@param wait_ms number  0: a turn that runs is a 409
---@param person? string  a name that the client has for itself
---@return parley.gateway.Hold
function Holds:take(entry, owner, wait_ms, person)
  local session = entry.session
  local function own()
    local one = person and find_by_session(self, session)
    if not one or one.owner ~= owner or one.person ~= person or one.ending then return nil end
    one.seen_at = clock.now()
    return one
  end
  local function refuse(message, seconds)
    error(problems.new(409, message, { retry_after = seconds, reason = "taken" }), 0)
  end
  if entry.taken then return own() or refuse("somebody has taken this session over already", 10) end
  local limit_ms = entry.in_use and wait_ms or nil -- nobody waits for what is idle
  if limit_ms == 0 then refuse("a turn runs in this session: ask again when it has ended, or with ?wait=SECONDS", 2) end
  local ok, hold = pcall(task.timeout, limit_ms, self.backend.take_over, self.backend, session)
  if not ok and errors.is(hold, "ETIMEDOUT") then
    refuse("a turn runs in this session still", 2)
  elseif not ok then
    error(hold, 0)
  elseif not hold then
    return own() or refuse("the session has ended, or somebody has taken it over already", 10)
  end
  local one = { id = "hold-" .. core.digest.hex(assert(uv.random(16))), owner = owner, person = person, hold = hold,
    streams = 0, seen_at = clock.now(), session_id = session.session_id }
  self.by_id[one.id] = one
  one.watcher = self.group:spawn(watch, self, one)
  return one
end

--- Finds what somebody has.
---@param id? string
---@param owner string
---@param session_id string
---@return parley.gateway.Hold?
function Holds:find(id, owner, session_id)
  local one = self.by_id[id or ""]
  return one and one.owner == owner and one.session_id == session_id and not one.ending and one or nil
end

--- Somebody is there: a stream of theirs is open until the function is called.
---@param one parley.gateway.Hold
---@return fun() leave
function Holds:attend(one)
  one.streams = one.streams + 1
  return function()
    one.streams, one.seen_at = one.streams - 1, clock.now()
    self.changed:notify()
  end
end

--- Types for somebody.
---@param one parley.gateway.Hold
---@param bytes string
function Holds.type(_, one, bytes)
  one.seen_at = clock.now()
  one.hold:type(bytes)
end

--- Gives back, once, in a task that outlives the one who asks.
---@param one parley.gateway.Hold
---@return parley.Task
function Holds:finish(one)
  if one.ending then return one.ending end
  one.ending = self.group:spawn(function()
    local ok, err = pcall(self.backend.give_back, self.backend, one.hold)
    self.by_id[one.id] = nil
    if not ok and not errors.is(err, "Cancelled") then
      io.stderr:write(("parley serve: a session that was given back has ended: %s\n"):format(errors.text(err)))
    end
    return ok
  end)
  self.changed:notify()
  return one.ending
end

--- Gives back for somebody who asks.
---@param one parley.gateway.Hold
function Holds:give_back(one)
  one.hold:settle()
  if one.hold:is_busy() then
    error(problems.new(409, "the program is at work: wait for its end, or interrupt it with Escape",
      { retry_after = 2, reason = "busy" }), 0)
  end
  if not self:finish(one):await() then
    error(problems.new(500, "the session was given back, and could not be gone on with: it has ended",
      { reason = "ended" }), 0)
  end
end

return M
