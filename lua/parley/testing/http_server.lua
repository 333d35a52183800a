--- A small HTTP/1.1 server on luv, for stand-ins on loopback.
---
--- It understands what an HTTP client of today sends: bodies with a length or in chunks, `Expect: 100-continue`, many
--- requests on one connection, one after the other. An answer is plain data: a list of steps played in time.
--- Everything happens in callbacks, so it serves from inside and outside of tasks.
local uv = require "luv"
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"

local M = {}

local HEAD_LIMIT = 64 * 1024
local BODY_LIMIT = 256 * 1024 * 1024

local REASONS = {
  [200] = "OK", [400] = "Bad Request", [401] = "Unauthorized", [404] = "Not Found", [413] = "Content Too Large",
  [429] = "Too Many Requests", [500] = "Internal Server Error", [529] = "Overloaded",
}

---@class parley.testing.HttpRequest
---@field method string
---@field path string                    with the query
---@field headers table<string, string>  lower-case names; what came twice is joined with `, `
---@field body string
---@field state "answering"|"answered"|"aborted"  aborted: the client went away first, or the answer was cut

---@class parley.testing.HttpStep
---@field wait_ms? number  before anything else
---@field bytes? string    body bytes to send
---@field cut? boolean     end the connection here, in the middle of the answer

local function parse_head(head)
  local method, path, minor, fields = head:match "^(%u+) (%S+) HTTP/1%.([01])\r\n(.*)$"
  if not method then return nil, "not an HTTP/1.1 request line" end
  local headers = {}
  for line in fields:gmatch "(.-)\r\n" do
    local name, value = line:match "^([^%s:]+):[ \t]*(.-)[ \t]*$"
    if not name then return nil, "a header without a colon" end
    name = name:lower()
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  local wish = (headers.connection or ""):lower()
  return {
    method = method, path = path, headers = headers, state = "answering",
    keeps_alive = minor == "1" and wish ~= "close" or wish == "keep-alive",
  }
end

--- Reads a chunked body from `position` on. Results as those of `parse`, with the body instead of the request.
local function parse_chunks(bytes, position)
  local pieces, total = {}, 0
  while true do
    local digits, data = bytes:match("^(%x+)[^\r\n]*\r\n()", position)
    if not digits then
      if #bytes - position > 256 or bytes:find("\r\n", position, true) then return nil, nil, "a bad chunk size" end
      return nil, #bytes + 1
    end
    local size = #digits <= 8 and tonumber(digits, 16) or BODY_LIMIT
    total = total + size
    if total >= BODY_LIMIT then return nil, nil, "a body that is too large" end
    if size == 0 then -- then trailers, which nobody needs, and an empty line
      local stop = bytes:match("^\r\n()", data) or bytes:match("\r\n\r\n()", data)
      if not stop then return nil, #bytes + 1 end
      return table.concat(pieces), stop - 1
    end
    position = data + size + 2
    if #bytes < position - 1 then return nil, position - 1 end
    if bytes:sub(position - 2, position - 1) ~= "\r\n" then return nil, nil, "a chunk longer than its size" end
    table.insert(pieces, bytes:sub(data, data + size - 1))
  end
end

--- Takes one request off the front of some bytes.
---@param bytes string
---@return parley.testing.HttpRequest? request
---@return integer? size     how many bytes it was; without a request, how many there must be before the next try
---@return string? problem   why this will never be a request
---@return boolean? expects  the client waits for `100 Continue` before it sends the body
function M.parse(bytes)
  local head, body_start = bytes:match "^(.-\r\n)\r\n()"
  if not head then
    if #bytes > HEAD_LIMIT then return nil, nil, "a head that is too large" end
    return nil, #bytes + 1
  end
  local request, problem = parse_head(head)
  if not request then return nil, nil, problem end
  local expects = (request.headers.expect or ""):lower() == "100-continue"

  local coding = request.headers["transfer-encoding"]
  if coding then
    if coding:lower() ~= "chunked" then return nil, nil, "an unknown transfer-encoding" end
    local body, last, fault = parse_chunks(bytes, body_start)
    if not body then return nil, last, fault, expects end
    request.body = body
    return request, last
  end
  local length = request.headers["content-length"] or "0"
  if not length:find "^%d+$" or #length > 15 then return nil, nil, "a bad content-length" end
  if tonumber(length) > BODY_LIMIT then return nil, nil, "a body that is too large" end
  local size = body_start - 1 + math.tointeger(tonumber(length))
  if #bytes < size then return nil, size, nil, expects end
  request.body = bytes:sub(body_start, size)
  return request, size
end

---@class parley.testing.HttpConnection
---@field package socket userdata
---@field package timer? parley.Timer
---@field package request? parley.testing.HttpRequest  the one being answered
local Connection = {}
Connection.__index = Connection

local function format_head(status, headers)
  local lines = { ("HTTP/1.1 %d %s"):format(status, REASONS[status] or "Status") }
  for name, value in pairs(headers) do table.insert(lines, name .. ": " .. value) end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

function Connection:close()
  if self.socket:is_closing() then return end
  if self.timer then self.timer:close() end
  self.socket:close()
  self.server.connections[self] = nil
  self:settle "aborted"
