--- The names of the program's hook events, and since when there are. One that a version does not know has it drop all
--- hooks of a plugin, without a word.
local errors = require "parley.base.errors"
local suggest = require "parley.base.suggest"
local versions = require "parley.claude.version"

local M = {}

--- Found in the program's text: 2.1.110, 2.1.197, 2.1.330, 2.1.332. What came between two of them counts from the later
--- one on; `MessageDisplay` was seen on 2.1.160.
local SINCE = {
  ["2.1.110"] = { "PreToolUse", "PostToolUse", "PostToolUseFailure", "Notification", "UserPromptSubmit", "SessionStart",
    "SessionEnd", "Stop", "StopFailure", "SubagentStart", "SubagentStop", "PreCompact", "PostCompact",
    "PermissionRequest", "PermissionDenied", "Setup", "TeammateIdle", "TaskCreated", "TaskCompleted", "Elicitation",
    "ElicitationResult", "ConfigChange", "WorktreeCreate", "WorktreeRemove", "InstructionsLoaded", "CwdChanged",
    "FileChanged" },
  ["2.1.160"] = { "MessageDisplay" },
  ["2.1.197"] = { "PostToolBatch", "UserPromptExpansion" },
  ["2.1.330"] = { "PreModelSwitch", "PostModelSwitch", "DirectoryAdded" },
  ["2.1.332"] = { "PreSkillShellCommand" },
}

--- Those that run commands only: over HTTP they never come.
local WITHOUT_HTTP = { SessionStart = true, Setup = true }

local function since_of(name)
  for version, names in pairs(SINCE) do
    for _, each in ipairs(names) do
      if each == name then return version end
    end
  end
end

--- The events that are called over HTTP, sorted.
---@return string[]
function M.names()
  local all = {}
  for _, names in pairs(SINCE) do
    for _, name in ipairs(names) do
      if not WITHOUT_HTTP[name] then table.insert(all, name) end
    end
  end
  table.sort(all)
  return all
end

--- Whether the program calls an event over HTTP.
---@param name string
---@param version? string  `"2.1.332"`; nil where it is not known: then the oldest is meant
---@return boolean
function M.has(name, version)
  local since = since_of(name)
  return since ~= nil and not WITHOUT_HTTP[name] and versions.is_at_least(version or "2.1.110", since)
end

--- Checks the names that a caller gives.
---@param given table<any, any>  functions by name
---@param where string
--- Raises `ValueError` that names the near one.
function M.check(given, where)
  for name, handler in pairs(given) do
    local known = M.names()
    if type(name) ~= "string" or not since_of(name) then
      error(errors.value_error(("%s: option 'hooks' has '%s', which is no event of the program's%s"):format(where,
        tostring(name), suggest.near(tostring(name), known)), { option = "hooks" }), 0)
    elseif WITHOUT_HTTP[name] then
      error(errors.value_error(("%s: option 'hooks' has '%s', which the program tells only commands of its settings")
        :format(where, name), { option = "hooks" }), 0)
    elseif type(handler) ~= "function" then
      error(errors.value_error(("%s: option 'hooks': '%s' must be a function, not a %s"):format(where, name,
        type(handler)), { option = "hooks" }), 0)
    end
  end
end

return M
