-- A dialogs policy: a person answers on the terminal. Other sessions go on meanwhile.
--
--   parley ask --permission-mode default --policy dialogs=scripts/examples/ask_on_terminal.lua "Tidy up this folder"
local parley = require "parley"
local uv = require "luv"

local M = {}

--- One dialog at a time has the terminal.
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

function M.decide(dialog)
  if dialog.is_cut then return { fail = "its beginning is out of sight: `dimensions` with more rows show it" } end
  local _ <close> = terminal:acquire()
  drop_typed()
  io.stderr:write("\n", dialog.text, "\n")
  while true do
    for i, label in ipairs(dialog.choices) do io.stderr:write(("  %d  %s\n"):format(i, label)) end
    io.stderr:write "your choice (or nothing, to give up): "
    local answer = read_line()
    if not answer or answer == "" then return { fail = "nobody answered it" } end
    local choice = math.tointeger(tonumber(answer))
    if choice and dialog.choices[choice] then return { choose = choice } end
  end
end

return M
