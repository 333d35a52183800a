-- A settling policy: when a turn is over, and how it ended.
--
--   parley ask --policy settling=NAME.lua "Write a long story."
--   parley.backend { policies = { settling = "NAME.lua" } }
--
-- This one takes an answer for a failure that the model did not write to its end. (After `max_tokens` and `refusal` the
-- program goes on by itself, and the turn with it.)
local default = require "parley.policy.settling"

local M = {}

--- Stop reasons, and the `subtype` of the result that they are to have: it begins with `error_`.
local FAILURES = { stop_sequence = "error_cut", pause_turn = "error_paused" }

--- Called after every change with plain facts; it must not wait. `facts` has `certainty`, `stop_reason`, `interrupted`,
--- `open_tools`, `assistant_blocks`, …; `still_ms` is how long nothing has changed. While the turn goes on it returns
--- nil, and after how many milliseconds to look again where only time is missing.
function M.judge(facts, still_ms)
  local verdict, look_again_ms = default.judge(facts, still_ms)
  if verdict and verdict.subtype == "success" then verdict.subtype = FAILURES[verdict.stop_reason] or "success" end
  return verdict, look_again_ms
end

return M
