-- Takes the library's mechanisms out, one at a time, and has the simulation look for it. See spec/README.md.
--   build/parley spec/mutations.lua [--seconds N] [--seed N] [WORD]   WORD: only those whose name or file has it
local uv = require "luv"
local clock = require "parley.base.clock"
local files = require "parley.base.files"
local mutations = require "spec.simulation.mutations"
local task = require "parley.base.task"

local FOLDER = "build/mutants"

local set = { seconds = 60, seed = 20261122 }
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

--- Writes the changed file. The text to be changed must stand there exactly once.
local function write(mutation, number)
  local text = assert(files.read(mutation.file))
  local from, to = text:find(mutation.old, 1, true)
  if not from or text:find(mutation.old, to + 1, true) then
    error(("'%s': the text stands in %s not once"):format(mutation.what, mutation.file), 0)
  end
  local path = ("%s/%d.lua"):format(FOLDER, number)
  files.write(path, text:sub(1, from - 1) .. mutation.new .. text:sub(to + 1), true)
  assert(loadfile(path))
  return path
end

--- Runs the simulation on it.
---@return boolean found
---@return string why
---@return number seconds
local function try(mutation, number)
  local module = mutation.file:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
  local environment = uv.os_environ()
  environment.PARLEY_MUTANT = module .. "=" .. write(mutation, number)
  local list = {}
  for name, value in pairs(environment) do table.insert(list, name .. "=" .. value) end
  local output, over, pieces, status = uv.new_pipe(false), task.condition(), {}, nil
  local began, is_read = clock.now(), false
  local process = assert(uv.spawn(uv.exepath(), { env = list, stdio = { nil, output },
    args = { "spec/simulate.lua", "--workers", "1", "--brief", "--seconds", tostring(set.seconds), "--seed",
      tostring(set.seed) } }, function(code)
    status = code
    over:notify()
  end))
  output:read_start(function(_, bytes)
    if bytes then return table.insert(pieces, bytes) end
    is_read = true
    over:notify()
  end)
  -- One that never ends was found, too.
  local ended = over:wait_until(function() return status and is_read end, (set.seconds + 60) * 1000)
  if not ended then process:kill "sigkill" end
  over:wait_until(function() return status and is_read end)
  output:close()
  process:close()
  local why = table.concat(pieces):match "seed %d+: ([^\n]*)" or not ended and "it does not end" or "status " .. status
  return status ~= 0, why, (clock.now() - began) / 1000
end

local function main()
  io.stdout:setvbuf "line"
  files.make_folder(FOLDER)
  local places, tasks, found, missed, known = task.semaphore(uv.available_parallelism()), {}, 0, 0, 0
  for number, mutation in ipairs(mutations) do
    if not wanted or mutation.what:find(wanted, 1, true) or mutation.file:find(wanted, 1, true) then
      table.insert(tasks, task.spawn(function()
        local _ <close> = places:acquire()
        local is_found, why, seconds = try(mutation, number)
        local verdict = is_found and "found" or mutation.unseen and "not to be found" or "MISSED"
        if is_found then found = found + 1 elseif mutation.unseen then known = known + 1 else missed = missed + 1 end
        io.write(("%-15s %5.1f s  %s (%s): %s\n"):format(verdict, seconds, mutation.what, mutation.file,
          is_found and why:sub(1, 100) or mutation.unseen or ""))
      end))
    end
  end
  for _, each in ipairs(tasks) do each:await() end
  files.remove_tree(FOLDER)
  io.write(("mutations: %d found, %d missed, %d not to be found\n"):format(found, missed, known))
  return missed
end

os.exit(main() == 0 and 0 or 1)
