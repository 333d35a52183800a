--- Puts a message into a terminal's composer and presses Enter: the delivery policy's steps, keys or the program's own
--- editor, one after the other, each seen on the screen before the next. Nothing here presses Enter on a composer that
--- holds anything else.
local clock = require "parley.base.clock"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local editor = require "parley.claude.editor"
local keys = require "parley.claude.keys"
local paths = require "parley.claude.paths"
local tables = require "parley.base.tables"
local tui = require "parley.claude.tui"

local M = {}

local ATTEMPTS = 4
--- Keys that the program has not shown for so long were lost, or it is too busy to show them.
local LOST_MS = 2000
--- Which of the two it was is told by a mark that is typed behind them. So long it is waited for, and then a little
--- longer, as a paste may be put in after the key that came behind it. An ESC has left vim's INSERT mode, where the
--- user has that: `i` goes back to it, and is one more letter to be cleared elsewhere. Each mark is another than those
--- before it, which may still stand there, and than what stands in the message.
local TO_INSERT, MARKS, MARK_MS, MARK_REST_MS = "i", { "¤", "¦", "§", "¬", "¶", "±" }, 15000, 300
--- A long text takes its time to be shown, on a busy machine 25 s without a sign.
local MS_PER_BYTE, LONGEST_MS = 0.5, 60000
--- The key that opens the editor is lost in the first second of some versions; 2.1.332 takes 300 ms to open the first
--- one. It is never pressed behind another that may still open one: on a long text a second editor has the program fold
--- that into a paste, which 2.1.332 marks, and 2.1.197 loses an Enter that comes while it is open.
local EDITOR_MS, EDITOR_PRESSES, MOST_DIALOGS = 1500, 3, 3
--- Behind it the whole conversation is drawn anew before the composer is: of a long one 2.1.197 takes 400 ms for that
--- on a quiet machine, and 2.5 s on a busy one.
local REDRAW_MS = 30000
local MOST_ERASURES = 20
--- The program remembers the middle of a longer text that has been in its composer, and would fold that in the same
--- text the next time: it is handed over once. A space stands behind it.
local ONCE_UNITS = 9999
--- And each key that edits a long text has it drawn again.
local MS_PER_EDIT = 5
--- The list of commands pops up with the name of one, on 2.1.110 up to 200 ms later.
local POPUP_MS = 1000
--- A composer that changes all the time is not waited for for ever: so many times as long as one that does not.
local CHANGING = 5

local function composer_of(view)
  return tui.composer(view.rows, view.cursor)
end

--- How many lines the composer holds, where all of them are in sight.
local function lines_of(composer)
  return composer and not composer.scrolled and select(2, composer.text:gsub("\n", "")) or nil
end

local function columns_of(self) return select(2, self.terminal.process.screen:size()) end

--- What the composer shows, for an error.
local function shown_in(self)
  local composer = composer_of(self.terminal:view())
  return composer and ("it shows %q"):format(errors.beginning(composer.text, 80)) or "there is no composer"
end

