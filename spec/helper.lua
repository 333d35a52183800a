--- What the specs share beyond `parley.testing`, under short names.
local assert = require "luassert"
local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local history = require "parley.base.history"
local task = require "parley.base.task"
local testing = require "parley.testing"
local transcript = require "parley.claude.transcript"

local M = {}

--- The host that runs these specs, for specs that run it as a program.
M.host = uv.exepath()

--- For busted's `it`: the body runs as a task with a deadline, and its error object comes out unchanged.
---@param fn fun()
---@param timeout_ms? number  default two minutes: a busy machine and a sanitizer are slow, and only a hang takes longer
---@return fun()
function M.task(fn, timeout_ms) return testing.task(fn, { timeout_ms = timeout_ms or 120000 }) end

--- A count for every day, or the long one when `PARLEY_LONG=1` stands in the environment.
---@generic T
---@param short T
---@param long T
---@return T
function M.long(short, long) return M.long_seconds() and long or short end

--- How long a spec in its long form may go on that can go on for any time: `PARLEY_LONG=600`.
---@return number? seconds  1 where nobody has said; nil in the short form
function M.long_seconds()
  local seconds = tonumber(os.getenv "PARLEY_LONG" or "")
  return seconds and seconds >= 1 and seconds or nil
end

--- Takes stock of descriptors, children and luv handles.
---@return fun() check  raises when there is more of any by then
function M.leaks()
  local stock = testing.leaks()
  return function() stock:check() end
end

--- Waits until a predicate gives a true value, and returns it.
---@type fun(predicate: (fun(): any), timeout_ms?: number, what?: string): any
M.eventually = testing.eventually

--- The error that a function raises.
---@param fn function
---@param ... any
---@return parley.Error
function M.error_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "no error was raised")
  assert.is_true(errors.is(err), tostring(err))
  return err
end

--- The error of this code that a function raises.
---@param code string
---@param fn function
---@param ... any
---@return parley.Error
function M.failure_of(code, fn, ...)
  local err = M.error_of(fn, ...)
  assert.equal(code, err.code, tostring(err))
  return err
end

--- Sends a message, or runs a command, to its result.
---@param live parley.Session
---@param text string
---@param on_event? fun(event: parley.Event)
---@param is_command? boolean
---@return {texts: string[], events: parley.Event[], result: parley.Event, verdict: string}
function M.say(live, text, on_event, is_command)
  local said = { texts = {}, events = {} }
  for event in (is_command and live.command or live.send)(live, text) do
    table.insert(said.events, event)
    if event.type == "assistant" and event:text() ~= "" then table.insert(said.texts, event:text()) end
    if event.type == "result" then said.result = event end
    if on_event then on_event(event) end
  end
  said.verdict = said.result.subtype
  return said
end

--- Runs what takes its time by the length of a text. By the square of that, it would be minutes.
---@generic T
---@param fn fun(...: T)
---@param ... T
function M.in_linear_time(fn, ...)
  local began = os.clock()
  fn(...)
  assert.is_true(os.clock() - began < 20, "it took too long") -- under a sanitizer it takes ten times as long
end

--- 300 kB that say next to nothing.
M.hollow = { spaces = "a" .. (" "):rep(300000) .. "b", spaces_alone = (" "):rep(300000) .. "\nb",
  lines = "a" .. ("\n"):rep(300000) .. "b", lines_alone = ("\n"):rep(300000) }

--- Lets every task that is ready run until it waits.
function M.tick() task.spawn(function() end):await() end

--- Waits to be cancelled. Whoever is forgotten fails.
function M.until_cancelled()
  task.condition():wait(60000)
  error("nobody has cancelled it", 2)
end

local folders = {}

--- Makes a private folder, which `remove_folders` removes.
---@return string path  a real path
function M.temporary_folder()
  local path = assert(uv.fs_realpath(files.temporary_folder "parley-spec"))
  table.insert(folders, path)
  return path
end

