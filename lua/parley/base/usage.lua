--- Adding up what was used: tokens by their names, as the Messages API has them. What is no whole number is passed
--- over.
local M = {}

--- Adds what was used to a total.
---@param total table<string, integer>
---@param used? table
---@return table<string, integer> total  the same table
function M.add(total, used)
  for name, value in pairs(used or {}) do
    if math.type(value) == "integer" then total[name] = (total[name] or 0) + value end
  end
  return total
end

--- Adds a cost, where one is known.
---@param total? number  nil while none is known
---@param cost? number
---@return number?
function M.add_cost(total, cost) return cost and (total or 0) + cost or total end

return M
