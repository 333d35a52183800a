---@meta parley.core.digest
-- luacheck: ignore 212 241

---BLAKE2b (RFC 7693), from libsodium.
---@class parley.Digest
local digest = {}

---A digest that takes its input piece by piece.
---@class parley.DigestState
local state = {}

---Hash a string.
---@param bytes string
---@param size? integer Bytes of the result, 16 to 64. Default 32. Sizes give unrelated results.
---@return string raw
function digest.blake2b(bytes, size) end

---Begin a digest.
---@param size? integer As for `blake2b`.
---@return parley.DigestState
function digest.new(size) end

---Write bytes as lower-case hexadecimal digits.
---@param raw string
---@return string
function digest.hex(raw) end

---Add to what is hashed. Raises once the digest is final.
---@param bytes string
---@return parley.DigestState self
function state:update(bytes) end

---End the digest. Raises if it is final already.
---@return string raw
function state:final() end

return digest
