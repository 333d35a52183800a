-- One live conversation, on fakes that say exactly what is to be seen. What a whole simulated program makes of it is in
-- spec/lua/promises/.
local files = require "parley.base.files"
local fake_process = require "parley.testing.fake_process"
local helper = require "spec.helper"
local in_no_time = require("spec.simulated_clock").task
local parley = require "parley"
local session = require "parley.session"
local task = require "parley.base.task"
local uv = require "luv"

local failure_of = helper.failure_of

local function collect(steps, ...)
  local events = {}
  for event in steps, ... do table.insert(events, event) end
  return events, events[#events]
end

describe("session", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function fake_options(given)
    local all = { jsonl_path = folder .. "/t.jsonl", status_folder = folder,
      environment = { CLAUDE_CONFIG_DIR = folder } }
    for name, value in pairs(given or {}) do all[name] = value end
    return all
  end

  ---A session on a fake that answers, started.
  local function answering(given, options)
    local fake = fake_process.answering(fake_options(given))
    local live = session.new(fake, options, { path = fake.jsonl_path })
    live:start()
    return live, fake
  end

  describe("that is made", function()
    it("refuses bad options", function()
      failure_of("ValueError", session.new, fake_process.new(), { turn_timeout = 1 })
      failure_of("ValueError", session.new, fake_process.new(), { mentions = "never" })
      failure_of("ValueError", session.new, fake_process.new(), { turn_timeout_ms = -1 })
    end)

    it("refuses bad options by the name that they were given to", function()
      assert.equal("parley.session has no option 'turn_timeout_m'; did you mean 'turn_timeout_ms'?",
        failure_of("ValueError", parley.session, { turn_timeout_m = 1 }).message)
      assert.equal('parley.session takes a table of options, not "x"',
        failure_of("ValueError", parley.session, "x").message)
    end)

    it("fills policies up with the defaults", function()
      local live = session.new(fake_process.new(fake_options()), { policies = { dialogs = { decide = function()
        return { fail = "no" }
      end } } })
      assert.same({ fail = "no" }, live.policies.dialogs.decide({ choices = {} }, {}))
      assert.equal(require("parley.policy.dialogs").recognize, live.policies.dialogs.recognize)
    end)

    it("takes a policy from a file, and refuses what is none", function()
      local path = helper.write(folder .. "/mine.lua", "return { state = function() return 'busy' end }")
      local live = session.new(fake_process.new(fake_options()), { policies = { readiness = path } })
      assert.equal("busy", live:state())
      for _, given in ipairs { { readiness = "/no/such.lua" }, { readiness = { stat = print } }, { rediness = {} } } do
        failure_of("ValueError", session.new, fake_process.new(fake_options()), { policies = given })
      end
    end)
  end)

  describe("that starts", function()
    it("is ready once the composer takes a message", in_no_time(function()
      local live <close> = answering()
      assert.equal("ready", live:state())
    end))

    it("says what it waited for when it is never ready", in_no_time(function()
      local fake = fake_process.new(fake_options { on_start = function(fake) fake:feed "Loading" end })
      local live = session.new(fake, { startup_timeout_ms = 50 }, { path = fake.jsonl_path })
      local err = failure_of("SessionError", live.start, live)
      assert.equal("timeout", err.reason)
      assert.matches("startup_timeout_ms", tostring(err))
      assert.matches("Loading", err.screen)
      assert.is_false(fake:is_alive())
    end))

    it("says how the program ended instead", in_no_time(function()
      local fake = fake_process.new(fake_options { on_start = function(fake)
        fake:feed "Error: no such thing\r\n"
        fake:exit { exit_code = 1 }
      end })
      local live = session.new(fake, {}, { path = fake.jsonl_path })
      local err = failure_of("SessionError", live.start, live)
      assert.equal("exit", err.reason)
      assert.equal(1, err.exit.exit_code)
      assert.matches("no such thing", tostring(err))
    end))
  end)

  describe("whose transcript cannot be written", function()
    local function options_in(projects)
      return fake_options { jsonl_path = projects .. "/-work/t.jsonl" }
    end

    local function put_file_at(path)
      files.remove_tree(path)
      helper.write(path, "")
    end

    it("says so before the program is started", in_no_time(function()
      put_file_at(folder .. "/projects")
      local fake = fake_process.answering(options_in(folder .. "/projects"))
      local live = session.new(fake, {}, { path = fake.jsonl_path })
      local err = failure_of("SessionError", live.start, live)
      assert.equal("transcript", err.reason)
      assert.matches(folder .. "/projects' is not a folder", tostring(err), 1, true)
      assert.is_nil(fake:pid())
    end))

    it("says so before a key is pressed, when it came to that after the start", in_no_time(function()
      local fake = fake_process.answering(options_in(folder .. "/projects"))
      local live = session.new(fake, {}, { path = fake.jsonl_path })
      live:start()
      collect(live:send "hello")
      local written = fake:written()
      put_file_at(folder .. "/projects")
      local err = failure_of("SessionError", collect, live:send "lost")
      assert.equal("transcript", err.reason)
      assert.matches(folder .. "/projects' is not a folder", tostring(err), 1, true)
      assert.equal(written, fake:written())
    end))

    it("goes on when the folder is only missing, for the program makes it again", in_no_time(function()
      local fake = fake_process.answering(options_in(folder .. "/projects"))
      local live <close> = session.new(fake, {}, { path = fake.jsonl_path })
      live:start()
      collect(live:send "hello")
      files.remove_tree(folder .. "/projects")
      local _, result = collect(live:send "again")
      assert.equal("success", result.subtype)
    end))

    for name, case in pairs {
      ["before the message stands in it"] = { "take", "file_wait_timeout_ms" },
      ["before the answer stands in it"] = { "reply", "what the program did is not known" },
    } do
      it("says so when it came to that in a turn, " .. name, in_no_time(function()
        local given = options_in(folder .. "/projects")
        function given.reply(text)
          if case[1] == "reply" and text == "lost" then put_file_at(folder .. "/projects") end
          return "an answer"
        end
        local fake = fake_process.answering(given)
        local live = session.new(fake, { file_wait_timeout_ms = 3000 }, { path = fake.jsonl_path })
        live:start()
        collect(live:send "hello")
        if case[1] == "take" then
          local plain = fake.options.on_write
          function fake.options.on_write(process, bytes)
            if bytes == "\r" then put_file_at(folder .. "/projects") end
            plain(process, bytes)
          end
        end
        local message = tostring(failure_of("SessionError", collect, live:send "lost"))
        assert.matches(case[2], message, 1, true)
        assert.matches(folder .. "/projects' is not a folder", message, 1, true)
      end))
    end
  end)

  describe("that is sent a message", function()
    for _, profile in ipairs { "2.1.110", "2.1.197", "2.1.330" } do
      it("reports all that follows, on " .. profile, in_no_time(function()
        local live <close> = answering { profile = profile }
        local events, result = collect(live:send "hello")
        assert.same({ "user", "assistant" }, { events[1].type, events[2].type })
        assert.equal("echo: hello", events[2]:text())
        assert.same({ "success", 1, live.session_id }, { result.subtype, result.num_turns, result.session_id })
        local _, second = collect(live:send "and again")
        assert.equal(2, second.num_turns)
      end))
    end

    it("refuses what cannot be delivered before a key is pressed", in_no_time(function()
      local live <close>, fake = answering()
      for _, text in ipairs { "", "\27", "/exit", "exit", "\xFF" } do
        failure_of("ValueError", live.send, live, text)
      end
      failure_of("ValueError", live.send, live, 7)
      assert.equal("", fake:written())
      assert.is_true(fake:is_alive())
    end))

    it("refuses a second one while a turn runs", in_no_time(function()
      local live <close> = answering()
      local steps = live:send "one"
      assert.equal("busy", failure_of("SessionError", live.send, live, "two").reason)
      collect(steps)
    end))

    it("refuses one when it is closed", in_no_time(function()
      local live = answering()
      live:close()
      failure_of("ClosedError", live.send, live, "late")
      live:close()
    end))

    it("closes when the loop is left early", in_no_time(function()
      local live, fake = answering()
      for _ in live:send "hello" do break end -- luacheck: ignore 512
      assert.is_false(fake:is_alive())
      failure_of("ClosedError", live.send, live, "late")
    end))

    it("raises ClosedError when it is closed meanwhile", in_no_time(function()
      local live = answering { delay_ms = 5000 }
      local closer = task.spawn(function()
        helper.eventually(function() return live.turn and live.turn:state() == "running" end)
        live:close()
      end)
      failure_of("ClosedError", collect, live:send "hello")
      closer:await()
    end))

    it("presses Enter again when it was swallowed, and only once more", in_no_time(function()
      local live <close>, fake = answering()
      local on_write, swallowed = fake.options.on_write, 0
      fake.options.on_write = function(process, bytes)
        if bytes == "\r" and swallowed == 0 then
          swallowed = swallowed + 1
          return
        end
        on_write(process, bytes)
      end
      local _, result = collect(live:send "hello")
      assert.equal("success", result.subtype)
      assert.equal(2, select(2, fake:written():gsub("\r", "")))
    end))

    it("does not send a text that the program has changed", in_no_time(function()
      local live, fake = answering()
      local on_write = fake.options.on_write
      local RULE = ("─"):rep(60)
      local HINT = "Removed 1 invisible character · review and press Enter to send"
      function fake.options.on_write(process, bytes)
        if bytes == "\r" then
          process:feed(("\27[H\27[2J%s\r\n%s\r\n❯\u{A0}hé\r\n%s"):format(HINT, RULE, RULE))
        else
          on_write(process, bytes)
        end
      end
      local err = failure_of("SessionError", collect, live:send "hé")
      assert.equal("delivery", err.reason)
      assert.matches("was not sent", tostring(err))
      assert.equal(1, select(2, fake:written():gsub("\r", "")))
    end))

    it("says so when the transcript shows another text", in_no_time(function()
      local live, fake = answering()
      fake.append_user = function(self) return self.transcript:user "hallo" end
      local err = failure_of("SessionError", collect, live:send "hello")
      assert.same({ "delivery", "hello", "hallo" }, { err.reason, err.sent, err.received })
    end))

    it("says so when the transcript does not show it in time", in_no_time(function()
      local live, fake = answering({ delay_ms = 50 }, { file_wait_timeout_ms = 80 })
      fake.append_user = function() end
      local err = failure_of("SessionError", collect, live:send "hello")
      assert.equal("timeout", err.reason)
      assert.matches("file_wait_timeout_ms", tostring(err))
    end))

    it("says so when the turn takes too long", in_no_time(function()
      local live, fake = answering({ delay_ms = 60000 }, { turn_timeout_ms = 300 })
      local err = failure_of("SessionError", collect, live:send "hello")
      assert.equal("timeout", err.reason)
      assert.matches("turn_timeout_ms", tostring(err))
      assert.matches("hello", err.screen)
      assert.is_false(fake:is_alive())
    end))

    it("says so when the program shows no sign of life", in_no_time(function()
      local live = answering({ delay_ms = 60000 }, { stall_timeout_ms = 300 })
      local err = failure_of("SessionError", collect, live:send "hello")
      assert.equal("timeout", err.reason)
      assert.matches("stall_timeout_ms", tostring(err))
    end))

    ---Makes two files beside the transcript. The function has the kernel's queue of events run over: what is changed
    ---then is told to nobody.
    local function beside_a_flood()
      local names = { helper.write(folder .. "/a", ""), helper.write(folder .. "/b", "") }
      return function()
        local file <close> = assert(io.open "/proc/sys/fs/inotify/max_queued_events")
        for i = 1, file:read "n" + 100 do assert(uv.fs_chmod(names[i % 2 + 1], 384)) end
      end
    end

    it("finds what came while the kernel's queue of events was full", in_no_time(function()
      local flood = beside_a_flood()
      local live <close>, fake = answering({ delay_ms = 60000 }, { turn_timeout_ms = 20000 })
      task.spawn(function()
        helper.eventually(function() return live.turn and live.turn:state() == "running" end)
        while live.changed:wait(500) do end -- luacheck: ignore 542
        flood()
        fake:append_assistant "an answer"
        fake:append_turn_duration()
        fake:set_status "idle"
      end)
      local events, result = collect(live:send "hello")
      assert.same({ "an answer", "success" }, { events[2]:text(), result.subtype })
      assert.is_true(result.duration_ms < 19000) -- at the deadline all is looked at in any case
    end))

    it("is told again of a transcript that came up then", in_no_time(function()
      local flood = beside_a_flood()
      local live <close>, fake = answering({ delay_ms = 60000 }, { turn_timeout_ms = 20000 })
      local plain = fake.append_user
      function fake:append_user(text)
        flood()
        return plain(self, text)
      end
      task.spawn(function()
        helper.eventually(function() return live.turn and live.turn:state() == "running" end)
        fake:append_assistant "an answer"
        fake:append_turn_duration()
        fake:set_status "idle"
      end)
      collect(live:send "hello")
      while live.changed:wait(500) do end -- luacheck: ignore 542
      task.spawn(function() fake:append_assistant "more" end)
      assert.is_true(live.changed:wait(20000))
    end))

    it("notices an idle program while the kernel's queue of events was full", in_no_time(function()
      local flood = beside_a_flood()
      local live <close>, fake = answering(nil, { turn_timeout_ms = 20000 })
      fake:set_status "busy"
      helper.eventually(function() return live:state() == "busy" end)
      task.spawn(function()
        helper.eventually(function() return live.course end)
        flood()
        fake:set_status "idle"
      end)
      local _, result = collect(live:send "hello")
      assert.equal("success", result.subtype)
    end))

    it("gives the verdict when the program dies after its last record", in_no_time(function()
      local live <close>, fake = answering()
      fake.append_turn_duration = function(self)
        self.transcript:chain("system", { subtype = "turn_duration" })
        self:exit { signal = "SIGKILL" }
      end
      local _, result = collect(live:send "hello")
      assert.equal("success", result.subtype)
      assert.equal("exit", failure_of("SessionError", collect, live:send "more").reason)
    end))

    it("says how the program ended in mid-turn", in_no_time(function()
      local live, fake = answering({ delay_ms = 60000 })
      local killer = task.spawn(function()
        helper.eventually(function() return live.turn and live.turn:state() == "running" end)
        fake:exit { signal = "SIGSEGV" }
      end)
      local err = failure_of("SessionError", collect, live:send "hello")
      assert.same({ "exit", "SIGSEGV" }, { err.reason, err.exit.signal })
      killer:await()
    end))

    it("ends at its own last record, not at that of a turn of the program's own behind it", in_no_time(function()
      local live <close>, fake = answering()
      fake.append_turn_duration = function(self)
        self.transcript:chain("system", { subtype = "turn_duration" })
        self.transcript:user("<task-notification>x", { promptSource = "system" })
        self:append_assistant "about the notification"
      end
      local events, result = collect(live:send "hello")
      assert.equal("success", result.subtype)
      assert.equal(3, #events)
      fake.append_turn_duration = nil
      events = collect(live:send "next")
      assert.same({ "next", "echo: next" }, { events[1]:text(), events[2]:text() })
      assert.equal(3, #events)
    end))

    it("reports a line that is none and goes on", in_no_time(function()
      local live <close> = answering { reply = function(_, fake)
        local file <close> = assert(io.open(fake.jsonl_path, "a"))
        file:write "{broken\n"
        return "fine"
      end }
      local events, result = collect(live:send "hello")
      assert.equal("success", result.subtype)
      local found
      for _, event in ipairs(events) do found = found or event.subtype == "malformed_line" end
      assert.is_true(found)
    end))
  end)

  describe("that is interrupted", function()
    ---How often ESC was pressed; in a paste's marks it is no key.
    local function escapes(fake) return select(2, (fake:written() .. "\0"):gsub("\27[^%[]", "")) end

    ---A program that gives the message back at ESC.
    local function interruptible(given, options)
      local live, fake = answering(given, options)
      local on_write = fake.options.on_write
      function fake.options.on_write(process, bytes)
        if bytes ~= "\27" then return on_write(process, bytes) end
        if process.timer then process.timer:close() end
        process.timer = nil
        process.transcript:user "[Request interrupted by user]"
        process:set_status "idle"
      end
      return live, fake
    end

    it("says so, and presses ESC once", in_no_time(function()
      local live <close>, fake = interruptible { delay_ms = 60000 }
      local waiter = task.spawn(function()
        helper.eventually(function() return live.turn and live.turn:state() == "running" end)
        assert.is_true(live:interrupt())
        assert.is_true(live:interrupt())
      end)
      local _, result = collect(live:send "hello")
      waiter:await()
      assert.equal("interrupted", result.subtype)
      assert.is_false(result.is_error)
      assert.equal(1, escapes(fake))
    end))

    it("sends nothing when it was still typing", in_no_time(function()
      local live <close>, fake = interruptible()
      local on_write = fake.options.on_write
      function fake.options.on_write(process, bytes)
        on_write(process, bytes)
        if live.turn:state() == "typing" then live:interrupt() end
      end
      local _, result = collect(live:send "hello")
      assert.equal("interrupted", result.subtype)
      assert.is_nil(fake:written():find("\r", 1, true))
      fake.options.on_write = on_write
      local events = collect(live:send "next")
      assert.equal("next", events[1]:text())
    end))

    it("knows the late record of a message behind one that was interrupted while typed", in_no_time(function()
      local live <close>, fake = interruptible()
      local plain = fake.options.on_write
      function fake.options.on_write(process, bytes)
        if bytes == "\r" then live:interrupt() elseif bytes ~= "\27" then plain(process, bytes) end
      end
      assert.equal("interrupted", select(2, collect(live:send "one")).subtype) -- Enter is not read yet
      function fake.options.on_write(process, bytes)
        plain(process, bytes)
        if live.turn:state() == "typing" then live:interrupt() end
      end
      assert.equal("interrupted", select(2, collect(live:send "two")).subtype)
      function fake.options.on_write(process, bytes)
        if bytes == "\r" then process.transcript:user "one" end
        plain(process, bytes)
      end
      local events, result = collect(live:send "three")
      assert.equal("success", result.subtype)
      assert.equal("three", events[1]:text())
    end))

    it("does not take what comes back late for the same message, sent again", in_no_time(function()
      local live <close>, fake = interruptible { delay_ms = 60000 }
      local waiter = task.spawn(function()
        helper.eventually(function() return live.turn and live.turn:state() == "running" end)
        live:interrupt()
      end)
      collect(live:send "again")
      waiter:await()
      fake.options.delay_ms = nil
      local on_write, first = fake.options.on_write, nil
      function fake.options.on_write(process, bytes)
        if not first then -- what was typed first comes behind what comes back, and with what is typed next
          first = bytes
          return on_write(process, "again")
        elseif first ~= "" then
          on_write(process, first)
          first = ""
        end
        on_write(process, bytes)
      end
      local events = collect(live:send "again")
      assert.equal("again", events[1]:text())
    end, 20000))

    it("keeps the verdict of a turn that had ended", in_no_time(function()
      local live <close>, fake = interruptible()
      for event in live:send "hello" do
        if event.type == "assistant" then live:interrupt() end
        if event.type == "result" then assert.equal("success", event.subtype) end
      end
      assert.equal(0, escapes(fake))
    end))

    it("has nothing to interrupt between turns", in_no_time(function()
      local live <close>, fake = interruptible()
      assert.is_false(live:interrupt())
      collect(live:send "hello")
      assert.is_false(live:interrupt())
      assert.equal(0, escapes(fake))
    end))
  end)

  describe("that is given a command", function()
    it("refuses what is none", in_no_time(function()
      local live <close> = answering()
      for _, text in ipairs { "help", "/", "/ x", "/help\nx", "/help\27", "" } do
        failure_of("ValueError", live.command, live, text)
      end
      failure_of("ValueError", live.command, live, nil)
    end))
  end)
end)
