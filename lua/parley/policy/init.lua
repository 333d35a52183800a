--- Policies as a caller gives them: tables of functions, or Lua files that return one. What they return is checked
--- here, so that whoever calls one may rely on it. What they get is a copy: nothing that they do to it has an effect.
local contract = require "parley.policy.contract"
local core = require "parley.core"
local dialog_kinds = require "parley.claude.dialog_kinds"
local errors = require "parley.base.errors"
local event = require "parley.claude.event"
local options = require "parley.base.options"
local suggest = require "parley.base.suggest"
local uv = require "luv"

local M = {}

local NAMES = { "routing", "injection", "mcp_config", "readiness", "dialogs", "delivery", "settling", "permission",
  "sleeping" }
--- Those that a backend calls itself; the others are its sessions'.
local OF_BACKEND = { "routing", "injection", "mcp_config", "sleeping" }
local OF_SESSION = { "readiness", "dialogs", "delivery", "settling", "permission" }
--- Without one the program's own rules hold, and nobody is asked.
local WITHOUT_DEFAULT = { permission = true }

--- What there are policies for.
---@return string[]
function M.names() return { table.unpack(NAMES) } end

local function refuse(name, message, ...)
  error(errors.value_error(message:format(...), { policy = name }), 0)
end

local function default_of(name)
  return name == "injection" and require "parley.policy.injection.native_jsonl" or require("parley.policy." .. name)
end

--- Asks the delivery policy about a text before anything is started.
---@param given table     policies by name, checked
---@param set table       options: `mentions`
---@param text string
---@param index integer   of the message that it is of
--- Raises `ValueError` for one that cannot be sent.
function M.check_text(given, set, text, index)
  local policy = given.delivery or default_of "delivery"
  local prepared, why = policy.prepare(text, { mentions = set.mentions })
  if not prepared then
    error(errors.value_error(("messages[%d] cannot be sent: %s"):format(index, why), { index = index }), 0)
  end
end

local function load_file(name, where, path)
  local chunk, problem = loadfile(path, "t")
  if not chunk then
    local is_lost = problem:find "^cannot open" and path:sub(1, 1) ~= "/"
    refuse(name, "%s cannot be loaded: %s%s", where, problem, is_lost and (" (in %s)"):format(uv.cwd()) or "")
  end
  local ok, result = pcall(chunk)
  if ok then return result end
  error(errors.value_error(("%s fails when it is loaded: %s"):format(where, errors.text(result)),
    { policy = name, cause = result }), 0)
end

local COPIED = { [core.json.array_metatable] = true, [getmetatable(event.new {})] = true }

--- A copy of plain data and events, deep down. What is an object of its own stays what it is.
local function copy_of(value, seen)
  if type(value) ~= "table" then return value end
  local metatable = debug.getmetatable(value)
  if metatable and not COPIED[metatable] then return value end
  if seen[value] then return seen[value] end
  local copy = {}
  seen[value] = copy
  for key, item in next, value do copy[key] = copy_of(item, seen) end
  return setmetatable(copy, metatable)
end

--- The copies of requests: both functions of a routing policy see the same one.
local requests = setmetatable({}, { __mode = "k" })

local function copies_of(name, ...)
  local arguments, seen = table.pack(...), {}
  local request = name == "routing" and arguments[1]
  if request then
    requests[request] = requests[request] or copy_of(request, seen)
    arguments[1] = requests[request]
  end
  for i = request and 2 or 1, arguments.n do arguments[i] = copy_of(arguments[i], seen) end
  return table.unpack(arguments, 1, arguments.n)
end

--- What a policy raises that is no error object becomes one that names it, and so does a result that breaks a promise.
local function guarded(name, where, field, fn, promise)
  return function(...)
    local results = table.pack(pcall(fn, copies_of(name, ...)))
    if not results[1] then
      local cause = results[2]
      if errors.is(cause) then error(cause, 0) end
      error(errors.value_error(("%s fails in '%s': %s"):format(where, field, errors.text(cause)),
        { policy = name, cause = cause }), 0)
    end
    local wrong = contract.check(promise, results[2], results[3], (...))
    if wrong then refuse(name, "%s must return %s from '%s', not %s", where, contract.words(promise), field, wrong) end
    return table.unpack(results, 2, results.n)
  end
end

local function functions_in(promises)
  local names = {}
  for field, promise in pairs(promises) do
    if promise.returns then table.insert(names, "'" .. field .. "'") end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

