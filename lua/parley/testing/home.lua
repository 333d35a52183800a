--- The home of a simulated `claude`, and its working directory: with the start-up dialogs that are answered already and
--- the login, as the real program remembers them.
local core = require "parley.core"
local files = require "parley.base.files"

local M = {}

local function check_settings(value)
  local text, problem = core.json.encode(value)
  if not text then return "what JSON can hold: " .. problem.message end
end

--- The trust in a folder is remembered under its real path.
local function check_folder(value)
  if ("/" .. value .. "/"):find "/%.?%.?/" then return "the name of a folder, or of one in it such as a/b" end
end

local OWN_VARIABLES = { "CLAUDE_CONFIG_DIR", "PARLEY_STAND_IN_LOG" }

local function check_variables(value)
  for _, name in ipairs(OWN_VARIABLES) do
    if value[name] then return ("without %s, which the kit sets itself"):format(name) end
  end
end

--- The options for all this, see `parley.base.options`.
M.RULES = {
  trusted = { type = "boolean" }, onboarded = { type = "boolean" }, bypass_accepted = { type = "boolean" },
  settings = { type = "table", check = check_settings }, cwd = { type = "string", check = check_folder },
  extra_env = { type = "map of strings", check = check_variables },
}

--- Makes both in a folder.
---@param place {folder: string}  gets `home`, `cwd` and `environment`
---@param given {trusted?: boolean, onboarded?: boolean, bypass_accepted?: boolean, settings?: table, cwd?: string,
---       extra_env?: table<string, string>}  see `testing.kit`
function M.prepare(place, given)
  place.home, place.cwd = place.folder .. "/home", place.folder .. "/" .. (given.cwd or "work")
  assert(files.make_folder(place.home .. "/.claude"))
  assert(files.make_folder(place.cwd))
  local state = { hasCompletedOnboarding = given.onboarded ~= false, theme = "dark" }
  if given.trusted ~= false then state.projects = { [place.cwd] = { hasTrustDialogAccepted = true } } end
  assert(files.put(place.home .. "/.claude/.claude.json", core.json.encode(state), "w"))
  local settings = given.settings or {}
  if given.bypass_accepted ~= false then settings.skipDangerousModePermissionPrompt = true end
  assert(files.put(place.home .. "/.claude/settings.json", core.json.encode(settings), "w"))
  if given.onboarded ~= false then
    assert(files.put(place.home .. "/.claude/.credentials.json",
      '{"claudeAiOauth":{"refreshToken":"of-the-stand-in"}}', "w"))
  end
  place.environment = { HOME = place.home, CLAUDE_CONFIG_DIR = place.home .. "/.claude", IS_SANDBOX = "1",
    XDG_STATE_HOME = place.home .. "/.local/state" }
  for name, value in pairs(given.extra_env or {}) do place.environment[name] = value end
end

return M
