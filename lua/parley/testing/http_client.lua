--- An HTTP/1.1 client, as small as the stand-in needs one: one request, one answer, and the connection is closed.
local uv = require "luv"
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

---@class parley.testing.HttpRequest
---@field url string                      `http://127.0.0.1:PORT/…`
---@field method? string                  default POST with a body, GET without
---@field headers? table<string, string>  lower-case names
---@field body? string
---@field idle_ms? number                 at most so long until the answer, or a byte of an answer that is an event
---                                        stream; default: no limit

---@class parley.testing.HttpAnswer
---@field status integer
---@field headers table<string, string>   lower-case names
---@field body string

local function request_text(given, host, target)
  local lines = { ("%s %s HTTP/1.1"):format(given.method or given.body and "POST" or "GET", target) }
  local headers = { host = host, connection = "close", ["content-length"] = #(given.body or "") }
  for name, value in pairs(given.headers or {}) do headers[name] = value end
  for name, value in pairs(headers) do table.insert(lines, name .. ": " .. value) end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (given.body or "")
end

--- The chunks of a body, joined; nothing while its end has not come.
local function unchunked(text)
  local pieces, from = {}, 1
  while true do
    local digits, next = text:match("^(%x+)[^\r\n]*\r\n()", from)
    if not digits then return nil end
    local size = tonumber(digits, 16)
    if size == 0 then return table.concat(pieces) end
    if #text < next + size + 1 then return nil end
    table.insert(pieces, text:sub(next, next + size - 1))
    from = next + size + 2
  end
end

--- What has come, as an answer; nothing while it is not whole.
local function parse(text, has_ended)
  local status, headers_text, first = text:match "^HTTP/1%.%d (%d+)[^\r\n]*\r\n(.-)\r\n()"
  if not status then return nil end
  local headers = {}
  if headers_text ~= "" then
    local head_end = text:find("\r\n\r\n", 1, true)
    if not head_end then return nil end
    for name, value in text:sub(1, head_end + 1):gmatch "\r\n([^:\r\n]+):[ \t]*([^\r\n]*)" do
      headers[name:lower()] = value
    end
    first = head_end + 4
  end
  local body, length = text:sub(first), tonumber(headers["content-length"])
  if (headers["transfer-encoding"] or ""):lower() == "chunked" then
    body = unchunked(body)
  elseif length then
    body = #body >= length and body:sub(1, length) or nil
  elseif not has_ended and status ~= "204" then
    body = nil
  end
  return body and { status = math.tointeger(status), headers = headers, body = body }
end

local function connect(socket, host, port)
  local problem = task.suspend(function(wake)
    local ok, err = socket:connect(host, port, wake)
    if not ok then wake(err) end
  end)
  if problem then error(errors.new("ECONNREFUSED", ("cannot connect to %s:%d: %s"):format(host, port, problem)), 0) end
end

--- Sends a request and waits for the whole answer. When the task is cancelled the connection is closed.
---@param given parley.testing.HttpRequest
---@return parley.testing.HttpAnswer
--- Raises an error object: `ECONNREFUSED`, `EPROTO` when the connection ends early, `ETIMEDOUT`.
function M.request(given)
  local host, port, target = given.url:match "^http://([%w.]+):(%d+)(.*)$"
  if not host then error(errors.value_error("an address like http://127.0.0.1:80/ is needed, not " .. given.url), 0) end
  local socket = uv.new_tcp()
  local _ <close> = task.closing(socket)
  connect(socket, host, math.tointeger(port))
  local pieces, has_ended, news, deadline = {}, false, task.condition(), task.now() + (given.idle_ms or math.huge)
  socket:read_start(function(err, bytes)
    if bytes then table.insert(pieces, bytes) else has_ended = err or true end
    news:notify()
  end)
  socket:write(request_text(given, ("%s:%s"):format(host, port), target == "" and "/" or target))
  while true do
    if not news:wait(math.max(0, deadline - task.now())) then
      error(errors.new("ETIMEDOUT", ("no byte came for %g ms"):format(given.idle_ms)), 0)
    end
    local text = table.concat(pieces)
    if text:find("text/event-stream", 1, true) then deadline = task.now() + (given.idle_ms or math.huge) end
    pieces = { text }
    local answer = parse(text, has_ended)
    if answer then return answer end
    if has_ended then error(errors.new("EPROTO", "the connection ended before the answer was whole"), 0) end
  end
end

return M
