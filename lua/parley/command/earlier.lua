--- An earlier session, for commands that go on with it: in its own transcript where that can be.
local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local index = require "parley.command.transcript_index"
local opener = require "parley.sleep.opener"
local paths = require "parley.claude.paths"
local tables = require "parley.base.tables"
local transcript = require "parley.claude.transcript"

local M = {}

---@class parley.Earlier
---@field messages table[]  what was said
---@field id? string        of the session whose transcript is to be gone on with; nil when it cannot be
---@field path? string      its transcript
---@field why? string       why it cannot be

--- The program looks for transcripts among those of its working directory alone.
local function is_of(entry, folder, environment)
  local here, there = uv.fs_stat(entry.path), nil
  if core.uuid.is_valid(entry.id) then
    there = uv.fs_stat(paths.resolve_jsonl_path(entry.id, folder, environment))
  end
  return here ~= nil and there ~= nil and here.ino == there.ino and here.dev == there.dev
end

local function found(entry, messages, folder, environment)
  local earlier = { messages = messages }
  if not is_of(entry, folder, environment) then
    earlier.why = "it is a session of another folder"
    return earlier
  end
  local pid = opener.of(entry.id, environment)
  if pid then
    earlier.why = ("the session is open in process %d"):format(pid)
  else
    earlier.id, earlier.path = entry.id, entry.path
  end
  return earlier
end

--- Finds one.
---@param word? string  its id, the beginning of its id, or a file; nil: the last one of the folder
---@param options table  of `parley.backend`: `cwd`, `extra_env`
---@return parley.Earlier
--- Raises `ValueError` when there is none.
function M.find(word, options)
  local environment = tables.merged(uv.os_environ(), options.extra_env)
  local folder = paths.real_folder(options.cwd)
  environment.CLAUDE_CONFIG_DIR = paths.config_folder(environment, folder)
  if word then
    local path = index.find(word, index.list_all(paths.config_folder(environment)))
    local entry = { path = path, id = path:match "([^/]*)%.jsonl$" or "" }
    return found(entry, transcript.messages(transcript.read(path)), folder, environment)
  end
  for _, entry in ipairs(index.list(paths.project_folder(folder, environment))) do
    local messages = transcript.messages(transcript.read(entry.path))
    if messages[1] then return found(entry, messages, folder, environment) end
  end
  error(errors.value_error(("there is no conversation of the folder %s to go on with"):format(folder)), 0)
end

--- Has a backend go on with it, or says why another session gets what was said.
---@param earlier parley.Earlier
---@param backend parley.Backend
---@param say fun(text: string)
function M.adopt(earlier, backend, say)
  if earlier.id and earlier.messages[1] then return backend:adopt(earlier.messages, earlier.id, earlier.path) end
  if not earlier.why then return end
  backend:adopt(earlier.messages)
  say(earlier.why .. ": another one goes on with what was said")
end

return M
