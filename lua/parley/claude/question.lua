--- The choices of a question of the model's (AskUserQuestion), as the screen has them. Pure functions on rows.
---
--- Measured on 2.1.110, 2.1.197 and 2.1.332. One that takes several answers has a box before each label and, without a
--- number, the row that goes on: `Submit`, or `Next` where another question follows. One with previews has them to the
--- right of the labels and `Chat about this` without a number; a digit moves the pointer there and picks nothing. In
--- the row in which one may type, a digit is text.
local label_rows = require "parley.claude.label"

local M = {}

local POINTER = "❯"
local FOOTER, NOTES, EDITS = "^%s*Enter to select", "n to add notes", "ctrl+g to edit"
local CHAT, ON = "  Chat about this", { Submit = true, Next = true }

--- A row as if the pointer were not on it, and whether it is. The pointer is one column wide.
local function without_pointer(row)
  if row:sub(1, #POINTER) ~= POINTER then return row, false end
  return " " .. row:sub(#POINTER + 1), true
end

--- A label without the preview to the right of it, with the rows in which it goes on: at column 4 on 2.1.332, 3 on
--- 2.1.197, and either on 2.1.110.
local function whole_label(rows, i, label)
  local parts = {}
  repeat
    table.insert(parts, (label:gsub("   .*$", "")))
    i = i + 1
    label = rows[i] and without_pointer(rows[i]):match "^    ?(%S.*)$"
  until not label
  return table.concat(parts, " ")
end

--- Takes the boxes from before the labels.
---@return table<integer, boolean>  which of them are ticked
local function untick(labels)
  local checked = {}
  for i, label in ipairs(labels) do
    local mark, rest = label:match "^%[(.-)%] +(.*)$"
    if mark then labels[i], checked[i] = rest, mark ~= " " end
  end
  return checked
end

--- The rows of the choices, from the last one up.
local function choices_above(rows, footer)
  local has_previews, found, expected = rows[footer]:find(NOTES, 1, true) ~= nil, {}, nil
  for i = footer - 1, 1, -1 do
    local row, is_pointed = without_pointer(rows[i])
    local number, label = label_rows.numbered(row:match "^  ?(%d.*)$" or "")
    if number and (not expected or number == expected) then
      expected = number - 1
      table.insert(found, { at = i, number = number, is_pointed = is_pointed,
        label = has_previews and whole_label(rows, i, label) or label_rows.whole(rows, i, label) })
      if expected == 0 then break end
    elseif has_previews and not expected and row == CHAT then
      table.insert(found, { at = i, label = CHAT:match "%S.*", is_pointed = is_pointed })
    elseif ON[row:match "^     (%a+)$"] and (rows[i - 1] or ""):find "%d+%. ?%[[^%]]+%] " then
      table.insert(found, { at = i, label = row:match "%a+", is_pointed = is_pointed, goes_on = true })
    end
  end
  return found, has_previews
end

--- Finds the choices of a question.
---@param rows string[]
---@return parley.Choices?  nil where there is none, or not all that it has is understood
function M.choices(rows)
  local footer = #rows
  while footer > 0 and rows[footer] == "" do footer = footer - 1 end
  if footer == 0 or not rows[footer]:find(FOOTER) then return nil end
  local found, has_previews = choices_above(rows, footer)
  local labels, selected, takes_several = {}, nil, false
  for i = #found, 1, -1 do
    table.insert(labels, found[i].label)
    if found[i].is_pointed then selected = #labels end -- with previews the row that it has left may keep another
    takes_several = takes_several or found[i].goes_on or false
  end
  if not selected then return nil end
  local has_digits = not has_previews and not takes_several and not rows[footer]:find(EDITS, 1, true)
  return { labels = labels, selected = selected, first_row = found[#found].at, last_row = found[1].at,
    first_number = has_digits and found[#found].number or nil, checked = takes_several and untick(labels) or nil }
end

return M
