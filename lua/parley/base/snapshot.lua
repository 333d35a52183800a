--- What a screen shows as the bytes that draw it: for a terminal that begins to look at it now and is given what comes
--- from here on.
local M = {}

local FLAGS = { { "bold", 1 }, { "dim", 2 }, { "italic", 3 }, { "underline", 4 }, { "reverse", 7 }, { "strike", 9 } }
local MOUSE = { click = 1000, drag = 1002, move = 1003 }

local function add_color(codes, color, base)
  if type(color) == "number" then
    table.insert(codes, ("%d;5;%d"):format(base, color))
  elseif color then
    local red, green, blue = color:match "^#(%x%x)(%x%x)(%x%x)$"
    table.insert(codes, ("%d;2;%d;%d;%d"):format(base, tonumber(red, 16), tonumber(green, 16), tonumber(blue, 16)))
  end
end

--- The sequence that has characters look like this, whatever they looked like before.
---@param style parley.ScreenStyle
---@return string
function M.style(style)
  local codes = { "0" }
  for _, flag in ipairs(FLAGS) do
    if style[flag[1]] then table.insert(codes, tostring(flag[2])) end
  end
  add_color(codes, style.foreground, 38)
  add_color(codes, style.background, 48)
  return "\27[" .. table.concat(codes, ";") .. "m"
end

--- A row, drawn where it stands. Each run names its column: terminals differ in how wide they take a character for.
---@param screen parley.Screen
---@param row integer
---@return string
function M.row(screen, row)
  local parts = {}
  for _, run in ipairs(screen:attributes(row)) do
    table.insert(parts, ("\27[%d;%dH%s%s"):format(row, run.from, M.style(run), run.text))
  end
  return table.concat(parts)
end

local function modes(screen)
  local set = screen:modes()
  local parts = { set.bracketed_paste and "\27[?2004h" or "" }
  if MOUSE[set.mouse] then table.insert(parts, ("\27[?%dh\27[?1006h"):format(MOUSE[set.mouse])) end
  return table.concat(parts)
end

--- Where the cursor stands. The last character is put there anew: a mark may follow that joins it, and one that fills a
--- row leaves the cursor in another state than any sequence does.
local function place(screen)
  local row, column, is_visible = screen:cursor()
  local last, pen = screen:last(), M.style(screen:pen())
  local parts = { is_visible and "\27[?25h" or "\27[?25l", ("\27[%d;%dH"):format(row, last and last.from or column) }
  if last then
    table.insert(parts, M.style(last) .. last.text)
    if M.style(last) == pen then return table.concat(parts) end
  end
  table.insert(parts, pen)
  return table.concat(parts)
end

--- Draws a whole screen, on an empty one of the same size. A sequence or a character of which only a part has come
--- stands at the end, so that the rest of it may follow.
---@param screen parley.Screen
---@return string bytes
function M.of(screen)
  local parts = { screen:modes().alternate_screen and "\27[?1049h" or "" }
  for row = 1, (screen:size()) do table.insert(parts, M.row(screen, row)) end
  local title = screen:title()
  if title ~= "" then table.insert(parts, ("\27]2;%s\27\\"):format(title)) end
  table.insert(parts, modes(screen))
  table.insert(parts, screen:margins()) -- before the cursor, which they send home
  table.insert(parts, place(screen))
  table.insert(parts, screen:unfinished())
  return table.concat(parts)
end

return M
