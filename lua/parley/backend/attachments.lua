--- Images of a message: private files that its text mentions, which the program attaches as such blocks. Of a PDF that
--- is mentioned, the model gets the name and the size alone (2.1.197, 2.1.332): documents cannot be sent.
---
--- The transcript has the pictures themselves, so files are needed for their turn alone (2.1.110 to 2.1.332): each
--- message has a folder of its own, which goes with its turn, and is no other's.
local uv = require "luv"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local mark = require "parley.base.mark"

local M = {}

--- The kinds that the program attaches as what they are, and their endings.
local ENDINGS = { ["image/png"] = "png", ["image/jpeg"] = "jpg", ["image/gif"] = "gif", ["image/webp"] = "webp" }

--- How such files begin, of which the program needs one that it knows (2.1.197, 2.1.332). A picture may be called by
--- another's name: it is attached as what it is (2.1.110 to 2.1.332).
local BEGINNINGS = { "^\137PNG\r\n\26\n", "^\xFF\xD8\xFF", "^GIF8[79]a", "^RIFF....WEBP" }

--- What the program reads behind an `@` ends at a space.
local SAFE = "^[%w/._-]+$"

---@class parley.AttachedFile
---@field path string
---@field index integer  where in the content of the message it stands first

---@class parley.Attachments
---@field private folders table<string, parley.AttachedFile[]>  of the messages whose turns run, with what is in them
local Attachments = {}
Attachments.__index = Attachments
Attachments.__name = "parley.Attachments"

---@return parley.Attachments
function M.new() return setmetatable({ folders = {} }, Attachments) end

--- Whether bytes begin as a picture that can be sent does.
---@param bytes string
---@return boolean
function M.is_picture(bytes)
  for _, beginning in ipairs(BEGINNINGS) do
    if bytes:find(beginning) then return true end
  end
  return false
end

--- What is in a block, or why it cannot be sent.
---@return string? bytes
---@return string problem_or_ending
local function content_of(block)
  local source = type(block.source) == "table" and block.source or {}
  if block.type ~= "image" then return nil, "which cannot be sent" end
  if source.type ~= "base64" then
    return nil, ("whose source is '%s': only 'base64' can be sent"):format(tostring(source.type))
  end
  local ending = ENDINGS[source.media_type]
  if not ending then return nil, ("of the kind '%s', which cannot be sent"):format(tostring(source.media_type)) end
  local bytes = type(source.data) == "string" and core.text.from_base64(source.data)
  if not bytes or bytes == "" then return nil, "whose data is no base64" end
  if not M.is_picture(bytes) then return nil, "whose data is no picture (png, jpeg, gif, webp)" end
  return bytes, ending
end

local function make_folder(self)
  -- The program names what it has attached by a path without `..` and `//`.
  for _, parent in ipairs { uv.fs_realpath(uv.os_tmpdir()) or "/tmp", "/tmp", "/dev/shm" } do
    local ok, folder = pcall(mark.folder, "attached", parent)
    if ok and folder:find(SAFE) then
      self.folders[folder] = {}
      return folder
    elseif ok then
      files.remove_tree(folder)
    end
  end
  error(errors.value_error "no private file can be written that the message could mention", 0)
end

--- What is in the blocks, by their places.
local function contents_of(blocks, index)
  local found = {}
  for i, block in ipairs(blocks) do
    if block.type ~= "text" then
      local bytes, ending = content_of(block)
      if not bytes then
        error(errors.value_error(("messages[%d].content[%d] is a block of type '%s', %s"):format(index, i, block.type,
          ending), { index = index }), 0)
      end
      found[i] = { bytes = bytes, name = core.digest.hex(core.digest.blake2b(bytes, 16)) .. "." .. ending }
    end
  end
  return found
end

--- The text of a message's content, with a mention for each image.
---@param blocks table[]
---@param index integer  of the message, for errors
---@return string text
---@return string? folder  of what was written; whoever sends the message removes it with `remove`
--- Raises `ValueError` that names a block that cannot be sent; nothing was written then.
function Attachments:text_of(blocks, index)
  local found, parts = contents_of(blocks, index), {}
  local folder = next(found) and make_folder(self) or nil
  local _ <close> = defer(function(err)
    if err ~= nil and folder then self:remove(folder) end
  end)
  for i, block in ipairs(blocks) do
    parts[i] = block.text
    if found[i] then
      local path = folder .. "/" .. found[i].name
      if not uv.fs_stat(path) then
        files.write(path, found[i].bytes, true)
        table.insert(self.folders[folder], { path = path, index = i })
      end
      parts[i] = "@" .. path
    end
  end
  return table.concat(parts, "\n"), folder
end

--- What was written for a message.
---@param folder string
---@return parley.AttachedFile[]
function Attachments:files(folder) return self.folders[folder] or {} end

--- Removes what was written for a message. A second call does nothing.
---@param folder string
function Attachments:remove(folder)
  if not self.folders[folder] then return end
  self.folders[folder] = nil
  files.remove_tree(folder)
end

--- Removes all files. A second call does nothing.
function Attachments:close()
  for folder in pairs(self.folders) do files.remove_tree(folder) end
  self.folders = {}
end

return M
