--- How a message gets into the composer: as it was given, or not at all.
---
--- To replace it, return a table with any of these functions. They get and return plain data and must not wait; the
--- session writes the keys, watches the composer, presses Enter and compares the receipt.
---
--- What is done to a text before it is typed (`prepare`), because every version does it, or some do:
---  * CRLF and CR become LF; a tab becomes four spaces; trailing white space goes; Unicode is composed (NFC).
--- What would not arrive as it is, on one version or on all, is refused: invalid UTF-8, control characters, characters
--- that are taken out for being invisible, commands, words that end the program, the program's own mark of a paste, a
--- picture's path in a text that is too long to be typed, and nothing at all.
local contract = require "parley.policy.contract"
local core = require "parley.core"
local uv = require "luv"

local M = {}

M.contract = {
  prepare = { returns = "a string", or_nil = "nil and a reason", second = "string" },
  keystrokes = { returns = "a list of {keys = string, holds = string, cursor = 'start'|'end'?, rest_ms = number?}" },
  holds = contract.one_of { "whole", "empty", "other" },
  clear = { returns = "a string" },
  matches = { returns = "a boolean" },
  enter = { setting = "string" },
}

local PASTE, END_PASTE = "\27[200~", "\27[201~"
local CTRL_K, CTRL_U, BACKSPACE = "\11", "\21", "\127"
--- Users give Ctrl-A and Ctrl-E, which do the same, other things to do.
local HOME, END, DELETE = "\27[H", "\27[F", "\27[3~"

--- A paste of more is shown collapsed, and 2.1.330 wraps it in <pasted_content> on its way to the model.
local PASTE_UNITS, PASTE_NEWLINES = 800, 2
--- Typing a text in pastes of that size costs about 50 ms for each kB of it.
local TYPED_LIMIT = 100 * 1024

local PASTE_REST_MS = 130

--- Words that end the program when they are the whole message.
local EXIT_WORDS = { exit = true, quit = true, [":q"] = true, [":q!"] = true, [":wq"] = true, [":wq!"] = true }

--- Characters that 2.1.330 takes out of a message, or turns into line breaks.
local REMOVED = {
  { 0x2028, 0x2029 }, { 0xAD, 0xAD }, { 0x34F, 0x34F }, { 0x115F, 0x1160 }, { 0x17B4, 0x17B5 }, { 0x180B, 0x180F },
  { 0x200B, 0x200B }, { 0x2060, 0x2065 }, { 0x206A, 0x206F }, { 0x3164, 0x3164 }, { 0xFEFF, 0xFEFF },
  { 0xFFA0, 0xFFA0 }, { 0xFFF0, 0xFFFB }, { 0x1BCA0, 0x1BCA3 }, { 0x1D173, 0x1D17A }, { 0xE0000, 0xE0FFF },
}
--- Those that it keeps where a script or an emoji needs them, and takes out between Latin letters.
local JOINERS = { { 0x200C, 0x200D } }
local JOINABLE = { { 0x590, 0xDFF }, { 0x2190, 0x2BFF }, { 0xFE0F, 0xFE0F }, { 0x1F000, 0x1FAFF } }
local BIDI = { { 0x61C, 0x61C }, { 0x200E, 0x200F }, { 0x202A, 0x202E }, { 0x2066, 0x2069 } }
--- The letters of a flag: behind a black flag, or behind another of them.
local TAGS, FLAG = { { 0xE0020, 0xE007F } }, 0x1F3F4

local function is_in(code, ranges)
  for _, range in ipairs(ranges) do
    if code >= range[1] and code <= range[2] then return true end
  end
  return false
end

--- Finds the first character that would not arrive.
---@param text string  valid UTF-8
---@return integer? position  nil when all would
---@return integer? code
---@return string? why
function M.undeliverable(text)
  local before, in_flag = 0, false
  local letters = text:gsub("\u{61C}", "")
  local has_rtl = letters:find "[\xD6-\xDF]" ~= nil or letters:find "\xE0[\xA0-\xA3]" ~= nil
  for position, code in utf8.codes(text) do
    if code < 32 and code ~= 10 or code >= 127 and code < 160 then return position, code, "would be taken as a key" end
    if code > 127 then
      local is_tag = is_in(code, TAGS)
      local is_lost = is_in(code, REMOVED) and not (is_tag and in_flag)
        or is_in(code, JOINERS) and not is_in(before, JOINABLE) or is_in(code, BIDI) and not has_rtl
      if is_lost then return position, code, "is invisible, and the program takes it out" end
      in_flag = code == FLAG or is_tag and in_flag
    else
      in_flag = false
    end
    before = code
  end
