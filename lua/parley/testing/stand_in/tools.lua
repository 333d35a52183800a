--- Tool calls: who is asked, what the result is.
local core = require "parley.core"
local task = require "parley.base.task"
local agents = require "parley.testing.stand_in.agents"
local dialogs = require "parley.testing.stand_in.dialogs"
local hooks = require "parley.testing.stand_in.hooks"

local M = {}

--- What the result of a call says that the user did not want.
M.REJECTED = "The user doesn't want to proceed with this tool use. The tool use was rejected."

--- Shell commands that need no permission, when nothing is joined to them.
local READ_ONLY = { echo = true, ls = true, cat = true, pwd = true, head = true, sleep = true }
local FREE_TOOLS = { Agent = true, Read = true, Glob = true, Grep = true }
local EDITS = { Write = true, Edit = true }

--- Whether a rule is about a call: by the tool's name, that of its MCP server, or `Bash(COMMAND)`, `Bash(BEGINNING:*)`.
local function fits(rule, tool, name)
  if rule == name or rule:find "^mcp__" and name:sub(1, #rule + 2) == rule .. "__" then return true end
  local command = rule:match "^Bash%((.*)%)$"
  local given = name == "Bash" and (tool.input or {}).command
  if not command or not given then return false end
  local beginning = command:match "^(.*):%*$"
  return given == command or beginning ~= nil and given:sub(1, #beginning) == beginning
end

--- Adds the rules of a flag's value, which have commas or spaces between them.
local function add_rules(rules, text)
  text = text:gsub("[^,%s(]+%b()", function(rule)
    table.insert(rules, rule)
    return ""
  end)
  for rule in text:gmatch "[^,%s]+" do table.insert(rules, rule) end
end

--- Whether the user's rules of a kind are about a call: those of the command line, and of the settings.
---@param kind "allow"|"deny"|"ask"
---@param flags string[]  of the command line
local function is_ruled(program, kind, flags, tool, name)
  local rules = program.configuration:rules(kind)
  for _, flag in ipairs(flags) do
    for _, text in ipairs(program.flags[flag] or {}) do add_rules(rules, text) end
  end
  for _, rule in ipairs(rules) do
    if fits(rule, tool, name) then return true end
  end
  return false
end

local function needs_permission(program, tool, name, mode)
  if tool.permission ~= nil then return tool.permission end
  if is_ruled(program, "allow", { "allowedTools", "allowed-tools" }, tool, name) then return false end
  if mode == "bypassPermissions" or mode == "auto" or program.always_allowed or FREE_TOOLS[tool.name] then
    return false
  end
  if mode == "acceptEdits" and EDITS[tool.name] then return false end
  local command = tool.name == "Bash" and ((tool.input or {}).command or ""):match "^(%w+)[^>;|&]*$"
  return not READ_ONLY[command]
end

--- Whether auto mode wants a call checked, and nobody does.
local function lacks_check(program, tool, name)
  local is_unchecked = program.permission_mode == "auto" and program.faults.no_auto_check
  return is_unchecked and needs_permission(program, tool, name, "default")
end

--- Whether the user's own rules want a person to be asked, whatever a hook allows.
local function must_be_asked(program, tool, name)
  return program.permission_mode ~= "bypassPermissions" and is_ruled(program, "ask", {}, tool, name)
end

--- What stands on the screen between a call and its dialog, where the machine is busy: 2.1.110, which keeps no status,
--- shows the composer.
local function linger(program, milliseconds)
  local busy = program.view.busy
  if program.profile.status_file == "plain" then program.view.busy = nil end
  program:redraw()
  task.sleep(milliseconds)
  program.view.busy = busy
end

--- Which of a message's calls of one tool the first that waits is, and of how many.
local function place_of(turn)
  local first = turn.pending[1]
  local count = 0
  for i, entry in ipairs(first.place and {} or turn.pending) do
    if entry.call.name ~= first.call.name then break end
    entry.place, count = i, i
  end
  for i = 1, count do turn.pending[i].count = count end
  return first.place, first.count
end

--- Asks for a permission, by hook or by dialog.
---@return "allow"|"refuse"|"deny"  `deny` is the user's no, which ends the turn; `refuse` is a rule's
---@return string? reason
local function ask(turn, tool, facts)
  local program = turn.program
  local decision, said = hooks.decision(turn:run_hooks("PreToolUse", facts))
  if decision == "deny" and said.reason and program.profile.names_denying_hook then
    said.reason = ("PreToolUse:%s hook error: %s"):format(tool.name, said.reason)
  end
  if decision ~= "deny" and is_ruled(program, "deny", { "disallowedTools", "disallowed-tools" }, tool,
    facts.tool_name) then
    return "refuse"
  end
  if not decision and lacks_check(program, tool, facts.tool_name) then
    program:ask(dialogs.auto_check(program.screen.columns))
    return "deny"
  end
  local is_to_ask = decision ~= "deny" and must_be_asked(program, tool, facts.tool_name)
  local must_ask = decision == "ask" and program.permission_mode ~= "bypassPermissions" or is_to_ask
  if not decision and (tool.question or needs_permission(program, tool, facts.tool_name,
    program.permission_mode)) or must_ask then
    if program.permission_mode == "dontAsk" then return "refuse" end
    local id = facts.tool_use_id
    facts.tool_use_id = nil -- the program does not tell
    decision, said = hooks.decision(turn:run_hooks("PermissionRequest", facts))
    facts.tool_use_id = id
    if (is_to_ask and decision ~= "deny" or not decision) and not tool.question then
      if tool.ask_after_ms then linger(program, tool.ask_after_ms) end
      local place, count = place_of(turn)
      local answer = program:ask(dialogs.permission(program.profile, tool, program.cwd, program.screen.columns,
        { is_ruled = is_to_ask, place = place, count = count }))
      if answer == "always" then program.always_allowed = true end
      if answer == "auto" or answer == "acceptEdits" then program.permission_mode = answer end
      return answer == "deny" and "deny" or "allow"
    end
  end
  if decision == "allow" and said.input then facts.tool_input = said.input end
  return decision == "deny" and "refuse" or "allow", said and said.reason
end

--- What the model says to the results of calls, when the script has no word for it.
---@param calls table[]  of the script
---@return string
function M.echo(calls)
  local results = {}
  for _, tool in ipairs(calls) do table.insert(results, tool.result or "") end
  return "echo: TOOLRESULT " .. table.concat(results, " ")
end

--- A content's text, with the types of its other blocks.
local function as_text(content)
  local parts = {}
  for i, block in ipairs(type(content) == "table" and content or {}) do
    parts[i] = block.text or "[" .. block.type .. "]"
  end
  return type(content) == "table" and table.concat(parts, " ") or content
end

--- Calls a tool of an MCP server; the real result stands in the place of the script's.
local function call_server(program, tool, call)
  if not program.servers.tools[call.name] then
    return ("<tool_use_error>Error: No such tool available: %s</tool_use_error>"):format(call.name), true
  end
  local content, is_error = program.servers:call(call.name, call.input, call.id)
  tool.result = as_text(content)
  return content, is_error
end

--- Runs the first of a turn's pending calls.
---@param turn parley.testing.Turn
---@param tool table  of the script
---@return boolean goes_on  false when the user's no ended the turn
function M.run(turn, tool)
  local program, entry = turn.program, turn.pending[1]
  local facts = { tool_name = entry.call.name, tool_input = tool.input, tool_use_id = entry.call.id }
  program:show("● ", ("%s(%s)"):format(tool.name, tool.input and tool.input.command or ""))
  local permission, reason = ask(turn, tool, facts)
  if permission == "deny" then return false end
  local result, is_error, launched = tool.result or "", tool.is_error or false, nil
  if permission == "refuse" then
    result, is_error = reason or "Permission to use " .. tool.name .. " was denied.", true
    turn.refused = result
  elseif tool.question then
    local choice = program:ask(dialogs.question(program.profile, tool.question, program.screen.columns))
    if choice ~= "deny" and tool.question.several then
      local is_sent = program:ask(dialogs.review(program.profile, tool.question, choice)) == "submit"
      choice = is_sent and choice or "deny"
    end
    if choice == "deny" then return false end
    result = ('Your questions have been answered: "%s"="%s".'):format(tool.question.text, choice)
  elseif entry.call.name:find "^mcp__" then
    result, is_error = call_server(program, tool, entry.call)
  elseif tool.works_ms then
    launched, result = agents.start(program, tool)
  elseif tool.enters then
    program:work_in(tool.enters)
  elseif tool.leaves then
    program.outside.leave(tool.leaves)
  elseif tool.duration_ms then
    task.sleep(tool.duration_ms)
  end
  if facts.tool_input ~= tool.input and not is_error then
    result = "changed: " .. core.json.encode(facts.tool_input, { sort_keys = true })
  end
  table.remove(turn.pending, 1)
  program.transcript:tool_result(entry.call, result, is_error, entry.uuid, turn.prompt_id, launched)
  program:show("  ⎿  ", as_text(result))
  facts.tool_response = { stdout = as_text(result), stderr = "", interrupted = false }
  turn:run_hooks("PostToolUse", facts)
  return true
end

return M
