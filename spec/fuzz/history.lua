--- The input decides on a history, and on another spelling of it.
local json = require("parley.core").json
local history = require "parley.base.history"

--- Numbers from 1 to `count`, made of the input's bytes; 1 when there are no more.
local function chooser(input)
  local at = 0
  return function(count)
    at = at + 1
    return (input:byte(at) or 0) % count + 1
  end
end

local TEXTS = { "", "a", "b", "ab", "4:", "\0", "{}" }
local LONG = ("long"):rep(5000) -- more than a link of the chain holds
local INPUTS = { '{}', '[]', '{"a":1,"b":[2,null]}', '{"a":1.5,"is_error":false}', '{"cache_control":null,"b":"x"}' }
local ROLES = { "user", "assistant" }

local function text(choose)
  return { type = "text", text = choose(32) == 32 and LONG or TEXTS[choose(#TEXTS)] }
end

local MAKERS = {
  text,
  function(choose)
    return { type = "tool_use", id = "1", name = "Bash", input = json.decode(INPUTS[choose(#INPUTS)]) }
  end,
  function(choose)
    local content = {}
    for i = 1, choose(3) - 1 do content[i] = text(choose) end
    return { type = "tool_result", tool_use_id = "1", content = content, is_error = choose(2) == 2 }
  end,
}

--- A history: each message's content a list of blocks.
local function make(choose)
  local messages = {}
  for i = 1, choose(6) do
    local content = {}
    for j = 1, choose(4) - 1 do content[j] = MAKERS[choose(#MAKERS)](choose) end
    messages[i] = { role = ROLES[choose(2)], content = content }
  end
  return messages
end

local respell_blocks

local function respell_block(block, choose)
  local copy = {}
  if choose(2) == 2 then copy.unknown = json.null end
  if choose(2) == 2 then copy.cache_control = { type = "ephemeral" } end
  for name, value in pairs(block) do copy[name] = value end
  if block.type == "tool_result" then
    copy.content = respell_blocks(block.content, choose)
    if not block.is_error then copy.is_error = ({ nil, false, json.null })[choose(3)] end
  end
  return copy
end

--- The same content: a text for one text block, blocks that say nothing between the others.
function respell_blocks(content, choose)
  if #content == 1 and content[1].type == "text" and choose(2) == 2 then return content[1].text end
  local copy = {}
  for _, block in ipairs(content) do
    local extra = choose(4)
    if extra == 2 then table.insert(copy, { type = "thinking", thinking = "hm", signature = "s" }) end
    if extra == 3 then table.insert(copy, { type = "text", text = "" }) end
    table.insert(copy, respell_block(block, choose))
  end
  return copy
end

--- The same history: messages split, and messages that say nothing between the others.
local function respell(messages, choose)
  local copy = {}
  for _, message in ipairs(messages) do
    local cut = choose(#message.content + 1) - 1
    if cut > 0 then
      local first = table.move(message.content, 1, cut, 1, {})
      table.insert(copy, { role = message.role, content = respell_blocks(first, choose) })
    end
    if choose(4) == 2 then table.insert(copy, { role = ROLES[choose(2)], content = "" }) end
    local rest = table.move(message.content, cut + 1, #message.content, 1, {})
    table.insert(copy, { role = message.role, content = respell_blocks(rest, choose) })
  end
  return copy
end

--- One more text at the end of a block, or one more message.
local function change(messages)
  for _, message in ipairs(messages) do
    for i, block in ipairs(message.content) do
      if block.type == "text" then
        message.content[i] = { type = "text", text = block.text .. "." }
        return
      end
    end
  end
  table.insert(messages, { role = "user", content = "." })
end

return function(input)
  local choose = chooser(input)
  local messages = make(choose)
  local other = respell(messages, choose)
  local fingerprint = history.hash_history(messages)
  -- The first part is hashed first, as a backend does, and is remembered.
  history.hash_history(other, choose(#other + 1) - 1)
  assert(history.hash_history(other) == fingerprint, "equal histories have one fingerprint")
  assert(history.hash_history(other) == fingerprint, "a fingerprint stays")
  change(messages)
  assert(history.hash_history(messages) ~= fingerprint, "another history has another fingerprint")
end
