--- Plays a plan in a world of its own.
local backend_of = require "parley.backend"
local dialogs = require "parley.policy.dialogs"
local errors = require "parley.base.errors"
local history = require "parley.base.history"
local marks = require "parley.testing.marks"
local models = require "spec.simulation.model"
local plans = require "spec.simulation.plan"
local process = require "parley.claude.process"
local session_of = require "parley.session"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local testing = require "parley.testing"

local M = {}

--- Longer than anything may take, in the world's time.
local PATIENCE_MS = 3600000
--- A program that was idle too long has ended so much later.
local ENDING_MS = 60000
--- More events than any plan has.
local MOST_STEPS = 200000

local function decide(dialog, accept)
  return dialog.choices[1] and dialog.kind ~= "panel" and { choose = 1 } or dialogs.decide(dialog, accept)
end

--- What the stand-ins answer, as a script has it.
local ANSWERS = {}
for mark, answer in pairs(plans.ANSWERS) do
  table.insert(ANSWERS, tables.merged({ on = "mark:" .. mark .. "." }, answer))
end
table.sort(ANSWERS, function(a, b) return a.on < b.on end)

local function options_of(world, plan)
  local set = {}
  for name, value in pairs(world.options) do set[name] = value end
  set.partial, set.dimensions = plan.partial or nil, plan.dimensions
  set.accept = plan.accepts and { "trust", "bypass" } or nil
  set.policies = plan.consents and not plan.untrusted and { dialogs = { decide = decide } } or nil
  return set
end

-- Strikes -------------------------------------------------------------------------------------------------------------

