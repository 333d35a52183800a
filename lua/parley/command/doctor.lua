--- What stands between a user and the first answer, as far as files tell: findings, each with what to do about it.
--- Nothing is written, started (but for `claude --version`) or sent, and no secret gets into a finding.
local uv = require "luv"
local clock = require "parley.base.clock"
local conformance = require "parley.claude.conformance"
local core = require "parley.core"
local dialog_kinds = require "parley.claude.dialog_kinds"
local files = require "parley.base.files"
local launch = require "parley.claude.launch"
local login = require "parley.claude.login"
local paths = require "parley.claude.paths"
local program = require "parley.base.program"
local task = require "parley.base.task"

local M = {}

--- The oldest version that Parley was tried on.
local OLDEST = { 2, 1, 110 }
local VERSION_TIMEOUT_MS = 15000
local SMALLEST = { rows = 24, columns = 80 }

---@class parley.Finding
---@field check string     what was looked at, a word
---@field level "ok"|"warning"|"problem"
---@field message string
---@field remedy? string   what to do about it

---@class parley.DoctorContext
---@field set table        the options of the process, checked
---@field environment table<string, string>  what claude gets
---@field host_environment table<string, string>
---@field cwd string       real path
---@field config_folder string
---@field state table      `.claude.json`; empty when it cannot be read
---@field settings table[] the settings files that could be read
---@field accept table<string, true>
---@field version_timeout_ms number

local function table_or_nil(value) return type(value) == "table" and value or nil end

local function remedy_of(kind)
  for _, entry in ipairs(dialog_kinds.at_start) do
    if entry.kind == kind then return entry.remedy end
  end
end

--- A dialog that will come up is no problem when it may be answered.
local function pending(context, report, check, kind, message)
  if context.accept[kind] then
    report(check, "ok", message .. "; the dialog will be answered with yes (accept)")
  else
    report(check, "problem", message, remedy_of(kind))
  end
end

local function is_older(version, other)
  for i = 1, 3 do
    if version[i] ~= other[i] then return version[i] < other[i] end
  end
  return false
end

local function numbers_of(text)
  local major, minor, patch = text:match "(%d+)%.(%d+)%.(%d+)"
  return major and { tonumber(major), tonumber(minor), tonumber(patch) }
end

local checks = {}

function checks.executable(context, report)
  local name = context.set.executable
  local path = program.find(name, context.environment)
  if not path then
    local where = name:find "/" and "that may be run" or "on the PATH"
    return report("executable", "problem", ("there is no program '%s' %s"):format(name, where),
      "install Claude Code, or name the program (--executable)")
  end
  local text, problem = program.output({ path, "--version" }, context.environment, context.version_timeout_ms)
  local version = numbers_of(text or "")
  if not version then
    return report("executable", "problem", ("%s --version %s"):format(path, problem or "prints no version"),
      "see whether it is Claude Code, and whether it runs by itself")
  end
  local words = table.concat(version, ".")
  context.version = words
  if is_older(version, OLDEST) then
    return report("executable", "warning", ("%s is version %s, older than any that Parley was tried on (%s)"):format(
      path, words, table.concat(OLDEST, ".")), "update Claude Code")
  end
  report("executable", "ok", ("%s, version %s"):format(path, words))
end

--- The newest version that conformance was run on.
local function newest_known()
  local newest
  for words in pairs(conformance) do
    local version = numbers_of(words)
    if not newest or is_older(newest, version) then newest = version end
  end
  return newest
end

--- What is known of the version: whether it keeps the promises.
function checks.conformance(context, report)
  local version = context.version and numbers_of(context.version)
  if not version or is_older(version, OLDEST) then return end
  local words, known = context.version, conformance[context.version]
  if not known then
    local newest = newest_known()
    local problem = is_older(newest, version) and "it is newer than any that was tried (%s)"
      or "it was not tried; the newest that was is %s"
    return report("conformance", "warning", ("nothing is known of %s: "):format(words)
      .. problem:format(table.concat(newest, ".")), "try it: parley doctor --probe-turn, or make conformance VERSIONS="
      .. words)
  end
  if known.wrong then
    return report("conformance", "warning", ("on %s version %s broke promises: %s%s"):format(known.date, words,
      known.wrong, known.short and "; falls short of: " .. known.short or ""), "take another version of Claude Code")
  end
  report("conformance", "ok", ("on %s version %s kept every promise%s"):format(known.date, words,
    known.short and ", but for: " .. known.short or ""))
end

function checks.config(context, report)
  local folder = context.config_folder
  if not uv.fs_stat(folder) then
    return report("config", "problem", folder .. " does not exist: claude has not run here yet",
      "run `claude` once, or set CLAUDE_CONFIG_DIR")
  end
  if not uv.fs_access(folder, "W") then
    return report("config", "problem", folder .. " cannot be written: claude could keep no transcript",
      "make it yours, or set CLAUDE_CONFIG_DIR")
  end
  report("config", "ok", folder)
