--- What a session types into and reads from: its process's terminal, with the status file beside it. Whoever waits here
--- is stopped by what ends the wait for all: the program's end, the turn's time, a closed session.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local keys = require "parley.claude.keys"
local paths = require "parley.claude.paths"
local status = require "parley.claude.status"
local tables = require "parley.base.tables"
local tui = require "parley.claude.tui"

local M = {}

--- Under a flood of others' changes the kernel drops what it should tell of ours, and it tells nothing once a folder
--- above was renamed. So whoever waits looks again after so long, though the screen may move all the time. Nobody waits
--- in an idle session.
local LOOK_AGAIN_MS = 1000
--- An ESC that changed nothing for so long (it reached another turn, or a dialog) is pressed again. Not sooner: two
--- presses that find nothing to interrupt open a menu.
local ESCAPE_AGAIN_MS = 1000
--- What a person has left in the composer's place, the transcript's view for one (Ctrl+O), does not go by itself. What
--- stands there for so long gets ESC, then after twice as long, and so on: it may take more than one, and two presses
--- on a composer that was only late open a menu.
local LEFT_OVER_MS = 2000

---@class parley.Guard  what a terminal asks of the session that it belongs to
---@field check fun()                raises when nothing more may be waited for
---@field deadline fun(): number     when that will be, as far as time says; `math.huge`
---@field is_interrupted fun(): boolean  ESC ended, or will end, the turn that runs
---@field is_command fun(): boolean?     one of the program's own commands runs, or is about to
---@field is_before_message fun(): boolean  nothing was sent that was not answered
---@field attend fun(): number?      brings the dialog that is up to its policy; how many ms that took to decide
---@field refusal fun(): string?      why the program may have ended: a dialog was refused
---@field ready fun()                the composer takes a message, so no dialog is up
---@field notice fun(subtype: string, message: string)  reports an event
---@field session_id fun(): string   for errors

---@class parley.Terminal
---@field process parley.Process
---@field has_started boolean         it was ready once
---@field has_editor? boolean         the editor door is there, as far as was seen
---@field editor_problem? string      why it is not, where it could not be made
---@field package readiness table     the policy
---@field package options table       `startup_timeout_ms`, `stall_timeout_ms`, `file_wait_timeout_ms`
---@field package guard parley.Guard
---@field package status_file? parley.Status
---@field package started_at? number  of the process
---@field package version? string     of the program, as far as it has shown
---@field package generation? integer of the screen in `picture`
---@field package picture? table      what a view has of the screen
---@field package looked_at number    when the files were looked at last
---@field package escaped_at number   when ESC was pressed last
local Terminal = {}
Terminal.__index = Terminal
Terminal.__name = "parley.Terminal"

--- Makes the terminal of a process that is not started yet.
---@param given {process: parley.Process, readiness: table, options: table, guard: parley.Guard}  `readiness`: the
---       policy; `options`: `startup_timeout_ms`, `stall_timeout_ms`, `file_wait_timeout_ms`
---@return parley.Terminal
function M.new(given)
  return setmetatable({ process = given.process, readiness = given.readiness, options = given.options,
    guard = given.guard, has_started = false, has_editor = true, looked_at = -math.huge,
    escaped_at = -math.huge }, Terminal)
end

local function watch_status(self, path, is_its_own)
  if self.status_file then self.status_file:close() end
  self.status_file = status.watch(path, function() self.process.changed:notify() end, is_its_own)
end

--- Starts the program. Raises as `process:start`.
function Terminal:start()
  self.started_at = clock.now()
  self.process:start()
  local pid = self.process:pid()
  if pid then watch_status(self, paths.status_file(pid, self.process.environment)) end
end

--- Looks for the program behind a wrapper that has started it, and did not become it (`exec`): its status file has
--- another number, and its editor another parent.
local function look_behind_wrapper(self)
  local process = self.process
  local pid, path = status.find(process:pid(), process.environment, self:session_id())
  if not pid then return end
  watch_status(self, path, true)
  if process.editor then pcall(process.editor.serve, process.editor, pid) end -- else the first long text says so
end

--- What the status file says.
---@return table?
function Terminal:status() return self.status_file and self.status_file.value end

--- When the program last wrote its status, by its own clock.
---@return any  to be compared with another
function Terminal:stamp()
  local current = self:status()
  return current and current.statusUpdatedAt
end

--- Tells of the program's version, where a better witness than the screen was heard.
---@param version string
function Terminal:learn_version(version) self.version = version end

--- What the screen shows now.
local function picture_of(self)
  local screen = self.process.screen
  local generation = screen:generation()
  if generation ~= self.generation then
    local row, column, visible = screen:cursor()
    local rows = screen:rows()
    self.generation = generation
    self.picture = { rows = tui.keep(tui.without_spinner_below(rows)), failure = tui.failure(rows),
      cursor = { row = row, column = column, visible = visible },
      modes = screen:modes(), title = screen:title() }
    self.version = self.version or tui.version(self.picture.rows)
  end
  return self.picture
