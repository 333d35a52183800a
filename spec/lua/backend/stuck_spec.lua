-- A call of the program's that asks the backend for a place that only the end of its own turn could free.
local helper = require "spec.helper"
local parley = require "parley"
local task = require "parley.base.task"
local testing = require "parley.testing"

describe("with all places taken,", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- Has one or two turns whose call asks the same backend, and gives the reasons of what it was refused for.
  local function reasons_of(places, set)
    local world <close> = testing.world { script = { answers = { { on = "outer",
      tool = { name = "inner", input = {} }, after = "outer done" } } } }
    local backend
    local reasons, asking, all_ask = {}, 0, task.condition()
    set(world.options, function()
      asking = asking + 1
      all_ask:notify()
      all_ask:wait_until(function() return asking >= places end)
      local ok, err = pcall(function() return backend:conversation():ask("inner") end)
      table.insert(reasons, ok and "none" or err.reason)
    end)
    world.options.max_sessions = places
    backend = parley.backend(world.options)
    local _ <close> = backend
    local turns = {}
    for i = 1, places do turns[i] = task.spawn(function() return backend:conversation():ask("outer").text end) end
    for _, each in ipairs(turns) do assert.equal("outer done", each:await()) end
    return reasons
  end

  for name, set in pairs {
    ["a tool's run"] = function(options, inner)
      options.tools = { { name = "inner", description = "asks", run = function()
        inner()
        return "done"
      end } }
    end,
    ["a hook"] = function(options, inner) options.hooks = { PostToolUse = function() inner() end } end,
    ["a permission policy"] = function(options, inner)
      options.policies = { permission = { decide = function()
        inner()
        return { allow = true }
      end } }
    end,
  } do
    it(name .. " that asks its own backend is told that it waits for itself", helper.task(function()
      assert.same({ "deadlock" }, reasons_of(1, set))
    end))

    it(name .. " in one of two turns is told so, and the other gets the place", helper.task(function()
      local reasons = reasons_of(2, set)
      table.sort(reasons)
      assert.same({ "deadlock", "none" }, reasons)
    end))
  end
end)
