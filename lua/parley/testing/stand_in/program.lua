--- The simulated program: its session, its status, its turns, its end.
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local task = require "parley.base.task"
local agents = require "parley.testing.stand_in.agents"
local commands = require "parley.testing.stand_in.commands"
local composer = require "parley.testing.stand_in.composer"
local configuration = require "parley.testing.stand_in.configuration"
local dialogs = require "parley.testing.stand_in.dialogs"
local hooks = require "parley.testing.stand_in.hooks"
local keyboard = require "parley.testing.stand_in.keyboard"
local log = require "parley.testing.stand_in.log"
local profiles = require "parley.testing.stand_in.profiles"
local servers = require "parley.testing.stand_in.servers"
local start = require "parley.testing.stand_in.start"
local status_file = require "parley.testing.stand_in.status_file"
local telemetry = require "parley.testing.stand_in.telemetry"
local transcript = require "parley.testing.stand_in.transcript"
local turn = require "parley.testing.stand_in.turn"

local FLUSH_MS, SPINNER_MS, NOTIFICATION_MS, CONNECT_MS = 100, 120, 6000, 300
local HISTORY_ENTRIES = 200

---@class parley.testing.Program
---@field profile parley.testing.Profile
---@field script table
---@field faults table
---@field flags table
---@field outside parley.testing.Outside
---@field environment table<string, string>
---@field main parley.Task  all that it does
---@field configuration parley.testing.Configuration
---@field permission_mode string
---@field model string
---@field cwd string
---@field session_id string
---@field transcript parley.testing.TranscriptWriter
---@field hooks parley.testing.Hooks
---@field servers parley.testing.Servers
---@field composer parley.testing.Composer
---@field screen parley.testing.Screen
---@field input parley.testing.Input
---@field log parley.testing.Log
---@field view table        what is drawn
---@field takes_keys boolean
---@field calls parley.Group  hooks whose answers nobody waits for, and what works in the background
---@field agents table[]      sub-agents that do
local Program = { INTERRUPT = "the user pressed Escape", SEND_NOW = "the user has sent what was queued" }
Program.__index = Program

local M = {}

