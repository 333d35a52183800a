---@meta parley.core.text
-- luacheck: ignore 212

---Unicode, from utf8proc.
---@class parley.Text
local text = {}

---Compose what can be composed: the normalisation form C.
---@param bytes string UTF-8
---@return string? nfc nil for bytes that are no UTF-8
---@return parley.Error? err
function text.nfc(bytes) end

return text
