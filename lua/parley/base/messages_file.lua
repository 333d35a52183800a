--- Conversations in files: a JSON list of messages, an object with `messages`, or one message a line.
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local history = require "parley.base.history"
local options = require "parley.base.options"

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
  text = text:gsub("^\xEF\xBB\xBF", "") -- a mark of UTF-8 that some editors write
  if not text:find "%S" then error(errors.value_error(where .. " is empty: expected a list of messages"), 0) end
  local begins_with_whole_line = text:find "^%s*{[^\n]*}[^%S\n]*\n%s*%S"
  if begins_with_whole_line then return by_line(text, where) end
  local value = decode(text, where)
  if type(value) == "table" and json.is_array(value) then return value end
  if type(value) == "table" and type(value.messages) == "table" then return value.messages end
  if type(value) == "table" and value.role then return { value } end
  error(errors.value_error(where .. " holds no conversation: expected a list of messages"), 0)
end

--- Reads a conversation that a message of the user's can follow.
---@param text string
---@param where string  what it comes from, for messages
---@return table[] messages
--- Raises `ValueError`.
function M.decode_history(text, where)
  local messages = M.decode(text, where)
  local ok, err = pcall(history.check_history, messages)
  if not ok then error(errors.value_error(("%s: %s"):format(where, err.message), { index = err.index }), 0) end
  return messages
end

--- Reads such a conversation from its file.
---@param path string
---@return table[] messages
--- Raises `ValueError`.
function M.read(path)
  if type(path) ~= "string" then
    error(errors.value_error("the file of a conversation must be a path, not " .. options.describe(path)), 0)
  end
  local text, problem = files.read(path)
  if not text then error(errors.value_error(("cannot read '%s': %s"):format(path, problem)), 0) end
  return M.decode_history(text, path)
end

--- Writes a conversation, for its owner alone: one message a line inside the list, so that a reader of differences
--- sees messages.
---@param path string
---@param messages table[]
--- Raises `ValueError` for what no file can hold, and what the system says.
function M.write(path, messages)
  if type(path) ~= "string" or path == "" then
    error(errors.value_error("the file of a conversation must be a path, not " .. options.describe(path)), 0)
  end
  local rows = {}
  for i, message in ipairs(messages) do
    local row, err = json.encode(message, { sort_keys = true })
    if not row then error(errors.value_error(("messages[%d]: %s"):format(i, err.message), { index = i }), 0) end
    rows[i] = row
  end
  files.save(path, rows[1] and "[\n" .. table.concat(rows, ",\n") .. "\n]\n" or "[]\n")
end

return M
