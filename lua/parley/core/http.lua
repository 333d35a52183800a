---@meta parley.core.http
-- luacheck: ignore 212 241

---Requests of HTTP/1.x, read as bytes arrive; `src/http.h` says what is refused beyond what llhttp refuses.
---@class parley.core.http
local http = {}

---@class parley.core.HttpParser
local methods = {}

---@class parley.core.HttpHead
---@field method string
---@field target string                  as it was sent
---@field minor 0|1                      of the version HTTP/1.x
---@field keeps_alive boolean            another request may follow
---@field chunked boolean                the body's length shows at its end
---@field length? integer                of the body, where it is not chunked
---@field headers table<string, string>  lower-case names; what came twice is joined with `, `

---Make a parser for the requests of one connection.
---@param head_limit integer   bytes of a head
---@param header_limit integer headers in it
---@return parley.core.HttpParser
function http.new(head_limit, header_limit) end

---Read on. Every byte counts once: feed from `next` on until the event is `more`, also where no byte is left, for a
---request without a body ends so.
---@param bytes string
---@param from? integer the first byte to read, default 1
---@return "more"|"head"|"end"|nil event `more`: all is read; `head`: `parser:head()` tells; `end`: the request is over
---@return integer|parley.Error next the first byte that was not read; or the error with code `EPROTO`, whose `status`
---is what to answer. Nothing more can be read then.
---@return string? body what was read of it
function methods:feed(bytes, from) end

---Tell what the head of the request says. Raises an error when the last event was not `head`.
---@return parley.core.HttpHead
function methods:head() end

---Free the memory. Further calls do nothing.
function methods:close() end

return http
