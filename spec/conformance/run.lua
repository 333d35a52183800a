-- Checks versions of `claude`, WORKERS at a time: a line for each as soon as it is known, and a matrix at the end.
-- `make conformance` calls it; README.md beside it says what the variables mean.
local uv = require "luv"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local results = require "spec.conformance.results"
local task = require "parley.base.task"
local versions = require "spec.conformance.versions"

local PACKAGE = "@anthropic-ai/claude-code-linux-" .. (uv.os_uname().machine == "aarch64" and "arm64" or "x64")
--- A version takes less than 40 s and its download some 20 s; one that hangs does not stop the others.
local LIMIT_MS = 300000
local DAY_SECONDS = 86400
--- Read once: `make` may put another in its place meanwhile.
local HOST = uv.exepath()

local function setting(name, default)
  local value = os.getenv(name)
  return value and value ~= "" and value or default
end

local function count_of(name, default)
  local value = setting(name, default)
  local count = value and math.tointeger(tonumber(value))
  if value and not (count and count >= 1) then
    error(errors.value_error(("%s=%s: a whole number from 1 on was expected"):format(name, value)), 0)
  end
  return count
end

---@class conformance.Run
---@field runner string  scripts/smoke.sh
---@field build string   what `make` has built, and programs that stay
---@field folder string  of this run
---@field versions string[]
---@field known table<string, conformance.Result>  those that a run which was cut off has left
---@field missed string[]  versions that could not be run
local Run = {}
Run.__index = Run

--- The environment for a program: ours, and more.
local function environment_with(more)
  local list = {}
  for name, value in pairs(uv.os_environ()) do
    if not more[name] then table.insert(list, name .. "=" .. value) end
  end
  for name, value in pairs(more) do table.insert(list, name .. "=" .. value) end
  return list
end

--- All that npm has.
local function published()
  local program = helper.run { "/usr/bin/env", "npm", "view", PACKAGE, "versions", "--json" }
  local list = program.status == 0 and json.decode(program.output)
  if type(list) ~= "table" then
    error(errors.value_error("npm does not say which versions there are: " .. program.errors), 0)
  end
  return versions.native(list)
end

--- Runs a program, which is told to end when it takes too long or nobody waits any more, and gives it time to clean up.
local function output_of(argv, environment)
  local program <close> = helper.start(argv, { env = environment })
  local _ <close> = setmetatable({}, { __close = function()
    if program.status then return end
    program:kill "sigterm"
    task.shield(function() program:wait() end)
  end })
  local is_in_time, err = pcall(task.timeout, LIMIT_MS, program.wait, program)
  if not is_in_time and err.code ~= "ETIMEDOUT" then error(err, 0) end
  return program, is_in_time
end

--- The outcomes that the checks of a version have printed.
local function read_outcomes(output)
  local outcomes = {}
  for name, outcome, reason in output:gmatch "([^\t\n]+)\t(%S+)\t%d+\t([^\n]*)\n" do
    outcomes[name] = { outcome = outcome, reason = reason ~= "" and reason or nil }
  end
  return outcomes
end

