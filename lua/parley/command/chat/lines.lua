--- Messages from standard input, one a line: for pipes, files and terminals that can do nothing (`TERM=dumb`).
---
--- It has the same face as `parley.chat.editor`.
local uv = require "luv"
local errors = require "parley.base.errors"
local stdin = require "parley.command.stdin"
local task = require "parley.base.task"

local M = {}

---@class parley.LineInput
local Lines = {}
Lines.__index = Lines

--- Whether a line goes on in the next one: it ends with a backslash that is not itself behind one.
---@param text string
---@return boolean
function M.goes_on(text) return #text:match "\\*$" % 2 == 1 end

--- Opens standard input.
---@param options? {prompt?: boolean}  `prompt`: on a terminal, where Ctrl-C is then an input, too
---@return parley.LineInput  a `<close>` variable
function M.open(options)
  local self = setmetatable({ received = "", changed = task.condition(), interrupts = 0 }, Lines)
  self.has_prompt = options and options.prompt
  self.stdin = stdin.open(function(bytes)
    if bytes then self.received = self.received .. bytes else self.is_over = true end
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
    local line, rest = self.received:match "^([^\n]*)\n(.*)$"
    if line then
      self.received = rest
      return (line:gsub("\r$", ""))
    elseif self.is_over then
      line, self.received = self.received, ""
      return line ~= "" and line or nil, "end"
    elseif self.interrupts > 0 then
      self.interrupts = self.interrupts - 1
      return nil, "interrupt"
    end
    self.changed:wait()
  end
end

--- Reads a message.
---@param prompt string
---@return string? text
---@return "end"|"interrupt"? why  when there is none
function Lines:read(prompt)
  local parts = {}
  while true do
    if self.has_prompt then
      io.stdout:write(#parts == 0 and prompt or "")
      io.stdout:flush()
    end
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

--- Waits until Ctrl-C is pressed.
function Lines:wait_for_interrupt()
  while self.interrupts == 0 do self.changed:wait() end
  self.interrupts = self.interrupts - 1
end

--- Runs a function that writes.
---@param write fun()
function Lines.beside(_, write) write() end

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
