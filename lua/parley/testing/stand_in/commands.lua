--- What a taken text is: an exit word, a `/` command, a shell command or a message. And what commands do.
local answers = require "parley.testing.stand_in.answers"
local core = require "parley.core"
local dialogs = require "parley.testing.stand_in.dialogs"
local task = require "parley.base.task"

local M = {}

local EXIT_WORDS = { exit = true, quit = true, [":q"] = true, [":q!"] = true, [":wq"] = true, [":wq!"] = true }

local commands = {}
--- Other names of theirs.
local ALIASES = { new = "clear", reset = "clear" }

--- Finds the command that a word names.
local function find(name, profile)
  name = name:lower()
  if name == "fork" and profile.fork_is_branch then return "branch" end
  name = ALIASES[name] or name
  return commands[name] and name
end

--- All that there are, the user's own among them.
---@param script table
---@param profile parley.testing.Profile
---@return table<string, {text?: string, arguments?: string[]}>
function M.known(script, profile)
  local known = {}
  for _, names in ipairs { commands, ALIASES, { fork = profile.fork_is_branch or nil } } do
    for name in pairs(names) do known[name] = {} end
  end
  for name, given in pairs(script.commands or {}) do known[name] = given end
  return known
end

--- Tells what a text is.
---@param taken {text: string, is_shell: boolean}
---@param profile parley.testing.Profile
---@return "exit"|"command"|"shell"|"message"|"malformed" kind
---@return string? name
---@return string? arguments
function M.classify(taken, profile)
  if taken.is_shell then return "shell" end
  local trimmed = taken.text:match "^%s*(.-)%s*$"
  if EXIT_WORDS[trimmed] then return "exit" end
  local candidate = profile.commands_behind_space and trimmed or taken.text
  local name, rest = candidate:match "^/([%w:_-]+)(.*)$"
  if name and (rest == "" or rest:find "^%s") then return "command", name, rest:match "^%s*(.-)%s*$" end
  if candidate:find "^/%s" or candidate == "/" then return "malformed" end
  return "message"
end

-- Records -------------------------------------------------------------------------------------------------------------

local function record_call(program, name, arguments)
  program.transcript:user("<local-command-caveat>", { isMeta = true })
  program.transcript:user(("<command-name>/%s</command-name>\n<command-message>%s</command-message>\n"
    .. "<command-args>%s</command-args>"):format(name, name, arguments))
end

local function record_output(program, kind, output, whole)
  local text = whole or ("<local-command-stdout>%s</local-command-stdout>"):format(output)
  if kind == "user" then return program.transcript:user(text) end
  program.transcript:chain("system", { subtype = "local_command", level = "info", isMeta = false, content = text })
end

local TABS = "Settings  Status   Config   Usage   Stats"

--- Shows what a command has to say over the composer, until Escape, and leaves word of it where the version does.
local function show(program, name, rows, dismissed)
  program:ask(dialogs.panel(program.profile, rows))
  if not program.profile.records_panels then return end
  record_output(program, "system", nil, ("<command-name>/%s</command-name>"):format(name))
  record_output(program, "system", dismissed .. " dialog dismissed")
end

-- Commands ------------------------------------------------------------------------------------------------------------

function commands.exit(program, arguments)
  record_call(program, "exit", arguments)
  record_output(program, "user", "Goodbye!")
  program:exit(0, { reason = "prompt_input_exit" })
end
commands.quit = commands.exit

function commands.clear(program, arguments)
  program.hooks:run("SessionEnd", { reason = "clear" })
  program.transcript:flush()
  program:begin_session(core.uuid.generate())
  program.view.history = {}
  if program.profile.clear_changes_status then program:set_status "idle" end
  record_call(program, "clear", arguments)
  record_output(program, "system", "")
  program.hooks:run("SessionStart", { source = "clear", model = program.model })
end

function commands.branch(program)
  local former = program.transcript
  former:flush()
  program:begin_session(core.uuid.generate())
  program.transcript:copy(former)
  if program.profile.clear_changes_status then program:set_status "idle" end
  record_output(program, "system", nil, "<command-name>/branch</command-name>")
  record_output(program, "system", "Branched. Back to the original: /resume " .. former.session_id)
end

function commands.compact(program, arguments)
  program:set_status "busy"
  local failed = answers.choose(program.script, "/compact " .. arguments, program.turn_count, program).api_error
  if failed then
    local fields = { text = answers.api_error(failed).text }
    record_call(program, "compact", arguments)
    record_output(program, "system", nil, (program.profile.failed_compaction:gsub("{(%w+)}", fields)))
  else
    program.transcript:compact "manual"
    record_call(program, "compact", arguments)
    record_output(program, "user", "Compacted")
  end
  program:set_status "idle"
