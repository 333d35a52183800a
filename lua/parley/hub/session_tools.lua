--- The tools of one session: from its start to its end, the program finds them behind a door of the hub.
---
--- A session knows no more of this than `open`, `name`, `end_turn` and `close`.
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local door = require "parley.hub.door"
local mcp = require "parley.hub.mcp"
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

local PROXIES = { "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy" }

---@class parley.SessionTools
---@field package server parley.ToolServer
---@field package door? parley.Door
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

--- Gives a session that is not started yet its tools.
---@param session parley.Session
---@param list? parley.Tool[]  checked; nothing is done without
---@return parley.Session
function M.give(session, list)
  if not list then return session end
  session:give_tools(setmetatable({ server = mcp.new {
    tools = list,
    session_id = function() return session.session_id end,
    on_error = function(failure) session:notice("tool_error", failure) end,
  } }, SessionTools))
  return session
end

--- Has the program reach the door in spite of a proxy.
local function pass_by_proxy(environment)
  for _, name in ipairs(PROXIES) do
    if environment[name] then
      for _, list in ipairs { "NO_PROXY", "no_proxy" } do
        environment[list] = (environment[list] and environment[list] .. "," or "") .. "127.0.0.1"
      end
      return
    end
  end
end

--- Opens the door and has a process that is about to start told of it.
---@param process parley.Process
--- Raises `SessionError` when the hub cannot listen, or the system's error.
function SessionTools:open(process)
  self.door = door.open { mcp = function(request, response) tools_door.serve(self.server, request, response) end }
  self.folder = files.temporary_folder "parley-tools"
  local path = self.folder .. "/mcp.json"
  files.write(path, assert(core.json.encode { mcpServers = { [M.SERVER] = { type = "http", url = self.door:url "mcp",
    alwaysLoad = true, timeout = LIMIT_MS } } }))
  table.move(process.argv, 2, #process.argv, 4)
  process.argv[2], process.argv[3] = "--mcp-config", path
  for name, value in pairs(ENVIRONMENT) do process.environment[name] = process.environment[name] or value end
  pass_by_proxy(process.environment)
end

--- Has the tools do what these do, of which the program has been told the same.
---@param list parley.Tool[]  checked
function SessionTools:use(list) self.server:use(list) end

--- Notes in an event which of its blocks call tools of the script's, and by what names the script knows them.
---@param event parley.Event
function SessionTools:name(event)
  if event.type ~= "assistant" then return end
  for _, block in ipairs(event:blocks "tool_use") do
    local name = tostring(block.name):match(PREFIX)
    if name then
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
  if self.door then self.door:close() end
  if self.folder then files.remove_tree(self.folder) end
  self.door, self.folder = nil, nil
end

return M
