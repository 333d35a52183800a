--- Brings a terminal's dialogs to their policy and does what the policy says. Nothing is pressed that was not seen.
local claude_dialog = require "parley.claude.dialog"
local clock = require "parley.base.clock"
local core = require "parley.core"
local decisions = require "parley.policy.decision"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local keys = require "parley.claude.keys"
local task = require "parley.base.task"
local tui = require "parley.claude.tui"

local M = {}

--- A dialog is drawn in pieces: it is read when it has stood still for so long. 2.1.330 lets the pointer of a new one
--- move, takes no other key, and some 300 ms after it was drawn puts the pointer back.
local STILL_MS = 350
--- So Enter is pressed when the pointer has stood where it should for so long.
local POINTER_STILL_MS = 200
--- A key that has not moved the pointer was lost, or a busy program has not read it yet: then it comes, behind the
--- next one. So each is given twice as long as the one before it, and so is the pointer before Enter. In all, so long.
local STEP_MS, POINTER_MS = 1000, 30000
--- The key that is to show whether those before it were read: what has not moved the pointer for so long was lost.
local PROBE_MS = 5000
--- One that was answered stays on the screen for a while; one whose rows say nothing yet is still being drawn, and so
--- is one that has Enter confirm and no pointer (2.1.332, `/add-dir`: for 500 ms).
local STALE_MS = 2000

---@class parley.Dialogs
---@field package terminal parley.Terminal
---@field package policy table      the dialogs policy
---@field package accept string[]   what it may answer with yes
---@field package cwd string        of the program
---@field package asked parley.Asked
---@field package answered_call? table  what it was about
---@field policy_ms number          how long the policy has taken for the last one
---@field package answered? string  the text of the one that was answered, while that may still be on the screen
local Dialogs = {}
Dialogs.__index = Dialogs
Dialogs.__name = "parley.Dialogs"

---@class parley.Answered  a dialog, and what was answered
---@field kind string
---@field text string
---@field choice? string
---@field keys? string
---@field denied? string   why, of a policy that denies
---@field refusal? string  who has refused what, and why, for the error that comes of it
---@field tool_use? table  the call, where that is known

--- Makes the one who answers a terminal's dialogs.
---@param given {terminal: parley.Terminal, policy: table, accept: string[], cwd: string, asked: parley.Asked}
---       `policy`: the dialogs policy; `cwd` of the program
---@return parley.Dialogs
function M.new(given)
  return setmetatable({ terminal = given.terminal, policy = given.policy, accept = given.accept, cwd = given.cwd,
    asked = given.asked, policy_ms = 0 }, Dialogs)
end

local function identity(call) return core.json.encode({ call.name, call.input }, { sort_keys = true }) end

--- The tool call that a dialog is about: the only one of those that wait which it shows with its whole input. Two that
--- are the same are no matter. Where that cannot be told, nobody decides about a call that may be another one.
local function call_of(self, rows, calls)
  local choices, found = tui.choices(rows), nil
  for _, call in ipairs(choices and self.asked:with(calls) or {}) do
    if claude_dialog.shows(rows, choices, call, self.cwd) then
      if found and identity(found) ~= identity(call) then return nil end
      found = found or call
    end
  end
  return found
end

--- The call that the program itself has named, where the dialog's title does not speak against that.
local function named_call(self, rows)
  local call = self.asked:only()
  local choices = call and tui.choices(rows)
  return choices and not claude_dialog.is_about_other(rows, choices, call) and call or nil
end

--- Whether one of the calls that wait is what the dialog on the screen is about.
---@param calls table[]  `tool_use` blocks
---@return boolean
function Dialogs:has_call(calls)
  local rows = self.terminal:view().rows
  return (named_call(self, rows) or call_of(self, rows, calls)) ~= nil
end

--- Whether a dialog may be about the call that the program has named: one that was answered may still be up, while the
--- program names the call of the next one. No matter where both calls are the same.
local function is_new(self, dialog, named)
  local former = self.answered_call
  return dialog.text ~= self.answered or former ~= nil and identity(former) == identity(named)
end

local function recognize(self, calls)
  local view = self.terminal:view()
  local dialog = self.policy.recognize(view)
  local named = dialog and named_call(self, view.rows)
  local call = named and is_new(self, dialog, named) and named or dialog and call_of(self, view.rows, calls)
  if not call then return dialog end
  dialog = self.policy.recognize(view, call)
  if dialog then dialog.tool_use = call end
  return dialog
