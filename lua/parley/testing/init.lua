--- The test kit: run specs as tasks, wait without sleeping, find leaks, and drive a simulated `claude`.
---
---     local testing = require "parley.testing"
---
---     describe("my routing", function()
---       it("answers", testing.task(function()
---         local kit <close> = testing.kit { script = { answers = { { on = "weather", text = "sunny" } } } }
---         local backend <close> = parley.backend(kit.options)
---         …
---         assert.same({ "how is the weather?" }, kit:taken())
---       end))
---     end)
---
--- A *script* says how the stand-in behaves: a table, or the path of a Lua file that returns one (or a function that
--- makes one). Its functions must not use locals around them. What means nothing is a `ValueError` before anything
--- starts. All fields are optional:
---
---     profile = "2.1.330"        -- or "2.1.197", "2.1.110", "2.1.50"
---     profile_changes = {}       -- facts of the profile to replace (stand_in/profiles.lua lists them)
---     startup_delay_ms = 420     -- until keys are taken; the kit's default is 20
---     flush_ms = 100             -- from a record to the transcript; the kit's default is 5
---     connect_delay_ms = 300     -- from then until MCP servers over HTTP are connected; the kit's default is 5
---     initial_prompt = "begin"   -- what it has been told to begin with, by an agent of the user's
---     notification_ms = 6000     -- from a permission prompt to the Notification hook
---     start_dialogs = { … }      -- more dialogs at the start, each as `dialog` below, with
---                                -- `exit_on = { ["Leave"] = 1 }`: the answers that end the program, and its status
---     answers = { … }            -- the first that fits answers
---     commands = { deploy = { text = "…", arguments = { "where" } } }  -- of the user's own: the model gets the text
---     faults = {
---       lose_keys = 1,           -- so many keys after the start are lost
---       lose_editor = 1,         -- so often Ctrl-G opens no editor
---       lose_returns = 1,        -- so many Returns are swallowed; the text stays in the composer
---       late_flush_ms = 500,     -- added to flush_ms
---       late_status_ms = 40,     -- from the last record of a turn until the status says so
---       late_redraw_ms = 2500,   -- from the end of the editor until the screen shows what it has left
---       dialog_ms = 300,         -- a dialog comes up by itself, so long after the start
---       dialog_at_return = true, -- or just before the first Return, which answers it
---       list_at_return = true,   -- the list of commands pops up just before the first Return, which chooses from it
---       never_ready = true,      -- nothing is ever shown
---       startup_exit = { text = "…", status = 1 },
---       drop_hooks_ms = 50,      -- what is called over HTTP is not waited for longer
---       no_attachments = true,   -- pictures that a message mentions are not attached
---       no_auto_check = true,    -- the API does not check what auto mode has it check: a dialog says so at a call
---       no_telemetry = true,     -- nothing is told of API requests, whatever the environment says
---       ignore_sigterm = true, survive_hangup = true, stop_reading = true,
---     }
---
--- An answer is for the messages that `on` fits: a plain substring, or `function(text, turn_number)`; without it, for
--- every message. `times` says how often it may be used, by all processes of the kit together. What the model says:
--- `text`, `thinking`, `blocks` (as in the Messages API), `tool` or `tools` (`{name, input, result, is_error,
--- duration_ms, permission, ask_after_ms, question, leaves, enters, works_ms}`; `permission = true` has the program
--- ask whether it may run, `ask_after_ms` after the call, in every permission mode, though the real one asks nothing in
--- `bypassPermissions`: `kit.options.permission_mode = "default"` goes with it; `question` is `{text, choices}`, with
--- `several = true` where it takes several answers, and with `previews`, a list of what stands beside each choice; a
--- tool of an MCP server, by the server's name for it or the whole one, is really called, and its result counts;
--- `leaves` is a shell command that is really run and may leave something running; `enters` is a folder below its
--- first one in which the program works from then on, as when the model enters a worktree, or "" as when it leaves one;
--- with `works_ms` the call starts a sub-agent in the background, with the names `Skill` and `Workflow` a skill that is
--- one or a workflow of such, which reports `result` so long after it) with `after` (the text that follows the
--- results), `stop_reason`, `empty`; when: `delay_ms`, `block_delay_ms`, `line_ms`; `breaks_off`: the text of an
--- attempt before, whose connection ends in the middle; `dialog` (`{title, lines, choices, selected, numbered, footer,
--- waiting_for, untold}`; `untold`: the status file does not tell of it) is asked first; `elicitation` (`{server,
--- message, fields}`): a server asks first; `compacts`: the program compacts the conversation first;
--- `compaction_fails`: it tries to, and the turn ends; `cut_behind_calls`:
--- the connection ends behind the calls, which run all the same. Or `steps`, a list of such, one API message each. An
--- answer that says nothing for the model echoes.
---
--- For the whole turn: `api_error` (`{status, text, error, retries, retry_ms}`; without a status it is one of the
--- program's own, as "Not logged in · Please run /login" with the error "authentication_failed"; a `/compact` that it
--- fits fails with its text, at once), `retries` and `retry_ms` (shown, then the answer), `own_turn` (`{text, after_ms,
--- status}`: a turn that the program starts afterwards by itself), `behind` (`{tasks, crons}`: of how many of each its
--- Stop hooks are told), `fork` (`{text, after_ms}`: a command that it fits is a skill with `context: fork`, whose
--- sub-agent says that), `hang`, `crash` (`"before_record"`, `"after_user"`, `"mid_line"`, `"during_tool"`,
--- `"after_answer"`) with `crash_status` (default: SIGKILL), `half_line_ms` (a pause inside the last line), `reorder`
--- (the answer and its end before the message), `omit_turn_duration`.
---
--- Without an answer that fits, these words in a message pick one: USETOOL TWOTOOLS SLOWTOOL TOUCH AGENT THINK EMPTY
--- SLOW DRIP LONG CUT COUNT MAXTOK REFUSE STOPSEQ PAUSE ERR400 ERR401 ERR413 ERR429 ERR500 ERR529 NOLOGIN USAGELIMIT.
--- Any other message gets `echo: ` and itself.
local uv = require "luv"
local core = require "parley.core"
local defer = require "parley.base.defer"
local descendants = require "parley.base.descendants"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local home = require "parley.testing.home"
local mark = require "parley.base.mark"
local option_rules = require "parley.base.options"
local task = require "parley.base.task"
local configuration = require "parley.testing.stand_in.configuration"
local log = require "parley.testing.stand_in.log"
local profiles = require "parley.testing.stand_in.profiles"
local script_of = require "parley.testing.script"
local source = require "parley.testing.source"
local tables = require "parley.base.tables"
local terminal = require "parley.testing.terminal"
local world = require "parley.testing.world"

