-- A batch: the conversations that `parley batch` holds, many at a time.
--
--   parley batch NAME.lua --stand-in                               tried out, without an account
--   parley batch NAME.lua -o NAME.jsonl --jobs 4 --resume          goes on where it ended
--   parley report NAME.jsonl -o NAME.html

local FILES = { "README.md", "Makefile" }

--- The turns of a conversation may be a list of texts, too. As a function they are decided one by one: it gets the last
--- answer's text, the number of the turn to be made and the messages so far; nil ends the conversation.
local function turns_about(file)
  return function(answer, turn_number)
    if turn_number == 1 then return "Sum up " .. file .. " in one line." end
    if turn_number == 2 and #answer > 20 then return "Now in ten words." end
  end
end

return coroutine.wrap(function()
  for _, file in ipairs(FILES) do
    coroutine.yield {
      id = file, -- each once: by it `--resume` knows what is done
      turns = turns_about(file),
      expect = { pattern = "%S" }, -- what the last answer must be like, else the conversation has failed
      metadata = { file = file }, -- comes back with the result
      -- What differs from the command line: cwd = "/src/thing", model = "haiku", system_prompt = "Be brief.",
      -- permission_mode = "plan", allowed_tools = { "Read" }, timeout = 300, tools = "tools.lua"
    }
  end
end)
