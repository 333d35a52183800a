--- The text of one turn's answers while it streams: pieces that the program tells of as it shows them, before the
--- transcript has the message. What was reported of a message, joined, is how its text begins, and `final` is said only
--- where it is the whole of it; so that is said when the transcript has it.
local claude_event = require "parley.claude.event"

local M = {}

---@class parley.Partials
---@field package session_id string
---@field package groups {id: string, pieces: table<integer, string>, next: integer, text: string, index: integer,
---       pending: parley.Event[], is_closed: boolean}[]  a message each, in the order in which they were shown
---@field package seen table<parley.Event, true>  the assistant events that were looked at
---@field package told table<string, true>    the messages that the transcript has, by the API's id
---@field package silent string[]       the texts of those of which nothing was shown before
local Partials = {}
Partials.__index = Partials
Partials.__name = "parley.Partials"

--- Makes the partial texts of a turn.
---@param session_id string
---@return parley.Partials
function M.new(session_id)
  return setmetatable({ session_id = session_id, groups = {}, seen = setmetatable({}, { __mode = "k" }), told = {},
    silent = {} }, Partials)
end

local function begins(text, with) return text:sub(1, #with) == with end

local function event_of(self, group, text, is_final)
  group.index = group.index + 1
  return claude_event.new { type = "partial", text = text, index = group.index - 1, final = is_final,
    message = group.id, session_id = self.session_id }
end

local function group_of(self, id)
  for _, group in ipairs(self.groups) do
    if group.id == id then return group end
  end
  local group = { id = id, pieces = {}, next = 0, text = "", pending = {}, is_closed = false, index = 0 }
  table.insert(self.groups, group)
  return group
end

--- Whether a message that the transcript has already is only now told of: it is too late for that.
local function is_late(self, group)
  for _, text in ipairs(self.silent) do
    if group.text ~= "" and begins(text, group.text) then return true end
  end
  return false
end

--- Takes in a piece. Pieces may overtake each other.
---@param payload table  of `MessageDisplay`
function Partials:take(payload)
  local id, index, delta = payload.message_id, math.tointeger(payload.index), payload.delta
  if type(id) ~= "string" or not index or type(delta) ~= "string" then return end
  local group = group_of(self, id)
  if group.is_closed then return end
  group.pieces[index] = delta
  while group.pieces[group.next] do
    local text = group.pieces[group.next]
    group.text, group.pieces[group.next], group.next = group.text .. text, nil, group.next + 1
    if text ~= "" then table.insert(group.pending, event_of(self, group, text, false)) end
  end
  group.is_closed = group.index == #group.pending and is_late(self, group)
end

--- The group that a message's text was shown in, the whole of it if there is one. Those before it are over, and so are
--- all that begin like it: of an attempt that broke off and the next one, either may come late.
local function bind(self, text)
  local found
  for place, group in ipairs(self.groups) do
    local may_be = not group.is_closed and group.text ~= "" and (begins(text, group.text) or begins(group.text, text))
    if may_be and (not found or group.text == text and self.groups[found].text ~= text) then found = place end
  end
  for place, group in ipairs(found and self.groups or {}) do
    group.is_closed = group.is_closed or place <= found or group.text ~= "" and begins(text, group.text)
  end
  return self.groups[found]
end

local function insert_all(events, place, added)
  for offset, event in ipairs(added) do table.insert(events, place + offset - 1, event) end
end

--- The text of a message as far as it is in the queue: its blocks follow each other without a mark.
local function text_of(events, id)
  local parts = {}
  for _, event in ipairs(events) do
    if event.type == "assistant" and event.message_id == id then
      for _, block in ipairs(event:blocks "text") do table.insert(parts, block.text) end
    end
  end
  return table.concat(parts)
end

--- A message has come to the queue.
local function tell(self, events, place)
  local id = events[place].message_id
  local text = text_of(events, id)
  if text == "" then return 0 end
  self.told[id] = true
  local group = bind(self, text)
  if not group then
    table.insert(self.silent, text)
    return 0
  end
  local added = group.pending
  group.pending = {}
  if not begins(text, group.text) then
    added = {} -- what was not reported yet is not
  elseif group.text == text then
    table.insert(added, event_of(self, group, "", true))
  end
  insert_all(events, place, added)
  return #added
end

--- Puts what is known into the queue of events: before the message that it is of, once the user's own is in it.
---@param events parley.Event[]
---@param is_accepted boolean  the transcript has the user's message
function Partials:settle(events, is_accepted)
  if not is_accepted then return end
  local place = 1
  while events[place] do
    local event = events[place]
    if event.type == "assistant" and not self.seen[event] then
      self.seen[event] = true
      local is_new = event.message_id and not event.is_error and not self.told[event.message_id]
      place = place + (is_new and tell(self, events, place) or 0)
    end
    place = place + 1
  end
  for _, group in ipairs(self.groups) do
    if not group.is_closed then insert_all(events, #events + 1, group.pending) end
    group.pending = {}
  end
end

return M
