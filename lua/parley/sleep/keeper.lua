--- What a backend knows of its conversations beyond its processes: each is in the index from its first turn on, leased
--- while a session of ours has it, asleep when that has ended. So what a host has lost, by whatever death, another
--- finds and wakes.
local uv = require "luv"
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local index = require "parley.sleep.index"
local launch = require "parley.claude.launch"
local opener = require "parley.sleep.opener"
local paths = require "parley.claude.paths"
local scope = require "parley.sleep.scope"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local total = require "parley.base.usage"
local transcript = require "parley.sleep.transcript"

local M = {}

---@class parley.Held
---@field id string       of the session, as long as it is held: `/clear` gives it another
---@field lease table
---@field entry? table  as it was stored last
---@field is_leaving? true  its session is about to end, and then it sleeps
---@field read_to? integer  up to where its transcript was read by then

---@class parley.Keeper
---@field private given {state: boolean|string|table, durability?: string, retention?: table, environment: table}
---@field private store? table
---@field private held table<parley.Session, parley.Held>
---@field private ours table<string, parley.Held>  the same, by session id
---@field private waking table<string, true>  the sessions of those that were found and are not held yet
---@field private problem? parley.Error  why there is no index
---@field private damage table[]         events of the index that nobody was told of yet
---@field private changed parley.Condition  notified when something of ours is so no longer
---@field private closed? true
local Keeper = {}
Keeper.__index = Keeper
Keeper.__name = "parley.Keeper"

--- Where the index is: whoever gives the programs another home has another index.
---@param extra_env? table<string, string>  of the options
---@return string path
function M.path_for(extra_env)
  local own = extra_env or {}
  local has_home = own.HOME ~= nil and own.HOME ~= "" or own.XDG_STATE_HOME ~= nil
  return index.default_path(has_home and { HOME = own.HOME, XDG_STATE_HOME = own.XDG_STATE_HOME } or nil)
end

--- A check for the option `state`.
---@param value any
---@return string? expected
function M.is_state(value)
  local is_index = type(value) ~= "table" or value.find and value.put and value.lease and value.forget
  if not is_index or value == "" then return "true, false, the path of a file, or an index that is open" end
end

--- Makes a keeper. Nothing is opened before a conversation is looked for, or has had a turn.
---@param given {state: boolean|string|table, durability?: string, retention?: table, extra_env?: table}
---       `state`: a file, an index that is open, true for the one by default, false for none
---@return parley.Keeper
function M.new(given)
  return setmetatable({ given = given, held = setmetatable({}, { __mode = "k" }), ours = {}, waking = {},
    damage = {}, changed = task.condition() }, Keeper)
end

--- Takes down why nothing is kept, to be told once; where the caller has named a file it is an error.
local function fail(self, err)
  if type(self.given.state) == "string" and not self.store then error(err, 0) end
  self.problem = self.problem or err
end

local function open(self)
  if self.store or self.closed or self.has_failed then return self.store end
  local state = self.given.state
  if not state then return nil end
  if type(state) == "table" then
    self.store = state
    return state
  end
  local path = type(state) == "string" and state or M.path_for(self.given.extra_env)
  local store, err = index.open { path = path:sub(1, 1) == "/" and path or uv.cwd() .. "/" .. path,
    durability = self.given.durability, retention = self.given.retention,
    on_event = function(event) table.insert(self.damage, event) end }
  if not store then
    self.has_failed = type(state) ~= "string"
    fail(self, err)
    return nil
  end
  self.store = store
  store:prune()
  return store
end

--- Why nothing is kept, once.
---@return parley.Error?
function Keeper:complaint()
  local problem = self.problem
  if problem ~= self.told then
    self.told = problem
    return problem
  end
end

--- What has become of an index that was damaged, once.
---@return table? event  of the index
function Keeper:loss() return table.remove(self.damage, 1) end

-- What is stored ------------------------------------------------------------------------------------------------------

