--- Tables: new ones made of others, which stay as they are, and what a list or a set needs.
local M = {}

--- The fields of several tables in one; where two have the same, the later counts.
---@param ... table?  nil has none
---@return table
function M.merged(...)
  local whole = {}
  for i = 1, select("#", ...) do
    for name, value in pairs(select(i, ...) or {}) do whole[name] = value end
  end
  return whole
end

--- The items of several lists in one, in their order.
---@param ... any[]
---@return any[]
function M.joined(...)
  local whole = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #whole + 1, whole) end
  return whole
end

--- The members of a set in the order of what each has under a name. `pairs` goes by their addresses: what is done to
--- them would be done in another order each time.
---@param set table<table, any>
---@param name string
---@return table[]
function M.in_order(set, name)
  local list = {}
  for member in pairs(set) do list[#list + 1] = member end
  if list[2] then
    table.sort(list, function(one, other) return one[name] < other[name] end)
  end
  return list
end

--- Takes a value out of a list.
---@generic T
---@param list T[]
---@param value T
---@return T? removed  nil when it was not there
function M.remove(list, value)
  for i = 1, #list do
    if list[i] == value then return table.remove(list, i) end
  end
end

--- The fields of a table whose names another has too.
---@param fields table
---@param names table<string, any>
---@return table
function M.picked(fields, names)
  local part = {}
  for name, value in pairs(fields) do
    if names[name] ~= nil then part[name] = value end
  end
  return part
end

--- An environment as a list, which is how a process is given it.
---@param environment table<string, string>
---@return string[]  `NAME=value`, by name
function M.assignments(environment)
  local list = {}
  for name, value in pairs(environment) do table.insert(list, name .. "=" .. value) end
  table.sort(list)
  return list
end

return M
