--- What a run of the simulation does, as plain data that a seed decides and that can be made smaller: conversations,
--- their messages, and what strikes them.
local chance_of = require "parley.testing.world.chance"
local marks = require "parley.testing.marks"

local M = {}

local PROFILES = { "2.1.330", "2.1.197", "2.1.110" }

--- What only a world can wait for: an answer that takes so long that an interrupt is seen to end it.
M.LONG_MS = 30000
M.ANSWERS = { long = { delay_ms = M.LONG_MS }, late_dialog = { tool = { name = "Bash", input = { command = "true" },
  result = "done", permission = true, ask_after_ms = 5000 }, after = "after the tool" } }
M.TEXTS, M.ASKING = { late_dialog = "after the tool" }, { late_dialog = true }
for _, name in ipairs { "ANSWERS", "TEXTS", "ASKING" } do
  for mark, value in pairs(marks[name]) do M[name][mark] = value end
end

--- A dialog that nobody knows, behind the one that is answered.
M.TERMS = { title = "New terms", choices = { "Take them", "Read them" } }

local MARKS = {}
for name in pairs(M.ANSWERS) do table.insert(MARKS, name) end
table.sort(MARKS)
table.move({ "blocks", "blocks" }, 1, 2, #MARKS + 1, MARKS) -- of an answer in two lines one may be late

--- What goes wrong from the start of a process on.
local STARTS = {
  { lose_keys = 1 }, { lose_returns = 1 }, { late_flush_ms = 30 }, { lose_returns = 2, late_flush_ms = 20 },
  { dialog_ms = 5 }, { dialog_ms = 30 }, { dialog_ms = 200 }, { dialog_at_return = true }, { late_flush_ms = 2000 },
  { late_status_ms = 50 }, { late_redraw_ms = 4000 },
}

--- What befalls a turn from outside, at a step of the world: `kill` and `stop` take any program.
M.STRIKES = { "kill", "stop", "pause", "resize", "type", "dialog", "cancel", "leave", "interrupt", "close" }
--- Or so soon after a moment when it may matter most.
M.MOMENTS = { "enter", "text", "editor", "erase", "lost", "full", "paste", "asked", "taken" }
--- Of these some are rare, and each the only one that shows whether a mechanism is there: they come more often.
local TELLING = {
  { "dialog", "erase" }, { "dialog", "lost" }, { "dialog", "text" }, { "type", "text" },
  { "interrupt", "full" }, { "interrupt", "paste" }, { "interrupt", "enter" }, { "interrupt", "editor" },
  { "pause", "taken" },
}
--- And where a session goes on behind an interrupt, as those without a pool do.
local TELLING_DIRECTLY = {
  { "interrupt", "paste" }, { "interrupt", "paste" }, { "interrupt", "full" }, { "interrupt", "enter" },
  { "interrupt", "editor" }, { "interrupt", "editor" },
}
--- What goes wrong by itself: see testing.world.
M.FAULTS = { "cut", "full", "lost", "unseen", "half", "torn", "slow", "broken", "no_space" }

--- What strikes wait for: the fault, and how often it strikes then, once in so many times.
local WAITED_FOR = { full = { "full", 4 }, paste = { "full", 4 }, lost = { "lost", 12 } }

--- A text of more is handed to the program's editor once only.
local LONG_TEXT = 10000

--- At its beginning a message is a command, or a path that is none.
local BEGINNINGS = { "/exit ", " /clear ", "/foo.", "/tmp/x " }
--- At the end of a message they have Enter do something else than send it.
local ENDINGS = { "\\", " :sm", "  " }

local function random_text(chance, key, mark)
  local parts = { key .. " " }
  if chance:once_in(20) then parts[1] = "!" .. parts[1] end
  if chance:once_in(40) then parts[1] = chance:pick(BEGINNINGS) .. parts[1] end
  local length = chance:once_in(60) and chance:between(200, 1500) or chance:between(0, 40)
  if chance:once_in(400) then parts[1] = parts[1] .. ("long "):rep(LONG_TEXT // 5) end
  for i = 1, length do parts[i + 1] = chance:pick(marks.ALPHABET) end
  local ending = chance:once_in(8) and chance:pick(ENDINGS) or ""
  return table.concat(parts) .. (mark and (" mark:%s"):format(mark) or "") .. "." .. ending
end

local function random_turn(chance, key, is_direct)
  local turn = { mark = chance:once_in(4) and chance:pick(MARKS) or nil }
  turn.text = random_text(chance, key, turn.mark)
  if chance:once_in(5) then
    turn.strike = { kind = chance:pick(M.STRIKES), step = chance:between(1, chance:pick { 10, 40, 120 }),
      which = chance:between(1, 8), lasts_ms = chance:pick { 700, 700, 3000, 6000 },
      rows = chance:between(20, 60), columns = chance:between(60, 160) }
    if chance:once_in(2) then
      turn.strike.after, turn.strike.step = chance:pick(M.MOMENTS), nil
      turn.strike.late_ms = chance:between(0, chance:pick { 2, 50, 2500 })
      if chance:once_in(is_direct and 2 or 3) then
        local telling = chance:pick(is_direct and chance:once_in(2) and TELLING_DIRECTLY or TELLING)
        turn.strike.kind, turn.strike.after = telling[1], telling[2]
        turn.strike.late_ms = chance:between(0, chance:pick { 0, 2, 50 })
      end
    end
  end
  if turn.mark == "long" and not chance:once_in(3) then
    turn.strike = { kind = "interrupt", after = "taken", late_ms = chance:between(0, 2500), which = 1 }
  end
  if chance:once_in(5) then turn.pause_ms = chance:between(0, 3000) end
  turn.finds_dead = not is_direct and chance:once_in(30) or nil
  return turn
end

local function random_odds(chance)
  local odds = { late_ms = chance:pick { 0, 1, 5, 40 }, disk_late_ms = chance:pick { 0, 1, 10, 100 } }
  for _, name in ipairs { "cut", "full", "unseen", "half", "lost" } do
    odds[name] = chance:once_in(3) and chance:pick { 3, 10, 30 } or 0
  end
  if odds.lost > 0 then odds.lost = odds.lost * 4 end
  if odds.half > 0 then odds.half = odds.half // 2 + 1 end
  odds.no_space = chance:once_in(12) and 4 or 0
  odds.slow = chance:once_in(6) and chance:pick { 4, 10 } or 0
  odds.broken = chance:once_in(4) and chance:pick { 3, 10, 30 } or 0
  odds.torn = chance:once_in(12) and chance:pick { 3, 6, 20 } or 0
  return odds
end

local function random_start(chance)
  local start = {}
  while chance:once_in(3) do
    for name, value in pairs(chance:pick(STARTS)) do start[name] = value end
  end
  return start
end

--- A strike that waits for a fault has one to wait for.
local function add_what_is_waited_for(plan)
  for _, conversation in ipairs(plan.conversations) do
    for _, turn in ipairs(conversation) do
      local fault = turn.strike and WAITED_FOR[turn.strike.after]
      if fault and (plan.odds[fault[1]] or 0) == 0 then plan.odds[fault[1]] = fault[2] end
      local has_call = (M.ANSWERS[turn.mark] or {}).tool ~= nil
      if has_call and (plan.odds.half or 0) == 0 then plan.odds.half = 4 end -- the result of a call may come late
      if #turn.text > LONG_TEXT and (plan.odds.slow or 0) == 0 then plan.odds.slow = 4 end -- the editor may come late
    end
  end
end

--- Messages that are interrupted in the middle of their pastes, and others behind them.
local function add_cut_pastes(chance, plan)
  for _, conversation in ipairs(plan.conversations) do
    for _, turn in ipairs(conversation) do
      turn.text, turn.mark = ("%s %s."):format(turn.text:match "m%d+%.%d+", ("word "):rep(chance:between(1, 30))), nil
      if chance:once_in(2) then
        turn.strike = { kind = "interrupt", after = "paste", late_ms = chance:between(0, 2), which = 1 }
      end
    end
  end
end

--- A plan that a seed decides.
---@param seed integer
---@return table plan
function M.random(seed)
  local chance = chance_of.new(seed)
  local plan = { seed = seed, profile = chance:pick(PROFILES), consents = not chance:once_in(6),
    odds = chance:once_in(4) and {} or random_odds(chance), starts = {}, conversations = {} }
  plan.direct = chance:once_in(4)
  plan.untrusted = chance:once_in(8)
  plan.partial = seed % 3 == 0
  plan.accepts = plan.untrusted and not chance:once_in(3)
  plan.first_message = chance:once_in(3) and "argument" or "typed"
  for number = 1, chance:between(1, 4) do
    plan.starts[number] = random_start(chance)
  end
  plan.backend = { max_sessions = chance:between(1, 4), turn_timeout_ms = 120000,
    idle_timeout_ms = chance:once_in(4) and chance:pick { 1, 100, 2000 } or nil }
  for number = 1, chance:between(1, chance:pick { 1, 2, 6 }) do
    local conversation = { begins_ms = chance:between(0, 50) }
    for turn = 1, chance:between(1, chance:pick { 6, 6, 24 }) do
      conversation[turn] = random_turn(chance, ("m%d.%02d"):format(number, turn), plan.direct)
    end
    plan.conversations[number] = conversation
  end
  if plan.direct and chance:once_in(5) then add_cut_pastes(chance, plan) end
  add_what_is_waited_for(plan)
  plan.startup_ms = chance:once_in(3) and 300 or 5
  local may_be_late = plan.accepts and (plan.odds.slow or 0) == 0
  if may_be_late then plan.odds.slow = 4 end -- what is asked is answered again
  plan.backend.startup_timeout_ms = plan.accepts and 300000 or nil -- keys that are read seconds late are waited for
  plan.asks_again = plan.accepts and chance:once_in(2) -- and another dialog comes, which nobody may answer
  if plan.asks_again then
    plan.odds.slow, plan.odds.cut, plan.conversations = 2, 2, { { begins_ms = 0, plan.conversations[1][1] } }
  end
  local is_small = not chance:once_in(3)
  plan.dimensions = { rows = is_small and 24 or 40, columns = is_small and 80 or 120 }
  if chance:once_in(2) then plan.backend.state = false end -- no conversation outlives its process
  return plan
end

return M
