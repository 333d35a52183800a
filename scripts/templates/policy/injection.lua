-- An injection policy: how a history reaches a program that is started for it.
--
--   parley ask --history talk.json --policy injection=NAME.lua "Go on."
--   parley.backend { policies = { injection = "NAME.lua" } }
--
-- There are two ways: a transcript that the program resumes from, in which the model gets the messages as they were
-- (`native_jsonl`, the default), and a text before the first message (`concat_message`), which leaves no file.
local concat_message = require "parley.policy.injection.concat_message"
local native_jsonl = require "parley.policy.injection.native_jsonl"

local M = {}

--- More messages than these go into a transcript.
local FEW = 4

local function is_text(message)
  if type(message.content) == "string" then return true end
  for _, block in ipairs(message.content) do
    if block.type ~= "text" then return false end
  end
  return true
end

--- `request` has `history`, `text` (the message to be sent), `session_id`, `jsonl_path`, `cwd`, `model` and
--- `permission_mode`. What is returned has `text`, what is sent first, and `resume` where a transcript was written.
function M.prepare(request)
  local is_short = #request.history <= FEW
  for _, message in ipairs(request.history) do
    is_short = is_short and is_text(message) -- calls of tools stay what they are in a transcript alone
  end
  return (is_short and concat_message or native_jsonl).prepare(request)
end

return M
