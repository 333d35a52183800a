--- The index of conversations: what is to be known of a session to wake it again, in a file that outlives the process.
---
--- Several processes may have it open. A session is one holder's at a time: its lease is a lock that the kernel ends
--- with the holder, whatever ends that; the row that says whose it is serves people.
local core = require "parley.core"
local database = require "parley.sleep.database"
local errors = require "parley.base.errors"
local look = require "parley.sleep.look"
local options = require "parley.base.options"
local owner = require "parley.sleep.owner"
local rows = require "parley.sleep.rows"
local state_folder = require "parley.sleep.state_folder"

local M = {}

--- At most so many are found under one key, and pruned in one call: neither is to take long.
local MOST_FOUND, MOST_PRUNED, PAGE = 16, 200, 500

---@class parley.sleep.Index
---@field path string
---@field package durability "power"|"process"
---@field package retention {days?: number, count?: integer, bytes?: integer}
---@field package on_event fun(event: table)
---@field package this parley.sleep.Process
---@field package database? parley.Database   nil: closed, or to be opened again
---@field package identity? string            of the file that it has open
---@field package leases table<string, parley.sleep.Lease>  by session id
---@field package closed? true
local Index = {}
Index.__index = Index
Index.__name = "parley.sleep.Index"

---@class parley.sleep.Lease
---@field session_id string
---@field entry? parley.sleep.Entry  as it stood when the lease was taken
---@field package index? parley.sleep.Index  nil: given back
---@field package lock parley.Lock
local Lease = {}
Lease.__index = Lease
Lease.__name = "parley.sleep.Lease"

M.look, M.changed = look.of, look.changed

--- Where the index stands when nobody says otherwise.
---@param environment? table<string, string>  default: this process'
---@return string path
function M.default_path(environment) return state_folder.path(environment) .. "/sessions.db" end

-- The file ------------------------------------------------------------------------------------------------------------

local function tell_of_damage(self, aside, err)
  self.on_event { type = "index_moved_aside", path = self.path, aside = aside, reason = err.message,
    message = ("%s; it was moved to '%s', and a new one begun"):format(err.message, aside) }
end

local function open_database(self)
  self.database = database.open(self.path, self.durability, function(aside, err) tell_of_damage(self, aside, err) end)
  self.identity = database.identity(self.path)
  state_folder.make(self.path:match "^(.*)/" .. "/locks")
end

local function close_database(self)
  if self.database then self.database:close() end
  self.database = nil
end

--- The file may have been moved aside by another process, or removed by a person. Where there is none a look makes
--- none.
local function ensure_open(self, is_look)
  if self.closed then error(errors.closed_error "the index of conversations is closed", 0) end
  local there = database.identity(self.path)
  if self.database and there ~= self.identity then close_database(self) end
  if not self.database and (there or not is_look) then open_database(self) end
  return self.database ~= nil
end

local function query(self, text, ...)
  local found, err = self.database:query(text, ...)
  if not found then error(database.failure(self.path, err), 0) end
  return found
end

local function transaction(self, fn)
  query(self, "BEGIN IMMEDIATE")
  local ok, result = pcall(fn)
  if ok then ok, result = pcall(function()
    query(self, "COMMIT")
    return result
  end) end
  if ok then return result end
  if self.database:in_transaction() then self.database:query "ROLLBACK" end
  error(result, 0)
end

local function repair(self, err)
  close_database(self)
  local aside = database.move_aside(self.path, self.identity)
  if aside then tell_of_damage(self, aside, err) end
end

--- Runs what needs the file. Damage is met by a new one, and what was wanted is tried again there.
---@return any result  nil, err: what failed in the world
local function perform(self, fn, is_look, nothing)
  local function attempt()
    if ensure_open(self, is_look) then return fn() end
    return nothing
  end
  local ok, result = pcall(attempt)
  if not ok and errors.is(result, "StateError") and result.reason == "corrupt" then
    ok, result = pcall(repair, self, result)
    if ok then ok, result = pcall(attempt) end
  end
  if ok then return result end
  if errors.is(result, "StateError") then return nil, result end
  error(result, 0)
