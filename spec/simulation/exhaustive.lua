--- Conversations of up to three short turns, with whatever can go wrong in them: every single strike at every step of
--- every turn, every single fault at each time when it could happen, and pairs of all kinds at some of these points.
local plans = require "spec.simulation.plan"

local M = {}

local PROFILES = { "2.1.330", "2.1.197", "2.1.110" }
local MOST_TURNS = 3
--- Of each kind so many points are taken for the pairs.
local PAIR_POINTS = 3

local function plan_of(seed, profile, is_direct, turns)
  local conversation = { begins_ms = 0 }
  for number = 1, turns do
    conversation[number] = { text = ("m1.%d short."):format(number) }
  end
  return { seed = seed, profile = profile, direct = is_direct, consents = true, odds = {}, times = {}, starts = { {} },
    first_message = "typed", backend = { max_sessions = 1, turn_timeout_ms = 120000 },
    conversations = { conversation } }
end

---@class spec.Point  what goes wrong, and when
---@field name string
---@field turn? integer   of a strike
---@field step? integer
---@field time? integer   of a fault

--- All points of each kind, seen in a run in which nothing goes wrong.
---@param calm spec.Outcome
---@return spec.Point[][]
local function points_of(calm)
  local kinds = {}
  for _, name in ipairs(plans.STRIKES) do
    local points = {}
    for turn, steps in ipairs(calm.steps) do
      for step = 1, steps do table.insert(points, { name = name, turn = turn, step = step }) end
    end
    table.insert(kinds, points)
  end
  for _, name in ipairs(plans.FAULTS) do
    local points = {}
    for time = 1, calm.chances[name] do table.insert(points, { name = name, time = time }) end
    table.insert(kinds, points)
  end
  return kinds
end

local function put(plan, point)
  if point.time then
    local times = plan.times[point.name] or {}
    plan.times[point.name] = times
    return table.insert(times, point.time)
  end
  local turn = plan.conversations[1][point.turn]
  turn[turn.strike and "second_strike" or "strike"] = { kind = point.name, step = point.step, which = 1 }
end

--- Some of the points of a kind, evenly spread.
local function some_of(points)
  local count = math.min(PAIR_POINTS, #points)
  local some = {}
  for place = 1, count do some[place] = points[(2 * place - 1) * #points // (2 * count) + 1] end
  return some
end

--- Gives one plan after the other, for the generic `for`.
---@param seed integer  of all the worlds
---@param play fun(plan: table): spec.Outcome
---@param is_short boolean  only single ones, in three turns of the newest version on a backend
---@return fun(): table?
function M.plans(seed, play, is_short)
  local number = 0
  local function give(new_plan, ...)
    local plan = new_plan()
    number = number + 1
    plan.number = number
    for _, point in ipairs { ... } do put(plan, point) end
    coroutine.yield(plan)
  end
  local function conversation(profile, is_direct, turns)
    local function new_plan() return plan_of(seed, profile, is_direct, turns) end
    local kinds = points_of(play(new_plan()))
    for _, points in ipairs(kinds) do
      for _, point in ipairs(points) do give(new_plan, point) end
    end
    if is_short or turns < MOST_TURNS then return end
    for place, points in ipairs(kinds) do
      for other = place, #kinds do
        for _, one in ipairs(some_of(points)) do
          for _, another in ipairs(some_of(kinds[other])) do give(new_plan, one, another) end
        end
      end
    end
  end
  return coroutine.wrap(function()
    if is_short then return conversation(PROFILES[1], false, MOST_TURNS) end
    for _, profile in ipairs(PROFILES) do
      for _, is_direct in ipairs { false, true } do
        for turns = 1, MOST_TURNS do conversation(profile, is_direct, turns) end
      end
    end
  end)
end

return M
