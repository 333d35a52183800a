---@meta parley.core.lock
-- luacheck: ignore 212 241

---A file that one holder at a time has, by flock(2): the kernel ends it with the process, whatever ends that.
---@class parley.core.lock
local lock = {}

---@class parley.Lock
local held = {}

---Take a lock, without waiting. The file is made, mode 0600; its folder must be there. It holds among processes and
---within one.
---@param path string
---@return parley.Lock? held Close-on-exec.
---@return parley.Error? err EAGAIN: somebody has it.
function lock.take(path) end

---Let go of it, and remove the file. May be called again, and is what `<close>` and the collector call.
function held:release() end

return lock
