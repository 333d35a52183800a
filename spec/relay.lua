--- What stands between a program and the listener of the hub, and can break in the middle of a call.
local uv = require "luv"
local plugin = require "parley.hub.plugin"

local M = {}

---@class spec.Relay
---@field package server userdata
---@field package links {client: userdata, host: userdata}[]
local Relay = {}
Relay.__index = Relay

local function close(handle)
  if not handle:is_closing() then handle:close() end
end

--- Passes on what comes, until either end has gone.
local function pass(from, to, change)
  from:read_start(function(_, bytes)
    if not bytes then
      close(from)
      return close(to)
    end
    if not to:is_closing() then to:write(change and change(bytes) or bytes) end
  end)
end

local function accept(self)
  local link = { client = uv.new_tcp(), host = uv.new_tcp() }
  self.server:accept(link.client)
  table.insert(self.links, link)
  link.host:connect("127.0.0.1", self.port, function(problem)
    if problem then return self:cut() end
    -- The listener answers only to its own name.
    local own, name = "127%.0%.0%.1:" .. self.server:getsockname().port, "127.0.0.1:" .. self.port
    pass(link.client, link.host, function(bytes) return (bytes:gsub(own, name)) end)
    pass(link.host, link.client)
  end)
end

--- Breaks every connection, towards the program and towards the host; or towards the program alone, and the host hears
--- nothing of it.
---@param is_silent? boolean
function Relay:cut(is_silent)
  for _, link in ipairs(self.links) do
    close(link.client)
    if not is_silent then close(link.host) end
  end
end

--- Puts a relay in the way of all programs that are started until it is closed.
---@param change? fun(folder: string)  is told of each program's plugin folder
---@return spec.Relay  a `<close>` variable
function M.open(change)
  local self = setmetatable({ links = {}, server = uv.new_tcp(), write = plugin.write }, Relay)
  assert(self.server:bind("127.0.0.1", 0))
  assert(self.server:listen(16, function() accept(self) end))
  plugin.write = function(given) -- luacheck: ignore 122
    self.port = math.tointeger(tonumber(given.url:match ":(%d+)/"))
    local url = given.url:gsub(":%d+/", (":%d/"):format(self.server:getsockname().port))
    local folder = self.write { url = url, events = given.events }
    if change then change(folder) end
    return folder
  end
  return self
end

function Relay:__close()
  plugin.write = self.write -- luacheck: ignore 122
  self:cut()
  close(self.server)
end

return M
