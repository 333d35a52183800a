--- One listener of this host process, on loopback, for all its sessions: from the first that needs it to the last.
---
--- Each session has a secret in its URL. Whatever has not is 404, and what comes from a web page is refused: a browser
--- sends an `Origin`, and a name that was made to point here stands in `Host`.
local core = require "parley.core"
local errors = require "parley.base.errors"
local http = require "parley.base.http"
local uv = require "luv"

local M = {}

--- A head is small and comes at once; a body holds what a tool gave.
local LIMITS = { head_ms = 2000, connections = 512, body_bytes = 64 * 1024 * 1024 }

local serve = http.serve
local server -- while there is an entry
local entries = {} -- by the digest of the secret: what a look-up takes says nothing of it
local count = 0

--- Who has no secret keeps no place: a program that is not heard goes on as if there were no hook.
local TEXT = { ["content-type"] = "text/plain", connection = "close" }

local function digest(secret) return core.digest.blake2b(secret, 32) end

local function refuse(response, status, text) response:send(status, TEXT, text .. "\n") end

local function is_own_host(value)
  return value == ("127.0.0.1:%d"):format(server.port) or value == ("localhost:%d"):format(server.port)
end

local function handle(request, response)
  if not server or not is_own_host(request.headers.host) or request.headers.origin then
    return refuse(response, 403, "not for you")
  end
  local secret, rest = request.path:match "^/(%x+)/(.*)$"
  local entry = secret and entries[digest(secret)]
  if not entry then return refuse(response, 404, "nothing is here") end
  entry.handler(rest, request, response)
end

---@class parley.HubEntry
---@field url string    `http://127.0.0.1:PORT/SECRET/`
---@field package key string
local Entry = {}
Entry.__index = Entry

--- Gives a session a secret. The listener is there from now on.
---@param handler fun(path: string, request: parley.http.Request, response: parley.http.Response)  runs as a task;
---       `path` is what stands behind the secret
---@return parley.HubEntry
--- Raises an error with the system's code when nothing can listen.
function M.attach(handler)
  if not server then
    server = serve { handler = handle, limits = LIMITS, makes_room = true, is_detached = true,
      on_error = function() end }
  end
  local secret = core.digest.hex(assert(uv.random(32)))
  local self = setmetatable({ handler = handler, key = digest(secret),
    url = ("http://127.0.0.1:%d/%s/"):format(server.port, secret) }, Entry)
  entries[self.key], count = self, count + 1
  return self
end

--- Takes the secret back. The last one ends the listener. A second call does nothing.
function Entry:close()
  if entries[self.key] ~= self then return end
  entries[self.key], count = nil, count - 1
  if count > 0 then return end
  local last = server
  server = nil
  last:close()
end

--- What has a program reach the listener: the user's proxies are not for loopback. It may be asked twice.
---@param environment table<string, string>  of the program
---@return table<string, string> variables
function M.variables_for(environment)
  local variables = {}
  for _, name in ipairs { "NO_PROXY", "no_proxy" } do
    local own = environment[name] or environment.NO_PROXY or environment.no_proxy or ""
    local has_it = ("," .. own .. ","):find(",127.0.0.1,", 1, true)
    variables[name] = has_it and own or (own ~= "" and own .. "," or "") .. "127.0.0.1,localhost"
  end
  return variables
end

--- Puts another server in the place of `parley.http.serve`, for a simulated world.
---@param other? fun(given: table): {port: integer, close: fun(self: any)}  nil: the real one
function M.use(other) serve = other or http.serve end

--- Whether anything listens.
---@return boolean
function M.is_open() return server ~= nil end

--- For answers in JSON.
---@param response parley.http.Response
---@param value table
function M.answer(response, value)
  local text, err = core.json.encode(value)
  if not text then error(errors.value_error("the answer cannot be written as JSON: " .. err.message), 0) end
  response:send(200, { ["content-type"] = "application/json" }, text)
end

return M
