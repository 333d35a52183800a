--- New tables made of others, which stay as they are.
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