end

--- Waits while a condition holds, at most so long, and no longer than to an interrupt. Returns whether it still does.
local function lasts(self, milliseconds, condition)
  local terminal = self.terminal
  return not terminal:wait_until(function() return terminal:is_interrupted() or not condition() end, milliseconds)
end

--- Whether a dialog that was answered, and stays, may be answered again. The key may be unread yet, and answer it, so
--- that its repetition would answer the next one. Where there is a pointer, one key more moves that: when it is seen to
--- have moved, what was pressed earlier was read or lost. Else what was not read for so long was lost.
local function may_repeat(self, dialog, choice, calls)
  local current = recognize(self, calls)
  if not current or current.text ~= dialog.text then return false end
  local before = current.selected
  local has_pointer = before ~= nil and choice ~= nil and #dialog.choices > 1
  if has_pointer then
    local is_above = before < choice or before == choice and choice == 1
    self.terminal:press(is_above and keys.DOWN or keys.UP)
  end
  local is_still = lasts(self, has_pointer and PROBE_MS or POINTER_MS, function()
    current = recognize(self, calls)
    return current ~= nil and current.text == dialog.text and current.selected == before
  end)
  local is_there = current ~= nil and current.text == dialog.text and not self.terminal:is_interrupted()
  return is_there and is_still ~= has_pointer
end

--- Picks a choice: by its number, where they have numbers; else the pointer is moved to it, looking after each step,
--- and Enter pressed. Returns whether it was picked; another dialog may have come instead.
local function choose(self, dialog, choice, calls, is_again)
  local terminal, number = self.terminal, dialog.first_number and dialog.first_number + choice - 1
  if is_again and not may_repeat(self, dialog, choice, calls) then return false end
  if number and number <= 9 and not (is_again and dialog.selected) then
    local current = recognize(self, calls)
    return current ~= nil and current.text == dialog.text and terminal:press(tostring(number))
  end
  local step_ms, still_ms, deadline = STEP_MS, POINTER_STILL_MS, clock.now() + POINTER_MS
  local is_first = true
  repeat
    if terminal:is_interrupted() then return false end
    local current = recognize(self, calls)
    if not current or current.kind ~= dialog.kind or #current.choices ~= #dialog.choices then return false end
    local may_differ = not (is_first or is_again) -- the pointer may change what is shown
    if not may_differ and current.text ~= dialog.text then return false end
    is_first = false
    local before = current.selected
    if not before then break end
    local function stays()
      current = recognize(self, calls)
      return current ~= nil and current.selected == before
    end
    if before == choice then
      if lasts(self, still_ms, stays) then
        self.answered = current.text -- the pointer may have changed it
        return terminal:press(keys.ENTER)
      end
    else
      terminal:press(before < choice and keys.DOWN or keys.UP)
      if lasts(self, step_ms, stays) then step_ms, still_ms = 2 * step_ms, 2 * step_ms end
    end
  until clock.now() >= deadline
  terminal:fail("dialog", "the dialog's pointer does not move to the choice", { dialog = dialog })
end

--- The kind of a dialog, and the call that it is about, or its first rows.
local function described(dialog)
  local call = dialog.tool_use
  if call then
    return ("%s: %s %s"):format(dialog.kind, call.name, core.json.encode(call.input, { sort_keys = true }) or "")
  end
  local rows = dialog.text:match "^[^\n]*\n?[^\n]*\n?[^\n]*":gsub("\n", " | ")
  return ("%s: %q"):format(dialog.kind, rows)
end

local function fail(self, dialog, why)
  local is_own = self.policy.described and rawget(self.policy, "decide")
  local refusal = is_own and (", and %s refuses"):format(self.policy.described) or " and nothing may answer"
  self.terminal:raise(errors.dialog_error(("the program asks (%s)%s: %s"):format(described(dialog), refusal, why),
    { dialog = dialog }))
end

--- What is to be said where an answer ends the turn, or the program.
local function refusal_of(self, dialog, choice, why)
  if not (choice and decisions.says_no(choice)) then return nil end
  return ("%s has answered '%s' (%s)%s"):format(self.policy.described or "the policy 'dialogs'", choice,
    described(dialog), why and ": " .. why or "")
end

--- Whether the dialog that the policy was asked about is there no more: it has gone, or another one stands there. A
--- person at the terminal has answered it, or the program has taken it away. One that cannot be read is being drawn.
local function has_gone(self, text, calls)
  if self.terminal:state() ~= "dialog" then return true end
  local current = recognize(self, calls)
  return current ~= nil and current.text ~= text
