--- A request of the Messages API, read: what is said, what came before, and what of it cannot be obeyed.
local core = require "parley.core"
local errors = require "parley.base.errors"
local history = require "parley.base.history"
local models = require "parley.gateway.models"
local options = require "parley.base.options"
local problems = require "parley.gateway.problems"
local tables = require "parley.base.tables"
local tools = require "parley.hub.tools"

local M = {}

local json, refuse = core.json, problems.refuse

--- Under which name the model knows a client's tool; see `parley.hub.session_tools`.
M.PREFIX = "mcp__parley__"

--- What is obeyed, or has no effect that could be missed.
local OBEYED = { model = true, messages = true, system = true, tools = true, stream = true, max_tokens = true,
  metadata = true, tool_choice = true, thinking = true, output_config = true }
--- Fields whose value may ask for what happens anyway.
local HARMLESS = { temperature = 1, top_p = 1, service_tier = "auto" }

local EFFORTS = { low = true, medium = true, high = true, xhigh = true, max = true }

--- A system prompt is a word of the program's command line, of which Linux takes 128 kB.
local SYSTEM_BYTES = 131000

--- What is said behind results that were given with no word of the user's, to a session that has them as history.
M.GO_ON = "Go on with these results."
--- What the program itself puts where an answer is missing: behind results must be one.
local NO_RESPONSE = "No response requested."

---@class parley.gateway.Asked
---@field model string
---@field messages table[]      as the client sent them, without an answer that it has begun itself
---@field system? string
---@field tools? table[]        `name`, `description`, `input_schema`: without `run`
---@field results? table<string, table>  `content`, `is_error`: those of the last message, by their calls' ids
---@field effort? string
---@field is_streamed boolean
---@field wants_thinking boolean
---@field max_tokens? integer
---@field ignored string[]
---@field places parley.gateway.Places  of the last message's blocks

local function is_null(value) return value == nil or value == json.null end

--- They are told in a header.
local function ignore(asked, what) table.insert(asked.ignored, (what:gsub("[%z\1-\31\127]", "?"))) end

-- Fields --------------------------------------------------------------------------------------------------------------

--- A text, or text blocks.
local function text_of(value, where)
  if is_null(value) then return nil end
  if type(value) == "string" then return value end
  if not json.is_array(value) then refuse("%s: must be a text or a list of text blocks", where) end
  local parts = {}
  for i, block in ipairs(value) do
    if type(block) ~= "table" or block.type ~= "text" or type(block.text) ~= "string" then
      refuse("%s.%d: must be a text block", where, i - 1)
    end
    parts[i] = block.text
  end
  return table.concat(parts, "\n\n")
end

local function read_system(asked, body)
  local text = text_of(body.system, "system")
  if not text then return end
  if not utf8.len(text) or text:find "\0" then refuse "system: must be valid UTF-8 without NUL" end
  if #text > SYSTEM_BYTES then
    refuse("system: has %d bytes, and Claude Code can be given %d: put the rest into the first message", #text,
      SYSTEM_BYTES)
  end
  asked.system = text
end

--- The program changes a schema with these at its root, or passes the tool over: the model is told of them in words.
local NOT_AT_ROOT = { "anyOf", "oneOf", "allOf" }

local function read_schema(asked, given, where)
  if is_null(given) then return { type = "object" } end
  if type(given) ~= "table" then refuse("%s.input_schema: must be an object", where) end
  local schema, moved = tables.merged(given), {}
  for _, name in ipairs(NOT_AT_ROOT) do
    if not is_null(schema[name]) then moved[name] = schema[name] end
    schema[name] = nil
  end
  schema.type = schema.type or "object"
  if not next(moved) then return schema end
  ignore(asked, where .. ".input_schema." .. next(moved))
  return schema, "\nThe input must fit this JSON Schema, too: " .. assert(json.encode(moved, { sort_keys = true }))
end

local function read_tool(asked, given, where)
  if type(given) ~= "table" then refuse("%s: must be an object", where) end
  local kind = given.type
  if not is_null(kind) and kind ~= "custom" then
    ignore(asked, ("%s (%s)"):format(where, tostring(kind)))
    return nil
  end
  local schema, more = read_schema(asked, given.input_schema, where)
  local description = is_null(given.description) and "" or given.description
  if type(description) ~= "string" then refuse("%s.description: must be a text", where) end
  return { name = given.name, description = description .. (more or ""), input_schema = schema }
end

local function nothing() return "" end

