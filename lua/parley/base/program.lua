--- Programs that are run for what they print.
local defer = require "parley.base.defer"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local uv = require "luv"

local M = {}

--- Finds a program as a shell would.
---@param executable string
---@param environment table<string, string>
---@return string? path
function M.find(executable, environment)
  if executable:find "/" then return uv.fs_access(executable, "X") and executable or nil end
  for folder in (environment.PATH or ""):gmatch "[^:]+" do
    local path = folder .. "/" .. executable
    local stat = uv.fs_stat(path)
    if stat and stat.type == "file" and uv.fs_access(path, "X") then return path end
  end
end

--- What a program prints within a time.
---@param argv string[]
---@param environment table<string, string>
---@param milliseconds number
---@return string? text
---@return string? problem  when it cannot be started or does not end
function M.output(argv, environment, milliseconds)
  local pipe <close> = task.closing(uv.new_pipe(false))
  local changed, text, status, ended = task.condition(), "", nil, false
  local handle, pid = uv.spawn(argv[1], { args = { table.unpack(argv, 2) }, env = tables.assignments(environment),
    stdio = { nil, pipe.handle } }, function(code)
    status = code
    changed:notify()
  end)
  if not handle then return nil, "cannot be started: " .. tostring(pid) end
  local _ <close> = defer(function()
    task.shield(function()
      if not status then uv.kill(pid, "sigkill") end
      while not status do changed:wait() end
    end)
    handle:close()
  end)
  pipe.handle:read_start(function(_, bytes)
    if bytes then text = text .. bytes else ended = true end
    changed:notify()
  end)
  local is_over = changed:wait_until(function() return status and ended end, milliseconds)
  if not is_over then return nil, ("has not ended after %g s"):format(milliseconds / 1000) end
  return text
end

return M
