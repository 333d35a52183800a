--- Messages from a terminal, with line editing and history: libedit edits (`parley.core.line`), this file reads the
--- keys on the loop, so that everything else goes on while somebody types.
---
--- The terminal is in raw mode from `open` to `close`, during answers too: what is typed then waits for the next
--- `read`, and Ctrl-C is a key like any other.
local uv = require "luv"
local clock = require "parley.base.clock"
local completer = require "parley.command.chat.completer"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local keys = require "parley.command.chat.keys"
local lines = require "parley.command.chat.lines"
local paint = require "parley.command.paint"
local stdin = require "parley.command.stdin"
local task = require "parley.base.task"

local M = {}

local PASTE_MARKS_ON, PASTE_MARKS_OFF = "\27[?2004h", "\27[?2004l"
--- A lone ESC is one when nothing has followed for so long.
local ESCAPE_MS = 50
--- A longer text is shown by a name: a line editor cannot paint what is higher than the screen.
local MOST_LINES, MOST_BYTES = 5, 800
--- Its spaces are such as nobody types: what is typed is no such name.
local NAME = ("[text %d: %d lines, %d characters]"):gsub(" ", "\u{A0}")
local NAMES = NAME:gsub("[%[%]]", "%%%0"):gsub("%%d", "%%d+")
local MOST_REMEMBERED = 1000
--- Of what a word may become, so many are shown.
local MOST_CANDIDATES = 100

---@class parley.Editor
---@field has_history true  Up brings back what was remembered
---@field package line parley.Line
local Editor = { has_history = true }
Editor.__index = Editor

local function write(...)
  io.stdout:write(...)
  io.stdout:flush()
end

-- Long texts ----------------------------------------------------------------------------------------------------------

