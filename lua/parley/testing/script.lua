--- What the script of a stand-in may say, see `parley.testing`: every field and every value is looked at before
--- anything starts, for what means nothing would change nothing, and the spec that hoped for it would pass.
local core = require "parley.core"
local errors = require "parley.base.errors"
local options = require "parley.base.options"
local profiles = require "parley.testing.stand_in.profiles"
local suggest = require "parley.base.suggest"

local M = {}

local function refuse(where, message, ...)
  error(errors.value_error((where == "" and "the script" or "the script's " .. where) .. " " .. message:format(...)), 0)
end

-- Kinds ---------------------------------------------------------------------------------------------------------------
-- A kind is a function that raises for a value that is none.

local function of_type(kind, described)
  return function(value, where)
    if not options.is_of(value, kind) then refuse(where, "must be %s, not %s", described, options.describe(value)) end
  end
end

local text, flag, milliseconds = of_type("string", "a text"), of_type("boolean", "true or false"),
  of_type("milliseconds", "milliseconds")
local integer, count = of_type("integer", "a whole number"), of_type("positive integer", "a positive whole number")
local object, texts = of_type("table", "a table"), of_type("list of strings", "a list of texts")

local function one_of(words)
  local expected = options.one_of(words)
  return function(value, where)
    local problem = expected(value)
    if not problem then return end
    refuse(where, "must be %s, not %s%s", problem, options.describe(value), suggest.near(tostring(value), words))
  end
end

--- A text, but for one that is nearly one of these.
local function like(words)
  local is_word = options.one_of(words)
  return function(value, where)
    text(value, where)
    local near = is_word(value) and suggest.near(value, words) or ""
    if near ~= "" then refuse(where, "is %q%s", value, near) end
  end
end

local function list_of(kind)
  return function(value, where)
    object(value, where)
    local size = 0
    for _ in pairs(value) do size = size + 1 end
    if size ~= #value then refuse(where, "must be a list") end
    for i, item in ipairs(value) do kind(item, ("%s[%d]"):format(where, i)) end
  end
end

