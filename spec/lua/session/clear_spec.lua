-- /clear in two sessions of one folder at once, also where the status file does not tell of it; its other names;
-- and /branch.
local helper = require "spec.helper"
local promise = require "spec.promise"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local testing = require "parley.testing"

describe("/clear in two sessions of one folder at once", function()
  promise.check_leaks()

  for _, profile in ipairs(promise.ENDS) do
    for seed = 1, 3 do
      it(("leads each to its own (%s, seed %d)"):format(profile, seed), helper.task(function()
        local kit <close> = testing.world { script = { profile = profile }, seed = seed }
        local one <close> = promise.new(kit)
        local other <close> = promise.new(kit)
        local both = { one, other }
        for i, live in ipairs(both) do
          live:start()
          helper.say(live, "first of " .. i)
        end
        local clearing = {}
        for i, live in ipairs(both) do clearing[i] = task.spawn(helper.say, live, "/clear", nil, true) end
        for _, each in ipairs(clearing) do each:await() end
        assert.are_not.equal(one.jsonl_path, other.jsonl_path)
        for i, live in ipairs(both) do
          assert.same({ "echo: next of " .. i }, helper.say(live, "next of " .. i).texts)
        end
      end))
    end
  end
end)

for _, name in ipairs { "/Clear", "/new", "/reset" } do
  describe(name .. ", another name of /clear,", function()
    promise.check_leaks()

    promise.each("leads to the next session, too", {}, function(live)
      helper.say(live, "before")
      local id = live.session_id
      helper.say(live, name, nil, true)
      assert.are_not.equal(id, live.session_id)
      assert.same({ "echo: again" }, helper.say(live, "again").texts)
    end)
  end)
end

describe("/fork, another name of /branch (2.1.110),", function()
  promise.check_leaks()

  it("leads to the copy, too", helper.task(function()
    local kit <close> = testing.world { script = { profile = "2.1.110" } }
    local live <close> = promise.new(kit)
    live:start()
    helper.say(live, "before")
    local id = live.session_id
    assert.equal("success", helper.say(live, "/fork", nil, true).verdict)
    assert.are_not.equal(id, live.session_id)
    assert.same({ "echo: again" }, helper.say(live, "again").texts)
  end))
end)

describe("/branch", function()
  promise.check_leaks()

  promise.each("leads to a copy, of which nothing is told or counted again", {}, function(live)
    helper.say(live, "first")
    helper.say(live, "second")
    local id, used = live.session_id, live.used.output_tokens
    local said = helper.say(live, "/branch", nil, true)
    assert.equal("success", said.verdict)
    assert.are_not.equal(id, live.session_id)
    assert.same({}, said.texts)
    assert.equal(used, live.used.output_tokens)
    for _, event in ipairs(said.events) do assert.is_true(event.type == "system" or event.type == "result") end
    assert.same({ "echo: third" }, helper.say(live, "third").texts)
  end)
end)

describe("/clear typed by a person", function()
  promise.check_leaks()

  it("leads to a transcript of which nothing was read", helper.task(function()
    local kit <close> = testing.world {}
    local live <close> = promise.new(kit)
    live:start()
    helper.say(live, "before")
    local id, path = live.session_id, live.jsonl_path
    assert.is_true(live:read_to() > 0)
    live.process:write "/clear"
    helper.eventually(function() return live.process.screen:text():find("/clear", 1, true) end)
    live.process:write "\r"
    helper.eventually(function()
      live:recognise()
      return live.session_id ~= id
    end)
    assert.are_not.equal(path, live.jsonl_path)
    assert.equal(0, live:read_to())
  end))
end)

describe("a status file", function()
  promise.check_leaks()

  for _, id in ipairs { "../../elsewhere", 7 } do
    it(("leads to no path by the name of its session: %s"):format(id), helper.task(function()
      local kit <close> = testing.world {}
      local live <close> = promise.new(kit)
      live:start()
      helper.say(live, "hello")
      local before = { live.session_id, live.jsonl_path }
      local told = live.terminal.status
      live.terminal.status = function(...) return tables.merged(told(...), { sessionId = id }) end
      helper.say(live, "/cost", nil, true)
      assert.same(before, { live.session_id, live.jsonl_path })
    end))
  end
end)
