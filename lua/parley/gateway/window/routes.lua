--- What there is of the window under which path.
local assets = require "parley.gateway.window.assets"
local core = require "parley.core"
local defer = require "parley.base.defer"
local problems = require "parley.gateway.problems"
local sessions = require "parley.gateway.window.sessions"
local stream = require "parley.gateway.window.stream"
local taken = require "parley.backend.taken"

local M = {}

--- So many bytes of keys may come at once: a paste is one request.
local KEY_BYTES = 1024 * 1024
local LONGEST_WAIT_S = 3600

local function send(call, status, kind, text, more)
  local headers = { ["content-type"] = kind }
  for _, set in ipairs { assets.HEADERS, call.headers, more or {} } do
    for name, value in pairs(set) do headers[name] = value end
  end
  call.response:send(status, headers, text)
end

local function send_json(call, value)
  send(call, 200, "application/json", assert(core.json.encode(value, { sort_keys = true })))
end

local function find(call, id)
  local entry = call.server.window:find(id, call.owner)
  if not entry then error(problems.new(404, ("there is no session '%s'"):format(id)), 0) end
  return entry
end

--- What the caller has of a session, by the header `parley-hold`.
local function hold_of(call, id)
  local one = call.server.window.holds:find(call.request.headers["parley-hold"], call.owner, id)
  if not one then
    error(problems.new(409, "you have not taken this session over, or it was given back", { reason = "not_taken" }), 0)
  end
  return one
end

local handlers = {}

function handlers.asset(call)
  local text, kind = assets.read(call.request.path)
  if text then return send(call, 200, kind, text) end
  error(problems.new(404, "this program was built without its page, for npm was missing; parley attach does the same "
    .. "from a terminal"), 0)
end

function handlers.login(call) send_json(call, { secret = call.server.window:login(call.owner) }) end

function handlers.list(call)
  local window = call.server.window
  if (call.request.headers.accept or ""):find("text/event-stream", 1, true) then return stream.list(window, call) end
  send(call, 200, "application/json", sessions.encode(window:lines(call.owner)))
end

function handlers.stream(call, id)
  local window, entry = call.server.window, find(call, id)
  local held = call.request.headers["parley-hold"] and hold_of(call, id)
  local _ <close> = defer(held and window.holds:attend(held) or function() end)
  stream.session(window, call, entry)
end

function handlers.messages(call, id)
  send_json(call, core.json.array(taken.messages(find(call, id).session.jsonl_path)))
end

function handlers.take(call, id)
  local entry = find(call, id)
  local seconds = tonumber(call.request.query.wait or 0)
  if not seconds or seconds < 0 or seconds > LONGEST_WAIT_S then
    problems.refuse("wait: must be a number of seconds from 0 to %d", LONGEST_WAIT_S)
  end
  local one = call.server.window.holds:take(entry, call.owner, seconds * 1000,
    call.request.headers["parley-person"])
  send_json(call, { hold = one.id })
end

function handlers.keys(call, id)
  local one = hold_of(call, id)
  local bytes = call.request:body(KEY_BYTES)
  local ok, err = pcall(call.server.window.holds.type, call.server.window.holds, one, bytes)
  if not ok and type(err) == "table" and err.reason == "exit" then
    error(problems.new(409, "the program has ended: give the session back", { reason = "exit" }), 0)
  elseif not ok then
    error(err, 0)
  end
  send_json(call, {})
end

function handlers.give_back(call, id)
  call.server.window.holds:give_back(hold_of(call, id))
  send_json(call, {})
end

local function route(methods, name, is_open)
  local set = {}
  for method in methods:gmatch "%S+" do set[method] = true end
  return { methods = set, handle = handlers[name], is_open = is_open, is_window = true,
    allow = (methods:gsub(" ", ", ")) }
end

local ASSET = route("GET HEAD", "asset", true)
local WHOLE = { ["/login"] = route("POST", "login"), ["/sessions"] = route("GET HEAD", "list") }
local OF_SESSION = {
  stream = route("GET", "stream"), messages = route("GET HEAD", "messages"), take = route("POST", "take"),
  keys = route("POST", "keys"), ["give-back"] = route("POST", "give_back"),
}

--- Finds what a path means.
---@param path string
---@return parley.gateway.Route?
---@return string? part
---@return string? name
function M.find(path)
  if assets.is_one(path) then return ASSET, nil, path end
  if WHOLE[path] then return WHOLE[path], nil, path end
  local id, what = path:match "^/sessions/([%w-]+)/([%w-]+)$"
  if id and OF_SESSION[what] then return OF_SESSION[what], id, "/sessions/ID/" .. what end
end

return M
