--- What to do with a dialog.
---
--- To replace it, return a table with `decide`, and with `recognize` for dialogs that this one does not know. `decide`
--- may wait (`parley.task`), to ask a person. The user's consent is the user's: by default nothing is answered that
--- `accept` does not name.
local tui = require "parley.policy.tui"

local M = {}

--- The kinds, in the order in which they are looked for: text that only this dialog shows, the label that consents, and
--- what a person would do about it.
M.kinds = {
  { kind = "trust", pattern = "trust this folder", yes = "^Yes",
    remedy = "run `claude` in that folder once and answer it, or accept = { \"trust\" } (--accept trust)" },
  { kind = "bypass", pattern = "Bypass Permissions mode", yes = "^Yes, I accept",
    remedy = "run `claude --permission-mode bypassPermissions` once and answer it, or accept = { \"bypass\" }, "
      .. "or another permission_mode" },
  { kind = "api_key", pattern = "use this API key", yes = "^Yes",
    remedy = "run `claude` once with that key and answer it, or accept = { \"api_key\" }" },
  { kind = "login", pattern = "Select login method", remedy = "run `claude` once and log in" },
  { kind = "login", pattern = "Unable to connect to Anthropic services", remedy = "run `claude` once and log in" },
  { kind = "onboarding", pattern = "text style that looks best", yes = ".",
    remedy = "run `claude` once and go through its first start" },
  { kind = "mcp", pattern = "New MCP server found in", yes = "^Use this MCP server",
    remedy = "answer it in `claude` once, or accept = { \"mcp\" }" },
  { kind = "imports", pattern = "Allow external CLAUDE%.md file imports", yes = "^Yes",
    remedy = "answer it in `claude` once, or accept = { \"imports\" }" },
  { kind = "settings_error", pattern = "Settings Error", remedy = "mend the settings file that it names" },
  { kind = "settings_warning", pattern = "Settings Warning", yes = "^Continue",
    remedy = "mend the settings file that it names, or accept = { \"settings_warning\" }" },
  { kind = "configuration_error", pattern = "Configuration [Ee]rror", remedy = "mend .claude.json" },
  { kind = "plan", pattern = "[Ee]xit plan mode", yes = "^Yes", remedy = "give a dialogs policy, or accept = { \"plan\" }" },
  { kind = "plan", pattern = "Would you like to proceed%?", yes = "^Yes",
    remedy = "give a dialogs policy, or accept = { \"plan\" }" },
  { kind = "permission", pattern = "Do you want to ", yes = "^Yes",
    remedy = "give a dialogs policy, allowed_tools or another permission_mode, or accept = { \"permission\" }" },
  { kind = "question", pattern = "Enter to select", remedy = "give a dialogs policy that answers it" },
}

---@class parley.Dialog
---@field kind string       `"trust"`, `"bypass"`, …; `"panel"` of a command that shows something; or `"unknown"`
---@field text string       what the dialog shows
---@field choices string[]  the labels, top to bottom
---@field selected? integer where the pointer stands
---@field tool_use? table   the tool call that waits for it, a block of the Messages API, where one does
---@field remedy string     what a person would do

local function known(text)
  for _, entry in ipairs(M.kinds) do
    if text:find(entry.pattern) then return entry end
  end
  return { kind = "unknown", remedy = "give a dialogs policy that answers it" }
end

--- The rows of the dialog: from the rule above its choices to its end.
local function text_of(rows, choices)
  local first = 1
  for i = (choices and choices.first_row or #rows), 1, -1 do
    if rows[i]:find "^%s*[─▔]" and i < (choices and choices.first_row or #rows) - 1 then
      first = i + 1
      break
    end
  end
  local lines = {}
  for i = first, #rows do
    local line = rows[i]:gsub("^%s+", "")
    if line ~= "" and not line:find "^[─╌▔]+$" then table.insert(lines, line) end
  end
  return table.concat(lines, "\n")
end

--- Reads the dialog that the screen shows.
---@param view parley.View
---@return parley.Dialog? dialog  nil when there is none to be seen
function M.recognize(view)
  local choices = tui.choices(view.rows)
  local text = text_of(view.rows, choices)
  local entry = known(text)
  if entry.kind == "unknown" and not choices then
    if not (view.status and view.status.waitingFor == "dialog open") then return nil end
    entry = { kind = "panel", remedy = "press ESC" }
  end
  return {
    kind = entry.kind, text = text,
    choices = choices and choices.labels or {}, selected = choices and choices.selected,
    remedy = entry.remedy,
  }
end

--- Decides about a dialog.
---@param dialog parley.Dialog
---@param accept string[]  the kinds that the user allows to be answered with yes
---@return {choose?: integer, keys?: string, fail?: string} decision  a choice's number, keys to press, or why it fails
function M.decide(dialog, accept)
  local allowed = false
  for _, kind in ipairs(accept) do allowed = allowed or kind == dialog.kind end
  if allowed then
    for _, entry in ipairs(M.kinds) do
      for i, label in ipairs(dialog.choices) do
        if entry.kind == dialog.kind and entry.yes and label:find(entry.yes) then return { choose = i } end
      end
    end
  end
  if dialog.kind == "panel" then return { keys = "\27" } end -- it only shows something, and was asked for
  return { fail = dialog.remedy }
end

return M
