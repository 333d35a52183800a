--- One `claude` on a pseudo-terminal: the bottom layer. It starts the program, writes keys, keeps what the terminal
--- shows and has received, and ends the program. What any of it means is decided above.
local uv = require "luv"
local clock = require "parley.base.clock"
local core = require "parley.core"
local defer = require "parley.base.defer"
local editor = require "parley.claude.editor"
local errors = require "parley.base.errors"
local last_bytes = require "parley.base.last_bytes"
local kernel = require "parley.claude.kernel"
local launch = require "parley.claude.launch"
local mark = require "parley.base.mark"
local options = require "parley.base.options"
local outbox = require "parley.claude.outbox"
local paths = require "parley.claude.paths"
local tables = require "parley.base.tables"
local task = require "parley.base.task"

local M = {}

---@class parley.ExitRecord
---@field exit_code? integer
---@field signal? string       `"SIGKILL"`
---@field not_started? true    the process never ran

---@class parley.Process
---@field argv string[]
---@field session_id string   of the session that runs in it, the resumed one in resume mode
---@field environment table<string, string>
---@field permission_mode string
---@field cwd string          a real path
---@field screen parley.Screen
---@field changed parley.Condition  notified at every output and at the exit
---@field editor? parley.Editor  the program's, while it runs
---@field without_editor? string  why there is none
---@field received integer    bytes of output up to now
---@field package watchers table<fun(bytes?: string, received?: integer), true>
local Process = {}
Process.__index = Process
Process.__name = "parley.Process"

--- Makes a process that is not started yet.
---@param given table  see `parley.launch`; `capture_limit` is in bytes
---@return parley.Process
--- Raises `ValueError` for bad options.
function M.new(given)
  local set = launch.check(given)
  launch.check_files(set, "parley.process")
  launch.check_environment(set, "parley.process")
  local size = set.dimensions
  return setmetatable({
    set = set,
    argv = launch.argv(set),
    environment = launch.environment(set),
    permission_mode = set.dangerously_skip_permissions and "bypassPermissions" or set.permission_mode,
    session_id = set.session_id or set.resume_session_id,
    cwd = paths.real_folder(set.cwd),
    screen = core.screen.new(size.rows, size.columns),
    changed = task.condition(),
    captured = last_bytes.new(set.capture_limit),
    received = 0,
    watchers = {},
  }, Process)
end

