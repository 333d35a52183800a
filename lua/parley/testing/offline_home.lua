--- A home folder for the real `claude`, in which it starts without a question and talks to a server on loopback only.
---
---     local server <close> = messages_api.start()
---     local home <close> = offline_home.new { base_url = server.url }
---     -- run claude in home.cwd with home.extra_env
---
--- Each start-up dialog is answered beforehand, in the files where the program remembers answers. `answers` leaves some
--- out, to make their dialogs come up: `offline_home.new { answers = { trust = false } }`.
local files = require "parley.base.files"
local json = require("parley.core").json
local options = require "parley.base.options"
local uv = require "luv"

local M = {}

local API_KEY = "sk-ant-offline-0000000000000000"
local ANSWERS = { onboarding = true, trust = true, api_key = true, bypass = true }

local function check_answers(value)
  for name, answer in pairs(value) do
    if ANSWERS[name] == nil or type(answer) ~= "boolean" then
      return "onboarding, trust, api_key and bypass, each true or false"
    end
  end
end

local rules = {
  base_url = { type = "string" },
  answers = { type = "table", default = {}, check = check_answers },
  settings = { type = "table", default = {} },
  variables = { type = "map of strings", default = {} },
}

---@class parley.testing.OfflineHome
---@field home string                       the home folder
---@field cwd string                        an empty folder to work in, its real path
---@field extra_env table<string, string>   the variables that make the program use all this
---@field package root string
local Home = {}
Home.__index = Home
Home.__name = "parley.testing.OfflineHome"

local function make_folder(path)
  local ok, err = files.make_folder(path)
  if not ok then error(err, 0) end
end

local function write_json(path, value)
  files.write(path, assert(json.encode(value, { sort_keys = true, indent = 2 })))
end

--- What `.claude.json` remembers (2.1.110 to 2.1.330).
local function remembered(answered, cwd)
  return {
    theme = "dark",
    hasCompletedOnboarding = answered.onboarding or nil,
    bypassPermissionsModeAccepted = answered.bypass or nil,
    customApiKeyResponses = {
      approved = json.array { answered.api_key and API_KEY:sub(-20) or nil }, -- it keeps a key's last 20 characters
      rejected = json.array {},
    },
    projects = { [cwd] = { hasTrustDialogAccepted = answered.trust } },
  }
end

local function fill(root, given)
  local answered = {}
  for name, default in pairs(ANSWERS) do
    answered[name] = default
    if given.answers[name] ~= nil then answered[name] = given.answers[name] end
  end
  local home, cwd, scratch = root .. "/home", root .. "/work", root .. "/tmp"
  for _, folder in ipairs { home .. "/.claude", cwd, scratch } do make_folder(folder) end
  local settings = { skipDangerousModePermissionPrompt = answered.bypass or nil }
  for name, value in pairs(given.settings) do settings[name] = value end
  write_json(home .. "/.claude.json", remembered(answered, cwd))
  write_json(home .. "/.claude/settings.json", settings)

  local extra_env = {
    HOME = home,
    TMPDIR = scratch,
    XDG_STATE_HOME = home .. "/.local/state",
    ANTHROPIC_API_KEY = API_KEY,
    ANTHROPIC_BASE_URL = given.base_url,
    IS_SANDBOX = "1", -- bypassPermissions refuses to run as root without
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1",
    DISABLE_AUTOUPDATER = "1",
  }
  if os.getenv "CLAUDE_CONFIG_DIR" then -- the user's own, and the program takes an empty one for the current folder
    extra_env.CLAUDE_CONFIG_DIR = home .. "/.claude"
    write_json(home .. "/.claude/.claude.json", remembered(answered, cwd))
  end
  for name, value in pairs(given.variables) do extra_env[name] = value end
  return { root = root, home = home, cwd = cwd, extra_env = extra_env }
end

--- Makes a fresh home under the folder for temporary files.
---@param given? table  `base_url` of the Messages API; `answers`, of the dialogs `onboarding`, `trust`, `api_key` and
---  `bypass`, each true by default; `settings`, added to `settings.json`; `variables`, added to `extra_env`
---@return parley.testing.OfflineHome
--- Raises `ValueError`, or an error object with the system's code.
function M.new(given)
  given = options.check(rules, given, "offline_home.new")
  local root = assert(uv.fs_realpath(files.temporary_folder "parley-home")) -- trust is remembered under the real path
  local ok, home = pcall(fill, root, given)
  if ok then return setmetatable(home, Home) end
  files.remove_tree(root)
  error(home, 0)
end

--- Removes the folders, once the program that used them has ended. Further calls do nothing.
function Home:close() files.remove_tree(self.root) end

Home.__close = Home.close

function Home:__tostring() return ("%s (%s)"):format(Home.__name, self.home) end

return M
