--- What differs between the versions of `claude` that the stand-in can be. Only data: the code asks for a fact, never
--- for a version. Every value was measured on the published program, with a Messages API that answers at once.
local M = {}

---@class parley.testing.Profile
---@field version string
---@field model string
---@field model_name string            as the banner shows it
---
--- Starting
---@field startup_ms integer           from the start to the moment when keys are taken
---@field composer_lead_ms integer     the composer is on the screen so long before keys are taken
---@field status_file "none"|"plain"|"named"|"live"  `plain` has neither `status` nor `version`, `named` (2.1.113 to
---        2.1.118) no `status`; `live` follows every change
---@field numbered_choices boolean     start-up dialogs count their choices, and a digit picks one
---@field default_is_no boolean        the trust dialog stands on "no" and lists it first
---@field trust_escape_status integer  exit status after Escape in the trust dialog
---@field bypass_implies_trust boolean bypassPermissions skips the trust dialog
---@field settings_problem "error"|"warning"  the dialog about a hook name that the version does not know
---@field settings_choices string[]    of that dialog
---@field renderer_offer? "untold"|"late"  whether the status file says that it is up
---@field offers_default_mode boolean  auto mode in the place of the settings' plan mode, once
---@field falls_back_to_auto boolean  where the settings forbid to bypass permissions
---@field resume_needs {timestamp?: true, model?: true}  what each record of a resumed file must have
---@field fails_on_resume boolean      it fails in its own code then, and stands still (2.1.120)
---@field resumes_model boolean        without `--model` a resumed session has the last model of its file, where the
---        program itself has not written the answer
---@field prompt_ms integer           from that moment until the message of the command line is taken
---@field flags_in_prompts string[]   patterns of such messages that are taken for flags, though `--` stands before them
---
--- The screen
---@field is_fullscreen boolean        alternate screen, composer at its foot; else below the text
---@field draws_cursor boolean         an inverse cell at the insertion point
---@field composer_rows? integer       the composer scrolls when it is taller
---@field counts_hidden_rows boolean   and says how many rows are out of sight; on 2.1.290 nothing tells
---@field cuts_wide_tabs boolean     where a row with tabs is too wide, so many cells are shown of all that it holds,
---        and `…`; else tabs go to the terminal as they are
---@field loses_prompt_behind_stop boolean  continued after a stop it draws itself anew below what stood there, and the
---        composer's prompt only once it is empty
---@field placeholder? string          in the empty composer, until the first turn
---@field error_placeholder? string    in the empty composer, after an API error
---@field hook_row string              with {event} and {seconds}
---@field retry_text string            with {error}, {seconds}, {attempt} and {attempts}
---@field title_glyphs string[]       with one of them the title begins while a turn runs
---@field shows_done_time boolean
---@field counts_agents boolean       how many work in the background stands below the composer; else that the program
---                                    waits for them stands in the place of how long the turn took
---@field default_mode_row string      the last row in permission mode `default`
---
--- Typing
---@field paste_settle {cold_return_ms: integer, warm_return_ms: integer, key_ms: integer, paste_ms: integer}
---        after a paste, Return within so long (the process's first paste, a later one) is swallowed; a text key within
---        `key_ms` or another paste within `paste_ms` makes the paste's text vanish
---@field wraps_pastes boolean         a collapsed paste, or one with the word `ultraplan`, is marked as such in the
---        record; what looks like the mark is escaped
---@field pictures "lines"|"sentences" where a paste has the path of a picture attached as one: on a line of its own, or
---        at the end of a sentence, too
---@field strips_invisible boolean     control and invisible characters are taken out of a message
---@field has_emoji_popup boolean
---@field file_popup_holds boolean    Return picks from an `@` pop-up; with the cursor moved away it does nothing.
---        Otherwise only paths (`@./…`) are picked, and other words are sent as they are
---@field ends_go_on boolean          at an end of a line Ctrl-A and Ctrl-E go to that of the line beyond
---@field sends_queued_now boolean    Ctrl+X Ctrl+S has the request that runs given up for one with what is queued
---@field leaves_shell_at_once boolean Backspace leaves shell mode even behind other keys of one write
---@field commands_behind_space boolean  leading white space does not protect a `/` command
---@field chooses_nearest_command boolean  Return runs the first of the list that pops up over a command, whatever was
---        typed; else only one that begins with that
---@field names_rest_of_arguments boolean  behind the first arguments of a command the names of the others are shown
---@field replaces_names boolean      what reads like the name of a paste is replaced by it, whoever wrote it
---@field counts_long_texts boolean   a text without its middle has another number each time
---@field halves_characters boolean   it cuts a character of two UTF-16 units in two there
---@field first_editor_ms integer     how long it takes to open an editor for the first time
---@field editor_keeps_returns boolean  CRLF and CR in what an editor leaves stay what they are
---
--- The transcript
---@field stop_reason "every"|"none"   which block lines carry it
---@field turn_duration boolean        the last record of a turn
---@field duration_after_api_error boolean
---@field answers_overtake boolean     in a new file's first batch what the program says stands before the message, and
---                                    behind a compaction before the summary
---@field moves_transcript boolean     into another folder's when it goes on working there, and is found there again
---@field ends_half_lines boolean      what it goes on with begins on a line of its own, where half a line is the last
---@field head string[]                record types before the first message
---@field attachments string[]         attachment types behind the first message
---@field user_fields table            further fields of a typed message's record
---@field records_max_tokens boolean   the line that the program adds is in the transcript
---@field records_empty_reply boolean  the same, for an empty reply
---@field records_retries boolean      each try leaves a record, and no row on the screen
---@field records_panels boolean       what a command shows leaves word in the transcript that it was closed
---@field panel_footer string
---@field settings_footers string[]   those of `/config`, from one Escape to the next
---@field transcript_footer string    the last row of the transcript's view (Ctrl+O)
---@field cost_is_dialog boolean
---@field clear_changes_status boolean the status file names the new session
---@field fork_is_branch boolean      `/fork` is another name of `/branch`
---@field unknown_command "system"|"user"  the record's type
---@field failed_compaction string     what `/compact` writes when the API refuses it, with {text}
---@field connection_lost string      the error line of an answer that was cut off behind a call
---@field cut_off_has_reason boolean  it has the answer's stop_reason
---@field interrupted_compaction string  the API error that ESC in a compaction of the program's own leaves, or ""
---@field compacts_behind boolean      in mid-turn the boundary of a compaction names one behind the summary as the one
---        before it
---@field refusal "continue"|"error"   what it does about stop_reason `refusal`
---@field refusal_stop_reason? string  stop_reason of the error line
---@field interruption_names_message boolean
---@field tells_costs_as_text boolean  over OpenTelemetry
---
--- Permissions, questions and hooks
---@field permission_choices string[]  with {folder}
---@field edit_choices string[]
---@field permission_footer string
---@field rules_around_input boolean  what a tool gets stands between two rules, its description above (2.1.290 too)
---@field permission_tip string       above a command's description, where no rule of the user's asks
---@field counts_prompts boolean       the title says which of several calls of a message is asked about
---@field moves_labels boolean         one that goes on in the next row has no space behind its number
---@field tells_dialogs boolean       a live status file says `waiting` while a dialog is up; 2.1.141's says `busy`, and
---        its spinner goes on below the dialog
---@field tells_elicitations boolean  it does so too while a server's form is
---@field asks_at_limit boolean       behind an answer that says that the usage limit was hit
---@field question_waits_for string    `waitingFor` while AskUserQuestion is up
---@field hook_events table<string, true>
---@field names_denying_hook boolean   what a tool's result says of a PreToolUse hook that denies begins with its name
---@field streams_again boolean    an answer that broke off is streamed again, and the end of what was shown is told of;
---        else it comes whole, and nothing of it is told of while it does
---@field hooks_have_prompt_id boolean
---@field hooks_hide_messages boolean  a hook that refuses a message may have that left out of the record
---@field hook_texts_are_meta boolean  what a hook says is marked as not the user's
---@field hooks_tell_queued boolean   of a message, too, that a result of a tool carries to the model
---@field stop_tells_behind boolean   a Stop hook is told what runs behind the turn
---@field gives_back_refused boolean   a refused message returns to the composer
---@field file_begins_with_message boolean  before the first there is no transcript
---@field agents_run_behind boolean    a sub-agent ends in a turn of its own
---
--- MCP servers
---@field mcp_discovers boolean        `server/discover` is asked before `initialize`
---@field mcp_is_awaited boolean       a first message waits for the servers; else it has no tools of theirs
---@field mcp_settle_ms integer        from a server's list of tools to the moment when the model has them
---@field mcp_background_ms integer    the model goes on without a call that takes longer; 0: never
---@field mcp_calls_again boolean      such a call is made again, with the same id
---@field mcp_idle_ms integer          a call fails that brings nothing for so long; 0: never

local function set(...)
  local members = {}
  for _, name in ipairs { ... } do members[name] = true end
  return members
end

--- The members of a set, and these.
local function with(members, ...)
  local all = set(...)
  for name in pairs(members) do all[name] = true end
  return all
end

--- A profile that differs from another in the fields given.
local function derive(from, changes)
  local profile = {}
  for name, value in pairs(from) do profile[name] = value end
  for name, value in pairs(changes) do profile[name] = value end
  return profile
end

local v2_1_50 = {
  version = "2.1.50", model = "claude-sonnet-4-6", model_name = "Sonnet 4.6",

  startup_ms = 1500, composer_lead_ms = 300, status_file = "none",
  numbered_choices = true, default_is_no = false, trust_escape_status = 1, bypass_implies_trust = true,
  offers_default_mode = false, falls_back_to_auto = false, settings_problem = "error",
  settings_choices = { "Exit and fix manually", "Continue without these settings" },
  resume_needs = {}, prompt_ms = 20, flags_in_prompts = { "^%-p$", "^%-%-settings=" },

  is_fullscreen = false, draws_cursor = false, counts_hidden_rows = true, cuts_wide_tabs = false,
  loses_prompt_behind_stop = true,
  placeholder = 'Try "edit <filepath> to..."',
  hook_row = "(running {event} hook)",
  retry_text = "Retrying in {seconds}s · attempt {attempt}/{attempts}",
  title_glyphs = { "⠂", "⠐" },
  shows_done_time = false, counts_agents = true,
  default_mode_row = "? for shortcuts",

  paste_settle = { cold_return_ms = 120, warm_return_ms = 80, key_ms = 40, paste_ms = 40 },
  wraps_pastes = false, pictures = "sentences", strips_invisible = false,
  has_emoji_popup = false, file_popup_holds = true, ends_go_on = true,
  leaves_shell_at_once = false, sends_queued_now = false, commands_behind_space = false,
  chooses_nearest_command = true, names_rest_of_arguments = false,
  replaces_names = true, counts_long_texts = false, halves_characters = false,
  first_editor_ms = 40, editor_keeps_returns = true,

  stop_reason = "none", turn_duration = false, duration_after_api_error = false, answers_overtake = false,
  ends_half_lines = false, moves_transcript = false,
  head = { "permission-mode", "file-history-snapshot" }, attachments = {}, user_fields = {},
  records_max_tokens = false, records_empty_reply = false, records_retries = true,
  records_panels = true, panel_footer = "Esc to cancel",
  settings_footers = { "Type to filter · Enter/↓ to select · ↑ to tabs · Esc to clear",
    "Space to change · Enter to save · / to search · Esc to cancel" },
  transcript_footer = "Showing detailed transcript · ctrl+o to toggle · ctrl+e to show all",
  cost_is_dialog = false, clear_changes_status = false, fork_is_branch = true,
  unknown_command = "user",
  failed_compaction = "<local-command-stderr>Error: Error during compaction: {text}</local-command-stderr>",
  interrupted_compaction = "Prompt is too long",
  refusal = "error", refusal_stop_reason = "stop_sequence", interruption_names_message = false,
  connection_lost = "API Error: The socket connection was closed unexpectedly.", cut_off_has_reason = false,
  compacts_behind = false,
  tells_costs_as_text = true,

  permission_choices = { "Yes", "Yes, and always allow access to {folder}/ from this project", "No" },
  edit_choices = { "Yes", "Yes, allow all edits during this session (shift+tab)", "No" },
  permission_footer = "Esc to cancel · Tab to amend · ctrl+e to explain", rules_around_input = false,
  permission_tip = "", counts_prompts = false, moves_labels = true, tells_dialogs = true,
  tells_elicitations = false,
  asks_at_limit = true, question_waits_for = "permission prompt",
  hook_events = set("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "SubagentStop",
    "Notification", "PermissionRequest", "SessionEnd"),
  names_denying_hook = false, streams_again = false, hooks_have_prompt_id = false, hooks_hide_messages = false,
  hooks_tell_queued = false, stop_tells_behind = false, hook_texts_are_meta = false, fails_on_resume = false,
  resumes_model = false, gives_back_refused = false,
  file_begins_with_message = true, agents_run_behind = false,

  mcp_discovers = false, mcp_is_awaited = false, mcp_settle_ms = 40, mcp_background_ms = 0, mcp_calls_again = false,
  mcp_idle_ms = 300000,
}

local v2_1_110 = derive(v2_1_50, {
  version = "2.1.110",
  startup_ms = 650, composer_lead_ms = 0, status_file = "plain", bypass_implies_trust = false,
  settings_problem = "warning", settings_choices = { "Continue", "Exit and fix manually" },
  resume_needs = { timestamp = true },
  placeholder = false,
  stop_reason = "every",
  attachments = { "skill_listing" },
  hook_events = set("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "StopFailure",
    "SubagentStart", "SubagentStop", "PreCompact", "Notification", "PermissionRequest", "SessionEnd",
    "PostToolUseFailure", "PostCompact", "PermissionDenied", "Setup", "TeammateIdle", "TaskCreated", "TaskCompleted",
    "Elicitation", "ElicitationResult", "ConfigChange", "WorktreeCreate", "WorktreeRemove", "InstructionsLoaded",
    "CwdChanged", "FileChanged"),
})

local v2_1_197 = derive(v2_1_110, {
  version = "2.1.197", model = "claude-opus-4-8", model_name = "Opus 4.8 (1M context)",
  counts_agents = false,
  startup_ms = 600, status_file = "live", renderer_offer = "untold", prompt_ms = 250, flags_in_prompts = { "^%-p$" },
  resume_needs = { timestamp = true, model = true },
  settings_choices = { "Continue", "Fix with Claude", "Exit and fix manually" },
  draws_cursor = true, loses_prompt_behind_stop = false,
  retry_text = "{error} · Retrying in {seconds}s · attempt {attempt}/{attempts}",
  paste_settle = { cold_return_ms = 45, warm_return_ms = 0, key_ms = 45, paste_ms = 0 },
  ends_go_on = false,
  turn_duration = true, duration_after_api_error = true, answers_overtake = true,
  head = { "mode", "permission-mode", "file-history-snapshot" },
  attachments = { "agent_listing_delta", "skill_listing" },
  user_fields = { origin = { kind = "human" }, promptSource = "typed" },
  records_empty_reply = true, records_retries = false, tells_costs_as_text = false,
  cost_is_dialog = true, clear_changes_status = true, fork_is_branch = false,
  failed_compaction = "<local-command-stdout>Error during compaction: {text}</local-command-stdout>",
  connection_lost = "API Error: Connection closed mid-response. The response above may be incomplete.",
  unknown_command = "system", refusal_stop_reason = "refusal", interruption_names_message = true,
  resumes_model = true, hooks_have_prompt_id = true, stop_tells_behind = true, hooks_hide_messages = true,
  file_begins_with_message = false,
  hook_events = with(v2_1_110.hook_events, "MessageDisplay", "PostToolBatch", "UserPromptExpansion"),
})

local v2_1_330 = derive(v2_1_197, {
  version = "2.1.330", model = "claude-opus-5-5", model_name = "Opus 5.5",
  startup_ms = 420, renderer_offer = "late", offers_default_mode = true, falls_back_to_auto = true,
  prompt_ms = 300, flags_in_prompts = {},
  numbered_choices = false, default_is_no = true, trust_escape_status = 0,
  resume_needs = {},
  is_fullscreen = true, composer_rows = 14, cuts_wide_tabs = true,
  error_placeholder = "Resend your message to try again",
  hook_row = "(running {event} hook · {seconds}s)",
  retry_text = "{error} · retrying in {seconds}s · attempt {attempt}/{attempts}",
  title_glyphs = { "◐", "◑" },
  shows_done_time = true,
  default_mode_row = "⏸ manual mode on · ? for shortcuts",
  paste_settle = { cold_return_ms = 0, warm_return_ms = 0, key_ms = 0, paste_ms = 0 },
  wraps_pastes = true, pictures = "lines", strips_invisible = true, has_emoji_popup = true, file_popup_holds = false,
  leaves_shell_at_once = true, sends_queued_now = true, commands_behind_space = true, replaces_names = false,
  chooses_nearest_command = false, names_rest_of_arguments = true,
  counts_long_texts = true, halves_characters = true, first_editor_ms = 290, editor_keeps_returns = false,
  duration_after_api_error = false, answers_overtake = false, ends_half_lines = true,
  moves_transcript = true,
  attachments = { "environment", "model", "deferred_tools_delta", "session_context" },
  user_fields = { origin = { kind = "human" }, promptSource = "typed", turnOrigin = "human" },
  failed_compaction = "<local-command-stderr>Error during compaction: {text}</local-command-stderr>",
  records_max_tokens = true, records_panels = false, panel_footer = "←/→ to switch · Esc to close",
  settings_footers = { "↓ to navigate · ↑ to switch tabs · Esc to go back",
    "↑/↓ to navigate · Space to toggle · / to search · Esc to close" },
  transcript_footer = "Showing detailed transcript · ctrl+o to toggle · ↑/↓ to scroll · v to open in sh",
  interrupted_compaction = "", refusal = "continue", cut_off_has_reason = true, compacts_behind = true,
  connection_lost = "API Error: Connection lost mid-response. The response above may be incomplete.",
  permission_choices = { "Yes", "Yes, and always allow access to {folder} from this project",
    "Yes, and switch to auto mode · auto mode handles these prompts for you", "No" },
  edit_choices = { "Yes", "Yes, and switch to accept edits for this session (shift+tab)", "No" },
  permission_footer = "Esc to cancel · Tab to amend", rules_around_input = true,
  permission_tip = 'Tip: auto mode handles these prompts for you — choose "switch to auto mode" below',
  counts_prompts = true, moves_labels = false, tells_elicitations = true,
  asks_at_limit = false, question_waits_for = "input needed",
  names_denying_hook = true, streams_again = true, hook_texts_are_meta = true, gives_back_refused = true,
  agents_run_behind = true, hooks_tell_queued = true,
  mcp_discovers = true, mcp_is_awaited = true, mcp_background_ms = 120000, mcp_idle_ms = 0,
  hook_events = with(v2_1_197.hook_events, "PreModelSwitch", "PostModelSwitch", "DirectoryAdded"),
})

--- The versions known, oldest first.
M.versions = { "2.1.50", "2.1.110", "2.1.197", "2.1.330" }

--- The version that is simulated when nothing else is asked for.
M.default = "2.1.330"

local profiles = {}
for _, profile in ipairs { v2_1_50, v2_1_110, v2_1_197, v2_1_330 } do profiles[profile.version] = profile end

--- Finds a profile.
---@param version? string
---@return parley.testing.Profile? profile  nil for a version that is not known
function M.get(version) return profiles[version or M.default] end

--- A profile with some of its facts replaced.
---@param version? string
---@param changes? table
---@return parley.testing.Profile? profile
function M.derive(version, changes)
  local profile = M.get(version)
  return profile and derive(profile, changes or {})
end

return M
