--- Conversations in files: a JSON list of messages, an object with `messages`, or one message a line.
local core = require "parley.core"
local errors = require "parley.base.errors"

local M = {}

local json = core.json

local function decode(text, where)
  local value, err = json.decode(text, { strict = true })
  if value == nil then error(errors.value_error(("%s is no JSON: %s"):format(where, err.message)), 0) end
  return value
end

local function by_line(text, where)
  local messages, number = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    if line:find "%S" then table.insert(messages, decode(line, ("line %d of %s"):format(number, where))) end
  end
  return messages
end

--- Reads a conversation.
---@param text string
---@param where string  what it comes from, for messages
---@return table[] messages
--- Raises `ValueError`.
function M.decode(text, where)
  if not text:find "%S" then error(errors.value_error(where .. " is empty: expected a list of messages"), 0) end
  local begins_with_whole_line = text:find "^%s*{[^\n]*}%s*\n%s*%S"
  if begins_with_whole_line then return by_line(text, where) end
  local value = decode(text, where)
  if type(value) == "table" and json.is_array(value) then return value end
  if type(value) == "table" and type(value.messages) == "table" then return value.messages end
  if type(value) == "table" and value.role then return { value } end
  error(errors.value_error(where .. " holds no conversation: expected a list of messages"), 0)
end

return M
