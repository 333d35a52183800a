--- How `claude` is started: its arguments and its environment.
local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local options = require "parley.base.options"
local paths = require "parley.claude.paths"
local tables = require "parley.base.tables"

local M = {}

--- The modes that `--permission-mode` of 2.1.330 takes.
M.permission_modes = { "acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan" }

--- Environment variables that choose another provider, account or endpoint than the one that the user is logged in to.
--- Found in the program's text (2.1.330); `preserve_provider_env` keeps them.
local PROVIDER_VARIABLES = {
  "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS",
  "ANTHROPIC_UNIX_SOCKET", "ANTHROPIC_API_HOST", "ANTHROPIC_IDENTITY_TOKEN", "ANTHROPIC_IDENTITY_TOKEN_FILE",
  "ANTHROPIC_FEDERATION_RULE_ID", "CLAUDE_CODE_API_BASE_URL", "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
  "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_SKIP_BEDROCK_AUTH", "ANTHROPIC_BEDROCK_BASE_URL", "AWS_BEARER_TOKEN_BEDROCK",
  "CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_SKIP_MANTLE_AUTH", "ANTHROPIC_BEDROCK_MANTLE_BASE_URL",
  "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_SKIP_VERTEX_AUTH", "ANTHROPIC_VERTEX_BASE_URL", "ANTHROPIC_VERTEX_PROJECT_ID",
  "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_SKIP_FOUNDRY_AUTH", "ANTHROPIC_FOUNDRY_BASE_URL",
  "ANTHROPIC_FOUNDRY_RESOURCE", "ANTHROPIC_FOUNDRY_API_KEY", "ANTHROPIC_FOUNDRY_AUTH_TOKEN",
  "CLAUDE_CODE_USE_GATEWAY", "CLAUDE_CODE_USE_ANTHROPIC_AWS", "CLAUDE_CODE_SKIP_ANTHROPIC_AWS_AUTH",
  "ANTHROPIC_AWS_BASE_URL", "ANTHROPIC_AWS_API_KEY", "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
  "CLAUDE_CODE_SKIP_ANTHROPIC_GOOGLE_CLOUD_AUTH", "ANTHROPIC_GOOGLE_CLOUD_BASE_URL", "ANTHROPIC_GOOGLE_CLOUD_PROJECT",
}

--- What an outer Claude Code leaves in the environment of the programs that it starts, Parley among them.
local OUTER_SESSION_VARIABLES = {
  "CLAUDECODE", "CLAUDE_CODE_CHILD_SESSION", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_SSE_PORT",
}

local function is_session_id(value)
  if not core.uuid.is_valid(value) then return "a UUID" end
end

--- Rows and columns. On fewer the program (2.1.110 to 2.1.332) shows no composer, or not enough of a message; nobody
--- reads a larger screen, and each cell takes memory.
local LEAST_ROWS, LEAST_COLUMNS, MOST = 20, 40, 1000

local function are_dimensions(value)
  for key in pairs(value) do
    if key ~= "rows" and key ~= "columns" and key ~= 1 and key ~= 2 then return "{rows, columns}" end
  end
  local rows, columns = value.rows or value[1], value.columns or value[2]
  local function fits(number, least)
    return math.type(number) == "integer" and number >= least and number <= MOST
  end
  if not (fits(rows, LEAST_ROWS) and fits(columns, LEAST_COLUMNS)) then
    return ("{rows, columns}, integers of %d to %d rows and %d to %d columns"):format(LEAST_ROWS, MOST, LEAST_COLUMNS,
      MOST)
  end
end

--- Has the program draw flat text, without a composer that can be told from an answer. The variable goes before the
--- user's settings, the flag before the variable.
local SCREEN_READER, SCREEN_READER_FLAG = "CLAUDE_AX_SCREEN_READER", "--ax-screen-reader"

local function are_names(value)
  for name in pairs(value) do
    if name == "" or name:find "=" then return ("variables by name (%q is no name)"):format(name) end
  end
end

local function are_variables(value)
  if not (value[SCREEN_READER] or "0"):find "^%s*0?%s*$" then
    return ("variables without %s: that mode shows no composer to type into"):format(SCREEN_READER)
  end
  return are_names(value)
