--- Parley: conversations with Claude Code. This table is the public face.
local backend = require "parley.backend"
local core = require "parley.core"
local errors = require "parley.base.errors"
local event = require "parley.claude.event"
local history = require "parley.base.history"
local launch = require "parley.claude.launch"
local messages_file = require "parley.base.messages_file"
local options = require "parley.base.options"
local paths = require "parley.claude.paths"
local process = require "parley.claude.process"
local session = require "parley.session"
local tables = require "parley.base.tables"
local task = require "parley.base.task"

local M = {
  errors = errors,
  event = event,
  json = core.json,
  task = task,
  run = task.run,
  build_argv = launch.build_argv,
  build_env = launch.build_env,
  resolve_jsonl_path = paths.resolve_jsonl_path,
  hash_history = history.hash_history,
  synthesize_turn_messages = history.synthesize_turn_messages,
  text_of = history.text_of,
  load = messages_file.read,
  backend = backend.new,
  process = process.new,
}

local rules_of_session = options.merge(launch.rules, session.rules)

--- Makes one live conversation that is not started yet: `session:start()`, then `session:send(text)`.
---@param given? parley.SessionOptions
---@return parley.Session
--- Raises `ValueError` for bad options.
function M.session(given)
  local set = options.check(rules_of_session, given, "parley.session")
  return session.new(process.new(tables.picked(set, launch.rules)), tables.picked(set, session.rules))
end

return M
