--- Starts the sessions of a backend's requests, each in the place of the pool that the request holds: fresh, with the
--- history injected, or going on with a transcript that is there.
local claude_event = require "parley.claude.event"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local history = require "parley.base.history"
local launch = require "parley.claude.launch"
local native_jsonl = require "parley.policy.injection.native_jsonl"
local paths = require "parley.claude.paths"
local policies = require "parley.policy"
local process = require "parley.claude.process"
local session = require "parley.session"
local tables = require "parley.base.tables"
local transcript = require "parley.sleep.transcript"
local tui = require "parley.claude.tui"
local uv = require "luv"

local M = {}

--- Makes the session that `injection` asks for.
local function make_session(self, set, id, injection, jsonl_path)
  local offset = injection.start_offset or 0
  local factory = self.options.session_factory
  if factory then
    local made = factory(self, id, injection.resume or false, jsonl_path, offset)
    if type(made) == "table" and type(made.start) == "function" then return made end
    error(errors.value_error("session_factory must return a session, not a " .. type(made),
      { option = "session_factory" }), 0)
  end
  local of_process, of_session = tables.picked(set, launch.rules), tables.picked(set, session.rules)
  of_session.partial = of_session.partial or self.options.partial -- the next turn may want it
  of_process[injection.resume and "resume_session_id" or "session_id"] = id
  of_process.mcp_config = self.mcp:arguments(set)
  return session.new(process.new(of_process), of_session, { path = jsonl_path, offset = offset })
end

--- Gives a session what a turn has for itself. It may be started or not.
---@param self parley.Backend
---@param live parley.Session
---@param set table  the turn's options
function M.prepare(self, live, set)
  if live.report_partial then live:report_partial(set.partial) end -- one of the caller's own may know of none
  if live.limits then live.limits:use(set, self.spent) end
end

--- Starts a session in the place that the run holds.
---@return parley.Session
local function start(self, run, injection, id, path)
  if run.is_over then error(errors.closed_error "the turn was closed", 0) end
  local live = make_session(self, run.set, id, injection, path)
  self.kin[live] = { prefix = run.prefix, kin = run.kin, set = run.set }
  self.pool:add(live, run)
  run.session, run.has_place, run.payload, run.is_resumed = live, false, injection.text, injection.resume
  M.prepare(self, live, run.set) -- the message may go with the start
  live:start(run.is_message and injection.text or nil, run.said)
  return live
end

