--- How long a turn is waited for: what counts as a sign of life, and which deadline is next.
local paths = require "parley.claude.paths"
local tui = require "parley.claude.tui"

local M = {}

--- Notes when something was last seen to move, and when there was a sign of life. What only ticks is none, but while a
--- tool runs: a command may take long and say nothing.
---@param session parley.Session
---@param now number
---@param has_happened boolean  there was a record, or the program does something else than before
function M.look_for_life(session, now, has_happened)
  local generation = session.process.screen:generation()
  local has_moved = generation ~= session.sign_generation
  if has_moved then
    local signs = tui.signs_of_life(session:view().rows)
    if signs ~= session.signs or #session.turn.open_tools > 0 then session.last_life = now end
    session.sign_generation, session.signs = generation, signs
  end
  if has_happened then session.last_life = now end
  if has_happened or has_moved then session.last_sign = now end
end

--- Raises when a deadline of the turn has passed; else returns when the next one does.
---@param session parley.Session
---@param facts table  of the turn
---@param now number
---@return number
function M.next_deadline(session, facts, now)
  local nearest = math.huge
  local function limit(since, milliseconds, message)
    if now >= since + milliseconds then
      local problem = paths.transcript_problem(session.jsonl_path)
      session.terminal:fail("timeout", message:format(milliseconds) .. (problem and "; " .. problem or ""))
    end
    nearest = math.min(nearest, since + milliseconds)
  end
  if facts.agents == 0 then
    limit(session.last_life, session.options.stall_timeout_ms,
      "the program has shown no sign of life for %g ms (stall_timeout_ms)")
  end
  if facts.state == "submitted" and not facts.is_command and not facts.queued then
    limit(session.free_since, session.options.file_wait_timeout_ms,
      "the transcript does not show the message %g ms after it was sent (file_wait_timeout_ms)")
  end
  return nearest
end

return M
