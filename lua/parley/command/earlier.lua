--- What was said in an earlier session, for commands that go on with it.
local uv = require "luv"
local errors = require "parley.base.errors"
local index = require "parley.command.transcript_index"
local paths = require "parley.claude.paths"
local tables = require "parley.base.tables"
local transcript = require "parley.claude.transcript"

local M = {}

--- The conversation of a session.
---@param word? string  its id, the beginning of its id, or a file; nil: the last one of the folder
---@param options table  of `parley.backend`: `cwd`, `extra_env`
---@return table[] messages
--- Raises `ValueError` when there is none.
function M.messages(word, options)
  local environment = tables.merged(uv.os_environ(), options.extra_env)
  if word then
    return transcript.messages(transcript.read(index.find(word, index.list_all(paths.config_folder(environment)))))
  end
  local folder = paths.real_folder(options.cwd)
  for _, entry in ipairs(index.list(paths.project_folder(folder, environment))) do
    local messages = transcript.messages(transcript.read(entry.path))
    if messages[1] then return messages end
  end
  error(errors.value_error(("there is no conversation of the folder %s to go on with"):format(folder)), 0)
end

return M
