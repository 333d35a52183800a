-- An mcp_config policy: where the MCP servers of a backend are written, and which of them.
--
--   parley.backend { mcp_servers = { … }, policies = { mcp_config = "NAME.lua" } }
--
-- This one leaves out the servers whose program is not installed here.
local uv = require "luv"
local default = require "parley.policy.mcp_config"

local M = {}

local function is_installed(command)
  if command:find("/", 1, true) then return uv.fs_access(command, "X") end
  for folder in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    if uv.fs_access(folder .. "/" .. command, "X") then return true end
  end
  return false
end

--- Called once, before the first program is started: `servers` by name, as in `.mcp.json`. It returns the path of the
--- file for `--mcp-config`.
function M.write(servers)
  local kept = {}
  for name, server in pairs(servers) do
    if not server.command or is_installed(server.command) then kept[name] = server end
  end
  return default.write(kept) -- a private file in a private folder
end

-- M.remove(path), called when the backend is closed, is the default's: it removes what its `write` has written.

return M
