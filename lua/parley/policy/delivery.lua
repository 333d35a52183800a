--- How a message gets into the composer: as it was given, or not at all.
---
--- To replace it, return a table with any of these functions. They get and return plain data and must not wait; the
--- session writes the keys, watches the composer, presses Enter and compares the receipt.
---
--- What is done to a text before it is typed (`prepare`), all of it documented:
---  * CRLF and CR become LF; a tab becomes four spaces; trailing white space goes: so the program does itself.
--- What cannot arrive as it is is refused: see `prepare`.
local M = {}

local PASTE, END_PASTE = "\27[200~", "\27[201~"
local CTRL_A, CTRL_D, CTRL_E, CTRL_K, CTRL_U = "\1", "\4", "\5", "\11", "\21"

--- A paste of more is shown collapsed, and 2.1.330 wraps it in <pasted_content> on its way to the model.
local PASTE_UNITS, PASTE_NEWLINES = 800, 2
--- Typing a text in pastes of that size costs about 50 ms for each kB of it.
local TYPED_LIMIT = 100 * 1024

--- Words that end the program when they are the whole message.
local EXIT_WORDS = { exit = true, quit = true, [":q"] = true, [":q!"] = true, [":wq"] = true, [":wq!"] = true }

local function control_character(text)
  for position, code in utf8.codes(text) do
    if code < 32 and code ~= 10 or code >= 127 and code < 160 then return position, code end
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
  text = text:gsub("\r\n?", "\n"):gsub("\t", "    "):gsub("%s+$", "")
  if not text:find "%S" then return nil, "there is nothing in it to send" end
  local at, code = control_character(text)
  if at then return nil, ("the control character U+%04X at byte %d would be taken as a key"):format(code, at) end
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

--- The keys that put a prepared text into the composer, Enter not among them.
---
--- A `!` in front would switch the shell mode on: it is pasted behind a space, which is deleted then. A trailing `\`, or a
--- word that opens a pop-up (`@…`, `:…`), gets a space behind it, which the program trims.
---@param text string
---@param view parley.View
---@param options parley.DeliveryOptions
---@return parley.Step[]
function M.keystrokes(text, view, options)
  local steps, sent = {}, ""
  local function add(keys, part)
    sent = sent .. part
    table.insert(steps, { keys = keys, holds = sent })
  end
  local rest = text
  if rest:sub(1, 1) == "!" then
    add(PASTE .. " !" .. END_PASTE, " !")
    sent = ""
    add(CTRL_A .. CTRL_D .. CTRL_E, "!")
    rest = rest:sub(2)
  end
  local tail = (text:find "\\$" or text:find "[@:]%S*$") and " " or ""
  local whole = is_short(rest .. tail) or keeps_pastes(view)
    or options.long_text ~= "typed" and #text > TYPED_LIMIT
  if rest == "" and tail == "" then return steps end
  if whole then
    add(PASTE .. rest .. tail .. END_PASTE, rest .. tail)
  elseif view.modes.alternate_screen then -- this renderer takes pastes one after the other, and in order
    local keys = {}
    for i, piece in ipairs(pieces_of(rest .. tail)) do keys[i] = PASTE .. piece .. END_PASTE end
    add(table.concat(keys), rest .. tail)
  else
    for _, piece in ipairs(pieces_of(rest .. tail)) do add(PASTE .. piece .. END_PASTE, piece) end
  end
  return steps
end

--- The keys that send what the composer holds.
M.enter = "\r"

--- The keys that empty a composer: from the end, line by line.
---@param composer parley.Composer
---@return string
function M.clear(composer)
  local lines = 1 + select(2, composer.text:gsub("\n", ""))
  return (CTRL_E .. CTRL_U .. CTRL_K .. "\127"):rep(lines + 1)
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
  if composer.is_empty then return "empty" end
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
  if composer.text:match "^ *" ~= text:match "^ *" then return "other" end
  if shown == wanted then return "whole" end
  -- Marks, joined emoji and the like are not drawn as they are spelled.
  if wanted:find "[\x80-\xFF]" and plain(shown) == plain(wanted) then return "whole" end
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
