--- Mechanisms that are taken out one at a time, for `make mutations`: of each the file, the text that stands there
--- once, what comes in its place, and why it cannot be found where that is so.
local files = require "parley.base.files"

local M = {}

local function add(what, file, old, new, unseen)
  table.insert(M, { what = what, file = "lua/parley/" .. file .. ".lua", old = old, new = new, unseen = unseen })
end

--- A file's text with a mechanism taken out.
---@param mutation table
---@return string changed
--- Raises when what is to be changed does not stand there exactly once.
function M.apply(mutation)
  local text = assert(files.read(mutation.file))
  local from, to = text:find(mutation.old, 1, true)
  if not from or text:find(mutation.old, to + 1, true) then
    error(("'%s': the text stands in %s not once"):format(mutation.what, mutation.file), 0)
  end
  return text:sub(1, from - 1) .. mutation.new .. text:sub(to + 1)
end

-- Delivery ------------------------------------------------------------------------------------------------------------

add("looks at the composer before Enter again", "session/course",
  "if self.typist:still_holds(self.turn.text, self.entered) and self.typist:close_popup() then", "if true then")
add("presses Enter again", "session/course",
  "if self.typist:still_holds(self.turn.text, self.entered) and self.typist:close_popup() then", "if false then")
add("looks again before Enter, behind a paste", "session/typist",
  "if not wait_for_composer(self, LOST_MS, is_whole) then return false end\n    end",
  "end")
add("types again what was lost", "session/typist", "local ATTEMPTS = 4", "local ATTEMPTS = 1")
add("waits until the composer holds the text", "session/typist",
  "if not wait_for_composer(self, patience_for(step.holds), is_whole, redraw_ms) then return false end",
  "rest(self, 10)")
add("waits for what is drawn anew", "session/typist", "local redraw_ms = step.editor and REDRAW_MS or nil",
  "local redraw_ms = nil")
add("clears the composer", "session/typist", "    clear(self)\n    if terminal:is_interrupted() then return false end",
  "    if terminal:is_interrupted() then return false end")
add("types a mark behind keys that may be lost", "session/typist",
  "if self.keys_may_follow then catch_up(self, text) end", "")
add("erases the marks behind a text", "session/typist", 'if seen == "taken" then erase_marks(self, text) end', "")
add("types no mark where there is no composer", "session/typist",
  "if composer_of(self.terminal:view()) then self.terminal:press(TO_INSERT .. mark) end",
  "self.terminal:press(TO_INSERT .. mark)")
add("waits until the program is ready", "session/typist",
  "    if not terminal:wait_until_ready() then return false end\n    local steps", "    local steps",
  "the course has waited before the first attempt, and whoever waits for the composer minds a dialog")
add("brings a dialog to its policy while it types", "session/typist",
  'if terminal:state() == "dialog" then\n      last_deadline = last_deadline + attend(self)\n',
  'if false then\n')
add("keeps a message's end from Enter", "policy/delivery", 'local rest = text .. " "', "local rest = text")
add("refuses what would be a command", "policy/delivery", 'local name = without_leading_space(text):match "^/',
  'local name = ("x"):match "^/')
add("compares the receipt with the message", "session/receipt",
  "if is_late or turn.queued or claude_event.kind(event) ~= \"typed\" then return false end",
  "do return true end")
add("takes back keys that did not go", "claude/outbox", "        table.remove(self.queue, i)\n", "")
add("ends a paste that is cut off", "claude/outbox",
  'return bytes:sub(gone + 1, last) .. (is_open and END_PASTE or "")',
  "return bytes:sub(gone + 1, last)")
add("waits for room in the terminal", "claude/outbox", "  if not self.queue[1] then\n    if is_watched",
  "  if true then\n    if is_watched")
add("withdraws what the editor was offered", "session/typist",
  "local _ <close> = defer(function() door:withdraw() end)", "")

-- Settling ------------------------------------------------------------------------------------------------------------

add("is patient where no record says that all is there", "policy/settling",
  "if missing > 0 then return nil, missing end", "")
add("waits for the rest of a line", "session/course",
  "if waits and self.terminal.process:is_alive() then", "if false then")
add("waits for it only so long", "session/course",
  "local waits = facts.certainty ~= \"certain\" and now < line_due and",
  "local waits = facts.certainty ~= \"certain\" and")
add("waits for the result of a call", "policy/settling",
  "if (facts.open_tools or 0) > 0 and not facts.stopped then return TOOLS_MS end", "")
add("knows an answer that is missing", "policy/settling",
  "if (facts.assistant_blocks == 0 or is_cut_off) and not facts.is_command then return \"error_no_output\" end", "")
add("follows the chain of records", "session/turn", "if parent and self.chain[parent] then", "if parent then")
add("leaves what comes behind the end to the next turn", "session/transcript",
  "if turn:is_certain() then return true, true end", "")
add("reads what came before, first", "session/course",
  "  self.transcript:read(turn) -- what came after the last verdict is no part of this turn\n", "",
  "what comes late of a message that was interrupted is known by its time; deadlines_spec fails")
add("looks again at the status file", "session/terminal", "  if self.status_file then self.status_file:read() end\n",
  "")
add("looks again at all, though nothing was told", "session/terminal",
  "self.guard.deadline(), clock.now() + LOOK_AGAIN_MS)", "self.guard.deadline())")
