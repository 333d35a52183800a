--- The input box: what keys and pastes make of its text, and what Return makes of it.
---
--- It does no I/O but listing the working directory for the `@` pop-up, and looking for pictures that are pasted.
local core = require "parley.core"
local command_list = require "parley.testing.stand_in.command_list"
local files = require "parley.base.files"
local text_of = require "parley.testing.stand_in.text"

local M = {}

--- A paste longer than this, in UTF-16 units or in newlines, is shown as one word.
local PASTE_UNITS, PASTE_NEWLINES = 800, 2

--- A longer text is shown without its middle, in UTF-16 units, and so much of its ends.
local LONG, LONG_ENDS = 10000, 500
local LOST = "\u{FFFD}"

local EMOJI = { heart = "❤️", rocket = "🚀", smile = "😄", tada = "🎉" }

--- White space that is trimmed at the end of a message, besides what `%s` knows.
local WIDE_SPACES = { "\u{A0}", "\u{2028}", "\u{2029}", "\u{3000}" }

---@class parley.testing.Composer
---@field text string        with a collapsed paste as `[Pasted text #1 +3 lines]`
---@field cursor integer     a byte offset: what stands before it
---@field is_shell boolean   `!` was pressed
---@field notice? string     a hint beneath the box
---@field list_is_late? boolean  the list of commands has not come yet
---@field private pastes table<integer, string>
local Composer = {}
Composer.__index = Composer

--- An empty composer.
---@param options {profile: parley.testing.Profile, cwd: string, now: (fun(): number), commands?: table<string, table>,
---       list_is_late?: boolean}
---@return parley.testing.Composer
function M.new(options)
  local self = setmetatable(options, Composer)
  self.commands = options.commands or {}
  self.paste_count, self.picture_count, self.marker = 0, 0, ("%04x"):format(math.random(0, 0xFFFF))
  self:clear()
  return self
end

function Composer:clear()
  self.text, self.cursor, self.is_shell = "", 0, false
  self.pastes, self.labels, self.marked, self.last_paste, self.open_popup, self.notice = {}, {}, {}, nil, nil, nil
end

function Composer:is_empty() return self.text == "" and not self.is_shell end

