--- Conversations as data: when two are the same, what a turn has added to one, and what is wrong with one.
---
--- The canonical form: text content is one text block; `null` and absent fields are alike; thinking blocks and empty
--- texts are dropped, and so are a block's `cache_control` and an `is_error` that is false; neighbours of one role are
--- one message; the order of an object's keys does not count.
local core = require "parley.core"
local errors = require "parley.base.errors"
local options = require "parley.base.options"

local M = {}

local digest, json = core.digest, core.json
local precedes = core.text.precedes
local DEEPEST = 512 -- as JSON may be
local SEED = digest.blake2b "parley history 1"
local IGNORED_BLOCKS = { thinking = true, redacted_thinking = true }
local ROLES = { user = true, assistant = true }

local function is_null(value) return value == nil or value == json.null end

local function blocks_of(content)
  if is_null(content) then return {} end
  if type(content) == "string" then return { { type = "text", text = content } } end
  return content
end
M.blocks_of = blocks_of

local function is_dropped(block)
  return IGNORED_BLOCKS[block.type] or block.type == "text" and (block.text == "" or is_null(block.text))
end

-- Spelling ------------------------------------------------------------------------------------------------------------
-- Each value has one spelling: a letter, a length, the bytes. Strings go in as they are, so that a long text costs no
-- more than hashing it. It all goes into a list of parts: `n` is how many it has, `list.size` about how many bytes;
-- `list.depth` is how many tables stand around what is spelt.

local memo = { __index = function(known, length)
  local head = known.letter .. length .. ":"
  if length < 4096 then known[length] = head end
  return head
end }
local string_heads = setmetatable({ letter = "s" }, memo)
local text_heads = { user = setmetatable({ letter = "ut" }, memo), assistant = setmetatable({ letter = "at" }, memo) }

local spell

--- Whether a text block says nothing but its text.
local function is_plain_text(block)
  if block.type ~= "text" or type(block.text) ~= "string" then return false end
  for name, value in next, block do
    if name ~= "text" and name ~= "type" and name ~= "cache_control" and value ~= json.null then return false end
  end
  return true
end