--- Starts a fresh session for a history, in the place that the run holds. A seed that nobody went on from is removed.
local function start_with(self, run, policy)
  local set, id = run.set, core.uuid.generate()
  local path = paths.resolve_jsonl_path(id, set.cwd, launch.environment(set))
  local injection = policy.prepare {
    history = run.request.history, text = run.text, session_id = id, jsonl_path = path,
    cwd = paths.real_folder(set.cwd), model = set.model, permission_mode = set.permission_mode or "bypassPermissions",
  }
  local _ <close> = defer(function(err)
    local has_gone_on = errors.is(err) and err.at_start == false -- or may have: with the message, which went along
    if err ~= nil and injection.resume and not has_gone_on then files.remove(path) end
  end)
  policies.check_text(self.options.policies, set, injection.text, #run.request.messages)
  local live = start(self, run, injection, id, path)
  self.kin[live].seed = injection.resume and path or nil
end

--- Removes the seed of a session that has ended, where no message has gone on from it.
---@param self parley.Backend
---@param live parley.Session
function M.forget_seed(self, live)
  local path, turn = (self.kin[live] or {}).seed, live.turn
  local is_unused = live.turns == 0 and not live.ahead and (not turn or turn:state() == "typing")
  if path and is_unused then files.remove(path) end
end

--- Takes in that a session has ended in the midst of something.
---@param self parley.Backend
---@param live parley.Session
function M.lose(self, live)
  self.keeper:lose(live)
  M.forget_seed(self, live)
end

--- Whether the program itself has said that it does not go on from the written history, or has failed in doing so.
local function is_refused(err)
  if err.reason == "crash" then return true end
  return err.reason == "exit" and err.exit ~= nil and err.exit.signal == nil
    and tui.refuses_to_resume(tostring(err.screen))
end

--- Starts a session, and when that fails with a written history, makes room for another start.
---@return table? failure
local function try_to_start(self, run, way, ...)
  local ok, err = pcall(way, self, run, ...)
  if ok then return nil end
  local may_be_tried_again = run.session and run.is_resumed and errors.is(err, "SessionError")
  if not may_be_tried_again or err.reason == "transcript" then error(err, 0) end
  local has_taken_none = is_refused(err) and err.at_start
  if run.session.ahead and not has_taken_none then error(err, 0) end
  M.discard(self, run)
  return err
end

--- Ends the session of a run, which keeps its place. Whoever closes the turn meanwhile finds neither to give back.
---@param self parley.Backend
---@param run parley.Lease  of a request
---@param is_lost? boolean  nobody goes on with its conversation
function M.discard(self, run, is_lost)
  local live = run.session
  local _ <close> = defer(function()
    if is_lost then M.lose(self, live) end
  end)
  run.session, run.is_leased = nil, false
  self.pool:discard(live, true)
  run.has_place = true
end

--- Adds an event to the turn of a request, in front of its own.
---@param run parley.Lease  of a request that has its session
---@param subtype string
---@param fields table
function M.tell(run, subtype, fields)
  fields.type, fields.subtype, fields.session_id = "system", subtype, run.session.session_id
  table.insert(run.notices, claude_event.new(fields))
end

--- Starts a fresh session. A crash or a start that takes too long says nothing of the written history: it is tried
--- again, once. When the program refuses to resume from it, it goes into the message, once.
---@param self parley.Backend
---@param run parley.Lease  of a request
---@param first? table  an injection policy that is tried before the backend's
function M.fresh(self, run, first)
  local policy = first or self.policies.injection
  local err = try_to_start(self, run, start_with, policy)
  if err and not is_refused(err) then err = try_to_start(self, run, start_with, policy) end
  if not err then return end
  if not is_refused(err) then error(err, 0) end
  if first then return M.fresh(self, run) end
  start_with(self, run, require "parley.policy.injection.concat_message")
  M.tell(run, "injection_fallback", { cause = err,
    message = "the program did not resume from the written history; it went into the message instead" })
end

--- Has a new process go on with a transcript, or starts a fresh session where that cannot be.
---@return boolean resumed
local function go_on(self, run, id, path)
  local stat = uv.fs_stat(path)
  local injection = { resume = true, text = run.text, start_offset = stat and stat.size }
  if stat and not try_to_start(self, run, start, injection, id, path) then return true end
  M.fresh(self, run)
  return false
end

--- Has another process go on with the transcript of the session that the run leases: under the options of the run.
---@param self parley.Backend
---@param run parley.Lease  of a request
function M.renew(self, run)
  local former = run.session
  local _ <close> = defer(function() self.keeper:lose(former) end) -- what another has is none of its affairs
  local is_damaged, read_to = former.has_damage and former:has_damage(), former.read_to and former:read_to()
  self.kin[former] = nil
  M.discard(self, run)
  local knows_more = is_damaged or read_to and not transcript.is_readable(former.jsonl_path, read_to)
  if knows_more then return M.fresh(self, run) end -- than its transcript has
  if not go_on(self, run, former.session_id, former.jsonl_path) then return end
  run.session:succeed(former)
  self.keeper:hand_over(former, run.session)
end

--- Wakes a conversation that sleeps.
local function wake(self, run, found)
  local entry, is_settled = found.entry, false
  local _ <close> = defer(function()
    if not is_settled then self.keeper:leave(found) end
  end)
  local is_woken = go_on(self, run, entry.session_id, entry.path)
  is_settled = true
  if is_woken then
    run.session:succeed { turns = entry.turns, used = {} } -- of a process that is gone; what it has used nobody knows
    return self.keeper:hold(found, run.session)
  end
  self.keeper:leave(found, true)
  M.tell(run, "sleep_missed", { missed = entry.session_id, cause = "refused",
    message = ("the program did not go on with the session %s; another one has what was said"):format(
      entry.session_id) })
end

--- What has a fresh session go on from the beginning of another's transcript, with all that stands in it. A policy of
--- the caller's own comes first, and so does what it calls a conversation.
---@return table? policy
local function fork_of(self, run, point)
  local is_ours = self.policies.injection == native_jsonl
  if not is_ours or run.name ~= history.hash_history(run.request.history) then return nil end
  local text = transcript.beginning(point)
  return text and { prepare = function(request)
    files.write(request.jsonl_path, text)
    return { text = request.text, resume = true, start_offset = #text }
  end }
end

--- Starts the session of a history that no session has: wakes the one that sleeps, or has a fresh one go on from there.
local function begin_by_index(self, run)
  local found, missed = nil, {}
  if run.name then found, missed = self.keeper:find(run.name, run.set) end
  if found and found.lease then
    wake(self, run, found)
  else
    M.fresh(self, run, found and fork_of(self, run, found.point))
  end
  for _, miss in ipairs(missed) do
    M.tell(run, "sleep_missed", { missed = miss.session_id, cause = miss.cause,
      message = ("the session %s could not be woken: %s; another one has what was said"):format(miss.session_id,
        miss.message) })
  end
end

--- Starts the session of a history that no session has: from its own transcript when it is the one that was adopted,
--- or sleeps.
---@param self parley.Backend
---@param run parley.Lease  of a request
function M.begin(self, run)
  local adopted = self.adopted
  if not adopted or history.hash_history(run.request.history) ~= adopted.hash then return begin_by_index(self, run) end
  self.adopted = nil -- two must not write in one transcript
  if not adopted.id then return M.fresh(self, run) end
  local found, is_denied = self.keeper:claim(adopted.id)
  if is_denied then return begin_by_index(self, run) end
  local _ <close> = defer(function(err)
    if err == nil then return end
    self.adopted = adopted
    if found then self.keeper:leave(found) end
  end)
  local goes_on = go_on(self, run, adopted.id, adopted.path)
  if goes_on and not found then return end
  if goes_on then
    if found.entry then run.session:succeed { turns = found.entry.turns, used = {} } end -- as of one that is woken
    return self.keeper:hold(found, run.session)
  end
  if found then self.keeper:leave(found, true) end
  M.tell(run, "injection_fallback",
    { message = ("the program did not go on with the session %s; another one has what was said"):format(adopted.id) })
end

return M
