---@meta parley.core.turn
-- luacheck: ignore 212 241

---One message and all that follows until it is answered, as a state machine: no I/O, no clock. `src/turn.h` says what
---each state and event means.
---@class parley.TurnModule
local turn = {}

---@class parley.Turn
local methods = {}

---@alias parley.TurnState "idle"|"typing"|"submitted"|"running"|"waiting"|"ended"|"failed"
---@alias parley.TurnEvent "begin"|"submit"|"accept"|"assistant"|"tool_result"|"meta"|"interrupted"|"duration"|"stop"|
---"busy"|"quiet"|"dialog"|"interrupt"|"end"|"fail"
---@alias parley.TurnCertainty "goes_on"|"likely"|"certain"

---What was seen since the turn began.
---@class parley.TurnFacts
---@field state parley.TurnState
---@field certainty parley.TurnCertainty
---@field stop_reason? string       of the last block that had one, at most 31 bytes
---@field busy_seen boolean         the program was at work since Enter
---@field quiet boolean             the composer waits for a message
---@field stop_hook boolean         the Stop hook has run and nothing came after it
---@field duration boolean          `turn_duration` was seen and nothing came after it
---@field interrupting boolean      ESC was pressed
---@field interrupted boolean       the transcript says that the user interrupted
---@field api_error boolean         the last block reports an API error
---@field last_is_answer boolean    the last record was a block of an answer
---@field assistant_blocks integer  since the message was accepted
---@field open_tools integer        tool calls without a result
---@field records integer           that show the program at work, since the message was accepted

---Make a turn, at `idle`.
---@return parley.Turn
function turn.new() end

---Apply an event. An event that is unknown, or illegal in this state, raises an error that names both and changes
---nothing.
---@param event parley.TurnEvent
---@param detail? {stop_reason?: string, tools?: integer, api_error?: boolean} Of `assistant` and `tool_result`: `tools`
---counts the calls in the block, or the results in the record.
---@return parley.TurnState state That follows.
function methods:apply(event, detail) end

---Tell how sure it is that the turn is over and that all its lines were seen.
---@return parley.TurnCertainty
function methods:certainty() end

---Tell what was seen, as plain data.
---@return parley.TurnFacts
function methods:facts() end

---@return parley.TurnState
function methods:state() end

return turn
