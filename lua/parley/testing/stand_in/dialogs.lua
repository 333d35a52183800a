--- The dialogs: what they show, where the cursor stands, and what each answer does. Titles and choices are those that a
--- driver recognises them by; the prose between is the stand-in's own.
local paths = require "parley.claude.paths"
local text_of = require "parley.testing.stand_in.text"

local M = {}

---@class parley.testing.Dialog
---@field kind string
---@field rows string[]        above the choices
---@field choices parley.testing.Choice[]
---@field selected integer
---@field is_numbered boolean  choices are counted, and a digit picks one
---@field escape any           the answer that Escape gives
---@field footer string
---@field indent string
---@field is_laid_out? boolean the rows are indented as they should be
---@field is_whole_screen boolean  a start-up dialog, instead of the composer below the text
---@field digits_move? boolean  a digit puts the pointer there, no more
---@field is_untold? boolean    the status file does not tell of it
---@field columns? integer      of the screen, where a label may go on in the next row
---@field moves_labels? boolean one that does is drawn without the space behind its number
---@field is_edited? boolean    the pointer came to the row in which one may type

---@class parley.testing.Choice
---@field label string
---@field answer any
---@field is_bare? boolean    it has no number
---@field is_ticked? boolean  of one with a box
---@field is_input? boolean   one may type there
---@field goes_on? boolean   its answer is what is ticked
---@field beside? string      what stands to the right of it
---@field rule? string        above it

local CONFIRM = "Enter to confirm · Esc to cancel"

local function start_up(profile, fields)
  fields.is_numbered, fields.is_whole_screen = profile.numbered_choices, true
  fields.footer, fields.indent = CONFIRM, fields.indent or "  "
  return fields
end

--- Folder trust. Answers "yes", "no", and "cancel" for Escape.
function M.trust(profile, cwd)
  local yes, no = { label = "Yes, I trust this folder", answer = "yes" }, { label = "No, exit", answer = "no" }
  return start_up(profile, {
    kind = "trust",
    indent = " ",
    rows = { "Accessing workspace:", "", cwd, "", "Is this a folder that you know and trust?", "", "Security guide" },
    choices = profile.default_is_no and { no, yes } or { yes, no },
    selected = 1,
    escape = "cancel",
  })
end

--- A key in the environment. Answers "approved" and "rejected".
function M.api_key(profile, shortened)
  return start_up(profile, {
    kind = "api_key",
    rows = { "Detected a custom API key in your environment", "", "ANTHROPIC_API_KEY: sk-ant-..." .. shortened, "",
      "Do you want to use this API key?" },
    choices = { { label = "Yes", answer = "approved" }, { label = "No (recommended)", answer = "rejected" } },
    selected = 2,
    escape = "rejected",
  })
end

--- The bypass warning. Answers "yes", "no" and "cancel".
function M.bypass(profile)
  return start_up(profile, {
    kind = "bypass",
    rows = { "WARNING: Claude Code running in Bypass Permissions mode", "", "No tool call will ask before it runs.",
      "" },
    choices = { { label = "No, exit", answer = "no" }, { label = "Yes, I accept", answer = "yes" } },
    selected = 1,
    escape = "cancel",
  })
end

--- Hook names in the settings that the version does not know. The answer is the label chosen.
---@param unknown string[]
function M.settings(profile, unknown)
  local choices = {}
  for index, label in ipairs(profile.settings_choices) do choices[index] = { label = label, answer = label } end
  local dialog = start_up(profile, {
    kind = "settings",
    rows = { profile.settings_problem == "error" and "Settings Error" or "Settings Warning", "",
      "└ hooks: unknown: " .. table.concat(unknown, ", ") },
    choices = choices, selected = 1, escape = "Exit and fix manually",
  })
  dialog.is_numbered = true
  return dialog
end

--- What is offered where an earlier version was used before. Answers "yes" and "no".
---@return parley.testing.Dialog
function M.renderer()
  return { kind = "renderer", is_numbered = true, footer = CONFIRM, indent = "  ",
    rows = { "Try the new fullscreen renderer?", "", "· Mouse support", "" },
    choices = { { label = "Yes, try it", answer = "yes" }, { label = "Not now", answer = "no" } },
    selected = 1, escape = "no", waiting_for = "dialog open" }
