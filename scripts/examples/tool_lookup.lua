-- A tool of the script's own: the model looks things up in a file that is too long for a message.
--
--   parley scripts/examples/tool_lookup.lua prices.csv "What do ten apples cost?"
local parley = require "parley"

local path, question = ...
if not question then error(parley.errors.value_error "usage: tool_lookup.lua FILE QUESTION", 0) end

local lookup = {
  name = "lookup",
  description = "Gives the lines of the list that hold a word, at most twenty. Ask it before you answer.",
  input_schema = { type = "object", properties = { word = { type = "string", minLength = 2 } }, required = { "word" } },
}

function lookup.run(input)
  local found = {}
  for line in io.lines(path) do
    if line:lower():find(input.word:lower(), 1, true) and #found < 20 then table.insert(found, line) end
  end
  return found[1] and table.concat(found, "\n") or "no line holds " .. input.word
end

local backend <close> = parley.backend { executable = os.getenv "PARLEY_CLAUDE", tools = { lookup } }
for event in backend:complete { { role = "user", content = question } } do
  if event.type == "assistant" then io.write(event:text(), "\n") end
  if event.subtype == "tool_error" then io.stderr:write(event.tool, ": ", event.message, "\n") end
end
