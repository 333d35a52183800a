-- Plays many conversations over few processes in simulated worlds, with deaths of their host. See spec/README.md.
--   build/parley spec/asleep.lua FOLDER [--conversations N] [--turns N] [--places N] [--clients N] [--kills N]
--     [--slice N] [--seed N] [--seconds N]
-- The conversations are played in slices, one after the other, over one index in FOLDER. What was cut short goes on
-- behind the last slice that was whole, if it is asked for in the same words.
local uv = require "luv"
local asleep = require "spec.simulation.asleep"
local core = require "parley.core"
local files = require "parley.base.files"

local SAY_SECONDS = 10
local COUNTS = { "turns", "kills", "struck", "moved", "started", "resumed", "whole", "cut", "found", "seconds",
  "processor_seconds", "slices" }

local function options_of(words)
  local set = { folder = words[1], conversations = 1000, turns = 3, places = 20, clients = 30, seed = 1 }
  for place = 2, #words, 2 do
    local name, value = words[place]:match "^%-%-(%a+)$", tonumber(words[place + 1])
    if not name or not value then error("a word '--NAME' and a number expected, not '" .. words[place] .. "'", 0) end
    set[name] = math.tointeger(value) or value
  end
  if set.folder:sub(1, 1) ~= "/" then set.folder = uv.cwd() .. "/" .. set.folder end
  set.slice = math.min(set.slice or 2500, set.conversations)
  set.kills = set.kills or set.conversations // 100
  return set
end

local function say(...)
  io.write((...):format(select(2, ...)), "\n")
  io.flush()
end

--- What has happened in the slices that are whole.
local function begin(set)
  local words = ("%d of %d turns, %d processes, %d clients, %d deaths, seed %d, slices of %d"):format(
    set.conversations, set.turns, set.places, set.clients, set.kills, set.seed, set.slice)
  local path = set.folder .. "/so-far.json"
  local totals = core.json.decode(files.read(path) or "")
  say("asleep: %s", words)
  if totals and totals.words == words then
    say("  going on behind %d slices of %d turns", totals.slices, totals.turns)
  else
    files.remove_tree(set.folder)
    totals = { words = words, missed = {}, problems = {} }
    for _, name in ipairs(COUNTS) do totals[name] = 0 end
  end
  assert(files.make_folder(set.folder))
  assert(uv.fs_chmod(set.folder, 448)) -- 0700
  return totals, function() files.write(path, assert(core.json.encode(totals))) end
end

local function add_to(totals, outcome)
  for _, name in ipairs(COUNTS) do totals[name] = totals[name] + (outcome[name] or 0) end
  for cause, count in pairs(outcome.missed) do totals.missed[cause] = (totals.missed[cause] or 0) + count end
  for _, problem in ipairs(outcome.problems) do table.insert(totals.problems, problem) end
end

--- Tells how far it is, and when the time is over.
local function watch(set, totals)
  local began, told, processor = uv.hrtime(), uv.hrtime(), os.clock()
  return function(run)
    local now = uv.hrtime()
    if (now - told) / 1e9 >= SAY_SECONDS then
      told = now
      say("  %d of %d turns, %d deaths, %d turns struck, %.0f s, %.1f ms of the processor a turn, %.0f MB",
        totals.turns + run.turns, set.conversations * set.turns, totals.kills + run.kills, totals.struck + run.struck,
        totals.seconds + (now - began) / 1e9, (os.clock() - processor) * 1000 / run.turns,
        uv.resident_set_memory() / 1e6)
    end
    return not set.ends_at or now < set.ends_at
  end
end

--- How many of something come with each slice, so that all have come with the last.
local function share(total, slice, slices) return total * slice // slices - total * (slice - 1) // slices end

local function play_slice(set, totals, slice, slices)
  local first, processor = (slice - 1) * set.slice + 1, os.clock()
  local outcome = asleep.play { seed = set.seed + slice - 1, first = first, turns = set.turns, places = set.places,
    conversations = math.min(set.slice, set.conversations - first + 1), clients = set.clients,
    kills = share(set.kills, slice, slices), path = set.folder .. "/index/sessions.db", look = watch(set, totals) }
  outcome.processor_seconds = os.clock() - processor
  outcome.slices = outcome.is_cut_short and 0 or 1
  add_to(totals, outcome)
  return not (outcome.problem or outcome.is_cut_short)
end

local function report(set, totals)
  for _, problem in ipairs(totals.problems) do say("WRONG: %s", problem) end
  local causes = {}
  for cause, count in pairs(totals.missed) do table.insert(causes, ("%s: %d"):format(cause, count)) end
  table.sort(causes)
  say("  processes           %d; %d of them went on with a transcript", totals.started, totals.resumed)
  say("  deaths of the host  %d, which cut off %d turns", totals.kills, totals.struck)
  say("  moved               %d conversations, each as a death came upon its turn (%s)", totals.moved,
    table.concat(causes, ", "))
  say("  transcripts         %d hold a conversation whole, in order and once; %d end in a turn that a death cut off",
    totals.whole, totals.cut)
  say("  in the index        %d conversations, all asleep, none leased", totals.found)
  say("asleep: %d of %d turns, %d slices, %.0f s, %.0f s of the processor, %.1f ms a turn; %s", totals.turns,
    set.conversations * set.turns, totals.slices, totals.seconds, totals.processor_seconds,
    totals.processor_seconds * 1000 / totals.turns, totals.problems[1] and "FAILED"
      or "nothing lost, nothing doubled, every turn in the right session, no lease held by the dead")
end

local function main(words)
  local set = options_of(words)
  set.ends_at = set.seconds and uv.hrtime() + set.seconds * 1e9
  local totals, keep = begin(set)
  local slices = (set.conversations + set.slice - 1) // set.slice
  while totals.slices < slices and play_slice(set, totals, totals.slices + 1, slices) do keep() end
  report(set, totals)
  if totals.slices == slices or totals.problems[1] then files.remove_tree(set.folder) end
  return totals.problems[1] and 1 or 0
end

os.exit(main { ... })
