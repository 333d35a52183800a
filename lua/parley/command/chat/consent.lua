--- Asks the person of a chat about each tool call, in permission mode `default`.
local core = require "parley.core"
local defer = require "parley.base.defer"
local tables = require "parley.base.tables"
local task = require "parley.base.task"

local M = {}

---@class parley.ChatConsent
---@field package chat? parley.Chat
---@field package always table<string, true>  tools that were allowed for the session
---@field package turn parley.Semaphore       one question at a time
local Consent = {}
Consent.__index = Consent

--- Makes one that knows nobody to ask yet.
---@return parley.ChatConsent
function M.new() return setmetatable({ always = {}, turn = task.semaphore(1) }, Consent) end

---@param chat parley.Chat
function Consent:attach(chat) self.chat = chat end

--- What a call would do: all of its input, in a few lines.
local function describe(call)
  local others, parts = tables.merged(call.input), {}
  if type(others.command) == "string" then parts[1], others.command = others.command, nil end
  if not parts[1] or next(others) ~= nil then table.insert(parts, core.json.encode(others, { sort_keys = true })) end
  local text = table.concat(parts, "\n")
  return ("%s%s: %s"):format(call.agent and "a sub-agent's " or "", call.name, text:gsub("[%z\1-\8\11-\31\127]", "?"))
end

--- Asks until there is an answer.
---@param call parley.Call
---@return parley.Permission
function Consent:decide(call)
  local _ <close> = self.turn:acquire()
  if self.always[call.name] then return { allow = true } end
  local chat = self.chat
  chat:pause(true)
  local _ <close> = defer(function() chat:pause(false) end)
  chat.output:clear()
  chat.output:note(describe(call))
  while true do
    local said, why = chat.input:read("allow it? yes, always, or what to tell the model: ", { afresh = true })
    local word = said and said:lower():match "^%s*(.-)%s*$" or ""
    if why then
      chat.is_interrupting = true
      return { deny = "the user does not want it", interrupt = true }
    end
    if word == "y" or word == "yes" then return { allow = true } end
    if word == "a" or word == "always" then
      self.always[call.name] = true
      return { allow = true }
    end
    if word == "n" or word == "no" then return { deny = "the user does not want this" } end
    if word ~= "" then return { deny = "the user says: " .. said } end
  end
end

--- The policy.
---@return table
function Consent:policy()
  return { decide = function(call) return self:decide(call) end }
end

return M
