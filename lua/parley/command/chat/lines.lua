--- Messages from standard input, one a line: for pipes, files and terminals that can do nothing (`TERM=dumb`).
---
--- It has the same face as `parley.chat.editor`.
local uv = require "luv"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local stdin = require "parley.command.stdin"
local task = require "parley.base.task"

local M = {}

---@class parley.LineInput
local Lines = {}
Lines.__index = Lines

local function write(text)
  io.stdout:write(text)
  io.stdout:flush()
end

--- Whether a line goes on in the next one: it ends with a backslash that is not itself behind one.
---@param text string
---@return boolean
function M.goes_on(text) return #text:match "\\*$" % 2 == 1 end

--- Lines that have come and were not read, from `first` to `last`; `pieces` are of one that has no end yet.
local function queue() return { first = 1, last = 0, pieces = {} } end

local function put(received, bytes)
  local from = 1
  for at in bytes:gmatch "()\n" do
    table.insert(received.pieces, bytes:sub(from, at - 1))
    received.last = received.last + 1
    received[received.last] = table.concat(received.pieces)
    received.pieces, from = {}, at + 1
  end
  if from <= #bytes then table.insert(received.pieces, bytes:sub(from)) end
end

--- Takes the next line; of what has no end only `is_over` makes one.
local function take(received, is_over)
  local line = received[received.first]
  if line then
    received[received.first] = nil
    received.first = received.first + 1
  elseif is_over and received.pieces[1] then
    line, received.pieces = table.concat(received.pieces), {}
  end
  return line
end

--- Opens standard input.
---@param options? {prompt?: boolean}  `prompt`: on a terminal, where Ctrl-C is then an input, too
---@return parley.LineInput  a `<close>` variable
function M.open(options)
  local self = setmetatable({ received = queue(), changed = task.condition(), interrupts = 0 }, Lines)
  self.has_prompt = options and options.prompt
  self.stdin = stdin.open(function(bytes)
    if bytes then put(self.received, bytes) else self.is_over = true end
    self.changed:notify()
  end)
  if self.has_prompt then
    self.signal = uv.new_signal()
    self.signal:start("sigint", function()
      self.interrupts = self.interrupts + 1
      self.changed:notify()
    end)
  end
  return self
end

local function next_line(self)
  while true do
    local line = take(self.received, self.is_over)
    if line then return (line:gsub("\r$", "")) end
    if self.is_over then return nil, "end" end
    if self.interrupts > 0 then
      self.interrupts = self.interrupts - 1
      return nil, "interrupt"
    end
    self.changed:wait()
  end
end

--- What has come is out of the way until the block is left.
local function set_aside(self)
  local before = self.received
  self.received = queue()
  return defer(function()
    local since = self.received
    if since.last >= since.first then put(before, table.concat(since, "\n", since.first, since.last) .. "\n") end
    put(before, table.concat(since.pieces))
    self.received = before
  end)
end

local function read_message(self, prompt)
  local parts = {}
  while true do
    if self.has_prompt and #parts == 0 then write(prompt) end
    local line, why = next_line(self)
    if not line then
      if why == "end" and #parts > 0 then return table.concat(parts, "\n") end
      return nil, why
    end
    local goes_on = M.goes_on(line)
    table.insert(parts, goes_on and line:sub(1, -2) or line)
    if not goes_on then return table.concat(parts, "\n") end
  end
end

--- Reads a message.
---@param prompt string
---@param options? {afresh?: boolean}  what has come before is no answer: it waits for a read without that
---@return string? text
---@return "end"|"interrupt"? why  when there is none
function Lines:read(prompt, options)
  local is_afresh = options and options.afresh
  local text, why
  if is_afresh then task.sleep(0) end -- the loop looks once for what has come by now
  local _ <close> = is_afresh and set_aside(self) or nil
  local _ <close> = defer(function() -- when it is cancelled, too
    if self.has_prompt and not text then write "\n" end
  end)
  text, why = read_message(self, prompt)
  return text, why
end

--- Waits until Ctrl-C is pressed.
function Lines:wait_for_interrupt()
  while self.interrupts == 0 do self.changed:wait() end
  self.interrupts = self.interrupts - 1
end

--- Runs a function that writes.
---@param writes fun()
function Lines.beside(_, writes) writes() end

--- What else would have the terminal has none to have here.
--- Raises `ValueError`.
function Lines.lend() error(errors.value_error "that needs a terminal which can move its cursor", 0) end

---@return integer
function Lines:columns() return self.stdin:columns() end

--- There is nothing to remember it for.
function Lines.remember() end

function Lines:close()
  self.stdin:close()
  if self.signal and not self.signal:is_closing() then self.signal:close() end
end

Lines.__close = Lines.close

return M
