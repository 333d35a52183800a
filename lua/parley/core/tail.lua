---@meta parley.core.tail
-- luacheck: ignore 212 241

---A growing file of lines: what is new since the last look. It never waits; `parley.tail` adds the waiting.
---@class parley.CoreTailModule
local tail = {}

---@class parley.CoreTail
local file = {}

---Follow a file. It need not exist yet, nor its folder; a relative path is followed from the working folder
---of the moment.
---@param path string
---@param offset? integer Bytes to pass over at the start. Default 0.
---@return parley.CoreTail? file
---@return parley.Error? err ENOMEM
function tail.open(path, offset) end

---Take the next event. Ask until there is none: no event is kept for later.
---
---`"line"` comes with the text, without LF or CRLF, and the offset after it. Half lines wait for the rest; blank lines
---(spaces and tabs) are skipped. `"truncated"`: the file is shorter than what was read of it, reading starts again at
---0. `"replaced"`: another file stands at the path, the old one was read to its end, reading goes on at 0 of the new.
---Both drop a half line. After the file's removal the old one is read on until a new one stands there. A file that was
---rewritten to at least its old length between two looks cannot be told from one that grew.
---@return "line"|"truncated"|"replaced"|nil event Nil if there is nothing more now.
---@return string|parley.Error|nil text The line, or with a nil event the error: EACCES, EISDIR, ENOTDIR, EINVAL for
---what is no file, … The next call tries again.
---@return integer? offset
function file:next() end

---Tell the offset after the last line that was delivered or skipped: where another tail could go on.
---@return integer
function file:offset() end

---Tell how many bytes are held that were not delivered: of a line without an end, once `next` has given nil.
---@return integer
function file:held() end

---Tell whether something stands at the path now.
---@return boolean
function file:exists() end

---Let go of the file. May be called again, and is what `<close>` and the collector call.
function file:close() end

return tail
