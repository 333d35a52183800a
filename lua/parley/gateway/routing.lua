--- Which session a request of a client goes to: the gateway's own keys, and in front of them the user's routing policy.
local mentions = require "parley.gateway.mentions"
local policies = require "parley.policy"
local problems = require "parley.gateway.problems"
local routing = require "parley.policy.routing"
local tables = require "parley.base.tables"

local M = {}

local function has(list, key)
  for _, each in ipairs(list or {}) do
    if each == key then return true end
  end
  return false
end

--- Of what waits under a key, awake or asleep, whether it is more than one: two sessions with the same history may
--- differ in what they have done for it, and nobody can say which of them is meant.
local function is_ambiguous(sessions, index, key)
  local is_in_use, found, count = {}, {}, 0
  for _, session in ipairs(sessions) do
    is_in_use[session.session_id] = session.in_use
    found[session.session_id] = not session.in_use and has(session.keys, key) or nil
  end
  for _, entry in ipairs(index and index:find(key) or {}) do
    local waits = not is_in_use[entry.session_id] and has(entry.options.here, key)
    found[entry.session_id] = found[entry.session_id] or waits or nil
  end
  for _ in pairs(found) do count = count + 1 end
  return count > 1
end

--- A person has taken over the session that waits under a key: another one would be beside the point.
local function check_free(sessions, key)
  for _, session in ipairs(sessions) do
    for _, each in ipairs(session.taken and session.keys or {}) do
      if each == key then
        error(problems.new(409, "a person has taken over the session of this conversation, and has not given it back",
          { retry_after = 10, reason = "taken" }), 0)
      end
    end
  end
end

--- What the user's policy sees: the request without what is the gateway's own.
local function shown(request)
  local copy = tables.merged(request)
  copy.gateway = nil
  return copy
end

local function own_route(user, request)
  if not user then return {} end
  local answer, why = user.route(shown(request))
  if not answer then
    error(problems.new(403, ("%s refuses the request: %s"):format(user.described, why), { is_final = true,
      reason = "refused" }), 0)
  end
  return tables.merged(answer)
end

--- Makes the routing policy of a gateway's backend.
---@param given {policy?: any, plain?: table, accept?: string[], index?: parley.sleep.Index}  `policy` is the user's, as
---       it was given; `plain`: the plain model's options; `accept`: what may be answered in another folder than its
---       own; `index`: what is known of sessions that sleep
---@return table policy
--- Raises `ValueError` for a bad policy.
function M.new(given)
  local user = given.policy and policies.load("routing", given.policy)
  local has_route, has_keys = user and rawget(user, "route") ~= nil, user and rawget(user, "keys") ~= nil
  local policy = { described = user and user.described or "the gateway" }

  function policy.route(request)
    local run = request.gateway
    local answer = own_route(has_route and user, request)
    if answer.key then
      answer.key = run.scope .. answer.key
      run.has_own_key = true
    else
      local key = run:first_key()
      answer.key = not is_ambiguous(request.sessions, given.index, key) and key or nil
      answer.wait = answer.key and answer.wait
    end
    check_free(request.sessions, answer.key or run:first_key())
    local own = given.plain and answer.options or {}
    if own.cwd or own.extra_env then -- the desk has looked for files with the plain model's own
      mentions.check(request.messages, tables.merged(given.plain, own))
    end
    if own.cwd and not own.accept then
      answer.options = tables.merged(answer.options, { accept = given.accept or {} })
    end
    return answer
  end

  function policy.keys(request, answer)
    local run = request.gateway
    if not (run.has_own_key or has_keys) then return run:keys() end
    local keys = {}
    for i, key in ipairs((user or routing).keys(shown(request), answer)) do keys[i] = run.scope .. key end
    return keys
  end

  -- What is loaded already is not loaded again: no request is copied for the gateway's own functions.
  return setmetatable(policy, { __index = routing, __name = "parley.Policy" })
end

return M
