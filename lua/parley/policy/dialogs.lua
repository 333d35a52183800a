--- What to do with a dialog.
---
--- To replace it, return a table with `decide`, and with `recognize` for dialogs that this one does not know. `decide`
--- may wait (`parley.task`), to ask a person. The user's consent is the user's: by default nothing is answered that
--- `accept` does not name.
local claude_dialog = require "parley.claude.dialog"
local tui = require "parley.claude.tui"

local M = {}

--- The dialogs of the start, in the order in which they are looked for: how the row begins that only this one has, the
--- label that consents, or the key where there are no choices, and what a person would do about it.
M.kinds = {
  { kind = "trust", row = "^Accessing workspace:", yes = { "^Yes, I trust" },
    remedy = "run `claude` in that folder once and answer it, or accept = { \"trust\" } (--accept trust)" },
  { kind = "bypass", row = "^WARNING: Claude Code running in Bypass Permissions mode", yes = { "^Yes, I accept" },
    remedy = "run `claude --permission-mode bypassPermissions` once and answer it, or accept = { \"bypass\" }, "
      .. "or another permission_mode" },
  { kind = "api_key", row = "^Do you want to use this API key", yes = { "^Yes$" },
    remedy = "run `claude` once with that key and answer it, or accept = { \"api_key\" }" },
  { kind = "login", row = "^Select login method", remedy = "run `claude` once and log in" },
  { kind = "login", row = "^Unable to connect to Anthropic services", remedy = "run `claude` once and log in" },
  { kind = "onboarding", row = "^Choose the text style that looks best", yes = { "." },
    remedy = "run `claude` once and go through its first start" },
  { kind = "onboarding", row = "^Security notes:", keys = "\r",
    remedy = "run `claude` once and go through its first start" },
  { kind = "mcp", row = "^New MCP server found in", yes = { "^Use this MCP server" },
    remedy = "answer it in `claude` once, or accept = { \"mcp\" }" },
  { kind = "mcp", row = "^%d+ new MCP servers found in", remedy = "answer it in `claude` once" },
  { kind = "imports", row = "^Allow external CLAUDE%.md file imports", yes = { "^Yes, allow" },
    remedy = "answer it in `claude` once, or accept = { \"imports\" }" },
  { kind = "settings_error", row = "^Settings Error", yes = { "^Continue without" },
    remedy = "mend the settings file that it names, or accept = { \"settings_error\" } to go on without it" },
  { kind = "settings_warning", row = "^Settings Warning", yes = { "^Continue" },
    remedy = "mend the settings file that it names, or accept = { \"settings_warning\" }" },
  { kind = "configuration_error", row = "^Configuration [Ee]rror", remedy = "mend .claude.json" },
}

--- The dialogs of a turn. What they show is the model's, a command that looks like another dialog's title for example:
--- so they are known by the tool that waits, or by the row right above the choices (and the first label, where the row
--- is not enough), never by the rest of their text. A question is the model's own down to that row: it is known by what
--- the program draws around it.
M.turn_kinds = {
  { kind = "question", tool = "AskUserQuestion", fits = claude_dialog.is_question,
    remedy = "give a dialogs policy that answers it" },
  { kind = "plan", tool = "ExitPlanMode", row = "Would you like to proceed%?$",
    yes = { "^Yes$", "^Yes, manually approve", "^Yes, and switch to default" },
    remedy = "give a dialogs policy, or accept = { \"plan\" }" },
  { kind = "plan", tool = "ExitPlanMode", row = "^Claude wants to exit plan mode$", yes = { "^Yes$" }, -- an empty one
    remedy = "give a dialogs policy, or accept = { \"plan\" }" },
  { kind = "usage_limit", row = "^What do you want to do%?$", label = "^Stop and wait for limit to reset",
    remedy = "wait until the limit is reset" }, -- up to 2.1.197, behind a turn that has hit the limit
  { kind = "permission", row = "^Do you want to .*%?$", yes = { "^Yes$" },
    remedy = "give a dialogs policy, allowed_tools or another permission_mode, or accept = { \"permission\" }" },
}

