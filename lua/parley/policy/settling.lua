--- When a turn is over, and how it ended.
---
--- To replace it, return a table with `judge`. It is called after every change with plain facts and must not wait.
local M = {}

--- How long the transcript must be silent, where no record says that it is complete: the program writes it in batches
--- about 100 ms after the event.
local FLUSH_MS = 300
--- The same when not one line of an answer has come: a slow disk must not make an answer an empty one.
local FIRST_LINE_MS = 2000

local function verdict_of(facts)
  if facts.interrupting or facts.interrupted then return "interrupted" end
  if facts.api_error then return "error_api" end
  if facts.assistant_blocks == 0 then return "error_no_output" end
  return "success"
end

---@class parley.Verdict
---@field subtype "success"|"interrupted"|"error_api"|"error_no_output"
---@field stop_reason? string

--- Judges whether the turn is over.
---@param facts table       see `turn:facts()`; `certainty` is `"goes_on"`, `"likely"` or `"certain"`
---@param still_ms number   since the last record or change of state
---@return parley.Verdict? verdict
---@return number? look_again_ms  when only time is missing
function M.judge(facts, still_ms)
  if facts.certainty == "goes_on" then return nil end
  if facts.certainty == "likely" then
    local answered = facts.assistant_blocks > 0 or facts.interrupting
    local missing = (answered and FLUSH_MS or FIRST_LINE_MS) - still_ms
    if missing > 0 then return nil, missing end
  end
  return { subtype = verdict_of(facts), stop_reason = facts.stop_reason }
end

return M
