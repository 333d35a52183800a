--- What was said in a transcript: its records as the one conversation that the program would go on with.
---
--- The file is a tree: each record names the one before it (`parentUuid`). A message that was taken back, or cut off
--- before its answer, is a branch that leads nowhere. Parallel tool calls branch too, and only one of the branches goes
--- on (measured on 2.1.330, 2.1.197 and 2.1.110): the other calls and their results are fetched back. The order of the
--- lines is not always that of the tree: 2.1.197 writes a first answer before the message that it answers.
local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local history = require "parley.base.history"
local claude_event = require "parley.claude.event"

local M = {}

local json = core.json

local function text_or_nil(value) return type(value) == "string" and value or nil end

local function drop_odd_blocks(message)
  local content = type(message) == "table" and message.content
  if type(content) ~= "table" then return end
  for i = #content, 1, -1 do
    if type(content[i]) ~= "table" then table.remove(content, i) end
  end
end

--- Whether a line is a record, of the tree or one of those before the first message.
local function is_record(record)
  if type(record) ~= "table" or not text_or_nil(record.type) then return false end
  return (text_or_nil(record.uuid) or text_or_nil(record.sessionId) or text_or_nil(record.messageId)) ~= nil
end

--- The records that are part of the tree, in the order of the file. A line that is no JSON is passed over: the last one
--- may be half written.
local function read_records(path)
  local stat, problem = uv.fs_stat(path)
  problem = problem and files.reason(problem)
  if stat and stat.type == "directory" then problem = "it is a folder" end
  local file
  if not problem then
    file, problem = io.open(path, "rb")
    problem = problem and problem:sub(#path + 3) -- what stands behind the path
  end
  if not file then error(errors.value_error(("cannot read '%s': %s"):format(path, problem)), 0) end
  local _ <close> = file
  local records, is_transcript = {}, false
  for line in file:lines() do
    local may_be_said = line:find('"uuid"', 1, true)
    local record = (may_be_said or not is_transcript) and json.decode(line)
    is_transcript = is_transcript or is_record(record)
    if may_be_said and type(record) == "table" and text_or_nil(record.uuid) then
      record.toolUseResult = nil -- the result a second time
      drop_odd_blocks(record.message)
      table.insert(records, record)
    end
  end
  if not is_transcript then
    error(errors.value_error(("'%s' is no transcript: none of its lines is a record"):format(path)), 0)
  end
  return records
end

--- Whether it is a message, and not a sub-agent's.
function M.is_said(record)
  local is_message = (record.type == "user" or record.type == "assistant") and type(record.message) == "table"
  return (is_message or claude_event.queued_message(record) ~= nil) and record.isSidechain ~= true
end

local function blocks_of(record)
  local content = record.message and record.message.content
  return type(content) == "table" and content or {}
end

--- Adds the other blocks of the messages on the way, and the results of their calls.
local function add_branches(records, active)
  local ids, calls = {}, {}
  for _, record in ipairs(records) do
    if active[record.uuid] and record.type == "assistant" then ids[record.message.id or false] = true end
  end
  ids[false] = nil
  for _, record in ipairs(records) do
    if record.type == "assistant" and ids[record.message.id] then active[record.uuid] = true end
    if active[record.uuid] then
      for _, block in ipairs(blocks_of(record)) do
        if block.type == "tool_use" then calls[block.id or false] = true end
      end
    end
  end
  for _, record in ipairs(records) do
    for _, block in ipairs(blocks_of(record)) do
      if block.type == "tool_result" and calls[block.tool_use_id] then active[record.uuid] = true end
    end
  end
end

local function parent_of(record, by_uuid) return by_uuid[text_or_nil(record.parentUuid)] end

--- The records in the order of the file, but for those that stand before what they follow from: they come behind it.
local function in_order(records, by_uuid)
  local ordered, is_taken = {}, {}
  for _, record in ipairs(records) do
    local way = {}
    while record and not is_taken[record] do
      is_taken[record] = true
      table.insert(way, record)
      record = parent_of(record, by_uuid)
    end
    for i = #way, 1, -1 do table.insert(ordered, way[i]) end
  end
  return ordered
end

local function is_boundary(record) return record.subtype == "compact_boundary" and record.isSidechain ~= true end

--- The records that the model keeps beside a compaction's summary, in their order.
local function kept_at(boundary, by_uuid)
  local about = type(boundary.compactMetadata) == "table" and boundary.compactMetadata or {}
  local list, given = {}, type(about.preservedMessages) == "table" and about.preservedMessages.uuids
  for _, uuid in ipairs(type(given) == "table" and given or {}) do table.insert(list, by_uuid[uuid]) end
  return list
end

--- Where each compaction stands: what is kept there, and which record came before it. Its `logicalParentUuid` names
--- that, but for one in the middle of a turn, where it may name one behind the summary (2.1.332), and an answer may be
--- written before the summary (2.1.197).
local function compactions_in(records, by_uuid)
  local before, kept, keeper, summary, overtaken, seen, newest, answer = {}, {}, {}, {}, {}, {}, nil, nil
  for i, record in ipairs(records) do
    if is_boundary(record) then
      local named = by_uuid[text_or_nil(record.logicalParentUuid)]
      before[record] = named and seen[named] and named or records[i - 1]
      kept[record] = kept_at(record, by_uuid)
      for _, each in ipairs(kept[record]) do keeper[each] = record end
      newest, answer = record, nil
    elseif newest and record.isCompactSummary == true and M.is_said(record) then
      summary[newest] = summary[newest] or by_uuid[record.uuid] -- one that is written again stands where the first did
      overtaken[record] = answer
    elseif M.is_said(record) then
      answer = record
    end
    seen[record] = true
  end
  return { before = before, kept = kept, keeper = keeper, summary = summary, overtaken = overtaken, newest = newest }
end

--- The records that lead to the last thing said. A compaction starts a new tree; what was kept of the old one may have
--- the new messages hang on it (2.1.197).
local function active_in(said, by_uuid, compactions)
  local active, last, newest = {}, said[#said], compactions.newest
  last = compactions.overtaken[last] or last
  while last and not active[last.uuid] do
    active[last.uuid] = true
    if newest and compactions.keeper[last] == newest then active[newest.uuid] = true end
    last = parent_of(last, by_uuid) or compactions.before[last]
  end
  for boundary, kept in pairs(compactions.kept) do
    for _, record in ipairs(active[boundary.uuid] and kept or {}) do active[record.uuid] = true end
  end
  add_branches(said, active)
  return active
end

--- The records of the conversation, in the order of the tree: what a compaction has kept stands behind its summary.
local function active_records(records)
  local by_uuid = {}
  for _, record in ipairs(records) do by_uuid[record.uuid] = record end
  local compactions = compactions_in(records, by_uuid)
  records = in_order(records, by_uuid)
  local said, list, is_placed = {}, {}, {}
  for _, record in ipairs(records) do
    if M.is_said(record) then table.insert(said, record) end
  end
  local active = active_in(said, by_uuid, compactions)
  local function place(record)
    if not is_placed[record] then table.insert(list, record) end
    is_placed[record] = true
  end
  for _, record in ipairs(records) do
    local keeper = compactions.keeper[record]
    local is_elsewhere = keeper and active[keeper.uuid] or by_uuid[record.uuid] ~= record
    if active[record.uuid] and not is_elsewhere then
      place(record)
      local summary = compactions.summary[record]
      if summary then place(summary) end
      for _, kept in ipairs(compactions.kept[record] or {}) do
        if compactions.keeper[kept] == record then place(kept) end
      end
    end
  end
  return list
end

--- Reads a transcript as the events of the conversation that it holds.
---@param path string
---@return parley.Event[] events
--- Raises `ValueError` when the file cannot be read or holds no record.
function M.read(path)
  local events = {}
  for _, record in ipairs(active_records(read_records(path))) do
    table.insert(events, claude_event.from_record(record))
  end
  return events
end

--- What a command's record stands for, as it was typed.
---@param event parley.Event  of the kind `command`
---@return string  `"/review src"`
function M.command_text(event)
  local text = event:text()
  local name = text:match "<command%-name>([^<]*)<" or "/" .. (text:match "<command%-message>([^<]*)<" or "?")
  local _, first = text:find("<command-args>", 1, true)
  local last = first and text:find("</command-args>", first, true)
  local words = last and text:sub(first + 1, last - 1) or ""
  return words == "" and name or name .. " " .. words
end

local function without_open_calls(message)
  local content = json.array {}
  for _, block in ipairs(message.content) do
    if block.type ~= "tool_use" then table.insert(content, block) end
  end
  return content
end

local function has(message, kind)
  for _, block in ipairs(message.content) do
    if block.type == kind then return true end
  end
  return false
end

--- Takes the end of an unfinished turn off: calls without results, results without the answer to them.
local function cut_unfinished(messages)
  while messages[1] do
    local last = messages[#messages]
    if last.role == "user" and has(last, "tool_result") then
      table.remove(messages)
    elseif last.role == "assistant" and has(last, "tool_use") then
      last.content = without_open_calls(last)
      if #last.content == 0 then table.remove(messages) end
    else
      return
    end
  end
end

--- The conversation as messages of the Messages API, to be used as a history: neighbours of one role are one message;
--- what the program wrote for itself, reports of API errors, commands that the model did not answer, and the end of a
--- turn that was cut off inside a tool call are left out, and so are results of calls whose line was torn. After a
--- compaction it begins with the summary, as for the model.
---@param events parley.Event[]  from `read`
---@return table[] messages
function M.messages(events)
  local messages, by_id, called, command = {}, {}, {}, nil
  local function add(role, content)
    local last = messages[#messages]
    if not last or last.role ~= role then
      last = { role = role, content = json.array {} }
      table.insert(messages, last)
    end
    table.move(content, 1, #content, #last.content + 1, last.content)
    return last
  end
  local function answer(event)
    local content = history.without_lost_calls(event.content, called)
    if command then add("user", { { type = "text", text = command } }) end
    command = nil
    -- A call may be answered while the message still goes on: its later blocks belong in front of that answer.
    local begun = event.message_id and by_id[event.message_id]
    if begun and begun == messages[#messages - 1] then
      table.move(content, 1, #content, #begun.content + 1, begun.content)
    else
      by_id[event.message_id or false] = add("assistant", content)
    end
  end
  for _, event in ipairs(events) do
    if event.type == "system" and event.subtype == "compact_boundary" then
      messages, by_id, called, command = {}, {}, {}, nil
    elseif event.type == "assistant" and not event.is_error and #event.content > 0 then
      answer(event)
    elseif event.type == "user" then
      local kind = claude_event.kind(event)
      if kind == "command" then
        command = M.command_text(event)
      elseif kind ~= "program" then
        local content = history.without_lost_calls(event.content, called)
        if content[1] then
          command = nil
          add("user", content)
        end
      end
    end
  end
  cut_unfinished(messages)
  return messages
end

return M