end

--- White space as JavaScript trims it, besides what `%s` knows.
local SPACES = { [0xA0] = true, [0x1680] = true, [0x202F] = true, [0x205F] = true, [0x3000] = true }
for code = 0x2000, 0x200A do SPACES[code] = true end

--- A pattern that begins with spaces would be tried at each space of a text, and take seconds for 40 kB of them.
local function without_ascii_space(text) return text:match "^.*%S" or "" end

local function without_trailing_space(text)
  while true do
    text = without_ascii_space(text)
    local start = utf8.offset(text, -1)
    if not start or not SPACES[utf8.codepoint(text, start)] then return text end
    text = text:sub(1, start - 1)
  end
end

local function without_leading_space(text)
  for position, code in utf8.codes(text) do
    if not (SPACES[code] or code == 32 or code == 10) then return text:sub(position) end
  end
  return ""
end

--- Whether the program tells what it is doing: 2.1.197 and later do.
local function has_status(view) return view.status ~= nil and view.status.status ~= nil end

--- The command that the program would see in a message. 2.1.330 looks behind leading white space. Whatever comes near a
--- command's name is taken for it, `/exit.` for `/exit`, but no path; on 2.1.110, which tells no status, paths too.
local function command_in(text, trimmed, view)
  local name = trimmed:match "^/[%w:_-]*%f[%s\0]"
  if name then return name end
  local word = text:match "^/%w[^%s]*"
  if word and (not word:find("/", 2, true) or view and not has_status(view)) then return word end
end

---@class parley.DeliveryOptions
---@field long_text? "typed"|"pasted"|"refuse"  a text over 100 kB is typed all the same, pasted (2.1.330 then wraps it
---                                           in <pasted_content>), or refused; default "pasted"
---@field mentions? "allow"|"refuse"            `@path` in a message attaches the file; default "allow"

local function utf16_length(text)
  return utf8.len(text) + select(2, text:gsub("[\xF0-\xF7]", ""))
end

local function is_short(text)
  return utf16_length(text) <= PASTE_UNITS and select(2, text:gsub("\n", "")) <= PASTE_NEWLINES
end

--- A version that was seen to send a long paste as it is.
local function keeps_pastes(view)
  local major, minor, patch = (view and view.version or ""):match "^(%d+)%.(%d+)%.(%d+)$"
  return major ~= nil and not view.modes.alternate_screen
    and tonumber(major) == 2 and tonumber(minor) <= 1 and tonumber(patch) <= 197
end

--- What the program looks for in each paste, and cannot find in one that ends within it: a word that has 2.1.330 mark
--- the paste as one, and the ends of paths of pictures, which it attaches in place of their lines. It reads paths
--- without their backslashes.
local SOUGHT = {}
for i, word in ipairs { "ultraplan", ".png", ".jpg", ".jpeg", ".gif", ".webp" } do
  local letters = {}
  for letter in word:gmatch "." do
    table.insert(letters, letter == "." and "%." or ("[%s%s]"):format(letter, letter:upper()))
  end
  SOUGHT[i] = table.concat(letters, "\\*")
end

--- Where to end a paste so that none holds a sought word: behind the first letter of each.
local function cuts_in(text)
  local cuts = {}
  for _, pattern in ipairs(SOUGHT) do
    for position in text:gmatch("()" .. pattern) do cuts[position + 1] = true end
  end
  return cuts
end

--- The path that a part of a line is for the program, if that is of a picture: quotes and backslashes do not count.
local function picture_of(part)
  local path = without_ascii_space(part):match "^%s*(.*)$"
  path = (path:match '^"(.*)"$' or path:match "^'(.*)'$" or path):gsub("\\(.)", "%1")
  local ending = path:match "^/.*%.(%a+)$"
  if not ending or not (" png jpg jpeg gif webp "):find(" " .. ending:lower() .. " ", 1, true) then return nil end
  local found = uv.fs_stat(path)
  return found and found.type == "file" and found.size > 0 and path or nil
end

--- The first picture that the program would attach in place of its path, were the text pasted as it is. The path
--- stands on a line of its own, or among others; on 2.1.197 behind a sentence, too.
local function picture_in(text, view)
  local is_strict = view ~= nil and view.modes.alternate_screen
  for line in text:gmatch "[^\n]+" do
    if not is_strict or line:find "^%s*['\"]?/" then
      for part in line:gsub(" (['\"]?/)", "\n%1"):gmatch "[^\n]+" do
        local path = picture_of(part)
        if path then return path end
      end
    end
  end
