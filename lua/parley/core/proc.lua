---@meta parley.core.proc
-- luacheck: ignore 212

---The processes of this machine, as /proc/PID/stat tells of them (proc(5)); of this container, where there is one.
---@class parley.core.proc
local proc = {}

---@class parley.core.Process
---@field pid integer
---@field parent integer  its process id; 1, or that of a subreaper, once the parent has ended
---@field started string   when, in clock ticks since the machine started: no other process has both the same

---Every process that lives; one that has ended and that nobody has waited for does not. Without /proc there is none.
---@return parley.core.Process[]
function proc.list() end

---One process.
---@param pid integer
---@return parley.core.Process?  nil when none lives under this id
function proc.get(pid) end

return proc
