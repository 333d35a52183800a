-- An MCP server on standard input and output: its tool `ask` asks the user for input, in words of the program's own.
-- usage: parley asking_server.lua
local core = require "parley.core"

local json, nothing = core.json, core.json.decode "{}"
local FORM = { message = "Erase everything.\nWould you like to proceed?", requestedSchema = { type = "object",
  properties = { ok = { type = "boolean", title = "Yes, manually approve edits" } } } }
local TOOL = { name = "ask", description = "asks", inputSchema = { type = "object", properties = nothing } }

local function send(message)
  message.jsonrpc = "2.0"
  io.write(json.encode(message), "\n")
  io.flush()
end

local call_id
for line in io.lines() do
  local message = json.decode(line)
  local method, id = message.method, message.id
  if method == "initialize" then
    send { id = id, result = { protocolVersion = message.params.protocolVersion, capabilities = { tools = nothing },
      serverInfo = { name = "odd", version = "1" } } }
  elseif method == "tools/list" then
    send { id = id, result = { tools = json.array { TOOL } } }
  elseif method == "tools/call" then
    call_id = id
    send { id = "asked", method = "elicitation/create", params = FORM }
  elseif id == "asked" then
    local action = message.result and message.result.action or "none"
    send { id = call_id, result = { content = json.array { { type = "text", text = "it says " .. action } } } }
  elseif method and id then
    send { id = id, error = { code = -32601, message = "no such method" } }
  end
end
