--- The index's file: opened, of this version or made anew, moved aside when it is damaged. Failures are `StateError`s.
local uv = require "luv"
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local state_folder = require "parley.sleep.state_folder"

local M = {}

--- How long a call waits for another process. A transaction takes milliseconds: longer than that only a stopped one.
local BUSY_MS = 5000
local APPLICATION, VERSION = 0x5061726c, 1 -- "Parl"

--- Times are milliseconds since 1970. A lease's row says who has a session; whether that is so its lock knows.
local SCHEMA = ([[
  CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, session_id TEXT NOT NULL UNIQUE, scope TEXT NOT NULL, path TEXT NOT NULL,
    size INTEGER NOT NULL, digest TEXT NOT NULL, cwd TEXT, options TEXT NOT NULL, argv TEXT NOT NULL,
    env_names TEXT NOT NULL, model TEXT, turns INTEGER NOT NULL, tokens INTEGER NOT NULL, cost_usd REAL,
    created_at INTEGER NOT NULL, used_at INTEGER NOT NULL, state TEXT NOT NULL, since INTEGER NOT NULL);
  CREATE INDEX sessions_by_use ON sessions (used_at, id, size);
  CREATE TABLE keys (key TEXT NOT NULL, session INTEGER NOT NULL, PRIMARY KEY (key, session)) WITHOUT ROWID;
  CREATE INDEX keys_by_session ON keys (session);
  CREATE TABLE leases (
    session_id TEXT PRIMARY KEY, pid INTEGER NOT NULL, started TEXT NOT NULL, boot TEXT NOT NULL,
    namespace TEXT NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
  PRAGMA application_id = %d;
  PRAGMA user_version = %d;]]):format(APPLICATION, VERSION)

--- In WAL a commit is safe from this process' end at any moment in any mode. FULL waits for the disk at each commit; in
--- NORMAL the machine's failure may cost the last ones, and no more than those.
local SYNCHRONOUS = { power = "FULL", process = "NORMAL" }

local REASONS = {
  SQLITE_FULL = "full", SQLITE_READONLY = "read_only", SQLITE_PERM = "read_only", SQLITE_BUSY = "busy",
  SQLITE_LOCKED = "busy", SQLITE_PROTOCOL = "busy", SQLITE_CORRUPT = "corrupt", SQLITE_NOTADB = "corrupt",
}
local CAUSES = {
  ENOSPC = "full", EDQUOT = "full", EFBIG = "full", EROFS = "read_only", EACCES = "read_only", EPERM = "read_only",
}

local SENTENCES = {
  full = "the index of conversations '%s' cannot grow, the disk is full (%s); what it holds is safe",
  read_only = "the index of conversations '%s' cannot be written (%s): make its folder and its files writable, or name "
    .. "another folder in XDG_STATE_HOME",
  busy = "the index of conversations '%s' has been in use by another process for %g seconds (%s)",
  corrupt = "the index of conversations '%s' is damaged (%s)",
  io = "the index of conversations '%s' cannot be used (%s)",
}

--- Makes a `StateError` of what the database says.
---@param path string
---@param err parley.DatabaseError
---@return parley.Error
function M.failure(path, err)
  local reason = CAUSES[err.cause] or REASONS[err.code] or "io"
  local said = err.message .. (err.cause and ", " .. err.cause or "")
  local message = reason == "busy" and SENTENCES.busy:format(path, BUSY_MS / 1000, said)
    or SENTENCES[reason]:format(path, said)
  return errors.state_error(message, { reason = reason, cause = err })
end


local function number_of(database, pragma)
  local rows, err = database:query("PRAGMA " .. pragma)
  if not rows then error(err, 0) end
  return rows[1][pragma]
end

local function run(database, text)
  local ok, err = database:script(text)
  if not ok then error(err, 0) end
end

local function make_schema(database)
  run(database, "BEGIN IMMEDIATE")
  if number_of(database, "user_version") == 0 then run(database, SCHEMA) end
  run(database, "COMMIT")
end

