--- The tools of one session: from its start to its end, the program finds them at an address of the hub's. A file for
--- `--mcp-config` tells it of them; the plugin folder of the hooks would not be read with `--strict-mcp-config`.
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local mark = require "parley.base.mark"
local listener = require "parley.hub.listener"
local mcp = require "parley.hub.mcp"
local tables = require "parley.base.tables"
local tools = require "parley.hub.tools"
local tools_door = require "parley.hub.tools_door"

local M = {}

--- What the program calls the server: its tools are `mcp__parley__NAME` to the model.
M.SERVER = "parley"
local PREFIX = "^mcp__" .. M.SERVER .. "__(.*)$"

--- As long as a tool may take: the program's own limits (a minute until the answer, two until the model goes on without
--- it, five without a sign of life) are not meant for functions of the script's.
local LIMIT_MS = 24 * 3600 * 1000
local ENVIRONMENT = { CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS = tostring(LIMIT_MS) }

--- The program gives the tools to the model a moment after it was told of them, and does not say when. How slow it is
--- now is seen from what it took from its first request to that one.
local SETTLE_MS, SETTLE_FACTOR = 100, 2

---@class parley.SessionTools
---@field package server parley.ToolServer
---@field package entry? parley.HubEntry
---@field package folder? string
local SessionTools = {}
SessionTools.__index = SessionTools
SessionTools.__name = "parley.SessionTools"

--- Checks the option beside others that it does not go with.
---@param set table  checked options; `tools` becomes the checked list
---@param where string
--- Raises `ValueError`.
function M.check(set, where)
  if set.tools == nil then return end
  set.tools = tools.check(set.tools, where)
  local other = set.session_factory and "session_factory"
    or set.mcp_servers and set.mcp_servers[M.SERVER] and "mcp_servers." .. M.SERVER
  if other then
    error(errors.value_error(("%s: option 'tools' does not go with '%s'"):format(where, other),
      { option = "tools" }), 0)
  end
end

--- Makes the tools of a session that is not started yet.
---@param session parley.Session
---@param list parley.Tool[]  checked
---@return parley.SessionTools
function M.new(session, list)
  return setmetatable({ server = mcp.new {
    tools = list, serving = session.serving,
    session_id = function() return session.session_id end,
    on_error = function(failure) session:notice("tool_error", failure) end,
    on_known = function() session.changed:notify() end,
  } }, SessionTools)
end

--- What the program needs in its environment, beside what is there.
local function variables_for(environment)
  local own = tables.merged(ENVIRONMENT, tables.picked(environment, ENVIRONMENT))
  return tables.merged(own, listener.variables_for(environment))
end

--- Opens the door, and has a process that is about to start told of it.
---@param process parley.Process
--- Raises an error with the system's code when nothing can listen or be written.
function SessionTools:open(process)
  self.entry = listener.attach(function(path, request, response)
    if path ~= "mcp" then return response:send(404) end
    tools_door.serve(self.server, request, response)
  end)
  self.folder = mark.folder "tools"
  local path = self.folder .. "/mcp.json"
  files.write(path, assert(core.json.encode { mcpServers = { [M.SERVER] = { type = "http", alwaysLoad = true,
    url = self.entry.url .. "mcp", timeout = LIMIT_MS } } }))
  process:prepare { arguments = { "--mcp-config", path }, variables = variables_for(process.environment) }
end

--- Waits until the program knows the tools: a first message that comes before that is answered without them (2.1.110,
--- 2.1.197).
---@param terminal parley.Terminal
---@param milliseconds number  at most so long
--- Raises `SessionError` (reason `"tools"`), and what the terminal's waits raise.
function SessionTools:wait_until_known(terminal, milliseconds)
  local after = terminal:wait_until(function() return self.server.known_after_ms end, milliseconds)
  if after then
    terminal:wait_until(function() return false end, math.max(SETTLE_MS, SETTLE_FACTOR * after))
    return
  end
  terminal:fail("tools", ("the program has not asked for the tools within %g ms (startup_timeout_ms); an "
    .. "administrator's settings may allow no MCP servers"):format(milliseconds))
end

--- Has the tools do what these do, of which the program has been told the same.
---@param list parley.Tool[]  checked
function SessionTools:use(list) self.server:use(list) end

--- Notes in an event which of its blocks call tools of the script's, and by what names the script knows them.
---@param event parley.Event
function SessionTools.name(event)
  if event.type ~= "assistant" then return end
  for _, block in ipairs(event:blocks "tool_use") do
    local name = tostring(block.name):match(PREFIX)
    if name and block.id then
      event.tool_names = event.tool_names or {}
      event.tool_names[block.id] = name
    end
  end
end

--- Ends the calls of a turn that is over.
function SessionTools:end_turn() self.server:end_turn() end

--- Ends every call, and waits for that where one can; closes the door. Further calls do nothing.
function SessionTools:close()
  self.server:close()
  if self.entry then self.entry:close() end
  if self.folder then files.remove_tree(self.folder) end
  self.entry, self.folder = nil, nil
end

return M
