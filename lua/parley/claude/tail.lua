--- A growing JSONL file, with the waiting: `on_change` is called when there may be something new, `next` says what.
---
--- Two watches of the kernel's tell of changes. The *folder watch* stands on the file's folder, or while that is
--- missing on the nearest folder above it that exists, and moves down as folders appear; it tells of creation,
--- replacement and removal. The *file watch* stands on the file itself and tells of what is appended. No event falls
--- between two stools: after a watch is set, the path is looked at again, and every event that moves a watch is passed
--- on as a change. Nothing polls, unless the kernel refuses a watch. Renaming a folder above the watched one goes
--- unnoticed. So does whatever happens while the kernel's queue of events is full, for libuv does not say that it was:
--- who waits for a change must look now and then.
local uv = require "luv"
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local kernel = require "parley.claude.kernel"
local options = require "parley.base.options"

local M = {}

local RULES = {
  path = { type = "string" },
  offset = {
    type = "integer",
    default = 0,
    check = function(value) return value < 0 and "0 or more" or nil end,
  },
  on_change = { type = "callable", default = function() end },
  poll_interval_ms = { type = "positive integer", default = 250 },
  new_fs_event = { type = "callable", default = function() return kernel.new_watch() end },
}

local LONGEST_QUOTE = 200 -- bytes of a malformed line that are kept

---@class parley.TailOptions
---@field path string               the file; neither it nor its folder need exist yet
---@field offset? integer           bytes to pass over at the start; 0
---@field on_change? fun()          called from the loop when `next` may have something new; only wake somebody in it
---@field poll_interval_ms? integer how often to look where the kernel refuses a watch; 250
---@field new_fs_event? fun(): userdata  makes the handles of the watches; luv's own. For specs

---@class parley.Tail
local Tail = {}
Tail.__index = Tail
Tail.__name = "parley.Tail"

local function parent_of(path)
  local parent = path:match "^(.*)/+[^/]*$"
  return parent ~= "" and parent or "/"
end

--- The nearest folder above the path that exists.
local function nearest_folder(path)
  local folder = path
  repeat
    folder = parent_of(folder)
    local status = uv.fs_stat(folder)
  until status and status.type == "directory" or folder == "/"
  return folder
end

--- What changes whenever the file does: all that a poll can see.
local function signature_of(path)
  local status = uv.fs_stat(path)
  if not status then return "" end
  return table.concat({ status.dev, status.ino, status.size, status.mtime.sec, status.mtime.nsec, status.ctime.sec,
    status.ctime.nsec }, " ")
end

--- Gives up on the kernel's watches and looks at intervals.
local function start_polling(self)
  self._folder_event:stop()
  self._file_event:stop()
  local signature = signature_of(self.path)
  self._timer = clock.every(self._poll_interval_ms, function()
    local current = signature_of(self.path)
    if current == signature then return end
    signature = current
    self._on_change()
  end)
end

--- Whether a failure to watch means that the thing went away meanwhile, and not that nothing can be watched.
local function is_gone(code)
  return code == "ENOENT" or code == "ENOTDIR"
end

--- What is on the way from a folder to a path below it: the name of a file, or of a folder.
local function next_name(folder, path) return path:match("^/*([^/]+)", #folder + 1) end

--- Sets both watches to where they belong now.
local function arm(self)
  if self._timer then return end
  local folder
  repeat
    folder = nearest_folder(self.path)
    self._awaited, self._folder_name = next_name(folder, self.path), folder:match "[^/]*$"
    self._folder_event:stop()
    local ok, _, code = self._folder_event:start(folder, {}, self._on_folder_event)
    if not ok and not is_gone(code) then return start_polling(self) end
  until ok and nearest_folder(self.path) == folder
  -- While nothing stands at the path the old watch stays: whoever has the old file open may go on writing it.
  if folder ~= parent_of(self.path) or not uv.fs_stat(self.path) then return end
  self._file_event:stop()
  local ok, _, code = self._file_event:start(self.path, {}, self._on_change)
  if not ok and not is_gone(code) then start_polling(self) end
  self._is_file_watched = ok ~= nil
end

--- Begins to watch a file. What it holds already is no change: drain `next` once after this.
---@param given parley.TailOptions
---@return parley.Tail
--- Raises `ValueError`.
function M.open(given)
  local checked = options.check(RULES, given, "parley.tail")
  if not checked.path then
    error(errors.value_error("parley.tail needs the option 'path'", { option = "path" }), 0)
  end
  local path = checked.path
  if path:sub(1, 1) ~= "/" then path = uv.cwd() .. "/" .. path end
  local file, err = core.tail.open(path, checked.offset)
  if not file then error(err, 0) end

  local self = setmetatable({
    path = path,
    _file = file,
    _on_change = function() checked.on_change() end,
    _poll_interval_ms = checked.poll_interval_ms,
    _folder_event = checked.new_fs_event(),
    _file_event = checked.new_fs_event(),
  }, Tail)
  -- The folder's files change all the time, and they may be a thousand other sessions'. Only what comes and goes on the
  -- way to this one matters, and the folder itself, of which the kernel tells under its own name.
  self._on_folder_event = function(_, name, events)
    local is_ours = not name or name == self._awaited or name == self._folder_name
    if not events.rename or not is_ours then return end
    arm(self)
    self._on_change()
  end
  arm(self)
  return self
end

--- Takes the next event; ask until there is none.
---@return "record"|"malformed"|"truncated"|"replaced"|nil event  nil when there is nothing more now
---@return table|parley.Error|nil record  the record; `{ line, error }` of a malformed line cut to 200 bytes; with a nil
---                                       event the error, if there is one
---@return integer? offset                in the file, after the line
function Tail:next()
  local event, text, offset = self._file:next()
  -- What has come up while the kernel's queue was full has no watch yet.
  if event == "replaced" or event and not self._is_file_watched then arm(self) end
  if event ~= "line" then return event, text end
  local record, err = core.json.decode(text)
  if type(record) == "table" and not core.json.is_array(record) then return "record", record, offset end
  err = err or errors.new("EJSON", "a record must be a JSON object")
  return "malformed", { line = errors.beginning(text, LONGEST_QUOTE), error = err }, offset
end

--- The offset after the last line that `next` delivered or skipped.
---@return integer
function Tail:offset()
  return self._file:offset()
end

--- How much was read and not delivered: of a line that has no end yet, once `next` has given nil.
---@return integer bytes
function Tail:held()
  return self._file:held()
end

--- Whether something stands at the path now.
---@return boolean
function Tail:exists()
  return self._file:exists()
end

--- How changes are noticed: by the kernel's watches, or by looking at intervals because it refused one.
---@return "notify"|"poll"
function Tail:mode()
  return self._timer and "poll" or "notify"
end

--- Closes the file and all handles. `on_change` is not called after this. May be called again.
function Tail:close()
  self._file:close()
  for _, name in ipairs { "_folder_event", "_file_event" } do
    local handle = self[name]
    if handle and not handle:is_closing() then handle:close() end
  end
  if self._timer then self._timer:close() end
end

Tail.__close = Tail.close

function Tail:__tostring()
  return ("%s (%s)"):format(Tail.__name, self.path)
end

return M
