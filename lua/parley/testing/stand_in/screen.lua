--- The screen: rows laid out as the real program lays them out, and written as the difference to what stands there.
local text_of = require "parley.testing.stand_in.text"
local dialogs = require "parley.testing.stand_in.dialogs"

local M = {}

local PROMPT, SHELL_PROMPT, NO_BREAK_SPACE = "❯", "!", "\u{A0}"
local POPUP_ROWS = 5
local CHOSEN = "  ❯ /"
local IDLE = "✳"
local EDITING = "Save and close editor to continue..."
local SPINNER = { "·", "✢", "*", "✶", "✻", "✽" }
local MODES = {
  bypassPermissions = "⏵⏵ bypass permissions on (shift+tab to cycle)",
  acceptEdits = "⏵⏵ accept edits on (shift+tab to cycle)",
  plan = "⏸ plan mode on (shift+tab to cycle)",
  auto = "⏵⏵ auto mode on (shift+tab to cycle)",
  dontAsk = "⏵⏵ don't ask on (shift+tab to cycle)",
}

---@class parley.testing.Screen
---@field rows integer
---@field columns integer
---@field private shown string[]  the rows that stand there, as they were before they were cut
---@field has_no_title boolean  the user wants none
---@field private glyph? string   with which the title begins
---@field private is_promptless? boolean  the composer stands there without its prompt
local Screen = {}
Screen.__index = Screen

--- A screen.
---@param options {profile: parley.testing.Profile, write: fun(bytes: string), rows: integer, columns: integer}
---@return parley.testing.Screen
function M.new(options)
  local self = setmetatable(options, Screen)
  self.shown = {}
  return self
end

--- Switches on what the program switches on before it takes keys.
function Screen:announce()
  self.write "\27[?2004h\27[?1004h\27[?2031h"
  self:set_title(IDLE)
end

--- Names the terminal behind a glyph that says whether a turn runs, unless the user wants no title.
function Screen:set_title(glyph)
  if glyph == self.glyph or self.has_no_title then return end
  self.glyph = glyph
  self.write("\27]0;" .. glyph .. " Claude Code\7")
end

--- Takes the screen over, and asks the terminal what it is, as the program does once it is up.
function Screen:open()
  if self.is_open then return end
  self.is_open = true
  if self.profile.is_fullscreen then
    self.write "\27[?1049h\27[2J\27[H\27[?1000h\27[?1002h\27[?1003h\27[?1006h"
  end
  self.write "\27[?25l\27[>0q\27[c"
  self.shown = {}
end