end

--- Files that stop claude with a dialog when they cannot be read.
function checks.files(context, report)
  for _, path in ipairs(context.broken) do
    report("files", "problem", path .. " is no JSON object: claude will ask what to do", "mend or remove it")
  end
end

function checks.onboarding(context, report)
  if context.state.hasCompletedOnboarding == true then
    return report("onboarding", "ok", "the first start was gone through")
  end
  pending(context, report, "onboarding", "onboarding", "claude will begin with its first start (theme, login)")
end

local CLOUDS = { "BEDROCK", "VERTEX", "FOUNDRY", "MANTLE", "GATEWAY", "ANTHROPIC_AWS", "ANTHROPIC_GOOGLE_CLOUD" }

local function is_filled(value) return type(value) == "string" and value ~= "" end

--- Where claude will find a login without asking, in words.
local function login_source(context)
  local environment = context.environment
  local function is_set(name) return is_filled(environment[name]) end
  for _, cloud in ipairs(CLOUDS) do
    if is_set("CLAUDE_CODE_USE_" .. cloud) then return "by the provider that CLAUDE_CODE_USE_" .. cloud .. " names" end
  end
  for _, name in ipairs { "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN" } do
    if is_set(name) then return "by " .. name end
  end
  for _, settings in ipairs(context.settings) do
    local variables = table_or_nil(settings.env) or {}
    if is_filled(settings.apiKeyHelper) then return "by the apiKeyHelper of the settings" end
    if is_filled(variables.ANTHROPIC_API_KEY) or is_filled(variables.ANTHROPIC_AUTH_TOKEN) then
      return "by the variables of the settings"
    end
  end
end

local function contains(list, value)
  for _, item in ipairs(table_or_nil(list) or {}) do
    if item == value then return true end
  end
  return false
end

--- The key of the environment, which claude asks about once.
local function check_key(context, report, key)
  local answers = table_or_nil(context.state.customApiKeyResponses) or {}
  if contains(answers.approved, key:sub(-20)) then
    return report("login", "ok", "by ANTHROPIC_API_KEY, which claude was allowed to use")
  elseif contains(answers.rejected, key:sub(-20)) then
    return report("login", "warning", "claude was told not to use the ANTHROPIC_API_KEY of its environment",
      "take the key out of customApiKeyResponses.rejected in .claude.json, or log in")
  end
  pending(context, report, "login", "api_key", "claude will ask whether to use the ANTHROPIC_API_KEY that it gets")
end

local function check_credentials(report, path, credentials)
  local mode = assert(uv.fs_stat(path)).mode & 511
  if mode & 63 ~= 0 then
    report("credentials", "warning", ("%s can be read by others (mode %03o)"):format(path, mode), "chmod 600 " .. path)
  end
  local expires = math.tointeger(credentials.expiresAt)
  local is_renewable = type(credentials.refreshToken) == "string" and credentials.refreshToken ~= ""
  if expires and expires < clock.wall() and not is_renewable then
    return report("login", "problem", "the login in " .. path .. " has expired", "run `claude` and /login")
  end
  report("login", "ok", "by the account in " .. path)
end

function checks.login(context, report)
  local source, key = login_source(context), context.environment.ANTHROPIC_API_KEY
  if source then return report("login", "ok", source) end
  if key and key ~= "" then return check_key(context, report, key) end
  local path = context.config_folder .. "/.credentials.json"
  local stored = table_or_nil(core.json.decode(files.read(path) or ""))
  if stored and table_or_nil(stored.claudeAiOauth) then
    return check_credentials(report, path, stored.claudeAiOauth)
  end
  if is_filled(context.state.primaryApiKey) then return report("login", "ok", "by the key in .claude.json") end
  local kept = login.kept(context.environment, context.host_environment)
  report("login", "problem", "no login was found: no account, no key"
    .. (kept and (" (the %s of your environment is kept from claude)"):format(kept) or ""), login.remedy(kept))
end

--- The nearest folder that was trusted, this one or one above it.
local function trusted_folder(context)
  local projects, folder = table_or_nil(context.state.projects) or {}, context.cwd
  while true do
    local project = table_or_nil(projects[folder])
    if project and project.hasTrustDialogAccepted == true then return folder end
    if folder == "/" then return nil end
    folder = folder:match "^(.+)/[^/]*$" or "/"
  end
end

function checks.trust(context, report)
  local folder = trusted_folder(context)
  if folder == context.cwd then
    report("trust", "ok", folder .. " is trusted")
  elseif folder then
    report("trust", "ok", ("%s stands in %s, which is trusted"):format(context.cwd, folder))
  else
    pending(context, report, "trust", "trust", context.cwd .. " is not trusted")
  end
end