local function files_beginning_with(folder, part)
  local names = {}
  for _, name in ipairs(files.names(folder)) do
    if name:sub(1, #part):lower() == part:lower() and name:sub(1, 1) ~= "." then table.insert(names, name) end
  end
  return names
end

--- The names that an `@` word could mean: of files, then, behind a lone `@`, of the agents that are always there.
local function choices_for(part, folder)
  local lead = part:match "^%./" or ""
  local choices = {}
  for _, name in ipairs(files_beginning_with(folder, part:sub(#lead + 1))) do
    table.insert(choices, "@" .. lead .. name .. " ")
  end
  if part == "" then table.insert(choices, "@agent-Plan ") end
  return choices
end

--- Finds what a pop-up could offer for the word that ends at the cursor. `holds` says whether Return picks from it.
local function find_popup(self)
  if self.is_shell or self.cursor < #self.text then return nil end
  local list = not self.list_is_late and command_list.find(self.text, self.commands, self.profile)
  if list then return list end
  local lead, part = self.text:match "^(.*)@([^%s@]*)$"
  if lead and (lead == "" or lead:find "%s$") then
    local choices = choices_for(part, self.cwd)
    local holds = self.profile.file_popup_holds or part:find "^%.?/" ~= nil
    return choices[1] and { token = "@" .. part, choices = choices, holds = holds }
  end
  local name = self.profile.has_emoji_popup and (" " .. self.text):match "%s:(%l%l+)$"
  for known, emoji in pairs(name and EMOJI or {}) do
    if known:sub(1, #name) == name then return { token = ":" .. name, choices = { emoji }, holds = true } end
  end
end

--- Makes spaces of the tabs that an editor has left, as the first key does. The cursor stays
--- where it was, among them.
function Composer:lose_tabs() self.text = self.text:gsub("\t", "    ") end

--- Puts a text where the cursor stands, as if it had been typed there.
---@param text string
function Composer:insert(text)
  self.text = self.text:sub(1, self.cursor) .. text .. self.text:sub(self.cursor + 1)
  self.cursor = self.cursor + #text
  self:lose_tabs()
  self.open_popup = find_popup(self)
end

--- Puts a text in front of what is there: an interrupted message comes back so.
---@param text string
function Composer:give_back(text)
  self.text = text .. self.text
  self.cursor = #self.text
end

function Composer:milliseconds_since_paste()
  return self.last_paste and self.now() - self.last_paste.at or math.huge
end

--- How long it still takes until Return is not swallowed any more.
---@return number milliseconds  0 when there is nothing to wait for
function Composer:milliseconds_to_settle()
  if not self.last_paste then return 0 end
  local settle = self.profile.paste_settle
  local limit = self.last_paste.is_first and settle.cold_return_ms or settle.warm_return_ms
  return math.max(0, limit - self:milliseconds_since_paste())
end

--- What is shown: a process's first paste only once it has settled.
---@return string text
---@return integer cursor
function Composer:shown()
  if self:milliseconds_to_settle() > 0 and self.last_paste.is_first then
    return self.last_paste.text_before, self.last_paste.cursor_before
  end
  return self.text, self.cursor
end

--- What was pasted last has not settled, and what comes now overwrites it.
function Composer:lose_unsettled_paste(limit)
  if self:milliseconds_since_paste() >= limit then return end
  self.text, self.cursor = self.last_paste.text_before, self.last_paste.cursor_before
end

--- Enters shell mode when the box is empty, or its text would begin with the `!`.
function Composer:takes_bang(text)
  if text:sub(1, 1) ~= "!" or self.is_shell or self.cursor > 0 then return text end
  self.is_shell = true
  return text:sub(2)
end

--- What a paste leaves of its bytes.
function Composer:cleaned(bytes)
  local text = text_of.valid(bytes):gsub("\r\n?", "\n"):gsub("\t", "    ")
  text = text:gsub("\27%[[0-?]*[ -/]*[@-~]", ""):gsub("\27.?", "")
  if self.profile.strips_invisible then return text end
  return (text:gsub("\u{C2}[\x90\x98\x9B\x9D-\x9F].*", "")) -- taken for the start of a string that never ends
end

local PICTURES = { png = true, jpg = true, jpeg = true, gif = true, webp = true }

--- Whether a part of a pasted line is the path of a picture that is there.
local function is_picture(part)
  local path = part:match "^%s*(.-)%s*$"
  path = (path:match "^'(.*)'$" or path:match '^"(.*)"$' or path):gsub("\\(.)", "%1")
  local ending = path:match "^/.*%.(%a+)$"
  return ending ~= nil and PICTURES[ending:lower()] == true and (files.size(path) or 0) > 0
end

--- Attaches each picture whose path is pasted on a line, or behind a sentence where the version looks there, too.
---@return string rest  what stays of the text
function Composer:without_pictures(text)
  local kept, pictures = {}, {}
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    local parts, first_count = {}, #pictures
    for part in (line:gsub(" (['\"]?/)", "\n%1") .. "\n"):gmatch "([^\n]*)\n" do
      if is_picture(part) then
        self.picture_count = self.picture_count + 1
        table.insert(pictures, ("[Image #%d]"):format(self.picture_count))
      else
        table.insert(parts, part)
      end
    end
    if self.profile.pictures == "lines" and #parts > 0 and #pictures > first_count then
      while #pictures > first_count do table.remove(pictures) end
      parts = { line }
    end
    table.move(parts, 1, #parts, #kept + 1, kept)
  end
  if #pictures == 0 then return text end
  return table.concat(pictures, " ") .. table.concat(kept, "\n")
end

---@param bytes string  a bracketed paste, or one long write
function Composer:paste(bytes)
  self:lose_unsettled_paste(self.profile.paste_settle.paste_ms)
  local text = self:without_pictures(self:cleaned(bytes))
  local before, cursor_before = self.text, self.cursor
  local newlines = select(2, text:gsub("\n", ""))
  if text_of.utf16_length(text) > PASTE_UNITS or newlines > PASTE_NEWLINES then
    self.paste_count = self.paste_count + 1
    local lines = newlines > 0 and (" +%d lines"):format(newlines) or ""
    local label = ("[Pasted text #%d%s]"):format(self.paste_count, lines)
    self.pastes[self.paste_count], self.labels[self.paste_count] = text, label
    self:insert(label)
  else
    if text:lower():find("ultraplan", 1, true) then table.insert(self.marked, text:match "^%s*(.-)%s*$") end
    self:insert(self.text == "" and self:takes_bang(text) or text)
  end
  self.last_paste = { at = self.now(), text_before = before, cursor_before = cursor_before,
    is_first = not self.has_pasted }
  self.has_pasted = true
end

---@param text string  printable characters that came in one read
function Composer:type(text)
  if text_of.utf16_length(text_of.valid(text)) > PASTE_UNITS then return self:paste(text) end
  text = text_of.valid(text)
  self:lose_unsettled_paste(self.profile.paste_settle.key_ms)
  self:insert(self:takes_bang(text))
end

--- Where the line that holds the cursor begins and ends, as byte offsets.
local function line_bounds(text, cursor)
  local start = #(text:sub(1, cursor):match "^.*\n" or "")
  local stop = text:find("\n", cursor + 1, true)
  return start, stop and stop - 1 or #text
end

function Composer:delete(from, to)
  self.text = self.text:sub(1, from) .. self.text:sub(to + 1)
  self.cursor = from
  self:lose_tabs()
  self.open_popup = find_popup(self)
end

--- The byte offset before the character, or the collapsed paste, that ends at the cursor.
function Composer:before_cursor()
  local word = self.text:sub(1, self.cursor):match "%[Pasted text #%d+[^%]]*%]$"
  if word then return self.cursor - #word end
  return self.cursor > 0 and utf8.offset(self.text, -1, self.cursor + 1) - 1 or 0
end

local function after_cursor(text, cursor)
  return cursor < #text and utf8.offset(text, 2, cursor + 1) - 1 or cursor
end

function Composer:move_vertically(direction)
  local start, stop = line_bounds(self.text, self.cursor)
  local column = self.cursor - start
  if direction < 0 and start > 0 then
    local above = line_bounds(self.text, start - 1)
    self.cursor = math.min(above + column, start - 1)
  elseif direction > 0 and stop < #self.text then
    local _, below_stop = line_bounds(self.text, stop + 1)
    self.cursor = math.min(stop + 1 + column, below_stop)
  end
end

local actions = {
  newline = function(self)
    self:lose_unsettled_paste(self.profile.paste_settle.key_ms)
    self:insert "\n"
  end,
  backspace = function(self, is_alone)
    if self.cursor > 0 then
      self:delete(self:before_cursor(), self.cursor)
    elseif is_alone or self.profile.leaves_shell_at_once then
      self.is_shell = false
    end
  end,
  delete = function(self) self:delete(self.cursor, after_cursor(self.text, self.cursor)) end,
  left = function(self) self.cursor = self:before_cursor() end,
  right = function(self) self.cursor = after_cursor(self.text, self.cursor) end,
  up = function(self) self:move_vertically(-1) end,
  down = function(self) self:move_vertically(1) end,
  home = function(self)
    local start = line_bounds(self.text, self.cursor)
    if start == self.cursor and start > 0 and self.profile.ends_go_on then start = line_bounds(self.text, start - 1) end
    self.cursor = start
  end,
  ["end"] = function(self)
    local _, stop = line_bounds(self.text, self.cursor)
    if stop == self.cursor and stop < #self.text and self.profile.ends_go_on then
      stop = select(2, line_bounds(self.text, stop + 1))
    end
    self.cursor = stop
  end,
  ["ctrl-k"] = function(self)
    local _, stop = line_bounds(self.text, self.cursor)
    local cursor = self.cursor
    self:delete(cursor, stop == cursor and math.min(stop + 1, #self.text) or stop)
  end,
  ["ctrl-u"] = function(self)
    local start = line_bounds(self.text, self.cursor)
    if start == self.cursor and start > 0 then start = start - 1 end
    self:delete(start, self.cursor)
  end,
  ["ctrl-w"] = function(self)
    local word = self.text:sub(1, self.cursor):match "%S*%s*$"
    self:delete(self.cursor - #word, self.cursor)
  end,
}
actions["ctrl-d"] = actions.delete

--- Applies a key that edits.
---@param name string
---@param is_alone? boolean  no other key came in the same read
function Composer:edit(name, is_alone)
  local action = actions[name]
  if action then action(self, is_alone) end
end

--- Has the list of commands come now.
function Composer:show_list()
  self.list_is_late = false
  self.open_popup = find_popup(self)
end

--- What is shown behind the text: the names of arguments.
---@return string
function Composer:hint() return command_list.hint(self.text, self.commands, self.profile) end

--- The pop-up that is open. It opens and closes as the text changes; moving the cursor leaves it as it is.
---@return {token: string, choices: string[], holds: boolean}|parley.testing.CommandList|nil
function Composer:popup() return self.open_popup end

function Composer:close_popup() self.open_popup = nil end

local function trimmed(text)
  local length
  repeat
    length = #text
    text = text:gsub("%s+$", "")
    for _, space in ipairs(WIDE_SPACES) do
      if text:sub(-#space) == space then text = text:sub(1, -#space - 1) end
    end
  until #text == length
  return text
end

--- The mark around what was pasted, or the text alone where the version has none.
function Composer:mark(content)
  if not self.profile.wraps_pastes then return content end
  return ('\n\n<pasted_content id="%s">\n%s\n</pasted_content id="%s">\n'):format(self.marker, content, self.marker)
end

--- Text in which nothing is taken for such a mark.
function Composer:escaped(text)
  return self.profile.wraps_pastes and text:gsub("<(/?pasted_content)", "<\\%1") or text
end

--- The message's text: collapsed pastes unfolded, and marked as pastes like those that name a cloud command.
function Composer:unfolded()
  local has_mark = false
  local function marked(content)
    has_mark = has_mark or self.profile.wraps_pastes
    return self:mark(content)
  end
  local text = self:with_pastes(self:escaped(self.text), function(content) return marked(self:escaped(content)) end)
  for _, content in ipairs(self.marked) do
    local from, to = text:find(content, 1, true)
    if from then text = text:sub(1, from - 1) .. marked(content) .. text:sub(to + 1) end
  end
  return has_mark and text or trimmed(text)
end

--- The text with its pastes as they were, or as a function makes them.
function Composer:with_pastes(text, change)
  local function paste(label, number)
    local content = self.pastes[tonumber(number)]
    local is_own = content and (self.profile.replaces_names or label == self.labels[tonumber(number)])
    return is_own and (change and change(content) or content) or nil
  end
  return (text:gsub("(%[Pasted text #(%d+)[^%]]*%])", paste):gsub("(%[%.%.%.Truncated text #(%d+)[^%]]*%])",
    function(label, number)
      local content = self.pastes[tonumber(number)]
      local is_own = content and (self.profile.replaces_names or label == self.labels[tonumber(number)])
      return is_own and content or nil
    end))
end

--- What an editor gets to see.
---@return string
function Composer:held() return self:with_pastes(self.text) end

--- Where a UTF-16 unit of a text begins, and whether it is the second half of a character.
local function place_of(text, wanted)
  local units = 0
  for position, code in utf8.codes(text) do
    if units >= wanted then return position, false end
    units = units + (code > 0xFFFF and 2 or 1)
    if units > wanted then return position, true end
  end
end

--- Leaves the middle of a long text out, as if it had been pasted. A character that is cut in two there is lost on
--- 2.1.332, half by half.
function Composer:truncate()
  local text, length = self.text, utf8.len(self.text) + select(2, self.text:gsub("[\xF0-\xF7]", ""))
  if length <= LONG then return end
  local first, cuts_first = place_of(text, LONG_ENDS)
  local last, cuts_last = place_of(text, length - LONG_ENDS)
  local middle = text:sub(first, last - 1)
  local head, tail = text:sub(1, first - 1), text:sub(last)
  if self.profile.halves_characters then
    if cuts_first then head, middle = head .. LOST, LOST .. middle:sub(utf8.offset(middle, 2)) end
    if cuts_last then middle, tail = middle .. LOST, LOST .. tail:sub(utf8.offset(tail, 2)) end
  end
  self.paste_count = self.profile.counts_long_texts and self.paste_count + 1 or 1
  local number = self.paste_count
  local label = ("[...Truncated text #%d +%d lines...]"):format(number, select(2, middle:gsub("\n", "")))
  self.pastes[number], self.labels[number] = middle, label
  self.text = head .. label .. tail
end

--- Folds what was pasted before, where it still stands.
function Composer:fold(text, pastes)
  for number, content in pairs(pastes) do
    local from, to = text:find(content, 1, true)
    if from then
      local newlines = select(2, content:gsub("\n", ""))
      local label = ("[Pasted text #%d%s]"):format(number, newlines > 0 and (" +%d lines"):format(newlines) or "")
      self.pastes[number], self.labels[number] = content, label
      text = text:sub(1, from - 1) .. label .. text:sub(to + 1)
    end
  end
  return text
end

--- Takes what an editor has left. Nothing in it is a key or a paste.
---@param text string
function Composer:replace(text)
  text = assert(core.text.nfc(text_of.valid(text)))
  if not self.profile.editor_keeps_returns then text = text:gsub("\r\n?", "\n") end
  if text:sub(-1) == "\n" and text:sub(-2) ~= "\n\n" then text = text:sub(1, -2) end
  local before = self.pastes
  self.pastes, self.labels, self.marked, self.last_paste = {}, {}, {}, nil
  self.text = self:fold(text, before)
  self:truncate()
  self.cursor = #self.text
  self.open_popup = find_popup(self)
end

--- Takes the chosen command in the place of what was typed.
---@return boolean is_whole  its arguments are not asked for first
local function choose_command(self, name)
  local has_arguments = self.commands[name].arguments ~= nil
  self:close_popup()
  self.text = "/" .. name .. (has_arguments and " " or "")
  self.cursor = #self.text
  return not has_arguments
end

--- Presses Return.
---@return {text: string, is_shell: boolean}? taken  nil when nothing is sent, whatever else happened
function Composer:submit()
  if self:milliseconds_to_settle() > 0 then return nil end
  local popup = self.open_popup
  if popup and popup.chosen and not choose_command(self, popup.chosen) then return nil end
  if popup and popup.holds then
    if self.cursor < #self.text and self.profile.file_popup_holds then return nil end -- and it stays open
    self:delete(self.cursor - #popup.token, self.cursor)
    self:insert(popup.choices[1])
    self:close_popup()
    return nil
  end
  if self.cursor > 0 and self.text:sub(self.cursor, self.cursor) == "\\" then
    self:delete(self.cursor - 1, self.cursor)
    self:insert "\n"
    return nil
  end
  local text = self:unfolded()
  if not text:find "%S" and not self.is_shell then
    self:clear()
    return nil
  end
  local taken = { text = text, is_shell = self.is_shell }
  local notice
  if self.profile.strips_invisible then
    if text_of.has_direction_marks(self.text) then -- what could mislead is shown to the user first
      self.text = text_of.without_invisible(self.text)
      self.cursor = #self.text
      self.notice = "Removed invisible characters · review and press Enter to send"
      return nil
    end
    local removed
    taken.text, removed = text_of.without_invisible(text)
    notice = removed > 0 and "Removed invisible characters from your prompt" or nil
  end
  self:clear()
  self.notice = notice
  return taken
end

return M
