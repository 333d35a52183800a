--- Makes the client's message of a turn's events: text as it streams, checked against the transcript; thinking as that
--- has it; calls of the client's own tools. What the program does with its own tools is its own affair.
local history = require "parley.base.history"
local problems = require "parley.gateway.problems"
local tables = require "parley.base.tables"
local used = require "parley.base.usage"

local M = {}

---@class parley.gateway.Composer
---@field reply? parley.gateway.Reply  that is written; nil from a call on until the request that brings its result
---@field calls table[]        of the client's tools, not yet told: `id`, `name`, `input`
---@field stop_reason? string  of the last answer
---@field package holds_text boolean  text waits for the transcript, for what stands before it is to come first
---@field package pieces string[]     text that was streamed and that the transcript has not confirmed
---@field package group? string       the message that it is of, by the program's id
---@field package held parley.Event[] partial text of later messages
---@field package late table[]        blocks that came behind the text that stands behind them
---@field package usage table<string, table>  by the message's id
---@field package last_id? string     of the last message
local Composer = {}
Composer.__index = Composer
Composer.__name = "parley.gateway.Composer"

---@param holds_text boolean
---@return parley.gateway.Composer
function M.new(holds_text)
  return setmetatable({ holds_text = holds_text, pieces = {}, held = {}, late = {}, calls = {}, usage = {} }, Composer)
end

local function stream(self, event)
  if event.message ~= self.group then
    self.reply:close_block()
    self.group = event.message
  end
  table.insert(self.pieces, event.text)
  self.reply:text(event.text)
end

--- What is held of later messages goes out once nothing of an earlier one is unconfirmed.
local function release(self)
  while self.held[1] and (#self.pieces == 0 or self.held[1].message == self.group) do
    stream(self, table.remove(self.held, 1))
  end
end

--- Takes in text that is told of while it streams.
---@param event parley.Event
function Composer:partial(event)
  if event.text == "" or self.holds_text then return end
  local is_later = #self.held > 0 or #self.pieces > 0 and event.message ~= self.group
  if is_later then return table.insert(self.held, event) end
  stream(self, event)
end

local function begins(text, with) return text:sub(1, #with) == with end

local function end_text(self)
  self.reply:close_block()
  for _, block in ipairs(self.late) do self.reply:block(block) end
  self.late = {}
end

--- Takes in a text block of the transcript: what was streamed of it must be how it begins.
local function confirm(self, text)
  local sent = table.concat(self.pieces)
  if begins(text, sent) then
    if sent == "" then self.reply:close_block() end
    self.reply:text(text:sub(#sent + 1))
    self.pieces = {}
    end_text(self)
  elseif begins(sent, text) then
    self.pieces = { sent:sub(#text + 1) } -- the next block follows without a mark
  else
    error(problems.new(500, "what was streamed is not what the transcript has: Claude Code has begun its answer anew",
      { reason = "stream" }), 0)
  end
end

local taken = {}

function taken.text(self, block)
  if block.text == "" then return end
  self.reply:keep { type = "text", text = block.text }
  confirm(self, block.text)
end

function taken.thinking(self, block)
  self.reply:keep(block)
  if #self.pieces > 0 then return table.insert(self.late, block) end
  self.reply:block(block)
end

taken.redacted_thinking = taken.thinking

function taken.tool_use(self, block, event)
  local name = (event.tool_names or {})[block.id]
  if name then table.insert(self.calls, { type = "tool_use", id = block.id, name = name, input = block.input }) end
end

--- Takes in an answer, or a part of one.
---@param event parley.Event
--- Raises a problem when it is not what was streamed.
function Composer:assistant(event)
  if event.is_error then return end
  if event.message_id then
    self.last_id = event.message_id
    if event.usage then self.usage[event.message_id] = event.usage end
  end
  self.stop_reason = event.stop_reason or self.stop_reason
  for _, block in ipairs(event.content) do
    local take = type(block) == "table" and taken[block.type]
    if take then take(self, block, event) end
  end
  release(self)
end

--- The program has had a result: such a call needs none of the client's.
---@param id string
function Composer:forget_call(id)
  for i, call in ipairs(self.calls) do
    if call.id == id then return table.remove(self.calls, i) end
  end
end

local USAGE = { input_tokens = 0, output_tokens = 0, cache_creation_input_tokens = 0, cache_read_input_tokens = 0 }

--- What the last call of the API has used, and all calls of the turn up to now.
---@return table last
---@return table all
function Composer:used()
  local all = {}
  for _, each in pairs(self.usage) do used.add(all, each) end
  return tables.merged(USAGE, self.last_id and self.usage[self.last_id]), tables.merged(USAGE, all)
end

--- Ends the message.
--- Raises a problem when text was streamed that the transcript does not have.
function Composer:check_end()
  if table.concat(self.pieces) ~= "" or #self.held > 0 then
    error(problems.new(500, "text was streamed that the transcript does not have", { reason = "stream" }), 0)
  end
  end_text(self)
end

--- What the client keeps of a message, in each form that clients have.
---@param content table[]
---@return any[] forms
function M.forms(content)
  local texts, others = {}, {}
  for _, block in ipairs(content) do
    if block.type == "text" then
      table.insert(texts, block.text)
    elseif block.type ~= "thinking" and block.type ~= "redacted_thinking" then
      table.insert(others, block)
    end
  end
  local forms = { content }
  if #texts == 0 then return forms end
  for _, between in ipairs { "", "\n", "\n\n" } do
    table.insert(forms, tables.joined({ { type = "text", text = table.concat(texts, between) } }, others))
    if #texts == 1 then break end
  end
  return forms
end

--- The fingerprint of a conversation as the client has it.
---@param messages table[]
---@param content? any  of the answer behind them
---@return string
function M.fingerprint(messages, content)
  if not content then return history.hash_history(messages) end
  return history.hash_history(tables.joined(messages, { { role = "assistant", content = content } }))
end

return M
