-- Runs the simulation: random plans, each in a world of its own, until so many turns or seconds. See spec/README.md.
--   build/parley spec/simulate.lua [--turns N] [--seconds N] [--processor-seconds N] [--seed N] [--replay SEED]
--     [--workers N] [--keep-going] [--brief] [--say-seeds] [--exhaustive [short]]
local uv = require "luv"
local mutant = os.getenv "PARLEY_MUTANT" -- MODULE=FILE: a changed copy, in the place of the host's own
if mutant then package.preload[mutant:match "^[^=]*"] = assert(loadfile(mutant:match "=(.*)$")) end
local clock = require "parley.base.clock"
local exhaustive = require "spec.simulation.exhaustive"
local play = require "spec.simulation.play"
local parts = require "spec.simulation.parts"
local plans = require "spec.simulation.plan"
local shrink = require "spec.simulation.shrink"

local SHRINK_MS = 60000
local EXHAUSTIVE_SEED = 1

local function options_of(words)
  local set = {}
  local i = 1
  while words[i] do
    local name = words[i]:match "^%-%-([%a-]+)$"
    if not name then error("unknown word '" .. words[i] .. "'", 0) end
    local value = words[i + 1] and not words[i + 1]:find "^%-%-" and words[i + 1] or nil
    set[name:gsub("-", "_")] = value and (tonumber(value) or value) or true
    i = i + (value and 2 or 1)
  end
  return set
end

local function when(strike)
  return strike.step and ("at step %d"):format(strike.step)
    or ("%d ms after '%s'"):format(strike.late_ms, strike.after)
end

local function struck(strike) return strike and (", struck by %s %s"):format(strike.kind, when(strike)) or "" end

local function described(plan)
  local lines = {}
  local function add(...) table.insert(lines, (...):format(select(2, ...))) end
  add("profile %s, %s%s%s%s", plan.profile, plan.direct and "sessions without a pool" or
    ("a backend of %d places"):format(plan.backend.max_sessions),
    plan.consents and ", dialogs are answered" or "",
    (plan.untrusted and ", an untrusted folder" or "") .. (plan.asks_again and " and terms" or ""),
    plan.first_message == "argument" and ", first messages as arguments" or "")
  for name, odds in pairs(plan.odds) do
    if odds ~= 0 then add("  %s: %s", name, odds) end
  end
  for name, times in pairs(plan.times or {}) do add("  %s: time %s", name, table.concat(times, ", ")) end
  for place, start in ipairs(plan.starts) do
    for name, value in pairs(start) do add("  process %d: %s = %s", place, name, tostring(value)) end
  end
  for place, conversation in ipairs(plan.conversations) do
    for _, turn in ipairs(conversation) do
      add("  conversation %d: %q%s%s", place, turn.text,
        turn.pause_ms and (", after %d ms"):format(turn.pause_ms) or "",
        struck(turn.strike) .. struck(turn.second_strike))
    end
  end
  return table.concat(lines, "\n")
end

local function report(seed, plan, outcome)
  local deadline = clock.now() + SHRINK_MS
  io.write(("\nseed %d: %s\n"):format(seed, outcome.problem))
  local small, again = shrink.shrink(plan, outcome.problem, play.play, function() return clock.now() < deadline end)
  io.write("\nThe smallest plan that still fails so:\n", described(small), "\n\nWhat happened:\n",
    (again or outcome).world:told(), "\n\nAgain: make simulate PARLEY_SEED=", tostring(seed),
    plan.number and " EXHAUSTIVE=1\n" or "\n")
end

--- What has happened in all.
local function new_totals() return { turns = 0, runs = 0, failed = 0, counts = {} } end

local function add_to(totals, more)
  for _, name in ipairs { "turns", "runs", "failed" } do totals[name] = totals[name] + more[name] end
  for name, count in pairs(more.counts) do totals.counts[name] = (totals.counts[name] or 0) + count end
end

--- The plans of one of several workers, each with every so manieth.
local function plans_of(set, seed)
  local part, workers = set.part or 1, set.workers or 1
  local function next_random()
    seed = seed + 1
    return plans.random(seed - 1)
  end
  local place = 0
  local next_plan = set.exhaustive and exhaustive.plans(EXHAUSTIVE_SEED, play.play, set.exhaustive == "short")
    or next_random
  local only = set.exhaustive and set.replay
  return function()
    local plan
    repeat
      place, plan = place + 1, next_plan()
    until not plan or only == place or not only and (place - part) % workers == 0
    return plan
  end
end

--- Plays plans until it is enough.
local function play_part(set, seed)
  local began, totals = clock.now(), new_totals()
  local is_stopped = parts.on_stop()
  local function is_enough()
    if is_stopped() then return true end
    if set.replay then return totals.runs == 1 end
    if set.seconds then return clock.now() - began >= set.seconds * 1000 end
    if set.processor_seconds then return os.clock() >= set.processor_seconds end
    return not set.exhaustive and totals.turns >= (set.turns or 10000) // (set.workers or 1)
  end
  for plan in plans_of(set, seed) do
    if is_enough() then break end
    if set.say_seeds then io.write(("playing %d at %.1f\n"):format(plan.seed, os.clock())) end
    local outcome = play.play(plan)
    add_to(totals, { turns = outcome.turns, runs = 1, failed = outcome.problem and 1 or 0, counts = outcome.counts })
    if outcome.problem and set.brief then
      io.write(("seed %d: %s\n"):format(plan.number or plan.seed, outcome.problem:sub(1, 300)))
    elseif outcome.problem then
      report(plan.number or plan.seed, plan, outcome)
    end
    if outcome.problem and not set.keep_going then break end
  end
  return totals
end

local function sum_up(totals, seconds)
  local names = {}
  for name in pairs(totals.counts) do table.insert(names, name) end
  table.sort(names)
  for _, name in ipairs(names) do io.write(("  %-24s %d\n"):format(name, totals.counts[name])) end
  io.write(("simulate: %d turns in %d runs, %.1f s, %.2f turns a second; %s\n"):format(totals.turns, totals.runs,
    seconds, totals.turns / seconds, totals.failed == 0
      and "nothing lost, doubled, changed, mixed up, hung or left behind" or totals.failed .. " runs failed"))
end

local function main(words)
  local set = options_of(words)
  local began = clock.now()
  local seed = set.replay or set.seed or math.floor(clock.wall())
  io.stdout:setvbuf "line"
  collectgarbage("incremental", 300, 400) -- more garbage costs the processor's caches more than it saves
  if set.part then
    parts.tell(play_part(set, seed))
    return 0
  end
  io.write(("simulate: from seed %d on\n"):format(seed))
  local workers = set.replay and 1 or set.workers or uv.available_parallelism()
  local totals = new_totals()
  if workers == 1 then
    totals = play_part(set, seed)
  else
    table.move({ "--seed", tostring(seed), "--workers", tostring(workers) }, 1, 4, #words + 1, words)
    parts.run(workers, words, function(more)
      add_to(totals, more)
      return more.failed == 0 or set.keep_going ~= nil
    end)
  end
  sum_up(totals, (clock.now() - began) / 1000)
  return totals.failed == 0 and 0 or 1
end

os.exit(main { ... })
