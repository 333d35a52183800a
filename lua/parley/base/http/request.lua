--- What a client asks: the head at once, the body by pieces, as they come.
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

--- So much of a body may wait for its reader; then the client waits.
local HIGH_WATER = 64 * 1024

---@class parley.http.Request
---@field method string                  `"GET"`
---@field target string                  as it was sent
---@field path string                    without the query; escapes stand as they were sent, see `http.unescape`
---@field query table<string, string>    of the query, unescaped; of a name that came twice the last
---@field headers table<string, string>  lower-case names; what came twice is joined with `, `
---@field version "1.0"|"1.1"
---@field peer? { host: string, port: integer }  nil on a unix socket
---@field package failure? parley.Error  why the body will not go on
local Request = {}
Request.__index = Request
Request.__name = "parley.http.Request"

--- Undoes the escapes of a path or a query: `%20`.
---@param text string
---@return string
function M.unescape(text)
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function parse_query(text)
  local query = {}
  for pair in text:gmatch "[^&]+" do
    local name, value = pair:gsub("%+", " "):match "^([^=]*)=?(.*)$"
    query[M.unescape(name)] = M.unescape(value)
  end
  return query
end

--- A request whose head is there.
---@param head parley.core.HttpHead
---@param connection table  `resume_body()` is called when there is room again, `continue()` before the first wait
---@param limit integer     bytes of the body
---@return parley.http.Request
function M.new(head, connection, limit)
  local path, query = head.target:match "^([^?]*)%??(.*)$"
  if not path:find "^[/*]" then path = path:match "^%a[%w+.-]*://[^/]*(/.*)$" or "/" end -- as a proxy is asked
  return setmetatable({
    method = head.method, target = head.target, path = path, query = parse_query(query), headers = head.headers,
    version = "1." .. head.minor, connection = connection, limit = limit, received = 0,
    pieces = {}, first = 1, last = 0, queued = 0, is_complete = false, news = task.condition(),
    expects = head.minor == 1 and (head.headers.expect or ""):lower() == "100-continue",
  }, Request)
end

---@package
function Request:is_full() return self.queued >= HIGH_WATER end

--- Takes a piece of the body.
---@package
function Request:push(piece)
  self.received = self.received + #piece
  if self.received > self.limit then
    return self:fail(errors.new("EFBIG", ("the body has more than %d bytes"):format(self.limit), { status = 413 }))
  end
  self.last = self.last + 1
  self.pieces[self.last] = piece
  self.queued = self.queued + #piece
  self.news:notify()
end

---@package
function Request:complete()
  self.is_complete = true
  self.news:notify()
end

---@package
function Request:fail(err)
  self.failure = self.failure or err
  self.news:notify()
end

--- Waits for the next piece of the body.
---@return string? piece  nil at the end
--- Raises an error with code `EFBIG`, `EPROTO` or `ETIMEDOUT` when the rest is too large, no HTTP or does not come. One
--- that the handler lets pass is answered with the status that fits.
function Request:read()
  local piece = self.pieces[self.first]
  while not piece do
    if self.failure then error(self.failure, 0) end
    if self.is_complete then return nil end
    self.connection:continue(self)
    self.news:wait()
    piece = self.pieces[self.first]
  end
  self.pieces[self.first] = nil
  self.first = self.first + 1
  local was_full = self:is_full()
  self.queued = self.queued - #piece
  if was_full and not self:is_full() then self.connection:resume_body(self) end
  return piece
end

--- Waits for the whole body, or what is left of it.
---@param limit? integer  at most so many bytes
---@return string
--- Raises what `read` raises.
function Request:body(limit)
  local pieces, size = {}, 0
  for piece in self.read, self do
    size = size + #piece
    if limit and size > limit then
      error(errors.new("EFBIG", ("the body has more than %d bytes"):format(limit), { status = 413 }), 0)
    end
    table.insert(pieces, piece)
  end
  return table.concat(pieces)
end

function Request:__tostring() return ("%s (%s %s)"):format(Request.__name, self.method, self.target) end

return M