--- How long a text may take to be shown.
local function patience_for(text) return LOST_MS + math.min(#text * MS_PER_BYTE, LONGEST_MS) end

---@class parley.Typist
---@field package terminal parley.Terminal
---@field package policy table                    the delivery policy
---@field package options parley.DeliveryOptions
---@field package keys_may_follow boolean  more may come into the composer than has been seen to
---@field package attended_ms number   that the dialogs policy has taken, which is not the program's time
---@field package is_command? boolean  what was typed last is one
---@field package marks_typed integer  how many marks there were to be typed, those passed over among them
local Typist = {}
Typist.__index = Typist
Typist.__name = "parley.Typist"

---@class parley.Entered          what stood on the screen when Enter was pressed
---@field had_notice boolean?    the program said that it has changed a text
---@field lines? integer         of the composer
---@field columns integer         of the screen: a narrower one shows the same text in more lines

--- Makes the one who types into a terminal.
---@param terminal parley.Terminal
---@param policy table  the delivery policy
---@param options parley.DeliveryOptions
---@return parley.Typist
function M.new(terminal, policy, options)
  return setmetatable({ terminal = terminal, policy = policy, options = options, keys_may_follow = false,
    marks_typed = 0, attended_ms = 0 }, Typist)
end

--- Brings the dialog that is up to its policy.
---@return number milliseconds  that it took
local function attend(self)
  local milliseconds = self.terminal:attend()
  self.attended_ms = self.attended_ms + milliseconds
  return milliseconds
end

--- Waits until the composer satisfies the predicate. The time counts from its last change: a long text takes a while.
---@param milliseconds number
---@param predicate fun(composer: parley.Composer): boolean
---@param redraw_ms? number  so long there may be none, before its time begins to count
---@return boolean  false when it did not in time, or when the turn was interrupted first
local function wait_for_composer(self, milliseconds, predicate, redraw_ms)
  local terminal, seen = self.terminal, nil
  local last_deadline = clock.now() + (redraw_ms or 0) + CHANGING * milliseconds
  return terminal:wait_until(function()
    if terminal:is_interrupted() then return "interrupted" end
    local composer = composer_of(terminal:view())
    if composer and predicate(composer) then return "there" end
    if terminal:state() == "dialog" then
      last_deadline = last_deadline + attend(self)
      return nil, math.min(clock.now() + milliseconds, last_deadline) -- the time that it took is not the composer's
    end
    local shown = composer and composer.hidden .. composer.text or redraw_ms and "none"
    if not shown or shown == seen then return nil end
    seen = shown
    return nil, math.min(clock.now() + (composer and milliseconds or redraw_ms), last_deadline)
  end, milliseconds) == "there"
end

local function is_cleared(composer) return composer.is_empty end

local function rest(self, milliseconds)
  self.terminal:wait_until(function() return false end, milliseconds)
end

--- Goes back to vim's INSERT mode, which an ESC may have left. The letter that `i` is elsewhere is taken away by a key
--- of its own: 2.1.110 leaves its shell mode by a Backspace that comes alone.
local function insert(self)
  for _, key in ipairs { TO_INSERT, keys.BACKSPACE } do
    if composer_of(self.terminal:view()) then self.terminal:press(key) end
    rest(self, MARK_REST_MS)
  end
end

--- Empties the composer of what is left in it.
local function clear(self)
  local terminal = self.terminal
  for attempt = 1, ATTEMPTS do
    if attempt > 1 then insert(self) end -- whoever left something may have left vim's INSERT mode, too
    local composer = composer_of(terminal:view())
    if composer and composer.is_empty and composer.text == "" then return end
    local pressed = composer and self.policy.clear(composer) or ""
    if composer then terminal:press(pressed) end
    local patience = LOST_MS + #pressed * MS_PER_EDIT
    if wait_for_composer(self, patience, is_cleared) or terminal:is_interrupted() then return end
  end
  terminal:fail("delivery", "the composer cannot be emptied of what is left in it: " .. shown_in(self))
end

--- The next mark that stands neither in a text nor in the composer, as far as there is one.
local function next_mark(self, text)
  local composer = composer_of(self.terminal:view())
  local all, mark = text .. (composer and composer.text or ""), nil
  for _ = 1, #MARKS do
    self.marks_typed = self.marks_typed + 1
    mark = MARKS[(self.marks_typed - 1) % #MARKS + 1]
    if not all:find(mark, 1, true) then break end
  end
  return mark
end

--- Waits until no keys of an attempt before are on their way, which would join those of the next.
local function catch_up(self, text)
  local deadline, attended_ms = clock.now() + MARK_MS + patience_for(text), self.attended_ms
  local mark = next_mark(self, text)
  local function has_mark(composer) return composer.text:find(mark, 1, true) ~= nil end
  repeat
    -- A dialog may stand there, and the status file not say so yet. It is brought to its policy while the mark is
    -- waited for; what is typed at once would join the key that answers it.
    if self.terminal:state() == "starting" then self.terminal:wait_until_ready() end -- a person has pressed Ctrl+O
    if composer_of(self.terminal:view()) then self.terminal:press(TO_INSERT .. mark) end
    if wait_for_composer(self, LOST_MS, has_mark) then return rest(self, MARK_REST_MS) end
    if self.terminal:is_interrupted() then return end
  until clock.now() >= deadline + self.attended_ms - attended_ms
  self.terminal:fail("delivery", "the program does not show what is typed; nothing was sent")
end

--- How many keys have typed the marks at the end of a text.
---@return integer count
---@return string before  what stands before them
local function count_marks(text)
  local count, has_found = 0, true
  while has_found do
    has_found = false
    for _, mark in ipairs(MARKS) do
      local without = text:match("^(.*)" .. mark .. "$")
      if without then
        local before = without:match "^(.*)i$"
        text, count, has_found = before or without, count + (before and 2 or 1), true
      end
    end
  end
  return count, text
end

--- Takes away the marks that came behind a text, which ends with a space. What was pressed for that and had no effect
--- may yet come, and would take from the text what is pressed once more: so it is waited for behind another mark.
local function erase_marks(self, text)
  local message = text:match "^.*%S" or ""
  local _, before = count_marks(message)
  local own = message:sub(#before + 1) -- a text may end with such itself: others are typed then
  local function marks_behind(composer)
    return (own == "" or composer.text:sub(-#own) ~= own) and count_marks(composer.text) or 0
  end
  local function has_no_marks(composer) return marks_behind(composer) == 0 end
  for _ = 1, MOST_ERASURES do
    local composer = composer_of(self.terminal:view())
    local count = composer and marks_behind(composer) or 0
    if count == 0 or self.terminal:is_interrupted() then return end
    self.terminal:press(keys.BACKSPACE:rep(count))
    if not wait_for_composer(self, LOST_MS, has_no_marks) and not self.terminal:is_interrupted() then
      catch_up(self, text)
    end
  end
end

--- Whether a text is not what it was once keys have been typed behind it: on every version a key makes spaces of its
--- tabs, and the cursor stays where the end was.
local function is_spoiled_by_keys(text) return text:find("\t", 1, true) ~= nil end

--- Has the program's editor put a text in the place of what the composer holds, which is nothing.
---@return "taken"|"spoiled"|"interrupted"|nil  nil when no editor comes
local function hand_over(self, text)
  local terminal, door, presses, dialogs = self.terminal, self.terminal:editor(), 0, 0
  local function outcome()
    if terminal:is_interrupted() then return "interrupted" end
    if door:taken() then return "taken" end
    if terminal:state() == "dialog" then
      attend(self)
      dialogs = dialogs + 1
    end
  end
  door:offer(text)
  local _ <close> = defer(function() door:withdraw() end)
  while presses < EDITOR_PRESSES + math.min(dialogs, MOST_DIALOGS) do -- a dialog may have got the key
    presses = presses + 1
    local seen = terminal:press(editor.key) and terminal:wait_until(outcome, EDITOR_MS) or nil
    if seen or terminal:is_interrupted() then return seen or "interrupted" end
    catch_up(self, text) -- a program that is only late shows what is typed behind the key once it has the text
    seen = outcome()
    if seen == "taken" and is_spoiled_by_keys(text) then
      clear(self)
      return "spoiled"
    end
    if seen == "taken" then erase_marks(self, text) end
    if seen then return seen end
    clear(self)
  end
end

--- Does what a step says, as far as keys go; false when it did not, or when the turn was interrupted.
local function begin_step(self, step)
  local terminal = self.terminal
  if step.keys then return terminal:press(step.keys) end
  local seen = hand_over(self, step.editor)
  if not seen then
    local problem = paths.scratch_problem(terminal.process.environment, terminal.process.cwd)
    problem = problem and "the program cannot write what its editor is to get: " .. problem
    terminal:lose_editor("the program's editor does not open, so messages are typed, and only short and plain ones: "
      .. (problem or keys.NO_EDITOR), problem)
  end
  return seen == "taken"
end

--- A composer without what the program shows behind a command: the names of arguments that are missing.
local function without_hint(composer, text)
  local behind = composer.text:sub(1, #text) == text and composer.text:sub(#text + 1)
  return behind and behind:find "^ +%[" and tables.merged(composer, { text = text }) or composer
end

--- Whether the composer holds what was typed.
local function holds(self, composer, text)
  if self.is_command then composer = without_hint(composer, text) end
  return self.policy.holds(composer, text) == "whole"
end

--- Goes the steps of one attempt; false when keys were lost, or when the turn was interrupted.
local function go_steps(self, steps)
  local marks_typed = self.marks_typed
  for _, step in ipairs(steps) do
    if not begin_step(self, step) then return false end
    local function is_whole(composer) return holds(self, composer, step.holds) end
    local redraw_ms = step.editor and REDRAW_MS or nil
    if not wait_for_composer(self, patience_for(step.holds), is_whole, redraw_ms) then return false end
    -- A dialog may come up meanwhile, or the user type; where marks were erased, half of what that has drawn may look
    -- like the text.
    local rest_ms = step.rest_ms or self.marks_typed > marks_typed and MARK_REST_MS
    if rest_ms then
      rest(self, rest_ms)
      if not wait_for_composer(self, LOST_MS, is_whole) then return false end
    end
  end
  return true
end

--- Waits for a turn that the program has begun by itself meanwhile: Enter would put the message into its queue, and the
--- next result of a tool would carry it to the model, in the program's words.
---@return boolean is_there  the text still is; false also when the turn was interrupted first
local function outlast_own_turn(self, text)
  local terminal = self.terminal
  if terminal:state() ~= "busy" then return true end
  return terminal:wait_until_ready()
    and wait_for_composer(self, LOST_MS, function(composer) return holds(self, composer, text) end)
end

--- What puts a text into the composer now.
local function steps_for(self, text, is_command)
  local terminal = self.terminal
  if terminal.has_editor and not terminal:editor() then
    local problem = terminal.process.without_editor
    terminal:lose_editor(problem, problem)
  end
  local steps, why = self.policy.keystrokes(text, terminal:view(), self.options)
  if not steps then terminal:fail("delivery", why .. "; nothing was sent") end
  if not is_command or steps[1].editor then return steps end
  -- Behind the arguments a space closes what pops up, and keeps a `\` from making a new line of Enter.
  return { { keys = keys.paste(text:find "%s" and text .. " " or text), holds = text } }
end

local function offers_commands(self) return tui.offers_commands(self.terminal:view().rows) end

--- Closes the list of commands that has popped up over one. Enter would choose from it: run another command than what
--- stands there, or put the names of its arguments behind it and run nothing (2.1.110 to 2.1.332). ESC closes it and
--- does nothing else, in vim's INSERT mode too, and though the user's key bindings have it do something else. While a
--- turn runs it is not pressed: it might interrupt that.
---@return boolean is_closed
function Typist:close_popup()
  if not self.is_command or not offers_commands(self) then return true end
  if self.terminal:state() ~= "ready" then return false end
  self.terminal:escape()
  return wait_for_composer(self, LOST_MS, function() return not offers_commands(self) end)
end

--- Has nothing but what was typed be run.
---@return boolean is_safe  there is nothing that Enter would choose from
---@return boolean is_exact  the program can take it for no other: its list was there and has gone, or it has arguments
local function settle_popup(self, text)
  if not self.is_command then return true, false end
  if text:find "%s" then return self:close_popup(), true end -- the list chooses names alone
  local has_come = wait_for_composer(self, POPUP_MS, function() return offers_commands(self) end)
  return self:close_popup(), has_come
end

--- Types a prepared message and leaves it in the composer.
---@param text string
---@param is_command boolean  it is pasted, where a paste would not change it: behind its name stands nothing
---@return boolean typed  false when the turn was interrupted first; what was typed is cleared with the next message
---@return boolean? is_exact  of a command: the program has shown that Enter chooses no other
--- Raises `SessionError` (reason `"delivery"`) when the composer does not take it; nothing was sent then.
function Typist:type(text, is_command)
  local terminal = self.terminal
  self.is_command = is_command
  for _ = 1, ATTEMPTS do
    if self.keys_may_follow then catch_up(self, text) end
    if not terminal:wait_until_ready() then return false end
    local steps = steps_for(self, text, is_command)
    clear(self)
    if terminal:is_interrupted() then return false end
    self.keys_may_follow = true
    local is_safe, is_exact
    if go_steps(self, steps) then is_safe, is_exact = settle_popup(self, text) end
    if is_safe and outlast_own_turn(self, steps[#steps].holds) then
      self.keys_may_follow = false
      return true, is_exact
    end
    if terminal:is_interrupted() then return false end
    if steps[1].editor and terminal.has_editor and #text > ONCE_UNITS then
      terminal:fail("delivery", ("the composer does not hold what the program's editor has put there; nothing was sent "
        .. "(%s)"):format(shown_in(self)))
    end
  end
  terminal:fail("delivery", ("the message was typed %d times and the composer does not hold it; nothing was sent (%s)")
    :format(ATTEMPTS, shown_in(self)))
end

--- Tells that the program may yet put something into the composer by itself: what an interrupt gives back.
function Typist:expect_more() self.keys_may_follow = true end

--- Presses Enter.
---@return parley.Entered  for `still_holds`
function Typist:enter()
  local view = self.terminal:view()
  local entered = { had_notice = tui.has_changed_text(view.rows), lines = lines_of(composer_of(view)),
    columns = columns_of(self) }
  self.terminal:press(self.policy.enter)
  return entered
end

--- Whether the message still stands in the composer, so that Enter was lost and may be pressed again.
---@param text string
---@param entered parley.Entered  what `enter` saw
---@return boolean
--- Raises `SessionError` (reason `"delivery"`) when the program has changed it there, or makes a new line of Enter; it
--- was not sent.
function Typist:still_holds(text, entered)
  local terminal = self.terminal
  local view = terminal:view()
  local composer = composer_of(view)
  if not composer or composer.is_empty or terminal:state() ~= "ready" then return false end
  if tui.has_changed_text(view.rows) and not entered.had_notice then
    terminal:fail("delivery", ("the program has taken characters out of the message; it was not sent (it shows %q)")
      :format(errors.beginning(composer.text, 80)))
  end
  if not holds(self, composer, text) then
    if not self.is_command or not composer.text:find "^/%S+ +%[" then return false end
    terminal:fail("delivery", ("the program's list of commands has put %q in the place of %q; nothing was run"):format(
      errors.beginning(composer.text, 80), errors.beginning(text, 80)))
  end
  local is_as_wide = columns_of(self) == entered.columns
  if is_as_wide and (lines_of(composer) or 0) > (entered.lines or math.huge) then
    terminal:fail("delivery", "Enter has made a new line and sent nothing: the user's key bindings (keybindings.json) "
      .. 'must have "enter" do "chat:submit"')
  end
  return true
end

--- Whether the message stands in the composer of a program that takes one, whoever has put it there.
---@param text string
---@return boolean
function Typist:shows(text)
  if self.terminal:state() ~= "ready" then return false end
  local composer = composer_of(self.terminal:view())
  return composer ~= nil and not composer.is_empty and self.policy.holds(composer, text) == "whole"
end

--- Whether the composer is there and empty.
---@return boolean
function Typist:is_empty()
  local composer = composer_of(self.terminal:view())
  return composer ~= nil and composer.is_empty
end

return M
