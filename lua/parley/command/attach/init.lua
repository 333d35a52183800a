--- A person in a terminal who looks into a session of `parley serve`, and may take it over.
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local paint = require "parley.command.paint"
local pictures = require "parley.command.attach.picture"
local stdin = require "parley.command.stdin"
local stdout = require "parley.command.stdout"
local task = require "parley.base.task"
local uv = require "luv"

local M = {}

local LEAVE = "\29" -- Ctrl-]
local ENTER, EXIT = "\27[?1049h\27[2J", "\27[?2004l\27[0m\27[?25h\27[?1049l"
local PASTE_BEGINS, PASTE_ENDS = "\27[200~", "\27[201~"
local AGAIN_MS, WAIT_S = 1000, 3600

---@class parley.attach.Person
---@field package client parley.attach.Client
---@field package id string
---@field package line table        the session's, as the server tells it
---@field package hold? string
---@field package name string        of this person, for the server
---@field package typed string      and not sent yet
---@field package is_giving? boolean  back, once it is sent
---@field package is_in_paste? boolean
---@field package tail string       of the last read
---@field package changed parley.Condition
---@field package group parley.Group
---@field package taking? parley.Task
---@field package message? string
---@field package why? string       it is over
local Person = {}
Person.__index = Person

local function say(self, message)
  self.message = message
  self.is_dirty = true
  self.changed:notify()
end

local function path_of(self, what) return ("/sessions/%s/%s"):format(self.id, what) end

local function post(self, what, body)
  return self.client:ask("POST", path_of(self, what), { body = body,
    headers = { ["parley-hold"] = self.hold, ["parley-person"] = self.name } })
end

local function finish(self, why)
  self.why = self.why or why
  self.changed:notify()
end

--- The keyboard is the session's no more, and neither is what was typed.
local function let_go(self)
  self.hold, self.typed, self.is_giving, self.is_in_paste, self.tail = nil, "", false, false, ""
end

-- Taking over ---------------------------------------------------------------------------------------------------------

--- The stream is asked for anew, in the name of who has the keyboard now.
local function follow_again(self)
  if self.follower then self.follower:cancel "asked for anew" end
end

local function take_over(self)
  if self.hold then return end
  if self.taking then
    self.taking:cancel "never mind"
    return
  end
  say(self, "waits for the end of the turn; t again does not")
  self.taking = self.group:spawn(function()
    local _ <close> = defer(function() self.taking = nil end)
    local ok, answer = pcall(post, self, "take?wait=" .. WAIT_S, "")
    if ok then
      self.hold = answer.hold
      follow_again(self)
    end
    say(self, not ok and not errors.is(answer, "Cancelled") and errors.text(answer) or nil)
  end)
end

local function give_back(self)
  local ok, err = pcall(post, self, "give-back", "")
  self.is_giving = false
  if ok or not errors.is(err, "ApiError") then let_go(self) end -- a server that cannot be reached misses who was here
  say(self, not ok and errors.text(err) or nil)
end

--- Sends what was typed, in order, with all that has come meanwhile. Only behind that the session is given back.
local function send_keys(self)
  while true do
    self.changed:wait_until(function() return self.hold and (self.typed ~= "" or self.is_giving) end)
    local bytes = self.typed
    self.typed = ""
    if bytes == "" then
      give_back(self)
    else
      local ok, err = pcall(post, self, "keys", bytes)
      if not ok and errors.is(err, "ApiError") and err.status == 409 and err.message:find "taken" then let_go(self) end
      if not ok then say(self, errors.text(err)) end
    end
  end
end

-- Keys ----------------------------------------------------------------------------------------------------------------

