--- A conversation: what was said, and a way to go on.
---
---     local talk = backend:conversation()
---     print(talk:ask "What is riskiest in src/pty.c?")
---     for event in talk:send "And in src/screen.c?" do … end
---
--- It grows by turns that ended well, and by nothing else: after one that raised, the next is asked as if that one had
--- not been.
local core = require "parley.core"
local errors = require "parley.base.errors"
local history = require "parley.base.history"
local messages_file = require "parley.base.messages_file"
local options = require "parley.base.options"
local schemas = require "parley.base.schema"
local tables = require "parley.base.tables"

local M = {}

---@class parley.Answer
---@field text string              the text of the turn's last message; so is `tostring(answer)`
---@field messages table[]         what the turn has added: answers, tool calls and their results
---@field result parley.Event
---@field events parley.Event[]
---@field value? any               of an answer with a `schema`: what the JSON holds
local Answer = {}
Answer.__index = Answer
Answer.__name = "parley.Answer"

function Answer:__tostring() return self.text end
function Answer.__concat(left, right) return tostring(left) .. tostring(right) end

---@class parley.Conversation
---@field messages table[]    what was said
---@field options table       those of its turns that differ from the backend's; `talk.options.model = "opus"` holds
---                           from the next turn on
---@field request table       fields of its requests for a routing policy: `{ user = "ada" }`
---@field turn? parley.Turn   the one that runs, or ran last
---@field package backend parley.Backend
local Conversation = {}
Conversation.__index = Conversation
Conversation.__name = "parley.Conversation"

--- Makes a conversation; `backend:conversation` does.
---@param backend parley.Backend
---@param messages? table[]
---@param own? table
---@param request? table
---@return parley.Conversation
--- Raises `ValueError`.
function M.new(backend, messages, own, request)
  if getmetatable(messages) == Conversation then
    error(errors.value_error "messages must be a list, not a conversation: talk:fork() makes another of it", 0)
  end
  messages = messages or {}
  history.check_history(messages)
  return setmetatable({ backend = backend, messages = tables.joined(messages), options = tables.merged(own or {}),
    request = tables.merged(request or {}) }, Conversation)
end

local function check_self(self, name)
  if getmetatable(self) == Conversation then return end
  error(errors.value_error(("%s is called with a colon: talk:%s(…)"):format(name, name)), 0)
end

--- What somebody says, as the content of a message.
local function content_of(given, name)
  if getmetatable(given) == Answer then return given.text end
  if type(given) == "string" then return given end
  if type(given) ~= "table" then
    error(errors.value_error(("talk:%s takes a text or a list of blocks, not %s"):format(name,
      options.describe(given))), 0)
  end
  if given.role ~= nil then
    error(errors.value_error(("talk:%s takes a text or a list of blocks, not a message: give its content"):format(
      name)), 0)
  end
  return given.type ~= nil and { given } or given
end

local function check_idle(self, name)
  if not self.turn or self.turn:is_done() then return end
  if not self.turn:has_begun() then return self.turn:close() end
  error(errors.session_error(("talk:%s must wait: a turn of this conversation is running; take it to its end, or "
    .. "talk:fork() and ask the other"):format(name), { reason = "busy" }), 0)
end

local function check_request(request, name)
  if request == nil or type(request) == "table" then return request or {} end
  error(errors.value_error(("talk:%s takes the fields of a request in a table, not %s"):format(name,
    options.describe(request))), 0)
end

local function is_whole(answer)
  local open = {}
  for _, message in ipairs(answer) do
    for _, block in ipairs(message.content) do
      if block.type == "tool_use" then open[block.id or block] = true end -- nothing answers one without an id
      if block.type == "tool_result" then open[block.tool_use_id] = nil end
    end
  end
  return #answer > 0 and not next(open) -- nothing follows a call without its result
end

local function has(self, message)
  for _, each in ipairs(self.messages) do
    if each == message then return true end
  end
  return false
end

