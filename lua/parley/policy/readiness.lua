--- Whether the program takes a message now.
---
--- To replace it, return a table with `state`. It is called at every change of the screen or the status file and must
--- not wait. See `parley.View` for what it is given.
local contract = require "parley.policy.contract"
local tui = require "parley.claude.tui"
local versions = require "parley.claude.version"

local M = {}

M.contract = { state = contract.one_of { "starting", "ready", "busy", "dialog" } }

---@class parley.View       what can be seen of a session
---@field rows string[]     the screen, top to bottom, trailing blanks cut
---@field cursor {row: integer, column: integer, visible: boolean}
---@field columns integer  of the screen
---@field modes {bracketed_paste: boolean, alternate_screen: boolean}
---@field title string      of the terminal; empty where the user has the program set none
---@field status? table     the status file (2.1.110 and later; `status` in it from 2.1.119 on)
---@field version? string   of the program, as far as it has shown
---@field elapsed_ms number since the process was started
---@field has_started boolean  it was ready once: start-up dialogs come before that, those of tools after it
---@field has_editor boolean  the program's editor is a way to its composer, as far as was seen
---@field editor_problem? string  why it is none, where it could not be made: a full disk, perhaps
---@field is_command? boolean   one of the program's own commands runs, or is about to
---@field is_before_message? boolean  no message or command of ours has been sent that was not answered

--- Whether there is a composer that takes keys, as far as a message of ours is to come: a search that a person has left
--- there is no matter while a turn runs.
local function has_composer(view)
  local composer = tui.composer(view.rows, view.cursor)
  return composer ~= nil and not (view.is_before_message and tui.is_search(view.rows, composer))
end

local function on_screen(view)
  if has_composer(view) then
    return tui.is_busy(view.rows, view.title) and "busy" or "ready"
  end
  return (tui.choices(view.rows) or tui.has_dialog_footer(view.rows)) and "dialog" or "starting"
end

--- Says what the program is doing.
---
--- The status file is believed first. It says `idle` exactly when keys are taken (`shell` while a command runs on in
--- the background), and never while a dialog is up, but for the offer at the start, of which 2.1.197 does not tell,
--- and 2.1.332 late, at both its ends; 2.1.141 says `busy` while one is up, and so does 2.1.197 of a server's form; of
--- a host that its sandbox asks for 2.1.197 tells neither in a turn nor between two: there the screen decides. A file
--- without a status, of a version that has one (2.1.119 and later), will have it in a moment. Without either, the
--- screen decides: a composer, and neither the title nor a spinner that says that a turn runs.
---@param view parley.View
---@return "starting"|"ready"|"busy"|"dialog"
function M.state(view)
  local status = view.status
  if status and status.status == "busy" then
    local is_untold = not versions.tells_dialogs(status.version) and tui.shows_dialog(view.rows)
    local asks = is_untold or tui.shows_elicitation(view.rows) or tui.asks_for_host(view.rows)
    return asks and "dialog" or "busy"
  end
  if status and status.status == "waiting" then
    return not view.has_started and has_composer(view) and "starting" or "dialog"
  end
  if status and (status.status == "idle" or status.status == "shell") then
    if has_composer(view) then return "ready" end
    local is_offered = not view.has_started and tui.has_dialog_footer(view.rows) and tui.choices(view.rows)
    if is_offered or tui.asks_for_host(view.rows) then return "dialog" end
    return "starting" -- choices alone may be those of a conversation that is drawn again
  end
  local seen = on_screen(view)
  if status and versions.has_status(status.version) and seen ~= "dialog" then return "starting" end
  return seen
end

return M
