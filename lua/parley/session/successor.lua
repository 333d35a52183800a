--- Where the program goes on: `/clear`, `/branch` and `/resume` lead to another session in the same process, whether a
--- command of ours has them or a person has entered them. 2.1.197 and later name it in the status file. Where there is
--- no status (before 2.1.119) a new transcript tells, of a command of ours alone: of a person's it could be anybody's.
local clear = require "parley.claude.clear"
local core = require "parley.core"

local M = {}

--- So often whoever waits to be cleared looks whether it may be.
local CLEAR_LOOK_MS = 1000

--- Where the program does not say which session `/clear` has started, its transcript is told by being new: so in one
--- folder one session is cleared at a time. By folder.
local clearing = setmetatable({}, { __mode = "v" }) ---@type table<string, parley.Successor>

---@class parley.Successor
---@field package terminal parley.Terminal
---@field package transcript parley.Transcript
---@field package own? string   what the status file has called the session since it began
---@field package before? table<string, true>  where it names none: the transcripts before a command of ours
---@field package folder? string  where they are
local Successor = {}
Successor.__index = Successor
Successor.__name = "parley.Successor"

--- Makes what knows of no other session.
---@param terminal parley.Terminal
---@param transcript parley.Transcript
---@return parley.Successor
function M.new(terminal, transcript)
  return setmetatable({ terminal = terminal, transcript = transcript }, Successor)
end

--- The session that the program says it is in, where its version does.
local function named(self)
  local current = self.terminal:status()
  local id = current and current.status and current.sessionId
  return core.uuid.is_valid(id or "") and id or nil
end

local function folder_of(self) return self.transcript.path:match "^(.*)/" end

--- Takes what the program is in now for the session.
function Successor:begin() self.own = named(self) end

--- Waits until no other session of the folder is being cleared.
---@return boolean may_go_on  false when the turn was interrupted first
local function wait_for_others(self)
  local terminal, folder = self.terminal, folder_of(self)
  local function is_free() return clearing[folder] == nil or clearing[folder] == self end
  while not is_free() and not terminal:is_interrupted() do
    terminal:wait_until(function() return terminal:is_interrupted() or is_free() end, CLEAR_LOOK_MS)
  end
  return not terminal:is_interrupted()
end

--- Waits until the session may be cleared by a command, and notes which transcripts there are.
function Successor:prepare()
  if named(self) or not wait_for_others(self) then return end -- it will say where it goes on
  self.folder, self.before = folder_of(self), clear.remember(self.transcript.path)
  clearing[self.folder] = self
end

--- Has another session of the folder be cleared. May be called again.
function Successor:let_go()
  if self.before then clearing[self.folder] = nil end
  self.before = nil
end

--- The session that a command of ours has led to.
---@param kind? "clear"|"branch"  see `prepare`
---@return string? session_id  the one that it has left, too
function Successor:next(kind)
  return named(self) or self.before and clear.find(self.transcript.path, self.before, kind)
end

--- The session that the program says it has gone on to.
---@return string? session_id
function Successor:elsewhere()
  local id = named(self)
  self.own = self.own or id
  return id ~= self.own and id ~= self.terminal:session_id() and id or nil
end

--- Raises when the program has gone on to another session: a message would go there.
function Successor:check()
  local id = self:elsewhere()
  if not id then return end
  self.terminal:fail("delivery", ("the program is in another session now, %s: somebody has entered /clear, /branch or "
    .. "/resume; nothing was sent"):format(id), { other_session_id = id })
end

return M
