--- What is promised, held against what happened. It knows what the callers asked and were told, and what the simulated
--- programs say that they were told; of the library it knows nothing.
local core = require "parley.core"
local excuses = require "spec.simulation.excuses"
local files = require "parley.base.files"
local marks = require "parley.testing.marks"
local plans = require "spec.simulation.plan"

local M = {}

local KEY = "m%d+%.%d+"
--- What a user types, which is in no message. ASCII: among other letters the composer is not looked at so closely.
M.USERS_OWN = "Q"
--- What the library types to see whether a program still reads.
local MARKS = { "¤", "¦", "§", "¬", "¶", "±" }
--- What is typed that a strike may wait for.
local MOMENTS = { enter = "\r", editor = "^\7", erase = "\21", text = KEY }
local CUT_PASTE = "^\27%[200~"
--- What an interrupt presses, and what a terminal answers by itself, is no answer to a dialog.
local NO_ANSWER = { "^\27$", "^\27%[[%d;?>]*[cnRy]", "^\27P" }
--- What a terminal answers may go in pieces.
local BEGUN, MIDDLE, REST = "^\27%[?[%d;?>]*$", "^%[?[%d;?>]*$", "^%[?[%d;?>]*[cnRy]"
--- The beginning of a key or an answer of several bytes, whose end the terminal does not take at once: a program that
--- reads it takes it for Escape.
local HALF_KEY = "\27%[?[%d;?>]*$"
--- What the user types is on the screen, and seen, so soon.
local SIGHT_MS, LATENESSES = 100, 10
--- What a program may take that nothing has stopped, and what each of those before it in a pool.
local PATIENCE_MS, QUEUED_MS = 60000, 30000
--- And a program that is interrupted.
local INTERRUPT_MS = 12000

---@class spec.Model
---@field problems string[]
---@field on_moment? fun(name: string)  is told when something happens that a strike may wait for
local Model = {}
Model.__index = Model

---@param world parley.testing.World
---@param plan table
---@return spec.Model
function M.new(world, plan)
  local self = setmetatable({ world = world, plan = plan, asks = {}, by_key = {}, histories = {}, problems = {},
    dialogs = {}, struck = {}, losses = {}, users = {}, entered = {},
    from_user = {}, begun = {} }, Model)
  self.most_ms = PATIENCE_MS
  local has_queue = not plan.direct and #plan.conversations > plan.backend.max_sessions
  for _, conversation in ipairs(has_queue and plan.conversations or {}) do
    self.most_ms = self.most_ms + QUEUED_MS
    for _, turn in ipairs(conversation) do
      if turn.mark == "long" then self.most_ms = self.most_ms + plans.LONG_MS end
    end
  end
  world.on_lost = function(program)
    table.insert(self.losses, { at = world.time.now, program = program })
    self:moment "lost"
  end
  world.on_full = function(program, bytes)
    self:moment "full"
    if bytes:find(HALF_KEY) then self:strike("escape", program) end
    if bytes:find(CUT_PASTE) then self:moment "paste" end
  end
  world.on_event = function(record) self:hear(record) end
  world.on_torn = function(program) self:strike("torn", program) end
  world.on_typed = function(...) self:types(...) end
  return self
end

function Model:moment(name)
  if self.on_moment then self.on_moment(name) end
end

