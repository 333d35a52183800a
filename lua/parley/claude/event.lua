--- Transcript records as typed events.

local M = {}

---@class parley.Event
---@field type "user"|"partial"|"assistant"|"system"|"result"
---@field content? table[]      blocks in the shapes of the Messages API, those of unknown types as they came
---@field uuid? string
---@field session_id? string
---@field timestamp? string     ISO 8601
---@field message_id? string    of the API message that an assistant event is a part of
---@field model? string
---@field stop_reason? string
---@field usage? table
---@field is_error? boolean     an assistant event that reports an API error; a result that is no success
---@field error? string         what kind of API error
---@field api_error_status? integer  HTTP status
---@field is_meta? boolean      a user event that the program wrote itself
---@field subtype? string       of a system event or a result
---@field tool_names? table<string, string>  of `tool_use` blocks that call tools of the script's, by the block's id
---@field index? integer        of a partial event: its place among those of its message
---@field final? boolean        of a partial event: it and those before it, joined, are the message's whole text
---@field message? string       of a partial event: its message, by the program's own id; of others: what is said
---@field wanted? string         of `permission_mode_unavailable`: the mode that was asked for
---@field has? string            and the one that the program is in
---@field record? table         the transcript's record as it came
local Event = {}
Event.__index = Event
Event.__name = "parley.Event"

--- The text of the content: its text blocks, joined.
---@return string
function Event:text()
  local parts = {}
  for _, block in ipairs(self:blocks "text") do
    if type(block.text) == "string" then table.insert(parts, block.text) end
  end
  return table.concat(parts, "\n")
end

--- The blocks of one type.
---@param kind string  `"tool_use"`
---@return table[]
function Event:blocks(kind)
  local found = {}
  for _, block in ipairs(self.content or {}) do
    if type(block) == "table" and block.type == kind then table.insert(found, block) end
  end
  return found
end

--- Makes an event.
---@param fields table
---@return parley.Event
function M.new(fields) return setmetatable(fields, Event) end

--- A value of the type that it has; nil for JSON's null, and for what is not as it should be.
local function present(value, kind)
  if kind and type(value) ~= kind or type(value) == "userdata" then return nil end
  return value
end

--- The blocks of a message; nil where it is none.
local function content_of(message)
  local content = type(message) == "table" and message.content
  if type(content) == "string" then return { { type = "text", text = content } } end
  if type(content) ~= "table" then return nil end
  local blocks = setmetatable({}, getmetatable(content)) -- of a JSON array, though it is empty
  for _, block in ipairs(content) do
    local is_one = type(block) == "table" and (block.type ~= "text" or type(block.text) == "string")
    if is_one then table.insert(blocks, block) end
  end
  return blocks
end

local readers = {}

function readers.user(record, fields)
  fields.content = content_of(record.message)
  if not fields.content then return nil end
  fields.is_meta = present(record.isMeta) or record.isCompactSummary == true or nil
  return fields
end

function readers.assistant(record, fields)
  local message = record.message
  fields.content = content_of(message)
  if not fields.content then return nil end
  fields.message_id = present(message.id, "string")
  fields.model = present(message.model)
  fields.stop_reason = present(message.stop_reason, "string")
  fields.usage = present(message.usage, "table")
  if present(record.isApiErrorMessage) then
    fields.is_error = true
    fields.error = present(record.error)
    fields.api_error_status = present(record.apiErrorStatus)
  end
  return fields
end

--- What was sent to the program while it was at work, and handed to the model with the next result of a tool; nil for
--- other attachments, and for what the program tells itself that way (2.1.110 to 2.1.332).
---@param record table
---@return string|table[]? content  of the message
function M.queued_message(record)
  local given = record.type == "attachment" and present(record.attachment, "table")
  if not given or given.type ~= "queued_command" or given.commandMode ~= "prompt" or present(given.isMeta) then
    return nil
  end
  local origin = present(given.origin, "table") -- 2.1.110 names none
  return (not origin or origin.kind == "human") and content_of { content = given.prompt } or nil
end

function readers.attachment(record, fields)
  fields.type, fields.content = "user", M.queued_message(record)
  return fields.content and fields
end

function readers.system(record, fields)
  fields.subtype = present(record.subtype)
  fields.message = present(record.content)
  return fields
end

--- The event of a transcript record.
---@param record table  one decoded line
---@return parley.Event? event  nil for records that are none: unknown types, a sub-agent's, book-keeping
function M.from_record(record)
  local reader = readers[record.type]
  if not reader or present(record.isSidechain) then return nil end
  local fields = reader(record, {
    type = record.type,
    uuid = present(record.uuid),
    session_id = present(record.sessionId),
    timestamp = present(record.timestamp, "string"),
    record = record,
  })
  return fields and M.new(fields)
end

--- Texts that the program writes under the user's name.
local PROGRAM_TEXTS = {
  { "^<command%-%a+>[^<]*</command%-%a+>%s*<command%-%a+>", "command" },
  { "^<command%-%a+>[^<]*</command%-%a+>%s*$", "command" }, { "^<local%-command%-%a+>", "program" },
  { "^%[Request interrupted by user[^%]]*%]%s*$", "program" },
  { "^<task%-notification>", "notification" }, { "^<bash%-%a+>", "notification" },
}

--- Whether a record is what the model is told of something in the background, where the program goes on by itself.
---@param record table
---@return boolean
function M.is_notification(record)
  local origin = record.type == "user" and present(record.origin, "table")
  return origin and origin.kind == "task-notification" or false
end

--- Says what a user event is: `typed` by a person, a slash `command`, the `results` of tool calls, the `summary` that
--- a compaction leaves, a `notification` that the model answers, or a word of the `program` that it does not.
---@param event parley.Event
---@return "typed"|"command"|"results"|"summary"|"notification"|"program" kind
function M.kind(event)
  local record, text = event.record or {}, event:text()
  if record.isCompactSummary == true then return "summary" end
  if event.is_meta then return "program" end
  if #event:blocks "tool_result" > 0 then return "results" end
  for _, entry in ipairs(PROGRAM_TEXTS) do
    if text:find(entry[1]) then return entry[2] end
  end
  local is_own = record.promptSource == "system" or M.is_notification(record) -- 2.1.110 has no `promptSource`
  return is_own and "notification" or "typed"
end

return M
