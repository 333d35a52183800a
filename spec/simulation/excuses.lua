--- What has gone wrong from outside excuses that a request fails, and no more than that: the requests that were at that
--- program then, with the errors that come of it.
local marks = require "parley.testing.marks"
local plans = require "spec.simulation.plan"

local M = {}

--- What a user has typed may stand in the composer for a while, longer where it is read late.
local TYPED_MS, READ_MS = 10000, 10000
--- What a program owes that seems to be done is waited for so long.
local OWED_MS = 3000

--- Whether a fault may have struck.
local function may(model, name)
  return (model.plan.odds[name] or 0) > 0 or model.plan.times ~= nil and model.plan.times[name] ~= nil
end

local function is_session_error(err, ...)
  if not err or err.code ~= "SessionError" then return false end
  for _, reason in ipairs { ... } do
    if err.reason == reason then return true end
  end
  return select("#", ...) == 0
end

--- What each strike may make of a request that it has struck; `err` is nil for one that ended with a result.
local EFFECTS = {
  kill = function(err) return is_session_error(err, "exit") end,
  stop = function(err, verdict, model, ask)
    return is_session_error(err, "timeout", "delivery", "exit") or verdict == "error_no_output"
      or model:has_asked(ask) and err ~= nil -- which does not go away when it is answered, or half of it
        and (is_session_error(err, "dialog") or err.code == "DialogError")
  end,
  pause = function(err, verdict, model, ask, strike) -- one that stands still before what it owes is written looks done
    local is_long = strike.lasts_ms >= OWED_MS -- and half of a dialog that has gone like one that nobody knows
    local is_half_drawn = is_long and verdict == "DialogError" and model:has_asked(ask)
    local is_torn = may(model, "cut") and model:has_asked(ask) and is_session_error(err, "exit") -- half a key is Escape
    return is_session_error(err, "delivery") or verdict == "error_no_output" and is_long or is_half_drawn or is_torn
  end,
  torn = function(err, verdict)
    return is_session_error(err, "timeout", "transcript") or verdict == "error_no_output"
  end,
  escape = function(err, verdict) -- it leaves a dialog or interrupts the turn
    return is_session_error(err, "exit", "delivery") or verdict == "error_no_output" or verdict == "interrupted"
      or is_session_error(err, "timeout") and err.message:find("file_wait_timeout_ms", 1, true)
  end,
  type = function(err) -- a message that has changed in the composer is not sent again
    return is_session_error(err, "delivery")
      or is_session_error(err, "timeout") and err.message:find("file_wait_timeout_ms", 1, true)
  end,
}

--- Whether a request was at a program while that was struck, or has to do with what is left of it.
local function is_struck(model, ask, strike, is_direct)
  if strike.at > ask.ended then return false end
  if strike.asks[ask] then return true end
  if not strike.program or not ask.sessions[strike.session_id] then return false end
  local is_for_good = strike.kind == "stop" or strike.kind == "torn" or strike.kind == "kill" and is_direct
  if is_for_good then return true end
  local is_typed = strike.kind == "type" or strike.kind == "escape"
  local typed_ms = TYPED_MS + (may(model, "slow") and READ_MS or 0)
  local until_ms = is_typed and typed_ms or strike.lasts_ms or 0
  return strike.at + until_ms >= ask.began
end

--- What the caller has done itself, or had done.
local function by_caller(model, ask, err, verdict)
  if (ask.was.cancelled or ask.was.left) and err and err.code == "Cancelled" then return true end
  if ask.was.interrupted and verdict == "interrupted" then return true end
  return model.closed_at and ask.ended >= model.closed_at and err
    and (err.code == "Cancelled" or err.code == "ClosedError")
end

