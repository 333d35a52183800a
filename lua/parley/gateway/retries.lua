--- Requests that are made again: a client whose connection broke asks for the same once more, and is to have the answer
--- that was being made, not another.
local clock = require "parley.base.clock"
local core = require "parley.core"

local M = {}

--- So long an answer is kept that its reader has left: he may not have got what was sent.
M.KEPT_MS = 60000

---@class parley.gateway.Kept
---@field reply parley.gateway.Reply
---@field left_at? number  when a reader left
---@field is_broken? true  the last one left before it was whole

---@class parley.gateway.Retries
---@field package entries table<string, parley.gateway.Kept>  by the request's digest
local Retries = {}
Retries.__index = Retries
Retries.__name = "parley.gateway.Retries"

---@return parley.gateway.Retries
function M.new() return setmetatable({ entries = {} }, Retries) end

--- What makes two requests the same.
---@param owner string  the token's name
---@param path string
---@param conversation? string  the header
---@param body string
---@return string
function M.digest(owner, path, conversation, body)
  local parts = { owner, path, conversation or "" }
  return core.digest.blake2b(("%s\0%s\0%s\0"):format(table.unpack(parts)) .. body, 32)
end

local function sweep(self)
  local now = clock.now()
  for digest, entry in pairs(self.entries) do
    local is_old = entry.left_at and entry.reply.readers == 0 and now - entry.left_at > M.KEPT_MS
    if is_old or entry.reply.problem then self.entries[digest] = nil end
  end
end

--- The answer that a request made again is to have. One that says of itself that it is a first try is none, as long as
--- somebody reads the other. What was sent whole only those get who say that they ask again. What failed nobody gets.
---@param digest string
---@param retry_count? string  what the official clients say in `x-stainless-retry-count`
---@return parley.gateway.Reply?
function Retries:find(digest, retry_count)
  sweep(self)
  local entry = self.entries[digest]
  if not entry then return nil end
  local is_read, says_again = entry.reply.readers > 0, (tonumber(retry_count) or 0) > 0
  local is_wanted
  if is_read then is_wanted = retry_count ~= "0" else is_wanted = entry.is_broken or says_again end
  return is_wanted and entry.reply or nil
end

--- Keeps an answer that is being made.
---@param digest string
---@param reply parley.gateway.Reply
function Retries:keep(digest, reply)
  self.entries[digest] = { reply = reply }
end

--- A reader has left.
---@param digest string
---@param reply parley.gateway.Reply
---@param has_all boolean  it got the whole answer
function Retries:left(digest, reply, has_all)
  local entry = self.entries[digest]
  if not entry or entry.reply ~= reply then return end
  entry.left_at = clock.now()
  entry.is_broken = not has_all or nil
end

--- Nobody is to have this answer.
---@param reply parley.gateway.Reply
function Retries:forget(reply)
  for digest, entry in pairs(self.entries) do
    if entry.reply == reply then self.entries[digest] = nil end
  end
end

return M
