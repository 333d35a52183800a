-- A hook server that does nothing but say when a call came: a line of JSON each, with the text that was shown. It is a
-- process of its own, so that what it sees is the program's doing alone.
local core = require "parley.core"
local uv = require "luv"

local ANSWER = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", 0))

--- Takes the calls of a connection.
local function serve(socket)
  local text, came = "", nil
  socket:read_start(function(_, bytes)
    if not bytes then return socket:close() end
    came = came or uv.hrtime() / 1e6
    text = text .. bytes
    while true do
      local head_end = select(2, text:find("\r\n\r\n", 1, true))
      local length = head_end and tonumber(text:lower():match "content%-length: *(%d+)")
      if not length or #text < head_end + length then return end
      local payload = core.json.decode(text:sub(head_end + 1, head_end + length))
      text = text:sub(head_end + length + 1)
      socket:write(ANSWER)
      io.write(core.json.encode { at = came, delta = payload.delta }, "\n")
      io.flush()
      came = nil
    end
  end)
end

assert(server:listen(16, function()
  local socket = uv.new_tcp()
  server:accept(socket)
  serve(socket)
end))
print("listening on " .. server:getsockname().port)
io.flush()
require("parley.base.task").channel():receive()
