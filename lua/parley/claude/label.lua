--- A choice's number and its label, which may go on in the rows below it. Pure functions on rows.
---
--- Measured on 2.1.110, 2.1.197 and 2.1.332. Up to 2.1.197 a label that goes on stands further to the left: without the
--- space before its number (2.1.110) or behind it. 2.1.332 explains a choice at the column of its label.
local core = require "parley.core"
local dialog = require "parley.claude.dialog"

local M = {}

local width = core.text.width

--- Takes a row apart.
---@param text string  behind indent and pointer
---@return integer? number  nil where it has none
---@return string? label
function M.numbered(text)
  local number, label = text:match "^(%d+)%. +(.*)$"
  if not number then number, label = text:match "^(%d+)%.([^%s%d].*)$" end
  return tonumber(number), label
end

--- What stands between two rows of a label: nothing, where its characters need no space to be broken at.
local function gap_between(row, rest, columns)
  local is_wide = row:find "[\xE3-\xF4][\x80-\xBF]+$" and rest:find "^[\xE3-\xF4]"
  return is_wide and width(row) + 2 >= columns and "" or " "
end

--- How many columns the rows have, by a rule that goes over all of them.
local function columns_of(rows)
  local columns = dialog.upper_edge(rows) and 0 or math.huge
  for _, row in ipairs(rows) do columns = math.max(columns, utf8.len(row) or 0) end
  return columns
end

--- A label with the rows in which it goes on: those below at its column, as long as the next word had no room.
---@param rows string[]
---@param i integer  the row that ends with the label's beginning
---@param label string  with the box before it, where it has one
---@return string
function M.whole(rows, i, label)
  local column, columns = width(rows[i]) - width(label:match "^%[[^%]]*%] +(.*)$" or label), nil
  for at = i + 1, #rows do
    local indent, rest = rows[at]:match "^( *)(%S.*)$"
    if not rest or #indent ~= column then break end
    columns = columns or columns_of(rows)
    if width(rows[at - 1]) + 1 + width(rest:match "%S+") < columns then break end
    label = label .. gap_between(rows[at - 1], rest, columns) .. rest
  end
  return label
end

return M