--- A table with these fields and no others. `needs` must be there; `also` looks at the whole.
local function record(fields, needs, also)
  local names = {}
  for name in pairs(fields) do table.insert(names, name) end
  table.sort(names)
  return function(value, where)
    object(value, where)
    local given = {}
    for name in pairs(value) do
      if not fields[name] then
        refuse(where, "has '%s', which means nothing there%s", tostring(name), suggest.near(tostring(name), names))
      end
      given[#given + 1] = name
    end
    table.sort(given) -- of two mistakes always the same is told of
    for _, name in ipairs(needs or {}) do
      if value[name] == nil then refuse(where, "must have '%s'", name) end
    end
    for _, name in ipairs(given) do
      fields[name](value[name], where == "" and name or where .. "." .. name)
    end
    if also then also(value, where) end
  end
end

-- The profile ---------------------------------------------------------------------------------------------------------

local TYPES = { "mode", "permission-mode", "file-history-snapshot" }
local SETTLE = { cold_return_ms = integer, warm_return_ms = integer, key_ms = integer, paste_ms = integer }

local FACTS = {
  status_file = one_of { "none", "plain", "named", "live" }, settings_problem = one_of { "error", "warning" },
  stop_reason = one_of { "every", "none" }, unknown_command = one_of { "system", "user" },
  refusal = one_of { "continue", "error" }, composer_rows = count, pictures = one_of { "lines", "sentences" },
  head = list_of(one_of(TYPES)), attachments = texts, flags_in_prompts = texts, settings_choices = texts,
  permission_choices = texts, edit_choices = texts, resume_needs = record { timestamp = flag, model = flag },
  paste_settle = record(SETTLE, { "cold_return_ms", "warm_return_ms", "key_ms", "paste_ms" }),
}
local MAY_BE_MISSING = { placeholder = text, error_placeholder = text, refusal_stop_reason = text,
  composer_rows = count }

local function facts()
  local fields = {}
  for name, value in pairs(profiles.get()) do
    local kind = type(value) == "number" and "integer" or type(value)
    fields[name] = FACTS[name] or of_type(kind, "a " .. kind)
  end
  for name, kind in pairs(MAY_BE_MISSING) do
    fields[name] = function(value, where)
      if value ~= false then kind(value, where) end
    end
  end
  return fields
end

-- Answers -------------------------------------------------------------------------------------------------------------

local DIALOG = { title = text, lines = texts, choices = texts, selected = count, numbered = flag, footer = text,
  waiting_for = text, untold = flag }

local function check_choices(dialog, where)
  if #dialog.choices == 0 then refuse(where .. ".choices", "must not be empty") end
  if dialog.selected and dialog.selected > #dialog.choices then
    refuse(where .. ".selected", "is %d, and there are %d choices", dialog.selected, #dialog.choices)
  end
end

local dialog = record(DIALOG, { "title", "choices" }, check_choices)

local function exits(value, where)
  object(value, where)
  for label, status in pairs(value) do integer(status, ("%s[%q]"):format(where, tostring(label))) end
end

local function start_dialog(value, where)
  local fields = { exit_on = exits }
  for name, kind in pairs(DIALOG) do fields[name] = kind end
  record(fields, { "title", "choices" }, check_choices)(value, where)
  local labels = table.move(value.choices, 1, #value.choices, 1, {})
  table.insert(labels, "cancel")
  for label in pairs(value.exit_on or {}) do one_of(labels)(label, where .. ".exit_on") end
end

local function tool_input(value, where)
  object(value, where)
  for _, name in ipairs { "command", "description", "file_path" } do
    if value[name] ~= nil then text(value[name], where .. "." .. name) end
  end
end

local tool = record({ name = text, input = tool_input, result = text, is_error = flag, duration_ms = milliseconds,
  permission = flag, ask_after_ms = milliseconds, leaves = text, enters = text, works_ms = milliseconds,
  question = record({ title = text, text = text, choices = texts, several = flag, previews = texts },
    { "text", "choices" }, check_choices) },
  { "name" })

local block_type = like { "text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "image" }

local function block(value, where)
  object(value, where)
  if value.type == nil then refuse(where, "must have 'type'") end
  block_type(value.type, where .. ".type")
  local content = (value.type == "text" or value.type == "thinking") and value.type
  if content then text(value[content], where .. "." .. content) end
end

local STEP = {
  text = text, thinking = text, blocks = list_of(block), tool = tool, tools = list_of(tool), empty = flag,
  stop_reason = like { "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal" },
  delay_ms = milliseconds, block_delay_ms = milliseconds, line_ms = milliseconds, breaks_off = text,
  dialog = dialog, elicitation = record({ server = text, message = text, fields = texts }, { "server", "message" }),
  compacts = flag, compaction_fails = flag, cut_behind_calls = flag,
}

local function has_tools(step) return step.tool ~= nil or step.tools ~= nil and #step.tools > 0 end

--- What stands beside something that leaves it without effect.
local function check_step(step, where)
  if step.tool and step.tools then refuse(where, "has both 'tool' and 'tools'") end
  for _, name in ipairs(step.empty and { "text", "thinking", "blocks", "tool", "tools" } or {}) do
    if step[name] ~= nil then refuse(where, "is 'empty' and has '%s'", name) end
  end
  if step.cut_behind_calls and not has_tools(step) then refuse(where, "is cut_behind_calls and has no tool call") end
end

local function check_answer(answer, where)
  check_step(answer, where)
  for name in pairs(answer.steps and STEP or {}) do
    if answer[name] ~= nil then refuse(where, "has '%s' beside 'steps': it belongs into one of them", name) end
  end
  for name in pairs(answer) do
    if answer.api_error and (STEP[name] or name == "steps" or name == "after") then
      refuse(where, "has '%s' beside 'api_error', which comes instead of it", name)
    end
  end
  local steps = answer.steps or { answer }
  if #steps == 0 then refuse(where .. ".steps", "must not be empty") end
  if answer.after and not has_tools(steps[#steps]) then
    refuse(where, "has 'after' and no tool call at its end that it would come after")
  end
  local calls = 0
  for _, step in ipairs(steps) do calls = calls + (has_tools(step) and 1 or 0) end
  if answer.crash == "during_tool" and calls == 0 then refuse(where, "crashes during_tool and has no tool call") end
  if answer.crash_status and not answer.crash then refuse(where, "has 'crash_status' and no 'crash'") end
  if answer.retry_ms and not answer.retries then refuse(where, "has 'retry_ms' and no 'retries'") end
end

local function on(value, where)
  if type(value) ~= "function" then of_type("string", "a text or a function")(value, where) end
end

local ANSWER = {
  on = on, times = count, after = text, steps = list_of(record(STEP, nil, check_step)),
  api_error = record { status = integer, text = text, error = text, retries = integer, retry_ms = milliseconds },
  retries = integer, retry_ms = milliseconds, hang = flag,
  own_turn = record { text = text, after_ms = milliseconds, status = one_of { "idle", "busy", "waiting", "shell" } },
  behind = record { tasks = integer, crons = integer },
  fork = record({ text = text, after_ms = milliseconds }, { "text" }),
  crash = one_of { "before_record", "after_user", "mid_line", "during_tool", "after_answer" }, crash_status = integer,
  half_line_ms = milliseconds, reorder = flag, omit_turn_duration = flag,
}
for name, kind in pairs(STEP) do ANSWER[name] = kind end

local FAULTS = {
  lose_keys = count, lose_returns = count, lose_editor = count, late_flush_ms = milliseconds,
  late_status_ms = milliseconds, late_redraw_ms = milliseconds, dialog_ms = milliseconds, dialog_at_return = flag,
  list_at_return = flag, never_ready = flag, startup_exit = record { text = text, status = integer },
  ignore_sigterm = flag, survive_hangup = flag, stop_reading = flag, drop_hooks_ms = milliseconds,
  no_telemetry = flag, no_attachments = flag, no_auto_check = flag,
}

local own_command = record({ text = text, arguments = texts }, { "text" })

local function own_commands(value, where)
  object(value, where)
  for name, given in pairs(value) do own_command(given, ("%s[%q]"):format(where, tostring(name))) end
end

local script = record {
  profile = one_of(profiles.versions), profile_changes = record(facts()), startup_delay_ms = milliseconds,
  initial_prompt = text, flush_ms = milliseconds, connect_delay_ms = milliseconds, notification_ms = milliseconds,
  start_dialogs = list_of(start_dialog), answers = list_of(record(ANSWER, nil, check_answer)),
  commands = own_commands,
  faults = record(FAULTS), log = text,
}

--- Checks a script.
---@param given any
--- Raises `ValueError` that names the field.
function M.check(given) script(given, "") end

--- Reads a script from a Lua file and checks it.
---@param path string  of a file that returns a table, or a function that makes one
---@return table script
--- Raises `ValueError`.
function M.load(path)
  local chunk, problem = loadfile(path)
  if not chunk then error(errors.value_error("cannot read the script: " .. problem), 0) end
  local given = chunk()
  if type(given) == "function" then given = given(core) end
  if type(given) ~= "table" then
    error(errors.value_error(("the script '%s' must return a table, not a %s"):format(path, type(given))), 0)
  end
  M.check(given)
  return given
end

return M