--- What the programs of the plan do.
local function by_program(model, ask, err, verdict)
  local plan, mark = model.plan, ask.turn.mark
  if marks.DEADLY[mark] and is_session_error(err, "exit") then return true end
  if may(model, "no_space") and err then -- for the editor there was no room, too
    if err.code == "ENOSPC" or err.message:find("the program's editor", 1, true) then return true end
  end
  if verdict == "ValueError" and ask.text:find "^%s*/" then return ask.taken == 0 end
  if verdict == "DialogError" then
    if plan.untrusted and not plan.accepts then return true end
    if not (plan.consents and not plan.untrusted) then return plans.ASKING[mark] or model:has_asked(ask, nil, true) end
  end
  -- Every third key is lost there: it is no terminal any more. What is late is seen when it comes.
  if not is_session_error(err, "delivery") or ask.taken > 0 then return false end
  local is_given_up = err.message:find("the composer does not hold what the program's editor", 1, true) == nil
  return model:losses_of(ask) > 2 or may(model, "slow") and is_given_up
end

--- Whether the answer before was not whole in the transcript, so that the conversation cannot be gone on with.
local function has_lost_an_answer(model, ask, err)
  if not err or err.code ~= "ValueError" or model.plan.direct then return false end
  return ask.talk.has_short
end

M.may = may

--- Whether there is an excuse for a request that did not end well.
---@param model spec.Model
---@param ask table
---@param err? parley.Error  that it ended with
---@param verdict string
---@return boolean
function M.has_one(model, ask, err, verdict)
  if by_caller(model, ask, err, verdict) or by_program(model, ask, err, verdict) then return true end
  if has_lost_an_answer(model, ask, err) then return true end
  for _, strike in ipairs(model.struck) do
    local has_effect = EFFECTS[strike.kind](err, verdict, model, ask, strike)
    if has_effect and is_struck(model, ask, strike, model.plan.direct) then return true end
    local is_slow = strike.kind == "stop" or strike.kind == "torn"
    local is_in_the_way = is_slow and is_session_error(err, "timeout") and strike.at <= ask.ended
    if is_in_the_way and err.message:find "has waited" then return true end
  end
  return false
end

--- Whether a program of the request has stood still: where it keeps no status, that is not to be told from a turn that
--- has ended.
---@param model spec.Model
---@param ask table
---@param least_ms? number  so long
---@return boolean
function M.stood_still(model, ask, least_ms)
  for _, strike in ipairs(model.struck) do
    local is_long = (strike.lasts_ms or math.huge) >= (least_ms or 0)
    local stands = is_long and (strike.kind == "stop" or strike.kind == "pause")
    if stands and is_struck(model, ask, strike, false) then return true end
  end
  return false
end

--- Whether a request may take longer than its program needs: that was struck, or reads late, or asks something.
---@param model spec.Model
---@param ask table
---@return boolean
function M.may_be_slow(model, ask)
  local is_late = may(model, "slow") or may(model, "half") or may(model, "torn")
  if is_late or model:has_asked(ask, ask.began) then return true end
  for _, strike in ipairs(model.struck) do
    if is_struck(model, ask, strike, model.plan.direct) then return true end
  end
  return false
end

--- Whether a message may be taken after its request has ended: it was interrupted, and the Enter before that is still
--- unread. Its caller was told nothing of whether it went. A later Enter has taken nothing of it.
---@param model spec.Model
---@param ask table
---@param entered_at number  when Enter was last typed into that program
---@return boolean
function M.may_be_late(model, ask, entered_at)
  return ask.verdict == "interrupted" and entered_at <= ask.ended
    and (may(model, "slow") or M.stood_still(model, ask))
end

--- Whether a line of the transcript of a request's session has no end.
---@param model spec.Model
---@param ask table
---@return boolean
function M.is_torn(model, ask)
  for _, strike in ipairs(model.struck) do
    if strike.kind == "torn" and ask.sessions[strike.session_id] then return true end
  end
  return false
end

--- Whether a part of an answer may be missing: it was in a line that has no end, or the program has stood still in the
--- middle where it keeps no status, or long where it does: it has said that it is done, and the rest is not written.
---@param model spec.Model
---@param ask table
---@return boolean
function M.may_be_short(model, ask)
  if M.is_torn(model, ask) then return true end
  return M.stood_still(model, ask, model.plan.profile == "2.1.110" and 0 or OWED_MS)
end

return M
