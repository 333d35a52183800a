--- A fake with the face of parley.process, for specs that want no pty: what is written to it is recorded, what it shows
--- and how it ends is said by the spec.
---
---     local fake = fake_process.new { on_write = function(fake, bytes) fake:feed(bytes) end }
---     local fake = fake_process.answering { jsonl_path = path, reply = function(text) return "echo: " .. text end }
local uv = require "luv"
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local option_rules = require "parley.base.options"
local task = require "parley.base.task"
local commands = require "parley.testing.stand_in.commands"
local composer = require "parley.testing.stand_in.composer"
local keys = require "parley.testing.stand_in.keys"
local profiles = require "parley.testing.stand_in.profiles"
local screen = require "parley.testing.stand_in.screen"
local status_file = require "parley.testing.stand_in.status_file"
local transcript = require "parley.testing.stand_in.transcript"

local M = {}

--- Above what Linux gives to processes, so that no signal ever reaches a real one.
local FIRST_PID = 1 << 22
local next_pid = FIRST_PID

local RULES = {
  session_id = { type = "string" }, argv = { type = "list of strings" }, cwd = { type = "string" },
  environment = { type = "map of strings" }, jsonl_path = { type = "string" }, status_folder = { type = "string" },
  profile = { type = "string", check = option_rules.one_of(profiles.versions) },
  rows = { type = "positive integer" }, columns = { type = "positive integer" },
  on_start = { type = "callable" }, on_write = { type = "callable" }, on_terminate = { type = "callable" },
  reply = { type = "callable" }, delay_ms = { type = "milliseconds" }, -- of one that answers
}

---@class parley.testing.FakeProcess
---@field argv string[]
---@field session_id string
---@field environment table<string, string>
---@field cwd string
---@field changed parley.Condition
---@field screen parley.Screen
---@field writes string[]       what was written, a write each
---@field is_full? boolean      the terminal takes nothing, as that of a program that was stopped; notify `changed` when
---                              it does again
---@field signals string[]      what was signalled
---@field message? string       that it was given with its start
---@field jsonl_path? string
---@field transcript? parley.testing.TranscriptWriter  there when `jsonl_path` was given
---@field composer? parley.testing.Composer  of a fake that answers
---@field editor? table         with the face of `parley.claude.editor`, on a fake that answers
local FakeProcess = {}
FakeProcess.__index = FakeProcess
FakeProcess.__name = "parley.testing.FakeProcess"

--- Makes a fake that is not started yet.
---@param options? {session_id?: string, argv?: string[], cwd?: string, environment?: table<string, string>,
---       jsonl_path?: string, status_folder?: string, profile?: string, rows?: integer, columns?: integer,
---       on_start?: fun(fake: parley.testing.FakeProcess),
---       on_write?: fun(fake: parley.testing.FakeProcess, bytes: string),
---       on_terminate?: fun(fake: parley.testing.FakeProcess, grace_ms?: number): table?}
---       `jsonl_path` is where `append` writes; `status_folder` is CONFIG, for `set_status`; `on_terminate` returns the
---       exit record (default: 143)
---@return parley.testing.FakeProcess
--- Raises `ValueError` for bad options.
function M.new(options)
  options = option_rules.check(RULES, options, "fake_process")
  next_pid = next_pid + 1
  local self = setmetatable({
    options = options, own_pid = next_pid, argv = options.argv or { "claude" },
    session_id = options.session_id or core.uuid.generate(), environment = options.environment or {},
    cwd = options.cwd or uv.cwd(), jsonl_path = options.jsonl_path, profile = profiles.get(options.profile),
    changed = task.condition(), screen = core.screen.new(options.rows or 40, options.columns or 120),
    writes = {}, signals = {}, captured = {}, received = 0, watchers = {},
  }, FakeProcess)
  if self.jsonl_path then
    self.transcript = transcript.new { path = self.jsonl_path, session_id = self.session_id, cwd = self.cwd,
      profile = self.profile, permission_mode = "bypassPermissions", flush_ms = 0 }
  end
  if options.status_folder then
    local place = { folder = options.status_folder, cwd = self.cwd, status_path = function(_, pid)
      return ("%s/sessions/%d.json"):format(options.status_folder, pid)
    end }
    self.status = status_file.new(place, self.profile, self.own_pid)
  end
  return self
end

-- The face of a process -----------------------------------------------------------------------------------------------

function FakeProcess:start()
  if self.is_started then error(errors.session_error("the process was started already", { reason = "start" }), 0) end
  self.is_started = true
  if self.options.on_start then self.options.on_start(self) end
end

local function check_alive(self)
  if self:is_alive() then return end
  error(errors.session_error("cannot write to the terminal: the process does not run",
    { reason = "exit", exit = self.ending, screen = self.screen:text() }), 0)
