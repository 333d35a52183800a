--- Tools that are Lua functions: what the option `tools` may hold, and what becomes of a function's result.
local core = require "parley.core"
local errors = require "parley.base.errors"
local options = require "parley.base.options"
local schema = require "parley.base.schema"
local suggest = require "parley.base.suggest"

local M = {}

---@class parley.ToolCall
---@field id string          of the `tool_use` block
---@field tool string        the tool's name, as you gave it
---@field session_id string

---@class parley.Tool
---@field name string          letters, digits, `_` and `-`, at most 64
---@field description string   what the model is told
---@field input_schema? table  JSON Schema of an object; default: any object
---@field run fun(input: table, call: parley.ToolCall): string|table  a task: it may wait, and is cancelled with the
---       turn. It gives a text, or blocks of type `text` and `image`. What it raises goes to the model as a text, and
---       to you as an event

--- The Messages API's rule for names.
local NAME, LONGEST_NAME = "^[%w_-]+$", 64

--- The program flattens these at the root of a schema, or passes the whole tool over.
local NOT_AT_ROOT = { "anyOf", "oneOf", "allOf" }

--- Keywords whose value is a list: an empty table of Lua's is meant as one.
local LISTS = { required = true, enum = true, anyOf = true, oneOf = true, allOf = true, examples = true,
  prefixItems = true }

--- Keywords whose values are schemas by name.
local MAPS = { properties = true, ["$defs"] = true, definitions = true, patternProperties = true }

local function refuse(where, message, ...)
  error(errors.value_error(where .. message:format(...), { option = "tools" }), 0)
end

--- A copy that JSON writes as it is meant.
local function copied(value, is_map)
  if type(value) ~= "table" then return value end
  local copy = setmetatable({}, debug.getmetatable(value))
  for name, item in pairs(value) do
    copy[name] = copied(item, not is_map and MAPS[name])
    if not is_map and LISTS[name] and type(item) == "table" and next(item) == nil then core.json.array(copy[name]) end
  end
  return copy
end

local function check_schema(given, where)
  if given == nil then return { type = "object" } end
  if type(given) ~= "table" then
    refuse(where, ": input_schema must be a JSON Schema, not %s", options.describe(given))
  end
  for _, name in ipairs(NOT_AT_ROOT) do
    if given[name] ~= nil then
      refuse(where, ": input_schema must not have %s at its root, for Claude Code changes such a schema, or leaves the "
        .. "tool out: put it into a property", name)
    end
  end
  if given.type ~= "object" then
    refuse(where, ": input_schema.type must be \"object\", not %s", options.describe(given.type))
  end
  local _, problem = core.json.encode(given) -- a copy of one that contains itself would have no end
  if problem then refuse(where, ": input_schema cannot be written as JSON: %s", problem.message) end
  local copy = copied(given)
  local ok, err = pcall(schema.check, copy, "input_schema", true)
  if not ok then refuse(where, ": %s", errors.message(err)) end
  return copy
end

local FIELDS = { "name", "description", "input_schema", "run" }
local is_field = options.one_of(FIELDS)

local function check_tool(given, where)
  if type(given) ~= "table" then refuse(where, " must be a table, not %s", options.describe(given)) end
  if type(given.name) ~= "string" or not given.name:find(NAME) or #given.name > LONGEST_NAME then
    refuse(where, ".name must be 1 to %d letters, digits, '_' and '-', not %s", LONGEST_NAME,
      options.describe(given.name))
  end
  where = ("%s ('%s')"):format(where, given.name)
  for field in pairs(given) do
    if is_field(field) then
      refuse(where, " has no field '%s'%s", tostring(field), suggest.near(tostring(field), FIELDS))
    end
  end
  if type(given.description) ~= "string" or not utf8.len(given.description) then
    refuse(where, ": description must be a text, not %s", options.describe(given.description))
  end
  if not options.is_of(given.run, "callable") then
    refuse(where, ": run must be a function, not %s", options.describe(given.run))
  end
  return { name = given.name, description = given.description, run = given.run,
    input_schema = check_schema(given.input_schema, where) }
end

--- Checks tools.
---@param given any
---@param where string  what they are an option of, for messages
---@return parley.Tool[]  copies
--- Raises `ValueError` that names the tool and the field.
function M.check(given, where)
  where = where .. ": option 'tools'"
  local count = 0
  for _ in pairs(type(given) == "table" and given or {}) do count = count + 1 end
  if type(given) ~= "table" or count ~= #given or count == 0 then
    refuse(where, " must be a list of tools%s", type(given) == "table" and "" or ", not " .. options.describe(given))
  end
  local checked, seen = {}, {}
  for i, each in ipairs(given) do
    local here = ("%s[%d]"):format(where, i)
    checked[i] = check_tool(each, here)
    local name = checked[i].name
    if seen[name] then refuse(here, ".name is '%s', which tools[%d] has already", name, seen[name]) end
    seen[name] = i
  end
  return checked
end

--- What the program is told of tools: those of two lists that it is told the same of can stand for each other.
---@param list parley.Tool[]  checked
---@return table[]
function M.described(list)
  local described = core.json.array {}
  for i, tool in ipairs(list) do
    described[i] = { name = tool.name, description = tool.description, inputSchema = tool.input_schema }
  end
  return described
end

-- Results -------------------------------------------------------------------------------------------------------------

local PICTURES = { ["image/png"] = true, ["image/jpeg"] = true, ["image/gif"] = true, ["image/webp"] = true }

local function is_text(value) return type(value) == "string" and utf8.len(value) ~= nil end

local function block_of(given)
  if type(given) ~= "table" then return nil, "has " .. options.describe(given) .. " where a block should be" end
  if given.type == "text" then
    if not is_text(given.text) then return nil, "has a text block whose text is not UTF-8" end
    return { type = "text", text = given.text }
  elseif given.type ~= "image" then
    return nil, ("has a block of type %s: known are text and image"):format(options.describe(given.type))
  end
  local source = type(given.source) == "table" and given.source or {}
  if source.type ~= "base64" or not PICTURES[source.media_type] or type(source.data) ~= "string"
    or not source.data:find "^[%w+/]+=*$" then
    return nil, "has an image whose source is not { type = \"base64\", media_type = \"image/png\", data = … }"
  end
  return { type = "image", data = source.data, mimeType = source.media_type }
end

--- The content of an answer.
---@param result any  what `run` gave
---@return table[]? content  blocks in the shapes of MCP
---@return string? problem
function M.content(result)
  if type(result) == "string" then
    if not is_text(result) then return nil, "is a text that is not UTF-8" end
    return { { type = "text", text = result } }
  end
  local blocks = type(result) == "table" and (result.type and { result } or result) or nil
  if not blocks or #blocks == 0 then
    return nil, ("must be a text or blocks, not %s"):format(type(result) == "table" and "another table"
      or options.describe(result))
  end
  local content = {}
  for i, each in ipairs(blocks) do
    local block, problem = block_of(each)
    if not block then return nil, problem end
    content[i] = block
  end
  return content
end

return M
