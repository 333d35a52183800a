--- How the program's composer draws lines with tabs that are wider than the screen: not whole, on any version.
---
--- Measured on 2.1.110, 2.1.197 and 2.1.332 at 120x40.
local M = {}

--- Characters of two cells.
local WIDE = { { 0x1100, 0x115F }, { 0x2E80, 0xA4CF }, { 0xAC00, 0xD7A3 }, { 0xF900, 0xFAFF }, { 0xFE30, 0xFE6F },
  { 0xFF00, 0xFF60 }, { 0x1F300, 0x1FAFF }, { 0x20000, 0x3FFFD } }
local TAB, SPACE, TAB_CELLS = 9, 32, 8

local function cells_of(code)
  for _, range in ipairs(code >= 0x1100 and WIDE or {}) do
    if code >= range[1] and code <= range[2] then return 2 end
  end
  return 1
end

--- The column behind a text that is drawn from a column on, tabs as a terminal draws them.
local function column_behind(text, column)
  for _, code in utf8.codes(text) do
    column = code == TAB and (column // TAB_CELLS + 1) * TAB_CELLS or column + cells_of(code)
  end
  return column
end

--- Where the composer's rows begin, and what they leave free at the right.
local ROW_LEFT, ROW_RIGHT = 2, 2

--- Whether a row of a line is drawn over the screen's edge, where the program counts no cells for tabs when it wraps
--- and leaves them to the terminal: what is below it is drawn at a wrong place then (2.1.110, 2.1.197).
local function is_over_edge(line, columns)
  local codes = {}
  for _, code in utf8.codes(line) do table.insert(codes, code) end
  local at, counted, column, space = 1, 0, ROW_LEFT, nil
  local room = math.max(2, columns - ROW_LEFT - ROW_RIGHT)
  while codes[at] do
    local code = codes[at]
    local cells = code == TAB and 0 or cells_of(code)
    if counted + cells > room then
      at, counted, column, space = space and space + 1 or at, 0, ROW_LEFT, nil
    else
      counted, space = counted + cells, code == SPACE and at or space
      column = code == TAB and (column // TAB_CELLS + 1) * TAB_CELLS or column + cells
      if column > columns - ROW_RIGHT then return true end
      at = at + 1
    end
  end
  return false
end

--- Finds the first line that cannot be seen in the composer for its tabs.
---@param text string  valid UTF-8
---@param view parley.View
---@return integer? number  nil when all lines can, or their beginning and that there is more
function M.line_over_edge(text, view)
  if not view.columns or view.modes.alternate_screen or not text:find "\t" then return nil end
  local number = 0
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    number = number + 1
    if line:find "\t" and is_over_edge(line, view.columns) then return number end
  end
end

local ELLIPSIS, LEAST_SEEN = "…", 8

local function without_space(text) return (text:gsub("\u{A0}", ""):gsub("%s+", "")) end

--- Whether a line with tabs may be drawn as wide.
local function has_wide_line(text, cells)
  for line in text:gmatch "[^\n]*\t[^\n]*" do
    if column_behind(line, 0) >= cells then return true end
  end
  return false
end

--- Whether rows are the beginning of a text, line by line, and how many cells of it they show.
---@param rows string  the last of them may end anywhere
---@param text string
---@return integer? cells   nil when they are not
---@return integer? widest  of the lines of which something is shown
local function cells_shown(rows, text)
  local next_line, cells, widest, rest, line = (text .. "\n"):gmatch "([^\n]*)\n", 0, 0, nil, nil
  for row, behind in (rows .. "\n"):gmatch "([^\n]*)\n()" do
    if not rest then
      line = next_line()
      if not line then return nil end
      rest, widest = without_space(line), math.max(widest, column_behind(line, 0))
    end
    local part = without_space(row)
    if rest:sub(1, #part) ~= part then return nil end
    local is_indent = line ~= nil and line:find "^%s" ~= nil
    if part == "" and rest ~= "" and not is_indent and behind <= #rows then return nil end
    cells = cells + column_behind(row, 0)
    rest, line = rest:sub(#part + 1), nil
    if rest == "" then rest = nil end
  end
  return cells, widest
end

--- Whether the composer shows a text that is cut for its tabs: of all that would be in sight 2.1.332 draws as many
--- cells as one row may have, or as the widest of those rows has that it gets to, and an ellipsis. That must be the
--- beginning of the text, line by line; where the composer has scrolled, a part of it.
---@param composer parley.Composer
---@param text string  valid UTF-8
---@return boolean
function M.is_cut_alike(composer, text)
  if not composer.columns or not text:find "\t" then return false end
  local drawn = composer.text:match "^.*[^\n]" or "" -- the rows that are cut off may leave empty ones
  if drawn:sub(-#ELLIPSIS) ~= ELLIPSIS then return false end
  local room = composer.columns - ROW_LEFT - ROW_RIGHT + 1
  local shown = drawn:sub(1, -#ELLIPSIS - 1)
  if not has_wide_line(text, room - 1) then return false end
  if not composer.scrolled then
    local cells, widest = cells_shown(shown, text)
    return cells ~= nil and cells <= room and cells + 2 >= math.min(widest, composer.columns // 2)
  end
  local part = without_space(shown)
  return #part >= LEAST_SEEN and column_behind(shown:match "[^\n]*$", 0) <= room
    and without_space(text):find(part, 1, true) ~= nil
end

return M
