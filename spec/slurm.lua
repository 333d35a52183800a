-- Runs the recipe for a Slurm array as it stands in scripts/README.md, on a cluster of one node that lives as long as
-- this does: one task is killed and requeued, another requeued while it runs, and each conversation has one result.
--   build/parley spec/slurm.lua      `make slurm`; needs slurm-wlm (Debian's), and no root
local uv = require "luv"
local batch = require "parley.command.batch"
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local task = require "parley.base.task"
local testing = require "parley.testing"

local COUNT, TASKS = 60, 10
local PATIENCE_MS = 120000
local END_MS, LOOK_MS = 15000, 100
local DAEMONS = { "munged", "slurmctld", "slurmd" }

--- Four places for tasks of four processors, whatever this machine has.
local CONFIGURATION = [[
ClusterName=parley
SlurmctldHost=%HOST%(127.0.0.1)
SlurmctldPort=%PORT1%
SlurmdPort=%PORT2%
CommunicationParameters=NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=%FOLDER%/munge.socket
SlurmUser=%USER%
SlurmdUser=%USER%
StateSaveLocation=%FOLDER%/state
SlurmdSpoolDir=%FOLDER%/spool
SlurmctldPidFile=%FOLDER%/slurmctld.pid
SlurmdPidFile=%FOLDER%/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
ReturnToService=2
MailProg=/bin/true
KillWait=5
SlurmdParameters=config_overrides
NodeName=one NodeHostname=%HOST% NodeAddr=127.0.0.1 CPUs=16 State=UNKNOWN
PartitionName=all Nodes=one Default=YES MaxTime=INFINITE State=UP
]]

local function say(message, ...) io.stderr:write("slurm: ", message:format(...), "\n") end

--- Where a daemon is. Those of a system stand in folders that not every PATH has.
local function find(name)
  for folder in (os.getenv "PATH" .. ":/usr/local/sbin:/usr/sbin:/sbin"):gmatch "[^:]+" do
    if uv.fs_access(folder .. "/" .. name, "X") then return folder .. "/" .. name end
  end
  error(name .. " is not installed: apt-get install slurm-wlm", 0)
end

local function free_port()
  local socket = uv.new_tcp()
  local _ <close> = task.closing(socket)
  socket:bind("127.0.0.1", 0)
  return socket:getsockname().port
end

local function user_name()
  local passwd = uv.os_get_passwd()
  return passwd and passwd.username or error("this user has no name", 0)
end

--- Ends a daemon as its user would, and for good when it takes too long.
local function ending(program)
  return setmetatable({}, { __close = function()
    task.shield(function()
      if not program.status then program:kill "sigterm" end
      pcall(helper.eventually, function() return program.status end, END_MS)
    end)
    program:__close()
  end })
end

---@class spec.Cluster
---@field environment table<string, string>
---@field folder string
local Cluster = {}
Cluster.__index = Cluster

--- Runs one of Slurm's programs.
---@param ... string
---@return string output
function Cluster:command(...)
  local program = helper.run({ "/usr/bin/env", ... }, { env = self.environment, cwd = self.folder })
  if program.status ~= 0 then error(("%s: %s"):format(table.concat({ ... }, " "), program.errors), 0) end
  return program.output
end

--- The tasks of the array that are not over, by their index: `"PENDING"`, `"RUNNING"`, …
function Cluster:tasks()
  local states = {}
  for index, state in self:command("squeue", "-h", "-r", "-o", "%K %T"):gmatch "(%d+) (%S+)" do
    states[tonumber(index)] = state
  end
  return states
end

--- Waits; it looks every tenth of a second, for nothing tells of what Slurm does.
function Cluster:wait_for(what, predicate)
  local next_look = 0
  local ok = pcall(helper.eventually, function()
    if task.now() < next_look then return false end
    next_look = task.now() + LOOK_MS
    local is_done, value = pcall(predicate)
    return is_done and value
  end, PATIENCE_MS)
  if not ok then error(("%s: not within %d s\n%s"):format(what, PATIENCE_MS / 1000, self:command "squeue"), 0) end
end

--- Ends what runs, while there still are daemons that can. Each task has a process of Slurm's own, which has a socket
--- in the spool as long as it lives.
function Cluster:__close()
  task.shield(function()
    self:command("scancel", "--full", "--user", user_name())
    self:wait_for("the end of what runs", function()
      for _, name in ipairs(files.names(self.folder .. "/spool")) do
        if name:find "^one_%d" then return false end
      end
      return not next(self:tasks())
    end)
  end)
end

local function set_up(kit)
  local folder = kit.folder
  local lines = {}
  for i = 1, COUNT do lines[i] = json.encode { id = "q" .. i, turns = { "question " .. i .. "." } } end
  helper.write(folder .. "/questions.jsonl", table.concat(lines, "\n") .. "\n")
  for _, name in ipairs { "bin", "state", "spool" } do assert(uv.fs_mkdir(folder .. "/" .. name, 448)) end
  helper.write_script(folder .. "/bin/parley", ([[command=$1; shift
exec '%s' "$command" --executable '%s' --cwd '%s' "$@"]]):format(helper.host, kit.executable, kit.cwd))
  local recipe = assert(assert(files.read "scripts/README.md"):match "A Slurm array:\n\n```sh\n(.-)```")
  helper.write(folder .. "/array.sh", recipe, "700")
  local values = { HOST = uv.os_gethostname(), FOLDER = folder, USER = user_name(), PORT1 = tostring(free_port()),
    PORT2 = tostring(free_port()) }
  helper.write(folder .. "/slurm.conf", (CONFIGURATION:gsub("%%(%w+)%%", values)))
  helper.write(folder .. "/munge.key", uv.random(1024))
  return helper.environment(kit.environment, { PATH = folder .. "/bin:/usr/bin:/bin", HOME = kit.home, TERM = "dumb",
    SLURM_CONF = folder .. "/slurm.conf" })
end

--- A question of a shard that none of the others is of.
local function question_of(other)
  for i = 1, COUNT do
    local shard = batch.shard_of("q" .. i, TASKS)
    if shard ~= other then return i, shard end
  end
end

--- The process of a task: it is parley itself, for the shell has made way, and says so in the claim on its output.
local function pid_of_task(folder, index)
  for _, name in ipairs(files.names(folder)) do
    local pid = name:match("^part%-" .. index .. "%.jsonl%.lock%-.*%-(%d+)%-%d+$")
    if pid then return tonumber(pid) end
  end
  error("nobody writes part " .. index, 0)
end

--- The results by id; each is there once, and none of them has failed.
local function results_in(folder)
  local found, count = {}, 0
  for i = 1, TASKS do
    for _, result in ipairs(helper.json_lines(files.read(("%s/part-%d.jsonl"):format(folder, i)))) do
      assert(result.verdict == "success", result.id .. " has failed")
      assert(not found[result.id], result.id .. " has two results")
      found[result.id], count = result, count + 1
    end
  end
  return found, count
end

local function run(kit, questions, shards)
  local folder, environment = kit.folder, set_up(kit)
  local cluster = setmetatable({ folder = folder, environment = environment }, Cluster)
  local paths = {}
  for i, name in ipairs(DAEMONS) do paths[i] = find(name) end
  local function start(...)
    return helper.start({ ... }, { env = environment, cwd = folder })
  end
  local _ <close> = ending(start(paths[1], "--foreground", "--force", "--key-file=" .. folder .. "/munge.key",
    "--socket=" .. folder .. "/munge.socket", "--pid-file=" .. folder .. "/munged.pid", "--log-file=" .. folder
    .. "/munged.log", "--seed-file=" .. folder .. "/munge.seed"))
  helper.eventually(function() return uv.fs_stat(folder .. "/munge.socket") end, PATIENCE_MS, "munged's socket")
  local _ <close> = ending(start(paths[2], "-D", "-c"))
  local _ <close> = ending(start(paths[3], "-D", "-N", "one"))
  cluster:wait_for("a node that is idle", function()
    return cluster:command("sinfo", "-h", "-o", "%T"):find "^idle"
  end)
  local version = cluster:command("sinfo", "--version"):match "%S+%s+(%S+)"
  say("slurm %s, a node with 16 processors, as %s", version, user_name())

  local _ <close> = cluster
  local began = task.now()
  local job = cluster:command("sbatch", "array.sh"):match "%d+"
  cluster:wait_for("the end of all tasks but two", function()
    local states, left = cluster:tasks(), 0
    for _ in pairs(states) do left = left + 1 end
    return left == 2 and states[shards[1]] == "RUNNING" and states[shards[2]] == "RUNNING"
  end)
  local _, before = results_in(folder)
  say("%d tasks of %d are over after %.1f s, with %d results of %d", TASKS - 2, TASKS, (task.now() - began) / 1000,
    before, COUNT)

  local function state_of(name) return cluster:command("scontrol", "show", "job", name):match "JobState=(%S+)" end
  --- Strikes a task and has it run again: at once, and not after the two minutes that Slurm gives a node to recover.
  local function again(shard, strike)
    local name, struck = job .. "_" .. shard, task.now()
    strike(name)
    cluster:command("scontrol", "requeue", name)
    cluster:wait_for("a requeued task", function() return state_of(name) == "PENDING" end)
    cluster:command("scontrol", "update", "JobId=" .. name, "StartTime=now+3seconds")
    cluster:wait_for("the end of task " .. shard, function() return not cluster:tasks()[shard] end)
    local state = state_of(name)
    assert(state == "COMPLETED", ("task %d is %s\n%s"):format(shard, state,
      files.read(("%s/slurm-%s_%d.out"):format(folder, job, shard))))
    return (task.now() - struck) / 1000
  end

  local killed_s = again(shards[1], function(name)
    uv.kill(pid_of_task(folder, shards[1]), "sigkill") -- as the kernel does where memory is short
    cluster:wait_for("a failed task", function() return state_of(name) == "FAILED" end)
  end)
  say("task %d was killed (SIGKILL) and requeued: over %.1f s later", shards[1], killed_s)
  local requeued_s = again(shards[2], function() end)
  say("task %d was requeued while it ran (SIGTERM): over %.1f s later", shards[2], requeued_s)

  local found, count = results_in(folder)
  assert(count == COUNT, ("%d results of %d"):format(count, COUNT))
  local asked = {}
  for _, text in ipairs(kit:taken()) do asked[text] = (asked[text] or 0) + 1 end
  local twice = 0
  for i = 1, COUNT do
    local times, is_struck = asked["question " .. i .. "."], i == questions[1] or i == questions[2]
    local shard = batch.shard_of("q" .. i, TASKS)
    local may_be_again = shard == shards[1] or shard == shards[2]
    assert(is_struck and times == 2 or times == 1 or may_be_again and times == 2, "question " .. i)
    assert(found["q" .. i])
    if times == 2 then twice = twice + 1 end
  end
  local left = 0
  for _, event in ipairs(kit:events "started") do left = left + (helper.has_ended(event.pid) and 0 or 1) end
  assert(left == 0, left .. " programs are left")
  say("%d results of %d, each once, none failed; %d questions were asked a second time; no program is left", count,
    COUNT, twice)
end

local first, first_shard = question_of()
local second, second_shard = question_of(first_shard)
local hanging = {}
for i, question in ipairs { first, second } do
  hanging[i] = { on = ("question %d."):format(question), hang = true, times = 1 }
end
local kit <close> = testing.kit { script = { answers = hanging } }
run(kit, { first, second }, { first_shard, second_shard })
return 0