function Model:wrong(what, ...)
  table.insert(self.problems, what:format(...))
  self.world:tell(nil, "BROKEN", self.problems[#self.problems])
end

--- A text as it may arrive: the white space around it does not count.
local function bare(text)
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

--- The session that a program was started with.
local function session_of(program)
  local words = program.words
  for place, word in ipairs(words) do
    if word == "--resume" or word == "--session-id" then return words[place + 1], word == "--resume" end
  end
end

--- The programs that still live and are at nothing, of those that had a conversation.
---@param talk table
---@return parley.testing.WorldProgram[]
function Model:idle_programs(talk)
  local used, idle = {}, {}
  for _, ask in ipairs(self.asks) do
    if not ask.ended and ask.session_now() then used[ask.session_now()] = true end
  end
  for _, program in ipairs(self.world.programs) do
    local id = session_of(program)
    if not program.is_dead and talk.sessions[id] and not used[id] then table.insert(idle, program) end
  end
  return idle
end

--- The program that lives for the session of a turn.
function Model:program_of(ask)
  local id = ask.session_now and ask.session_now()
  for _, program in ipairs(self.world.programs) do
    if id and not program.is_dead and session_of(program) == id then return program end
  end
end

--- A pool ends one session before it starts another in its place.
local function check_places(self)
  local living = 0
  for _, program in ipairs(self.world.programs) do living = living + (program.is_dead and 0 or 1) end
  local places = self.plan.backend.max_sessions
  if living > places then self:wrong("%d programs are in %d places", living, places) end
end

local function started(self, record)
  if not self.plan.direct then check_places(self) end
  local id, is_resumed = session_of(record.program)
  if is_resumed then self.histories[id] = keys_in(self.world:transcript_path(id)) end
end

--- Whether a session is in the middle of another request.
local function other_lease(self, ask)
  for _, other in ipairs(self.asks) do
    if other ~= ask and not other.ended and other.session_id == ask.session_id then return other end
  end
end

--- A text of the user's own: it may come with a message only where it was typed too late to be seen before Enter.
local function taken_from_user(self, record)
  table.insert(self.from_user, { at = record.at, session_id = record.session_id })
  local ask = self.by_key[record.text:match(KEY) or ""]
  if ask then ask.taken, ask.sessions[record.session_id] = ask.taken + 1, true end
  local at, entered = self.users[record.program], self.entered[record.program]
  local sight = SIGHT_MS + LATENESSES * math.max(self.world.odds.late_ms, 1)
  if not at or entered and entered.tried_at - at > sight and not self:is_held(record.program, at) then
    self:wrong("Enter was pressed on what the user had typed: %q", record.text)
  end
end

--- Whether what the session was told before is what the request goes on from.
local function check_history(self, ask, had)
  local should, place = ask.history, 1
  for _, key in ipairs(had) do
    local before = self.by_key[key]
    if key == should[place] then
      place = place + 1
    elseif not (self.plan.direct and before and before.talk == ask.talk
      and (before.verdict == "interrupted" or before.verdict == "error_no_output")) then
      place = nil
      break
    end
  end
  if place == #should + 1 then return end
  self:wrong("%s came into another conversation: behind [%s], not [%s]", ask.key, table.concat(had, " "),
    table.concat(should, " "))
end

local function taken(self, record)
  local text = record.text
  if text:find("task-notification", 1, true) then return end
  if text:find(M.USERS_OWN, 1, true) then return taken_from_user(self, record) end
  local key = text:match(KEY)
  local ask = key and self.by_key[key]
  if not ask then return self:wrong("something was taken that was never sent: %q", text) end
  local entered = self.entered[record.program]
  if ask.ended and not excuses.may_be_late(self, ask, entered and entered.at or 0) then
    return self:wrong("%s was taken after its request had ended: %q", key, text)
  end
  if ask.ended and marks.DEADLY[ask.turn.mark] then self:strike("kill", record.program) end
  ask.taken, ask.taken_at = ask.taken + 1, record.at
  ask.session_id = record.session_id
  ask.sessions[record.session_id] = true
  if ask.taken > 1 then self:wrong("%s was taken %d times", key, ask.taken) end
  if bare(text) ~= bare(ask.text) then
    self:wrong("%s was changed on its way: %s", key, difference(bare(ask.text), bare(text)))
  end
  local other = other_lease(self, ask)
  if other then self:wrong("%s and %s are in one session at a time", key, other.key) end
  local history = self.histories[record.session_id] or {}
  self.histories[record.session_id] = history
  check_history(self, ask, history)
  table.insert(history, key)
end

local function returned(self, record)
  local history = self.histories[record.session_id] or {}
  if history[#history] == record.text:match(KEY) then table.remove(history) end
end

function Model:hear(record)
  local event = record.event
  if event == "taken" or event == "asked" then self:moment(event) end
  if event == "started" then
    started(self, record)
  elseif event == "taken" then
    taken(self, record)
  elseif event == "received" and record.bytes:find(M.USERS_OWN, 1, true) then
    self.users[record.program] = record.at
  elseif event == "returned" then
    returned(self, record)
  elseif event == "asked" then
    self.dialogs[record.program] = { shown_at = record.program.terminal.printed_count }
    table.insert(self.dialogs, { at = record.at, kind = record.text, session_id = session_of(record.program) })
  elseif event == "answered" then
    self.dialogs[record.program] = nil
    if record.text == "yes" and not self.plan.accepts then self:wrong "a dialog was answered with yes, unasked" end
    if record.text == plans.TERMS.choices[1] then self:wrong "an unknown dialog was answered" end
  end
end

local function may_be_pressed(bytes)
  for _, pattern in ipairs(NO_ANSWER) do
    if bytes:find(pattern) then return true end
  end
  return false
end

--- What was typed: none of it when its request is over; no part of a message goes to a dialog that was seen, and
--- nothing at all where nobody consents.
function Model:types(program, bytes, seen_count, tried_at)
  if bytes:find("\r", 1, true) then self.entered[program] = { at = self.world.time.now, tried_at = tried_at } end
  for name, pattern in pairs(MOMENTS) do
    if bytes:find(pattern) then self:moment(name) end
  end
  local ask = self.by_key[bytes:match(KEY) or ""]
  if ask and ask.ended then self:wrong("%s was typed after its request had ended", ask.key) end
  local goes_on = self.begun[program]
  self.begun[program] = bytes:find(BEGUN) ~= nil or goes_on and bytes:find(MIDDLE) ~= nil
  local is_reply = self.begun[program] or goes_on and bytes:find(REST) ~= nil
  local dialog = self.dialogs[program]
  if is_reply or not dialog or seen_count < dialog.shown_at then return end
  local consents = self.plan.consents and not self.plan.untrusted or self.plan.accepts
  local is_typed = bytes:find(KEY) ~= nil
  for _, mark in ipairs(MARKS) do is_typed = is_typed or bytes:find(mark, 1, true) ~= nil end
  if is_typed or not consents and not may_be_pressed(bytes) then
    self:wrong("this was typed into a dialog: %q", bytes)
  end
end

-- What the callers say ------------------------------------------------------------------------------------------------

local function check_time(self, ask)
  local is_stopped = excuses.may(self, "slow")
  for _, strike in ipairs(self.struck) do
    local is_slow = strike.kind == "stop" or strike.kind == "torn" -- or those were who had the place before
    is_stopped = is_stopped or is_slow and strike.at <= ask.ended
  end
  local took, limit = ask.ended - ask.began, self.plan.backend.turn_timeout_ms
  local own_ms = ask.turn.mark == "long" and plans.LONG_MS or 0
  local waits_ms = is_stopped and 2 * limit + 120000 or self.most_ms -- a place, a start, the turn, a program's end
  local most = own_ms + waits_ms
  if took > most then self:wrong("%s took %.0f s", ask.key, took / 1000) end
  if ask.interrupted_at and ask.ended > ask.interrupted_at + INTERRUPT_MS and not excuses.may_be_slow(self, ask) then
    self:wrong("%s was interrupted, and went on for %.0f s", ask.key, (ask.ended - ask.interrupted_at) / 1000)
  end
end

---@param turn table     of the plan
---@param talk table     the conversation: `keys`, of the messages before
---@return table ask
function Model:ask(turn, talk)
  local ask = { key = turn.text:match(KEY), text = turn.text, turn = turn, talk = talk,
    history = { table.unpack(talk.keys) }, began = self.world.time.now, taken = 0, answers = {}, users = 0, was = {},
    sessions = {}, session_now = function() end }
  table.insert(self.asks, ask)
  self.by_key[ask.key] = ask
  self.world:tell(nil, "asks", ask.text)
  return ask
end

--- The start of a session without a pool: like a request that says nothing.
---@param session parley.Session
---@return table ask
function Model:start(session)
  local id = session.session_id
  local ask = { key = "a start", text = "", turn = {}, was = {}, began = self.world.time.now, taken = 0,
    sessions = { [id] = true }, session_now = function() return id end }
  table.insert(self.asks, ask)
  return ask
end

--- It has failed.
function Model:fails_to_start(ask, err)
  self.world:tell(nil, "does not start", tostring(err))
  check_time(self, ask)
  if not excuses.has_one(self, ask, err, err.code) then self:wrong("a session did not start: %s", tostring(err)) end
end

--- Something has happened to a program, and so to the requests that are at it.
---@param kind string
---@param program parley.testing.WorldProgram
---@param lasts_ms? number
function Model:strike(kind, program, lasts_ms)
  local strike = { at = self.world.time.now, kind = kind, program = program, session_id = session_of(program),
    lasts_ms = lasts_ms, asks = {} }
  for _, ask in ipairs(self.asks) do
    if not ask.ended and ask.session_now() == strike.session_id then strike.asks[ask] = true end
  end
  table.insert(self.struck, strike)
end

--- Whether a program stood still after a moment.
function Model:is_held(program, at)
  for _, strike in ipairs(self.struck) do
    local stands = strike.kind == "stop" or strike.kind == "pause"
    if stands and strike.program == program and strike.at + (strike.lasts_ms or math.huge) >= at then return true end
  end
  return false
end

--- Whether a dialog came up in a session of a request.
---@param since? number
---@param is_refused? boolean  one that the caller has not accepted
function Model:has_asked(ask, since, is_refused)
  for _, dialog in ipairs(self.dialogs) do
    local is_since = dialog.at <= ask.ended and dialog.at >= (since or 0)
    local is_accepted = self.plan.accepts and (dialog.kind == "trust" or dialog.kind == "bypass")
    if ask.sessions[dialog.session_id] and is_since and not (is_refused and is_accepted) then return true end
  end
  return false
end

--- Whether nothing but the caller has struck a request so far.
function Model:is_undisturbed(ask)
  for _, strike in ipairs(self.struck) do
    if strike.asks[ask] or ask.sessions[strike.session_id] then return false end
  end
  return not self.closed_at
end

--- How many messages of the user's own were taken in a request's sessions while it ran.
function Model:count_from_user(ask)
  local count = 0
  for _, one in ipairs(self.from_user) do
    if ask.sessions[one.session_id] and one.at >= ask.began then count = count + 1 end
  end
  return count
end

--- How often something typed was lost on its way to a request's programs, or by them at their start.
function Model:losses_of(ask)
  local count = 0
  for _, program in ipairs(self.world.programs) do
    local faults = ask.sessions[session_of(program)] and program.script.faults
    count = count + (faults and faults.lose_keys or 0)
  end
  for _, loss in ipairs(self.losses) do
    if loss.at >= ask.began and ask.sessions[session_of(loss.program)] then count = count + 1 end
  end
  return count
end

--- Whoever opens the program's editor later must not find it there.
local function check_offers(self, ask)
  for _, program in ipairs(self.world.programs) do
    local folder = not program.is_dead and (program.environment.VISUAL or ""):match " (.*)/editor$"
    if folder and ask.sessions[session_of(program)] and files.size(folder .. "/message") then
      self:wrong("%s is over, and the program's editor still has it", ask.key)
    end
  end
end

--- What an error says of the message must be true.
local function check_error(self, ask, err)
  local says_not = err.message:find("nothing was sent", 1, true) or err.at_start or err.code == "ValueError"
    or err.code == "ENOSPC"
  if says_not and ask.taken > 0 then self:wrong("%s was taken, and its caller is told: %s", ask.key, tostring(err)) end
end

--- What a request was answered, without what the user's own message was that went with it.
local function answer_to(self, ask)
  local texts, left = {}, self:count_from_user(ask)
  for _, text in ipairs(ask.answers) do
    local is_users = left > 0 and text == "echo: " .. M.USERS_OWN
    if is_users then left = left - 1 else table.insert(texts, text) end
  end
  return table.concat(texts, "\n")
end

local function check_success(self, ask)
  if ask.taken ~= 1 then self:wrong("%s was answered and taken %d times", ask.key, ask.taken) end
  if ask.users ~= 1 then self:wrong("%s was reported %d times", ask.key, ask.users) end
  if marks.DEADLY[ask.turn.mark] and ask.turn.mark ~= "dies_at_end" then
    self:wrong("%s was answered by a program that had died", ask.key)
  end
  if ask.has_next and not excuses.is_torn(self, ask) then
    self:wrong("%s has the answer of a turn behind it", ask.key) -- the records say where a turn ends
  end
  local answer, wanted = answer_to(self, ask), plans.TEXTS[ask.turn.mark]
  local whole = wanted or bare("echo: " .. ask.text)
  local made = plans.ANSWERS[ask.turn.mark] or {}
  local has_any = answer ~= "" or made.tool or made.own_turn -- a call is one, too, and what comes by itself
  if has_any and excuses.may_be_short(self, ask) and whole:find(bare(answer), 1, true) then
    ask.talk.has_short = ask.talk.has_short or bare(answer) ~= bare(whole)
    return
  end
  if wanted and answer ~= wanted or not wanted and bare(answer:gsub("^echo: ", "")) ~= bare(ask.text) then
    self:wrong("%s has the answer of another: %q", ask.key, answer)
  end
end

--- The end of a request, as its caller was told.
---@param ask table
---@param ok boolean
---@param err any
function Model:answer(ask, ok, err)
  ask.ended = self.world.time.now
  if not ok and err.session_id then ask.sessions[err.session_id] = true end
  err = not ok and err or nil
  local verdict = ok and (ask.result and ask.result.subtype or "nothing") or err.code
  ask.verdict = verdict
  self.world:tell(nil, "is told", ask.key .. " " .. tostring(verdict) .. (ok and "" or " " .. tostring(err)))
  check_time(self, ask)
  check_offers(self, ask)
  if err then check_error(self, ask, err) end
  if verdict == "success" then return check_success(self, ask) end
  if not excuses.has_one(self, ask, err, verdict) then
    self:wrong("%s %s", ask.key, err and "failed: " .. tostring(err) or "ended with " .. verdict)
  end
end

return M
