--- What a turn's events tell of the session that it leaves behind: how long its conversation is for the model, how long
--- the model's cache of it stays warm, and what still runs in its background.
local agents = require "parley.session.agents"
local core = require "parley.core"
local files = require "parley.base.files"
local tables = require "parley.base.tables"

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
  "manually backgrounded by user with ID: ([%w_-]+)", "^Scheduled recurring job ([%w_-]+)",
  "^Monitor started %(task ([%w_-]+)" }
local BEGINS_ONCE = "^Scheduled one%-shot task ([%w_-]+)"
--- When a `/loop` wakes up next (`ScheduleWakeup`, 2.1.332). There is one such time at most, and the program gives no
--- id for it: it goes by this name.
local WAKEUP, BEGINS_WAKEUP, ENDS_WAKEUP = "wakeup", "^Next wakeup scheduled for ", "^Loop stopped "
local WAKES_UP = "^Claude resuming /loop wakeup" -- since 2.1.197
local ENDS = { "^Cancelled job ([%w_-]+)", "Successfully killed shell: ([%w_-]+)",
  "Successfully stopped task: ([%w_-]+)" }

--- The calls that have the program give itself a prompt later.
local SCHEDULES = { CronCreate = true, ScheduleWakeup = true }

--- What runs, as it is followed from record to record.
---@class parley.Background
---@field running table<string, string|true>  by its id; of a task that fires once its prompt, where that is known
---@field agents table<string, true>          those of them that a person can stop all at once
---@field prompts table<string, string>       of the calls that schedule something, by the call's id
---@field has_woken? boolean                  a loop has: the next of the program's own messages is its prompt

local function text_of(content)
  if type(content) == "string" then return content end
  local parts = {}
  for _, block in ipairs(type(content) == "table" and content or {}) do
    if type(block) == "table" and type(block.text) == "string" then table.insert(parts, block.text) end
  end
  return table.concat(parts, "\n")
end

--- A notification without what a monitor has seen, which may read like another: that goes on, until it has expired.
local function without_sightings(text)
  return (text:gsub("<event>.-</event>", function(event)
    return event:find "^<event>%[Monitor expired" and "<status>expired</status>" or "<event/>"
  end))
end

