--- A world with a clock of its own: the simulated `claude` in the same process, on terminals in memory, in a time that
--- jumps to the next thing that happens. What the library does is what it does outside: backend, session, process and
--- transcript do not know. All that is left to chance (what is late, what comes first, what fails) a seed decides, so
--- that what went wrong once goes wrong again.
---
---     it("waits for ten minutes in no time", testing.task(function()
---       local answer = { text = "late", delay_ms = 600000 }
---       local world <close> = testing.world { seed = 7, script = { answers = { answer } } }
---       local backend <close> = parley.backend(world.options)
---       …
---     end))
---
--- Between `testing.world` and its end everything that asks `parley.base.clock` or `parley.claude.kernel` gets the
--- world's answer; a timer that was started before stands still.
local uv = require "luv"
local calls = require "parley.testing.world.calls"
local chance_of = require "parley.testing.world.chance"
local clock = require "parley.base.clock"
local configuration = require "parley.testing.stand_in.configuration"
local core = require "parley.core"
local defer = require "parley.base.defer"
local disk = require "parley.testing.world.disk"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local home = require "parley.testing.home"
local kernel = require "parley.claude.kernel"
local listener = require "parley.hub.listener"
local log = require "parley.testing.stand_in.log"
local mark = require "parley.base.mark"
local options = require "parley.base.options"
local profiles = require "parley.testing.stand_in.profiles"
local program_of = require "parley.testing.world.program"
local script_of = require "parley.testing.script"
local task = require "parley.base.task"
local time_of = require "parley.testing.world.time"

local M = {}

--- Above what Linux gives to processes, so that no signal ever reaches a real one.
local FIRST_PID = 1 << 22

--- What goes wrong by itself, each once in so many times, 0 for never, or a list of the times when it does; and how
--- late things are, in milliseconds.
local CALM = {
  late_ms = 1, disk_late_ms = 1,
  cut = 0,      -- what is read is cut in two
  full = 0,     -- the terminal takes nothing for a moment
  lost = 0,     -- what was typed is lost
  unseen = 0,   -- a change of a file is not told of
  half = 0,     -- a line of the transcript comes in two parts
  torn = 0,     -- or only its first part ever comes
  slow = 0,     -- what was typed is read seconds later
  broken = 0,   -- the connection of a call to this host breaks in the middle
  no_space = 0, -- a file that the library writes finds the disk full
}

local function is_list_of_times(value)
  for _, item in ipairs(type(value) == "table" and value or { 0 }) do
    if math.type(item) ~= "integer" or item < 1 then return false end
  end
  return true
end

local function check_faults(given)
  for name, value in pairs(given) do
    local is_time = name == "late_ms" or name == "disk_late_ms"
    local is_number = options.is_of(value, is_time and "milliseconds" or "integer") and value >= 0
    local problem
    if CALM[name] == nil then
      problem = "is none: there are late_ms, disk_late_ms, cut, full, lost, unseen, half, torn, slow, broken, no_space"
    elseif is_time and not is_number then
      problem = "must be a number, 0 or more"
    elseif not is_number and not is_list_of_times(value) then
      problem = "must be a whole number, 0 or more, or a list such as { 3 } for the third time"
    end
    if problem then return ("a table of faults; '%s' %s"):format(tostring(name), problem) end
  end
end

local RULES = options.merge(home.RULES, {
  seed = { type = "integer", default = 1 }, script = { type = { "table", "function" }, copy = false },
  profile = { type = "string", check = options.one_of(profiles.versions) },
  faults = { type = "table", default = {}, check = check_faults },
  shell = { type = "callable" },
})

---@class parley.testing.World
---@field options table        for parley.backend and parley.process: executable, cwd, extra_env
---@field cwd string
---@field home string
---@field time parley.testing.Time
---@field chance parley.testing.Chance
---@field odds table<string, number>
---@field chances table<string, integer>  how often each could have gone wrong
---@field memory? parley.MemoryPressure  how short memory is; default: not at all
---@field programs parley.testing.WorldProgram[]  all that were started, in order
---@field on_event? fun(record: table)  is told what a stand-in logs
---@field on_typed? fun(program: parley.testing.WorldProgram, bytes: string, seen: integer, at: number)  is told what is
---       typed and taken, how many bytes of the program's the one who types had been shown when that was first tried,
---       and when it was
---@field on_lost? fun(program: parley.testing.WorldProgram, bytes: string)   and what of it is lost
---@field on_full? fun(program: parley.testing.WorldProgram, taken: string)   is told of a terminal that takes nothing
---       for a moment, or only so much
---@field on_torn? fun(program: parley.testing.WorldProgram)  is told of a line that never ends
---@field story table[]        what happened: the time, the program, what, and more about it
---@field calls parley.testing.WorldCalls
---@field package script table|function
---@field package profile? string  that of every program, whatever its script says
---@field package disk parley.testing.Disk
---@field package enqueue fun(task: parley.Task)
local World = {}
World.__index = World
World.__name = "parley.testing.World"

