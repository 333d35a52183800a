-- What must hold on every version of `claude`: a check for each column of the table. `spec/conformance/README.md` says
-- what the outcomes mean.
local errors = require "parley.base.errors"
local fake_backends = require "spec.fake_backends"
local files = require "parley.base.files"
local helper = require "spec.helper"
local live = require "spec.smoke.live"
local parley = require "parley"
local task = require "parley.base.task"
local texts = require "spec.conformance.texts"

local M = {}

--- Longer takes nothing that works, on a machine that is busy with others.
local HANG_MS = 60000
--- A message that the program has not recorded by then is lost.
local FILE_WAIT_MS = 5000

---@class conformance.World  a program, its home and the other side
---@field options table                 of parley.session
---@field taken fun(): string[]         the messages that have arrived on the other side
---@field shown fun(id: string): string what the model got to see last, of the session with this id
---@field close fun(self: conformance.World)

---@class conformance.Trial
---@field make_world fun(given: table): conformance.World  `given`: `answers`, `variables`
---@field world conformance.World  where the checks converse that need none of their own
---@field live? parley.Session
local Trial = {}
Trial.__index = Trial

--- How a check ends that has not passed; raised.
---@class conformance.Verdict
local Verdict = { __name = "conformance.Verdict" }

local function fall_short(reason) error(setmetatable({ outcome = "-", reason = reason }, Verdict), 0) end
local function fail(reason) error(setmetatable({ outcome = "wrong", reason = reason }, Verdict), 0) end
local function must(condition, reason) return condition or fail(reason) end

--- A text in a few words.
local function short(text)
  local quoted = ("%q"):format(text:sub(1, 24)):gsub("\\\n", "\\n")
  return #text > 24 and quoted .. "…" or quoted
end

local function session_in(world, more)
  local options = { file_wait_timeout_ms = FILE_WAIT_MS }
  for _, each in ipairs { world.options, more or {} } do
    for name, value in pairs(each) do options[name] = value end
  end
  return parley.session(options)
end

--- The session of the checks that need none of their own, a new one where the last has ended.
function Trial:session()
  if self.live and not self.live.process:is_alive() then self:leave() end
  if not self.live then
    self.live = session_in(self.world)
    self.live:start()
  end
  return self.live
end

function Trial:leave()
  if self.live then self.live:close() end
  self.live = nil
end

function Trial:close()
  self:leave()
  self.world:close()
end

Trial.__close = Trial.close

