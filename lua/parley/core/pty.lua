---@meta parley.core.pty
-- The table `require("parley.core").pty`, made in src/lua_pty.c. This file is for the language server and for people.
-- luacheck: ignore 212 241

---@class parley.PtyOptions
---@field argv string[] The program and its arguments. A name without a slash is looked up on the PATH of `env`.
---@field env? string[] The child's whole environment, "NAME=value" each. Nil inherits the host's.
---@field cwd? string The child's working directory; a relative `argv[1]` counts from there. Nil inherits the host's.
---@field rows? integer The terminal's height in cells, 1 to 65535. Default 24.
---@field columns? integer The terminal's width in cells, 1 to 65535. Default 80.

---How a child ended. Exactly one of `exit_code`, `signal` and `error` is there.
---@class parley.ExitRecord
---@field exit_code? integer
---@field signal? string As in "SIGKILL"; "SIG34" for a real-time signal.
---@field signal_number? integer With `signal`.
---@field error? "ECHILD" Somebody else reaped the child (or SIGCHLD is ignored): it is gone, how is not known.

---What went wrong, as a value to branch on by `code`.
---@class parley.Fault
---@field code string As in "ENOENT", or Parley's own word.
---@field message string
---@field step? "open"|"fork"|"terminal"|"chdir"|"exec" From `spawn`: what failed.
---@field executable? string From `spawn`: `argv[1]`.
---@field cwd? string From `spawn`: the `cwd` that was asked for.

---A child process on a pseudo-terminal of its own. Closing or collecting it kills a child that still runs.
---@class parley.Pty
local Pty = {}

---Close the terminal and kill the child's process group unless the child was reaped. Waits for nothing: the child is
---reaped by `poll_exit` after SIGCHLD, or, when the pty was collected before, by the next `spawn`. Idempotent; also
---`__close`, and `__gc`.
---@return boolean reaped False while the kernel still ends the child.
function Pty:close() end

---Return the master's descriptor, still owned by the pty.
---@return integer descriptor
function Pty:descriptor() end

---Duplicate the master, for `uv.new_pipe(false):open(descriptor)`. The terminal hangs up when all copies are closed.
---@return integer? descriptor Owned by the caller; non-blocking, close-on-exec.
---@return parley.Fault? err
function Pty:duplicate() end

---Close the terminal and leave the child to that: the kernel tells it by SIGHUP once all copies are closed. Idempotent.
function Pty:hang_up() end

---Return the child's process id, which is its process group and session too. Legal on a closed pty.
---@return integer pid
function Pty:pid() end

---Reap the child if it has ended. Legal on a closed pty.
---@return parley.ExitRecord? record Nil while it runs; an equal record on every later call.
function Pty:poll_exit() end

---Read what the child has printed, without blocking.
---@param max? integer The most bytes to return. Default 8192.
---@return string? bytes Never empty.
---@return parley.Fault? err `EAGAIN`: nothing yet. `EIO`: the child closed the terminal (Linux has no end of file).
function Pty:read(max) end

---Change the terminal's size; the kernel tells the foreground processes by SIGWINCH.
---@param rows integer 1 to 65535.
---@param columns integer 1 to 65535.
---@return true? ok
---@return parley.Fault? err
function Pty:resize(rows, columns) end

---Signal the child's process group. Legal on a closed pty.
---@param signal string|integer As in "SIGTERM", or a number; 0 asks only whether it is there.
---@return true? ok
---@return parley.Fault? err `ESRCH` once the child has ended: from then on nobody is signalled.
function Pty:signal(signal) end

---Return the terminal's size.
---@return integer? rows
---@return integer|parley.Fault columns
function Pty:size() end

---Type bytes into the terminal, without blocking.
---@param bytes string
---@return integer? written The number of bytes taken, which may be fewer than given.
---@return parley.Fault? err `EAGAIN`: the terminal's buffer is full.
function Pty:write(bytes) end

---@class parley.core.pty
local M = {}

---Start a program on a new pseudo-terminal, as the leader of a new session. It gets the terminal as its standard
---streams and no other descriptor, default signal dispositions, and SIGKILL when the host dies. Returns when the
---program runs. Raises for options of a wrong name, type or value.
---@param options parley.PtyOptions
---@return parley.Pty? pty
---@return parley.Fault? err With `step`; `ENOENT` and `ENOTDIR` for the step "exec" mean that there is no such program.
function M.spawn(options) end

return M
