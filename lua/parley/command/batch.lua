--- Many conversations from a source, so many at a time, one result each.
---
--- One task reads, and starts a task for each conversation as soon as one of `jobs` places is free: so no more of the
--- input is in memory than is being worked on. Each conversation has a backend of its own with its own options, and
--- so a session that nobody shares and that ends with it. What is remembered of one that is over is a hash of its id.
local clock = require "parley.base.clock"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local memory = require "parley.command.batch.memory"
local player = require "parley.command.batch.player"
local systemic = require "parley.command.batch.systemic"
local task = require "parley.base.task"
local usage = require "parley.base.usage"

local M = {}

local MAX_RETRY_WAIT_MS = 60000

---@class parley.batch.Counts
---@field total? integer    conversations that there will be, where that is known; of a shard, about
---@field succeeded integer in this run
---@field failed integer    in this run
---@field resumed integer   that stood in the output already
---@field resumed_failed integer  of these, the ones that had failed
---@field running integer
---@field usage table<string, integer>  tokens, summed over the turns of this run
---@field cost_usd? number  the same, of what the program has said

---@class parley.batch.Run
---@field counts parley.batch.Counts
local Run = {}
Run.__index = Run

--- Which of so many shards an id belongs to. By the id and not by the line: so it stays when lines come and go, and an
--- id that is given twice meets itself.
---@param id string|integer
---@param count integer
---@return integer index  1 to `count`
function M.shard_of(id, count)
  return string.unpack("<I7", core.digest.blake2b(tostring(id), 16)) % count + 1
end

--- Writes a result and counts it.
local function finish(run, result)
  result.verdict = result.error and "failed" or "success"
  run.write(result)
  local counts = run.counts
  local kind = result.verdict == "success" and "succeeded" or "failed"
  counts[kind] = counts[kind] + 1
  if run.on_result then run.on_result(result) end
  if run.fail_fast and result.error then error(run.stop, 0) end
end

local function reject(run, item)
  finish(run, { id = core.json.null, line = item.line, attempts = 0, messages = core.json.array {},
    error = { code = item.error.code, message = item.error.message } })
end

--- What goes to the output of an error.
local function describe(err, turn)
  if not errors.is(err) then return { code = "ScriptError", message = errors.text(err), turn = turn } end
  return { code = err.code, message = err.message, reason = err.reason, screen = err.screen, turn = turn }
end

--- Errors that are not this conversation's: the run ends with them, and what it was doing stays undone.
local function is_fatal(err, conversation)
  return task.current():cancellation() ~= nil or systemic.is(err, conversation)
end

--- Whether the money for the run is gone.
local function is_spent(run) return run.max_cost_usd ~= nil and (run.counts.cost_usd or 0) >= run.max_cost_usd end

local function count_turn(run, result)
  local counts = run.counts
  usage.add(counts.usage, result.usage)
  counts.cost_usd = usage.add_cost(counts.cost_usd, result.cost_usd)
end

--- Plays a conversation once; true when it is over. It is written before its session is closed, for that takes time, in
--- which we may be killed.
local function attempt(run, conversation, record)
  local opened, backend = pcall(run.new_backend, conversation.options)
  local _ <close> = opened and backend or nil
  local ok, err = opened, backend
  if opened then ok, err = pcall(player.play, backend, conversation, record) end
  if not ok and is_fatal(err, conversation) then error(err, 0) end
  record.error = not ok and describe(err, record.turn) or nil
  local may_be_retried = record.attempts <= run.retries and not is_spent(run)
  if not ok and may_be_retried and record.error.code ~= "ValueError" then return false end
  record.duration_ms = math.floor(task.now() - record.began + 0.5)
  finish(run, record)
  return true
end

local function converse(run, conversation)
  run.counts.running = run.counts.running + 1
  local _ <close> = defer(function() run.counts.running = run.counts.running - 1 end)
  local record = { id = conversation.id, line = conversation.line, metadata = conversation.metadata, attempts = 0,
    started_at = clock.timestamp(), began = task.now(), usage = {}, turn_ms = core.json.array {},
    messages = core.json.array {}, on_turn = function(result) count_turn(run, result) end, on_lack = run.on_lack }
  while true do
    record.attempts = record.attempts + 1
    if attempt(run, conversation, record) then return end
    task.sleep(math.min(run.retry_wait_ms * 2 ^ (record.attempts - 1), MAX_RETRY_WAIT_MS))
  end
