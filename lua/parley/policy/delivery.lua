--- How a message gets into the composer: as it was given, or not at all.
---
--- To replace it, return a table with any of these functions. They get and return plain data and must not wait; the
--- session writes the keys, watches the composer, presses Enter and compares the receipt.
---
--- What is done to a text before it is typed (`prepare`), because every version does it, or some do:
---  * CRLF and CR become LF; a tab becomes four spaces; trailing white space goes; Unicode is composed (NFC).
--- What would not arrive as it is is refused: see `prepare`.
local core = require "parley.core"

local M = {}

local PASTE, END_PASTE = "\27[200~", "\27[201~"
local CTRL_A, CTRL_D, CTRL_E, CTRL_U, BACKSPACE = "\1", "\4", "\5", "\21", "\127"

--- A paste of more is shown collapsed, and 2.1.330 wraps it in <pasted_content> on its way to the model.
local PASTE_UNITS, PASTE_NEWLINES = 800, 2
--- Typing a text in pastes of that size costs about 50 ms for each kB of it.
local TYPED_LIMIT = 100 * 1024

--- Words that end the program when they are the whole message.
local EXIT_WORDS = { exit = true, quit = true, [":q"] = true, [":q!"] = true, [":wq"] = true, [":wq!"] = true }

--- Characters that 2.1.330 takes out of a message, or turns into line breaks.
local REMOVED = {
  { 0x2028, 0x2029 }, { 0xAD, 0xAD }, { 0x34F, 0x34F }, { 0x115F, 0x1160 }, { 0x17B4, 0x17B5 }, { 0x180B, 0x180E },
  { 0x200B, 0x200B }, { 0x2060, 0x2065 }, { 0x206A, 0x206F }, { 0x3164, 0x3164 }, { 0xFEFF, 0xFEFF }, { 0xFFA0, 0xFFA0 },
  { 0xFFF9, 0xFFFB }, { 0xE0100, 0xE01EF },
}
--- Those that it keeps in scripts and sequences that need them, and takes out between Latin letters.
local JOINERS = { [0x200C] = true, [0x200D] = true }
local BIDI = { { 0x200E, 0x200F }, { 0x202A, 0x202E }, { 0x2066, 0x2069 } }

local function is_in(code, ranges)
  for _, range in ipairs(ranges) do
    if code >= range[1] and code <= range[2] then return true end
  end
  return false
end

--- Finds the first character that would not arrive.
local function undeliverable(text)
  local before = 0
  local has_rtl = text:find "[\xD6-\xDF]" ~= nil or text:find "\xE0[\xA0-\xA3]" ~= nil
  for position, code in utf8.codes(text) do
    if code < 32 and code ~= 10 or code >= 127 and code < 160 then return position, code, "would be taken as a key" end
    if code > 127 then
      local lost = is_in(code, REMOVED) or JOINERS[code] and before < 0x250 or not has_rtl and is_in(code, BIDI)
      if lost then return position, code, "is invisible, and the program takes it out" end
    end
    before = code
  end
end

---@class parley.DeliveryOptions
---@field long_text? "typed"|"pasted"|"refuse"  a text over 100 kB is typed all the same, pasted (2.1.330 then wraps it
---                                           in <pasted_content>), or refused; default "pasted"
---@field mentions? "allow"|"refuse"            `@path` in a message attaches the file; default "allow"

