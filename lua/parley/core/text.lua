---@meta parley.core.text
-- luacheck: ignore 212

---Unicode, from utf8proc, the order of bytes, and base64, from libsodium.
---@class parley.Text
local text = {}

---Compose what can be composed: the normalisation form C.
---@param bytes string UTF-8
---@return string? nfc nil for bytes that are no UTF-8
---@return parley.Error? err
function text.nfc(bytes) end

---Tell whether Unicode calls a character an extended pictograph: what emoji are made of.
---@param code integer a code point
---@return boolean
function text.is_pictograph(code) end

---Tell how many columns its characters take in a terminal, each for itself: one of Chinese, Japanese or Korean has two,
---and an emoji.
---@param bytes string UTF-8
---@return integer columns
function text.width(bytes) end

---Compare as `<` does, but by bytes: `<` goes by the locale, which a script may set.
---@param left string
---@param right string
---@return boolean is_before
function text.precedes(left, right) end

---Write bytes as base64 with `=` at the end (RFC 4648).
---@param bytes string
---@return string
function text.to_base64(bytes) end

---Read base64 with its `=` at the end. White space in it does not count.
---@param base64 string
---@return string? bytes nil for what is none
function text.from_base64(base64) end

return text