--- Whether it is ours: another's file is left alone.
local function check_version(database, path)
  local application, version = number_of(database, "application_id"), number_of(database, "user_version")
  if application == APPLICATION and version > VERSION then
    error(errors.state_error(("the index of conversations '%s' is one of a newer Parley (version %d, this one knows "
      .. "%d): use that one, or name another folder in XDG_STATE_HOME"):format(path, version, VERSION),
      { reason = "newer" }), 0)
  elseif application ~= APPLICATION and (application ~= 0 or number_of(database, "schema_version") ~= 0) then
    error(errors.state_error(("'%s' is a database, but no index of conversations: move it away"):format(path),
      { reason = "foreign" }), 0)
  end
end

local function prepare(database, path, durability)
  check_version(database, path)
  run(database, "PRAGMA temp_store = MEMORY; PRAGMA synchronous = " .. SYNCHRONOUS[durability])
  local rows, err = database:query "PRAGMA journal_mode = WAL"
  if not rows then error(err, 0) end
  if rows[1].journal_mode ~= "wal" then
    error(errors.state_error(("the index of conversations '%s' cannot stand on this file system, which shares no "
      .. "memory: name another folder in XDG_STATE_HOME"):format(path), { reason = "folder" }), 0)
  end
  if number_of(database, "user_version") == 0 then make_schema(database) end
end

--- Nobody opens the file while somebody moves it aside, or makes it.
local function guard(path)
  local lock, err = core.lock.take(path .. ".guard")
  for _ = 5, BUSY_MS, 5 do
    if lock or err.code ~= "EAGAIN" then break end
    uv.sleep(5)
    lock, err = core.lock.take(path .. ".guard")
  end
  if lock then return lock end
  error(M.failure(path, { code = err.code == "EAGAIN" and "SQLITE_BUSY" or "lock", message = err.message,
    cause = err.code }), 0)
end

--- The file takes its mode from how it is made, and what stands beside it takes it from the file. It may be made behind
--- a link.
local function make_file(path)
  local descriptor = not uv.fs_stat(path) and uv.fs_open(path, "a", 384)
  if descriptor then return uv.fs_close(descriptor) end
  local stat = uv.fs_stat(path)
  if stat and stat.mode & 63 ~= 0 and stat.uid == uv.getuid() then uv.fs_chmod(path, 384) end
end

--- Opens the file; where it cannot be, nothing is left open. The log is opened by its name some time after the file.
local function open_once(path, durability)
  local _ <close> = guard(path)
  make_file(path)
  local database, err = core.sqlite.open(path, BUSY_MS)
  if not database then return nil, M.failure(path, err) end
  local ok, failure = pcall(prepare, database, path, durability)
  if ok then return database end
  database:close()
  if failure.code ~= "StateError" then failure = M.failure(path, failure) end
  return nil, failure
end

--- Which file stands at a path.
---@param path string
---@return string?  nil: none
function M.identity(path)
  local stat = uv.fs_stat(path)
  return stat and stat.dev .. ":" .. stat.ino
end

--- Moves a damaged file aside, unless another process has: then one of another identity stands there.
---@param path string
---@param identity? string  of the damaged one
---@return string? aside  where it is now
--- Raises `StateError`.
function M.move_aside(path, identity)
  local _ <close> = guard(path)
  if not identity or M.identity(path) ~= identity then return nil end
  local aside = ("%s.damaged-%s"):format(path, clock.date "!%Y%m%dT%H%M%SZ")
  while uv.fs_lstat(aside) do aside = aside .. "+" end
  for _, part in ipairs { "-wal", "-shm", "" } do -- a log that is left behind would be the new file's
    local ok, problem, code = uv.fs_rename(path .. part, aside .. part)
    if not ok and code ~= "ENOENT" then
      error(errors.state_error(("the index of conversations '%s' is damaged and cannot be moved aside: %s"):format(path,
        files.reason(problem)), { reason = "corrupt" }), 0)
    end
  end
  return aside
end

--- Opens the index's file; a damaged one is moved aside, and a new one begun.
---@param path string  absolute
---@param durability "power"|"process"
---@param on_aside fun(aside: string, err: parley.Error)
---@return parley.Database
--- Raises `StateError`.
function M.open(path, durability, on_aside)
  state_folder.make(path:match "^(.*)/")
  local identity = M.identity(path)
  local database, err = open_once(path, durability)
  if not database and err.reason == "corrupt" then
    local aside = M.move_aside(path, identity)
    if aside then on_aside(aside, err) end
    database, err = open_once(path, durability)
  end
  if not database then error(err, 0) end
  return database
end

return M
