--- History as a transcript that the program resumes from: the model gets the messages as they were.
---
--- An injection policy returns a table with `prepare`; see `concat_message` for its argument and result.
---
--- What the real program would drop or half-read (measured on 2.1.110, 2.1.197, 2.1.330) is repaired where that changes
--- nothing that was said, and refused otherwise:
---  1. neighbouring messages of one role are written as one;
---  2. empty texts, and messages with nothing else, are left out;
---  3. thinking without a signature is left out, for the API would refuse it, and so is `cache_control`, of which the
---     program adds its own and the API allows few;
---  4. a user's message begins with its tool results, as the API wants it;
---  5. a tool call that the next message has no result for gets one that says so, an error;
---  6. a history that ends with the user's words: they go in front of the message to be sent, for the program would put
---     an answer of its own between them;
---  7. a history that ends with a tool that the user has interrupted gets the answer that the program itself puts there
---     when it resumes: "No response requested.";
---  8. a tool call whose id one before it has had, as of a client that numbers them anew in each answer, gets an id of
---     its own, and so does its result: the program would leave both out, without a word;
---  9. a `ValueError`: a tool result without its call, a second one for a call, two calls of one id in a message, a
---     history that ends with a tool call or a tool result (the answer is missing), one that ends with an image, which
---     would have to be typed.
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local history = require "parley.base.history"
local tables = require "parley.base.tables"

local M = { contract = require "parley.policy.injection.contract" }

local json = core.json

--- The program goes on with the model that it finds in the file, unless it is told one (2.1.197 and later). This is
--- what it writes for the answers of none, and passes over.
local NO_MODEL = "<synthetic>"
local VERSION = "2.1.330" -- whose records these are
local NO_RESPONSE = "No response requested."

local function refuse(message, ...) error(errors.value_error("the history " .. message:format(...)), 0) end

local function is_dropped(block)
  if block.type == "text" then return not block.text:find "%S" end
  if block.type == "thinking" then return type(block.signature) ~= "string" or block.signature == "" end
  return false
end

local function without_cache_control(block)
  if block.cache_control == nil then return block end
  local copy = tables.merged(block)
  copy.cache_control = nil
  return copy
end

--- Rules 1 to 3.
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
        table.insert(last.content, without_cache_control(block))
      end
    end
  end
  return result
end

local function missing_result(id)
  return { type = "tool_result", tool_use_id = id, is_error = true,
    content = "The conversation has no result for this call." }
end

