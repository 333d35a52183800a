---@meta parley.core.sqlite
-- luacheck: ignore 212 241

---Database files, by SQLite. A call blocks until the disk, or another process, has done its part.
---@class parley.core.sqlite
local sqlite = {}

---@class parley.Database
local database = {}

---An error of a database.
---@class parley.DatabaseError: parley.Error
---@field code string SQLite's name for it: `"SQLITE_BUSY"`, `"SQLITE_CORRUPT"`, `"SQLITE_FULL"`, …
---@field cause? string The system's, where the file could not be opened, read or written: `"ENOSPC"`.

---Open a database; the file is made where there is none.
---@param path string
---@param busy_timeout_ms? integer How long a call waits for another process, 0 to 3600000. Default 0.
---@return parley.Database? database
---@return parley.DatabaseError? err
function sqlite.open(path, busy_timeout_ms) end

---Run one statement to its end. It is prepared once for its text, so values belong into its places (`?`). A finalizer
---that runs meanwhile cannot use the database; one that closes it does so at the end.
---@param text string Raises if it is empty, or more than one.
---@param ... nil|boolean|number|string For its places, as many as those; strings are bytes. A boolean is 1 or 0.
---@return table[]? rows By column name; NULL is nil. Empty for a statement that gives none.
---@return parley.DatabaseError? err In which case `rows` is nil.
function database:query(text, ...) end

---Run several statements that give no rows and have no places.
---@param text string
---@return true? ok
---@return parley.DatabaseError? err The statements before the one at fault have run.
function database:script(text) end

---Tell whether a transaction has begun that has not ended.
---@return boolean
function database:in_transaction() end

---Close it; a transaction that has not ended is rolled back. May be called again, and is what `<close>` and the
---collector call.
function database:close() end

return sqlite
