-- A delivery policy: how a message is typed, and which messages are.
--
--   parley ask --policy delivery=NAME.lua "What is 2 + 2?"
--   parley.backend { policies = { delivery = "NAME.lua" } }
--
-- This one refuses messages that hold what looks like a key or a password. How the others are typed stays as it is
-- (`keystrokes`, `holds`, `clear`, `matches`, `argument`, `enter`).
local default = require "parley.policy.delivery"

local M = {}

--- Lua patterns.
local SECRETS = { "sk%-ant%-[%w_-]+", "AKIA%u%u%u%u%w+", "%-%-%-%-%-BEGIN [%u ]*PRIVATE KEY" }

--- Called before anything is started, and again before the text is typed; it must not wait. It returns what is to be
--- typed, and what the transcript must then hold, or nil and why not: a `ValueError`.
function M.prepare(text, options, view)
  for _, pattern in ipairs(SECRETS) do
    if text:find(pattern) then return nil, "it holds what looks like a secret" end
  end
  return default.prepare(text, options, view)
end

return M
