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
  local session = { session_id = ("session %d"):format(made), closed = 0, retired = 0, is_alive = true }
  session.process = { is_alive = function() return session.is_alive end }
  function session.close()
    session.closed = session.closed + 1
    task.shield(function()
      helper.tick()
      helper.tick()
    end)
    session.is_alive = false
  end
  function session.retire()
    session.retired = session.retired + 1
    session.is_alive = false
  end
  function session.state() return "ready" end
  return session
end

local function add(live)
  assert.is_nil(live:acquire())
  local session = new_session()
  live:add(session)
  return session
end

local function add_idle(live, ...)
  local session = add(live)
  live:release(session, { ... })
  return session
end

--- Starts a task that acquires and notes what it got.
local function waiter(live, key, log, name)
  return task.spawn(function()
    local session = live:acquire(key)
    table.insert(log, name)
    return session
  end)
end

local function settle()
  for _ = 1, 8 do helper.tick() end
end

describe("a pool", function()
  it("gives places until the limit is reached", helper.task(function()
    local live = pool.new(3)
    add(live)
    add(live)
    assert.equal(2, live:count())
    assert.is_nil(live:acquire())
    local log = {}
    local third = waiter(live, nil, log, "fourth")
    settle()
    assert.same({}, log)
    live:give_back()
    third:await()
    assert.same({ "fourth" }, log)
  end))

  it("leases the session under a key, and to one caller only", helper.task(function()
    local live = pool.new(3)
    local session = add_idle(live, "a", "b")
    assert.equal(session, live:acquire "b")
    assert.is_nil(live:acquire "a")
    live:give_back()
    live:release(session, { "c" })
    assert.is_nil(live:acquire "a")
    live:give_back()
    assert.equal(session, live:acquire "c")
  end))

  it("keeps several sessions under one key, and leases the one used last", helper.task(function()
    local live = pool.new(3)
    local first, second = add_idle(live, "a"), add_idle(live, "b")
    assert.equal(first, live:acquire "a")
    live:release(first, { "b" })
    assert.equal(first, live:acquire "b")
    assert.equal(second, live:acquire "b")
  end))

  it("leases nothing without a key", helper.task(function()
    local live = pool.new(2)
    add_idle(live)
    assert.is_nil(live:acquire(nil))
  end))

  it("ends the idle session least recently used for one more", helper.task(function()
    local live = pool.new(2)
    local first, second = add_idle(live, "a"), add_idle(live, "b")
    live:release(assert(live:acquire "a"), { "a" })
    assert.is_nil(live:acquire "c")
    assert.equal(0, first.closed)
    assert.equal(1, second.closed)
    assert.equal(1, live:count())
  end))

  it("counts a session until its process has ended", helper.task(function()
    local live = pool.new(1)
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
    local live, log = pool.new(1), {}
    local session = add(live)
    local waiters = {}
    for i = 1, 4 do waiters[i] = waiter(live, nil, log, i) end
    settle()
    live:drop(session)
    for i = 1, 4 do
      waiters[i]:await()
      assert.equal(i, #log)
      live:give_back()
      settle()
    end
    assert.same({ 1, 2, 3, 4 }, log)
  end))

  it("lets nobody overtake those who wait, not even the last user of a session", helper.task(function()
    local live, log = pool.new(1), {}
    local session = add(live)
    local other = waiter(live, "b", log, "other")
    settle()
    live:release(session, { "a" })
    local again = waiter(live, "a", log, "again")
    other:await()
    settle()
    assert.same({ "other" }, log)
    assert.equal(1, session.closed)
    live:give_back()
    assert.is_nil(again:await())
  end))

  it("gives a waiter the session under its key without ending it", helper.task(function()
    local live, log = pool.new(1), {}
    local session = add(live)
    local same = waiter(live, "a", log, "same")
    settle()
    live:release(session, { "a" })
    assert.equal(session, same:await())
    assert.equal(0, session.closed)
  end))

  it("passes over waiters that were cancelled", helper.task(function()
    local live, log = pool.new(1), {}
    local session = add(live)
    local first, second, third =
      waiter(live, nil, log, "first"), waiter(live, nil, log, "second"), waiter(live, nil, log, "third")
    settle()
    first:cancel()
    second:cancel()
    live:drop(session)
    third:await()
    assert.same({ "third" }, log)
    assert.equal("Cancelled", select(2, first:result()).code)
  end))

  it("frees the place of a session that was dropped, once", helper.task(function()
    local live = pool.new(1)
    local session = add(live)
    live:drop(session)
    live:drop(session)
    assert.is_nil(live:acquire())
    local second = waiter(live, nil, {}, "second")
    settle()
    assert.is_nil(second:result())
    second:cancel()
  end))

  it("leaves the place of a session that was vacated to its user", helper.task(function()
    local live, log = pool.new(1), {}
    local session = add(live)
    local second = waiter(live, nil, log, "second")
    settle()
    live:vacate(session)
    settle()
    assert.same({}, log)
    live:add(new_session())
    second:cancel()
  end))

  it("frees the place of a session that cannot be ended, and says so", helper.task(function()
    local live = pool.new(1)
    local session = add_idle(live, "a")
    function session.close() error("stuck", 0) end
    local ok, err = pcall(live.acquire, live, "b")
    assert.is_false(ok)
    assert.equal("stuck", err)
    assert.is_nil(live:acquire "b")
  end))

  it("never leases an idle session whose process has ended", helper.task(function()
    local live = pool.new(1)
    local session = add_idle(live, "a")
    session.is_alive = false
    assert.same({}, live:processes())
    assert.same({}, live:states())
    assert.equal(0, live:count())
    assert.is_nil(live:acquire "a")
    assert.equal(1, session.retired)
    assert.equal(0, session.closed)
  end))

  it("shows what lives, idle or not", helper.task(function()
    local live = pool.new(2)
    local first, second = add(live), add_idle(live, "a")
    assert.same({ [first.session_id] = first.process, [second.session_id] = second.process }, live:processes())
    assert.same({ [first.session_id] = "ready", [second.session_id] = "ready" }, live:states())
  end))

  describe("with an idle time-out", function()
    it("ends an idle session, and no other", helper.task(function()
      local live = pool.new(3, 20)
      local busy, idle = add(live), add_idle(live, "a")
      helper.eventually(function() return idle.retired == 1 end)
      assert.equal(1, live:count())
      assert.equal(0, busy.retired)
      assert.is_nil(live:acquire "a")
    end))

    it("never ends one after endless time", helper.task(function()
      local live = pool.new(1, math.huge)
      local session = add_idle(live, "a")
      assert.equal(session, live:acquire "a")
    end))

    it("begins anew with each use", helper.task(function()
      local live = pool.new(1, 1000)
      local session = add_idle(live, "a")
      for _ = 1, 5 do
        assert.equal(session, live:acquire "a")
        live:release(session, { "a" })
      end
      assert.equal(0, session.retired)
      live:close()
    end))

    it("keeps the place until the process has ended", helper.task(function()
      local live = pool.new(1, 10)
      local session = add_idle(live, "a")
      function session.retire() session.retired = session.retired + 1 end -- it takes its time
      helper.eventually(function() return session.retired == 1 end)
      assert.equal(1, live:count())
      assert.is_nil(live:acquire "a") -- waits for the end
      assert.equal(1, session.closed)
      assert.equal(0, live:count())
    end))
  end)

  describe("that is closed", function()
    it("ends every session at a time", helper.task(function()
      local live = pool.new(3, 60000)
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
      local live = pool.new(1)
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
      local live = pool.new(2)
      assert.is_nil(live:acquire())
      live:close()
      local ok, err = pcall(live.add, live, new_session())
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ClosedError"))
    end))

    it("lets go of what its users hold when it closes", helper.task(function()
      local live = pool.new(2)
      local busy, idle = add(live), add_idle(live, "a")
      local closing = task.spawn(live.close, live)
      helper.tick()
      live:drop(busy)
      live:release(idle, { "a" })
      closing:await()
      assert.equal(0, live:count())
    end))

    it("does not stop half-way for a session that cannot be ended", helper.task(function()
      local live = pool.new(2)
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
    local live, users, alive, leased, most = pool.new(limit, random() < 0.3 and 1 or nil), {}, 0, {}, 0
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
      function session.retire()
        session.is_alive = false
        ended()
      end
      session.die = session.retire
      return session
    end
    local function use()
      local session = live:acquire(random() < 0.8 and keys[random(#keys)] or nil)
      local holds_place = session == nil
      local _ <close> = setmetatable({}, { __close = function()
        if session then
          leased[session] = nil
          live:drop(session)
        elseif holds_place then
          live:give_back()
        end
      end })
      if not session then
        for _ = 1, random(0, 2) do helper.tick() end
        if random() < 0.1 then return end
        session = new_counted()
        live:add(session)
      end
      assert(not leased[session], "leased twice")
      leased[session] = true
      for _ = 1, random(0, 5) do helper.tick() end
      if random() < 0.1 then session.die() end
      if random() < 0.1 then
        live:vacate(session)
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
    for _ = 1, limit do task.timeout(1000, live.acquire, live) end
    for _ = 1, limit do live:give_back() end
    live:close()
    assert(live:count() == 0)
  end

  it("never loses a place, whatever its users do", helper.task(function()
    local first = tonumber(os.getenv "PARLEY_SEED")
    for seed = first or os.time(), (first or os.time() + 200) do
      local ok, err = pcall(random_run, seed)
      if not ok then error(("%s (PARLEY_SEED=%d repeats it)"):format(tostring(err), seed), 0) end
    end
  end))
end)
