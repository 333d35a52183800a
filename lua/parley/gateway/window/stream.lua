--- What a person who looks at a session is sent, as server-sent events: its terminal, its conversation, its line in the
--- list, and all the others' lines. One stream for all, for browsers open few connections to one server.
local clock = require "parley.base.clock"
local conversation = require "parley.gateway.window.conversation"
local core = require "parley.core"
local sessions = require "parley.gateway.window.sessions"
local task = require "parley.base.task"
local viewers = require "parley.gateway.window.viewer"

local M = {}

--- How often what is beside the terminal is looked at, and the least often that anything is sent.
local LOOK_MS, PING_MS = 300, 15000

local function encode(value) return assert(core.json.encode(value, { sort_keys = true })) end

--- Begins an answer of events.
---@param call parley.gateway.Call
function M.open(call)
  local headers = { ["content-type"] = "text/event-stream; charset=utf-8", ["cache-control"] = "no-store",
    ["x-accel-buffering"] = "no" }
  for name, value in pairs(call.headers) do headers[name] = value end
  call.response:start(200, headers)
end

--- Sends what has changed of the list, and a sign of life where nothing does.
local function beside(window, call)
  local told, pinged_at = nil, clock.now()
  return function()
    local lines = sessions.encode(window:lines(call.owner))
    if lines ~= told then
      told, pinged_at = lines, clock.now()
      call.response:event("sessions", lines)
    elseif clock.now() >= pinged_at + PING_MS then
      pinged_at = clock.now()
      call.response:comment "still here"
    end
  end
end

--- The list, live.
---@param window parley.gateway.Window
---@param call parley.gateway.Call
function M.list(window, call)
  M.open(call)
  if call.request.method == "HEAD" then return end -- what would follow has no end
  local look = beside(window, call)
  while true do
    look()
    task.sleep(LOOK_MS)
  end
end

local function send_look(call, look)
  local data = { from = look.from, to = look.to, rows = look.rows, columns = look.columns,
    data = core.text.to_base64(look.bytes) }
  call.response:event(look.kind, encode(data), tostring(look.to))
end

--- Sends what has changed of the conversation and of the session's line.
local function about(window, call, id)
  local told_pieces, told_line = nil, nil
  return function()
    local entry = window:find(id, call.owner)
    if not entry then return end
    local line = encode(sessions.line(entry, window.holds:holder(entry.session)))
    if line ~= told_line then call.response:event("session", line) end
    told_line = line
    local pieces = window:conversation(entry.session):read(entry.session.jsonl_path)
    local changes = not told_pieces and { from = 0, pieces = pieces } or conversation.changes(pieces, told_pieces)
    told_pieces = pieces
    if changes then
      call.response:event("conversation", encode { from = changes.from, pieces = core.json.array(changes.pieces) })
    end
  end
end

--- Shows a terminal until its program has ended.
local function show(call, process, look_beside)
  local viewer <close> = viewers.new(process)
  local due = clock.now()
  while true do
    local look = viewer:next(math.max(0, due - clock.now()))
    if look and look.kind == "end" then return end
    if look then send_look(call, look) end
    if clock.now() >= due then
      look_beside()
      due = clock.now() + LOOK_MS
    end
  end
end

--- A session, live, until it has gone. Where another process goes on with it that is shown, from a new snapshot on.
---@param window parley.gateway.Window
---@param call parley.gateway.Call
---@param entry parley.PoolEntry
function M.session(window, call, entry)
  local id, shown = entry.session.session_id, nil
  local list, own = beside(window, call), about(window, call, id)
  M.open(call)
  local function look_beside()
    own()
    list()
  end
  while entry or window.holds:is_returning(id) do
    local process = entry and entry.session.process
    if process and process ~= shown and process.pty then
      shown = process
      show(call, process, look_beside)
    end
    look_beside()
    task.sleep(LOOK_MS)
    entry = window:find(id, call.owner)
  end
  call.response:event("gone", "{}")
end

return M
