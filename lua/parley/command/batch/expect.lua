--- What the last answer of a conversation must be like.
---
--- An expectation is a text that the answer contains, `{contains = text}`, `{pattern = Lua pattern}`, `{json = schema}`
--- (see parley.base.schema), a list of these, all of which must hold, or, from a Lua file,
--- `function(answer_text, messages)` that returns true, or false and why.
local errors = require "parley.base.errors"
local options = require "parley.base.options"
local schemas = require "parley.base.schema"

local M = {}

local MOST_CAPTURES = 32 -- of Lua's patterns

--- Whether a value can be called.
---@param value any
---@return boolean
function M.is_callable(value)
  return options.is_of(value, "callable")
end

local FORMS = 'a text, {"contains": text}, {"pattern": Lua pattern}, {"json": JSON Schema} or a list of these'

--- What is wrong with a Lua pattern, anywhere in it: Lua says so only of what a text gets it to.
local function pattern_problem(pattern)
  if not pattern:find "[%^$*+?.(%[%%-]" then return nil end -- it is looked for as it is
  local at, is_closed, open = 1, {}, {}
  local function take(form)
    local stop = pattern:match("^" .. form .. "()", at)
    at = stop or at
    return stop
  end
  while at <= #pattern do
    if take "%%f" and pattern:sub(at, at) ~= "[" then return "no set follows its '%f'" end
    if take "%[%^?" then
      repeat
        if not take "%%?." then return "a set lacks its ']'" end
      until take "%]"
    elseif take "%%b" then
      if not take ".." then return "no two characters follow its '%b'" end
    elseif take "%(" then
      table.insert(is_closed, false)
      table.insert(open, #is_closed)
    elseif take "%)" then
      if not open[1] then return "a ')' closes nothing" end
      is_closed[table.remove(open)] = true
    elseif take "%%%d" then
      local name = pattern:sub(at - 1, at - 1)
      if not is_closed[tonumber(name)] then return ("'%%%s' names no capture before it"):format(name) end
    elseif not take "%%." and not take "[^%%]" then
      return "it ends with '%'"
    end
  end
  return open[1] and "a '(' is not closed" or #is_closed > MOST_CAPTURES and "it has too many captures" or nil
end

local function check_fields(expected)
  for name, value in pairs(expected) do
    if name ~= "contains" and name ~= "pattern" and name ~= "json" then
      return ("expect must be %s; it has the unknown field '%s'"):format(FORMS, tostring(name))
    end
    if name == "json" then
      local fits, err = pcall(schemas.check, value, "expect: 'json'")
      if not fits then return errors.message(err) end
    elseif type(value) ~= "string" then
      return ("expect: '%s' must be a text"):format(name)
    end
  end
  if not next(expected) then return "expect must be " .. FORMS end
  local problem = pattern_problem(expected.pattern or "")
  if problem then return ("expect: the pattern %q is wrong: %s"):format(expected.pattern, problem) end
end

--- Says what is wrong with an expectation, before anything is started.
---@param expected any
---@return string? problem
function M.check(expected)
  if type(expected) == "string" or M.is_callable(expected) then return nil end
  if type(expected) ~= "table" then return "expect must be " .. FORMS end
  if #expected == 0 then return check_fields(expected) end
  for _, item in ipairs(expected) do
    local problem = M.check(item)
    if problem then return problem end
  end
end

--- Holds an answer against an expectation.
---@param expected any        one that `check` finds nothing wrong with
---@param text string         the last answer's
---@param messages table[]    the whole conversation
---@return string? complaint  nil when it holds
function M.complaint(expected, text, messages)
  if type(expected) == "string" then expected = { contains = expected } end
  if M.is_callable(expected) then
    local holds, why = expected(text, messages)
    return not holds and (why and tostring(why) or "the answer is not as expected") or nil
  end
  for _, item in ipairs(expected) do
    local complaint = M.complaint(item, text, messages)
    if complaint then return complaint end
  end
  if expected.contains and not text:find(expected.contains, 1, true) then
    return ("the answer does not contain %q"):format(expected.contains)
  end
  if expected.pattern and not text:find(expected.pattern) then
    return ("the answer does not match %q"):format(expected.pattern)
  end
  local problem = expected.json and select(2, schemas.read(expected.json, text))
  return problem and "the answer is not as its schema says: " .. problem or nil
end

return M
