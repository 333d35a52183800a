--- How short memory is, as the kernel measures it: the share of time in which something waited for memory (PSI), and
--- how much of what this process' control groups may use is used.
local files = require "parley.base.files"

local M = {}

---@class parley.MemoryPressure
---@field some? number   of the last ten seconds: percent in which something waited for memory
---@field full? number   percent in which everything did
---@field used? integer  bytes, of the control group that is nearest to its limit
---@field limit? integer

local function averages(text)
  return tonumber((text or ""):match "some avg10=([%d.]+)"), tonumber((text or ""):match "full avg10=([%d.]+)")
end

--- The group's own folder and those above it.
local function each_group(root, path)
  return function()
    local here = path
    if not here then return nil end
    path = here:match "^(.+)/[^/]+$" or here ~= "" and "" or nil
    return root .. here
  end
end

--- What each version of control groups calls the limit and what is used; and above what it means that there is none.
local NAMES = { { "memory.max", "memory.current" }, { "memory.limit_in_bytes", "memory.usage_in_bytes" } }
local NO_LIMIT = 1 << 60

local function number_in(path) return math.tointeger(tonumber((files.read(path) or ""):match "%d+")) end

--- The group that is nearest to its limit: its own, or one above it.
local function nearest_limit(root, path, names)
  local used, limit
  for folder in each_group(root, path) do
    local most, now = number_in(folder .. "/" .. names[1]), number_in(folder .. "/" .. names[2])
    local is_limit = most and now and most > 0 and most < NO_LIMIT
    if is_limit and (not limit or now / most > used / limit) then used, limit = now, most end
  end
  return used, limit
end

--- Measures it. What the kernel does not tell is nil.
---@param proc? string     default `"/proc"`
---@param groups? string   default `"/sys/fs/cgroup"`
---@return parley.MemoryPressure
function M.read(proc, groups)
  proc, groups = proc or "/proc", groups or "/sys/fs/cgroup"
  local some, full = averages(files.read(proc .. "/pressure/memory"))
  local mine, used, limit = files.read(proc .. "/self/cgroup") or "", nil, nil
  for version, pattern in ipairs { "0::(/[^\n]*)", "%d+:memory:(/[^\n]*)" } do
    local path = not limit and mine:match(pattern)
    local root = version == 1 and groups or groups .. "/memory"
    if path then used, limit = nearest_limit(root, (path:gsub("/$", "")), NAMES[version]) end
  end
  return { some = some, full = full, used = used, limit = limit }
end

return M
