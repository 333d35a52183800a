--- Ctrl-G: the user's editor on what the composer holds. While it runs, the program does nothing else, and a notice
--- stands in the composer's place until the whole conversation has been drawn anew (2.1.110 to 2.1.332).
local core = require "parley.core"
local files = require "parley.base.files"
local task = require "parley.base.task"

local M = {}

--- What the key does unless it is bound to something else.
local ACTION = "chat:externalEditor"

--- Variables that the settings have count before those of the environment.
local function editor_of(environment, settings)
  for _, name in ipairs { "VISUAL", "EDITOR" } do
    local value = (settings[name] or environment[name] or ""):match "^%s*(.-)%s*$"
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

--- What the program says of an editor that did not end well.
local function problem_of(name, status, problem)
  if not status then return ("Couldn't open %s — %s"):format(name, problem) end
  if status ~= 0 then return ("%s quit unexpectedly (exit code %d)"):format(name, status) end
end

--- Runs the user's editor, and takes into the composer what it leaves in the file.
---@param program parley.testing.Program
function M.open(program)
  local composer, settings = program.composer, program.configuration:setting "env" or {}
  local editor = editor_of(program.outside.environment, settings)
  local binding = program.configuration:binding "ctrl+g"
  if not editor or binding ~= nil and binding ~= ACTION then return end
  if (program.faults.lose_editor or 0) > 0 then
    program.faults.lose_editor = program.faults.lose_editor - 1
    return
  end
  local outside = program.outside
  local folder = ("%s/claude-%d"):format(outside.environment.TMPDIR or "/tmp", outside.user) -- the real one's: in /tmp
  local path = ("%s/claude-prompt-%s.md"):format(folder, core.uuid.generate())
  files.make_folder(folder)
  if not files.put(path, composer:held(), "wx") then return end
  if not program.has_opened_editor then task.sleep(program.profile.first_editor_ms) end
  program.has_opened_editor = true
  program.input:stop()
  program.view.is_editing = true
  program:redraw()
  local words = words_of(editor, path)
  local problem = problem_of(words[1], outside.edit(words))
  local text = not problem and files.read(path)
  files.remove(path)
  if program.faults.late_redraw_ms then task.sleep(program.faults.late_redraw_ms) end
  program.view.is_editing = nil
  program.input:start()
  composer.notice = problem
  if text then composer:replace(text) end
  program.screen:forget() -- whatever the editor has drawn
end

return M
