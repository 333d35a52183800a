--- What makes two sessions one kind: the options that a session keeps for its life, as one short word. Sessions of
--- different scopes are never taken for each other, whatever their keys.
---
--- Left out is what another process may have anew that goes on with a transcript: the model, the effort and the
--- permission mode, the terminal, and what variables hold (their names count: what they hold may be secret, or new with
--- each start).
local core = require "parley.core"
local paths = require "parley.claude.paths"
local tools = require "parley.hub.tools"

local M = {}

local COUNTED = { "system_prompt", "append_system_prompt", "allowed_tools", "disallowed_tools", "settings",
  "extra_args", "mcp_servers" }

local function as_list(value)
  return core.json.array(type(value) == "table" and value or { value })
end

--- The names of the variables that the caller gives, sorted.
---@param set table  options: `extra_env`
---@return string[]
function M.env_names(set)
  local names = {}
  for name in pairs(set.extra_env or {}) do table.insert(names, name) end
  table.sort(names)
  return names
end

--- The scope of sessions with these options.
---@param set table  options of a backend, checked
---@return string? scope  nil when they are nothing that can be told, and nothing is to be found under them
function M.of(set)
  local told = { cwd = paths.real_folder(set.cwd), names = core.json.array(M.env_names(set)),
    mcp_config = as_list(set.mcp_config), add_dir = as_list(set.add_dir),
    tools = set.tools and tools.described(set.tools) or nil }
  for _, name in ipairs(COUNTED) do told[name] = set[name] end
  local text = core.json.encode(told, { sort_keys = true })
  return text and core.digest.hex(core.digest.blake2b(text, 16))
end

return M
