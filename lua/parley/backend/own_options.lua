--- The options that one request has for itself, from its caller and from the routing policy.
local core = require "parley.core"
local errors = require "parley.base.errors"
local launch = require "parley.claude.launch"
local limits = require "parley.session.limits"
local options = require "parley.base.options"
local policies = require "parley.policy"
local session_tools = require "parley.hub.session_tools"
local suggest = require "parley.base.suggest"
local tables = require "parley.base.tables"
local tools = require "parley.hub.tools"

local M = {}

--- What another process may have anew that goes on with the same transcript.
local RENEWABLE = { model = true, effort = true, permission_mode = true, partial = true }

---@class parley.OwnOptionRules
---@field all table<string, parley.OptionRule>  of a backend
---@field one table<string, parley.OptionRule>  whatever is one session's own affair
local Rules = {}
Rules.__index = Rules
Rules.__name = "parley.OwnOptionRules"

--- Makes the rules.
---@param all table<string, parley.OptionRule>      of a backend
---@param not_one table<string, any>  names that are the backend's own affair
---@return parley.OwnOptionRules
function M.rules(all, not_one)
  local one = {}
  for name, rule in pairs(all) do
    if not not_one[name] then one[name] = rule end
  end
  return setmetatable({ all = all, one = one }, Rules)
end

--- Checks the fields of a request. They are for the routing policy; where there is none, an option among them was meant
--- for something.
---@param request any
---@param has_policy boolean  of the user's own
--- Raises `ValueError`.
function Rules:check_request(request, has_policy)
  if request == nil then return end
  if type(request) ~= "table" then
    error(errors.value_error("the fields of a request must be a table, not " .. options.describe(request)), 0)
  end
  if has_policy then return end
  local names = { "options" }
  for name in pairs(self.all) do table.insert(names, name) end
  for name in pairs(request) do
    local is_option = self.all[name] ~= nil
    local near = type(name) == "string" and not is_option and name ~= "options" and suggest.near(name, names) or ""
    if is_option or near ~= "" then
      error(errors.value_error(("a request's '%s' is for your routing policy, and there is none%s: give it to "
        .. "parley.backend%s"):format(name, near, self.one[name] and (", or as options = { %s = … }"):format(name)
        or ""), { option = name }), 0)
    end
  end
end

--- A value as text, the same for the same. JSON has no numbers without end, and no bytes that are no UTF-8.
local function spell(value)
  local text, err = core.json.encode(value, { sort_keys = true })
  if text then return text end
  if type(value) == "number" or type(value) == "string" then return ("%q"):format(value) end
  if not (options.is_of(value, "list of strings") or options.is_of(value, "map of strings")) then return nil, err end
  local parts = {}
  for key, item in pairs(value) do table.insert(parts, ("%q=%q"):format(key, item)) end
  table.sort(parts)
  return table.concat(parts, ",")
end

local function digest_of(changes, sources)
  if not next(changes) then return "" end
  local parts = {}
  for name, value in pairs(changes) do
    local text, err = spell(name == "tools" and tools.described(value) or value)
    if not text then
      error(errors.value_error(("%s: option '%s' cannot be written as JSON: %s"):format(sources[name], name,
        err.message), { option = name }), 0)
    end
    table.insert(parts, name .. "=" .. text)
  end
  table.sort(parts)
  return core.digest.hex(core.digest.blake2b(table.concat(parts, "\0"), 16)) .. "/"
end

--- Whether a session that has the option in one way can do as well what it wants in the other.
local function is_alike(name, one, other)
  if one == other then return true end
  if name == "partial" then return one or not other end -- what is told of need not be reported
  local needs = limits.STARTED_FOR[name]
  return needs == false or needs and one ~= nil
end

---@class parley.OwnOptions.Part
---@field options? table
---@field where string  whose they are, for messages

--- The options of one request: those of the backend with these in their place, the later ones before the earlier.
---@param of_backend table
---@param parts parley.OwnOptions.Part[]
---@return table set
---@return string prefix  of its sessions' keys: the same for the same options
---@return string kin     the same for all whose sessions can go on under each other's options
--- Raises `ValueError`.
function Rules:apply(of_backend, parts)
  local changes, sources = {}, {}
  for _, part in ipairs(parts) do
    if part.options ~= nil and type(part.options) ~= "table" then
      error(errors.value_error(("%s must be a table, not %s"):format(part.where, options.describe(part.options)),
        { option = "options" }), 0)
    end
    if next(part.options or {}) then
      local own = options.check(self.one, part.options, part.where)
      launch.check_files(own, part.where)
      session_tools.check(own, part.where)
      policies.check_accept(own.accept, of_backend.policies, part.where)
      for name in pairs(part.options) do changes[name], sources[name] = own[name], part.where end
    end
  end
  if not next(changes) then return of_backend, "", "" end
  local set, firm = tables.merged(of_backend), {}
  for name, value in pairs(changes) do
    if is_alike(name, set[name], value) then
      changes[name] = nil
    elseif limits.STARTED_FOR[name] then
      changes[name] = true
    end
    set[name] = value
    if not RENEWABLE[name] then firm[name] = changes[name] end
  end
  return set, digest_of(changes, sources), digest_of(firm, sources)
end

---@class parley.Started  under which options a session was started
---@field prefix string
---@field kin string
---@field set table

--- Whether a process with these options can go on behind one with those. One that is told no model, or no effort, takes
--- the one that it finds in the transcript (2.1.332): so what was set is not unset.
local function can_follow(former, set)
  return not (former.model and not set.model or former.effort and not set.effort)
end

--- The idle session of the same conversation that differs in nothing but what another process may have anew.
---@param started table<parley.Session, parley.Started>
---@param pool parley.Pool
---@param run {prefix: string, kin: string, set: table, name?: string}  `name`: its key, without the prefix
---@return string? key  under which it waits; nil when there is none, or one with the very same options
function M.find_kin(started, pool, run)
  local prefixes, has_other = {}, false
  for session, its in pairs(started) do
    has_other = has_other or its.prefix ~= run.prefix
    if its.kin == run.kin and can_follow(its.set, run.set) then prefixes[session.session_id] = its.prefix end
  end
  if not has_other or not run.name then return nil end
  local found
  for _, live in ipairs(pool:list()) do
    local prefix = not live.in_use and prefixes[live.session_id]
    local is_here = prefix and not options.one_of(live.keys)(run.name)
    if is_here and prefix == run.prefix then return nil end
    if is_here then found = prefix .. run.name end
  end
  return found
end

return M
