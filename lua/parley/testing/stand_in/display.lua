--- What the program tells of a message's text while it shows it (`MessageDisplay`): whole lines, the first at once,
--- then at most every 100 ms what has come since; the last piece is what is left at the message's end. It does not wait
--- for one call's answer before the next, so that calls may overtake each other (2.1.332), and tells of what was shown
--- before an interruption a moment after it. Meanwhile no spinner stands on the screen (2.1.110, 2.1.197, 2.1.332).
local core = require "parley.core"
local defer = require "parley.base.defer"
local task = require "parley.base.task"

local M = {}

local PIECE_MS = 100

---@class parley.testing.Display
---@field text string            what has come of the message
---@field package turn parley.testing.Turn
---@field package id string
---@field package index integer
---@field package waiting string  shown, and not told of yet
---@field package next_at number  when that may be told
local Display = {}
Display.__index = Display

--- Makes the display of one message; its blocks follow each other without a mark.
---@param turn parley.testing.Turn
---@return parley.testing.Display
function M.new(turn)
  return setmetatable({ turn = turn, id = core.uuid.generate(), index = 0, text = "", waiting = "", next_at = 0 },
    Display)
end

local function tell(self, is_final)
  local program = self.turn.program
  local payload = { turn_id = self.turn.prompt_id, message_id = self.id, index = self.index, final = is_final,
    delta = self.waiting }
  self.index, self.waiting, self.next_at = self.index + 1, "", task.now() + PIECE_MS
  if program.hooks:has "MessageDisplay" then
    program.calls:spawn(program.hooks.run, program.hooks, "MessageDisplay", payload)
  end
end

--- Waits, and tells what becomes due meanwhile.
local function wait(self, milliseconds)
  local ends = task.now() + milliseconds
  while self.waiting ~= "" and self.next_at <= ends do
    task.sleep(math.max(0, self.next_at - task.now()))
    tell(self, false)
  end
  task.sleep(math.max(0, ends - task.now()))
end

local function add(self, lines)
  self.text, self.waiting = self.text .. lines, self.waiting .. lines
  if self.waiting ~= "" and task.now() >= self.next_at then tell(self, false) end
end

--- Tells of what was cut off in the middle, with nobody waiting for it.
local function tell_rest(self)
  if self.waiting == "" then return end
  self.turn.program.calls:spawn(function()
    task.sleep(math.max(0, self.next_at - task.now()))
    tell(self, false)
  end)
end

--- Shows a text that comes at once, or a line each `line_ms`.
---@param text string
---@param line_ms? number
---@param is_cut? boolean  the connection breaks off behind it
function Display:run(text, line_ms, is_cut)
  local view = self.turn.program.view
  view.streams = true
  local _ <close> = defer(function(err)
    view.streams = nil
    if err ~= nil then tell_rest(self) end
  end)
  local whole, rest = text:match "^(.*\n)([^\n]*)$"
  if line_ms then
    for line in (whole or ""):gmatch "[^\n]*\n" do
      add(self, line)
      wait(self, line_ms)
    end
  else
    add(self, whole or "")
  end
  rest = whole and rest or text
  self.text = self.text .. rest
  if is_cut and not self.turn.program.profile.streams_again then return tell_rest(self) end
  if not is_cut then self.waiting = self.waiting .. rest end
  tell(self, true)
end

return M
