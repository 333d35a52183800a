--- What proves that a message has arrived, or that it has not: the record of it, another text in its place, a hook's
--- refusal; and what a command leaves instead.
local errors = require "parley.base.errors"
local claude_event = require "parley.claude.event"
local commands = require "parley.claude.commands"

local M = {}

--- The error that another text has arrived.
---@param turn parley.LiveTurn
---@param received string
---@param consequence? string
---@return parley.Error
function M.changed(turn, received, consequence)
  local message = "the message arrived changed%s: %q instead of %q (unless somebody else has entered that: a person, "
    .. "or an agent's `initialPrompt`)"
  message = message:format(consequence or "", errors.beginning(received, 80), errors.beginning(turn.text, 80))
  return errors.session_error(message, { reason = "delivery", sent = turn.text, received = received })
end

--- The record that proves that the message has arrived. One that differs is an error: it is not what was sent. But the
--- message before this one may have been interrupted so early that its record comes only now, and the program may have
--- given one to itself before Enter, or while the message waits in its queue: an agent of the user's has one to begin
--- with (`initialPrompt`; 2.1.197 and 2.1.332 write its record seconds later).
local function is_receipt(turn, record, event)
  if record.promptSource == "system" or event.is_meta or #event:blocks "tool_result" > 0 then return false end
  local text = event:text()
  if event.timestamp and turn.submitted_at:is_after(event.timestamp) then return false end
  if turn.matches(text, turn.text) then return true end
  local is_late = turn.withdrawn and turn.matches(text, turn.withdrawn)
  if is_late or turn.queued or claude_event.kind(event) ~= "typed" then return false end
  error(M.changed(turn, text), 0)
end

--- Raises that a hook of the user's has refused the message: nothing else comes of it.
---@param turn parley.LiveTurn
---@param why string
function M.refuse(turn, why)
  error(errors.session_error("a hook (UserPromptSubmit) has refused the message: " .. why,
    { reason = "refused", sent = turn.text }), 0)
end

local REFUSAL = "^UserPromptSubmit operation blocked by hook:%s*(.*)$"
local PROMPT = "Original prompt: "

local function trimmed(text) return text:match "^.*%S" or "" end

local function places_of(part, text)
  local places, at = {}, 0
  while true do
    at = text:find(part, at + 1, true)
    if not at then return places end
    table.insert(places, at)
  end
end

--- The record of such a refusal. It repeats the message, unless the hook suppresses that. Before the message may stand
--- the same words as the program puts there: a hook may give it as its reason.
local function check_refusal(turn, event)
  if event.type ~= "system" or event.subtype ~= "informational" then return end
  local said = tostring(event.message):match(REFUSAL)
  if not said then return end
  said = trimmed(said)
  local places = places_of(PROMPT, said .. " ")
  local from = places[#places - #places_of(PROMPT, turn.text .. " ")]
  if not from or turn.matches(said:sub(from + #PROMPT), turn.text) then
    M.refuse(turn, from and trimmed(said:sub(1, from - 1)) or said)
  end
end

--- What a command leaves in the transcript, each kind of command something else.
local function is_of_command(record, event)
  if event.type == "system" then
    return event.subtype == "local_command" or event.subtype == "compact_boundary"
      or event.subtype == "informational"
  end
  local text = event:text()
  return event.type == "user"
    and (text:find "<command%-name>" or text:find "^<local%-command" or text:find(commands.UNKNOWN)
      or record.isCompactSummary == true)
end

--- Whether a record that came after Enter is the message's own.
---@param turn parley.LiveTurn
---@param record table
---@param event? parley.Event  what it is reported as
---@return boolean
--- Raises `SessionError` when the message has arrived changed (reason `"delivery"`), or was refused (`"refused"`).
function M.has_come(turn, record, event)
  if not event then return false end
  if turn.is_command then return is_of_command(record, event) or false end
  check_refusal(turn, event)
  return event.type == "user" and is_receipt(turn, record, event)
end

--- The command that the program says it runs: the first that it names.
---@param turn parley.LiveTurn  of a command
---@param event parley.Event
---@return string? name
--- Raises `SessionError` (reason `"delivery"`) where it is another than the one that was typed.
function M.command_run(turn, event)
  local name = commands.name_in(event)
  if not name or turn.is_exact or commands.is_named(turn.text, name) then return name end
  error(errors.session_error(("the program has run /%s instead of %q (unless somebody else has entered that)"):format(
    name, errors.beginning(turn.text, 80)), { reason = "delivery", sent = turn.text, received = "/" .. name }), 0)
end

--- What a command writes last, when it starts no turn of the model. Before what it says stands its own name, on 2.1.197
--- and later in a record of the same kind.
---@param event parley.Event
---@return boolean
function M.ends_command(event)
  local is_name = tostring(event.message):find "^<command%-name>" ~= nil
  return event.type == "system" and not is_name
    and (event.subtype == "local_command" or event.subtype == "informational")
    or event.type == "user"
      and (event:text():find "^<local%-command%-std" or event:text():find(commands.UNKNOWN)) ~= nil
end

return M
