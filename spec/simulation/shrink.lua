--- Makes a plan that fails smaller, as long as it still fails in the same way: fewer conversations, turns, strikes and
--- faults, shorter texts.
local M = {}

local function copied(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in pairs(value) do copy[key] = copied(item) end
  return copy
end

local function sorted_names(of)
  local names = {}
  for name in pairs(of) do table.insert(names, name) end
  table.sort(names)
  return names
end

--- The plans that are one step smaller, the boldest first.
local function smaller(plan)
  local list = {}
  local function try(change)
    local copy = copied(plan)
    change(copy)
    table.insert(list, copy)
  end
  for place = 1, #plan.conversations do
    if #plan.conversations > 1 then try(function(copy) table.remove(copy.conversations, place) end) end
  end
  for place, conversation in ipairs(plan.conversations) do
    if #conversation > 2 then
      try(function(copy) while #copy.conversations[place] > #conversation // 2 do
        table.remove(copy.conversations[place]) end end)
    end
    for number = #conversation, 1, -1 do
      if #conversation > 1 then try(function(copy) table.remove(copy.conversations[place], number) end) end
    end
  end
  for _, name in ipairs(sorted_names(plan.odds)) do
    if plan.odds[name] ~= 0 then try(function(copy) copy.odds[name] = 0 end) end
  end
  for _, name in ipairs(sorted_names(plan.times or {})) do try(function(copy) copy.times[name] = nil end) end
  for place, start in ipairs(plan.starts) do
    if next(start) then try(function(copy) copy.starts[place] = {} end) end
  end
  if #plan.starts > 1 then try(function(copy) table.remove(copy.starts) end) end
  for _, name in ipairs { "idle_timeout_ms" } do
    if plan.backend[name] then try(function(copy) copy.backend[name] = nil end) end
  end
  if plan.asks_again then try(function(copy) copy.asks_again = false end) end
  if plan.untrusted then
    try(function(copy) copy.untrusted, copy.accepts, copy.asks_again = false, false, false end)
  end
  if not plan.consents then try(function(copy) copy.consents = true end) end
  for place, conversation in ipairs(plan.conversations) do
    if conversation.begins_ms > 0 then try(function(copy) copy.conversations[place].begins_ms = 0 end) end
    for number, turn in ipairs(conversation) do
      local function change(fn) try(function(copy) fn(copy.conversations[place][number]) end) end
      if turn.strike then change(function(one) one.strike = nil end) end
      if turn.pause_ms then change(function(one) one.pause_ms = nil end) end
      local key = turn.text:match "m%d+%.%d+"
      if turn.mark then change(function(one) one.mark, one.text = nil, key .. " short." end) end
      local short = key .. (turn.mark and " mark:" .. turn.mark or " short") .. "."
      if #short < #turn.text then change(function(one) one.text = short end) end
    end
  end
  return list
end

--- What kind of failure a problem is: what of it does not name anything.
local function kind_of(problem)
  return (problem:gsub("m%d+%.%d+", "m"):gsub('".*', ""):gsub("%d+", "0"):sub(1, 60))
end

---@param plan table
---@param problem string
---@param play fun(plan: table): spec.Outcome
---@param may_go_on fun(): boolean
---@return table plan
---@return spec.Outcome? outcome  of the smaller plan; nil when none was smaller
function M.shrink(plan, problem, play, may_go_on)
  local kind, best = kind_of(problem), nil
  local function fails(candidate)
    for salt = 0, 2 do -- where chance takes another way, other seeds may take the old one
      candidate.seed = plan.seed + salt * 1000003
      local outcome = play(candidate)
      if outcome.problem and kind_of(outcome.problem) == kind then return outcome end
    end
  end
  local found = true
  while found and may_go_on() do
    found = false
    for _, candidate in ipairs(smaller(plan)) do
      local outcome = fails(candidate)
      if outcome then
        plan, best, found = candidate, outcome, true
        break
      end
      if not may_go_on() then break end
    end
  end
  return plan, best
end

M.kind_of = kind_of

return M