end

--- Runs what only looks; without a file there is nothing.
local function look_up(self, nothing, fn) return perform(self, fn, true, nothing) end

---@type table<string, parley.OptionRule>
local RULES = {
  path = { type = "string", check = function(value) return value:sub(1, 1) ~= "/" and "an absolute path" or nil end },
  durability = { type = "string", default = "process", check = options.one_of { "power", "process" } },
  retention = { type = "table", default = {} },
  on_event = { type = "callable", default = function() end },
}

local function positive(value) return value <= 0 and "more than 0" or nil end

---@type table<string, parley.OptionRule>
local RETENTION_RULES = {
  days = { type = "number", check = positive }, count = { type = "positive integer" },
  bytes = { type = "positive integer" },
}

--- Opens the index. The first entry, or lease, makes it where there is none.
---@param given? {path?: string, durability?: "power"|"process", retention?: {days?: number, count?: integer,
---       bytes?: integer}, on_event?: fun(event: table)}  see README.md
---@return parley.sleep.Index? index
---@return parley.Error? err  `StateError`
--- Raises `ValueError`.
function M.open(given)
  local checked = options.check(RULES, given, "the index of conversations")
  local self = setmetatable({
    path = checked.path or M.default_path(), durability = checked.durability, on_event = checked.on_event,
    retention = options.check(RETENTION_RULES, checked.retention, "retention"), this = owner.this(), leases = {},
  }, Index)
  local ok, err = look_up(self, true, function() return true end)
  if ok and not self.database then ok, err = pcall(state_folder.check, self.path:match "^(.*)/") end
  if not ok then return nil, err end
  return self
end

-- Entries -------------------------------------------------------------------------------------------------------------

local FROM = ("SELECT %s FROM %%s LEFT JOIN leases l ON l.session_id = s.session_id "):format(rows.COLUMNS)
local OF_KEY = FROM:format "keys k JOIN sessions s ON s.id = k.session" .. "WHERE k.key = ? AND s.used_at >= ? "
local NEWEST = ("ORDER BY s.used_at DESC, s.id DESC LIMIT %d"):format(MOST_FOUND)
local FIND, FIND_IN_SCOPE = OF_KEY .. NEWEST, OF_KEY .. "AND s.scope = ? " .. NEWEST
local GET = FROM:format "sessions s" .. "WHERE s.session_id = ?"
local BEFORE = FROM:format "sessions s" .. [[WHERE (s.used_at, s.id) < (?, ?)
  ORDER BY s.used_at DESC, s.id DESC LIMIT ?]]

local function entries_of(self, found)
  local entries = {}
  for i, row in ipairs(found) do entries[i] = rows.to_entry(row, self.this) end
  return entries
end

local function oldest_kept(self)
  return self.retention.days and rows.now() - math.floor(self.retention.days * 86400000) or math.mininteger
end

local function store(self, values, keys)
  local id = query(self, rows.PUT, table.unpack(values, 1, 17))[1].id
  query(self, "DELETE FROM keys WHERE session = ?1 AND key NOT IN (SELECT value FROM json_each(?2))", id, keys)
  query(self, "INSERT OR IGNORE INTO keys SELECT value, ?1 FROM json_each(?2)", id, keys)
end

local function get(self, session_id) return entries_of(self, query(self, GET, session_id))[1] end

--- Stores an entry, in the place of an older one of that session.
---@param entry parley.sleep.Entry
---@return true? ok
---@return parley.Error? err  `StateError`: nothing has changed
--- Raises `ValueError`.
function Index:put(entry)
  local values, keys = rows.of_entry(entry)
  return perform(self, function()
    transaction(self, function() store(self, values, keys) end)
    return true
  end)
end

