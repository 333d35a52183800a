--- One client: its socket, the parser of what it sends, and the request that is being answered.
---
--- Everything here happens in callbacks of the loop; only a handler, which runs as a task, waits: for the body in
--- request.lua, for a slow client in `write`. Requests are answered one after the other, so what a client sends ahead
--- stays unread.
local clock = require "parley.base.clock"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local requests = require "parley.base.http.request"
local responses = require "parley.base.http.response"
local task = require "parley.base.task"

local M = {}

local HIGH_WATER = 64 * 1024 -- so much may be unread, and unsent
local SLICE = 256 * 1024     -- so much is handed to the socket at once
local LINGER_MS = 2000       -- for a client that still sends while it is refused: a reset would lose the answer
local FRESH_MS = 100         -- where many come at once, all are accepted before any is read

---@class parley.http.Connection
---@field package fresh_until number      until when its request may have come and nobody has looked
---@field package deadline? number        until when bytes must have come
---@field package write_deadline? number  until when some of what is unsent must have been taken
---@field package handler? parley.Task
local Connection = {}
Connection.__index = Connection

--- Serves a socket that was accepted.
---@param server table      `limits`, `connections`, `handle(connection, request, response)`, `forget(connection)`
---@param socket userdata
---@return parley.http.Connection
function M.new(server, socket)
  local self = setmetatable({
    server = server, socket = socket, parser = core.http.new(server.limits.head_bytes, server.limits.headers),
    keeps_alive = true, is_in_head = true, sending = 0, drained = task.condition(),
    deadline = clock.now() + server.limits.head_ms, fresh_until = clock.now() + FRESH_MS,
  }, Connection)
  self:read_on()
  return self
end

--- Refuses a socket that was accepted.
function M.refuse(server, socket, status, text)
  local self = M.new(server, socket)
  self:answer_bare(status, text)
  return self
end

function Connection:read_on()
  if self.is_reading or self.is_closed then return end
  self.is_reading = true
  self.socket:read_start(function(err, bytes)
    if err or not bytes then return self:lose() end
    if not self.is_draining then self:receive(bytes) end
  end)
end

function Connection:read_stop()
  if not self.is_reading or self.is_closed then return end
  self.is_reading = false
  self.socket:read_stop()
end

function Connection:receive(bytes)
  if self.request then
    if self.deadline then self.deadline = clock.now() + self.server.limits.idle_ms end
  elseif not self.is_in_head then
    self.is_in_head, self.deadline = true, clock.now() + self.server.limits.head_ms
  end
  self.pending = self.pending and self.pending:sub(self.from) .. bytes or bytes
  self.from = 1
  self:advance()
end

--- Whether the next bytes have to wait: for the end of an answer, for a body's reader.
function Connection:is_held()
  local request = self.request
  return request ~= nil and (request.is_complete or request.failure ~= nil or request:is_full())
end

--- Reads what has come, as far as somebody wants it.
function Connection:advance()
  while self.pending and not self.is_closed and not self.is_draining and not self:is_held() do
    local event, next, body = self.parser:feed(self.pending, self.from)
    if not event then
      self.pending = nil
      return self:refuse(next)
    end
    self.from = next
    if body then self.request:push(body) end
    if event == "head" then
      self:begin(self.parser:head())
    elseif event == "end" then
      self.request:complete()
      self.deadline = nil
      if next > #self.pending then self.pending = nil end
    else
      self.pending = nil
    end
  end
  self:pace()
end

--- Reads from the socket, or leaves the client waiting.
function Connection:pace()
  local request = self.request
  local is_held = request and not request.is_complete and self:is_held()
  if is_held or self.pending and #self.pending - self.from >= HIGH_WATER then
    self:read_stop()
    if is_held then self.deadline = nil end
  else
    self:read_on()
  end
end

function Connection:begin(head)
  local limits = self.server.limits
  local request = requests.new(head, self, limits.body_bytes)
  if not self.peer and self.socket.getpeername and self.server.is_tcp then
    local name = self.socket:getpeername()
    self.peer = name and { host = name.ip, port = name.port }
  end
  request.peer = self.peer
  self.keeps_alive = head.keeps_alive
  if head.length and head.length > limits.body_bytes then
    return self:answer_bare(413, ("the body has more than %d bytes"):format(limits.body_bytes))
  end
  self.request, self.is_in_head, self.deadline = request, false, clock.now() + limits.idle_ms
  self.server:handle(self, request, responses.new(request, self))
end

--- What the client sent is no HTTP, or too much of it.
function Connection:refuse(err)
  self.keeps_alive = false
  if not self.request then return self:answer_bare(err.status or 400, err.message) end
  self.request:fail(err)
  self:pace()
