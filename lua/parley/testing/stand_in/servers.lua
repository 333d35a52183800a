--- The MCP servers that the stand-in connects to, over HTTP alone, and the tools that they offer to the model.
local core = require "parley.core"
local defer = require "parley.base.defer"
local files = require "parley.base.files"
local task = require "parley.base.task"

local M = {}

local ACCEPT = "application/json, text/event-stream"
local REVISION, NEXT_REVISION = "2025-11-25", "2026-07-28"
local OWN = ("%s.modelcontextprotocol/"):format "io" -- what the protocol's own names begin with
local DEFAULT_TIMEOUT_MS = 60000

---@class parley.testing.Servers
---@field is_connected boolean
---@field tools table<string, table>  by the name that the model calls
local Servers = {}
Servers.__index = Servers

local function read_json(text) return text and core.json.decode(text) or nil end

local function add(self, entries, prefix)
  for name, entry in pairs(type(entries) == "table" and entries.mcpServers or {}) do
    if entry.type == "http" then
      table.insert(self.list, { url = entry.url, timeout_ms = entry.timeout or DEFAULT_TIMEOUT_MS, next_id = 0,
        name = (prefix .. name):gsub("[^%w_-]", "_"), headers = entry.headers or {} })
    end
  end
end

--- The servers that the flags name. Nothing is connected yet.
---@param options {flags: table, profile: parley.testing.Profile, outside: parley.testing.Outside, delay_ms: number}
---@return parley.testing.Servers
function M.new(options)
  local self = setmetatable({ profile = options.profile, outside = options.outside, delay_ms = options.delay_ms,
    list = {}, tools = {}, is_connected = false, connected = task.condition(), jobs = {}, news = task.condition() },
    Servers)
  for _, given in ipairs(options.flags["mcp-config"] or {}) do
    add(self, read_json(given:find "^%s*{" and given or files.read(given)), "")
  end
  for _, folder in ipairs(not options.flags["strict-mcp-config"] and options.flags["plugin-dir"] or {}) do
    local plugin = read_json(files.read(folder .. "/.claude-plugin/plugin.json"))
    if plugin then add(self, read_json(files.read(folder .. "/.mcp.json")), "plugin_" .. plugin.name .. "_") end
  end
  return self
end

-- The protocol --------------------------------------------------------------------------------------------------------

--- The answer in a body: all of it, or the last event of a stream.
local function decoded(answer)
  if not (answer.headers["content-type"] or ""):find("text/event-stream", 1, true) then
    return read_json(answer.body ~= "" and answer.body or nil)
  end
  local last
  for data in answer.body:gmatch "data: ([^\r\n]+)" do last = data end
  return read_json(last)
end

local function post(self, server, message, idle_ms)
  local headers = { accept = ACCEPT, ["content-type"] = "application/json",
    ["mcp-protocol-version"] = server.revision, ["user-agent"] = "claude-code/" .. self.profile.version .. " (cli)" }
  for name, value in pairs(server.headers) do headers[name] = value end
  message.jsonrpc = "2.0"
  local answer = self.outside.http { url = server.url, headers = headers, body = assert(core.json.encode(message)),
    idle_ms = idle_ms }
  return answer.status < 300 and decoded(answer) or nil, answer.status
end

local function ask(self, server, method, params, idle_ms)
  local id = server.next_id
  server.next_id = id + 1
  return post(self, server, { id = id, method = method, params = params }, idle_ms)
end

local function connect(self, server)
  local client = { name = "claude-code", version = self.profile.version }
  if self.profile.mcp_discovers then
    post(self, server, { id = "server-discover-probe-1", method = "server/discover", params = {
      _meta = { [OWN .. "protocolVersion"] = NEXT_REVISION, [OWN .. "clientInfo"] = client } } })
  end
  local answer = ask(self, server, "initialize", { protocolVersion = REVISION, capabilities = { roots = {} },
    clientInfo = client })
  if not (answer and answer.result) then return end
  server.revision = answer.result.protocolVersion
  post(self, server, { method = "notifications/initialized" })
  self.outside.http { url = server.url, headers = { accept = "text/event-stream" } }
  local listed = ask(self, server, "tools/list", nil)
  task.sleep(self.profile.mcp_settle_ms)
  for _, tool in ipairs(listed and listed.result and listed.result.tools or {}) do
    self.tools[("mcp__%s__%s"):format(server.name, tool.name)] = { server = server, name = tool.name }
  end