--- Gives the screen back.
function Screen:close()
  if self.profile.is_fullscreen and self.is_open then
    self.write "\27[?1006l\27[?1003l\27[?1002l\27[?1000l\27[?1049l"
  elseif self.is_open then
    self.write(("\27[%d;1H\r\n"):format(math.max(1, #self.shown)))
  end
  self.write "\27[?25h\27[?1004l\27[?2031l\27[?2004l\27]0;\7"
end

--- Draws all rows anew, the empty ones too: another program may have drawn there.
function Screen:forget()
  for index = 1, #self.shown do self.shown[index] = "\0" end
end

---@param rows integer
---@param columns integer
function Screen:resize(rows, columns)
  self.rows, self.columns, self.shown = rows, columns, {}
  self.write "\27[2J"
end

--- Goes on behind a stop. What stood there stays, for 2.1.110 draws itself anew below, and the prompt only once the
--- composer is empty again.
---@param view table
function Screen:go_on(view)
  if not self.is_open or not self.profile.loses_prompt_behind_stop or view.dialog then return end
  table.insert(view.history, { text = "", mark = "", columns = self.columns, rows = (self:composer_block(view)) })
  self.is_promptless = true
end

function Screen:rule()
  if self.rule_columns ~= self.columns then
    self.rule_columns, self.rule_row = self.columns, ("─"):rep(self.columns)
  end
  return self.rule_row
end

--- The rows above the first message. They are laid out once for a width: every drawing has them.
function Screen:banner(view)
  if self.banner_columns ~= self.columns then
    self.banner_columns, self.banner_rows = self.columns, self:new_banner(view)
  end
  return { table.unpack(self.banner_rows) }
end

function Screen:new_banner(view)
  local version, model = "Claude Code v" .. self.profile.version, self.profile.model_name .. " · API Usage Billing"
  if self.profile.is_fullscreen then
    return { "▐▛███▛█   " .. version, "▝▜██████▀  " .. model, " ▝▝   ▝▝   " .. view.cwd, "" }
  end
  local inner = math.max(0, self.columns - 2)
  local function boxed(text)
    return "│" .. text .. (" "):rep(math.max(0, inner - text_of.width(text))) .. "│"
  end
  local title = "─── " .. version .. " "
  return { "╭" .. title .. ("─"):rep(math.max(0, inner - text_of.width(title))) .. "╮", boxed "  Welcome back!",
    boxed("  " .. model), boxed("  " .. view.cwd), "╰" .. ("─"):rep(inner) .. "╯", "" }
end

--- The composer's rows without its rules, and where the cursor is in them.
function Screen:composer_rows(composer, placeholder)
  local prompt = (composer.is_shell and SHELL_PROMPT or PROMPT) .. NO_BREAK_SPACE
  local columns = self.columns - 4
  local text, cursor = composer:shown()
  local before = text_of.wrap(text:sub(1, cursor), columns)
  local rows = text_of.wrap(text == "" and placeholder or text .. composer:hint(), columns)
  local is_cut = self.profile.cuts_wide_tabs and text:find("\t", 1, true) ~= nil
  for index, row in ipairs(rows) do
    rows[index] = (index == 1 and prompt or "  ") .. (is_cut and text_of.expanded(row) or row)
  end
  return rows, #before, 3 + text_of.width(text_of.expanded(before[#before])), is_cut
end

local function widest_of(rows)
  local widest = 0
  for _, row in ipairs(rows) do widest = math.max(widest, text_of.width(row) - 2) end -- without the prompt
  return widest
end

--- So many cells of all rows, the last of them an ellipsis.
local function first_cells(rows, room)
  local kept = {}
  for index, row in ipairs(rows) do
    local cells, stop = -2, 0
    for at, code in utf8.codes(row) do
      local width = text_of.width(utf8.char(code))
      if cells + width >= room then break end
      cells, stop = cells + width, at + #utf8.char(code) - 1
    end
    kept[index] = row
    if stop < #row then
      kept[index] = row:sub(1, stop) .. "…"
      return kept
    end
    room = room - cells
  end
  return kept
end

--- What is shown of rows of which one, made wider by its tabs, has no room, nor has the cursor behind it. The program
--- cuts twice: what it has cut is as wide as the widest row then.
local function cut_rows(rows, columns)
  if widest_of(rows) < columns - 2 then return rows end
  local once = first_cells(rows, columns)
  local twice = first_cells(once, math.min(columns - 2, widest_of(once)))
  for index = #twice + 1, #once do twice[index] = "" end
  return twice
end

--- Cuts a tall composer down to the rows around its cursor.
local function scroll(rows, cursor_row, height)
  if not height or #rows <= height then return rows, cursor_row, 0 end
  local first = math.max(1, math.min(cursor_row - height // 2, #rows - height + 1))
  return table.move(rows, first, first + height - 1, 1, {}), cursor_row - first + 1, first - 1
end

--- The rows of the pop-up that is open.
local function offers_of(popup, is_fullscreen)
  local rows = {}
  for i, choice in ipairs(popup.choices or popup.names or {}) do
    if popup.choices then
      rows[i] = "+ " .. choice:gsub("^@", "")
    else
      rows[i] = not is_fullscreen and "/" .. choice or (choice == popup.chosen and CHOSEN or "    /") .. choice
    end
    if i == POPUP_ROWS then break end
  end
  return rows
end

--- What stands in the composer's place while an editor runs.
function Screen:editing_block()
  local row = (" "):rep(math.max(0, (self.columns - #EDITING) // 2)) .. EDITING
  return { self:rule(), row, self:rule() }, 2, 1
end

function Screen:composer_block(view)
  if view.is_editing then return self:editing_block() end
  local placeholder = #view.queued > 0 and "Press up to edit queued messages" or view.placeholder
  local rows, cursor_row, cursor_column, is_cut = self:composer_rows(view.composer, placeholder)
  self.is_promptless = self.is_promptless and not view.composer:is_empty()
  if self.is_promptless then rows[1] = "  " .. rows[1]:sub(#PROMPT + #NO_BREAK_SPACE + 1) end
  local hidden
  rows, cursor_row, hidden = scroll(rows, cursor_row, self.profile.composer_rows)
  if is_cut then rows = cut_rows(rows, self.columns) end
  cursor_row = math.min(cursor_row, #rows)
  local top = self:rule()
  if hidden > 0 and not self.profile.counts_hidden_rows then
    rows[1] = PROMPT .. NO_BREAK_SPACE .. rows[1]:sub(3)
  elseif hidden > 0 then
    top = ("─── ↑ %d more "):format(hidden)
    top = top .. ("─"):rep(math.max(0, self.columns - text_of.width(top)))
  end
  if self.profile.draws_cursor and view.composer:is_empty() and not placeholder then
    rows[1] = rows[1] .. "\27[7m \27[27m"
  end
  local popup = view.composer:popup() or {}
  local block, offers = {}, offers_of(popup, self.profile.is_fullscreen)
  if self.profile.is_fullscreen then table.move(offers, 1, #offers, 1, block) end
  table.insert(block, top)
  local above = #block
  table.move(rows, 1, #rows, above + 1, block)
  table.insert(block, self:rule())
  if not self.profile.is_fullscreen then table.move(offers, 1, #offers, #block + 1, block) end
  if popup.names and not self.profile.is_fullscreen then return block, cursor_row + above, cursor_column end
  local is_pasting = view.composer:milliseconds_to_settle() > 0
  local hint = is_pasting and "Pasting text…" or view.composer.notice or view.hint
  local status = "  " .. (view.mode == "insert" and "-- INSERT -- " or "")
    .. (MODES[view.permission_mode] or self.profile.default_mode_row)
  if view.agents_count then
    local mode = MODES[view.permission_mode] and MODES[view.permission_mode]:gsub(" %(.*", " · ") or ""
    status = ("  %s%s · ctrl+x ctrl+k to stop agents · ↓ to manage"):format(mode, view.agents_count)
  end
  local status_rows = view.status_rows or {}
  local has_hint = view.busy and (self.profile.is_fullscreen or #status_rows == 0)
  local is_replaced = not MODES[view.permission_mode] and not self.profile.is_fullscreen
  if has_hint then status = is_replaced and "  esc to interrupt" or status .. " · esc to interrupt" end
  table.move(status_rows, 1, #status_rows, #block + 1, block)
  table.insert(block, hint and "  " .. hint or status)
  local agents_rows = view.agents_rows or {}
  table.move(agents_rows, 1, #agents_rows, #block + 1, block)
  return block, cursor_row + above, cursor_column
end

--- A row that shows that a turn runs.
function Screen:busy_row(view)
  local glyph = SPINNER[view.frame % #SPINNER + 1]
  if view.retry then return "✻ " .. view.retry end
  local detail = view.seconds > 0 and ("(%ds)"):format(view.seconds) or ""
  if view.hook then
    detail = self.profile.hook_row:gsub("{(%w+)}", { event = view.hook, seconds = view.seconds })
  end
  return glyph .. " " .. view.busy .. "…" .. (detail == "" and "" or " " .. detail)
end

--- The index of the first entry of the history that can still be seen.
function Screen:first_visible(history)
  local rows = 0
  for index = #history, 1, -1 do
    local entry = history[index]
    entry.lines = entry.lines or 1 + select(2, entry.text:gsub("\n", ""))
    rows = rows + entry.lines
    if rows > self.rows then return index end
  end
  return 1
end

--- What is drawn of a text: no control character is (2.1.332; 2.1.110 takes the whole of a sequence out).
local function drawable(text)
  if not text:find "[\0-\8\11-\31\127\xC2]" then return text end
  return (text:gsub("[\0-\8\11-\31\127]", ""):gsub("\xC2[\x80-\x9F]", ""))
end

function Screen:wrapped(text, mark, following)
  local rows = text_of.wrap(text, self.columns - 2)
  for index, row in ipairs(rows) do rows[index] = (index == 1 and mark or following) .. row end
  return rows
end

--- The rows of what was said, the banner above them, as far as they can be seen. What was said does not change, so they
--- stay while nothing is added.
function Screen:said_rows(view)
  local history, size = view.history, self.columns .. "x" .. self.rows
  local last = history[#history]
  if self.said and self.said_last == last and self.said_size == size then return self.said end
  local first = self:first_visible(history)
  local rows = first == 1 and self:banner(view) or {}
  for index = first, #history do
    local entry = history[index]
    if entry.columns ~= self.columns then
      entry.columns, entry.rows = self.columns, self:wrapped(drawable(entry.text), entry.mark, "  ")
    end
    table.move(entry.rows, 1, #entry.rows, #rows + 1, rows)
  end
  self.said, self.said_last, self.said_size = rows, last, size
  return rows
end

function Screen:body(view)
  local said = self:said_rows(view)
  local rows = table.move(said, 1, #said, 1, {})
  if view.busy and not view.dialog and (view.retry or not view.streams) then
    table.insert(rows, "")
    table.insert(rows, self:busy_row(view))
  end
  for _, text in ipairs(view.queued) do
    local queued = self:wrapped(text, "  ❯ ", "    ")
    table.move(queued, 1, #queued, #rows + 1, rows)
  end
  table.insert(rows, "")
  return rows
end

function Screen:dialog_block(view)
  local block = { self:rule() }
  for _, row in ipairs(dialogs.rows(view.dialog)) do table.insert(block, row) end
  local cursor_row = 1
  for index, row in ipairs(block) do
    if row:find("❯", 1, true) then cursor_row = index end
  end
  return block, cursor_row, 2
end

--- Everything that should stand on the screen, and where the cursor belongs.
function Screen:layout(view)
  if view.is_blank then return {}, 1, 1 end
  if view.dialog and view.dialog.is_whole_screen then return self:dialog_block(view) end
  local body = self:body(view)
  local block, cursor_row, cursor_column
  if view.dialog then
    block, cursor_row, cursor_column = self:dialog_block(view)
    if view.busy and not self.profile.tells_dialogs then
      table.move({ "", self:busy_row(view) }, 1, 2, #block + 1, block)
    end
  else
    block, cursor_row, cursor_column = self:composer_block(view)
  end
  local room = math.max(0, self.rows - #block)
  local rows = table.move(body, math.max(1, #body - room + 1), #body, 1, {})
  for index = #rows + 1, self.profile.is_fullscreen and room or 0 do rows[index] = "" end
  local above = #rows
  table.move(block, 1, #block, above + 1, rows)
  return rows, above + cursor_row, cursor_column
end

--- What of a row has room: the program cuts its own rows where the terminal is narrow.
local function cut(row, columns)
  local most = 4 * columns -- characters, of which some may take no room
  if #row > 4 * most then row = row:sub(1, (utf8.offset(row, most) or #row + 1) - 1) end
  if #row <= columns or text_of.width(row) <= columns then return row end
  return text_of.wrap(row, columns)[1]
end

--- Draws.
---@param view table
function Screen:draw(view)
  local glyphs = self.profile.title_glyphs
  local asks = view.dialog and view.dialog.kind ~= "transcript"
  self:set_title(view.busy and not asks and glyphs[view.seconds % #glyphs + 1] or IDLE)
  local rows, cursor_row, cursor_column = self:layout(view)
  local first = math.max(0, #rows - self.rows) -- what does not fit has scrolled away
  local output, shown = {}, self.shown
  for index = 1, math.min(self.rows, math.max(#rows, #shown)) do
    local row = rows[first + index] or ""
    if row ~= (shown[index] or "") then
      output[#output + 1] = ("\27[%d;1H\27[2K%s"):format(index, cut(row, self.columns))
    end
    shown[index] = row
  end
  local cursor = ("\27[%d;%dH"):format(math.max(1, cursor_row - first), math.min(cursor_column, self.columns))
  if #output > 0 or cursor ~= self.cursor then self.write(table.concat(output) .. cursor) end
  self.cursor = cursor
end

return M