local function take(self, live)
  local held = self.held[live]
  if held then return held end
  local lease, err = self.store:lease(live.session_id)
  if not lease then
    if err and err.code then fail(self, err) end
    return nil
  end
  held = { id = live.session_id, lease = lease, entry = lease.entry }
  self.held[live], self.ours[live.session_id] = held, held
  return held
end

local function has(list, key)
  for _, each in ipairs(list or {}) do
    if each == key then return true end
  end
  return false
end

--- What the arguments of a command line tell anybody; JSON among them may hold what is nobody's business.
local function telling(argv)
  local words = {}
  for i, word in ipairs(argv or {}) do words[i] = word:find "^%s*{" and "{…}" or word end
  return words
end

local function without_doubles(keys)
  local list, known = {}, {}
  for _, key in ipairs(keys) do
    if not known[key] then table.insert(list, key) end
    known[key] = true
  end
  return list
end

--- Where the conversation was before its last turn, for those who go on from there another way.
local function before_of(held, keys)
  local former = held.entry
  local here = former and former.options.here
  if not here then return nil end
  for _, key in ipairs(here) do
    if has(keys, key) then return former.options.before end -- no turn: a command, perhaps
  end
  return { keys = here, size = former.size, digest = former.digest }
end

--- The program does not see to it that its transcript survives the loss of power.
local function sync_file(path)
  local descriptor = uv.fs_open(path, "r", 0)
  if not descriptor then return end
  uv.fs_fsync(descriptor)
  uv.fs_close(descriptor)
end

local function let_go(self, live)
  local held = self.held[live]
  self.held[live] = nil
  if held and self.ours[held.id] == held then self.ours[held.id] = nil end
  return held
end

--- Gives a lease back.
local function release(self, held, entry)
  held.lease:release(entry)
  self.changed:notify()
end

--- Does what must not fail for whoever is at it: a turn has ended well, a place becomes free. The folder may be gone,
--- or the caller has closed the index. It is told with the next turn.
local function in_peace(self, does, ...)
  local ok, err = pcall(does, self, ...)
  if not ok then self.problem = self.problem or errors.state_error(errors.text(err), { cause = err }) end
end

local function part(self, live)
  local held = let_go(self, live)
  if not held or self.closed then return end
  self.store:forget(held.id)
  release(self, held)
end

--- A session is in the hands of somebody else: what its conversation will be nobody knows, so nobody is to wake it.
---@param live parley.Session
function Keeper:part(live) in_peace(self, part, live) end

---@class parley.KeptTurn
---@field keys string[]        under which the conversation is found now
---@field set table            its options
---@field facts parley.TurnFacts
---@field cost_usd? number     of the turn

--- Nobody is to wake a conversation from a transcript that does not hold all that was said. It stays ours while its
--- process lives.
local function mistrust(self, live)
  local held = self.held[live]
  if self.closed or not (held and held.entry) then return end
  held.entry = nil
  local ok, err = self.store:forget(live.session_id)
  if not ok and err then fail(self, err) end
end

local function note(self, live, turn)
  if live.has_damage and live:has_damage() then return mistrust(self, live) end -- one of the caller's own may not say
  local store = open(self)
  local word = store and turn.keys[1] and scope.of(turn.set)
  if not word then return end
  local size, digest = index.look(live.jsonl_path)
  local held = (size or self.held[live]) and take(self, live)
  if not held then return end
  local former, set = held.entry or {}, turn.set
  size, digest = size or former.size, digest or former.digest -- it is gone: who wants to wake it is told so
  if not size then return end
  local used = turn.facts
  local here = without_doubles(turn.keys)
  local before = before_of(held, here)
  local entry = {
    session_id = live.session_id, keys = without_doubles(tables.joined(here, before and before.keys)), scope = word,
    path = live.jsonl_path, size = size, digest = digest, cwd = paths.real_folder(set.cwd),
    options = { here = here, before = before, model = set.model, effort = set.effort,
      permission_mode = set.permission_mode, cache_ms = used.cache_ms },
    argv = telling(live.process.argv), env_names = scope.env_names(set), model = used.model or former.model,
    turns = live.turns, tokens = used.tokens or former.tokens or 0,
    cost_usd = total.add_cost(former.cost_usd, turn.cost_usd),
    created_at = former.created_at, used_at = clock.wall() / 1000, state = "live",
  }
  if self.given.durability == "power" then sync_file(live.jsonl_path) end
  local ok, err = store:put(entry)
  if not ok then return fail(self, err) end
  held.entry = entry
