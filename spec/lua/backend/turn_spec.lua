-- A turn as its caller holds it, over fake processes.
local fake_backends = require "spec.fake_backends"
local helper = require "spec.helper"
local task = require "parley.base.task"
local turn_of = require "parley.backend.turn"

local raised, user, types = helper.failure_of, fake_backends.user, fake_backends.types

describe("a turn", function()
  local place ---@type spec.FakeBackends
  before_each(function() place = fake_backends.begin() end)
  after_each(function() place:finish() end)

  it("has begun nothing before somebody asks", helper.task(function()
    local backend <close> = place:backend()
    local turn <close> = backend:complete { user "hi" }
    assert.is_false(turn:has_begun())
    assert.is_nil(turn.session_id)
    assert.equal("parley.Turn (not begun)", tostring(turn))
    assert.same({}, place.fakes)
  end))

  it("gives its text and its result, each waited for, and its session", helper.task(function()
    local backend <close> = place:backend()
    local turn <close> = backend:complete { user "hi" }
    assert.equal("echo: hi", turn:text())
    assert.equal("success", turn:result().subtype)
    assert.equal(place.fakes[1].session_id, turn.session_id)
    assert.equal("parley.Turn (success)", tostring(turn))
    assert.equal(1, backend:live_session_count())
  end))

  it("gives its events again to who comes late, and once to a loop over itself", helper.task(function()
    local backend <close> = place:backend()
    local turn = backend:complete { user "hi" }
    local once, first, second = {}, {}, {}
    for event in turn do table.insert(once, event) end
    for event in turn:events() do table.insert(first, event) end
    for event in turn:events() do table.insert(second, event) end
    assert.equal("user assistant result", types(once))
    assert.same(once, first)
    assert.same(once, second)
    assert.is_nil(turn())
  end))

  it("serves tasks that read side by side, each with everything", helper.task(function()
    local backend <close> = place:backend()
    local turn <close> = backend:complete { user "hi" }
    local readers = {}
    for i = 1, 3 do
      readers[i] = task.spawn(function()
        local events = {}
        for event in turn:events() do table.insert(events, event) end
        return types(events), turn:text()
      end)
    end
    for i = 1, 3 do assert.same({ "user assistant result", "echo: hi" }, { readers[i]:await() }) end
    assert.equal(1, #place.fakes)
  end))

  it("is cancelled when a loop over it is left early, and has no result then", helper.task(function()
    local backend <close> = place:backend()
    local turn = backend:complete { user "hi" }
    for event in turn:events() do
      if event.type == "user" then break end
    end
    assert.equal(0, backend:live_session_count())
    assert.matches("closed before its end", raised("ClosedError", turn.result, turn).message)
    raised("ClosedError", turn.text, turn)
    for event in backend:complete { user "hi" } do
      if event.type == "user" then break end
    end
    assert.equal(0, backend:live_session_count())
  end))

  it("is cancelled by its variable", helper.task(function()
    local backend <close> = place:backend()
    do
      local turn <close> = backend:complete { user "hi" }
      assert.equal("user", turn().type)
      assert.equal(1, backend:live_session_count())
    end
    assert.equal(0, backend:live_session_count())
  end))

  it("starts nothing when it is closed while it waits for a place", helper.task(function()
    local backend <close> = place:backend({ max_sessions = 1 })
    local first <close> = backend:complete { user "one" }
    first()
    local second = backend:complete { user "two" }
    local waiting = task.spawn(function() return pcall(second.result, second) end)
    helper.tick()
    second:close()
    assert.equal("success", first:result().subtype)
    assert.is_false((waiting:await()))
    assert.equal(1, #place.fakes)
    assert.equal(1, #fake_backends.taken(place.fakes[1]))
  end))

  it("raises what went wrong to each of its readers, and nothing more from the iterator", helper.task(function()
    local backend <close> = place:backend({}, { delay_ms = 60000 }, { turn_timeout_ms = 50 })
    local turn = backend:complete { user "slow" }
    local reader = task.spawn(function() return pcall(turn.result, turn) end)
    raised("SessionError", function() for _ in turn do end end)
    assert.is_nil(turn())
    local ok, err = reader:await()
    assert.is_false(ok)
    assert.equal("timeout", err.reason)
    assert.equal("timeout", raised("SessionError", turn.result, turn).reason)
    assert.equal(0, backend:live_session_count())
  end))

  it("is interrupted from another task, and keeps the session for the next", helper.task(function()
    local backend <close> = place:backend({}, { delay_ms = 60000 })
    local turn <close> = backend:complete { user "slow" }
    assert.is_false(turn:interrupt())
    assert.equal("user", turn().type)
    assert.is_true(turn:interrupt())
    assert.matches("\27", place.fakes[1]:written())
  end))

  it("closed by another task tells its reader so, and gives its place back once", helper.task(function()
    local backend <close> = place:backend({ max_sessions = 1 }, { prepare = function(fake)
      fake.options.on_terminate = function() -- its end takes a while
        task.shield(function() task.condition():wait(60) end)
        return { exit_code = 143 }
      end
    end })
    local talk = backend:conversation()
    talk:ask "one"
    local renewed = talk:send("two", { options = { model = "opus" } }) -- in another process
    local reader = task.spawn(pcall, renewed.result, renewed)
    helper.eventually(function() return #place.fakes[1].signals > 0 end)
    renewed:close()
    local ok, err = reader:await()
    assert.same({ false, "ClosedError" }, { ok, err.code })
    assert.same({ 0, 0 }, { backend.pool.places, backend:live_session_count() })
  end))

  it("closed by another task while it waits for an answer tells its reader so", helper.task(function()
    local backend <close> = place:backend({}, { delay_ms = 60000 })
    local turn = backend:complete { user "hi" }
    local reader = task.spawn(pcall, turn.result, turn)
    helper.eventually(function() return place.fakes[1] and #fake_backends.taken(place.fakes[1]) > 0 end)
    turn:close()
    local ok, err = reader:await()
    assert.same({ false, "ClosedError" }, { ok, err.code })
  end))

  it("whose on_result raises leaves no other reader waiting", helper.task(function()
    local types_left = { "assistant", "result" }
    local made = turn_of.new { session = function() end, abandon = function() end, next = function()
      task.condition():wait(5)
      return { type = table.remove(types_left, 1) }
    end }
    function made.on_result() error("mine", 0) end
    local one, other = task.spawn(pcall, made.result, made), task.spawn(pcall, made.result, made)
    assert.same({ false, "mine" }, { one:await() })
    assert.is_true((task.timeout(10000, other.await, other)))
  end))
end)

describe("the four values of complete", function()
  it("are the turn, twice: an iterator, and what closes it", helper.task(function()
    local place = fake_backends.begin()
    do
      local backend <close> = place:backend()
      local values = table.pack(backend:complete { user "hi" })
      assert.equal(4, values.n)
      assert.equal(values[1], values[4])
    end
    place:finish()
  end))
end)
