--- How the Messages API puts an answer into bytes: one JSON object, or the events of a stream.
local json = require("parley.core").json

local M = {}

--- Pieces that a text is streamed in.
local function split_text(text, by_line)
  if not by_line then return { text } end
  local pieces = {}
  for line in text:gmatch "[^\n]*\n?" do
    if line ~= "" then table.insert(pieces, line) end
  end
  return pieces
end

--- What `content_block_start` shows of a block, and the deltas that bring the rest.
local function take_apart(block, by_line)
  local deltas = {}
  if block.type == "text" then
    for _, piece in ipairs(split_text(block.text, by_line)) do
      table.insert(deltas, { type = "text_delta", text = piece })
    end
    return { type = "text", text = "" }, deltas
  elseif block.type == "thinking" then
    for _, piece in ipairs(split_text(block.thinking, by_line)) do
      table.insert(deltas, { type = "thinking_delta", thinking = piece })
    end
    table.insert(deltas, { type = "signature_delta", signature = block.signature })
    return { type = "thinking", thinking = "", signature = "" }, deltas
  elseif block.type == "tool_use" then
    table.insert(deltas, { type = "input_json_delta", partial_json = assert(json.encode(block.input)) })
    return { type = "tool_use", id = block.id, name = block.name, input = {} }, deltas
  end
  return block, deltas
end

--- The answer as one object.
---@param message table  the message without its content
---@param answer table   `blocks`, `stop_reason`, `usage`
---@return table
function M.object(message, answer)
  local whole = {}
  for name, value in pairs(message) do whole[name] = value end
  whole.content = json.array(answer.blocks)
  whole.stop_reason, whole.stop_sequence, whole.usage = answer.stop_reason, json.null, answer.usage
  return whole
end

--- The answer as the steps of a stream of server-sent events.
---@param message table  the message without its content
---@param answer table   `blocks`, `stop_reason`, `usage`, `line_ms`, `drip_ms`, `cut`, `cut_behind_ms`
---@return parley.testing.HttpStep[]
function M.steps(message, answer)
  local steps = {}
  local function event(kind, fields, wait_ms)
    fields.type = kind
    local bytes = ("event: %s\ndata: %s\n\n"):format(kind, assert(json.encode(fields)))
    table.insert(steps, { bytes = bytes, wait_ms = wait_ms })
  end

  local opening = M.object(message, { blocks = {}, stop_reason = json.null, usage = answer.usage })
  opening.usage = { input_tokens = answer.usage.input_tokens, output_tokens = 1 }
  event("message_start", { message = opening })
  for position, block in ipairs(answer.blocks) do
    local index = position - 1
    local shown, deltas = take_apart(block, answer.line_ms)
    event("content_block_start", { index = index, content_block = shown })
    for number, delta in ipairs(deltas) do
      event("content_block_delta", { index = index, delta = delta }, number > 1 and answer.line_ms or nil)
      if answer.cut then
        steps[#steps].cut = true
        return steps
      end
    end
    event("content_block_stop", { index = index })
    if answer.drip_ms then table.insert(steps, { wait_ms = answer.drip_ms }) end
  end
  if answer.cut_behind_ms then
    local index = #answer.blocks
    event("content_block_start", { index = index, content_block = { type = "text", text = "" } })
    event("content_block_delta", { index = index, delta = { type = "text_delta", text = "and" } })
    table.insert(steps, { wait_ms = answer.cut_behind_ms, cut = true })
    return steps
  end
  local outcome = { stop_reason = answer.stop_reason, stop_sequence = json.null }
  event("message_delta", { delta = outcome, usage = { output_tokens = answer.usage.output_tokens } })
  event("message_stop", {})
  return steps
end

return M