end

--- Stores where a conversation is after a turn. A session of which nothing is in its transcript is not kept, nor one
--- whose transcript does not hold all that was said.
---@param live parley.Session
---@param turn parley.KeptTurn
function Keeper:note(live, turn) in_peace(self, note, live, turn) end

--- A session is about to end in order: who looks for its conversation waits for that.
---@param live parley.Session
function Keeper:leaving(live)
  local held = self.held[live]
  if not held then return end
  held.is_leaving, held.read_to = true, live.read_to and live:read_to()
end

local function rest(self, live)
  local held = let_go(self, live)
  if not held or self.closed then return end
  local entry = held.entry
  if entry then entry.path = paths.moved_to(entry.path) or entry.path end
  local size, digest = index.look(entry and entry.path or live.jsonl_path)
  if entry and not size then
    entry = tables.merged(entry, { state = "asleep" }) -- who wants to wake it is told that its transcript is gone
  elseif entry and transcript.is_readable(entry.path, held.read_to or entry.size) then
    entry = tables.merged(entry, { size = size, digest = digest, state = "asleep" })
  elseif entry then
    self.store:forget(entry.session_id)
    entry = nil
  end
  release(self, held, entry)
end

--- A session has ended in order, and its conversation sleeps.
---@param live parley.Session
function Keeper:rest(live) in_peace(self, rest, live) end

local function lose(self, live)
  local held = let_go(self, live)
  if not held or self.closed then return end
  if held.entry and transcript.problem_of(held.entry) then self.store:forget(held.entry.session_id) end
  release(self, held)
end

--- A session has ended in the midst of something. What was stored holds if nothing was said since.
---@param live parley.Session
function Keeper:lose(live) in_peace(self, lose, live) end

--- Another session goes on with the transcript of one.
---@param former parley.Session
---@param live parley.Session
function Keeper:hand_over(former, live)
  self.held[live], self.held[former] = self.held[former], nil
end

-- What is found -------------------------------------------------------------------------------------------------------

---@class parley.Found
---@field entry table
---@field lease? table    of a conversation that sleeps, and is to be woken
---@field point? table    of one that goes on without us: the beginning of its transcript that is this history

---@class parley.Missed
---@field session_id string
---@field cause string    `"gone"`, `"shorter"`, `"grown"`, `"rewritten"`, `"torn"`, `"open"`, `"held"`, `"options"`
---@field message string

