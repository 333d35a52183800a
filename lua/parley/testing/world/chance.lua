--- Chance that a seed decides: the same seed, the same choices, on every machine.
local M = {}

---@class parley.testing.Chance
---@field private state integer
local Chance = {}
Chance.__index = Chance

---@param seed integer
---@return parley.testing.Chance
function M.new(seed)
  local self = setmetatable({ state = (seed * 0x9E3779B97F4A7C15) ~ 0x2545F4914F6CDD1D }, Chance)
  if self.state == 0 then self.state = 1 end
  for _ = 1, 4 do self:number() end
  return self
end

--- The next number, of 53 bits.
---@return integer
function Chance:number()
  local state = self.state
  state = state ~ (state << 13)
  state = state ~ (state >> 7)
  state = state ~ (state << 17)
  self.state = state
  return state >> 11
end

--- Whether something happens that happens once in so many times; never for 0.
---@param times number
---@return boolean
function Chance:once_in(times) return times > 0 and self:number() % times == 0 end

---@param least integer
---@param most integer
---@return integer
function Chance:between(least, most) return least + self:number() % (most - least + 1) end

--- A time, in milliseconds with fractions, below the most.
---@param most number
---@return number
function Chance:below(most) return self:number() / (1 << 53) * most end

---@generic T
---@param list T[]
---@return T
function Chance:pick(list) return list[self:number() % #list + 1] end

return M
