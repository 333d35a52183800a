-- Runs the simulation: random plans, each in a world of its own, until so many turns or seconds. See spec/README.md.
--   build/parley spec/simulate.lua [--turns N] [--seconds N] [--seed N] [--replay SEED] [--keep-going] [--exhaustive]
local clock = require "parley.base.clock"
local exhaustive = require "spec.simulation.exhaustive"
local play = require "spec.simulation.play"
local plans = require "spec.simulation.plan"
local shrink = require "spec.simulation.shrink"

local SHRINK_MS = 60000

local function options_of(words)
  local set = {}
  local i = 1
  while words[i] do
    local name = words[i]:match "^%-%-([%a-]+)$"
    if not name then error("unknown word '" .. words[i] .. "'", 0) end
    local value = words[i + 1] and not words[i + 1]:find "^%-%-" and words[i + 1] or nil
    set[name:gsub("-", "_")] = value and tonumber(value) or true
    i = i + (value and 2 or 1)
  end
  return set
end

local function described(plan)
  local lines = {}
  local function add(...) table.insert(lines, (...):format(select(2, ...))) end
  add("profile %s, %s%s%s%s", plan.profile, plan.direct and "sessions without a pool" or
    ("a backend of %d places"):format(plan.backend.max_sessions),
    plan.consents and ", dialogs are answered" or "", plan.untrusted and ", an untrusted folder" or "",
    plan.first_message == "argument" and ", first messages as arguments" or "")
  for name, odds in pairs(plan.odds) do
    if odds ~= 0 then add("  %s: %s", name, odds) end
  end
  for place, start in ipairs(plan.starts) do
    for name, value in pairs(start) do add("  process %d: %s = %s", place, name, tostring(value)) end
  end
  for place, conversation in ipairs(plan.conversations) do
    for _, turn in ipairs(conversation) do
      add("  conversation %d: %q%s%s", place, turn.text,
        turn.pause_ms and (", after %d ms"):format(turn.pause_ms) or "",
        turn.strike and (", struck by %s at step %d"):format(turn.strike.kind, turn.strike.step) or "")
    end
  end
  return table.concat(lines, "\n")
end

local function report(seed, plan, outcome)
  local deadline = clock.now() + SHRINK_MS
  io.write(("\nseed %d: %s\n"):format(seed, outcome.problem))
  local small, again = shrink.shrink(plan, outcome.problem, play.play, function() return clock.now() < deadline end)
  io.write("\nThe smallest plan that still fails so:\n", described(small), "\n\nWhat happened:\n",
    (again or outcome).world:told(), "\n\nAgain: PARLEY_SEED=", tostring(seed), " make simulate\n")
end

local function main(words)
  local set = options_of(words)
  local began, turns, runs, failed, counts = clock.now(), 0, 0, 0, {}
  local seed = set.replay or set.seed or math.floor(clock.wall())
  io.stdout:setvbuf "line"
  io.write(("simulate: from seed %d on\n"):format(seed))
  local function is_enough()
    if set.replay then return runs == 1 end
    if set.seconds then return clock.now() - began >= set.seconds * 1000 end
    return turns >= (set.turns or 10000)
  end
  for plan in set.exhaustive and exhaustive.plans(seed) or function()
    seed = seed + 1
    return plans.random(seed - 1)
  end do
    if is_enough() then break end
    local outcome = play.play(plan)
    runs, turns = runs + 1, turns + outcome.turns
    for name, count in pairs(outcome.counts) do counts[name] = (counts[name] or 0) + count end
    if outcome.problem then
      failed = failed + 1
      if set.brief then
        io.write(("seed %d: %s\n"):format(plan.seed, outcome.problem:sub(1, 300)))
      else
        report(plan.seed, plan, outcome)
        if not set.keep_going then break end
      end
    end
  end
  local names = {}
  for name in pairs(counts) do table.insert(names, name) end
  table.sort(names)
  for _, name in ipairs(names) do io.write(("  %-24s %d\n"):format(name, counts[name])) end
  local seconds = (clock.now() - began) / 1000
  io.write(("simulate: %d turns in %d runs, %.1f s, %.2f ms a turn; %s\n"):format(turns, runs, seconds,
    seconds * 1000 / math.max(1, turns), failed == 0 and "nothing lost, doubled, changed, mixed up, hung or left behind"
      or failed .. " runs failed"))
  return failed == 0 and 0 or 1
end

os.exit(main { ... })
