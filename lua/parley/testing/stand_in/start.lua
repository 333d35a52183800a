--- From the command line to the composer: which session, which dialogs, how long it takes.
local core = require "parley.core"
local files = require "parley.base.files"
local task = require "parley.base.task"
local dialogs = require "parley.testing.stand_in.dialogs"
local transcript = require "parley.testing.stand_in.transcript"

local M = {}

--- Bracketed paste is switched on so long before input is accepted.
local PASTE_LEAD_MS = 60

--- Shows what a resumed session holds, and hangs the next record on its end: the last that none follows from, wherever
--- it stands.
local function continue_from(program, records)
  local is_followed = {}
  for _, record in ipairs(records) do is_followed[record.parentUuid or false] = true end
  for _, record in ipairs(records) do
    local content = record.message and record.message.content
    if record.uuid and not is_followed[record.uuid] then program.transcript.parent = record.uuid end
    if not record.isMeta then
      for _, block in ipairs(type(content) == "table" and content or { { text = content } }) do
        if type(block.text) == "string" then program:show(record.type == "user" and "❯ " or "● ", block.text) end
      end
    end
  end
end

--- Whether a version can go on from these records, or its one line about them.
local function problem_with(records, profile, session_id)
  local has_message = false
  for _, record in ipairs(records or {}) do
    local is_message = record.type == "user" or record.type == "assistant"
    has_message = has_message or is_message
    if is_message and profile.resume_needs.timestamp and not record.timestamp then
      return "No conversation found with session ID: " .. session_id
    end
    if record.type == "assistant" and profile.resume_needs.model and not (record.message or {}).model then
      return "Failed to resume session " .. session_id
    end
  end
  if not has_message then return "No conversation found with session ID: " .. session_id end
end

--- The model that answered last. What the program has written itself has none.
local function model_in(records)
  for i = #records, 1, -1 do
    local model = records[i].type == "assistant" and (records[i].message or {}).model
    if model and model ~= "<synthetic>" then return model end
  end
end

--- The records of a session, which may have been moved to another folder's, and the folder in which it goes on.
local function find(program, session_id)
  local own = program.configuration
  local moved = program.profile.moves_transcript and own:moved_transcript(session_id)
  local records, folder = transcript.read(moved or own:transcript_path(session_id)), program.cwd
  for _, record in ipairs(moved and records or {}) do folder = record.relocatedCwd or folder end
  return records, folder
end

local function resume(program, session_id, fork_id)
  local records, folder = find(program, session_id)
  local problem = problem_with(records, program.profile, session_id)
  if problem then return problem end
  program.cwd = folder
  program:begin_session(fork_id or session_id)
  if fork_id then
    for _, record in ipairs(records) do program.transcript:append(record) end
    program.transcript.has_head = true
  end
  continue_from(program, records)
  if program.profile.resumes_model and not program.flags.model then
    program.model = model_in(records) or program.model
  end
  program.is_resumed = true
end

--- Finds the session to begin or to go on with.
---@param program parley.testing.Program
---@return string? problem  the one line with which the real program refuses to start
function M.choose_session(program)
  local flags = program.flags
  local id, old = flags["session-id"], flags.resume
  if id and not core.uuid.is_valid(id) then return "Error: Invalid session ID. Must be a valid UUID." end
  if id and old and not flags["fork-session"] then
    return "Error: --session-id can only be used with --resume if --fork-session is also specified."
  end
  if id and files.size(program.configuration:transcript_path(id)) then
    return ("Error: Session ID %s is already in use."):format(id)
  end
  if core.uuid.is_valid(old) then
    return resume(program, old, flags["fork-session"] and (id or core.uuid.generate()))
  end
  program.picks_session = old ~= nil
  program:begin_session(id or core.uuid.generate())
end

local function ask_for_trust(program)
  local profile = program.profile
  local answer = program:ask(dialogs.trust(profile, program.cwd))
  if answer == "yes" then return program.configuration:trust() end
  program:exit(answer == "cancel" and profile.trust_escape_status or 1, { is_unstarted = true,
    message = profile.default_is_no and "Claude Code didn't start because this folder isn't trusted." or nil })
end

--- The hook names in the settings that this version does not know.
local function unknown_hooks(program)
  local unknown = {}
  for _, settings in ipairs(program.configuration.settings) do
    for name in pairs(settings.hooks or {}) do
      if not program.profile.hook_events[name] then table.insert(unknown, name) end
    end
  end
  return unknown
end

local function ask_about_settings(program)
  local unknown = unknown_hooks(program)
  if not unknown[1] then return end
  local dialog = dialogs.settings(program.profile, unknown)
  if program:ask(dialog):find "^Exit" then program:exit(1) end
end

