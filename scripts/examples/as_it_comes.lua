-- Prints an answer as it comes, a line at a time.
--
--   parley scripts/examples/as_it_comes.lua "Explain src/pty.c."
local parley = require "parley"

local question = ... or error(parley.errors.value_error "usage: as_it_comes.lua QUESTION", 0)
local backend <close> = parley.backend { executable = os.getenv "PARLEY_CLAUDE", partial = true }

local shown = ""
for event in backend:conversation():send(question) do
  if event.type == "partial" then
    io.write(event.text)
    io.stdout:flush()
    shown = shown .. event.text
  elseif event.type == "assistant" and event:text() ~= "" then
    -- What came in no part: an end, or all of it where this version of the program tells of no parts.
    io.write(event:text():sub(#shown + 1), "\n")
    shown = shown:sub(#event:text() + 1)
  end
end
