--- The dialogs: what they show, where the cursor stands, and what each answer does. Titles and choices are those that a
--- driver recognises them by; the prose between is the stand-in's own.
local text_of = require "parley.testing.stand_in.text"

local M = {}

---@class parley.testing.Dialog
---@field kind string
---@field rows string[]        above the choices
---@field choices {label: string, answer: any}[]
---@field selected integer
---@field is_numbered boolean  choices are counted, and a digit picks one
---@field escape any           the answer that Escape gives
---@field footer string
---@field indent string
---@field is_laid_out? boolean the rows are indented as they should be
---@field is_whole_screen boolean  a start-up dialog, instead of the composer below the text

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

--- What a permission prompt is called, what it asks and what it shows of the input.
local PROMPTS = {
  Bash = { title = "Bash command", question = "Do you want to proceed?", field = "command",
    description = "Run shell command" },
  Read = { title = "Read file", question = "Do you want to proceed?", shown = "Read({file_path})" },
  Write = { title = "Create file", question = "Do you want to create {file}?", is_edit = true },
  Edit = { title = "Edit file", question = "Do you want to make this edit to {file}?", is_edit = true },
  WebFetch = { title = "Fetch", question = "Do you want to allow Claude to fetch this content?",
    shown = "url: {url}\nprompt: {prompt}", shown_before = 'url: "{url}", prompt: "{prompt}"' },
}
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

--- What a tool gets, between rules: with a bar before each row where there are several.
local function between_rules(head, rows, columns)
  local rule = INNER_RULE:rep(columns)
  local framed = table.move(head, 1, #head, 1, {})
  table.insert(framed, rule)
  table.move(rows, 1, #rows, #framed + 1, framed)
  table.insert(framed, rule)
  return framed
end

--- What stands between the title and the question.
local function describe_call(profile, prompt, tool, cwd, columns)
  local input = tool.input or {}
  if prompt.is_edit then
    local path = tostring(input.file_path)
    if path:sub(1, #cwd + 1) == cwd .. "/" then path = path:sub(#cwd + 2) end
    return between_rules({ " " .. path }, change_of(input), columns)
  end
  local form = not profile.rules_around_input and prompt.shown_before or prompt.shown
  local shown = form and form:gsub("{(%g-)}", function(name) return tostring(input[name]) end)
    or tostring(input[prompt.field] or tool.name)
  local about = input.description or prompt.description
  if profile.rules_around_input then
    local rows, heads = lines_of(shown, columns - 8), {}
    for i, row in ipairs(rows) do rows[i] = (#rows > 1 and " │ " or " ") .. row end
    for i, row in ipairs(about and lines_of(about, columns - 4) or {}) do heads[i] = " " .. row end
    return between_rules(heads, rows, columns)
  end
  local rows = { "" }
  for _, row in ipairs(lines_of(about and shown .. "\n" .. about or shown, columns - 8)) do
    table.insert(rows, row == "" and "" or "   " .. row)
  end
  table.insert(rows, "")
  return rows
end

--- A tool call's permission. Answers "allow", "always", "acceptEdits", "auto", "deny".
---@param columns integer  of the screen
function M.permission(profile, tool, cwd, columns)
  local prompt, input = PROMPTS[tool.name] or OTHER_TOOL, tool.input or {}
  local labels = prompt.is_edit and profile.edit_choices or profile.permission_choices
  local answers = { "allow", prompt.is_edit and "acceptEdits" or "always", "auto" }
  local choices = {}
  for index, label in ipairs(labels) do
    choices[index] = { label = (label:gsub("{folder}", (cwd:gsub("%%", "%%%%")))),
      answer = index == #labels and "deny" or answers[index] }
  end
  local rows = { " " .. prompt.title }
  local details = describe_call(profile, prompt, tool, cwd, columns)
  table.move(details, 1, #details, 2, rows)
  local file = tostring(input.file_path or ""):match "[^/]*$"
  table.insert(rows, " " .. prompt.question:gsub("{file}", (file:gsub("%%", "%%%%"))))
  return {
    kind = "permission", rows = rows, is_laid_out = true, choices = choices, selected = 1, is_numbered = true,
    escape = "deny", footer = profile.permission_footer, indent = " ", waiting_for = "permission prompt",
  }
end

--- A question of the model's (the tool AskUserQuestion). The answer is the label chosen, or "deny".
---@param question {title?: string, text: string, choices: string[]}
function M.question(profile, question)
  local choices = {}
  for index, label in ipairs(question.choices) do choices[index] = { label = label, answer = label } end
  return {
    kind = "question", rows = { "☐ " .. (question.title or "Question"), "", question.text, "" }, choices = choices,
    selected = 1, is_numbered = true, escape = "deny", footer = "Enter to select · ↑/↓ to navigate · Esc to cancel",
    indent = "", waiting_for = profile.question_waits_for,
  }
end

--- Any other dialog, for scripts: the answer is the label chosen, or "cancel".
---@param described {title: string, lines?: string[], choices: string[], selected?: integer, numbered?: boolean,
---       footer?: string, waiting_for?: string}
function M.custom(described)
  local choices, rows = {}, { described.title, "" }
  for index, label in ipairs(described.choices) do choices[index] = { label = label, answer = label } end
  for _, line in ipairs(described.lines or {}) do table.insert(rows, line) end
  return {
    kind = "custom", rows = rows, choices = choices, selected = described.selected or 1,
    is_numbered = described.numbered ~= false, escape = "cancel", footer = described.footer or CONFIRM, indent = " ",
    waiting_for = described.waiting_for or "dialog open",
  }
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

--- Applies a key.
---@param dialog parley.testing.Dialog
---@param key table
---@return boolean is_answered
---@return any answer
function M.key(dialog, key)
  if key.kind == "key" then
    if key.name == "return" and #dialog.choices > 0 then return true, dialog.choices[dialog.selected].answer end
    if key.name == "escape" or key.name == "ctrl-c" then return true, dialog.escape end
    if #dialog.choices == 0 then return false end
    if key.name == "down" then dialog.selected = dialog.selected % #dialog.choices + 1 end
    if key.name == "up" then dialog.selected = (dialog.selected - 2) % #dialog.choices + 1 end
  elseif key.kind == "text" and dialog.is_numbered then
    local choice = dialog.choices[tonumber(key.text:match "^%d$" or 0)]
    if choice then return true, choice.answer end
  end
  return false
end

--- A dialog as rows, without the rule above it.
---@param dialog parley.testing.Dialog
---@return string[] rows
function M.rows(dialog)
  local rows = {}
  local indent = dialog.is_laid_out and "" or dialog.indent
  for _, row in ipairs(dialog.rows) do table.insert(rows, row == "" and "" or indent .. row) end
  if dialog.is_whole_screen then table.insert(rows, "") end
  for index, choice in ipairs(dialog.choices) do
    local number = dialog.is_numbered and index .. ". " or ""
    table.insert(rows, dialog.indent .. (index == dialog.selected and "❯ " or "  ") .. number .. choice.label)
  end
  table.insert(rows, "")
  table.insert(rows, dialog.indent .. dialog.footer)
  return rows
end

return M