end

--- Waits until a dialog has gone for so long that it is not only drawn anew, or until the turn is interrupted.
local function wait_until_gone(self, text, calls)
  local terminal, since = self.terminal, nil
  terminal:wait_until(function()
    if terminal:is_interrupted() then return true end
    since = has_gone(self, text, calls) and (since or clock.now()) or nil
    local due = (since or math.huge) + STILL_MS
    return clock.now() >= due, due
  end, math.huge)
end

--- What the policy says, which may ask a person: in a task of its own, for the turn may end meanwhile, and somebody
--- else may answer.
---@param text? string  of the dialog; nil: it cannot be read
---@return table? decision  nil when the dialog has gone, or the turn was interrupted
local function ask_policy(self, dialog, text, calls)
  local began, is_over, failure = clock.now(), false, nil
  local asking = task.spawn(pcall, self.policy.decide, dialog, self.accept)
  local watching = task.spawn(function()
    local ok, err = pcall(wait_until_gone, self, text, calls)
    is_over, failure = true, not ok and err or nil
    asking:cancel "nobody waits for the decision any more"
  end)
  local _ <close> = defer(function()
    asking:cancel "the turn has ended"
    watching:cancel "the dialogs policy has decided"
    task.shield(function()
      for _, each in ipairs { asking, watching } do pcall(each.await, each) end
    end)
    self.policy_ms = clock.now() - began
  end)
  local has_begun, ok, decision = pcall(asking.await, asking)
  if failure then error(failure, 0) end
  if is_over or self.terminal:is_interrupted() then return nil end
  if not (has_begun and ok) then error(has_begun and decision or ok, 0) end
  return decision
end

local function decide(self, dialog, calls)
  local terminal, text = self.terminal, dialog and dialog.text
  dialog = dialog or { kind = "unknown", text = terminal.process.screen:text(), choices = {},
    remedy = "it cannot be read; look at the screen" }
  local decision = ask_policy(self, dialog, text, calls)
  if not decision then return nil end
  decision = decisions.resolve(decision, dialog)
  local is_again = dialog.text == self.answered
  self.answered = dialog.text
  if decision.choose then
    if not choose(self, dialog, decision.choose, calls, is_again) then return nil end
  elseif decision.keys then
    local is_harmless = decision.keys == keys.ESCAPE -- it consents to nothing
    if is_again and not is_harmless and not may_repeat(self, dialog, nil, calls) then return nil end
    local current = recognize(self, calls) -- it may have gone while the policy waited
    if not current or current.text ~= dialog.text then return nil end
    terminal:press(decision.keys)
  else
    fail(self, dialog, decision.fail)
  end
  self.answered_call = dialog.tool_use
  self.asked:answer(dialog.tool_use and dialog.tool_use.id)
  local choice = decision.choose and dialog.choices[decision.choose]
  return { kind = dialog.kind, text = dialog.text, choice = choice, keys = decision.keys, tool_use = dialog.tool_use,
    denied = decision.denied, refusal = refusal_of(self, dialog, choice, decision.denied) }
end

--- Answers the dialog that is up.
---@param calls table[]  the `tool_use` blocks of the turn that wait for a result
---@return parley.Answered?  nil when it was gone, or the turn interrupted, before it was answered
--- Raises `DialogError` when the policy does not answer it; its `dialog` has `kind`, `text`, `choices` and, in a turn,
--- `tool_use`, the call that it is about, where that can be told.
function Dialogs:answer(calls)
  local terminal, since, seen = self.terminal, clock.now(), nil
  self.policy_ms = 0
  while terminal:state() == "dialog" do
    terminal:check()
    local dialog = recognize(self, calls)
    local text = dialog and dialog.text
    if text ~= seen then since, seen = clock.now(), text end
    local is_stale = text == nil or text == self.answered or dialog.kind == "unknown"
      or not dialog.selected and text:find "Enter to confirm[^\n]*$"
    local due = since + (is_stale and STALE_MS or STILL_MS)
    if clock.now() >= due then return decide(self, dialog, calls) end
    terminal:wait(due)
    if terminal:is_interrupted() then return nil end
  end
end

--- Tells that no dialog is up: the next one is another, even where it says the same.
function Dialogs:forget() self.answered = nil end

return M
