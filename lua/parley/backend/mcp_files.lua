--- The files that hold a backend's `mcp_servers`, each written on first use and removed with the backend.
local core = require "parley.core"
local errors = require "parley.base.errors"
local tables = require "parley.base.tables"
local task = require "parley.base.task"

local M = {}

---@class parley.McpFiles
---@field private policy table                  `mcp_config`
---@field private paths table<string, string>   by the servers, as JSON
---@field private semaphore parley.Semaphore    one task writes or removes them
---@field private closed? true
local McpFiles = {}
McpFiles.__index = McpFiles
McpFiles.__name = "parley.McpFiles"

---@param policy table  `mcp_config`
---@return parley.McpFiles
function M.new(policy)
  return setmetatable({ policy = policy, paths = {}, semaphore = task.semaphore(1) }, McpFiles)
end

--- Removes what was written: all of it, whatever happens. The first error comes out.
local function remove_all(self)
  local failure
  for text, path in pairs(self.paths) do
    self.paths[text] = nil
    local ok, err = pcall(self.policy.remove, path)
    failure = failure or not ok and { err } or nil
  end
  if failure then error(failure[1], 0) end
end

--- The file that holds the servers, written on first use.
local function path_of(self, servers)
  local text, err = core.json.encode(servers, { sort_keys = true })
  if not text then
    error(errors.value_error("mcp_servers cannot be written as JSON: " .. err.message, { option = "mcp_servers" }), 0)
  end
  local _ <close> = self:lock()
  if self.closed then error(errors.closed_error "the backend is closed", 0) end
  local path = self.paths[text] or self.policy.write(servers)
  self.paths[text] = path
  if not self.closed then return path end
  remove_all(self) -- it was closed by somebody who could not wait for the policy
  error(errors.closed_error "the backend is closed", 0)
end

--- What `--mcp-config` gets: the files of the options, and the one that holds their `mcp_servers`.
---@param set table  `mcp_config`, `mcp_servers`
---@return string[]
--- Raises `ValueError`, `ClosedError`, and what the policy raises.
function McpFiles:arguments(set)
  local given = set.mcp_config or {}
  local list = type(given) == "table" and tables.joined(given) or { given }
  if set.mcp_servers then table.insert(list, path_of(self, set.mcp_servers)) end
  return list
end

--- Waits until nobody writes.
---@return table lock  for a `<close>` variable
function McpFiles:lock() return self.semaphore:acquire() end

--- No file is written from now on.
function McpFiles:refuse() self.closed = true end

--- Removes the files; to be held by `lock` where one can wait.
--- Raises the first error, when all are gone that can be removed.
function McpFiles:close()
  self.closed = true
  remove_all(self)
end

return M