function checks.permissions(context, report)
  local set = context.set
  if not (set.dangerously_skip_permissions or set.permission_mode == "bypassPermissions") then
    return report("permissions", "ok", "permission mode " .. set.permission_mode)
  end
  local accepted = context.state.bypassPermissionsModeAccepted == true
  for _, settings in ipairs(context.settings) do
    accepted = accepted or settings.skipDangerousModePermissionPrompt == true
    if (table_or_nil(settings.permissions) or {}).disableBypassPermissionsMode == "disable" then
      return report("permissions", "problem", "the settings forbid bypassPermissions", "--permission-mode default")
    end
  end
  if uv.getuid() == 0 and context.environment.IS_SANDBOX ~= "1" then
    return report("permissions", "problem", "claude refuses bypassPermissions as root",
      "run as another user, or another --permission-mode; in a container --env IS_SANDBOX=1")
  end
  if accepted then return report("permissions", "ok", "bypassPermissions, which was accepted") end
  pending(context, report, "permissions", "bypass", "the warning about bypassPermissions was not accepted")
end

function checks.transcripts(context, report)
  local folder = context.config_folder .. "/projects/" .. paths.encode_project(context.cwd)
  local at = folder
  while not uv.fs_stat(at) and at ~= "/" do at = at:match "^(.+)/[^/]*$" or "/" end
  if not uv.fs_access(at, "W") then
    return report("transcripts", "problem", at .. " cannot be written: no turn could be followed", "make it yours")
  end
  local watch <close> = task.closing(uv.new_fs_event())
  if not watch.handle:start(at, {}, function() end) then
    return report("transcripts", "warning", folder .. "; the kernel grants no more watches, so files are polled",
      "raise fs.inotify.max_user_instances and max_user_watches")
  end
  report("transcripts", "ok", folder)
end

function checks.environment(context, report)
  local dropped = {}
  for name in pairs(context.host_environment) do
    if context.environment[name] == nil then table.insert(dropped, name) end
  end
  table.sort(dropped)
  context.dropped = dropped
  if dropped[1] then report("environment", "ok", "kept from claude: " .. table.concat(dropped, ", ")) end
end

function checks.terminal(context, report)
  local rows, columns = context.set.dimensions.rows, context.set.dimensions.columns
  local size = ("claude gets %d rows and %d columns"):format(rows, columns)
  if rows < SMALLEST.rows or columns < SMALLEST.columns then
    return report("terminal", "warning", size .. ", fewer than its screen was ever read at",
      ("dimensions of at least {%d, %d}"):format(SMALLEST.rows, SMALLEST.columns))
  end
  report("terminal", "ok", size)
end

local ORDER = { "executable", "conformance", "config", "files", "onboarding", "login", "trust", "permissions",
  "transcripts", "environment", "terminal" }

--- Reads a JSON object; what exists and is none goes to the list of broken files.
local function read_object(path, broken)
  local text = files.read(path)
  local value = text and core.json.decode(text)
  if type(value) == "table" and not core.json.is_array(value) then return value end
  if text then table.insert(broken, path) end
end

local function context_of(given, accept, host_environment)
  local set = launch.check(given, "parley doctor")
  local context = { set = set, environment = launch.environment(set), host_environment = host_environment,
    cwd = paths.real_folder(set.cwd), accept = {}, settings = {}, broken = {} }
  for _, kind in ipairs(accept or {}) do context.accept[kind] = true end
  local own = context.environment.CLAUDE_CONFIG_DIR
  context.config_folder = paths.config_folder(context.environment)
  local home = own and own ~= "" and context.config_folder or context.config_folder:match "^(.*)/"
  context.state = read_object(home .. "/.claude.json", context.broken) or {}
  for _, path in ipairs { context.config_folder .. "/settings.json", context.cwd .. "/.claude/settings.json",
    context.cwd .. "/.claude/settings.local.json" } do
    context.settings[#context.settings + 1] = read_object(path, context.broken)
  end
  return context
end

--- Examines what files tell.
---@param given table   the options of `parley.process`
---@param accept? string[]  the dialogs that may be answered
---@param more? {version_timeout_ms?: number, host_environment?: table<string, string>}
---@return parley.Finding[] findings
---@return parley.DoctorContext context
--- Raises `ValueError` for bad options.
function M.examine(given, accept, more)
  local context = context_of(given, accept, more and more.host_environment or given.base_env or uv.os_environ())
  context.version_timeout_ms = more and more.version_timeout_ms or VERSION_TIMEOUT_MS
  local findings = {}
  local function report(check, level, message, remedy)
    table.insert(findings, { check = check, level = level, message = message, remedy = remedy })
  end
  for _, name in ipairs(ORDER) do checks[name](context, report) end
  return findings, context
end

local RANK = { ok = 1, warning = 2, problem = 3 }

--- The worst level among findings.
---@param findings parley.Finding[]
---@return "ok"|"warning"|"problem"
function M.worst(findings)
  local worst = "ok"
  for _, finding in ipairs(findings) do
    if RANK[finding.level] > RANK[worst] then worst = finding.level end
  end
  return worst
end

return M
