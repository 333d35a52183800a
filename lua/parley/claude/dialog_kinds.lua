--- The dialogs that the program is known to bring up: what tells them, what consents to them, what a person would do.
local dialog = require "parley.claude.dialog"
local keys = require "parley.claude.keys"
local tables = require "parley.base.tables"

local M = {}

--- What some accounts are asked when a conversation of 100,000 tokens is woken after an hour (found in the program's
--- text, 2.1.110 and 2.1.332; no account of ours is asked). Yes is the whole of it.
local RESUME = { kind = "resume", row = "^This session is .* old and .* tokens%.$", yes = { "^Resume full session" },
  remedy = "it asks whether to go on with the whole of a long conversation, which costs its tokens again: accept = "
    .. "{ \"resume\" }, or answer \"Don't ask again\" in `claude --resume` once" }

local OF_CALLS = "give a dialogs policy, allowed_tools or another permission_mode, or accept = { \"permission\" }"

--- The dialogs of the start, in the order in which they are looked for: how the row begins that only this one has, the
--- label that consents, or the key where there are no choices, and what a person would do about it. An offer is asked
--- for by nobody, and ESC declines it: nothing waits for an answer to it. ESC would end the program at another dialog,
--- which may name files: so an offer is known by its title and its first label.
M.at_start = {
  { kind = "trust", row = "^Accessing workspace:", yes = { "^Yes, I trust" },
    remedy = "run `claude` in that folder once and answer it, or accept = { \"trust\" } (--accept trust)" },
  { kind = "bypass", row = "^WARNING: Claude Code running in Bypass Permissions mode", yes = { "^Yes, I accept" },
    remedy = "run `claude --permission-mode bypassPermissions` once and answer it, or accept = { \"bypass\" }, "
      .. "or another permission_mode" },
  { kind = "api_key", row = "^Do you want to use this API key", yes = { "^Yes$" },
    remedy = "run `claude` once with that key and answer it, or accept = { \"api_key\" }" },
  { kind = "login", row = "^Select login method", remedy = "run `claude` once and log in" },
  { kind = "login", row = "^Unable to connect to Anthropic services", remedy = "run `claude` once and log in" },
  { kind = "onboarding", row = "^Choose the text style that looks best", yes = { "Auto %(match", "^Dark mode" },
    remedy = "run `claude` once and go through its first start" },
  { kind = "onboarding", row = "^Security notes:", keys = keys.ENTER,
    remedy = "run `claude` once and go through its first start" },
  { kind = "mcp", row = "^New MCP server found in", yes = { "^Use this MCP server" },
    remedy = "answer it in `claude` once, or accept = { \"mcp\" }" },
  { kind = "mcp", row = "^%d+ new MCP servers found in", remedy = "answer it in `claude` once" },
  { kind = "imports", row = "^Allow external CLAUDE%.md file imports", yes = { "^Yes, allow" },
    remedy = "answer it in `claude` once, or accept = { \"imports\" }" },
  { kind = "settings_error", row = "^Settings Error", yes = { "^Continue without" },
    remedy = "mend the settings file that it names, or accept = { \"settings_error\" } to go on without it" },
  { kind = "settings_warning", row = "^Settings Warning", yes = { "^Continue" },
    remedy = "mend the settings file that it names, or accept = { \"settings_warning\" }" },
  RESUME,
  -- Where an earlier version was used before, at three starts (2.1.197, 2.1.332). Yes would be kept in the settings.
  { kind = "offer", is_offer = true, row = "^Try the new fullscreen renderer%?$", label = "^Yes, try it$",
    remedy = "press ESC" },
  { kind = "offer", is_offer = true, row = "^Make auto mode your default permission mode%?$",
    label = "^Yes, set auto mode", remedy = "press ESC" },
  { kind = "configuration_error", row = "^Configuration [Ee]rror", remedy = "mend .claude.json" },
}

--- The dialogs of a turn. What they show is the model's, a command that looks like another dialog's title for example:
--- so they are known by the tool that waits, or by the row right above the choices (and the first label, where the row
--- is not enough), never by the rest of their text. A question is the model's own down to that row: it is known by what
--- the program draws around it.
M.in_turn = {
  { kind = "question", tool = "AskUserQuestion", fits = dialog.is_question,
    remedy = "give a dialogs policy that answers it" },
  { kind = "plan", tool = "ExitPlanMode", row = "Would you like to proceed%?$",
    yes = { "^Yes$", "^Yes, manually approve", "^Yes, and switch to default" },
    remedy = "give a dialogs policy, or accept = { \"plan\" }" },
  { kind = "plan", tool = "ExitPlanMode", row = "^Claude wants to exit plan mode$", yes = { "^Yes$" }, -- an empty one
    remedy = "give a dialogs policy, or accept = { \"plan\" }" },
  { kind = "resume", row = "less%.$", label = "^Resume from summary", yes = RESUME.yes, remedy = RESUME.remedy },
  { kind = "usage_limit", row = "^What do you want to do%?$", label = "^Stop and wait for limit to reset",
    remedy = "wait until the limit is reset" }, -- up to 2.1.197, behind a turn that has hit the limit
  -- What `/cd` and `/add-dir` ask of a folder that is not trusted.
  { kind = "trust", of_command = true, row = "^Security guide$", label = "^No, stay put$",
    yes = { "^Yes, move here$" }, remedy = "accept = { \"trust\" } (--accept trust)" },
  { kind = "trust", of_command = true, row = "^Security guide$", label = "^No, leave it out$",
    yes = { "^Yes, add it$" }, remedy = "accept = { \"trust\" } (--accept trust)" },
  -- 2.1.332 offers it 800 ms after its start, once, where the settings have the plan mode.
  { kind = "offer", is_offer = true, row = "rest%.$", label = "^Yes, set auto mode as my default permission mode$",
    remedy = "press ESC" },
  { kind = "permission", row = "^Do you want to .*%?$", yes = { "^Yes$" }, remedy = OF_CALLS },
  -- Of a workflow, whose script is not shown at once (2.1.197, 2.1.332). The row may be the last of a longer one.
  { kind = "permission", row = "/config%.$", label = "^Yes, run it$", yes = { "^Yes, run it$" }, remedy = OF_CALLS },
}

--- Those of a turn that have no choices, and ESC says no to. Nothing that `accept` names consents to them.
M.elicitation = { kind = "elicitation", no = keys.ESCAPE, -- its fields are no choices: their names are the server's
  remedy = "an MCP server asks for input: give hooks.Elicitation, or a dialogs policy that denies, or presses keys" }
--- In auto mode at a call, where the API that is asked does not check it (2.1.332): ESC refuses the call and interrupts
--- the turn. Its title may be out of sight, and its last row go on in another.
M.auto_check = { kind = "auto_check", no = keys.ESCAPE, row = "^Auto mode can't check actions in this session$",
  last = "^Enter to stay in auto mode", remedy = "auto mode's check does not get through to the API: give another "
    .. "permission_mode, or a dialogs policy that denies, or presses keys" }
M.without_choices = { M.elicitation, M.auto_check }

--- All that have choices.
M.all = tables.joined(M.at_start, M.in_turn)

return M
