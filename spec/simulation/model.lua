--- What is promised, held against what happened. It knows what the callers asked and were told, and what the simulated
--- programs say that they were told; of the library it knows nothing.
local core = require "parley.core"
local files = require "parley.base.files"
local marks = require "parley.testing.marks"

local M = {}

local KEY = "m%d+%.%d+"

---@class spec.Model
---@field problems string[]
local Model = {}
Model.__index = Model

---@param world parley.testing.World
---@param plan table
---@return spec.Model
function M.new(world, plan)
  local self = setmetatable({ world = world, plan = plan, asks = {}, by_key = {}, histories = {}, problems = {},
    open_dialogs = {}, struck = {}, losses = 0 }, Model)
  world.on_lost = function() self.losses = self.losses + 1 end
  world.on_event = function(record) self:hear(record) end
  return self
end

function Model:wrong(what, ...)
  table.insert(self.problems, what:format(...))
  self.world:tell(nil, "BROKEN", self.problems[#self.problems])
end

--- A text as it may arrive: what marks a paste and the white space around it do not count.
local function bare(text)
  text = text:gsub("%s*</?pasted_content id=\"%x+\">%s*", "")
  return (text:gsub("^%s+", ""):gsub("%s+$", ""))
end

--- Where two texts begin to differ.
local function difference(sent, taken)
  local at = 1
  while at <= #sent and sent:byte(at) == taken:byte(at) do at = at + 1 end
  return ("%q became %q behind %d of %d bytes"):format(sent:sub(at, at + 40), taken:sub(at, at + 40), at - 1, #sent)
end

-- What the programs say -----------------------------------------------------------------------------------------------

local function text_of(message)
  if type(message.content) == "string" then return message.content end
  local parts = {}
  for _, block in ipairs(message.content) do
    if block.type == "text" then table.insert(parts, block.text) end
  end
  return table.concat(parts, "\n")
end

--- The keys of the messages that a transcript holds, in order, on the way to its last record.
local function keys_in(path)
  local by_uuid, last = {}, nil
  for line in (files.read(path) or ""):gmatch "[^\n]+" do
    local record = core.json.decode(line)
    if type(record) == "table" and type(record.uuid) == "string" then
      by_uuid[record.uuid] = record
      if record.type == "user" or record.type == "assistant" then last = record end
    end
  end
  local keys = {}
  while last do
    if last.type == "user" and last.message and not last.isMeta then
      local of_one = {}
      for key in text_of(last.message):gmatch(KEY) do table.insert(of_one, key) end
      for place = #of_one, 1, -1 do table.insert(keys, 1, of_one[place]) end
    end
    last = type(last.parentUuid) == "string" and by_uuid[last.parentUuid] or nil
  end
  return keys
end

local function resumed(self, record)
  local words = record.program.words
  for place, word in ipairs(words) do
    if word == "--resume" then
      local id = words[place + 1]
      self.histories[id] = keys_in(self.world:transcript_path(id))
    end
  end
end

--- Whether a session is in the middle of another request.
local function other_lease(self, ask)
  for _, other in ipairs(self.asks) do
    if other ~= ask and not other.ended and other.session_id == ask.session_id then return other end
  end
end

local function taken(self, record)
  local text = record.text
  if text:find("task-notification", 1, true) then return end
  local key = text:match(KEY)
  local ask = key and self.by_key[key]
  if text:find("¤", 1, true) and self.typed then return end -- the user's own
  if not ask then return self:wrong("something was taken that was never sent: %q", text) end
  if ask.ended then return self:wrong("%s was taken after its request had ended: %q", key, text) end
  ask.taken = ask.taken + 1
  ask.session_id = record.session_id
  if ask.taken > 1 then self:wrong("%s was taken %d times", key, ask.taken) end
  if bare(text) ~= bare(ask.text) then
    self:wrong("%s was changed on its way: %s", key, difference(bare(ask.text), bare(text)))
  end
  local other = other_lease(self, ask)
  if other then self:wrong("%s and %s are in one session at a time", key, other.key) end
  local history = self.histories[record.session_id] or {}
  self.histories[record.session_id] = history
  local had, should = table.concat(history, " "), table.concat(ask.history, " ")
  if had ~= should and not self.plan.direct then
    self:wrong("%s came into another conversation: behind [%s], not [%s]", key, had, should)
  end
  table.insert(history, key)
end

local function returned(self, record)
  local history = self.histories[record.session_id] or {}
  if history[#history] == record.text:match(KEY) then table.remove(history) end
end

function Model:hear(record)
  local event = record.event
  if event == "started" then
    resumed(self, record)
  elseif event == "taken" then
    taken(self, record)
  elseif event == "returned" then
    returned(self, record)
  elseif event == "asked" then
    self.open_dialogs[record.program] = record.at
  elseif event == "answered" then
    self.open_dialogs[record.program] = nil
    if record.text == "yes" and not self.plan.accepts then self:wrong "a dialog was answered with yes, unasked" end
  end
end

--- What was typed: no part of a message may go to a dialog that was to be seen.
function Model:types(program, bytes)
  local since = self.open_dialogs[program]
  local sight = 3 * math.max(self.world.odds.late_ms, 1)
  if since and self.world.time.now - since > sight and bytes:find(KEY) and self.plan.odds.cut == nil then
    self:wrong("a message was typed into a dialog: %q", bytes)
  end
end

-- What the callers say ------------------------------------------------------------------------------------------------

---@param turn table     of the plan
---@param history string[]  keys of the messages before
---@return table ask
function Model:ask(turn, history)
  local ask = { key = turn.text:match(KEY), text = turn.text, turn = turn, history = { table.unpack(history) },
    began = self.world.time.now, taken = 0, answers = {}, users = 0 }
  table.insert(self.asks, ask)
  self.by_key[ask.key] = ask
  ask.losses_before = self.losses
  self.world:tell(nil, "asks", ask.text)
  return ask
end

--- Something that excuses the requests that run now has happened.
function Model:strike(kind)
  table.insert(self.struck, { at = self.world.time.now, kind = kind })
  if kind == "type" then self.typed = true end
  if kind == "stop" then self.has_stopped = true end -- for good
  if kind == "pause" then self.has_paused = true end
  if kind == "kill" and self.plan.direct then self.has_stopped = true end -- nobody starts another
end

local function excuse(self, ask)
  local plan, mark = self.plan, ask.turn.mark
  if ask.excuse then return true end
  if marks.DEADLY[mark] or self.has_closed or self.has_stopped then return true end
  if (plan.odds.no_space or 0) > 0 then return true end
  if plan.untrusted and not plan.accepts then return true end
  for _, start in ipairs(plan.consents and not plan.untrusted and {} or plan.starts) do
    if start.dialog_ms or start.dialog_at_return then return true end
  end
  if not (plan.consents and not plan.untrusted) and marks.ASKING[mark] then return true end
  for _, strike in ipairs(self.struck) do
    local since = strike.kind == "type" and 10000 or 0 -- what the user typed may stand there for a while
    if strike.at >= ask.began - since and strike.at <= ask.ended then return true end
  end
end

--- So long a request may take in all: a place in the pool, a start, the turn, the end of a program that does not end.
local function longest(plan) return 2 * plan.backend.turn_timeout_ms + 60000 + 60000 end

--- The end of a request, as its caller was told.
---@param ask table
---@param ok boolean
---@param err any
function Model:answer(ask, ok, err)
  ask.ended = self.world.time.now
  if not ok and err.reason == "delivery" and ask.taken == 0 and self.losses - ask.losses_before > 2 then
    ask.excuse = "a broken terminal"
  end
  local verdict = ok and (ask.result and ask.result.subtype or "nothing") or err.code
  ask.verdict = verdict
  self.world:tell(nil, "is told", ask.key .. " " .. tostring(verdict) .. (ok and "" or " " .. tostring(err)))
  if ask.ended - ask.began > longest(self.plan) then
    self:wrong("%s took %.0f s", ask.key, (ask.ended - ask.began) / 1000)
  end
  if not ok and not ask.excuse and not excuse(self, ask) then
    self:wrong("%s failed: %s", ask.key, tostring(err))
  end
  if not ok then return end
  if verdict == "success" then
    if ask.taken ~= 1 then self:wrong("%s was answered and taken %d times", ask.key, ask.taken) end
    if ask.users ~= 1 then self:wrong("%s was reported %d times", ask.key, ask.users) end
    local answer, wanted = table.concat(ask.answers, "\n"), marks.TEXTS[ask.turn.mark]
    local is_still = self.has_stopped or self.has_paused
    if is_still and self.plan.profile == "2.1.110" then return end -- it cannot be told from one that has ended
    if wanted and answer ~= wanted or not wanted and bare(answer:gsub("^echo: ", "")) ~= bare(ask.text) then
      self:wrong("%s has the answer of another: %q", ask.key, answer)
    end
  elseif not excuse(self, ask) then
    self:wrong("%s ended with %s", ask.key, verdict)
  end
end

return M
