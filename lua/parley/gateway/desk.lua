--- Takes in requests and finds what answers them: the turn that waits for these results, the one that is answering the
--- same request already, or a new one, in the session that has this history.
local asked = require "parley.gateway.asked"
local core = require "parley.core"
local mentions = require "parley.gateway.mentions"
local errors = require "parley.base.errors"
local problems = require "parley.gateway.problems"
local retries = require "parley.gateway.retries"
local runs = require "parley.gateway.run"
local task = require "parley.base.task"
local tools = require "parley.hub.tools"

local M = {}

--- Until nobody has waited yet.
local TURN_MS, LONGEST_RETRY_S = 5000, 60

---@class parley.gateway.DeskOptions
---@field backend parley.Backend
---@field group parley.Group
---@field metrics parley.gateway.Metrics
---@field max_sessions integer
---@field queue integer
---@field tool_wait_ms number
---@field grace_ms number
---@field is_strict boolean
---@field plain_folder? string  of the plain model
---@field say? fun(text: string)  told what cannot be had, once each

---@class parley.gateway.Desk: parley.gateway.DeskOptions
---@field running integer     turns
---@field readers integer     of their answers
---@field retries parley.gateway.Retries
---@field changed parley.Condition
---@field is_draining? boolean
---@field package calls table<string, parley.gateway.Run>  by the owner and the id of an open call
---@field package runs table<parley.gateway.Run, true>
local Desk = {}
Desk.__index = Desk
Desk.__name = "parley.gateway.Desk"

---@param given parley.gateway.DeskOptions
---@return parley.gateway.Desk
function M.new(given)
  local self = setmetatable({ running = 0, readers = 0, calls = {}, runs = {}, said = {}, retries = retries.new(),
    changed = task.condition() }, Desk)
  for name, value in pairs(given) do self[name] = value end
  return self
end

---@class parley.gateway.Visit    a request, as it came
---@field owner string            the token's name
---@field conversation? string    the header `parley-conversation`
---@field retry_count? string     the header `x-stainless-retry-count`
---@field path string
---@field body string
---@field http table              what routing policies see

local function call_key(owner, id) return owner .. "\0" .. id end

--- The options that a request's sessions are started with.
local function options_of(run)
  local request = run.asked
  return { model = request.model ~= "default" and request.model or nil, effort = request.effort,
    system_prompt = request.system, tools = run:tools() }
end

--- What separates one client's sessions from another's, and of one client those that are told something else. The
--- model may change in a conversation, and is none of it.
local function scope_of(visit, request)
  local told = { visit.owner, visit.conversation or core.json.null, request.system or core.json.null,
    request.tools and tools.described(request.tools) or core.json.null, request.effort or core.json.null }
  local text = assert(core.json.encode(core.json.array(told), { sort_keys = true }))
  return core.digest.hex(core.digest.blake2b(text, 16)) .. "/"
end

--- What is told of what cannot be had: what a session lacks once (text that does not stream, conversations that are not
--- kept, the permission mode), a picture that the model was not given each time.
local LACKS = { hooks_unavailable = "once", state_unavailable = "once", permission_mode_unavailable = "once",
  attachment_missing = "each" }

local function tell_lack(self, event)
  local times = LACKS[event.subtype]
  if not times or self.said[event.message] or not self.say then return end
  self.said[event.message] = times == "once"
  self.say(event.message)
end

--- What runs tell the desk.
local function host_of(self)
  return {
    event = function(event)
      if event.subtype == "dialog_answered" then self.metrics:count("parley_dialogs_total", { kind = event.kind }) end
      if event.type == "system" then tell_lack(self, event) end
    end,
    broken = function(err) io.stderr:write(("parley serve: a turn has failed: %s%s\n"):format(errors.text(err),
      task.traceback(err) or "")) end,
    calls_open = function(run)
      for id in pairs(run.open) do self.calls[call_key(run.owner, id)] = run end
      local waiting
      waiting = self.group:spawn(function()
        task.sleep(self.tool_wait_ms)
        if run.waiting ~= waiting then return end
        run.waiting = nil
        run:stop(problems.new(500, "the results of the tools did not come in time", { reason = "tool_wait" }))
      end)
      run.waiting = waiting
    end,
    calls_closed = function(run)
      if run.waiting then run.waiting:cancel "the results have come" end -- or it would keep the run all the time
      run.waiting = nil
      for key, each in pairs(self.calls) do
        if each == run then self.calls[key] = nil end
      end
    end,
    ended = function(run, outcome)
      if not self.runs[run] then return end
      self.runs[run] = nil
      self.running = self.running - 1
      local _, all = run.composer:used()
      for kind, amount in pairs(all) do
        if math.type(amount) == "integer" and kind:find "_tokens$" and amount > 0 then
          self.metrics:count("parley_tokens_total", { kind = kind }, amount)
        end
      end
      self.metrics:count("parley_turns_total", { outcome = outcome })
      if outcome == "success" then
        self.metrics:observe("parley_turn_seconds", task.now() - run.began_at)
      else
        self.metrics:count("parley_failures_total", { reason = outcome })
      end
      self.changed:notify()
    end,
  }
