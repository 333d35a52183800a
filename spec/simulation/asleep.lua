--- Many conversations over few processes, in a world of its own: each has its turns in an order that the seed decides,
--- and the host is killed and started again at moments that it decides. The model knows what was said in each.
local backend_of = require "parley.backend"
local chance_of = require "parley.testing.world.chance"
local core = require "parley.core"
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
local STEPS_A_TURN, MS_A_TURN = 30, 2
--- A terminal on which there is little to draw: what is drawn is not what is tried here.
local SMALL = { rows = 20, columns = 60 }
--- So often is told how far it is, and more than so many problems are not looked for.
local TURNS_A_LOOK, MOST_PROBLEMS = 50, 20

---@class spec.AsleepPlan
---@field seed integer
---@field conversations integer
---@field turns integer         of each
---@field places integer        processes at a time
---@field clients integer       requests at a time
---@field kills integer         of the host
---@field path? string          of an index that other worlds have been in; default: one of its own
---@field first? integer         the number of its first conversation; default: 1
---@field profile? string
---@field look? fun(run: table): boolean  is called from time to time; false: no more turns are to begin

local function wrong(run, ...)
  if #run.problems < MOST_PROBLEMS then table.insert(run.problems, (...):format(select(2, ...))) end
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

--- The sessions of which the index says that somebody has them.
local function leased(run)
  if not files.size(run.path) then return {} end
  local database <close> = assert(core.sqlite.open(run.path, 1000))
  return assert(database:query "SELECT session_id FROM leases ORDER BY session_id")
end

local function start_host(run)
  run.host = hold_index(run)
  for _, row in ipairs(leased(run)) do
    local lease <close> = run.host.store:lease(row.session_id)
    if not lease then wrong(run, "a dead host has session %s", row.session_id) end
  end
  local set = { max_sessions = run.plan.places, state = run.host, dimensions = SMALL }
  for name, value in pairs(run.world.options) do set[name] = value end
  run.backend = backend_of.new(set)
end

--- The texts that were typed into a session, by its transcript.
local function said_in(path)
  local texts = {}
  for text in (files.read(path) or ""):gmatch '"content":"(c%d+%.%d+)"' do table.insert(texts, text) end
  return table.concat(texts, " ")
end

local function text_of(talk, turn) return ("c%d.%d"):format(talk.number, turn) end

local function expected(talk, count)
  local texts = {}
  for turn = 1, count do texts[turn] = text_of(talk, turn) end
  return table.concat(texts, " ")
end

--- What a client sends that keeps the texts: all turns, and the next message.
local function messages_of(talk)
  local messages = {}
  for turn = 1, talk.count do
    table.insert(messages, { role = "user", content = text_of(talk, turn) })
    table.insert(messages, { role = "assistant", content = "echo: " .. text_of(talk, turn) })
  end
  table.insert(messages, { role = "user", content = text_of(talk, talk.count + 1) })
  return messages
end

--- What a turn that ended well must have left.
local function check(run, talk, answer)
  local id, count = answer.result.session_id, talk.count + 1
  local said, all = said_in(run.world:transcript_path(id)), expected(talk, count)
  local text = #answer.messages == 1 and history.text_of(answer.messages[1]) or #answer.messages .. " messages"
  if text ~= "echo: " .. text_of(talk, count) then
    wrong(run, "conversation %d was answered %q", talk.number, text)
  end
  if said ~= all then wrong(run, "session %s was told %q instead of %q", id, said, all) end
  if talk.id and talk.id ~= id then
    run.moved, talk.has_moved = run.moved + 1, true
    if not talk.is_struck then
      wrong(run, "conversation %d has moved from %s to %s: %s", talk.number, talk.id, id, answer.missed or "no event")
    end
  end
end

local function ask(run, talk)
  local answer, events = {}, {}
  for event in run.backend:complete(messages_of(talk)) do
    table.insert(events, event)
    if event.subtype == "sleep_missed" then
      answer.missed = event.message
      run.missed[event.cause] = (run.missed[event.cause] or 0) + 1
    end
    if event.type == "result" then answer.result = event end
  end
  answer.messages = history.synthesize_turn_messages(events)
  return answer
end

--- Takes the next turn of a conversation. One that its host's death has cut off is asked again by the next.
local function take_turn(run, talk)
  while true do
    local host = run.host
    local ok, answer = pcall(ask, run, talk)
    if ok and not host.is_dead then
      check(run, talk, answer)
      talk.id, talk.count, talk.is_struck = answer.result.session_id, talk.count + 1, nil
      run.turns = run.turns + 1
      return
    end
    if not host.is_dead then error(answer, 0) end
    talk.is_struck, run.struck = true, run.struck + 1
    run.changed:wait_until(function() return run.host ~= host end)
  end
end

--- Kills the host: nothing that it had in hand comes to an end, and nothing is told to anybody.
local function kill_host(run)
  local host, backend = run.host, run.backend
  host.is_dead = true
  host.store:abandon()
  -- What those have left that were killed with the host before: the program removes it when it starts.
  for _, path in ipairs(run.left_behind) do files.remove(path) end
  run.left_behind = {}
  for _, program in ipairs(run.world.programs) do
    if not program.is_dead then
      program:kill "SIGKILL"
      table.insert(run.left_behind, ("%s/.claude/sessions/%d.json"):format(run.world.home, program.pid))
    end
  end
  backend:close() -- for what this process has of it
  run.kills = run.kills + 1
  start_host(run)
  run.changed:notify()
end

