--- What a client is answered: whole, or by pieces, or event by event.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local options = require "parley.base.options"

local M = {}

local REASONS = {
  [100] = "Continue", [101] = "Switching Protocols", [200] = "OK", [201] = "Created", [202] = "Accepted",
  [204] = "No Content", [206] = "Partial Content", [301] = "Moved Permanently", [302] = "Found", [303] = "See Other",
  [304] = "Not Modified", [307] = "Temporary Redirect", [308] = "Permanent Redirect", [400] = "Bad Request",
  [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found", [405] = "Method Not Allowed",
  [406] = "Not Acceptable", [408] = "Request Timeout", [409] = "Conflict", [410] = "Gone", [411] = "Length Required",
  [412] = "Precondition Failed", [413] = "Content Too Large", [415] = "Unsupported Media Type",
  [416] = "Range Not Satisfiable", [422] = "Unprocessable Content", [429] = "Too Many Requests",
  [431] = "Request Header Fields Too Large", [500] = "Internal Server Error", [501] = "Not Implemented",
  [502] = "Bad Gateway", [503] = "Service Unavailable", [504] = "Gateway Timeout",
  [505] = "HTTP Version Not Supported", [529] = "Overloaded",
}
local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

---@class parley.http.Response
---@field status? integer  once the answer was begun
---@field package state "new"|"open"|"over"
local Response = {}
Response.__index = Response
Response.__name = "parley.http.Response"

local date_second, date_text

--- The time as HTTP writes it, in English whatever the locale.
local function date()
  local wall = clock.wall()
  if wall // 1000 ~= date_second then
    date_second = wall // 1000
    local weekday, day, month, rest = clock.date("!%w %d %m %Y %H:%M:%S", wall):match "^(%d) (%d+) (%d+) (.*)$"
    date_text = ("%s, %s %s %s GMT"):format(DAYS[weekday + 1], day, MONTHS[tonumber(month)], rest)
  end
  return date_text
end

---@param request parley.http.Request
---@param connection table  `write(bytes)` waits for a slow client, `close_after()`, `cut()`
---@return parley.http.Response
function M.new(request, connection)
  return setmetatable({ request = request, connection = connection, state = "new", written = 0 }, Response)
end

local function fail(message, ...) error(errors.value_error("parley.http: " .. message:format(...)), 0) end

local function add_header(lines, name, value)
  if type(name) ~= "string" or not name:find "^[%w!#$%%&'*+.^_`|~-]+$" then
    fail("a header's name must be a token, not %s", options.describe(name))
  end
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" or value:find "[%z\1-\8\10-\31\127]" then
    fail("the header '%s' must be text without control characters, not %s", name, options.describe(value))
  end
  table.insert(lines, name .. ": " .. value)
end

--- The lines of the given headers, and what of them is ours to know: those by lower-case name.
local function read_headers(headers)
  local lines, known = {}, {}
  if type(headers) ~= "table" then fail("headers must be a table, not %s", options.describe(headers)) end
  for name, value in pairs(headers) do
    if type(value) == "table" then
      for _, each in ipairs(value) do add_header(lines, name, each) end
    else
      add_header(lines, name, value)
    end
    known[tostring(name):lower()] = value
  end
  if known["transfer-encoding"] then fail "the header 'transfer-encoding' is the server's to set" end
  local length = known["content-length"]
  if length and not tostring(length):find "^%d+$" then
    fail("the header 'content-length' must be a number of bytes, not %s", options.describe(length))
  end
  return lines, known
end

local function has_no_body(status) return status < 200 or status == 204 or status == 304 end

--- Settles how the body is delimited, and makes the head.
local function open(response, status, headers, length)
  if response.state ~= "new" then error(errors.closed_error "the answer was begun already", 0) end
  if math.type(status) ~= "integer" or status < 200 or status > 999 then
    fail("a status must be an integer from 200 to 999, not %s", options.describe(status))
  end
  local lines, known = read_headers(headers or {})
  local request, is_empty = response.request, has_no_body(status)
  response.hides_body = is_empty or request.method == "HEAD"
  local given = known["content-length"] and math.tointeger(tonumber(known["content-length"]))
  if length and given and given ~= length and not (response.hides_body and length == 0) then
    fail("the header 'content-length' says %d, and the body has %d bytes", given, length)
  end
  response.length = given or length
  if length and not given and not is_empty then table.insert(lines, "content-length: " .. length) end
  if not response.length and not is_empty then
    response.is_chunked = request.version == "1.1"
    if response.is_chunked then
      table.insert(lines, "transfer-encoding: chunked")
    else
      response.connection:close_after()
    end
  end
  if tostring(known.connection):lower() == "close" or not request.is_complete then response.connection:close_after() end
  if not known.connection then table.insert(lines, "connection: " .. response.connection:wish()) end
  if not known.date then table.insert(lines, "date: " .. date()) end
  response.state, response.status = "open", status
  return ("HTTP/1.1 %d %s\r\n%s\r\n\r\n"):format(status, REASONS[status] or "Status", table.concat(lines, "\r\n"))
end

local function cut(response)
  response.state, response.is_cut = "over", true
  response.connection:cut()
end

local function check_open(response, what)
  if response.state == "new" then error(errors.closed_error(what .. " comes after response:start"), 0) end
  if response.state == "over" then error(errors.closed_error "the answer is over", 0) end
end

--- Answers with a whole body.
---@param status integer
---@param headers? table<string, string|number|string[]>
---@param body? string
--- Raises `ValueError` for what would be no answer of HTTP, before anything is sent.
function Response:send(status, headers, body)
  body = body or ""
  if type(body) ~= "string" then fail("a body must be a string, not %s", options.describe(body)) end
  if math.type(status) == "integer" and has_no_body(status) and body ~= "" then
    fail("an answer with status %d has no body", status)
  end
  local head = open(self, status, headers, #body)
  self.state = "over"
  self.connection:write(self.hides_body and head or head .. body, true)
end

--- Begins an answer whose body follows by pieces, in chunks where no `content-length` is among the headers.
---@param status integer
---@param headers? table<string, string|number|string[]>
--- Raises `ValueError` as `send` does.
function Response:start(status, headers)
  local head = open(self, status, headers)
  self.connection:continue(self.request) -- the handler may read on, and a client that holds its body back must know
  self.connection:write(head)
end

--- Sends a piece of the body. Waits while the client reads more slowly than this writes.
---@param bytes string
--- Raises `Cancelled` when the client went away, `ValueError` when it is more than the `content-length`.
function Response:write(bytes)
  check_open(self, "response:write")
  if type(bytes) ~= "string" then fail("response:write takes a string, not %s", options.describe(bytes)) end
  self.written = self.written + #bytes
  if self.length and self.written > self.length and not self.hides_body then
    cut(self)
    fail("the header 'content-length' says %d, and %d bytes were written", self.length, self.written)
  end
  if bytes == "" or self.hides_body then return self.connection:write "" end
  self.connection:write(self.is_chunked and ("%x\r\n%s\r\n"):format(#bytes, bytes) or bytes)
end

--- Ends the body. Where a handler has returned, that is done for it.
--- Raises `ValueError` when it is less than the `content-length`.
function Response:finish()
  check_open(self, "response:finish")
  self.state = "over"
  if self.length and self.written < self.length and not self.hides_body then
    cut(self)
    fail("the header 'content-length' says %d, and %d bytes were written", self.length, self.written)
  end
  self.connection:write(self.is_chunked and not self.hides_body and "0\r\n\r\n" or "", true)
end

--- Ends the connection in the middle of the answer, so that the client sees that it is not whole.
function Response:abort() cut(self) end

--- Whether all of the answer was handed out, for the client to read.
---@return boolean
function Response:is_whole() return self.state == "over" and not self.is_cut end

local function start_events(response)
  if response.state ~= "new" then return end
  response:start(200, { ["content-type"] = "text/event-stream", ["cache-control"] = "no-cache" })
end

--- Sends a server-sent event; the first one begins the answer, if nothing has.
---@param name? string  its type; nil for a plain message
---@param data string   may have many lines
---@param id? string    what the client says it had last when it comes back, in the header `last-event-id`
function Response:event(name, data, id)
  local lines = {}
  for field, value in pairs { event = name, id = id } do
    if type(value) ~= "string" or value:find "[\r\n%z]" then
      fail("an event's %s must be one line of text, not %s", field == "id" and "id" or "name", options.describe(value))
    end
    table.insert(lines, ("%s: %s\n"):format(field, value))
  end
  table.sort(lines)
  if type(data) ~= "string" then fail("an event's data must be a string, not %s", options.describe(data)) end
  data = data:gsub("\r\n?", "\n")
  for line in (data .. "\n"):gmatch "([^\n]*)\n" do table.insert(lines, "data: " .. line .. "\n") end
  start_events(self)
  self:write(table.concat(lines) .. "\n")
end

--- Sends a comment between events: a sign of life that clients pass over.
---@param text? string
function Response:comment(text)
  text = text or ""
  if type(text) ~= "string" or text:find "[\r\n]" then
    fail("a comment must be one line of text, not %s", options.describe(text))
  end
  start_events(self)
  self:write((": %s\n\n"):format(text))
end

function Response:__tostring() return ("%s (%s)"):format(Response.__name, self.status or self.state) end

--- An answer of the server's own, when there is no request to answer.
---@param status integer
---@param text string
---@return string bytes
function M.bare(status, text)
  local headers = ("content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\ndate: %s")
    :format(#text + 1, date())
  return ("HTTP/1.1 %d %s\r\n%s\r\n\r\n%s\n"):format(status, REASONS[status], headers, text)
end

return M
