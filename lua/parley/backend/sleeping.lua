--- Which sessions of a backend are put to sleep: what the policy is told of them, and when it is asked.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local facts = require "parley.sleep.facts"
local files = require "parley.base.files"
local kernel = require "parley.claude.kernel"
local tables = require "parley.base.tables"
local total = require "parley.base.usage"

local M = {}

--- So often memory is looked at, while any session lives.
local LOOK_MS = 5000
local PAGE_BYTES = 4096

--- So long a status may be behind the last record of a turn (2.1.197 on a busy machine: 40 ms) and say that it runs.
local SETTLE_MS = 1000

---@class parley.Sleeping
---@field private policy table
---@field private pool parley.Pool
---@field private told table<parley.Session, parley.SessionFacts>  with `used_at`, `said_at` and `cost_usd`
---@field private timer? parley.Timer
---@field private closed? true
local Sleeping = {}
Sleeping.__index = Sleeping

--- Makes the one of a backend.
---@param policy table  `sleeping`
---@return parley.Sleeping
function M.new(policy)
  return setmetatable({ policy = policy, told = setmetatable({}, { __mode = "k" }) }, Sleeping)
end

--- Says whose sessions they are.
---@param pool parley.Pool
function Sleeping:serve(pool) self.pool = pool end

--- When the last of what was said was written, by the program's own clock.
local function last_time(events)
  for i = #events, 1, -1 do
    if events[i].type == "assistant" and events[i].timestamp then return events[i].timestamp end
  end
end

--- Takes in what a turn has told of its session.
---@param live parley.Session
---@param events parley.Event[]
---@param result parley.Event
---@return parley.SessionFacts
function Sleeping:note(live, events, result)
  local former = self.told[live]
  if former then facts.catch_up(former, live.jsonl_path) end -- what came between the turns
  local now = facts.of(events, former)
  now.offset = live.read_to and live:read_to() -- one of the caller's own may not say
  now.used_at, now.cost_usd = clock.now(), total.add_cost(former and former.cost_usd, result.cost_usd)
  now.said_at = last_time(events) or former and former.said_at
  now.tokens, now.model = now.tokens or former and former.tokens, now.model or former and former.model
  self.told[live] = now
  self:watch()
  return now
end

--- What a session has running that would end with it.
---@param live parley.Session
---@return integer
function Sleeping:background(live)
  local told = self.told[live]
  if told then facts.catch_up(told, live.jsonl_path) end
  return math.max(told and #told.background or 0, live.background or 0)
end

--- Whether a status that says "busy" is still of the turn that has ended: it was written before that had its answer.
local function is_late(self, live, stamp)
  local told = self.told[live]
  return told ~= nil and told.said_at ~= nil and type(stamp) == "number" and clock.timestamp(stamp) <= told.said_at
    and clock.now() < told.used_at + SETTLE_MS
end

--- Whether a session may be put to sleep: nothing of it would be lost that is not in its transcript.
---@param live parley.Session  idle
---@return boolean
function Sleeping:may_sleep(live)
  if self:background(live) > 0 then return false end
  if not live.state then return true end
  local state, stamp = live:state()
  return state ~= "dialog" and (state ~= "busy" or is_late(self, live, stamp))
end

local function memory_of(live)
  local pid = live.process and live.process.pid and live.process:pid()
  local pages = pid and (files.read(("/proc/%d/statm"):format(pid)) or ""):match "^%d+ (%d+)"
  return pages and math.tointeger(tonumber(pages)) * PAGE_BYTES or nil
end

--- A session as the policy sees it.
---@return parley.QuietSession
local function described(self, live)
  local told = self.told[live] or {}
  local idle_ms = told.used_at and clock.now() - told.used_at or 0
  local cools_ms = told.used_at and math.max(0, told.cache_ms - idle_ms) or 0
  return { session_id = live.session_id, idle_ms = idle_ms, turns = live.turns or 0, tokens = told.tokens,
    cost_usd = told.cost_usd, size = live.jsonl_path and files.size(live.jsonl_path), memory = memory_of(live),
    is_warm = cools_ms > 0, cools_ms = cools_ms }
end

--- Asks the policy.
---@param candidates parley.Session[]
---@param places integer
---@return parley.Session[] chosen
local function ask(self, candidates, places)
  local list, by_id, chosen = {}, {}, {}
  for i, live in ipairs(candidates) do
    list[i], by_id[live.session_id] = described(self, live), live
  end
  local pressure = tables.merged(kernel.memory_pressure(), { places = places })
  for _, id in ipairs(self.policy.choose(list, pressure)) do table.insert(chosen, by_id[id]) end
  return chosen
end

--- Says whose place a request gets. Where all have something running in the background that of the least recently used
--- one ends, and the request is told so.
---@param candidates parley.Session[]  idle ones, the least recently used first
---@param lease parley.Lease
---@return parley.Session?  nil: of nobody
function Sleeping:choose(candidates, lease)
  local free = {}
  for _, live in ipairs(candidates) do
    if self:may_sleep(live) then table.insert(free, live) end
  end
  if free[1] then return ask(self, free, 1)[1] end
  local last = candidates[1]
  local background = last and self:background(last) or 0 -- none: its status still says that it is at its turn
  if background > 0 then lease.ended = { session_id = last.session_id, background = background } end
  return last
end

local function look(self)
  local quiet = {}
  for _, live in ipairs(self.pool:quiet()) do
    if self:may_sleep(live) then table.insert(quiet, live) end
  end
  for _, live in ipairs(quiet[1] and ask(self, quiet, 0) or {}) do self.pool:retire(live) end
end

--- Looks at memory from time to time, as long as a session lives.
function Sleeping:watch()
  if self.timer or self.closed then return end
  self.timer = clock.after(LOOK_MS, function()
    self.timer = nil
    if self.closed or self.pool:count() == 0 then return end
    local ok, err = pcall(look, self)
    if not ok then self.failure = self.failure or err end
    self:watch()
  end)
end

--- What the policy has raised when nobody was there to be told, once.
---@return any? err
function Sleeping:complaint()
  local failure = self.failure
  self.failure = nil
  return failure and errors.text(failure)
end

function Sleeping:close()
  self.closed = true
  if self.timer then self.timer:close() end
  self.timer = nil
end

return M
