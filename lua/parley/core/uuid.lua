---@meta parley.core.uuid
-- luacheck: ignore 212

---Random UUIDs (RFC 9562, version 4), from libuuid.
---@class parley.Uuid
local uuid = {}

---Make a random UUID.
---@return string id 36 characters, lower case.
function uuid.generate() end

---Tell whether a value is a UUID in the usual form: 8-4-4-4-12 hexadecimal digits of either case, and nothing else.
---What passes is safe as a file name.
---@param text any
---@return boolean
function uuid.is_valid(text) end

return uuid
