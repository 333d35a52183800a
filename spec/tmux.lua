--- A program in a tmux of its own: a second opinion on what a terminal shows.
local busted = require "busted"
local uv = require "luv"
local helper = require "spec.helper"

local M = {}

local PATIENCE_MS = 20000

---@class spec.Tmux
local Tmux = {}
Tmux.__index = Tmux

--- An `it` that needs tmux.
---@param sentence string
---@param fn fun()
function M.it(sentence, fn)
  if not os.execute "command -v tmux > /dev/null 2>&1" then
    fn = function() busted.pending "tmux is not installed (scripts/bootstrap installs it)" end
  end
  busted.it(sentence, helper.task(fn, 60000))
end

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

--- Starts a program; its exit status is shown when it has ended.
---@param argv string[]
---@param options {env: table<string, string>, cwd: string, folder: string, columns?: integer, rows?: integer}
---       `folder` is for tmux's socket
---@return spec.Tmux  a `<close>` variable
function M.open(argv, options)
  local env = helper.environment(options.env, { TMUX_TMPDIR = options.folder, LC_ALL = "C.UTF-8" })
  local self = setmetatable({ env = env, rows = options.rows or 24 }, Tmux)
  local words = {}
  for i, word in ipairs(argv) do words[i] = quote(word) end
  self:command("new-session", "-d", "-x", tostring(options.columns or 80), "-y", tostring(self.rows),
    ("cd %s && %s; echo status $?; cat"):format(quote(options.cwd), table.concat(words, " ")))
  return self
end

--- Runs a command of tmux's.
---@param ... string
---@return string output
function Tmux:command(...)
  local name = ("parley-spec-%d"):format(uv.os_getpid())
  return helper.run({ "/usr/bin/env", "tmux", "-L", name, "-f", "/dev/null", ... }, { env = self.env }).output
end

--- Presses keys, by tmux's names.
---@param ... string  `"C-c"`
function Tmux:press(...) self:command("send-keys", ...) end

--- Types a text.
---@param text string
function Tmux:type(text) self:command("send-keys", "-l", text) end

---@return string  what the terminal shows, without the blanks at its end
function Tmux:screen() return (self:command("capture-pane", "-p"):gsub("%s*$", "")) end

--- Waits until the screen shows a text.
---@param text string  plain, or a Lua pattern
---@param is_pattern? boolean
---@return string screen
function Tmux:expect(text, is_pattern)
  local shown = ""
  local ok = pcall(helper.eventually, function()
    shown = self:screen()
    return shown:find(text, 1, not is_pattern)
  end, PATIENCE_MS)
  if not ok then error(("%q did not appear; tmux shows:\n%s"):format(text, shown), 2) end
  return shown
end

--- Gives the window another width, and waits until the program's terminal has it: tmux takes its time for a second one.
---@param columns integer
function Tmux:resize(columns)
  self:command("resize-window", "-x", tostring(columns), "-y", tostring(self.rows))
  local terminal = self:command("display-message", "-p", "#{pane_tty}"):gsub("%s", "")
  helper.eventually(function()
    return helper.run { "/bin/stty", "-F", terminal, "size" }.output == ("%d %d\n"):format(self.rows, columns)
  end)
end

function Tmux:__close() self:command "kill-server" end

return M
