-- Which versions: of those that npm has, what was asked for.
local errors = require "parley.base.errors"
local results = require "spec.conformance.results"

local M = {}

--- The first that is a native program.
local OLDEST = "2.1.110"

--- Those of npm's list that are native and no trial, the oldest first.
---@param published string[]
---@return string[]
function M.native(published)
  local versions = {}
  for _, version in ipairs(published) do
    if version:find "^%d+%.%d+%.%d+$" and results.rank(version) >= results.rank(OLDEST) then
      table.insert(versions, version)
    end
  end
  table.sort(versions, function(one, other) return results.rank(one) < results.rank(other) end)
  return versions
end

--- The versions of words that are nothing else: for these npm's list is not needed.
---@param words string
---@return string[]?  nil where another word stands among them, or none at all
function M.named(words)
  local list = {}
  for word in words:gmatch "%S+" do table.insert(list, word) end
  local versions = M.native(list)
  return #versions > 0 and #versions == #list and versions or nil
end

local function matcher_of(word)
  local pattern = "^" .. word:gsub("[%-%.%+%[%]%(%)%$%^%%%?]", "%%%0"):gsub("%*", ".*") .. "$"
  return function(version) return version:find(pattern) ~= nil end
end

--- One for each day, and the same the whole day.
local function drawn(all, day) return all[day * 7919 % #all + 1] end

--- The versions that words stand for: `2.1.300`, `2.1.2*`, `newest`, `drawn` (another each day). None stand for all.
---@param all string[]  from the oldest to the newest
---@param words string
---@param day integer   since 1970
---@return string[]
--- Raises `ValueError` for a word that fits none.
function M.select(all, words, day)
  local is_wanted, chosen = {}, {}
  for word in words:gmatch "%S+" do
    local fits = word == "newest" and matcher_of(all[#all]) or word == "drawn" and matcher_of(drawn(all, day))
      or matcher_of(word)
    local is_any = false
    for _, version in ipairs(all) do
      if fits(version) then is_wanted[version], is_any = true, true end
    end
    if not is_any then error(errors.value_error(("no published version is %s"):format(word)), 0) end
  end
  for _, version in ipairs(all) do
    if is_wanted[version] or not words:find "%S" then table.insert(chosen, version) end
  end
  return chosen
end

--- So many of a list, spread over all, the first and the last among them.
---@param all string[]
---@param count integer
---@return string[]
function M.sample(all, count)
  if count >= #all then return all end
  if count == 1 then return { all[#all] } end
  local chosen = {}
  for i = 0, count - 1 do table.insert(chosen, all[i * (#all - 1) // (count - 1) + 1]) end
  return chosen
end

return M
