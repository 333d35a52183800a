-- A permission policy: a person at the terminal sees each call whole and says yes, or why not. Other sessions go on.
--
--   parley ask --policy permission=scripts/examples/ask_about_calls.lua "Tidy up this folder"
local parley = require "parley"
local uv = require "luv"

local M = {}

--- One call at a time has the terminal.
local terminal = parley.task.semaphore(1)

--- Drops the lines that were typed before a question was to be seen: they answer nothing.
local function drop_typed()
  local descriptor = uv.fs_open("/dev/tty", uv.constants.O_RDONLY | uv.constants.O_NONBLOCK, 0)
  if not descriptor then return end
  repeat until (uv.fs_read(descriptor, 4096) or "") == ""
  uv.fs_close(descriptor)
end

--- Reads a line from the terminal; nil when there is none.
local function read_line()
  local descriptor = uv.fs_open("/dev/tty", "r", 0)
  if not descriptor then return nil end
  local tty = uv.new_tty(descriptor, true)
  local _ <close> = parley.task.closing(tty)
  return parley.task.suspend(function(wake)
    tty:read_start(function(_, bytes) wake(bytes and bytes:match "^%s*(.-)%s*$") end)
  end)
end

function M.decide(call)
  local _ <close> = terminal:acquire()
  local who = call.agent and "a sub-agent calls " or "the model calls "
  local text = parley.json.encode(call.input, { sort_keys = true })
  text = text:gsub("[%z\1-\8\11-\31\127]", "?"):gsub("\xE2\x80[\xAA-\xAE]", "?") -- or it shows in another order
  drop_typed()
  io.stderr:write("\n", who, call.name, "\n", text, "\n",
    "yes, or what to tell the model: ")
  local answer = read_line()
  if not answer then return { deny = "nobody is there to allow it", interrupt = true } end
  if answer == "y" or answer == "yes" then return { allow = true } end
  return { deny = answer ~= "" and "the user says: " .. answer or "the user does not want it" }
end

return M