local function behind(list, count) return table.move(list, count + 1, #list, 1, {}) end

--- What has come of it where `send` has raised: nothing may have arrived.
local function judge_refusal(err, arrived)
  if not errors.is(err) or err.code == "ETIMEDOUT" or err.code == "Cancelled" then error(err, 0) end
  if #arrived > 0 then fail(("changed, and said so: %s"):format(err.message)) end
  if err.code == "ValueError" then return "-", "refused: " .. err.message end
  if err.code == "SessionError" and err.reason == "delivery" then return "-", "not sent: " .. err.message end
  fail(tostring(err))
end

local function unwrapped(text)
  return text:match '^%s*<pasted_content id="%w+">\n(.*)\n</pasted_content id="%w+">%s*$'
end

--- Holds one text that has arrived against what was sent.
local function judge_text(message, got)
  if got == message.text or got == message.arrives then return "ok" end
  if got == message.text:gsub("\t", "    ") then return "-", "tabs arrive as four spaces" end
  local inner = unwrapped(got)
  if inner == message.text then return "-", "arrives wrapped in <pasted_content>" end
  local at = 1
  while got:byte(at) == message.text:byte(at) do at = at + 1 end
  fail(("changed from byte %d of %d on: %s"):format(at, #message.text, short(got:sub(at))))
end

local function judge_copies(place, message, copies)
  if #copies == 0 then fail("lost: nothing in " .. place) end
  if #copies > 1 then fail(("%d messages in %s"):format(#copies, place)) end
  return judge_text(message, copies[1])
end

--- Sends a message, which must be once and as it was in the transcript and on the other side.
---@param message {text: string, arrives?: string}
---@return "ok"|"-" outcome, string? reason
--- Raises a verdict.
function Trial:deliver(message)
  local session = self:session()
  local known = { message.text, message.arrives }
  local taken, recorded = #self.world.taken(), #live.recorded(session, known)
  local ok, said = pcall(helper.say, session, message.text)
  local arrived, records = behind(self.world.taken(), taken), behind(live.recorded(session, known), recorded)
  if not ok then return judge_refusal(said, arrived[1] and arrived or records) end
  local outcome, reason = judge_copies("the transcript", message, records)
  if said.verdict == "error_api" and #arrived == 0 then
    return "-", "the program: " .. (said.texts[1] or said.result.message)
  end
  must(said.verdict == "success", "the turn ended with " .. said.verdict)
  local other_outcome, other_reason = judge_copies("the API's request", message, arrived)
  must(said.texts[1] == "echo: " .. arrived[1], "the answer is another one: " .. short(said.texts[1] or ""))
  if outcome == "ok" then return other_outcome, other_reason end
  return outcome, reason
end

--- The same, with the text in the reason.
function Trial:deliver_one_of(message)
  local ok, outcome, reason = pcall(self.deliver, self, message)
  if ok then return outcome, reason end
  if getmetatable(outcome) ~= Verdict then error(outcome, 0) end
  fail(("%s: %s"):format(short(message.text), outcome.reason))
end

--- The same, where only a pass is one.
function Trial:must_deliver(text)
  local outcome, reason = self:deliver { text = text }
  must(outcome == "ok", ("%s: %s"):format(short(text), reason))
end

--- The error with a code that a function must raise.
local function failure_of(code, fn, ...)
  local ok, err = pcall(fn, ...)
  must(not ok, ("no %s was raised"):format(code))
  must(errors.is(err) and err.code == code, tostring(err))
  return err
end

local checks = {}

function checks.ready(trial) trial:session() end

function checks.turn(trial) trial:must_deliver "say hi" end

function checks.tool(trial)
  local result
  local said = helper.say(trial:session(), "USETOOL now", function(event)
    result = event:blocks "tool_result" [1] or result
  end)
  must(said.verdict == "success", "the turn ended with " .. said.verdict)
  must(result, "no result of the tool was seen")
  must(not result.is_error and parley.json.encode(result.content):find("tool-out", 1, true), "the tool did not run")
end

function checks.awkward(trial)
  local all, missed = texts.awkward(), {}
  for _, message in ipairs(all) do
    local outcome, reason = trial:deliver_one_of(message)
    if outcome == "-" and not message.arrives then table.insert(missed, short(message.text) .. " " .. reason) end
  end
  if missed[1] then fall_short(("%d of %d, first: %s"):format(#missed, #all, missed[1])) end
end

function checks.forbidden(trial)
  for _, text in ipairs(texts.FORBIDDEN) do
    local outcome, reason = trial:deliver_one_of { text = text }
    must(outcome == "ok" or reason:find "^refused", ("%s: %s"):format(short(text), reason))
  end
  trial:must_deliver "still there?"
end

--- What was cut off has no answer, and the next message is not glued to it.
function checks.interrupt(trial)
  local session = trial:session()
  local before = #trial.world.taken()
  local waiter = task.spawn(function()
    helper.eventually(function() return #trial.world.taken() > before end)
    session:interrupt()
  end)
  local said = helper.say(session, "SLOW please")
  waiter:await()
  must(said.verdict == "interrupted", "the turn ended with " .. said.verdict)
  trial:must_deliver "after the interrupt"
end

function checks.resume(trial)
  trial:must_deliver "remember me"
  local id = trial:session().session_id
  trial:leave()
  trial.live = session_in(trial.world, { resume_session_id = id })
  local ok, err = pcall(trial.live.start, trial.live)
  if not ok and err.reason == "crash" then fall_short("the program fails when it resumes, and Parley says so") end
  if not ok then error(err, 0) end
  trial:must_deliver "who?"
  local shown = trial.world.shown(id)
  must(shown:find("remember me", 1, true) and shown:find("echo: remember me", 1, true), "the model has forgotten")
  trial:leave()
end

local user, assistant, text = fake_backends.user, fake_backends.assistant, fake_backends.text
local HISTORY = {
  user "My name is Beaver.",
  assistant { text "Let me write that down.",
    { type = "tool_use", id = "toolu_seed", name = "Bash", input = { command = "echo Beaver >name" } } },
  user { { type = "tool_result", tool_use_id = "toolu_seed", content = "written down", is_error = false } },
  assistant "Got it.",
  user "What is my name?",
}

function checks.seed(trial)
  local backend <close> = parley.backend(trial.world.options)
  local result
  for event in backend:complete(HISTORY) do
    if event.subtype == "injection_fallback" then
      fall_short("the program does not take a seed: the history goes into the message")
    end
    if event.type == "result" then result = event end
  end
  must(result.subtype == "success", "the turn ended with " .. result.subtype)
  local shown = trial.world.shown(result.session_id)
  for _, words in ipairs { "Beaver.", "Let me write", "echo Beaver >name", "written down", "Got it.", "What is my" } do
    must(shown:find(words, 1, true), ("the model was not shown %q"):format(words))
  end
end

--- A dialog that nobody may answer is an error that names it; one that is accepted goes on.
function checks.dialogs(trial)
  local world <close> = trial.make_world { answers = { trust = false } }
  do
    local session <close> = session_in(world, { permission_mode = "default" })
    local err = failure_of("DialogError", session.start, session)
    must(err.dialog.kind == "trust", ("the dialog is called %s, not trust"):format(err.dialog.kind))
  end
  do
    local session <close> = session_in(world, { permission_mode = "default", accept = { "trust" } })
    session:start()
    local err = failure_of("DialogError", helper.say, session, "WRITETOOL please")
    must(err.dialog.kind == "permission", ("the dialog is called %s, not permission"):format(err.dialog.kind))
    must(not files.read(world.options.cwd .. "/written.txt"), "the tool ran unasked")
  end
  local session <close> = session_in(world, { permission_mode = "default", accept = { "trust", "permission" } })
  session:start()
  local said = helper.say(session, "WRITETOOL please")
  must(said.verdict == "success", "the turn ended with " .. said.verdict)
  must(files.read(world.options.cwd .. "/written.txt") == "written\n", "the tool did not run")
end

--- Holds the results of two calls, of which one was to run, against what was decided.
local function judge_results(results)
  local ran, denied = 0, 0
  for _, block in ipairs(results) do
    local said = (assert(parley.json.encode(block.content)))
    local is_ours = said:find("not this one", 1, true) ~= nil
    if block.is_error and is_ours then denied = denied + 1 end
    if not block.is_error and said:find '"A' then ran = ran + 1 end
  end
  must(ran == 1 and denied == 1, ("of two calls %d ran as allowed, %d were denied, %d have results"):format(ran, denied,
    #results))
end

--- A permission policy is asked about each of two calls, where the program would ask nobody, and its word holds.
function checks.permission(trial)
  local asked, results = {}, {}
  local session <close> = session_in(trial.world, { policies = { permission = { decide = function(call)
    table.insert(asked, call.input.command)
    if call.input.command == "echo A" then return { allow = true } end
    return { deny = "not this one" }
  end } } })
  session:start()
  local ok, said = pcall(helper.say, session, "TWOTOOLS now", function(event)
    for _, block in ipairs(event.type == "user" and event:blocks "tool_result" or {}) do
      table.insert(results, block)
    end
  end)
  if not ok and errors.is(said, "SessionError") and said.reason == "hooks" then fall_short(said.message) end
  if not ok then error(said, 0) end
  must(said.verdict == "success", "the turn ended with " .. said.verdict)
  must(#asked == 2, ("it was asked about %d of two calls"):format(#asked))
  judge_results(results)
end

--- The checks in the order of the columns. One of hooks goes behind the dialogs.
M.ORDER = { "ready", "turn", "tool", "awkward", "forbidden", "interrupt", "resume", "seed", "dialogs" }
for _, long in ipairs(texts.LONG) do
  local name, sent, arrives = table.unpack(long)
  table.insert(M.ORDER, name)
  checks[name] = function(trial)
    local outcome, reason = trial:deliver { text = sent, arrives = arrives }
    if outcome == "-" then fall_short(reason) end
  end
end
table.insert(M.ORDER, "permission") -- behind the others, whose letters stay

local function outcome_of(name, trial, hang_ms)
  local ok, err = pcall(task.timeout, hang_ms, checks[name], trial)
  if ok then return "ok" end
  if getmetatable(err) == Verdict then return err.outcome, err.reason end
  if errors.is(err) and err.code == "ETIMEDOUT" then return "wrong", ("hangs: %g s"):format(hang_ms / 1000) end
  if errors.is(err) and err.code == "Cancelled" then error(err, 0) end -- the run is cut off, and nothing is known
  return "wrong", tostring(err)
end

--- Runs the checks one after the other, in one session while it lives.
---@param make_world fun(given: table): conformance.World
---@param report fun(name: string, outcome: "ok"|"-"|"wrong", reason?: string)
---@param names? string[]  default all
---@param hang_ms? number  so long a check may take
function M.run(make_world, report, names, hang_ms)
  -- 2.1.110 would have the model sum up 1 MB first.
  local world = make_world { variables = { DISABLE_AUTO_COMPACT = "1" } }
  local trial <close> = setmetatable({ make_world = make_world, world = world }, Trial)
  for _, name in ipairs(names or M.ORDER) do
    local outcome, reason = outcome_of(name, trial, hang_ms or HANG_MS)
    if outcome == "wrong" then trial:leave() end -- what it does from now on is another check's
    report(name, outcome, reason)
    if name == "ready" and outcome ~= "ok" then return end
  end
end

return M
