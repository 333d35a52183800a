--- Policies as a caller gives them: tables of functions, or Lua files that return one. What they return is checked
--- here, so that whoever calls one may rely on it. What they get is a copy: nothing that they do to it has an effect.
local core = require "parley.core"
local errors = require "parley.base.errors"
local event = require "parley.claude.event"
local options = require "parley.base.options"
local suggest = require "parley.base.suggest"

local M = {}

local NAMES = { "routing", "injection", "mcp_config", "readiness", "dialogs", "delivery", "settling" }
--- Those that a backend calls itself; the others are its sessions'.
local OF_BACKEND = { "routing", "injection", "mcp_config" }
local OF_SESSION = { "readiness", "dialogs", "delivery", "settling" }

local is_of = options.is_of
local function is_maybe(value, kind) return value == nil or is_of(value, kind) end

local function is_step(step)
  return type(step) == "table" and is_of(step.holds, "string") and is_maybe(step.rest_ms, "number")
    and is_maybe(step.keys, "string") and is_maybe(step.editor, "string")
    and (step.keys == nil) ~= (step.editor == nil)
end

local function are_steps(steps)
  if type(steps) ~= "table" then return false end
  for _, step in ipairs(steps) do
    if not is_step(step) then return false end
  end
  return #steps > 0 -- Enter would be pressed on a composer that nobody looked at
end

local function is_dialog(dialog)
  return is_of(dialog.kind, "string") and is_of(dialog.text, "string") and is_of(dialog.choices, "list of strings")
    and is_maybe(dialog.selected, "integer") and is_maybe(dialog.first_number, "integer")
    and is_maybe(dialog.remedy, "string")
end

local function is_decision(decision, dialog)
  if decision.choose ~= nil then return dialog.choices[decision.choose] ~= nil end
  return is_of(decision.keys, "string") or is_of(decision.fail, "string")
end

local ENDINGS = { success = true, interrupted = true }

local function is_verdict(verdict)
  return is_of(verdict.subtype, "string") and (ENDINGS[verdict.subtype] or verdict.subtype:find "^error_") ~= nil
    and is_maybe(verdict.stop_reason, "string")
end

local function is_one_of(words)
  return function(value) return options.one_of(words)(value) == nil end
end

local STATES, HOLDS = { "starting", "ready", "busy", "dialog" }, { "whole", "empty", "other" }

--- What each function must return, and whether it did: asked with its two results and its first argument, it may add
--- what is wrong. A function that is not here may return what it likes.
local RESULTS = {
  routing = {
    route = { "{key = string?, options = table?, wait = boolean?, pin = boolean?}, or nil and a reason",
      function(answer, why)
        if not answer then return is_maybe(why, "string") end
        local fits = is_of(answer, "table") and is_maybe(answer.key, "string") and is_maybe(answer.options, "table")
          and is_maybe(answer.wait, "boolean") and is_maybe(answer.pin, "boolean")
        if fits and answer.wait and not answer.key then return false, "one that would wait and names no key" end
        return fits
      end },
    keys = { "a list of strings", function(keys) return is_of(keys, "list of strings") end },
  },
  injection = {
    prepare = { "{text = string, resume = boolean?, start_offset = integer?}", function(injection)
      return is_of(injection, "table") and is_of(injection.text, "string") and is_maybe(injection.resume, "boolean")
        and is_maybe(injection.start_offset, "integer") and (injection.start_offset or 0) >= 0
    end },
  },
  mcp_config = { write = { "a path", function(path) return is_of(path, "string") end } },
  readiness = { state = { "one of " .. table.concat(STATES, ", "), is_one_of(STATES) } },
  dialogs = {
    recognize = { "{kind = string, text = string, choices = list of strings, selected = integer?, …}, or nil",
      function(dialog) return dialog == nil or is_of(dialog, "table") and is_dialog(dialog) end },
    decide = { "{choose = one of the dialog's choices, by its place}, {keys = string} or {fail = string}",
      function(decision, _, dialog) return is_of(decision, "table") and is_decision(decision, dialog) end },
  },
  delivery = {
    prepare = { "a string, or nil and a reason", function(text, why) return is_of(text or why, "string") end },
    keystrokes = { "a list of {keys = string or editor = string, holds = string, rest_ms = number?}, or nil and why",
      function(steps, why) return steps == nil and is_of(why, "string") or are_steps(steps) end },
    holds = { "one of " .. table.concat(HOLDS, ", "), is_one_of(HOLDS) },
    clear = { "a string", function(keys) return is_of(keys, "string") end },
  },
  settling = {
    judge = { "{subtype = 'success'|'interrupted'|'error_…', stop_reason = string?}, or nil and maybe a number",
      function(verdict, look_again)
        if not verdict then return is_maybe(look_again, "number") end
        return is_of(verdict, "table") and is_verdict(verdict)
      end },
  },
}

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
  error(errors.value_error(("%s fails when it is loaded: %s"):format(where, errors.text(result)),
    { policy = name, cause = result }), 0)
