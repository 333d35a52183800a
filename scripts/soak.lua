-- Thousands of random turns with faults: nothing may be lost, doubled, changed or hung. Prints the counts.
local marks = require "parley.testing.marks"
local parley = require "parley"
local cli = require "parley.command.cli"
local clock = require "parley.base.clock"
local core = require "parley.core"
local defer = require "parley.base.defer"
local dialogs = require "parley.policy.dialogs"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local testing = require "parley.testing"

local PROFILES = { "2.1.330", "2.1.197", "2.1.110" }

local HARMLESS = { "half_line", "reorder", "slow", "retry", "tool", "permission", "asks", "blocks" }
local DEADLY = { "dies_before", "dies_after", "dies_mid_line", "dies_in_tool", "dies_at_end" }

--- What goes wrong from the start of a process on.
local STARTS = {
  {}, {}, {}, { lose_keys = 1 }, { lose_returns = 1 }, { late_flush_ms = 30 }, { lose_returns = 2, late_flush_ms = 20 },
  { dialog_ms = 5 }, { dialog_ms = 30 }, { dialog_ms = 500 },
  { dialog_at_return = true },
}

local function pick(list) return list[math.random(#list)] end

--- A message that no other is like.
local function random_message(number, mark)
  local parts = { ("m%d "):format(number) }
  if math.random(20) == 1 then parts[1] = "!" .. parts[1] end
  local length = math.random(40) == 1 and math.random(200, 1500) or math.random(0, 40)
  for i = 1, length do parts[i + 1] = pick(marks.ALPHABET) end
  return table.concat(parts) .. (mark and (" mark:%s"):format(mark) or "") .. "."
end

---@class Soak
local Soak = {}
Soak.__index = Soak

--- Counts, and stops at the first broken promise.
function Soak:count(name) self.counts[name] = (self.counts[name] or 0) + 1 end

function Soak:broken(what, text)
  error(parley.errors.new("BrokenPromise", ("%s (seed %d): %q"):format(what, self.seed, text)), 0)
end

--- Plays one turn; true when the session can go on.
function Soak:turn(session, number)
  local mark = math.random(12) == 1 and pick(HARMLESS) or nil
  local fault = math.random(40) == 1 and pick { "dies", "kill", "interrupt", "interrupt" } or nil
  if fault == "dies" and not self.marks then fault = "kill" end
  if fault == "dies" then mark = pick(DEADLY) elseif fault == "interrupt" then mark = "slow" end
  local text = random_message(number, self.marks and mark or fault == "interrupt" and "slow" or nil)
  local sent = session:as_typed(text)
  self.sent[sent] = true
  local helper
  if fault == "kill" or fault == "interrupt" then
    local after = math.random(0, self.longest_wait)
    helper = parley.task.spawn(function()
      parley.task.sleep(after)
      if fault == "kill" then session.process:signal "SIGKILL" else session:interrupt() end
    end)
  end
  local result, answers, users = nil, {}, 0
  local ok, err = pcall(function()
    parley.task.timeout(60000, function()
      for event in session:send(text) do
        if event.type == "user" and event:text() == sent then users = users + 1 end
        if event.type == "assistant" and event:text() ~= "" then table.insert(answers, event:text()) end
        result = event.type == "result" and event or result
      end
    end)
  end)
  if helper then pcall(helper.await, helper) end
  self:count(ok and result.subtype or err.code .. (err.reason and " " .. err.reason or ""))
  if not ok then
    if not parley.errors.is(err) then error(err, 0) end
    if err.code == "ETIMEDOUT" then self:broken("a turn hung", text) end
    if fault ~= "kill" and fault ~= "dies" then self:broken(tostring(err), text) end
    return false
  end
  if result.subtype == "success" then
    self.finished[sent] = true
    if users ~= 1 then self:broken(("the message was reported %d times"):format(users), text) end
    local answer = table.concat(answers, "\n")
    local wanted = self.marks and marks.TEXTS[mark] or "echo: " .. sent
    if answer ~= wanted then self:broken("the answer is another one: " .. answer:sub(1, 200), text) end
  elseif fault ~= "interrupt" then
    self:broken("the turn ended with " .. result.subtype, text)
  end
  return fault ~= "kill" and session.process:is_alive() -- a kill may come after the result
end

--- One after the other: sessions, and turns in each, until there were enough.
function Soak:play()
  while self.begun < self.turns do
    local session <close> = parley.session(self.fresh_options())
    local started, err = pcall(session.start, session)
    if not started then self:broken("a session does not start: " .. tostring(err), "") end
    self:count "sessions"
    for _ = 1, math.random(5, self.turns_a_session) do
      if self.begun >= self.turns then break end
      self.begun = self.begun + 1
      if not self:turn(session, self.begun) then break end
    end
  end
end

--- Compares what was sent with what arrived on the other side.
function Soak:settle(arrived)
  local times = {}
  for _, text in ipairs(arrived) do times[text] = (times[text] or 0) + 1 end
  for text, count in pairs(times) do
    if not self.sent[text] then self:broken("something arrived that was never sent", text) end
    if count > 1 then self:broken(("a message arrived %d times"):format(count), text) end
  end
  for text in pairs(self.finished) do
    if not times[text] then self:broken("a message was answered and never arrived", text) end
  end
end

local function run(soak, sessions)
  local players = {}
  for i = 1, sessions do players[i] = parley.task.spawn(soak.play, soak) end
  for _, player in ipairs(players) do player:await() end
end

--- Answers every dialog that has an answer.
local function decide(dialog, accept)
  return dialog.choices[1] and dialog.kind ~= "panel" and { choose = 1 } or dialogs.decide(dialog, accept)
end

local function with_stand_in(soak, sessions)
  local answers = {}
  for mark, answer in pairs(marks.ANSWERS) do
    answer.on = "mark:" .. mark .. "."
    table.insert(answers, answer)
  end
  local kits = {}
  for _, profile in ipairs(PROFILES) do
    for _, faults in ipairs(STARTS) do
      local kit = testing.kit { profile = profile,
        script = { startup_delay_ms = 0, flush_ms = 0, answers = answers, faults = faults } }
      kit.options.policies = { dialogs = { decide = decide } }
      table.insert(kits, kit)
    end
  end
  local _ <close> = defer(function() for _, kit in ipairs(kits) do kit:close() end end)
  soak.marks, soak.longest_wait, soak.turns_a_session = true, 20, 60
  soak.fresh_options = function() return pick(kits).options end
  run(soak, sessions)
  local arrived = {}
  for _, kit in ipairs(kits) do
    local taken = kit:taken()
    table.move(taken, 1, #taken, #arrived + 1, arrived)
  end
  soak:settle(arrived)
end

local function with_claude(soak, sessions)
  local server <close> = messages_api.start { script = { { on = "mark:slow.", delay_ms = 1500 } } }
  local home <close> = offline_home.new { base_url = server.url }
  soak.longest_wait, soak.turns_a_session = 400, 40
  soak.fresh_options = function()
    return { executable = os.getenv "PARLEY_CLAUDE", cwd = home.cwd, extra_env = home.extra_env }
  end
  run(soak, sessions)
  local arrived = {}
  for _, request in ipairs(server:turns()) do table.insert(arrived, core.text.nfc(request.text)) end
  soak:settle(arrived)
end

local function define(parser)
  parser:option("--turns", "How many turns."):default "1000":convert(cli.count_from(1))
  parser:option("--sessions", "How many sessions at a time."):default "4":convert(cli.count_from(1))
  parser:option("--seed", "Repeats a run's choices; default: the time."):convert(cli.count_from(1))
end

local function main(arguments)
  local seed = arguments.seed or math.floor(clock.wall() / 1000)
  math.randomseed(seed)
  cli.write(("soak: %d turns over %d sessions, seed %d\n"):format(arguments.turns, arguments.sessions, seed))
  local began = parley.task.now()
  local soak = setmetatable({ seed = seed, turns = arguments.turns, begun = 0, counts = {}, sent = {},
    finished = {} }, Soak)
  local world = os.getenv "PARLEY_CLAUDE" and with_claude or with_stand_in
  world(soak, arguments.sessions)
  local names = {}
  for name in pairs(soak.counts) do table.insert(names, name) end
  table.sort(names)
  for _, name in ipairs(names) do cli.write(("  %-24s %d\n"):format(name, soak.counts[name])) end
  cli.write(("soak: nothing lost, doubled, changed or hung; %.0f s\n"):format((parley.task.now() - began) / 1000))
  return 0
end

return cli.run({
  name = "soak", summary = "Plays random turns with faults and checks that nothing is lost, doubled, changed or hung.",
  define = define, main = main,
  examples = "  parley soak --turns 20000 --sessions 64\n  parley soak --seed 20261122",
}, ...)
