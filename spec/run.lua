-- Runs spec files, each in a process with a home and a temporary folder of its own, the longest first, and sums them up
-- in busted's words. Three for each processor run at a time, for they wait more than they work. `make test` calls it.
--
--   usage: build/parley spec/run.lua [-j N] PATH…     a PATH is a spec file, or a folder of them
--
-- Of a file that fails, what busted printed is shown. How long each took stands in spec-times beside the host, for the
-- order of the next run. Exit status: 1 when a spec failed, when a file ran none, or left something in its folder.
local uv = require "luv"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local task = require "parley.base.task"
local testing = require "parley.testing"

local HOST = uv.exepath()
local TIMES = HOST:match "^(.*)/" .. "/spec-times"
local BUSTED = os.getenv "BUSTED" or "/usr/bin/busted"
local SUMMARY = "(%d+) successe?s? / (%d+) failures? / (%d+) errors? / (%d+) pending"
local GUARD_MS = 10000
--- Where nothing is known of a file: so many bytes a second, and so much more for one that has many rounds.
local BYTES_PER_SECOND, ROUNDS_S = 2000, 30

local function find(path, found)
  local stat = uv.fs_stat(path)
  if not stat then error(errors.value_error(("there is no %s"):format(path)), 0) end
  if stat.type ~= "directory" then
    local has_rounds = (files.read(path) or ""):find("helper.long", 1, true)
    table.insert(found, { path = path, seconds = stat.size / BYTES_PER_SECOND + (has_rounds and ROUNDS_S or 0) })
    return
  end
  local scan = assert(uv.fs_scandir(path))
  for name, kind in function() return uv.fs_scandir_next(scan) end do
    if kind == "directory" or name:find "_spec%.lua$" then find(path .. "/" .. name, found) end
  end
end

local function read_times()
  local times = {}
  for path, seconds in (files.read(TIMES) or ""):gmatch "(%S+) (%S+)\n" do times[path] = tonumber(seconds) end
  return times
end

local function write_times(times)
  local lines = {}
  for path, seconds in pairs(times) do table.insert(lines, ("%s %.2f\n"):format(path, seconds)) end
  table.sort(lines)
  files.write(TIMES, table.concat(lines))
end

--- The environment of a spec file: the caller's, but for what would be shared with another file or with the user.
local function environment_in(folder)
  local own = { HOME = folder .. "/home", TMPDIR = folder .. "/tmp", TMUX = false, TMUX_TMPDIR = folder .. "/tmux",
    XDG_STATE_HOME = false, CLAUDE_CONFIG_DIR = false }
  local list = {}
  for name, value in pairs(uv.os_environ()) do
    if own[name] == nil then table.insert(list, name .. "=" .. value) end
  end
  for name, value in pairs(own) do
    if value then table.insert(list, name .. "=" .. value) end
  end
  for _, name in ipairs { "home", "tmp", "tmux" } do files.make_folder(folder .. "/" .. name) end
  for _, path in ipairs { folder, folder .. "/tmp" } do assert(uv.fs_chmod(path, 493)) end -- a spec may be another user
  return list
end

--- Runs a program to its end and gives what it printed. Leaving it early kills it.
local function run(argv, environment)
  local output, open, status = {}, 3, nil
  local changed = task.condition()
  local streams = { uv.new_pipe(false), uv.new_pipe(false) }
  local handle
  handle = assert(uv.spawn(argv[1], { args = { table.unpack(argv, 2) }, env = environment,
    stdio = { nil, streams[1], streams[2] } }, function(code, signal)
    status, open = signal == 0 and code or 128 + signal, open - 1
    changed:notify()
  end))
  local _ <close> = setmetatable({}, { __close = function()
    if not status then handle:kill "sigterm" end
    for _, each in ipairs { handle, streams[1], streams[2] } do each:close() end
  end })
  for _, stream in ipairs(streams) do
    stream:read_start(function(_, bytes)
      if bytes then table.insert(output, bytes) else open = open - 1 end
      changed:notify()
    end)
  end
  while open > 0 do changed:wait() end
  return status, table.concat(output)
end

local function names_in(folder)
  local names = {}
  local scan = assert(uv.fs_scandir(folder))
  for name in function() return (uv.fs_scandir_next(scan)) end do table.insert(names, name) end
  return names
end

--- What a file has left in its temporary folder. What belongs to hosts that were killed is removed a moment later, and
--- `claude-UID` is the program's own, which it leaves as well.
local function left_in(folder)
  local left
  pcall(testing.eventually, function()
    left = {}
    for _, name in ipairs(names_in(folder)) do
      if not name:find "^claude%-%d+$" then table.insert(left, name) end
    end
    return #left == 0
  end, GUARD_MS)
  return left
end

--- Runs one file. Returns what it came to.
local function play(path)
  local folder = files.temporary_folder "parley-specs"
  local _ <close> = setmetatable({}, { __close = function() files.remove_tree(folder) end })
  local began = uv.hrtime()
  local status, output = run({ HOST, BUSTED, path }, environment_in(folder))
  local counts = { output:gsub("\27%[[%d;]*m", ""):match(SUMMARY) }
  local left = left_in(folder .. "/tmp")
  local problem
  if not counts[1] then problem = ("ended with status %d and no summary"):format(status)
  elseif counts[1] + counts[4] == 0 and status == 0 then problem = "ran no spec"
  elseif left[1] then problem = "left behind in its temporary folder: " .. table.concat(left, ", ")
  elseif status ~= 0 and counts[2] + counts[3] == 0 then problem = ("ended with status %d"):format(status) end
  for i = 1, 4 do counts[i] = math.tointeger(tonumber(counts[i] or 0)) end
  if problem then counts[3] = counts[3] + 1 end
  return { counts = counts, output = output, problem = problem, seconds = (uv.hrtime() - began) / 1e9 }
end

local function report(path, outcome)
  local counts = outcome.counts
  local has_failed = counts[2] + counts[3] > 0
  io.write(("%-6s %6.1f s %5d  %s%s\n"):format(has_failed and "FAILED" or "ok", outcome.seconds, counts[1], path,
    outcome.problem and ": " .. outcome.problem or ""))
  if has_failed then io.write((outcome.output:gsub("[^\n]*successe?s?[^\n]* / [^\n]*pending[^\n]*\n", ""))) end
  io.flush()
end

local function main(...)
  local words, found, workers = { ... }, {}, 3 * #uv.cpu_info()
  if words[1] == "-j" then
    workers = math.tointeger(tonumber(words[2])) or error(errors.value_error "-j needs a whole number", 0)
    words = { table.unpack(words, 3) }
  end
  for _, path in ipairs(words) do find(path, found) end
  local times = read_times()
  table.sort(found, function(one, other)
    return (times[one.path] or one.seconds) > (times[other.path] or other.seconds)
  end)
  local total, began, next_file = { 0, 0, 0, 0 }, uv.hrtime(), 0
  local function work()
    while next_file < #found do
      next_file = next_file + 1
      local path = found[next_file].path
      local outcome = play(path)
      times[path] = outcome.seconds
      for i = 1, 4 do total[i] = total[i] + outcome.counts[i] end
      report(path, outcome)
    end
  end
  local crew = {}
  for i = 1, workers do crew[i] = task.spawn(work) end
  for i = 1, workers do crew[i]:await() end
  write_times(times)
  print(("%d successes / %d failures / %d errors / %d pending : %.1f seconds"):format(total[1], total[2], total[3],
    total[4], (uv.hrtime() - began) / 1e9))
  return total[2] + total[3] == 0 and total[1] > 0
end

return main(...)