end

--- The names that a result may have, as RESULTS spells its shape; nil where there is no table or it may have more.
local function fields_of(shape)
  if not shape:find "{" or shape:find(", …", 1, true) then return nil end
  local names = {}
  for name in shape:gmatch "([%w_]+) = " do table.insert(names, name) end
  return names
end

--- A field that a result must not have, with the near one that it may.
local function unknown_field(result, names, is_list)
  for _, part in ipairs(is_list and result or { result }) do
    for field in pairs(type(part) == "table" and part or {}) do
      if options.one_of(names)(field) then
        return ("'%s', which it does not know%s"):format(tostring(field), suggest.near(tostring(field), names, true))
      end
    end
  end
end

local COPIED = { [core.json.array_metatable] = true, [getmetatable(event.new {})] = true }

--- A copy of plain data and events, deep down. What is an object of its own stays what it is.
local function copy_of(value, seen)
  if type(value) ~= "table" then return value end
  local metatable = getmetatable(value)
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

--- What a policy raises that is no error object becomes one that names it, and so does a result of a wrong shape.
local function guarded(name, where, field, fn)
  local must, fits = table.unpack((RESULTS[name] or {})[field] or {})
  local names = must and fields_of(must)
  return function(...)
    local results = table.pack(pcall(fn, copies_of(name, ...)))
    if not results[1] then
      local cause = results[2]
      if errors.is(cause) then error(cause, 0) end
      error(errors.value_error(("%s fails in '%s': %s"):format(where, field, errors.text(cause)),
        { policy = name, cause = cause }), 0)
    end
    local unknown = names and type(results[2]) == "table" and unknown_field(results[2], names, must:find "^a list")
    if unknown then refuse(name, "%s must return %s from '%s', not one with %s", where, must, field, unknown) end
    local is_fine, wrong = true, nil
    if fits then is_fine, wrong = fits(results[2], results[3], (...)) end
    if not is_fine then
      local got = type(results[2]) == "table" and "another table" or options.describe(results[2])
      refuse(name, "%s must return %s from '%s', not %s", where, must, field, wrong or got)
    end
    return table.unpack(results, 2, results.n)
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

--- Raises when a policy has a function that nobody would call, or data under a name that is nearly another. What begins
--- with `_` is its own.
local function check_fields(name, where, given, default)
  local known = {}
  for field in pairs(default) do table.insert(known, field) end
  for field, value in pairs(given) do
    local is_own = type(field) ~= "string" or field:find "^_" or default[field] ~= nil
    local near = not is_own and suggest.near(field, known)
    if near and (type(value) == "function" or near ~= "") then
      refuse(name, "%s has '%s', which no such policy has%s", where, field, near ~= "" and near
        or (": its functions are %s; a helper's name begins with '_'"):format(functions_of(default)))
    end
  end
end

--- Loads a policy and checks it. One that was loaded already is given back.
---@param name string  `"routing"`, …
---@param given any    a table of functions; a string names the Lua file that returns one
---@return table policy  with the defaults behind it; `described` says which it is, for messages: the name and the file
--- Raises `ValueError`, naming the policy and its file.
function M.load(name, given)
  local metatable = type(given) == "table" and getmetatable(given)
  if metatable and metatable.__name == "parley.Policy" then return given end
  local where = ("the policy '%s'"):format(name)
  if type(given) == "string" then
    where = ("the policy '%s' (%s)"):format(name, given)
    given = load_file(name, where, given)
  end
  if type(given) ~= "table" then refuse(name, "%s must be a table of functions, not a %s", where, type(given)) end
  local default, policy, is_known = default_of(name), { described = where }, false
  check_fields(name, where, given, default)
  for field, value in pairs(default) do
    local own = given[field]
    if own ~= nil then
      if type(own) ~= type(value) then
        refuse(name, "%s: '%s' must be a %s, not a %s", where, field, type(value), type(own))
      end
      local is_function = type(own) == "function"
      is_known = is_known or is_function
      policy[field] = is_function and guarded(name, where, field, own) or own
    end
  end
  if not is_known then
    refuse(name, "%s has none of the functions of such a policy: %s", where, functions_of(default))
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
    policies[name] = given[name] and M.load(name, given[name]) or default_of(name)
  end
  return policies
end

--- The kinds of dialogs that `accept` may name: those of which it is known what consents to them.
---@return string[]
function M.acceptable()
  local dialogs, names, is_named = default_of "dialogs", {}, {}
  for _, kinds in ipairs { dialogs.kinds, dialogs.turn_kinds } do
    for _, entry in ipairs(kinds) do
      if entry.yes and not is_named[entry.kind] then
        is_named[entry.kind] = true
        table.insert(names, entry.kind)
      end
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
