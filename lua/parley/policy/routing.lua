--- Which live session a request goes to.
---
--- To replace it, return a table with any of these functions; what it leaves out is taken from here. They get plain
--- data and may call `parley.task`. Sessions started with different options are never mixed up, whatever the keys.
local history = require "parley.base.history"
local tables = require "parley.base.tables"

local M = {}

M.contract = {
  route = {
    returns = "{key = string?, options = table?, wait = boolean?, pin = boolean?}",
    or_nil = "nil and a reason", second = "string",
    fits = function(route) return not route.wait or route.key ~= nil, "one that would wait and names no key" end,
  },
  keys = { returns = "a list of strings" },
}

---@class parley.Request
---@field messages table[]  as given to `complete`
---@field history table[]   all but the last
---@field last table        the message to be sent
---@field sessions parley.LiveSession[]  what lives now, for a `route` of your own: `session_id`, `state`, `in_use`,
---                         `pinned`, `turns`, `keys`
---@field tag? any          what the caller passed in `complete(messages, {tag = …})`, like every other field there

---@class parley.Route
---@field key? string       the sessions stored under it are looked at; nil for none of them
---@field wait? boolean     wait for the session that is in use under the key, rather than have another; default false
---@field pin? boolean      nobody gets the session's place while it is idle, though an idle time-out ends it; default
---                         false. Whoever needs a place when all are kept so is refused
---@field options? table    options of `parley.backend` that differ for this request: `model`, `cwd`, …

--- Names the key of the session that has this history, or refuses the request.
---@param request parley.Request
---@return parley.Route? route
---@return string? why  of a refusal, which must give one; it becomes a `ValueError`
function M.route(request)
  return { key = history.hash_history(request.messages, #request.messages - 1) }
end

---@class parley.Answer
---@field messages table[]       what the turn has added, see `synthesize_turn_messages`
---@field events parley.Event[]
---@field result parley.Event

--- The text blocks of the last assistant message, for clients that keep nothing else.
local function final_texts(messages)
  local last = messages[#messages]
  if not last or last.role ~= "assistant" then return {} end
  local texts = {}
  for _, block in ipairs(last.content) do
    if block.type == "text" then table.insert(texts, block.text) end
  end
  return texts
end

--- Names the keys under which the session waits for the next request: the history as the client will send it, in each
--- form that clients keep it.
---@param request parley.Request
---@param answer parley.Answer
---@return string[] keys  duplicates do no harm
function M.keys(request, answer)
  local texts = final_texts(answer.messages)
  local forms = { answer.messages }
  if #texts > 0 then table.insert(forms, { { role = "assistant", content = table.concat(texts) } }) end
  if #texts > 1 then table.insert(forms, { { role = "assistant", content = table.concat(texts, "\n") } }) end
  local keys = {}
  for i, form in ipairs(forms) do
    keys[i] = history.hash_history(tables.joined(request.messages, form))
  end
  return keys
end

return M
