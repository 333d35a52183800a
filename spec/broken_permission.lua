--- A permission policy that the program cannot hear, on the stand-in and on the real program: nothing runs, and the
--- turn says so.
local assert = require "luassert"
local files = require "parley.base.files"
local helper = require "spec.helper"
local relay = require "spec.relay"
local task = require "parley.base.task"

local M = {}

--- Has the program give its calls up after so many seconds.
local function impatient(seconds)
  return function(folder)
    local path = folder .. "/hooks/hooks.json"
    files.write(path, (files.read(path):gsub('"timeout":%d+', '"timeout":' .. seconds)), true)
  end
end

local function is_lost(err)
  assert.same({ "SessionError", "hooks" }, { err.code, err.reason }, tostring(err))
  assert.matches("has not waited for the decision about its call of Write", err.message)
  assert.is_string(err.tool_use.id)
end

local function is_asked(err)
  assert.same({ "DialogError", "permission" }, { err.code, (err.dialog or {}).kind }, tostring(err))
end

local function is_interrupted(err, result)
  assert.is_nil(err)
  assert.equal("interrupted", result.subtype)
end

--- What befalls the question, and what the turn says then.
M.cases = {
  ["whose connection breaks in the middle of a call"] = { strike = function(link) link:cut() end, says = is_lost },
  ["whose connection breaks without a word to this side"] = { strike = function(link) link:cut(true) end,
    says = is_asked },
  ["that never answers, until somebody interrupts the turn"] = { strike = function(_, interrupt) interrupt() end,
    says = is_interrupted },
  ["that the program does not wait for"] = { change = impatient(1), says = is_lost },
}

--- Runs one. The program's tool would write `written.txt` in the folder.
---@param case table
---@param cwd string
---@param say fun(policy: table, hold: table): parley.Event  has the message sent in a session with the policy; before
---       that it puts what interrupts the turn into `hold.interrupt`. Returns the result
function M.run(case, cwd, say)
  local calls, hold = 0, {}
  local link <close> = relay.open(case.change)
  local policy = { decide = function()
    calls = calls + 1
    if case.strike then case.strike(link, hold.interrupt) end
    task.condition():wait() -- until the turn has ended
  end }
  local ok, result = pcall(say, policy, hold)
  case.says(not ok and result or nil, ok and result or nil)
  -- 2.1.110 asks once more where a connection broke that it had used before.
  assert.is_true(calls == 1 or calls == 2 and case.strike ~= nil, calls)
  assert.same({}, helper.names_in(cwd))
end

return M