local M = { world = world.new }

local POLL_MS = 3
local DEFAULT_TIMEOUT_MS = 20000

local TASK_RULES = { timeout_ms = { type = "milliseconds", default = DEFAULT_TIMEOUT_MS } }

local function check(what, value, kind)
  local is_there = value ~= nil or not kind:find " or nothing"
  if not is_there or option_rules.is_of(value, (kind:gsub(" or nothing", ""))) then return end
  error(errors.value_error(("%s takes a %s, not %s"):format(what, kind, option_rules.describe(value))), 0)
end

--- Wraps a function for busted's `it`: it runs as a task, with a deadline, and raises the error object unchanged.
---@param fn fun()
---@param options? {timeout_ms?: number}  default 20000
---@return fun()
function M.task(fn, options)
  check("testing.task", fn, "function")
  options = option_rules.check(TASK_RULES, options, "testing.task")
  return function() task.run(task.timeout, options.timeout_ms, fn) end
end

--- Waits until a predicate gives a true value.
---@param predicate fun(): any
---@param timeout_ms? number  default 20000
---@param what? string        what is waited for, for the message
---@return any value  what the predicate gave
--- Raises an error with code `ETIMEDOUT` that says what did not happen.
function M.eventually(predicate, timeout_ms, what)
  check("testing.eventually", predicate, "function")
  check("testing.eventually", timeout_ms, "number or nothing")
  local deadline = task.now() + (timeout_ms or DEFAULT_TIMEOUT_MS)
  while true do
    local value = predicate()
    if value then return value end
    if task.now() >= deadline then
      error(errors.new("ETIMEDOUT", ("%s did not happen within %g ms"):format(what or "what the spec waits for",
        timeout_ms or DEFAULT_TIMEOUT_MS)), 0)
    end
    task.sleep(POLL_MS)
  end
end

-- Leaks ---------------------------------------------------------------------------------------------------------------

local function open_descriptors()
  local descriptors = {}
  for _, name in ipairs(files.names "/proc/self/fd") do
    local target = uv.fs_readlink("/proc/self/fd/" .. name)
    if target then descriptors[name .. " " .. target] = true end
  end
  return descriptors
end

--- The fields of /proc/PID/stat behind the name: state, parent, …
local function process_facts(pid)
  local stat = files.read(("/proc/%s/stat"):format(pid))
  local state, parent = (stat or ""):match "%) (%a) (%d+)"
  return state, tonumber(parent)
end

--- The children of this process. Not every kernel lists those of a thread; the main one alone starts programs.
local function children()
  local found, own = {}, uv.os_getpid()
  local listed = files.read(("/proc/self/task/%d/children"):format(own)) or table.concat(files.names "/proc", " ")
  for pid in listed:gmatch "%f[%w]%d+%f[%s\0]" do
    local state, parent = process_facts(pid)
    if parent == own then found[("%s (%s)"):format(pid, state)] = true end
  end
  return found
