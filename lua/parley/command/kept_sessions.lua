--- The index of conversations for people: what it holds, and taking things out of it.
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local index = require "parley.sleep.index"
local paint = require "parley.command.paint"
local stdout = require "parley.command.stdout"

local M = {}

local json = core.json

local UNITS = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } }

--- How long something is ago.
---@param seconds number
---@return string  `"3 min"`
function M.age(seconds)
  for _, unit in ipairs(UNITS) do
    if seconds >= unit[1] then return ("%d %s"):format(seconds // unit[1], unit[2]) end
  end
  return "now"
end

--- Opens the index.
---@param retention? table
---@return parley.sleep.Index store  a `<close>` variable
--- Raises `StateError`.
function M.open(retention)
  local store, err = index.open { retention = retention, on_event = function(event)
    io.stderr:write("parley: ", event.message, "\n")
  end }
  if not store then error(err, 0) end
  return store
end

--- An entry's state in words.
---@param entry parley.sleep.Entry
---@param now number  seconds since 1970
---@return string  `"asleep 2 h"`
function M.state(entry, now) return ("%s %s"):format(entry.state, M.age(now - entry.since)) end

local function timestamp(seconds) return clock.date("!%Y-%m-%dT%H:%M:%SZ", seconds * 1000) end

--- What the lines of JSON say of an entry.
---@param entry parley.sleep.Entry
---@return table
function M.state_fields(entry)
  return { state = entry.state, since = timestamp(entry.since), process = entry.owner and entry.owner.pid or json.null,
    model = entry.model or json.null }
end

local function to_json(entry)
  local fields = M.state_fields(entry)
  fields.id, fields.path, fields.size, fields.cwd = entry.session_id, entry.path, entry.size, entry.cwd or json.null
  fields.turns, fields.tokens, fields.cost_usd = entry.turns, entry.tokens, entry.cost_usd or json.null
  fields.created, fields.used = timestamp(entry.created_at), timestamp(entry.used_at)
  return assert(json.encode(fields, { sort_keys = true }))
end

local ROW = "%-36s %7s %5s %-14s %-16s %s"

--- Prints what the index holds, the last used one first.
---@param options {limit?: integer, json?: boolean}
--- Raises `StateError`.
function M.list(options)
  local store <close> = M.open()
  local now, count = clock.wall() / 1000, 0
  for entry in store:each(options.limit) do
    count = count + 1
    if options.json then
      stdout.write(to_json(entry), "\n")
    else
      if count == 1 then
        stdout.write(paint.painter(1)("bold", ROW:format("ID", "AGE", "TURNS", "STATE", "MODEL", "FOLDER")), "\n")
      end
      stdout.write(ROW:format(entry.session_id, M.age(now - entry.used_at), entry.turns, M.state(entry, now),
        paint.plain(entry.model or "-"), paint.plain(entry.cwd or "-")), "\n")
    end
  end
  if count == 0 then io.stderr:write("parley: no sessions are kept in ", index.default_path(), "\n") end
end

--- The one entry that a word names.
local function find(store, word)
  local entry, found = store:get(word), {}
  if entry then return entry.session_id end
  for one in store:each() do
    if #word >= 4 and one.session_id:sub(1, #word) == word:lower() then table.insert(found, one.session_id) end
  end
  if #found == 1 then return found[1] end
  local message = "no session '%s' is kept (parley sessions --kept lists them)"
  if found[1] then
    message = "'%s' begins the ids of several sessions: " .. table.concat(found, ", ", 1, math.min(#found, 5))
  end
  error(errors.value_error(message:format(word)), 0)
end

--- Takes a session out of the index, and prints its id. Its transcript stays.
---@param word string  its id, or the beginning of it
--- Raises `ValueError` when there is none, `StateError` when it is live.
function M.forget(word)
  local store <close> = M.open()
  local session_id = find(store, word)
  local _, err = store:forget(session_id)
  if err then error(err, 0) end
  stdout.write(session_id, "\n")
end

--- Takes out what is not to be kept, and prints the ids. Transcripts stay.
---@param retention {days?: number, count?: integer, bytes?: integer}
--- Raises `ValueError`, `StateError`.
function M.prune(retention)
  if not next(retention) then
    error(errors.value_error "say what is to be kept: --days, --count or --bytes (see parley sessions --help)", 0)
  end
  local store <close> = M.open(retention)
  while true do
    local removed, err = store:prune()
    if not removed then error(err, 0) end
    if not removed[1] then return end
    for _, entry in ipairs(removed) do stdout.write(entry.session_id, "\n") end
  end
end

return M