--- Splits off what comes before Ctrl-]. In a paste that is a character like any other. A read may have cut a mark.
local function before_leave(self, bytes)
  local text, first, from = self.tail .. bytes, #self.tail + 1, 1
  self.tail = text:sub(1 - #PASTE_ENDS)
  while true do
    if self.is_in_paste then
      local _, last = text:find(PASTE_ENDS, from, true)
      if not last then return bytes, false end
      self.is_in_paste, from = false, last + 1
    end
    local leave, paste = text:find(LEAVE, math.max(from, first), true), text:find(PASTE_BEGINS, from, true)
    if leave and (not paste or leave < paste) then return text:sub(first, leave - 1), true end
    if not paste then return bytes, false end
    self.is_in_paste, from = true, paste + #PASTE_BEGINS
  end
end

local function on_bytes(self, bytes)
  if not bytes then return finish(self, "the terminal is closed") end
  if not self.taking and not self.is_giving then say(self, nil) end
  if self.hold then
    local typed, leaves = before_leave(self, bytes)
    self.typed = self.typed .. typed
    if leaves then
      self.is_giving = true
      say(self, "Parley looks at what was done …")
    end
    return self.changed:notify()
  end
  for key in bytes:gmatch "." do
    if key == LEAVE or key == "q" or key == "\3" then return finish(self, "left") end
    if key == "t" then return take_over(self) end
  end
end

-- What is seen --------------------------------------------------------------------------------------------------------

local takes = {}

function takes.snapshot(self, data)
  self.picture:begin(data.rows, data.columns, core.text.from_base64(data.data))
  self.to = data.to
end

function takes.bytes(self, data)
  if data.from ~= self.to then return follow_again(self) end
  self.picture:feed(core.text.from_base64(data.data))
  self.to = data.to
end

function takes.session(self, line) self.line = line end

function takes.gone(self) finish(self, "the session has ended") end

local function follow_once(self)
  return self.client:follow(path_of(self, "stream"), self.hold and { ["parley-hold"] = self.hold } or {},
    function(name, data)
      if not takes[name] then return end
      if self.is_lost then self.message, self.is_lost = nil, false end
      takes[name](self, data)
      self.is_dirty = true
      self.changed:notify()
    end)
end

--- Follows the stream, and comes back when the connection was lost.
local function follow(self)
  while not self.why do
    self.follower = task.spawn(pcall, follow_once, self)
    local waited, ok, err = pcall(self.follower.await, self.follower)
    if task.current():cancellation() then return end
    if waited and not ok and errors.is(err, "ApiError") then
      if err.status == 409 then
        let_go(self)
      else
        finish(self, err.status == 404 and "the session has ended" or err.message)
      end
    elseif waited and not errors.is(err, "Cancelled") and not self.why then
      if not (self.is_lost and self.message) then say(self, "the connection was lost; trying again") end
      self.is_lost = true
      task.sleep(AGAIN_MS)
    end
  end
end

local function status_of(self)
  local line = self.line
  local how = self.hold and "you have the keyboard: Ctrl-] gives it back" or "watching: t takes over, Ctrl-] leaves"
  local message = paint.plain(self.message or how .. " · " .. (line.doing or "")):gsub("\n", " ")
  return (" %s %s%s · %s"):format(self.id:sub(1, 8), line.state or "", self.picture:fit(), message)
end

local function paint_all(self)
  self.is_dirty = false
  self.picture:paint(status_of(self), self.hold ~= nil)
  local screen = self.picture.screen
  local wants_marks = self.hold ~= nil and screen ~= nil and screen:modes().bracketed_paste
  if wants_marks ~= self.has_marks then stdout.write(wants_marks and "\27[?2004h" or "\27[?2004l") end
  self.has_marks = wants_marks
end

local function watch_signals(self, input)
  local handles, main = {}, task.current()
  local reactions = {
    sigwinch = function()
      self.picture:resize(input:size())
      self.is_dirty = true
      self.changed:notify()
    end,
    sigcont = function()
      input:set_raw(true)
      stdout.write(ENTER)
      self.has_marks = false
      self.picture:resize(input:size())
      self.is_dirty = true
      self.changed:notify()
    end,
    sigtstp = function()
      input:set_raw(false)
      stdout.write(EXIT)
      uv.kill(uv.os_getpid(), "sigstop")
    end,
    -- The default would end the process and leave the terminal raw.
    sigquit = function() main:cancel(errors.cancelled("interrupted by signal 3", { signal = 3 })) end,
  }
  for name, react in pairs(reactions) do
    local handle = uv.new_signal()
    handle:start(name, react)
    table.insert(handles, handle)
  end
  return defer(function()
    for _, handle in ipairs(handles) do handle:close() end
  end)
end

--- Looks into a session until it has ended or the person leaves.
---@param client parley.attach.Client
---@param line table      the session's
---@param takes_it boolean  take it over at once
---@return string why     it is over
--- Raises `ValueError` where there is no terminal.
function M.run(client, line, takes_it)
  if uv.guess_handle(0) ~= "tty" or uv.guess_handle(1) ~= "tty" then
    error(errors.value_error "parley attach shows a session in a terminal, and standard input or output is none", 0)
  end
  local self = setmetatable({ client = client, id = line.id, line = line, typed = "", tail = "",
    name = core.digest.hex(assert(uv.random(16))), changed = task.condition(), has_marks = false, is_dirty = true },
    Person)
  local input <close> = stdin.open(function(bytes) on_bytes(self, bytes) end)
  local rows, columns = input:size()
  self.picture = pictures.new { write = stdout.write, rows = rows, columns = columns }
  local _ <close> = defer(function()
    input:set_raw(false)
    pcall(stdout.write, EXIT)
    self.picture:close()
  end)
  input:set_raw(true)
  stdout.write(ENTER)
  local _ <close> = watch_signals(self, input)
  local group <close> = task.group()
  self.group = group
  group:spawn(follow, self)
  group:spawn(send_keys, self)
  if takes_it then take_over(self) end
  while not self.why do
    if self.is_dirty then paint_all(self) end
    self.changed:wait_until(function() return self.is_dirty or self.why end)
  end
  return self.why
end

return M