end

local function live_handles()
  local handles = {}
  uv.walk(function(handle)
    if not handle:is_closing() then handles[tostring(handle)] = true end
  end)
  return handles
end

---@class parley.testing.Leaks
local Leaks = {}
Leaks.__index = Leaks

local has_watched = false

--- libuv opens its inotify descriptor at the first watch and keeps it: no leak of whoever comes first.
local function watch_once()
  if has_watched then return end
  has_watched = true
  local watch <close> = task.closing(uv.new_fs_event())
  watch.handle:start("/", {}, function() end)
end

--- Takes stock of what this process holds: open descriptors, children (zombies too), luv handles. For `before_each`.
---@return parley.testing.Leaks
function M.leaks()
  watch_once()
  mark.guard() -- the first session would start it, and it is kept
  return setmetatable({ descriptors = open_descriptors(), children = children(), handles = live_handles() }, Leaks)
end

local function added(kind, before, after, list)
  for name in pairs(after) do
    if not before[name] then table.insert(list, kind .. " " .. name) end
  end
end

--- What has been added since.
---@return string[] found  one line each, sorted; empty when nothing leaked
function Leaks:found()
  uv.run "nowait" -- handles closed last still report it
  local list = {}
  added("descriptor", self.descriptors, open_descriptors(), list)
  added("child", self.children, children(), list)
  added("handle", self.handles, live_handles(), list)
  table.sort(list)
  return list
end

--- A child that was killed a moment ago is reaped when the kernel tells of its death, and so long that may take.
local REAP_MS, LOOK_MS = 5000, 10

local function has_child(list)
  for _, line in ipairs(list) do
    if line:find "^child" then return true end
  end
  return false
end

--- Raises an error that names what leaked, if anything did. For `after_each`.
function Leaks:check()
  local list = self:found()
  for _ = 1, REAP_MS // LOOK_MS do -- it is the kernel's time, whosever the clock is
    if not has_child(list) then break end
    uv.sleep(LOOK_MS)
    list = self:found()
  end
  if list[1] then error(errors.new("Leak", "left behind: " .. table.concat(list, "; "), { found = list }), 0) end
end

-- The kit -------------------------------------------------------------------------------------------------------------

---@class parley.testing.Kit
---@field home string        a private HOME, with every start-up dialog answered unless told otherwise
---@field cwd string         a working directory
---@field executable string  a program that is `claude`, as far as anybody can tell
---@field options table      for parley.backend and parley.process: executable, cwd, extra_env
---@field environment table<string, string>  what the executable needs, HOME among it
---@field log_path string
local Kit = {}
Kit.__index = Kit
Kit.__name = "parley.testing.Kit"

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

--- What the kit says where a script says nothing.
local DEFAULTS = { startup_delay_ms = 20, flush_ms = 5, connect_delay_ms = 5 }

--- The source of a script with the kit's defaults.
local function complete(script)
  if type(script) == "table" then
    script_of.check(script)
    return "return " .. source.of(tables.merged(DEFAULTS, script))
  end
  script_of.load(script)
  return ("return require('parley.base.tables').merged(%s, require('parley.testing.script').load(%q))"):format(
    source.of(DEFAULTS), assert(uv.fs_realpath(script)))
end

local RULES = option_rules.merge(home.RULES, {
  script = { type = { "table", "string" }, copy = false },
  profile = { type = "string", check = option_rules.one_of(profiles.versions) },
})

--- Makes a simulated `claude` with a home of its own.
---@param given? {script?: table|string, profile?: string, trusted?: boolean, onboarded?: boolean,
---       bypass_accepted?: boolean, settings?: table, cwd?: string, extra_env?: table<string, string>}
---       `script` is a table or the path of a Lua file; `trusted`, `onboarded` and `bypass_accepted` are true unless
---       said otherwise; `settings` go to CONFIG/settings.json; `cwd` is the name of the working directory;
---       `extra_env` are further variables, but for those that the kit sets itself
---@return parley.testing.Kit
--- Raises `ValueError` for bad options and scripts, and outside of the host, which is what the stand-in runs on.
function M.kit(given)
  if not package.loaded["parley.bundle"] then
    error(errors.value_error "the simulated claude needs parley: run this with `parley test` or `parley SCRIPT`", 0)
  end
  given = option_rules.check(RULES, given, "testing.kit")
  local folder = assert(uv.fs_realpath(files.temporary_folder "parley-kit"))
  local _ <close> = defer(function(err)
    if err then files.remove_tree(folder) end
  end)
  local kit = setmetatable({ folder = folder, executable = folder .. "/claude", log_path = folder .. "/log.jsonl",
    script_path = folder .. "/script.lua" }, Kit)
  home.prepare(kit, given)
  kit.environment.PARLEY_STAND_IN_LOG = kit.log_path
  kit.options = { executable = kit.executable, cwd = kit.cwd, extra_env = kit.environment }
  kit:use(given.script or {}, given.profile)
  return kit