--- A script of its own, as what is read from a file is: what it uses up is not missing to the next program.
local function copied(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in pairs(value) do copy[key] = copied(item) end
  return setmetatable(copy, getmetatable(value))
end

--- A program that is not started.
---@param script table
---@param flags table
---@param outside parley.testing.Outside
---@return parley.testing.Program
function M.new(script, flags, outside)
  script = copied(script)
  local profile = profiles.derive(script.profile, script.profile_changes)
  local self = setmetatable({
    script = script, faults = script.faults or {}, flags = flags, profile = profile,
    outside = outside, environment = outside.environment,
    queue = {}, agents = {}, queued = task.condition(), answered = task.condition(), turn_count = 0,
    model = flags.model or profile.model, takes_keys = false,
    permission_mode = flags["dangerously-skip-permissions"] and "bypassPermissions" or flags["permission-mode"]
      or "default",
    view = { history = {}, queued = {}, frame = 0, seconds = 0, placeholder = profile.placeholder },
  }, Program)
  script.uses = outside.environment.PARLEY_STAND_IN_USES
  self.configuration = configuration.load(outside.environment, outside.cwd, flags.settings,
    flags["plugin-dir"], flags["setting-sources"])
  if self.configuration:forbids(self.permission_mode) then
    local is_auto = profile.falls_back_to_auto and not self.configuration:forbids "auto"
    self.permission_mode = is_auto and "auto" or "default"
  end
  self.cwd = self.configuration.cwd
  self.view.cwd = self.cwd
  self.view.mode = self.configuration:setting "editorMode" == "vim" and "insert" or nil
  self.log = log.new(outside.environment.PARLEY_STAND_IN_LOG or script.log, outside.pid, outside.note)
  self.composer = composer.new { profile = profile, cwd = self.cwd, now = task.now,
    commands = commands.known(script, profile), list_is_late = self.faults.list_at_return or false }
  self.view.composer = self.composer
  self.hooks = hooks.new { configuration = self.configuration, profile = profile, outside = outside,
    faults = self.faults,
    common = function()
      return { session_id = self.session_id, transcript_path = self.transcript.path, cwd = self.cwd,
        permission_mode = self.permission_mode, prompt_id = profile.hooks_have_prompt_id and self.prompt_id or nil }
    end }
  self.servers = servers.new { flags = flags, profile = profile, outside = outside,
    delay_ms = script.connect_delay_ms or CONNECT_MS }
  self.telemetry = telemetry.new { outside = outside, profile = profile, is_off = self.faults.no_telemetry }
  self.status_file = status_file.new(self.configuration, profile, outside.pid)
  return self
end

--- Ids that differ from each other and between runs.
---@param prefix string
---@return string
function Program.new_id(prefix) return prefix .. "_" .. core.uuid.generate():gsub("-", "") end

--- Starts writing under a session id.
---@param session_id string
function Program:begin_session(session_id)
  self.session_id = session_id
  self.transcript = transcript.new {
    path = self.configuration:transcript_path(session_id, self.cwd), session_id = session_id, cwd = self.cwd,
    profile = self.profile, permission_mode = self.permission_mode,
    flush_ms = (self.script.flush_ms or FLUSH_MS) + (self.faults.late_flush_ms or 0),
  }
end

--- Goes on working in another folder, as when the model enters a worktree.
---@param name string  of one below the first one; "": that itself
function Program:work_in(name)
  local folder = (self.configuration.cwd .. "/" .. name):gsub("/$", "")
  self.cwd, self.status_file.cwd = folder, folder
  if not self.profile.moves_transcript then return end
  self.transcript:move(self.configuration:transcript_path(self.session_id, folder), folder, self.outside.rename)
end

-- What others see -----------------------------------------------------------------------------------------------------

---@param mark string
---@param text string
function Program:show(mark, text)
  local history = self.view.history
  table.insert(history, { mark = mark, text = text })
  if #history > HISTORY_ENTRIES then table.remove(history, 1) end
  self:redraw()
end

function Program:redraw()
  if not self.is_drawn then return end
  local view = self.view
  view.is_blank = self.asks_at_start and not view.dialog
  view.permission_mode = self.permission_mode
  view.agents_count, view.agents_rows = agents.shown(self)
  view.seconds = view.busy and (task.now() - view.busy_since) // 1000 | 0 or 0
  self.screen:draw(view)
end

--- Changes the status, in the file where the version has it.
---@param status "idle"|"busy"|"waiting"|"shell"
---@param waiting_for? string
function Program:set_status(status, waiting_for)
  if self.view.dialog and self.status == "waiting" and status ~= "waiting" then -- for when it has gone
    self.status_before = status
    return
  end
  self.status = status
  self.status_file:set(self.session_id, status, waiting_for)
end

function Program:start_spinner(gerund)
  local view = self.view
  view.busy, view.busy_since = gerund, task.now()
  self.spinner = clock.every(self.outside.spinner_ms or SPINNER_MS, function()
    view.frame = view.frame + 1
    self:redraw()
  end)
end

function Program:stop_spinner()
  if self.spinner then self.spinner:close() end
  self.spinner, self.view.busy = nil, nil
end

-- Dialogs -------------------------------------------------------------------------------------------------------------

--- Puts a dialog up. `close_dialog` is called with its answer.
---@param dialog parley.testing.Dialog
function Program:open_dialog(dialog)
  self.view.dialog, self.is_answered = dialog, false
  self.status_before = self.status
  local is_told = self.profile.tells_dialogs and not dialog.is_untold
  if self.status and is_told then self:set_status("waiting", dialog.waiting_for) end
  self:redraw()
  self.log:tell("asked", { text = dialog.kind })
end

--- Puts one up that comes by itself, whatever is going on.
function Program:surprise()
  if self.takes_keys and not self.view.dialog then self:open_dialog(dialogs.surprise()) end
end

---@param answer any
function Program:close_dialog(answer)
  self.log:tell("answered", { text = tostring(answer) })
  self.view.dialog, self.dialog_answer, self.is_answered = nil, answer, true
  if self.status_before then self:set_status(self.status_before) end
  self:redraw()
  self.answered:notify()
end

--- Puts a dialog up and waits for its answer.
---@param dialog parley.testing.Dialog
---@return any answer
function Program:ask(dialog)
  while self.view.dialog do self.answered:wait() end -- one that came by itself
  self:open_dialog(dialog)
  if not self.answered:wait(self.status_before and (self.script.notification_ms or NOTIFICATION_MS)) then
    self.hooks:run("Notification", { message = "Claude needs your attention", notification_type = "permission_prompt" })
  end
  while not self.is_answered do self.answered:wait() end
  return self.dialog_answer
end

-- Work ----------------------------------------------------------------------------------------------------------------

--- Queues what was submitted.
---@param entry {kind: string, text: string, name?: string, arguments?: string, source?: string}
function Program:submit(entry)
  self.log:add(entry.kind == "message" and "taken" or "command", { text = entry.text, kind = entry.kind,
    session_id = self.session_id })
  if self.is_working and entry.kind == "message" then
    entry.is_announced = true
    self.transcript:note("queue-operation", { operation = "enqueue", content = entry.text })
    table.insert(self.view.queued, entry.text)
  end
  table.insert(self.queue, entry)
  self.queued:notify()
end

--- Queues what the model is told of a task in the background.
---@param text string
function Program:notify(text)
  self.transcript:note("queue-operation", { operation = "enqueue", content = text })
  table.insert(self.queue, { kind = "notification", text = text })
  self.queued:notify()
end

--- Gives the model what was submitted meanwhile, with the result of a tool.
---@return string? text  the last of it
function Program:hand_over_queued()
  local text
  while self.queue[1] and self.queue[1].is_announced do
    text = table.remove(self.queue, 1).text
    table.remove(self.view.queued, 1)
    self.transcript:note("queue-operation", { operation = "remove" })
    if self.profile.hooks_tell_queued then self.turn:run_hooks("UserPromptSubmit", { prompt = text }) end
    self.transcript:chain("attachment", { attachment = { type = "queued_command", prompt = text,
      commandMode = "prompt", origin = self.profile.user_fields.origin } })
  end
  return text
end

--- What an interrupted turn leaves: its records, or its text, which returns to the composer unless a message waits.
function Program:end_interrupted(current)
  if current.is_compacting and self.profile.interrupted_compaction ~= "" then
    self.transcript:api_error(self.profile.interrupted_compaction, { error = "invalid_request" })
  elseif current:has_begun_to_answer() or #self.queue > 0 then
    current:interrupt()
  else
    self.log:tell("returned", { text = current.text, session_id = self.session_id })
    self.composer:give_back(current.text)
    self.transcript.parent = current.parent_before
  end
end

function Program:run_turn(entry)
  self.turn_count = self.turn_count + 1
  local current = turn.new(self, { text = entry.text, number = self.turn_count, source = entry.source or
    entry.is_sent_now and "queued" or nil })
  self.turn, self.view.placeholder = current, nil
  self:start_spinner(current.gerund)
  self:set_status "busy"
  self:show("❯ ", entry.text)
  self.turn_task = task.spawn(current.run, current)
  local ok, err = pcall(self.turn_task.await, self.turn_task)
  self.turn_task, self.turn = nil, nil
  if self.view.dialog and self.view.dialog.kind ~= "transcript" then -- that view stays
    self.log:tell("answered", { text = "it goes with the turn" })
    self.view.dialog = nil
  end
  self:stop_spinner()
  if not ok and errors.is(err, "Cancelled") and err.message == Program.SEND_NOW then
    local queued = table.remove(self.queue, 1)
    table.remove(self.view.queued, 1)
    self.transcript:note("queue-operation", { operation = "dequeue" })
    queued.is_sent_now = true
    return self:run_turn(queued)
  end
  if not ok then
    if not errors.is(err, "Cancelled") or err.message ~= Program.INTERRUPT then error(err, 0) end
    self:end_interrupted(current)
  end
  if self.faults.late_status_ms then task.sleep(self.faults.late_status_ms) end
  self:set_status(ok and current.status_after or "idle")
  self:redraw()
  if ok and current.own_turn then self:run_own_turn(current.own_turn) end
end

--- A turn that the program starts by itself, when a task in the background is done.
function Program:run_own_turn(described)
  task.sleep(described.after_ms or 20)
  self:run_turn { text = described.text or "<task-notification>", source = "system" }
end

function Program:run_entry(entry)
  if entry.is_announced then
    table.remove(self.view.queued, 1)
    self.transcript:note("queue-operation", { operation = "dequeue" })
  end
  if entry.kind == "message" then
    self:run_turn(entry)
  elseif entry.kind == "notification" then
    self.transcript:note("queue-operation", { operation = "dequeue" })
    self:run_turn { text = entry.text, source = "system" }
  elseif entry.kind == "shell" then
    commands.shell(self, entry.text)
  elseif entry.kind == "malformed" then
    self.transcript:user "Commands are in the form `/command [args]`"
  elseif entry.kind == "exit" then
    commands.run(self, "exit", "")
  else
    commands.run(self, entry.name, entry.arguments)
  end
end

--- Takes what was submitted, one after the other, for ever.
function Program:work()
  while true do
    while not self.queue[1] do self.queued:wait() end
    self.is_working = true
    self:run_entry(table.remove(self.queue, 1))
    self.is_working = false
    self:redraw()
  end
end

--- Takes the first message of the command line, which is never in the composer.
function Program:take_prompt(text)
  task.sleep(math.min(self.script.startup_delay_ms or math.huge, self.profile.prompt_ms))
  local kind, name, arguments = commands.classify({ text = text }, self.profile)
  self:submit { kind = kind, text = text, name = name, arguments = arguments }
end

--- Everything between the terminal's raw mode and the end.
function Program:run()
  self.calls = task.group()
  task.spawn(keyboard.read, self)
  start.run(self)
  task.spawn(self.servers.run, self.servers)
  task.spawn(self.telemetry.run, self.telemetry)
  if self.faults.stop_reading then
    self.input:stop()
    self.log:add("deaf", {})
  end
  if self.script.initial_prompt then self:submit { kind = "message", text = self.script.initial_prompt } end
  if self.flags.prompt then self:take_prompt(self.flags.prompt) end
  self:work()
end

-- The end -------------------------------------------------------------------------------------------------------------

--- Ends the program from within, whatever waits.
---@param status integer
---@param fields? {reason?: string, is_abrupt?: boolean, is_unstarted?: boolean, message?: string}
function Program:exit(status, fields)
  local ending = errors.cancelled("the program ends", fields)
  ending.exit_status = status
  self.main:cancel(ending)
  task.sleep(0) -- raises, as this task belongs to the main one
end

--- Dies as a crashed program does: nothing is written any more, nothing removed.
---@param status? integer  an exit status; default: by SIGKILL
function Program:crash(status)
  self.log:add("ended", { status = status or -9 })
  if not status then self.outside.die() end
  self:exit(status, { is_abrupt = true })
end

--- Leaves what the real program leaves.
---@param ending table
function Program:close(ending)
  self:stop_spinner()
  self.transcript:stop_timer()
  if not ending.is_abrupt then
    self.status_file:remove()
    self.transcript.is_held = false
    self.transcript:flush()
    if not ending.is_unstarted then self.hooks:run("SessionEnd", { reason = ending.reason or "other" }) end
    self.screen:close()
    if ending.message then self.screen.write(ending.message .. "\r\n") end
    if self.turn_count > 0 then
      self.screen.write("Resume this session with:\r\nclaude --resume " .. self.session_id .. "\r\n")
    end
    self.log:add("ended", { status = ending.exit_status })
  end
  self.input:close()
end

return M
