-- A routing policy: each user keeps one live session, whatever history the client sends, up to a cap of turns; then a
-- fresh session starts from the history.
--
--   backend = parley.backend { policies = { routing = "scripts/examples/sticky_by_user.lua" } }
--   backend:complete(messages, { user = "ada" })
local CAP = 20

local M = {}

local turns = {} -- by user, in this backend's policy

function M.route(request)
  if type(request.user) ~= "string" then return nil, "complete(messages, {user = NAME}) needs a user" end
  if (turns[request.user] or 0) >= CAP then
    turns[request.user] = 0
    return {} -- no key: a fresh session
  end
  return { key = "user " .. request.user }
end

function M.keys(request)
  turns[request.user] = (turns[request.user] or 0) + 1
  return { "user " .. request.user }
end

return M
