--- One writer a file, by claims: files beside it, each with a name that no other process ever has.
---
--- A process lays down its claim first and looks for those of others then. So of two that start together at least one
--- sees the other, and none has to take over what another left: a dead process's claim can be removed by anybody at any
--- time, for its name never comes back. The name says whose it is: host, boot, PID namespace, process, its start time.
--- (The kernel's own locks, which need none of this, are out of luv's reach.)
local uv = require "luv"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local files = require "parley.base.files"

local M = {}

local LONGEST = 180 -- a name has at most 255 bytes, of which a claim adds up to 75
local FORM = "^(%x+)%-(%x+)%-(%w+)%-(%d+)%-(%d+)$"

local function first_line(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local line = file:read "l"
  file:close()
  return line
end

--- When a process was started, in the kernel's ticks: "gone" when it has ended, nil where /proc does not tell.
local function start_time(pid)
  local stat = first_line(("/proc/%d/stat"):format(pid))
  if not stat then return nil end
  -- Behind the name, which may hold anything, stand the fields from the 3rd, the state; the start time is the 22nd.
  local fields = {}
  for field in stat:match("^.*%) (.*)$"):gmatch "%S+" do table.insert(fields, field) end
  return fields[1] == "Z" and "gone" or fields[20]
end

local function is_running(pid, started)
  local found = start_time(pid)
  if found then return found == started end
  local _, _, code = uv.kill(pid, 0) -- without /proc, and for other people's processes where it hides them
  return code ~= "ESRCH"
end

local function short_hash(text) return core.digest.hex(core.digest.blake2b(text, 16)):sub(1, 8) end

local function own_claim()
  local pid = uv.os_getpid()
  return {
    host = short_hash(uv.os_gethostname()),
    boot = short_hash(first_line "/proc/sys/kernel/random/boot_id" or ""),
    namespace = (uv.fs_readlink "/proc/self/ns/pid" or ""):match "%d+" or "none",
    pid = pid,
    started = start_time(pid) or "0",
  }
end

local function parse(name)
  local host, boot, namespace, pid, started = name:match(FORM)
  return host and { host = host, boot = boot, namespace = namespace, pid = tonumber(pid), started = started }
end

--- Whether a claim's process lives; nil when that cannot be told from here.
local function is_alive(claim, own)
  if claim.host ~= own.host then return nil end
  -- The same host after a reboot, or a container of the same name in the place of one that has ended.
  if claim.boot ~= own.boot or claim.namespace ~= own.namespace then return false end
  return is_running(claim.pid, claim.started)
end

local function refuse(path, claim, claim_path)
  local who = claim and ("process %d"):format(claim.pid) or "a process on another machine"
  local remedy = claim and "" or ("; if that has ended, remove '%s'"):format(claim_path)
  error(errors.new("EBUSY", ("'%s' is being written by %s%s"):format(path, who, remedy),
    { path = path, pid = claim and claim.pid }), 0)
end

--- What the names of the files beside a file begin with: as its own does, or with a hash where that is too long.
---@param path string  a real path
---@return string
function M.stem(path)
  local folder, base = path:match "^(.*/)([^/]*)$"
  return folder .. (#base <= LONGEST and base or short_hash(base))
end

--- Claims a file for this process.
---@param path string  of a file that exists
---@return table lock  gives it back when closed: a `<close>` variable
--- Raises an error with code `EBUSY` when another process has it, or with the system's code when no claim can be laid.
function M.take(path)
  local folder, base = M.stem(assert(uv.fs_realpath(path))):match "^(.*/)([^/]*)$"
  local prefix = base .. ".lock-"
  local own = own_claim()
  local own_name = ("%s%s-%s-%s-%d-%s"):format(prefix, own.host, own.boot, own.namespace, own.pid, own.started)
  local own_path = folder .. own_name

  local descriptor, problem, code = uv.fs_open(own_path, "wx", 384)
  if code == "EEXIST" then refuse(path, own, own_path) end
  if not descriptor then
    error(errors.new(code, ("cannot lock '%s': %s"):format(path, files.reason(problem)), { path = path }), 0)
  end
  uv.fs_close(descriptor)
  local lock = {}
  function lock.close()
    if own_path then uv.fs_unlink(own_path) end
    own_path = nil
  end
  local _ <close> = defer(function(err)
    if err then lock.close() end
  end)
  for _, name in ipairs(files.names(folder)) do
    local claim = name ~= own_name and name:sub(1, #prefix) == prefix and parse(name:sub(#prefix + 1))
    if claim then
      local alive = is_alive(claim, own)
      if alive == false then uv.fs_unlink(folder .. name) else refuse(path, alive and claim, name) end
    end
  end
  return setmetatable(lock, { __close = lock.close })
end

return M
