--- History as a preamble of the first message: no file, works on every version, and the model reads it as text.
---
--- An injection policy returns a table with `prepare`.
local core = require "parley.core"
local delivery = require "parley.policy.delivery"
local errors = require "parley.base.errors"
local history = require "parley.base.history"

local M = { contract = require "parley.policy.injection.contract" }

local NAMES = { user = "User", assistant = "Assistant" }

local readable = {}

local function spell(content)
  local parts = {}
  for _, block in ipairs(history.blocks_of(content)) do
    local text
    if readable[block.type] then text = readable[block.type](block) else text = ("[%s]"):format(block.type) end
    if text and text ~= "" then table.insert(parts, text) end
  end
  return table.concat(parts, "\n")
end

function readable.text(block) return block.text end

function readable.tool_use(block)
  local input, err = core.json.encode(block.input, { sort_keys = true })
  if not input then error(errors.value_error("a tool's input in the history is no JSON: " .. err.message), 0) end
  return ("[used the tool %s with %s]"):format(block.name, input)
end

function readable.tool_result(block)
  return ("[%s: %s]"):format(block.is_error == true and "the tool failed" or "the tool answered", spell(block.content))
end

function readable.thinking() return nil end

readable.redacted_thinking = readable.thinking

--- What a tool has put out may hold what would be a key when it is typed, or would not arrive; so would the program's
--- own mark of a paste.
local function typeable(text)
  if delivery.has_mark(text) then text = text:gsub("([Pp][Aa][Ss][Tt][Ee][Dd])[_-]([Cc][Oo][Nn])", "%1 %2") end
  return delivery.deliverable((text:gsub("\r\n?", "\n"):gsub("\t", "    ")))
end

--- What was mentioned before is not attached again. Only the `@` of an address, behind a letter, is surely none.
local function without_mentions(text) return (text:gsub("%f[%w@](@+)(%S)", "%1 %2")) end

---@class parley.InjectionRequest
---@field history table[]       messages before the one to be sent
---@field text string           the message to be sent
---@field session_id string     of the session that will be started
---@field jsonl_path string     where its transcript will be
---@field cwd string            a real path
---@field model? string
---@field permission_mode string

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
    local text = spell(message.content)
    if text ~= "" then
      table.insert(lines, ("[%s]: %s"):format(NAMES[message.role], without_mentions(typeable(text))))
    end
  end
  table.insert(lines, "Continue from here. New user message: " .. request.text)
  return { text = table.concat(lines, "\n") }
end

return M
