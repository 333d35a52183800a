--- The stand-in: a simulated `claude` that the host runs on a real pty.
---
--- It behaves as the published program was measured to behave, per version (stand_in/profiles.lua), and answers what a
--- *script* says (a Lua table; parley.testing documents it) or an echo. It holds no text of the real program beyond the
--- short strings that it is recognised by.
local core = require "parley.core"
local errors = require "parley.base.errors"
local task = require "parley.base.task"
local flags_of = require "parley.testing.stand_in.flags"
local input = require "parley.testing.stand_in.input"
local outside_of = require "parley.testing.stand_in.outside"
local program_of = require "parley.testing.stand_in.program"
local screen = require "parley.testing.stand_in.screen"
local start = require "parley.testing.stand_in.start"

local M = {}

--- Why the program refuses to start, as its one line.
local function refusal(program)
  local fault = program.faults.startup_exit
  if fault then return fault.text or "", fault.status end
  local is_root = program.outside.user == 0 and program.environment.IS_SANDBOX ~= "1"
  if program.permission_mode == "bypassPermissions" and is_root then
    return "--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons"
  end
  for _, flag in ipairs(program.profile.flags_in_prompts) do
    if program.flags.prompt and program.flags.prompt:find(flag) then return "Error: it is taken for a flag" end
  end
  return start.choose_session(program)
end

--- Signals for which the host's answer is not the real program's.
local function watch_signals(program)
  local handles = {}
  local function watch(signal, callback)
    table.insert(handles, program.outside.on_signal(signal, callback))
  end
  watch("sigint", function()
    local ending = errors.cancelled "interrupted by SIGINT"
    ending.exit_status = 0
    program.main:cancel(ending)
  end)
  watch("sigcont", function()
    program.screen:go_on(program.view)
    program:redraw()
  end)
  if program.faults.ignore_sigterm then watch("sigterm", function() end) end
  if program.faults.survive_hangup then watch("sighup", function() end) end
  return setmetatable(handles, { __close = function()
    for _, handle in ipairs(handles) do handle:close() end
  end })
end

--- Runs the program in a task of its own, which can be cancelled without the caller's.
local function live(program)
  program.main = task.spawn(program.run, program)
  return task.shield(function()
    local _, err = pcall(program.main.await, program.main)
    local is_end = errors.is(err, "Cancelled")
    program:close(is_end and err or {})
    if not is_end then error(err, 0) end
    return err.exit_status or 0
  end)
end

local function run_on_terminal(program)
  local outside = program.outside
  local opened, problem = input.open(outside, {
    on_resize = function()
      if not program.screen then return end
      program.screen:resize(program.input:size())
      program:redraw()
    end,
    ignores_hangup = program.faults.survive_hangup,
  })
  if not opened then
    outside.complain("Error: " .. problem)
    return 1
  end
  program.input = opened
  local rows, columns = opened:size()
  program.screen = screen.new { profile = program.profile, write = outside.write, rows = rows, columns = columns,
    has_no_title = program.environment.CLAUDE_CODE_DISABLE_TERMINAL_TITLE == "1" }
  local _ <close> = watch_signals(program)
  return live(program)
end

--- Runs the stand-in.
---@param words string[]  the command line of `claude`
---@param script table    see parley.testing
---@param outside? parley.testing.Outside  default: what this process has
---@return integer exit_status
function M.run(words, script, outside)
  outside = outside or outside_of.new()
  local flags, problem = flags_of.parse(words)
  if not flags then
    outside.complain(problem)
    return 1
  end
  local program = program_of.new(script, flags, outside)
  if outside.meet then outside.meet(program) end
  if flags.version then
    outside.write(program.profile.version .. " (Claude Code)\n")
    return 0
  elseif flags.help then
    outside.write "Usage: claude [options] [command] [prompt]\n"
    return 0
  elseif flags.command then
    outside.write(("Usage: claude %s [options] [command]\n"):format(flags.command))
    return 0
  end
  program.log:add("started", { argv = core.json.array(words), cwd = program.cwd, session_id = flags["session-id"] })
  local line, status = refusal(program)
  if line then
    outside.write(line .. "\n")
    program.log:add("ended", { status = status or 1 })
    return status or 1
  end
  return run_on_terminal(program)
end

return M