local function living(world, which)
  local programs = {}
  for _, program in ipairs(world.programs) do
    if not program.is_dead then table.insert(programs, program) end
  end
  return programs[1] and programs[(which - 1) % #programs + 1]
end

local strikes = {}

function strikes.kill(run, strike)
  local program = living(run.world, strike.which)
  if not program then return end
  run.model:strike("kill", program)
  program:kill "SIGKILL"
end

function strikes.stop(run, strike)
  local program = living(run.world, strike.which)
  if not program then return end
  run.model:strike("stop", program)
  program:stop()
end

function strikes.pause(run, strike)
  local program = living(run.world, strike.which)
  if not program then return end
  local lasts_ms = strike.lasts_ms or 700
  run.model:strike("pause", program, lasts_ms)
  program:stop()
  run.world:after(lasts_ms, function() program:continue() end)
end

function strikes.resize(run, strike)
  local processes = {}
  for _, live in pairs(run.sessions) do table.insert(processes, live.process) end
  for _, live in pairs(run.backend and run.backend:live_sessions() or {}) do table.insert(processes, live) end
  table.sort(processes, function(one, other) return (one:pid() or 0) < (other:pid() or 0) end)
  for _, each in ipairs(processes) do each:resize(strike.rows or 30, strike.columns or 100) end
end

function strikes.dialog(run, strike)
  local program = living(run.world, strike.which)
  if program then program:surprise() end
end

function strikes.type(run, strike)
  local program = living(run.world, strike.which)
  if not program then return end
  run.model:strike("type", program)
  program.terminal.typed = program.terminal.typed .. models.USERS_OWN
  program.terminal:hurry()
end

function strikes.cancel(run, _, ask)
  ask.was.cancelled = true
  ask.task:cancel()
  run.world:tell(nil, "cancels", ask.key)
end

function strikes.leave(_, _, ask) ask.was.left = true end

--- An interrupt with this `which`, one in eight, finds a program that has gone at that moment.
local GOES_TOO = 8

function strikes.interrupt(run, strike, ask)
  ask.was.interrupted = true
  if not ask.interrupt then return end
  local program = strike.which == GOES_TOO and run.model:program_of(ask)
  if program then
    run.model:strike("kill", program)
    program:kill "SIGKILL"
  end
  local now = run.world.time.now
  local is_begun = run.plan.first_message ~= "argument" or ask.users > 0 -- what went with the start is none until then
  local is_under_way = ask.turn.mark == "long" and ask.taken == 1 and is_begun and not ask.ended
    and now < ask.taken_at + plans.LONG_MS // 2 and run.model:is_undisturbed(ask)
  local ok, has_turn = pcall(ask.interrupt)
  if not ok then return run.model:wrong("an interrupt raised %s", tostring(has_turn)) end
  if has_turn then ask.interrupted_at = ask.interrupted_at or now end
  if is_under_way and not has_turn then run.model:wrong("the interrupt of %s has found no turn", ask.key) end
end

function strikes.close(run)
  run.model.closed_at = run.world.time.now
  if run.backend then run.backend:close() end
end

--- A task that waits for its step or its moment and strikes.
local function striker(run, ask, strike)
  if not strike then return end
  local wait = { at = run.world.time.steps + (strike.step or math.huge), due = task.condition(),
    after = strike.after, late_ms = strike.late_ms }
  table.insert(run.waiting, wait)
  return task.spawn(function()
    wait.due:wait_until(function() return wait.is_over or ask.ended end)
    if ask.ended then return end
    run.world:tell(nil, "strikes", strike.kind)
    local ok, err = pcall(strikes[strike.kind], run, strike, ask)
    if not ok and not errors.is(err) then run.model:wrong("%s raised %s", strike.kind, tostring(err)) end
  end)
end

-- Turns ---------------------------------------------------------------------------------------------------------------

local function hear(ask, event)
  if event.session_id then ask.sessions[event.session_id], ask.talk.sessions[event.session_id] = true, true end
  if event.type == "user" and event:text():find(ask.key, 1, true) then ask.users = ask.users + 1 end
  local text = event.type == "assistant" and event:text() or ""
  local is_own = text:find("task-notification", 1, true) ~= nil -- of the program's own turn
  if is_own and ask.answers[1] then ask.has_next = true end
  if text ~= "" and not is_own then table.insert(ask.answers, text) end
  if event.type == "result" then ask.result = event end
end

--- Asks and hears to the end. Raises what is raised.
local function through(run, talk, ask, events)
  local step, state, control, handle
  if run.backend then
    local messages = table.move(talk.messages, 1, #talk.messages, 1, {})
    table.insert(messages, { role = "user", content = ask.text })
    step, state, control, handle = run.backend:complete(messages)
    ask.interrupt = function() return handle:interrupt() end
    ask.session_now = function() return handle.session_id end
  else
    ask.session_now = function() return talk.session.session_id end
    ask.sessions[talk.session.session_id] = true
    if not talk.is_started then talk.session:start(ask.text) end -- and the message goes with it
    talk.is_started = true
    step, state, control, handle = talk.session:send(ask.text)
    ask.interrupt = function() return talk.session:interrupt() end
  end
  for event in step, state, control, handle do
    table.insert(events, event)
    hear(ask, event)
    if ask.was.left then break end
  end
end

--- The program of a conversation dies while nobody is at it.
local function die_between(run, talk)
  for _, program in ipairs(run.model:idle_programs(talk)) do program:kill "SIGKILL" end
end

--- The world's time goes by.
local function pass(milliseconds) task.condition():wait(milliseconds) end

--- Whether an answer that came line by line, with nothing wrong, was told of only when it was whole.
local function lacks_partials(run, ask, events)
  if ask.turn.mark ~= "lines" or ask.verdict ~= "success" or not run.model:is_undisturbed(ask) then return false end
  if run.plan.profile == "2.1.110" or (run.plan.odds.broken or 0) > 0 then return false end
  for _, event in ipairs(events) do
    if event.type == "partial" then return false end
  end
  return true
end

local function play_turn(run, talk, turn)
  if turn.pause_ms then pass(turn.pause_ms) end
  if turn.finds_dead and run.backend then die_between(run, talk) end
  local ask, events = run.model:ask(turn, talk), {}
  local hands = { striker(run, ask, turn.strike), striker(run, ask, turn.second_strike) }
  run.turns = run.turns + 1
  local first_step = run.world.time.steps
  ask.task = task.spawn(through, run, talk, ask, events)
  local ok, err = pcall(ask.task.await, ask.task)
  if not ok and not errors.is(err) then error(err, 0) end
  if ask.was.left and ok and not ask.result then
    ok, err = false, errors.cancelled "left"
    local goes_on = talk.session and not talk.session.closed
    if goes_on then run.model:wrong("%s was left, and its session goes on", ask.key) end
  end
  run.model:answer(ask, ok, err)
  table.insert(run.steps, run.world.time.steps - first_step)
  local problem = marks.wrong_partials(events, ask.verdict == "success")
  if problem then run.model:wrong("%s: %s", ask.key, problem) end
  if run.plan.partial and lacks_partials(run, ask, events) then
    run.model:wrong("%s had no partial text", ask.key)
  end
  for _, hand in ipairs(hands) do
    for _, one in ipairs(run.waiting) do one.due:notify() end
    pcall(hand.await, hand)
  end
  run.counts[ask.verdict] = (run.counts[ask.verdict] or 0) + 1
  if ask.verdict ~= "success" then return ok and not ask.was.left end
  table.insert(talk.keys, ask.key)
  table.insert(talk.messages, { role = "user", content = ask.text })
  local added = history.synthesize_turn_messages(events)
  -- What the user has typed, and nobody has answered, would go with the next message.
  while added[1] and added[#added].role == "user" do table.remove(added) end
  for _, message in ipairs(added) do table.insert(talk.messages, message) end
  return true
end

local function play_conversation(run, conversation)
  local talk = { messages = {}, keys = {}, sessions = {} }
  pass(conversation.begins_ms)
  for _, turn in ipairs(conversation) do
    if run.model.closed_at then return end
    play_turn(run, talk, turn)
  end
end

--- A session without a pool: a new one when it has ended.
local function play_directly(run, conversation)
  pass(conversation.begins_ms)
  local talk = nil
  for _, turn in ipairs(conversation) do
    if not talk then
      local set = options_of(run.world, run.plan)
      local accept, own = set.accept, set.policies
      set.accept, set.policies, set.partial = nil, nil, nil
      talk = { messages = {}, keys = {}, sessions = {},
        session = session_of.new(process.new(set), { accept = accept, policies = own,
          partial = run.plan.partial or nil, turn_timeout_ms = run.plan.backend.turn_timeout_ms,
          startup_timeout_ms = run.plan.backend.startup_timeout_ms,
          first_message = run.plan.first_message }),
        is_started = run.plan.first_message ~= "argument" }
      run.sessions[talk] = talk.session
      local start, ok, err = run.model:start(talk.session), true, nil
      if talk.is_started then ok, err = pcall(talk.session.start, talk.session) end
      start.ended = run.world.time.now
      if not ok then
        if not errors.is(err) then error(err, 0) end
        run.model:fails_to_start(start, err)
        talk.session:close()
        run.sessions[talk], talk = nil, nil
      end
    end
    if talk and not play_turn(run, talk, turn) or talk and talk.session.closed then
      talk.session:close()
      run.sessions[talk], talk = nil, nil
    end
  end
  if talk then talk.session:close() end
end

local function play_all(run)
  local plan = run.plan
  if not plan.direct then
    local set = options_of(run.world, plan)
    for name, value in pairs(plan.backend) do set[name] = value end
    set.first_message = plan.first_message
    run.backend = backend_of.new(set)
  end
  local _ <close> = run.backend
  local tasks = {}
  for place, conversation in ipairs(plan.conversations) do
    tasks[place] = task.spawn(plan.direct and play_directly or play_conversation, run, conversation)
  end
  for _, each in ipairs(tasks) do each:await() end
  local idle_timeout_ms = not plan.direct and plan.backend.idle_timeout_ms
  if not idle_timeout_ms or run.model.closed_at then return end
  pass(idle_timeout_ms + ENDING_MS)
  for _, program in ipairs(run.world.programs) do
    local is_kept = program.is_dead or run.model.dialogs[program] -- who asks is waited for
    if not is_kept then run.model:wrong "an idle program goes on behind its time" end
  end
end

---@class spec.Outcome
---@field problem? string
---@field story string     what happened
---@field turns integer
---@field counts table<string, integer>  turns by verdict
---@field milliseconds number  of the world's
---@field steps integer[]     what happened in the world in each turn
---@field chances table<string, integer>  how often each fault could have struck

--- Plays a plan.
---@param plan table
---@return spec.Outcome
function M.play(plan)
  local world = testing.world { seed = plan.seed, profile = plan.profile,
    faults = tables.merged(plan.odds, plan.times),
    trusted = not plan.untrusted, bypass_accepted = not plan.untrusted,
    script = function(_, number)
      return { startup_delay_ms = plan.startup_ms or 5, flush_ms = number % 3 * 2, answers = ANSWERS,
        faults = plan.starts[(number - 1) % math.max(1, #plan.starts) + 1],
        start_dialogs = plan.asks_again and { plans.TERMS } or nil }
    end }
  local run = { plan = plan, world = world, waiting = {}, turns = 0, counts = {}, sessions = {}, steps = {} }
  function run.on_step(steps)
    if steps > MOST_STEPS then error("the world has come to " .. steps .. " events", 0) end
    for place = #run.waiting, 1, -1 do
      local wait = run.waiting[place]
      if wait.at <= steps then
        wait.is_over = true
        table.remove(run.waiting, place).due:notify()
      end
    end
  end
  world.time.on_step = run.on_step
  run.model = models.new(world, plan)
  function run.model.on_moment(name)
    for _, wait in ipairs(run.waiting) do
      if wait.after == name then
        wait.after = nil
        world:after(wait.late_ms, function()
          wait.is_over = true
          wait.due:notify()
        end)
      end
    end
  end
  local ok, err = pcall(task.run, function()
    task.timeout(PATIENCE_MS, play_all, run)
    pass(10000) -- what was left to end by itself
  end)
  local problems = run.model.problems
  if not ok then
    table.insert(problems, 1, (errors.is(err, "ETIMEDOUT") and "something hung: " or "") .. errors.text(err)
      .. (errors.is(err) and "" or "\n" .. (task.traceback(err) or "")))
  end
  local outcome = { turns = run.turns, counts = run.counts, milliseconds = world.time.now, world = world,
    steps = run.steps, chances = world.chances }
  local closed, left = pcall(world.close, world)
  if ok and not closed then table.insert(problems, errors.text(left)) end
  outcome.problem, outcome.problems = problems[1], problems
  return outcome
end

return M
