--- How a message gets into the composer: as it was given, or not at all.
---
--- To replace it, return a table with any of these functions. They get and return plain data and must not wait; the
--- session writes the keys, watches the composer, presses Enter and compares the receipt.
---
--- A text that is short and plain is typed; all others go through the program's own editor, which is exact on every
--- version.
---
--- What is done to a text first (`prepare`), because every version does it, or some do:
---  * CRLF and CR become LF; trailing white space goes; Unicode is composed (NFC).
--- What would not arrive as it is, on one version or on all, is refused: invalid UTF-8, control characters, characters
--- that are taken out for being invisible, commands, words that end the program, the program's own mark of a paste, and
--- nothing at all.
local contract = require "parley.policy.contract"
local core = require "parley.core"
local keys = require "parley.claude.keys"
local tabs = require "parley.claude.tabs"

local M = {}

M.contract = {
  prepare = {
    returns = "a string", or_nil = "nil and a reason", second = "string",
    fits = function(text) return type(text) == "string" and text ~= "", text == "" and "an empty one" end,
  },
  keystrokes = {
    returns = "a list of {keys = string?, editor = string?, holds = string, rest_ms = number?}",
    or_nil = "nil and why", second = "string",
    fits = function(steps)
      for _, step in ipairs(steps) do
        if (step.keys == nil) == (step.editor == nil) then return false, "a step of none of the two, or both" end
        local rest_ms = step.rest_ms or 0
        if not (rest_ms >= 0 and rest_ms < math.huge) then return false, "a step whose 'rest_ms' is " .. rest_ms end
      end
      return true
    end,
  },
  holds = contract.one_of { "whole", "empty", "other" },
  argument = {
    returns = "a string", or_nil = "nil",
    fits = function(word)
      if type(word) ~= "string" then return false end
      local has_nul = word:find("\0", 1, true) ~= nil
      return word ~= "" and not has_nul, has_nul and "one with a NUL byte" or "an empty one"
    end,
  },
  clear = { returns = "a string" },
  matches = { returns = "a boolean" },
  enter = { setting = "string" },
}

--- A paste of more is shown collapsed; 2.1.330 wraps it in <pasted_content> on its way to the model, and other versions
--- lose lines of it.
local PASTE_UNITS, PASTE_NEWLINES = 800, 2

local PASTE_REST_MS = 130

--- Words that end the program when they are the whole message.
local EXIT_WORDS = { exit = true, quit = true, [":q"] = true, [":q!"] = true, [":wq"] = true, [":wq!"] = true }

--- Characters that 2.1.330 takes out of a message, or turns into line breaks. 2.1.332 does so with those that embed a
--- direction, in any text.
local REMOVED = {
  { 0x2028, 0x2029 }, { 0xAD, 0xAD }, { 0x34F, 0x34F }, { 0x115F, 0x1160 }, { 0x17B4, 0x17B5 }, { 0x180B, 0x180F },
  { 0x200B, 0x200B }, { 0x202A, 0x202E }, { 0x2060, 0x206F }, { 0x3164, 0x3164 }, { 0xFEFF, 0xFEFF },
  { 0xFFA0, 0xFFA0 }, { 0xFFF0, 0xFFFB }, { 0x1BCA0, 0x1BCA3 }, { 0x1D173, 0x1D17A }, { 0xE0000, 0xE0FFF },
}
--- Those that it keeps where a script or an emoji needs them, and takes out between Latin letters.
local JOINERS, JOINER = { { 0x200C, 0x200D } }, 0x200D
local JOINABLE = { { 0x600, 0xDFF } } -- Arabic and the scripts of India, not Hebrew
local STYLES, EMOJI_STYLE, KEYCAP = { { 0xFE0E, 0xFE0F } }, 0xFE0F, 0x20E3
local TONES = { { 0x1F3FB, 0x1F3FF } }
local BIDI = { { 0x61C, 0x61C }, { 0x200E, 0x200F } }
--- What makes a black flag that of England, Scotland or Wales; of others it knows no letters.
local FLAG, FLAGS = 0x1F3F4, {}
for i, name in ipairs { "gbeng", "gbsct", "gbwls" } do
  FLAGS[i] = name:gsub(".", function(letter) return utf8.char(0xE0000 + letter:byte()) end) .. utf8.char(0xE007F)
end

