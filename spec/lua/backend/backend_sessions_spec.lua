--- Many conversations on few sessions, over fake processes.
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
local raised = fake_backends.raised
local taken = fake_backends.taken

describe("complete", function()
  describe("10. of several conversations", function()
    --- A fake that answers when it is told to.
    local function held(fake)
      fake.options.delay_ms = 60000
      function fake.answer()
        fake.timer:stop()
        fake.timer:start(0, 0, function()
          fake.timer:close()
          fake.timer = nil
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
      assert.equal(1, talk(backend, second).num_turns) -- from a seed
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
      assert.equal(1, talk(backend, messages).num_turns)
    end))

    it("never leases an idle session whose process has died", helper.task(function()
      local backend <close> = place:backend { max_sessions = 1 }
      local _, _, messages = talk(backend, { user "one" })
      place.fakes[1]:exit { signal = "SIGKILL" }
      assert.same({}, backend:live_sessions())
      table.insert(messages, user "two")
      assert.equal(1, talk(backend, messages).num_turns)
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
      assert.equal(1, events[3].num_turns)
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
  end)
end)
