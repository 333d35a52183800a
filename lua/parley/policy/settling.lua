--- When a turn is over, and how it ended.
---
--- To replace it, return a table with `judge`. It is called after every change with plain facts and must not wait.
local M = {}

M.contract = {
  judge = {
    returns = "{subtype = 'success'|'interrupted'|'error_…', stop_reason = string?}",
    or_nil = "nil and maybe a number", second = "number?",
  },
}

--- How long the transcript must be silent where no record says that it is complete. It is written in batches about
--- 100 ms after the event, and up to 650 ms on a busy machine; the lines of one answer come together. Where the hub
--- runs, its Stop hook leaves such a record on 2.1.110, too.
local ANSWERED_MS = 300 -- the last line seen ends an answer
local FLUSH_MS = 1500 -- it does not
local OWED_MS = 3000 -- this version writes a last record
--- Not one line of an answer has come, or the end of it is owed: on a busy machine the program may stand still with it.
local NOTHING_MS = 10000
--- A call has no result yet: its dialog may be late on a busy machine, and 2.1.110 shows the composer meanwhile.
local TOOLS_MS = 10000
--- Sub-agents, and workflows of such, that work in the background are waited for, as their report is a part of the
--- answer; so long nothing may be heard of them, nor be seen of their work. Commands in the background are not: they
--- may never end.
M.AGENTS_MS = 30 * 60 * 1000

--- Stop reasons after which the program goes on by itself.
local GOES_ON = { tool_use = true, max_tokens = true, refusal = true }

--- Whether the program has nothing left to do behind an answer with this stop reason.
---@param stop_reason? string
---@return boolean
function M.is_final(stop_reason) return stop_reason ~= nil and not GOES_ON[stop_reason] end

local function is_answered(facts) return facts.last_is_answer and M.is_final(facts.stop_reason) end

local function patience(facts)
  if facts.interrupting then -- a call that was cut off has a result that says so
    return (facts.state == "submitted" or (facts.open_tools or 0) > 0) and FLUSH_MS or ANSWERED_MS
  end
  if facts.given_back then return FLUSH_MS end
  if facts.agents > 0 then return M.AGENTS_MS end
  if (facts.open_tools or 0) > 0 and not facts.stopped then return TOOLS_MS end
  if facts.broken_off then return facts.offers_duration and OWED_MS or FLUSH_MS end
  if facts.is_command then return FLUSH_MS end
  if facts.stopped then return ANSWERED_MS end
  if facts.assistant_blocks == 0 then return NOTHING_MS end
  if facts.offers_duration then return is_answered(facts) and OWED_MS or NOTHING_MS end
  return is_answered(facts) and ANSWERED_MS or FLUSH_MS
end

local function verdict_of(facts)
  if facts.interrupted or facts.given_back then return "interrupted" end
  if facts.api_error then return "error_api" end
  if facts.interrupting and not facts.duration and not is_answered(facts) then return "interrupted" end
  if facts.stopped then return "error_hook" end
  if facts.failed then return "error_command" end
  -- A call whose result never came, in a program that says nothing more: the answer is missing.
  local is_cut_off = facts.certainty ~= "certain" and (facts.open_tools or 0) > 0
  if (facts.assistant_blocks == 0 or is_cut_off) and not facts.is_command then return "error_no_output" end
  return "success"
end

---@class parley.TurnFacts         what was seen of a turn since it began
---@field state parley.TurnState
---@field certainty parley.TurnCertainty  that it is over: `"goes_on"`, `"likely"`, or `"certain"`: a record says so
---@field stop_reason? string       of the last block that had one
---@field is_command boolean        it is one of the program's own commands
---@field queued boolean            the message waits behind a turn of the program's own
---@field busy_seen boolean         the program was at work since Enter
---@field quiet boolean             the composer waits for a message
---@field stop_hook boolean         the Stop hook has run and nothing came after it
---@field finished boolean          a command's last record was seen and nothing came after it
---@field duration boolean          the last record was seen and nothing came after it
---@field offers_duration boolean   this program has a last record for each turn
---@field asking boolean            a permission policy is at a call; then this one is not asked
---@field interrupting boolean      ESC was pressed
---@field interrupted boolean       the transcript says that the user interrupted, or reports an API error since then
---@field given_back boolean        the message stands in the composer again, unanswered: somebody has pressed ESC
---@field stopped boolean           a hook of the user's has the program give no answer
---@field failed boolean            the program says that the command has failed, or that it does not know it
---@field api_error boolean         the last block reports an API error, and none that ESC has led to
---@field broken_off boolean        it cut an answer off behind a call, which the program runs, and goes on
---@field last_is_answer boolean    the last record was a block of an answer
---@field assistant_blocks integer  since the message was accepted
---@field open_tools integer        tool calls without a result
---@field agents integer            sub-agents and workflows that it has started and not heard of again

---@class parley.Verdict
---@field subtype "success"|"interrupted"|"error_api"|"error_hook"|"error_command"|"error_no_output"
---@field stop_reason? string

--- Judges whether the turn is over.
---@param facts parley.TurnFacts
---@param still_ms number   since the last record or change of state, or since the program was last seen to wait for
---       what the turn has started in the background
---@return parley.Verdict? verdict
---@return number? look_again_ms  when only time is missing
function M.judge(facts, still_ms)
  if facts.certainty == "goes_on" then return nil end
  if facts.certainty == "likely" then
    local missing = patience(facts) - still_ms
    if missing > 0 then return nil, missing end
  end
  return { subtype = verdict_of(facts), stop_reason = facts.stop_reason }
end

return M
