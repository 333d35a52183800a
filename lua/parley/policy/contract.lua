--- What policies promise, in the words that their messages use: `M.contract` of each policy names its functions and
--- what they must return, and the results are checked against those words.
---
--- A table is spelled `{name = type, other = type?, …}`: a `?` for what may be absent, `…` for fields that are
--- nobody's business; a type is one of the options' (`parley.OptionRule`), or words: `'start'|'end'`, one that ends in
--- `…` for all that begin so; or two with `or` between them. `a list of {…}` is a list of such tables, not an empty
--- one.
local options = require "parley.base.options"
local suggest = require "parley.base.suggest"

local M = {}

---@class parley.Promise
---@field returns string  what the function must return: a type, a table, or in plain words
---@field or_nil? string  what may come instead of it, in words: nil, and a second result of the type `second`
---@field second? string  with a `?` where there may be none; default: nothing is asked of it
---@field fits? fun(result: any, argument: any): boolean, string?  asks more of the first result, or all where `returns`
---               is plain words; with the function's first argument. It may say what is wrong

---@alias parley.Contract table<string, parley.Promise>

--- A promise of one of some words.
---@param words string[]
---@return parley.Promise
function M.one_of(words)
  return { returns = "one of " .. table.concat(words, ", "), fits = function(value)
    return options.one_of(words)(value) == nil
  end }
end

--- Whether a value is of a field's type.
local function is_of(value, kind)
  local one, other = kind:match "^(.*) or (.*)$"
  if one then return options.is_of(value, one) or options.is_of(value, other) end
  if not kind:find("'", 1, true) then return options.is_of(value, kind) end
  for word in kind:gmatch "'([^']*)'" do
    local beginning = word:match "^(.*)…$"
    if value == word or beginning and type(value) == "string" and value:sub(1, #beginning) == beginning then
      return true
    end
  end
  return false
end

---@class parley.Shape
---@field is_list boolean
---@field is_open boolean             it may have other fields
---@field fields table<string, {kind: string, is_optional: boolean}>

--- Reads a table's shape; nil where the words have none.
---@param words string
---@return parley.Shape?
function M.shape_of(words)
  local before, inside = words:match "^(.-){(.*)}$"
  if not inside then return nil end
  local shape = { is_list = before == "a list of ", is_open = inside:find(", …$") ~= nil, fields = {} }
  for part in inside:gsub(", …$", ""):gmatch "[^,]+" do
    local name, kind, mark = part:match "^ *([%w_]+) = (.-)(%??)$"
    shape.fields[name] = { kind = kind, is_optional = mark == "?" }
  end
  return shape
end

local function names_of(shape)
  local names = {}
  for name in pairs(shape.fields) do table.insert(names, name) end
  table.sort(names)
  return names
end

--- A field that the shape does not have, with the near one that it has.
local function unknown_field(value, shape)
  for field in pairs(shape.is_open and {} or value) do
    if not shape.fields[field] then
      return ("one with '%s', which it does not know%s"):format(tostring(field),
        suggest.near(tostring(field), names_of(shape), true))
    end
  end
end

--- A field that is missing, or of another type.
local function wrong_field(value, shape)
  for _, name in ipairs(names_of(shape)) do
    local field, item = shape.fields[name], value[name]
    if item == nil and not field.is_optional then return ("one without '%s'"):format(name) end
    if item ~= nil and not is_of(item, field.kind) then
      return ("one whose '%s' is %s"):format(name, options.describe(item))
    end
  end
end

--- What is wrong with a table, or with one of a list.
local function wrong_table(value, shape)
  if type(value) ~= "table" then return options.describe(value) end
  if not shape.is_list then return unknown_field(value, shape) or wrong_field(value, shape) end
  if #value == 0 then return "an empty list" end
  local of_items = { is_open = shape.is_open, fields = shape.fields }
  for i, item in ipairs(value) do
    local wrong = wrong_table(item, of_items)
    if wrong then return ("a list whose item %d is %s"):format(i, wrong) end
  end
end

--- Checks what a function has returned.
---@param promise parley.Promise
---@param result any
---@param second any    its second result
---@param argument any  its first argument
---@return string? wrong  what it is instead, in words
function M.check(promise, result, second, argument)
  local function what() return type(result) == "table" and "another table" or options.describe(result) end
  if not result and promise.or_nil then
    local kind, may_miss = (promise.second or "anything?"):match "^(.-)(%??)$"
    if kind == "anything" or second == nil and may_miss == "?" or options.is_of(second, kind) then return nil end
    return second == nil and what() or "nothing and " .. options.describe(second)
  end
  local shape = M.shape_of(promise.returns)
  local wrong_part = shape and wrong_table(result, shape)
  if wrong_part then return wrong_part end
  if promise.fits then
    local is_fine, wrong = promise.fits(result, argument)
    return not is_fine and (wrong or what()) or nil
  end
  local kind = not shape and promise.returns:match "^an? (.*)$"
  return kind and not options.is_of(result, kind) and what() or nil
end

--- The whole promise in words.
---@param promise parley.Promise
---@return string
function M.words(promise)
  return promise.returns .. (promise.or_nil and ", or " .. promise.or_nil or "")
end

return M
