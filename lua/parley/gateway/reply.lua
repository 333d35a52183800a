--- The answer to one request: a message as it comes, in the events of the Messages API. It is kept from its start on,
--- so that any number of readers can have it, each at its own pace.
local core = require "parley.core"
local tables = require "parley.base.tables"
local task = require "parley.base.task"

local M = {}

local json = core.json

---@class parley.gateway.Reply
---@field items table[]       the data of the events, in order
---@field content table[]     the message's blocks as the transcript has them
---@field changed parley.Condition
---@field message table       what `message_start` holds
---@field is_over boolean
---@field is_accepted boolean  the session has the message
---@field problem? parley.gateway.Problem  why it is no whole message
---@field readers integer
---@field ignored? string[]   what came out in the end to be beyond what was asked
---@field text_at? number     when its first text came
---@field package index integer       of the next block
---@field package open? "text"  the block that is open
local Reply = {}
Reply.__index = Reply
Reply.__name = "parley.gateway.Reply"

local function add(self, data)
  table.insert(self.items, data)
  self.changed:notify()
end

--- An id of the kind that the API gives.
---@param prefix string
---@return string
function M.id(prefix) return prefix .. "_" .. core.uuid.generate():gsub("-", "") end

--- Makes a reply that has begun.
---@param model string
---@return parley.gateway.Reply
function M.new(model)
  local message = { id = M.id "msg", type = "message", role = "assistant", model = model, content = json.array {},
    stop_reason = json.null, stop_sequence = json.null, usage = { input_tokens = 0, output_tokens = 0,
      cache_creation_input_tokens = 0, cache_read_input_tokens = 0 } }
  local self = setmetatable({ items = {}, content = json.array {}, changed = task.condition(), message = message,
    is_over = false, is_accepted = false, readers = 0, index = 0 }, Reply)
  add(self, { type = "message_start", message = message })
  return self
end

local function start_block(self, block)
  add(self, { type = "content_block_start", index = self.index, content_block = block })
end

local function delta(self, fields)
  add(self, { type = "content_block_delta", index = self.index, delta = fields })
end

--- Ends the block that is open, if one is.
function Reply:close_block()
  if not self.open then return end
  self.open = nil
  self:stop_block()
end

---@package
function Reply:stop_block()
  add(self, { type = "content_block_stop", index = self.index })
  self.index = self.index + 1
end

--- Streams text.
---@param text string
function Reply:text(text)
  if text == "" then return end
  if not self.open then
    self.open = "text"
    start_block(self, { type = "text", text = "" })
  end
  self.text_at = self.text_at or task.now()
  delta(self, { type = "text_delta", text = text })
end

--- How the blocks of a kind are streamed: what the start shows, and the deltas.
local streamed = {}

function streamed.thinking(self, block)
  start_block(self, { type = "thinking", thinking = "", signature = "" })
  if (block.thinking or "") ~= "" then delta(self, { type = "thinking_delta", thinking = block.thinking }) end
  if (block.signature or "") ~= "" then delta(self, { type = "signature_delta", signature = block.signature }) end
end

function streamed.tool_use(self, block)
  start_block(self, { type = "tool_use", id = block.id, name = block.name, input = {} })
  delta(self, { type = "input_json_delta", partial_json = assert(json.encode(block.input, { sort_keys = true })) })
end

--- Streams a whole block, of another kind than text.
---@param block table
function Reply:block(block)
  self:close_block()
  local stream = streamed[block.type]
  if stream then stream(self, block) else start_block(self, block) end
  self:stop_block()
end

--- Notes a block of the message as the transcript has it.
---@param block table
function Reply:keep(block) table.insert(self.content, block) end

--- Ends the message.
---@param stop_reason string
---@param usage table        of the last call of the API
---@param turn_usage table   of the whole turn
---@param ignored? string[]
function Reply:finish(stop_reason, usage, turn_usage, ignored)
  self:close_block()
  self.stop_reason, self.usage, self.turn_usage, self.ignored = stop_reason, usage, turn_usage, ignored
  self.is_over = true
  add(self, { type = "message_delta", delta = { stop_reason = stop_reason, stop_sequence = json.null }, usage = usage,
    parley_usage = turn_usage, parley_ignored = ignored and json.array(ignored) or nil })
  add(self, { type = "message_stop" })
end

--- Ends it where it is no whole message.
---@param problem parley.gateway.Problem
function Reply:fail(problem)
  if self.is_over then return end
  self.is_over, self.problem = true, problem
  self.changed:notify()
end

--- The session has the message.
function Reply:accept()
  if self.is_accepted then return end
  self.is_accepted = true
  self.changed:notify()
end

--- Whether anything of the message is there.
---@return boolean
function Reply:has_begun() return #self.items > 1 end

--- The whole message, once it is over.
---@return table
function Reply:whole()
  return tables.merged(self.message, { content = self.content, stop_reason = self.stop_reason, usage = self.usage,
    parley_usage = self.turn_usage })
end

return M
