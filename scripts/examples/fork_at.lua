-- Forks a conversation: goes back to its message K and asks each of the questions there, side by side.
--
--   parley show --json SESSION > talk.json
--   parley scripts/examples/fork_at.lua talk.json 4 "And in Lua?" "And in C?"
local parley = require "parley"

local path, place = ...
local questions = { select(3, ...) }
local k = math.tointeger(tonumber(place))
if not k or #questions == 0 then
  error(parley.errors.value_error "usage: fork_at.lua CONVERSATION.json K QUESTION…", 0)
end

local messages = parley.load(path)
if k < 0 or k > #messages or k > 0 and messages[k].role ~= "assistant" then
  error(parley.errors.value_error(("message %d is not an answer of this conversation of %d"):format(k, #messages)), 0)
end

local backend <close> = parley.backend { executable = os.getenv "PARLEY_CLAUDE" }
local talk = backend:conversation(table.move(messages, 1, k, 1, {}))

local asking = {}
for i, question in ipairs(questions) do
  local fork = talk:fork()
  asking[i] = parley.task.spawn(fork.ask, fork, question)
end
for i, asked in ipairs(asking) do print(("> %s\n%s\n"):format(questions[i], asked:await())) end
