--- The processes that a program has started, and those that they have: what its tools run has sessions of its own,
--- which neither a signal to the program's group nor the terminal's end reaches (2.1.110, 2.1.197; after SIGKILL every
--- version).
local uv = require "luv"
local files = require "parley.base.files"

local M = {}

---@class parley.Descendant
---@field pid integer
---@field started string  when, in clock ticks since the machine started: no other process has both the same

--- The parent and the start time of a process that lives; a zombie does not.
local function facts_of(pid)
  local stat = files.read(("/proc/%d/stat"):format(pid))
  local state, parent, rest = (stat or ""):match "^.*%) (%a) (%d+) (.*)$" -- the name before may hold anything
  if not state or state == "Z" or state == "X" then return nil end
  local started = rest:match(("%S+ "):rep(17) .. "(%S+)")
  return tonumber(parent), started
end

--- Finds the descendants of some processes.
---@param roots integer[]  process ids
---@return parley.Descendant[]  parents before their children, the roots not among them
function M.of(roots)
  local children, scan = {}, uv.fs_scandir "/proc"
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    local pid = tonumber(name)
    local parent, started = nil, nil
    if pid then parent, started = facts_of(pid) end
    if parent then
      children[parent] = children[parent] or {}
      table.insert(children[parent], { pid = pid, started = started })
    end
  end
  local found, queue = {}, { table.unpack(roots) }
  while queue[1] do
    for _, child in ipairs(children[table.remove(queue, 1)] or {}) do
      table.insert(found, child)
      table.insert(queue, child.pid)
    end
  end
  return found
end

--- Those that live still.
---@param descendants parley.Descendant[]
---@return parley.Descendant[]
function M.alive(descendants)
  local alive = {}
  for _, one in ipairs(descendants) do
    local _, started = facts_of(one.pid)
    if started == one.started then table.insert(alive, one) end
  end
  return alive
end

--- Sends a signal to those that live still, and to what they have started since.
---@param descendants parley.Descendant[]
---@param signal string  `"sigterm"`
---@return parley.Descendant[] alive  at the time of the signal
function M.signal(descendants, signal)
  local alive, pids = M.alive(descendants), {}
  for i, one in ipairs(alive) do pids[i] = one.pid end
  local known = {}
  for _, pid in ipairs(pids) do known[pid] = true end
  for _, one in ipairs(pids[1] and M.of(pids) or {}) do
    if not known[one.pid] then table.insert(alive, one) end
  end
  for _, one in ipairs(alive) do uv.kill(one.pid, signal) end
  return alive
end

return M
