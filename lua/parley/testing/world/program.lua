--- One stand-in in a world: what is outside of it, and what befalls it.
local errors = require "parley.base.errors"
local stand_in = require "parley.testing.stand_in"
local task = require "parley.base.task"
local terminal = require "parley.testing.world.terminal"

local M = {}

--- The spinner turns seldom: a patient spec would spend its time with drawing it.
local SPINNER_MS = 1000

--- What a signal without a handler makes of the host that the stand-in runs on.
local ENDING = { sigterm = 143, sighup = 129, sigint = 130 }

---@class parley.testing.WorldProgram
---@field pid integer
---@field terminal parley.testing.WorldTerminal
---@field exit? parley.ExitRecord
---@field package inside? parley.testing.Program
---@field is_dead? true     nothing of it happens any more
---@field held? table[]     it is stopped: its events that came up meanwhile
---@field held_tasks? parley.Task[]
local Program = {}
Program.__index = Program

local function outside_of(self, given)
  local outside = { environment = given.environment, cwd = given.cwd, pid = self.pid, user = 0,
    spinner_ms = SPINNER_MS }
  function outside.meet(program) self.inside = program end
  function outside.write(bytes) self.terminal:print(bytes) end
  function outside.complain(line) self.terminal:print(line .. "\r\n") end
  function outside.note(record) self.world:note(self, record) end
  function outside.on_signal(name, callback)
    self.handlers[name] = callback
    return { close = function() self.handlers[name] = nil end }
  end
  function outside.die() self:kill "SIGKILL" end
  function outside.open_terminal()
    local wire = self.terminal
    local face = {}
    function face.read(_, take)
      wire.take = take
      if wire.is_hung_up then self.world.time:after(0, function() take(nil) end, self) end
      wire:hurry()
    end
    function face.stop() wire.take = nil end
    function face.size() return wire.rows, wire.columns end
    function face.close() wire.take = nil end
    return face
  end
  function outside.shell(command, input) return self.world:shell(command, input) end
  function outside.edit(words) return self.world:edit(self, words) end
  function outside.http(request) return self.world.calls:request(self, request) end
  function outside.rename(from, to) self.world.disk:rename(self, from, to) end
  function outside.leave(command) self.world:shell(command, "") end
  return outside
end

--- Starts a stand-in.
---@param world parley.testing.World
---@param given {words: string[], environment: table<string, string>, cwd: string, rows: integer, columns: integer,
---       script: table, pid: integer}
---@return parley.testing.WorldProgram
function M.start(world, given)
  local self = setmetatable({ world = world, pid = given.pid, handlers = {}, writes = {}, words = given.words,
    environment = given.environment, script = given.script }, Program)
  self.terminal = terminal.new(world, self, given.rows, given.columns)
  local outside = outside_of(self, given)
  self.root = task.new_root(function()
    local ok, status = pcall(stand_in.run, given.words, given.script, outside)
    if not ok and not errors.is(status, "Cancelled") then
      world:fail(("the stand-in failed: %s\n%s"):format(errors.text(status), task.traceback(status) or ""))
    end
    self.world.disk:settle(self)
    self:ended(ok and { exit_code = status } or { exit_code = ok and 0 or 1 })
  end)
  return self
end

--- It has ended: its terminal closes, its parent is told.
function Program:ended(record)
  if self.is_dead then return end
  self.world:tell(self, "ends", record.signal or record.exit_code)
  self.is_dead, self.held = true, nil
  self.exit = record
  self.handlers = {}
  self.terminal:finish()
  self.world:program_ended(self)
end

--- Ends it as SIGKILL does, or another crash: what it has not written is lost, or part of it.
---@param signal string
function Program:kill(signal)
  if self.is_dead then return end
  if self.world.chance:once_in(2) then self.world.disk:settle(self) end
  self:ended { signal = signal }
end

--- Sends a signal.
---@param name string  `"sigterm"`
function Program:signal(name)
  if self.is_dead then return end
  if name == "sigkill" then return self:kill "SIGKILL" end
  if name == "sigstop" then return self:stop() end
  if name == "sigcont" then return self:continue() end
  self.world.time:after(self.world:lateness(), function()
    local handler = self.handlers[name]
    if handler then return handler() end
    if not ENDING[name] then return end
    self.root:cancel(errors.cancelled("ended by " .. name, { exit_status = ENDING[name] }))
  end, self)
end

--- Stops it as SIGSTOP does: it does nothing until it is continued.
function Program:stop()
  if self.held or self.is_dead then return end
  self.world:tell(self, "is stopped")
  self.held, self.held_tasks = {}, {}
end

--- Has a dialog come up in it by itself.
function Program:surprise()
  self.world.time:after(0, function()
    if self.inside then self.inside:surprise() end
  end, self)
end

function Program:continue()
  if not self.held then return end
  self.world:tell(self, "is continued")
  local events, tasks = self.held, self.held_tasks
  self.held, self.held_tasks = nil, nil
  for _, event in ipairs(events) do self.world.time:resume(event) end
  for _, each in ipairs(tasks) do self.world.enqueue(each) end
  if self.handlers.sigcont then self.world.time:after(0, self.handlers.sigcont, self) end
end

return M
