--- Policies as a caller gives them: tables of functions, or Lua files that return one.
local errors = require "parley.errors"
local options = require "parley.options"

local M = {}

local NAMES = { "routing", "injection", "mcp_config", "readiness", "dialogs", "delivery", "settling" }
--- Those that a backend calls itself; the others are its sessions'.
local OF_BACKEND = { "routing", "injection", "mcp_config" }

local function refuse(name, message, ...)
  error(errors.value_error(message:format(...), { policy = name }), 0)
end

local function default_of(name)
  return name == "injection" and require "parley.policy.injection.native_jsonl" or require("parley.policy." .. name)
end

local function load_file(name, where, path)
  local chunk, problem = loadfile(path, "t")
  if not chunk then refuse(name, "%s cannot be loaded: %s", where, problem) end
  local ok, result = pcall(chunk)
  if ok then return result end
  error(errors.value_error(("%s fails when it is loaded: %s"):format(where, tostring(result)),
    { policy = name, cause = result }), 0)
end

--- What a policy raises that is no error object becomes one that names it.
local function guarded(name, where, field, fn)
  return function(...)
    local results = table.pack(pcall(fn, ...))
    if results[1] then return table.unpack(results, 2, results.n) end
    local cause = results[2]
    if errors.is(cause) then error(cause, 0) end
    error(errors.value_error(("%s fails in '%s': %s"):format(where, field, tostring(cause)),
      { policy = name, cause = cause }), 0)
  end
end

local function functions_of(policy)
  local names = {}
  for field, value in pairs(policy) do
    if type(value) == "function" then table.insert(names, "'" .. field .. "'") end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

--- Loads a policy and checks it.
---@param name string  `"routing"`, …
---@param given any    a table of functions; a string names the Lua file that returns one
---@return table policy
---@return string described  for messages: the name and the file
--- Raises `ValueError`, naming the policy and its file.
function M.load(name, given)
  local where = ("the policy '%s'"):format(name)
  if type(given) == "string" then
    where = ("the policy '%s' (%s)"):format(name, given)
    given = load_file(name, where, given)
  end
  if type(given) ~= "table" then refuse(name, "%s must be a table of functions, not a %s", where, type(given)) end
  local default, policy, is_known = default_of(name), {}, false
  for field, value in pairs(default) do
    local own = given[field]
    policy[field] = own
    if own ~= nil and type(value) == "function" then
      is_known = true
      if type(own) ~= "function" then
        refuse(name, "%s: '%s' must be a function, not a %s", where, field, type(own))
      end
      policy[field] = guarded(name, where, field, own)
    end
  end
  if not is_known then
    refuse(name, "%s has none of the functions of such a policy: %s", where, functions_of(default))
  end
  return policy, where
end

--- Loads all policies that a caller gives.
---@param given table<string, table|string>
---@param injection_mode string  whose policy is the default: `"native_jsonl"` or `"concat_message"`
---@return table<string, table> of_backend   with the defaults filled in; `described` says which it is, for messages
---@return table<string, table> of_sessions  as given
--- Raises `ValueError`.
function M.load_all(given, injection_mode)
  local is_name = options.one_of(NAMES)
  for name in pairs(given) do
    local expected = is_name(name)
    if expected then
      error(errors.value_error(("there is no policy '%s': it must be %s"):format(tostring(name), expected),
        { option = "policies" }), 0)
    end
  end
  local of_backend, of_sessions = {}, {}
  for name, value in pairs(given) do
    local policy, described = M.load(name, value)
    policy.described = described
    of_sessions[name] = policy
  end
  for _, name in ipairs(OF_BACKEND) do
    local default = name == "injection" and require("parley.policy.injection." .. injection_mode) or default_of(name)
    local policy = of_sessions[name] or { described = ("the policy '%s'"):format(name) }
    of_backend[name], of_sessions[name] = setmetatable(policy, { __index = default }), nil
  end
  return of_backend, of_sessions
end

return M
