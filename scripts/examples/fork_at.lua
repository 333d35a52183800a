-- Forks a conversation: goes back to its message K and asks each of the questions there, side by side.
--
--   parley show --json SESSION > talk.json
--   parley scripts/examples/fork_at.lua talk.json 4 "And in Lua?" "And in C?"
local parley = require "parley"
local cli = require "parley.command.cli"
local messages_file = require "parley.base.messages_file"

local path, place = ...
local questions = { select(3, ...) }
local k = math.tointeger(tonumber(place))
if not k or #questions == 0 then
  error(parley.errors.value_error "usage: fork_at.lua CONVERSATION.json K QUESTION…", 0)
end

local messages = messages_file.decode(cli.read(path), path)
if k < 0 or k > #messages or k > 0 and messages[k].role ~= "assistant" then
  error(parley.errors.value_error(("message %d is not an answer of this conversation of %d"):format(k, #messages)), 0)
end

local backend <close> = parley.backend { executable = os.getenv "PARLEY_CLAUDE" }

local function ask(question)
  local fork = table.move(messages, 1, k, 1, {})
  table.insert(fork, { role = "user", content = question })
  local events = {}
  for event in backend:complete(fork) do table.insert(events, event) end
  local added = parley.synthesize_turn_messages(events)
  return added[1] and parley.text_of(added[#added]) or "(" .. events[#events].subtype .. ")"
end

local tasks = {}
for i, question in ipairs(questions) do tasks[i] = parley.task.spawn(ask, question) end
for i, asked in ipairs(tasks) do print(("> %s\n%s\n"):format(questions[i], asked:await())) end
