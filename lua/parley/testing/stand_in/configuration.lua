--- The files that `claude` keeps for its user: `.claude.json`, the settings, where a transcript goes. The stand-in
--- reads and writes them as the real program does, so that what was prepared or accepted is there at the next start.
---
--- The rule for the transcript's folder is written here a second time, away from parley.paths: if both came from one
--- place, no spec could tell that they are wrong.
local core = require "parley.core"
local files = require "parley.base.files"

local M = {}

---@class parley.testing.Configuration
---@field folder string      CONFIG
---@field cwd string         real path
---@field state table        `.claude.json`
---@field settings table[]   every settings file that counts and `--settings`, the weakest first
---@field package own_settings? table  those in CONFIG, whether they count or not
---@field plugins table[]    the hooks of each plugin folder
local Configuration = {}
Configuration.__index = Configuration

local function read_json(path)
  local text = files.read(path)
  local value = text and core.json.decode(text)
  return type(value) == "table" and value or nil
end

--- Reads what stands in a user's home and in a folder.
---@param environment table<string, string>
---@param cwd string  a real path
---@param extra_settings? string  the value of `--settings`: JSON, or a file
---@param plugin_folders? string[]
---@param sources? string  the value of `--setting-sources`: of user, project and local those that count; default: all
---@return parley.testing.Configuration
function M.load(environment, cwd, extra_settings, plugin_folders, sources)
  local self = setmetatable({ environment = environment, cwd = cwd }, Configuration)
  local own_folder = environment.CLAUDE_CONFIG_DIR -- an empty one is the working folder, which has no .claude.json
  local is_absolute = own_folder and own_folder:sub(1, 1) == "/"
  self.folder = is_absolute and own_folder or own_folder and cwd .. "/" .. own_folder or environment.HOME .. "/.claude"
  self.state_path = ((own_folder or "") ~= "" and self.folder or environment.HOME) .. "/.claude.json"
  self.state = read_json(self.state_path) or {}
  self.settings, self.own_settings = {}, read_json(self.folder .. "/settings.json")
  for _, each in ipairs { { "user", self.own_settings }, { "project", read_json(cwd .. "/.claude/settings.json") },
    { "local", read_json(cwd .. "/.claude/settings.local.json") } } do
    if not sources or sources:find(each[1], 1, true) then table.insert(self.settings, each[2]) end
  end
  if extra_settings then
    local is_inline = extra_settings:match "^%s*{"
    local path = extra_settings:gsub("^[^/]", self.cwd .. "/%0")
    table.insert(self.settings, is_inline and core.json.decode(extra_settings) or read_json(path))
  end
  self.plugins = {}
  local has_hooks = {} -- of two of one name the hooks of the first that has any count
  for _, folder in ipairs(plugin_folders or {}) do
    local manifest, hooks = read_json(folder .. "/.claude-plugin/plugin.json"), read_json(folder .. "/hooks/hooks.json")
    if manifest and hooks and not has_hooks[manifest.name] then
      has_hooks[manifest.name] = true
      table.insert(self.plugins, hooks)
    end
  end
  return self
end

--- Whether the user's settings let a URL be called.
local function is_allowed(self, url)
  local patterns = self:setting "allowedHttpHookUrls"
  for _, pattern in ipairs(patterns or {}) do
    local plain = pattern:gsub("[%^$()%%.%[%]+?-]", "%%%0"):gsub("%*", ".*")
    if url:find("^" .. plain .. "$") then return true end
  end
  return patterns == nil
end

--- One event name that the version does not know drops all hooks of a plugin.
local function is_known(hooks, events)
  for name in pairs(hooks) do
    if not events[name] then return false end
  end
  return true
end

--- Whether a group of hooks is for a tool: its matcher has names, with `|` between them, or is a regular expression,
--- of which only what Lua's patterns have, too, is understood.
local function is_for(group, tool_name)
  local matcher = group.matcher
  if not tool_name or not matcher or matcher == "" or matcher == "*" then return true end
  local is_plain = matcher:find "^[%w_|]+$"
  for each in matcher:gmatch "[^|]+" do
    if is_plain and each == tool_name or not is_plain and tool_name:find((each:gsub("[%%-]", "%%%0"))) then
      return true
    end
  end
  return false
end

