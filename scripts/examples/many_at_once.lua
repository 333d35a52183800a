-- Holds twenty conversations at a time, a process each, and prints the answers in the order of the questions.
--
--   parley scripts/examples/many_at_once.lua "What is %d squared?" 20
local parley = require "parley"

local question, count = ...
count = math.tointeger(tonumber(count)) or 20
if not question then error(parley.errors.value_error "usage: many_at_once.lua QUESTION [COUNT]", 0) end

local backend <close> = parley.backend { executable = os.getenv "PARLEY_CLAUDE", max_sessions = 20 }
local asked = {}
for i = 1, count do
  asked[i] = parley.task.spawn(function()
    local ok, answer = pcall(function() return backend:conversation():ask((question:gsub("%%d", i))) end)
    return ok and answer.text or "failed: " .. tostring(answer)
  end)
end
for i, each in ipairs(asked) do print(i, each:await()) end