end

---@param request parley.http.Request
function Connection:continue(request)
  if not request.expects then return end
  request.expects = false
  if request.received == 0 and not self.is_closed then self:send "HTTP/1.1 100 Continue\r\n\r\n" end
end

---@param request parley.http.Request
function Connection:resume_body(request)
  if self.request ~= request or self.is_closed then return end
  self.deadline = clock.now() + self.server.limits.idle_ms
  self:advance()
end

--- What the header `connection` says of the next request.
---@return "close"|"keep-alive"
function Connection:wish() return self.keeps_alive and "keep-alive" or "close" end

function Connection:close_after() self.keeps_alive = false end

--- Hands bytes to the socket.
function Connection:send(bytes, then_what)
  self.sending = self.sending + 1
  if not self.write_deadline then self.write_deadline = clock.now() + self.server.limits.idle_ms end
  self.socket:write(bytes, function(err)
    self.sending = self.sending - 1
    self.write_deadline = self.sending > 0 and clock.now() + self.server.limits.idle_ms or nil
    if err then return self:lose() end
    self.drained:notify()
    if then_what then then_what() end
  end)
end

--- Writes for a handler, and waits for a client that is slow. When that is given up, no answer can follow the half of
--- one: the connection is cut.
---@param bytes string
---@param is_last? boolean  the answer is over: the connection is free for the next request
function Connection:write(bytes, is_last)
  local _ <close> = defer(function(err)
    if err then self:cut() end
  end)
  for from = 1, #bytes, SLICE do
    if self.is_closed then error(errors.cancelled "the client went away", 0) end
    self:send(#bytes <= SLICE and bytes or bytes:sub(from, from + SLICE - 1))
    while not self.is_closed and self.socket:get_write_queue_size() > HIGH_WATER do self.drained:wait() end
  end
  if self.is_closed then error(errors.cancelled "the client went away", 0) end
  if is_last then self.is_answered = true end
end

--- Has the answer out: the next request is read, which may be here already. The server calls it when a handler is over.
function Connection:release()
  if self.is_closed then return end
  local is_whole = self.request.is_complete
  self.request, self.handler, self.is_answered = nil, nil, false
  if not self.keeps_alive then return self:drain(is_whole and not self.pending) end
  local limits = self.server.limits
  self.is_in_head = self.pending ~= nil
  self.deadline = clock.now() + (self.pending and limits.head_ms or limits.idle_ms)
  self:advance()
end

--- Says no more. A client that may still send is heard out for a while, so that it reads the answer first.
function Connection:drain(is_silent)
  if self.is_closed or self.is_draining then return end
  self.is_draining, self.pending = true, nil
  self.deadline = clock.now() + LINGER_MS
  self.socket:shutdown(function()
    if is_silent then self:close() end
  end)
  self:read_on()
end

function Connection:answer_bare(status, text)
  self.keeps_alive = false
  self:send(responses.bare(status, text))
  self:drain(false)
end

--- Ends the connection in the middle of something.
function Connection:cut()
  self.keeps_alive = false
  self:close()
end

--- The client went away, or as good as that: whoever works for it stops.
function Connection:lose()
  if self.is_closed then return end
  self:close()
  if self.handler then self.handler:cancel(errors.cancelled "the client went away") end
end

function Connection:close()
  if self.is_closed then return end
  self.is_closed = true
  self.deadline, self.write_deadline, self.pending = nil, nil, nil
  self.socket:close()
  self.parser:close()
  self.server:forget(self)
  self.drained:notify()
end

--- How long it is kept without a request.
---@return number? instant  nil while it has one, which may not have been read yet, or an answer is still to be sent
function Connection:spare_until()
  local is_needed = self.request or self.sending > 0 or clock.now() < self.fresh_until
  return not is_needed and self.deadline or nil
end

--- Acts on what did not come in time.
---@param now number
function Connection:check_time(now)
  if self.write_deadline and now >= self.write_deadline then
    local unsent = self.socket:get_write_queue_size()
    if self.unsent and unsent >= self.unsent then return self:lose() end
    self.unsent, self.write_deadline = unsent, now + self.server.limits.idle_ms
  end
  if not self.deadline or now < self.deadline then return end
  self.deadline = nil
  if self.is_draining or not self.request and not self.is_in_head then return self:close() end
  if not self.request then return self:answer_bare(408, "the request took too long") end
  self.keeps_alive = false
  self.request:fail(errors.new("ETIMEDOUT", "the rest of the body does not come", { status = 408 }))
end

return M
