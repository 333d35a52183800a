-- A server of lines: each client has a conversation, each of its lines is a message, each answer comes back as a line.
--
--   parley scripts/examples/line_server.lua 7000 &
--   nc localhost 7000
local parley = require "parley"
local uv = require "luv"

local backend <close> = parley.backend { executable = os.getenv "PARLEY_CLAUDE" }
local group <close> = parley.task.group()
local server = uv.new_tcp()
local _ <close> = parley.task.closing(server)

local function serve(client, lines)
  local _ <close> = parley.task.closing(client)
  local talk = backend:conversation()
  for line in lines do
    local _, answer = pcall(talk.ask, talk, line) -- an error is an answer, too: the client may go on
    client:write(tostring(answer):gsub("\n", " ") .. "\n")
  end
end

assert(server:bind("127.0.0.1", tonumber((...) or 7000)))
assert(server:listen(16, function()
  local client, lines, rest = uv.new_tcp(), parley.task.channel(16), ""
  server:accept(client)
  group:spawn(serve, client, lines)
  client:read_start(function(_, bytes)
    if not bytes then return lines:close() end
    rest = (rest .. bytes):gsub("([^\n]*)\n", function(line)
      if not lines:try_send(line) then client:write "too many lines at once\n" end
      return ""
    end)
  end)
end))
print("asking on port " .. server:getsockname().port)
io.stdout:flush()
parley.task.condition():wait() -- until it is stopped
