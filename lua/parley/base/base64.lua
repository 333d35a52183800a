--- Base64, as JSON carries bytes (RFC 4648 with `=` at the end).
local M = {}

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local letters, values = {}, {}
for i = 1, #ALPHABET do
  letters[i - 1] = ALPHABET:sub(i, i)
  values[ALPHABET:byte(i)] = i - 1
end

local function spell(a, b, c)
  local bits = a:byte() << 16 | (b:byte() or 0) << 8 | (c:byte() or 0)
  return letters[bits >> 18] .. letters[bits >> 12 & 63] .. (b ~= "" and letters[bits >> 6 & 63] or "=")
    .. (c ~= "" and letters[bits & 63] or "=")
end

---@param bytes string
---@return string
function M.encode(bytes) return (bytes:gsub("(.)(.?)(.?)", spell)) end

local function read(text)
  local a, b, c, d = text:byte(1, 4)
  local bits = values[a] << 18 | values[b] << 12 | (values[c] or 0) << 6 | (values[d] or 0)
  return string.char(bits >> 16, bits >> 8 & 255, bits & 255)
end

--- Reads base64; white space in it does not count.
---@param text string
---@return string? bytes  nil when it is none
function M.decode(text)
  text = text:gsub("%s+", "")
  local padding = #text:match "=*$"
  local is_whole = #text % 4 == 0 and padding <= 2 and not text:sub(1, #text - padding):find "[^%w+/]"
  if not is_whole then return nil end
  local bytes = text:gsub("....", read)
  return bytes:sub(1, #bytes - padding)
end

return M
