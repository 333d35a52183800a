--- One script of keys and faults for the simulated program in a world, for the same on a real terminal and for the real
--- program: what the composer shows after each step, and what is taken, must be the same in all three.
local chance_of = require "parley.testing.world.chance"
local helper = require "spec.helper"
local keys = require "parley.claude.keys"
local process = require "parley.claude.process"
local task = require "parley.base.task"
local testing = require "parley.testing"
local tui = require "parley.claude.tui"

local M = {}

--- How many scripts there are; a seed each.
M.SEEDS = 10

local PASTE, END_PASTE = keys.PASTE, keys.END_PASTE
local WORDS = { "one", "two words", "é", "日本", "x.", "7 ", "(a)" }
local EDITS = { "\127", "\127\127", "\1", "\5", "\21", "\11", "\27[D", "\27[C", "\27[D\27[D" }
--- A key so soon behind a paste takes its place, on some versions: it is for the delivery's specs.
local PASTE_MS = 500
--- Nothing more happens after so long, in a world's time.
local QUIET_MS = 5000
local PATIENCE_MS = 30000

---@class spec.Step
---@field name string  for messages
---@field keys string
---@field rests? true               the next one does not follow at once
---@field is_stopped? true          the program stands still while they are pressed
---@field rows? integer             the window's size from then on
---@field columns? integer

local function step_of(chance)
  local kind = chance:between(1, 10)
  if kind <= 4 then return { name = "types", keys = chance:pick(WORDS) } end
  if kind <= 6 then return { name = "edits", keys = chance:pick(EDITS) } end
  if kind == 7 then
    local text = chance:pick(WORDS) .. "\n" .. chance:pick(WORDS)
    return { name = "pastes", keys = PASTE .. text .. END_PASTE, rests = true }
  end
  if kind == 8 then return { name = "makes a line", keys = "\\\r" } end
  if kind == 9 then return { name = "types while it is stopped", keys = chance:pick(WORDS), is_stopped = true } end
  return { name = "resizes", keys = "", rows = chance:between(30, 50), columns = chance:between(90, 140) }
end

--- The script that a seed decides: two messages, each begun, edited and sent.
---@param seed integer
---@return spec.Step[]
function M.random(seed)
  local chance, steps = chance_of.new(seed), {}
  for _, key in ipairs(seed == 1 and { "!", "i", "\127", "\127" } or {}) do
    table.insert(steps, { name = "goes to the shell mode and back", keys = key, rests = true })
  end
  for number = 1, 2 do
    table.insert(steps, { name = "types", keys = ("k%d.%d"):format(seed, number) })
    for _ = 1, chance:between(2, 6) do table.insert(steps, step_of(chance)) end
    table.insert(steps, { name = "ends", keys = "\5 end" })
    table.insert(steps, { name = "sends", keys = keys.ENTER })
  end
  return steps
end

--- What can be seen: the composer's text and the cursor in it, how many messages were taken, and the last of them.
local function seen_in(live, taken)
  local row, column, visible = live.screen:cursor()
  local rows = live.screen:rows()
  local composer = tui.composer(rows, { row = row, column = column, visible = visible })
  if not composer or tui.is_busy(rows) then return nil end
  local text = composer.is_empty and "" or composer.text:gsub("%s+\n", "\n"):gsub("%s+$", "")
  local messages = taken()
  return ("%q, the cursor at %d:%d, %d taken, the last: %q"):format(text, row - composer.first_row + 1, column,
    #messages, messages[#messages] or "")
end

local function press(live, step)
  if step.rows then live:resize(step.rows, step.columns) end
  if step.is_stopped then live:signal "SIGSTOP" end
  live:write(step.keys)
  if step.is_stopped then live:signal "SIGCONT" end
end

--- What is seen after each step in a world.
---@param seed integer
---@param profile string
---@return string[]
function M.foresee(seed, profile)
  local world <close> = testing.world { seed = seed, profile = profile }
  local live <close> = process.new(world.options)
  live:start()
  live.changed:wait_until(function() return #world:events "ready" > 0 end, PATIENCE_MS)
  local seen = {}
  for place, step in ipairs(M.random(seed)) do
    press(live, step)
    task.condition():wait(QUIET_MS)
    seen[place] = seen_in(live, function() return world:taken() end) or "no composer"
  end
  return seen
end

--- Plays the script, and waits after each step for what was foreseen.
---@param seed integer
---@param foreseen string[]
---@param live parley.Process     ready, with nothing in its composer
---@param taken fun(): string[]   the messages that it has taken since
--- Raises when it does not come to that.
function M.hold_against(seed, foreseen, live, taken)
  for place, step in ipairs(M.random(seed)) do
    press(live, step)
    local last
    local ok = pcall(helper.eventually, function()
      last = seen_in(live, taken)
      return last == foreseen[place]
    end, PATIENCE_MS)
    if not ok then
      error(("seed %d, step %d (%s %q): the world shows %s, and this %s\n%s"):format(seed, place, step.name, step.keys,
        foreseen[place], tostring(last), live.screen:text()), 0)
    end
    if step.rests then task.condition():wait(PASTE_MS) end
  end
end

return M