--- For `after_each`: closes a kit whose programs end by themselves, with a terminal that was killed, but not at once.
function M.close_behind(kit)
  M.task(function() M.eventually(function() return #kit:processes() == 0 end) end)()
  kit:close()
end

--- For `after_each`.
function M.remove_folders()
  while folders[1] do files.remove_tree(table.remove(folders)) end
end

--- Writes a file.
---@param path string
---@param text string
---@param mode? string  octal, default `"600"`
---@return string path
function M.write(path, text, mode)
  assert(files.put(path, text, "w"))
  assert(uv.fs_chmod(path, tonumber(mode or "600", 8)))
  return path
end

--- Writes an executable shell script.
---@param path string
---@param body string
---@return string path
function M.write_script(path, body) return M.write(path, "#!/bin/sh\n" .. body .. "\n", "700") end

--- The names in a folder, sorted.
---@type fun(path: string): string[]
M.names_in = files.names

--- Calls with the path and the text of every Lua file below a folder.
---@param folder string
---@param visit fun(path: string, text: string)
function M.each_source(folder, visit)
  for _, name in ipairs(files.names(folder)) do
    local path = folder .. "/" .. name
    if uv.fs_stat(path).type == "directory" then
      M.each_source(path, visit)
    elseif name:find "%.lua$" then
      visit(path, files.read(path))
    end
  end
end

--- The values of a text that has one in JSON a line. Empty lines and a last one without an end are left out.
---@param text? string
---@return any[]
function M.json_lines(text)
  local values = {}
  for line in (text or ""):gmatch "([^\n]+)\n" do table.insert(values, (assert(core.json.decode(line)))) end
  return values
end

--- The messages of a transcript, as texts.
function M.texts_in(path)
  local texts = {}
  for i, message in ipairs(transcript.messages(transcript.read(path))) do texts[i] = history.text_of(message) end
  return texts
end

--- Tells whether a process has ended; a zombie that its parent has not reaped yet has.
---@param pid integer
---@return boolean
function M.has_ended(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  if not file then return true end
  local stat = file:read "a"
  file:close()
  return stat == nil or stat:match "%) (%a)" == "Z"
end

--- Tells whether nothing is left of a process.
---@param pid integer
---@return boolean
function M.is_reaped(pid) return not uv.fs_stat("/proc/" .. pid) end

--- The environment for a plain Lua that loads the library, and the shared module that was built with this host.
---@return string[]
function M.plain_lua_environment()
  local maps <close> = assert(io.open "/proc/self/maps")
  local sanitizer = maps:read "a":match "/%S*/libasan%S*" -- `make asan`: Lua must load it before the module
  return { "PATH=" .. os.getenv "PATH", "LD_PRELOAD=" .. (sanitizer or ""), "ASAN_OPTIONS=detect_leaks=0",
    "LUA_PATH=./lua/?.lua;./lua/?/init.lua;;", ("LUA_CPATH=%s/lib/?.so;;"):format(M.host:match "^(.*)/") }
end

--- The environment for a program: the PATH, and what is given; what comes later counts.
---@param ... table<string, string>?
---@return table<string, string>
function M.environment(...)
  local all = { PATH = os.getenv "PATH" }
  for i = 1, select("#", ...) do
    for name, value in pairs((select(i, ...)) or {}) do all[name] = value end
  end
  return all
end

--- An environment as `uv.spawn` takes it.
---@param environment? table<string, string>|string[]
---@return string[]?
local function listed(environment)
  if not environment or environment[1] then return environment end
  local list = {}
  for name, value in pairs(environment) do table.insert(list, name .. "=" .. value) end
  return list
end

---@class spec.Program
---@field pid integer
---@field output string    what it has written to standard output so far
---@field errors string    and to standard error
---@field status? integer  its exit status, once it has ended
---@field signal? integer  the number of the signal that ended it, or 0
local Program = {}
Program.__index = Program

--- Starts a program with pipes for its standard streams.
---@param argv string[]
---@param options? {env?: table<string, string>|string[], cwd?: string, input?: string|false}  input `false`: it
---       stays open
---@return spec.Program
function M.start(argv, options)
  options = options or {}
  local self = setmetatable({ output = "", errors = "", open = 2, changed = task.condition() }, Program)
  local streams = { uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false) }
  self.streams = streams
  local pid
  self.handle, pid = uv.spawn(argv[1], {
    args = { table.unpack(argv, 2) }, stdio = streams, env = listed(options.env), cwd = options.cwd,
  }, function(status, signal)
    self.status, self.signal = status, signal
    self.handle:close()
    self.changed:notify()
  end)
  self.pid = math.tointeger(pid) or error(pid)
  for index, name in pairs { [2] = "output", [3] = "errors" } do
    streams[index]:read_start(function(_, bytes)
      if bytes then self[name] = self[name] .. bytes else self.open = self.open - 1 end
      self.changed:notify()
    end)
  end
  if options.input then streams[1]:write(options.input) end
  if options.input ~= false then streams[1]:shutdown(function() streams[1]:close() end) end
  return self
end

--- Waits until the program catches a signal.
---@param number integer
function Program:expect_handler(number)
  M.eventually(function()
    local file <close> = assert(io.open(("/proc/%d/status"):format(self.pid)))
    local caught = tonumber(file:read "a":match "SigCgt:%s*(%x+)", 16)
    return caught & 1 << number - 1 ~= 0
  end, nil, "a handler of signal " .. number)
end

--- Waits until the program has written a text to standard output.
---@param text string
function Program:expect(text)
  while not self.output:find(text, 1, true) do
    assert(self.open > 0, "the program ended: " .. self.errors)
    self.changed:wait()
  end
end

--- Writes to its standard input, which was left open, and ends that.
---@param text string
function Program:send(text)
  local input = self.streams[1]
  input:write(text)
  input:shutdown(function() input:close() end)
end

---@param signal string  `"sigint"`
function Program:kill(signal) uv.kill(self.pid, signal) end

--- Waits for its end and that of its output.
---@return spec.Program self
function Program:wait()
  while not self.status or self.open > 0 do self.changed:wait() end
  return self
end

function Program:__close()
  task.shield(function()
    if not self.status then self:kill "sigkill" end
    while not self.status do self.changed:wait() end
  end)
  for _, stream in ipairs(self.streams) do
    if not stream:is_closing() then stream:close() end
  end
end

--- Runs a program to its end.
---@param argv string[]
---@param options? {env?: table<string, string>|string[], cwd?: string, input?: string}
---@return spec.Program  with `status`, `signal`, `output`, `errors`
function M.run(argv, options)
  local program <close> = M.start(argv, options)
  return program:wait()
end

return M