local function killer(run)
  local function is_over() return run.left == 0 or run.is_over end
  while run.kills < run.plan.kills and not is_over() do
    local turns = 2 * run.left // (run.plan.kills - run.kills + 1) + 1
    local is_at_step = run.chance:once_in(2)
    run.next_kill = is_at_step and run.world.time.steps + run.chance:between(1, turns * STEPS_A_TURN) or math.maxinteger
    run.kill_due:wait_until(function() return not run.next_kill or is_over() end,
      not is_at_step and run.chance:between(1, turns * MS_A_TURN) or nil)
    if not is_over() then kill_host(run) end
  end
end

--- A client: takes up one conversation after the other, each for one turn.
local function client(run)
  while run.queue[1] and not run.is_over do
    local place = run.chance:between(1, #run.queue)
    local talk = run.queue[place]
    run.queue[place] = run.queue[#run.queue]
    run.queue[#run.queue] = nil
    take_turn(run, talk)
    run.left = run.left - 1
    if talk.count < run.plan.turns then table.insert(run.queue, talk) end
    local is_look = run.plan.look and run.turns % TURNS_A_LOOK == 0
    run.is_over = run.is_over or #run.problems == MOST_PROBLEMS or is_look and not run.plan.look(run)
  end
end

--- What must stand in the transcripts at the end: each conversation once, whole and in order, and what deaths have cut
--- off.
local function check_transcripts(run)
  local folder, whole, cut = run.world:transcript_path "":match "^(.*)/", 0, 0
  for _, name in ipairs(files.names(folder)) do
    local said = said_in(folder .. "/" .. name)
    local number = tonumber(said:match "^c(%d+)%.")
    local talk = number and run.talks[number - run.first + 1]
    local _, count = said:gsub("%S+", "")
    if talk and said ~= expected(talk, count) then
      wrong(run, "%s holds %q", name, said)
    elseif talk and name == talk.id .. ".jsonl" and count == talk.count then
      whole = whole + 1
    else
      cut = cut + 1
    end
  end
  local begun = 0
  for _, talk in ipairs(run.talks) do begun = begun + (talk.id and 1 or 0) end
  if whole ~= begun then wrong(run, "of %d conversations %d are whole", begun, whole) end
  if cut > run.struck then wrong(run, "%d transcripts are cut off, by %d struck turns", cut, run.struck) end
  run.whole, run.cut = whole, cut
end

--- What must stand in the index at the end.
local function check_index(run)
  local store <close> = assert(index.open { path = run.path })
  local by_id, found = {}, 0
  for _, talk in ipairs(run.talks) do
    if talk.id then by_id[talk.id] = talk end
  end
  for entry in store:each() do
    local talk = by_id[entry.session_id]
    if talk then
      found = found + 1
      if entry.state ~= "asleep" or not talk.has_moved and entry.turns ~= talk.count then
        wrong(run, "session %s of conversation %d is %s after %d turns of %d", entry.session_id, talk.number,
          entry.state, entry.turns, talk.count)
      end
      by_id[entry.session_id] = nil
    end
  end
  local id, lost = next(by_id)
  if id then wrong(run, "conversation %d is not in the index, nor are others", lost.number) end
  for _, row in ipairs(leased(run)) do wrong(run, "session %s is still leased", row.session_id) end
  run.found = found
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
  check_transcripts(run)
  check_index(run)
end

local GONE = { is_dead = true, kill = function() end }

--- What is not needed again; a world keeps all that has happened in it.
local function forget(world)
  world.story, world.log = {}, {}
  for place, program in ipairs(world.programs) do
    if program.is_dead then world.programs[place] = GONE end
  end
end

---@class spec.AsleepOutcome
---@field problem? string
---@field turns integer
---@field kills integer
---@field struck integer turns that a death has cut off, each time that one did
---@field moved integer  conversations that have another session than before, as a death came upon their turn
---@field started integer  processes
---@field resumed integer  of them those that went on with a transcript
---@field whole integer  transcripts that hold a conversation from its first turn to its last
---@field cut integer    transcripts of which a death has cut off the last turn
---@field is_cut_short boolean  it was told to end before all turns were taken
---@field found integer  conversations that the index knows at the end
---@field seconds number   of this machine's

--- Plays a plan.
---@param plan spec.AsleepPlan
---@return spec.AsleepOutcome
function M.play(plan)
  local began = uv.hrtime()
  local world = testing.world { seed = plan.seed, profile = plan.profile,
    script = { startup_delay_ms = 5, flush_ms = 1, answers = { { delay_ms = 30 } } } }
  local run = { plan = plan, world = world, chance = chance_of.new(plan.seed), problems = {}, queue = {}, talks = {},
    turns = 0, kills = 0, struck = 0, moved = 0, resumed = 0, missed = {}, left_behind = {},
    first = plan.first or 1,
    left = plan.conversations * plan.turns, changed = task.condition(),
    kill_due = task.condition(), path = plan.path or world.folder .. "/state/sessions.db" }
  for place = 1, plan.conversations do
    run.talks[place] = { number = run.first + place - 1, count = 0 }
    run.queue[place] = run.talks[place]
  end
  function world.on_event(record)
    if record.event ~= "started" then return end
    for _, word in ipairs(record.argv) do
      if word == "--resume" then run.resumed = run.resumed + 1 end
    end
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
  if ok and run.left > 0 and not run.is_over then wrong(run, "%d turns were not taken", run.left) end
  return { problem = run.problems[1], problems = run.problems, turns = run.turns, kills = run.kills,
    struck = run.struck, moved = run.moved, missed = run.missed, started = started, resumed = run.resumed,
    whole = run.whole, cut = run.cut, found = run.found, is_cut_short = run.left > 0,
    seconds = (uv.hrtime() - began) / 1e9, story = ok and "" or world:told() }
end

return M
