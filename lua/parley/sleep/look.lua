--- What a transcript was like when it was last seen, and whether it still is: the program may have cut it, a person may
--- have gone on in it. A part of its end stands for the whole.
local uv = require "luv"
local core = require "parley.core"

local M = {}

local END_BYTES = 4096

--- The size of a file and the digest of its last bytes, or of those that stood last when it had the size given; and
--- whether they end a line: where they do not, the next one to be written would be no line of its own.
local function read(path, size)
  local descriptor = uv.fs_open(path, "r", 0)
  if not descriptor then return nil end
  local stat = uv.fs_fstat(descriptor)
  size = size or stat.size
  local offset = math.max(0, size - END_BYTES)
  local bytes = stat.type == "file" and stat.size >= size and uv.fs_read(descriptor, size - offset, offset)
  uv.fs_close(descriptor)
  if not bytes then return stat.size end
  return stat.size, core.digest.hex(core.digest.blake2b(bytes, 16)), bytes == "" or bytes:sub(-1) == "\n"
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
---@return nil|"gone"|"shorter"|"grown"|"rewritten"|"torn"  nil: it is as it was, and ends with a whole line
function M.changed(entry)
  local size, digest, is_whole = read(entry.path, entry.size)
  if not size then return "gone" end
  if size < entry.size then return "shorter" end
  if digest ~= entry.digest then return "rewritten" end
  if size > entry.size then return "grown" end
  if not is_whole then return "torn" end
end

return M
