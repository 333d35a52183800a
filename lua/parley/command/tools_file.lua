--- Tools in Lua that a command line or a batch names by a file.
local errors = require "parley.base.errors"

local M = {}

local function refuse(path, message, ...)
  error(errors.value_error(("the tools '%s' " .. message):format(path, ...), { option = "tools" }), 0)
end

--- Makes what loads tools. A file is run once, however often it is named, so that its tools may keep state.
---@return fun(path: string): table[]  raises `ValueError` when it cannot be loaded or returns no list
function M.loader()
  local loaded = {}
  return function(path)
    if loaded[path] then return loaded[path] end
    local chunk, problem = loadfile(path, "t")
    if not chunk then refuse(path, "cannot be loaded: %s", problem) end
    local ok, list = pcall(chunk)
    if not ok then refuse(path, "fail when they are loaded: %s", errors.text(list)) end
    if type(list) ~= "table" then refuse(path, "must return a list of tools, not a %s", type(list)) end
    loaded[path] = list.name and { list } or list
    return loaded[path]
  end
end

return M