--- Normalises a message, or says why it cannot be delivered as it is.
---@param text string
---@param options parley.DeliveryOptions
---@return string? prepared
---@return string? why
function M.prepare(text, options)
  local valid, position = utf8.len(text)
  if not valid then return nil, ("byte %d is not valid UTF-8"):format(position) end
  text = assert(core.text.nfc(text:gsub("\r\n?", "\n"):gsub("\t", "    "):gsub("%s+$", ""), nil))
  if not text:find "%S" then return nil, "there is nothing in it to send" end
  local at, code, problem = undeliverable(text)
  if at then return nil, ("the character U+%04X at byte %d %s"):format(code, at, problem) end
  local trimmed = text:match "^%s*(.*)$"
  if EXIT_WORDS[trimmed] then return nil, ("the program ends itself on the message '%s'"):format(trimmed) end
  local command = trimmed:match "^/[%w:_-]*%f[%s\0]"
  if command then
    return nil, ("the program would run it as the command '%s'; session:command sends commands"):format(command)
  end
  if options.mentions == "refuse" and (" " .. text):find "[%s]@[%w./~\"_-]" then
    return nil, "it mentions a file (@path), which would be attached"
  end
  if options.long_text == "refuse" and #text > TYPED_LIMIT then
    return nil, ("it has %d bytes, more than the %d that can be typed as they are"):format(#text, TYPED_LIMIT)
  end
  return text
end

local function utf16_length(text)
  return utf8.len(text) + select(2, text:gsub("[\xF0-\xF7]", ""))
end

--- Cuts a text into pieces that are each shown, and sent, as they are.
local function pieces_of(text)
  local pieces, piece, units, newlines = {}, {}, 0, 0
  local function flush()
    if #piece > 0 then table.insert(pieces, table.concat(piece)) end
    piece, units, newlines = {}, 0, 0
  end
  for char in text:gmatch(utf8.charpattern) do
    local is_newline = char == "\n"
    local size = #char > 3 and 2 or 1
    if units + size > PASTE_UNITS or is_newline and newlines == PASTE_NEWLINES then flush() end
    table.insert(piece, char)
    units = units + size
    if is_newline then newlines = newlines + 1 end
  end
  flush()
  return pieces
end

local function is_short(text)
  return utf16_length(text) <= PASTE_UNITS and select(2, text:gsub("\n", "")) <= PASTE_NEWLINES
end

--- A version that was seen to send a long paste as it is.
local function keeps_pastes(view)
  local major, minor, patch = (view.version or ""):match "^(%d+)%.(%d+)%.(%d+)$"
  return major ~= nil and not view.modes.alternate_screen
    and tonumber(major) == 2 and tonumber(minor) <= 1 and tonumber(patch) <= 197
end

---@class parley.Step
---@field keys string    bytes to write
---@field holds string   what the composer must hold before the next step
---@field cursor? "start"|"end"  and where the cursor must be

--- The keys that put a prepared text into the composer, Enter not among them.
---
--- A `!` in front would switch the shell mode on: it is pasted behind a space, which is deleted then. The space behind
--- the text, which the program trims, closes the pop-ups that `@part` and `:word` open, and keeps a `\` from making a
--- new line of Enter.
---@param text string
---@param view parley.View
---@param options parley.DeliveryOptions
---@return parley.Step[]
function M.keystrokes(text, view, options)
  local steps, rest = {}, text .. " "
  local function add(keys, holds, cursor) table.insert(steps, { keys = keys, holds = holds, cursor = cursor }) end
  local before = ""
  if text:sub(1, 1) == "!" then
    add(PASTE .. " !" .. END_PASTE, " !")
    add(CTRL_A, " !", "start") -- each key is seen to work before the next: they overtake each other
    add(CTRL_D, "!", "start")
    add(CTRL_E, "!", "end")
    before, rest = "!", rest:sub(2)
  end
  if is_short(rest) then
    add(PASTE .. rest .. END_PASTE, text)
  elseif keeps_pastes(view) or options.long_text ~= "typed" and #text > TYPED_LIMIT then
    add(PASTE .. rest:sub(1, -2) .. END_PASTE, text) -- shown collapsed, and not trimmed
  elseif view.modes.alternate_screen then -- this renderer takes pastes one after the other, and in order
    local keys = {}
    for i, piece in ipairs(pieces_of(rest)) do keys[i] = PASTE .. piece .. END_PASTE end
    add(table.concat(keys), text)
  else
    for _, piece in ipairs(pieces_of(rest)) do
      before = before .. piece
      add(PASTE .. piece .. END_PASTE, before)
    end
  end
  return steps
end

--- The keys that send what the composer holds.
M.enter = "\r"

--- The keys that empty a composer, line by line from the end. A lone Backspace leaves the shell mode.
---@param composer parley.Composer
---@return string
function M.clear(composer)
  if composer.shell and composer.text == "" then return BACKSPACE end
  local lines = 1 + select(2, composer.text:gsub("\n", ""))
  return CTRL_E .. (CTRL_U .. BACKSPACE):rep(math.max(30, lines + 2))
end

local function without_space(text)
  return (text:gsub("\u{A0}", ""):gsub("%s+", ""))
end

--- What a terminal surely draws one cell for.
local function plain(text)
  return (text:gsub("[^\33-\126]", ""))
end

--- Compares what the composer shows with what it should hold. It wraps at spaces and collapses a long paste, so white
--- space does not count, and a collapsed paste is known by its number of lines.
---@param composer parley.Composer
---@param text string
---@return "whole"|"empty"|"other"
function M.holds(composer, text)
  if composer.shell then return "other" end
  local shown, wanted = without_space(composer.text), without_space(text)
  local before, collapsed = shown:match "^(.-)%[Pastedtext#%d+(.-)%]$"
  if before then
    if is_short(text) or wanted:sub(1, #before) ~= before then return "other" end
    local newlines = select(2, text:gsub("\n", ""))
    return (collapsed == "" or tonumber(collapsed:match "^%+(%d+)lines?$") == newlines) and "whole" or "other"
  end
  if composer.scrolled then
    if shown ~= "" and wanted:sub(-#shown) == shown then return "whole" end
    local visible = plain(shown)
    return visible ~= "" and plain(wanted):sub(-#visible) == visible and "whole" or "other"
  end
  local is_indented_alike = composer.text:match "^ *" == text:match "^ *"
  if shown == wanted and is_indented_alike then return "whole" end
  if composer.is_empty then return "empty" end
  -- Marks, joined emoji and the like are not drawn as they are spelled.
  if wanted:find "[\x80-\xFF]" and plain(shown) == plain(wanted) and is_indented_alike then return "whole" end
  return "other"
end

--- Compares the receipt, the text of the transcript's user record, with the message.
---@param recorded string
---@param text string
---@return boolean
function M.matches(recorded, text)
  if recorded == text then return true end
  if recorded:gsub("%s+$", "") == text then return true end
  local inside = recorded:match '^%s*<pasted_content id="%w+">\n(.*)\n</pasted_content id="%w+">%s*$'
  return inside ~= nil and inside:gsub("%s+$", "") == text
end

return M