--- What there is to hold against the run of a version as a whole.
local function judge_end(outcomes, program, is_in_time)
  local remains = program.output:match "smoke: claude %S+ (left [^\n]*)\n"
  local complaint = (program.errors .. program.output):match "([^\n]+)\n*$" or "nothing was printed"
  local next_one
  for _, name in ipairs(results.COLUMNS) do next_one = next_one or not outcomes[name] and name or nil end
  if not is_in_time then
    outcomes[next_one] = { outcome = "wrong", reason = ("hangs: %d s"):format(LIMIT_MS // 1000) }
  elseif remains then
    outcomes.leftovers = { outcome = "wrong", reason = remains }
  elseif program.status ~= 0 then
    outcomes[next_one] = { outcome = "wrong", reason = complaint }
  else
    outcomes.leftovers = { outcome = "ok" }
  end
end

--- Where a version is, or is fetched to: what was there before stays.
function Run:place_of(version)
  if uv.fs_stat(("%s/claude/%s/claude"):format(self.build, version)) or setting "KEEP" then return self.build end
  local place = ("%s/%s"):format(self.folder, version)
  assert(files.make_folder(place .. "/claude"))
  assert(uv.fs_symlink(HOST, place .. "/parley"))
  return place, setmetatable({}, { __close = function() files.remove_tree(place) end })
end

function Run:miss(version, program)
  local complaint = (program.output .. program.errors):match "([^\n]+)\n*$" or "nothing was printed"
  table.insert(self.missed, ("%s: %s"):format(version, complaint))
end

---@return conformance.Result?  nil where it could not be run
function Run:check(version)
  local place, fetched = self:place_of(version)
  local _ <close> = fetched
  local environment = environment_with { CLAUDE_VERSION = version, BUILD = place,
    npm_config_cache = fetched and place .. "/npm" or nil }
  if not uv.fs_stat(("%s/claude/%s/claude"):format(place, version)) then
    local program = output_of({ "/bin/sh", self.runner, "--run", "true" }, environment)
    if program.status ~= 0 then
      return self:miss(version, program)
    end
  end
  local began = task.now()
  local program, is_in_time = output_of({ "/bin/sh", self.runner, "--run", HOST,
    "spec/conformance/one.lua" }, environment)
  local outcomes = read_outcomes(program.output)
  if is_in_time and not next(outcomes) then -- the machine's fault, not the version's
    return self:miss(version, program)
  end
  judge_end(outcomes, program, is_in_time)
  return { version = version, date = os.date "%Y-%m-%d", seconds = (task.now() - began) // 1000, outcomes = outcomes }
end

--- Reads what a run that was cut off has left; the others of that file are not asked for now.
function Run:read()
  for line in (files.read(self.path) or ""):gmatch "[^\n]*\n" do
    local result = results.decode(line)
    if result then self.known[result.version] = result end
  end
end

local function append(path, text)
  local file <close> = assert(io.open(path, "a"))
  assert(file:write(text))
end

function Run:work()
  while self.next <= #self.versions do
    local version = self.versions[self.next]
    self.next = self.next + 1
    local result = self.known[version]
    if not result then
      result = self:check(version)
      self.known[version] = result
      if result then append(self.path, results.encode(result)) end
    end
    print(result and results.summary(result) or "not run: " .. self.missed[#self.missed])
    io.flush()
  end
end

--- Those of this run, in order.
function Run:results()
  local list = {}
  for _, version in ipairs(self.versions) do table.insert(list, self.known[version]) end
  return list
end

local function chosen_versions()
  local words, sample = setting("VERSIONS", ""), count_of "SAMPLE"
  local chosen = versions.named(words) or versions.select(published(), words, os.time() // DAY_SECONDS)
  return sample and versions.sample(chosen, sample) or chosen
end

local function write_table(path, list)
  local chunk = loadfile(path)
  files.write(path, results.table_with(chunk and chunk() or {}, list))
  assert(uv.fs_chmod(path, 420)) -- 0644
end

local function main()
  local build = setting("BUILD", "build")
  local folder = build .. "/conformance"
  local fetched = folder .. "/fetched"
  assert(files.make_folder(fetched))
  local run = setmetatable({ runner = setting("RUNNER", "scripts/smoke.sh"), build = build,
    folder = ("%s/%d"):format(fetched, uv.os_getpid()), path = folder .. "/unfinished.tsv",
    versions = chosen_versions(), known = {}, missed = {}, next = 1 }, Run)
  for _, other in ipairs(helper.names_in(fetched)) do -- of runs that were cut off
    if not uv.fs_stat("/proc/" .. other) then files.remove_tree(fetched .. "/" .. other) end
  end
  assert(files.make_folder(run.folder))
  if setting "FRESH" then files.remove(run.path) end
  run:read()
  local crew = {}
  for i = 1, count_of("WORKERS", "2") do crew[i] = task.spawn(run.work, run) end
  for _, worker in ipairs(crew) do worker:await() end
  files.remove_tree(run.folder)
  local list, is_wrong = run:results(), run.missed[1] ~= nil
  for _, result in ipairs(list) do is_wrong = is_wrong or results.columns_with(result, "wrong")[1] ~= nil end
  io.write("\n", results.matrix(list))
  for _, missed in ipairs(run.missed) do print("not run: " .. missed) end
  write_table(setting("TABLE", "lua/parley/claude/conformance.lua"), list)
  if uv.fs_stat(run.path) then assert(uv.fs_rename(run.path, folder .. "/finished.tsv")) end
  return is_wrong and 1 or 0
end

return main()
