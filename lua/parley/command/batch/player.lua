--- Plays one conversation: sends its turns, keeps what was said, holds the last answer against what is expected.
local conversation_of = require "parley.backend.conversation"
local errors = require "parley.base.errors"
local expect = require "parley.command.batch.expect"
local history = require "parley.base.history"
local json = require("parley.core").json
local tables = require "parley.base.tables"
local schemas = require "parley.base.schema"
local task = require "parley.base.task"
local usage = require "parley.base.usage"

local M = {}

--- What of a turn's result goes to the output; the rest is in the events or in the transcript.
local RESULT_FIELDS = { "subtype", "stop_reason", "is_error", "error", "api_error_status", "message", "duration_ms",
  "num_turns", "session_id", "usage", "cost_usd", "limit" }

local function round(number) return math.floor(number + 0.5) end

local function summary_of(result)
  local summary = {}
  for _, name in ipairs(RESULT_FIELDS) do summary[name] = result[name] end
  summary.duration_ms = round(summary.duration_ms)
  return summary
end

--- The turns as a function, which they may be anyway.
local function script_of(turns)
  if type(turns) ~= "table" or expect.is_callable(turns) then return turns or function() end end
  local index = 0
  return function()
    index = index + 1
    return turns[index]
  end
end

--- The text of the last message when it is an answer.
local function answer_text(messages)
  local last = messages[#messages]
  return last and last.role == "assistant" and history.text_of(last) or nil
end

--- Sends the last message and adds what the turn brought.
local function take_turn(backend, conversation, record)
  local messages, events, missing = record.messages, {}, nil
  local began = task.now()
  record.turn = #record.turn_ms + 1
  local about = { id = conversation.id, metadata = conversation.metadata, turn = record.turn }
  for event in backend:complete(messages, about) do
    table.insert(events, event)
    if event.type == "result" then record.result = summary_of(event) end
    if event.subtype == "attachment_missing" then missing = event end
    if event.subtype == "permission_mode_unavailable" and record.on_lack then record.on_lack(event) end
  end
  table.insert(record.turn_ms, round(task.now() - began))
  local result = record.result
  usage.add(record.usage, result.usage)
  record.cost_usd = usage.add_cost(record.cost_usd, result.cost_usd)
  if record.on_turn then record.on_turn(result) end
  -- A new list for each turn: the backend remembers the one that it was given.
  record.messages = tables.joined(messages, history.synthesize_turn_messages(events))
  if result.subtype ~= "success" then
    error(errors.new(result.subtype, result.message or ("the turn ended with " .. result.subtype),
      { reason = result.error }), 0)
  end
  if missing then error(errors.new(missing.subtype, missing.message), 0) end -- what answers has not seen it
end

--- Adds the next message of the user's; false when there is none.
local function ask_script(script, record)
  local messages = record.messages
  local content = script(answer_text(messages), #record.turn_ms + 1, messages)
  if content == nil then return false end
  if type(content) ~= "string" and type(content) ~= "table" then
    error(errors.value_error("turns must give a text or nil, not a " .. type(content)), 0)
  end
  record.messages = tables.joined(messages, { { role = "user", content = content } })
  return true
end

--- The messages and turns with the schema's demand in what is said last.
local function with_demand(conversation)
  local given, turns, schema = conversation.messages or {}, conversation.turns, conversation.schema
  if not schema then return given, turns end
  if turns and turns[1] then
    turns = table.move(turns, 1, #turns, 1, {})
    turns[#turns] = conversation_of.with_demand(turns[#turns], schema)
    return given, turns
  end
  given = table.move(given, 1, #given, 1, {})
  local last = given[#given]
  if type(last) ~= "table" or last.content == nil then return given, turns end -- which is an error when it is sent
  given[#given] = { role = last.role, content = conversation_of.with_demand(last.content, schema) }
  return given, turns
end

--- Reads the value of the last answer, and asks for it once more where it does not fit.
local function read_value(backend, conversation, record)
  local value, problem = schemas.read(conversation.schema, answer_text(record.messages) or "")
  if problem then
    ask_script(function() return conversation_of.complaint(problem) end, record)
    take_turn(backend, conversation, record)
    value, problem = schemas.read(conversation.schema, answer_text(record.messages) or "")
  end
  if problem then error(errors.validation_error("the answer does not fit the schema: " .. problem), 0) end
  record.value = value
end

--- Plays a conversation from its beginning.
---@param backend parley.Backend  its own
---@param conversation parley.batch.Conversation
---@param record table  gets `messages`, `turn_ms`, `result`, `turn` (the number of the last one that was begun) and,
---                       added to what it has, `usage` and `cost_usd`, as far as it goes; `on_turn` is given the result
---                       of each turn, `on_lack` the event of a permission mode that is not to be had
--- Raises what went wrong.
function M.play(backend, conversation, record)
  local given, turns = with_demand(conversation)
  record.messages, record.turn_ms = json.array(tables.joined(given)), json.array {}
  record.result, record.turn, record.value = nil, nil, nil
  local script = script_of(turns)
  local last = given[#given]
  if #given > 0 and (type(last) ~= "table" or last.role ~= "assistant" or not conversation.turns) then
    take_turn(backend, conversation, record) -- which says, too, what is wrong with the messages
  end
  while ask_script(script, record) do take_turn(backend, conversation, record) end
  if #record.turn_ms == 0 then error(errors.value_error "there is no turn to send", 0) end
  if conversation.schema then read_value(backend, conversation, record) end
  local text = answer_text(record.messages) or ""
  local complaint = conversation.expect ~= nil and expect.complaint(conversation.expect, text, record.messages)
  if complaint then error(errors.new("ExpectationError", complaint), 0) end
end

return M
