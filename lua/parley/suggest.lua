--- "did you mean": the nearest of some names.
local M = {}

--- Levenshtein's distance.
local function distance(left, right)
  local row = {}
  for column = 0, #right do row[column] = column end
  for i = 1, #left do
    local diagonal = row[0]
    row[0] = i
    for column = 1, #right do
      local cost = left:byte(i) == right:byte(column) and 0 or 1
      local value = math.min(row[column] + 1, row[column - 1] + 1, diagonal + cost)
      diagonal, row[column] = row[column], value
    end
  end
  return row[#right]
end

--- A hint to append to a message about an unknown name.
---@param word string
---@param names string[]
---@return string hint  `"; did you mean 'x'?"`, or `""` when none is near
function M.near(word, names)
  local best, least = nil, math.max(1, #word // 3) + 1
  for _, name in ipairs(names) do
    local steps = distance(word, name)
    if steps < least then best, least = name, steps end
  end
  return best and ("; did you mean '%s'?"):format(best) or ""
end

return M
