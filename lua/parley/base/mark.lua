--- Marks: a variable in the environment of a program, which all that it starts inherits, whatever session, group or
--- parent it has by then.
---
--- Whoever carries a mark of this process' is ended when this process ends without having done so itself, by SIGKILL
--- too: a small shell script waits for that beside it. It removes this process' private folders, too.
local uv = require "luv"
local core = require "parley.core"
local files = require "parley.base.files"

local M = {}

M.VARIABLE = "PARLEY_SESSION"

--- Ends whoever carries a mark that begins with `$1`: SIGTERM, half a second, SIGKILL until nobody is left. Then it
--- removes the folders of that name.
local GUARD = ([[
cd / || exit
trap '' HUP INT TERM
{
  read -r _ <&3
  exec 3<&-
  signal=TERM
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    files=$(grep -lsaz "^%s=$1" /proc/[0-9]*/environ) # fails for other users' processes, too
    [ "$files" ] || break
    for file in $files; do
      pid=${file#/proc/}
      kill -$signal "${pid%%/environ}"
    done
    signal=KILL
    sleep 0.5
  done
  for parent in %s /tmp /dev/shm; do
    for folder in "$parent"/parley-*-"$1"-??????; do
      [ ! -d "$folder" ] || rm -rf "$folder"
    done
  done
} &]])

local function quoted(path) return "'" .. path:gsub("'", "'\\''") .. "'" end

local registry = debug.getregistry() -- of the Lua state, whose end it waits for, however often this file is loaded
local GUARDED = "parley.guarded"

--- Starts the script that waits for the end of this process, once. It holds a descriptor until then.
---@return {id: string, count: integer}? guarded
---@return parley.Fault? err
function M.guard()
  if not registry[GUARDED] then
    local id = core.uuid.generate()
    local descriptor, problem = core.survivor.start(GUARD:format(M.VARIABLE, quoted(uv.os_tmpdir())), id)
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

--- Makes a private folder that goes with this process, however that ends: under the system's folder for such, `/tmp` or
--- `/dev/shm`. Elsewhere nobody removes it for a process that was killed.
---@param name string     what its name begins with, behind `parley-`
---@param parent? string
---@return string path
--- Raises an error with the system's code.
function M.folder(name, parent)
  local guarded = M.guard()
  return files.temporary_folder(("parley-%s-%s"):format(name, guarded and guarded.id or "unguarded"), parent)
end

--- Whether an environment has a mark.
---@param environ string  as in /proc/PID/environ
---@param mark string
---@return boolean
function M.is_in(environ, mark)
  return ("\0" .. environ):find(("\0%s=%s\0"):format(M.VARIABLE, mark), 1, true) ~= nil
end

return M
