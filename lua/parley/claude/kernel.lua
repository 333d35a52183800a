--- What a session asks of the kernel: a program on a terminal, its output, its end, changes of files. All of it is
--- asked here, so that a simulated world can put its own in the place of this one, as it does with `parley.base.clock`.
local uv = require "luv"
local core = require "parley.core"
local descendants = require "parley.base.descendants"
local mark = require "parley.base.mark"
local program = require "parley.base.program"
local pressure = require "parley.base.pressure"

local M = {}

local VERSION_PATIENCE_MS = 10000

---@class parley.Kernel  what `use` replaces
local real = { mark = mark.new, spawn = core.pty.spawn, new_watch = uv.new_fs_event, memory_pressure = pressure.read,
  descendants = descendants.of, alive = descendants.alive, signal = descendants.signal }

--- Has a function called with all that a program writes to its terminal, in pieces as they come.
---@param pty parley.Pty
---@param take fun(problem?: string, bytes?: string)  without bytes: there will be no more
---@return userdata handle
function real.read(pty, take)
  local pipe = uv.new_pipe(false)
  assert(pipe:open(pty:duplicate()))
  pipe:read_start(take)
  return pipe
end

--- Has a function called whenever a child, it may be another, has ended.
---@param callback fun()
---@return userdata handle
function real.on_child_end(callback)
  local signal = uv.new_signal()
  signal:start("sigchld", callback)
  return signal
end

--- Makes a handle, not started, that says when a terminal takes more.
---@param pty parley.Pty
---@return userdata poll
function real.new_poll(pty) return assert(uv.new_poll(pty:descriptor())) end

--- What an executable says of its version. It waits.
---@param path string
---@param environment table<string, string>
---@return string?
function real.ask_version(path, environment)
  return program.output({ path, "--version" }, environment, VERSION_PATIENCE_MS)
end

--- Puts another kernel in the place of the machine's, for all that ask from now on.
---@param kernel? parley.Kernel  with the functions that differ; nil: the machine's
function M.use(kernel)
  for name, fn in pairs(real) do M[name] = kernel and kernel[name] or fn end
end

M.use()

return M
