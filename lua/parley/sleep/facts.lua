--- What a turn's events tell of the session that it leaves behind: how long its conversation is for the model, how long
--- the model's cache of it stays warm, and what still runs in its background.
local M = {}

--- The prompt cache is kept for five minutes from its last use, or for an hour where the API was asked for that.
local CACHE_MS, LONG_CACHE_MS = 300000, 3600000

local function tokens_of(used)
  local sum = 0
  for _, name in ipairs { "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens" } do
    sum = sum + (math.tointeger(used[name]) or 0)
  end
  return sum
end

local function cache_of(used)
  local created = type(used.cache_creation) == "table" and used.cache_creation or {}
  return (math.tointeger(created.ephemeral_1h_input_tokens) or 0) > 0 and LONG_CACHE_MS or CACHE_MS
end

--- How the program words what begins in the background, and the end of it (2.1.110 to 2.1.332).
local BEGINS = { "running in background with ID: ([%w_-]+)", "moved to the background[^\n]-ID: ([%w_-]+)",
  "manually backgrounded by user with ID: ([%w_-]+)", "^Async agent launched.-agentId: ([%w_-]+)",
  "^Scheduled recurring job ([%w_-]+)", "^Scheduled one%-shot task ([%w_-]+)" }
local ENDS = { "<task%-id>([%w_-]+)</task%-id>", "^Cancelled job ([%w_-]+)", "Successfully killed shell: ([%w_-]+)",
  "Successfully stopped task: ([%w_-]+)" }

local function text_of(content)
  if type(content) == "string" then return content end
  local parts = {}
  for _, block in ipairs(type(content) == "table" and content or {}) do
    if type(block) == "table" and type(block.text) == "string" then table.insert(parts, block.text) end
  end
  return table.concat(parts, "\n")
end

--- Takes in what one text of the program's says.
local function follow(running, text, is_result)
  for _, pattern in ipairs(is_result and BEGINS or {}) do
    local id = text:match(pattern)
    if id then running[id] = true end
  end
  for _, pattern in ipairs(ENDS) do
    for id in text:gmatch(pattern:gsub("^%^", "")) do running[id] = nil end
  end
end

--- What runs in the background after these events.
---@param events parley.Event[]
---@param before? string[]  what ran before
---@return string[] ids  sorted
function M.background(events, before)
  local running, ids = {}, {}
  for _, id in ipairs(before or {}) do running[id] = true end
  for _, event in ipairs(events) do
    if event.type == "user" then
      for _, block in ipairs(event.content or {}) do
        if block.type == "tool_result" then
          follow(running, text_of(block.content), true)
        elseif block.type == "text" and type(block.text) == "string" then
          follow(running, block.text, false)
        end
      end
    end
  end
  for id in pairs(running) do table.insert(ids, id) end
  table.sort(ids)
  return ids
end

---@class parley.TurnFacts
---@field tokens? integer    of the whole conversation, as the model had it last
---@field model? string
---@field cache_ms integer   how long the prompt cache stays
---@field background string[]

--- What a turn tells.
---@param events parley.Event[]
---@param before? {cache_ms?: integer, background?: string[]}  what the turn before has told
---@return parley.TurnFacts
function M.of(events, before)
  local facts = { cache_ms = before and before.cache_ms or CACHE_MS,
    background = M.background(events, before and before.background) }
  for _, event in ipairs(events) do
    local used = event.type == "assistant" and not event.is_error and event.usage
    if type(used) == "table" then
      facts.tokens, facts.cache_ms, facts.model = tokens_of(used), cache_of(used), event.model
    end
  end
  return facts
end

return M
