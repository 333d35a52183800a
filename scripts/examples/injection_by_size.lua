-- An injection policy: a short history goes into the message as text, a long one into a transcript to resume from.
--
--   backend = parley.backend { policies = { injection = "scripts/examples/injection_by_size.lua" } }
local concat_message = require "parley.policy.injection.concat_message"
local native_jsonl = require "parley.policy.injection.native_jsonl"

local LIMIT = 2000 -- bytes of text

local M = {}

local function size_of(history)
  local size = 0
  for _, message in ipairs(history) do
    if type(message.content) == "string" then
      size = size + #message.content
    else
      for _, block in ipairs(message.content) do
        if block.type ~= "text" then return math.huge end -- tool calls stay what they are in a transcript
        size = size + #block.text
      end
    end
  end
  return size
end

function M.prepare(request)
  local policy = size_of(request.history) <= LIMIT and concat_message or native_jsonl
  return policy.prepare(request)
end

return M
