--- OpenAI's Chat Completions, in the words of the Messages API and back.
local clock = require "parley.base.clock"
local core = require "parley.core"
local options = require "parley.base.options"
local problems = require "parley.gateway.problems"

local M = { is_openai = true }

local json, refuse = core.json, problems.refuse

local function is_null(value) return value == nil or value == json.null end
local function encoded(value) return assert(json.encode(value)) end

-- The request ---------------------------------------------------------------------------------------------------------

local function image_of(part, where)
  local url = type(part.image_url) == "table" and part.image_url.url or part.image_url
  local kind, data = tostring(url):match "^data:([%w/+.-]+);base64,([%w+/]+=*)$"
  if not kind then refuse("%s.image_url: only data: URLs in base64 can be sent", where) end
  return { type = "image", source = { type = "base64", media_type = kind, data = data } }
end

local function part_of(part, where)
  if type(part) ~= "table" then refuse("%s: must be an object", where) end
  if part.type == "text" or part.type == "input_text" then return { type = "text", text = part.text } end
  if part.type == "image_url" then return image_of(part, where) end
  if part.type == "refusal" then return { type = "text", text = part.refusal } end
  refuse("%s: a part of type %s cannot be sent", where, options.describe(part.type))
end

local function content_of(content, where)
  if is_null(content) then return json.array {} end
  if type(content) == "string" then return json.array(content ~= "" and { { type = "text", text = content } } or {}) end
  if not json.is_array(content) then refuse("%s.content: must be a text or a list of parts", where) end
  local blocks = json.array {}
  for i, part in ipairs(content) do blocks[i] = part_of(part, ("%s.content.%d"):format(where, i - 1)) end
  return blocks
end

