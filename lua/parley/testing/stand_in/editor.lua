--- Ctrl-G: the user's editor on what the composer holds. While it runs, the program does nothing else.
local uv = require "luv"
local core = require "parley.core"
local task = require "parley.base.task"
local configuration = require "parley.testing.stand_in.configuration"

local M = {}

--- What the key does unless it is bound to something else.
local ACTION = "chat:externalEditor"

local function editor_of(environment)
  for _, name in ipairs { "VISUAL", "EDITOR" } do
    local value = (environment[name] or ""):match "^%s*(.-)%s*$"
    if value ~= "" then return value end
  end
end

--- Cut at every space; quotes are nothing special.
local function words_of(editor, path)
  local words = {}
  for word in (editor .. " "):gmatch "(.-) " do table.insert(words, word) end
  table.insert(words, path)
  return words
end

--- Runs it on the program's own terminal.
---@return string? problem
local function run(words)
  local status, signal = task.suspend(function(wake)
    local handle, problem
    handle, problem = uv.spawn(words[1], { args = { table.unpack(words, 2) }, stdio = { 0, 1, 2 } },
      function(...)
        handle:close()
        wake(...)
      end)
    if not handle then wake(nil, problem) end
  end)
  if not status then return ("Couldn't open %s — %s"):format(words[1], signal) end
  if status ~= 0 then return ("%s quit unexpectedly (exit code %d)"):format(words[1], status) end
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "a"
  if file then file:close() end
  return text
end

--- Runs the user's editor, and takes into the composer what it leaves in the file.
---@param program parley.testing.Program
function M.open(program)
  local editor, composer = editor_of(program.environment), program.composer
  local binding = program.configuration:binding "ctrl+g"
  if not editor or binding ~= nil and binding ~= ACTION then return end
  if (program.faults.lose_editor or 0) > 0 then
    program.faults.lose_editor = program.faults.lose_editor - 1
    return
  end
  local folder = ("%s/claude-%d"):format(uv.os_tmpdir(), uv.getuid())
  local path = ("%s/claude-prompt-%s.md"):format(folder, core.uuid.generate())
  configuration.make_folders(folder)
  write(path, composer:held())
  if not program.has_opened_editor then task.sleep(program.profile.first_editor_ms) end
  program.has_opened_editor = true
  program.input:stop()
  local problem = run(words_of(editor, path))
  local text = not problem and read(path)
  os.remove(path)
  program.input:start()
  composer.notice = problem
  if text then composer:replace(text) end
  program.screen.shown = {} -- whatever the editor has drawn
end

return M