--- Looks for sessions by a fingerprint. Changes nothing.
---@param key string
---@param scope? string  nil: of any
---@return parley.sleep.Entry[]? entries  the last used one first, whatever their states; at most 16; those that are
---                                       past their days not among them
---@return parley.Error? err
function Index:find(key, scope)
  return look_up(self, {}, function()
    local since = oldest_kept(self)
    return entries_of(self, scope and query(self, FIND_IN_SCOPE, key, since, scope) or query(self, FIND, key, since))
  end)
end

--- What is known of a session.
---@param session_id string
---@return parley.sleep.Entry? entry  nil: nothing
---@return parley.Error? err
function Index:get(session_id)
  return look_up(self, nil, function() return get(self, session_id) end)
end

--- Goes through all entries, the last used one first. Others may change the index meanwhile.
---@param limit? integer  at most so many
---@return fun(): parley.sleep.Entry?
--- Raises `StateError`.
function Index:each(limit)
  local page, place, left = {}, 0, limit or math.maxinteger
  local used_at, id = math.maxinteger, math.maxinteger
  return function()
    if left == 0 then return nil end
    if place == #page then
      local found, err = look_up(self, {}, function()
        return query(self, BEFORE, used_at, id, math.min(PAGE, left))
      end)
      if not found then error(err, 0) end
      page, place = found, 0
    end
    local row = page[place + 1]
    if not row then return nil end
    place, left, used_at, id = place + 1, left - 1, row.used_at, row.id
    return rows.to_entry(row, self.this)
  end
end

--- All entries, the last used one first. They may be many: see `each`.
---@param limit? integer  at most so many
---@return parley.sleep.Entry[]? entries
---@return parley.Error? err
function Index:list(limit)
  return look_up(self, {}, function()
    local entries = {}
    for entry in self:each(limit) do table.insert(entries, entry) end
    return entries
  end)
end

-- Leases --------------------------------------------------------------------------------------------------------------

local function lock_path(self, session_id) return ("%s/locks/%s"):format(self.path:match "^(.*)/", session_id) end

local function lock_failure(self, err)
  return database.failure(self.path, { code = "lock", message = err.message, cause = err.code })
end

--- Says in the file who has a session.
local function note_lease(self, session_id)
  return transaction(self, function()
    query(self, "REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)", session_id, self.this.pid, self.this.started,
      self.this.boot, self.this.namespace, rows.now())
    return get(self, session_id) or false
  end)
end

local function owner_of(self, session_id)
  local row = query(self, "SELECT pid, since FROM leases WHERE session_id = ?", session_id)[1]
  return row and { pid = row.pid, since = row.since / 1000 } or {}
end

--- Takes a session, of which there need be no entry: nobody else has it until it is given back, or this process ends.
---@param session_id string
---@return parley.sleep.Lease? lease  also a `<close>` variable. Its `entry` holds; what was found before may not
---@return parley.sleep.Owner|parley.Error? other  who has it; or a `StateError`
--- Raises `ValueError`.
function Index:lease(session_id)
  rows.check_id(session_id)
  local lease, other = nil, nil
  local ok, err = perform(self, function()
    local lock, problem = core.lock.take(lock_path(self, session_id))
    if not lock then
      if problem.code ~= "EAGAIN" then error(lock_failure(self, problem), 0) end
      other = owner_of(self, session_id)
      return true
    end
    local is_noted, entry = pcall(note_lease, self, session_id)
    if not is_noted then
      lock:release()
      error(entry, 0)
    end
    lease = setmetatable({ session_id = session_id, entry = entry or nil, index = self, lock = lock }, Lease)
    self.leases[session_id] = lease
    return true
  end)
  if not ok then return nil, err end
  return lease, other
end

local function let_go(lease)
  lease.lock:release()
  lease.index.leases[lease.session_id] = nil
  lease.index = nil
end

