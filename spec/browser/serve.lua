-- A gateway on the simulated claude, for the browser's specs: says where it is and serves until its input ends. A line
-- there breaks all connections.
local gateway = require "parley.gateway"
local json = require "parley.core".json
local stdin = require "parley.command.stdin"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local testing = require "parley.testing"

local TOKEN = "browser-token-0123456789"
local LINES = {}
for i = 1, 60 do LINES[i] = ("line %d of a long answer"):format(i) end

local kit <close> = testing.kit { script = { answers = {
  { on = "slow", text = "a slow answer", delay_ms = 2500 },
  { on = "long", text = table.concat(LINES, "\n"), delay_ms = 300 },
} } }
local server <close> = gateway.serve { tokens = { { name = "me", token = TOKEN } },
  plain_folder = kit.folder .. "/plain", backend = tables.merged(kit.options) }
io.stdout:write(json.encode { port = server.port, token = TOKEN }, "\n")
io.stdout:flush()

local over = task.condition()
local has_ended = false
local _ <close> = stdin.open(function(bytes)
  if bytes then
    for connection in pairs(server.http.connections) do connection:close() end
    return
  end
  has_ended = true
  over:notify()
end)
over:wait_until(function() return has_ended end)
return 0
