--- Where the MCP servers of a backend are written for `--mcp-config`.
---
--- To replace it, return a table with `write` and `remove`.
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local mark = require "parley.base.mark"
local tables = require "parley.base.tables"

local M = {}

M.contract = {
  write = { returns = "a path", fits = function(path) return type(path) == "string" end },
  remove = { returns = "anything" },
}

--- A server whose arguments are an empty table of Lua's has an empty list of them.
local function with_lists(mcp_servers)
  local servers = tables.merged(mcp_servers)
  for name, server in pairs(mcp_servers) do
    if type(server) == "table" and type(server.args) == "table" and next(server.args) == nil then
      servers[name] = tables.merged(server, { args = core.json.array {} })
    end
  end
  return servers
end

--- Writes the configuration, in a private folder.
---@param mcp_servers table<string, table>  by name, as in `.mcp.json`
---@return string path  mode 0600 in a folder of mode 0700
--- Raises `ValueError` for what JSON cannot hold, or the system's error.
function M.write(mcp_servers)
  local text, err = core.json.encode({ mcpServers = with_lists(mcp_servers) }, { sort_keys = true })
  if not text then error(errors.value_error("mcp_servers cannot be written as JSON: " .. err.message), 0) end
  local folder = mark.folder "mcp"
  local ok, problem = pcall(files.write, folder .. "/mcp.json", text)
  if not ok then
    files.remove_tree(folder)
    error(problem, 0)
  end
  return folder .. "/mcp.json"
end

--- Removes what `write` wrote. The file of a replaced `write` is not ours to remove.
---@param path string
function M.remove(path)
  local folder = path:match "^(.*/parley%-mcp%-[%w-]+)/mcp%.json$"
  if folder then files.remove_tree(folder) end
end

return M
