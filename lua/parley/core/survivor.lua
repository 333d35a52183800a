---@meta parley.core.survivor
-- The table `require("parley.core").survivor`, made in src/lua_survivor.c. This file is for the language server and for
-- people.
-- luacheck: ignore 212

---@class parley.core.survivor
local M = {}

---Run a shell script to its end. What it leaves in the background outlives this process, and is in a session of its
---own, with nothing of this process' environment but PATH. Its descriptor 3 is a pipe that comes to its end when this
---process ends, however that happens.
---@param script string
---@param argument? string The script's `$1`.
---@return integer? descriptor The other end, close-on-exec, the caller's; closing it tells the script, too.
---@return parley.Fault? err
function M.start(script, argument) end

return M