end

local function are_settings(value)
  if type(value) == "string" then return nil end
  local _, err = core.json.encode(value)
  return err and ("settings that JSON can hold (%s)"):format(err.message)
end

--- Flags that turn the interactive program into one that prints and ends.
local PRINT_FLAGS = { ["--print"] = true, ["-p"] = true, ["--output-format"] = true, ["--input-format"] = true }

--- It has the program keep its transcript where nobody can say before it has started (2.1.197, 2.1.332).
local WORKTREE_FLAGS = { ["--worktree"] = true, ["-w"] = true }

local function are_interactive(words)
  for _, word in ipairs(words) do
    if word:match "^[^=]*" == SCREEN_READER_FLAG then
      return ("arguments without %s: that mode shows no composer to type into"):format(word)
    end
    if WORKTREE_FLAGS[word:match "^[^=]*"] then
      return ("arguments without %s: make the worktree yourself, and give it as 'cwd'"):format(word)
    end
    if PRINT_FLAGS[word:match "^[^=]*"] then return "arguments of the interactive program, without " .. word end
  end
end

--- The options of one process. Their meaning is that of the flags of `claude` with the same names.
---@type table<string, parley.OptionRule>
M.rules = {
  executable = { type = "string", default = "claude" },
  cwd = { type = "string" },
  session_id = { type = "string", check = is_session_id },
  resume_session_id = { type = "string", check = is_session_id },
  fork_session = { type = "boolean" },
  permission_mode = { type = "string", check = options.one_of(M.permission_modes) },
  dangerously_skip_permissions = { type = "boolean", default = false },
  model = { type = "string" },
  system_prompt = { type = "string" },
  append_system_prompt = { type = "string" },
  allowed_tools = { type = "list of strings" },
  disallowed_tools = { type = "list of strings" },
  mcp_config = { type = { "string", "list of strings" } },
  add_dir = { type = { "string", "list of strings" } },
  effort = { type = "string" },
  settings = { type = { "string", "table" }, copy = false, check = are_settings },
  extra_args = { type = "list of strings", check = are_interactive },
  dimensions = { type = "table", default = { rows = 40, columns = 120 }, check = are_dimensions },
  preserve_provider_env = { type = "boolean", default = false },
  extra_env = { type = "map of strings", check = are_variables },
  base_env = { type = "map of strings", check = are_names },
  capture_limit = { type = "positive integer", default = 1 << 20 },
}

--- Checks the options of one process and fills in the session id.
---@param given table
---@param where? string
---@return table options
function M.check(given, where)
  where = where or "parley.process"
  local checked = options.check(M.rules, given, where)
  if checked.resume_session_id and checked.session_id and not checked.fork_session then
    error(errors.value_error(where .. ": give session_id or resume_session_id, not both",
      { option = "resume_session_id" }), 0)
  end
  if checked.fork_session and not checked.resume_session_id then
    error(errors.value_error(where .. ": fork_session needs resume_session_id", { option = "fork_session" }), 0)
  end
  checked.permission_mode = checked.permission_mode or "bypassPermissions"
  if not checked.resume_session_id or checked.fork_session then
    checked.session_id = checked.session_id or core.uuid.generate()
  end
  local size = checked.dimensions
  checked.dimensions = { rows = size.rows or size[1], columns = size.columns or size[2] }
  return checked
end

local function as_list(value)
  return type(value) == "table" and value or { value }
end

--- Checks that the program will find its MCP configurations, where they are files and not JSON.
---@param set table  from `check`
---@param where string
--- Raises `ValueError` that names the file.
function M.check_files(set, where)
  for _, given in ipairs(as_list(set.mcp_config)) do
    local path = given:sub(1, 1) == "/" and given or (set.cwd or ".") .. "/" .. given
    local text, problem = given, nil
    if not given:find "^%s*{" then text, problem = files.read(path) end
    if not text then
      error(errors.value_error(("%s: option 'mcp_config' names a file that cannot be read: '%s': %s"):format(where,
        given, problem:match "[^: ][^:]*$"), { option = "mcp_config" }), 0)
    end
  end