end

function commands.help(program)
  show(program, "help", { "Help  General   Commands   Custom commands", "", "/ for commands" }, "Help")
end

function commands.status(program)
  show(program, "status", { TABS, "", "Version:     " .. program.profile.version,
    "Session ID:  " .. program.session_id }, "Settings")
end

function commands.config(program)
  for _, footer in ipairs(program.profile.settings_footers) do program:ask(dialogs.settings_list(footer)) end
end

--- Asks whether another folder is trusted.
function commands.cd(program, arguments)
  local answer = program:ask(dialogs.move(program.profile, arguments))
  record_call(program, "cd", arguments)
  record_output(program, "user", answer == "yes" and "Moved to " .. arguments or "Staying in " .. program.cwd)
end

function commands.cost(program, arguments)
  if program.profile.cost_is_dialog then
    return show(program, "usage", { TABS, "", "Session", "", "Total cost:  $0.00" }, "Settings")
  end
  record_call(program, "cost", arguments)
  record_output(program, "system", "Total cost: $0.00")
end

function commands.model(program, arguments)
  if arguments ~= "" then program.model = arguments end
  record_call(program, "model", arguments)
  record_output(program, "user", "Set model to " .. program.model)
end

--- Runs a skill of the user's with `context: fork`: its sub-agent answers in the command's own words, or in a turn
--- behind it.
local function fork(program, name, arguments, given)
  local transcript = program.transcript
  transcript:user("<local-command-caveat>", { isMeta = true })
  transcript:user(("/%s %s"):format(name, arguments))
  if not program.profile.agents_run_behind then
    program:start_spinner "Forking"
    program:set_status "busy"
    task.sleep(given.after_ms or 0)
    record_output(program, "user", "\n" .. given.text .. "\n")
    program:stop_spinner()
    return program:set_status "idle"
  end
  local id = program.new_id "agent"
  local launch = ('<forked-skill-launch>{"agentId":"%s","skillName":"%s"}</forked-skill-launch>'):format(id, name)
  record_output(program, "system", nil, ("<local-command-stdout>Running in the background as @%s"
    .. "</local-command-stdout>\n%s"):format(name, launch))
  program:run_own_turn { after_ms = given.after_ms, text = ("<task-notification>\n<task-id>%s</task-id>\n"
    .. "<status>completed</status>\n<result>%s</result>\n</task-notification>"):format(id, given.text) }
end

--- Runs a command of the user's own: the model gets its text.
local function run_own(program, name, arguments, given)
  local words = ("<command-message>%s</command-message>\n<command-name>/%s</command-name>"):format(name, name)
  if arguments ~= "" then words = words .. ("\n<command-args>%s</command-args>"):format(arguments) end
  program.transcript:user(words)
  program:run_turn { text = given.text .. " " .. arguments, source = "command" }
end

--- Runs a `/` command, inside the program's own task.
---@param program parley.testing.Program
---@param name string
---@param arguments string
function M.run(program, name, arguments)
  local known = find(name, program.profile)
  if known then return commands[known](program, arguments) end
  local own = (program.script.commands or {})[name]
  if own then return run_own(program, name, arguments, own) end
  local given = answers.fork(program.script, ("/%s %s"):format(name, arguments), program.turn_count)
  if given then return fork(program, name, arguments, given) end
  local problem = "Unknown command: /" .. name
  program:show("● ", problem)
  if program.profile.unknown_command == "user" then program.transcript:user(problem) end
  local lines = { program.profile.unknown_command == "system" and problem or nil }
  if arguments ~= "" then table.insert(lines, "Args from unknown skill: " .. arguments) end
  for _, line in ipairs(lines) do
    program.transcript:chain("system", { subtype = "informational", content = line, level = "info" })
  end
end

--- Runs a shell command for real, with no permission asked.
---@param program parley.testing.Program
---@param command string
function M.shell(program, command)
  program.transcript:user(("<bash-input>%s</bash-input>"):format(command))
  local result = program.outside.shell(command, "", program.cwd)
  local output = result.output:gsub("\n$", "")
  program.transcript:user(("<bash-stdout>%s</bash-stdout><bash-stderr></bash-stderr>"):format(output))
  program:show("! ", command)
  program:show("  ⎿  ", output)
end

return M