local function is_in(code, ranges)
  for _, range in ipairs(ranges) do
    if code >= range[1] and code <= range[2] then return true end
  end
  return false
end

--- What a terminal takes as a key.
local CONTROLS = { { 0, 8 }, { 11, 31 }, { 127, 159 } }

--- The blocks of eight characters in which any of these stand: of most texts few characters are in one.
local SUSPECT = {}
for _, ranges in ipairs { CONTROLS, REMOVED, JOINERS, STYLES, BIDI } do
  for _, range in ipairs(ranges) do
    for block = range[1] >> 3, range[2] >> 3 do SUSPECT[block] = true end
  end
end

--- Whether a joiner joins something.
local function is_joined(code, before, after)
  if is_in(before, JOINABLE) then return true end
  local is_picture = before == EMOJI_STYLE or is_in(before, TONES) or core.text.is_pictograph(before)
  return code == JOINER and is_picture and core.text.is_pictograph(after)
end

--- Whether a character is a picture that may be drawn in two ways, or the key of a keyboard.
local function is_styled(code, before, after)
  local is_key = code == EMOJI_STYLE and after == KEYCAP and before < 0x80 and utf8.char(before):find "[%d#*]"
  return is_key or core.text.is_pictograph(before)
end

--- How long the letters of a flag are that stand somewhere.
local function flag_at(text, position)
  for _, letters in ipairs(FLAGS) do
    if text:sub(position, position + #letters - 1) == letters then return #letters end
  end
  return 0
end

--- Goes over the characters that would not arrive. For what follows one it is as if another stood there.
---@param text string  valid UTF-8
---@param visit fun(position: integer, code: integer, why: string): boolean?  true when it has seen enough
local function each_undeliverable(text, visit)
  if not text:find "[^\t\n\x20-\x7E]" then return end
  local before, flag_ends = 0, 0
  local letters = text:gsub("\u{61C}", "")
  local has_rtl = letters:find "[\xD6-\xDF]" ~= nil or letters:find "\xE0[\xA0-\xA3]" ~= nil
  for position, code in utf8.codes(text) do
    local why
    if SUSPECT[code >> 3] then
      local following = position + #utf8.char(code)
      local after = following <= #text and utf8.codepoint(text, following) or 0
      local is_lost = is_in(code, REMOVED) and position >= flag_ends
        or is_in(code, JOINERS) and not is_joined(code, before, after)
        or is_in(code, STYLES) and not is_styled(code, before, after) or is_in(code, BIDI) and not has_rtl
      why = is_in(code, CONTROLS) and "would be taken as a key"
        or is_lost and "is invisible, and the program takes it out"
      if why and visit(position, code, why) then return end
    end
    if code == FLAG then flag_ends = position + 4 + flag_at(text, position + 4) end
    before = why and 0 or code
  end
end

--- Finds the first character that would not arrive.
---@param text string  valid UTF-8
---@return integer? position  nil when all would
---@return integer? code
---@return string? why
function M.undeliverable(text)
  local position, code, why
  each_undeliverable(text, function(...)
    position, code, why = ...
    return true
  end)
  return position, code, why
end

--- Puts U+FFFD in the place of each character that would not arrive.
---@param text string  valid UTF-8
---@return string
function M.deliverable(text)
  local parts, first = {}, 1
  each_undeliverable(text, function(position, code)
    table.insert(parts, text:sub(first, position - 1))
    first = position + #utf8.char(code)
  end)
  table.insert(parts, text:sub(first))
  return table.concat(parts, "\u{FFFD}")
end

--- A mention of a file that Parley has written for a message's image.
local ATTACHED = "@/[%w/._-]*/parley%-attached%-[%w-]+/%x+%.%l+%f[%s\0]"

--- White space as JavaScript trims it.
local SPACES = { [0x20] = true, [0xA0] = true, [0x1680] = true, [0x202F] = true, [0x205F] = true, [0x3000] = true }
for code = 0x9, 0xD do SPACES[code] = true end
for code = 0x2000, 0x200A do SPACES[code] = true end

--- Whether the program may see `@path` in a text: behind white space or one of three signs of Chinese, or in quotes
--- anywhere (2.1.332).
local SIGNS = { [0x3001] = true, [0x3002] = true, [0xFF1F] = true }
local function mentions_file(text)
  text = " " .. text:gsub(ATTACHED, "")
  for position, sign in text:gmatch '()@(["%w./~_\x80-\xFF-])' do
    local before = utf8.codepoint(text, utf8.offset(text, -1, position))
    if sign == '"' or SPACES[before] or SIGNS[before] then return true end
  end
  return false
end

local function without_trailing_space(text)
  local behind = #text + 1
  while behind > 1 do
    local start = utf8.offset(text, -1, behind)
    if not SPACES[utf8.codepoint(text, start)] then break end
    behind = start
  end
  return text:sub(1, behind - 1)
end

local function without_leading_space(text)
  for position, code in utf8.codes(text) do
    if not SPACES[code] then return text:sub(position) end
  end
  return ""
end

--- Whether the program tells what it is doing: 2.1.197 and later do.
local function has_status(view) return view.status ~= nil and view.status.status ~= nil end

--- The command that the program would see in a message. 2.1.330 looks behind leading white space. Whatever comes near a
--- command's name is taken for it, `/exit.` for `/exit`, but no path; on 2.1.110, which tells no status, paths too.
---@param text string  valid UTF-8
---@param view? parley.View  as for `prepare`
---@return string? name  with its slash
function M.command_in(text, view)
  local name = without_leading_space(text):match "^/[%w:_-]*%f[%s\0]"
  if name then return name end
  local word = text:match "^/%w[^%s]*"
  if word and (not word:find("/", 2, true) or view and not has_status(view)) then return word end
end

---@class parley.DeliveryOptions
---@field mentions? "allow"|"refuse"  `@path` in a message attaches the file; default "allow"

local function utf16_length(text)
  return utf8.len(text) + select(2, text:gsub("[\xF0-\xF7]", ""))
end

local function is_short(text)
  return utf16_length(text) <= PASTE_UNITS and select(2, text:gsub("\n", "")) <= PASTE_NEWLINES
end

--- What the program looks for in each paste: a word that has 2.1.330 mark the paste as one, and the ends of paths of
--- pictures, which it attaches in place of their lines. It reads paths without their backslashes.
local SOUGHT = {}
for i, word in ipairs { "ultraplan", ".png", ".jpg", ".jpeg", ".gif", ".webp" } do
  local letters = {}
  for letter in word:gmatch "." do
    table.insert(letters, letter == "." and "%." or ("[%s%s]"):format(letter, letter:upper()))
  end
  SOUGHT[i] = table.concat(letters, "\\*")
end

--- Whether a text surely arrives as it is when it is typed. A tab would become spaces, and a `!` in front a shell.
local function is_typable(text)
  if not is_short(text .. " ") or text:find "\t" or text:sub(1, 1) == "!" then return false end
  for _, sought in ipairs(SOUGHT) do
    if text:find(sought) then return false end
  end
  return true
end

--- A text of more UTF-16 units, 10,000 with the space behind it, is shown with its middle left out. 2.1.197 and before,
--- which draw no alternate screen, call that the first of its pastes; what reads like the name of that paste is
--- replaced by the middle when it is sent.
local WHOLE_UNITS = 9999

--- So many units of each end are shown. 2.1.332 cuts a character of two in two there, and sends U+FFFD for each half.
local END_UNITS = 500

local function cuts_a_pair(text, is_at_end)
  local ending = is_at_end and utf8.offset(text, -END_UNITS)
  local part = ending and text:sub(ending) or text:sub(1, utf8.offset(text, END_UNITS + 1) - 1)
  local codes, units = { utf8.codepoint(part, 1, -1) }, 0
  for i = 1, #codes do
    units = units + (codes[is_at_end and #codes + 1 - i or i] > 0xFFFF and 2 or 1)
    if units >= END_UNITS then return units > END_UNITS end
  end
end

local function names_paste(text)
  return (text:find "%[Pasted text #1[ %]]" or text:find("[...Truncated text #1 ", 1, true)) ~= nil
end

local function no_editor(view)
  return "it can only go through the program's editor, which does not open: " .. (view.editor_problem or keys.NO_EDITOR)
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
---@param text string
---@return boolean
function M.has_mark(text)
  local plain = text:lower():gsub("\u{FF1C}", "<"):gsub("\u{2039}", "<")
  local first = 1
  for position, stop in plain:gmatch "()pasted[_-]content%f[^%w_-]()" do
    local between = plain:sub(first, position - 1)
    if between:find("<", between:match "^.*[%w_]()" or 1, true) then return true end
    first = stop
  end
  return false
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
  text = without_trailing_space((text:gsub("\r\n?", "\n")))
  text = assert(core.text.nfc(text))
  local trimmed = without_leading_space(text)
  if trimmed == "" then return nil, "there is nothing in it to send" end
  local at, code, problem = M.undeliverable(text)
  if at then return nil, ("the character U+%04X at byte %d %s"):format(code, at, problem) end
  if EXIT_WORDS[trimmed] then return nil, ("the program ends itself on the message '%s'"):format(trimmed) end
  local command = M.command_in(text, view)
  if command then
    return nil, ("the program would run it as the command '%s'; session:command sends commands"):format(command)
  end
  if options.mentions == "refuse" and mentions_file(text) then
    return nil, "it mentions a file (@path), which would be attached"
  end
  if knows_mark(view) and M.has_mark(text) then
    return nil, "it holds '<pasted_content', with which the program marks pastes, and which it would change"
  end
  if view and not view.modes.alternate_screen and utf16_length(text) > WHOLE_UNITS and names_paste(text) then
    return nil, "it is long and holds what the program names pastes with ('[Pasted text #1]'), and would replace"
  end
  if knows_mark(view) and utf16_length(text) > WHOLE_UNITS and cuts_a_pair(text) then
    return nil, ("it is long, and the program would cut the character in two that begins with its UTF-16 unit %d: put "
      .. "a space somewhere before it"):format(END_UNITS)
  end
  if view and not view.has_editor and not is_typable(text) then return nil, no_editor(view) end
  local number = view and tabs.line_over_edge(text, view)
  if number then
    return nil, ("its line %d is wider than the screen with its tabs, and this version does not show such lines whole")
      :format(number)
  end
  return text
end

local function without_space(text)
  return (text:gsub("\u{A0}", ""):gsub("%s+", ""))
end

---@class parley.Step
---@field keys? string    bytes to write
---@field editor? string  or what the program's editor is to put into the composer, in the place of what it holds
---@field holds string   what the composer must hold before the next step
---@field rest_ms? number  how long it must have held that before the next step, or Enter

--- What puts a prepared text into the composer, Enter not among it.
---
--- The space behind the text, which the program trims, closes the pop-ups that `@part` and `:word` open, and keeps a
--- `\` from making a new line of Enter. A second one is where a character would be cut in two without.
---@param text string
---@param view parley.View
---@return parley.Step[]? steps
---@return string? why  it cannot be delivered now
function M.keystrokes(text, view)
  local rest = text .. " "
  if is_typable(text) then
    if has_status(view) then return { { keys = keys.paste(rest), holds = text } } end
    -- 2.1.110 swallows one Enter in five that follows a paste within 110 ms, and none that follows plain keys.
    if not text:find "\n" then return { { keys = rest, holds = text } } end
    return { { keys = keys.paste(rest), holds = text, rest_ms = PASTE_REST_MS } }
  end
  if not view.has_editor then return nil, no_editor(view) end
  if utf16_length(text) > WHOLE_UNITS and cuts_a_pair(rest, true) then rest = rest .. " " end
  return { { editor = rest, holds = text } }
end

--- One argument takes 128 kB at most, with the NUL behind it (Linux).
local ARGUMENT_BYTES = 131071

--- The word of a command line that has the program take a prepared text as its first message.
---
--- A word alone may be one of its own commands (`doctor`, `update`), or `code`, which it passes over; a space behind it
--- would reach the model. What begins like a flag may be taken for one, though `--` stands before it: `-p` on 2.1.197,
--- `--settings=…` on 2.1.110.
---@param text string
---@return string? word  nil for a text that must be put into the composer
function M.argument(text)
  local is_known = text:sub(1, 1) == "-" or not text:find "%S%s+%S"
  return not is_known and #text <= ARGUMENT_BYTES and text or nil
end

--- The keys that send what the composer holds.
M.enter = keys.ENTER

--- The keys that empty a composer, line by line: what is behind the cursor, then what is before it. A lone Backspace
--- leaves the shell mode. Delete has several bytes, which a long write may tear apart: it is pressed only for the rows
--- below the cursor, or a few where some may be out of sight.
---@param composer parley.Composer
---@return string
function M.clear(composer)
  if composer.shell and composer.text == "" then return keys.BACKSPACE end
  local lines = 1 + select(2, composer.text:gsub("\n", "")) + composer.hidden
  if composer.scrolled and composer.hidden == 0 then lines = 1000 end -- how many are out of sight is not said
  local times = math.max(30, lines + 2)
  local below = composer.scrolled and math.max(30, composer.below) or composer.below
  return keys.CTRL_K .. (keys.DELETE .. keys.CTRL_K):rep(below) .. (keys.CTRL_U .. keys.BACKSPACE):rep(times)
end

--- What a terminal surely draws one cell for.
local function plain(text)
  return (text:gsub("[^\33-\126]", ""))
end

--- Whether two texts begin with as many spaces; how wide a tab is drawn is not known. A row that shows nothing else was
--- wrapped behind them.
local function is_indented_alike(shown, wanted)
  local indent, following = shown:match "^( *)(.?)"
  return following == "" or following == "\n" or wanted:find "^ *\t" ~= nil or indent == wanted:match "^ *"
end

--- Marks, joined emoji and the like are not drawn as they are spelled: most of it must be there, and all plain
--- characters.
local function is_drawn_alike(shown, wanted)
  return wanted:find "[\x80-\xFF]" ~= nil and plain(shown) == plain(wanted)
    and 2 * (utf8.len(shown) or 0) >= utf8.len(wanted)
end

--- The end of a text, as much as a composer could show: a long one need not be looked through at every change.
local function end_of(text, composer) return text:sub(-(16 * #composer.text + 65536)) end

--- The names that a middle which is left out may have: another once an editor was opened on it, and on 2.1.332 another
--- number each time. Of a composer whose beginning is out of sight the end of the first may come first.
local NAMES = { "()%[%.%.%.Truncatedtext#%d+%+%d+lines%.%.%.%]()", "()%[Pastedtext#%d+[^%]]*%]()" }
local REST_OF_NAME = "^[%w#+]*lines%.*%]()"

local function ends_with(text, ending) return ending == "" or text:sub(-#ending) == ending end

--- Whether a composer may show a long text, whose middle is left out: the text may have such a name itself.
---@return boolean? is_whole  nil where nothing is left out
local function shows_ends(shown, text, wanted, is_scrolled)
  local is_whole
  local function look(from, past)
    local first, last = plain(shown:sub(1, from - 1)), plain(shown:sub(past))
    local is_begun = is_scrolled or plain(text:sub(1, 16 * from + 65536)):sub(1, #first) == first
    is_whole = is_whole or is_begun and ends_with(plain(wanted), last)
  end
  for _, pattern in ipairs(NAMES) do
    for from, past in shown:gmatch(pattern) do look(from, past) end
  end
  local past = is_whole == nil and is_scrolled and shown:match(REST_OF_NAME)
  if past then look(1, past) end
  return is_whole
end

--- Compares what the composer shows with what it should hold. It wraps at spaces, so white space does not count.
---@param composer parley.Composer
---@param text string
---@return "whole"|"empty"|"other"
function M.holds(composer, text)
  if composer.shell then return "other" end
  if composer.is_empty then return text == "" and "whole" or "empty" end
  local visible = end_of(text, composer)
  local shown, wanted = without_space(composer.text), without_space(visible)
  local shows
  if #text > WHOLE_UNITS then shows = shows_ends(shown, text, wanted, composer.scrolled) end
  if shows ~= nil then return shows and "whole" or "other" end
  if tabs.is_cut_alike(composer, text) then
    return (composer.scrolled or is_indented_alike(composer.text, text)) and "whole" or "other"
  end
  if composer.scrolled then
    if shown ~= "" and wanted:sub(-#shown) == shown then return "whole" end
    local drawn = plain(shown)
    return drawn ~= "" and ends_with(plain(wanted), drawn) and "whole" or "other"
  end
  if #visible < #text then return "other" end
  local is_alike = shown == wanted or is_drawn_alike(shown, wanted)
  return is_alike and is_indented_alike(composer.text, text) and "whole" or "other"
end

--- Compares the receipt, the text of the transcript's user record, with the message.
---@param recorded string
---@param text string
---@return boolean
function M.matches(recorded, text)
  -- A pattern that begins with spaces would be tried at each space of a text, and take seconds for 40 kB of them.
  return recorded == text or (recorded:match "^.*%S" or "") == text
end

return M
