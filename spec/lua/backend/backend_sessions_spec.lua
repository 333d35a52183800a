--- Many conversations on few sessions, over fake processes.
local clock = require "parley.base.clock"
local fake_backends = require "spec.fake_backends"
local helper = require "spec.helper"
local task = require "parley.base.task"

local place ---@type spec.FakeBackends
before_each(function() place = fake_backends.begin() end)
after_each(function() place:finish() end)

local user = fake_backends.user
local collect = fake_backends.collect
local talk = fake_backends.talk
local types = fake_backends.types
local raised = helper.failure_of
local taken = fake_backends.taken

describe("complete", function()
  describe("10. of several conversations", function()
    --- A fake that answers when it is told to.
    local function held(fake)
      fake.options.delay_ms = 60000
      function fake.answer()
        fake.timer:close()
        fake.timer = clock.after(0, function()
          fake:append_assistant "now"
          fake:append_turn_duration()
          fake:set_status "idle"
          fake:feed "" -- wakes
        end)
      end
    end
    local function all_run(count)
      helper.eventually(function() return #place.fakes == count and #taken(place.fakes[count]) > 0 end)
    end

    it("runs them at the same time", helper.task(function()
      local backend <close> = place:backend({}, { prepare = held })
      local turns = {}
      for i = 1, 3 do turns[i] = task.spawn(talk, backend, { user("conversation " .. i) }) end
      all_run(3)
      assert.equal(3, backend:live_session_count())
      for i = 3, 1, -1 do
        place.fakes[i].answer()
        assert.equal("now", select(2, turns[i]:await()))
      end
    end))

    it("gives two calls with one history a session each", helper.task(function()
      local backend <close> = place:backend()
      local _, _, messages = talk(backend, { user "one" })
      table.insert(messages, user "two")
      local first, second = task.spawn(talk, backend, messages), task.spawn(talk, backend, messages)
      local numbers = { first:await().num_turns, second:await().num_turns }
      table.sort(numbers)
      assert.same({ 1, 2 }, numbers)
      assert.equal(2, #place.fakes)
      local _, _, longer = talk(backend, messages) -- both wait under the history before: none is left for it
      assert.equal(4, #longer)
      assert.equal(3, #place.fakes)
    end))

    it("keeps several sessions under one fingerprint", helper.task(function()
      local backend <close> = place:backend({}, { reply = function() return "same" end })
      local first, second = task.spawn(talk, backend, { user "one" }), task.spawn(talk, backend, { user "one" })
      local _, _, messages = first:await()
      second:await()
      table.insert(messages, user "two")
      local third, fourth = task.spawn(talk, backend, messages), task.spawn(talk, backend, messages)
      assert.equal(2, third:await().num_turns)
      assert.equal(2, fourth:await().num_turns)
      assert.equal(2, #place.fakes)
    end))

    it("ends the idle session least recently used beyond max_sessions", helper.task(function()
      local backend <close> = place:backend { max_sessions = 2 }
      local _, _, first = talk(backend, { user "first" })
      local _, _, second = talk(backend, { user "second" })
      table.insert(first, user "more")
      _, _, first = talk(backend, first)
      talk(backend, { user "third" })
      assert.equal(3, #place.fakes)
      assert.is_true(place.fakes[1]:is_alive())
      assert.is_false(place.fakes[2]:is_alive())
      assert.equal(2, backend:live_session_count())
      table.insert(first, user "and more")
      assert.equal(3, talk(backend, first).num_turns)
      table.insert(second, user "more")
      assert.equal(2, talk(backend, second).num_turns) -- in its own transcript
      assert.is_true(place.fakes[4].is_resumed)
    end))

    it("waits its turn, first come first served", helper.task(function()
      local backend <close> = place:backend({ max_sessions = 1 }, { prepare = held })
      local turns, order = {}, {}
      for i = 1, 4 do
        turns[i] = task.spawn(function()
          talk(backend, { user("turn " .. i) })
          table.insert(order, i)
        end)
        helper.tick()
      end
      all_run(1)
      turns[2]:cancel()
      pcall(turns[2].await, turns[2])
      for i = 1, 3 do
        all_run(i)
        assert.equal(1, backend:live_session_count())
        place.fakes[i].answer()
      end
      for i = 1, 4 do pcall(turns[i].await, turns[i]) end
      assert.same({ 1, 3, 4 }, order)
      assert.same({ "turn 3" }, taken(place.fakes[2]))
    end))

    it("lets a conversation that goes on wait behind those who came first", helper.task(function()
      local backend <close> = place:backend({ max_sessions = 1 }, { prepare = function(fake, count)
        if count == 1 then held(fake) end
      end })
      local order = {}
      local mine = task.spawn(function()
        local messages = { user "mine" }
        for i = 1, 3 do
          messages = select(3, talk(backend, messages))
          table.insert(order, "mine " .. i)
          table.insert(messages, user "more")
        end
      end)
      all_run(1)
      local other = task.spawn(function()
        talk(backend, { user "other" })
        table.insert(order, "other")
      end)
      helper.tick()
      place.fakes[1].answer()
      mine:await()
      other:await()
      assert.same({ "mine 1", "other", "mine 2", "mine 3" }, order)
    end))

    it("ends quiet sessions after idle_timeout_ms", helper.task(function()
      local backend <close> = place:backend { idle_timeout_ms = 30 }
      local _, _, messages = talk(backend, { user "one" })
      helper.eventually(function() return not place.fakes[1]:is_alive() end)
      assert.equal(0, backend:live_session_count())
      table.insert(messages, user "two")
      assert.equal(2, talk(backend, messages).num_turns)
    end))

    it("never leases an idle session whose process has died", helper.task(function()
      local backend <close> = place:backend { max_sessions = 1 }
      local _, _, messages = talk(backend, { user "one" })
      place.fakes[1]:exit { signal = "SIGKILL" }
      assert.same({}, backend:live_sessions())
      table.insert(messages, user "two")
      assert.equal(2, talk(backend, messages).num_turns)
      assert.is_true(place.fakes[2].is_resumed)
    end))

    it("starts anew when the idle session is found dead before anything was sent", helper.task(function()
      local backend <close> = place:backend { max_sessions = 1 }
      local _, _, messages = talk(backend, { user "one" })
      -- Its death was not noticed yet.
      place.fakes[1].options.on_write = function(fake) fake:exit { signal = "SIGKILL" } end
      table.insert(messages, user "two")
      local events = collect(backend, messages)
      assert.equal("user assistant result", types(events))
      assert.equal(2, events[3].num_turns)
      assert.equal(2, #place.fakes)
      assert.equal(1, backend:live_session_count())
    end))

    it("does not start anew once Enter was pressed", helper.task(function()
      local backend <close> = place:backend()
      local _, _, messages = talk(backend, { user "one" })
      local on_write = place.fakes[1].options.on_write
      place.fakes[1].options.on_write = function(fake, bytes)
        if bytes == "\r" then return fake:exit { signal = "SIGKILL" } end
        on_write(fake, bytes)
      end
      table.insert(messages, user "two")
      raised("SessionError", collect, backend, messages)
      assert.equal(1, #place.fakes)
    end))

    it("waits for a place no longer than turn_timeout_ms", helper.task(function()
      local backend <close> = place:backend({ max_sessions = 1, turn_timeout_ms = 50 }, { prepare = held })
      local first = task.spawn(pcall, collect, backend, { user "one" })
      all_run(1)
      local err = raised("SessionError", collect, backend, { user "two" })
      assert.equal("timeout", err.reason)
      assert.matches("has waited 50 ms (turn_timeout_ms) for one of the 1 places (max_sessions)", err.message, 1, true)
      first:cancel()
      pcall(first.await, first)
    end))

    it("refuses a request inside a loop that has the only place, and goes on with the loop", helper.task(function()
      local backend <close> = place:backend { max_sessions = 1 }
      local inner, result
      for event in backend:complete { user "outer" } do
        if event.type == "assistant" then inner = raised("SessionError", collect, backend, { user "inner" }) end
        if event.type == "result" then result = event end
      end
      assert.equal("deadlock", inner.reason)
      assert.matches("only its own end could free: all 1 (max_sessions) are held by turns that wait for it; leave "
        .. "their loops first, or raise max_sessions", inner.message, 1, true)
      assert.equal("success", result.subtype)
      assert.equal(1, talk(backend, { user "and another" }).num_turns)
    end))

    it("refuses one that a dialogs policy makes of the same backend", helper.task(function()
      local dialog = { kind = "mine", text = "really?", choices = { "yes", "no" } }
      local backend, inner
      backend = place:backend { max_sessions = 1, policies = {
        readiness = { state = function() return inner and "ready" or "dialog" end },
        dialogs = {
          recognize = function() return dialog end,
          decide = function()
            inner = raised("SessionError", collect, backend, { user "what shall I say?" })
            return { keys = "" }
          end,
        },
      } }
      local _ <close> = backend
      assert.equal(1, talk(backend, { user "outer" }).num_turns)
      assert.equal("deadlock", inner.reason)
    end))

    describe("whose route waits for the session in use", function()
      local KEYED = { routing = {
        route = function(request) return { key = request.user, wait = true, pin = true } end,
        keys = function(request) return { request.user } end,
      } }

      it("has one session take them one after the other, also when they come at once", helper.task(function()
        local backend <close> = place:backend { policies = KEYED }
        local turns, numbers = {}, {}
        for i = 1, 3 do turns[i] = task.spawn(talk, backend, { user("turn " .. i) }, { user = "ada" }) end
        for i = 1, 3 do numbers[i] = turns[i]:await().num_turns end
        assert.same({ 1, 2, 3 }, numbers)
        assert.equal(1, #place.fakes)
        assert.same({ "turn 1", "turn 2", "turn 3" }, taken(place.fakes[1]))
      end))

      it("does not let it be ended for another's place", helper.task(function()
        local backend <close> = place:backend { max_sessions = 2, policies = KEYED }
        talk(backend, { user "one" }, { user = "ada" })
        talk(backend, { user "one" }, { user = "bob" })
        local err = raised("SessionError", collect, backend, { user "one" }, { user = "eve" })
        assert.matches("all 2 (max_sessions) are kept by sessions that are pinned", err.message, 1, true)
        assert.equal(2, talk(backend, { user "two" }, { user = "ada" }).num_turns)
        assert.equal(2, #place.fakes)
      end))

      it("tells a request inside its own loop that it waits for itself", helper.task(function()
        local backend <close> = place:backend { policies = KEYED }
        local inner
        for _ in backend:complete({ user "outer" }, { user = "ada" }) do
          inner = inner or raised("SessionError", collect, backend, { user "inner" }, { user = "ada" })
        end
        assert.equal("deadlock", inner.reason)
        assert.matches("the session under its key", inner.message)
      end))

      it("sends the next one to a new session when the turn before has failed", helper.task(function()
        local backend <close> = place:backend({ policies = KEYED }, { reply = function(message, fake)
          if message == "die" then fake:exit { signal = "SIGSEGV" } end
          return "ok"
        end })
        local first = task.spawn(pcall, collect, backend, { user "die" }, { user = "ada" })
        local second = task.spawn(talk, backend, { user "live" }, { user = "ada" })
        assert.is_false((first:await()))
        assert.equal(1, second:await().num_turns)
        assert.equal(2, #place.fakes)
      end))
    end)

    it("shows a route of the caller's own what lives and what it does", helper.task(function()
      local seen = {}
      local backend <close> = place:backend({ policies = { routing = { route = function(request)
        table.insert(seen, request.sessions)
        return { key = request.key, pin = request.key == "a", options = { model = "opus" } }
      end, keys = function(request) return { request.key, "and " .. request.key } end } } }, { prepare = held })
      local first = task.spawn(talk, backend, { user "one" }, { key = "a" })
      all_run(1)
      local second = task.spawn(talk, backend, { user "two" }, { key = "b" })
      all_run(2)
      place.fakes[1].answer()
      first:await()
      backend:complete({ user "three" }, {})
      assert.same({}, seen[1])
      local id, other = place.fakes[1].session_id, place.fakes[2].session_id
      assert.same({ { session_id = id, state = "busy", in_use = true, pinned = false, turns = 0, keys = { "a" } } },
        seen[2])
      local by_id = {}
      for _, live in ipairs(seen[3]) do by_id[live.session_id] = live end
      assert.same({ session_id = id, state = "ready", in_use = false, pinned = true, turns = 1,
        keys = { "a", "and a" } }, by_id[id])
      assert.is_true(by_id[other].in_use)
      place.fakes[2].answer()
      second:await()
    end))
  end)
end)
