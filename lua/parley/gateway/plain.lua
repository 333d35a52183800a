--- A plain model: Claude Code without tools of its own, settings, memory, skills or MCP servers, in an empty folder of
--- Parley's own.
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local tables = require "parley.base.tables"
local tokens = require "parley.gateway.tokens"
local uv = require "luv"

local M = {}

--- What keeps the user's and a project's affairs from the model (2.1.110 to 2.1.332).
local ARGUMENTS = { "--setting-sources", "", "--strict-mcp-config", "--tools", "" }

--- The folder, which is made where it is not there. It is the same each time, for the program remembers each folder.
---@param path? string  default: in Parley's folder for what it keeps
---@return string path  a real one
--- Raises `ValueError` when something is in it: the model would be told of it, or could be.
function M.folder(path)
  path = path or tokens.state_folder() .. "/plain"
  local made, problem = files.make_folder(path)
  if not made then error(problem, 0) end
  local names = files.names(path)
  if names[1] then
    error(errors.value_error(("the plain model's folder '%s' must be empty, and has '%s': move that away"):format(path,
      names[1])), 0)
  end
  return assert(uv.fs_realpath(path))
end

--- The options of its backend: the question whether the folder is trusted is answered, for there is nothing in it. An
--- empty system prompt is one, too: without any the program tells the model all about itself.
---@param given table   of the command line
---@param folder string
---@return table options
function M.options(given, folder)
  return tables.merged(given, {
    cwd = folder, accept = tables.joined({ "trust" }, given.accept or {}), permission_mode = "default",
    system_prompt = given.system_prompt or "", allowed_tools = { "mcp__parley" },
    extra_args = tables.joined(ARGUMENTS, given.extra_args or {}),
  })
end

return M
