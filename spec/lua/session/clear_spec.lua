-- /clear in two sessions of one folder at once, also where the status file does not tell of it; its other names;
-- /branch; and what a person has entered of them.
local files = require "parley.base.files"
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

  ---Types it, and waits until the program has begun the next session.
  local function clear(live)
    live.process:write "/clear"
    helper.eventually(function() return live.process.screen:text():find("/clear", 1, true) end)
    live.process:write "\r"
  end

  ---The session that was begun, once its transcript says so.
  local function next_session(live)
    local folder, own = live.jsonl_path:match "^(.*)/(.*)$"
    for _, name in ipairs(files.names(folder)) do
      local id = name ~= own and name:match "^(.*)%.jsonl$"
      if id and files.read(folder .. "/" .. name):find("<command-name>/clear", 1, true) then return id end
    end
  end

  ---Sends a message, and checks that it went nowhere.
  local function goes_nowhere(live, kit, taken)
    local err = helper.failure_of("SessionError", helper.say, live, "next")
    assert.same({ "delivery", next_session(live) }, { err.reason, err.other_session_id })
    assert.matches("nothing was sent", err.message)
    assert.same(taken, kit:taken())
    assert.is_false(live.process:is_alive())
  end

  local TOLD = { "2.1.197", "2.1.330" }

  promise.on(TOLD, "has the next message raise, and go nowhere", {}, function(live, kit)
    helper.say(live, "before")
    clear(live)
    helper.eventually(function() return next_session(live) end)
    goes_nowhere(live, kit, { "before" })
  end)

  promise.on(TOLD, "while a turn runs does too, once that has ended", { script = { answers = {
    { on = "slow", delay_ms = 5000, text = "done" } } } }, function(live, kit)
    helper.say(live, "before")
    local saying = task.spawn(helper.say, live, "slow")
    helper.eventually(function() return live:state() == "busy" end)
    clear(live)
    assert.same({ "done" }, saying:await().texts)
    goes_nowhere(live, kit, { "before", "slow" })
  end)

  it("is no matter to another session of the folder (2.1.110)", helper.task(function()
    local kit <close> = testing.world { script = { profile = "2.1.110" } }
    local one <close> = promise.new(kit)
    local other <close> = promise.new(kit)
    for _, live in ipairs { one, other } do
      live:start()
      helper.say(live, "first")
    end
    clear(one)
    helper.eventually(function() return next_session(one) end)
    local id = other.session_id
    other:recognise()
    assert.equal(id, other.session_id)
    assert.same({ "echo: next" }, helper.say(other, "next").texts)
  end))

  it("that runs as the message is entered is told of, and soon", helper.task(function()
    local kit <close> = testing.world {}
    local live <close> = promise.new(kit)
    live:start()
    helper.say(live, "before")
    local status, other = live.terminal.status, "11111111-1111-4111-8111-111111111111"
    live.terminal.status = function(...)
      local is_sent = live.turn:state() == "submitted"
      return is_sent and tables.merged(status(...), { sessionId = other }) or status(...)
    end
    local read = live.transcript.read
    live.transcript.read = function(self, turn)
      if turn:state() == "submitted" then return false, false end -- what it writes goes elsewhere
      return read(self, turn)
    end
    local before = task.now()
    local err = helper.failure_of("SessionError", helper.say, live, "next")
    assert.same({ "delivery", other }, { err.reason, err.other_session_id })
    assert.is_true(task.now() - before < 10000)
  end))

  it("leads to a transcript of which nothing was read", helper.task(function()
    local kit <close> = testing.world {}
    local live <close> = promise.new(kit)
    live:start()
    helper.say(live, "before")
    local id, path = live.session_id, live.jsonl_path
    assert.is_true(live:read_to() > 0)
    clear(live)
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
