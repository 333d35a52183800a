--- How far a batch is: a bar on a terminal, a line every few seconds elsewhere, a summary at the end.
local uv = require "luv"
local clock = require "parley.base.clock"
local paint = require "parley.command.paint"

local M = {}

local REDRAW_MS = 500
local LINE_MS = 10000
local BAR_WIDTH = 24

--- A duration as people read it.
---@param seconds number
---@return string  `"4:05"`, `"1:02:03"`
function M.duration(seconds)
  local whole = math.floor(seconds + 0.5)
  local hours, minutes = whole // 3600, whole // 60 % 60
  if hours > 0 then return ("%d:%02d:%02d"):format(hours, minutes, whole % 60) end
  return ("%d:%02d"):format(minutes, whole % 60)
end

local function rate_text(rate)
  if rate >= 1 or rate == 0 then return ("%.1f/s"):format(rate) end
  return ("%.1f/min"):format(rate * 60)
end

--- The parts of the line, the most important first.
local function parts_of(counts, seconds)
  local finished = counts.succeeded + counts.failed
  local over = finished + counts.resumed
  local rate = seconds > 0 and finished / seconds or 0
  local parts = {
    counts.total and ("%d of %d done"):format(over, math.max(counts.total, over)) or ("%d done"):format(over),
    ("%d failed"):format(counts.failed + counts.resumed_failed),
    ("%d running"):format(counts.running),
    rate_text(rate),
  }
  if counts.total and rate > 0 then
    table.insert(parts, M.duration(math.max(0, counts.total - over) / rate) .. " left")
  end
  return parts, counts.total and counts.total > 0 and math.min(1, over / counts.total) or nil
end

--- The line of the bar.
---@param counts parley.batch.Counts
---@param seconds number  since the beginning
---@param width integer   columns of the terminal; what does not fit is left out
---@return string
function M.bar(counts, seconds, width)
  local parts, fraction = parts_of(counts, seconds)
  local line = parts[1]
  for i = 2, #parts do
    local longer = line .. "  " .. parts[i]
    if #longer >= width then break end
    line = longer
  end
  if fraction and #line + BAR_WIDTH + 3 < width then
    local filled = math.floor(fraction * BAR_WIDTH)
    line = ("[%s%s] %s"):format(("="):rep(filled), (" "):rep(BAR_WIDTH - filled), line)
  end
  return line:sub(1, math.max(0, width - 1)) -- the last column stays free: some terminals wrap there
end

--- The line for where nothing can be redrawn.
---@param counts parley.batch.Counts
---@param seconds number
---@return string
function M.line(counts, seconds) return table.concat((parts_of(counts, seconds)), ", ") end

local function tokens(usage)
  local sent = 0
  for _, name in ipairs { "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens" } do
    sent = sent + (usage[name] or 0)
  end
  return ("%d tokens in, %d out"):format(sent, usage.output_tokens or 0)
end

--- What is said at the end.
---@param counts parley.batch.Counts
---@param seconds number
---@return string
function M.summary(counts, seconds)
  local text = ("%d succeeded, %d failed"):format(counts.succeeded, counts.failed)
  if counts.resumed > 0 then
    text = text .. (", %d done before (%d of them failed)"):format(counts.resumed, counts.resumed_failed)
  end
  local cost = counts.cost_usd and (", $%.4f"):format(counts.cost_usd) or ""
  return ("%s; %s, %s%s"):format(text, M.duration(seconds), tokens(counts.usage), cost)
end

---@class parley.batch.Progress
local Progress = {}
Progress.__index = Progress
Progress.__name = "parley.batch.Progress"

--- Asked anew each time, for people resize windows. On a descriptor of its own: libuv makes those it gets non-blocking.
local function columns()
  local descriptor = uv.fs_open("/proc/self/fd/2", uv.constants.O_RDWR | uv.constants.O_NOCTTY, 0)
  local handle = descriptor and uv.new_tty(descriptor, false)
  if not handle then return 80 end
  local width = handle:get_winsize()
  handle:close()
  return width and width > 0 and width or 80
end

local function elapsed(self) return (clock.now() - self.began) / 1000 end

local function draw(self)
  io.stderr:write("\r", M.bar(self.counts, elapsed(self), columns()), "\27[K")
  io.stderr:flush()
  self.is_drawn = true
end

--- Reports on standard error while it is open.
---@param counts parley.batch.Counts
---@param has_terminal boolean  whether a line there can be redrawn
---@param interval_ms? number    default: 500 for the bar, 10000 for lines
---@return parley.batch.Progress  a `<close>` variable
function M.open(counts, has_terminal, interval_ms)
  local self = setmetatable({ counts = counts, began = clock.now() }, Progress)
  self.ticker = clock.every(interval_ms or has_terminal and REDRAW_MS or LINE_MS, function()
    if has_terminal then draw(self) else self:say(M.line(counts, elapsed(self))) end
  end)
  return self
end

--- Writes a line; the bar makes room for it and comes back with the next tick.
---@param text string
function Progress:say(text)
  self:clear()
  io.stderr:write("parley: ", paint.plain(text), "\n")
end

--- Takes the bar off the screen.
function Progress:clear()
  if self.is_drawn then io.stderr:write "\r\27[K" end
  self.is_drawn = false
end

--- Ends the reports. A second call does nothing.
---@return number seconds  how long it was open
function Progress:close()
  self.ticker:close()
  self:clear()
  self.seconds = self.seconds or elapsed(self)
  return self.seconds
end

Progress.__close = Progress.close

return M
