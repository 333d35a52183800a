--- Error objects. Callers branch on `code`, never on text; `tostring` gives one readable line.
local core = require "parley.core"
local tables = require "parley.base.tables"

local M = {}

---@class parley.Error
---@field code string     `"ValueError"`, `"SessionError"`, …, or a system error such as `"ENOENT"`
---@field message string  one sentence that names the thing and says what was expected
---@field cause? any      the error that led to this one

--- The metatable that C and Lua share, so that both make the same kind of object.
M.metatable = core.error_metatable

--- Makes an error object.
---@param code string
---@param message string
---@param fields? table  further fields, copied
---@return parley.Error
function M.new(code, message, fields)
  return setmetatable(tables.merged({ code = code, message = message }, fields), M.metatable)
end

local function constructor(code)
  return function(message, fields) return M.new(code, message, fields) end
end

--- Bad input; nothing was started.
---@type fun(message: string, fields?: table): parley.Error
M.value_error = constructor "ValueError"

--- The program cannot be run. `executable` names it.
---@type fun(message: string, fields?: table): parley.Error
M.cli_not_found_error = constructor "CLINotFoundError"

--- A session's trouble. `reason` is one of `"start"`, `"busy"`, `"delivery"`, `"refused"` (by a hook), `"dialog"`,
--- `"transcript"`, `"timeout"`, `"exit"`, `"crash"` (the program stands still after a failure in its own code),
--- `"api"`, `"deadlock"` (a wait that would never end), `"tools"` (the program does not ask which there are), or, where
--- an answer was waited for, the `subtype` of a `result` that is none, such as `"interrupted"` or `"error_command"` (a
--- command of the program's own failed); `screen` holds the last screen as text; `at_start` is true when the program
--- had not been ready for its first message.
---@type fun(message: string, fields?: table): parley.Error
M.session_error = constructor "SessionError"

--- A dialog waits for an answer that nobody allowed. `dialog` is `{kind, text, choices}`; `at_start` as above.
---@type fun(message: string, fields?: table): parley.Error
M.dialog_error = constructor "DialogError"

--- An answer is not what its schema says. `problem` says why, `answer` is the answer.
---@type fun(message: string, fields?: table): parley.Error
M.validation_error = constructor "ValidationError"

--- What is kept from one process to the next cannot be. `reason` is `"folder"` (nobody else may reach into it),
--- `"newer"` (than this program), `"foreign"`, `"corrupt"`, `"full"`, `"read_only"`, `"busy"`, `"leased"` or `"io"`.
---@type fun(message: string, fields?: table): parley.Error
M.state_error = constructor "StateError"

--- The object was closed before this call.
---@type fun(message: string, fields?: table): parley.Error
M.closed_error = constructor "ClosedError"

--- The task was cancelled. `reason` says by whom, where that is known.
---@type fun(message: string, fields?: table): parley.Error
M.cancelled = constructor "Cancelled"

--- What to say of a value that was raised, whatever it is.
---@param value any
---@return string
function M.text(value)
  local metatable = debug.getmetatable(value)
  if type(value) == "string" or metatable and metatable.__tostring then return tostring(value) end
  return "an error without a text: " .. (core.json.encode(value, { sort_keys = true }) or tostring(value))
end

--- What to say of it where its code is of no use.
---@param value any
---@return string
function M.message(value) return M.is(value) and value.message or M.text(value) end

--- A text on one line.
---@param text string
---@return string
function M.on_one_line(text)
  local function join(space) return space:find("\n", 1, true) and " | " end
  return ((text:match "^.*%S" or ""):gsub("%s+", join))
end

--- The beginning of a text, cut between two characters: half of one would make a message that is no JSON.
---@param text string
---@param bytes integer  so many at most
---@return string
function M.beginning(text, bytes)
  if #text <= bytes then return text end
  return text:sub(1, utf8.offset(text, 0, bytes + 1) - 1)
end

--- Tells whether a value is an error object, and of the given code when one is given.
---@param value any
---@param code? string
---@return boolean
function M.is(value, code)
  return getmetatable(value) == M.metatable and (code == nil or value.code == code)
end

return M