end

--- What is offered where the settings have the plan mode. Answers "yes" and "no".
---@return parley.testing.Dialog
function M.default_mode()
  return { kind = "default mode", footer = "", indent = "  ", is_numbered = false,
    rows = { "Make auto mode your default permission mode?", "", "Auto mode lets Claude handle permission prompts "
      .. "automatically.", "It blocks the rest.", "" },
    choices = { { label = "Yes, set auto mode as my default permission mode", answer = "yes" },
      { label = "No, keep plan mode", answer = "no" } },
    selected = 1, escape = "no", waiting_for = "dialog open" }
end

--- What a permission prompt is called, what it asks and what it shows of the input.
local PROMPTS = {
  Bash = { title = "Bash command", question = "Do you want to proceed?", field = "command",
    description = "Run shell command", has_tip = true },
  Read = { title = "Read file", question = "Do you want to proceed?", shown = "Read({file_path})", is_counted = true },
  Write = { title = "Create file", question = "Do you want to create {file}?", is_edit = true },
  Edit = { title = "Edit file", question = "Do you want to make this edit to {file}?", is_edit = true },
  WebFetch = { title = "Fetch", question = "Do you want to allow Claude to fetch this content?", is_counted = true,
    shown = "url: {url}\nprompt: {prompt}", shown_before = 'url: "{url}", prompt: "{prompt}"',
    description = "Claude wants to fetch content from {host}" },
}
--- Of a workflow whose script names no agents: the script is shown.
PROMPTS.Workflow = { title = "Run a dynamic workflow?", field = "script", labels = { "Yes, run it", "No" },
  question = "Stop a running workflow at any time with /workflows, or disable dynamic workflows in /config." }
local OTHER_TOOL = { title = "Tool use", question = "Do you want to proceed?" }

local INNER_RULE = "╌"

local function lines_of(text, columns)
  return text_of.wrap(text:gsub("\t", "        "), columns)
end

