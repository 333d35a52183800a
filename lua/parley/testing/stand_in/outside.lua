--- What is outside of the stand-in, but for time and files: its terminal, its signals, its environment, the commands
--- that it runs, the servers that it asks. Nothing else in it reaches out, so that a simulated world can put its own in
--- the place of this one.
local defer = require "parley.base.defer"
local uv = require "luv"
local http_client = require "parley.testing.http_client"
local task = require "parley.base.task"

local M = {}

---@class parley.testing.Outside
---@field environment table<string, string>
---@field cwd string    a real path
---@field pid integer
---@field user integer  0 is root
---@field meet? fun(program: parley.testing.Program)  gets a hold of the program, for what comes up in it by itself
local Outside = {}
Outside.__index = Outside

--- The world as this process has it.
---@return parley.testing.Outside
function M.new()
  return setmetatable({ environment = uv.os_environ(), cwd = assert(uv.cwd()), pid = math.tointeger(uv.os_getpid()),
    user = math.tointeger(uv.getuid()) }, Outside)
end

--- Writes to standard output, which is the terminal.
---@param bytes string
function Outside.write(bytes)
  io.stdout:write(bytes)
  io.stdout:flush()
end

---@param line string  for standard error
function Outside.complain(line) io.stderr:write(line, "\n") end

--- Has a function called whenever a signal comes, instead of what it would do.
---@param name string  `"sigint"`
---@param callback fun()
---@return {close: fun(self: any)}
function Outside.on_signal(name, callback)
  local handle = uv.new_signal()
  handle:start(name, callback)
  return handle
end

--- Dies by SIGKILL.
function Outside.die() uv.kill(uv.os_getpid(), "sigkill") end

-- The terminal --------------------------------------------------------------------------------------------------------

---@class parley.testing.OutsideTerminal
---@field private handle userdata
local Terminal = {}
Terminal.__index = Terminal

--- Takes the terminal over: raw mode.
---@return parley.testing.OutsideTerminal? terminal
---@return string? problem
function Outside.open_terminal()
  if uv.guess_handle(0) ~= "tty" then return nil, "standard input is not a terminal" end
  local handle = assert(uv.new_tty(0, true))
  handle:set_mode(1)
  return setmetatable({ handle = handle }, Terminal)
end

--- Reads what is written to the terminal, until `stop`.
---@param take fun(bytes: string?)  nothing, once the other end is closed
function Terminal:read(take)
  self.handle:read_start(function(_, bytes)
    if not bytes then self.handle:read_stop() end
    take(bytes)
  end)
end

--- Stops reading: what is written to the terminal stays there until it is full.
function Terminal:stop() self.handle:read_stop() end

---@return integer rows     0 when nobody has said
---@return integer columns
function Terminal:size()
  local columns, rows = self.handle:get_winsize()
  return rows or 0, columns or 0
end

--- Gives it back as it was.
function Terminal:close()
  self.handle:set_mode(0)
  self.handle:close()
end

-- Commands ------------------------------------------------------------------------------------------------------------

--- Runs a shell command and waits for it. When the task is cancelled, the command is killed.
---@param command string
---@param input string
---@param cwd string
---@return {status: integer, output: string, errors: string, milliseconds: integer}
function Outside.shell(command, input, cwd)
  local stdin <close> = task.closing(uv.new_pipe(false))
  local stdout <close> = task.closing(uv.new_pipe(false))
  local stderr <close> = task.closing(uv.new_pipe(false))
  local started = task.now()
  local pieces, complaints, open_count, exit_status, process, pid = {}, {}, 2, nil, nil, nil
  local _ <close> = defer(function()
    if process and not exit_status then process:kill "sigkill" end
  end)
  task.suspend(function(wake)
    local function finish_when_done()
      if exit_status and open_count == 0 then wake() end
    end
    process, pid = uv.spawn("/bin/sh", { args = { "-c", command }, cwd = cwd,
      stdio = { stdin.handle, stdout.handle, stderr.handle } }, function(status)
        exit_status = status
        process:close()
        finish_when_done()
      end)
    assert(process, pid)
    stdin.handle:write(input)
    stdin.handle:shutdown()
    for handle, read in pairs { [stdout.handle] = pieces, [stderr.handle] = complaints } do
      handle:read_start(function(_, bytes)
        if bytes then return table.insert(read, bytes) end
        open_count = open_count - 1
        finish_when_done()
      end)
    end
  end)
  return { status = exit_status, output = table.concat(pieces), errors = table.concat(complaints),
    milliseconds = math.floor(task.now() - started) }
end

--- Runs a program on the terminal itself and waits for it.
---@param words string[]
---@return integer? status
---@return string? problem  it did not start
function Outside.edit(words)
  return task.suspend(function(wake)
    local handle, problem
    handle, problem = uv.spawn(words[1], { args = { table.unpack(words, 2) }, stdio = { 0, 1, 2 } }, function(status)
      handle:close()
      wake(status)
    end)
    if not handle then wake(nil, problem) end
  end)
end

--- Runs a shell command that goes on in the background, in a session of its own, as the real program's do.
---@param command string
function Outside.leave(command)
  task.suspend(function(wake)
    local shell
    shell = assert(uv.spawn("/bin/sh", { args = { "-c", command }, detached = true }, function()
      shell:close()
      wake()
    end))
  end)
end

--- Moves a file.
---@param from string
---@param to string
function Outside.rename(from, to) assert(uv.fs_rename(from, to)) end

-- The network ---------------------------------------------------------------------------------------------------------

--- Asks a server on loopback, and waits for its answer.
---@param request parley.testing.HttpRequest
---@return parley.testing.HttpAnswer
--- Raises an error object when there is none.
function Outside.http(request) return http_client.request(request) end

return M