local function spell_text(text, heads, list, n)
  if text == "" then return n end
  list[n + 1], list[n + 2] = heads[#text], text
  list.size = list.size + #text + 8
  return n + 2
end

--- The blocks of a message, or of a tool's result.
local function spell_blocks(content, role, list, n)
  local heads = text_heads[role]
  if type(content) == "string" then return spell_text(content, heads, list, n) end
  if is_null(content) then return n end
  if #content == 0 and next(content) ~= nil then
    error(errors.value_error "the content of a message must be a text or a list of blocks, not one block", 0)
  end
  for i = 1, #content do
    local block = content[i]
    if type(block) ~= "table" then error(errors.value_error "a content block must be a table", 0) end
    if is_plain_text(block) then
      n = spell_text(block.text, heads, list, n)
    elseif not is_dropped(block) then
      list[n + 1] = role
      n = spell(block, list, n + 1)
    end
  end
  return n
end

--- The names of an object's fields that say something, in the order of their bytes. `is_data`: it is a tool's input,
--- where each does.
local function names_of(object, is_data)
  local names, count = {}, 0
  for name, item in next, object do
    if item ~= json.null and (is_data or name ~= "cache_control" and (name ~= "is_error" or item)) then
      count = count + 1
      names[count] = name
    end
  end
  table.sort(names, precedes)
  return names, count
end

local function spell_object(object, list, n, is_data)
  local names, count = names_of(object, is_data)
  local is_result = not is_data and object.type == "tool_result"
  list[n + 1] = "{"
  n = n + 1
  for i = 1, count do
    local name = names[i]
    list[n + 1], list[n + 2] = string_heads[#name], name
    n = n + 2
    if is_result and name == "content" then
      n = spell_blocks(object.content, "user", list, n)
    else
      n = spell(object[name], list, n, is_data or name == "input")
    end
  end
  list[n + 1] = "}"
  return n + 1
end

--- Its decimal point is the locale's, which is not to count.
local function spell_float(value) return "f" .. ("%.17g"):format(value):gsub("[^0-9a-z+-]+", ".") .. ";" end

function spell(value, list, n, is_data)
  local kind = type(value)
  if kind == "string" then
    list[n + 1], list[n + 2] = string_heads[#value], value
    list.size = list.size + #value + 8
    return n + 2
  elseif kind == "table" then
    local depth = list.depth
    if depth == DEEPEST then
      error(errors.value_error(("a content block contains itself, or is nested more than %d deep"):format(DEEPEST)), 0)
    end
    list.depth = depth + 1
    if #value == 0 and getmetatable(value) ~= json.array_metatable then
      n = spell_object(value, list, n, is_data)
    else
      list[n + 1] = "["
      n = n + 1
      for i = 1, #value do n = spell(value[i], list, n, is_data) end
      list[n + 1], n = "]", n + 1
    end
    list.depth = depth
    return n
  elseif kind == "number" then
    local integer = math.tointeger(value)
    list[n + 1] = integer and "i" .. integer .. ";" or spell_float(value)
  elseif kind == "boolean" then
    list[n + 1] = value and "t" or "f"
  else
    list[n + 1] = "n"
  end
  return n + 1
end

-- The chain -----------------------------------------------------------------------------------------------------------
-- A link of the chain hashes the one before it and some messages: it ends where the role changes and it is long enough.
-- So neighbours of one role may be split or merged, and many short messages do not cost a hash each.

local LINK_BYTES = 16 * 1024

--- The links that were made, by their first message's table: what has not changed is not hashed again.
local links = setmetatable({}, { __mode = "k" })

--- Lists what a message is made of, two levels deep: what is replaced in it, or in a block of its content, is noticed,
--- what changes deeper down is not.
local function trace(message, list, n)
  local content = message.content
  list[n + 1], list[n + 2], list[n + 3] = message, message.role, content or false
  n = n + 3
  if type(content) ~= "table" then return n end
  for i = 1, #content do
    local block = content[i]
    list[n + 1] = block
    n = n + 1
    for name, value in next, type(block) == "table" and block or {} do
      list[n + 1], list[n + 2] = name, value
      n = n + 2
    end
  end
  return n
end

local function says_something(message)
  if type(message.content) == "string" then return message.content ~= "" end
  for _, block in ipairs(blocks_of(message.content)) do
    if type(block) ~= "table" or not is_dropped(block) then return true end -- what is none is refused later
  end
  return false
end

--- Whether a link can be taken over: the same messages follow the same ones, and it ends in the same place.
local function fits(known, hash, messages, first, last)
  local after = first + known.count
  if known.before ~= hash or after - 1 > last then return false end
  local list, n = {}, 0
  for i = first, after - 1 do n = trace(messages[i], list, n) end
  if n ~= #known.trace then return false end
  for i = 1, n do
    if list[i] ~= known.trace[i] then return false end
  end
  return after > last or messages[after].role ~= known.role and says_something(messages[after])
end

--- Checks that messages are a list.
---@param messages any
--- Raises `ValueError`.
function M.check_list(messages)
  if type(messages) ~= "table" then
    error(errors.value_error("messages must be a list, not " .. options.describe(messages)), 0)
  end
  if messages.role ~= nil or messages.content ~= nil then
    error(errors.value_error "messages must be a list of messages, not one message: put it into a list, {{…}}", 0)
  end
  if #messages == 0 and next(messages) ~= nil then
    error(errors.value_error(("messages must be a list, not a table with the field '%s'"):format(
      tostring(next(messages)))), 0)
  end
end

--- What cannot be hashed is refused here, for a shape that is merely odd is hashed as it is.
local function message_at(messages, i)
  local message = messages[i]
  local content = type(message) == "table" and ROLES[message.role] and message.content
  if content == json.null or type(content) == "string" or type(content) == "table" then return message end
  error(errors.value_error(("messages[%d] is no message: it must have a role and content"):format(i), { index = i }), 0)
end

local function make_link(hash, messages, first, last)
  local list, n, role, i = { hash, size = 0, depth = 0 }, 1, nil, first
  while i <= last do
    local message = message_at(messages, i)
    if role ~= message.role and list.size >= LINK_BYTES and says_something(message) then break end
    local before = n
    n = spell_blocks(message.content, message.role, list, n)
    if n > before then role = message.role end
    i = i + 1
  end
  if n == 1 then return hash, i end
  local after = digest.blake2b(table.concat(list, "", 1, n))
  if list.size >= LINK_BYTES then
    local known = { before = hash, after = after, count = i - first, role = role, trace = {} }
    local length = 0
    for j = first, i - 1 do length = trace(messages[j], known.trace, length) end
    links[messages[first]] = known
  end
  return after, i
end

--- The fingerprint of a history: equal for two that are canonically equal.
---
--- What a message's table made of the chain is remembered, so that the next turn's history is hashed only where it is
--- new. To change what was hashed already, put another table or another text in its place.
---@param messages table[]  messages of the Messages API: `role`, `content`
---@param last? integer     only the first so many; default all
---@return string fingerprint  64 hexadecimal digits
--- Raises `ValueError` for what is no message.
function M.hash_history(messages, last)
  M.check_list(messages)
  if last ~= nil and math.type(last) ~= "integer" then
    error(errors.value_error("how many messages to hash must be a whole number, not " .. options.describe(last)), 0)
  end
  last = last or #messages
  local hash, i = SEED, 1
  while i <= last do
    local known = links[message_at(messages, i)]
    if known and fits(known, hash, messages, i, last) then
      hash, i = known.after, i + known.count
    else
      hash, i = make_link(hash, messages, i, last)
    end
  end
  return digest.hex(hash)
end

--- The blocks of a message as a history may have them: a tool's result is left out whose call none of the messages
--- before it has, for that is lost with a torn line of the transcript.
---@param content table[]
---@param called table<string, true>  the calls up to now; those of this message are added
---@return table[] blocks  an array of `parley.json`
function M.without_lost_calls(content, called)
  local kept = json.array {}
  for _, block in ipairs(content) do
    if block.type == "tool_use" and block.id then called[block.id] = true end
    if block.type ~= "tool_result" or called[block.tool_use_id] then table.insert(kept, block) end
  end
  return kept
end

--- What a turn has added to the conversation: its answers and tool results as messages. The echo of the prompt, what
--- the program wrote under the user's name, reports of API errors, and results of lost calls are left out.
---@param events parley.Event[]  as `complete` reported them
---@return table[] messages
--- Raises `ValueError` for what are no events.
function M.synthesize_turn_messages(events)
  if type(events) ~= "table" or #events == 0 and next(events) ~= nil then
    error(errors.value_error("the events of a turn must be a list, not " .. (type(events) == "table" and "one event"
      or options.describe(events))), 0)
  end
  local messages, prompt_seen, called = {}, false, {}
  local function add(role, content)
    local last = messages[#messages]
    content = M.without_lost_calls(content, called)
    if role == "user" and not content[1] then return end
    if not last or last.role ~= role then
      last = { role = role, content = json.array {} }
      table.insert(messages, last)
    end
    table.move(content, 1, #content, #last.content + 1, last.content)
  end
  for _, event in ipairs(events) do
    if event.type == "assistant" and not event.is_error then
      add("assistant", event.content)
    elseif event.type == "user" and not event.is_meta then
      local is_prompt = not prompt_seen and #messages == 0
      prompt_seen = true
      if not is_prompt then add("user", event.content) end
    end
  end
  return messages
end

--- The text of a message: its text blocks, a line break between them.
---@param message table
---@return string
--- Raises `ValueError` for what is no message.
function M.text_of(message)
  local blocks = type(message) == "table" and message[1] == nil and blocks_of(message.content)
  if type(blocks) ~= "table" then
    error(errors.value_error("a message must be a table with role and content, not " .. (type(message) ~= "table"
      and options.describe(message) or message[1] ~= nil and "a list" or "one whose content is "
      .. options.describe(message.content))), 0)
  end
  local parts = {}
  for _, block in ipairs(blocks) do
    if type(block) ~= "table" then
      error(errors.value_error("a content block must be a table, not " .. options.describe(block)), 0)
    end
    if block.type == "text" and type(block.text) == "string" and block.text ~= "" then
      table.insert(parts, block.text)
    end
  end
  return table.concat(parts, "\n")
end

--- What a block of each type must have beside its type.
local REQUIRED = {
  text = { text = "string" },
  tool_use = { id = "string", name = "string", input = "table" },
  tool_result = { tool_use_id = "string" },
  thinking = { thinking = "string" },
}

local function check_text(text, where)
  local valid, position = utf8.len(text)
  return not valid and ("%s: byte %d is not valid UTF-8"):format(where, position) or nil
end

local function check_json(value, where)
  local _, err = json.encode(value)
  return err and ("%s: %s"):format(where, err.message)
end

local check_blocks

local function check_block(block, where)
  if type(block) ~= "table" then return where .. " must be a block, a table, not a " .. type(block) end
  if type(block.type) ~= "string" then return where .. " has no type" end
  for name, kind in pairs(REQUIRED[block.type] or {}) do
    if type(block[name]) ~= kind then
      return ("%s is a %s block whose '%s' must be a %s, not %s"):format(where, block.type, name, kind,
        is_null(block[name]) and "absent" or "a " .. type(block[name]))
    end
    local problem = kind == "string" and check_text(block[name], ("%s.%s"):format(where, name))
    if problem then return problem end
  end
  if block.type == "tool_result" and not is_null(block.content) then
    return type(block.content) == "table" and check_json(block.content, where .. ".content")
      or check_blocks(block.content, where)
  end
  if block.type == "tool_use" then return check_json(block.input, where .. ".input") end
  if not REQUIRED[block.type] then return check_json(block, where) end
end

--- Checks content: a text or a list of blocks.
function check_blocks(content, where)
  if type(content) == "string" then return check_text(content, where .. ".content") end
  if type(content) ~= "table" then
    return ("%s: content must be a string or a list of blocks, not a %s"):format(where, type(content))
  end
  local count = 0
  for _ in pairs(content) do count = count + 1 end
  if count ~= #content then return where .. ": content must be a list of blocks" end
  for i, block in ipairs(content) do
    local problem = check_block(block, ("%s.content[%d]"):format(where, i))
    if problem then return problem end
  end
end

local function problem_with(message, where)
  if type(message) ~= "table" then return where .. " must be a table with role and content, not a " .. type(message) end
  if not ROLES[message.role] then
    if is_null(message.role) then return where .. " has no role, which must be \"user\" or \"assistant\"" end
    return ("%s has the role %s, which must be \"user\" or \"assistant\""):format(where,
      options.describe(message.role))
  end
  local content = message.content
  if is_null(content) or type(content) == "table" and next(content) == nil then return where .. " has no content" end
  return check_blocks(content, where)
end

local function check_message(message, index)
  local problem = problem_with(message, ("messages[%d]"):format(index))
  if problem then error(errors.value_error(problem, { index = index }), 0) end
end

--- Checks a conversation that a message of the user's can follow.
---@param messages any
--- Raises `ValueError`; `index` is the message's.
function M.check_history(messages)
  M.check_list(messages)
  for i = 1, #messages do check_message(messages[i], i) end
end

--- Checks a conversation that ends with the message to be sent.
---@param messages any
--- Raises `ValueError`; `index` is the message's.
function M.check(messages)
  M.check_history(messages)
  if #messages == 0 then error(errors.value_error "messages is empty: there is nothing to send", 0) end
  local role = messages[#messages].role
  if role ~= "user" then
    error(errors.value_error(("messages[%d], the last one, must be the user's, not the %s's"):format(#messages, role),
      { index = #messages }), 0)
  end
end

return M