add("tells of what is said before it is whole", "session/partials",
  'if type(id) ~= "string" or not index or type(delta) ~= "string" then return end', "do return end")
add("gives up a receipt that does not come", "session/deadlines",
  'if facts.state ~= "submitted" or facts.is_command or facts.queued then return math.huge end',
  "do return math.huge end")
add("ends a turn that takes too long", "session/course",
  "if clock.now() < self.deadline then return end", "do return end")

-- Dialogs -------------------------------------------------------------------------------------------------------------

add("takes a screen without a composer for no ready one", "policy/readiness",
  'if has_composer(view) then return "ready" end', 'do return "ready" end',
  "whoever types waits ten seconds for the composer all the same, and no simulated program starts so slowly")
add("believes the status file", "policy/readiness",
  'if status and status.status == "waiting" then', "if false then",
  "the screen shows each of the simulated dialogs, and beside that status nothing is ready")
add("brings a dialog to its policy in a turn", "session/course",
  "if not is_waited_for then self.deadlines:spare(self.terminal:attend()) end", "")
add("waits for the call that a dialog is about", "session/course",
  "local is_waited_for = not facts.is_command and now < due and not self.dialogs:has_call(calls)",
  "local is_waited_for = false", "the plans' policy decides without the call")
add("reads a dialog that has come to rest", "session/dialog", "local STILL_MS = 350", "local STILL_MS = 0",
  "the simulated dialogs are drawn in one write and take keys at once")
add("answers a dialog that the caller accepts", "policy/dialogs", "in ipairs(accept) do", "in ipairs {} do")
add("answers no dialog without consent", "policy/dialogs", "return { fail = dialog.remedy or UNKNOWN.remedy }",
  "return { choose = 1 }")
add("does not take an answered dialog for a new one", "session/dialog",
  "text == self.answered or dialog.kind", "dialog.kind",
  "it is answered again only behind a pointer that has moved, which does no harm")
add("answers again only behind a pointer that has moved", "session/dialog",
  "if is_again and not may_repeat(self, dialog, choice, calls) then return false end", "is_again = false")

-- Cancel and interrupt ------------------------------------------------------------------------------------------------

add("interrupts", "session/init", 'if not state or state == "ended" then return false end', "do return false end")
add("interrupts a program that has just gone", "session/init",
  'if not ok and err.reason ~= "exit" then error(err, 0) end', "if not ok then error(err, 0) end")
add("closes a session whose turn was left", "session/init",
  "    if self.course then self:close() end\n", "")
add("expects what an interrupt gives back", "session/init",
  "if self.turn:is_interrupting() then self.typist:expect_more() end", "",
  "the composer is looked at before Enter, so that what comes late is cleared then")
add("knows the record of a message that was interrupted", "session/init",
  'if state ~= "typing" then self.withdrawn = state == "submitted" and self.turn.text or nil end', "")
add("presses Escape again", "session/course", "if now >= terminal:next_escape() then escape_again(self) end", "")
add("presses Escape at all", "session/init",
  "local ok, err = pcall(self.terminal.escape, self.terminal)", "local ok, err = true, nil",
  "the course presses it where the caller listens, as all do here")
add("discards the session of a request that was left", "backend/init",
  "    task.shield(drop, self, live)\n", "")
add("gives back the place of a request that was left", "backend/init",
  "    self.pool:release_place(run)\n", "")
add("ends the program of a closed session", "session/init", "  self.process:close(grace_ms)\n", "")

-- The pool ------------------------------------------------------------------------------------------------------------

add("starts again for a session that has died", "backend/init",
  "    if not was_lost(run, event) then error(event, 0) end",
  "    do error(event, 0) end")
add("forgets idle sessions that have ended", "backend/pool",
  "return entry.is_idle and not (entry.ending or session.process:is_alive())",
  "return false", "a request that finds a dead session starts again")
add("gives a session to one request at a time", "backend/pool",
  "  entry.is_idle, entry.is_spare, entry.keys = false, nil, {}\n",
  "  entry.keys = {}\n")
add("forgets the keys of a session that is in use", "backend/pool",
  "  entry.is_idle, entry.is_spare, entry.keys = false, nil, {}\n",
  "  entry.is_idle = false\n", "keys count only while it is idle, and are given anew then")
add("keeps within its places", "backend/pool", "if self.places < self.limit then return {} end", "do return {} end")
add("serves those who wait", "backend/pool", "    if granted then waiter.wake(granted) else i = i + 1 end",
  "    i = i + 1")
add("ends a session to make room", "backend/pool", "return victim and { victim = victim }", "return nil")
add("looks a session up by its history", "backend/pool", "return lease.key ~= nil and entry.keys[lease.key] ~= nil end",
  "return lease.key ~= nil end")
add("discards a session whose message was interrupted before it was answered", "backend/init",
  "if is_stopped and #answer == 0 then return drop(self, run.session) end", "",
  "a client that keeps such a message says it again, in one with its next")
add("wakes nobody from a transcript with a line that is none", "sleep/keeper",
  "  if live.has_damage and live:has_damage() then return mistrust(self, live) end", "")
add("ends what is idle too long", "backend/pool",
  "if self.may_end(session) then return retire(self, session, entry) end", "")
add("removes what it has written for an editor", "claude/editor", "  files.remove_tree(self.folder)\n", "")
add("closes its sessions", "backend/pool", "      pcall(session.close, session)\n      if entry.is_idle",
  "      if entry.is_idle")

return M