end

--- How long a client is to wait that finds no place: as long as those before it will take.
local function retry_after(self)
  local mean = self.metrics:mean "parley_turn_seconds" or TURN_MS
  local seconds = mean / 1000 * (self.running - self.max_sessions + 1) / self.max_sessions
  return math.tointeger(math.max(1, math.min(LONGEST_RETRY_S, math.ceil(seconds))))
end

local function check_room(self)
  if self.is_draining then
    error(problems.new(529, "the server is shutting down", { retry_after = 5, reason = "draining" }), 0)
  end
  if self.running < self.max_sessions + self.queue then return end
  error(problems.new(429, ("all %d sessions are busy, and %d requests wait already"):format(self.max_sessions,
    self.queue), { retry_after = retry_after(self), reason = "queue" }), 0)
end

local function begin(self, visit, request)
  check_room(self)
  local messages, places = asked.for_session(request)
  if self.plain_folder then mentions.check(messages, self.backend.options) end
  local run = runs.new { asked = request, owner = visit.owner, scope = scope_of(visit, request), host = host_of(self),
    is_strict = self.is_strict }
  run.began_at = task.now()
  self.runs[run], self.running = true, self.running + 1
  local turn -- made at once, so that what is wrong with the request is told with a status
  local ok, err = pcall(function()
    turn = self.backend:complete(messages, { options = options_of(run), http = visit.http, gateway = run })
  end)
  if not ok then
    self.runs[run], self.running = nil, self.running - 1
    error(problems.of(err, places), 0)
  end
  run.task = self.group:spawn(run.play, run, function() return turn end)
  return run
end

--- The turn that waits for these results.
local function waiting_run(self, visit, request)
  for id in pairs(request.results or {}) do
    local run = self.calls[call_key(visit.owner, id)]
    if run and not run.is_over then return run end
  end
end

--- What a turn that is under way cannot take up any more.
local function note_changes(run, visit, request)
  if scope_of(visit, request) == run.scope then return end
  table.insert(request.ignored, "system, tools (changed while a turn waits for results)")
  request.tools = run.asked.tools
end

local function answer(self, visit, request)
  local run = waiting_run(self, visit, request)
  if not run then
    run = begin(self, visit, request)
    return run.reply, run
  end
  note_changes(run, visit, request)
  return run:answer(request), run
end

local function check_strict(self, request)
  if not self.is_strict or #request.ignored == 0 then return end
  problems.refuse("this server is strict, and Claude Code cannot be told: %s", table.concat(request.ignored, ", "))
end

--- Begins to answer a request.
---@param visit parley.gateway.Visit
---@param read fun(): parley.gateway.Asked
---@return {reply: parley.gateway.Reply, run?: parley.gateway.Run, is_attached: boolean, digest: string}
---@return parley.gateway.Asked
--- Raises a `parley.gateway.Problem`.
function Desk:take(visit, read)
  local request = read()
  check_strict(self, request)
  local digest = retries.digest(visit.owner, visit.path, visit.conversation, visit.body)
  local reply = self.retries:find(digest, visit.retry_count)
  if reply then
    self.metrics:count "parley_attached_total"
    return { reply = reply, is_attached = true, digest = digest, run = reply.run }, request
  end
  local run
  reply, run = answer(self, visit, request)
  reply.run = run
  self.retries:keep(digest, reply)
  return { reply = reply, is_attached = false, digest = digest, run = run }, request
end

--- A reader comes.
---@param visit {reply: parley.gateway.Reply}
function Desk:enter(visit)
  self.readers, visit.reply.readers = self.readers + 1, visit.reply.readers + 1
end

--- A reader leaves. When the last one does before the answer is whole, its turn is interrupted, unless somebody asks
--- again in time.
---@param visit {reply: parley.gateway.Reply, run: parley.gateway.Run, digest: string}
---@param has_all boolean
function Desk:leave(visit, has_all)
  local reply = visit.reply
  self.readers, reply.readers = self.readers - 1, reply.readers - 1
  self.changed:notify()
  self.retries:left(visit.digest, reply, has_all)
  if reply.readers > 0 or reply.is_over then return end
  reply.leaves = (reply.leaves or 0) + 1
  local number = reply.leaves
  self.group:spawn(function()
    task.sleep(self.grace_ms)
    if reply.readers > 0 or reply.is_over or reply.leaves ~= number then return end
    self.retries:forget(reply)
    visit.run:stop(problems.new(500, "the client went away", { reason = "disconnect" }))
  end)
end

--- How many turns wait for a session.
---@return integer
function Desk:queued() return math.max(0, self.running - self.max_sessions) end

--- How many turns wait for results of a client's tools.
---@return integer
function Desk:waiting_for_tools()
  local count = 0
  for run in pairs(self.runs) do count = count + (next(run.open) and 1 or 0) end
  return count
end

--- Takes in nothing new, and waits for what runs, and for those who read what came of it.
---@param milliseconds number  at most so long
---@return boolean done
function Desk:drain(milliseconds)
  self.is_draining = true
  return self.changed:wait_until(function() return self.running == 0 and self.readers == 0 end, milliseconds)
end

return M