end

---@param bytes string
---@param wait? fun(gone: integer): boolean?  see `parley.process`
---@return boolean written
--- Raises `SessionError` (reason `"exit"`) when the fake does not run.
function FakeProcess:write(bytes, wait)
  check_alive(self)
  while self.is_full do
    if not wait then
      self.changed:wait()
    elseif wait(0) == false then
      return false
    end
    check_alive(self)
  end
  table.insert(self.writes, bytes)
  if self.options.on_write then self.options.on_write(self, bytes) end
  return true
end

---@return boolean
function FakeProcess:is_alive() return self.is_started == true and self.ending == nil end

---@return integer?
function FakeProcess:pid() return self.is_started and self.own_pid or nil end

---@return string
function FakeProcess:captured_output() return table.concat(self.captured) end

---@param watcher fun(bytes?: string, received?: integer)  see `parley.process`
---@return fun() stop
function FakeProcess:watch(watcher)
  self.watchers[watcher] = true
  return function() self.watchers[watcher] = nil end
end

---@return parley.ExitRecord?
function FakeProcess:exit_record() return self.ending end

--- Takes what a real one would be started with.
---@param changes {permission_mode?: string, arguments?: string[], variables?: table<string, string>, message?: string}
function FakeProcess:prepare(changes)
  for _, word in ipairs(changes.arguments or {}) do table.insert(self.argv, word) end
  self.message = changes.message or self.message
  for name, value in pairs(changes.variables or {}) do self.environment[name] = value end
end

---@param rows integer
---@param columns integer
function FakeProcess:resize(rows, columns)
  self.screen:resize(rows, columns)
  for watcher in pairs(self.watchers) do watcher() end
end

---@param name string
function FakeProcess:signal(name) table.insert(self.signals, name) end

--- Ends the fake.
---@param grace_ms? number
---@return parley.ExitRecord
function FakeProcess:close(grace_ms)
  if not self.is_started then return { not_started = true } end
  if not self.ending then
    self:signal "SIGTERM"
    local on_terminate = self.options.on_terminate
    self:exit(on_terminate and on_terminate(self, grace_ms) or { exit_code = 143 })
  end
  return self.ending
end

--- Ends the fake as `close` does.
---@param grace_ms? number
function FakeProcess:kill(grace_ms) self:close(grace_ms) end

function FakeProcess:drain() end -- luacheck: ignore 212

function FakeProcess:discard()
  if self:is_alive() then self:exit { signal = "SIGKILL" } end
end

FakeProcess.__close = function(self) self:close() end
FakeProcess.terminate = FakeProcess.close

-- The spec's side -----------------------------------------------------------------------------------------------------

--- Shows output on the screen.
---@param bytes string
function FakeProcess:feed(bytes)
  table.insert(self.captured, bytes)
  self.screen:feed(bytes)
  self.received = self.received + #bytes
  for watcher in pairs(self.watchers) do watcher(bytes, self.received) end
  self.changed:notify()
end

--- Ends the fake as a real process ends: by itself.
---@param record? parley.ExitRecord  default `{ exit_code = 0 }`
function FakeProcess:exit(record)
  if self.ending then return end
  self.ending = record or { exit_code = 0 }
  if self.timer then self.timer:close() end
  self.timer = nil
  if self.status then self.status:remove() end
  self.changed:notify()
end

--- Everything that was written, in one string.
---@return string
function FakeProcess:written() return table.concat(self.writes) end

--- Where it writes. Raises `ValueError` without one.
local function transcript_of(self)
  return self.transcript or error(errors.value_error "a fake process without jsonl_path has no transcript", 0)
end

--- Appends a record to the transcript, as it is.
---@param record table
function FakeProcess:append(record) transcript_of(self):append(record) end

--- Appends the record of a message that was taken, in a new file with what stands before it.
---@param text string
---@return string uuid
function FakeProcess:append_user(text) return transcript_of(self):user(text) end

--- Appends an answer: one record a block.
---@param blocks string|table[]  a text, or content blocks
---@param stop_reason? string    default `"end_turn"`
function FakeProcess:append_assistant(blocks, stop_reason)
  if type(blocks) == "string" then blocks = { { type = "text", text = blocks } } end
  local message = { id = "msg_" .. core.uuid.generate(), model = self.profile.model,
    stop_reason = stop_reason or "end_turn" }
  for _, block in ipairs(blocks) do transcript_of(self):assistant(message, block) end
end

--- Appends the last record of a turn, where the version has one.
---@param milliseconds? integer
function FakeProcess:append_turn_duration(milliseconds)
  if not self.profile.turn_duration then return end
  local written = transcript_of(self)
  written:chain("system", { subtype = "turn_duration", durationMs = milliseconds or 1, messageCount = written.count,
    isMeta = false })
