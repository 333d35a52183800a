--- Many conversations over few processes, in a world of its own: each has its turns in an order that the seed decides,
--- and the host is killed and started again at moments that it decides. The model knows what was said in each.
local backend_of = require "parley.backend"
local chance_of = require "parley.testing.world.chance"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local history = require "parley.base.history"
local index = require "parley.sleep.index"
local task = require "parley.base.task"
local testing = require "parley.testing"
local uv = require "luv"

local M = {}

--- Longer than anything may take, in the world's time.
local PATIENCE_MS = 1000000000
--- About so many steps of the world, and so many of its milliseconds, a turn takes. Between two kills are so many steps
--- or so much time: much happens in little time, and little in much.
local STEPS_A_TURN, MS_A_TURN = 20, 5

---@class spec.AsleepPlan
---@field seed integer
---@field conversations integer
---@field turns integer         of each
---@field places integer        processes at a time
---@field clients integer       requests at a time
---@field kills integer         of the host
---@field path? string          of an index that other worlds have been in; default: one of its own
---@field profile? string

local function wrong(run, ...)
  table.insert(run.problems, (...):format(select(2, ...)))
end

--- The index as one host has it: what a dead one does has no effect.
local function hold_index(run)
  local store = assert(index.open { path = run.path })
  local host = { store = store }
  local results = { find = {}, put = true, forget = true }
  for _, name in ipairs { "find", "put", "forget", "lease", "get", "list" } do
    host[name] = function(_, ...)
      if host.is_dead then return results[name] end
      return store[name](store, ...)
    end
  end
  return host
end

local function start_host(run)
  run.host = hold_index(run)
  for entry in run.host.store:each(run.plan.conversations) do
    -- It is the same process, which lives: so its rows say.
    local lease <close> = entry.state == "live" and run.host.store:lease(entry.session_id) or nil
    if entry.state == "live" and not lease then wrong(run, "a dead host has session %s", entry.session_id) end
  end
  local set = { max_sessions = run.plan.places, state = run.host }
  for name, value in pairs(run.world.options) do set[name] = value end
  run.backend = backend_of.new(set)
end

--- The texts that were typed into a session, by its transcript.
local function said_in(run, id)
  local texts = {}
  for text in (files.read(run.world:transcript_path(id)) or ""):gmatch '"content":"(c%d+%.%d+)"' do
    table.insert(texts, text)
  end
  return table.concat(texts, " ")
end

local function expected(talk, count)
  local texts = {}
  for turn = 1, count do texts[turn] = ("c%d.%d"):format(talk.number, turn) end
  return table.concat(texts, " ")
end

--- What a turn that ended well must have left.
local function check(run, talk, answer)
  local id, count = answer.result.session_id, talk.count + 1
  local said, all = said_in(run, id), expected(talk, count)
  if answer.text ~= ("echo: c%d.%d"):format(talk.number, count) then
    wrong(run, "conversation %d was answered %q", talk.number, answer.text)
  end
  if said ~= all then wrong(run, "session %s was told %q instead of %q", id, said, all) end
  if talk.id and talk.id ~= id then
    run.moved = run.moved + 1
    if not talk.is_struck then
      wrong(run, "conversation %d has moved from %s to %s: %s", talk.number, talk.id, id, answer.missed or "no event")
    end
  end
end

