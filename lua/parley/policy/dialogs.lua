--- What to do with a dialog.
---
--- To replace it, return a table with `decide`, and with `recognize` for dialogs that this one does not know. `decide`
--- may wait (`parley.task`), to ask a person, and is cancelled when the dialog goes: somebody at the terminal has
--- answered it. The user's consent is the user's: by default nothing is consented to that `accept` does not name. Where
--- ESC consents to nothing and the program goes on (an offer, a panel), it is pressed.
local claude_dialog = require "parley.claude.dialog"
local decision = require "parley.policy.decision"
local dialog_kinds = require "parley.claude.dialog_kinds"
local keys = require "parley.claude.keys"
local tui = require "parley.claude.tui"

local M = {}

M.contract = {
  recognize = {
    returns = "{kind = string, text = string, choices = list of strings, selected = integer?, first_number = integer?, "
      .. "remedy = string?, …}",
    or_nil = "nil",
  },
  decide = {
    returns = "{allow = boolean?, deny = string?, choose = integer or string?, keys = string?, fail = string?}",
    fits = function(answer, dialog)
      local concrete, wrong = decision.resolve(answer, dialog)
      return concrete ~= nil, wrong
    end,
  },
}

---@class parley.Dialog
---@field kind string       `"trust"`, `"bypass"`, …; `"panel"` of a command that shows something;
---                         `"elicitation"` of an MCP server that asks for input, which has no choices: keys answer it,
---                         and ESC declines it; `"auto_check"` of auto mode that cannot check a call, with none
---                         either, where ESC refuses the call and interrupts the turn; or `"unknown"`
---@field text string       what the dialog shows: all of it, a tool's input too
---@field is_cut? boolean    its beginning is out of sight, for it is taller than the screen (`dimensions`)
---@field choices string[]  the labels, top to bottom
---@field selected? integer where the pointer stands
---@field first_number? integer  of the first choice, where a digit picks one
---@field checked? table<integer, boolean>  of a question that takes several answers, by the number of the choice:
---                         whether it is ticked. To choose one ticks it, or takes the tick away; then the dialog comes
---                         again. The choice "Submit", or "Next", has no tick, and goes on
---@field tool_use? table   the tool call that it is about, a block of the Messages API: where the program calls back (a
---                         permission policy, `hooks`, a limit on calls), the one that it has named, a sub-agent's too;
---                         else the only one of those that wait whose input it shows, whole. Where neither tells, nil:
---                         judge by `text`, or refuse
---@field is_refused_by_escape? boolean  ESC says no to it, and the program goes on
---@field remedy? string    what a person would do

--- What a command shows, and the menu that two presses of ESC open: ESC closes it.
local PANEL = { kind = "panel", remedy = "press ESC" }
local UNKNOWN = { kind = "unknown", remedy = "give a dialogs policy that answers it" }

local function has_label(entry, choices)
  return not entry.label or choices ~= nil and choices.labels[1]:find(entry.label) ~= nil
end

--- The uppermost row that tells decides: those below it may say what others have named. An offer's is its title.
local function known_at_start(text, choices)
  local title = text:match "^[^\n]*"
  for row in text:gmatch "[^\n]+" do
    for _, entry in ipairs(dialog_kinds.at_start) do
      local is_it = row:find(entry.row) and (row == title or not entry.is_offer)
      if is_it and has_label(entry, choices) then return entry end
    end
  end
  return UNKNOWN
end

local function known_in_turn(rows, choices, call)
  local above = ""
  for i = choices and choices.first_row - 1 or 0, 1, -1 do
    above = rows[i]:match "^%s*(.-)%s*$"
    if above ~= "" then break end
  end
  for _, entry in ipairs(dialog_kinds.in_turn) do
    local is_it = choices and (entry.fits and entry.fits(rows, choices) or entry.row and above:find(entry.row))
    if call and entry.tool then is_it = call.name == entry.tool end
    if is_it and choices and has_label(entry, choices) then return entry end
  end
  return UNKNOWN
end

--- The rows of the dialog: from the rule above its choices to its end, without the program's own rules.
local function text_of(rows, edge)
  local first, lines = (edge or 0) + 1, {}
  for i = first, #rows do
    local row = rows[i]
    local line = row ~= "" and row:gsub("^%s+", ""):gsub("^❯ +", "") or "" -- the pointer moves
    local is_rule = row:find "^───" or claude_dialog.is_inner_rule(row) or i == first and line:find "^───"
    if line ~= "" and not is_rule then table.insert(lines, line) end
  end
  return table.concat(lines, "\n")
