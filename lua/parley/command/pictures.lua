--- Pictures in files, as blocks of a message.
local attachments = require "parley.backend.attachments"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local tables = require "parley.base.tables"

local M = {}

local NO_PICTURE = "is no picture (png, jpg, gif, webp)"

--- The kinds that can go with a message, by their endings.
local KINDS = { png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif", webp = "image/webp" }

--- Makes a block of a file.
---@param path string
---@return table? block
---@return string? problem  as the rest of a sentence that begins with the file
function M.block(path)
  local kind = KINDS[(path:match "%.(%w+)$" or ""):lower()]
  if not kind then return nil, NO_PICTURE end
  local bytes, problem = files.read(path)
  if not bytes then return nil, "cannot be read: " .. problem end
  if bytes == "" then return nil, "is empty" end
  if not attachments.is_picture(bytes) then return nil, NO_PICTURE end
  return { type = "image", source = { type = "base64", media_type = kind, data = core.text.to_base64(bytes) } }
end

local function copied(list) return setmetatable(tables.merged(list), debug.getmetatable(list)) end

--- The content of a message, with what is in the files that its pictures name: `{ type = "file", path = … }` as their
--- source. Raises what is wrong with one.
local function loaded(content, folder)
  if type(content) ~= "table" then return content end
  local blocks = copied(content)
  for i, block in ipairs(content) do
    local source = type(block) == "table" and block.type == "image" and block.source
    if type(source) == "table" and source.type == "file" then
      local path = tostring(source.path)
      local picture, problem = M.block(path:sub(1, 1) == "/" and path or folder .. "/" .. path)
      blocks[i] = picture
      if not picture then error(errors.value_error(("the picture '%s' %s"):format(path, problem)), 0) end
    end
  end
  return blocks
end

--- The messages and turns of a conversation, with their pictures.
---@param given {messages?: table[], turns?: any}
---@param folder string  where their paths begin
---@return table[]? messages
---@return any turns
--- Raises `ValueError` that names a picture.
function M.load(given, folder)
  local messages, turns = given.messages and copied(given.messages), given.turns
  for i, message in ipairs(messages or {}) do
    local content = type(message) == "table" and loaded(message.content, folder) or nil
    if content then messages[i] = tables.merged(message, { content = content }) end
  end
  if type(turns) == "table" and turns[1] ~= nil then
    turns = copied(turns)
    for i, turn in ipairs(turns) do turns[i] = loaded(turn, folder) end
  end
  return messages, turns
end

return M