end

--- Gives the stand-in another script. Processes that run keep theirs.
---@param script table|string  a table, or the path of a Lua file
---@param profile? string
--- Raises `ValueError` for a bad script or profile.
function Kit:use(script, profile)
  option_rules.check({ script = RULES.script, profile = RULES.profile }, { script = script, profile = profile },
    "Kit:use")
  if script == nil then error(errors.value_error "Kit:use takes a script, not nothing", 0) end
  local text = complete(script)
  self.scripts = (self.scripts or 0) + 1
  local uses = ("%s/uses-%d"):format(self.folder, self.scripts)
  assert(files.make_folder(uses))
  files.write(self.script_path, text, true)
  local words = { "exec", quote(uv.exepath()), "stand-in", "--script", quote(self.script_path) }
  if profile then table.move({ "--profile", quote(profile) }, 1, 2, #words + 1, words) end
  files.write(self.executable, ('#!/bin/sh\nexport PARLEY_STAND_IN_USES=%s\n%s "$@"\n'):format(quote(uses),
    table.concat(words, " ")), true)
  assert(uv.fs_chmod(self.executable, tonumber("700", 8)))
end

--- Starts the stand-in on a terminal, as a person would. It receives what the spec writes and nothing else: the
--- terminal `is_silent`.
---@param words? string[]  flags of `claude`
---@param options? {rows?: integer, columns?: integer, is_ready?: false}  `is_ready` false does not wait until it is
---@return parley.testing.Terminal
function Kit:terminal(words, options)
  options = options or {}
  local environment = uv.os_environ()
  environment.ANTHROPIC_API_KEY = nil
  for name, value in pairs(self.environment) do environment[name] = value end
  local ready_before = #self:events "ready"
  local opened = terminal.open { argv = { self.executable, table.unpack(words or {}) }, cwd = self.cwd,
    environment = environment, rows = options.rows, columns = options.columns, is_silent = true }
  if options.is_ready ~= false then
    opened:wait_for(function()
      return opened:composer() and #self:events "ready" > ready_before or opened.pty:poll_exit()
    end)
  end
  return opened
end

--- What the stand-ins of this kit have logged: tables with `event`, `pid` and more.
---@param event? string  only these: `"started"`, `"ready"`, `"received"`, `"taken"`, `"command"`, `"deaf"`, `"ended"`
---@return table[]
--- Raises `ValueError` for another one.
function Kit:events(event)
  return log.select(log.read(self.log_path), event, "Kit:events")
end

--- The messages that were taken, in order.
---@return string[]
function Kit:taken()
  local texts = {}
  for index, entry in ipairs(self:events "taken") do texts[index] = entry.text end
  return texts
end

--- Every byte that was received, in order.
---@return string
function Kit:received()
  local pieces = {}
  for index, entry in ipairs(self:events "received") do pieces[index] = entry.bytes end
  return table.concat(pieces)
end

--- Where a session's transcript is.
---@param session_id string
---@return string path
function Kit:transcript_path(session_id)
  return ("%s/.claude/projects/%s/%s.jsonl"):format(self.home, configuration.project_name(self.cwd), session_id)
end

--- The whole lines of a session's transcript, decoded.
---@param session_id string
---@return table[] records
function Kit:transcript(session_id)
  local records = {}
  for line in (files.read(self:transcript_path(session_id)) or ""):gmatch "([^\n]*)\n" do
    table.insert(records, assert(core.json.decode(line)))
  end
  return records
end

--- The stand-ins that still live. One that was not reaped yet is dead.
---@return integer[] pids
function Kit:processes()
  local pids = {}
  for _, entry in ipairs(self:events "started") do
    local born = descendants.started(entry.pid)
    if born and born == entry.born then table.insert(pids, entry.pid) end
  end
  return pids
end

local function kill_all(pids)
  for _, pid in ipairs(pids) do uv.kill(pid, "sigkill") end
end

--- Removes the folders. Raises when a stand-in still lives, after killing it.
function Kit:close()
  if self.is_closed then return end
  self.is_closed = true
  local left = self:processes()
  kill_all(left)
  files.remove_tree(self.folder)
  if left[1] then
    error(errors.new("Leak", "stand-ins left alive: " .. table.concat(left, ", "), { pids = left }), 0)
  end
end

function Kit:__close(err)
  if err == nil then return self:close() end
  pcall(self.close, self) -- what went wrong first is what the spec should report
end

return M