end

--- What a policy gets to see.
---@return parley.View
function Terminal:view()
  local current, picture = self:status(), picture_of(self)
  return {
    rows = picture.rows, cursor = picture.cursor, modes = picture.modes, title = picture.title,
    columns = select(2, self.process.screen:size()),
    status = current, version = current and current.version or self.version, has_started = self.has_started,
    has_editor = self.has_editor, editor_problem = self.editor_problem, is_command = self.guard.is_command(),
    is_before_message = self.guard.is_before_message(),
    elapsed_ms = self.started_at and clock.now() - self.started_at or 0,
  }
end

--- The program's editor.
---@return parley.Editor
function Terminal:editor() return self.process.editor end

--- Does without the program's editor from now on, and says so.
---@param why string
---@param problem? string  where it could not be made
function Terminal:lose_editor(why, problem)
  self.has_editor, self.editor_problem = false, problem
  self.guard.notice("editor_unavailable", why)
end

--- What the program is doing, by the readiness policy.
---@return "starting"|"ready"|"busy"|"dialog"
function Terminal:state() return self.readiness.state(self:view()) end

--- The same, of a turn that runs: where something covers the composer, which a person has opened meanwhile (Ctrl+O),
--- the program is at rest as soon as its status or its title says so. The next message closes what is there.
---@return "starting"|"ready"|"busy"|"dialog"
function Terminal:turn_state()
  local view = self:view()
  local state = self.readiness.state(view)
  local is_covered = state == "starting" and self.has_started and not tui.composer(view.rows, view.cursor)
  return is_covered and tui.is_at_rest(view.status, view.title) and "ready" or state
end

---@return string
function Terminal:session_id() return self.guard.session_id() end

---@return boolean
function Terminal:is_interrupted() return self.guard.is_interrupted() end

--- Brings the dialog that is up to its policy. Raises `DialogError` when that does not answer it.
---@return number milliseconds  how long the policy took, which is not the program's time
function Terminal:attend() return self.guard.attend() or 0 end

--- Raises an error, with the session and the last screen.
---@param err parley.Error
function Terminal:raise(err)
  err.session_id, err.screen = self:session_id(), self.process.screen:text()
  error(err, 0)
end

--- Raises a `SessionError`.
---@param reason string
---@param message string
---@param fields? table
function Terminal:fail(reason, message, fields)
  self:raise(errors.session_error(message, tables.merged({ reason = reason }, fields)))
end

local function describe_exit(exit)
  if exit.not_started then return "was not started" end
  if exit.signal then return "was ended by " .. exit.signal end
  return ("exited with status %s"):format(exit.exit_code)
end

--- Raises when nothing more may be waited for: the guard says so, the process has ended, or shows how it has failed.
function Terminal:check()
  self.guard.check()
  if self.process:is_alive() then
    local failure = picture_of(self).failure
    if not failure then return end
    self:fail("crash", ("the program has failed in its own code, and does nothing any more: %s"):format(failure))
  end
  self.process:drain(200)
  local exit = self.process:exit_record() or { not_started = true }
  local last_line = ("\n" .. self.process.screen:text()):match ".*\n(.*%S)" or "nothing"
  local refusal = self.guard.refusal()
  self:fail("exit", ("the program %s%s; the last line on its screen: %s"):format(describe_exit(exit),
    refusal and ", as " .. refusal or "", last_line), { exit = exit })
end

--- Waits until something changes. It may be less, and is not beyond the guard's deadline, which `check` reports.
---@param deadline number  at most until then
function Terminal:wait(deadline)
  deadline = math.min(deadline, self.guard.deadline(), clock.now() + LOOK_AGAIN_MS)
  local is_told = self.process.changed:wait(math.max(deadline - clock.now(), 0))
  if not is_told or clock.now() >= self.looked_at + LOOK_AGAIN_MS then self:look() end
end

--- Looks at the status file, of whose changes the kernel may not have told.
function Terminal:look()
  self.looked_at = clock.now()
  if self.status_file then self.status_file:read() end
end

--- Waits until a predicate gives a true value, which is asked at every change. Raises what `check` does.
---@param predicate fun(): any, number?  a second result is a new deadline
---@param milliseconds number  at most so long
---@return any value  what the predicate gave last: false or nil when the time was over
function Terminal:wait_until(predicate, milliseconds)
  local deadline = clock.now() + milliseconds
  while true do
    self:check()
    local value, later = predicate()
    deadline = later or deadline
    if value or clock.now() >= deadline then return value end
    self:wait(deadline)
  end
end

