--- A pseudo-terminal of a world: the face of `parley.core.pty` on one side, that of the stand-in's terminal on the
--- other, and between them bytes on their way. They come in order; how late and in which pieces is chance's.
local errors = require "parley.base.errors"

local M = {}

--- So much the kernel keeps of what was not read yet, and so much it hands out at a time.
local ROOM, PIECE = 4096, 4096
--- It may take nothing for so long, though there is room.
local LONGEST_FULL_MS = 300
--- A program that is busy reads so late.
local SLOW_LEAST_MS, SLOW_MOST_MS = 1000, 6000
--- The rest of what was cut comes so soon: the kernel has it already.
local REST_MS = 1

---@class parley.testing.WorldTerminal
---@field private world parley.testing.World
---@field private program parley.testing.WorldProgram
---@field printed_count integer  so many bytes the program has written
---@field shown_count integer    so many of them were handed out
---@field package seen_count? integer  the same when a write was tried first that the terminal has not taken yet
---@field package full_ms? integer     so long it takes nothing, where that is not as long as anything is late
---@field package tried_at? number   and when that was
---@field package freed_at? integer    the step in which such a write was taken
---@field package freed_count? integer and its `seen_count`
local Terminal = {}
Terminal.__index = Terminal

---@param world parley.testing.World
---@param program parley.testing.WorldProgram
---@param rows integer
---@param columns integer
---@return parley.testing.WorldTerminal
function M.new(world, program, rows, columns)
  return setmetatable({ world = world, program = program, rows = rows, columns = columns,
    typed = "", printed = {}, polls = {}, printed_count = 0, shown_count = 0 }, Terminal)
end

--- How much of what has come is handed out now.
local function piece(world, length)
  if length > 1 and world:goes_wrong "cut" then return world.chance:between(1, length - 1) end
  return length
end

-- Towards the program -------------------------------------------------------------------------------------------------

