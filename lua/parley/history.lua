--- Conversations as data: when two are the same, what a turn has added to one, and what is wrong with one.
---
--- The canonical form: text content is one text block; `null` and absent fields are alike, and so are `is_error` false and
--- absent; `cache_control` is dropped; thinking blocks and empty texts are dropped; neighbouring messages of one role are
--- one message; the order of an object's keys does not count.
local core = require "parley.core"
local errors = require "parley.errors"

local M = {}

local digest, json = core.digest, core.json
local SEED = digest.blake2b "parley history 1"
local IGNORED_BLOCKS = { thinking = true, redacted_thinking = true }

local function is_null(value) return value == nil or value == json.null end

--- Appends a value's canonical spelling: a letter, a length, the bytes. Strings go in as they are, so a long text costs
--- no more than hashing it.
local function spell(value, parts)
  local kind = type(value)
  if kind == "string" then
    parts[#parts + 1] = "s" .. #value .. ":"
    parts[#parts + 1] = value
  elseif kind == "number" then
    local integer = math.tointeger(value)
    parts[#parts + 1] = integer and "i" .. integer .. ";" or ("f%.17g;"):format(value)
  elseif kind == "boolean" then
    parts[#parts + 1] = value and "t" or "f"
  elseif kind == "table" and (json.is_array(value) or #value > 0) then
    parts[#parts + 1] = "["
    for _, item in ipairs(value) do spell(item, parts) end
    parts[#parts + 1] = "]"
  elseif kind == "table" then
    local names = {}
    for name, item in pairs(value) do
      local dropped = is_null(item) or name == "cache_control" or name == "is_error" and item == false
      if not dropped then names[#names + 1] = name end
    end
    table.sort(names)
    parts[#parts + 1] = "{"
    for _, name in ipairs(names) do
      spell(name, parts)
      spell(value[name], parts)
    end
    parts[#parts + 1] = "}"
  else
    parts[#parts + 1] = "n"
  end
end

local function blocks_of(content)
  if is_null(content) then return {} end
  if type(content) == "string" then return { { type = "text", text = content } } end
  return content
end
M.blocks_of = blocks_of

--- A tool result's content may be a text or a list of blocks, too.
local function canonical_block(block)
  if block.type ~= "tool_result" then return block end
  local copy = {}
  for name, value in pairs(block) do copy[name] = value end
  copy.content = json.array(blocks_of(block.content))
  return copy
end

local function is_dropped(block)
  return IGNORED_BLOCKS[block.type] or block.type == "text" and (block.text == "" or is_null(block.text))
end

--- One link a block, not one a message: so split and merged neighbours of one role give one chain.
local function extend(hash, message)
  for _, block in ipairs(blocks_of(message.content)) do
    if not is_dropped(block) then
      local parts = { hash, message.role, ":" }
      spell(canonical_block(block), parts)
      hash = digest.blake2b(table.concat(parts))
    end
  end
  return hash
end

--- What a message made of the chain before it, by the message's table: the next turn's history is hashed only where it is
--- new. A table whose content was replaced since is hashed again; one whose blocks were changed in place is not noticed.
local links = setmetatable({}, { __mode = "k" })

local function link(hash, message)
  local known = links[message]
  if known and known.before == hash and known.role == message.role and known.content == message.content
      and known.count == #message.content then
    return known.after
  end
  local after = extend(hash, message)
  if not is_null(message.content) then
    links[message] = { before = hash, after = after, role = message.role, content = message.content,
      count = #message.content }
  end
  return after
end

--- The fingerprint of a history: equal for two that are canonically equal.
---@param messages table[]  messages of the Messages API: `role`, `content`
---@param last? integer     only the first so many; default all
---@return string fingerprint  64 hexadecimal digits
function M.hash_history(messages, last)
  local hash = SEED
  for i = 1, last or #messages do hash = link(hash, messages[i]) end
  return digest.hex(hash)
end

--- What a turn has added to the conversation: its answers and tool results as messages. The echo of the prompt, what the
--- program wrote under the user's name, and reports of API errors are left out.
---@param events parley.Event[]  as `complete` reported them
---@return table[] messages
function M.synthesize_turn_messages(events)
  local messages, prompt_seen = {}, false
  local function add(role, content)
    local last = messages[#messages]
    if not last or last.role ~= role then
      last = { role = role, content = json.array {} }
      table.insert(messages, last)
    end
    for _, block in ipairs(content) do table.insert(last.content, block) end
  end
  for _, happening in ipairs(events) do
    if happening.type == "assistant" and not happening.is_error then
      add("assistant", happening.content)
    elseif happening.type == "user" and not happening.is_meta then
      local is_prompt = not prompt_seen and #messages == 0
      prompt_seen = true
      if not is_prompt then add("user", happening.content) end
    end
  end
  return messages
end

--- The text of a message: its text blocks, a line break between them.
---@param message table
---@return string
function M.text_of(message)
  local parts = {}
  for _, block in ipairs(blocks_of(message.content)) do
    if block.type == "text" and block.text ~= "" then table.insert(parts, block.text) end
  end
  return table.concat(parts, "\n")
end

local ROLES = { user = true, assistant = true }

--- What a block of each type must have beside its type.
local REQUIRED = {
  text = { text = "string" },
  tool_use = { id = "string", name = "string", input = "table" },
  tool_result = { tool_use_id = "string" },
  thinking = { thinking = "string" },
}

local function check_block(block, where)
  if type(block) ~= "table" then return where .. " must be a block, a table, not a " .. type(block) end
  if type(block.type) ~= "string" then return where .. " has no type" end
  for name, kind in pairs(REQUIRED[block.type] or {}) do
    if type(block[name]) ~= kind then
      return ("%s is a %s block whose '%s' must be a %s, not %s"):format(where, block.type, name, kind,
        is_null(block[name]) and "absent" or "a " .. type(block[name]))
    end
  end
end

local function check_message(message, where)
  if type(message) ~= "table" then return where .. " must be a table with role and content, not a " .. type(message) end
  if not ROLES[message.role] then
    return ("%s has the role %s, which must be \"user\" or \"assistant\""):format(where,
      type(message.role) == "string" and ("%q"):format(message.role) or type(message.role))
  end
  if is_null(message.content) then return where .. " has no content" end
  if type(message.content) == "string" then
    local valid, position = utf8.len(message.content)
    return not valid and ("%s: byte %d of its content is not valid UTF-8"):format(where, position) or nil
  end
  if type(message.content) ~= "table" then
    return ("%s: content must be a string or a list of blocks, not a %s"):format(where, type(message.content))
  end
  local count = 0
  for _ in pairs(message.content) do count = count + 1 end
  if count ~= #message.content then return where .. ": content must be a list of blocks" end
  if count == 0 then return where .. " has no content" end
  for i, block in ipairs(message.content) do
    local problem = check_block(block, ("%s.content[%d]"):format(where, i))
    if problem then return problem end
  end
end

--- Checks a conversation that ends with the message to be sent.
---@param messages any
--- Raises `ValueError`; `index` is the message's.
function M.check(messages)
  if type(messages) ~= "table" then
    error(errors.value_error("messages must be a list, not a " .. type(messages)), 0)
  end
  if #messages == 0 then error(errors.value_error "messages is empty: there is nothing to send", 0) end
  for i, message in ipairs(messages) do
    local problem = check_message(message, ("messages[%d]"):format(i))
    if problem then error(errors.value_error(problem, { index = i }), 0) end
  end
  if messages[#messages].role ~= "user" then
    error(errors.value_error(("messages[%d], the last one, must be the user's, not the %s's"):format(#messages,
      messages[#messages].role), { index = #messages }), 0)
  end
end

return M
