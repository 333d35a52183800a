---@meta parley.core.turn
-- luacheck: ignore 212 241

---One message and all that follows until it is answered, as a state machine: no I/O, no clock. `src/turn.h` says what
---each state and event means.
---@class parley.TurnModule
local turn = {}

---@class parley.TurnMachine
local methods = {}

---@alias parley.TurnState "idle"|"typing"|"submitted"|"running"|"waiting"|"ended"
---@alias parley.TurnEvent "begin"|"submit"|"accept"|"assistant"|"tool_result"|"meta"|"interrupted"|"duration"|"stop"|
---"finished"|"agent"|"report"|"busy"|"quiet"|"dialog"|"interrupt"|"end"
---@alias parley.TurnCertainty "goes_on"|"likely"|"certain"

---What was seen since the turn began. The one place that says how sure it is that the turn is over.
---@class parley.MachineFacts
---@field state parley.TurnState
---@field certainty parley.TurnCertainty  that the turn is over and that all its lines were seen
---@field stop_reason? string       of the last block that had one, at most 31 bytes
---@field busy_seen boolean         the program was at work since Enter
---@field quiet boolean             the composer waits for a message
---@field stop_hook boolean         the Stop hook has run and nothing came after it
---@field finished boolean          a command's last record was seen and nothing came after it
---@field duration boolean          `turn_duration` was seen and nothing came after it
---@field interrupting boolean      ESC was pressed
---@field interrupted boolean       the transcript says that the user interrupted
---@field api_error boolean         the last block reports an API error
---@field broken_off boolean        it cut an answer off behind a call, which the program runs, and goes on
---@field last_is_answer boolean    the last record was a block of an answer
---@field assistant_blocks integer  since the message was accepted
---@field agents integer            sub-agents and workflows at work in the background

---Make a turn, at `idle`.
---@return parley.TurnMachine
function turn.new() end

---Apply an event. An event that is unknown, or illegal in this state, raises an error that names both and changes
---nothing.
---@param event parley.TurnEvent
---@param detail? {stop_reason?: string, api_error?: boolean, broken_off?: boolean} Of `assistant`.
---@return parley.TurnState state That follows.
function methods:apply(event, detail) end

---Tell what was seen, as plain data.
---@return parley.MachineFacts
function methods:facts() end

---@return parley.TurnState
function methods:state() end

return turn
