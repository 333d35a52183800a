--- The hub: the one listener of this process that its `claude` programs call, on loopback. Each session has a door of
--- its own, which is a secret in the address: who does not know it gets nothing.
---
--- It listens while there is a door, and no longer.
local core = require "parley.core"
local errors = require "parley.base.errors"
local http = require "parley.base.http"
local task = require "parley.base.task"

local M = {}

local HOST = "127.0.0.1"

---@class parley.Door
---@field package secret string
---@field package listener table
---@field handlers table<string, fun(request: parley.http.Request, response: parley.http.Response)>
local Door = {}
Door.__index = Door
Door.__name = "parley.Door"

local current -- the listener, while there is a door

--- A page in a browser may ask, too; it cannot forge these.
local function is_from_program(request, port)
  return request.headers.host == ("%s:%d"):format(HOST, port) and request.headers.origin == nil
end

local function handle(listener, request, response)
  local secret, name = request.path:match "^/([%x-]+)/([%w_-]+)"
  local door = is_from_program(request, listener.server.port) and listener.doors[secret]
  local handler = door and door.handlers[name]
  if not handler then return response:send(404) end
  handler(request, response)
end

--- Begins to listen, in a task that belongs to nobody: it outlives the one that opens the first door.
local function listen()
  local listener = { doors = {}, count = 0, started = task.condition() }
  task.new_root(function()
    local ok, result = pcall(http.serve, { host = HOST, handler = function(...) handle(listener, ...) end })
    if ok then listener.server = result else listener.problem = result end
    listener.started:notify()
  end)
  return listener
end

--- Opens a door. Waits until the hub listens.
---@param handlers table<string, fun(request: parley.http.Request, response: parley.http.Response)>  by the word behind
---       the secret
---@return parley.Door
--- Raises `SessionError` when the hub cannot listen.
function M.open(handlers)
  current = current or listen()
  local self = setmetatable({ secret = core.uuid.generate(), listener = current, handlers = handlers }, Door)
  local listener = current
  listener.doors[self.secret], listener.count = self, listener.count + 1
  local _ <close> = setmetatable({}, { __close = function(_, err)
    if err ~= nil then self:close() end
  end })
  listener.started:wait_until(function() return listener.server or listener.problem end)
  if listener.problem then
    error(errors.session_error("the hub cannot listen: " .. errors.text(listener.problem),
      { reason = "start", cause = listener.problem }), 0)
  end
  return self
end

--- The address of one of its handlers.
---@param name string
---@return string url
function Door:url(name) return ("http://%s:%d/%s/%s"):format(HOST, self.listener.server.port, self.secret, name) end

--- Closes the door; the last one ends the listening. Further calls do nothing.
function Door:close()
  local listener = self.listener
  if not listener.doors[self.secret] then return end
  listener.doors[self.secret], listener.count = nil, listener.count - 1
  if listener.count > 0 then return end
  if current == listener then current = nil end
  if listener.server then return listener.server:close() end
  task.new_root(function() -- it is about to listen
    listener.started:wait_until(function() return listener.server or listener.problem end)
    if listener.server then listener.server:close() end
  end)
end

Door.__close = Door.close

return M
