---@meta parley.core.screen
-- The table `require("parley.core").screen`, made in src/lua_screen.c. This file is for the language server and people.
-- luacheck: ignore 212 241

---@class parley.ScreenModes
---@field bracketed_paste boolean The program wants pastes marked.
---@field alternate_screen boolean
---@field cursor_visible boolean
---@field mouse "none"|"click"|"drag"|"move" Which mouse events the program asked for.

---How cells look. A style that is off is absent.
---@class parley.ScreenStyle
---@field bold? true
---@field dim? true
---@field italic? true
---@field reverse? true As in a cursor that the program draws.
---@field underline? true
---@field strike? true
---@field foreground? integer|string A palette index, or "#rrggbb". Nil is the default colour.
---@field background? integer|string

---A stretch of cells that look alike.
---@class parley.ScreenRun: parley.ScreenStyle
---@field from integer The first column.
---@field to integer The last column.
---@field text string

---A terminal's screen in memory. Rows and columns count from 1.
---@class parley.Screen
local Screen = {}

---Return what a row looks like, plain blanks at its end left out.
---@param row integer
---@return parley.ScreenRun[] runs
function Screen:attributes(row) end

---Free the screen's memory. Idempotent; also `__close` and `__gc`.
function Screen:close() end

---Return where the cursor is.
---@return integer row
---@return integer column
---@return boolean is_visible
function Screen:cursor() end

---Show what a program printed. The bytes may be cut anywhere.
---@param bytes string
function Screen:feed(bytes) end

---Return a number that goes up when cells, cursor, modes, title or size may have changed, at most once a call.
---@return integer generation
function Screen:generation() end

---Return the character that a mark would join, were it to come next: the last one, when nothing but marks and colours
---has come behind it. It stands in the cursor's row, at its column where that is the row's last.
---@return parley.ScreenRun? last
function Screen:last() end

---Return the sequence by which the program has set margins.
---@return string sequence "" when it has none.
function Screen:margins() end

---Return the memory that the screen takes.
---@return integer bytes
function Screen:memory() end

---Return the modes that the program has set.
---@return parley.ScreenModes modes
function Screen:modes() end

---Return how the next character will look.
---@return parley.ScreenStyle style
function Screen:pen() end

---Take the bytes that the terminal owes its program since the last call: write them to the pty. At most 64 KiB wait.
---@return string bytes "" when there are none.
function Screen:replies() end

---Change the size. Text is not wrapped anew; margins are reset.
---@param rows integer 1 to 1000.
---@param columns integer 2 to 1000.
function Screen:resize(rows, columns) end

---Return a row's text, blanks at its end left out (U+00A0 is no blank).
---@param row integer
---@return string text UTF-8.
function Screen:row(row) end

---Return the text of all rows.
---@return string[] rows
function Screen:rows() end

---Return how many lines have left the primary screen at its top.
---@return integer lines
function Screen:scrolled() end

---Return the size.
---@return integer rows
---@return integer columns
function Screen:size() end

---Return the rows joined by line feeds, empty rows at the end left out.
---@return string text
function Screen:text() end

---Return the title that the program has set, in its own bytes.
---@return string title "" when there is none.
function Screen:title() end

---Return the bytes that were fed and are not shown yet, because a sequence or a character is not whole.
---@return string bytes "" when there are none.
function Screen:unfinished() end

---@class parley.core.screen
local M = {}

---Make an empty screen.
---@param rows integer 1 to 1000.
---@param columns integer 2 to 1000.
---@return parley.Screen screen
function M.new(rows, columns) end

return M
