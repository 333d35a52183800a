--- The processes that a program has started, and those that they have: what its tools run has sessions of its own,
--- which neither a signal to the program's group nor the terminal's end reaches (2.1.110, 2.1.197; after SIGKILL every
--- version). Those whose parent has ended, as with `nohup` and `setsid` in the background, are known by their mark.
local uv = require "luv"
local files = require "parley.base.files"
local mark = require "parley.base.mark"
local proc = require("parley.core").proc

local M = {}

--- When a process was started, in clock ticks since the machine started.
---@param pid integer
---@return string?  nil when none lives under this id
function M.started(pid)
  local process = proc.get(pid)
  return process and process.started
end

--- Every process that lives, by its parent.
local function children_by_parent()
  local children = {}
  for _, one in ipairs(proc.list()) do
    children[one.parent] = children[one.parent] or {}
    table.insert(children[one.parent], one)
  end
  return children
end

--- Whether a process carries a mark of this one's, which nobody has who is older: there may be thousands of those.
local function has_mark(one, wanted, since)
  return tonumber(one.started) >= since and mark.is_in(files.read(("/proc/%d/environ"):format(one.pid)) or "", wanted)
end

--- Finds the descendants of some processes.
---@param roots integer[]  process ids
---@param wanted? string   a mark of this process': those that carry it, and their descendants, are among them
---@return parley.core.Process[]  the roots not among them; a child comes behind its parent, or behind one with a mark
function M.of(roots, wanted)
  local children, found, known = children_by_parent(), {}, {}
  for _, pid in ipairs(roots) do known[pid] = true end
  local queue = { table.unpack(roots) }
  local function add(one)
    if known[one.pid] then return end
    known[one.pid] = true
    table.insert(found, one)
    table.insert(queue, one.pid)
  end
  local since = wanted and tonumber(M.started(uv.os_getpid()) or "0")
  for _, siblings in pairs(wanted and children or {}) do
    for _, one in ipairs(siblings) do
      if has_mark(one, wanted, since) then add(one) end
    end
  end
  while queue[1] do
    for _, child in ipairs(children[table.remove(queue, 1)] or {}) do add(child) end
  end
  return found
end

--- Those that live still.
---@param descendants parley.core.Process[]
---@return parley.core.Process[]
function M.alive(descendants)
  local alive = {}
  for _, one in ipairs(descendants) do
    if M.started(one.pid) == one.started then table.insert(alive, one) end
  end
  return alive
end

--- Sends a signal to those that live still, and to what they have started since.
---@param descendants parley.core.Process[]
---@param signal string  `"sigterm"`
---@return parley.core.Process[] alive  at the time of the signal
function M.signal(descendants, signal)
  local alive, pids = M.alive(descendants), {}
  for i, one in ipairs(alive) do pids[i] = one.pid end
  for _, one in ipairs(pids[1] and M.of(pids) or {}) do table.insert(alive, one) end
  for _, one in ipairs(alive) do uv.kill(one.pid, signal) end
  return alive
end

return M
