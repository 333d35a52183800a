--- What `parley attach` says to `parley serve`: requests, each on a connection of its own, and a stream of events.
local core = require "parley.core"
local errors = require "parley.base.errors"
local task = require "parley.base.task"
local uv = require "luv"

local M = {}

---@class parley.attach.Place  where a server is
---@field host? string
---@field port? integer
---@field path? string  of a unix socket
---@field token string

---@class parley.attach.Client: parley.attach.Place
local Client = {}
Client.__index = Client

---@param place parley.attach.Place
---@return parley.attach.Client
function M.new(place) return setmetatable(place, Client) end

-- A connection --------------------------------------------------------------------------------------------------------

local Connection = {}
Connection.__index = Connection

--- How it is called in messages and in the header `Host`, where an address with colons has brackets.
local function name_of(client)
  if client.path then return client.path end
  return (client.host:find ":" and "[%s]:%d" or "%s:%d"):format(client.host, client.port)
end

local function fail(client, code, problem)
  error(errors.new(code, ("cannot reach parley serve at %s: %s"):format(name_of(client), problem)), 0)
end

--- The address of a name.
local function resolve(client)
  if client.host:find "^[%d.]+$" or client.host:find ":" then return client.host end
  local problem, found = task.suspend(function(wake)
    uv.getaddrinfo(client.host, nil, { socktype = "stream", family = "inet" }, wake)
  end)
  if problem or not found[1] then fail(client, "ENOTFOUND", tostring(problem or "no such host")) end
  return found[1].addr
end

local function connect(client)
  local address = not client.path and resolve(client) or nil
  local self = setmetatable({ socket = client.path and uv.new_pipe(false) or uv.new_tcp(), bytes = "",
    news = task.condition() }, Connection)
  local problem = task.suspend(function(wake)
    local ok, why
    if client.path then
      ok, why = self.socket:connect(client.path, wake)
    else
      ok, why = self.socket:connect(address, client.port, wake)
    end
    if not ok then wake(why) end
    return function() self:close() end
  end)
  if problem then
    self:close()
    fail(client, problem:match "^E%w+" or "ECONNREFUSED", problem)
  end
  self.socket:read_start(function(err, bytes)
    if bytes then self.bytes = self.bytes .. bytes else self.has_ended = err or true end
    self.news:notify()
  end)
  return self
end

function Connection:close()
  if not self.socket:is_closing() then self.socket:close() end
end

Connection.__close = Connection.close

--- Waits until a function makes something of what has come; it returns that and how many bytes are done with.
local function await(self, take)
  while true do
    local value, used = take(self.bytes)
    if value ~= nil then
      self.bytes = self.bytes:sub(used + 1)
      return value
    end
    if self.has_ended then error(errors.new("EPROTO", "the connection has ended in the middle of an answer"), 0) end
    self.news:wait()
  end
end

local function read_head(self)
  local head = await(self, function(bytes)
    local _, last = bytes:find("\r\n\r\n", 1, true)
    if last then return bytes:sub(1, last), last end
  end)
  local headers = {}
  for name, value in head:gmatch "\r\n([^:\r\n]+):[ \t]*([^\r\n]*)" do headers[name:lower()] = value end
  return { status = math.tointeger(tonumber(head:match "^HTTP/1%.%d (%d+)")), headers = headers }
end

local function read_chunk(self)
  return await(self, function(bytes)
    local digits, first = bytes:match "^(%x+)[^\r\n]*\r\n()"
    local size = digits and tonumber(digits, 16)
    if size and #bytes >= first + size + 1 then return bytes:sub(first, first + size - 1), first + size + 1 end
  end)
end

local function read_body(self, answer)
  local length = tonumber(answer.headers["content-length"] or 0)
  if answer.headers["transfer-encoding"] then
    local pieces = {}
    repeat table.insert(pieces, read_chunk(self)) until pieces[#pieces] == ""
    return table.concat(pieces)
  end
  return await(self, function(bytes)
    if #bytes >= length then return bytes:sub(1, length), length end
  end)
end

local function send(self, client, method, path, given)
  local lines = { ("%s %s HTTP/1.1"):format(method, path) }
  local headers = { host = client.path and "localhost" or name_of(client), connection = "close",
    authorization = "Bearer " .. client.token, ["content-length"] = tostring(#(given.body or "")) }
  for name, value in pairs(given.headers or {}) do headers[name] = value end
  for name, value in pairs(headers) do table.insert(lines, name .. ": " .. value) end
  self.socket:write(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (given.body or ""))
end

--- What a server that refuses says.
local function refusal(status, text)
  local body = core.json.decode(text)
  local message = type(body) == "table" and type(body.error) == "table" and body.error.message
    or ("the server says %d"):format(status)
  return errors.new("ApiError", message, { status = status })
end

-- Requests ------------------------------------------------------------------------------------------------------------

---@class parley.attach.Given
---@field headers? table<string, string>
---@field body? string

--- Asks, and waits for the answer.
---@param method string
---@param path string
---@param given? parley.attach.Given
---@return any value  of its JSON
--- Raises `ApiError` (`status`) when it is refused, and the system's error.
function Client:ask(method, path, given)
  local connection <close> = connect(self)
  send(connection, self, method, path, given or {})
  local answer = read_head(connection)
  local text = read_body(connection, answer)
  if answer.status ~= 200 then error(refusal(answer.status, text), 0) end
  return core.json.decode(text)
end

--- Reads a stream of events, to its end.
---@param path string
---@param headers table<string, string>
---@param take fun(name: string, data: any)
--- Raises as `ask` does.
function Client:follow(path, headers, take)
  local connection <close> = connect(self)
  headers.accept = "text/event-stream"
  send(connection, self, "GET", path, { headers = headers })
  local answer = read_head(connection)
  if answer.status ~= 200 then error(refusal(answer.status, read_body(connection, answer)), 0) end
  local rest = ""
  while true do
    local chunk = read_chunk(connection)
    if chunk == "" then return end
    rest = rest .. chunk
    local done = 0
    for frame, past in rest:gmatch "(.-)\n\n()" do
      local name, data = frame:match "event: ([^\n]*)", frame:match "data: ([^\n]*)"
      if name and data then take(name, core.json.decode(data)) end
      done = past - 1
    end
    rest = rest:sub(done + 1)
  end
end

return M
