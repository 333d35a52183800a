--- What a transcript was like when it was last seen, and whether it still is: the program may have cut it, a person may
--- have gone on in it. A part of its end stands for the whole.
local uv = require "luv"
local core = require "parley.core"

local M = {}

local END_BYTES = 4096

--- The size of a file and the digest of its last bytes, or of those that stood last when it had the size given.
local function read(path, size)
  local descriptor = uv.fs_open(path, "r", 0)
  if not descriptor then return nil end
  local stat = uv.fs_fstat(descriptor)
  size = size or stat.size
  local offset = math.max(0, size - END_BYTES)
  local bytes = stat.type == "file" and stat.size >= size and uv.fs_read(descriptor, size - offset, offset)
  uv.fs_close(descriptor)
  return stat.size, bytes and core.digest.hex(core.digest.blake2b(bytes, 16))
end

--- What is to be stored of a transcript.
---@param path string
---@return integer? size  nil when it is not there or cannot be read
---@return string? digest
function M.of(path)
  local size, digest = read(path)
  if digest then return size, digest end
end

--- What has become of a transcript since it was stored.
---@param entry parley.sleep.Entry
---@return nil|"gone"|"shorter"|"grown"|"rewritten"  nil: it is as it was
function M.changed(entry)
  local size, digest = read(entry.path, entry.size)
  if not size then return "gone" end
  if size < entry.size then return "shorter" end
  if digest ~= entry.digest then return "rewritten" end
  if size > entry.size then return "grown" end
end

return M