--- What stands in the line for a text: itself, or a name when it is long, or holds what looks like one.
local function fold(self, text)
  local _, breaks = text:gsub("\n", "")
  if breaks < MOST_LINES and #text <= MOST_BYTES and not text:find(NAMES) then return text end
  for name, known in pairs(self.folded) do
    if known == text then return name end
  end
  self.folds = self.folds + 1
  local name = NAME:format(self.folds, breaks + 1, utf8.len(text) or #text)
  self.folded[name] = text
  return name
end

local function unfold(self, text) return (text:gsub(NAMES, self.folded)) end

-- History -------------------------------------------------------------------------------------------------------------

--- One JSON string a line; appended to, so that two conversations at a time lose nothing.
local function load_history(self)
  local text = self.history_path and files.read(self.history_path)
  local entries = {}
  for line in (text or ""):gmatch "[^\n]+" do
    local entry = core.json.decode(line)
    if type(entry) == "string" and not entry:find "%z" then table.insert(entries, line) end
  end
  local first = math.max(1, #entries - MOST_REMEMBERED + 1)
  if first > MOST_REMEMBERED then
    local path = uv.fs_realpath(self.history_path) or self.history_path
    pcall(files.write, path, table.concat(entries, "\n", first) .. "\n")
  end
  for i = first, #entries do self.line:remember(fold(self, core.json.decode(entries[i]))) end
end

--- Puts a message into the history.
---@param text string
function Editor:remember(text)
  self.line:remember(fold(self, text))
  local line = self.history_path and core.json.encode(text)
  if not line or not files.make_folder(self.history_path:match "^(.*)/") then return end
  local descriptor = uv.fs_open(self.history_path, "a+", 384)
  if not descriptor then return end -- a history that cannot be kept is no reason to stop
  local size = uv.fs_fstat(descriptor).size
  local is_torn = size > 0 and uv.fs_read(descriptor, 1, size - 1) ~= "\n" -- its last line, by a death or a full disk
  uv.fs_write(descriptor, (is_torn and "\n" or "") .. line .. "\n", -1)
  uv.fs_close(descriptor)
end

-- Keys ----------------------------------------------------------------------------------------------------------------

local function finish(self, text, why)
  self.line:act "end"
  write "\n"
  self.is_reading = false
  self.answer = { text, why }
  self.changed:notify()
end

local handlers = {}

function handlers.text(self, key) self.line:insert(key.text) end

function handlers.paste(self, key)
  self.line:insert(fold(self, key.text))
  if not key.replaced then return end
  self:beside(function()
    write(("%d of the pasted characters cannot be sent: U+FFFD stands for each\n"):format(key.replaced))
  end)
end

function handlers.newline(self) self.line:insert "\n" end

function handlers.submit(self)
  local text, cursor = self.line:text()
  if self.is_typed and cursor == #text and lines.goes_on(text) then
    self.line:act "erase"
    self.line:insert "\n"
  else
    finish(self, unfold(self, text))
  end
end

--- Candidates in as few rows as the terminal has room for; of paths their last parts.
local function in_columns(candidates, columns)
  local names, widest = {}, 0
  for i = 1, math.min(#candidates, MOST_CANDIDATES) do
    names[i] = paint.plain(candidates[i]:match "([^/]*/?)$")
    widest = math.max(widest, utf8.len(names[i]) or #names[i])
  end
  local per_row = math.max(1, columns // (widest + 2))
  local rows = {}
  for i, name in ipairs(names) do
    local row = (i - 1) // per_row + 1
    rows[row] = (rows[row] or "") .. name .. (" "):rep(widest + 2 - (utf8.len(name) or #name))
  end
  for i, row in ipairs(rows) do rows[i] = row:gsub(" +$", "") end
  if #candidates > #names then table.insert(rows, ("… and %d more"):format(#candidates - #names)) end
  return table.concat(rows, "\n") .. "\n"
end

--- Completes the word before the cursor as far as that is decided; a second time shows what it may become.
function handlers.complete(self)
  local text, cursor = self.line:text()
  local word, candidates = self.complete(text:sub(1, cursor))
  if not candidates[1] then return end
  local only = #candidates == 1 and not candidates[1]:find "/$" and cursor == #text and candidates[1] .. " "
  local more = (only or completer.common(candidates)):sub(#word + 1)
  if more ~= "" then
    self.line:insert(more)
  elseif #candidates > 1 then
    self:beside(function() write(in_columns(candidates, self:columns())) end)
  end
end

function handlers.up(self)
  local text, cursor = self.line:text()
  self.line:act(text:sub(1, cursor):find("\n", 1, true) and "line_up" or "history_back")
end

function handlers.down(self)
  local text, cursor = self.line:text()
  self.line:act(text:find("\n", cursor + 1, true) and "line_down" or "history_forward")
end

function handlers.end_of_input(self)
  if self.line:text() == "" then finish(self, nil, "end") else self.line:act "delete" end
end

function handlers.interrupt(self)
  if self.line:text() == "" then return finish(self, nil, "interrupt") end
  self.line:act "end"
  write "\n"
  self.line:begin(self.prompt)
end

function handlers.suspend(self) self:suspend() end

--- Keys that bring in what was not typed: a backslash at its end is text.
local BRINGING = { paste = true, complete = true, up = true, down = true, search_back = true, search_forward = true,
  yank = true }

local function press(self, key)
  if key.name == "text" or BRINGING[key.name] then self.is_typed = key.name == "text" end
  local handler = handlers[key.name]
  if handler then handler(self, key) else self.line:act(key.name) end
end

local function on_key(self, key)
  if self.is_lent then return end
  if key.name == "interrupt" then
    self.waiting = {} -- what was typed ahead is withdrawn, too
    if self.is_reading then return press(self, key) end
    self.interrupts = self.interrupts + 1
    self.changed:notify()
  elseif key.name == "suspend" then
    self:suspend()
  elseif self.is_reading then
    press(self, key)
  else
    table.insert(self.waiting, key)
  end
end

local function on_bytes(self, bytes)
  if not bytes then -- the terminal is gone
    self.is_over = true
    return self.changed:notify()
  end
  self.decoder:feed(bytes)
  if self.escape then self.escape:close() end
  self.escape = self.decoder:is_in_doubt() and clock.after(ESCAPE_MS, function() self.decoder:settle() end) or nil
end

-- The terminal --------------------------------------------------------------------------------------------------------

local function take_terminal(self)
  self.line:set_raw(true)
  write(PASTE_MARKS_ON)
  if self.is_reading then self.line:show() end
end

local function give_terminal(self)
  if self.is_reading then self.line:hide() end
  write(PASTE_MARKS_OFF)
  self.line:set_raw(false)
end

--- Lets another program have the terminal while a function runs.
---@param runs fun()
function Editor:lend(runs)
  give_terminal(self)
  self.stdin:pause()
  self.is_lent = true
  local _ <close> = defer(function()
    self.is_lent = false
    self.stdin:resume()
    take_terminal(self)
  end)
  runs()
end

--- Gives the terminal back and stops this process, as Ctrl-Z does; SIGCONT takes it again.
function Editor:suspend()
  if not self.is_lent then give_terminal(self) end
  uv.kill(uv.os_getpid(), "sigstop")
end

local function on_resize(self)
  if self.is_reading then
    self.line:hide()
    self.line:show()
  end
end

local function watch_signals(self)
  local main = task.current()
  local reactions = {
    sigwinch = function() on_resize(self) end,
    sigcont = function()
      if not self.is_lent then take_terminal(self) end
    end,
    sigtstp = function() self:suspend() end,
    sigint = function() on_key(self, { name = "interrupt" }) end,
    -- The default would end the process and leave the terminal raw.
    sigquit = function() main:cancel(errors.cancelled("interrupted by signal 3", { signal = 3 })) end,
  }
  for name, react in pairs(reactions) do
    local handle = uv.new_signal()
    handle:start(name, react)
    table.insert(self.handles, handle)
  end
end

--- Takes over the terminal.
---@param options? {history_path?: string, complete?: fun(text: string): string, string[]}  where the history is kept,
---       default: nowhere; what Tab makes of the text before the cursor, as of `parley.command.chat.completer`
---@return parley.Editor  a `<close>` variable
--- Raises an error with code `ENOTTY` when standard input or output is no terminal.
function M.open(options)
  local line, problem = core.line.open()
  if not line then error(problem, 0) end
  local self = setmetatable({ line = line, changed = task.condition(), interrupts = 0, waiting = {}, handles = {},
    folded = {}, folds = 0, history_path = options and options.history_path,
    complete = options and options.complete or function() return "", {} end }, Editor)
  self.decoder = keys.new(function(key) on_key(self, key) end)
  self.stdin = stdin.open(function(bytes) on_bytes(self, bytes) end)
  watch_signals(self)
  load_history(self)
  write(PASTE_MARKS_ON)
  return self
end

--- Reads a message.
---@param prompt string  plain text, or with what takes no room between two \1
---@param options? {afresh?: boolean}  what was typed before answers nothing: it waits for a read without that
---@return string? text
---@return "end"|"interrupt"? why  when there is none: Ctrl-D or a closed terminal, Ctrl-C on an empty line
function Editor:read(prompt, options)
  local is_afresh = options and options.afresh
  if is_afresh then task.sleep(0) end -- the loop looks once for what has come by now
  if self.interrupts > 0 then -- pressed when nobody was there to take it
    self.interrupts = self.interrupts - 1
    return nil, "interrupt"
  end
  self.prompt, self.answer, self.is_reading = prompt, nil, true
  local _ <close> = defer(function() -- when it is cancelled, too
    if self.is_reading and not self.is_closed then finish(self) end
  end)
  self.line:begin(prompt)
  while not is_afresh and self.is_reading and self.waiting[1] do press(self, table.remove(self.waiting, 1)) end
  while not self.answer do
    if self.is_over then return nil, "end" end
    self.changed:wait()
  end
  return self.answer[1], self.answer[2]
end

--- Waits until Ctrl-C is pressed while nothing is read.
function Editor:wait_for_interrupt()
  while self.interrupts == 0 do self.changed:wait() end
  self.interrupts = self.interrupts - 1
end

--- Runs a function that writes, with the line out of its way.
---@param writes fun()
function Editor:beside(writes)
  if not self.is_reading then return writes() end
  self.line:hide()
  writes()
  self.line:show()
end

---@return integer
function Editor:columns() return self.stdin:columns() end

--- Puts the terminal back as it was found. A second call does nothing.
function Editor:close()
  if self.is_closed then return end
  self.is_closed = true
  write(self.is_reading and "\n" or "", PASTE_MARKS_OFF)
  self.line:close()
  self.stdin:close()
  if self.escape then self.escape:close() end
  for _, handle in ipairs(self.handles) do
    if not handle:is_closing() then handle:close() end
  end
end

Editor.__close = Editor.close

return M