end

--- It has the program write no transcript (2.1.110 to 2.1.332), which is where its answers are read.
local NO_TRANSCRIPT = "CLAUDE_CODE_SKIP_PROMPT_HISTORY"
local ON = { ["1"] = true, ["true"] = true, yes = true, on = true } -- all else is off, "2" too

--- Checks that the program will write a transcript.
---@param set table  from `check`
---@param where string
--- Raises `ValueError` that names the variable.
function M.check_environment(set, where)
  local value = M.environment(set)[NO_TRANSCRIPT] or ""
  if not ON[value:lower()] then return end
  error(errors.value_error(("%s: with the variable %s the program writes no transcript, where its answers are read: "
    .. "unset it, or give extra_env = { %s = \"0\" }"):format(where, NO_TRANSCRIPT, NO_TRANSCRIPT),
    { option = "extra_env" }), 0)
end

local function is_filled(list)
  return list and #list > 0
end

--- The argument vector for options that were checked.
---@param set table  from `check`; `message` besides: what the program takes by itself once it is ready
---@return string[] argv
function M.argv(set)
  local argv = { set.executable }
  local function add(...)
    for _, word in ipairs { ... } do table.insert(argv, word) end
  end
  if set.resume_session_id then
    add("--resume", set.resume_session_id)
    if set.fork_session then add("--fork-session", "--session-id", set.session_id) end
  else
    add("--session-id", set.session_id)
  end
  if set.dangerously_skip_permissions then
    add "--dangerously-skip-permissions"
  else
    add("--permission-mode", set.permission_mode)
  end
  if set.model then add("--model", set.model) end
  if set.system_prompt then add("--system-prompt", set.system_prompt) end
  if set.append_system_prompt then add("--append-system-prompt", set.append_system_prompt) end
  if is_filled(set.allowed_tools) then add("--allowedTools", table.concat(set.allowed_tools, ",")) end
  if is_filled(set.disallowed_tools) then add("--disallowedTools", table.concat(set.disallowed_tools, ",")) end
  for _, file in ipairs(as_list(set.mcp_config)) do add("--mcp-config", file) end
  if is_filled(set.add_dir) then add("--add-dir", table.unpack(as_list(set.add_dir))) end
  if set.effort then add("--effort", set.effort) end
  if set.settings then
    add("--settings", type(set.settings) == "table" and assert(core.json.encode(set.settings)) or set.settings)
  end
  add(table.unpack(set.extra_args or {}))
  if set.message then add("--", set.message) end
  return argv
end

--- The environment for options that were checked.
---@param set table  from `check`
---@return table<string, string> environment
function M.environment(set)
  local environment = tables.merged(set.base_env or uv.os_environ())
  for _, name in ipairs(OUTER_SESSION_VARIABLES) do environment[name] = nil end
  if not set.preserve_provider_env then
    for _, name in ipairs(PROVIDER_VARIABLES) do environment[name] = nil end
  end
  environment.TERM = "xterm-256color"
  environment.NO_COLOR = "1"
  environment[SCREEN_READER] = "0"
  environment = tables.merged(environment, set.extra_env)
  if environment.CLAUDE_CONFIG_DIR == "" then
    environment.CLAUDE_CONFIG_DIR = nil -- the program would keep its files in the folder where it works
  elseif (environment.CLAUDE_CONFIG_DIR or ""):find "^[^/]" then -- from the program's folder, not from the host's
    environment.CLAUDE_CONFIG_DIR = paths.config_folder(environment, uv.fs_realpath(set.cwd or "."))
  end
  return environment
end

--- The argument vector of `claude`.
---@param given table  the options of `parley.process`
---@return string[] argv  `argv[1]` is the executable
--- Raises `ValueError` for bad options.
function M.build_argv(given) return M.argv(M.check(given, "parley.build_argv")) end

--- The environment of `claude`.
---@param given table  the options of `parley.process`; `base_env` is where it starts from, by default the host's own
---@return table<string, string> environment
--- Raises `ValueError` for bad options.
function M.build_env(given) return M.environment(M.check(given, "parley.build_env")) end

return M
