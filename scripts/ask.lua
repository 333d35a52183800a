-- Sends one message and prints the answer.
local parley = require "parley"
local cli = require "parley.command.cli"
local conversation = require "parley.backend.conversation"

local function define(parser)
  parser:argument("message", "The message; - reads it from standard input.")
  parser:flag("--json", "Print the events, one JSON object a line.")
  parser:option("--history", "A conversation that goes before: JSON messages, as `parley show --json` prints them.")
    :argname "FILE"
  cli.backend_options(parser)
end

--- What a reader of the JSON output needs; the transcript's own record is in the transcript.
local function encode(event)
  local copy = {}
  for name, value in pairs(event) do
    if name ~= "record" then copy[name] = name == "cause" and tostring(value) or value end
  end
  return assert(parley.json.encode(copy, { sort_keys = true }))
end

local function main(arguments)
  local message = arguments.message == "-" and cli.read "-" or arguments.message
  local messages = arguments.history and conversation.decode(cli.read(arguments.history), arguments.history) or {}
  table.insert(messages, { role = "user", content = message })

  local backend <close> = parley.backend(cli.to_backend(arguments))
  local progress <close> = cli.progress(function(seconds)
    local _, state = next(backend:session_states())
    return ("%s, %d s"):format(state or "starting", seconds)
  end)
  for event in backend:complete(messages) do
    progress.clear()
    if arguments.json then
      cli.write(encode(event), "\n")
    elseif event.type == "assistant" and not event.is_error and event:text() ~= "" then
      cli.write(event:text(), "\n")
    elseif event.type == "system" and event.subtype == "api_retry" then
      io.stderr:write(("parley: %s; attempt %d of %d\n"):format(event.message, event.attempt, event.max_attempts))
    end
    if event.type == "result" and event.is_error then
      io.stderr:write(("parley: the turn ended with %s%s\n"):format(event.subtype,
        event.message and ": " .. event.message or ""))
      return 1
    end
  end
  return 0
end

return cli.run({
  name = "ask", summary = "Sends one message and prints the answer.", define = define, main = main,
  examples = [[
  parley ask "What does this project do?"
  git diff | parley ask --append-system-prompt "Answer in one line." -
  parley ask --json --accept trust --cwd /src/thing "Run the tests"]],
}, ...)