end

--- Decides about an item of the source: true when it is to be played.
local function admit(run, item)
  local id = item.id or ("line-%d"):format(item.line)
  if run.shard and M.shard_of(id, run.shard.count) ~= run.shard.index then
    if item.error then run.memory:meet_rejected(item.line, item.error.message) end -- it stands, whoever has written it
    return false
  end
  local counts, known = run.counts, not item.error and run.memory:meet(id)
  if known == nil then return true end
  if known == "met" then
    item.error = errors.new("DuplicateId", ("the id %q was given on an earlier line"):format(tostring(id)))
  end
  if not item.error then
    counts.resumed_failed = counts.resumed_failed + (known == "failed" and 1 or 0)
  elseif run.memory:meet_rejected(item.line, item.error.message) then
    counts.resumed_failed = counts.resumed_failed + 1
  else
    reject(run, item)
    return false
  end
  counts.resumed = counts.resumed + 1
  return false
end

local function run_all(run, source, jobs)
  local places, players = task.semaphore(jobs), {}
  local function play(conversation, place)
    local _ <close> = place
    converse(run, conversation)
    players[task.current()] = nil
  end
  local ok, err = pcall(function()
    for item in source do
      local place = admit(run, item) and places:acquire()
      if place and is_spent(run) then
        place:release()
        run.is_cut_short = true
        return
      end
      if place then players[task.spawn(play, item, place)] = true end
    end
    run.memory.has_read_all = true
  end)
  -- A source that fails ends the run, but not what is running.
  while not ok and err ~= run.stop and next(players) do next(players):await() end
  if not ok then error(err, 0) end
end

---@class parley.batch.Options
---@field source fun(): (parley.batch.Conversation|parley.batch.Rejected)?  for the generic `for`
---@field write fun(result: table)          puts a result into the output; what it raises ends the run
---@field new_backend fun(options: table): parley.Backend  with the options of one conversation
---@field jobs integer                      conversations at a time
---@field memory? parley.batch.Memory       what is over already
---@field counts? parley.batch.Counts       to be kept up to date, see `M.counts`
---@field retries? integer                  how often a conversation that failed is played again; default 0
---@field retry_wait_ms? number             before the first retry; doubled for each further one; default 1000
---@field max_cost_usd? number              no conversation is begun once the run has cost so much
---@field fail_fast? boolean                the first failure ends the run
---@field shard? {index: integer, count: integer}  only the conversations of this part
---@field on_result? fun(result: table)     called when it is written
---@field on_lack? fun(event: parley.Event)  called when a session has not the permission mode that was asked for

--- Counts at their beginning.
---@return parley.batch.Counts
function M.counts()
  return { succeeded = 0, failed = 0, resumed = 0, resumed_failed = 0, running = 0, usage = {} }
end

--- Holds every conversation of a source that is not over yet.
---@param options parley.batch.Options
---@return parley.batch.Counts
---@return boolean stopped  before all of the source was held: by `fail_fast`, or as `max_cost_usd` was reached
--- Raises what `source` and `write` raise, failures that are systemic (see parley.command.batch.systemic), and
--- `Cancelled`; the conversations that were running are not written then.
function M.run(options)
  local run = setmetatable({
    write = options.write, new_backend = options.new_backend, on_result = options.on_result, on_lack = options.on_lack,
    memory = options.memory or memory.new(), counts = options.counts or M.counts(), shard = options.shard,
    retries = options.retries or 0, retry_wait_ms = options.retry_wait_ms or 1000, fail_fast = options.fail_fast,
    max_cost_usd = options.max_cost_usd,
    stop = errors.new("Stopped", "a conversation has failed"), -- no `Cancelled`: it must end the siblings
  }, Run)
  -- In a task of its own: what fails in it cancels the workers, and not the caller.
  local whole = task.spawn(run_all, run, options.source, options.jobs)
  local _ <close> = defer(function()
    if not whole:is_done() then task.shield(pcall, whole.await, whole) end
  end)
  local ok, err = pcall(whole.await, whole)
  if not ok and err ~= run.stop then error(err, 0) end
  return run.counts, not ok or run.is_cut_short or false
end

return M
