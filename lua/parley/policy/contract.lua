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

local function has_shape(value, shape)
  if type(value) ~= "table" then return false end
  for name, field in pairs(shape.fields) do
    local item = value[name]
    if not (item == nil and field.is_optional) and not is_of(item, field.kind) then return false end
  end
  return true
end

--- A field that the shape does not have, with the near one that it has.
local function unknown_field(value, shape)
  if shape.is_open or type(value) ~= "table" then return nil end
  local names = {}
  for name in pairs(shape.fields) do table.insert(names, name) end
  for field in pairs(value) do
    if not shape.fields[field] then
      return ("one with '%s', which it does not know%s"):format(tostring(field),
        suggest.near(tostring(field), names, true))
    end
  end
end

local function items_of(value, shape)
  if not shape.is_list then return { value } end
  return #value > 0 and value or { false } -- an empty list has not what is asked for
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
  if shape and type(result) ~= "table" then return what() end
  for _, item in ipairs(shape and items_of(result, shape) or {}) do
    local unknown = unknown_field(item, shape)
    if unknown then return unknown end
    if not has_shape(item, shape) then return what() end
  end
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