--- Raises when a policy has what its contract does not know. What begins with `_` is its own; it may be a changed copy
--- of the default.
local function check_fields(name, where, given, default)
  local known = {}
  for field in pairs(default.contract) do table.insert(known, field) end
  for field, value in pairs(given) do
    local is_known = type(field) ~= "string" or field:find "^_" or default.contract[field] or value == default[field]
    if not is_known then
      local near = suggest.near(field, known)
      refuse(name, "%s has '%s', which no such policy has%s", where, field, near ~= "" and near
        or (": its functions are %s; what is its own begins with '_'"):format(functions_in(default.contract)))
    end
  end
end

--- Loads a policy and checks it. One that was loaded already is given back.
---@param name string  `"routing"`, …
---@param given any    a table of functions; a string names the Lua file that returns one
---@return table policy  with the defaults behind it; `described` says which it is, for messages: the name and the file
--- Raises `ValueError`, naming the policy and its file.
function M.load(name, given)
  local metatable = type(given) == "table" and debug.getmetatable(given)
  if metatable and metatable.__name == "parley.Policy" then return given end
  local where = ("the policy '%s'"):format(name)
  if type(given) == "string" then
    where = ("the policy '%s' (%s)"):format(name, given)
    given = load_file(name, where, given)
  end
  if type(given) ~= "table" then refuse(name, "%s must be a table of functions, not a %s", where, type(given)) end
  local default, policy, is_known = default_of(name), { described = where }, false
  check_fields(name, where, given, default)
  for field, promise in pairs(default.contract) do
    local own, kind = given[field], promise.setting or "function"
    if own ~= nil then
      if type(own) ~= kind then refuse(name, "%s: '%s' must be a %s, not a %s", where, field, kind, type(own)) end
      if own == "" then refuse(name, "%s: '%s' must not be empty", where, field) end
      is_known = true
      policy[field] = kind == "function" and guarded(name, where, field, own, promise) or own
    end
  end
  if not is_known then
    refuse(name, "%s has none of the functions of such a policy: %s", where, functions_in(default.contract))
  end
  return setmetatable(policy, { __index = default, __name = "parley.Policy" })
end

local function check_names(given)
  local is_name = options.one_of(NAMES)
  for name in pairs(given) do
    local expected = is_name(name)
    if expected then
      error(errors.value_error(("there is no policy '%s': it must be %s%s"):format(tostring(name), expected,
        suggest.near(tostring(name), NAMES)), { option = "policies" }), 0)
    end
  end
end

--- Loads all policies that the caller of a backend gives.
---@param given table<string, table|string>
---@param injection_mode string  whose policy is the default: `"native_jsonl"` or `"concat_message"`
---@return table<string, table> of_backend   with the defaults filled in
---@return table<string, table> of_sessions  those that are given
--- Raises `ValueError`.
function M.of_backend(given, injection_mode)
  check_names(given)
  local of_backend, of_sessions = {}, {}
  for name, value in pairs(given) do of_sessions[name] = M.load(name, value) end
  for _, name in ipairs(OF_BACKEND) do
    local default = name == "injection" and require("parley.policy.injection." .. injection_mode) or default_of(name)
    of_backend[name], of_sessions[name] = of_sessions[name] or default, nil
  end
  return of_backend, of_sessions
end

--- Loads the policies of a session.
---@param given table<string, table|string>
---@return table<string, table>  with the defaults filled in
--- Raises `ValueError`.
function M.of_session(given)
  check_names(given)
  local policies = {}
  for _, name in ipairs(OF_SESSION) do
    policies[name] = given[name] and M.load(name, given[name]) or not WITHOUT_DEFAULT[name] and default_of(name) or nil
  end
  return policies
end

--- The kinds of dialogs that `accept` may name: those of which it is known what consents to them.
---@return string[]
function M.acceptable()
  local names, is_named = {}, {}
  for _, entry in ipairs(dialog_kinds.all) do
    if entry.yes and not is_named[entry.kind] then
      is_named[entry.kind] = true
      table.insert(names, entry.kind)
    end
  end
  return names
end

--- Checks the dialogs that may be answered. A dialogs policy of the caller's own may know others.
---@param accept string[]
---@param given table<string, table|string>  the policies
---@param where string
--- Raises `ValueError`.
function M.check_accept(accept, given, where)
  local kinds = M.acceptable()
  local is_kind = options.one_of(kinds)
  for _, kind in ipairs(given.dialogs and {} or accept) do
    local expected = is_kind(kind)
    if expected then
      error(errors.value_error(("%s: option 'accept' must name dialogs, each %s, not '%s'%s"):format(where, expected,
        kind, suggest.near(kind, kinds)), { option = "accept" }), 0)
    end
  end
end

return M
