--- One turn as its caller holds it: what happens while it does, what came of it, and a way to end it.
---
--- Nothing is started before somebody asks for the first event. Tasks may read side by side: each gets every event from
--- the first on, one of them takes the next step and the others wait for it.
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local history = require "parley.base.history"
local task = require "parley.base.task"

local M = {}

---@class parley.TurnSource
---@field next fun(): parley.Event?       waits for the next event; after the `result` it is not called again
---@field abandon fun()                   ends what the turn holds
---@field session fun(): parley.Session?  the session that it runs in, once there is one

---@class parley.Turn
---@field session_id? string  of the session that it runs in, or ran in; nil until that is known
---@field on_result? fun(turn: parley.Turn)  called once, before anybody gets the `result`
---@field package source parley.TurnSource
---@field package happened parley.Event[]
---@field package taken integer      how many of them `turn()` has given
---@field package changed parley.Condition
---@field package is_stepping? true  somebody waits in `source.next`
---@field package is_over? true
---@field package failure? {[1]: any}
local Turn = {}
Turn.__name = "parley.Turn"

function Turn:__index(name)
  if name ~= "session_id" then return Turn[name] end
  local live = self.source.session()
  return live and live.session_id
end

--- Makes a turn that has not begun.
---@param source parley.TurnSource
---@return parley.Turn
function M.new(source)
  return setmetatable({ source = source, happened = {}, taken = 0, changed = task.condition() }, Turn)
end

local function take_step(self)
  self.is_stepping = true
  local _ <close> = defer(function() self.changed:notify() end)
  local ok, event = pcall(self.source.next)
  self.is_stepping = nil
  if not ok then
    self.is_over, self.failure = true, { event }
  elseif event then
    table.insert(self.happened, event)
  end
  if ok and (not event or event.type == "result") then
    self.is_over = true
    self.session_id = event and event.session_id or nil
    if event and self.on_result then self.on_result(self) end
  end
end

--- The event at a place, waited for; nil when the turn ends before it. What it fails with comes once, last.
local function event_at(self, index)
  while not self.happened[index] do
    if self.failure and index == #self.happened + 1 then error(self.failure[1], 0) end
    if self.is_over then return nil end
    if self.is_stepping then self.changed:wait() else take_step(self) end
  end
  return self.happened[index]
end

--- Waits for the next event, so that a turn is an iterator: `for event in turn`.
---@return parley.Event? event  nil after the `result`, and behind `close`
--- Raises what `complete` says, and `ClosedError` when another task closes it meanwhile.
function Turn:__call()
  self.taken = self.taken + 1
  return event_at(self, self.taken)
end

--- All events, from the first on, for the generic `for`; leaving the loop early cancels the turn.
---@return fun(): parley.Event? next_event
---@return nil
---@return nil
---@return parley.Turn closer
function Turn:events()
  local index = 0
  return function()
    index = index + 1
    return event_at(self, index)
  end, nil, nil, self
end

--- Waits for the end of the turn.
---@return parley.Event result
--- Raises what the turn raised; `ClosedError` when it was closed before its end.
function Turn:result()
  while not self.is_over do event_at(self, #self.happened + 1) end
  if self.failure then error(self.failure[1], 0) end
  local last = self.happened[#self.happened]
  if last and last.type == "result" then return last end
  error(errors.closed_error "the turn was closed before its end, so it has no result", 0)
end

--- What the turn has added to its conversation, waited for.
---@return table[] messages  see `parley.synthesize_turn_messages`
--- Raises as `result`.
function Turn:messages()
  self:result()
  return history.synthesize_turn_messages(self.happened)
end

--- Why a turn with this result is no answer.
local REASONS = { error_api = "api", error_hook = "refused", error_limit = "limit" }

--- Raises when the turn did not end well, or was closed.
---@param allows_interrupted? boolean
---@return parley.Event result
function Turn:check(allows_interrupted)
  local result = self:result()
  if result.subtype == "success" or result.subtype == "interrupted" and allows_interrupted then return result end
  error(errors.session_error(("the turn ended with %s%s"):format(result.subtype,
    result.message and ": " .. result.message or ""), {
    reason = REASONS[result.subtype] or result.subtype, result = result, events = self.happened,
  }), 0)
end

--- The text of the turn's last message, waited for; of an interrupted turn what there is of it.
---@return string
--- Raises as `result`, and `SessionError`, with `result`, when the turn ended with an error.
function Turn:text()
  self:check(true)
  local messages = self:messages()
  local last = messages[#messages]
  return last and last.role == "assistant" and history.text_of(last) or ""
end

--- Interrupts the turn: its events end with a `result` of subtype `interrupted`, or of the one that it came to before.
---@return boolean interrupted  false when no turn runs (yet)
function Turn:interrupt()
  local live = not self.is_over and self.source.session()
  return live and live:interrupt() or false
end

---@return boolean  whether somebody has asked for its first event
function Turn:has_begun() return self.is_stepping or self.is_over or #self.happened > 0 end

---@return boolean  whether it has ended, however that was
function Turn:is_done() return self.is_over or false end

--- Cancels the turn, if it runs: its session ends, for what it was doing is nobody's any more.
function Turn:close()
  if self.is_over then return end
  self.session_id, self.is_over = self.session_id, true
  self.source.abandon()
  self.changed:notify()
end

Turn.__close = Turn.close

function Turn:__tostring()
  local result = self.is_over and self.happened[#self.happened]
  local state = result and result.type == "result" and result.subtype or self.is_over and "over"
    or self:has_begun() and "running" or "not begun"
  return ("%s (%s)"):format(Turn.__name, state)
end

return M
