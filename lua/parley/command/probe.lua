--- Starts one `claude` and watches what it does: the measurements behind `parley doctor --probe` and `--probe-turn`.
---
--- `measure` gives plain facts, `judge` makes findings of them.
local uv = require "luv"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local claude_event = require "parley.claude.event"
local files = require "parley.base.files"
local launch = require "parley.claude.launch"
local mark = require "parley.base.mark"
local paths = require "parley.claude.paths"
local policies = require "parley.policy"
local process = require "parley.claude.process"
local session = require "parley.session"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local transcript = require "parley.claude.transcript"

local M = {}

--- What `--probe-turn` sends: a tab, marks that would run a shell or a command at the start of a text, more than ASCII.
M.MESSAGE = "This is `parley doctor` trying the connection. Answer with the one word pong, and use no tool.\n"
  .. "! neither this line\n/nor this one is a command;\ta tab, é, 日本語 and 👍 must arrive as they are."

local TURN_TIMEOUT_MS = 180000
--- A ready composer may be seen before the status file is written.
local STATUS_FILE_MS = 1500
--- What a program has started may end a little after it.
local GROUP_MS = 2000

---@class parley.ProbeFacts
---@field ready_ms? number      from the start until a message is taken
---@field dialogs {kind: string, answered: boolean}[]
---@field version? string       as the program shows it
---@field status_file "live"|"plain"|"none"
---@field watch? "notify"|"poll"
---@field leaked string[]       variables that should have been kept from it
---@field error? parley.Error   what ended the probe
---@field left {process: boolean, group: boolean, status_file: boolean, descriptors: integer}  after the end
---@field exit? parley.ExitRecord
---@field turn? table           see `send`
---@field cancelled? {process: boolean}  whether a start that was cancelled left its process

local function descriptors() return #files.names "/proc/self/fd" end

--- Whether signals can still reach a process, or with a negative number its group.
local function exists(pid) return uv.kill(pid, 0) == 0 end

--- Policies that do what the given ones do, and note it.
local function observed(given, facts)
  local own = policies.of_session(given or {})
  local dialogs, settling = own.dialogs, own.settling
  own.dialogs = {
    recognize = dialogs.recognize,
    decide = function(dialog, accept)
      local decision = dialogs.decide(dialog, accept)
      table.insert(facts.dialogs, { kind = dialog.kind, answered = not decision.fail })
      return decision
    end,
  }
  own.settling = {
    judge = function(seen, still_ms)
      local verdict, look_again = settling.judge(seen, still_ms)
      if verdict then
        facts.ending = { certainty = seen.certainty, duration = seen.duration, stop_hook = seen.stop_hook,
          api_error = seen.api_error, still_ms = still_ms }
      end
      return verdict, look_again
    end,
  }
  return own
end

--- A session from one table of options; what is neither the process's nor the session's is passed over.
local function new_session(given, facts)
  local of_process, of_session = tables.picked(given, launch.rules), tables.picked(given, session.rules)
  of_session.policies = observed(of_session.policies, facts)
  of_session.turn_timeout_ms = of_session.turn_timeout_ms or TURN_TIMEOUT_MS
  return session.new(process.new(of_process), of_session)
end

--- The variables of the host that the process has all the same.
local function leaked(pid, dropped)
  local names, found = {}, {}
  for entry in (files.read(("/proc/%d/environ"):format(pid)) or ""):gmatch "[^\0]+" do
    names[entry:match "^[^=]*"] = true
  end
  for _, name in ipairs(dropped) do
    if names[name] then table.insert(found, name) end
  end
  return found
end

local function status_file_of(live)
  local text = files.read(paths.status_file(live.process:pid(), live.process.environment))
  local value = text and core.json.decode(text)
  return type(value) == "table" and (value.status and "live" or "plain") or "none"
end

local function observe(live, facts, dropped)
  live.changed:wait_until(function()
    facts.status_file = status_file_of(live)
    return facts.status_file == "live"
  end, STATUS_FILE_MS)
  facts.version = live:view().version
  facts.watch = live.transcript:mode()
  facts.leaked = leaked(live.process:pid(), dropped)
end

--- Sends the message and notes when what came.
local function send(live, facts)
  local turn = { prepared = live:as_typed(M.MESSAGE), answer = "" }
  facts.turn = turn
  local began = task.now()
  for event in live:send(M.MESSAGE) do
    local now = task.now() - began
    if event.type == "user" then turn.receipt_ms = turn.receipt_ms or now end
    if event.type == "assistant" then
      turn.answer_ms = turn.answer_ms or now
      turn.answer = turn.answer .. event:text()
    elseif event.type == "result" then
      turn.end_ms, turn.subtype, turn.message = now, event.subtype, event.message
    end
  end
  live:wait_until_ready()
  turn.is_ready_again = true
end

--- What the transcript says was received; read after the end, when all of it is there.
local function read_receipts(live, turn)
  turn.received = {}
  for _, event in ipairs(transcript.read(live.jsonl_path)) do
    if event.type == "user" and claude_event.kind(event) == "typed" then
      table.insert(turn.received, event:text())
    end
  end
  turn.is_verbatim = turn.received[1] ~= nil and live.policies.delivery.matches(turn.received[1], turn.prepared)
end

--- Cancels a start in the middle, as leaving a loop early does; nil when that was over before.
local function cancel_start(given)
  local live <close> = new_session(given, { dialogs = {} })
  local starting = task.spawn(function() live:start() end)
  while not live.process:pid() and not starting:is_done() do live.changed:wait(50) end
  starting:cancel()
  if pcall(starting.await, starting) then return nil end
  local pid = live.process:pid()
  return { process = pid ~= nil and exists(pid) }
end

local function close(live, facts)
  local pid = live.process:pid()
  live:close()
  facts.exit = live.process:exit_record()
  local is_left = pid ~= nil and exists(pid)
  local deadline = task.now() + GROUP_MS
  while pid and exists(-pid) and task.now() < deadline do task.shield(task.sleep, 20) end
  facts.left = {
    process = is_left, group = pid ~= nil and exists(-pid),
    status_file = pid ~= nil and uv.fs_stat(paths.status_file(pid, live.process.environment)) ~= nil,
  }
end

--- Starts the program, looks, ends it.
---@param given table    options of `parley.backend`; those of the process and of the session count
---@param options? {turn?: boolean, dropped?: string[]}  `turn` sends one message; `dropped` names the variables that
---                      the program must not have
---@return parley.ProbeFacts
--- Raises `ValueError` for bad options; what goes wrong later is in the facts.
function M.measure(given, options)
  options = options or {}
  local facts = { dialogs = {}, leaked = {}, status_file = "none" }
  mark.guard() -- which is kept
  local before = descriptors()
  local live = new_session(given, facts)
  local ok, err = pcall(function()
    local _ <close> = defer(function() close(live, facts) end)
    local began = task.now()
    live:start()
    facts.ready_ms = task.now() - began
    observe(live, facts, options.dropped or {})
    if options.turn then send(live, facts) end
  end)
  if not ok and (errors.is(err, "Cancelled") or not errors.is(err)) then error(err, 0) end
  facts.error = not ok and err or nil
  if facts.turn and uv.fs_stat(live.jsonl_path) then read_receipts(live, facts.turn) end
  if options.turn and ok then facts.cancelled = cancel_start(given) end
  facts.jsonl_path = uv.fs_stat(live.jsonl_path) and live.jsonl_path or nil
  facts.left.descriptors = descriptors() - before
  return facts
end

return M
