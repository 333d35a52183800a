--- What there is to see of the live sessions: a line each.
local clock = require "parley.base.clock"
local conversation = require "parley.gateway.window.conversation"
local core = require "parley.core"

local M = {}

--- Of what a session is doing.
local MOST_BYTES = 200

---@class parley.gateway.SessionLine
---@field id string
---@field state "starting"|"ready"|"busy"|"dialog"|"taken"|"ended"
---@field folder string
---@field model string
---@field started_at integer   milliseconds since 1970
---@field turns integer
---@field input_tokens integer   all kinds of them
---@field output_tokens integer
---@field doing string
---@field holder? string       the name of the token of whoever has taken it over

--- The token's name of whoever asked last.
---@param entry parley.PoolEntry
---@return string?
function M.owner(entry)
  local request = entry.lease and entry.lease.said or entry.session.request
  return type(request) == "table" and request.gateway and request.gateway.owner or nil
end

local DOING = { starting = "starts", ready = "waits for a message", busy = "answers", dialog = "asks something" }

local function doing_of(entry, state, holder)
  if holder then return "is in the hands of " .. holder end
  local turn = entry.in_use and entry.session.turn
  local calls = turn and turn:state() ~= "ended" and turn.open_tools or {}
  if calls[1] then return (conversation.cut(conversation.describe(calls[#calls]), MOST_BYTES):gsub("%c", " ")) end
  if entry.in_use and state == "ready" then return "is given a message" end
  return DOING[state] or state
end

--- Tokens of its turns, that of now among them.
local function tokens_of(session)
  local sums = { input = 0, output = 0 }
  local turn = session.turn
  for _, used in ipairs { session.used, turn and turn:state() ~= "ended" and turn:used() or {} } do
    for name, value in pairs(used) do
      local kind = name:match "^(output)_tokens$" or name:match "(input)_tokens$"
      if kind then sums[kind] = sums[kind] + value end
    end
  end
  return sums
end

--- A session's line.
---@param entry parley.PoolEntry
---@param holder? string
---@return parley.gateway.SessionLine
function M.line(entry, holder)
  local session = entry.session
  local process, tokens = session.process, tokens_of(session)
  local state = process:exit_record() and "ended" or session:state()
  local age = session.terminal.started_at and clock.now() - session.terminal.started_at or 0
  return { id = session.session_id, state = entry.taken and state ~= "ended" and "taken" or state, folder = process.cwd,
    model = process.set.model or "default", started_at = (clock.wall() - math.floor(age)) // 1000 * 1000,
    turns = session.turns, input_tokens = tokens.input, output_tokens = tokens.output,
    doing = doing_of(entry, state, holder), holder = holder }
end

--- All lines, as JSON that is the same as long as nothing has changed.
---@param lines parley.gateway.SessionLine[]
---@return string
function M.encode(lines) return assert(core.json.encode(core.json.array(lines), { sort_keys = true })) end

return M
