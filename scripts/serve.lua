-- Serves the Anthropic Messages API and OpenAI's Chat Completions over Claude Code's sessions.
local parley = require "parley"
local assets = require "parley.gateway.window.assets"
local cli = require "parley.command.cli"
local gateway = require "parley.gateway"
local tokens = require "parley.gateway.tokens"

local function port(text)
  local number = math.tointeger(tonumber(text))
  if number and number >= 0 and number <= 65535 then return number end
  return nil, ("'%s' is not a port"):format(text)
end

local function define(parser)
  parser:option("--host", "The address to listen on; another than loopback lets others in."):argname "ADDRESS"
    :default "127.0.0.1"
  parser:option("--port", "The port; 0 takes a free one."):argname("PORT"):convert(port):default "8765"
  parser:option("--socket", "A unix socket instead, for this user alone."):argname "FILE"
  parser:option("--allow-host", "A name by which clients may call the server, beside localhost and addresses.")
    :argname("NAME"):count "*"
  parser:flag("--agent", "Claude Code with its own tools, in the folder --cwd, instead of a plain model.")
  parser:option("--token", "A token that clients must give, with a name where there are several. Better in the "
    .. "variable PARLEY_TOKEN, separated by commas; without any, one is made and kept."):argname("[NAME=]TOKEN")
    :count "*"
  parser:flag("--print-token", "Print the token that is kept, and end.")
  parser:option("--max-sessions", "So many live sessions; each takes 135 to 250 MB."):argname("N")
    :convert(cli.count_from(1)):default "8"
  parser:option("--queue", "So many requests may wait for a session; further ones are told to come again.")
    :argname("N"):convert(cli.count_from(0)):default "16"
  parser:option("--idle-timeout", "Seconds after which an idle session ends."):argname("S"):convert(cli.seconds)
    :default "900"
  parser:option("--tool-wait", "Seconds that a call of a client's tool waits for its result."):argname("S")
    :convert(cli.seconds):default "600"
  parser:option("--disconnect-grace", "Seconds after which the turn of a client that went away is interrupted.")
    :argname("S"):convert(cli.seconds):default "5"
  parser:option("--drain", "Seconds that what runs has to finish after SIGTERM."):argname("S"):convert(cli.seconds)
    :default "30"
  parser:flag("--strict", "Refuse a request that asks for what Claude Code cannot be told, as a temperature.")
  parser:option("--max-body", "Megabytes that a request may have."):argname("MB"):convert(cli.count_from(1))
    :default "32"
  parser:flag("--json-log", "The log as lines of JSON.")
  cli.backend_options(parser)
end

--- The tokens that are given, or the one that is kept.
local function tokens_of(arguments)
  local given = {}
  for _, text in ipairs(arguments.token) do table.insert(given, text) end
  for text in (os.getenv "PARLEY_TOKEN" or ""):gmatch "[^,%s]+" do table.insert(given, text) end
  if #given == 0 then return { { name = "default", token = tokens.of_folder(tokens.state_folder()) } } end
  for i, text in ipairs(given) do
    local entry, problem = tokens.parse(text)
    if not entry then error(parley.errors.value_error(problem), 0) end
    given[i] = entry
  end
  return given
end

local function print_token(arguments)
  for _, entry in ipairs(tokens_of(arguments)) do cli.write(entry.token, "\n") end
  return 0
end

local function say(text, ...) io.stderr:write("parley serve: ", text:format(...), "\n") end

local function announce(server, arguments)
  say("listening on %s", server.path or "http://" .. server.http:place())
  if server.port and assets.has_page() then say "the window is its page: parley attach --link has the address" end
  if arguments.agent then
    say("Claude Code with its own tools works in '%s'", server.backend.options.cwd or ".")
  else
    say("a plain model, in the empty folder '%s', whose trust question is answered with yes", server.plain_folder)
  end
end

local function serve(arguments)
  return gateway.serve {
    backend = cli.to_backend(arguments), tokens = tokens_of(arguments), is_agent = arguments.agent or false,
    host = arguments.host, port = arguments.port, socket = arguments.socket, hosts = arguments.allow_host,
    max_sessions = arguments.max_sessions, queue = arguments.queue, idle_timeout_ms = arguments.idle_timeout * 1000,
    tool_wait_ms = arguments.tool_wait * 1000, grace_ms = arguments.disconnect_grace * 1000,
    is_strict = arguments.strict or false, body_bytes = arguments.max_body * 1024 * 1024,
    is_json_log = arguments.json_log or false, log = function(line) io.stderr:write(line) end,
  }
end

local function main(arguments)
  if arguments.print_token then return print_token(arguments) end
  if arguments.cwd and not arguments.agent then
    error(parley.errors.value_error "--cwd is for --agent: a plain model has an empty folder of its own", 0)
  end
  local server <close> = serve(arguments)
  announce(server, arguments)
  local _, err = pcall(function() parley.task.condition():wait() end) -- until a signal comes
  parley.task.shield(function()
    if server.desk.running > 0 then
      say("finishing %d turns, for %g s at most", server.desk.running, arguments.drain)
    end
    server:drain(arguments.drain * 1000)
    server:close()
  end)
  error(err, 0)
end

return cli.run({
  name = "serve", summary = "Serves the Anthropic Messages API and OpenAI's Chat Completions.", define = define,
  main = main,
  examples = [[
  parley serve                            # a plain model, on http://127.0.0.1:8765
  parley serve --agent --cwd /src/thing   # the tools of Claude Code, in that folder
  parley serve --socket /run/parley.sock --max-sessions 4
  # for a program whose ANTHROPIC_BASE_URL is that address:
  ANTHROPIC_API_KEY=$(parley serve --print-token) python app.py]],
}, ...)
