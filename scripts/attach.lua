-- Looks into a session of `parley serve`, and takes it over.
local attach = require "parley.command.attach"
local cli = require "parley.command.cli"
local clients = require "parley.command.attach.client"
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local json = require("parley.core").json
local paint = require "parley.command.paint"
local tokens = require "parley.gateway.tokens"

local function define(parser)
  parser:argument("session", "Its id, or the beginning of it; without one the sessions are listed."):args "?"
  parser:flag("--take", "Take it over at once, or when the turn that runs has ended.")
  parser:option("--url", "Where parley serve is."):argname("URL"):default "http://127.0.0.1:8765"
  parser:option("--socket", "Its unix socket, instead."):argname "FILE"
  parser:option("--token", "Its token. Better in the variable PARLEY_TOKEN; without any, the one that is kept.")
    :argname "TOKEN"
  parser:flag("--link", "Print the address of the window's page, with the token in it, and end.")
  parser:flag("--json", "List the sessions as JSON, one a line.")
end

--- The token: of several that are given the first.
local function token_of(arguments)
  local text = arguments.token or (os.getenv "PARLEY_TOKEN" or ""):match "[^,%s]+"
  if not text then return tokens.of_folder(tokens.state_folder()) end
  local entry, problem = tokens.parse(text)
  if not entry then error(errors.value_error(problem), 0) end
  return entry.token
end

local function client_of(arguments)
  local token = token_of(arguments)
  if arguments.socket then return clients.new { path = arguments.socket, token = token } end
  local host, port = arguments.url:match "^http://([^/]+):(%d+)/?$"
  host = host or arguments.url:match "^http://([^/:]+)/?$"
  if not host then
    error(errors.value_error(("--url must be like http://127.0.0.1:8765, not '%s'; for TLS, which is a proxy's affair, "
      .. "use the page"):format(arguments.url)), 0)
  end
  return clients.new { host = host:match "^%[(.*)%]$" or host, port = math.tointeger(tonumber(port or 80)),
    token = token }
end

local function age_of(line)
  local seconds = math.max(0, (clock.wall() - line.started_at) // 1000)
  if seconds < 60 then return ("%d s"):format(seconds) end
  if seconds < 3600 then return ("%d min"):format(seconds // 60) end
  return ("%d h"):format(seconds // 3600)
end

local function list(lines, is_json)
  if is_json then
    for _, line in ipairs(lines) do cli.write(assert(json.encode(line, { sort_keys = true })), "\n") end
    return
  end
  if not lines[1] then return io.stderr:write "parley: no session lives there now\n" end
  cli.write(paint.painter(1)("bold", ("%-8s %-8s %7s %5s %15s %-10s  %s"):format("SESSION", "STATE", "AGE", "TURNS",
    "TOKENS", "MODEL", "FOLDER: WHAT IT IS DOING")), "\n")
  for _, line in ipairs(lines) do
    cli.write(paint.plain(("%-8s %-8s %7s %5d %15s %-10s  %s: %s"):format(line.id:sub(1, 8), line.state, age_of(line),
      line.turns, ("%d/%d"):format(line.input_tokens, line.output_tokens), line.model, line.folder, line.doing)), "\n")
  end
end

local function find(lines, word)
  local found
  for _, line in ipairs(lines) do
    if line.id:sub(1, #word) == word then
      if found then error(errors.value_error(("more than one session begins with '%s'"):format(word)), 0) end
      found = line
    end
  end
  return found or error(errors.value_error(("no session '%s' lives there (parley attach lists them)"):format(word)), 0)
end

local function main(arguments)
  if arguments.link then
    if arguments.socket then error(errors.value_error "--link needs --url: a browser opens no unix socket", 0) end
    return cli.write((arguments.url:gsub("/*$", "")), "/#token=", token_of(arguments), "\n")
  end
  local client = client_of(arguments)
  local lines = client:ask("GET", "/sessions")
  if not arguments.session then return list(lines, arguments.json) end
  local why = attach.run(client, find(lines, arguments.session), arguments.take or false)
  io.stderr:write("parley: ", paint.plain(why), "\n")
end

return cli.run({
  name = "attach", summary = "Looks into a session of parley serve, and takes it over.", define = define, main = main,
  examples = [[
  parley attach                    # the sessions that live now
  parley attach 3f2a               # watch one; t takes it over, Ctrl-] gives it back, and leaves
  parley attach --take 3f2a
  xdg-open "$(parley attach --link)"]],
}, ...)