local function follow_text(running, text)
  text = without_sightings(text)
  for id, first in text:gmatch "<task%-id>([%w_-]+)</task%-id>()" do
    local rest = text:sub(first, (text:find("<task-id>", first, true) or #text + 1) - 1)
    local goes_on = rest:find("<event/>", 1, true) and not rest:find("<status>", 1, true)
    if not goes_on then running[id] = nil end
  end
  for _, pattern in ipairs(ENDS) do
    for id in text:gmatch((pattern:gsub("^%^", ""))) do running[id] = nil end
  end
end

local function follow_result(state, block)
  local text = text_of(block.content)
  for _, pattern in ipairs(BEGINS) do
    local id = text:match(pattern)
    if id then state.running[id] = true end
  end
  local once = text:match(BEGINS_ONCE)
  if once then state.running[once] = state.prompts[block.tool_use_id or false] or "" end
  if text:find(BEGINS_WAKEUP) then state.running[WAKEUP] = state.prompts[block.tool_use_id or false] or "" end
  if text:find(ENDS_WAKEUP) then state.running[WAKEUP] = nil end
  follow_text(state.running, text)
end

--- A scheduled task fires, and its prompt is the program's next message to itself: one that was to fire once is over.
--- 2.1.332 names it, versions before give the prompt alone.
local function follow_own_message(state, record, text)
  local running = state.running
  local id = record.wakeupSource == "loop_wakeup" and WAKEUP or record.scheduledTaskId
  if state.has_woken and (id == nil or id == WAKEUP) and not text:find("<task-notification>", 1, true) then
    state.has_woken = nil
    return
  end
  for each, prompt in pairs(running) do
    if prompt ~= true and (id == each or id == nil and prompt == text) then
      running[each] = nil
      return
    end
  end
end

--- Takes in a record of the transcript's.
local function follow(state, record)
  local started, started_as = agents.started(record)
  if started then state.running[started], state.agents[started] = true, started_as == "agent" or nil end
  local content = type(record.message) == "table" and record.message.content
  for _, block in ipairs(type(content) == "table" and content or {}) do
    local kind = type(block) == "table" and block.type -- others may have written the line
    if kind == "tool_use" and SCHEDULES[block.name] and type(block.input) == "table" then
      local prompt = block.input.prompt
      state.prompts[block.id or false] = type(prompt) == "string" and prompt or nil
    elseif kind == "tool_result" and record.type == "user" then
      follow_result(state, block)
    end
  end
  if record.subtype == "scheduled_task_fire" and tostring(record.content):find(WAKES_UP) then
    state.running[WAKEUP], state.has_woken = nil, true
  elseif record.subtype == "agents_killed" then
    for id in pairs(state.agents) do state.running[id] = nil end
  end
  local attachment = type(record.attachment) == "table" and record.attachment.prompt
  if record.type == "user" then
    local text = text_of(content)
    follow_text(state.running, text)
    if record.isMeta or record.promptSource == "system" then follow_own_message(state, record, text) end
  elseif type(attachment) == "string" then -- what is told of in the midst of a turn
    follow_text(state.running, attachment)
  end
end

local function state_of(before)
  local running = {}
  for _, id in ipairs(before and before.background or {}) do running[id] = before.once and before.once[id] or true end
  return { running = running, prompts = {}, agents = tables.merged(before and before.agents or {}) }
end

--- Fills in what runs.
local function tell(facts, state)
  local running = state.running
  facts.background, facts.once, facts.agents = {}, {}, {}
  for id, prompt in pairs(running) do
    table.insert(facts.background, id)
    if prompt ~= true then facts.once[id] = prompt end
    facts.agents[id] = state.agents[id]
  end
  table.sort(facts.background)
end

local function record_of(event)
  return type(event.record) == "table" and event.record
    or { type = event.type, message = { content = event.content }, isMeta = event.is_meta }
end

--- Takes in what has come into the transcript since: tasks end between two turns, and tell so there.
---@param facts parley.SessionFacts  with `offset`, up to where it was read
---@param path string
function M.catch_up(facts, path)
  local size = #facts.background > 0 and facts.offset and files.size(path)
  if not size or size <= facts.offset then return end
  local file = io.open(path, "rb")
  if not file then return end
  local _ <close> = file
  local state = state_of(facts)
  file:seek("set", facts.offset)
  for line in file:lines "L" do
    if line:sub(-1) ~= "\n" then break end
    facts.offset = facts.offset + #line
    local record = core.json.decode(line)
    if type(record) == "table" then follow(state, record) end
  end
  tell(facts, state)
end

---@class parley.SessionFacts
---@field tokens? integer    of the whole conversation, as the model had it last
---@field model? string
---@field cache_ms integer   how long the prompt cache stays
---@field background string[]  the ids of what runs behind the turn, sorted, and "wakeup" for a loop's
---@field once table<string, string>  of those that are to fire once the prompts
---@field agents table<string, true>  those of them that are sub-agents
---@field offset? integer      up to where the transcript was read

--- What a turn tells.
---@param events parley.Event[]
---@param before? parley.SessionFacts  what the turn before has told
---@return parley.SessionFacts
function M.of(events, before)
  local facts, state = { cache_ms = before and before.cache_ms or CACHE_MS }, state_of(before)
  for _, event in ipairs(events) do
    follow(state, record_of(event))
    local used = event.type == "assistant" and not event.is_error and event.usage
    if type(used) == "table" then
      facts.tokens, facts.cache_ms, facts.model = tokens_of(used), cache_of(used), event.model
    end
  end
  tell(facts, state)
  return facts
end

return M
