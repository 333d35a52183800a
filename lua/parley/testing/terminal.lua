--- A person at a terminal, for specs: starts a program on a pty, presses keys, looks at the screen. It knows nothing of
--- Parley's sessions, so that what it sees can be held against them.
---
---     local person <close> = terminal.open { argv = { "my-program" }, cwd = folder }
---     person:wait_for "name?"
---     person:write "Ada\r"
---     assert.same({ exit_code = 0 }, person:exit())
local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local option_rules = require "parley.base.options"
local task = require "parley.base.task"

local M = {}

local RULE = "^" .. ("─"):rep(3)
local PASTE_START, PASTE_END = "\27[200~", "\27[201~"
local DEFAULT_TIMEOUT_MS = 20000
local LOOK_MS = 5 -- a predicate may ask for what no output tells of

local RULES = {
  argv = { type = "list of strings", check = function(argv) return not argv[1] and "a program and its words" end },
  environment = { type = "map of strings" }, cwd = { type = "string" }, is_silent = { type = "boolean" },
  rows = { type = "positive integer", default = 40 }, columns = { type = "positive integer", default = 120 },
}

---@class parley.testing.Terminal
---@field screen parley.Screen
---@field output string  everything that was printed
---@field pty parley.Pty
---@field is_ended boolean  nothing more will be printed
local Terminal = {}
Terminal.__index = Terminal
Terminal.__name = "parley.testing.Terminal"

--- Starts a program.
---@param options {argv: string[], environment?: table<string, string>, cwd?: string, rows?: integer,
---       columns?: integer, is_silent?: boolean}  `environment` and `cwd` are this process's unless said otherwise, the
---       terminal has 40 rows and 120 columns, and answers when the program asks what it is, unless it `is_silent`
---@return parley.testing.Terminal  a `<close>` variable
--- Raises `ValueError` for bad options, and an error object with the system's code when the program cannot be started.
function M.open(options)
  options = option_rules.check(RULES, options, "terminal.open")
  if not options.argv then error(errors.value_error "terminal.open needs the option 'argv'", 0) end
  local rows, columns = options.rows, options.columns
  local environment = {}
  for name, value in pairs(options.environment or uv.os_environ()) do
    table.insert(environment, name .. "=" .. value)
  end
  local pty, problem = core.pty.spawn { argv = options.argv, env = environment, cwd = options.cwd, rows = rows,
    columns = columns }
  if not pty then error(problem, 0) end
  local self = setmetatable({ pty = pty, screen = core.screen.new(rows, columns), output = "", is_ended = false,
    changed = task.condition(), pipe = uv.new_pipe(false), child_signal = uv.new_signal() }, Terminal)
  assert(self.pipe:open(pty:duplicate()))
  local function take(bytes)
    self.output = self.output .. bytes
    self.screen:feed(bytes)
    local replies = not options.is_silent and self.screen:replies() or ""
    if replies ~= "" and not self.is_ended then self.pipe:write(replies) end
  end
  self.pipe:read_start(function(_, bytes)
    self.is_ended = not bytes
    if bytes then take(bytes) end
    -- libuv takes the hang-up for the end, and leaves what is still there.
    for rest in function() return self.is_ended and pty:read() or nil end do take(rest) end
    self.changed:notify()
  end)
  self.child_signal:start("sigchld", function() self.changed:notify() end)
  return self
end

---@return integer
function Terminal:pid() return self.pty:pid() end

--- Presses keys: one write.
---@param bytes string
--- Raises an error with code `EPIPE` when nobody reads them any more.
function Terminal:write(bytes)
  local problem = self.pipe:is_closing() and "the terminal is closed" or task.suspend(function(wake)
    local ok, problem = self.pipe:write(bytes, wake)
    if not ok then wake(problem) end
  end)
  if problem then error(errors.new("EPIPE", "cannot write to the terminal: " .. problem), 0) end
end

--- Pastes a text, as a terminal does in bracketed mode.
---@param text string
function Terminal:paste(text) self:write(PASTE_START .. text .. PASTE_END) end

--- Makes the window larger or smaller.
---@param rows integer
---@param columns integer
function Terminal:resize(rows, columns)
  self.screen:resize(rows, columns)
  assert(self.pty:resize(rows, columns))
end

---@param text string
---@return boolean
function Terminal:shows(text) return self.screen:text():find(text, 1, true) ~= nil end

--- Waits for a text on the screen, or for a predicate, which is asked at every output.
---@param wanted string|fun(terminal: parley.testing.Terminal): any
---@param timeout_ms? number  default 20000
---@return any value
--- Raises an error with code `ETIMEDOUT` and the screen.
function Terminal:wait_for(wanted, timeout_ms)
  local deadline = task.now() + (timeout_ms or DEFAULT_TIMEOUT_MS)
  while true do
    local value
    if type(wanted) == "string" then value = self:shows(wanted) else value = wanted(self) end
    if value then return value end
    if task.now() >= deadline then
      local what = type(wanted) == "string" and ("'%s'"):format(wanted) or "what was waited for"
      error(errors.new("ETIMEDOUT", what .. " did not come; the screen:\n" .. self.screen:text()), 0)
    end
    self.changed:wait(math.min(LOOK_MS, deadline - task.now()))
  end
end

--- What the composer holds: its rows between the two rules, joined by line feeds, without the prompt.
---@return string? text  nil when no composer is up
---@return string? prompt  `"❯"`, or `"!"` in shell mode
function Terminal:composer()
  local rows = self.screen:rows()
  local last
  for index = #rows, 1, -1 do
    if rows[index]:find(RULE) then
      if last then
        local prompt, text = (rows[index + 1] or ""):match "^(%S-)\u{A0}(.*)$"
        if not prompt then return nil end
        local lines = { (text:gsub("%s+$", "")) }
        for row = index + 2, last - 1 do table.insert(lines, (rows[row]:gsub("^  ", ""))) end
        return table.concat(lines, "\n"), prompt
      end
      last = index
    end
  end
end

--- Waits for the program's end.
---@param timeout_ms? number
---@return parley.ExitRecord
function Terminal:exit(timeout_ms)
  return self:wait_for(function() return self.pty:poll_exit() end, timeout_ms)
end

---@param name string  `"SIGTERM"`
function Terminal:signal(name) self.pty:signal(name) end

--- Closes the terminal, and kills the program if it still runs.
function Terminal:close()
  if self.child_signal:is_closing() then return end
  if not self.pipe:is_closing() then self.pipe:close() end
  self.pty:close()
  task.shield(function()
    while not self.pty:poll_exit() do self.changed:wait() end
  end)
  self.child_signal:close()
end

--- Hangs up without killing: what the program sees when its terminal's owner is gone.
function Terminal:hang_up()
  if not self.pipe:is_closing() then self.pipe:close() end
  self.pty:hang_up()
  self.is_ended = true
end

Terminal.__close = Terminal.close

return M
