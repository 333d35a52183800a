--- A run in several processes, for a simulated world keeps one processor busy: each plays a part of the plans and tells
--- at its end what has happened.
local uv = require "luv"
local core = require "parley.core"
local task = require "parley.base.task"

local M = {}

--- What no other line begins with.
local TOLD = "\1told "
local STOP = "sigusr1"

--- Has a process end between two plans when it is told to.
---@return fun(): boolean is_stopped
function M.on_stop()
  local stopped, signal = false, uv.new_signal()
  signal:start(STOP, function() stopped = true end)
  return function()
    uv.run "nowait"
    return stopped
  end
end

--- Tells the process that has started this one.
---@param totals table
function M.tell(totals) io.write(TOLD, core.json.encode(totals), "\n") end

--- Starts one; what it prints is passed on when it has ended, but for what it tells.
local function run_one(words, started)
  local output, over, pieces, status = uv.new_pipe(false), task.condition(), {}, nil
  local is_read = false
  local process = assert(uv.spawn(uv.exepath(), { args = words, stdio = { nil, output, 2 } }, function(code)
    status = code
    over:notify()
  end))
  started(process)
  output:read_start(function(_, bytes)
    if bytes then return table.insert(pieces, bytes) end
    is_read = true
    over:notify()
  end)
  over:wait_until(function() return status and is_read end)
  output:close()
  process:close()
  local told
  for line in table.concat(pieces):gmatch "[^\n]*\n" do
    if line:sub(1, #TOLD) == TOLD then told = core.json.decode(line:sub(#TOLD + 1)) else io.write(line) end
  end
  return told or error(("a part of the simulation ended with status %d"):format(status), 0)
end

--- Runs all parts.
---@param count integer
---@param words string[]  the command line behind the program's name
---@param on_end fun(totals: table): boolean  is told of each; false: the others end, too
function M.run(count, words, on_end)
  local processes, tasks = {}, {}
  for part = 1, count do
    local own = { "spec/simulate.lua", table.unpack(words) }
    table.move({ "--part", tostring(part) }, 1, 2, #own + 1, own)
    tasks[part] = task.spawn(function()
      local totals = run_one(own, function(process) processes[part] = process end)
      processes[part] = nil
      if on_end(totals) then return end
      for _, other in pairs(processes) do other:kill(STOP) end
    end)
  end
  for _, each in ipairs(tasks) do each:await() end
end

return M
