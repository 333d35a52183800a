--- What the facts of a probe (`parley.probe`) mean: findings, as `parley.doctor` makes them.
local M = {}

local SLOW_START_MS = 15000

local STATUS_FILES = {
  live = "the status file tells ready, busy and waiting",
  plain = "a status file without a status: the screen tells ready and busy",
  none = "no status file: the screen tells ready and busy",
}

local function judge_error(err, report)
  if err.code == "DialogError" then
    return report("start", "problem", ("the dialog '%s' waits for an answer"):format(err.dialog.kind), err.dialog.remedy)
  end
  report("start", "problem", tostring(err), err.code == "CLINotFoundError" and "install Claude Code, or --executable"
    or "run `claude` by itself in that folder and look; --traceback shows the last screen of other commands")
end

local function judge_start(facts, report)
  local names = {}
  for i, dialog in ipairs(facts.dialogs) do
    names[i] = dialog.kind .. (dialog.answered and " (answered)" or " (not answered)")
  end
  if names[1] then report("dialogs", "ok", "seen: " .. table.concat(names, ", ")) end
  if not facts.ready_ms then return end
  local seconds = facts.ready_ms / 1000
  report("start", seconds * 1000 > SLOW_START_MS and "warning" or "ok", ("ready for a message after %.2f s"):format(
    seconds), seconds * 1000 > SLOW_START_MS and "look at MCP servers and hooks, which start first" or nil)
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

--- By which sign the turn's end was known.
local function ending_of(ending)
  if ending.certainty ~= "certain" then
    return "warning", ("known by %d ms of silence: this version writes no last record"):format(ending.still_ms),
      "a newer Claude Code (2.1.197 and later) does; until then every turn takes that much longer"
  end
  return "ok", ending.duration and "certain, by turn_duration" or ending.stop_hook and "certain, by the Stop hook's record"
    or ending.api_error and "certain, by the record of an API error" or "certain, by an interruption's record"
end

local function judge_turn(facts, report)
  local turn = facts.turn
  local received = turn.received or {}
  local count = #received
  report("once", count == 1 and "ok" or "problem", ("the message is %s in the transcript"):format(
    count == 0 and "not" or count == 1 and "once" or count .. " times"),
    count ~= 1 and "please report it, with the transcript" or nil)
  if count > 0 then
    report("verbatim", turn.is_verbatim and "ok" or "problem", turn.is_verbatim and "it arrived as it was sent"
      or ("it arrived as %q"):format(received[1]:sub(1, 200)), not turn.is_verbatim
      and "please report it, with the transcript" or nil)
  end
  if not turn.subtype then return end
  local good = turn.subtype == "success"
  report("answer", good and "ok" or "problem", good and ("accepted after %d ms, answered after %d ms, over after %d ms")
    :format(turn.receipt_ms or 0, turn.answer_ms or 0, turn.end_ms)
    or ("the turn ended with %s%s"):format(turn.subtype, turn.message and ": " .. turn.message or ""),
    not good and "see what the message says; login and network first" or nil)
  if facts.ending then
    local level, message, remedy = ending_of(facts.ending)
    report("end", level, message, remedy)
  end
  if turn.is_ready_again then report("again", "ok", "ready for the next message") end
end

local function judge_end(facts, report)
  local left = facts.left
  local names = {}
  if left.process or left.group then table.insert(names, "its process") end
  if left.descriptors > 0 then table.insert(names, left.descriptors .. " descriptors") end
  if facts.cancelled and facts.cancelled.process then table.insert(names, "the process of a cancelled start") end
  if names[1] then
    report("close", "problem", "closing has left " .. table.concat(names, ", "), "please report it")
  elseif facts.exit and not facts.exit.not_started then
    report("close", "ok", facts.cancelled and "closing and cancelling leave nothing behind" or "closing leaves nothing behind")
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
  if facts.turn then judge_turn(facts, report) end
  judge_end(facts, report)
  return findings
end

return M