--- Whether the program would go on with a session in a folder: it finds a transcript there, or where it has moved it.
local function is_of(entry, folder, projects)
  local path = entry.path
  return entry.cwd == folder and path:sub(1, #projects + 1) == projects .. "/"
    and path:sub(#projects + 2):match "^[^/]+/(.*)$" == entry.session_id .. ".jsonl"
end

--- Where the conversation stood when it had this key.
local function point_of(entry, key)
  local before = entry.options.before
  if has(entry.options.here, key) then return { path = entry.path, size = entry.size, digest = entry.digest } end
  return before and { path = entry.path, size = before.size, digest = before.digest }
end

--- A process that is told no model, or no effort, takes the one that it finds in the transcript (2.1.332).
local function can_follow(entry, set)
  local had = entry.options
  return not (had.model and not set.model or had.effort and not set.effort)
end

--- Why a conversation that is leased now cannot be woken. A program that is about to end may still write.
local function problem_of(entry, environment)
  local pid = opener.settled(entry.session_id, environment)
  local problem = transcript.problem_of(entry)
  if problem then return problem, transcript.words(problem) end
  if pid then return "open", ("it is open in process %d"):format(pid) end
end

--- Takes one that sleeps.
---@return parley.Found?
---@return parley.Missed?
local function wake(self, entry, key, set)
  local id = entry.session_id
  local function missed(cause, message) return nil, { session_id = id, cause = cause, message = message } end
  local lease, other = self.store:lease(id)
  if not lease then
    if other and other.code then return missed("state", other.message) end
    return missed("held", ("another host has it, process %d"):format(other and other.pid or 0))
  end
  local path = entry.path
  entry = lease.entry
  if entry then entry.path = path end
  if not entry or not has(entry.options.here, key) then -- somebody was faster
    lease:release()
    return nil
  end
  self.waking[id] = true
  local ok, cause, message = pcall(problem_of, entry, launch.environment(set))
  if ok and not cause then return { entry = entry, lease = lease } end
  self.waking[id] = nil
  if not ok then
    lease:release()
    error(cause, 0)
  end
  if cause ~= "open" then self.store:forget(id) end
  lease:release()
  return missed(cause, message)
end

--- Finds a conversation by its key: one that sleeps, to be woken; or else one that has gone on, or is in use, of which
--- the beginning can be taken.
---@param key string
---@param set table  options of the session that is wanted
---@return parley.Found?
---@return parley.Missed[] missed  those that cannot be woken
function Keeper:find(key, set)
  local store, missed = open(self), {}
  local word = store and scope.of(set)
  if not word then return nil, missed end
  local fork
  local folder = paths.real_folder(set.cwd)
  local projects = paths.config_folder(launch.environment(set), folder) .. "/projects"
  for _, entry in ipairs(store:find(key, word) or {}) do
    local held = self.ours[entry.session_id]
    if held and held.is_leaving then
      self.changed:wait_until(function() return self.closed or self.ours[entry.session_id] ~= held end)
      if self.closed then error(errors.closed_error "the backend is closed", 0) end
    end
    local is_here = is_of(entry, folder, projects)
    if is_here then entry.path = paths.moved_to(entry.path) or entry.path end
    local is_ours = self.ours[entry.session_id] or self.waking[entry.session_id]
    if is_here and not is_ours and has(entry.options.here, key) and can_follow(entry, set) then
      local found, miss = wake(self, entry, key, set)
      if found then return found, missed end
      table.insert(missed, miss)
    elseif is_here and not fork then
      fork = { entry = entry, point = point_of(entry, key) }
    end
  end
  return fork, missed
end

--- Takes a session by its id, whatever is known of it.
---@param id string
---@return parley.Found?  nil where nothing is kept
---@return boolean is_denied  another has it
function Keeper:claim(id)
  local store = open(self)
  if not store then return nil, false end
  local lease, other = store:lease(id)
  if not lease then return nil, not (other and other.code) end
  return { lease = lease, entry = lease.entry }, false
end

--- A session goes on with what was found.
---@param found parley.Found  with a lease
---@param live parley.Session
function Keeper:hold(found, live)
  if found.entry then self.waking[found.entry.session_id] = nil end
  if self.closed then return found.lease:release() end
  local held = { id = live.session_id, lease = found.lease, entry = found.entry }
  self.held[live], self.ours[live.session_id] = held, held
end

--- What was found is not gone on with.
---@param found parley.Found
---@param is_refused? boolean  the program does not take it
function Keeper:leave(found, is_refused)
  local entry = found.entry
  if entry then self.waking[entry.session_id] = nil end
  local is_lost = entry and not self.closed and (is_refused or transcript.problem_of(entry))
  if is_lost then self.store:forget(entry.session_id) end
  found.lease:release()
end

--- Nothing is kept any more, and what is still leased can be woken by others. A second call does nothing.
function Keeper:close()
  if self.closed then return end
  self.closed = true
  for _, held in pairs(self.ours) do held.lease:release() end
  self.ours = {}
  self.changed:notify()
  if self.store and type(self.given.state) ~= "table" then self.store:close() end
  self.store = nil
end

return M
