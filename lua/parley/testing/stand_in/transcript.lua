--- The transcript: records made as the real program makes them, gathered and written in batches.
local clock = require "parley.base.clock"
local core = require "parley.core"
local files = require "parley.base.files"
local task = require "parley.base.task"

local M = {}

local null = core.json.null
--- Half a line is the same half each time.
local IN_ORDER = { sort_keys = true }

---@class parley.testing.TranscriptWriter
---@field session_id string
---@field path string
---@field parent? string      uuid of the last record in the chain
---@field is_held boolean     nothing is written until somebody asks for it
---@field reorders boolean    the next batch has its answers before the message
---@field private is_new boolean      nothing of the first message is written yet
---@field private waiting table[]
local Transcript = {}
Transcript.__index = Transcript

--- A writer. Nothing is created before the first record.
---@param options {path: string, session_id: string, cwd: string, profile: parley.testing.Profile, flush_ms: number,
---       permission_mode: string}
---@return parley.testing.TranscriptWriter
function M.new(options)
  local self = setmetatable(options, Transcript)
  self.waiting, self.count, self.is_held, self.reorders = {}, 0, false, false
  self.has_head = files.size(self.path) ~= nil
  self.is_new = not self.has_head
  return self
end

--- The records of a file, or nil when there is none or none of it can be read.
---@param path string
---@return table[]?
function M.read(path)
  local records = {}
  for line in (files.read(path) or ""):gmatch "[^\n]+" do
    local record = core.json.decode(line)
    if type(record) == "table" then table.insert(records, record) end
  end
  return records[1] and records or nil
end

--- A record that is no part of the chain.
---@param kind string
---@param fields table
function Transcript:note(kind, fields)
  local record = { type = kind, sessionId = self.session_id }
  for name, value in pairs(fields) do record[name] = value end
  self:append(record)
end

--- A record in the chain. Returns its uuid.
---@param kind string
---@param fields table
---@return string uuid
function Transcript:chain(kind, fields)
  local record = {
    type = kind, uuid = core.uuid.generate(), parentUuid = self.parent or null, isSidechain = false,
    timestamp = clock.timestamp(), userType = "external", entrypoint = "cli", cwd = self.cwd,
    sessionId = self.session_id,
    version = self.profile.version, gitBranch = "HEAD",
  }
  for name, value in pairs(fields) do record[name] = value end
  self.parent = record.uuid
  self.count = self.count + 1
  self:follow_tail(record)
  self:append(record)
  return record.uuid
end

local heads = {
  mode = function(self) self:note("mode", { mode = "normal" }) end,
  ["permission-mode"] = function(self) self:note("permission-mode", { permissionMode = self.permission_mode }) end,
  ["file-history-snapshot"] = function(self)
    local id = core.uuid.generate()
    self:append { type = "file-history-snapshot", messageId = id, isSnapshotUpdate = false,
      snapshot = { messageId = id, trackedFileBackups = {}, timestamp = clock.timestamp() } }
  end,
}

--- Writes what waits at once: the file is there before a message is answered. What may overtake comes behind that.
function Transcript:begin_file()
  if self.is_held then return end
  local is_new = self.is_new
  self:flush()
  self.is_new = is_new
end

--- The fields of the record that begins a turn of the program's own.
---@return table
function Transcript:own_fields()
  local usual = self.profile.user_fields
  return { origin = { kind = "task-notification" }, promptSource = usual.promptSource and "system",
    turnOrigin = usual.turnOrigin and "task_notification" }
end

--- What the user typed, with what surrounds it in a new file.
---@param content string|table
---@param fields? table
---@return string uuid
function Transcript:user(content, fields)
  local is_new = not self.has_head
  self.has_head = true
  for _, name in ipairs(is_new and self.profile.head or {}) do
    if name == "file-history-snapshot" then self:begin_file() end
    heads[name](self)
  end
  local record = { message = { role = "user", content = content }, promptId = core.uuid.generate(),
    permissionMode = self.permission_mode }
  for name, value in pairs(self.profile.user_fields) do record[name] = value end
  for name, value in pairs(fields or {}) do record[name] = value end
  local uuid = self:chain("user", record)
  for _, name in ipairs(is_new and self.profile.attachments or {}) do
    self:chain("attachment", { attachment = { type = name } })
  end
  return uuid
end

