--- Puts a message into a session's composer and presses Enter: the delivery policy's keys, one step after the other,
--- each seen on the screen before the next. Nothing here presses Enter on a composer that holds anything else.
local task = require "parley.base.task"
local tui = require "parley.claude.tui"

local M = {}

local ATTEMPTS = 4
--- Keys that the program has not shown for so long were lost, or it is too busy to show them.
local LOST_MS = 2000
--- Which of the two it was is told by a mark that is typed behind them. So long it is waited for, and then a little
--- longer, as a paste may be put in after the key that came behind it. An ESC has left vim's INSERT mode, where the
--- user has that: `i` goes back to it, and is one more letter to be cleared elsewhere.
local TO_INSERT, MARK, MARK_MS, MARK_REST_MS = "i", "¤", 15000, 300
--- A paste of 1 MB took 3.6 s to be shown; 100 kB in pieces took 5 s, and 25 s without a sign on a busy machine.
local MS_PER_BYTE, LONGEST_MS = 0.5, 60000
--- And each key that edits a long text has it drawn again.
local MS_PER_EDIT = 5
--- A composer that changes all the time is not waited for for ever: so many times as long as one that does not.
local CHANGING = 5

local function composer_of(view)
  return tui.composer(view.rows, view.cursor)
end

--- How many lines the composer holds, where all of them are in sight.
local function lines_of(composer)
  return composer and not composer.scrolled and select(2, composer.text:gsub("\n", "")) or nil
end

--- What the composer shows, for an error.
local function shown_in(session)
  local composer = composer_of(session:view())
  return composer and ("it shows %q"):format(composer.text:sub(1, 80)) or "there is no composer"
end

