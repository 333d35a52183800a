--- Where a dialog stands on the screen, and which tool call it shows with its whole input. Pure functions on rows.
---
--- Measured on 2.1.110, 2.1.197, 2.1.250, 2.1.290, 2.1.330 and 2.1.332. What the model wrote is drawn indented, only
--- the program draws rules at the left edge (but for a question's text, which is of no tool that does anything).
--- 2.1.290 and later put what a tool gets between two rules. A text of several rows has a bar before each.
local core = require "parley.core"
local paths = require "parley.claude.paths"

local M = {}

local EDGES, INNER_RULE = { "───", "▔▔▔" }, "╌╌╌"

local function starts_with(row, prefix) return row:sub(1, #prefix) == prefix end

---@param row string
---@return boolean  true for the rule above what a dialog is about, or below
function M.is_inner_rule(row) return starts_with(row, INNER_RULE) end

--- Finds the rule above a dialog.
---@param rows string[]
---@param choices? parley.Choices
---@return integer? row  nil where there is none to be seen: the dialog may be taller than the screen
function M.upper_edge(rows, choices)
  for i = (choices and choices.first_row or #rows) - 1, 1, -1 do
    for _, edge in ipairs(EDGES) do
      if starts_with(rows[i], edge) then return i end
    end
  end
end

--- Whether the program's own row at the end says that the model asks something.
---@param rows string[]
---@param choices? parley.Choices
---@return boolean
function M.has_question_footer(rows, choices)
  for i = #rows, choices and choices.last_row + 1 or 1, -1 do
    if rows[i] ~= "" then return rows[i]:find "^%s*Enter to select" ~= nil end
  end
  return false
end

--- Whether the model asks something: the program's own row below the choices, or the one above the question, says so.
---@param rows string[]
---@param choices parley.Choices
---@return boolean
function M.is_question(rows, choices)
  if M.has_question_footer(rows, choices) then return true end
  local title = (rows[(M.upper_edge(rows, choices) or 0) + 1] or ""):gsub("^%s+", "")
  return starts_with(title, "☐") or starts_with(title, "☒") or starts_with(title, "←")
end

--- What the last row of a server's form says: one of a permission prompt goes on with Tab.
local FORM_FOOTERS = { "^ +Esc to [%w ]+ · ↑/↓ to navigate", "^ +Esc to [%w ]+ · ←/→ to switch" }

--- Whether the last rows are those of a server's form: its two buttons, and its footer.
local function has_form_buttons(rows)
  local last = #rows
  local function filled_row()
    while last > 1 and (rows[last] == "" or rows[last]:find "^ *↑ %d+ more lines?$") do last = last - 1 end
    last = last - 1
    return rows[last + 1] or ""
  end
  local footer, buttons = filled_row(), filled_row()
  return (footer:find(FORM_FOOTERS[1]) or footer:find(FORM_FOOTERS[2]))
    and buttons:gsub("❯", " "):find "^ +Accept    Decline$" ~= nil or false
end

--- Whether an MCP server asks for input, or to open a page (an elicitation): the program's own row below the edge says
--- so, or its buttons, where the edge is out of sight. What stands between is the server's, its fields' names too.
---@param rows string[]
---@param choices? parley.Choices
---@return boolean
function M.is_elicitation(rows, choices)
  if M.has_question_footer(rows, choices) then return false end -- an edge may be the question's own
  local edge = M.upper_edge(rows, choices)
  if edge then return starts_with(rows[edge + 1] or "", "  MCP server “") end
  return has_form_buttons(rows)
end

--- Rows wrap so many columns before the screen ends, at most: for indents, bars and line numbers.
local MARGIN = 10

--- Joins rows: by "\v" where a line may go on in the next row, by "\n" where the next word had room and so it ended.
local function join(rows, columns)
  local parts = {}
  for i, row in ipairs(rows) do
    local next_word = (rows[i + 1] or ""):match "%S+" or ""
    local is_full = core.text.width(row) + 1 + core.text.width(next_word) > columns - MARGIN
    parts[i] = row .. (is_full and "\v" or "\n")
  end
  return (table.concat(parts):gsub("^%s+", ""):gsub("%s+$", ""))
end

--- Characters that are left out of a row (2.1.110, 2.1.197), or have another in their place (2.1.332, but for those
--- that choose an emoji's style or a direction, which it leaves out). Measured one by one.
local INVISIBLE = { ["\u{AD}"] = true, ["\u{200B}"] = true, ["\u{200E}"] = true, ["\u{200F}"] = true,
  ["\u{FE0E}"] = true, ["\u{FE0F}"] = true, ["\u{FEFF}"] = true }

--- What stands in a row at this place for a character; nil where it is another one.
local function shown_for(character, shown, at)
  if shown:sub(at, at + #character - 1) == character then return character end
  return INVISIBLE[character] and (shown:match("^\u{FFFD}", at) or "") or nil
end

--- Whether rows show a text whole and nothing else. How many spaces stand in one place does not count, for a tab is
--- shown as spaces and those at a row's end are not shown.
local function shows_text(rows, text, columns)
  local shown, at, is_first = join(rows, columns), 1, true
  for space, word in text:gmatch "(%s*)(%S+)" do
    if not is_first then
      local gap = shown:match("^%s+", at)
      local is_line_end = space:find("\n", 1, true) ~= nil
      if not gap or not gap:find(is_line_end and "[\n\v]" or "^[^\n]*$") then return false end
      at = at + #gap
    end
    for character in word:gmatch "[\0-\x7F\xC2-\xFD][\x80-\xBF]*" do
      at = at + #(shown:match("^\v[ \v]*", at) or "")
      local seen = shown_for(character, shown, at)
      if not seen then return false end
      at = at + #seen
    end
    is_first = false
  end
  return at == #shown + 1
end

---@class parley.Prompt        a permission prompt, taken apart
---@field title string
---@field head? string[]       what stands above the first inner rule; nil where the version draws none
---@field body string[]        what the tool gets
---@field columns integer      of the screen

local function part(rows, first, last) return table.move(rows, first, last, 1, {}) end

--- Takes the bars from before the rows of a text: all of them have one, or what looks like one is the text's own. A
--- text of one row has none, and may begin like one.
local function without_bars(rows)
  local bare, filled = {}, 0
  for i, row in ipairs(rows) do
    bare[i] = row == "" and row or row:match "^ ?│ ?(.*)$"
    if not bare[i] then return rows end
    filled = filled + (row ~= "" and 1 or 0)
  end
  return filled > 1 and bare or rows
end

--- Takes them from before the rows that have them, down to the first that has none: 2.1.250 draws bars, but no rules.
local function without_leading_bars(rows)
  local bare, filled = part(rows, 1, #rows), 0
  for i, row in ipairs(rows) do
    local rest = row:match "^ +│ ?(.*)$"
    if not rest and row ~= "" then break end
    bare[i], filled = rest or row, filled + (rest and 1 or 0)
  end
  return filled > 1 and bare or rows
end

--- Takes a permission prompt apart.
local function read_prompt(rows, choices)
  local edge = M.upper_edge(rows, choices)
  local title = edge and (rows[edge + 1] or ""):match "^ (%S.*)$"
  if not title then return nil end
  title = title:gsub("  +%d+ of %d+$", "") -- calls of one message that are asked about one after the other (2.1.332)
  local columns, inner = utf8.len(rows[edge]) or 0, {}
  for i = edge + 2, choices.first_row - 1 do
    if M.is_inner_rule(rows[i]) then table.insert(inner, i) end
  end
  if #inner == 2 then
    return { title = title, columns = columns,
      head = part(rows, edge + 2, inner[1] - 1), body = part(rows, inner[1] + 1, inner[2] - 1) }
  end
  if #inner > 0 then return nil end
  local body = {}
  for i = edge + 2, choices.first_row - 1 do
    if rows[i]:find "^ ?%S" then break end
    table.insert(body, rows[i])
  end
  return { title = title, columns = columns, body = body }
end

--- Whether rows show a text, with the bars before it where it has any.
local function shows(rows, text, columns) return shows_text(without_bars(rows), text, columns) end

--- Whether rows show two texts, one below the other, each with bars of its own.
local function shows_both(rows, upper, lower, columns)
  for i = 1, #rows - 1 do
    if shows(part(rows, 1, i), upper, columns) and shows(part(rows, i + 1, #rows), lower, columns) then return true end
  end
  return false
end

local function has_path(prompt, input, cwd)
  return type(input.file_path) == "string" and prompt.head ~= nil
    and shows(prompt.head, paths.relative(cwd, input.file_path), prompt.columns)
end

--- The rows of a file's lines without their numbers; those that go on with a line have none.
local function without_numbers(rows)
  local gutter, expected, bare = #((rows[1] or ""):match "^ *1 " or ""), 1, {}
  if gutter == 0 then return nil end
  for i, row in ipairs(rows) do
    local number = row:sub(1, gutter):match "^ *(%d*) ?$"
    if not number or number ~= "" and tonumber(number) ~= expected then return nil end
    if number ~= "" then expected = expected + 1 end
    bare[i] = row:sub(gutter + 1)
  end
  return bare
end

--- Whether one text becomes the other by replacing something in it once.
local function is_replaced(before, after, old, new)
  local first = 1
  while old ~= "" do
    local from, to = before:find(old, first, true)
    if not from then return false end
    if before:sub(1, from - 1) .. new .. before:sub(to + 1) == after then return true end
    first = from + 1
  end
  return false
end

--- Whether the rows of a difference are what an edit does.
local function shows_edit(rows, old, new)
  local before, after = {}, {}
  for _, row in ipairs(rows) do
    local mark, line = row:match "^ *%d+ ?([-+ ]?)(.*)$"
    if not mark then return false end
    line = line:gsub("%s+", " ")
    if mark ~= "+" then table.insert(before, line) end
    if mark ~= "-" then table.insert(after, line) end
  end
  local function plain(text) return (text:gsub("[ \t]+", " ")) end
  return is_replaced(table.concat(before, "\n"), table.concat(after, "\n"), plain(old), plain(new))
end

--- What 2.1.332 says above a command's description where its mode is `default` and no rule of the user's asks.
local TIP = 'Tip: auto mode handles these prompts for you — choose "switch to auto mode" below'

--- What each tool's prompt shows of its input. A tool that is not here is known to nobody by what its prompt shows.
local tools = {}

function tools.Bash(prompt, input)
  local description = input.description or "Run shell command"
  if not starts_with(prompt.title, "Bash command") or type(input.command) ~= "string"
    or type(description) ~= "string" then return false end
  local head, body, columns = prompt.head, prompt.body, prompt.columns
  if not head then
    local text = input.command .. "\n" .. description
    return shows_text(body, text, columns) or shows_text(without_leading_bars(body), text, columns)
  end
  return (shows(head, description, columns) or shows_both(head, TIP, description, columns))
    and shows(body, input.command, columns)
end

function tools.Read(prompt, input)
  return prompt.title == "Read file" and shows(prompt.body, ("Read(%s)"):format(input.file_path), prompt.columns)
end

function tools.Write(prompt, input, cwd)
  local rows = prompt.title == "Create file" and without_numbers(prompt.body)
  return rows and has_path(prompt, input, cwd) and type(input.content) == "string"
    and shows_text(rows, input.content, prompt.columns)
end

function tools.Edit(prompt, input, cwd)
  return prompt.title == "Edit file" and has_path(prompt, input, cwd) and type(input.old_string) == "string"
    and type(input.new_string) == "string" and shows_edit(prompt.body, input.old_string, input.new_string)
end

function tools.WebFetch(prompt, input)
  if prompt.title ~= "Fetch" or type(input.url) ~= "string" or type(input.prompt) ~= "string" then return false end
  local url, asked = "url: " .. input.url, "prompt: " .. input.prompt
  if prompt.head then return shows_both(prompt.body, url, asked, prompt.columns) end
  local rows = without_leading_bars(prompt.body)
  while rows[1] and not rows[#rows]:find "^ +Claude wants to fetch content from" do table.remove(rows) end
  table.remove(rows)
  local quoted = ('url: "%s", prompt: "%s"'):format(input.url, input.prompt)
  for _, text in ipairs { url .. "\n" .. asked, quoted, input.url } do
    if shows_text(rows, text, prompt.columns) then return true end -- 2.1.250, 2.1.197, 2.1.110
  end
  return false
end

local function rows_above(rows, choices, skipped)
  local edge = M.upper_edge(rows, choices)
  if not edge then return nil end
  return table.move(rows, edge + 1 + skipped, choices.first_row - 1, 1, {}), utf8.len(rows[edge]) or 0
end

local function without_spaces(text) return (text:gsub("%s+", "")) end -- a label may go on in another row

local function shows_choices(options, labels)
  for i, option in ipairs(options) do
    local label = type(option) == "table" and type(option.label) == "string" and without_spaces(option.label)
    if not (label and labels[i] and without_spaces(labels[i]):find(label, 1, true)) then return false end
  end
  return true
end

--- Whether a question of the call is asked, with its answers to choose from.
local function shows_question(rows, choices, input)
  local above, columns = rows_above(rows, choices, 1)
  for _, question in ipairs(above and type(input.questions) == "table" and input.questions or {}) do
    local options = type(question) == "table" and type(question.options) == "table" and question.options
    if options and shows(above, tostring(question.question), columns)
      and shows_choices(options, choices.labels) then return true end
  end
  return false
end

--- Whether it is the page behind several answers, which shows them and names no call.
local function is_review(rows, choices)
  local above = rows_above(rows, choices, 1)
  return choices.labels[1] == "Submit answers" and not M.has_question_footer(rows, choices)
    and table.concat(above or {}, "\n"):find "^%s*Review your answers\n" ~= nil
end

--- Whether a plan is to be approved, and this one. It is drawn as Markdown: its letters are what can be compared.
local function shows_plan(rows, choices, input)
  local above = rows_above(rows, choices, 0)
  local text = above and table.concat(above, "\n"):gsub("%s+$", "") or ""
  if not (text:find "ould you like to proceed%?$" or text:find "Claude wants to exit plan mode$") then return false end
  local function letters(of) return (of:gsub("[^%w\x80-\xFF]", "")) end
  return letters(text):find(letters(tostring(input.plan or "")), 1, true) ~= nil
end

--- How the prompts of a tool may begin.
local TITLES = { Bash = { "^Bash command" }, Read = { "^Read file" }, WebFetch = { "^Fetch" },
  Edit = { "^Edit file" }, Write = { "^Create file", "^Overwrite file", "^Edit file", "^Write file" } }

local function fits_title(name, title)
  for _, pattern in ipairs(TITLES[name] or {}) do
    if title:find(pattern) then return true end
  end
  return false
end

--- Whether a dialog is about something else than a call, by its title alone. One that is not to be seen speaks for
--- none.
---@param rows string[]
---@param choices parley.Choices
---@param call table  a `tool_use` block
---@return boolean
function M.is_about_other(rows, choices, call)
  if M.is_elicitation(rows, choices) then return true end
  if M.is_question(rows, choices) ~= (call.name == "AskUserQuestion") then return true end
  local prompt = read_prompt(rows, choices)
  if not prompt or fits_title(call.name, prompt.title) then return false end
  if TITLES[call.name] then return true end
  for name in pairs(TITLES) do
    if fits_title(name, prompt.title) then return true end
  end
  return false
end

--- Whether a dialog shows a tool call, and all of the input that such a dialog shows, in full.
---@param rows string[]
---@param choices parley.Choices
---@param call table  a `tool_use` block
---@param cwd string  a real path
---@return boolean
function M.shows(rows, choices, call, cwd)
  if M.is_elicitation(rows, choices) then return false end
  local input = type(call.input) == "table" and call.input or {}
  local asks = M.is_question(rows, choices)
  if call.name == "AskUserQuestion" then
    return asks and (shows_question(rows, choices, input) or is_review(rows, choices))
  end
  if asks then return false end
  if call.name == "ExitPlanMode" then return shows_plan(rows, choices, input) end
  local fits, prompt = tools[call.name], read_prompt(rows, choices)
  return fits ~= nil and prompt ~= nil and fits(prompt, input, cwd) or false
end

return M
