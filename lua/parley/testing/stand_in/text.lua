--- Text as a terminal and as the composer see it: widths, wrapping, and what is taken out of a message.
local core = require "parley.core"

local M = {}

--- Code points that take no cell, as pairs of first and last.
local EMPTY = { 0x9, 0x9, 0x300, 0x36F, 0x200B, 0x200F, 0x202A, 0x202E, 0x2060, 0x2064, 0xFE00, 0xFE0F, 0xFEFF, 0xFEFF,
  0xE0100, 0xE01EF }

--- What 2.1.330 takes out of a message, besides control characters. Measured one by one.
local INVISIBLE = { 0xAD, 0xAD, 0x34F, 0x34F, 0x115F, 0x115F, 0x180E, 0x180E, 0x200B, 0x200F, 0x202A, 0x202E, 0x2060,
  0x2064, 0x2066, 0x2069, 0x3164, 0x3164, 0xFE0E, 0xFE0F, 0xFEFF, 0xFEFF, 0xFFF9, 0xFFFB, 0xE0000, 0xE007F, 0xE0100,
  0xE01EF }
--- What turns the direction of text.
local DIRECTION = { 0x200E, 0x200F, 0x202A, 0x202E, 0x2066, 0x2069 }
--- What it makes a new line of.
local BREAKS = { [0x0B] = true, [0x0C] = true, [0x85] = true, [0x2028] = true, [0x2029] = true }

local function is_in(code, ranges)
  for index = 1, #ranges, 2 do
    if code >= ranges[index] and code <= ranges[index + 1] then return true end
  end
  return false
end

--- What is known of each character that was met: they are few, and looked up again and again.
local function known_by(find)
  return setmetatable({}, { __index = function(known, code)
    known[code] = find(code)
    return known[code]
  end })
end

--- The cells that it takes in a row.
local cells_of = known_by(function(code)
  return is_in(code, EMPTY) and 0 or math.max(1, core.text.width(utf8.char(code)))
end)

--- Whether 2.1.330 takes it out of a message.
local is_taken_out = known_by(function(code)
  return code < 0x20 and code ~= 9 and code ~= 10 or code >= 0x7F and code < 0xA0 or is_in(code, INVISIBLE)
end)

--- The widths of the rows that were measured last: most are drawn again and again.
local MOST_WIDTHS, known_widths, width_count = 1000, {}, 0

--- How many cells a text takes.
---@param text string
---@return integer
function M.width(text)
  local cells = known_widths[text]
  if cells then return cells end
  cells = 0
  for _, code in utf8.codes(text, true) do cells = cells + cells_of[code] end
  if width_count == MOST_WIDTHS then known_widths, width_count = {}, 0 end
  known_widths[text], width_count = cells, width_count + 1
  return cells
end

--- UTF-16 code units in a text.
---@param text string
---@return integer
function M.utf16_length(text)
  local units = 0
  for _, code in utf8.codes(text, true) do units = units + (code > 0xFFFF and 2 or 1) end
  return units
end

--- Bytes that are no UTF-8 become replacement characters.
---@param text string
---@return string
function M.valid(text)
  local pieces, at = {}, 1
  while true do
    local _, broken = utf8.len(text, at)
    if not broken then break end
    table.insert(pieces, text:sub(at, broken - 1) .. "\u{FFFD}")
    at = broken + 1
  end
  return table.concat(pieces) .. text:sub(at)
end

--- Whether a joiner between these means something: in scripts that shape their letters, and in emoji.
local function is_joined(code, previous, following)
  if previous >= 0x600 and previous < 0xE00 then return true end
  local is_picture = previous == 0xFE0F or previous >= 0x1F3FB and previous <= 0x1F3FF
    or core.text.is_pictograph(previous)
  return code == 0x200D and is_picture and core.text.is_pictograph(following)
end

--- Whether a character's style may be chosen: a picture's, and a key's of a keyboard.
local function is_styled(previous, following)
  return core.text.is_pictograph(previous)
    or following == 0x20E3 and previous < 0x80 and ("0123456789#*"):find(utf8.char(previous), 1, true) ~= nil
end

--- The flags that are spelled with letters, behind a black one.
local FLAGS = { "gbeng", "gbsct", "gbwls" }