end

--- Ends the request being answered, if there is one.
function Connection:settle(state)
  local request = self.request
  self.request = nil
  if not request then return end
  request.state = state
  self.server.on_change(request)
end

function Connection:write(bytes)
  if self.socket:is_closing() then return end
  self.socket:write(bytes, function(err)
    if err then self:close() end -- the client went away
  end)
end

--- Has the answer out: the connection is free for the next request, which may be here already.
function Connection:finish()
  local keeps_alive = self.request.keeps_alive
  self:settle "answered"
  if keeps_alive then return self:advance() end
  self.socket:shutdown(function() self:close() end)
end

--- Answers with a whole body.
---@param status integer
---@param headers table<string, string>
---@param body string
function Connection:send(status, headers, body)
  local head = { ["content-length"] = #body }
  for name, value in pairs(headers) do head[name] = value end
  if not self.request.keeps_alive then head.connection = "close" end
  self:write(format_head(status, head) .. (self.request.method == "HEAD" and "" or body))
  self:finish()
end

--- Answers step by step.
---@param status integer
---@param headers table<string, string>
---@param steps parley.testing.HttpStep[]
function Connection:play(status, headers, steps)
  local head = { ["transfer-encoding"] = "chunked" }
  for name, value in pairs(headers) do head[name] = value end
  if not self.request.keeps_alive then head.connection = "close" end
  local index, head_bytes = 0, format_head(status, head)
  local play_on

  local function perform(step)
    local bytes = head_bytes
    head_bytes = ""
    if step.bytes and #step.bytes > 0 then bytes = ("%s%x\r\n%s\r\n"):format(bytes, #step.bytes, step.bytes) end
    self:write(bytes)
    if step.cut then self:close() end
  end

  function play_on()
    while not self.socket:is_closing() do
      index = index + 1
      local step = steps[index]
      if not step then
        self:write(head_bytes .. "0\r\n\r\n")
        return self:finish()
      end
      if step.wait_ms then
        return self:wait(step.wait_ms, function()
          perform(step)
          play_on()
        end)
      end
      perform(step)
    end
  end
  play_on()
end

--- Calls back after some time, unless the connection ends before.
---@param milliseconds number
---@param callback fun()
function Connection:wait(milliseconds, callback)
  self.timer = clock.after(milliseconds, callback)
end

--- Handles what has come, as far as it makes a whole request.
function Connection:advance()
  if self.request or self.size < self.needed or self.socket:is_closing() then return end
  local bytes = table.concat(self.pieces)
  self.pieces = { bytes }
  local request, size, problem, expects = M.parse(bytes)
  if request then
    local rest = bytes:sub(size + 1)
    self.pieces, self.size, self.needed, self.has_continued = { rest }, #rest, 1, false
    self.request = request
    return self.server.on_request(request, self)
  elseif problem then
    self.request = { method = "?", path = "?", headers = {}, body = "", state = "answering", keeps_alive = false }
    return self:send(400, {}, problem .. "\n")
  end
  self.needed = size
  if expects and not self.has_continued then
    self.has_continued = true
    self:write "HTTP/1.1 100 Continue\r\n\r\n"
  end
end

local function accept(server)
  local socket = uv.new_tcp()
  server.socket:accept(socket)
  socket:nodelay(true)
  local connection = setmetatable({
    server = server, socket = socket, pieces = {}, size = 0, needed = 1,
  }, Connection)
  server.connections[connection] = true
  socket:read_start(function(err, bytes)
    if err or not bytes then return connection:close() end
    table.insert(connection.pieces, bytes)
    connection.size = connection.size + #bytes
    connection:advance()
  end)
end

---@class parley.testing.HttpServer
---@field port integer
local Server = {}
Server.__index = Server
Server.__name = "parley.testing.HttpServer"

--- Listens on loopback.
---@param options table  `port`, 0 for a free one; `on_request(request, connection)`, which answers each request with
---  `connection:send` or `connection:play`; `on_change(request)`, called when an answer has ended
---@return parley.testing.HttpServer
--- Raises an error object with libuv's code, `EADDRINUSE` for one.
function M.listen(options)
  local socket = uv.new_tcp()
  local server = setmetatable({
    socket = socket, connections = {}, on_request = options.on_request, on_change = options.on_change or function() end,
  }, Server)
  local ok, message, code = socket:bind("127.0.0.1", options.port)
  if ok then
    ok, message, code = socket:listen(128, function(err)
      if not err then accept(server) end
    end)
  end
  if not ok then
    socket:close()
    error(errors.new(code, ("cannot listen on 127.0.0.1:%d: %s"):format(options.port, message)), 0)
  end
  server.port = socket:getsockname().port
  return server
end

--- Stops listening and ends every connection. Further calls do nothing.
function Server:close()
  if self.socket:is_closing() then return end
  self.socket:close()
  local connections = {}
  for connection in pairs(self.connections) do table.insert(connections, connection) end
  for _, connection in ipairs(connections) do connection:close() end
end

Server.__close = Server.close

function Server:__tostring() return ("%s (port %d)"):format(Server.__name, self.port) end

return M
