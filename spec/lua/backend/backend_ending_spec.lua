--- How turns of the backend end before their time, over fake processes.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local fake_backends = require "spec.fake_backends"
local files = require "parley.base.files"
local helper = require "spec.helper"
local index = require "parley.sleep.index"
local parley = require "parley"
local task = require "parley.base.task"

local place ---@type spec.FakeBackends
before_each(function() place = fake_backends.begin() end)
after_each(function() place:finish() end)

local user = fake_backends.user
local assistant = fake_backends.assistant
local collect = fake_backends.collect
local talk = fake_backends.talk
local raised = helper.failure_of
local taken = fake_backends.taken

describe("complete", function()
  describe("8. a turn that raises", function()
    it("ends its session and stores nothing", helper.task(function()
      local backend <close> = place:backend({}, { reply = function(message, fake)
        if message == "die" then fake:exit { signal = "SIGSEGV" } end
        return "ok"
      end })
      local _, _, messages = talk(backend, { user "one" })
      table.insert(messages, user "die")
      local err = raised("SessionError", collect, backend, messages)
      assert.equal("exit", err.reason)
      assert.is_string(err.screen)
      assert.equal(0, backend:live_session_count())
      messages[#messages] = user "again"
      assert.equal(1, talk(backend, messages).num_turns)
    end))

    it("by a time-out ends its process", helper.task(function()
      local backend <close> = place:backend({}, { delay_ms = 60000 }, { turn_timeout_ms = 50 })
      local err = raised("SessionError", collect, backend, { user "slow" })
      assert.equal("timeout", err.reason)
      assert.equal(0, backend:live_session_count())
      assert.is_false(place.fakes[1]:is_alive())
    end))

    it("by an error in the loop's body ends its process, too", helper.task(function()
      local backend <close> = place:backend({}, { delay_ms = 60000 })
      local ok, err = pcall(function()
        for _ in backend:complete { user "slow" } do error("mine", 0) end
      end)
      assert.is_false(ok)
      assert.equal("mine", err)
      assert.equal(0, backend:live_session_count())
    end))

    it("ends after its result: the iterator gives nothing more", helper.task(function()
      local backend <close> = place:backend({}, { delay_ms = 60000 }, { turn_timeout_ms = 50 })
      local step = backend:complete { user "slow" }
      raised("SessionError", function() while step() do end end)
      assert.is_nil(step())
    end))
  end)

  describe("9. cancelled while", function()
    --- A phase: how a fake is made to stay in it, and how it is known.
    local PHASES = {
      ["it waits for a place"] = { max_sessions = 1, waits = true, is_there = function() return true end },
      ["its program starts"] = {
        prepare = function(fake) fake.options.on_start = nil end,
        is_there = function() return place.fakes[1] and place.fakes[1]:pid() end,
      },
      ["its message is typed"] = {
        prepare = function(fake) fake.options.on_write = function() end end,
        is_there = function() return place.fakes[1] and #place.fakes[1].writes > 0 end,
      },
      ["its turn runs"] = {
        prepare = function(fake) fake.options.delay_ms = 60000 end,
        is_there = function() return place.fakes[1] and #taken(place.fakes[1]) > 0 end,
      },
    }
    local function next_call_works(backend, count)
      for _, fake in ipairs(place.fakes) do assert.is_false(fake:is_alive()) end
      assert.equal(0, backend:live_session_count())
      assert.equal(1, talk(backend, { user "next" }).num_turns)
      assert.equal(count + 1, #place.fakes)
    end

    for what, phase in pairs(PHASES) do
      --- The turn in this phase, as a task, with the one before it that has the place.
      local function begin(fn)
        local backend = place:backend({ max_sessions = phase.max_sessions }, { prepare = function(fake, count)
          if phase.waits and count == 1 then fake.options.delay_ms = 60000 end
          if phase.prepare and count == 1 then phase.prepare(fake) end
        end })
        local holder
        if phase.waits then
          holder = task.spawn(pcall, collect, backend, { user "first" })
          helper.eventually(function() return place.fakes[1] and #taken(place.fakes[1]) > 0 end)
        end
        local running = task.spawn(pcall, fn or collect, backend, { user "mine" })
        helper.eventually(phase.is_there)
        helper.tick()
        return backend, running, holder
      end
      local function after(backend, holder)
        if holder then
          assert.is_true(place.fakes[1]:is_alive())
          holder:cancel()
          holder:await()
        end
        next_call_works(backend, #place.fakes)
        backend:close()
      end

      it(what .. ": by task:cancel", helper.task(function()
        local backend, running, holder = begin()
        running:cancel()
        pcall(running.await, running)
        after(backend, holder)
      end))

      it(what .. ": by task.timeout", helper.task(function()
        local late
        local backend, running, holder = begin(function(backend, messages)
          late = task.spawn(pcall, task.timeout, 60, collect, backend, messages)
          late:await()
        end)
        running:await()
        local _, ok, err = late:result()
        assert.is_false(ok)
        assert.equal("ETIMEDOUT", err.code)
        after(backend, holder)
      end))

      it(what .. ": by backend:close", helper.task(function()
        local backend, running, holder = begin()
        backend:close()
        local ok, err = running:await()
        assert.is_false(ok)
        assert.is_true(errors.is(err, "Cancelled"), tostring(err))
        if holder then assert.equal("Cancelled", select(2, holder:await()).code) end
        assert.equal(0, backend:live_session_count())
        for _, fake in ipairs(place.fakes) do assert.is_false(fake:is_alive()) end
      end))
    end

    it("its consumer sees Cancelled", helper.task(function()
      local backend <close> = place:backend({}, { delay_ms = 60000 })
      local seen
      local running = task.spawn(function()
        local ok, err = pcall(collect, backend, { user "mine" })
        seen = not ok and err
        error(err, 0)
      end)
      helper.eventually(function() return place.fakes[1] and #taken(place.fakes[1]) > 0 end)
      running:cancel()
      raised("Cancelled", running.await, running)
      assert.is_true(errors.is(seen, "Cancelled"))
    end))

    for _, kind in ipairs { "user", "assistant" } do
      it("its loop is left after the first event of type " .. kind, helper.task(function()
        local backend <close> = place:backend({}, { prepare = function(fake, count)
          if count == 1 and kind == "user" then fake.options.delay_ms = 60000 end
        end })
        for event in backend:complete { user "mine" } do
          if event.type == kind then break end
        end
        next_call_works(backend, 1)
      end))
    end

    it("its loop is left after the result: the session stays", helper.task(function()
      local backend <close> = place:backend()
      local answer
      for event in backend:complete { user "one" } do
        answer = event.type == "assistant" and event.content or answer
        if event.type == "result" then break end
      end
      assert.equal(2, talk(backend, { user "one", assistant(answer), user "two" }).num_turns)
    end))

    it("its loop closes the backend", helper.task(function()
      local backend = place:backend({}, { delay_ms = 60000 })
      raised("Cancelled", function()
        for _ in backend:complete { user "mine" } do backend:close() end
      end)
      assert.equal(0, backend:live_session_count())
    end))
  end)
end)

describe("close", function()
  local function from_loop(callback) clock.after(0, callback) end

  it("ends everything from a libuv callback, turns that run among it, and may be called again", helper.task(function()
    local removed = {}
    local backend = place:backend({ mcp_servers = { a = { command = "x" } }, policies = { mcp_config = {
      write = function() return "/written" end,
      remove = function(path) table.insert(removed, path) end,
    } } }, { prepare = function(fake, count)
      if count == 2 then fake.options.delay_ms = 60000 end
    end })
    talk(backend, { user "idle" })
    backend:mcp_config_argument()
    local running = task.spawn(pcall, collect, backend, { user "runs" })
    helper.eventually(function() return place.fakes[2] and #taken(place.fakes[2]) > 0 end)
    local is_closed
    from_loop(function()
      backend:close()
      backend:close()
      is_closed = true
    end)
    helper.eventually(function() return is_closed end)
    local ok, err = running:await()
    assert.is_false(ok)
    assert.is_true(errors.is(err, "Cancelled"), tostring(err))
    for _, fake in ipairs(place.fakes) do
      helper.eventually(function() return not fake:is_alive() end)
    end
    assert.same({ "/written" }, removed)
    assert.equal(0, backend:live_session_count())
    backend:close()
    raised("ClosedError", backend.complete, backend, { user "more" })
  end))

  it("waits for the end in a coroutine of the script's own", helper.task(function()
    local backend = place:backend()
    talk(backend, { user "idle" })
    coroutine.wrap(backend.close)(backend)
    assert.is_false(place.fakes[1]:is_alive())
  end))

  it("waits for the end outside of any task", function()
    local backend
    task.run(function()
      backend = place:backend()
      talk(backend, { user "idle" })
    end)
    assert.is_true(place.fakes[1]:is_alive())
    backend:close()
    assert.is_false(place.fakes[1]:is_alive())
    backend:close()
  end)

  it("goes on to the end when a policy fails on the way", helper.task(function()
    local backend = place:backend { mcp_servers = { a = {} }, policies = { mcp_config = {
      write = function() return "/written" end,
      remove = function(path) error("cannot remove " .. path, 0) end,
    } } }
    talk(backend, { user "one" })
    backend:mcp_config_argument()
    assert.matches("cannot remove /written", raised("ValueError", backend.close, backend).message)
    assert.equal(0, backend:live_session_count())
    backend:close()
  end))

  describe("leaves nothing leased in an index of the caller's own", function()
    local function open() return assert(index.open { path = place.folder .. "/state/sessions.db" }) end

    it("when a callback closes it", helper.task(function()
      local store <close> = open()
      local backend = place:backend { state = store }
      talk(backend, { user "one" })
      local id, is_closed = next(backend:live_sessions()), false
      from_loop(function()
        backend:close()
        is_closed = true
      end)
      helper.eventually(function() return is_closed end)
      local lease <close> = assert(store:lease(id))
      assert.is_truthy(lease)
    end))

    it("when a conversation is being woken meanwhile", helper.task(function()
      local store <close> = open()
      local first = place:backend { state = store }
      local _, _, messages = talk(first, { user "one" })
      local id = next(first:live_sessions())
      first:close()
      table.insert(messages, user "two")
      local backend = place:backend({ state = store }, { prepare = function(fake) fake.options.on_start = nil end })
      local running = task.spawn(pcall, collect, backend, messages)
      helper.eventually(function() return place.fakes[2] and place.fakes[2]:pid() end)
      backend:close()
      assert.is_false((running:await()))
      assert.is_true(place.fakes[2].is_resumed)
      local lease <close> = assert(store:lease(id))
      assert.is_truthy(lease)
    end))
  end)

  it("from a libuv callback lets a request go that waits for a session to leave", helper.task(function()
    local backend = place:backend({ state = place.folder .. "/state/sessions.db", idle_timeout_ms = 20 }, {
      prepare = function(fake)
        function fake.kill(self) self.is_going = true end -- it ends a while later
        function fake.close(self)
          task.shield(function() task.condition():wait(300) end)
          self:exit { exit_code = 143 }
        end
      end })
    local _, _, messages = talk(backend, { user "one" })
    table.insert(messages, user "two")
    helper.eventually(function() return place.fakes[1].is_going end)
    local running = task.spawn(pcall, collect, backend, messages)
    helper.tick()
    from_loop(function() backend:close() end)
    local ok, err = task.timeout(10000, running.await, running)
    assert.same({ false, true }, { ok, err.code == "ClosedError" or err.code == "Cancelled" })
    helper.eventually(function() return not place.fakes[1]:is_alive() end)
  end))

  it("removes what was written, and gives places back, where the caller has closed its index before",
    helper.task(function()
      local store = assert(index.open { path = place.folder .. "/state/sessions.db" })
      local backend = place:backend { state = store, max_sessions = 1,
        mcp_servers = { a = { command = "x", env = { SECRET = "s" } } } }
      talk(backend, { user "one" })
      local path = backend:mcp_config_argument()[1]
      assert.is_truthy(files.size(path))
      store:close()
      files.put(place.fakes[1].jsonl_path, "half a line", "a") -- so it is not to be woken
      raised("ClosedError", collect, backend, { user "two" })
      assert.equal(0, backend.pool.places)
      backend:close()
      assert.is_nil(files.size(path))
    end))

  it("takes back what a policy still writes when it was closed by a callback", helper.task(function()
    local removed, go_on, is_writing = {}, task.condition(), false
    local backend = parley.backend { cwd = place.cwd, mcp_servers = {}, policies = { mcp_config = {
      write = function()
        is_writing = true
        go_on:wait()
        return "/written"
      end,
      remove = function(path) table.insert(removed, path) end,
    } } }
    local writing = task.spawn(pcall, backend.mcp_config_argument, backend)
    helper.eventually(function() return is_writing end)
    local is_closed
    from_loop(function()
      backend:close()
      is_closed = true
    end)
    helper.eventually(function() return is_closed end)
    assert.same({}, removed)
    go_on:notify()
    assert.equal("ClosedError", select(2, writing:await()).code)
    assert.same({ "/written" }, removed)
  end))
end)
