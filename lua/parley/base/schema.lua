--- A small JSON Schema: what a value must be like, and what is wrong with one that is not.
---
--- Known are `type` (one or a list), `enum`, `const`; of numbers `minimum`, `maximum`, `exclusiveMinimum`,
--- `exclusiveMaximum`; of strings `minLength`, `maxLength` (in characters); of arrays `items`, `minItems`,
--- `maxItems`; of objects `properties`, `required`, `additionalProperties` (a boolean or a schema); `anyOf`. `title`,
--- `description`, `default`, `examples` and `$schema` say something to the reader. Every other keyword is an error:
--- one that was passed over would promise what nobody holds. Where another reads the schema, too, as the model does
--- that of a tool, other keywords are passed over, with what `patternProperties` and `prefixItems` describe, and `true`
--- and `false` are schemas.
local core = require "parley.core"
local errors = require "parley.base.errors"
local options = require "parley.base.options"
local suggest = require "parley.base.suggest"

local M = {}

local json = core.json
local MOST = 5 -- problems that one look reports

local function is_object(value) return type(value) == "table" and not json.is_array(value) and #value == 0 end
local function is_list(value)
  return type(value) == "table" and (json.is_array(value) or #value > 0 or next(value) == nil)
end

local TYPES = {
  object = is_object,
  array = function(value) return json.is_array(value) or type(value) == "table" and #value > 0 end,
  string = function(value) return type(value) == "string" end,
  number = function(value) return type(value) == "number" end,
  integer = function(value) return type(value) == "number" and value % 1 == 0 end,
  boolean = function(value) return type(value) == "boolean" end,
  null = function(value) return value == json.null end,
}

local function sorted_names(map)
  local names = {}
  for name in pairs(map) do table.insert(names, name) end
  table.sort(names, function(left, right) return tostring(left) < tostring(right) end)
  return names
end

--- What a value is, short, for messages.
local function show(value)
  if value == json.null then return "null" end
  local text = json.encode(value, { sort_keys = true }) or options.describe(value)
  return #text <= 60 and text or is_object(value) and "an object" or type(value) == "table" and "an array"
    or "a " .. type(value)
end

local function is_equal(left, right)
  if left == right then return true end
  if type(left) ~= "table" or type(right) ~= "table" or is_object(left) ~= is_object(right) then return false end
  for name, value in pairs(left) do
    if not is_equal(value, right[name]) then return false end
  end
  for name in pairs(right) do
    if left[name] == nil then return false end
  end
  return true
end

-- The schema itself ---------------------------------------------------------------------------------------------------

local function is_count(value) return math.type(value) == "integer" and value >= 0 end
local function is_number(value) return type(value) == "number" and value == value end
local function is_anything() return true end
local function is_text(value) return type(value) == "string" end
local function is_schema(value, passes_over) return is_object(value) or passes_over and type(value) == "boolean" end

local function are_types(value)
  if type(value) == "string" then return TYPES[value] ~= nil end
  if not is_list(value) or #value == 0 then return false end
  for _, name in ipairs(value) do
    if type(name) ~= "string" or not TYPES[name] then return false end
  end
  return true
end

local function are_names(value) return is_list(value) and options.is_of({ table.unpack(value) }, "list of strings") end

--- What each keyword takes; those with schemas below them are looked into by `check_schema`.
local KEYWORDS = {
  type = { are_types, "one of object, array, string, number, integer, boolean, null, or a list of these" },
  enum = { function(value) return is_list(value) and #value > 0 end, "a list of values" },
  const = { is_anything, "a value" },
  minimum = { is_number, "a number" }, maximum = { is_number, "a number" },
  exclusiveMinimum = { is_number, "a number" }, exclusiveMaximum = { is_number, "a number" },
  minLength = { is_count, "a whole number" }, maxLength = { is_count, "a whole number" },
  minItems = { is_count, "a whole number" }, maxItems = { is_count, "a whole number" },
  items = { is_schema, "a schema, a table" },
  properties = { is_object, "a table of schemas by name" },
  required = { are_names, "a list of names" },
  additionalProperties = { function(value) return type(value) == "boolean" or is_object(value) end,
    "a boolean or a schema" },
  title = { is_text, "a text" }, description = { is_text, "a text" }, ["$schema"] = { is_text, "a text" },
  default = { is_anything, "a value" }, examples = { is_list, "a list" },
  anyOf = { function(value) return is_list(value) and #value > 0 end, "a list of schemas" },
}

local function check_schema(schema, where, passes_over)
  if not is_schema(schema, passes_over) then
    error(errors.value_error(("%s must be a JSON Schema, a table, not %s"):format(where, options.describe(schema))), 0)
  end
  if not is_object(schema) then return end
  for _, name in ipairs(sorted_names(schema)) do
    local keyword, value = KEYWORDS[name], schema[name]
    if not keyword and not passes_over then
      local hint = type(name) == "string" and suggest.near(name, sorted_names(KEYWORDS)) or ""
      error(errors.value_error(("%s has the keyword '%s', which is not supported%s"):format(where, tostring(name),
        hint ~= "" and hint or ": known are " .. table.concat(sorted_names(KEYWORDS), ", "))), 0)
    end
    if keyword and not keyword[1](value, passes_over) then
      error(errors.value_error(("%s.%s must be %s, not %s"):format(where, name, keyword[2],
        options.describe(value))), 0)
    end
  end
  for _, name in ipairs(sorted_names(schema.properties or {})) do
    check_schema(schema.properties[name], ("%s.properties.%s"):format(where, name), passes_over)
  end
  for i, each in ipairs(schema.anyOf or {}) do
    check_schema(each, ("%s.anyOf[%d]"):format(where, i - 1), passes_over)
  end
  if schema.items then check_schema(schema.items, where .. ".items", passes_over) end
  if is_object(schema.additionalProperties) then
    check_schema(schema.additionalProperties, where .. ".additionalProperties", passes_over)
  end
end

--- Checks a schema.
---@param schema any
---@param where string  what it is, for messages
---@param passes_over? boolean  keywords that are not known are no error
--- Raises `ValueError`, which names the keyword and what was expected.
function M.check(schema, where, passes_over)
  local err = is_object(schema) and select(2, json.encode(schema)) -- first: one that contains itself has no end
  if err then error(errors.value_error(("%s cannot be written as JSON: %s"):format(where, err.message)), 0) end
  check_schema(schema, where, passes_over)
end

-- Values --------------------------------------------------------------------------------------------------------------

local look

local function look_at_type(schema, value, path, report)
  if not schema.type then return true end
  local names = type(schema.type) == "table" and schema.type or { schema.type }
  for _, name in ipairs(names) do
    if TYPES[name](value) then return true end
  end
  report(path, "must be of type " .. table.concat(names, " or "), value)
  return false
end

local function look_at_number(schema, value, path, report)
  if schema.minimum and value < schema.minimum then report(path, "must be at least " .. schema.minimum, value) end
  if schema.maximum and value > schema.maximum then report(path, "must be at most " .. schema.maximum, value) end
  local above, below = schema.exclusiveMinimum, schema.exclusiveMaximum
  if above and value <= above then report(path, "must be more than " .. above, value) end
  if below and value >= below then report(path, "must be less than " .. below, value) end
end

local function look_at_size(size, least, most, path, report, unit)
  if least and size < least then report(path, ("must have at least %d %s, not %d"):format(least, unit, size)) end
  if most and size > most then report(path, ("must have at most %d %s, not %d"):format(most, unit, size)) end
end

local function look_at_object(schema, value, path, report)
  local properties, more = schema.properties or {}, schema.additionalProperties
  if is_object(schema.patternProperties) then more = nil end -- which names those take nobody knows here
  for _, name in ipairs(schema.required or {}) do
    if value[name] == nil then report(path, ("lacks '%s'"):format(name)) end
  end
  for _, name in ipairs(sorted_names(value)) do
    local below = ("%s.%s"):format(path, tostring(name))
    if properties[name] ~= nil then
      look(properties[name], value[name], below, report)
    elseif more == false then
      report(below, "is one too many: " .. (next(properties) and "there may be "
        .. table.concat(sorted_names(properties), ", ") or "there may be none"))
    elseif type(more) == "table" then
      look(more, value[name], below, report)
    end
  end
end

local function is_among(value, values)
  for _, other in ipairs(values) do
    if is_equal(value, other) then return true end
  end
  return false
end

--- The schema of these that comes nearest, by how many problems it has with a value.
local function look_at_choices(schemas, value, path, report)
  local fewest
  for _, each in ipairs(schemas) do
    local problems = {}
    look(each, value, path, function(...) table.insert(problems, { ... }) end)
    if not problems[1] then return end
    if not fewest or #problems < #fewest then fewest = problems end
  end
  for _, problem in ipairs(fewest) do report(table.unpack(problem)) end
end

local function look_at_items(schema, value, path, report)
  look_at_size(#value, schema.minItems, schema.maxItems, path, report, "items")
  if schema.items == nil then return end
  local before = type(schema.prefixItems) == "table" and #schema.prefixItems or 0
  for i = before + 1, #value do look(schema.items, value[i], ("%s[%d]"):format(path, i - 1), report) end
end

function look(schema, value, path, report)
  if schema == true then return end
  if schema == false then return report(path, "is one too many") end
  if schema.anyOf then look_at_choices(schema.anyOf, value, path, report) end
  if schema.enum and not is_among(value, schema.enum) then
    return report(path, "must be one of " .. json.encode(json.array { table.unpack(schema.enum) }), value)
  end
  if schema.const ~= nil and not is_equal(value, schema.const) then
    return report(path, "must be " .. show(schema.const), value)
  end
  if not look_at_type(schema, value, path, report) then return end
  if type(value) == "number" then
    look_at_number(schema, value, path, report)
  elseif type(value) == "string" then
    look_at_size(utf8.len(value) or #value, schema.minLength, schema.maxLength, path, report, "characters")
  elseif TYPES.array(value) then
    look_at_items(schema, value, path, report)
  elseif is_object(value) then
    look_at_object(schema, value, path, report)
  end
end

--- Says what is wrong with a value.
---@param schema table  one that `check` finds nothing wrong with
---@param value any     as `json.decode` gives it
---@param root? string  what the value is called, default `$`
---@return string? problem  nil when it fits; the first few, each with its path: `$.files[0].line must be …`
function M.problem(schema, value, root)
  local problems = {}
  look(schema, value, root or "$", function(path, what, got)
    table.insert(problems, ("%s %s%s"):format(path, what, got ~= nil and ", not " .. show(got) or ""))
  end)
  if not problems[1] then return nil end
  local hidden = #problems - MOST
  return table.concat(problems, "; ", 1, math.min(#problems, MOST)) .. (hidden > 0 and ("; and %d more"):format(hidden)
    or "")
end

--- What stands in the last block between ``` and ```.
local function last_block(text)
  local block, lines
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    if lines and line:find "^%s*```" then
      block, lines = table.concat(lines, "\n"), nil
    elseif lines then
      table.insert(lines, line)
    elseif line:find "```%w*%s*$" then
      lines = {}
    end
  end
  return block
end

--- Reads the value that a text holds: the whole text, or the last block between ``` and ``` in it.
---@param schema table
---@param text string
---@return any value       nil when there is none that fits; JSON's null is `json.null`
---@return string? problem
function M.read(schema, text)
  local value, err = json.decode(text, { strict = true })
  if value == nil then
    local block = last_block(text)
    if not block then return nil, "it is no JSON: " .. err.message end
    value, err = json.decode(block, { strict = true })
    if value == nil then return nil, "its last block is no JSON: " .. err.message end
  end
  local problem = M.problem(schema, value)
  if problem then return nil, problem end
  return value
end

return M
