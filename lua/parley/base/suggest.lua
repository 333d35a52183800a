--- "did you mean": the nearest of some names.
local M = {}

--- Levenshtein's distance, with two neighbours swapped as one step.
local function distance(left, right)
  local rows = { [0] = {} }
  for column = 0, #right do rows[0][column] = column end
  for i = 1, #left do
    local row, above = { [0] = i }, rows[i - 1]
    rows[i] = row
    for column = 1, #right do
      local cost = left:byte(i) == right:byte(column) and 0 or 1
      row[column] = math.min(above[column] + 1, row[column - 1] + 1, above[column - 1] + cost)
      if i > 1 and column > 1 and left:byte(i) == right:byte(column - 1) and left:byte(i - 1) == right:byte(column) then
        row[column] = math.min(row[column], rows[i - 2][column - 2] + 1)
      end
    end
  end
  return rows[#left][#right]
end

--- Whether a word is short for a name: the same first letter, and its others in their order.
local function is_short_for(word, name)
  local position = #word >= 3 and word:byte() == name:byte() and 0
  for letter in word:gmatch "." do position = position and name:find(letter, position + 1, true) end
  return position ~= nil and position ~= false
end

--- A hint to append to a message about an unknown name.
---@param word string
---@param names string[]
---@param knows_short? boolean  take `opts` for `options`, too
---@return string hint  `"; did you mean 'x'?"`, or `""` when none is near
function M.near(word, names, knows_short)
  local best, least = nil, math.max(1, #word // 3) + 1
  for _, name in ipairs(names) do
    local fewest = math.abs(#word - #name) -- for a word of 300,000 letters the rest need not be known
    local steps = fewest < least and distance(word, name) or fewest
    if steps < least then best, least = name, steps end
  end
  for _, name in ipairs(knows_short and not best and names or {}) do
    if is_short_for(word, name) then best = name end
  end
  return best and ("; did you mean '%s'?"):format(best) or ""
end

return M
