-- What a person who has a session's terminal in hand has left open there, when the next message comes.
local helper = require "spec.helper"
local promise = require "spec.promise"
local testing = require "parley.testing"

local CTRL_O, VIEW = "\15", "Showing detailed transcript"

describe("what a person has left open", function()
  promise.check_leaks()

  local function with_keys(profile, body)
    return helper.task(function()
      local world <close> = testing.world { script = { profile = profile } }
      local live <close> = promise.new(world)
      live:start()
      helper.say(live, "before")
      body(live, world)
    end)
  end

  for _, profile in ipairs { "2.1.110", "2.1.197", "2.1.330" } do
    it("is closed where it is the transcript's view, on " .. profile, with_keys(profile, function(live, world)
      live.process:write(CTRL_O)
      helper.eventually(function() return live.process.screen:text():find(VIEW, 1, true) end)
      assert.equal("starting", live:state())
      assert.equal("success", helper.say(live, "next").verdict)
      assert.same({ "before", "next" }, world:taken())
    end))

    it("is closed where it has come up in between, on " .. profile, with_keys(profile, function(live, world)
      live.process:write(CTRL_O)
      assert.equal("success", helper.say(live, "next").verdict)
      assert.same({ "before", "next" }, world:taken())
    end))
  end
end)