local function new_uuid(chance)
  local high, low = chance:number(), chance:number()
  return ("%08x-%04x-4%03x-a%03x-%06x%06x"):format(high & 0xFFFFFFFF, low & 0xFFFF, low >> 16 & 0xFFF,
    low >> 28 & 0xFFF, high >> 29, chance:number() & 0xFFFFFF)
end

--- Says which task goes next, for `task.schedule_by`.
local function choose(self, ready, first, last)
  local place = first < last and self.chance:between(first, last) or first
  local chosen = ready[place]
  ready[place], ready[first] = ready[first], chosen
  local program = self.by_root[task.root(chosen)]
  if not program then return chosen end
  if program.is_dead then return nil end
  if not program.held then return chosen end
  table.insert(program.held_tasks, chosen)
end

--- The script of the next program, with this command line.
local function script_for(self, words)
  local given = self.script
  if type(given) == "function" then
    given = given(words, #self.programs + 1)
    script_of.check(given)
  end
  local script = { startup_delay_ms = 20, flush_ms = 5 }
  for name, value in pairs(given) do script[name] = value end
  script.profile = self.profile or script.profile or profiles.default
  return script
end

local function spawn(self, given)
  if given.argv[1] ~= self.options.executable then
    return nil, errors.new("ENOENT", "no such file or directory", { step = "exec", executable = given.argv[1] })
  end
  local environment = {}
  for _, entry in ipairs(given.env) do
    local at = entry:find("=", 1, true)
    environment[entry:sub(1, at - 1)] = entry:sub(at + 1)
  end
  local words = { table.unpack(given.argv, 2) }
  local ok, script = pcall(script_for, self, words)
  if not ok then return nil, errors.is(script) and script or errors.new("EINVAL", errors.text(script)) end
  local program = program_of.start(self, { words = words, environment = environment, cwd = given.cwd,
    rows = given.rows, columns = given.columns, pid = FIRST_PID + #self.programs + 1, script = script })
  self.by_root[program.root] = program
  table.insert(self.programs, program)
  self:tell(program, "starts", table.concat(words, " "))
  return program.terminal:pty()
end

--- What `kernel.use` takes.
local function kernel_of(self)
  return {
    mark = function()
      self.marks = (self.marks or 0) + 1
      return "world." .. self.marks
    end,
    spawn = function(given) return spawn(self, given) end,
    new_watch = function() return self.disk:new_watch() end,
    read = function(pty, take) return pty.terminal:read(take) end,
    new_poll = function(pty) return pty.terminal:new_poll() end,
    on_child_end = function(callback)
      local handle = { callback = callback }
      self:opened(handle, "a signal handler")
      table.insert(self.reapers, handle)
      function handle.is_closing() return handle.callback == nil end
      function handle.close()
        handle.callback = nil
        self:closed(handle)
        for place, each in ipairs(self.reapers) do
          if each == handle then table.remove(self.reapers, place) end
        end
      end
      return handle
    end,
    memory_pressure = function() return self.memory or {} end,
    descendants = function() return {} end,
    alive = function() return {} end,
    ask_version = function() return script_for(self, { "--version" }).profile end,
    signal = function() return {} end,
  }
end

local in_use ---@type parley.testing.World?

--- Makes a world and puts it in the place of the one outside.
---@param given? {seed?: integer, script?: table|fun(words: string[], number: integer): table, profile?: string,
---       faults?: table<string, number|integer[]>, trusted?: boolean, onboarded?: boolean, bypass_accepted?: boolean,
---       shell?: function, settings?: table, cwd?: string, extra_env?: table<string, string>}
---       `script` may be a function that gives that of the process with this command line and number, `--version` too;
---       `profile` goes before what a script says; `shell` runs the stand-ins' commands, as a task: `fun(command,
---       input)` returns `status`, `output`, `errors`, `milliseconds`
---@return parley.testing.World
--- Raises `ValueError` for bad options and scripts.
function M.new(given)
  given = options.check(RULES, given, "testing.world")
  if in_use then error(errors.value_error "testing.world: another world has not been closed", 0) end
  local chance = chance_of.new(given.seed)
  local self = setmetatable({ seed = given.seed, chance = chance, time = time_of.new(chance), programs = {},
    by_root = setmetatable({}, { __mode = "k" }), story = {}, log = {}, handles = {}, reapers = {}, problems = {},
    odds = {}, chances = {}, times = {},
    last_lost = {} }, World)
  self.given_shell = given.shell
  for name, value in pairs(CALM) do
    local fault = given.faults[name]
    self.odds[name] = type(fault) == "number" and fault or value
    self.chances[name] = 0
    self.times[name] = {}
    for _, time in ipairs(type(fault) == "table" and fault or {}) do self.times[name][time] = true end
  end
  if type(given.script) == "table" then script_of.check(given.script) end
  local shared = files.is_folder "/dev/shm" and "/dev/shm" or uv.os_tmpdir()
  self.folder, self.passing = mark.folder("world", shared), mark.folder("passing", shared)
  local _ <close> = defer(function(err)
    for _, folder in ipairs(err and { self.folder, self.passing } or {}) do files.remove_tree(folder) end
  end)
  home.prepare(self, given)
  self:use(given.script or {}, given.profile)
  self.options = { executable = self.folder .. "/claude", cwd = self.cwd, extra_env = self.environment }
  self.temporary = os.getenv "TMPDIR"
  uv.os_setenv("TMPDIR", self.passing) -- where a file costs nothing
  self.calls = calls.new(self)
  self.disk = disk.new(self)
  self.disk:open()
  self.time.owner_of = function() return self:acting_program() end
  self.generate = core.uuid.generate
  core.uuid.generate = function() return new_uuid(chance) end -- luacheck: ignore 122
  self.next_chance = math.random(0)
  math.randomseed(given.seed)
  clock.use(self.time:clock())
  kernel.use(kernel_of(self))
  listener.use(function(serving) return self.calls:serve(serving) end)
  self.enqueue = task.schedule_by(function(...) return choose(self, ...) end)
  in_use = self
  return self
end

--- Gives the stand-ins that start from now on another script.
---@param script table|fun(words: string[], number: integer): table
---@param profile? string  goes before what the script says
--- Raises `ValueError` for a bad script or profile.
function World:use(script, profile)
  options.check({ script = RULES.script, profile = RULES.profile }, { script = script, profile = profile },
    "World:use")
  if script == nil then error(errors.value_error "World:use takes a script, not nothing", 0) end
  if type(script) == "table" then script_of.check(script) end
  self.script, self.profile = script, profile
  local path = self.folder .. "/claude"
  files.write(path, "", true) -- another file, as its version is asked for once
  assert(uv.fs_chmod(path, 448)) -- 0700: it is looked for
end

-- For its parts -------------------------------------------------------------------------------------------------------

--- The program whose code runs now.
---@return parley.testing.WorldProgram?
function World:acting_program()
  local current = task.current()
  if current then return self.by_root[task.root(current)] end
  return self.time.acting or nil
end

--- Calls back later, whatever becomes of the programs.
function World:after(milliseconds, callback) return self.time:after(milliseconds, callback, false) end

--- Whether a fault strikes where it could.
---@param name string
---@return boolean
function World:goes_wrong(name)
  local count = self.chances[name] + 1
  self.chances[name] = count
  return self.times[name][count] or self.chance:once_in(self.odds[name])
end

function World:lateness() return self.chance:below(self.odds.late_ms) end
function World:disk_lateness() return self.chance:below(self.odds.disk_late_ms) end

function World:opened(handle, what) self.handles[handle] = what end
function World:closed(handle) self.handles[handle] = nil end

--- Notes what happened.
function World:tell(program, what, more)
  local story = self.story
  story[#story + 1] = { self.time.now, program and program.pid - FIRST_PID or 0, what, more }
end

--- Notes what a stand-in logs.
function World:note(program, record)
  if record.event ~= "received" then self:tell(program, record.event, record.text) end
  record.at, record.program = self.time.now, program
  if self.on_event then self.on_event(record) end
  table.insert(self.log, record)
end

--- Whether what was typed is lost on its way.
function World:loses(program, bytes)
  if not self:goes_wrong "lost" or self.last_lost[program] then
    self.last_lost[program] = nil -- never twice in a row: it would be a broken terminal
    return false
  end
  self.last_lost[program] = true
  self:tell(program, "loses", bytes)
  if self.on_lost then self.on_lost(program, bytes) end
  return true
end

--- Something that no fault excuses.
function World:fail(problem) table.insert(self.problems, problem) end

function World:shell(command, input)
  if self.given_shell then return self.given_shell(command, input) end
  task.sleep(self:lateness())
  return { status = 0, output = "", errors = "", milliseconds = 1 }
end

--- Runs an editor: what the few lines of shell of `parley.claude.editor` do. Any other leaves the file as it is.
---@param program parley.testing.WorldProgram
---@param words string[]
---@return integer status
function World:edit(program, words)
  task.sleep(self:lateness())
  local folder, path = (words[2] or ""):match "^(.*)/editor$", words[3]
  local message = folder and files.read(folder .. "/pid") == tostring(program.pid) and files.read(folder .. "/message")
  if not message then return 0 end
  for _, copy in ipairs { { folder .. "/before", files.read(path) or "" }, { path, message } } do
    files.put(copy[1], copy[2], "w")
    task.sleep(self:lateness())
  end
  files.remove(folder .. "/message")
  self:tell(program, "edits", message)
  return 0
end

function World:program_ended(program)
  self.calls:forget(program)
  self:after(self:lateness(), function()
    for _, handle in ipairs { table.unpack(self.reapers) } do
      if handle.callback then handle.callback() end
    end
  end)
end

-- For specs -----------------------------------------------------------------------------------------------------------

--- What the stand-ins have logged.
---@param event? string  only these: `"started"`, `"ready"`, `"received"`, `"taken"`, `"command"`, `"deaf"`, `"ended"`;
---       and what only a world is told: `"asked"`, `"answered"`, `"returned"`
---@return table[]
--- Raises `ValueError` for another one.
function World:events(event) return log.select(self.log, event, "World:events", true) end

--- The messages that were taken, in order.
---@return string[]
function World:taken()
  local texts = {}
  for index, record in ipairs(self:events "taken") do texts[index] = record.text end
  return texts
end

--- Every byte that was received, in order.
---@return string
function World:received()
  local pieces = {}
  for index, record in ipairs(self:events "received") do pieces[index] = record.bytes end
  return table.concat(pieces)
end

--- The stand-ins that still live.
---@return integer[] pids
function World:processes()
  local pids = {}
  for _, program in ipairs(self.programs) do
    if not program.is_dead then table.insert(pids, program.pid) end
  end
  return pids
end

--- Where a session's transcript is.
---@param session_id string
---@return string path
function World:transcript_path(session_id)
  return ("%s/.claude/projects/%s/%s.jsonl"):format(self.home, configuration.project_name(self.cwd), session_id)
end

--- What happened, a line each, without what differs between two runs of one seed.
---@return string
function World:told()
  local lines = {}
  for index, entry in ipairs(self.story) do
    lines[index] = ("%12.3f  #%d %s%s"):format(entry[1], entry[2], entry[3],
      entry[4] ~= nil and " " .. ("%q"):format(entry[4]) or "")
  end
  local told = table.concat(lines, "\n")
  for _, name in ipairs { self.folder, configuration.project_name(self.folder) } do
    told = told:gsub(name:gsub("%p", "%%%0"), "FOLDER")
  end
  return (told:gsub("/[^%s'\"]*/parley%-(%l+)%-[^%s'\"]*", string.upper)) -- a plugin, an editor
end

--- What nobody closed, or removed: programs, handles, timers, temporary files.
---@return string[]
function World:left()
  local list = {}
  for _, program in ipairs(self.programs) do
    if not program.is_dead then table.insert(list, ("program #%d"):format(program.pid - FIRST_PID)) end
  end
  for _, what in pairs(self.handles) do table.insert(list, what) end
  for _ = 1, self.time:count() do table.insert(list, "a timer") end
  for _, name in ipairs(files.names(self.passing)) do
    local kind = name:match "^parley%-(%l+)%-%x+%-%x+%-" -- of `mark.folder`; others are the programs', or a spec's own
    if kind then table.insert(list, "the files of " .. kind) end
  end
  table.sort(list)
  return list
end

--- Puts the world outside back. Raises when the library has left something behind, or a stand-in has failed.
function World:close()
  if self.is_closed then return end
  self.is_closed, in_use = true, nil
  local left = self:left()
  for _, program in ipairs(self.programs) do program:kill "SIGKILL" end
  task.schedule_by(nil)
  kernel.use()
  listener.use()
  clock.use()
  core.uuid.generate = self.generate -- luacheck: ignore 122
  math.randomseed(self.next_chance)
  self.disk:close()
  if self.temporary then uv.os_setenv("TMPDIR", self.temporary) else uv.os_unsetenv "TMPDIR" end
  files.remove_tree(self.folder)
  files.remove_tree(self.passing)
  if self.problems[1] then error(errors.new("World", table.concat(self.problems, "\n")), 0) end
  if left[1] then error(errors.new("Leak", "left behind: " .. table.concat(left, ", "), { found = left }), 0) end
end

function World:__close(err)
  if err == nil then return self:close() end
  pcall(self.close, self) -- what went wrong first is what the spec should report
  local problems = table.concat(self.problems, "\n")
  if problems == "" then return end -- else it may be what that comes from
  if type(err) == "string" then error(err .. "\n" .. problems, 0) end
  if type(err) == "table" and type(err.message) == "string" then err.message = err.message .. "\n" .. problems end
end

return M
