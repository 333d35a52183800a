--- History as a transcript that the program resumes from: the model gets the messages as they were.
---
--- An injection policy returns a table with `prepare`; see `concat_message` for its argument and result.
---
--- What the real program would drop or half-read (measured on 2.1.110, 2.1.197, 2.1.330) is repaired where that changes
--- nothing that was said, and refused otherwise:
---  1. neighbouring messages of one role are written as one;
---  2. a history that ends with the user's words: they go in front of the message to be sent, for the program would put
---     an answer of its own between them;
---  3. empty texts, and messages with nothing else, are left out;
---  4. thinking without a signature is left out: the API would refuse it;
---  5. a tool call without a result gets one that says so, an error;
---  6. a tool result without its call, and an image in what would have to be typed, are a `ValueError`.
local core = require "parley.core"
local errors = require "parley.errors"
local files = require "parley.files"
local history = require "parley.history"

local M = {}

local json = core.json
local VERSION = "2.1.330" -- whose records these are

local function is_dropped(block)
  if block.type == "text" then return block.text == "" or not block.text:find "%S" end
  if block.type == "thinking" then return type(block.signature) ~= "string" or block.signature == "" end
  return false
end

--- Rules 1, 3 and 4.
local function merged(messages)
  local result = {}
  for _, message in ipairs(messages) do
    for _, block in ipairs(history.blocks_of(message.content)) do
      if not is_dropped(block) then
        local last = result[#result]
        if not last or last.role ~= message.role then
          last = { role = message.role, content = json.array {} }
          table.insert(result, last)
        end
        table.insert(last.content, block)
      end
    end
  end
  return result
end

local function missing_result(id)
  return { type = "tool_result", tool_use_id = id, is_error = true,
    content = "The conversation has no result for this call." }
end

--- Rules 5 and 6.
local function paired(messages)
  local result = {}
  local open = {} ---@type string[] the calls of the message before
  for _, message in ipairs(messages) do
    local content, answered = json.array {}, {}
    for _, block in ipairs(message.content) do
      if block.type == "tool_result" then
        local is_open = false
        for _, id in ipairs(open) do is_open = is_open or id == block.tool_use_id end
        if not is_open then
          error(errors.value_error(("the history has a tool_result for '%s' without its tool_use")
            :format(block.tool_use_id)), 0)
        end
        answered[block.tool_use_id] = true
      end
      table.insert(content, block)
    end
    local missing = {}
    for _, id in ipairs(open) do
      if not answered[id] then table.insert(missing, missing_result(id)) end
    end
    if #missing > 0 and message.role == "user" then
      table.move(content, 1, #content, #missing + 1)
      table.move(missing, 1, #missing, 1, content)
    end
    open = {}
    for _, block in ipairs(content) do
      if message.role == "assistant" and block.type == "tool_use" then table.insert(open, block.id) end
    end
    table.insert(result, { role = message.role, content = content })
  end
  return result, open
end

--- Rule 2: takes the user's words off the end.
local function words_at_end(messages)
  local last = messages[#messages]
  if not last or last.role ~= "user" then return "" end
  local words, results = {}, json.array {}
  for _, block in ipairs(last.content) do
    if block.type == "text" then
      table.insert(words, block.text)
    elseif block.type == "tool_result" then
      table.insert(results, block)
    else
      error(errors.value_error(("the history ends with a user message that holds a block of type '%s', which cannot "
        .. "be typed"):format(block.type)), 0)
    end
  end
  if #results > 0 then
    error(errors.value_error "the history ends with a tool_result: the assistant's answer to it is missing", 0)
  end
  table.remove(messages)
  return table.concat(words, "\n") .. "\n"
end

local function timestamp(base, index)
  return os.date("!%Y-%m-%dT%H:%M:%S", base) .. (".%03dZ"):format(index % 1000)
end

--- The records: `permission-mode`, `file-history-snapshot`, then the messages, each chained to the one before. An answer
--- has a line for each block, as the program writes it.
local function records_of(messages, request)
  local id, now, records = request.session_id, os.time(), {}
  local first, previous = core.uuid.generate(), json.null
  table.insert(records, { type = "permission-mode", permissionMode = request.permission_mode or "default",
    sessionId = id })
  table.insert(records, { type = "file-history-snapshot", messageId = first, isSnapshotUpdate = false,
    snapshot = { messageId = first, trackedFileBackups = {}, timestamp = timestamp(now, 0) } })
  local function add(kind, message)
    local uuid = #records == 2 and first or core.uuid.generate()
    table.insert(records, {
      parentUuid = previous, isSidechain = false, userType = "external", cwd = request.cwd, sessionId = id,
      version = request.version or VERSION, type = kind, message = message, uuid = uuid,
      timestamp = timestamp(now, #records),
    })
    previous = uuid
  end
  for _, message in ipairs(messages) do
    if message.role == "user" then
      local single = #message.content == 1 and message.content[1].type == "text"
      add("user", { role = "user", content = single and message.content[1].text or message.content })
    else
      local message_id = "msg_" .. core.uuid.generate():gsub("-", "")
      local calls = false
      for _, block in ipairs(message.content) do calls = calls or block.type == "tool_use" end
      for _, block in ipairs(message.content) do
        add("assistant", {
          id = message_id, type = "message", role = "assistant", model = request.model or "claude-sonnet-4-5",
          content = json.array { block }, stop_reason = calls and "tool_use" or "end_turn", stop_sequence = json.null,
          usage = { input_tokens = 0, output_tokens = 0 },
        })
      end
    end
  end
  return records
end

--- Writes the history as the transcript of the session.
---@param request parley.InjectionRequest
---@return parley.Injection
--- Raises `ValueError` for a history that cannot be told faithfully, or the system's error; nothing is left then.
function M.prepare(request)
  local messages, open = paired(merged(request.history))
  if #open > 0 then -- rule 5 at the end
    local results = json.array {}
    for _, id in ipairs(open) do table.insert(results, missing_result(id)) end
    error(errors.value_error(("the history ends with the call of a tool ('%s') without its result"):format(open[1])), 0)
  end
  local text = words_at_end(messages) .. request.text
  if #messages == 0 then return { text = text } end
  local lines = {}
  for i, record in ipairs(records_of(messages, request)) do
    local line, err = json.encode(record)
    if not line then error(errors.value_error("the history cannot be written as JSON: " .. err.message), 0) end
    lines[i] = line
  end
  local seed = table.concat(lines, "\n") .. "\n"
  local folder = request.jsonl_path:match "^(.*)/"
  local ok, problem = files.make_folder(folder)
  if not ok then error(errors.new("EIO", ("cannot make the folder '%s': %s"):format(folder, problem)), 0) end
  files.write(request.jsonl_path, seed)
  return { text = text, resume = true, start_offset = #seed }
end

return M