--- How long a text may take to be shown.
local function patience_for(text) return LOST_MS + math.min(#text * MS_PER_BYTE, LONGEST_MS) end

--- Presses keys, and waits until the terminal has taken them: a program that was stopped takes some kilobytes at most.
---@param session parley.Session
---@param keys string
---@return boolean pressed  false when the turn was interrupted first; what was not taken by then is never pressed
function M.press(session, keys)
  local option = session.has_started and "stall_timeout_ms" or "startup_timeout_ms"
  local patience, deadline, seen = session.options[option], nil, nil
  return session.process:write(keys, function(gone)
    if session:is_interrupted() then return false end
    session:check()
    if gone ~= seen then seen, deadline = gone, task.now() + patience end
    local left = deadline - task.now()
    if left <= 0 then
      session:fail("timeout", ("the program has taken no keys for %g ms (%s)"):format(patience, option))
    end
    session:wait(left)
  end)
end

--- Waits until the composer satisfies the predicate. The time counts from its last change: a long text takes a while.
---@return boolean  false when it did not in time, or when the turn was interrupted first
local function wait_for_composer(session, milliseconds, predicate)
  local deadline, seen = task.now() + milliseconds, nil
  local last_deadline = task.now() + CHANGING * milliseconds
  while true do
    session:check()
    if session:is_interrupted() then return false end
    local view = session:view()
    local composer = composer_of(view)
    if composer and predicate(composer) then return true end
    if session:state() == "dialog" then session:answer_dialog() end
    local shown = composer and composer.hidden .. composer.text
    if shown and shown ~= seen then
      seen, deadline = shown, math.min(task.now() + milliseconds, last_deadline)
    end
    local left = deadline - task.now()
    if left <= 0 then return false end
    session:wait(left)
  end
end

local function is_cleared(composer) return composer.is_empty end

--- Empties the composer of what is left in it.
local function clear(session)
  for attempt = 1, ATTEMPTS do
    local composer = composer_of(session:view())
    if composer and composer.is_empty and composer.text == "" then return end
    local keys = composer and session.policies.delivery.clear(composer) or ""
    if attempt > 1 then keys = TO_INSERT .. keys end -- whoever left it may have left vim's INSERT mode, too
    if composer then M.press(session, keys) end
    local patience = LOST_MS + #keys * MS_PER_EDIT
    if wait_for_composer(session, patience, is_cleared) or session:is_interrupted() then return end
  end
  session:fail("delivery", "the composer cannot be emptied of what is left in it: " .. shown_in(session))
end

local function rest(session, milliseconds)
  local deadline = task.now() + milliseconds
  while task.now() < deadline do
    session:wait(deadline - task.now())
    session:check()
  end
end

--- Waits until no keys of an attempt before are on their way, which would join those of the next.
local function catch_up(session, text)
  local deadline = task.now() + MARK_MS + patience_for(text)
  local function has_mark(composer) return composer.text:find(MARK, 1, true) ~= nil end
  repeat
    M.press(session, TO_INSERT .. MARK)
    if wait_for_composer(session, LOST_MS, has_mark) then return rest(session, MARK_REST_MS) end
    if session:is_interrupted() then return end
  until task.now() >= deadline
  session:fail("delivery", "the program does not show what is typed; nothing was sent")
end

--- Types the steps of one attempt; false when keys were lost, or when the turn was interrupted.
local function type_steps(session, steps)
  local holds = session.policies.delivery.holds
  for _, step in ipairs(steps) do
    if not M.press(session, step.keys) then return false end
    local arrived = wait_for_composer(session, patience_for(step.holds), function(composer)
      return (step.cursor == nil or composer.cursor == step.cursor) and holds(composer, step.holds) == "whole"
    end)
    if not arrived or session:is_interrupted() then return false end
    rest(session, step.rest_ms or 0)
  end
  return true
end

--- Types a prepared message and leaves it in the composer.
---@param session parley.Session
---@param text string
---@param is_command boolean  it is short, and every character counts
---@return boolean typed  false when the turn was interrupted first; what was typed is cleared with the next message
--- Raises `SessionError` (reason `"delivery"`) when the composer does not take it; nothing was sent then.
function M.type(session, text, is_command)
  local delivery = session.policies.delivery
  for _ = 1, ATTEMPTS do
    if not session:wait_until_ready() then return false end
    if session.keys_may_follow then catch_up(session, text) end
    if not session:wait_until_ready() then return false end
    clear(session)
    if session:is_interrupted() then return false end
    session.keys_may_follow = true
    local steps = is_command and { { keys = "\27[200~" .. text .. "\27[201~", holds = text } }
      or delivery.keystrokes(text, session:view(), session.delivery)
    if type_steps(session, steps) then
      session.keys_may_follow = false
      return true
    end
    if session:is_interrupted() then return false end
  end
  session:fail("delivery", ("the message was typed %d times and the composer does not hold it; nothing was sent (%s)")
    :format(ATTEMPTS, shown_in(session)))
end

--- Presses Enter.
---@param session parley.Session
function M.enter(session)
  local view = session:view()
  session.had_notice, session.lines_entered = tui.has_changed_text(view.rows), lines_of(composer_of(view))
  M.press(session, session.policies.delivery.enter)
end

--- Whether the message still stands in the composer, so that Enter was lost and may be pressed again.
---@param session parley.Session
---@param text string
---@return boolean
--- Raises `SessionError` (reason `"delivery"`) when the program has changed it there, or makes a new line of Enter; it
--- was not sent.
function M.still_holds(session, text)
  local view = session:view()
  local composer = composer_of(view)
  if not composer or composer.is_empty or session:state() ~= "ready" then return false end
  if tui.has_changed_text(view.rows) and not session.had_notice then
    session:fail("delivery", ("the program has taken characters out of the message; it was not sent (it shows %q)")
      :format(composer.text:sub(1, 80)))
  end
  if session.policies.delivery.holds(composer, text) ~= "whole" then return false end
  if (lines_of(composer) or 0) > (session.lines_entered or math.huge) then
    session:fail("delivery", "Enter has made a new line and sent nothing: the user's key bindings (keybindings.json) "
      .. 'must have "enter" do "chat:submit"')
  end
  return true
end

--- Whether the composer is there and empty.
---@param session parley.Session
---@return boolean
function M.is_empty(session)
  local composer = composer_of(session:view())
  return composer ~= nil and composer.is_empty
end

return M