--- Gives the session back. A second call does nothing.
---@param entry? parley.sleep.Entry  stored before anybody else can take the session
---@return true? ok
---@return parley.Error? err  `StateError`: the entry is not stored, the session is given back all the same
--- Raises `ValueError`: the session is not given back.
function Lease:release(entry)
  local index = self.index
  if not index then return true end
  local values, keys
  if entry then
    values, keys = rows.of_entry(entry)
    if entry.session_id ~= self.session_id then
      error(errors.value_error(("a lease of '%s' is given an entry of '%s'"):format(self.session_id, entry.session_id)),
        0)
    end
  end
  local ok, err = perform(index, function()
    transaction(index, function()
      if values then store(index, values, keys) end
      query(index, "DELETE FROM leases WHERE session_id = ?", self.session_id)
    end)
    return true
  end)
  let_go(self)
  return ok, err
end

Lease.__close = function(self) self:release() end

--- Whether somebody else has a session of which a row says so.
local function is_held(self, session_id)
  if self.leases[session_id] then return true end
  local lock, err = core.lock.take(lock_path(self, session_id))
  if not lock and err.code ~= "EAGAIN" then error(lock_failure(self, err), 0) end
  if lock then lock:release() end
  return lock == nil
end

-- Forgetting ----------------------------------------------------------------------------------------------------------

local function remove(self, id, session_id)
  query(self, "DELETE FROM keys WHERE session = ?", id)
  query(self, "DELETE FROM sessions WHERE id = ?", id)
  query(self, "DELETE FROM leases WHERE session_id = ?", session_id)
end

--- Forgets a session. Its transcript stays where it is.
---@param session_id string
---@return boolean? was_there
---@return parley.Error? err  `StateError`, of the reason `"leased"` when another has the session
function Index:forget(session_id)
  return look_up(self, false, function()
    return transaction(self, function()
      local row = query(self, GET, session_id)[1]
      if not row then return false end
      if row.pid and not self.leases[session_id] and is_held(self, session_id) then
        error(errors.state_error(("the session '%s' is live, in process %d"):format(session_id, row.pid),
          { reason = "leased", owner = owner_of(self, session_id) }), 0)
      end
      remove(self, row.id, session_id)
      return true
    end)
  end)
end

local OLDEST = FROM:format "sessions s" .. "ORDER BY s.used_at, s.id LIMIT ?"
local TOTALS = "SELECT count(*) AS count, ifnull(sum(size), 0) AS bytes FROM sessions"

--- Forgets what the retention does not keep: what was not used for `days`, and of the rest the least recently used
--- beyond `count` or beyond `bytes` of transcripts. What somebody has stays. At most 200 go in one call: call until
--- none does.
---@return parley.sleep.Entry[]? removed  their transcripts stay where they are
---@return parley.Error? err
function Index:prune()
  local limits = self.retention
  return look_up(self, {}, function()
    return transaction(self, function()
      local removed, since = {}, oldest_kept(self)
      local left = query(self, TOTALS)[1]
      for _, row in ipairs(query(self, OLDEST, MOST_PRUNED)) do
        local is_kept = row.used_at >= since and left.count <= (limits.count or math.maxinteger)
          and left.bytes <= (limits.bytes or math.maxinteger)
        if is_kept then break end
        left.count, left.bytes = left.count - 1, left.bytes - row.size
        if not (row.pid and is_held(self, row.session_id)) then
          remove(self, row.id, row.session_id)
          table.insert(removed, rows.to_entry(row, self.this))
        end
      end
      return removed
    end)
  end)
end

-- The end -------------------------------------------------------------------------------------------------------------

--- Gives back what it has, and closes. May be called again, and is what `<close>` calls.
function Index:close()
  for _, lease in pairs(self.leases) do lease:release() end
  close_database(self)
  self.closed = true
end

Index.__close = Index.close

--- Closes as the end of the process would that SIGKILL brings: nothing is told to anybody. For simulations.
function Index:abandon()
  for _, lease in pairs(self.leases) do let_go(lease) end
  close_database(self)
  self.closed = true
end

return M
