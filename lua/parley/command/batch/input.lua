--- The conversations of a batch, one at a time: from lines of JSON, a JSON array, lines of text, or a Lua file.
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local expect = require "parley.command.batch.expect"
local launch = require "parley.claude.launch"
local lines = require "parley.command.batch.lines"
local pictures = require "parley.command.pictures"
local schemas = require "parley.base.schema"
local suggest = require "parley.base.suggest"

local M = {}

local is_callable = expect.is_callable
local json = core.json

---@class parley.batch.Conversation
---@field id string|integer
---@field line integer          of the input; of a JSON array or a Lua file, the how-manieth it is
---@field messages? table[]     the conversation so far; when the last one is the user's, it is sent first
---@field turns? table|function the texts to send; or `function(answer_text, turn_number, messages)`, which names the
---                             next text, or nil when the conversation is over
---@field options table         of `parley.backend`; `tools` may be the path of a file that returns them
---@field expect? any           see parley.batch.expect
---@field schema? table         that the last answer is asked to fit; see parley.base.schema
---@field metadata? any         copied to the result

---@class parley.batch.Rejected
---@field line integer
---@field error parley.Error    why it is no conversation

local function is_list(value) return type(value) == "table" and (json.is_array(value) or #value > 0) end

local function is_text(value) return type(value) == "string" end

local function is_list_of_texts(value)
  if not is_list(value) and not (type(value) == "table" and next(value) == nil) then return false end
  for _, word in ipairs(value) do
    if not is_text(word) then return false end
  end
  return true
end

local function is_mode(value)
  for _, mode in ipairs(launch.permission_modes) do
    if mode == value then return true end
  end
  return false
end

local function is_duration(value) return type(value) == "number" and value > 0 and value < math.huge end

--- A Lua file's path; an input in Lua may have the tools themselves, which the backend checks.
local function are_tools(value) return is_text(value) or is_list(value) and type(value[1]) == "table" end

--- What a conversation may set for itself of a backend: the field, what it must be, and how that is said.
local OPTIONS = {
  { "cwd", is_text, "a text" },
  { "model", is_text, "a text" },
  { "system_prompt", is_text, "a text" },
  { "permission_mode", is_mode, "one of " .. table.concat(launch.permission_modes, ", ") },
  { "allowed_tools", is_list_of_texts, "a list of texts" },
  { "timeout", is_duration, "a number of seconds above 0" },
  { "tools", are_tools, "the path of a Lua file that returns a list of tools" },
}

local FIELDS = { "id", "messages", "turns", "expect", "schema", "metadata" }
for _, option in ipairs(OPTIONS) do table.insert(FIELDS, option[1]) end

--- What of a conversation the output could not hold, said before it is played.
local function encoding_complaint(given)
  for _, name in ipairs { "id", "metadata", "messages", "turns" } do
    local value, err = given[name], nil
    if value ~= nil and not is_callable(value) then err = select(2, json.encode(value)) end
    if err then
      return ("%s cannot be written as JSON: %s"):format(name, err.message:match "^cannot encode (.*)" or err.message)
    end
  end
end

--- What is wrong with a schema: a conversation's last turn must be known to be the last when it is said.
local function schema_complaint(given)
  if is_callable(given.turns) then
    return 'schema needs turns in a list; expect {"json": …} looks at the last answer of any'
  end
  local fits, err = pcall(schemas.check, given.schema, "schema")
  return not fits and errors.message(err) or nil
end

--- What is wrong with the fields, as the end of a sentence.
local function complaint(given)
  for name in pairs(given) do
    local known = false
    for _, field in ipairs(FIELDS) do known = known or field == name end
    if not known then return ("unknown field '%s'%s"):format(tostring(name), suggest.near(tostring(name), FIELDS)) end
  end
  if given.id ~= nil and type(given.id) ~= "string" and math.type(given.id) ~= "integer" then
    return "id must be a text or a whole number"
  end
  if given.messages == nil and given.turns == nil then return "neither messages nor turns" end
  if given.messages ~= nil and not is_list(given.messages) then return "messages must be a list" end
  if given.turns ~= nil and not is_callable(given.turns) then
    if not is_list(given.turns) then return "turns must be a list of texts" end
    for i, turn in ipairs(given.turns) do
      if type(turn) ~= "string" and not is_list(turn) then return ("turns[%d] must be a text"):format(i) end
    end
  end
  for _, option in ipairs(OPTIONS) do
    local name, is_right, what = table.unpack(option)
    if given[name] ~= nil and not is_right(given[name]) then return ("%s must be %s"):format(name, what) end
  end
  return given.schema ~= nil and schema_complaint(given) or given.expect ~= nil and expect.check(given.expect)
    or encoding_complaint(given)
end

--- Makes a conversation of a table, or says why it is none.
---@param given any
---@param line integer
---@param folder? string  where the paths of its pictures begin; default: here
---@return parley.batch.Conversation|parley.batch.Rejected
function M.conversation(given, line, folder)
  if type(given) ~= "table" or json.is_array(given) then
    return { line = line, error = errors.value_error "not an object with messages or turns" }
  end
  local present = {}
  for name, value in pairs(given) do
    if value ~= json.null then present[name] = value end
  end
  local problem = complaint(present)
  if problem then return { line = line, error = errors.value_error(problem) } end
  local is_there, messages, turns = pcall(pictures.load, present, folder or ".")
  if not is_there then return { line = line, error = messages } end
  local options = {}
  for _, option in ipairs(OPTIONS) do options[option[1]] = present[option[1]] end
  options.timeout, options.turn_timeout_ms = nil, present.timeout and present.timeout * 1000
  return { id = present.id or ("line-%d"):format(line), line = line, messages = messages, turns = turns,
    options = options, expect = present.expect, schema = present.schema, metadata = present.metadata }
end

--- Strict: a message with bytes that are no UTF-8 would be sent changed.
local function of_line(line, number, folder)
  local value, err = json.decode(line, { strict = true })
  if value == nil then return { line = number, error = errors.value_error("not JSON: " .. err.message) } end
  return M.conversation(value, number, folder)
end

---@class parley.batch.Source
---@field total? integer  how many there are, where that can be told beforehand
local Source = {}
Source.__index = Source
Source.__name = "parley.batch.Source"

--- For the generic `for`.
---@return (parley.batch.Conversation|parley.batch.Rejected)?
function Source:__call() return self.next_item() end

function Source:close()
  if self.close_source then self.close_source() end
end

Source.__close = Source.close

local function folder_of(path) return path:match "^(.*)/" or "." end

--- The lines of a reader that are not blank, for the generic `for`.
local function filled(reader)
  return function()
    local line
    repeat line = reader:next() until not line or line:find "%S"
    return line
  end
end

local function of_text(path)
  local total = lines.count(path)
  local reader = lines.open(path)
  local next_line = filled(reader)
  local function next_item()
    local line = next_line()
    return line and M.conversation({ turns = { (line:gsub("\r$", "")) } }, reader.number)
  end
  return setmetatable({ total = total, next_item = next_item, close_source = function() reader:close() end }, Source)
end

--- The elements of an array, which is read whole: where each of them ends is known only then.
local function elements(path, first, reader)
  local parts = { first }
  for line in function() return (reader:next()) end do table.insert(parts, line) end
  local list, err = json.decode(table.concat(parts, "\n"), { strict = true })
  if list then return list end
  local name = path == "-" and "standard input" or ("'%s'"):format(path)
  error(errors.value_error(("%s begins with '[' and is no JSON array: %s"):format(name, err.message)), 0)
end

local function of_list(list, folder)
  local number = 0
  return function()
    number = number + 1
    if number <= #list then return M.conversation(list[number], number, folder) end
  end
end

--- What follows is told by the first line: of a file at once, of a pipe when it has come.
local function of_json(path)
  local source = setmetatable({ total = lines.count(path) }, Source)
  local reader = lines.open(path)
  function source.close_source() reader:close() end
  local next_line, folder = filled(reader), folder_of(path)
  local function begin()
    local waiting = next_line()
    if waiting and waiting:find "^%s*%[" then
      local list = elements(path, waiting, reader)
      source.total, source.next_item = #list, of_list(list, folder)
      return
    end
    function source.next_item()
      local line = waiting or next_line()
      waiting = nil
      return line and of_line(line, reader.number, folder)
    end
  end
  function source.next_item()
    begin()
    return source.next_item()
  end
  local _ <close> = defer(function(err)
    if err then source:close() end
  end)
  if source.total then begin() end
  return source
end

local function script_error(path, problem)
  return errors.value_error(("the script '%s' fails: %s"):format(path, errors.text(problem)), { cause = problem })
end

--- An empty table as a list of conversations says that there is nothing to do.
local function is_empty(value) return type(value) == "table" and next(value) == nil and not is_callable(value) end

--- What the file returned, as the three values of a generic `for`: it may be a list, an iterator, or a function that
--- returns one of them. What the function's first call gave, when it was the iterator itself, comes first.
local function iterator_of(path, iterate, state, control)
  if is_list(iterate) or is_empty(iterate) then return ipairs(iterate) end
  if not is_callable(iterate) then
    error(errors.value_error(("the script '%s' must return an iterator, not a %s"):format(path, type(iterate))), 0)
  end
  local first = table.pack(iterate(state, control))
  if is_empty(first[1]) and not is_empty((iterate(state, first[1]))) then -- a function of a list would give it again
    error(errors.value_error(("the script '%s' gives an empty table as its first conversation: it must have messages "
      .. "or turns"):format(path)), 0)
  end
  if is_callable(first[1]) or is_list(first[1]) or is_empty(first[1]) then
    return iterator_of(path, table.unpack(first, 1, first.n))
  end
  return function(...)
    if not first then return iterate(...) end
    local values = first
    first = nil
    return table.unpack(values, 1, values.n)
  end, state, control
end

local function of_script(path)
  local chunk, problem = loadfile(path, "t")
  if not chunk then error(errors.value_error("cannot load the script: " .. problem), 0) end
  local function guarded(fn, ...)
    local results = table.pack(pcall(fn, ...))
    if results[1] then return table.unpack(results, 2, results.n) end
    if errors.is(results[2]) then error(results[2], 0) end
    error(script_error(path, results[2]), 0)
  end
  local iterate, state, control = guarded(function() return iterator_of(path, chunk(path)) end)
  local number = 0
  return setmetatable({ next_item = function()
    local value, second = guarded(iterate, state, control)
    if value == nil then return nil end
    control, number = value, number + 1
    if type(value) ~= "table" then value = second end -- as `ipairs` gives them
    return M.conversation(value, number, folder_of(path))
  end }, Source)
end

--- Opens an input.
---@param path string  lines of JSON or a JSON array, `-` for standard input, or a Lua file (`*.lua`)
---@param options? {text?: boolean}  each line is a message, whatever the file is called
---@return parley.batch.Source  for the generic `for`; a `<close>` variable
--- Raises `ValueError` when it cannot be read, and from the loop, when a script fails.
function M.open(path, options)
  if options and options.text then return of_text(path) end
  if path:find "%.lua$" then return of_script(path) end
  return of_json(path)
end

return M