--- The start-up dialogs, in the real order. The program ends in here when the answer is no.
local function ask_at_start(program)
  local profile, configuration = program.profile, program.configuration
  local bypasses = program.permission_mode == "bypassPermissions"
  if configuration.state.hasCompletedOnboarding ~= true then
    program.screen.write(("Welcome to Claude Code v%s\r\n\r\nUnable to connect to Anthropic services\r\n"):format(
      profile.version))
    program:exit(1, { is_unstarted = true })
  end
  if not configuration:is_trusted() and not (bypasses and profile.bypass_implies_trust) then
    ask_for_trust(program)
  end
  local key = configuration:undecided_key()
  if key then configuration:decide_key(key, program:ask(dialogs.api_key(profile, key))) end
  if bypasses and not configuration:is_bypass_accepted() then
    local answer = program:ask(dialogs.bypass(profile))
    if answer ~= "yes" then program:exit(answer == "cancel" and 0 or 1) end
    configuration:accept_bypass()
  end
  ask_about_settings(program)
  for _, described in ipairs(program.script.start_dialogs or {}) do
    local dialog = dialogs.custom(described)
    dialog.is_whole_screen = true
    local answer = program:ask(dialog)
    if described.exit_on and described.exit_on[answer] then program:exit(described.exit_on[answer]) end
  end
  if program.picks_session then
    program:ask(dialogs.custom { title = "Resume session", choices = { "(no session)" } })
  end
end

--- How far the status file is behind the offer, at both its ends. It was 700 ms on a busy machine.
local OFFER_LAG_MS = 400

--- Waits until the offer is answered that is up.
local function settle_offer(program)
  local is_told = program.profile.renderer_offer == "late"
  if is_told then
    program.answered:wait(OFFER_LAG_MS)
    program:set_status("waiting", "dialog open")
  end
  while not program.is_answered do program.answered:wait() end
  program.configuration:update(function(state) state.fullscreenUpsellSeenCount = 3 end)
  if program.dialog_answer == "yes" then program.configuration:set("tui", "fullscreen") end
  if is_told then
    task.sleep(OFFER_LAG_MS)
    program:set_status "idle"
  end
end

--- Comes up so long after the start, once.
local DEFAULT_MODE_MS = 800

--- Offers another mode than the plan mode of the settings.
local function offer_default_mode(program)
  task.sleep(DEFAULT_MODE_MS)
  program.configuration:update(function(state) state.hasResetAutoModeOptInForDefaultOffer = true end)
  local answer = program:ask(dialogs.default_mode())
  if answer == "yes" then program.configuration:set("permissions", { defaultMode = "auto" }) end
end

local function surprise(program)
  task.sleep(program.faults.dialog_ms)
  program:surprise()
end

--- Draws what the user's own command says beneath the composer.
local function show_status_line(program)
  local given = program.configuration:setting "statusLine"
  if not given then return end
  local result = program.outside.shell(given.command, core.json.encode { cwd = program.cwd } .. "\n", program.cwd)
  program.view.status_rows = {}
  for row in result.output:gmatch "[^\n]+" do table.insert(program.view.status_rows, "  " .. row) end
  program:redraw()
end

--- What a program leaves on the screen that has failed in its own code; the terminal echoes again what is sent to it.
local FAILURE = [[

  ERROR  UKH is not a function. (In 'UKH(K)', 'UKH' is undefined)

 /$bunfs/root/src/entrypoints/cli.js:9247:5663

 9247: sandbox.failIfUnavailable is set

 - <anonymous> (/$bunfs/root/src/entrypoints/cli.js:9247:5663)
 - JR (/$bunfs/root/src/entrypoints/cli.js:492:63749)
 - async <anonymous> (/$bunfs/root/src/entrypoints/cli.js:18811:2361)

^[[?1;2c]]

--- Starts up, to the moment when keys are taken.
---@param program parley.testing.Program
function M.run(program)
  local delay = program.script.startup_delay_ms or program.profile.startup_ms
  local lead = math.min(delay, PASTE_LEAD_MS)
  task.sleep(delay - lead)
  if program.faults.never_ready then task.condition():wait() end
  program.screen:announce()
  program.is_drawn, program.asks_at_start = true, true -- nothing is drawn between two dialogs
  ask_at_start(program)
  program.is_drawn, program.asks_at_start = false, false
  program.screen:open()
  if program.is_resumed and program.profile.fails_on_resume then
    program.screen.write((FAILURE:gsub("\n", "\r\n")))
    task.condition():wait()
  end
  program.status_file:create(program.session_id)
  local early = program.profile.composer_lead_ms > 0 and math.min(delay, program.profile.composer_lead_ms)
  program.is_drawn = early ~= false
  local is_offered = program.profile.renderer_offer and program.environment.CLAUDE_CODE_FORCE_FULLSCREEN_UPSELL == "1"
  if is_offered then program:open_dialog(dialogs.renderer()) end
  program:redraw()
  task.sleep(early or lead)
  program.takes_keys, program.is_drawn = true, true
  program:redraw()
  task.spawn(show_status_line, program)
  program.hooks:run("SessionStart", { source = program.is_resumed and "resume" or "startup", model = program.model })
  program:set_status "idle"
  if is_offered then settle_offer(program) end
  program.log:add("ready", { session_id = program.session_id })
  local configuration = program.configuration
  local has_plan_mode = (configuration:setting "permissions" or {}).defaultMode == "plan"
  if program.profile.offers_default_mode and has_plan_mode
    and not configuration:setting "hasResetAutoModeOptInForDefaultOffer" then
    task.spawn(offer_default_mode, program)
  end
  if program.faults.dialog_ms then task.spawn(surprise, program) end
end

return M