--- Takes a turn into the conversation that was left out of it: one that was interrupted, by a limit
--- too, as far as it came.
---@param turn parley.Turn  of `send`, of this conversation or another; its end is waited for
---@return boolean kept  false when there is nothing that one can go on from
--- Raises `ValueError`, and what the turn raised.
function Conversation:keep(turn)
  check_self(self, "keep")
  if type(turn) ~= "table" or not (turn.message and turn.messages) then
    error(errors.value_error("talk:keep takes a turn of talk:send, not " .. options.describe(turn)), 0)
  end
  local answer = turn:messages()
  local result = turn:result()
  if has(self, turn.message) then return true end -- by itself, as it ended well
  if result.is_error and result.subtype ~= "error_limit" or not is_whole(answer) then return false end
  table.insert(self.messages, turn.message)
  table.move(answer, 1, #answer, #self.messages + 1, self.messages)
  return true
end

local function begin(self, content, request)
  local message = { role = "user", content = content }
  local asked = tables.joined(self.messages)
  table.insert(asked, message)
  local fields = tables.merged(self.request, request)
  if request.options ~= nil and type(request.options) ~= "table" then
    error(errors.value_error("the options of the request must be a table, not " .. options.describe(request.options),
      { option = "options" }), 0)
  end
  fields.options = tables.merged(self.options, request.options or {})
  local turn = self.backend:complete(asked, fields)
  turn.message, self.turn = message, turn
  function turn.on_result(ended)
    if ended:result().subtype == "success" then self:keep(ended) end
  end
  return turn
end

--- Says something and reports what follows, to the `result`.
---@param content string|table[]  a text, or blocks
---@param request? table  as of `backend:complete`: `options`, fields for a routing policy
---@return parley.Turn turn  as of `backend:complete`
---@return nil
---@return nil
---@return parley.Turn closer
--- Raises as `complete`; `SessionError` (reason `"busy"`) while another of its turns runs.
function Conversation:send(content, request)
  check_self(self, "send")
  content, request = content_of(content, "send"), check_request(request, "send")
  if request.schema ~= nil then error(errors.value_error "a schema is for talk:ask, which reads the answer", 0) end
  check_idle(self, "send")
  local turn = begin(self, content, request)
  return turn, nil, nil, turn
end

local function take_turn(self, content, request)
  local turn <close> = begin(self, content, request)
  local result = turn:check()
  local events = {}
  for event in turn:events() do table.insert(events, event) end
  local messages = turn:messages()
  return setmetatable({ text = turn:text(), messages = messages, result = result, events = events }, Answer)
end

local DEMAND = "Answer with JSON alone, without any other text, that fits this JSON Schema:\n%s"
local COMPLAINT = "That answer does not fit the JSON Schema: %s. Answer again, with the whole JSON alone."

local function with_text(content, text)
  if type(content) == "string" then return content .. "\n\n" .. text end
  local blocks = tables.joined(content)
  table.insert(blocks, { type = "text", text = text })
  return blocks
end

--- What is said to have an answer that fits a schema.
---@param content string|table[]
---@param schema table
---@return string|table[] content
function M.with_demand(content, schema)
  return with_text(content, DEMAND:format((core.json.encode(schema, { sort_keys = true }))))
end

--- What is said of an answer that does not fit.
---@param problem string  of `parley.base.schema`
---@return string
function M.complaint(problem) return COMPLAINT:format(problem) end

local function ask_for_value(self, content, schema, request)
  local answer = take_turn(self, M.with_demand(content, schema), request)
  local value, problem = schemas.read(schema, answer.text)
  if problem then
    answer = take_turn(self, M.complaint(problem), request)
    value, problem = schemas.read(schema, answer.text)
  end
  if problem then
    error(errors.validation_error("the answer does not fit the schema, nor did the one before: " .. problem,
      { answer = answer, problem = problem }), 0)
  end
  answer.value = value
  return answer
end

--- Says something and waits for the whole answer.
---@param content string|table[]  a text, or blocks
---@param request? table  as of `backend:complete`; `schema`, a JSON Schema (see parley.base.schema) that the answer is
---                       asked to fit, twice if need be; `answer.value` is what it holds then
---@return parley.Answer
--- Raises as `send`; `SessionError` with `result` and `events` when the turn does not end well; `ValidationError` with
--- `answer` and `problem`.
function Conversation:ask(content, request)
  check_self(self, "ask")
  content, request = content_of(content, "ask"), tables.merged(check_request(request, "ask"))
  local schema = request.schema
  if schema ~= nil then schemas.check(schema, "schema") end
  check_idle(self, "ask")
  request.schema = nil
  if schema ~= nil then return ask_for_value(self, content, schema, request) end
  return take_turn(self, content, request)
end

--- Runs one of the program's own commands in its session.
---@param text string  `"/compact"`
---@return parley.Turn turn  as of `backend:command`
---@return nil
---@return nil
---@return parley.Turn closer
function Conversation:command(text)
  check_self(self, "command")
  check_idle(self, "command")
  local turn = self.backend:command(self.messages, text, tables.merged(self.request, { options = self.options }))
  self.turn = turn
  return turn, nil, nil, turn
end

--- Another conversation that goes on from here by itself.
---@return parley.Conversation
function Conversation:fork()
  check_self(self, "fork")
  return M.new(self.backend, self.messages, self.options, self.request)
end

local function is_said(message)
  if message.role ~= "user" then return false end
  for _, block in ipairs(history.blocks_of(message.content)) do
    if block.type == "tool_result" then return false end
  end
  return true
end

--- Takes back the last turns.
---@param count? integer  how many; default 1
---@return table[] messages  what was taken back
--- Raises `ValueError` when there are not so many; `SessionError` while a turn runs.
function Conversation:rewind(count)
  check_self(self, "rewind")
  count = count == nil and 1 or count
  if not options.is_of(count, "positive integer") then
    error(errors.value_error("talk:rewind takes how many turns to take back, a positive integer, not "
      .. options.describe(count)), 0)
  end
  check_idle(self, "rewind")
  local places = {}
  for i, message in ipairs(self.messages) do
    if is_said(message) then table.insert(places, i) end
  end
  if count > #places then
    error(errors.value_error(("talk:rewind cannot take back %d turns: the conversation has %d"):format(count, #places)),
      0)
  end
  local first, last = places[#places - count + 1], #self.messages
  local taken = table.move(self.messages, first, last, 1, {})
  for i = last, first, -1 do self.messages[i] = nil end
  return taken
end

--- Writes it to a file, for its owner alone; `parley.load` reads it.
---@param path string
--- Raises `ValueError`, and what the system says.
function Conversation:save(path)
  check_self(self, "save")
  messages_file.write(path, self.messages)
end

function Conversation:__tostring() return ("%s (%d messages)"):format(Conversation.__name, #self.messages) end

return M
