-- What a person who has a session's terminal in hand has left open there, when the next message comes.
local helper = require "spec.helper"
local promise = require "spec.promise"
local task = require "parley.base.task"
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

    for ending, texts in pairs { success = { "done" }, interrupted = {} } do
      it(("does not keep a turn from its end, %s, on %s"):format(ending, profile), helper.task(function()
        local world <close> = testing.world { script = { profile = profile, answers = {
          { on = "slow", delay_ms = 3000, text = "done" } } } }
        local live <close> = promise.new(world, { stall_timeout_ms = 60000 })
        live:start()
        local saying = task.spawn(helper.say, live, "slow")
        helper.eventually(function() return live:state() == "busy" end)
        live.process:write(CTRL_O)
        helper.eventually(function() return live.process.screen:text():find(VIEW, 1, true) end)
        if ending == "interrupted" then live:interrupt() end
        local said = saying:await()
        assert.equal(ending, said.verdict)
        assert.same(texts, said.texts)
        assert.equal("success", helper.say(live, "next").verdict)
        assert.same({ "slow", "next" }, world:taken())
      end))
    end

    it("is closed where it is /config, on " .. profile, with_keys(profile, function(live, world)
      live.process:write "/config"
      helper.eventually(function() return live.process.screen:text():find("❯\u{A0}/config", 1, true) end)
      live.process:write "\r"
      helper.eventually(function() return live:state() == "dialog" end)
      assert.equal("success", helper.say(live, "next").verdict)
      assert.same({ "before", "next" }, world:taken())
    end))
  end

  local function move(live, is_command)
    if is_command then return helper.say(live, "/cd /tmp", nil, true) end
    live.process:write "/cd /tmp"
    helper.eventually(function() return live.process.screen:text():find("❯\u{A0}/cd", 1, true) end)
    live.process:write "\r"
    helper.eventually(function() return live:state() == "dialog" end)
    return helper.say(live, "next")
  end

  for what, of in pairs {
    ["no, and moves nowhere, where a person has left it"] = { is_left = true, accept = { "trust" } },
    ["no where it is a command's and nobody accepts"] = { accept = {} },
    ["yes where it is a command's and the caller accepts"] = { accept = { "trust" }, is_moved = true },
  } do
    it("and is whether another folder is trusted: " .. what, helper.task(function()
      local world <close> = testing.world {}
      local live <close> = promise.new(world, { accept = of.accept })
      live:start()
      helper.say(live, "before")
      local said = move(live, not of.is_left)
      assert.equal("success", said.verdict)
      local asked
      for _, event in ipairs(said.events) do
        if event.subtype == "dialog_answered" then asked = event end
      end
      assert.equal(of.is_left and "panel" or "trust", asked.kind)
      assert.same({ not of.is_moved and "\27" or nil, of.is_moved and "Yes, move here" or nil },
        { asked.keys, asked.choice })
      assert.equal("success", helper.say(live, "last").verdict)
    end))
  end
end)
