---@meta parley.core.json
-- luacheck: ignore 212

---JSON to Lua and back, held to RFC 8259. Objects are plain tables, arrays carry `array_metatable`, so that an empty
---one stays an array. The order of keys is not kept.
---@class parley.Json
---@field null userdata JSON's null: one value, equal to itself only, true in a condition.
---@field array_metatable table What marks a table as an array.
local json = {}

---@class parley.JsonDecodeOptions
---@field depth? integer How deep arrays and objects may nest, 1 to 1000 (cJSON's limit). Default 512.
---@field strict? boolean Make an error of what would otherwise be changed or lost: invalid UTF-8, lone surrogates, a
---key that comes twice in one object, a number too large for a float. Default false.

---@class parley.JsonEncodeOptions
---@field depth? integer How deep tables may nest, 1 to 1000. Default 512.
---@field sort_keys? boolean Order the keys of every object by their bytes. Default false: Lua's order.
---@field indent? integer Spaces a level, 1 to 16; default nil: all on one line, without spaces.
---@field empty_table? "object"|"array" What an empty table without the array metatable is. Default "object".

---An error of `decode` or `encode`.
---@class parley.JsonError: parley.Error
---@field code "EJSON"|"ENOMEM"
---@field message string What is wrong, and at which byte of the text or at which path of the value.
---@field offset? integer `decode` only: how many bytes stand before the fault, where it is one of the text.

---Decode one JSON text.
---
---Numbers without fraction and exponent become integers, exactly, if 64 bits hold them, and floats otherwise; `-0` is
---the integer 0. All others become floats; one too large for a float becomes `math.huge`, as in JavaScript.
---
---Strings are always valid UTF-8: each byte that is not part of it becomes U+FFFD, and so does the escape of a
---lone surrogate, which JavaScript's `JSON.stringify` writes for half a pair. `\u0000` is kept.
---
---Of a key that occurs twice the last value wins, as in JavaScript. A leading byte order mark is passed over. Raw
---control characters in strings, raw NUL bytes, an empty text and anything behind the value are errors.
---@param text string
---@param options? parley.JsonDecodeOptions Raises if a name or a value is wrong.
---@return any value Never nil: JSON's null is `json.null`.
---@return parley.JsonError? err In which case `value` is nil.
function json.decode(text, options) end

---Encode a value as a JSON text.
---
---A table is an array if it has the array metatable or the keys 1 to n, and an object if all its keys are strings. What
---JSON cannot hold is an error that names its path (`messages[2].content`, counted as Lua counts): functions and the
---like, nil, numbers that are not finite, tables with other or mixed keys, sparse arrays, cycles, strings that are not
---valid UTF-8. Other metatables are passed over: fields are read raw.
---
---Integers are exact. Floats have the fewest of 15 to 17 digits that read back as the same float, and keep a mark of
---what they are: 1.0 is `1.0` and so decodes as a float again. Control characters are escaped; `/`, DEL and all
---characters beyond ASCII are not.
---@param value any
---@param options? parley.JsonEncodeOptions Raises if a name or a value is wrong.
---@return string? text
---@return parley.JsonError? err
function json.encode(value, options) end

---Mark a table as a JSON array.
---@param list? table Its metatable is replaced. Default: a new table.
---@return table list The same table.
function json.array(list) end

---Tell whether a value is a table marked as a JSON array.
---@param value any
---@return boolean
function json.is_array(value) end

return json
