-- A routing policy: each user has one live session, whatever history the client sends, one request after the other;
-- after a cap of turns a fresh session starts from the history that the client sends then.
--
--   backend = parley.backend { policies = { routing = "scripts/examples/sticky_by_user.lua" } }
--   backend:complete(messages, { user = "ada" })
--
-- Her session is never ended for another's place: give `max_sessions` for as many users as there may be at a time, and
-- `idle_timeout_ms` to let go of those who have left.
local CAP = 20

local M = {}

function M.route(request)
  if type(request.user) ~= "string" then return nil, "complete(messages, {user = NAME}) needs a user" end
  return { key = "user " .. request.user, wait = true, pin = true }
end

--- Without a key nobody finds the session again, and its place is free for others.
function M.keys(request, answer)
  if answer.result.num_turns >= CAP then return {} end
  return { "user " .. request.user }
end

return M