end

--- The last version that knows no mark of a paste. Later ones escape the mark where it stands in a message.
local UNMARKED = 250

--- Whether the program may know the mark that it puts around a paste.
local function knows_mark(view)
  local patch = tonumber((view and view.version or ""):match "^2%.1%.(%d+)$")
  return not patch or patch > UNMARKED
end

--- Whether the mark stands in a text, as the program finds it: `<` or what looks like it, then the name, with signs and
--- spaces between.
local function has_mark(text)
  local plain = text:lower():gsub("\u{FF1C}", "<"):gsub("\u{2039}", "<")
  local first = 1
  for position, stop in plain:gmatch "()pasted[_-]content%f[^%w_-]()" do
    local between = plain:sub(first, position - 1)
    if between:find("<", between:match "^.*[%w_]()" or 1, true) then return true end
    first = stop
  end
  return false
end

--- Whether a text goes into the composer in one paste that is shown collapsed.
local function is_collapsed(text, view, options)
  if is_short(text .. " ") then return false end
  return keeps_pastes(view) or options.long_text ~= "typed" and #text > TYPED_LIMIT
end

--- Normalises a message, or says why it cannot be delivered as it is.
---@param text string
---@param options parley.DeliveryOptions
---@param view? parley.View  of the program that is to get it; without one, what holds for every version
---@return string? prepared
---@return string? why
function M.prepare(text, options, view)
  local valid, position = utf8.len(text)
  if not valid then return nil, ("byte %d is not valid UTF-8"):format(position) end
  text = without_trailing_space((text:gsub("\r\n?", "\n"):gsub("\t", "    ")))
  text = assert(core.text.nfc(text))
  local trimmed = without_leading_space(text)
  if trimmed == "" then return nil, "there is nothing in it to send" end
  local at, code, problem = M.undeliverable(text)
  if at then return nil, ("the character U+%04X at byte %d %s"):format(code, at, problem) end
  if EXIT_WORDS[trimmed] then return nil, ("the program ends itself on the message '%s'"):format(trimmed) end
  local command = command_in(text, trimmed, view)
  if command then
    return nil, ("the program would run it as the command '%s'; session:command sends commands"):format(command)
  end
  if options.mentions == "refuse" and (" " .. text):find "[%s]@[%w./~\"_-]" then
    return nil, "it mentions a file (@path), which would be attached"
  end
  if options.long_text == "refuse" and #text > TYPED_LIMIT and not keeps_pastes(view) then
    return nil, ("it has %d bytes, more than the %d that can be typed as they are"):format(#text, TYPED_LIMIT)
  end
  if knows_mark(view) and has_mark(text) then
    return nil, "it holds '<pasted_content', with which the program marks pastes, and which it would change"
  end
  local picture = is_collapsed(text, view, options) and picture_in(text, view)
  if picture then
    return nil, ("the program would attach the picture '%s' in place of its path; a text so long cannot be typed")
      :format(picture)
  end
  return text
end

local function without_space(text)
  return (text:gsub("\u{A0}", ""):gsub("%s+", ""))
end

--- Cuts a text into pieces that are each shown, and sent, as they are.
local function pieces_of(text)
  local pieces, piece, units, newlines = {}, {}, 0, 0
  local cuts = cuts_in(text)
  local function flush()
    if #piece > 0 then table.insert(pieces, table.concat(piece)) end
    piece, units, newlines = {}, 0, 0
  end
  for position, char in text:gmatch("()(" .. utf8.charpattern .. ")") do
    local is_newline = char == "\n"
    local size = #char > 3 and 2 or 1
    if cuts[position] or units + size > PASTE_UNITS or is_newline and newlines == PASTE_NEWLINES then flush() end
    table.insert(piece, char)
    units = units + size
    if is_newline then newlines = newlines + 1 end
  end
  flush()
  return pieces
end

---@class parley.Step
---@field keys string    bytes to write
---@field holds string   what the composer must hold before the next step
---@field cursor? "start"|"end"  and where the cursor must be
---@field rest_ms? number  how long it must have held that before the next step, or Enter

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
  -- 2.1.110 swallows one Enter in five that follows a paste within 110 ms, and none that follows plain keys.
  local is_plain = not has_status(view) and is_short(rest) and not rest:find "[\n]"
  local rest_ms = not has_status(view) and PASTE_REST_MS or nil
  local function add(keys, holds, cursor)
    table.insert(steps, { keys = keys, holds = holds, cursor = cursor, rest_ms = rest_ms })
  end
  local before = ""
  if text:sub(1, 1) == "!" then
    add(PASTE .. " !" .. END_PASTE, " !")
    add(HOME, " !", "start") -- each key is seen to work before the next: they overtake each other
    add(DELETE, "!", "start")
    add(END, "!", "end")
    before, rest = "!", rest:sub(2)
  end
  if is_plain and text:sub(1, 1) ~= "!" then
    rest_ms = nil
    add(rest, text)
  elseif is_short(rest) and not next(cuts_in(rest)) then
    add(PASTE .. rest .. END_PASTE, text)
  elseif is_collapsed(text, view, options) then
    add(PASTE .. rest:sub(1, -2) .. END_PASTE, text) -- shown collapsed, and not trimmed
  elseif view.modes.alternate_screen then -- this renderer takes pastes one after the other, and in order
    local keys, pieces = {}, pieces_of(rest)
    for i, piece in ipairs(pieces) do keys[i] = PASTE .. piece .. END_PASTE end
    -- A program that shows the beginning takes keys, and loses none from then on. That it lost the beginning would not
    -- show behind all the others.
    local first = 1
    while first < #pieces and without_space(table.concat(pieces, "", 1, first)) == "" do first = first + 1 end
    add(table.concat(keys, "", 1, first), before .. table.concat(pieces, "", 1, first))
    if first < #keys then add(table.concat(keys, "", first + 1), text) end
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

--- The keys that empty a composer, line by line: what is behind the cursor, then what is before it. A lone Backspace
--- leaves the shell mode. Delete has several bytes, which a long write may tear apart: it is pressed only for the rows
--- below the cursor, or a few where some may be out of sight.
---@param composer parley.Composer
---@return string
function M.clear(composer)
  if composer.shell and composer.text == "" then return BACKSPACE end
  local lines = 1 + select(2, composer.text:gsub("\n", "")) + composer.hidden
  if composer.scrolled and composer.hidden == 0 then lines = 1000 end -- how many are out of sight is not said
  local times = math.max(30, lines + 2)
  local below = composer.scrolled and math.max(30, composer.below) or composer.below
  return CTRL_K .. (DELETE .. CTRL_K):rep(below) .. (CTRL_U .. BACKSPACE):rep(times)
end

--- What a terminal surely draws one cell for.
local function plain(text)
  return (text:gsub("[^\33-\126]", ""))
end

--- Whether two texts begin with as many spaces. A row that shows nothing else was wrapped behind them.
local function is_indented_alike(shown, wanted)
  local indent, following = shown:match "^( *)(.?)"
  return following == "" or following == "\n" or indent == wanted:match "^ *"
end

--- Marks, joined emoji and the like are not drawn as they are spelled: most of it must be there, and all plain
--- characters.
local function is_drawn_alike(shown, wanted)
  return wanted:find "[\x80-\xFF]" ~= nil and plain(shown) == plain(wanted)
    and 2 * (utf8.len(shown) or 0) >= utf8.len(wanted)
end

--- Compares what the composer shows with what it should hold. It wraps at spaces and collapses a long paste, so white
--- space does not count, and a collapsed paste is known by its number of lines.
---@param composer parley.Composer
---@param text string
---@return "whole"|"empty"|"other"
function M.holds(composer, text)
  if composer.shell then return "other" end
  local shown, wanted = without_space(composer.text), without_space(text)
  local is_indented = is_indented_alike(composer.text, text)
  if shown == wanted and is_indented and not composer.scrolled then return "whole" end
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
  if composer.is_empty then return "empty" end
  return is_drawn_alike(shown, wanted) and is_indented and "whole" or "other"
end

--- Compares the receipt, the text of the transcript's user record, with the message.
---@param recorded string
---@param text string
---@param options? parley.DeliveryOptions  a text that goes in one paste, as `long_text` has it, may be marked as one
---@return boolean
function M.matches(recorded, text, options)
  if recorded == text then return true end
  if without_ascii_space(recorded) == text then return true end
  if not options or options.long_text ~= "pasted" or #text <= TYPED_LIMIT then return false end
  local inside = recorded:match '^%s*<pasted_content id="%w+">\n(.*)\n</pasted_content id="%w+">%s*$'
  return inside ~= nil and without_ascii_space(inside) == text
end

return M