--- Whether the letter is one of a flag's.
local function is_of_flag(codes, index)
  local first = index
  while codes[first - 1] and codes[first - 1] >= 0xE0000 and codes[first - 1] < 0xE0080 do first = first - 1 end
  local name, last = "", first
  while codes[last] and codes[last] >= 0xE0020 and codes[last] < 0xE007F do
    name, last = name .. string.char(codes[last] - 0xE0000), last + 1
  end
  for _, known in ipairs(FLAGS) do
    if name == known and codes[first - 1] == 0x1F3F4 and codes[last] == 0xE007F then return index <= last end
  end
  return false
end

--- Whether this is a letter of a script that runs from right to left.
local function is_right_to_left(code) return code ~= nil and code >= 0x590 and code < 0x900 end

--- What 2.1.330 leaves of a message.
---@param text string
---@return string cleaned
---@return integer removed  how many characters it took out
function M.without_invisible(text)
  if not text:find "[^\t\n\x20-\x7E]" then return text, 0 end
  local pieces, removed, codes = {}, 0, {}
  for _, code in utf8.codes(text, true) do table.insert(codes, code) end
  for i, code in ipairs(codes) do
    local previous, following = codes[i - 1] or 0, codes[i + 1] or 0
    local is_kept = not is_taken_out[code] or (code == 0x200C or code == 0x200D)
        and is_joined(code, previous, following)
      or (code == 0xFE0E or code == 0xFE0F) and is_styled(previous, following)
      or (code == 0x200E or code == 0x200F) and is_right_to_left(previous)
      or code >= 0xE0020 and code < 0xE0080 and is_of_flag(codes, i)
    if BREAKS[code] then
      table.insert(pieces, "\n")
    elseif is_kept then
      table.insert(pieces, utf8.char(code))
    else
      removed = removed + 1
    end
  end
  return table.concat(pieces), removed
end

--- What chooses a direction or a style.
local NOT_DRAWN = { 0x200E, 0x200F, 0xFE0E, 0xFE0F }

--- What 2.1.332 draws of a text in a dialog: nothing where a style or a direction is chosen, and of what else is
--- invisible that something is there.
---@param text string
---@return string
function M.drawn(text)
  return (text:gsub("[\xC2\xCD\xE1-\xEF\xF3][\x80-\xBF]+", function(character)
    local code = utf8.codepoint(character)
    if is_in(code, NOT_DRAWN) then return "" end
    local is_joiner = code == 0x200C or code == 0x200D
    return is_in(code, INVISIBLE) and not is_joiner and "\u{FFFD}" or nil
  end))
end

--- Whether a text holds characters that turn its direction where nothing runs from right to left.
---@param text string
---@return boolean
function M.has_direction_marks(text)
  if not text:find "[\xD8\xE2]" then return false end -- U+061C, and those of U+2000
  local previous
  for _, code in utf8.codes(text, true) do
    if is_in(code, DIRECTION) and not is_right_to_left(previous) then return true end
    previous = code
  end
  return false
end

--- Puts as many spaces in the place of each tab as a terminal does.
---@param row string
---@return string
function M.expanded(row)
  local cells = 0
  return (row:gsub("([^\t]*)\t", function(before)
    cells = cells + M.width(before)
    local spaces = 8 - cells % 8
    cells = cells + spaces
    return before .. (" "):rep(spaces)
  end))
end

local function wrap_line(line, columns, rows)
  if #line <= columns then return table.insert(rows, line) end -- no character has more cells than bytes
  local first, cells, space_at, space_cells = 1, 0, nil, 0
  for at, code in utf8.codes(line, true) do
    local width = cells_of[code]
    if cells + width > columns then
      table.insert(rows, line:sub(first, (space_at or at) - 1))
      first, cells = space_at and space_at + 1 or at, space_at and cells - space_cells or 0
      space_at = nil
    end
    cells = cells + width
    if code == 0x20 then space_at, space_cells = at, cells end
  end
  table.insert(rows, line:sub(first))
end

--- Breaks a text into rows, at spaces where it can.
---@param text string
---@param columns integer
---@return string[] rows
function M.wrap(text, columns)
  if #text <= columns and not text:find("\n", 1, true) then return { text } end
  local rows = {}
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do wrap_line(line, math.max(1, columns), rows) end
  return rows
end

return M