end

--- Connects to all of them, a while after the start, and then does what is asked of them. A server that does not answer
--- as it should has no tools.
function Servers:run()
  if self.list[1] then task.sleep(self.delay_ms) end
  for _, server in ipairs(self.list) do pcall(connect, self, server) end
  self.is_connected = true
  self.connected:notify()
  while true do
    local job = table.remove(self.jobs, 1)
    if job then task.spawn(job) else self.news:wait() end
  end
end

--- Waits until every server has been tried.
function Servers:wait() self.connected:wait_until(function() return self.is_connected end) end

-- Calls ---------------------------------------------------------------------------------------------------------------

--- The name under which the model knows a tool.
---@param name string  that one, or the server's own
---@return string? full_name
function Servers:full_name(name)
  if self.tools[name] then return name end
  for full_name, tool in pairs(self.tools) do
    if tool.name == name then return full_name end
  end
end

--- Blocks in the shapes of the Messages API.
local function blocks_of(content)
  local blocks = core.json.array {}
  for i, block in ipairs(content) do
    blocks[i] = block.type ~= "image" and block
      or { type = "image", source = { type = "base64", media_type = block.mimeType, data = block.data } }
  end
  return blocks
end

local function sent(self, tool, input, tool_use_id, id)
  local ok, answer = pcall(post, self, tool.server, { id = id, method = "tools/call", params = { name = tool.name,
    arguments = input, _meta = { ["claudecode/toolUseId"] = tool_use_id, progressToken = id } } },
    self.profile.mcp_idle_ms > 0 and self.profile.mcp_idle_ms or nil)
  if not ok then return answer.code == "ETIMEDOUT" and "The operation timed out." or answer.message, true end
  if not answer then return "MCP error: no answer", true end
  if answer.error then return ("MCP error %d: %s"):format(answer.error.code, answer.error.message), true end
  local content, is_error = blocks_of(answer.result.content), answer.result.isError == true
  if is_error then -- a failed call's result is a text
    local only = content[1]
    return only and only.text or "", true
  end
  return content, false
end

--- How long a call may take before the model goes on without it.
local function background_ms(self)
  local given = tonumber(self.outside.environment.CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS)
  local fact = self.profile.mcp_background_ms
  return fact > 0 and (given or fact) or math.huge
end

--- Calls a tool. When the turn is interrupted the server is told so; the request itself stays open.
---@param full_name string
---@param input table
---@param tool_use_id string
---@return string|table[] content
---@return boolean is_error
function Servers:call(full_name, input, tool_use_id)
  local tool = self.tools[full_name]
  local id, outcome, done, started = tool.server.next_id, nil, task.condition(), task.now()
  tool.server.next_id = id + 1
  local function request()
    outcome = table.pack(sent(self, tool, input, tool_use_id, id))
    done:notify()
  end
  table.insert(self.jobs, request)
  self.news:notify()
  local _ <close> = defer(function(err)
    if err == nil then return end
    table.insert(self.jobs, function()
      pcall(post, self, tool.server, { method = "notifications/cancelled",
        params = { requestId = id, reason = "AbortError: user-cancel" } })
    end)
    self.news:notify()
  end)
  local limit = math.min(tool.server.timeout_ms, background_ms(self))
  done:wait_until(function() return outcome end, limit - (task.now() - started))
  if outcome then return table.unpack(outcome, 1, 2) end
  if limit == tool.server.timeout_ms then
    return ("MCP server tool \"%s\" timed out after %ds"):format(tool.name, limit // 1000), true
  end
  if self.profile.mcp_calls_again then
    table.insert(self.jobs, request)
    self.news:notify()
  end
  return ("The tool \"%s\" was moved to the background."):format(full_name), false
end

return M