local function ask(run, talk)
  local messages = table.move(talk.messages, 1, #talk.messages, 1, {})
  table.insert(messages, { role = "user", content = ("c%d.%d"):format(talk.number, talk.count + 1) })
  local answer, events = { text = "" }, {}
  for event in run.backend:complete(messages) do
    table.insert(events, event)
    if event.type == "assistant" then answer.text = event:text() end
    if event.subtype == "sleep_missed" then
      answer.missed = event.message
      run.missed[event.cause] = (run.missed[event.cause] or 0) + 1
    end
    if event.type == "result" then answer.result = event end
  end
  for _, message in ipairs(history.synthesize_turn_messages(events)) do table.insert(messages, message) end
  return answer, messages
end

--- Takes the next turn of a conversation. One that its host's death has cut off is asked again by the next.
local function take_turn(run, talk)
  while true do
    local host = run.host
    local ok, answer, messages = pcall(ask, run, talk)
    if ok and not host.is_dead then
      check(run, talk, answer)
      talk.id, talk.messages, talk.count, talk.is_struck = answer.result.session_id, messages, talk.count + 1, nil
      run.turns = run.turns + 1
      return
    end
    if not host.is_dead then error(answer, 0) end
    talk.is_struck = true
    run.changed:wait_until(function() return run.host ~= host end)
  end
end

--- Kills the host: nothing that it had in hand comes to an end, and nothing is told to anybody.
local function kill_host(run)
  local host, backend = run.host, run.backend
  host.is_dead = true
  host.store:abandon()
  for _, program in ipairs(run.world.programs) do
    if not program.is_dead then program:kill "SIGKILL" end
  end
  backend:close() -- for what this process has of it
  run.kills = run.kills + 1
  start_host(run)
  run.changed:notify()
end

local function killer(run)
  local turns = run.left // (run.plan.kills + 1) + 1
  while run.kills < run.plan.kills and run.left > 0 do
    local is_at_step = run.chance:once_in(2)
    run.next_kill = is_at_step and run.world.time.steps + run.chance:between(1, turns * STEPS_A_TURN) or math.maxinteger
    run.kill_due:wait_until(function() return not run.next_kill or run.left == 0 end,
      not is_at_step and run.chance:between(1, turns * MS_A_TURN) or nil)
    if run.left > 0 then kill_host(run) end
  end
end

--- A client: takes up one conversation after the other, each for one turn.
local function client(run)
  while run.queue[1] do
    local place = run.chance:between(1, #run.queue)
    local talk = run.queue[place]
    run.queue[place] = run.queue[#run.queue]
    run.queue[#run.queue] = nil
    take_turn(run, talk)
    run.left = run.left - 1
    if talk.count < run.plan.turns then table.insert(run.queue, talk) end
  end
end

local function play_all(run)
  start_host(run)
  local tasks = {}
  for number = 1, run.plan.clients do tasks[number] = task.spawn(client, run) end
  local death = task.spawn(killer, run)
  for _, each in ipairs(tasks) do each:await() end
  run.kill_due:notify()
  death:await()
  run.backend:close()
  run.host.store:close()
end

--- What is not needed again; a world keeps all that has happened in it.
local function forget(world)
  world.story, world.log = {}, {}
  for _, program in ipairs(world.programs) do
    if program.is_dead then program.terminal, program.outside = nil, nil end
  end
end

---@class spec.AsleepOutcome
---@field problem? string
---@field turns integer
---@field kills integer
---@field moved integer  conversations that have another session than before, as a death came upon their turn
---@field started integer  processes
---@field seconds number   of this machine's

--- Plays a plan.
---@param plan spec.AsleepPlan
---@return spec.AsleepOutcome
function M.play(plan)
  local began = uv.hrtime()
  local world = testing.world { seed = plan.seed, profile = plan.profile,
    script = { startup_delay_ms = 5, flush_ms = 1, answers = { { delay_ms = 30 } } } }
  local run = { plan = plan, world = world, chance = chance_of.new(plan.seed), problems = {}, queue = {}, turns = 0,
    kills = 0, moved = 0, missed = {}, left = plan.conversations * plan.turns, changed = task.condition(),
    kill_due = task.condition(), path = plan.path or world.folder .. "/state/sessions.db" }
  for number = 1, plan.conversations do
    run.queue[number] = { number = number, count = 0, messages = {} }
  end
  function world.time.on_step(steps)
    if run.next_kill and steps >= run.next_kill then
      run.next_kill = nil
      run.kill_due:notify()
    end
    if #world.story > 20000 then forget(world) end
  end
  local ok, err = pcall(task.run, task.timeout, PATIENCE_MS, play_all, run)
  if not ok then
    table.insert(run.problems, 1, errors.text(err) .. (errors.is(err) and "" or "\n" .. (task.traceback(err) or "")))
  end
  local started = #world.programs
  local closed, left = pcall(world.close, world)
  if ok and not closed then table.insert(run.problems, errors.text(left)) end
  if ok and run.left > 0 then wrong(run, "%d turns were not taken", run.left) end
  return { problem = run.problems[1], problems = run.problems, turns = run.turns, kills = run.kills, moved = run.moved,
    missed = run.missed, started = started, seconds = (uv.hrtime() - began) / 1e9, story = ok and "" or world:told() }
end

return M