local function add(messages, role, blocks)
  local last = messages[#messages]
  if last and last.role == role then
    table.move(blocks, 1, #blocks, #last.content + 1, last.content)
  elseif #blocks > 0 then
    table.insert(messages, { role = role, content = blocks })
  end
end

local function call_of(call, where)
  local called = type(call) == "table" and type(call["function"]) == "table" and call["function"]
  if not called or type(call.id) ~= "string" then refuse("%s: must have an id and a function", where) end
  local arguments = is_null(called.arguments) and "{}" or called.arguments
  local input = type(arguments) == "string" and json.decode(arguments == "" and "{}" or arguments)
  if type(input) ~= "table" then refuse("%s.function.arguments: must be a JSON object in a text", where) end
  return { type = "tool_use", id = call.id, name = called.name, input = input }
end

local readers = {}

function readers.user(messages, message, where) add(messages, "user", content_of(message.content, where)) end

function readers.assistant(messages, message, where)
  local blocks = content_of(message.content, where)
  local calls = not is_null(message.tool_calls) and message.tool_calls or json.array {}
  if not json.is_array(calls) then refuse("%s.tool_calls: must be a list", where) end
  for i, call in ipairs(calls) do
    table.insert(blocks, call_of(call, ("%s.tool_calls.%d"):format(where, i - 1)))
  end
  add(messages, "assistant", blocks)
end

function readers.tool(messages, message, where)
  if type(message.tool_call_id) ~= "string" then refuse("%s.tool_call_id: is missing", where) end
  add(messages, "user", json.array { { type = "tool_result", tool_use_id = message.tool_call_id,
    content = content_of(message.content, where) } })
end

local function texts_of(blocks, where)
  local texts = {}
  for i, block in ipairs(blocks) do
    if type(block.text) ~= "string" then refuse("%s.content.%d: must be a text", where, i - 1) end
    texts[i] = block.text
  end
  return table.concat(texts, "\n\n")
end

local function read_messages(body)
  if not is_null(body.messages) and not json.is_array(body.messages) then refuse "messages: must be a list" end
  if is_null(body.messages) or #body.messages == 0 then refuse "messages: at least one message is needed" end
  local messages, system = json.array {}, {}
  for i, message in ipairs(body.messages) do
    local where = ("messages.%d"):format(i - 1)
    if type(message) ~= "table" then refuse("%s: must be an object", where) end
    local read = readers[message.role]
    if message.role == "system" or message.role == "developer" then
      table.insert(system, texts_of(content_of(message.content, where), where))
    elseif read then
      read(messages, message, where)
    else
      refuse("%s.role: must be system, developer, user, assistant or tool, not %s", where,
        options.describe(message.role))
    end
  end
  return messages, system[1] and table.concat(system, "\n\n") or nil
end

local function tools_of(body)
  if is_null(body.tools) then return nil end
  if not json.is_array(body.tools) then refuse "tools: must be a list" end
  local tools = json.array {}
  for i, tool in ipairs(body.tools) do
    local given = type(tool) == "table" and tool["function"]
    if type(given) == "table" and (is_null(tool.type) or tool.type == "function") then
      tools[i] = { name = given.name, description = given.description, input_schema = given.parameters }
    else
      tools[i] = { type = tostring(type(tool) == "table" and tool.type or tool) }
    end
  end
  return tools
end

local CHOICES = { auto = { type = "auto" }, none = { type = "none" }, required = { type = "any" } }

local function choice_of(choice)
  if is_null(choice) then return nil end
  return CHOICES[choice] or { type = "tool" }
end

local EFFORTS = { minimal = "low", low = "low", medium = "medium", high = "high", xhigh = "xhigh" }

--- What is read here, or has no effect that could be missed.
local READ = { messages = true, tools = true, tool_choice = true, model = true, stream = true, stream_options = true,
  max_tokens = true, max_completion_tokens = true, reasoning_effort = true, user = true, metadata = true, store = true,
  safety_identifier = true, prompt_cache_key = true }
local HARMLESS = { n = 1, parallel_tool_calls = true, frequency_penalty = 0, presence_penalty = 0, logprobs = false }

--- The request in the words of the Messages API.
---@param body any
---@return table
function M.translate(body)
  if type(body) ~= "table" or json.is_array(body) then refuse "the body must be a JSON object" end
  local messages, system = read_messages(body)
  local most = not is_null(body.max_completion_tokens) and body.max_completion_tokens or body.max_tokens
  local same = { model = body.model, messages = messages, system = system, tools = tools_of(body),
    tool_choice = choice_of(body.tool_choice), max_tokens = most, stream = body.stream }
  if not is_null(body.reasoning_effort) then
    same.output_config = { effort = EFFORTS[body.reasoning_effort] or body.reasoning_effort }
  end
  for name, value in pairs(body) do
    if not READ[name] and HARMLESS[name] ~= value then same[name] = value end
  end
  return same
end

--- Whether the client wants the usage at the end of a stream.
---@param body table
---@return boolean
function M.wants_usage(body)
  return type(body.stream_options) == "table" and body.stream_options.include_usage == true
end

-- The answer ----------------------------------------------------------------------------------------------------------

local REASONS = { end_turn = "stop", stop_sequence = "stop", pause_turn = "stop", max_tokens = "length",
  tool_use = "tool_calls", refusal = "content_filter" }

local function usage_of(usage)
  local cached = usage.cache_read_input_tokens or 0
  local input = (usage.input_tokens or 0) + cached + (usage.cache_creation_input_tokens or 0)
  local output = usage.output_tokens or 0
  return { prompt_tokens = input, completion_tokens = output, total_tokens = input + output,
    prompt_tokens_details = { cached_tokens = cached } }
end

local function id_of(message) return (message.id:gsub("^msg_", "chatcmpl-")) end

--- Texts of one message follow each other with an empty line between: they are blocks to the other protocol.
local BETWEEN = "\n\n"

--- A whole answer.
---@param reply parley.gateway.Reply
---@return table
function M.whole(reply)
  local texts, thoughts, calls = {}, {}, json.array {}
  for _, block in ipairs(reply.content) do
    if block.type == "text" then table.insert(texts, block.text) end
    if block.type == "thinking" and (block.thinking or "") ~= "" then table.insert(thoughts, block.thinking) end
    if block.type == "tool_use" then
      table.insert(calls, { id = block.id, type = "function",
        ["function"] = { name = block.name, arguments = assert(json.encode(block.input, { sort_keys = true })) } })
    end
  end
  local message = { role = "assistant", content = texts[1] and table.concat(texts, BETWEEN) or json.null,
    refusal = json.null, tool_calls = calls[1] and calls or nil,
    reasoning_content = thoughts[1] and table.concat(thoughts, BETWEEN) or nil }
  return { id = id_of(reply.message), object = "chat.completion", created = clock.wall() // 1000 | 0,
    model = reply.message.model, usage = usage_of(reply.usage), parley_usage = reply.turn_usage,
    choices = json.array { { index = 0, message = message, finish_reason = REASONS[reply.stop_reason] or "stop",
      logprobs = json.null } } }
end

--- A problem's body.
---@param problem parley.gateway.Problem
---@return table
function M.problem(problem) return problems.openai(problem) end

---@class parley.gateway.ChunkState
---@field calls integer  how many calls were told of
---@field has_text boolean

local blocks, deltas = {}, {}

function blocks.text(state) return state.has_text and { content = BETWEEN } or nil end

function blocks.tool_use(state, block)
  state.calls = state.calls + 1
  return { tool_calls = json.array { { index = state.calls - 1, id = block.id, type = "function",
    ["function"] = { name = block.name, arguments = "" } } } }
end

function deltas.text_delta(state, delta)
  state.has_text = true
  return { content = delta.text }
end

function deltas.thinking_delta(_, delta) return { reasoning_content = delta.thinking } end

function deltas.input_json_delta(state, delta)
  return { tool_calls = json.array { { index = state.calls - 1, ["function"] = { arguments = delta.partial_json } } } }
end

--- What sends a reply as a stream of chunks.
---@param response parley.http.Response
---@param given {wants_usage: boolean}
---@return parley.gateway.Writer
function M.writer(response, given)
  local state, head = { calls = 0, has_text = false }, nil
  local function chunk(choices, fields)
    local data = { id = head.id, object = "chat.completion.chunk", created = head.created, model = head.model,
      choices = json.array(choices) }
    if given.wants_usage then data.usage = json.null end
    for name, value in pairs(fields or {}) do data[name] = value end
    response:event(nil, encoded(data))
  end
  local function delta(fields, reason)
    chunk { { index = 0, delta = fields, finish_reason = reason or json.null, logprobs = json.null } }
  end
  local items = {}
  function items.message_start(data)
    head = { id = id_of(data.message), model = data.message.model, created = clock.wall() // 1000 | 0 }
    delta { role = "assistant", content = "" }
  end
  function items.content_block_start(data)
    local make = blocks[data.content_block.type]
    local fields = make and make(state, data.content_block)
    if fields then delta(fields) end
  end
  function items.content_block_delta(data)
    local make = deltas[data.delta.type]
    if make then delta(make(state, data.delta)) end
  end
  function items.message_delta(data)
    chunk({ { index = 0, delta = {}, finish_reason = REASONS[data.delta.stop_reason] or "stop",
      logprobs = json.null } }, { parley_ignored = data.parley_ignored })
    if given.wants_usage then chunk({}, { usage = usage_of(data.usage), parley_usage = data.parley_usage }) end
  end
  return {
    item = function(data)
      if items[data.type] then items[data.type](data) end
    end,
    ping = function() response:comment "ping" end,
    fail = function(problem) response:event(nil, encoded(problems.openai(problem))) end,
    finish = function() response:event(nil, "[DONE]") end,
  }
end

return M
