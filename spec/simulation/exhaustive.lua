--- Every single strike at every step of short conversations, and pairs of them at some.
local plans = require "spec.simulation.plan"

local M = {}

--- A conversation of three short turns has no more steps than this.
local MOST_STEPS, PAIR_STEPS = 60, 7

local function plan_of(seed, profile, turns)
  local conversation = { begins_ms = 0 }
  for number = 1, turns do
    conversation[number] = { text = ("m1.%d short."):format(number) }
  end
  return { seed = seed, profile = profile, consents = true, odds = {}, starts = { {} },
    backend = { max_sessions = 1, turn_timeout_ms = 120000 }, conversations = { conversation } }
end

--- Gives one plan after the other, for the generic `for`.
---@param seed integer  of all the worlds
---@return fun(): table?
function M.plans(seed)
  return coroutine.wrap(function()
    for _, profile in ipairs { "2.1.330", "2.1.197", "2.1.110" } do
      for turn = 1, 3 do
        for _, kind in ipairs(plans.STRIKES) do
          for step = 1, MOST_STEPS do
            local plan = plan_of(seed, profile, 3)
            plan.conversations[1][turn].strike = { kind = kind, step = step, which = 1 }
            coroutine.yield(plan)
          end
        end
      end
      for _, first in ipairs(plans.STRIKES) do
        for _, second in ipairs(plans.STRIKES) do
          for one = 1, MOST_STEPS, PAIR_STEPS do
            for other = 1, MOST_STEPS, PAIR_STEPS do
              local plan = plan_of(seed, profile, 3)
              plan.conversations[1][1].strike = { kind = first, step = one, which = 1 }
              plan.conversations[1][2].strike = { kind = second, step = other, which = 1 }
              coroutine.yield(plan)
            end
          end
        end
      end
    end
  end)
end

return M
