--- What goes to a program's terminal: in order, never more than the kernel takes, and what it has not taken yet can be
--- taken back. The kernel's buffer holds some kilobytes; a program that was stopped, or never reads, leaves it full.
local kernel = require "parley.claude.kernel"
local keys = require "parley.claude.keys"

local M = {}

--- So much is offered to the kernel at a time.
local PIECE = 64 * 1024
--- Where so many bytes wait already that nobody waits for, no more come to them: replies to what a terminal is asked.
local MOST_REPLIES = 4096
local PASTE, END_PASTE = keys.PASTE, keys.END_PASTE

---@class parley.Letter  bytes on their way
---@field bytes string
---@field gone integer      how many of them the kernel has
---@field is_reply boolean
---@field problem? string   why the rest will never go

---@class parley.Outbox
---@field package pty parley.Pty
---@field package on_room fun()
---@field package queue parley.Letter[]
---@field package poll? userdata  there once the kernel has refused something
local Outbox = {}
Outbox.__index = Outbox

--- Makes an empty one.
---@param pty parley.Pty    open until `close`
---@param on_room fun()     called from the loop when bytes have gone that had to wait, or never will
---@return parley.Outbox
function M.new(pty, on_room)
  return setmetatable({ pty = pty, on_room = on_room, queue = {}, replies = 0 }, Outbox)
end

local function remove_first(self)
  local letter = table.remove(self.queue, 1)
  if letter.is_reply then self.replies = self.replies - #letter.bytes end
end

local function give_up(self, problem)
  while self.queue[1] do
    self.queue[1].problem = problem
    remove_first(self)
  end
end

local flush

--- Waits for room while something is queued, and not otherwise.
local function watch(self)
  local is_watched = self.poll ~= nil and self.poll:is_active()
  if not self.queue[1] then
    if is_watched then self.poll:stop() end
  elseif not is_watched then
    self.poll = self.poll or kernel.new_poll(self.pty)
    self.poll:start("w", function()
      flush(self)
      self.on_room()
    end)
  end
end

--- Writes what the kernel takes.
function flush(self)
  while self.queue[1] do
    local letter = self.queue[1]
    local count, err = self.pty:write(letter.bytes:sub(letter.gone + 1, letter.gone + PIECE))
    if count then
      letter.gone = letter.gone + count
      if letter.gone == #letter.bytes then remove_first(self) end
    elseif err.code == "EAGAIN" then
      break
    else
      give_up(self, err.message)
    end
  end
  watch(self)
end

local function add(self, bytes, is_reply)
  local letter = { bytes = bytes, gone = 0, is_reply = is_reply }
  table.insert(self.queue, letter)
  if not self.queue[2] then flush(self) end
  return letter
end

--- Sends bytes behind all that waits: at once, as far as the kernel takes them.
---@param bytes string
---@return parley.Letter  for `is_gone` and `take_back`
function Outbox:send(bytes)
  if bytes == "" then return { bytes = "", gone = 0, is_reply = false } end
  return add(self, bytes, false)
end

--- Sends replies that nobody waits for, unless too many of them wait already. They go whole: a host that is slow reads
--- many questions at once.
---@param bytes string
function Outbox:reply(bytes)
  if self.replies >= MOST_REPLIES then return end
  self.replies = self.replies + #bytes
  add(self, bytes, true)
end

---@return boolean  true when the kernel has taken all of it
function Outbox:is_gone(letter) return letter.gone == #letter.bytes end -- luacheck: ignore 212

--- What must follow a beginning so that nothing is left open: the rest of a character or of a key's sequence, and the
--- end of a paste. Without it what is written next would be a part of what was cut off.
---@param bytes string
---@param gone integer  so many bytes went
---@return string
function M.ending(bytes, gone)
  local last = gone
  while bytes:find("^[\x80-\xBF]", last + 1) do last = last + 1 end
  local escape = bytes:sub(1, gone):match "^.*()\27"
  local stop = escape and select(2, bytes:find("^\27%[[0-?]*[ -/]*[@-~]", escape))
  last = math.max(last, stop or 0)
  local before = bytes:sub(1, last)
  local paste = before:match("^.*()" .. PASTE:gsub("%p", "%%%0"))
  local is_open = paste and not before:find(END_PASTE, paste, true)
  return bytes:sub(gone + 1, last) .. (is_open and END_PASTE or "")
end

--- Takes back what has not gone. A beginning that has gone is ended properly, before anything else goes.
---@param letter parley.Letter
function Outbox:take_back(letter)
  for i, other in ipairs(self.queue) do
    if other == letter then
      local ending = letter.gone > 0 and M.ending(letter.bytes, letter.gone) or ""
      if ending == "" then
        table.remove(self.queue, i)
      else
        self.queue[i] = { bytes = ending, gone = 0, is_reply = false }
      end
      return watch(self)
    end
  end
end

--- Drops all that waits.
---@param problem string  why; the letters' `problem`
function Outbox:close(problem)
  give_up(self, problem)
  if self.poll and not self.poll:is_closing() then self.poll:close() end
  self.is_closed = true
end

return M