--- The hooks of an event, from all settings and plugins.
---@param event string
---@param events table<string, true>  those that the version knows
---@param tool_name? string           of an event that is about a tool
---@return {type: string, command?: string, url?: string, timeout?: number}[]
function Configuration:hooks(event, events, tool_name)
  local found = {}
  if self:setting "disableAllHooks" then return found end
  local sources = table.move(self.settings, 1, #self.settings, 1, {})
  for _, plugin in ipairs(self.plugins) do
    if is_known(plugin.hooks or {}, events) then table.insert(sources, plugin) end
  end
  for _, each in ipairs(sources) do
    for _, group in ipairs(each.hooks and each.hooks[event] or {}) do
      for _, hook in ipairs(is_for(group, tool_name) and group.hooks or {}) do
        local is_fit = hook.type == "command" or hook.type == "http" and is_allowed(self, hook.url)
        if is_fit then table.insert(found, hook) end
      end
    end
  end
  return found
end

--- A setting of the user's, from the strongest settings that have it, or from `.claude.json`.
---@param name string
---@return any
function Configuration:setting(name)
  for index = #self.settings, 1, -1 do
    local value = self.settings[index][name]
    if value ~= nil then return value end
  end
  return self.state[name]
end

local FORBIDDEN_BY = { bypassPermissions = "disableBypassPermissionsMode", auto = "disableAutoMode" }

--- Whether any settings forbid a permission mode.
---@param mode string
---@return boolean
function Configuration:forbids(mode)
  for _, settings in ipairs(self.settings) do
    if (settings.permissions or {})[FORBIDDEN_BY[mode]] == "disable" then return true end
  end
  return false
end

--- The permission rules of a kind, from all settings.
---@param kind "allow"|"deny"|"ask"
---@return string[]  the caller's own
function Configuration:rules(kind)
  local rules = {}
  for _, settings in ipairs(self.settings) do
    local given = (settings.permissions or {})[kind] or {}
    table.move(given, 1, #given, #rules + 1, rules)
  end
  return rules
end

--- What the user's key bindings have a key do in the composer.
---@param key string
---@return string? action
function Configuration:binding(key)
  local action
  for _, group in ipairs((read_json(self.folder .. "/keybindings.json") or {}).bindings or {}) do
    if group.context == "Chat" then action = (group.bindings or {})[key] or action end
  end
  return action
end

--- Changes `.claude.json` on the disk.
---@param change fun(state: table)
function Configuration:update(change)
  self.state = read_json(self.state_path) or {}
  change(self.state)
  files.write(self.state_path, core.json.encode(self.state))
end

function Configuration:is_trusted()
  local project = (self.state.projects or {})[self.cwd]
  return project ~= nil and project.hasTrustDialogAccepted == true
end

function Configuration:trust()
  self:update(function(state)
    state.projects = state.projects or {}
    local project = state.projects[self.cwd] or {}
    project.hasTrustDialogAccepted = true
    state.projects[self.cwd] = project
  end)
end

--- The key in the environment, shortened as it is remembered, while nobody has said whether to use it.
---@return string? shortened
function Configuration:undecided_key()
  local key = self.environment.ANTHROPIC_API_KEY
  if not key or key == "" then return nil end
  local shortened = key:sub(-20)
  local responses = self.state.customApiKeyResponses or {}
  for _, list in pairs { responses.approved or {}, responses.rejected or {} } do
    for _, known in ipairs(list) do
      if known == shortened then return nil end
    end
  end
  return shortened
end

---@param shortened string
---@param verdict "approved"|"rejected"
function Configuration:decide_key(shortened, verdict)
  self:update(function(state)
    local responses = state.customApiKeyResponses or {}
    responses.approved = core.json.array(responses.approved or {})
    responses.rejected = core.json.array(responses.rejected or {})
    table.insert(responses[verdict], shortened)
    state.customApiKeyResponses = responses
  end)
end

function Configuration:is_bypass_accepted()
  if self.state.bypassPermissionsModeAccepted == true
    or (self.own_settings or {}).skipDangerousModePermissionPrompt == true then return true end
  for _, settings in ipairs(self.settings) do
    if settings.skipDangerousModePermissionPrompt == true then return true end
  end
  return false
end

--- Writes a setting into the user's own file.
---@param name string
---@param value any
function Configuration:set(name, value)
  local path = self.folder .. "/settings.json"
  local settings = read_json(path) or {}
  settings[name] = value
  files.make_folder(self.folder)
  files.write(path, core.json.encode(settings))
end

function Configuration:accept_bypass() self:set("skipDangerousModePermissionPrompt", true) end

--- A folder's name under `projects/`.
---@param path string
---@return string
function M.project_name(path)
  if #path <= 200 and not path:find "[\x80-\xFF]" then return (path:gsub("%W", "-")) end
  local name, hash = {}, 0
  local function unit(code)
    local is_plain = code < 128 and string.char(code):find "%w"
    name[#name + 1] = is_plain and string.char(code) or "-"
    hash = (hash * 31 + code) & 0xFFFFFFFF
  end
  for _, code in utf8.codes(path, true) do
    if code < 0x10000 then
      unit(code)
    else
      unit(0xD7C0 + (code >> 10))
      unit(0xDC00 + (code & 0x3FF))
    end
  end
  if #name <= 200 then return table.concat(name) end
  hash = hash < 0x80000000 and hash or 0x100000000 - hash
  local digits = ""
  while hash > 0 or digits == "" do
    local digit = hash % 36
    digits = ("0123456789abcdefghijklmnopqrstuvwxyz"):sub(digit + 1, digit + 1) .. digits
    hash = hash // 36
  end
  return table.concat(name, "", 1, 200) .. "-" .. digits
end

---@param session_id string
---@param cwd? string  default: where the program was started
---@return string path
function Configuration:transcript_path(session_id, cwd)
  return ("%s/projects/%s/%s.jsonl"):format(self.folder, M.project_name(cwd or self.cwd), session_id)
end

--- Where a transcript is that is not among those of the folder in which the program was started.
---@param session_id string
---@return string? path
function Configuration:moved_transcript(session_id)
  if files.size(self:transcript_path(session_id)) then return nil end
  for _, name in ipairs(files.names(self.folder .. "/projects")) do
    local path = ("%s/projects/%s/%s.jsonl"):format(self.folder, name, session_id)
    if files.size(path) then return path end
  end
end

---@param pid integer
---@return string path
function Configuration:status_path(pid) return ("%s/sessions/%d.json"):format(self.folder, pid) end

return M
