--- Brings a session's dialogs to its policy and does what the policy says. Nothing is pressed that was not seen.
local claude_dialog = require "parley.claude.dialog"
local core = require "parley.core"
local errors = require "parley.base.errors"
local task = require "parley.base.task"
local tui = require "parley.claude.tui"
local typist = require "parley.session.typist"

local M = {}

--- A dialog is drawn in pieces: it is read when it has stood still for so long. 2.1.330 lets the pointer of a new one
--- move, takes no other key, and some 300 ms after it was drawn puts the pointer back.
local STILL_MS = 350
--- So Enter is pressed when the pointer has stood where it should for so long.
local POINTER_STILL_MS = 200
--- One that was answered stays on the screen for a while; one whose rows say nothing yet is still being drawn.
local STALE_MS = 2000
local STEP_MS = 1000

local function identity(call) return core.json.encode({ call.name, call.input }, { sort_keys = true }) end

--- The tool call that a dialog is about: the only one of those that wait which it shows with its whole input. Two that
--- are the same are no matter. Where that cannot be told, nobody decides about a call that may be another one.
local function call_of(session, rows)
  local choices, found = tui.choices(rows), nil
  for _, call in ipairs(choices and session.running and session.turn.open_tools or {}) do
    if claude_dialog.shows(rows, choices, call, session.process.cwd) then
      if found and identity(found) ~= identity(call) then return nil end
      found = found or call
    end
  end
  return found
end

--- Whether one of the calls that wait is what the dialog on the screen is about.
---@param session parley.Session
---@return boolean
function M.has_call(session) return call_of(session, session:view().rows) ~= nil end

local function recognize(session)
  local view, dialogs = session:view(), session.policies.dialogs
  local dialog = dialogs.recognize(view)
  local call = dialog and call_of(session, view.rows)
  if not call then return dialog end
  dialog = dialogs.recognize(view, call)
  if dialog then dialog.tool_use = call end
  return dialog
end

--- Waits while a condition holds, at most so long. Returns whether it still does.
local function lasts(session, milliseconds, condition)
  local deadline = task.now() + milliseconds
  while condition() do
    local left = deadline - task.now()
    if left <= 0 then return true end
    session:wait(left)
    session:check()
  end
  return false
end

--- Picks a choice: by its number, where they have numbers; else the pointer is moved to it, looking after each step,
--- and Enter pressed. Returns whether it was picked; another dialog may have come instead.
local function choose(session, dialog, choice)
  local number = dialog.first_number and dialog.first_number + choice - 1
  if number and number <= 9 then
    local current = recognize(session)
    return current ~= nil and current.text == dialog.text and typist.press(session, tostring(number))
  end
  for step = 1, 3 * #dialog.choices do
    local current = recognize(session)
    if not current or current.kind ~= dialog.kind or #current.choices ~= #dialog.choices then return false end
    if step == 1 and current.text ~= dialog.text then return false end -- later the pointer may change what is shown
    local before = current.selected
    if not before then break end
    local function stays()
      current = recognize(session)
      return current ~= nil and current.selected == before
    end
    if before ~= choice then
      typist.press(session, before < choice and "\27[B" or "\27[A")
      lasts(session, STEP_MS, stays)
    elseif lasts(session, POINTER_STILL_MS, stays) then
      return typist.press(session, "\r")
    end
  end
  session:fail("dialog", "the dialog's pointer does not move to the choice", { dialog = dialog })
end

local function fail(session, dialog, why)
  local call = dialog.tool_use
  local asks = call and ("%s %s"):format(call.name, core.json.encode(call.input) or "")
    or ("%q"):format(dialog.text:match "^[^\n]*\n?[^\n]*\n?[^\n]*":gsub("\n", " | "))
  error(errors.dialog_error(("the program asks (%s: %s) and nothing may answer: %s"):format(dialog.kind, asks, why),
    { dialog = dialog, session_id = session.session_id, screen = session.process.screen:text() }), 0)
end

local function decide(session, dialog)
  dialog = dialog or { kind = "unknown", text = session.process.screen:text(), choices = {},
    remedy = "it cannot be read; look at the screen" }
  local decision = session.policies.dialogs.decide(dialog, session.options.accept)
  session.answered = dialog.text
  if decision.choose then
    if not choose(session, dialog, decision.choose) then return end
  elseif decision.keys then
    local current = recognize(session) -- it may have gone while the policy waited
    if not current or current.text ~= dialog.text then return end
    typist.press(session, decision.keys)
  else
    fail(session, dialog, decision.fail)
  end
  if session.running then
    session.turn:notice("dialog_answered", { session_id = session.session_id, kind = dialog.kind, text = dialog.text,
      choice = decision.choose and dialog.choices[decision.choose], keys = decision.keys, message = dialog.text })
  end
end

--- Answers the dialog that is up.
---@param session parley.Session
--- Raises `DialogError` when the policy does not answer it; its `dialog` has `kind`, `text`, `choices` and, in a turn,
--- `tool_use`, the call that it is about, where that can be told.
function M.answer(session)
  local since, seen = task.now(), nil
  while session:state() == "dialog" do
    session:check()
    local dialog = recognize(session)
    local text = dialog and dialog.text
    if text ~= seen then since, seen = task.now(), text end
    local still = task.now() - since
    local is_stale = text == nil or text == session.answered or dialog.kind == "unknown"
    local patience = is_stale and STALE_MS or STILL_MS
    if still >= patience then return decide(session, dialog) end
    session:wait(patience - still)
    if session:is_interrupted() then return end
  end
end

return M
