--- A program on a terminal, for specs: what a person would see, and what a person would type.
local assert = require "luassert"
local uv = require "luv"
local core = require "parley.core"
local helper = require "spec.helper"
local task = require "parley.base.task"

local M = {}

local PATIENCE_MS = 20000

---@class spec.Terminal
---@field screen parley.Screen
---@field raw string      every byte that the program wrote
---@field exit? table
local Terminal = {}
Terminal.__index = Terminal

--- Starts a program on a terminal of its own.
---@param argv string[]
---@param options? {env?: string[], cwd?: string, rows?: integer, columns?: integer}
---@return spec.Terminal  a `<close>` variable
function M.open(argv, options)
  options = options or {}
  local rows, columns = options.rows or 24, options.columns or 80
  local self = setmetatable({ raw = "", screen = core.screen.new(rows, columns) }, Terminal)
  self.pty = assert(core.pty.spawn {
    argv = argv, env = options.env, cwd = options.cwd, rows = rows, columns = columns,
  })
  self.pipe = uv.new_pipe(false)
  assert(self.pipe:open(self.pty:duplicate()))
  self.pipe:read_start(function(_, bytes)
    if not bytes then
      self.pipe:close()
      bytes = self.pty:read() -- libuv takes the hang-up for the end, and leaves what is still there
      if not bytes then return end
    end
    self.raw = self.raw .. bytes
    self.screen:feed(bytes)
    if self.pipe:is_closing() then return end
    local replies = self.screen:replies()
    if replies ~= "" then self.pipe:write(replies) end
  end)
  return self
end

---@param bytes string
function Terminal:type(bytes) self.pipe:write(bytes) end

---@param rows integer
---@param columns integer
function Terminal:resize(rows, columns)
  self.screen:resize(rows, columns)
  assert(self.pty:resize(rows, columns))
end

--- Waits until the screen shows a text.
---@param text string  plain
function Terminal:expect(text)
  local ok, err = pcall(helper.eventually, function() return self.screen:text():find(text, 1, true) end, PATIENCE_MS,
    ("%q on the screen"):format(text))
  if not ok then error(("%s; it shows:\n%s"):format(tostring(err), self.screen:text()), 2) end
end

--- Waits until the screen is this, rows joined by line feeds.
---@param text string
function Terminal:expect_screen(text)
  local ok = pcall(helper.eventually, function() return self.screen:text() == text end, PATIENCE_MS)
  if not ok then assert.equal(text, self.screen:text()) end
end

--- Waits until the program ends.
---@return table record  `exit_code` or `signal`
function Terminal:wait()
  return helper.eventually(function() return self.pty:poll_exit() end, PATIENCE_MS, "the program's end")
end

function Terminal:close()
  if not self.pipe:is_closing() then self.pipe:close() end
  self.pty:close()
  task.shield(self.wait, self)
  self.screen:close()
end

Terminal.__close = Terminal.close

return M