local function numbered(rows, text, mark)
  for line in (text:gsub("\n$", "") .. "\n"):gmatch "(.-)\n" do
    table.insert(rows, ((" %2d %s%s"):format(#rows + 1, mark, line):gsub(" +$", "")))
  end
  return rows
end

--- What a file becomes, or how it changes.
local function change_of(input)
  if input.content then return numbered({}, tostring(input.content), "") end
  return numbered(numbered({}, tostring(input.old_string), "-"), tostring(input.new_string), "+")
end

--- A text's rows: with a bar before each, where there are several.
local function barred(text, columns)
  local rows = lines_of(text, columns - 4)
  for i, row in ipairs(rows) do rows[i] = (#rows > 1 and " │ " or " ") .. row end
  return rows
end

--- What a tool gets, between rules.
local function between_rules(head, rows, columns)
  local rule = INNER_RULE:rep(columns)
  local framed = table.move(head, 1, #head, 1, {})
  table.insert(framed, rule)
  table.move(rows, 1, #rows, #framed + 1, framed)
  table.insert(framed, rule)
  return framed
end

--- What stands between the title and the question.
local function describe_call(profile, prompt, tool, cwd, columns, is_ruled)
  local input = tool.input or {}
  if prompt.is_edit then
    return between_rules({ " " .. paths.relative(cwd, tostring(input.file_path)) }, change_of(input), columns)
  end
  local form = not profile.rules_around_input and prompt.shown_before or prompt.shown
  local values = { host = tostring(input.url):match "//([^/:]*)" }
  local drawn = profile.strips_invisible and text_of.drawn or tostring
  local function value(name) return drawn(values[name] or tostring(input[name])) end
  local function filled(text) return (text:gsub("{(%g-)}", value)) end
  local about = input.description or prompt.description and filled(prompt.description)
  if profile.rules_around_input then
    local rows, heads = {}, about and barred(about, columns) or {}
    for part in (form or "{" .. (prompt.field or "") .. "}"):gmatch "[^\n]+" do
      local one = form and filled(part) or drawn(tostring(input[prompt.field] or tool.name))
      for _, row in ipairs(barred(one, columns)) do table.insert(rows, row) end
    end
    if prompt.has_tip and profile.permission_tip ~= "" and not is_ruled then
      for i, row in ipairs(lines_of(profile.permission_tip, columns - 4)) do table.insert(heads, i, " " .. row) end
    end
    return between_rules(heads, rows, columns)
  end
  local shown = form and filled(form) or drawn(tostring(input[prompt.field] or tool.name))
  local rows = { "" }
  for _, row in ipairs(lines_of(about and shown .. "\n" .. about or shown, columns - 8)) do
    table.insert(rows, row == "" and "" or "   " .. row)
  end
  table.insert(rows, "")
  return rows
end

--- A tool call's permission. Answers "allow", "always", "acceptEdits", "auto", "deny".
---@param columns integer  of the screen
---@param asked {is_ruled: boolean, place: integer, count: integer}  whether a rule of the user's wants it to be asked
---       about, and which of several calls it is
function M.permission(profile, tool, cwd, columns, asked)
  local prompt, input = PROMPTS[tool.name] or OTHER_TOOL, tool.input or {}
  local labels = prompt.labels or prompt.is_edit and profile.edit_choices or profile.permission_choices
  local answers = { "allow", prompt.is_edit and "acceptEdits" or "always", "auto" }
  local choices = {}
  for index, label in ipairs(labels) do
    choices[index] = { label = (label:gsub("{folder}", (cwd:gsub("%%", "%%%%")))),
      answer = index == #labels and "deny" or answers[index] }
  end
  local is_counted = profile.counts_prompts and prompt.is_counted and asked.count > 1
  local place = is_counted and ("%d of %d"):format(asked.place, asked.count) or ""
  local gap = (" "):rep(place == "" and 0 or columns - 2 - #prompt.title - #place)
  local rows = { " " .. prompt.title .. gap .. place }
  local details = describe_call(profile, prompt, tool, cwd, columns, asked.is_ruled)
  table.move(details, 1, #details, 2, rows)
  local file = tostring(input.file_path or ""):match "[^/]*$"
  table.insert(rows, " " .. prompt.question:gsub("{file}", (file:gsub("%%", "%%%%"))))
  return {
    kind = "permission", rows = rows, is_laid_out = true, choices = choices, selected = 1, is_numbered = true,
    escape = "deny", footer = profile.permission_footer, indent = " ", waiting_for = "permission prompt",
    columns = columns, moves_labels = profile.moves_labels,
  }
end

local SELECT = "Enter to select · ↑/↓ to navigate · Esc to cancel"
local EDITED, NOTES = "· ctrl+g to edit in Sh · Esc", "· n to add notes · Esc"

--- A question of the model's (the tool AskUserQuestion). The answer is the label chosen, a list of them, or "deny".
---@param question {title?: string, text: string, choices: string[], several?: boolean, previews?: string[]}
---@param columns integer  of the screen
function M.question(profile, question, columns)
  local choices, title = {}, "☐ " .. (question.title or "Question")
  for index, label in ipairs(question.choices) do
    choices[index] = { label = label, answer = label, beside = question.previews and "│ " .. question.previews[index] }
    if question.several then choices[index].is_ticked = false end
  end
  local chat = { label = "Chat about this", answer = "deny", rule = ("─"):rep(columns) }
  if question.several then
    table.insert(choices, { label = "Type something", is_ticked = false, is_input = true })
    table.insert(choices, { label = "   Submit", is_bare = true, goes_on = true })
  elseif question.previews then
    chat.is_bare = true
  else
    table.insert(choices, { label = "Type something.", is_input = true })
  end
  table.insert(choices, chat)
  return {
    kind = "question",
    rows = { question.several and "←  " .. title .. "  ✔ Submit  →" or title, "", question.text, "" },
    choices = choices, selected = 1, is_numbered = true, escape = "deny",
    footer = question.previews and SELECT:gsub("· Esc", NOTES) or SELECT, digits_move = question.previews ~= nil,
    indent = "", waiting_for = profile.question_waits_for, moves_labels = profile.moves_labels,
    columns = not question.previews and columns or nil,
  }
end

--- The page behind several answers. Answers "submit" and "deny".
function M.review(profile, question, answer)
  return {
    kind = "question", rows = { "←  ☒ " .. (question.title or "Question") .. "  ✔ Submit  →", "",
      "Review your answers", "", " ● " .. question.text, "   → " .. answer, "" },
    choices = { { label = "Submit answers", answer = "submit" }, { label = "Cancel", answer = "deny" } },
    selected = 1, is_numbered = true, escape = "deny", footer = "", indent = "",
    waiting_for = profile.question_waits_for,
  }
end

--- Any other dialog, for scripts: the answer is the label chosen, or "cancel".
---@param described {title: string, lines?: string[], choices: string[], selected?: integer, numbered?: boolean,
---       footer?: string, waiting_for?: string, untold?: boolean}
function M.custom(described)
  local choices, rows = {}, { described.title, "" }
  for index, label in ipairs(described.choices) do choices[index] = { label = label, answer = label } end
  for _, line in ipairs(described.lines or {}) do table.insert(rows, line) end
  return {
    kind = "custom", rows = rows, choices = choices, selected = described.selected or 1,
    is_numbered = described.numbered ~= false, escape = "cancel", footer = described.footer or CONFIRM, indent = " ",
    waiting_for = described.waiting_for or "dialog open", is_untold = described.untold,
  }
end

--- The form of an MCP server that asks for input. Answers "accept", and "cancel" for Escape.
---@param asked {server: string, message: string, fields?: string[]}
function M.elicitation(profile, asked)
  local rows, choices = { ("MCP server “%s” requests your input"):format(asked.server), "" }, {}
  for line in (asked.message .. "\n"):gmatch "(.-)\n" do table.insert(rows, line) end
  table.insert(rows, "")
  for i, field in ipairs(asked.fields or {}) do choices[i] = { label = "  " .. field .. ": not set" } end
  table.insert(choices, { label = "Accept    Decline", answer = "accept" })
  return { kind = "elicitation", rows = rows, choices = choices, selected = 1, is_numbered = false, escape = "cancel",
    indent = "  ", footer = "Esc to cancel · ↑/↓ to navigate · Backspace to unset",
    waiting_for = profile.question_waits_for, is_untold = not profile.tells_elicitations }
end

--- What auto mode says at a call that nobody checks. Answers "deny" for Escape.
---@param columns integer  of the screen
---@return parley.testing.Dialog
function M.auto_check(columns)
  local rows = { "Auto mode can't check actions in this session", "" }
  table.move(text_of.wrap("Auto mode's safety check runs on the server, and the check isn't getting through. You can "
    .. "stay in auto mode and approve each action that needs the check yourself.", columns - 4), 1, 9, 3, rows)
  local footer = text_of.wrap("Enter to stay in auto mode · shift+Tab to leave for accept edits mode and stop · "
    .. "Esc to cancel", columns - 4)
  table.move(footer, 1, #footer - 1, #rows + 1, rows)
  return { kind = "auto_check", rows = rows, choices = {}, selected = 0, is_numbered = false, escape = "deny",
    indent = "  ", waiting_for = "dialog open", footer = footer[#footer] }
end

--- What a command shows over the composer, until Escape.
---@param rows string[]
function M.panel(profile, rows)
  return { kind = "panel", rows = rows, choices = {}, selected = 0, is_numbered = false, escape = "closed",
    indent = "  ", footer = profile.panel_footer, waiting_for = "dialog open" }
end

--- What `/config` shows.
---@return parley.testing.Dialog
function M.settings_list(footer)
  return M.custom { title = "Settings  Status   Config   Usage   Stats", numbered = false,
    choices = { "Auto-compact     on", "Show tips        on" }, footer = footer }
end

--- What `/cd` asks. Answers "yes", and "no" for Escape too.
---@return parley.testing.Dialog
function M.move(profile, folder)
  local dialog = start_up(profile, {
    kind = "move", indent = " ",
    rows = { "Moving to a new directory:", "", folder, "", "Is this a folder that you know and trust?", "",
      "Security guide", "" },
    choices = { { label = "No, stay put", answer = "no" }, { label = "Yes, move here", answer = "yes" } },
    selected = 1, escape = "no",
  })
  dialog.is_whole_screen, dialog.waiting_for = false, "dialog open"
  return dialog
end

--- The view of the transcript, which Escape closes too.
---@return parley.testing.Dialog
function M.transcript(profile)
  return { kind = "transcript", rows = {}, choices = {}, selected = 0, is_numbered = false, indent = "  ",
    footer = profile.transcript_footer }
end

--- What is asked when a usage limit was hit.
---@return parley.testing.Dialog
function M.usage_limit()
  return M.custom { title = "What do you want to do?",
    choices = { "Stop and wait for limit to reset", "Upgrade your plan" } }
end

--- One that comes up by itself.
---@return parley.testing.Dialog
function M.surprise() return M.custom { title = "Something to decide", choices = { "Later", "Now" } } end

local function ticked(dialog)
  local labels = {}
  for _, choice in ipairs(dialog.choices) do
    if choice.is_ticked and not choice.is_input then table.insert(labels, choice.label) end
  end
  return table.concat(labels, ", ")
end

--- What picking a choice does: it ticks one with a box.
local function pick(dialog, choice)
  if choice.is_ticked ~= nil then
    choice.is_ticked = not choice.is_ticked
    return false
  end
  return choice.answer ~= nil or choice.goes_on == true, choice.goes_on and ticked(dialog) or choice.answer
end

--- The choice with a number.
local function numbered_choice(dialog, number)
  for index, choice in ipairs(dialog.choices) do
    if not choice.is_bare then number = number - 1 end
    if number == 0 then return choice, index end
  end
end

local function move(dialog, by)
  dialog.selected = (dialog.selected - 1 + by) % #dialog.choices + 1
  local choice = dialog.choices[dialog.selected]
  dialog.is_edited = choice.is_input or dialog.is_edited and choice.is_ticked == nil
end

--- Applies a key.
---@param dialog parley.testing.Dialog
---@param key table
---@return boolean is_answered
---@return any answer
function M.key(dialog, key)
  if key.kind == "key" then
    if key.name == "return" and #dialog.choices > 0 then return pick(dialog, dialog.choices[dialog.selected]) end
    if key.name == "escape" or key.name == "ctrl-c" then return true, dialog.escape end
    if #dialog.choices == 0 then return false end
    if key.name == "down" then move(dialog, 1) end
    if key.name == "up" then move(dialog, -1) end
  elseif key.kind == "text" and #dialog.choices > 0 and dialog.choices[dialog.selected].is_input then
    dialog.choices[dialog.selected].label = key.text
  elseif key.kind == "text" and dialog.is_numbered then
    local choice, index = numbered_choice(dialog, tonumber(key.text:match "^%d$" or 0))
    if choice and not dialog.digits_move then return pick(dialog, choice) end
    dialog.selected = index or dialog.selected
  end
  return false
end

--- A choice as rows.
---@param head string  what stands before the label
local function choice_rows(dialog, choice, head)
  local width = text_of.width(head)
  local rows = dialog.columns and text_of.wrap(choice.label, dialog.columns - width) or { choice.label }
  if rows[2] and dialog.moves_labels then head, width = head:gsub("(%d%.) ", "%1"), width - 1 end
  for i, row in ipairs(rows) do rows[i] = (i == 1 and head or (" "):rep(width)) .. row end
  if choice.beside then rows[1] = ("%-36s%s"):format(rows[1], choice.beside) end
  return rows
end

--- A dialog as rows, without the rule above it.
---@param dialog parley.testing.Dialog
---@return string[] rows
function M.rows(dialog)
  local rows = {}
  local indent = dialog.is_laid_out and "" or dialog.indent
  for _, row in ipairs(dialog.rows) do table.insert(rows, row == "" and "" or indent .. row) end
  if dialog.is_whole_screen then table.insert(rows, "") end
  local count = 0
  for index, choice in ipairs(dialog.choices) do
    if choice.rule then table.insert(rows, choice.rule) end
    if not choice.is_bare then count = count + 1 end
    local number = dialog.is_numbered and not choice.is_bare and count .. ". " or ""
    local box = choice.is_ticked == nil and "" or choice.is_ticked and "[✔] " or "[ ] "
    local head = dialog.indent .. (index == dialog.selected and "❯ " or "  ") .. number .. box
    for _, row in ipairs(choice_rows(dialog, choice, head)) do table.insert(rows, row) end
  end
  if dialog.footer == "" then return rows end
  table.insert(rows, "")
  table.insert(rows, dialog.indent .. (dialog.is_edited and dialog.footer:gsub("· Esc", EDITED) or dialog.footer))
  return rows
end

return M