local KINDS = { ["\137PNG\r\n\26\n"] = "image/png", ["\xFF\xD8\xFF"] = "image/jpeg", GIF8 = "image/gif",
  RIFF = "image/webp" }

--- The pictures that a message mentions, once each; of what is none there is no record.
---@param text string
function Transcript:attach_pictures(text)
  local is_done = {}
  for path in (" " .. text):gmatch "%s@(/[%w/._-]+%.%l+)" do
    local bytes = not is_done[path] and files.read(path) or ""
    is_done[path] = true
    for beginning, kind in pairs(KINDS) do
      if bytes:sub(1, #beginning) == beginning then
        self:chain("attachment", { attachment = { type = "file", filename = path, content = { type = "image",
          file = { type = kind, base64 = core.text.to_base64(bytes), originalSize = #bytes } } } })
      end
    end
  end
end

--- Takes over what another session has said, times and all, and goes on from there.
---@param from parley.testing.TranscriptWriter
function Transcript:copy(from)
  for _, record in ipairs(M.read(from.path) or {}) do
    if record.uuid then
      record.sessionId, record.forkedFrom = self.session_id, { sessionId = from.session_id, messageUuid = record.uuid }
      self:write(core.json.encode(record, IN_ORDER) .. "\n")
    end
  end
  self.parent, self.has_head, self.is_new = from.parent, from.has_head, from.is_new
end

--- A message, with the snapshot of the files that the program makes before each.
---@param content string
---@param fields? table
function Transcript:message(content, fields)
  if self.has_head then heads["file-history-snapshot"](self) end
  self:user(content, fields)
end

--- A line that the program itself put between the messages.
---@param text string
function Transcript:meta(text)
  self:chain("user", { message = { role = "user", content = text }, isMeta = true, promptId = core.uuid.generate() })
end

--- A compaction: a new tree begins, with a summary for the model under the user's name. The model takes so long for it
--- that what came before is in the file. Kept is all from the answer that came last on. In the middle of a turn the
--- boundary names a record that comes behind the summary as the one before it (2.1.332).
---@param trigger "auto"|"manual"
function Transcript:compact(trigger)
  if not self.is_held then self:flush() end
  local tail = self.tail or {}
  local kept = table.move(tail, 1, #tail, 1, core.json.array {})
  local behind = self.profile.compacts_behind and self.tail_has_result and core.uuid.generate() or nil
  local anchor, former = core.uuid.generate(), self.parent
  self:chain("system", { subtype = "compact_boundary", content = "Conversation compacted", level = "info",
    isMeta = false, parentUuid = null, logicalParentUuid = behind or self.parent, compactMetadata = { trigger = trigger,
      preservedMessages = kept[1] and { anchorUuid = anchor, uuids = kept, allUuids = kept } or nil } })
  self:chain("user", { uuid = anchor, isCompactSummary = true, isVisibleInTranscriptOnly = true,
    promptId = core.uuid.generate(),
    message = { role = "user", content = "This session is being continued from a previous conversation." } })
  if self.profile.answers_overtake and trigger == "auto" then
    -- What comes next may be written before it, and hangs on what came before the compaction.
    self.overtaken, self.parent = table.remove(self.waiting), former
  end
  if behind then self:chain("attachment", { uuid = behind, attachment = { type = "total_tokens_reminder" } }) end
end

--- Follows what a compaction would keep: the last answer, and what has come since.
function Transcript:follow_tail(record)
  local id = record.type == "assistant" and record.message.id
  if record.isCompactSummary or id and id ~= self.tail_id then self.tail, self.tail_has_result = nil, false end
  self.tail_id = id or self.tail_id
  if id then self.tail = self.tail or core.json.array {} end
  if self.tail then table.insert(self.tail, record.uuid) end
  self.tail_has_result = record.sourceToolAssistantUUID ~= nil
end

local function usage(output_tokens)
  return { input_tokens = 1, output_tokens = output_tokens, cache_creation_input_tokens = 0,
    cache_read_input_tokens = 0, service_tier = "standard" }
end

--- One content block of an API message.
---@param message {id: string, model: string, stop_reason: string}
---@param block table
---@return string uuid
function Transcript:assistant(message, block)
  local reason = self.profile.stop_reason == "every" and message.stop_reason or null -- null when it was cut off
  return self:chain("assistant", { message = {
    id = message.id, type = "message", role = "assistant", model = message.model, content = { block },
    stop_reason = reason, stop_sequence = null, usage = usage(5),
  } })
end

--- The line that an API error leaves.
---@param text string
---@param fields table   `error`, `apiErrorStatus`
---@param stop_reason? string
function Transcript:api_error(text, fields, stop_reason)
  local record = { isApiErrorMessage = true, message = {
    id = core.uuid.generate(), type = "message", role = "assistant", model = "<synthetic>",
    content = { { type = "text", text = text } }, stop_reason = stop_reason or "stop_sequence", stop_sequence = "",
    usage = usage(0),
  } }
  for name, value in pairs(fields) do record[name] = value end
  self:chain("assistant", record)
end

--- The result of a tool call.
---@param call table        the `tool_use` block
---@param content string|table[]
---@param is_error boolean
---@param call_uuid string  of the record that holds the call
---@param prompt_id? string
---@param launched? table   what the record has beside it, where a sub-agent was started
function Transcript:tool_result(call, content, is_error, call_uuid, prompt_id, launched)
  self:chain("user", {
    message = { role = "user", content = {
      { type = "tool_result", tool_use_id = call.id, content = content, is_error = is_error } } },
    toolUseResult = launched or (is_error or type(content) == "table") and content
      or { stdout = content, stderr = "", interrupted = false, isImage = false },
    sourceToolAssistantUUID = call_uuid, promptId = prompt_id,
  })
end

--- What does not wait for the message's record where a batch is out of order.
local OVERTAKES = { assistant = true, system = true, mode = true, ["permission-mode"] = true }

--- Queues a record for the next batch.
---@param record table
function Transcript:append(record)
  table.insert(self.waiting, { line = core.json.encode(record, IN_ORDER) .. "\n", overtakes = OVERTAKES[record.type] })
  table.insert(self.waiting, self.overtaken)
  self.overtaken = nil
  if self.is_held then return end
  if self.flush_ms <= 0 then return self:flush() end
  if self.timer then return end
  self.timer = clock.after(math.max(1, math.floor(self.flush_ms)), function()
    self:stop_timer()
    self:flush()
  end)
end

function Transcript:stop_timer()
  if not self.timer then return end
  self.timer:close()
  self.timer = nil
end

local function ends_in_half(path) return (files.read(path) or ""):find "[^\n]$" ~= nil end

function Transcript:write(bytes)
  files.make_folder(self.path:match "^(.*)/")
  if not self.has_written and self.profile.ends_half_lines and ends_in_half(self.path) then bytes = "\n" .. bytes end
  self.has_written = true
  files.put(self.path, bytes, "a") -- where that fails the program goes on without a word
end

--- Goes on writing in another place, to which the file is moved: another folder's.
---@param path string
---@param cwd string
---@param rename fun(from: string, to: string)
function Transcript:move(path, cwd, rename)
  self:stop_timer()
  self:flush()
  files.make_folder(path:match "^(.*)/")
  rename(self.path, path)
  self.path, self.cwd = path, cwd
  self:note("relocated", { relocatedCwd = cwd })
end

--- Takes what waits, in the order in which this batch is written.
function Transcript:take()
  local lines, late = {}, {}
  for _, entry in ipairs(self.waiting) do
    local reorders = self.reorders or self.profile.answers_overtake and self.is_new
    table.insert(reorders and not entry.overtakes and late or lines, entry.line)
  end
  self.waiting, self.reorders, self.is_new = {}, false, false
  table.move(late, 1, #late, #lines + 1, lines)
  return table.concat(lines)
end

--- Writes what waits.
function Transcript:flush()
  if #self.waiting > 0 then self:write(self:take()) end
end

--- Writes what waits, but only the first half of its last line.
---@return string rest  what `write` must get for the line to be whole
function Transcript:flush_half()
  local bytes = self:take()
  local last = #(bytes:sub(1, -2):match "^.*\n" or "")
  local half = last + (#bytes - last) // 2
  self:write(bytes:sub(1, half))
  return bytes:sub(half + 1)
end

--- Writes what waits, in two parts with a pause within the last line.
---@param milliseconds number
function Transcript:flush_slowly(milliseconds)
  local rest = self:flush_half()
  task.sleep(milliseconds)
  self:write(rest)
end

return M
