--- What to do with a dialog.
---
--- To replace it, return a table with `decide`, and with `recognize` for dialogs that this one does not know. `decide`
--- may wait (`parley.task`), to ask a person. The user's consent is the user's: by default nothing is answered that
--- `accept` does not name.
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
--- is not enough), never by the rest of their text.
M.turn_kinds = {
  { kind = "question", tool = "AskUserQuestion", remedy = "give a dialogs policy that answers it" },
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
---@field text string       what the dialog shows
---@field choices string[]  the labels, top to bottom
---@field selected? integer where the pointer stands
---@field first_number? integer  of the first choice, where they are numbered
---@field tool_use? table   the tool call that waits for it, a block of the Messages API, where one does
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
    local is_it = entry.row and above:find(entry.row)
    if call and entry.tool then is_it = call.name == entry.tool end
    if is_it and choices and (not entry.label or choices.labels[1]:find(entry.label)) then return entry end
  end
  return UNKNOWN
end

local RULES = { "─", "╌", "▔" }

local function is_rule(row)
  for _, glyph in ipairs(RULES) do
    if row:match("^%s*" .. glyph:rep(3)) then return true end
  end
  return false
end

--- The rows of the dialog: from the rule above its choices to its end.
local function text_of(rows, choices)
  local first = 1
  for i = (choices and choices.first_row or #rows), 1, -1 do
    if is_rule(rows[i]) and i < (choices and choices.first_row or #rows) - 1 then
      first = i + 1
      break
    end
  end
  local lines = {}
  for i = first, #rows do
    local line = rows[i]:gsub("^%s+", ""):gsub("^❯ +", "") -- the pointer moves
    if line ~= "" and not is_rule(line) then table.insert(lines, line) end
  end
  return table.concat(lines, "\n")
end

--- Reads the dialog that the screen shows.
---@param view parley.View
---@param call? table  the tool call that waits, a block of the Messages API, where one does
---@return parley.Dialog? dialog  nil when there is none to be seen
function M.recognize(view, call)
  local choices = tui.choices(view.rows)
  local text = text_of(view.rows, choices)
  local is_menu = view.has_started and text:find "^Rewind\n"
  local entry = is_menu and PANEL or view.has_started and known_in_turn(view.rows, choices, call)
    or known_at_start(text)
  if entry.kind == "unknown" and not choices then
    local is_panel = view.status and view.status.waitingFor == "dialog open"
      or view.has_started and tui.has_dialog_footer(view.rows)
    if not is_panel then return nil end
    entry = PANEL
  end
  return {
    kind = entry.kind, text = text,
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