--- Changes how the program will be started.
---@param changes {permission_mode?: string, arguments?: string[], variables?: table<string, string>, message?: string}
function Process:prepare(changes)
  local set = self.set
  set.message = changes.message or set.message
  if changes.permission_mode then
    set.permission_mode, set.dangerously_skip_permissions = changes.permission_mode, false
    self.permission_mode = changes.permission_mode
  end
  local extra = table.move(set.extra_args or {}, 1, #(set.extra_args or {}), 1, {})
  set.extra_args = table.move(changes.arguments or {}, 1, #(changes.arguments or {}), #extra + 1, extra)
  self.argv = launch.argv(set)
  for name, value in pairs(changes.variables or {}) do self.environment[name] = value end
end

local function check(what, value, kind)
  if options.is_of(value, kind) then return end
  error(errors.value_error(("%s must be a value of type %s, not %s"):format(what, kind, options.describe(value))), 0)
end

--- The environment as a list, with the mark of this process and its editor.
local function marked_list(self)
  local own = { [mark.VARIABLE] = self.mark, VISUAL = self.editor and self.editor.visual }
  return tables.assignments(tables.merged(self.environment, own))
end

--- A name with a slash means the same file from the child's working directory as from here.
local function absolute(executable)
  if executable:find "/" and executable:sub(1, 1) ~= "/" then return uv.cwd() .. "/" .. executable end
  return executable
end

local function close_handle(handle)
  if handle and not handle:is_closing() then handle:close() end
end

local function take(self, bytes)
  self.captured:add(bytes)
  self.screen:feed(bytes)
  self.received = self.received + #bytes
  for watcher in pairs(self.watchers) do watcher(bytes, self.received) end
  local replies = self.screen:replies()
  if replies ~= "" and not self.outbox.is_closed then self.outbox:reply(replies) end
end

local function on_output(self, problem, bytes)
  if bytes then
    take(self, bytes)
  else -- Linux reports EIO when the last descriptor of the child's side is closed
    self.output_ended = problem or "EOF"
    close_handle(self.pipe)
    self.outbox:close "the terminal is closed"
    -- libuv takes the hang-up for the end, though the kernel hands out at most 4 kB at once and may have more.
    for rest in function() return (self.pty:read()) end do take(self, rest) end
  end
  self.changed:notify()
end

--- Looks whether the child has ended; called at SIGCHLD.
local function reap(self)
  local record = self.pty:poll_exit()
  if not record then return end
  close_handle(self.child_signal)
  if self.exit then return end -- it was killed by `discard`, which did not wait
  self.exit = record
  if self.ending then self:discard() end
  self.changed:notify()
end

local function spawn(self)
  local problem
  self.mark, problem = kernel.mark()
  if not self.mark then return nil, problem end
  local rows, columns = self.screen:size()
  return kernel.spawn {
    argv = { absolute(self.argv[1]), table.unpack(self.argv, 2) },
    env = marked_list(self), cwd = self.cwd, rows = rows, columns = columns,
  }
end

local function close_editor(self)
  if self.editor then self.editor:close() end
  self.editor = nil
end

local function serve(self)
  if self.editor then self.editor:serve(self.pty:pid()) end
end

local NO_SUCH_PROGRAM = { ENOENT = true, ENOTDIR = true }

--- Starts the program.
--- Raises `CLINotFoundError` when there is no such program, `SessionError` (reason `"start"`) when it is there and
--- cannot start.
function Process:start()
  if self.pty then error(errors.session_error("the process was started already", { reason = "start" }), 0) end
  self.editor, self.without_editor = editor.new(self.environment, function() self.changed:notify() end)
  local pty, err = spawn(self)
  if not pty then
    close_editor(self)
    if err.step == "exec" and NO_SUCH_PROGRAM[err.code] then
      error(errors.cli_not_found_error(("cannot run '%s': no such program (is it installed, and on PATH?)"):format(
        self.argv[1]), { executable = self.argv[1], cause = err }), 0)
    end
    error(errors.session_error("the program did not start: " .. err.message,
      { reason = "start", executable = self.argv[1], cause = err }), 0)
  end
  self.pty = pty
  local served, why = pcall(serve, self)
  if not served then
    close_editor(self)
    self.without_editor = errors.text(why)
  end
  self.outbox = outbox.new(pty, function() self.changed:notify() end)
  self.child_signal = kernel.on_child_end(function() reap(self) end)
  self.pipe = kernel.read(pty, function(problem, bytes) on_output(self, problem, bytes) end)
  reap(self)
end

---@return boolean
function Process:is_alive() return self.pty ~= nil and self.exit == nil end

--- The process id, or nil when it was not started.
---@return integer?
function Process:pid() return self.pty and self.pty:pid() end

--- How it ended, or nil while it runs or when it was not started.
---@return parley.ExitRecord?
function Process:exit_record() return self.exit end

local function fail_to_write(self, problem)
  error(errors.session_error("cannot write to the terminal: " .. problem,
    { reason = "exit", exit = self.exit, screen = self.screen:text() }), 0)
end

--- Writes bytes to the terminal, as if typed, and waits until the kernel has taken them. What it has not taken when the
--- wait ends early (`wait` raises or says so, the task is cancelled) is never written; a paste that is cut off is
--- closed, so that nothing joins what is written next.
---@param bytes string
---@param wait? fun(gone: integer): boolean?  waits for a change while the terminal takes no more, of which `gone` bytes
---                                           were taken; `false` gives up. Default: waits for `changed`
---@return boolean written  false when `wait` gave up
--- Raises `SessionError` (reason `"exit"`) when the program is gone.
function Process:write(bytes, wait)
  check("the bytes to write", bytes, "string")
  if not self:is_alive() or self.outbox.is_closed then fail_to_write(self, "the process does not run") end
  local letter = self.outbox:send(bytes)
  local _ <close> = defer(function() self.outbox:take_back(letter) end)
  while not self.outbox:is_gone(letter) do
    if letter.problem then fail_to_write(self, letter.problem) end
    if not self:is_alive() then fail_to_write(self, "the process does not run") end
    if not wait then
      self.changed:wait()
    elseif wait(letter.gone) == false then
      return false
    end
  end
  return true
end

--- The last bytes that the terminal received, at most `capture_limit`.
---@return string
function Process:captured_output() return self.captured:text() end

--- Calls with each piece of output, once the screen and `received` have it, and with nothing after a change of size.
---@param watcher fun(bytes?: string, received?: integer)  does not wait; `received`: with these bytes
---@return fun() stop
function Process:watch(watcher)
  self.watchers[watcher] = true
  return function() self.watchers[watcher] = nil end
end

---@param rows integer
---@param columns integer
function Process:resize(rows, columns)
  for _, size in ipairs { rows or 0, columns or 0 } do
    if math.type(size) ~= "integer" or size < 1 or size > 1000 then
      error(errors.value_error("rows and columns must be whole numbers from 1 to 1000, not "
        .. options.describe(size)), 0)
    end
  end
  self.screen:resize(rows, columns)
  for watcher in pairs(self.watchers) do watcher() end
  if self:is_alive() then self.pty:resize(rows, columns) end
end

--- Sends a signal to the program's process group; without effect when it has ended.
---@param signal string  `"SIGINT"`
function Process:signal(signal)
  check("a signal", signal, "string")
  if not self:is_alive() then return end
  local ok, problem = pcall(self.pty.signal, self.pty, signal)
  if ok then return end
  error(errors.value_error("no signal is sent: " .. (errors.text(problem):match "%((.*)%)$" or problem)), 0)
end

local function wait_for_exit(self, milliseconds)
  return self.changed:wait_until(function() return self.exit end, milliseconds) ~= nil
end

--- Waits until all that the program wrote has been read: for the last screen of one that has ended.
---@param milliseconds number  at most so long, for a grandchild may hold the terminal open
function Process:drain(milliseconds)
  check("the time to wait", milliseconds, "milliseconds")
  self.changed:wait_until(function() return not self.pipe or self.output_ended or self.is_discarded end, milliseconds)
end

--- How long what the program's tools have started may take to end, and how often that is looked at: the kernel tells
--- nobody of the end of a process that is not its child.
local LEFT_OVER_MS, LOOK_MS = 500, 10

--- What the program has started, and what that has; it itself is not among them.
local function left_over(self)
  return kernel.descendants(self.exit and {} or { self.pty:pid() }, self.mark)
end

--- Sends a signal to all that is left over, until nothing is or the time is up.
local function signal_left_over(self, left, signal)
  left = kernel.signal(left, signal)
  local deadline = clock.now() + LEFT_OVER_MS
  while left[1] and clock.now() < deadline do
    task.sleep(LOOK_MS)
    left = kernel.alive(left)
    if not left[1] then left = left_over(self) end -- one that was started meanwhile
  end
  return left
end

--- Ends what the program has left behind: what was known before its end, and what carries its mark.
local function end_left_over(self, known)
  local left, is_listed = left_over(self), {}
  for _, one in ipairs(left) do is_listed[one.pid] = true end
  for _, one in ipairs(known) do
    if not is_listed[one.pid] then table.insert(left, one) end
  end
  left = signal_left_over(self, left, "sigterm")
  signal_left_over(self, left, "sigkill")
end

--- Lets go of the program, which is killed if it still runs, and of its terminal.
local function let_go(self)
  self.is_discarded = true
  close_handle(self.pipe)
  self.outbox:close "the process does not run"
  close_editor(self)
  if self.ending then self.ending:close() end
  if self.pty:close() then close_handle(self.child_signal) end -- or it is reaped at SIGCHLD
  self.exit = self.exit or self.pty:poll_exit() or { signal = "SIGKILL" }
  self.changed:notify()
end

--- Ends the program: SIGTERM, a grace time, SIGKILL; reaps it and closes the terminal. What its tools have started and
--- it has left behind is ended too. A second call gives the same answer. A cancellation does not end it half-way. In a
--- libuv callback, which cannot wait, it is `kill`.
---@param grace_ms? number  default 2000
---@return parley.ExitRecord? exit  nil in a libuv callback, while the program still runs
function Process:close(grace_ms)
  if grace_ms then check("the grace time", grace_ms, "milliseconds") end
  if not self.pty then return { not_started = true } end
  if self.is_discarded then return self.exit end
  return task.wherever(function()
    local known = self.known or {}
    if not self.exit then -- one that dropped the mark can be told only while its parent lives
      for _, one in ipairs(left_over(self)) do table.insert(known, one) end
      self.pty:signal "SIGTERM"
      if not wait_for_exit(self, grace_ms or 2000) then
        self.pty:signal "SIGKILL"
        wait_for_exit(self, 5000)
      end
    end
    end_left_over(self, known)
    self:drain(50)
    if not self.is_discarded then let_go(self) end
    return self.exit
  end, function()
    self:kill(grace_ms)
    return self.exit
  end)
end

--- Ends the program as `close` does, without waiting for it.
---@param grace_ms? number  default 2000
function Process:kill(grace_ms)
  if not self.pty then return end
  if self.exit then return self:discard() end
  if self.ending then return end
  self.known = left_over(self)
  self.pty:signal "SIGTERM"
  self.ending = clock.after(grace_ms or 2000, function() self:discard() end)
end

--- Closes the terminal at once, killing the program if it still runs, and what it has started. For callers that cannot
--- wait.
function Process:discard()
  if not self.pty or self.is_discarded then return end
  local left = left_over(self)
  let_go(self)
  kernel.signal(self.known or {}, "sigkill")
  kernel.signal(left, "sigkill")
end

Process.__close = function(self) self:close() end
Process.terminate = Process.close -- its name for those who wrote to it before

return M
