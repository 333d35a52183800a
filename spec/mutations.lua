-- Takes the library's mechanisms out, one at a time, and has the simulation look for it. See spec/README.md.
--   build/parley spec/mutations.lua [--seconds N] [--seed N] [--workers N] [WORD]   seconds of the processor's time for
--   each; WORD: only those whose name or file has it. A run that was cut short goes on where it was: what is known
--   stands in build/mutations.
local uv = require "luv"
local core = require "parley.core"
local defer = require "parley.base.defer"
local files = require "parley.base.files"
local mutations = require "spec.simulation.mutations"
local task = require "parley.base.task"

local FOLDER, KNOWN = "build/mutants", "build/mutations"
--- A run that has used so many seconds more of the processor than it was given is caught in something.
local MOST_SECONDS = 30

local set = { seconds = 60, seed = 20261122, workers = uv.available_parallelism() }
local wanted
do
  local words, i = { ... }, 1
  while words[i] do
    local name = words[i]:match "^%-%-(%l+)$"
    if name then
      set[name], i = assert(math.tointeger(tonumber(words[i + 1])), "a number"), i + 2
    else
      wanted, i = words[i], i + 1
    end
  end
end

-- What is known -------------------------------------------------------------------------------------------------------

--- What the verdicts depend on: the program, the simulation, where it begins and how long it may take.
local function fingerprint()
  local digest = core.digest.new()
  digest:update(assert(files.read(uv.exepath())))
  for _, name in ipairs(files.names "spec/simulation") do
    digest:update(assert(files.read("spec/simulation/" .. name)))
  end
  digest:update(("%d %d"):format(set.seed, set.seconds))
  return core.digest.hex(digest:final())
end

--- The verdicts of a run before this one on the same code.
---@return table<string, string> lines  by what was taken out
local function read_known(mark)
  local known, text = {}, files.read(KNOWN) or ""
  if text:match "^[^\n]*" ~= mark then return known end
  for what, line in text:gmatch "\n([^\t\n]*)\t([^\n]*)" do known[what] = line end
  return known
end

-- One mutant ----------------------------------------------------------------------------------------------------------

--- Writes the changed file.
local function write(mutation, number)
  local path = ("%s/%d.lua"):format(FOLDER, number)
  files.write(path, mutations.apply(mutation), true)
  assert(loadfile(path))
  return path
end

--- Runs the simulation in a process of its own.
---@param words string[]
---@param seconds integer  of the processor's time; what takes MOST_SECONDS longer never ends
---@param mutant? string   what stands in PARLEY_MUTANT
---@return string? problem  what was found; nil: nothing
---@return integer seed     of the last run
---@return number seconds   of the processor's time, until that began
local function simulate(words, seconds, mutant)
  local list = {}
  for name, value in pairs(uv.os_environ()) do table.insert(list, name .. "=" .. value) end
  if mutant then table.insert(list, "PARLEY_MUTANT=" .. mutant) end
  local output, complaints, over, pieces = uv.new_pipe(false), uv.new_pipe(false), task.condition(), {}
  local status, open_count, killed_by = nil, 2, nil
  local process = assert(uv.spawn("/bin/sh", { env = list, stdio = { nil, output, complaints },
    args = { "-c", 'ulimit -c 0 && ulimit -t "$0" && exec "$@"', tostring(seconds + MOST_SECONDS), uv.exepath(),
      "spec/simulate.lua", "--workers", "1", "--brief", "--say-seeds", table.unpack(words) },
  }, function(code, signal)
    status, killed_by = code ~= 0 and code or signal, signal
    over:notify()
  end))
  for _, pipe in ipairs { output, complaints } do
    pipe:read_start(function(_, bytes)
      if bytes then return table.insert(pieces, bytes) end
      open_count = open_count - 1
      over:notify()
    end)
  end
  local _ <close> = defer(function()
    if not status then process:kill "sigkill" end -- this run is ended itself
  end)
  over:wait_until(function() return status and open_count == 0 end)
  for _, handle in ipairs { output, complaints, process } do handle:close() end
  local text = table.concat(pieces)
  local seed = math.tointeger(tonumber(text:match ".*playing (%d+)") or set.seed)
  local took = tonumber(text:match ".*playing %d+ at ([%d.]+)") or 0
  if status == 0 then return nil, seed, took end
  local problem = text:match "seed %d+: ([^\n]*)" or killed_by ~= 0 and "it does not end"
  return problem or text:match "([^\n]+)\n*$", seed, took
end

--- Looks for a mutant: a seed that fails with it and not without.
---@return string line  the verdict, the seed, the seconds, why
local function try(mutation, path)
  local module = mutation.file:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
  local mutant = module .. "=" .. path
  local took, seed, without = 0, set.seed, ""
  repeat
    local left = math.max(1, math.ceil(set.seconds - took))
    local problem, at, seconds = simulate({ "--processor-seconds", tostring(left), "--seed", tostring(seed) }, left,
      mutant)
    took = took + seconds
    if problem and not simulate({ "--replay", tostring(at) }, 0) then
      return ("found\tseed %d, %.1f s%s\t%s"):format(at, took, without, problem:gsub("%c", " "):sub(1, 100))
    end
    if problem then without = without .. (", %d fails without it, too"):format(at) end
    seed = at + 1
  until not problem or took >= set.seconds
  return ("%s\t%.1f s%s\t%s"):format(mutation.unseen and "not to be found" or "MISSED", took, without,
    mutation.unseen or "")
end

-- All of them ---------------------------------------------------------------------------------------------------------

local function is_wanted(mutation)
  return not wanted or mutation.what:find(wanted, 1, true) or mutation.file:find(wanted, 1, true)
end

local function show(mutation, line)
  local verdict, where, why = line:match "^([^\t]*)\t([^\t]*)\t(.*)$"
  io.write(("%-15s  %s (%s), %s: %s\n"):format(verdict, mutation.what, mutation.file, where, why))
  return verdict
end

local function main()
  io.stdout:setvbuf "line"
  files.make_folder(FOLDER)
  local mark = fingerprint()
  local known, counts, tasks, paths = wanted and {} or read_known(mark), {}, {}, {}
  local function count(mutation, line)
    local verdict = show(mutation, line)
    counts[verdict] = (counts[verdict] or 0) + 1
  end
  if not next(known) and not wanted then files.put(KNOWN, mark .. "\n", "w") end
  for number, mutation in ipairs(mutations) do paths[number] = write(mutation, number) end
  local places = task.semaphore(set.workers)
  for number, mutation in ipairs(mutations) do
    if known[mutation.what] then
      count(mutation, known[mutation.what])
    elseif is_wanted(mutation) then
      table.insert(tasks, task.spawn(function()
        local _ <close> = places:acquire()
        local line = try(mutation, paths[number])
        if not wanted then files.put(KNOWN, ("%s\t%s\n"):format(mutation.what, line), "a") end
        count(mutation, line)
      end))
    end
  end
  for _, each in ipairs(tasks) do each:await() end
  files.remove_tree(FOLDER)
  local missed = counts.MISSED or 0
  io.write(("mutations: %d found, %d missed, %d not to be found\n"):format(counts.found or 0, missed,
    counts["not to be found"] or 0))
  return missed
end

os.exit(main() == 0 and 0 or 1)
