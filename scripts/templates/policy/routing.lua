-- A routing policy: which session a request goes to, and with which options.
--
--   parley ask --policy routing=NAME.lua "What is 2 + 2?"
--   parley.backend { policies = { routing = "NAME.lua" } }
--
-- The functions that are not here are the default's. Other policies decide about other things: `parley new policy
-- --kind permission`, `dialogs`, `injection`, ….
local parley = require "parley"

local M = {}

--- What is shorter than this goes to the small model.
local SHORT = 80

--- Called before each turn. `request` has `messages`, `history` (all but the last one), `last`, and every field of
--- `backend:complete(messages, request)`; of `parley batch`, those are `id`, `metadata` and `turn`.
function M.route(request)
  local text = parley.text_of(request.last)
  if text == "" then return nil, "NAME: an empty message" end -- refuses the request
  return {
    -- Under this key an idle session is looked for that has the same history.
    key = parley.hash_history(request.history),
    -- What differs from the backend's options: model, effort, system_prompt, permission_mode, …
    options = #text < SHORT and { model = "haiku" } or nil,
  }
end

return M
