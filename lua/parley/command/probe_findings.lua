--- What the facts of a probe (`parley.probe`) mean: findings, as `parley.doctor` makes them.
local M = {}

local SLOW_START_MS = 15000

local STATUS_FILES = {
  live = "the status file tells ready, busy and waiting",
  plain = "a status file without a status: the screen tells ready and busy",
  none = "no status file: the screen tells ready and busy",
}

local REPORT = "please report it, with the transcript"

local function judge_error(err, report)
  if err.code == "DialogError" then
    local dialog = err.dialog
    return report("start", "problem", ("the dialog '%s' waits for an answer"):format(dialog.kind), dialog.remedy)
  end
  report("start", "problem", tostring(err), "run `claude` by itself in that folder and look at what it shows")
end

local function judge_start(facts, report)
  local names = {}
  for i, dialog in ipairs(facts.dialogs) do
    names[i] = dialog.kind .. (dialog.answered and " (answered)" or " (not answered)")
  end
  if names[1] then report("dialogs", "ok", "seen: " .. table.concat(names, ", ")) end
  if not facts.ready_ms then return end
  local message = ("ready for a message after %.2f s"):format(facts.ready_ms / 1000)
  if facts.ready_ms > SLOW_START_MS then
    report("start", "warning", message, "look at MCP servers and hooks, which start first")
  else
    report("start", "ok", message)
  end
  report("signals", "ok", STATUS_FILES[facts.status_file])
  if facts.watch == "poll" then
    report("signals", "warning", "the transcript is polled: the kernel grants no more watches",
      "raise fs.inotify.max_user_instances and max_user_watches")
  end
  if facts.leaked[1] then
    report("environment", "problem", "claude has variables that should be kept from it: "
      .. table.concat(facts.leaked, ", "), "look for a wrapper script that sets them")
  end
end

local function judge_receipts(turn, report)
  local received = turn.received or {}
  if #received == 1 then
    report("once", "ok", "the message is once in the transcript")
  elseif #received == 0 then
    report("once", "problem", "the message is not in the transcript", REPORT)
  else
    report("once", "problem", ("the message is %d times in the transcript"):format(#received), REPORT)
  end
  if received[1] and turn.is_verbatim then
    report("verbatim", "ok", "it arrived as it was sent")
  elseif received[1] then
    report("verbatim", "problem", ("it arrived as %q"):format(received[1]:sub(1, 200)), REPORT)
  end
end

--- By which sign the turn's end was known.
local function judge_ending(ending, report)
  if ending.certainty ~= "certain" then
    return report("end", "warning", ("known by %.0f ms of silence: this version writes no last record"):format(
      ending.still_ms), "a newer Claude Code (2.1.120 and later) does; until then every turn takes that much longer")
  end
  local sign = ending.duration and "turn_duration" or ending.stop_hook and "the Stop hook's record"
    or ending.api_error and "the record of an API error" or "an interruption's record"
  report("end", "ok", "certain, by " .. sign)
end

local function judge_turn(turn, report)
  if turn.subtype == "success" then
    report("answer", "ok", ("accepted after %.0f ms, answered after %.0f ms, over after %.0f ms"):format(
      turn.receipt_ms or 0, turn.answer_ms or 0, turn.end_ms))
  elseif turn.subtype then
    report("answer", "problem", ("the turn ended with %s%s"):format(turn.subtype,
      turn.message and ": " .. turn.message or ""), "see what it says; look at login and network first")
  end
  if turn.is_ready_again then report("again", "ok", "ready for the next message") end
end

local function judge_end(facts, report)
  local left, names = facts.left, {}
  if left.process then table.insert(names, "its process") end
  if left.group and not left.process then table.insert(names, "a process that it started") end
  if left.descriptors > 0 then table.insert(names, left.descriptors .. " descriptors") end
  if facts.cancelled and facts.cancelled.process then table.insert(names, "the process of a cancelled start") end
  if names[1] then
    report("close", "problem", "closing has left " .. table.concat(names, ", "), "please report it")
  elseif facts.exit and not facts.exit.not_started then
    report("close", "ok", (facts.cancelled and "closing and cancelling leave" or "closing leaves") .. " nothing behind")
  end
  if left.status_file and not left.process then
    report("close", "warning", "claude has left its status file", "it can be removed; claude does so in time")
  end
end

--- Judges the facts of a probe.
---@param facts parley.ProbeFacts
---@return parley.Finding[]
function M.judge(facts)
  local findings = {}
  local function report(check, level, message, remedy)
    table.insert(findings, { check = check, level = level, message = message, remedy = remedy })
  end
  judge_start(facts, report)
  if facts.error then judge_error(facts.error, report) end
  if facts.turn then
    judge_receipts(facts.turn, report)
    judge_turn(facts.turn, report)
  end
  if facts.ending then judge_ending(facts.ending, report) end
  judge_end(facts, report)
  return findings
end

return M
