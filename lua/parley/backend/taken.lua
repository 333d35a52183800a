--- Sessions in a person's hands: taken out of the pool, typed into by hand, and given back as what they have become.
local clock = require "parley.base.clock"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local history = require "parley.base.history"
local routing = require "parley.policy.routing"
local transcript = require "parley.claude.transcript"
local uv = require "luv"

local M = {}

--- What the program calls a tool of the caller's own.
local OWN_TOOL = "^mcp__parley__"
local LOOK_MS = 1000
--- So long after a key the program need not show yet that it is at work on it.
local SETTLE_MS = 500

---@class parley.Hold
---@field session parley.Session
---@field has_typed boolean
---@field package typed_at? number
---@field is_over boolean
---@field package backend parley.Backend
---@field package run table     the pool's lease, as of a turn
---@field package keys string[]
---@field package before string  the fingerprint of the conversation
local Hold = {}
Hold.__index = Hold
Hold.__name = "parley.Hold"

--- The conversation in a transcript, as the one who holds it by the API would have it.
---@param path string
---@return table[] messages  empty when there is none
function M.messages(path)
  if not uv.fs_stat(path) then return {} end
  local ok, events = pcall(transcript.read, path)
  if not ok then return {} end
  local messages = transcript.messages(events)
  for _, message in ipairs(messages) do
    for _, block in ipairs(message.content) do
      if block.type == "tool_use" and type(block.name) == "string" then block.name = block.name:gsub(OWN_TOOL, "") end
    end
  end
  return messages
end

--- The fingerprints of a conversation, in the forms that clients keep it in.
local function fingerprints(messages)
  local last = messages[#messages]
  if not last then return { history.hash_history {} } end
  local before = table.move(messages, 1, #messages - 1, 1, {})
  return routing.keys({ messages = before }, { messages = { last } })
end

--- The keys of a session whose conversation has become another. A key that is no fingerprint is of a policy's own
--- making, and stays.
---@param keys string[]
---@param messages table[]
---@return string[]
function M.keys(keys, messages)
  local renewed, seen = {}, {}
  local function add(key)
    if not seen[key] then table.insert(renewed, key) end
    seen[key] = true
  end
  for _, key in ipairs(keys) do
    local scope, hash = key:match "^(.-)(%x*)$"
    if #hash == 64 then
      for _, each in ipairs(fingerprints(messages)) do add(scope .. each) end
    else
      add(key)
    end
  end
  return renewed
end

--- Writes keys as they were typed.
---@param bytes string
--- Raises `SessionError` (reason `"exit"`) when the program is gone, `ClosedError` when it was given back.
function Hold:type(bytes)
  if self.is_over then error(errors.closed_error "the session was given back", 0) end
  self.has_typed, self.typed_at = true, clock.now()
  local started = self.backend.kin[self.session]
  if started then started.seed = nil end -- somebody goes on from it
  self.session.process:write(bytes)
end

--- Whether the program is at work.
---@return boolean
function Hold:is_busy()
  return self.session.process:is_alive() and self.session:state() == "busy"
end

--- Waits until the program has had the time to show that it is at work on what was typed.
function Hold:settle()
  local deadline = (self.typed_at or -SETTLE_MS) + SETTLE_MS
  while not self:is_busy() and clock.now() < deadline do self.session.terminal:wait(deadline) end
end

--- Waits for the end of what the program is doing.
---@param milliseconds number  at most so long
---@return boolean
function Hold:wait_until_quiet(milliseconds)
  local deadline = clock.now() + milliseconds
  while self:is_busy() and clock.now() < deadline do
    self.session.terminal:wait(math.min(deadline, clock.now() + LOOK_MS))
  end
  return not self:is_busy()
end

--- The session is the pool's again, and its conversation can be woken as what it is now.
local function keep(self, live, keys)
  local backend, names = self.backend, {}
  for i, key in ipairs(keys) do names[i] = key:sub(#self.run.prefix + 1) end
  local told = backend.sleeping:note(live, {}, {})
  backend.keeper:note(live, { keys = names, set = self.run.set, facts = told })
  backend.pool:release(live, keys)
end

local function let_go(self)
  local pool, run = self.backend.pool, self.run
  if run.session then pool:discard(run.session) elseif run.has_place then pool:release_place(run) end
end

--- Has another process go on with the transcript: what a person did to this one, its mode, its model, what stands in
--- its composer or was rewound, is not in there and goes.
local function restart(self, renew)
  local former, run, backend = self.session, self.run, self.backend
  former:recognise()
  run.request.history = M.messages(former.jsonl_path)
  run.request.messages = run.request.history
  renew(backend, run)
  local messages = M.messages(former.jsonl_path) -- a program writes the last of it when it ends
  if run.payload ~= run.text then return let_go(self) end -- the history would have to go with a message
  local keys = fingerprints(messages)[1] == self.before and self.keys or M.keys(self.keys, messages)
  keep(self, run.session, keys)
end

--- Adds to a backend what persons need.
---@param Backend table
---@param renew fun(backend: parley.Backend, run: table)  another process goes on with the transcript of a session
function M.install(Backend, renew)
  --- The live sessions, the oldest first.
  ---@return parley.PoolEntry[]
  function Backend:sessions() return self.pool:sessions() end

  --- Takes a session out of the pool, for a person to type into. A turn that runs in it ends first.
  ---@param session parley.Session
  ---@return parley.Hold? hold  nil when somebody has it already, or it has ended
  function Backend:take_over(session)
    local started = self.kin[session] or {}
    local run = { set = started.set or self.options, prefix = started.prefix or "", kin = started.kin or "",
      session = session, text = "…", payload = "…", events = {}, notices = {}, request = {} }
    if not self.pool:take_over(session, run) then return nil end
    self.keeper:part(session)
    run.said = session.request
    return setmetatable({ session = session, backend = self, run = run, keys = self.pool:keys_of(session),
      has_typed = false, is_over = false, before = fingerprints(M.messages(session.jsonl_path))[1] }, Hold)
  end

  --- Gives a session back to the pool, under the fingerprint of what its conversation is now. A second call does
  --- nothing.
  ---@param hold parley.Hold
  --- Raises what starting the program raises; the session has ended then.
  function Backend:give_back(hold)
    if hold.is_over then return end
    hold.is_over = true
    if self.closed then return end
    if not hold.has_typed and hold.session.process:is_alive() then
      return keep(hold, hold.session, hold.keys)
    end
    local _ <close> = defer(function(err)
      if err ~= nil then let_go(hold) end
    end)
    restart(hold, renew)
  end
end

return M
