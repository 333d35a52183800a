--- The files of a world: real ones, in a folder of its own, which programs write late and in pieces, and whose changes
--- are told of late, or not at all.
local uv = require "luv"
local errors = require "parley.base.errors"
local files = require "parley.base.files"

local M = {}

--- The rest of a line takes so long at least, and at most, where the machine is busy.
local LONG_HALF_MS, LONGEST_HALF_MS = 1000, 8000

---@class parley.testing.Disk
---@field private world parley.testing.World
---@field private watching table<string, table[]>  the watches of each path, in the order in which they were set
local Disk = {}
Disk.__index = Disk

--- What tells of a folder, which may be new: those above it, and the name of the next on the way in each.
local function new_ways()
  return setmetatable({}, { __index = function(ways, path)
    local way, folder = {}, path
    while folder ~= "" do
      local name
      folder, name = folder:match "^(.*)/([^/]*)$"
      table.insert(way, { folder = folder, name = name })
    end
    ways[path] = way
    return way
  end })
end

---@param world parley.testing.World
---@return parley.testing.Disk
function M.new(world) return setmetatable({ world = world, watching = {}, ways = new_ways() }, Disk) end

-- Watches: the face of luv's handle -----------------------------------------------------------------------------------

local Watch = {}
Watch.__index = Watch

function Watch:start(path, _, callback)
  if not uv.fs_access(path, "") then return nil, "ENOENT: no such file or directory: " .. path, "ENOENT" end
  self:stop()
  self.path, self.callback = path, callback
  local watching = self.disk.watching[path] or {}
  self.disk.watching[path] = watching
  table.insert(watching, self)
  return 0
end
function Watch:stop()
  local watching = self.disk.watching[self.path]
  if not watching then return end
  for place, watch in ipairs(watching) do
    if watch == self then table.remove(watching, place) end
  end
  if not watching[1] then self.disk.watching[self.path] = nil end
  self.path, self.callback = nil, nil
end
function Watch:is_closing() return self.is_closed == true end
function Watch:close()
  if self.is_closed then return end
  self:stop()
  self.is_closed = true
  self.disk.world:closed(self)
end

function Disk:new_watch()
  local watch = setmetatable({ disk = self }, Watch)
  self.world:opened(watch, "a watch")
  return watch
end

--- Tells those that watch a path of what has happened there: as with luv it is one event of the kernel's for all.
local function call(self, path, name, events)
  local watching = self.watching[path]
  if not watching or self.world:goes_wrong "unseen" then return end
  local told = table.move(watching, 1, #watching, 1, {})
  self.world:after(self.world:lateness(), function()
    for _, watch in ipairs(told) do
      if watch.callback and watch.path == path then watch.callback(nil, name, events) end
    end
  end)
end

--- Tells the watches of a change.
---@param path string
---@param is_rename boolean  it came or went
function Disk:changed(path, is_rename)
  local folder, name = path:match "^(.*)/([^/]*)$"
  local events = is_rename and { rename = true } or { change = true }
  call(self, path, name, events)
  call(self, folder, name, events)
  if not is_rename then return end
  for _, above in ipairs(self.ways[folder]) do call(self, above.folder, above.name, events) end
end

-- What is written -----------------------------------------------------------------------------------------------------

local function apply(self, operation)
  local is_rename = operation.is_rename or not uv.fs_access(operation.path, "")
  local results = table.pack(operation.run())
  self:changed(operation.path, is_rename)
  return table.unpack(results, 1, results.n)
end

--- Does what a program has asked for and was late.
local function catch_up(self, program, queue)
  local operation = table.remove(queue, 1)
  if operation then apply(self, operation) end
  if queue[1] then
    local late_ms = queue[1].late_ms or self.world:disk_lateness()
    self.world.time:after(late_ms, function() catch_up(self, program, queue) end, program)
  end
end

--- Does all of it at once: the program ends, or its files are looked at.
---@param program parley.testing.WorldProgram
function Disk:settle(program)
  for _, queue in ipairs(program.writes) do
    while queue[1] do apply(self, table.remove(queue, 1)) end
  end
end

--- Moves a file, behind all that its program has written.
---@param program parley.testing.WorldProgram
---@param from string
---@param to string
function Disk:rename(program, from, to)
  self:settle(program)
  assert(uv.fs_rename(from, to))
  self:changed(from, true)
  self:changed(to, true)
end

local function add(self, program, operation)
  local queue = program.writes[operation.path]
  if not queue then
    queue = {}
    program.writes[operation.path] = queue
    table.insert(program.writes, queue)
  end
  table.insert(queue, operation)
  if queue[2] then return end
  self.world.time:after(self.world:disk_lateness(), function() catch_up(self, program, queue) end, program)
end

--- An append in two, so that a reader may come between them, or without its end.
local function in_pieces(self, text)
  local world = self.world
  local is_torn = world:goes_wrong "torn" and text:sub(-1) == "\n" -- whoever writes half of it knows of the rest
  if #text < 2 or not is_torn and not world:goes_wrong "half" then return { text } end
  local cut = world.chance:between(1, #text - 1)
  if is_torn then
    world:tell(world:acting_program(), "writes half a line")
    if world.on_torn then world.on_torn(world:acting_program()) end
    return { text:sub(1, cut) }
  end
  local late_ms = world.chance:once_in(3) and world.chance:between(LONG_HALF_MS, LONGEST_HALF_MS) or nil
  return { text:sub(1, cut), text:sub(cut + 1), late_ms = late_ms }
end

local function is_ours(self, path) return path:sub(1, #self.world.folder) == self.world.folder end

--- Puts the functions of `parley.base.files` that write in the place of those that are there.
function Disk:open()
  local kept = {}
  for _, name in ipairs { "put", "write", "remove", "make_folder" } do kept[name] = files[name] end
  self.kept = kept
  local function late(path, operation)
    local program = is_ours(self, path) and self.world:acting_program()
    if not program then return apply(self, operation) end
    add(self, program, operation)
    return true
  end
  function files.put(path, text, how)
    if how ~= "a" or not self.world:acting_program() then
      return late(path, { path = path, run = function() return kept.put(path, text, how) end })
    end
    local pieces = in_pieces(self, text)
    for place, part in ipairs(pieces) do
      late(path, { path = path, late_ms = place > 1 and pieces.late_ms or nil,
        run = function() return kept.put(path, part, how) end })
    end
    return true
  end
  function files.write(path, text, is_passing)
    if not self.world:acting_program() and self.world:goes_wrong "no_space" then
      self.world:tell(nil, "the disk is full for " .. path:match "[^/]*$")
      error(errors.new("ENOSPC", ("cannot write '%s': no space left on device"):format(path), { path = path }), 0)
    end
    late(path, { path = path, is_rename = true, run = function() kept.write(path, text, is_passing) end })
  end
  function files.remove(path)
    late(path, { path = path, is_rename = true, run = function() kept.remove(path) end })
  end
  function files.make_folder(path)
    if files.is_folder(path) then return true end
    local ok, problem = kept.make_folder(path)
    if ok then self:changed(path, true) end
    return ok, problem
  end
end

function Disk:close()
  for name, fn in pairs(self.kept) do files[name] = fn end
end

return M
