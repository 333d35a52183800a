local errors = require "parley.base.errors"
local helper = require "spec.helper"
local pool = require "parley.backend.pool"
local task = require "parley.base.task"

local no_leaks
before_each(function() no_leaks = helper.leaks() end)
after_each(function() no_leaks() end)

local made = 0

--- What a pool sees of a session. Its end takes a moment, as that of a real one.
local function new_session()
  made = made + 1
  local session = { session_id = ("session %d"):format(made), closed = 0, killed = 0, is_alive = true }
  session.process = { is_alive = function() return session.is_alive end }
  function session.close()
    session.closed = session.closed + 1
    task.shield(function()
      helper.tick()
      helper.tick()
    end)
    session.is_alive = false
  end
  function session.kill()
    session.killed = session.killed + 1
    session.is_alive = false
  end
  function session.state() return "ready" end
  return session
end

local function add(live, lease)
  assert.is_nil(live:acquire(lease and lease.key, lease))
  local session = new_session()
  live:add(session, lease)
  return session
end

local function add_idle(live, ...)
  local session = add(live)
  live:release(session, { ... })
  return session
end

--- Starts a task that acquires and notes what it got.
local function waiter(live, key, log, name, lease)
  return task.spawn(function()
    local session = live:acquire(key, lease)
    table.insert(log, name)
    return session
  end)
end

local function settle()
  for _ = 1, 8 do helper.tick() end
end