local function deliver_typed(self)
  self.is_typing = false
  if not self.take or self.typed == "" then return end
  local count = piece(self.world, math.min(#self.typed, PIECE))
  local bytes = self.typed:sub(1, count)
  self.typed = self.typed:sub(count + 1)
  self:tell_room()
  if self.typed ~= "" then self:hurry(REST_MS) end
  self.world:tell(self.program, "reads", bytes)
  self.take(bytes)
end

--- Has what was typed arrive.
---@param most_ms? number  so late at most
function Terminal:hurry(most_ms)
  if self.is_typing or not self.take then return end
  self.is_typing = true
  local world = self.world
  local is_slow = not most_ms and world:goes_wrong "slow"
  local late_ms = is_slow and world.chance:between(SLOW_LEAST_MS, SLOW_MOST_MS)
    or math.min(world:lateness(), most_ms or math.huge)
  self.world.time:after(late_ms, function() deliver_typed(self) end, self.program)
end

--- Calls those that wait for room.
function Terminal:tell_room()
  if self.is_telling or #self.typed >= ROOM then return end
  local waits = false
  for _, poll in ipairs(self.polls) do waits = waits or poll.callback ~= nil end
  if not waits then return end
  self.is_telling = true
  self.world:after(self.full_ms or self.world:lateness(), function()
    self.is_telling, self.full_ms = false, nil
    for _, poll in ipairs { table.unpack(self.polls) } do
      if poll.callback then poll.callback() end
    end
    self:tell_room()
  end)
end

local Poll = {}
Poll.__index = Poll
function Poll:start(_, callback)
  self.callback = callback
  self.terminal:tell_room()
end
function Poll:stop() self.callback = nil end
function Poll:is_active() return self.callback ~= nil end
function Poll:is_closing() return self.is_closed end
function Poll:close()
  self.callback, self.is_closed = nil, true
  for place, poll in ipairs(self.terminal.polls) do
    if poll == self then table.remove(self.terminal.polls, place) end
  end
  self.terminal.world:closed(self)
end

function Terminal:new_poll()
  local poll = setmetatable({ terminal = self, is_closed = false }, Poll)
  table.insert(self.polls, poll)
  self.world:opened(poll, "a poll")
  return poll
end

-- Towards the driver --------------------------------------------------------------------------------------------------

local function deliver_printed(self)
  self.is_printing = false
  local reader = self.reader
  if not reader then return end
  if self.has_ended and self.world.chance:once_in(2) then -- libuv takes the hang-up for the end
    self.reader = nil
    return reader "EIO"
  end
  local bytes = table.concat(self.printed)
  local count = piece(self.world, math.min(#bytes, PIECE))
  self.printed = count < #bytes and { bytes:sub(count + 1) } or {}
  if bytes ~= "" then
    self:show()
    self.shown_count = self.shown_count + count
    return reader(nil, bytes:sub(1, count))
  end
  if self.has_ended then
    self.reader = nil
    reader "EIO"
  end
end

--- Has what was printed arrive.
function Terminal:show()
  if self.is_printing or not self.printed[1] and not self.has_ended then return end
  self.is_printing = true
  self.world:after(self.world:lateness(), function() deliver_printed(self) end)
end

--- What the program writes.
function Terminal:print(bytes)
  if bytes == "" or self.is_hung_up then return end
  table.insert(self.printed, bytes)
  self.printed_count = self.printed_count + #bytes
  self:show()
end

--- The program's side is closed.
function Terminal:finish()
  self.has_ended, self.take = true, nil
  self:show()
end

--- The driver's side is closed.
function Terminal:hang_up()
  if self.is_hung_up then return end
  self.is_hung_up, self.reader, self.printed = true, nil, {}
  local take = self.take
  if take then self.world.time:after(self.world:lateness(), function() take(nil) end, self.program) end
end

--- Hands out what is printed, for `parley.claude.kernel`.
function Terminal:read(take)
  local handle = {}
  self.reader = take
  self.world:opened(handle, "a pipe")
  function handle.is_closing() return handle.is_closed == true end
  function handle.close()
    handle.is_closed, self.reader = true, nil
    self.world:closed(handle)
  end
  self:show()
  return handle
end

-- The pty -------------------------------------------------------------------------------------------------------------

---@class parley.testing.WorldPty: parley.Pty
local Pty = { __name = "parley.testing.WorldPty" }
Pty.__index = Pty

--- What `kernel.spawn` returns.
function Terminal:pty()
  local pty = setmetatable({ terminal = self, program = self.program, world = self.world }, Pty)
  self.world:opened(pty, "a terminal")
  return pty
end

function Pty:pid() return self.program.pid end

function Pty:poll_exit() return self.program.exit end

function Pty:read(most)
  local bytes = table.concat(self.terminal.printed)
  if bytes == "" then return nil, { code = self.terminal.has_ended and "EIO" or "EAGAIN", message = "nothing" } end
  self.terminal.printed = { bytes:sub((most or PIECE) + 1) }
  return bytes:sub(1, most or PIECE)
end

function Pty:write(bytes)
  local terminal, world = self.terminal, self.world
  if self.is_closed then return nil, errors.new("EBADF", "the terminal is closed") end
  if terminal.has_ended then return nil, errors.new("EIO", "the program has gone") end
  local room = ROOM - #terminal.typed
  if room > 0 and world:goes_wrong "full" then
    room = #bytes > 1 and world.chance:once_in(2) and world.chance:between(0, math.min(room, #bytes) - 1) or 0
    terminal.full_ms = world.chance:once_in(2) and world.chance:between(0, LONGEST_FULL_MS) or nil
    world:tell(self.program, room == 0 and "takes nothing for a moment" or "takes a part for a moment")
    if world.on_full then world.on_full(self.program, bytes:sub(1, room)) end
  end
  local is_behind = terminal.freed_at == world.time.steps -- in the same breath as what had to wait
  local seen_count = terminal.seen_count or is_behind and terminal.freed_count or terminal.shown_count
  if room >= #bytes and terminal.seen_count then
    terminal.freed_at, terminal.freed_count = world.time.steps, seen_count
  end
  terminal.seen_count = room < #bytes and seen_count or nil
  local tried_at = terminal.tried_at or world.time.now
  terminal.tried_at = room < #bytes and tried_at or nil
  if room <= 0 then return nil, errors.new("EAGAIN", "the terminal is full") end
  local taken = bytes:sub(1, room)
  if world.on_typed then world.on_typed(self.program, taken, seen_count, tried_at) end
  local is_part = terminal.is_in_part or room < #bytes -- what is lost is lost whole
  terminal.is_in_part = room < #bytes
  if not is_part and world:loses(self.program, taken) then return #taken end
  terminal.typed = terminal.typed .. taken
  terminal:hurry()
  return #taken
end

function Pty:resize(rows, columns)
  local terminal = self.terminal
  terminal.rows, terminal.columns = rows, columns
  self.program:signal "sigwinch"
  return true
end

function Pty:size() return self.terminal.rows, self.terminal.columns end

function Pty:signal(name)
  if self.program.exit then return nil, errors.new("ESRCH", "no such process") end
  self.program:signal(name:lower())
  return true
end

function Pty:close()
  if self.is_closed then return self.program.exit ~= nil end
  self.is_closed = true
  self.world:closed(self)
  local was_reaped = self.program.exit ~= nil
  self.terminal:hang_up()
  if not was_reaped then self.program:kill "SIGKILL" end
  return was_reaped
end

return M
