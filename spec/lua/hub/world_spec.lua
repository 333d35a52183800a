-- What the program calls, in a world: late, out of order, broken off.
local helper = require "spec.helper"
local marks = require "parley.testing.marks"
local parley = require "parley"
local testing = require "parley.testing"

local NUMBERED = {}
for number = 1, 20 do NUMBERED[number] = ("line %d\n"):format(number) end
local TEXT = table.concat(NUMBERED) .. "the end"

describe("what the program of a world calls", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- Plays a turn in a world of each seed; `body` gets its events, or what was raised.
  local function spec(name, given, body)
    it(name, helper.task(function()
      for _, profile in ipairs(given.profiles or { "2.1.330", "2.1.197", "2.1.110" }) do
        for seed = 1, helper.long(10, 40) do
          local world <close> = testing.world { seed = seed, profile = profile, faults = given.faults,
            script = { answers = { given.answer }, flush_ms = given.flush_ms } }
          local options = {}
          for _, each in ipairs { world.options, given.options } do
            for key, value in pairs(each) do options[key] = value end
          end
          local events = {}
          local ok, err = pcall(function()
            local backend <close> = parley.backend(options)
            for event in backend:complete { { role = "user", content = "go" } } do table.insert(events, event) end
          end)
          body(events, not ok and err or nil, profile)
        end
      end
    end))
  end

  local function of_type(events, kind)
    local list = {}
    for _, event in ipairs(events) do
      if event.type == kind or event.subtype == kind then table.insert(list, event) end
    end
    return list
  end

  local LINES = { text = TEXT, line_ms = 40 }

  spec("tells of text as it comes, in order", { answer = LINES, options = { partial = true },
    faults = { late_ms = 150 } }, function(events, err, profile)
    assert.is_nil(err)
    assert.is_nil(marks.wrong_partials(events, true))
    local parts = of_type(events, "partial")
    assert.equal(profile ~= "2.1.110", #parts >= 3)
    local text = ""
    for _, event in ipairs(parts) do text = text .. event.text end
    assert.equal(text, TEXT:sub(1, #text))
    assert.equal(TEXT, of_type(events, "assistant")[1]:text())
  end)

  spec("may break off, and the turn is whole", { answer = LINES, options = { partial = true },
    faults = { late_ms = 40, broken = 2 } }, function(events, err)
    assert.is_nil(err)
    assert.is_nil(marks.wrong_partials(events, true))
    assert.equal(TEXT, of_type(events, "assistant")[1]:text())
  end)

  spec("may be a turn of its own, which is not taken for the message", { flush_ms = 30, options = { partial = true },
    answer = { on = "go", text = "went", own_turn = { text = "<task-notification>done", after_ms = 3 } } },
    function(events, err)
      assert.is_nil(err)
      assert.equal("success", events[#events].subtype)
    end)

  for _, mode in ipairs { "default", "bypassPermissions" } do
    local asked, denied = 0, 0
    spec("runs nothing where it cannot hear the policy, in " .. mode, { faults = { late_ms = 20, broken = 3 },
      options = { permission_mode = mode, policies = { permission = { decide = function()
        asked = asked + 1
        return { deny = "no" }
      end } } }, answer = { tool = { name = "Bash", input = { command = "touch made" },
        result = "made" } } }, function(events, err)
        for _, event in ipairs(of_type(events, "user")) do
          for _, block in ipairs(event:blocks "tool_result") do
            assert.is_true(block.is_error)
            denied = denied + 1
          end
        end
        assert.is_true(err ~= nil or events[#events].subtype == "success")
        if err then assert.is_true(err.code == "SessionError" or err.code == "DialogError", tostring(err)) end
      end)
    it("has the policy asked all the same, in " .. mode, function()
      assert.is_true(asked > 20 and denied > 20, ("%d asked, %d denied"):format(asked, denied))
    end)
  end
end)