--- How long the program is waited for that shows no sign of life, and the option that says so.
local function patience_of(self)
  local option = self.has_started and "stall_timeout_ms" or "startup_timeout_ms"
  return self.options[option], option
end

--- Whether a program that was given a message with its start is through with that. While a dialog of the start is up
--- there is no status file yet; a later one is the turn's affair.
local function is_at_work(self, state) return state == "busy" or state == "dialog" and self:status() ~= nil end

--- Closes what stands in the composer's place, if it has for long enough: by ESC, which consents to nothing. A program
--- that Ctrl+Z has stopped is continued. Raises when nothing has helped, and for the agents view: there ESC ends
--- 2.1.197, and has 2.1.332 go on in a process of its own, where no message comes to the transcript that is read.
---@param left {since: number, patience: number, due: number, has_continued?: boolean}
---@param view parley.View
---@return number instant  when to look again
local function close_left_over(self, left, view)
  local now, limit = clock.now(), math.max(self.options.file_wait_timeout_ms, 2 * LEFT_OVER_MS)
  if now >= left.since + limit then
    local shown = table.concat(view.rows, "\n"):gsub("%s*\n%s*", " | "):gsub("^[ |]+", ""):gsub("[ |]+$", "")
    self:fail("timeout", ("the program shows something else than its composer for %g ms (file_wait_timeout_ms): %s")
      :format(limit, errors.beginning(shown, 120)))
  end
  if now >= left.due then
    if tui.shows_agents(view.title) then
      self:fail("delivery", "somebody has opened the agents view (←): the program has moved the session to its "
        .. "background, where nothing tells what it does; nothing was sent")
    end
    left.patience = 2 * left.patience
    left.due = now + left.patience
    if not left.has_continued and tui.is_suspended(view.rows) then
      left.has_continued = true
      self.process:signal "SIGCONT"
    elseif not tui.is_editing(view.rows) then -- which would go to the editor, or behind what that leaves
      self:escape()
    end
  end
  return math.min(left.due, left.since + limit)
end

local function is_composer_covered(view)
  local composer = tui.composer(view.rows, view.cursor)
  return not composer or tui.is_search(view.rows, composer)
end

--- Waits until the composer takes a message, answering dialogs on the way. A program that works by itself, for a task
--- in the background has ended, is waited for as long as it shows signs of life. What a person has left in the
--- composer's place is closed.
---@param has_message? boolean  it was started with one: that it is at work will do
---@return boolean ready  false when the turn was interrupted first
function Terminal:wait_until_ready(has_message)
  local patience, option = patience_of(self)
  local seen, deadline, left
  while true do
    self:check()
    if self:is_interrupted() then return false end
    local view = self:view()
    local state = self.readiness.state(view)
    if state == "ready" or has_message and is_at_work(self, state) then
      self.has_started = true
      if self.status_file and not self:status() then look_behind_wrapper(self) end
      if state == "ready" then self.guard.ready() end
      return true
    end
    local is_covered = self.has_started and state == "starting" and is_composer_covered(view)
    left = is_covered and (left or { since = clock.now(), patience = LEFT_OVER_MS,
      due = clock.now() + LEFT_OVER_MS }) or nil
    local signs = state == "busy" and tui.signs_of_life(view.rows) or seen
    if not deadline or signs ~= seen then deadline = clock.now() + patience end
    seen = signs
    if clock.now() >= deadline then
      self:fail("timeout", ("the program was not ready for a message within %g ms (%s); it is %s"):format(patience,
        option, state))
    end
    if state == "dialog" then
      deadline = deadline + self:attend()
    else
      self:wait(left and math.min(deadline, close_left_over(self, left, view)) or deadline)
    end
  end
end

--- Presses keys, and waits until the terminal has taken them: a program that was stopped takes some kilobytes at most.
---@param bytes string  see `parley.claude.keys`
---@return boolean pressed  false when the turn was interrupted first; what was not taken by then is never pressed
function Terminal:press(bytes)
  local patience, option = patience_of(self)
  local deadline, seen
  return self.process:write(bytes, function(gone)
    if self:is_interrupted() then return false end
    self:check()
    if gone ~= seen then seen, deadline = gone, clock.now() + patience end
    if clock.now() >= deadline then
      self:fail("timeout", ("the program has taken no keys for %g ms (%s)"):format(patience, option))
    end
    self:wait(deadline)
  end)
end

--- Presses ESC.
function Terminal:escape()
  self.escaped_at = clock.now()
  self:press(keys.ESCAPE)
end

--- When ESC may be pressed next.
---@return number instant
function Terminal:next_escape() return self.escaped_at + ESCAPE_AGAIN_MS end

--- Lets go of the status file. A second call does nothing.
function Terminal:close()
  if self.status_file then self.status_file:close() end
end

return M
