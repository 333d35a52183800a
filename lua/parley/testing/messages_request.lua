--- What a request to the Messages API is about: whether it is a turn of a conversation, and what the user typed last.
---
--- All of it was seen with 2.1.110, 2.1.197 and 2.1.330. At start they send `HEAD /` (2.1.330: `HEAD /api/hello`); with
--- the first messages come requests for a title, without tools, that want an answer in a JSON schema.
local json = require("parley.core").json

local M = {}

--- What the program puts into user messages by itself, by its beginning.
local NOT_TYPED = {
  "<system-reminder>",
  "[Request interrupted by user",
  "[Your previous response had no visible output.",         -- after an empty answer
  "Output token limit hit.",                                -- after max_tokens
  "Your response above was stopped by a safety classifier", -- after refusal, 2.1.330
}

local function starts_with(text, beginning) return text:sub(1, #beginning) == beginning end

local function is_typed(text)
  for _, beginning in ipairs(NOT_TYPED) do
    if starts_with(text, beginning) then return false end
  end
  return true
end

--- The last text in a user message that the user typed. Messages that got no answer stand before it in the same one,
--- each with a line feed that the program added.
local function typed_text(content)
  if type(content) == "string" then return is_typed(content) and content or nil end
  for index = #content, 1, -1 do
    local block = content[index]
    if block.type == "text" and is_typed(block.text) then
      return index < #content and block.text:gsub("\n$", "") or block.text
    end
  end
end

--- Finds what the user typed last.
---@param messages table[]
---@return string text   empty when there is nothing of the kind
---@return integer step  how many answers it had already
function M.last_typed(messages)
  local step = 0
  for index = #messages, 1, -1 do
    local message = messages[index]
    if message.role == "assistant" then step = step + 1 end
    local text = message.role == "user" and typed_text(message.content)
    if text then return text, step end
  end
  return "", step
end

local function wanted_schema(body)
  local config = body.output_config
  local format = type(config) == "table" and config.format
  return type(format) == "table" and format.schema or nil
end

local PATHS = { ["/v1/messages"] = true, ["/v1/messages/count_tokens"] = true }

local function content_problem(content)
  if type(content) == "string" then return nil end
  if type(content) ~= "table" then return "content: a text or a list of blocks is needed" end
  for index, block in ipairs(content) do
    if type(block) ~= "table" or type(block.type) ~= "string" then return ("content.%d: no type"):format(index - 1) end
    if block.type == "text" and type(block.text) ~= "string" then return ("content.%d: no text"):format(index - 1) end
  end
end

--- What the API has against a request for a message.
---@param method string
---@param path string
---@param body any  decoded
---@return string? problem  nil for other requests, too
function M.problem(method, path, body)
  path = path:gsub("%?.*", "")
  if method ~= "POST" or not PATHS[path] then return nil end
  if type(body) ~= "table" then return "the body is no JSON object" end
  if type(body.model) ~= "string" then return "model: a text is needed" end
  local is_limited = math.type(body.max_tokens) == "integer" and body.max_tokens > 0
  if path == "/v1/messages" and not is_limited then return "max_tokens: a positive whole number is needed" end
  if type(body.messages) ~= "table" or not body.messages[1] then return "messages: at least one is needed" end
  for index, message in ipairs(body.messages) do
    local is_one = type(message) == "table" and type(message.role) == "string"
    local problem = is_one and content_problem(message.content) or not is_one and "a role and a content are needed"
    if problem then return ("messages.%d: %s"):format(index - 1, problem) end
  end
end

--- Tells what a request is.
---@param method string
---@param path string
---@param body any  decoded
---@return "turn"|"side"|"count_tokens"|"other"  side: titles, quota checks, suggestions of what to type next
function M.kind(method, path, body)
  path = path:gsub("%?.*", "")
  if method ~= "POST" or not PATHS[path] or M.problem(method, path, body) then return "other" end
  if path == "/v1/messages/count_tokens" then return "count_tokens" end
  local is_suggestion = starts_with(M.last_typed(body.messages), "[SUGGESTION MODE")
  return (wanted_schema(body) or body.max_tokens == 1 or is_suggestion) and "side" or "turn"
end

--- A value that a JSON schema allows, roughly.
local function fill_schema(schema)
  if schema.enum then return schema.enum[1] end
  if schema.type == "object" then
    local object = {}
    for name, inner in pairs(schema.properties or {}) do object[name] = fill_schema(inner) end
    return object
  end
  local plain = { array = json.array {}, boolean = false, integer = 0, number = 0, string = "stand-in" }
  local value = plain[schema.type]
  if value == nil then return json.null end
  return value
end

--- A harmless answer to a side request.
---@param body table
---@return string text
function M.side_text(body)
  local schema = wanted_schema(body)
  return schema and assert(json.encode(fill_schema(schema))) or "stand-in"
end

--- The folder that the program says it works in.
---@param body table
---@return string?
function M.working_directory(body)
  local path = assert(json.encode(body)):match "[Ww]orking directory: (.-)\\n"
  return path and json.decode('"' .. path .. '"')
end

return M
