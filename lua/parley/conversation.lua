--- Conversations in files: a JSON list of messages, an object with `messages`, or one message a line.
local core = require "parley.core"
local errors = require "parley.errors"

local M = {}

local json = core.json

local function by_line(text, where)
  local messages = {}
  for line in text:gmatch "[^\n]+" do
    if line:find "%S" then
      local message, err = json.decode(line)
      if not message then error(errors.value_error(("%s is no JSON: %s"):format(where, err.message)), 0) end
      table.insert(messages, message)
    end
  end
  return messages
end

--- Reads a conversation.
---@param text string
---@param where string  what it comes from, for messages
---@return table[] messages
--- Raises `ValueError`.
function M.decode(text, where)
  local value = json.decode(text)
  if value == nil then return by_line(text, where) end
  if type(value) == "table" and json.is_array(value) then return value end
  if type(value) == "table" and type(value.messages) == "table" then return value.messages end
  if type(value) == "table" and value.role then return { value } end
  error(errors.value_error(where .. " holds no conversation: expected a list of messages"), 0)
end

return M
