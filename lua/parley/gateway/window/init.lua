--- The window: persons look into the sessions' terminals, from a page or with `parley attach`, and may take one over.
local clock = require "parley.base.clock"
local conversation = require "parley.gateway.window.conversation"
local core = require "parley.core"
local holds = require "parley.gateway.window.holds"
local problems = require "parley.gateway.problems"
local sessions = require "parley.gateway.window.sessions"
local uv = require "luv"

local M = {}

--- A page is logged in until nothing was heard of it for so long; so many of one owner are, at a time.
local LOGIN_MS, MOST_LOGINS = 12 * 3600 * 1000, 1000
--- How long a person may be gone who has taken over a session.
M.VANISH_MS = 60000

---@class parley.gateway.Window
---@field backend parley.Backend
---@field holds parley.gateway.Holds
---@field package talks table<parley.Session, parley.gateway.Conversation>  of those that are looked at
---@field package logins table<string, {owner: string, until_ms: number}>  by the digest of a page's secret
local Window = {}
Window.__index = Window

---@param given {backend: parley.Backend, group: parley.Group}
---@return parley.gateway.Window
function M.new(given)
  return setmetatable({ backend = given.backend, logins = {}, talks = setmetatable({}, { __mode = "k" }),
    holds = holds.new { backend = given.backend, group = given.group, vanish_ms = M.VANISH_MS } }, Window)
end

-- Who may look --------------------------------------------------------------------------------------------------------

local function digest(secret) return core.digest.blake2b(secret, 32) end

local function forget_old(self, owner)
  local count = 0
  for key, login in pairs(self.logins) do
    if login.owner == owner then count = count + 1 end
    if login.until_ms < clock.now() or login.owner == owner and count >= MOST_LOGINS then self.logins[key] = nil end
  end
end

--- Gives a page a secret of its own: it opens the window, and nothing else, until the server ends.
---@param owner string
---@return string secret
function Window:login(owner)
  forget_old(self, owner)
  local secret = "page-" .. core.digest.hex(assert(uv.random(32)))
  self.logins[digest(secret)] = { owner = owner, until_ms = clock.now() + LOGIN_MS }
  return secret
end

--- Whose page asks.
---@param headers table<string, string>
---@return string? owner
function Window:owner(headers)
  local secret = (headers.authorization or ""):match "^Bearer (page%-%x+)$"
  local login = secret and self.logins[digest(secret)]
  if not login or login.until_ms < clock.now() then return nil end
  login.until_ms = clock.now() + LOGIN_MS
  return login.owner
end

--- A browser tells which page it asks for: another's is refused. What is no browser says nothing, and has a secret.
---@param headers table<string, string>
--- Raises a problem.
function M.check_origin(headers)
  local origin, site = headers.origin, headers["sec-fetch-site"]
  local own = (headers.host or ""):lower()
  local is_own = not origin or origin:lower() == "http://" .. own or origin:lower() == "https://" .. own
  if is_own and (not site or site == "same-origin" or site == "none") then return end
  error(problems.new(403, "another page asks for this one's sessions", { reason = "origin" }), 0)
end

-- What there is to see ------------------------------------------------------------------------------------------------

--- The sessions of one owner: nobody sees another's.
---@param owner string
---@return parley.PoolEntry[]
function Window:entries(owner)
  local list = {}
  for _, entry in ipairs(self.backend:sessions()) do
    if sessions.owner(entry) == owner then table.insert(list, entry) end
  end
  return list
end

---@param owner string
---@return parley.gateway.SessionLine[]
function Window:lines(owner)
  local lines = {}
  for i, entry in ipairs(self:entries(owner)) do lines[i] = sessions.line(entry, self.holds:holder(entry.session)) end
  return lines
end

--- Finds a session.
---@param id string
---@param owner string
---@return parley.PoolEntry?
function Window:find(id, owner)
  for _, entry in ipairs(self:entries(owner)) do
    if entry.session.session_id == id then return entry end
  end
end

--- The conversation of a session, read once for all who look at it.
---@param session parley.Session
---@return parley.gateway.Conversation
function Window:conversation(session)
  self.talks[session] = self.talks[session] or conversation.new()
  return self.talks[session]
end

return M
