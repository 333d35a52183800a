--- Lua source for a value, so that a script travels to the process that runs it, functions included.
local errors = require "parley.base.errors"

local M = {}

local write

local function function_source(fn, path)
  for index = 1, math.huge do
    local name = debug.getupvalue(fn, index)
    if not name then break end
    if name ~= "_ENV" then
      local problem = "script%s: the function uses the local '%s' around it, which another process cannot see"
      error(errors.value_error(problem:format(path, name)), 0)
    end
  end
  return ("load(%q, '=script%s', 'b')"):format(string.dump(fn), path)
end

local function table_source(value, path, seen)
  if seen[value] then error(errors.value_error(("script%s: a table holds itself"):format(path)), 0) end
  seen[value] = true
  local parts = {}
  for key, item in pairs(value) do
    local where = ("%s[%s]"):format(path, tostring(key))
    table.insert(parts, ("[%s]=%s"):format(write(key, where, seen), write(item, where, seen)))
  end
  seen[value] = nil
  return "{" .. table.concat(parts, ",") .. "}"
end

function write(value, path, seen)
  local kind = type(value)
  if kind == "table" then return table_source(value, path, seen) end
  if kind == "function" then return function_source(value, path) end
  if kind == "string" or kind == "number" or kind == "boolean" then return ("%q"):format(value) end
  error(errors.value_error(("script%s: a %s cannot be sent to another process"):format(path, kind)), 0)
end

--- Lua source that makes a value again.
---@param value any  of tables, strings, numbers, booleans, and functions that use nothing around them
---@return string
--- Raises `ValueError` that names the place of anything else.
function M.of(value) return write(value, "", {}) end

return M
