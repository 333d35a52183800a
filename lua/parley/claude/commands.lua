--- What is known of the program's own commands, those that begin with a slash.
local errors = require "parley.base.errors"
local options = require "parley.base.options"

local M = {}

--- Commands that change the user's settings, or account, for every later session (2.1.110 to 2.1.332 write
--- `settings.json` or `.claude.json`), and what does the same for one conversation.
local WRITE_SETTINGS = {
  model = "the option `model`, of the backend or of a route",
  effort = "the option `effort`, of the backend or of a route",
  ["output-style"] = "`settings = { outputStyle = … }`", theme = false, vim = false, fast = false, focus = false,
  tui = false, autocompact = false, advisor = false, statusline = false, keybindings = false,
  ["terminal-setup"] = false, ["privacy-settings"] = false, login = false, logout = false, voice = false,
}
--- These only show something when they stand alone.
local WRITE_WITH_ARGUMENTS = { config = "`settings = { … }`", settings = "`settings = { … }`",
  permissions = "`allowed_tools`, `disallowed_tools` or a dialogs policy", sandbox = "`settings = { sandbox = … }`",
  mcp = "`mcp_servers`", plugin = "`extra_args = { \"--plugin-dir\", … }`" }
--- Other names of theirs.
WRITE_WITH_ARGUMENTS["allowed-tools"] = WRITE_WITH_ARGUMENTS.permissions
WRITE_WITH_ARGUMENTS.plugins = WRITE_WITH_ARGUMENTS.plugin
WRITE_WITH_ARGUMENTS.marketplace = WRITE_WITH_ARGUMENTS.plugin

local function refuse(message, ...) error(errors.value_error(message:format(...)), 0) end

--- Checks that a text is a command that may be run in somebody's conversation.
---@param text any
--- Raises `ValueError` for what is no command, and for one that would change the user's settings.
function M.check(text)
  local is_text = type(text) == "string"
  local name, rest = (is_text and text or ""):match "^/([%w:_-]+)%f[%s\0](.*)$"
  if not name or text:find "[\0-\31\127]" then
    refuse("a command is one line that begins with a slash and its name, not %s",
      options.describe(is_text and errors.beginning(text, 40) or text))
  end
  if not utf8.len(text) then refuse "a command must be valid UTF-8" end
  name = name:lower()
  local instead = WRITE_SETTINGS[name]
  if instead == nil and rest:find "%S" then instead = WRITE_WITH_ARGUMENTS[name] end
  if instead == nil then return end
  refuse("/%s changes the user's own settings, for every later session: %s", name,
    instead and "use " .. instead or "run it in `claude`")
end

--- What stands there of a command that the program does not know: from the user on 2.1.110, later from the system.
M.UNKNOWN = "^Unknown command: /"

--- What a command writes that has failed. 2.1.197 has it in the place of what others show, and only its words tell.
local FAILURES = { "^<local%-command%-stderr>%s*(.-)%s*</local%-command%-stderr>",
  "^<local%-command%-stdout>%s*(Error during compaction: .-)%s*</local%-command%-stdout>",
  "^<local%-command%-stdout>%s*(Compaction failed · .-)%s*</local%-command%-stdout>" }

--- Other names that the program knows commands by, as its own list has them (2.1.110 to 2.1.332; `/fork` on 2.1.110).
local OTHER_NAMES = { new = "clear", reset = "clear", fork = "branch", continue = "resume", checkpoint = "rewind",
  undo = "rewind", quit = "exit", cost = "usage", stats = "usage", settings = "config", bug = "feedback",
  share = "bug", bashes = "tasks", name = "rename", checkup = "doctor", bg = "background", update = "restart",
  proactive = "loop", routines = "schedule", app = "desktop", ios = "mobile", android = "mobile", rc = "remote-control",
  remote = "session", tp = "teleport", plugins = "plugin", marketplace = "plugin", ["allowed-tools"] = "permissions" }

--- The command that the program says it runs.
---@param event parley.Event
---@return string? name  without its slash
function M.name_in(event)
  local text = event.type == "user" and event:text() or event.subtype == "local_command" and event.message
  if type(text) ~= "string" or not text:find "^<command%-%a+>" then return nil end
  return text:match "<command%-name>/?([^<]+)</command%-name>"
end

--- Whether a command is called that: a plugin's may be typed without the plugin's name.
---@param text string  the command
---@param name string  as the program has it
---@return boolean
function M.is_named(text, name)
  local typed, ran = text:match "^/(%S+)":lower(), name:lower()
  return typed == ran or OTHER_NAMES[typed] == ran or ran:sub(-#typed - 1) == ":" .. typed
end

--- What the program says of a command that has failed, or that it does not know.
---@param event parley.Event  of the command's turn
---@return string? words  nil: the event says nothing of the kind
function M.failure_in(event)
  local text = event.type == "user" and event:text() or event.message
  local is_said = event.type == "user" or event.subtype == "local_command" or event.subtype == "informational"
  if not is_said or type(text) ~= "string" then return nil end
  if text:find(M.UNKNOWN) then return text end
  for _, pattern in ipairs(FAILURES) do
    local words = text:match(pattern)
    if words then return words end
  end
end

return M
