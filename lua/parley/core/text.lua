---@meta parley.core.text
-- luacheck: ignore 212

---Unicode, from utf8proc, and the order of bytes.
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

---Compare as `<` does, but by bytes: `<` goes by the locale, which a script may set.
---@param left string
---@param right string
---@return boolean is_before
function text.precedes(left, right) end

return text
