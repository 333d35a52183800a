--- What keys do, once they are decoded: to a dialog, to the composer, to the turn that runs.
local errors = require "parley.base.errors"
local task = require "parley.base.task"
local agents = require "parley.testing.stand_in.agents"
local commands = require "parley.testing.stand_in.commands"
local dialogs = require "parley.testing.stand_in.dialogs"
local editor = require "parley.testing.stand_in.editor"
local keys = require "parley.testing.stand_in.keys"

local M = {}

--- A lone Escape is a key once nothing has followed it for so long.
local ESCAPE_MS = 25
--- Two presses within so long mean more than one.
local DOUBLE_PRESS_MS = 800
--- A read of more plain bytes counts as a paste.
local PASTE_BYTES = 800
--- How the program ends when the terminal's other end is closed: as after SIGHUP, which comes with it.
local HANGUP_STATUS = 129

--- Whether a key is pressed for the second time in a row, soon after the first.
local function is_second_press(program, name)
  local last = program.last_press
  program.last_press = { name = name, at = task.now() }
  return last ~= nil and last.name == name and task.now() - last.at < DOUBLE_PRESS_MS
end

local function interrupt(program)
  if program.turn and program.turn.is_hung then return end
  program.turn_task:cancel(errors.cancelled(program.INTERRUPT))
end

--- Keys in vim's NORMAL mode, as far as they matter here: those that begin to insert, and nothing else.
local function press_in_normal(program, text)
  local key, rest = text:match "^[^iaIA]*([iaIA])(.*)$"
  if not key then return end
  program.view.mode = "insert"
  if key == "I" then program.composer:edit "home" elseif key ~= "i" then program.composer:edit "right" end
  if rest ~= "" then program.composer:type(rest) end
end

local function press_escape(program)
  local composer, binding = program.composer, program.configuration:binding "escape"
  if binding ~= nil and binding ~= "chat:cancel" and not composer:popup() then return end
  if program.view.mode == "insert" and not composer:popup() then program.view.mode = "normal" end
  if composer:popup() then
    composer:close_popup()
  elseif program.turn_task then
    interrupt(program)
  elseif composer:is_empty() then
    if is_second_press(program, "escape") and program.turn_count > 0 then
      program:open_dialog(dialogs.custom { title = "Rewind", choices = { "(current)" }, footer = "Esc to exit" })
    end
  elseif is_second_press(program, "escape") and not composer.is_shell then
    composer:clear()
  else
    program.view.hint = "Esc again to clear"
  end
end

local function press_to_leave(program, name)
  local composer = program.composer
  if name == "ctrl-d" and not composer:is_empty() then
    composer:edit "delete"
  elseif name == "ctrl-c" and program.turn_task then
    interrupt(program)
  elseif is_second_press(program, name) then
    program:exit(0, { reason = "prompt_input_exit" })
  else
    if not composer.is_shell then composer:clear() end
    program.view.hint = ("Press Ctrl-%s again to exit"):format(name:sub(-1):upper())
  end
end

local function press_return(program)
  if (program.faults.lose_returns or 0) > 0 then
    program.faults.lose_returns = program.faults.lose_returns - 1
    return
  end
  if program.configuration:binding "enter" == "chat:newline" then return program.composer:edit "newline" end
  if program.faults.list_at_return and program.composer.list_is_late then program.composer:show_list() end
  local taken = program.composer:submit()
  if not taken then return end
  local kind, name, arguments = commands.classify(taken, program.profile)
  program:submit { kind = kind, text = taken.text, name = name, arguments = arguments }
end

--- Opens the transcript's view, of which no status tells.
local function open_transcript(program) program.view.dialog = dialogs.transcript(program.profile) end

local function press_in_transcript(program, key)
  if key.name ~= "escape" and key.name ~= "ctrl-o" then return end
  program.view.dialog = nil
  program.answered:notify() -- whoever waits to ask something
end

local function answer_dialog(program, dialog, key)
  local is_answered, answer = dialogs.key(dialog, key)
  if is_answered then program:close_dialog(answer) end
end

--- Sends what is queued now (Ctrl+X Ctrl+S): the request that runs is given up for one that has both.
local function send_now(program)
  local entry, current = program.queue[1], program.turn
  local may_be = program.profile.sends_queued_now and entry and entry.is_announced and current
  if not may_be or current:has_begun_to_answer() then return end
  program.turn_task:cancel(errors.cancelled(program.SEND_NOW))
end

local function press(program, key)
  local faults, composer = program.faults, program.composer
  program.view.hint = nil
  local is_chord = program.has_chord
  program.has_chord = key.name == "ctrl-x"
  if key.name == "return" and faults.dialog_at_return and program.takes_keys and not program.view.dialog then
    faults.dialog_at_return = nil
    program:open_dialog(dialogs.surprise())
  end
  if program.view.dialog and program.view.dialog.kind == "transcript" then
    press_in_transcript(program, key)
  elseif program.view.dialog then
    answer_dialog(program, program.view.dialog, key)
  elseif not program.takes_keys then
    return
  elseif (faults.lose_keys or 0) > 0 then
    faults.lose_keys = faults.lose_keys - 1
  elseif key.kind == "paste" then
    composer:paste(key.text)
  elseif key.kind == "text" and program.view.mode == "normal" then
    press_in_normal(program, key.text)
  elseif key.kind == "text" then
    composer:type(key.text)
  elseif key.name == "return" then
    press_return(program)
  elseif key.name == "escape" then
    press_escape(program)
  elseif key.name == "ctrl-c" or key.name == "ctrl-d" then
    press_to_leave(program, key.name)
  elseif key.name == "ctrl-g" then
    editor.open(program)
  elseif key.name == "ctrl-s" and is_chord then
    send_now(program)
  elseif key.name == "ctrl-k" and is_chord then
    if is_second_press(program, "ctrl-x ctrl-k") then agents.kill(program) end
  elseif key.name == "ctrl-o" then
    open_transcript(program)
  elseif program.view.mode ~= "normal" then
    composer:edit(key.name, key.is_alone)
  end
end

--- Draws, and draws again once a paste has settled.
local function redraw(program)
  program:redraw()
  if program.composer:milliseconds_to_settle() <= 0 then return end
  task.spawn(function()
    local rest = program.composer:milliseconds_to_settle()
    while rest > 0 do
      task.sleep(rest)
      rest = program.composer:milliseconds_to_settle()
    end
    program:redraw()
  end)
end

--- Reads keys for as long as the program lives.
---@param program parley.testing.Program
function M.read(program)
  local decoder = keys.new()
  while true do
    local bytes = program.input:take(decoder:is_waiting() and ESCAPE_MS or nil)
    if bytes then
      program.log:received(bytes)
    elseif program.input.is_closed then
      program:exit(HANGUP_STATUS)
    end
    local is_long_write = bytes and #bytes > PASTE_BYTES and keys.is_text(bytes)
    if is_long_write and program.takes_keys and not program.view.dialog and not decoder.pasting then
      program.composer:type(bytes)
    else
      local pressed = bytes and decoder:feed(bytes) or decoder:flush()
      for _, key in ipairs(pressed) do
        key.is_alone = #pressed == 1
        press(program, key)
      end
    end
    redraw(program)
  end
end

return M