--- A user's message behind the calls of the one before: rules 4, 5 and 9.
local function with_results(message, calls)
  local content, rest, answered = json.array {}, {}, {}
  for _, block in ipairs(message.content) do
    local id = block.type == "tool_result" and block.tool_use_id
    if id then
      if not calls[id] then refuse("has a tool_result for '%s' without its tool_use", id) end
      if answered[id] then refuse("has two tool_results for '%s'", id) end
      answered[id] = true
    end
    table.insert(id and content or rest, block)
  end
  for _, id in ipairs(calls) do
    if not answered[id] then table.insert(content, missing_result(id)) end
  end
  table.move(rest, 1, #rest, #content + 1, content)
  return { role = "user", content = content }
end

--- The calls in a message, as a list and as a set.
local function calls_in(message)
  local calls = {}
  for _, block in ipairs(message.role == "assistant" and message.content or {}) do
    if block.type == "tool_use" then
      if calls[block.id] then refuse("has two calls of the id '%s' in one message", block.id) end
      table.insert(calls, block.id)
      calls[block.id] = true
    end
  end
  return calls
end

local function paired(messages)
  local result, calls = {}, {}
  for i, message in ipairs(messages) do
    result[i] = message.role == "user" and with_results(message, calls) or message
    calls = calls_in(message)
  end
  if calls[1] then refuse("ends with the call of a tool ('%s') without its result", calls[1]) end
  return result
end

--- Rule 8. An id depends on those before it alone: a longer history has the same ones at its beginning.
local function with_own_ids(messages)
  local taken, counts, given = {}, {}, {}
  for _, message in ipairs(messages) do
    for i, block in ipairs(message.content) do
      local old = block.type == "tool_use" and block.id
      if old then
        local id = old
        while taken[id] do
          counts[old] = (counts[old] or 1) + 1
          id = old .. "-" .. counts[old] -- with a "_" 2.1.332 takes it for the same
        end
        taken[id], given[old] = true, id
        message.content[i] = tables.merged(block, { id = id })
      elseif block.type == "tool_result" then
        message.content[i] = tables.merged(block, { tool_use_id = given[block.tool_use_id] })
      end
    end
  end
  return messages
end

--- Whether a block says that the user has interrupted the tool whose result stands before it.
local function is_interruption(content, i)
  return content[i].type == "text" and content[1].type == "tool_result"
    and content[i].text:find "^%[Request interrupted by user" ~= nil
end

--- Rules 6 and 7: takes the user's words off the end.
local function words_at_end(messages)
  local last = messages[#messages]
  if not last or last.role ~= "user" then return "" end
  local words, kept = {}, #last.content
  while kept > 0 and last.content[kept].type == "text" and not is_interruption(last.content, kept) do
    table.insert(words, 1, table.remove(last.content).text)
    kept = kept - 1
  end
  if kept == 0 then
    table.remove(messages)
  elseif last.content[kept].type == "tool_result" then
    refuse "ends with a tool_result: the answer to it is missing"
  elseif last.content[kept].type ~= "text" then
    refuse("ends with a user message that holds a block of type '%s', which cannot be told", last.content[kept].type)
  else
    table.insert(messages, { role = "assistant", content = json.array { { type = "text", text = NO_RESPONSE } } })
  end
  return words[1] and table.concat(words, "\n") .. "\n" or ""
end

--- The records: `permission-mode`, `file-history-snapshot`, then the messages, each chained to the one before. An
--- answer has a line for each block, as the program writes it.
local function records_of(messages, request)
  local id, records = request.session_id, {}
  local count = 2
  for _, message in ipairs(messages) do count = count + #message.content end
  -- A millisecond later for each record: their order is that of the conversation. None is of the future.
  local began = (clock.wall() // 1000 - 1 - count // 1000) * 1000
  local first, previous = core.uuid.generate(), json.null
  table.insert(records, { type = "permission-mode", permissionMode = request.permission_mode, sessionId = id })
  table.insert(records, { type = "file-history-snapshot", messageId = first, isSnapshotUpdate = false,
    snapshot = { messageId = first, trackedFileBackups = {}, timestamp = clock.timestamp(began) } })
  local function add(kind, message)
    local uuid = #records == 2 and first or core.uuid.generate()
    table.insert(records, {
      parentUuid = previous, isSidechain = false, userType = "external", cwd = request.cwd, sessionId = id,
      version = VERSION, type = kind, message = message, uuid = uuid,
      timestamp = clock.timestamp(began + #records),
    })
    previous = uuid
  end
  for _, message in ipairs(messages) do
    if message.role == "user" then
      local single = #message.content == 1 and message.content[1].type == "text"
      add("user", { role = "user", content = single and message.content[1].text or message.content })
    else
      local message_id = "msg_" .. core.uuid.generate():gsub("-", "")
      local stop_reason = calls_in(message)[1] and "tool_use" or "end_turn"
      for _, block in ipairs(message.content) do
        add("assistant", {
          id = message_id, type = "message", role = "assistant", model = request.model or NO_MODEL,
          content = json.array { block }, stop_reason = stop_reason, stop_sequence = json.null,
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
  local messages = with_own_ids(paired(merged(request.history)))
  local text = words_at_end(messages) .. request.text
  if #messages == 0 then return { text = text } end
  local lines = {}
  for i, record in ipairs(records_of(messages, request)) do
    local line, err = json.encode(record)
    if not line then refuse("cannot be written as JSON: %s", err.message) end
    lines[i] = line
  end
  local seed = table.concat(lines, "\n") .. "\n"
  local ok, err = files.make_folder(request.jsonl_path:match "^(.*)/")
  if not ok then error(err, 0) end
  files.write(request.jsonl_path, seed)
  return { text = text, resume = true, start_offset = #seed }
end

return M
