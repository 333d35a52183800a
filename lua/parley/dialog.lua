--- Brings a session's dialogs to its policy and does what the policy says. Nothing is pressed that was not seen.
local errors = require "parley.errors"
local task = require "parley.task"

local M = {}

--- A dialog is drawn in pieces: it is read when it has stood still for so long.
local STILL_MS = 80
--- One that was answered stays on the screen for a while; one whose rows say nothing yet is still being drawn.
local STALE_MS = 2000
local STEP_MS = 1000

--- Moves the pointer to a choice, looking after each step, and presses Enter.
local function choose(session, dialog, choice)
  for _ = 1, 3 * #dialog.choices do
    local current = session.policies.dialogs.recognize(session:view())
    if not current or current.kind ~= dialog.kind or #current.choices ~= #dialog.choices then return end
    if current.selected == choice then return session.process:write "\r" end
    session.process:write(current.selected < choice and "\27[B" or "\27[A")
    local deadline, generation = task.now() + STEP_MS, session.process.screen:generation()
    while session.process.screen:generation() == generation and task.now() < deadline do
      session.changed:wait(deadline - task.now())
    end
  end
  session:fail("dialog", "the dialog's pointer does not move to the choice", { dialog = dialog })
end

local function fail(session, dialog, why)
  local title = dialog.text:match "^[^\n]*" or ""
  local asks = dialog.tool_use and ("%s wants to run %s"):format(title, dialog.tool_use.name) or ("%q"):format(title)
  error(errors.dialog_error(("the program asks (%s: %s) and nothing may answer: %s"):format(dialog.kind, asks,
    why or dialog.remedy), { dialog = dialog, session_id = session.session_id,
    screen = session.process.screen:text() }), 0)
end

local function decide(session, dialog)
  dialog = dialog or { kind = "unknown", text = session.process.screen:text(), choices = {},
    remedy = "it cannot be read; look at the screen" }
  dialog.tool_use = session.turn and select(2, next(session.turn.open_tools)) or nil
  local decision = session.policies.dialogs.decide(dialog, session.options.accept)
  if type(decision) ~= "table" then
    error(errors.value_error "the dialogs policy must return {choose = integer}, {keys = string} or {fail = string}", 0)
  end
  session.answered = dialog.text
  if decision.choose then
    if not dialog.choices[decision.choose] then
      error(errors.value_error(("the dialogs policy chose %s of %d"):format(decision.choose, #dialog.choices)), 0)
    end
    choose(session, dialog, decision.choose)
  elseif decision.keys then
    session.process:write(decision.keys)
  else
    fail(session, dialog, decision.fail)
  end
  if session.turn then
    session.turn:notice("dialog_answered", { session_id = session.session_id, kind = dialog.kind, text = dialog.text,
      choice = decision.choose and dialog.choices[decision.choose], keys = decision.keys, message = dialog.text })
  end
end

--- Answers the dialog that is up.
---@param session parley.Session
--- Raises `DialogError` when the policy does not answer it; its `dialog` has `kind`, `text`, `choices` and, in a turn,
--- `tool_use`, the call that waits.
function M.answer(session)
  local since, seen = task.now(), nil
  while session:state() == "dialog" do
    session:check()
    local dialog = session.policies.dialogs.recognize(session:view())
    local text = dialog and dialog.text
    if text ~= seen then since, seen = task.now(), text end
    local still = task.now() - since
    local is_stale = text == nil or text == session.answered or dialog.kind == "unknown"
    local patience = is_stale and STALE_MS or STILL_MS
    if still >= patience then return decide(session, dialog) end
    session.changed:wait(patience - still)
  end
end

return M
