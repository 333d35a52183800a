--- How long a turn is waited for: what counts as a sign of life, and when patience ends.
local settling = require "parley.policy.settling"
local tui = require "parley.claude.tui"

local M = {}

---@class parley.Deadlines
---@field package terminal parley.Terminal
---@field package transcript parley.Transcript
---@field package options table        `stall_timeout_ms`, `file_wait_timeout_ms`
---@field package generation? integer  of the screen when it was seen last
---@field package signs? string        of life, on that screen
---@field package last_change? number  when there was a record, or the program did something else than before, or
---                                waited for what works in the background
---@field package last_sign number     the same, or the screen moved
---@field package last_life number     when there was a sign of life
local Deadlines = {}
Deadlines.__index = Deadlines
Deadlines.__name = "parley.Deadlines"

--- Makes the deadlines of a turn that begins now.
---@param given {terminal: parley.Terminal, transcript: parley.Transcript, options: table, now: number}
---@return parley.Deadlines
function M.new(given)
  return setmetatable({ terminal = given.terminal, transcript = given.transcript, options = given.options,
    last_sign = given.now, last_life = given.now }, Deadlines)
end

--- Counts from now: Enter is about to be pressed.
---@param now number
function Deadlines:restart(now) self.last_change, self.last_sign, self.last_life = nil, now, now end

--- Notes when something was last seen to move, and when there was a sign of life. What only ticks is none, but while a
--- tool runs: a command may take long and say nothing. Nor is a turn still as long as the program counts what it has
--- started in the background, or says that it waits for that and shows how long it works.
---@param now number
---@param has_happened boolean  there was a record, or the program does something else than before
---@param is_tool_running boolean
---@param has_agents boolean  that the turn waits for
function Deadlines:look_for_life(now, has_happened, is_tool_running, has_agents)
  local generation = self.terminal.process.screen:generation()
  local has_moved = generation ~= self.generation
  if has_moved then
    local signs = tui.signs_of_life(self.terminal:view().rows)
    if signs ~= self.signs or is_tool_running then self.last_life = now end
    self.generation, self.signs = generation, signs
  end
  local awaits = has_agents and tui.awaits_background(self.terminal:view().rows)
  local is_awaited = awaits == "counted" or awaits == "said" and has_moved
  if has_happened or is_awaited or not self.last_change then self.last_change = now end
  if has_happened then self.last_life = now end
  if has_happened or has_moved or is_awaited then self.last_sign = now end
end

--- Does not count a time that a person has taken.
---@param milliseconds number
function Deadlines:spare(milliseconds) self.last_life = self.last_life + milliseconds end

--- Since when the turn has been still, as the settling policy counts it. One that was not seen at work may still be
--- about to begin: then the screen must be still as well.
---@param facts parley.TurnFacts
---@return number
function Deadlines:still_since(facts) return facts.busy_seen and self.last_change or self.last_sign end

--- Raises when it is due.
local function due(self, now, since, milliseconds, message)
  if now < since + milliseconds then return since + milliseconds end
  local problem = self.transcript:problem()
  self.terminal:fail("timeout", message:format(milliseconds) .. (problem and "; " .. problem or ""))
end

--- When a program without a sign of life is given up. Raises when that is now.
---@param facts parley.TurnFacts
---@param now number
---@return number instant
function Deadlines:stall_due(facts, now)
  if facts.asking then return math.huge end
  local milliseconds, message = self.options.stall_timeout_ms,
    "the program has shown no sign of life for %g ms (stall_timeout_ms)"
  if facts.agents > 0 then
    if facts.certainty ~= "goes_on" then return math.huge end -- how long is the settling policy's affair
    milliseconds = math.max(milliseconds, settling.AGENTS_MS)
    message = "the program, with sub-agents in the background, has shown no sign of life for %d ms"
  end
  return due(self, now, self.last_life, milliseconds, message)
end

--- When the message must have come to the transcript. Raises when that is now.
---@param facts parley.TurnFacts
---@param now number
---@param free_since number  since when nothing is in the way
---@return number instant
function Deadlines:receipt_due(facts, now, free_since)
  if facts.state ~= "submitted" or facts.is_command or facts.queued then return math.huge end
  return due(self, now, free_since, self.options.file_wait_timeout_ms,
    "the transcript does not show the message %g ms after it was sent (file_wait_timeout_ms)")
end

return M
