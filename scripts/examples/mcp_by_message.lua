-- A routing policy: the words of a message pick the MCP servers that its session is started with.
--
--   backend = parley.backend { policies = { routing = "scripts/examples/mcp_by_message.lua" } }
local parley = require "parley"

local SERVERS = {
  { word = "database", name = "postgres", server = { command = "mcp-postgres", args = { "--read-only" } } },
  { word = "issue", name = "tracker", server = { type = "http", url = "http://localhost:8080/mcp" } },
}

local M = {}

--- The whole conversation decides, so that its later turns find the same session.
function M.route(request)
  local words, servers = {}, {}
  for _, message in ipairs(request.messages) do
    if message.role == "user" then table.insert(words, parley.text_of(message):lower()) end
  end
  local text = table.concat(words, "\n")
  for _, entry in ipairs(SERVERS) do
    if text:find(entry.word, 1, true) then servers[entry.name] = entry.server end
  end
  return {
    key = parley.hash_history(request.history),
    options = next(servers) and { mcp_servers = servers } or nil,
  }
end

return M
