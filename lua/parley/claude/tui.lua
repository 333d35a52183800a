--- Reading the program's screen: where the composer stands and what it holds, which choices a dialog offers, what the
--- status rows say. Pure functions on rows of text; every other policy that looks at the screen uses these.
---
--- Measured on 2.1.110, 2.1.197 and 2.1.330 at 120x40 with `NO_COLOR=1`.
local dialog = require "parley.claude.dialog"
local label_rows = require "parley.claude.label"
local question = require "parley.claude.question"

local M = {}

local NBSP = "\u{A0}"
local POINTER = "❯"
local RULE = "─"

local RULES = RULE:rep(3)

local function is_rule(row) return row:sub(1, #RULES) == RULES end

local function is_dialog_footer(row)
  return (row:find "Enter to confirm" or row:find "Enter to select" or row:find "Press Enter to continue"
    or row:find "Esc to cancel" or row:find "Esc to cl%l+" -- to clear, to close
    or row:find "Esc cancel$" or row:find "Esc close$") ~= nil
end

--- The last row with something in it, at or above one.
local function last_filled(rows, from)
  while from > 0 and rows[from] == "" do from = from - 1 end
  return from
end

--- Whether the last row is that of a dialog or a panel.
---@param rows string[]
---@return boolean
function M.has_dialog_footer(rows)
  local last = last_filled(rows, #rows)
  return last > 0 and is_dialog_footer(rows[last])
end

--- The row in which a program at work counts the seconds: behind a glyph at the left edge that no row of a message or
--- an answer begins with.
local function is_spinner(row)
  return row:find "^[·✢✳✶✻✽*]+ " ~= nil
    or row:find("… (", 1, true) ~= nil and row:find "^%S+ %S.*… %(.*%d+s" ~= nil
end

--- The rows without a spinner below a dialog, where 2.1.141 goes on counting.
---@param rows string[]
---@return string[]
function M.without_spinner_below(rows)
  local last = last_filled(rows, #rows)
  if last == 0 or not is_spinner(rows[last]) then return rows end
  local footer = last_filled(rows, last - 1)
  if footer == 0 or not is_dialog_footer(rows[footer]) then return rows end
  return table.move(rows, 1, footer, 1, {})
end

--- Whether a dialog stands where the composer would, whatever the status file says: a footer in the last row, choices
--- above it and the rule above them.
---@param rows string[]
---@return boolean
function M.shows_dialog(rows)
  local choices = M.has_dialog_footer(rows) and M.choices(rows)
  for i = choices and choices.first_row - 1 or 0, 1, -1 do
    if is_rule(rows[i]) then return true end
  end
  return false
end

--- Whether the form of an MCP server stands there: 2.1.197's status file says `busy` all the while.
---@param rows string[]
---@return boolean
function M.shows_elicitation(rows)
  return M.has_dialog_footer(rows) and dialog.is_elicitation(rows, M.choices(rows))
end

--- Whether the program asks for a host that a command in its sandbox wants to reach: 2.1.197's status file does not
--- tell of that, and the command may be one that works in the background.
---@param rows string[]
---@return boolean
function M.asks_for_host(rows)
  local choices = not M.composer(rows) and M.choices(rows)
  for i = choices and choices.first_row - 1 or 0, 1, -1 do
    if is_rule(rows[i]) then return rows[i + 1]:find "^ *Network request outside of sandbox$" ~= nil end
  end
  return false
end

--- So many rows of a composer are shown at most where it stands at the foot of the screen. 2.1.290 does not say that
--- there are more, and puts its prompt before the first that is in sight.
local function most_rows(height) return height // 2 - 5 end

--- Continued after a stop, 2.1.110 draws a composer without its prompt. The cursor tells it from a message: it is
--- between the two rules.
local function has_lost_prompt(upper, bottom, cursor, lines)
  return cursor ~= nil and upper < cursor.row and cursor.row < bottom and cursor.column > 2
    and table.concat(lines):find "%S" ~= nil
end

local function starts_with(row, prefix) return row:sub(1, #prefix) == prefix end


---@class parley.Composer
---@field text string     what it shows, rows joined by newlines, without the prompt
---@field shell boolean   true in the shell mode that a leading `!` switches on
---@field scrolled boolean  true when its beginning is out of sight, or may be
---@field below integer  how many of its rows that are in sight are below the cursor
---@field is_empty boolean
---@field hidden integer  how many of its rows are out of sight, as far as it says
---@field first_row integer  where it begins on the screen: its prompt, or what is left of it
---@field last_row integer   and the rule below it
---@field columns integer    of that rule, which goes over the whole screen

--- Whether what stands above a rule is the notice of an editor that runs, in the composer's place.
local function is_notice(rows, bottom)
  local row = rows[bottom - 1]
  return row and row:find "^ *Save and close .*editor to continue" and is_rule(rows[bottom])
    and is_rule(rows[bottom - 2] or "")
end

--- Finds the composer: the rows between the prompt and the lower rule. The prompt's glyph is followed by a no-break
--- space, which tells it from a dialog's pointer and from an old message. While an editor runs there is none, though an
--- old one may still stand above (2.1.110, once it was stopped).
---@param rows string[]
---@param cursor? {row: integer, column: integer}
---@return parley.Composer?
function M.composer(rows, cursor)
  if M.has_dialog_footer(rows) then return nil end
  for bottom = #rows, 2, -1 do
    if is_rule(rows[bottom]) then
      if is_notice(rows, bottom) then return nil end
      local lines, below = {}, cursor and math.max(0, bottom - 1 - cursor.row) or 0
      for i = bottom - 1, 1, -1 do
        local row = rows[i]
        local prompt = starts_with(row, POINTER .. NBSP) and POINTER or starts_with(row, "!" .. NBSP) and "!"
        local scrolled = is_rule(row)
        if prompt then table.insert(lines, 1, row:sub(#prompt + #NBSP + 1)) end
        if prompt or scrolled and #lines > 0 then
          local is_promptless = scrolled and not row:find "more"
          if is_promptless and not has_lost_prompt(i, bottom, cursor, lines) then break end -- something else's rule
          scrolled = scrolled and not is_promptless
          local text = table.concat(lines, "\n")
          local may_be_scrolled = scrolled or #lines > 2 and #lines == most_rows(#rows)
          local at_start = cursor ~= nil and cursor.row == i and cursor.column <= 3
          return {
            text = text, shell = prompt == "!", scrolled = may_be_scrolled,
            hidden = tonumber(row:match "↑ (%d+) more") or 0, first_row = is_promptless and i + 1 or i,
            last_row = bottom, below = below, columns = utf8.len(rows[bottom]),
            -- A suggestion stands in an empty composer too, with the cursor before it.
            is_empty = not scrolled and prompt ~= "!" and (text == "" or at_start and #lines == 1),
          }
        end
        if scrolled or not (row == "" or starts_with(row, "  ")) then break end
        table.insert(lines, 1, row:sub(3))
        -- 2.1.197 lets a long text grow over the whole screen. Behind a long message the rule may be a menu's.
        local has_cursor = not cursor or cursor.row < bottom
        if i == 1 and #lines > 10 and has_cursor then
          return { text = table.concat(lines, "\n"), shell = false, scrolled = true,
            is_empty = false, hidden = 0, first_row = 1, last_row = bottom, below = below,
            columns = utf8.len(rows[bottom]) }
        end
      end
    end
  end
end

local SPINNERS = { ["·"] = true, ["✢"] = true, ["✳"] = true, ["✶"] = true, ["✻"] = true, ["✽"] = true, ["*"] = true }

--- The title of a program at work begins with a glyph that turns, that of an idle one with `✳` (2.1.110, 2.1.118 and
--- 2.1.197; 2.1.332 has others).
local WORKING = { ["⠂"] = true, ["⠐"] = true }

--- Whether the program's row below the composer has its hint how to interrupt, of which a narrow screen may show ` ·`
--- alone (2.1.110).
local function has_hint(row)
  local is_mode = starts_with(row, "  ⏵⏵ ") or starts_with(row, "  ⏸ ")
  return starts_with(row, "  esc to interrupt") or is_mode and (row:find " · es" or row:find " ·$") ~= nil
end

--- What says that a turn runs, where there is no status file: the title, which the model's text does not reach, or the
--- row above the composer whose glyph stands at the left edge, where no row of a message or an answer has one. That row
--- is gone while text streams. Where the user has the program set no title, its hint is left, but for one with a status
--- line of the user's own, which takes the hint's place and may read like it.
---@param rows string[]
---@param title? string  of the terminal
---@return boolean
function M.is_busy(rows, title)
  if WORKING[(title or ""):match "^(%S+) "] then return true end
  local composer = M.composer(rows)
  if title == "" and composer and has_hint(rows[composer.last_row + 1] or "") then return true end
  for i = composer and composer.first_row - 1 or 0, 1, -1 do
    local glyph = rows[i] ~= "" and rows[i]:match "^([^ ]+) "
    if glyph and SPINNERS[glyph] and rows[i]:find("…", 1, true) then return true end
  end
  return false
end

--- Whether the program waits for a message, by other than its screen.
---@param status? table    the status file
---@param title string     of the terminal; it decides where there is no status (2.1.110 to 2.1.118)
---@return boolean
function M.is_at_rest(status, title)
  if status and status.status then return status.status == "idle" or status.status == "shell" end
  return starts_with(title, "✳ ")
end

--- Finds what the program says last, above the composer, of a message that a hook has refused.
---@param rows string[]
---@return string? why  in one line
function M.refusal(rows)
  local composer, said = M.composer(rows), {}
  for i = composer and composer.first_row - 2 or 0, 1, -1 do
    if rows[i]:find "^● UserPromptSubmit operation blocked by hook:" then
      local text = rows[i]:match ":%s*(.*)$" .. " " .. table.concat(said, " ")
      return text:gsub("%s*Original prompt:.*$", ""):match "^%s*(.-)%s*$"
    end
    if rows[i] ~= "" and not starts_with(rows[i], "  ") then return nil end
    table.insert(said, 1, rows[i]:match "^%s*(.*)$")
  end
end

--- Whether keys go to a search of the history (Ctrl+R), for which 2.1.110 and 2.1.197 leave the composer where it is.
---@param rows string[]
---@param composer parley.Composer
---@return boolean
function M.is_search(rows, composer)
  local row = rows[composer.last_row + 1] or ""
  return starts_with(row, "  search prompts: ") or starts_with(row, "  no matching prompt: ")
end

--- Whether the program waits for the editor that it has opened: a notice between two rules stands in the composer's
--- place, until the conversation has been drawn anew (2.1.110 to 2.1.332).
---@param rows string[]
---@return boolean
function M.is_editing(rows)
  for i = #rows, 3, -1 do
    if is_notice(rows, i) then return true end
  end
  return false
end

--- Whether Ctrl+Z has stopped the program, as far as the screen shows (2.1.110, 2.1.197 and 2.1.332).
---@param rows string[]
---@return boolean
function M.is_suspended(rows)
  for _, row in ipairs(rows) do
    if row:find "^Claude Code .*suspended%. Run `fg` to bring " then return true end
  end
  return false
end

--- Whether the program shows its list of sessions, the agents view (2.1.197 and 2.1.332).
---@param title string  of the terminal
---@return boolean
function M.shows_agents(title) return title:find "^claude agents$" ~= nil or title:find " · claude agents$" ~= nil end

--- Whether a program that has ended says that it does not go on from a session. Its rows may break anywhere.
---@param screen string
---@return boolean
function M.refuses_to_resume(screen)
  local text = screen:gsub("%s+", "")
  return text:find("NoconversationfoundwithsessionID", 1, true) ~= nil
    or text:find("Failedtoresumesession", 1, true) ~= nil
end

--- Where the program has failed in its own code, and stands still with that on the screen (2.1.120 does, when it is to
--- go on from a transcript): the rows that name places in it. Those of a message or an answer are further to the right.
local FRAME, FRAMES = "^ %- .*%(/%$bunfs/root/", 2

--- What the program says of a failure in its own code.
---@param rows string[]
---@return string? problem  nil when it says nothing of the kind
function M.failure(rows)
  local frames, problem = 0, nil
  for _, row in ipairs(rows) do
    if row ~= "" then -- most are
      problem = problem or row:find("ERROR", 1, true) and row:match "^ *ERROR  (%S.*)$" or nil
      if row:find("$bunfs", 1, true) and row:find(FRAME) then frames = frames + 1 end
    end
  end
  if frames < FRAMES or M.composer(rows) or M.has_dialog_footer(rows) then return nil end
  return problem or "what it was is out of sight"
end

---@class parley.Choices
---@field labels string[]   from top to bottom, without numbers
---@field selected integer  where the pointer stands
---@field first_number? integer  of the topmost, where they are numbered: a digit picks one then
---@field checked? table<integer, boolean>  of a question that takes several answers: those with a box, ticked or not
---@field first_row integer
---@field last_row integer

local function label_of(row)
  local indent, rest = row:match "^( *)(.*)$"
  local pointed = rest:find("^" .. POINTER .. "[ %d]") ~= nil
  if pointed then
    local gap
    gap, rest = rest:sub(#POINTER + 1):match "^( *)(.*)$"
    -- The pointer is one column wide. 2.1.110 draws a label that goes on without the gap: one column to the left.
    indent = indent .. " " .. (gap == "" and " " or gap)
  end
  local number, label = label_rows.numbered(rest)
  return label or rest, #indent, number, pointed
end

--- Whether rows with a pointer are an answer's, which quotes some: a dialog or a panel has a rule above it, and only
--- from one that is cut that is out of sight. A question has one below its choices, too.
local function is_above_dialog(rows, choices)
  return not dialog.upper_edge(rows, choices) and (dialog.upper_edge(rows) or 0) > choices.last_row
    and not dialog.has_question_footer(rows, choices)
end

--- Finds a dialog's choices: the row with the pointer and its neighbours in the same column. Numbered ones may have
--- explanations between them.
---@param rows string[]
---@return parley.Choices?
function M.choices(rows)
  local asked = question.choices(rows)
  if asked then return asked end
  for at = #rows, 1, -1 do
    local _, column, number, pointed
    if rows[at] ~= "" and rows[at]:find(POINTER, 1, true) then _, column, number, pointed = label_of(rows[at]) end
    -- An old message stands behind such a pointer too, at the left edge and without a number.
    if pointed and (number or rows[at]:sub(1, 1) == " ") then
      local labels, selected, first, last = {}, 1, at, at
      local function neighbour(i)
        if not rows[i] then return nil end
        local label, indent, its_number = label_of(rows[i])
        local is_in_column = indent == column or number and indent == column - 1 -- what it goes on with is to the right
        if label == "" or not is_in_column or (its_number == nil) ~= (number == nil) then return nil end
        return number and label_rows.whole(rows, i, label) or label, its_number
      end
      table.insert(labels, (neighbour(at)))
      local expected, missed = number, 0
      for i = at - 1, 1, -1 do
        local label, its_number = neighbour(i)
        if label and (not number or its_number == expected - 1) then
          table.insert(labels, 1, label)
          selected, first, missed, expected = selected + 1, i, 0, its_number
        else
          missed = missed + 1
          if not number or missed > 4 or expected == 1 then break end
        end
      end
      expected, missed = number, 0
      for i = at + 1, #rows do
        local label, its_number = neighbour(i)
        if label and (not number or its_number == expected + 1) then
          table.insert(labels, label)
          last, missed, expected = i, 0, its_number
        else
          missed = missed + 1
          if not number or missed > 4 then break end
        end
      end
      local choices = { labels = labels, selected = selected, first_row = first, last_row = last,
        first_number = number and number - selected + 1 }
      return not is_above_dialog(rows, choices) and choices or nil
    end
  end
end

--- The description of a command in such a list goes on so far to the right.
local DESCRIPTION = (" "):rep(20)

--- Whether the list of commands has popped up, from which Enter would choose: right above the composer on 2.1.332,
--- right below it on 2.1.110 and 2.1.197.
---@param rows string[]
---@return boolean
function M.offers_commands(rows)
  local composer = M.composer(rows)
  if not composer then return false end
  if (rows[composer.last_row + 1] or ""):find "^/%S" then return true end
  for i = composer.first_row - 2, 1, -1 do
    if rows[i]:find "^    /%S" or starts_with(rows[i], "  " .. POINTER .. " /") then return true end
    if not starts_with(rows[i], DESCRIPTION) then return false end
  end
  return false
end

--- 2.1.330 has taken invisible characters out of the text in the composer, has not sent it, and wants Enter again.
---@param rows string[]
---@return boolean
function M.has_changed_text(rows)
  local composer = M.composer(rows)
  for i = composer and math.max(1, composer.first_row - 3) or #rows + 1, #rows do
    local is_outside = i < composer.first_row or i > composer.last_row
    if is_outside and rows[i]:find "Removed .*review and press Enter to send" then return true end
  end
  return false
end

--- What of a spinner's row moves only when something happens: the tokens, which come with the answer, and the attempts.
--- The glyph, the seconds and the words go on with nothing behind them. 2.1.197 counts no tokens while the model
--- thinks: then the row is all that can be had.
local function sign_in(row)
  return row:match "[%d.,]+k? tokens" or row:match "attempt %d+"
    or (row:find "thinking" or row:find "in thought") and row or ""
end

--- What the screen tells of the program's work: what stands above the composer.
---@param rows string[]
---@return string signs  the same as long as nothing has happened
function M.signs_of_life(rows)
  local composer, signs = M.composer(rows), {}
  for i = 1, composer and composer.first_row - 1 or #rows do
    local row = rows[i]
    signs[i] = row ~= "" and is_spinner(row) and sign_in(row) or row
  end
  return table.concat(signs, "\n")
end

--- Whether the program says that it waits for what works in the background: below the composer it counts what does
--- (2.1.110), above it says so where the last turn has ended, and lets that stand (2.1.197, 2.1.332).
---@param rows string[]
---@return "counted"|"said"|nil
function M.awaits_background(rows)
  local composer = M.composer(rows)
  if not composer then return nil end
  for i = composer.last_row + 1, #rows do
    if (" ·" .. rows[i]):find " · *%d+ local agents?%f[^%a]" then return "counted" end
  end
  for i = composer.first_row - 2, 1, -1 do
    local said = rows[i]:match "^✻ (.*)$"
    if said then return said:find "^Waiting for .* to finish$" and "said" or nil end
  end
  return nil
end

--- The version that the banner shows.
---@param rows string[]
---@return string?
function M.version(rows)
  for _, row in ipairs(rows) do
    local version = row ~= "" and row:find("Claude Code v", 1, true) and row:match "Claude Code v(%d+%.%d+%.%d+)"
    if version then return version end
  end
end

--- Rows that stand, by what was seen on them: everybody who looks at a screen looks for the same, many times.
local kept = setmetatable({}, { __mode = "k" })
local NOTHING = {}

--- Has what is seen on rows be looked for once only: they will not change.
---@param rows string[]
---@return string[] rows
function M.keep(rows)
  kept[rows] = {}
  return rows
end

--- Makes a function of what it looks for on rows that looks once, where they are kept.
---@generic T
---@param look fun(rows: string[], beside?: any): T
---@return fun(rows: string[], beside?: any): T
function M.once(look)
  return function(rows, beside)
    local known = kept[rows]
    if not known then return look(rows, beside) end
    local seen = known[look] or {}
    known[look] = seen
    local found = seen[beside or NOTHING]
    if found == nil then
      found = look(rows, beside)
      seen[beside or NOTHING] = found == nil and NOTHING or found
    end
    if found == NOTHING then return nil end
    return found
  end
end

for _, name in ipairs { "has_dialog_footer", "shows_dialog", "shows_elicitation", "asks_for_host", "composer",
  "is_busy", "refusal", "choices", "signs_of_life", "awaits_background" } do
  M[name] = M.once(M[name])
end

return M
