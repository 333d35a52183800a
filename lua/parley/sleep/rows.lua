--- Entries as rows of the index's file, and back.
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local options = require "parley.base.options"
local owner = require "parley.sleep.owner"

local M = {}

local json = core.json

---@class parley.sleep.Entry     what is known of a session
---@field session_id string
---@field keys string[]          under which it is found: fingerprints of what was said in it
---@field scope string           of which it is: the options' fingerprint. What is looked for in another is not found
---@field path string            its transcript
---@field size integer           of the transcript, in bytes, when this was stored
---@field digest string          of the transcript's last bytes then
---@field cwd? string
---@field options table          JSON's values
---@field argv string[]
---@field env_names string[]     names alone: the values are nobody's but the process'
---@field model? string
---@field turns integer
---@field tokens integer
---@field cost_usd? number
---@field created_at number      seconds since 1970, to a millisecond
---@field used_at number
---@field state "live"|"asleep"  as read: live is what a living owner has
---@field since? number          as read: since when it is in that state
---@field owner? parley.sleep.Owner  as read: who has it

---@class parley.sleep.Owner
---@field pid? integer   nil: it is being taken, or given back, at this moment
---@field since? number  seconds since 1970

local function at_least_nothing(value) return value < 0 and "0 or more" or nil end

--- A session's id becomes a file's name.
local function is_name(value)
  return not (value:find "^[%w][%w._-]*$" and #value <= 128) and "an id: letters, digits, '-', '_' and '.'" or nil
end

local RULES = {
  session_id = { type = "string", check = is_name }, keys = { type = "list of strings" }, scope = { type = "string" },
  path = { type = "string" }, size = { type = "integer", default = 0, check = at_least_nothing },
  digest = { type = "string", default = "" }, cwd = { type = "string" },
  options = { type = "table", default = {}, copy = false }, argv = { type = "list of strings", default = {} },
  env_names = { type = "list of strings", default = {} }, model = { type = "string" },
  turns = { type = "integer", default = 0, check = at_least_nothing },
  tokens = { type = "integer", default = 0, check = at_least_nothing },
  cost_usd = { type = "number" }, created_at = { type = "number" }, used_at = { type = "number" },
  state = { type = "string", check = options.one_of { "live", "asleep" } },
  since = { type = "number" }, owner = { type = "table", copy = false },
}
local REQUIRED = { "session_id", "keys", "scope", "path", "state" }

local function encoded(name, value)
  local text, err = json.encode(value)
  if not text then
    error(errors.value_error(("an entry of the index: option '%s' %s"):format(name, err.message), { option = name }), 0)
  end
  return text
end

local function to_ms(seconds) return math.floor(seconds * 1000 + 0.5) end

--- The time now, as rows have it.
---@return integer milliseconds
function M.now() return math.floor(clock.wall()) end

--- Checks what becomes the name of a file.
---@param session_id any
--- Raises `ValueError`.
function M.check_id(session_id)
  if type(session_id) ~= "string" or is_name(session_id) then
    error(errors.value_error("a session's id expected, not " .. options.describe(session_id)), 0)
  end
end

M.PUT = [[
  INSERT INTO sessions (session_id, scope, path, size, digest, cwd, options, argv, env_names, model, turns, tokens,
    cost_usd, created_at, used_at, state, since)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ifnull(?14, ?17), ?15, ?16, ?17)
  ON CONFLICT (session_id) DO UPDATE SET scope = ?2, path = ?3, size = ?4, digest = ?5, cwd = ?6, options = ?7,
    argv = ?8, env_names = ?9, model = ?10, turns = ?11, tokens = ?12, cost_usd = ?13,
    created_at = ifnull(?14, created_at), used_at = ?15, since = iif(state = ?16, since, ?17), state = ?16
  RETURNING id]]

--- An entry as the values of `PUT`, and its keys as a JSON list.
---@param entry parley.sleep.Entry
---@return any[] values  17
---@return string keys
--- Raises `ValueError`.
function M.of_entry(entry)
  local checked, now = options.check(RULES, entry, "an entry of the index"), M.now()
  for _, name in ipairs(REQUIRED) do
    if checked[name] == nil then
      error(errors.value_error(("an entry of the index must have '%s'"):format(name), { option = name }), 0)
    end
  end
  return {
    checked.session_id, checked.scope, checked.path, checked.size, checked.digest, checked.cwd,
    encoded("options", checked.options), encoded("argv", json.array(checked.argv)),
    encoded("env_names", json.array(checked.env_names)), checked.model, checked.turns, checked.tokens, checked.cost_usd,
    checked.created_at and to_ms(checked.created_at), checked.used_at and to_ms(checked.used_at) or now, checked.state,
    now,
  }, encoded("keys", json.array(checked.keys))
end

--- What a query must select for `to_entry`, of `sessions s` and `leases l`.
M.COLUMNS = [[s.*, (SELECT json_group_array(key) FROM keys WHERE session = s.id) AS keys,
  l.pid, l.started, l.boot, l.namespace, l.since AS leased_at]]

--- The entry of a row.
---@param row table
---@param this parley.sleep.Process  who asks
---@return parley.sleep.Entry
function M.to_entry(row, this)
  local entry = {
    session_id = row.session_id, keys = json.decode(row.keys), scope = row.scope, path = row.path, size = row.size,
    digest = row.digest, cwd = row.cwd, options = json.decode(row.options), argv = json.decode(row.argv),
    env_names = json.decode(row.env_names), model = row.model, turns = row.turns, tokens = row.tokens,
    cost_usd = row.cost_usd, created_at = row.created_at / 1000, used_at = row.used_at / 1000,
  }
  if row.pid and owner.lives(row, this) ~= false then
    entry.state, entry.since = "live", row.leased_at / 1000
    entry.owner = { pid = row.pid, since = row.leased_at / 1000 }
  else
    -- What a host had when it was killed has slept since it was used.
    entry.state, entry.since = "asleep", (row.state == "asleep" and row.since or row.used_at) / 1000
  end
  return entry
end

return M