end

--- What a person may have left open, by its title: `/config`, and `/model`, which ESC leaves as it was. No other is
--- closed before our message: of one that nobody knows, ESC may decline what it asks, or end the program.
local LEFT_OPEN = { "^Settings  Status ", "^Status   Config ", "^Select model\n" }

local function is_left_open(view, text)
  for _, title in ipairs(view.is_before_message and LEFT_OPEN or {}) do
    if text:find(title) then return true end
  end
  return false
end

--- Whether the last row says that ESC closes it, and not that Enter confirms something: a panel with choices.
local function is_closable(view)
  for i = #view.rows, 1, -1 do
    local row = view.rows[i]
    if row ~= "" then
      return row:find "Esc to close$" or view.is_command and row:find "Esc" and not row:find "Enter to confirm"
    end
  end
end

--- Whether it is a menu of the program's own: that of two presses of ESC, or what a person has left open.
local function is_menu(view, text)
  return view.has_started and (text:find "^Rewind\n" ~= nil or is_left_open(view, text))
end

--- Whether auto mode says that it cannot check a call: in the first row, or in the last one, which goes on in another.
local function is_auto_check(text)
  local rows = {}
  for row in text:gmatch "[^\n]+" do table.insert(rows, row) end
  local first, known = rows[1] or "", dialog_kinds.auto_check
  for i = math.max(1, #rows - 2), #rows do
    if rows[i]:find(known.last) then return true end
  end
  return first:find(known.row) ~= nil
end

--- The kind of one of a turn's that has no choices.
local function known_without_choices(view, choices, text)
  if claude_dialog.is_elicitation(view.rows, choices) then return dialog_kinds.elicitation end
  local has_none = view.has_started and not choices and tui.has_dialog_footer(view.rows)
  return has_none and is_auto_check(text) and dialog_kinds.auto_check or nil
end

--- Reads the dialog that the screen shows.
---@param view parley.View
---@param call? table  the tool call that the dialog shows, a block of the Messages API, where that is known
---@return parley.Dialog? dialog  nil when there is none to be seen
function M.recognize(view, call)
  local choices = tui.choices(view.rows)
  local edge = claude_dialog.upper_edge(view.rows, choices)
  local text = text_of(view.rows, edge)
  local bare = known_without_choices(view, choices, text)
  local is_cut = view.has_started and (choices ~= nil or bare ~= nil) and edge == nil or nil
  if bare then choices = nil end
  local entry = is_menu(view, text) and PANEL or bare
    or view.has_started and known_in_turn(view.rows, choices, call)
    or known_at_start(text, choices)
  if entry.of_command and (view.is_before_message or not view.is_command) then entry = PANEL end -- a person's
  if entry.kind == "unknown" and view.has_started and is_closable(view) then
    entry = PANEL
  elseif entry.kind == "unknown" and not choices then
    local is_panel = view.status and view.status.waitingFor == "dialog open"
      or view.has_started and tui.has_dialog_footer(view.rows) and not claude_dialog.has_question_footer(view.rows)
    if not is_panel then return nil end
    entry = PANEL
  end
  return {
    kind = entry.kind, text = text, is_cut = is_cut,
    choices = choices and choices.labels or {}, selected = choices and choices.selected,
    first_number = choices and choices.first_number, checked = choices and choices.checked,
    is_refused_by_escape = entry.of_command or entry.is_offer,
    remedy = entry.remedy,
  }
end

--- Decides about a dialog.
---@param dialog parley.Dialog
---@param accept string[]  the kinds that the user allows to be answered with yes
---@return {allow?: true, deny?: string, choose?: integer|string, keys?: string, fail?: string} decision
---        one of: consent; refuse, and why; a choice, by its number, its label or the beginning of that; keys to press;
---        why it fails
function M.decide(dialog, accept)
  for _, kind in ipairs(accept) do
    local consent = kind == dialog.kind and decision.consent_to(dialog)
    if consent then return consent end
  end
  local is_closed = dialog.kind == "panel" or dialog.kind == "usage_limit" or dialog.is_refused_by_escape
  if is_closed then return { keys = keys.ESCAPE } end -- which consents to nothing
  return { fail = dialog.remedy or UNKNOWN.remedy }
end

return M
