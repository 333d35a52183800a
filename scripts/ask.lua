-- Sends one message and prints the answer.
local parley = require "parley"
local cli = require "parley.command.cli"
local earlier = require "parley.command.earlier"
local streamed = require "parley.command.streamed"
local paint = require "parley.command.paint"
local messages_file = require "parley.base.messages_file"
local pictures = require "parley.command.pictures"
local stdin = require "parley.command.stdin"

--- How long to wait for what is piped in beside a message, as `claude -p`.
local FIRST_MS = 3000

local function define(parser)
  parser:argument("message", "The message. What is piped in comes behind it, or is the message where there is none; "
    .. "- reads it from a terminal, too."):args "?"
  parser:flag("--json", "Print the events, one JSON object a line.")
  parser:flag("--partial", "Print the answer as it comes, to a terminal or not; with --json, its events, too.")
  parser:option("--image", "A picture that goes with the message."):argname("FILE"):count "*"
  cli.short_option(parser, "-f", "--file", "FILE", "A text that goes behind the message, with its name."):count "*"
  parser:option("--schema", "A JSON Schema that the answer is to fit; the JSON is printed. What does not fit is asked "
    .. "for once more."):argname "FILE"
  parser:flag("--continue", "Go on with the last conversation of this folder, in its own session.")
  cli.offer(parser:option("--session", "Go on with this one: its id, the beginning of that, or its file.")
    :argname "ID", "sessions")
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

--- The message's content: its text, and a block for each file.
local function with_files(message, texts, images)
  if #images + #texts == 0 then return message end
  local content = parley.json.array { { type = "text", text = message } }
  for _, path in ipairs(texts) do
    table.insert(content, { type = "text", text = ("\n%s:\n%s"):format(path, cli.read(path)) })
  end
  for _, path in ipairs(images) do
    local block, problem = pictures.block(path)
    if not block then error(parley.errors.value_error(("--image '%s' %s"):format(path, problem)), 0) end
    table.insert(content, block)
  end
  return content
end

--- What was said before: messages, and the session that said them where there is one.
local function earlier_of(arguments, options)
  local count = 0
  for _, name in ipairs { "history", "continue", "session" } do count = count + (arguments[name] and 1 or 0) end
  if count > 1 then error(parley.errors.value_error "give one of --history, --continue and --session", 0) end
  if arguments.history then
    return { messages = messages_file.decode_history(cli.read(arguments.history), arguments.history) }
  end
  if count == 0 then return { messages = {} } end
  return earlier.find(arguments.session, options)
end

local function schema_of(path)
  local schema, err = parley.json.decode(cli.read(path), { strict = true })
  if schema == nil then error(parley.errors.value_error(("%s is no JSON: %s"):format(path, err.message)), 0) end
  return schema
end

local function tell(text, ...) io.stderr:write("parley: ", paint.plain(text:format(...)), "\n") end

local LACKS = { attachment_missing = true, permission_mode_unavailable = true }

--- Says that the model was not given a picture of the message, or that it works in another permission mode.
local function tell_of_missing(event)
  if LACKS[event.subtype] then tell("%s", event.message) end
end

local function main(arguments)
  local options = cli.to_backend(arguments)
  local schema = arguments.schema and schema_of(arguments.schema)
  options.partial = not schema and (arguments.partial or not arguments.json and cli.is_terminal(1)) or nil
  local before = earlier_of(arguments, options)
  local content = with_files(read_message(arguments), arguments.file, arguments.image)

  local backend <close> = parley.backend(options)
  earlier.adopt(before, backend, function(text) tell("%s", text) end)
  local talk = backend:conversation(before.messages)
  local progress <close> = cli.progress(function(seconds)
    local _, state = next(backend:session_states())
    return ("%s, %d s"):format(state or "starting", seconds)
  end)
  if schema then
    local answer = talk:ask(content, { schema = schema })
    progress.clear()
    for _, event in ipairs(answer.events) do tell_of_missing(event) end
    cli.write(assert(parley.json.encode(answer.value, { sort_keys = true })), "\n")
    return 0
  end
  local is_shown = cli.is_terminal(1)
  local answers = streamed.new(function(text) cli.write(is_shown and paint.plain(text) or text) end)
  for event in talk:send(content) do
    progress.clear()
    if not arguments.json and event.type ~= "partial" then answers:finish(event) end
    if arguments.json then
      cli.write(encode(event), "\n")
    elseif event.type == "partial" then
      answers:add(event)
    elseif event.type == "assistant" and not event.is_error and event:text() ~= "" then
      answers:answer(event:text())
    elseif event.type == "system" and event.subtype == "api_retry" then
      tell("%s; attempt %d of %d", event.message, event.attempt, event.max_attempts)
    end
    tell_of_missing(event)
    if event.type == "result" and event.subtype ~= "success" then -- nobody here has interrupted it
      tell("the turn ended with %s%s", event.subtype, event.message and ": " .. event.message or "")
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
  parley ask --continue "And the tests?"
  parley ask -m haiku -f src/pty.c "What is riskiest here?"
  parley ask --json --accept trust --cwd /src/thing "Run the tests"]],
}, ...)