end

--- Writes the status file, where the version has one.
---@param status "idle"|"busy"|"waiting"
---@param waiting_for? string
function FakeProcess:set_status(status, waiting_for)
  if not self.status then return end
  if not self.has_status then files.make_folder(self.options.status_folder .. "/sessions") end
  self.has_status = true
  self.status:set(self.session_id, status, waiting_for)
end

-- A fake that answers -------------------------------------------------------------------------------------------------

--- Offers in memory.
local Editor = {}
Editor.__index = Editor

function Editor:offer(text) self.text, self.before = text, nil end

function Editor:taken() return self.before end

function Editor:withdraw() self.text, self.before = nil, nil end

--- What the program's own editor does with what the composer holds.
function Editor:open(held_by)
  if not self.text then return end
  self.before = held_by:held()
  held_by:replace(self.text)
  self.text = nil
end

local Answering = {}
Answering.__index = Answering

function Answering:draw()
  self.pen:draw { composer = self.composer, history = self.history, queued = {}, cwd = self.fake.cwd,
    permission_mode = "bypassPermissions", busy = self.is_busy and "Pondering" or nil, frame = 0, seconds = 0 }
end

function Answering:finish(text)
  local fake = self.fake
  local reply = fake.options.reply
  local answer = reply and reply(text, fake) or "echo: " .. text
  if not fake:is_alive() then return end -- the reply ended it
  fake:append_assistant(answer)
  fake:append_turn_duration()
  if type(answer) == "string" then table.insert(self.history, { mark = "● ", text = answer }) end
  self.is_busy = false
  fake:set_status "idle"
  self:draw()
end

function Answering:take(text)
  local fake, delay = self.fake, self.fake.options.delay_ms
  table.insert(self.history, { mark = "❯ ", text = text })
  self.is_busy = true
  fake:set_status "busy"
  self:draw()
  fake:append_user(text)
  if not delay then return self:finish(text) end
  fake.timer = clock.after(delay, function() self:finish(text) end)
end

function Answering:press(key)
  if key.kind == "paste" then
    self.composer:paste(key.text)
  elseif key.kind == "text" then
    self.composer:type(key.text)
  elseif key.name == "ctrl-g" then
    self.fake.editor:open(self.composer)
  elseif key.name ~= "return" then
    self.composer:edit(key.name, key.is_alone)
  else
    local taken = self.composer:submit()
    if not taken then return end
    local kind = commands.classify(taken, self.fake.profile)
    if kind == "message" then return self:take(taken.text) end
    if kind == "exit" then self.fake:exit { exit_code = 0 } end
  end
end

--- Makes a fake that shows a composer once started, understands a paste, plain keys and Return, and answers with the
--- records that the real program writes. `jsonl_path` must be given.
---@param options {jsonl_path: string, reply?: fun(text: string, fake: parley.testing.FakeProcess): (string|table[]),
---       delay_ms?: number, profile?: string, status_folder?: string, session_id?: string}
---       and whatever `new` takes. `reply` gives a text or content blocks, default `echo: ` and the text; without
---       `delay_ms` the answer stands in the file before `write` returns
---@return parley.testing.FakeProcess
--- Raises `ValueError` for bad options.
function M.answering(options)
  local all = option_rules.check(RULES, options, "fake_process.answering")
  if not all.jsonl_path then error(errors.value_error "fake_process.answering needs the option 'jsonl_path'", 0) end
  local self = setmetatable({ history = {}, decoder = keys.new() }, Answering)
  function all.on_start(fake)
    fake:set_status "idle"
    self.pen:announce()
    self.pen:open()
    self:draw()
  end
  function all.on_write(_, bytes)
    local pressed = self.decoder:feed(bytes)
    for _, key in ipairs(pressed) do
      key.is_alone = #pressed == 1
      self:press(key)
    end
    for _, key in ipairs(self.decoder:is_waiting() and self.decoder:flush() or {}) do self:press(key) end
    if self.fake:is_alive() then self:draw() end
  end
  local fake = M.new(all)
  local rows, columns = fake.screen:size()
  self.fake, fake.editor = fake, setmetatable({}, Editor)
  self.composer = composer.new { profile = profiles.derive(options.profile, { paste_settle =
    { cold_return_ms = 0, warm_return_ms = 0, key_ms = 0, paste_ms = 0 } }), cwd = fake.cwd, now = task.now }
  fake.composer = self.composer
  self.pen = screen.new { profile = fake.profile, rows = rows, columns = columns,
    write = function(bytes) fake:feed(bytes) end }
  return fake
end

return M
