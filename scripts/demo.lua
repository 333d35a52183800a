-- Holds a short conversation and prints its events as they come, with a simulated claude unless told otherwise.
local parley = require "parley"
local cli = require "parley.command.cli"
local paint = require "parley.command.paint"
local tables = require "parley.base.tables"
local testing = require "parley.testing"

--- What the simulated claude answers; the real one finds its own words.
local SCRIPT = {
  startup_delay_ms = 300, flush_ms = 100,
  answers = {
    { on = "My name is Ada", text = "Good to meet you, Ada.", delay_ms = 400 },
    { on = "which folder", delay_ms = 300, after = "It is the one that pwd names.",
      tool = { name = "Bash", input = { command = "pwd" }, result = "/home/ada/engine", duration_ms = 300 } },
    { on = "What is my name", thinking = "She said so in her first message.", text = "Ada.", delay_ms = 400 },
  },
}

local QUESTIONS = {
  "My name is Ada. Please remember it.",
  "Find out with a shell command which folder you are in.",
  "What is my name? Answer with just the name, one word.",
}

local function define(parser)
  parser:flag("--claude", "Use the real claude, with your own account.")
  cli.backend_options(parser)
end

local function show(event, seconds)
  local function line(what, text)
    cli.write(("%6.2f s  %-11s %s\n"):format(seconds, what, (paint.plain(text):gsub("\n", " ⏎ "))))
  end
  for _, block in ipairs(event.content or {}) do
    if block.type == "text" then
      line(event.type, block.text)
    elseif block.type == "tool_use" then
      line("tool_use", block.name .. " " .. assert(parley.json.encode(block.input, { sort_keys = true })))
    elseif block.type == "tool_result" then
      local content = block.content
      line("tool_result", type(content) == "string" and content or assert(parley.json.encode(content)))
    else
      line(block.type, block[block.type] or "")
    end
  end
  if event.type == "result" then
    line("result", ("%s, stop_reason %s, turn %d of session %s"):format(event.subtype, event.stop_reason,
      event.num_turns, event.session_id))
  elseif event.type == "system" then
    line("system", event.subtype .. (event.message and ": " .. event.message or ""))
  end
end

local function converse(options)
  local backend <close> = parley.backend(options)
  local talk = backend:conversation()
  for _, question in ipairs(QUESTIONS) do
    cli.write("\n> ", question, "\n")
    local began = parley.task.now()
    for event in talk:send(question) do
      show(event, (parley.task.now() - began) / 1000)
      if event.type == "result" and event.is_error then return 1 end
    end
  end
  return 0
end

local function main(arguments)
  local options = cli.to_backend(arguments)
  if arguments.claude then return converse(options) end
  cli.write "A simulated claude on a real pseudo-terminal; --claude takes the real one (make demo DEMO=claude).\n"
  local kit <close> = testing.kit { script = SCRIPT }
  return converse(tables.merged(options, kit.options))
end

return cli.run({
  name = "demo", summary = "Holds a short conversation and prints its events as they come.",
  define = define, main = main,
  examples = "  parley demo\n  parley demo --claude --accept trust",
}, ...)
