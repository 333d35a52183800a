---@meta parley.core.line
-- The table `require("parley.core").line`, made in src/lua_line.c. This file is for the language server and for people.
-- luacheck: ignore 212 241

---What a key can do. `kill` and `erase_word` keep what they remove for `yank`; `restart` begins an empty line where the
---cursor stands; `repaint` paints what has changed.
---@alias parley.LineAction "left"|"right"|"word_left"|"word_right"|"home"|"end"|"line_up"|"line_down"|"history_back"|
---"history_forward"|"search_back"|"search_forward"|"erase"|"delete"|"erase_word"|"delete_word"|"kill_to_end"|
---"kill_to_start"|"yank"|"transpose"|"clear_screen"|"restart"|"repaint"

---A line editor on the terminal of standard input and output, by libedit. It never reads and never blocks: the caller
---reads the keys and says what they do. The text may hold line feeds.
---@class parley.Line
local Line = {}

---Do what a key asks for, and paint it. Raises for an unknown name.
---@param action parley.LineAction
function Line:act(action) end

---Begin a new line: paint the prompt where the cursor stands, forget the text and the place in the history.
---@param prompt string At most 63 bytes; what stands between two \1 takes no room on the screen.
function Line:begin(prompt) end

---Put the terminal back as it was found and free everything. Idempotent; also `__close` and `__gc`.
function Line:close() end

---Wipe prompt and text off the screen, for other output. They are kept: `show` paints them again.
function Line:hide() end

---Insert text at the cursor, and paint it.
---@param text string Valid UTF-8 without NUL; a line feed is a line break.
---@return boolean ok False when there is no memory for it.
function Line:insert(text) end

---Put a text into the history, as the newest; an equal one leaves it.
---@param text string
function Line:remember(text) end

---Give the terminal back as it was found, or take it again.
---@param is_raw boolean
function Line:set_raw(is_raw) end

---Paint prompt and text where the cursor stands, by the terminal's size of now.
function Line:show() end

---Return the text and how many of its bytes stand before the cursor.
---@return string text
---@return integer cursor
function Line:text() end

---@class parley.core.line
local M = {}

---Take over the terminal of standard input and output: it is in raw mode until `close`. One at a time.
---@return parley.Line? line
---@return parley.Fault? err `ENOTTY` when they are no terminal.
function M.open() end

return M
