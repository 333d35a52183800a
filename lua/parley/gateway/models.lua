--- Which models there are, and how many tokens a request may have. Claude Code tells neither: it takes its short names
--- and whole ones, and counts what it has sent.
local core = require "parley.core"
local history = require "parley.base.history"

local M = {}

--- Claude Code's own short names (2.1.332).
local ALIASES = { "haiku", "opus", "sonnet" }
local SINCE, SINCE_S = "2025-01-01T00:00:00Z", 1735689600

--- A name as a command line may have it.
---@param name any
---@return boolean
function M.is_name(name) return type(name) == "string" and #name <= 200 and name:find "^%w[%w._:@/%[%]-]*$" ~= nil end

--- An entry in the words of both protocols.
local function entry_of(name)
  return { type = "model", id = name, display_name = name, created_at = SINCE, object = "model", created = SINCE_S,
    owned_by = "anthropic" }
end

--- All of them.
---@param own? string  the server's default
---@return table
function M.list(own)
  local data, seen = core.json.array {}, {}
  for _, name in ipairs { own or ALIASES[1], table.unpack(ALIASES) } do
    if not seen[name] then table.insert(data, entry_of(name)) end
    seen[name] = true
  end
  return { object = "list", data = data, has_more = false, first_id = data[1].id, last_id = data[#data].id }
end

--- One of them: a short name, or what may be a whole one.
---@param name string
---@param own? string
---@return table?
function M.find(name, own)
  if not M.is_name(name) then return nil end
  for _, each in ipairs(M.list(own).data) do
    if each.id == name then return each end
  end
  return name:find "^claude%-" and entry_of(name) or nil
end

-- Tokens --------------------------------------------------------------------------------------------------------------

--- English has about four letters a token, code and JSON three, other scripts one or two bytes each. The estimate is to
--- be high rather than low, for clients compact by it.
local LETTERS, PICTURE, MESSAGE, TOOL = 3, 1600, 8, 40

local function tokens_of(text)
  local letters = #text:gsub("[\x80-\xFF]+", "")
  local others = (utf8.len(text) or #text) - letters
  return math.ceil(letters / LETTERS) + math.max(0, others)
end

local function of_blocks(content)
  local total = 0
  for _, block in ipairs(history.blocks_of(content)) do
    if block.type == "image" then
      total = total + PICTURE
    elseif block.type == "tool_result" then
      total = total + MESSAGE + of_blocks(block.content)
    elseif type(block.text) == "string" then
      total = total + tokens_of(block.text)
    else
      total = total + tokens_of(core.json.encode(block) or "")
    end
  end
  return total
end

--- About how many tokens a request has.
---@param messages table[]  checked
---@param system? string
---@param tools? table[]
---@return integer
function M.estimate(messages, system, tools)
  local total = MESSAGE + tokens_of(system or "")
  for _, message in ipairs(messages) do total = total + MESSAGE + of_blocks(message.content) end
  for _, tool in ipairs(tools or {}) do
    total = total + TOOL + tokens_of(tool.description or "")
      + tokens_of(core.json.encode(tool.input_schema or {}) or "")
  end
  return total
end

return M
