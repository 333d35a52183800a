-- What a session types into: who waits there, and what ends a wait.
local clock = require "parley.base.clock"
local fake_process = require "parley.testing.fake_process"
local helper = require "spec.helper"
local terminal = require "parley.session.terminal"

describe("a session's terminal", function()
  local check_leaks, fake, guard, live

  before_each(function()
    check_leaks = helper.leaks()
    fake = fake_process.new {}
    guard = { check = function() end, deadline = function() return math.huge end, ready = function() end,
      is_interrupted = function() return false end, is_command = function() end,
      is_before_message = function() end, attend = function() end,
      refusal = function() end,
      session_id = function() return "an id" end }
    live = terminal.new { process = fake, readiness = { state = function() return "busy" end },
      options = { startup_timeout_ms = 50, stall_timeout_ms = 1e6, file_wait_timeout_ms = 30000 }, guard = guard }
    live:start()
  end)

  after_each(function()
    fake:close()
    live:close()
    check_leaks()
  end)

  describe("as time goes by", function()
    local time

    before_each(function()
      time = 0
      clock.use { now = function() return time end }
      function live:wait(deadline) time = math.min(deadline, time + 10) end -- luacheck: ignore 212
    end)
    after_each(function() clock.use() end)

    it("asks a predicate until it gives a value, or the time is over", function()
      assert.equal(30, live:wait_until(function() return time >= 30 and time end, 1000))
      assert.is_false(live:wait_until(function() return false end, 25))
      assert.equal(55, time)
    end)

    it("lets the predicate move the deadline", function()
      local function moves() return time >= 85 and "there", time < 60 and time + 40 or nil end
      assert.equal("there", live:wait_until(moves, 20))
      assert.is_false(live:wait_until(function() return false, 100 end, 1e9))
      assert.equal(100, time)
    end)

    it("gives up a program that is never ready, by the option for where it stands", function()
      for option, has_started in pairs { startup_timeout_ms = false, stall_timeout_ms = true } do
        live.has_started = has_started
        local ok, err = pcall(live.wait_until_ready, live)
        assert.is_false(ok)
        assert.same({ "timeout", "an id" }, { err.reason, err.session_id })
        assert.matches(option, tostring(err))
      end
    end)

    describe("with something in the composer's place", function()
      local state

      before_each(function()
        state = "starting"
        live.readiness, live.has_started = { state = function() return state end }, true
      end)

      it("presses ESC when it has stood there for a while, and again", helper.task(function()
        local pressed = {}
        function fake.options.on_write()
          table.insert(pressed, time)
          if #pressed == 2 then state = "ready" end
        end
        assert.is_true(live:wait_until_ready())
        assert.same({ 2000, 6000 }, pressed)
        assert.equal("\27\27", fake:written())
      end))

      for version, row in pairs { ["2.1.332"] = "Claude Code is suspended. Run `fg` to bring it back.",
        ["2.1.197"] = "Claude Code has been suspended. Run `fg` to bring Claude Code back.───" } do
        it("continues a program that Ctrl+Z has stopped, on " .. version, helper.task(function()
          fake:feed(row)
          function fake:signal(name)
            table.insert(self.signals, name)
            state = "ready"
          end
          assert.is_true(live:wait_until_ready())
          assert.same({ { "SIGCONT" }, "" }, { fake.signals, fake:written() })
        end))
      end

      it("says what is there instead when nothing helps", helper.task(function()
        fake:feed "\r\n  A view\r\n\r\n  of something"
        local err = helper.failure_of("SessionError", live.wait_until_ready, live)
        assert.same({ "timeout", 30000 }, { err.reason, time })
        assert.matches("something else than its composer .*: A view | of something$", err.message)
        assert.is_nil(fake:written():find "[^\27]")
      end))

      it("presses nothing in the agents view", helper.task(function()
        fake:feed "\27]0;1 awaiting input · claude agents\7"
        local err = helper.failure_of("SessionError", live.wait_until_ready, live)
        assert.same({ "delivery", "" }, { err.reason, fake:written() })
      end))

      it("leaves alone a program that has not started, or whose composer is there", helper.task(function()
        live.has_started = false
        helper.failure_of("SessionError", live.wait_until_ready, live)
        live.has_started, live.options.stall_timeout_ms = true, 40000
        fake:feed(("─"):rep(20) .. "\r\n❯\u{A0}\r\n" .. ("─"):rep(20))
        assert.matches("stall_timeout_ms", helper.failure_of("SessionError", live.wait_until_ready, live).message)
        assert.equal("", fake:written())
      end))
    end)

    it("knows when ESC may be pressed next", helper.task(function()
      assert.is_true(live:next_escape() < time)
      live:escape()
      assert.equal(time + 1000, live:next_escape())
      assert.equal("\27", fake:written())
    end))
  end)

  it("is up when the program is at work on its first message, or asks about that", helper.task(function()
    local state, attended = "busy", 0
    live.readiness = { state = function() return state end }
    function guard.attend()
      attended = attended + 1
      live.status_file.value = {} -- the start's dialog has gone
    end
    assert.is_true(live:wait_until_ready(true))
    state = "dialog"
    assert.is_true(live:wait_until_ready(true))
    assert.equal(1, attended)
  end))

  it("ends a wait when the guard says so, or the program has ended", helper.task(function()
    function guard.check() error("enough", 0) end
    assert.same({ false, "enough" }, { pcall(live.wait_until, live, function() return true end, 1000) })
    function guard.check() end
    fake:exit { exit_code = 3 }
    local ok, err = pcall(live.wait_until, live, function() end, 1000)
    assert.is_false(ok)
    assert.same({ "exit", 3 }, { err.reason, err.exit.exit_code })
  end))

  it("waits no longer than the guard's deadline", helper.task(function()
    function guard.deadline() return clock.now() + 5 end
    local began = clock.now()
    live:wait(began + 60000)
    assert.is_true(clock.now() - began < 900)
  end))
end)
