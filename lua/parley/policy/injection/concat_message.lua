--- History as a preamble of the first message: no file, works on every version, and the model reads it as text.
---
--- An injection policy returns a table with `prepare`.
local core = require "parley.core"
local history = require "parley.history"

local M = {}

local NAMES = { user = "User", assistant = "Assistant" }

local readable = {}

function readable.text(block) return block.text end

function readable.tool_use(block)
  return ("[used the tool %s with %s]"):format(block.name, core.json.encode(block.input, { sort_keys = true }) or "{}")
end

function readable.tool_result(block)
  return ("[%s: %s]"):format(block.is_error == true and "the tool failed" or "the tool answered",
    history.text_of { content = block.content })
end

function readable.thinking() return nil end

readable.redacted_thinking = readable.thinking

local function spell(message)
  local parts = {}
  for _, block in ipairs(history.blocks_of(message.content)) do
    local text = readable[block.type] and readable[block.type](block)
    if not readable[block.type] then text = ("[%s]"):format(block.type) end
    if text and text ~= "" then table.insert(parts, text) end
  end
  return table.concat(parts, "\n")
end

--- A control character in a tool's output would be a key when it is typed.
local function typeable(text)
  return (text:gsub("[\0-\8\11\12\14-\31\127]", "\u{FFFD}"):gsub("\u{80}", "\u{FFFD}"))
end

---@class parley.InjectionRequest
---@field history table[]       messages before the one to be sent
---@field text string           the message to be sent
---@field session_id string     of the session that will be started
---@field jsonl_path string     where its transcript will be
---@field cwd string            a real path

---@class parley.Injection
---@field text string           what is typed first
---@field resume? boolean       start with `--resume` of the session id
---@field start_offset? integer what stands before it in the transcript is not reported

--- Prepares a fresh session for a history.
---@param request parley.InjectionRequest
---@return parley.Injection
function M.prepare(request)
  if #request.history == 0 then return { text = request.text } end
  local lines = { "Previous conversation context:" }
  for _, message in ipairs(request.history) do
    local text = spell(message)
    if text ~= "" then table.insert(lines, ("[%s]: %s"):format(NAMES[message.role], typeable(text))) end
  end
  table.insert(lines, "Continue from here. New user message: " .. request.text)
  return { text = table.concat(lines, "\n") }
end

return M
