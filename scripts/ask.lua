-- Sends one message and prints the answer.
local parley = require "parley"
local base64 = require "parley.base.base64"
local cli = require "parley.command.cli"
local messages_file = require "parley.base.messages_file"
local stdin = require "parley.command.stdin"

--- How long to wait for what is piped in beside a message, as `claude -p`.
local FIRST_MS = 3000

local function define(parser)
  parser:argument("message", "The message. What is piped in comes behind it, or is the message where there is none; "
    .. "- reads it from a terminal, too."):args "?"
  parser:flag("--json", "Print the events, one JSON object a line.")
  parser:option("--image", "A picture that goes with the message."):argname("FILE"):count "*"
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

--- As `claude -p` does it: what is piped in is a part of the message, on the lines behind it.
local function message_of(given)
  if given == "-" or not given and not cli.is_terminal(0) then
    local text = cli.read "-"
    if given or text:find "%S" then return text end
  end
  if not given then error(parley.errors.value_error "missing argument 'message' (see parley ask --help)", 0) end
  local piped = stdin.read_beside(FIRST_MS)
  if not piped then
    io.stderr:write(("parley: nothing has come on standard input for %g s: the message goes without (</dev/null skips "
      .. "the wait)\n"):format(FIRST_MS / 1000))
  end
  return piped and piped ~= "" and given .. "\n" .. piped or given
end

--- Reads the message. Whoever sits at the terminal is told that it is waited for.
local function read_message(arguments)
  if arguments.message == "-" and cli.is_terminal(0) then
    io.stderr:write "parley: type the message; Ctrl-D on an empty line ends it\n"
    return cli.read "-"
  end
  local _ <close> = cli.progress(function(seconds) return ("reading standard input, %d s"):format(seconds) end)
  return message_of(arguments.message)
end

--- The kinds of picture that can go with a message, by their endings.
local KINDS = { png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif", webp = "image/webp" }

--- The message's content: its text, and a block for each file.
local function with_files(message, paths)
  if #paths == 0 then return message end
  local content = parley.json.array { { type = "text", text = message } }
  for i, path in ipairs(paths) do
    local kind = KINDS[(path:match "%.(%w+)$" or ""):lower()]
    if not kind then
      error(parley.errors.value_error(("--image '%s' is no picture (png, jpg, gif, webp)"):format(path)), 0)
    end
    content[i + 1] = { type = "image",
      source = { type = "base64", media_type = kind, data = base64.encode(cli.read(path)) } }
  end
  return content
end

local function main(arguments)
  local message = read_message(arguments)
  local messages = arguments.history and messages_file.decode(cli.read(arguments.history), arguments.history) or {}
  table.insert(messages, { role = "user", content = with_files(message, arguments.image) })

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
  git diff | parley ask "Sum this up in one line."
  parley ask --json --accept trust --cwd /src/thing "Run the tests"]],
}, ...)
