--- Option tables, checked once, at the door: an unknown name, a wrong type or a bad value is a `ValueError` that names
--- the option and says what was expected.
local errors = require "parley.base.errors"
local suggest = require "parley.base.suggest"

local M = {}

---@class parley.OptionRule
---@field type string|string[]  Lua types; "integer", "positive integer", "milliseconds", "list of strings", "map of
---                             strings" and "callable" are known too
---@field default? any
---@field check? fun(value: any): string?  returns what was expected instead, for a bad value
---@field copy? boolean          false keeps the caller's table

local function all_strings(value, next_key)
  if type(value) ~= "table" or (debug.getmetatable(value) or {}).__call then return false end
  for key, item in next_key(value) do
    if type(item) ~= "string" then return false end
    if next_key == pairs and type(key) ~= "string" then return false end
  end
  return true
end

local function is_list(value)
  if type(value) ~= "table" then return false end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  return count == #value
end

local kinds = {
  integer = function(value) return math.type(value) == "integer" end,
  ["positive integer"] = function(value) return math.type(value) == "integer" and value > 0 end,
  milliseconds = function(value) return type(value) == "number" and value >= 0 end,
  ["list of strings"] = function(value) return is_list(value) and all_strings(value, ipairs) end,
  ["map of strings"] = function(value) return all_strings(value, pairs) end,
  callable = function(value)
    return type(value) == "function" or type(value) == "table" and (debug.getmetatable(value) or {}).__call ~= nil
  end,
}

--- Whether a value is of a rule's type.
---@param value any
---@param kind string  see `parley.OptionRule`
---@return boolean
function M.is_of(value, kind)
  if kinds[kind] then return kinds[kind](value) end
  return type(value) == kind
end

local HOLD_TEXT = { string = true, ["list of strings"] = true, ["map of strings"] = true }

--- An argument, a variable or a path would end at a NUL byte.
local function holds_nul(value)
  if type(value) == "string" then return value:find("\0", 1, true) ~= nil end
  for key, item in pairs(type(value) == "table" and value or {}) do
    if holds_nul(key) or holds_nul(item) then return true end
  end
  return false
end

--- Says what a value is, for messages.
---@param value any
---@return string
function M.describe(value)
  if value == nil then return "nothing" end
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  return "a " .. type(value)
end

--- The names of rules that were asked for, sorted: rules are made once, and looked at for every process and turn.
local known_names = setmetatable({}, { __mode = "k" })

local function names_of(rules)
  local names = known_names[rules]
  if names then return names end
  names = {}
  for name in pairs(rules) do table.insert(names, name) end
  table.sort(names)
  known_names[rules] = names
  return names
end

local function shallow_copy(value)
  local copy = {}
  for key, item in pairs(value) do copy[key] = item end
  return setmetatable(copy, debug.getmetatable(value))
end

--- Checks an option table against its rules.
---@param rules table<string, parley.OptionRule>
---@param given? table
---@param where string  what the options are of, for messages: `"parley.backend"`
---@return table options  a new table with the defaults filled in
--- Raises `ValueError`, with `option` naming the one at fault.
function M.check(rules, given, where)
  if given == nil then given = {} end
  if type(given) ~= "table" then
    error(errors.value_error(("%s takes a table of options, not %s"):format(where, M.describe(given))), 0)
  end
  for name in pairs(given) do
    if not rules[name] then
      error(errors.value_error(("%s %s no option '%s'%s"):format(where, where:find "^the options" and "have" or "has",
        tostring(name), suggest.near(tostring(name), names_of(rules))), { option = name }), 0)
    end
  end
  local checked = {}
  for _, name in ipairs(names_of(rules)) do
    local rule, value = rules[name], given[name]
    if value == nil then
      value = rule.default
    else
      local types = type(rule.type) == "table" and rule.type or { rule.type }
      local kind
      for _, candidate in ipairs(types) do kind = kind or M.is_of(value, candidate) and candidate end
      local expected = not kind and "a value of type " .. table.concat(types, " or ")
        or HOLD_TEXT[kind] and holds_nul(value) and "without NUL bytes" or rule.check and rule.check(value)
      if expected then
        local got = kind and type(value) == "table" and "" or ", not " .. M.describe(value)
        error(errors.value_error(("%s: option '%s' must be %s%s"):format(where, name, expected, got),
          { option = name }), 0)
      end
    end
    if type(value) == "table" and rule.copy ~= false then value = shallow_copy(value) end
    checked[name] = value
  end
  return checked
end

--- A check for `rule.check`: the value is one of these.
---@param values string[]
---@return fun(value: any): string?
function M.one_of(values)
  return function(value)
    for _, allowed in ipairs(values) do
      if value == allowed then return nil end
    end
    return "one of " .. table.concat(values, ", ")
  end
end

--- The rules of several tables in one; a name that two of them have is an error in the program.
---@param ... table<string, parley.OptionRule>
---@return table<string, parley.OptionRule>
function M.merge(...)
  local rules = {}
  for _, part in ipairs { ... } do
    for name, rule in pairs(part) do
      assert(not rules[name], name)
      rules[name] = rule
    end
  end
  return rules
end

return M
