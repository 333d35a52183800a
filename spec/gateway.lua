-- A gateway on the simulated claude, and clients of it, for the specs.
local assert = require "luassert"
local core = require "parley.core"
local gateway = require "parley.gateway"
local helper = require "spec.helper"
local http_client = require "parley.testing.http_client"
local task = require "parley.base.task"
local testing = require "parley.testing"
local uv = require "luv"

local M = { TOKEN = "spec-token-0123456789" }

---@class spec.Gateway
---@field kit parley.testing.Kit
---@field server parley.gateway.Server
---@field lines string[]  of the log
local Gateway = {}
Gateway.__index = Gateway

--- Starts a gateway. `given.kit` goes to the kit, `given.backend` to the backend; the rest to the gateway.
function M.start(given)
  given = given or {}
  local self = setmetatable({ lines = {}, kit = testing.kit(given.kit) }, Gateway)
  local options = { tokens = { { name = "me", token = M.TOKEN }, { name = "you", token = "your-token-0123456789" } },
    plain_folder = self.kit.folder .. "/plain", log = function(line) table.insert(self.lines, line) end }
  for name, value in pairs(given) do
    if name ~= "kit" and name ~= "backend" then options[name] = value end
  end
  options.backend = {}
  for _, set in ipairs { self.kit.options, given.backend or {} } do
    for name, value in pairs(set) do options.backend[name] = value end
  end
  local ok, server = pcall(gateway.serve, options)
  if not ok then
    self.kit:close()
    error(server, 0)
  end
  self.server = server
  return self
end

function Gateway:close()
  self.server:close()
  self.kit:close()
end

function Gateway:__close(err)
  self.server:close()
  -- An idle session that was ended in time is not waited for.
  pcall(helper.eventually, function() return #self.kit:processes() == 0 end, 10000)
  self.kit.__close(self.kit, err)
end

local function headers_of(given)
  local headers = { ["x-api-key"] = M.TOKEN, ["content-type"] = "application/json" }
  for name, value in pairs(given or {}) do headers[name] = value or nil end
  return headers
end

--- Sends a request and waits for the whole answer; `json` is what its body holds.
---@param path string
---@param body? table|string
---@param headers? table<string, string|false>  false leaves one out
---@param method? string
function Gateway:request(path, body, headers, method)
  local answer = http_client.request { url = ("http://127.0.0.1:%d%s"):format(self.server.port, path), method = method,
    headers = headers_of(headers), body = type(body) == "table" and assert(core.json.encode(body)) or body }
  answer.json = core.json.decode(answer.body)
  return answer
end

--- Asks for a message; more fields in `fields`.
function Gateway:ask(messages, fields, headers)
  if type(messages) == "string" then messages = { { role = "user", content = messages } } end
  local body = { model = "sonnet", max_tokens = 1000, messages = messages }
  for name, value in pairs(fields or {}) do body[name] = value end
  return self:request("/v1/messages", body, headers)
end

--- The events of a stream: `name` and `data`, decoded.
function M.events(body)
  local events = {}
  for frame in body:gmatch "(.-)\n\n" do
    local name, data = frame:match "^event: ([^\n]+)", frame:match "data: ([^\n]+)"
    if data then table.insert(events, { name = name, data = core.json.decode(data) or data }) end
  end
  return events
end

--- Builds the message of a stream as the official client does, and checks the rules that it has.
function M.assemble(body)
  local message, open
  local names = {}
  for _, event in ipairs(M.events(body)) do
    local data = event.data
    assert.equal(event.name, data.type)
    table.insert(names, event.name)
    if data.type == "message_start" then
      assert.is_nil(message, "a second message_start")
      assert.equal("table", type(data.message.usage))
      assert.same({}, { table.unpack(data.message.content) })
      message = data.message
    elseif data.type == "content_block_start" then
      assert.is_nil(open)
      assert.equal(#message.content, data.index)
      open = data.content_block
      open.json = ""
      table.insert(message.content, open)
    elseif data.type == "content_block_delta" then
      assert.equal(#message.content - 1, data.index)
      local delta = data.delta
      if delta.type == "text_delta" then
        assert.equal("text", open.type)
        open.text = open.text .. delta.text
      elseif delta.type == "thinking_delta" then
        assert.equal("thinking", open.type)
        open.thinking = open.thinking .. delta.thinking
      elseif delta.type == "signature_delta" then
        open.signature = delta.signature
      else
        assert.equal("tool_use", open.type)
        open.json = open.json .. delta.partial_json
      end
    elseif data.type == "content_block_stop" then
      if open.type == "tool_use" then open.input = core.json.decode(open.json) end
      open.json, open = nil, nil
    elseif data.type == "message_delta" then
      message.stop_reason, message.usage = data.delta.stop_reason, data.usage
      message.parley_ignored, message.parley_usage = data.parley_ignored, data.parley_usage
    elseif data.type == "error" then
      return message, names, data
    end
  end
  assert.equal("message_stop", names[#names])
  return message, names
end

--- A message's texts, joined.
function M.text_of(message)
  local parts = {}
  for _, block in ipairs(message.content) do
    if block.type == "text" then table.insert(parts, block.text) end
  end
  return table.concat(parts)
end

--- What has come of a body in chunks.
function M.unchunked(text)
  local pieces, from = {}, select(2, text:find("\r\n\r\n", 1, true)) or #text
  from = from + 1
  while true do
    local digits, next = text:match("^(%x+)\r\n()", from)
    local size = digits and tonumber(digits, 16)
    if not size or size == 0 or #text < next + size + 1 then return table.concat(pieces) end
    table.insert(pieces, text:sub(next, next + size - 1))
    from = next + size + 2
  end
end

-- A client that reads as it comes -------------------------------------------------------------------------------------

local Reader = {}
Reader.__index = Reader

--- Begins a request; what comes is in `text`. `reader:close()` breaks the connection.
function Gateway:open(path, body, headers, method)
  local self_ = setmetatable({ text = "", news = task.condition(), socket = uv.new_tcp() }, Reader)
  local problem = task.suspend(function(wake) self_.socket:connect("127.0.0.1", self.server.port, wake) end)
  assert.is_nil(problem)
  local text = type(body) == "table" and assert(core.json.encode(body)) or body
  local lines = { ("%s %s HTTP/1.1"):format(method or "POST", path) }
  local all = headers_of { host = "localhost", ["content-length"] = tostring(#text) }
  for name, value in pairs(headers or {}) do all[name] = value or nil end
  for name, value in pairs(all) do table.insert(lines, name .. ": " .. value) end
  self_.socket:write(table.concat(lines, "\r\n") .. "\r\n\r\n" .. text)
  self_.socket:read_start(function(_, bytes)
    if bytes then self_.text = self_.text .. bytes else self_.has_ended = true end
    self_.news:notify()
  end)
  return self_
end

--- Waits until a text has come.
function Reader:expect(text)
  local came = self.news:wait_until(function() return self.text:find(text, 1, true) or self.has_ended end, 60000)
  assert.is_truthy(came and self.text:find(text, 1, true), "did not come: " .. text .. "\n" .. self.text)
end

function Reader:close()
  if not self.socket:is_closing() then self.socket:close() end
end

Reader.__close = Reader.close

--- The `it` of a spec, with a gateway.
function M.serves(name, given, body)
  if not body then given, body = {}, given end
  return name, helper.task(function()
    local made <close> = M.start(given)
    body(made)
  end)
end

return M
