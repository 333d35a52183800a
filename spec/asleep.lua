-- Plays many conversations over few processes in one simulated world, with deaths of their host. See spec/README.md.
--   build/parley spec/asleep.lua [--conversations N] [--turns N] [--places N] [--clients N] [--kills N] [--seed N]
--     [--seconds N]
local uv = require "luv"
local asleep = require "spec.simulation.asleep"

local SAY_SECONDS = 10

local function options_of(words)
  local set = { conversations = 1000, turns = 3, places = 20, clients = 30, seed = 1 }
  for place = 1, #words, 2 do
    local name, value = words[place]:match "^%-%-(%a+)$", tonumber(words[place + 1])
    if not name or not value then error("a word '--NAME' and a number expected, not '" .. words[place] .. "'", 0) end
    set[name] = math.tointeger(value) or value
  end
  set.kills = set.kills or set.conversations // 100
  return set
end

local function say(...)
  io.write((...):format(select(2, ...)), "\n")
  io.flush()
end

--- Tells how far it is, and when the time is over.
local function progress(set)
  local began, told = uv.hrtime(), uv.hrtime()
  return function(run)
    local now = uv.hrtime()
    if (now - told) / 1e9 >= SAY_SECONDS then
      told = now
      say("  %d of %d turns, %d deaths, %d turns struck, %.0f s, %.1f ms of the processor a turn, %.0f MB",
        run.turns, set.conversations * set.turns, run.kills, run.struck, (now - began) / 1e9,
        os.clock() * 1000 / run.turns, uv.resident_set_memory() / 1e6)
    end
    return not set.seconds or (now - began) / 1e9 < set.seconds
  end
end

local function report(set, outcome)
  for _, problem in ipairs(outcome.problems) do say("WRONG: %s", problem) end
  local causes = {}
  for cause, count in pairs(outcome.missed) do table.insert(causes, ("%s %d"):format(cause, count)) end
  table.sort(causes)
  say("  processes            %d, of them %d went on with a transcript", outcome.started, outcome.resumed)
  say("  deaths of the host   %d, which cut off %d turns", outcome.kills, outcome.struck)
  say("  moved                %d conversations, each as a death came upon its turn (%s)", outcome.moved,
    table.concat(causes, ", "))
  if outcome.whole then
    say("  transcripts          %d that hold a conversation whole, in order and once, %d that a death has cut off",
      outcome.whole, outcome.cut)
    say("  in the index         %d conversations, all asleep, no lease left", outcome.found)
  end
  say("asleep: %d of %d turns, seed %d, %.0f s, %.1f s of the processor; %s", outcome.turns,
    set.conversations * set.turns, set.seed, outcome.seconds, os.clock(), outcome.problem and "FAILED"
      or "nothing lost, nothing doubled, every turn in the right session, no lease held by the dead")
end

local set = options_of { ... }
say("asleep: %d conversations of %d turns over %d processes, %d deaths, seed %d", set.conversations, set.turns,
  set.places, set.kills, set.seed)
set.look = progress(set)
local outcome = asleep.play(set)
report(set, outcome)
os.exit(outcome.problem and 1 or 0)
