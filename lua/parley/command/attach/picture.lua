--- A session's screen on a terminal of another size: as much of it as there is room for, and a line that says what it
--- is. Only what has changed is drawn.
local core = require "parley.core"
local snapshot = require "parley.base.snapshot"

local M = {}

---@class parley.attach.Picture
---@field screen? parley.Screen     the session's
---@field package write fun(bytes: string)
---@field package rows integer      of the terminal
---@field package columns integer
---@field package drawn table<integer, string>
local Picture = {}
Picture.__index = Picture

---@param given {write: fun(bytes: string), rows: integer, columns: integer}
---@return parley.attach.Picture
function M.new(given)
  return setmetatable({ write = given.write, rows = given.rows, columns = given.columns, drawn = {},
    measure = core.screen.new(1, 1000) }, Picture)
end

--- The terminal has another size now: all is drawn anew.
---@param rows integer
---@param columns integer
function Picture:resize(rows, columns)
  self.rows, self.columns, self.drawn, self.is_new = rows, columns, {}, true
end

--- Shows another screen from now on.
---@param rows integer
---@param columns integer
---@param bytes string
function Picture:begin(rows, columns, bytes)
  if self.screen then self.screen:close() end
  self.screen, self.is_new = core.screen.new(rows, columns), true
  self.screen:feed(bytes)
end

---@param bytes string
function Picture:feed(bytes) self.screen:feed(bytes) end

--- As much of a text as fits into so many columns.
local function cut(self, text, columns)
  self.measure:feed "\r"
  local last = 0
  for first, letter in text:gmatch "()([^\x80-\xbf][\x80-\xbf]*)" do
    self.measure:feed(letter)
    local _, column = self.measure:cursor()
    if column > columns + 1 then break end
    last = first + #letter - 1
  end
  return text:sub(1, last)
end

local function row_of(self, row, place)
  local parts = { ("\27[%d;1H\27[0m\27[K"):format(place) }
  for _, run in ipairs(self.screen:attributes(row)) do
    if run.from > self.columns then break end
    local text = run.to > self.columns and cut(self, run.text, self.columns - run.from + 1) or run.text
    table.insert(parts, ("\27[%d;%dH%s%s"):format(place, run.from, snapshot.style(run), text))
  end
  return table.concat(parts)
end

--- How many rows of the screen stand above what is shown: what is written last is seen.
local function offset_of(self, room)
  local rows = self.screen:rows()
  local last = #rows
  while last > 1 and rows[last] == "" do last = last - 1 end
  return math.max(0, math.min(#rows, last) - room)
end

--- How the screen fits: nothing when all of it does.
---@return string
function Picture:fit()
  if not self.screen then return "" end
  local rows, columns = self.screen:size()
  if rows <= self.rows - 1 and columns <= self.columns then return "" end
  return (" · %d×%d, cut to %d×%d"):format(rows, columns, math.min(rows, self.rows - 1),
    math.min(columns, self.columns))
end

local function draw(self, place, text)
  if self.drawn[place] == text then return "" end
  self.drawn[place] = text
  return text
end

--- Draws what has changed.
---@param status string      the last line
---@param shows_cursor boolean
function Picture:paint(status, shows_cursor)
  local parts = { "\27[?25l", self.is_new and "\27[0m\27[2J" or "" }
  if self.is_new then self.drawn = {} end
  self.is_new = false
  local room, place = self.rows - 1, nil
  if self.screen then
    local offset = offset_of(self, room)
    for row = 1, math.min(room, (self.screen:size()) - offset) do
      table.insert(parts, draw(self, row, row_of(self, row + offset, row)))
    end
    local row, column, is_visible = self.screen:cursor()
    place = is_visible and shows_cursor and row > offset and row - offset <= room and column <= self.columns
      and ("\27[0m\27[%d;%dH\27[?25h"):format(row - offset, column)
  end
  table.insert(parts, draw(self, self.rows, ("\27[%d;1H\27[0;7m%s\27[K\27[0m"):format(self.rows,
    cut(self, status, self.columns))))
  table.insert(parts, place or "")
  self.write(table.concat(parts))
end

function Picture:close()
  if self.screen then self.screen:close() end
  self.measure:close()
end

return M