describe("a pool", function()
  it("gives places until the limit is reached", helper.task(function()
    local live = pool.new { limit = 3 }
    add(live)
    add(live)
    assert.equal(2, live:count())
    assert.is_nil(live:acquire())
    local log = {}
    local third = waiter(live, nil, log, "fourth")
    settle()
    assert.same({}, log)
    live:release_place()
    third:await()
    assert.same({ "fourth" }, log)
  end))

  it("leases the session under a key, and to one caller only", helper.task(function()
    local live = pool.new { limit = 3 }
    local session = add_idle(live, "a", "b")
    assert.equal(session, live:acquire "b")
    assert.is_nil(live:acquire "a")
    live:release_place()
    live:release(session, { "c" })
    assert.is_nil(live:acquire "a")
    live:release_place()
    assert.equal(session, live:acquire "c")
  end))

  it("keeps several sessions under one key, and leases the one used last", helper.task(function()
    local live = pool.new { limit = 3 }
    local first, second = add_idle(live, "a"), add_idle(live, "b")
    assert.equal(first, live:acquire "a")
    live:release(first, { "b" })
    assert.equal(first, live:acquire "b")
    assert.equal(second, live:acquire "b")
  end))

  it("leases nothing without a key", helper.task(function()
    local live = pool.new { limit = 2 }
    add_idle(live)
    assert.is_nil(live:acquire(nil))
  end))

  it("ends the idle session least recently used for one more", helper.task(function()
    local live = pool.new { limit = 2 }
    local first, second = add_idle(live, "a"), add_idle(live, "b")
    live:release(assert(live:acquire "a"), { "a" })
    assert.is_nil(live:acquire "c")
    assert.equal(0, first.closed)
    assert.equal(1, second.closed)
    assert.equal(1, live:count())
  end))

  it("counts a session until its process has ended", helper.task(function()
    local live = pool.new { limit = 1 }
    local session = add_idle(live, "a")
    local log = {}
    local next_one = waiter(live, "b", log, "b")
    helper.tick()
    assert.equal(1, session.closed)
    assert.equal(1, live:count())
    assert.same({}, log)
    next_one:await()
    assert.equal(0, live:count())
  end))

  it("serves first come, first served", helper.task(function()
    local live, log = pool.new { limit = 1 }, {}
    local session = add(live)
    local waiters = {}
    for i = 1, 4 do waiters[i] = waiter(live, nil, log, i) end
    settle()
    live:discard(session)
    for i = 1, 4 do
      waiters[i]:await()
      assert.equal(i, #log)
      live:release_place()
      settle()
    end
    assert.same({ 1, 2, 3, 4 }, log)
  end))

  it("lets nobody overtake those who wait, not even the last user of a session", helper.task(function()
    local live, log = pool.new { limit = 1 }, {}
    local session = add(live)
    local other = waiter(live, "b", log, "other")
    settle()
    live:release(session, { "a" })
    local again = waiter(live, "a", log, "again")
    other:await()
    settle()
    assert.same({ "other" }, log)
    assert.equal(1, session.closed)
    live:release_place()
    assert.is_nil(again:await())
  end))

  it("gives a waiter the session under its key without ending it", helper.task(function()
    local live, log = pool.new { limit = 1 }, {}
    local session = add(live)
    local same = waiter(live, "a", log, "same")
    settle()
    live:release(session, { "a" })
    assert.equal(session, same:await())
    assert.equal(0, session.closed)
  end))

  it("passes over waiters that were cancelled", helper.task(function()
    local live, log = pool.new { limit = 1 }, {}
    local session = add(live)
    local first, second, third =
      waiter(live, nil, log, "first"), waiter(live, nil, log, "second"), waiter(live, nil, log, "third")
    settle()
    first:cancel()
    second:cancel()
    live:discard(session)
    third:await()
    assert.same({ "third" }, log)
    assert.equal("Cancelled", select(2, first:result()).code)
  end))

  it("frees the place of a session that was dropped, once", helper.task(function()
    local live = pool.new { limit = 1 }
    local session = add(live)
    live:discard(session)
    live:discard(session)
    assert.is_nil(live:acquire())
    local second = waiter(live, nil, {}, "second")
    settle()
    assert.is_nil(second:result())
    second:cancel()
  end))

  it("leaves the place of a session that was vacated to its user", helper.task(function()
    local live, log = pool.new { limit = 1 }, {}
    local session = add(live)
    local second = waiter(live, nil, log, "second")
    settle()
    live:discard(session, true)
    settle()
    assert.same({}, log)
    live:add(new_session())
    second:cancel()
  end))

  it("frees the place of a session that cannot be ended, and says so", helper.task(function()
    local live = pool.new { limit = 1 }
    local session = add_idle(live, "a")
    function session.close() error("stuck", 0) end
    local ok, err = pcall(live.acquire, live, "b")
    assert.is_false(ok)
    assert.equal("stuck", err)
    assert.is_nil(live:acquire "b")
  end))

  it("never leases an idle session whose process has ended", helper.task(function()
    local live = pool.new { limit = 1 }
    local session = add_idle(live, "a")
    session.is_alive = false
    assert.same({}, live:processes())
    assert.same({}, live:states())
    assert.equal(0, live:count())
    assert.is_nil(live:acquire "a")
    assert.equal(1, session.killed)
    assert.equal(0, session.closed)
  end))

  it("shows what lives, idle or not", helper.task(function()
    local live = pool.new { limit = 2 }
    local first, second = add(live), add_idle(live, "a")
    assert.same({ [first.session_id] = first.process, [second.session_id] = second.process }, live:processes())
    assert.same({ [first.session_id] = "ready", [second.session_id] = "ready" }, live:states())
  end))

  describe("asked for the session of a key and no other", function()
    local function ada() return { wait = true } end

    it("has its callers use it one after the other, though places are free", helper.task(function()
      local live, log = pool.new { limit = 3 }, {}
      local first = ada()
      assert.is_nil(live:acquire("ada", first)) -- before there is a session
      local second = waiter(live, "ada", log, "second", ada())
      local third = waiter(live, "ada", log, "third", ada())
      local other = waiter(live, "bob", log, "bob", ada())
      other:await()
      settle()
      assert.same({ "bob" }, log)
      local session = new_session()
      live:add(session, first)
      settle()
      live:release(session, { "ada" })
      assert.equal(session, second:await())
      settle()
      assert.same({ "bob", "second" }, log)
      live:release(session, { "ada" })
      assert.equal(session, third:await())
      assert.equal(1, live:count())
    end))

    it("gives a place to the next one when it is gone", helper.task(function()
      local live, log = pool.new { limit = 2 }, {}
      local first = ada()
      live:acquire("ada", first)
      live:add(new_session(), first)
      local second, third = waiter(live, "ada", log, "second", ada()), waiter(live, "ada", log, "third", ada())
      settle()
      for session in pairs(live.entries) do live:discard(session) end
      assert.is_nil(second:await())
      settle()
      assert.same({ "second" }, log)
      third:cancel()
    end))

    it("keeps them in order where both wait for a place", helper.task(function()
      local live, log = pool.new { limit = 2 }, {}
      local one, two = add(live), add(live)
      local own = ada()
      local first, second = waiter(live, "ada", log, "first", own), waiter(live, "ada", log, "second", ada())
      local other = waiter(live, nil, log, "other")
      settle()
      live:discard(one)
      live:discard(two)
      first:await()
      other:await()
      settle()
      assert.same({ "first", "other" }, log)
      live:release_place(own)
      second:await()
    end))

    it("passes the turn on when the one before is cancelled", helper.task(function()
      local live, log = pool.new { limit = 1 }, {}
      local session = add(live)
      local first, second = waiter(live, "ada", log, "first", ada()), waiter(live, "ada", log, "second", ada())
      settle()
      first:cancel()
      live:discard(session)
      second:await()
      assert.same({ "second" }, log)
    end))
  end)

  describe("with pinned sessions", function()
    local function add_pinned(live, key)
      local lease = { pin = true }
      live:acquire(key, lease)
      local session = new_session()
      live:add(session, lease)
      live:release(session, { key })
      return session
    end

    it("ends others for one more, though they were used later", helper.task(function()
      local live = pool.new { limit = 2 }
      local pinned, other = add_pinned(live, "ada"), add_idle(live, "b")
      assert.is_nil(live:acquire "c")
      assert.equal(0, pinned.closed)
      assert.equal(1, other.closed)
      assert.equal(pinned, live:acquire "ada")
    end))

    it("pins none that nobody can find again, and none for longer than was asked", helper.task(function()
      local live = pool.new { limit = 1 }
      local lease = { pin = true }
      live:acquire("a", lease)
      live:add(new_session(), lease)
      live:release(next(live.entries), {})
      assert.is_nil(live:acquire "b")
      live:release_place()
      local pinned = add_pinned(live, "ada")
      live:release(live:acquire "ada", { "ada" })
      assert.is_nil(live:acquire "b")
      assert.equal(1, pinned.closed)
    end))

    it("refuses who needs a place once all are kept, at once or when that comes", helper.task(function()
      local live = pool.new { limit = 2 }
      add_pinned(live, "ada")
      local bob = { pin = true }
      live:acquire("bob", bob)
      local session = new_session()
      live:add(session, bob)
      local late = task.spawn(pcall, live.acquire, live, "c", {})
      settle()
      assert.is_nil(late:result())
      live:release(session, { "bob" })
      local ok, err = late:await()
      assert.is_false(ok)
      assert.equal("deadlock", err.reason)
      assert.matches("all 2 (max_sessions) are kept by sessions that are pinned", err.message, 1, true)
      assert.equal("deadlock", select(2, pcall(live.acquire, live, "c", {})).reason)
      assert.equal(session, live:acquire "bob")
    end))

    it("waits for the idle time-out of one", helper.task(function()
      local live = pool.new { limit = 1, idle_timeout_ms = 20 }
      local pinned = add_pinned(live, "ada")
      assert.is_nil(live:acquire("b", {}))
      assert.is_false(pinned.is_alive)
    end))
  end)

  describe("whose places are all held by those who wait", function()
    local STUCK = "this request waits for a place that only its own end could free: all %d (max_sessions)"

    local function refused(limit, fn, ...)
      local ok, err = pcall(fn, ...)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "SessionError"), tostring(err))
      assert.equal("deadlock", err.reason)
      assert.matches(STUCK:format(limit), err.message, 1, true)
    end

    --- Has a session in use by the running task.
    local function hold(live, key)
      local lease = { task = task.current(), wait = key ~= nil }
      assert.is_nil(live:acquire(key, lease))
      local session = new_session()
      live:add(session, lease)
      return session
    end

    it("says so at once to the task that holds them itself", helper.task(function()
      local live = pool.new { limit = 2 }
      hold(live)
      live:discard(hold(live))
      local session = hold(live)
      refused(2, live.acquire, live, nil, {})
      live:discard(session)
      assert.is_nil(live:acquire())
    end))

    it("says so to a child that its holder awaits, however", helper.task(function()
      local live = pool.new { limit = 1 }
      hold(live)
      refused(1, task.timeout, 60000, live.acquire, live, nil, {})
      local child = task.spawn(function()
        task.spawn(live.acquire, live, nil, {}) -- and then waits for it to end
      end)
      refused(1, child.await, child)
    end))

    it("says so when the holder begins to await it later", helper.task(function()
      local live = pool.new { limit = 1 }
      hold(live)
      local child = task.spawn(live.acquire, live, nil, {})
      settle()
      assert.is_false(child:is_done())
      refused(1, child.await, child)
    end))

    it("lets a child wait that its holder does not await", helper.task(function()
      local live, log = pool.new { limit = 1 }, {}
      local session = hold(live)
      local child = waiter(live, nil, log, "child", {})
      settle()
      assert.same({}, log)
      live:discard(session)
      child:await()
    end))

    it("lets everybody wait while one place is held by somebody who goes on", helper.task(function()
      local live, log = pool.new { limit = 2 }, {}
      hold(live)
      local go_on = task.condition()
      local other = task.spawn(function()
        local session = hold(live)
        go_on:wait()
        live:discard(session)
      end)
      settle()
      local child = waiter(live, nil, log, "child", {})
      local awaiting = task.spawn(child.await, child)
      settle()
      assert.same({}, log)
      go_on:notify()
      awaiting:await()
      assert.same({ "child" }, log)
      other:await()
    end))

    it("says so to the last of several turns that wait for each other", helper.task(function()
      local live, ends = pool.new { limit = 2 }, {}
      local function turn(name)
        local session = hold(live)
        helper.tick()
        local ok, err = pcall(live.acquire, live, nil, {})
        table.insert(ends, name .. (ok and " goes on" or " " .. err.reason))
        live:discard(session)
      end
      local first, second = task.spawn(turn, "first"), task.spawn(turn, "second")
      first:await()
      second:await()
      table.sort(ends)
      assert.same({ "first goes on", "second deadlock" }, ends)
    end))

    it("says so of the session that a key's own turn has", helper.task(function()
      local live = pool.new { limit = 3 }
      hold(live, "ada")
      local ok, err = pcall(live.acquire, live, "ada", { wait = true })
      assert.is_false(ok)
      assert.equal("deadlock", err.reason)
      assert.matches("waits for the session under its key, which is used by a turn that waits for this", err.message, 1,
        true)
    end))
  end)

  it("lets nobody wait longer than told", helper.task(function()
    local live = pool.new { limit = 1 }
    local session = add(live)
    local ok, err = pcall(live.acquire, live, "a", { timeout_ms = 20 })
    assert.is_false(ok)
    assert.equal("timeout", err.reason)
    assert.equal("the request has waited 20 ms (turn_timeout_ms) for one of the 1 places (max_sessions), which is in "
      .. "use", err.message)
    live:discard(session)
    assert.is_nil(live:acquire("a", { timeout_ms = 20 }))
  end))

  it("lists what lives, for policies", helper.task(function()
    local live = pool.new { limit = 3 }
    local function make(lease, key)
      live:acquire(key, lease)
      local session = new_session()
      session.turns = 4
      live:add(session, lease)
      return session
    end
    local busy = make({ prefix = "p/" }, "p/ada")
    local idle = make({ pin = true }, "bob")
    live:release(idle, { "y", "x" })
    local list = live:list()
    assert.same({ { session_id = busy.session_id, state = "ready", in_use = true, pinned = false, turns = 4,
      keys = { "ada" } }, { session_id = idle.session_id, state = "ready", in_use = false, pinned = true, turns = 4,
      keys = { "x", "y" } } }, list)
  end))

  describe("with an idle time-out", function()
    it("ends an idle session, and no other", helper.task(function()
      local live = pool.new { limit = 3, idle_timeout_ms = 20 }
      local busy, idle = add(live), add_idle(live, "a")
      helper.eventually(function() return idle.closed == 1 and live:count() == 1 end)
      assert.same({ 1, 0 }, { idle.killed, busy.killed })
      assert.is_nil(live:acquire "a")
    end))

    it("never ends one after endless time", helper.task(function()
      local live = pool.new { limit = 1, idle_timeout_ms = math.huge }
      local session = add_idle(live, "a")
      assert.equal(session, live:acquire "a")
    end))

    it("begins anew with each use", helper.task(function()
      local live = pool.new { limit = 1, idle_timeout_ms = 1000 }
      local session = add_idle(live, "a")
      for _ = 1, 5 do
        assert.equal(session, live:acquire "a")
        live:release(session, { "a" })
      end
      assert.equal(0, session.killed)
      live:close()
    end))

    it("looks again after a while at one that may not end yet", helper.task(function()
      local asked, began = 0, task.now()
      local live = pool.new { limit = 1, idle_timeout_ms = 1, may_end = function()
        asked = asked + 1
        return asked > 3
      end }
      local session = add_idle(live, "a")
      helper.eventually(function() return session.closed == 1 and live:count() == 0 end)
      assert.equal(4, asked)
      assert.is_true(task.now() - began >= 3 * 250)
    end))

    it("keeps the place until the process has ended", helper.task(function()
      local live = pool.new { limit = 1, idle_timeout_ms = 10 }
      local session = add_idle(live, "a")
      local close, has_ended, ended = session.close, false, task.condition()
      function session.kill() session.killed = session.killed + 1 end
      function session.close() -- it takes its time
        ended:wait_until(function() return has_ended end)
        close()
      end
      helper.eventually(function() return session.killed == 1 end)
      assert.equal(1, live:count())
      local waiting = task.spawn(live.acquire, live, "a")
      settle()
      assert.is_nil(waiting:result())
      has_ended = true
      ended:notify()
      assert.is_nil(waiting:await()) -- a place
      assert.equal(1, session.closed)
      assert.equal(0, live:count())
    end))
  end)

  it("waits at its end for one whose process has ended already, and is looked at meanwhile", helper.task(function()
    local live = pool.new { limit = 1, idle_timeout_ms = 60000 }
    local session, may_end, news, left = add_idle(live, "a"), false, task.condition(), 0
    function session.close() -- its last words are still read
      session.is_alive = false
      left = left + 1
      task.shield(function() news:wait_until(function() return may_end end) end)
      left = left - 1
    end
    live:retire(session)
    settle()
    assert.equal(1, live:count())
    local closing = task.spawn(live.close, live)
    settle()
    assert.is_false(closing:is_done())
    may_end = true
    news:notify()
    closing:await()
    assert.equal(0, left)
  end))

  it("waits at its end for one that is about to end, whose place somebody wanted who has gone", helper.task(function()
    local live = pool.new { limit = 1, idle_timeout_ms = 60000 }
    local session, may_end, news = add_idle(live, "a"), false, task.condition()
    function session.kill() end
    function session.close()
      task.shield(function() news:wait_until(function() return may_end end) end)
      session.is_alive = false
    end
    live:retire(session)
    local log = {}
    local going = waiter(live, "b", log, "b")
    settle()
    going:cancel "the client has gone"
    pcall(going.await, going)
    local closing = task.spawn(live.close, live)
    settle()
    assert.is_false(closing:is_done())
    may_end = true
    news:notify()
    closing:await()
    assert.same({ {}, false }, { log, session.is_alive })
  end))

  it("tells of those that were idle at its end, and of none that was in the midst of something", helper.task(function()
    local left = {}
    local live = pool.new { limit = 3, on_leave = function(session) left[session] = true end }
    local idle, working, done = add_idle(live, "a"), add(live), add(live)
    local closing = task.spawn(live.close, live)
    helper.tick()
    live:release(done, { "c" }) -- its turn has just ended
    closing:await()
    assert.same({ true, false, true }, { left[idle] or false, left[working] or false, left[done] or false })
  end))

  for ticks = 0, 4 do
    it(("ends while somebody else ends one of its sessions, %d ticks later"):format(ticks), helper.task(function()
      local live = pool.new { limit = 2 }
      local session, other = add(live), add_idle(live, "a")
      local ending = task.spawn(pcall, live.discard, live, session)
      for _ = 1, ticks do helper.tick() end
      live:close()
      ending:await()
      assert.same({ false, false }, { session.is_alive, other.is_alive })
    end))
  end

  it("gives the place of one that a look at it finds dead to who waits", helper.task(function()
    local live = pool.new { limit = 2 }
    local kept = add(live, { pin = true })
    live:release(kept, { "k" })
    add(live)
    local log = {}
    local waiting = waiter(live, "other", log, "served", {})
    settle()
    assert.same({}, log)
    kept.is_alive = false
    assert.equal(1, live:count())
    waiting:await()
    assert.same({ "served" }, log)
    live:close()
  end))

  it("serves who waits for a session that a person has taken: the next one of its key", helper.task(function()
    local live = pool.new { limit = 2 }
    local session = add(live, { key = "k", wait = true })
    local log = {}
    local waiting = waiter(live, "k", log, "served", { wait = true })
    settle()
    local taker = task.spawn(live.take_over, live, session, {})
    settle()
    assert.same({}, log)
    live:release(session, { "k2" })
    assert.is_true(taker:await())
    assert.is_nil(waiting:await()) -- a place
    assert.same({ "served" }, log)
    live:close()
  end))

  it("takes nothing back while it ends: nothing would stop the timer of an idle session", helper.task(function()
    local live = pool.new { limit = 1, idle_timeout_ms = 60000 }
    local session = add(live)
    local closing = task.spawn(live.close, live)
    helper.tick()
    assert.same({ 1, true }, { session.closed, session.is_alive }) -- it takes a moment
    live:release(session, { "a" }) -- its turn has just ended
    closing:await() -- no handle is left, says no_leaks
  end))

  it("gives the place of a session that is about to end to the next, when the first to want it has gone",
    helper.task(function()
      local live = pool.new { limit = 1, idle_timeout_ms = 60000 }
      local session = add_idle(live, "a")
      function session.kill() end
      live:retire(session)
      local log = {}
      local going, staying = waiter(live, "b", log, "b"), waiter(live, "c", log, "c")
      helper.tick()
      going:cancel "the client has gone"
      pcall(going.await, going)
      assert.is_nil(staying:await())
      assert.same({ "c" }, log)
      live:release_place()
      assert.is_true(live:has_free_place())
      live:close()
    end))

  it("that is retired ends every session without waiting, and lets nobody in", helper.task(function()
    local live = pool.new { limit = 2, idle_timeout_ms = 60000 }
    local sessions = { add(live), add_idle(live, "a") }
    local waiting = task.spawn(pcall, live.acquire, live, nil, {})
    live:release(live:acquire "a", { "a" })
    live:kill()
    waiting:await()
    assert.equal(0, live:count())
    for _, session in ipairs(sessions) do assert.equal(1, session.killed) end
    assert.is_true(errors.is(select(2, pcall(live.acquire, live)), "ClosedError"))
    live:discard(sessions[1]) -- as those do who had them
    live:discard(sessions[1], true)
    live:release(sessions[2], { "a" })
    assert.equal(0, live:count())
  end))

  describe("that is closed", function()
    it("ends every session at a time", helper.task(function()
      local live = pool.new { limit = 3, idle_timeout_ms = 60000 }
      local sessions = { add(live), add_idle(live, "a"), add_idle(live, "b") }
      local waited = {}
      for i, session in ipairs(sessions) do
        local close = session.close
        function session.close()
          table.insert(waited, i)
          settle()
          assert.equal(3, #waited)
          close()
        end
      end
      live:close()
      assert.equal(0, live:count())
      for _, session in ipairs(sessions) do assert.equal(1, session.closed) end
    end))

    it("tells those who wait, and all later callers", helper.task(function()
      local live = pool.new { limit = 1 }
      local session = add(live)
      local waiting = task.spawn(pcall, live.acquire, live)
      settle()
      live:close()
      assert.is_true(errors.is(select(2, waiting:await()), "ClosedError"))
      local ok, err = pcall(live.acquire, live)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ClosedError"))
      assert.equal(1, session.closed)
    end))

    it("takes no session that was on its way", helper.task(function()
      local live = pool.new { limit = 2 }
      assert.is_nil(live:acquire())
      live:close()
      local ok, err = pcall(live.add, live, new_session())
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ClosedError"))
    end))

    it("lets go of what its users hold when it closes", helper.task(function()
      local live = pool.new { limit = 2 }
      local busy, idle = add(live), add_idle(live, "a")
      local closing = task.spawn(live.close, live)
      helper.tick()
      live:discard(busy)
      live:release(idle, { "a" })
      closing:await()
      assert.equal(0, live:count())
    end))

    it("does not stop half-way for a session that cannot be ended", helper.task(function()
      local live = pool.new { limit = 2 }
      local stuck, other = add(live), add(live)
      function stuck.close() error("stuck", 0) end
      live:close()
      assert.equal(1, other.closed)
    end))
  end)

  --- Random users: each acquires, works a while, then releases, drops, gives back, dies or is cancelled.
  local function random_run(seed)
    local function random(...) return math.random(...) end
    math.randomseed(seed)
    local limit, keys = random(1, 4), { "a", "b", "c" }
    local live = pool.new { limit = limit, idle_timeout_ms = random() < 0.3 and 1 or nil }
    local users, alive, leased, most = {}, 0, {}, 0
    local function new_counted()
      local session = new_session()
      alive = alive + 1
      most = math.max(most, alive)
      local close = session.close
      local function ended()
        if not session.is_counted_out then alive = alive - 1 end
        session.is_counted_out = true
      end
      function session.close()
        close()
        ended()
      end
      function session.kill()
        session.is_alive = false
        ended()
      end
      session.die = session.kill
      return session
    end
    local function use()
      local key = random() < 0.8 and keys[random(#keys)] or nil
      local lease = { task = task.current(), wait = key ~= nil and random() < 0.3, pin = random() < 0.1 }
      local session = live:acquire(key, lease)
      local holds_place = session == nil
      local _ <close> = setmetatable({}, { __close = function()
        if session then
          leased[session] = nil
          live:discard(session)
        elseif holds_place then
          live:release_place(lease)
        end
      end })
      if not session then
        for _ = 1, random(0, 2) do helper.tick() end
        if random() < 0.1 then return end
        session = new_counted()
        live:add(session, lease)
      end
      assert(not leased[session], "leased twice")
      leased[session] = true
      for _ = 1, random(0, 5) do helper.tick() end
      if random() < 0.1 then session.die() end
      if random() < 0.1 then
        live:discard(session, true)
        leased[session] = nil
        session, holds_place = nil, true
      elseif random() < 0.7 then
        leased[session] = nil
        live:release(session, { keys[random(#keys)], keys[random(#keys)] })
        session, holds_place = nil, false
      end
    end
    for i = 1, 60 do
      users[i] = task.spawn(pcall, use)
      if random() < 0.3 then users[random(i)]:cancel() end
      if random() < 0.5 then helper.tick() end
    end
    for _, user in ipairs(users) do pcall(user.await, user) end
    assert(most <= limit, ("%d of at most %d were alive"):format(most, limit))
    -- No place is lost: as many as ever can be had at once.
    for _, entry in pairs(live.entries) do entry.is_pinned = false end
    for _ = 1, limit do task.timeout(1000, live.acquire, live) end
    for _ = 1, limit do live:release_place() end
    live:close()
    assert(live:count() == 0)
  end

  it("never loses a place, whatever its users do", helper.task(function()
    local first = tonumber(os.getenv "PARLEY_SEED")
    for seed = first or os.time(), (first or os.time() + helper.long(60, 1000)) do
      local ok, err = pcall(random_run, seed)
      if not ok then error(("%s (PARLEY_SEED=%d repeats it)"):format(tostring(err), seed), 0) end
    end
  end, helper.long(120000, 600000)))
end)