---@class parley.Dialog
---@field kind string       `"trust"`, `"bypass"`, …; `"panel"` of a command that shows something; or `"unknown"`
---@field text string       what the dialog shows: all of it, a tool's input too
---@field is_cut? boolean    its beginning is out of sight, for it is taller than the screen (`dimensions`)
---@field choices string[]  the labels, top to bottom
---@field selected? integer where the pointer stands
---@field first_number? integer  of the first choice, where they are numbered
---@field tool_use? table   the tool call that it is about, a block of the Messages API: the only one of those that wait
---                         whose input it shows, whole. Else nil: judge by `text`, or refuse
---@field remedy? string    what a person would do

--- What a command shows, and the menu that two presses of ESC open: ESC closes it.
local PANEL = { kind = "panel", remedy = "press ESC" }
local UNKNOWN = { kind = "unknown", remedy = "give a dialogs policy that answers it" }

local function known_at_start(text)
  for _, entry in ipairs(M.kinds) do
    for row in text:gmatch "[^\n]+" do
      if row:find(entry.row) then return entry end
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
  for _, entry in ipairs(M.turn_kinds) do
    local is_it = choices and (entry.fits and entry.fits(rows, choices) or entry.row and above:find(entry.row))
    if call and entry.tool then is_it = call.name == entry.tool end
    if is_it and choices and (not entry.label or choices.labels[1]:find(entry.label)) then return entry end
  end
  return UNKNOWN
end

--- The rows of the dialog: from the rule above its choices to its end, without the program's own rules.
local function text_of(rows, edge)
  local first, lines = (edge or 0) + 1, {}
  for i = first, #rows do
    local line = rows[i]:gsub("^%s+", ""):gsub("^❯ +", "") -- the pointer moves
    local is_rule = rows[i]:find "^───" or claude_dialog.is_inner_rule(rows[i]) or i == first and line:find "^───"
    if line ~= "" and not is_rule then table.insert(lines, line) end
  end
  return table.concat(lines, "\n")
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

--- Reads the dialog that the screen shows.
---@param view parley.View
---@param call? table  the tool call that the dialog shows, a block of the Messages API, where that is known
---@return parley.Dialog? dialog  nil when there is none to be seen
function M.recognize(view, call)
  local choices = tui.choices(view.rows)
  local edge = claude_dialog.upper_edge(view.rows, choices)
  local text = text_of(view.rows, edge)
  local is_menu = view.has_started and text:find "^Rewind\n"
  local entry = is_menu and PANEL or view.has_started and known_in_turn(view.rows, choices, call)
    or known_at_start(text)
  if entry.kind == "unknown" and view.has_started and is_closable(view) then
    entry = PANEL
  elseif entry.kind == "unknown" and not choices then
    local is_panel = view.status and view.status.waitingFor == "dialog open"
      or view.has_started and tui.has_dialog_footer(view.rows)
    if not is_panel then return nil end
    entry = PANEL
  end
  return {
    kind = entry.kind, text = text, is_cut = view.has_started and choices ~= nil and edge == nil or nil,
    choices = choices and choices.labels or {}, selected = choices and choices.selected,
    first_number = choices and choices.first_number,
    remedy = entry.remedy,
  }
end

--- What consents to a dialog.
local function consent_to(dialog)
  for _, kinds in ipairs { M.kinds, M.turn_kinds } do
    for _, entry in ipairs(kinds) do
      if entry.kind == dialog.kind then
        for _, pattern in ipairs(entry.yes or {}) do
          for i, label in ipairs(dialog.choices) do
            if label:find(pattern) then return { choose = i } end
          end
        end
        if entry.keys and #dialog.choices == 0 then return { keys = entry.keys } end
      end
    end
  end
end

--- Decides about a dialog.
---@param dialog parley.Dialog
---@param accept string[]  the kinds that the user allows to be answered with yes
---@return {choose?: integer, keys?: string, fail?: string} decision  a choice's number, keys to press, or why it fails
function M.decide(dialog, accept)
  for _, kind in ipairs(accept) do
    local decision = kind == dialog.kind and consent_to(dialog)
    if decision then return decision end
  end
  local is_closed = dialog.kind == "panel" or dialog.kind == "usage_limit"
  if is_closed then return { keys = "\27" } end -- which consents to nothing
  return { fail = dialog.remedy or UNKNOWN.remedy }
end

return M
