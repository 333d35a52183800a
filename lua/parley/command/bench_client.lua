--- A client of `parley serve` that keeps its connection, for the bench.
local task = require "parley.base.task"
local uv = require "luv"

local M = { TOKEN = "bench-token-0123456789" }

---@class parley.bench.Client
---@field socket any
---@field text string          what has come since the last request
---@field on_bytes? fun(bytes: string)
---@field package news parley.Condition
---@field package has_ended? boolean
local Client = {}
Client.__index = Client

--- Connects to a server of this machine.
---@param port integer
---@return parley.bench.Client
function M.connect(port)
  local self = setmetatable({ socket = uv.new_tcp(), text = "", news = task.condition() }, Client)
  local problem = task.suspend(function(wake) self.socket:connect("127.0.0.1", port, wake) end)
  assert(not problem, problem)
  self.socket:read_start(function(_, bytes)
    self.text = self.text .. (bytes or "")
    if bytes and self.on_bytes then self.on_bytes(bytes) end
    self.has_ended = not bytes
    self.news:notify()
  end)
  return self
end

function Client:close() self.socket:close() end
Client.__close = Client.close

--- Waits until what has come has a pattern.
---@param self parley.bench.Client
---@param pattern string
---@return integer last  where it ends
function M.expect(self, pattern)
  self.news:wait_until(function() return self.text:find(pattern) or self.has_ended end)
  local _, last = self.text:find(pattern)
  assert(last, "the server has ended the connection")
  return last
end

--- Sends a request; what comes back is left in `text`.
---@param self parley.bench.Client
---@param method string
---@param path string
---@param body? string
function M.send(self, method, path, body)
  self.text = ""
  self.socket:write(("%s %s HTTP/1.1\r\nhost: localhost\r\nx-api-key: %s\r\ncontent-length: %d\r\n\r\n%s"):format(
    method, path, M.TOKEN, #(body or ""), body or ""))
end

--- Sends a request and waits for its whole answer.
---@param self parley.bench.Client
---@param method string
---@param path string
---@param body? string
---@return string body
function M.ask(self, method, path, body)
  M.send(self, method, path, body)
  local head = M.expect(self, "\r\n\r\n")
  local length = tonumber(self.text:match "content%-length: (%d+)")
  self.news:wait_until(function() return #self.text >= head + length end)
  return self.text:sub(head + 1)
end

--- Connects many times.
---@param port integer
---@param count integer
---@param begin fun(client: parley.bench.Client)
---@return parley.bench.Client[] list  a `<close>` variable
function M.many(port, count, begin)
  local list = setmetatable({}, { __close = function(all)
    for _, client in ipairs(all) do client:close() end
  end })
  list.__close = getmetatable(list).__close
  for i = 1, count do
    list[i] = M.connect(port)
    begin(list[i])
  end
  return list
end

return M