local function read_tools(asked, body)
  if is_null(body.tools) then return end
  if not json.is_array(body.tools) then refuse "tools: must be a list" end
  local list, places = {}, {}
  for i, given in ipairs(body.tools) do
    local place = ("tools.%d"):format(i - 1)
    table.insert(list, read_tool(asked, given, place))
    if list[#places + 1] then table.insert(places, place) end
  end
  if #list == 0 then return end
  for i, tool in ipairs(list) do list[i] = tables.merged(tool, { run = nothing }) end
  local ok, checked = pcall(tools.check, list, "tools")
  if not ok then
    refuse((checked.message:gsub("^tools: option 'tools'", "tools"):gsub("tools%[(%d+)%]", function(i)
      return places[tonumber(i)]
    end)))
  end
  for _, tool in ipairs(checked) do tool.run = nil end
  asked.tools = checked
end

local function read_choice(asked, choice)
  if is_null(choice) then return end
  local kind = type(choice) == "table" and choice.type or choice
  if kind == "none" then
    asked.tools = nil
  elseif kind ~= "auto" then
    ignore(asked, ("tool_choice (%s)"):format(tostring(kind)))
  end
  if type(choice) == "table" and choice.disable_parallel_tool_use == true then
    ignore(asked, "tool_choice.disable_parallel_tool_use")
  end
end

local function read_thinking(asked, body)
  local thinking = body.thinking
  local kind = type(thinking) == "table" and thinking.type or nil
  asked.wants_thinking = kind == "enabled" or kind == "adaptive"
  if kind == "enabled" then ignore(asked, "thinking.budget_tokens") end
  if kind == "disabled" then ignore(asked, "thinking (disabled)") end
  local output = type(body.output_config) == "table" and body.output_config or {}
  if EFFORTS[output.effort] then asked.effort = output.effort end
  for name in pairs(output) do
    if name ~= "effort" or not asked.effort then ignore(asked, "output_config." .. tostring(name)) end
  end
end

local function read_rest(asked, body)
  for name, value in pairs(body) do
    if not OBEYED[name] and not is_null(value) and HARMLESS[name] ~= value then
      local is_empty = type(value) == "table" and next(value) == nil
      if not is_empty then ignore(asked, tostring(name)) end
    end
  end
end

-- Messages ------------------------------------------------------------------------------------------------------------

local PICTURES = { ["image/png"] = true, ["image/jpeg"] = true, ["image/gif"] = true, ["image/webp"] = true }

local function check_picture(block, where)
  local source = type(block.source) == "table" and block.source or {}
  if source.type ~= "base64" then
    refuse("%s.source: of type %s cannot be sent, only base64", where, options.describe(source.type))
  end
  if not PICTURES[source.media_type] then
    refuse("%s.source.media_type: must be image/png, image/jpeg, image/gif or image/webp, not %s", where,
      options.describe(source.media_type))
  end
  if type(source.data) ~= "string" or not source.data:find "^[%w+/]+=*$" then
    refuse("%s.source.data: must be base64", where)
  end
end

--- The content of a result, as a tool of the session gives it.
local function result_of(block, where)
  local content = {}
  for i, each in ipairs(history.blocks_of(block.content)) do
    local here = ("%s.content.%d"):format(where, i - 1)
    if each.type == "image" then
      check_picture(each, here)
      table.insert(content, { type = "image", source = each.source })
    elseif each.type == "text" then
      if each.text ~= "" then table.insert(content, { type = "text", text = each.text }) end
    else
      refuse("%s: a block of type %s cannot be given as a result", here, options.describe(each.type))
    end
  end
  return { content = content, is_error = block.is_error == true }
end

--- The results in the last message. What the user says beside them goes behind the last one: the turn that asked for
--- them is still running, and takes nothing else.
local function read_results(asked)
  local last, places = asked.messages[#asked.messages], asked.places
  local results, final
  for i, block in ipairs(history.blocks_of(last.content)) do
    if block.type == "tool_result" then
      results = results or {}
      final = result_of(block, places[i])
      results[block.tool_use_id] = final
    end
  end
  if not results then return end
  for i, block in ipairs(history.blocks_of(last.content)) do
    if block.type == "image" then check_picture(block, places[i]) end
    if block.type == "text" and block.text ~= "" or block.type == "image" then
      table.insert(final.content, { type = block.type, text = block.text, source = block.source })
    elseif block.type ~= "text" and block.type ~= "tool_result" then
      refuse("%s: a block of type %s cannot be given beside a result", places[i], options.describe(block.type))
    end
  end
  for _, result in pairs(results) do
    for _, block in ipairs(result.is_error and result.content or {}) do
      if block.type == "image" then ignore(asked, "messages (a picture beside a result that is an error)") end
    end
    if #result.content == 0 then result.content = { { type = "text", text = "" } } end
  end
  asked.results = results
end

local function check_messages(messages)
  if next(messages) == nil then refuse "messages: at least one message is needed" end
  local ok, err = pcall(history.check_history, messages)
  if not ok then
    if not errors.is(err, "ValueError") then error(err, 0) end
    refuse((err.message:gsub("messages%[(%d+)%]", function(i) return "messages." .. tonumber(i) - 1 end)
      :gsub("content%[(%d+)%]", function(i) return "content." .. tonumber(i) - 1 end)))
  end
end

local REMINDER = "<system-reminder>\n%s\n</system-reminder>"

--- What the system says in the middle, as Claude Code has clients of its own do (2.1.332): the user's side says it, as
--- Claude Code itself did before.
local function without_system(messages)
  local list = {}
  for i, message in ipairs(type(messages) == "table" and messages or {}) do
    list[i] = message
    if type(message) == "table" and message.role == "system" then
      local said = text_of(message.content, ("messages.%d.content"):format(i - 1))
      list[i] = { role = "user", content = json.array { { type = "text", text = REMINDER:format(said or "") } } }
    end
  end
  return list
end

--- Neighbours of one role are one message.
local function merged(messages)
  local list = {}
  for _, message in ipairs(messages) do
    local last = list[#list]
    if last and last.role == message.role then
      list[#list] = { role = last.role, content = json.array(tables.joined(history.blocks_of(last.content),
        history.blocks_of(message.content))) }
    else
      table.insert(list, message)
    end
  end
  return list
end

--- Where the blocks of the last message, as `merged` makes it, stand in the request.
local function places_at_end(messages)
  local last, places = #messages, {}
  while messages[last].role == "assistant" do last = last - 1 end
  local first = last
  while first > 1 and messages[first - 1].role == "user" do first = first - 1 end
  for i = first, last do
    local content = messages[i].content
    for j in ipairs(history.blocks_of(content)) do
      table.insert(places, ("messages.%d.content%s"):format(i - 1, type(content) == "table" and "." .. j - 1 or ""))
    end
  end
  places.whole = ("messages.%d"):format(last - 1)
  return places
end

local function read_messages(asked, body)
  local given = without_system(body.messages)
  check_messages(given)
  local messages = merged(given)
  while #messages > 0 and messages[#messages].role == "assistant" do
    table.remove(messages)
    ignore(asked, "messages (an answer begun)")
  end
  if #messages == 0 then refuse "messages: the last one must be the user's" end
  asked.messages, asked.places = messages, places_at_end(given)
  read_results(asked)
end

local function read_numbers(asked, body)
  local most = body.max_tokens
  if not is_null(most) then
    if math.type(most) ~= "integer" or most < 1 then refuse "max_tokens: must be a positive integer" end
    asked.max_tokens = most
  end
  if not is_null(body.stream) and type(body.stream) ~= "boolean" then refuse "stream: must be true or false" end
  asked.is_streamed = body.stream == true
end

--- Reads a request.
---@param body any  decoded JSON
---@return parley.gateway.Asked
--- Raises a `parley.gateway.Problem`.
function M.read(body)
  if type(body) ~= "table" or json.is_array(body) then refuse "the body must be a JSON object" end
  if not models.is_name(body.model) then refuse "model: must be the name of a model" end
  local asked = { model = body.model, ignored = {} }
  read_numbers(asked, body)
  read_system(asked, body)
  read_messages(asked, body)
  read_tools(asked, body)
  read_choice(asked, body.tool_choice)
  read_thinking(asked, body)
  read_rest(asked, body)
  table.sort(asked.ignored)
  return asked
end

-- For the session -----------------------------------------------------------------------------------------------------

--- A message whose calls have the names under which the model knows the client's tools: what it said is what it sees
--- again, and no other name is to be imitated.
local function renamed(message, names)
  if message.role ~= "assistant" or type(message.content) ~= "table" then return message end
  local content = json.array {}
  for i, block in ipairs(message.content) do
    local is_own = block.type == "tool_use" and names[block.name]
    content[i] = is_own and tables.merged(block, { name = M.PREFIX .. block.name }) or block
  end
  return { role = message.role, content = content }
end

--- Takes apart a last message that holds results of calls which nobody waits for: they are history, and the rest is
--- said.
local function split(message, places)
  local results, rest, places_of_rest = json.array {}, json.array {}, { whole = places.whole }
  for i, block in ipairs(history.blocks_of(message.content)) do
    local is_result = block.type == "tool_result"
    table.insert(is_result and results or rest, block)
    if not is_result then table.insert(places_of_rest, places[i]) end
  end
  if #results == 0 then return { message }, places end
  if #rest == 0 then rest[1] = { type = "text", text = M.GO_ON } end
  return { { role = "user", content = results },
    { role = "assistant", content = json.array { { type = "text", text = NO_RESPONSE } } },
    { role = "user", content = rest } }, places_of_rest
end

--- The messages as a fresh session is told them.
---@param asked parley.gateway.Asked
---@return table[] messages
---@return parley.gateway.Places places  of the last one's blocks
function M.for_session(asked)
  local names, messages = {}, {}
  for _, tool in ipairs(asked.tools or {}) do names[tool.name] = true end
  for i, message in ipairs(asked.messages) do messages[i] = renamed(message, names) end
  local last = table.remove(messages)
  local said, places = split(last, asked.places)
  return tables.joined(messages, said), places
end

return M
