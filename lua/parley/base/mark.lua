--- Marks: a variable in the environment of a program, which all that it starts inherits, whatever session, group or
--- parent it has by then.
---
--- Whoever carries a mark of this process' is ended when this process ends without having done so itself, by SIGKILL
--- too: a small shell script waits for that beside it.
local core = require "parley.core"

local M = {}

M.VARIABLE = "PARLEY_SESSION"

--- Ends whoever carries a mark that begins with `$1`: SIGTERM, half a second, SIGKILL until nobody is left.
local GUARD = ([[
cd / || exit
trap '' HUP INT TERM
{
  read -r _ <&3
  exec 3<&-
  signal=TERM
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    files=$(grep -lsaz "^%s=$1" /proc/[0-9]*/environ) # fails for other users' processes, too
    [ "$files" ] || exit
    for file in $files; do
      pid=${file#/proc/}
      kill -$signal "${pid%%/environ}"
    done
    signal=KILL
    sleep 0.5
  done
} &]]):format(M.VARIABLE)

local registry = debug.getregistry() -- of the Lua state, whose end it waits for, however often this file is loaded
local GUARDED = "parley.guarded"

--- Starts the script that waits for the end of this process, once. It holds a descriptor until then.
---@return {id: string, count: integer}? guarded
---@return parley.Fault? err
function M.guard()
  if not registry[GUARDED] then
    local id = core.uuid.generate()
    local descriptor, problem = core.survivor.start(GUARD, id)
    if not descriptor then return nil, problem end
    registry[GUARDED] = { id = id, count = 0, descriptor = descriptor }
  end
  return registry[GUARDED]
end

--- Makes a mark that nobody carries yet.
---@return string? mark  the value of `VARIABLE`
---@return parley.Fault? err
function M.new()
  local guarded, problem = M.guard()
  if not guarded then return nil, problem end
  guarded.count = guarded.count + 1
  return ("%s.%d"):format(guarded.id, guarded.count)
end

--- Whether an environment has a mark.
---@param environ string  as in /proc/PID/environ
---@param mark string
---@return boolean
function M.is_in(environ, mark)
  return ("\0" .. environ):find(("\0%s=%s\0"):format(M.VARIABLE, mark), 1, true) ~= nil
end

return M
