--- How the backend brings a history to a fresh session, over fake processes.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local fake_backends = require "spec.fake_backends"
local files = require "parley.base.files"
local helper = require "spec.helper"
local parley = require "parley"
local task = require "parley.base.task"
local uv = require "luv"
local json = require("parley.core").json

local place ---@type spec.FakeBackends
before_each(function() place = fake_backends.begin() end)
after_each(function() place:finish() end)

local user = fake_backends.user
local assistant = fake_backends.assistant
local HISTORY = fake_backends.HISTORY
local with_history = fake_backends.with_history
local collect = fake_backends.collect
local talk = fake_backends.talk
local types = fake_backends.types
local raised = helper.failure_of
local taken = fake_backends.taken

local function names_below(path)
  local names = {}
  local function walk(below)
    for _, name in ipairs(helper.names_in(below)) do
      if uv.fs_stat(below .. "/" .. name).type == "directory" then
        walk(below .. "/" .. name)
      else
        table.insert(names, name)
      end
    end
  end
  walk(path)
  return names
end

describe("complete", function()
  describe("5. of an unknown history", function()
    it("writes it as a transcript, resumes, and reports nothing of it", helper.task(function()
      local backend <close> = place:backend()
      local events = collect(backend, with_history())
      assert.equal("user assistant result", types(events))
      assert.equal("What is my name?", events[1]:text())
      assert.equal(1, events[3].num_turns)
      local fake = place.fakes[1]
      assert.is_true(fake.is_resumed)
      local path = parley.resolve_jsonl_path(fake.session_id, place.cwd, { HOME = place.home })
      assert.equal(path, fake.jsonl_path)
      local seed = files.read(path):sub(1, fake.start_offset)
      local kinds = {}
      for i, record in ipairs(helper.json_lines(seed)) do kinds[i] = record.type end
      assert.same({ "permission-mode", "file-history-snapshot", "user", "assistant" }, kinds)
      assert.equal("bypassPermissions", json.decode(seed:match "[^\n]*").permissionMode)
      assert.same({ "What is my name?" }, taken(fake))
      assert.equal(tonumber("600", 8), uv.fs_stat(path).mode & 511)
    end))

    it("goes on in the same session afterwards", helper.task(function()
      local backend <close> = place:backend()
      local _, _, messages = talk(backend, with_history())
      table.insert(messages, user "And mine?")
      assert.equal(2, talk(backend, messages).num_turns)
      assert.equal(1, #place.fakes)
    end))

    it("raises and leaves nothing when the seed cannot be written", helper.task(function()
      local backend <close> = place:backend { max_sessions = 1 }
      helper.write(place.home .. "/.claude/projects", "in the way")
      local ok, err = pcall(collect, backend, with_history())
      assert.is_false(ok)
      assert.is_true(errors.is(err))
      assert.same({}, place.fakes)
      assert.equal(0, backend:live_session_count())
      assert(uv.fs_unlink(place.home .. "/.claude/projects"))
      assert.equal(1, talk(backend, with_history()).num_turns)
    end))

    it("leaves no seed of a session that was never made, or did not start", helper.task(function()
      local backend <close> = parley.backend { cwd = place.cwd, extra_env = { HOME = place.home },
        executable = place.folder .. "/no-such-program" }
      local err = raised("CLINotFoundError", collect, backend, with_history())
      assert.equal(place.folder .. "/no-such-program", err.executable)
      assert.same({}, names_below(place.home .. "/.claude/projects"))
      local other <close> = parley.backend { cwd = place.cwd, extra_env = { HOME = place.home },
        session_factory = function() error("no", 0) end }
      assert.equal("no", select(2, pcall(collect, other, with_history())))
      assert.same({}, names_below(place.home .. "/.claude/projects"))
    end))

    it("leaves no seed of a session that no message was sent to", helper.task(function()
      local function seeds() return #names_below(place.home .. "/.claude/projects") end
      local backend = place:backend()
      assert.is_true(backend:warm(fake_backends.HISTORY))
      assert.is_true(seeds() > 0)
      backend:close()
      assert.equal(0, seeds())
      local other <close> = place:backend({}, { prepare = function(fake)
        fake.options.on_write = function() end -- it shows nothing of what is typed
      end })
      local turn = other:complete(with_history())
      local reader = task.spawn(pcall, turn.result, turn)
      helper.eventually(function() return place.fakes[2] and place.fakes[2]:written() ~= "" end)
      assert.is_true(seeds() > 0)
      turn:close()
      assert.is_false((reader:await()))
      assert.equal(0, seeds())
    end))

    it("leaves no seed of a session that was found dead before its first message", helper.task(function()
      local backend <close> = place:backend({}, { prepare = function(fake, count)
        if count > 1 then return end
        fake.options.on_write = function() fake:exit { signal = "SIGKILL" } end -- as it is typed into
      end })
      assert.is_true(backend:warm(fake_backends.HISTORY))
      local seed = place.fakes[1].jsonl_path
      assert.is_truthy(files.size(seed))
      assert.equal(1, talk(backend, with_history()).num_turns)
      assert.equal(2, #place.fakes)
      assert.is_nil(files.size(seed))
    end))

    it("leaves the seed of a session into which a person has typed", helper.task(function()
      local backend = place:backend()
      assert.is_true(backend:warm(fake_backends.HISTORY))
      local hold = assert(backend:take_over(backend:sessions()[1].session))
      hold:type "by hand"
      local is_closed
      clock.after(0, function() -- where it cannot be waited for who has what
        backend:close()
        is_closed = true
      end)
      helper.eventually(function() return is_closed end)
      helper.eventually(function() return not place.fakes[1]:is_alive() end)
      assert.is_truthy(files.size(place.fakes[1].jsonl_path))
    end))
  end)

  it("6. with concat_message puts the history into the first message and writes nothing", helper.task(function()
    local backend <close> = place:backend { history_injection_mode = "concat_message" }
    local _, _, messages = talk(backend, with_history())
    assert.same({ "Previous conversation context:\n[User]: My name is Beaver.\n[Assistant]: Hello, Beaver.\n"
      .. "Continue from here. New user message: What is my name?" }, taken(place.fakes[1]))
    assert.is_false(place.fakes[1].is_resumed)
    assert.equal(0, place.fakes[1].start_offset)
    table.insert(messages, user "And mine?")
    assert.equal(2, talk(backend, messages).num_turns)
    assert.same("And mine?", taken(place.fakes[1])[2])
  end))

  describe("7. when the program does not resume from the seed", function()
    local function refuses_to_resume(fake)
      if not fake.is_resumed then return end
      fake.options.on_start = function()
        fake:feed("No conversation found with session ID: " .. fake.session_id .. "\r\n")
        fake:exit { exit_code = 1 }
      end
    end

    it("sends the history with the message, once, and says so", helper.task(function()
      local backend <close> = place:backend({ max_sessions = 1 }, { prepare = refuses_to_resume })
      local events = collect(backend, with_history())
      assert.equal("system user assistant result", types(events))
      assert.equal("injection_fallback", events[1].subtype)
      assert.equal(place.fakes[2].session_id, events[1].session_id)
      assert.is_true(errors.is(events[1].cause, "SessionError"))
      assert.matches("^Previous conversation context:", taken(place.fakes[2])[1])
      assert.equal(2, #place.fakes)
      assert.is_nil(uv.fs_stat(place.fakes[1].jsonl_path))
      assert.equal(1, backend:live_session_count())
      local messages = { HISTORY[1], HISTORY[2], user "What is my name?", assistant(events[3].content), user "More?" }
      assert.equal(2, talk(backend, messages).num_turns)
    end))

    local FAILURES = {
      ["is killed"] = function(fake) fake:exit { signal = "SIGKILL" } end,
      ["exits without a word"] = function(fake) fake:exit { exit_code = 1 } end,
      ["takes too long"] = function() end,
    }
    for what, fails in pairs(FAILURES) do
      it(("resumes from it again when the program %s at the start"):format(what), helper.task(function()
        local of_sessions = {}
        local backend <close> = place:backend({ max_sessions = 1 }, { prepare = function(fake, count)
          if count == 1 then fake.options.on_start = fails end
          of_sessions.startup_timeout_ms = count == 1 and what == "takes too long" and 100 or nil
        end }, of_sessions)
        local events = collect(backend, with_history())
        assert.equal("user assistant result", types(events))
        assert.equal(2, #place.fakes)
        assert.is_true(place.fakes[2].is_resumed)
        assert.same({ "What is my name?" }, taken(place.fakes[2]))
        assert.is_nil(uv.fs_stat(place.fakes[1].jsonl_path))
        assert.equal(1, backend:live_session_count())
      end))
    end

    it("raises when it is killed twice, and leaves no seed", helper.task(function()
      local backend <close> = place:backend({ max_sessions = 1 }, { prepare = function(fake, count)
        if count < 3 then fake.options.on_start = FAILURES["is killed"] end
      end })
      assert.equal("SIGKILL", raised("SessionError", collect, backend, with_history()).exit.signal)
      assert.equal(2, #place.fakes)
      assert.is_true(place.fakes[2].is_resumed)
      assert.equal(0, backend:live_session_count())
      for _, fake in ipairs(place.fakes) do assert.is_nil(uv.fs_stat(fake.jsonl_path)) end
      assert.equal(1, talk(backend, with_history()).num_turns)
    end))

    it("sends the history with the message when the second start shows that", helper.task(function()
      local backend <close> = place:backend({ max_sessions = 1 }, { prepare = function(fake, count)
        refuses_to_resume(fake)
        if count == 1 then fake.options.on_start = FAILURES["is killed"] end
      end })
      assert.equal("injection_fallback", collect(backend, with_history())[1].subtype)
      assert.equal(3, #place.fakes)
      assert.matches("^Previous conversation context:", taken(place.fakes[3])[1])
    end))

    it("raises when the second start fails, too", helper.task(function()
      local backend <close> = place:backend({ max_sessions = 1 }, { prepare = function(fake, count)
        if count > 2 then return end
        fake.options.on_start = function() fake:exit { exit_code = 1 } end
      end })
      raised("SessionError", collect, backend, with_history())
      assert.equal(2, #place.fakes)
      assert.equal(0, backend:live_session_count())
      assert.equal(1, talk(backend, { user "hi" }).num_turns)
    end))

    it("does not where the message went with the start, was taken, and the program failed behind that",
      helper.task(function()
        local backend <close> = place:backend({}, { prepare = function(fake)
          fake.options.on_start = function()
            fake:append_user(fake.message)
            fake:feed "  ERROR  it is undefined\r\n - a (/$bunfs/root/claude:1)\r\n - b (/$bunfs/root/claude:2)\r\n"
          end
        end }, { first_message = "argument" })
        local err = raised("SessionError", collect, backend, with_history())
        assert.same({ "crash", false }, { err.reason, err.at_start })
        assert.equal(1, #place.fakes)
        assert.is_truthy(files.size(place.fakes[1].jsonl_path)) -- it tells that the message was taken
      end))

    it("does not for a fresh session without a history", helper.task(function()
      local backend <close> = place:backend({}, { prepare = function(fake)
        fake.options.on_start = function() fake:exit { exit_code = 1 } end
      end })
      raised("SessionError", collect, backend, { user "hi" })
      assert.equal(1, #place.fakes)
    end))

    it("refuses a history that cannot be told, before anything is started", helper.task(function()
      local backend <close> = place:backend()
      local call = { type = "tool_use", id = "t", name = "Bash", input = {} }
      local err = raised("ValueError", collect, backend, { user "a", assistant { call }, user "go on" })
      assert.matches("ends with the call of a tool", err.message)
      raised("ValueError", collect, backend, { user "/exit", user "go on" }) -- would be typed in front of it
      assert.same({}, place.fakes)
      assert.equal(0, backend:live_session_count())
      assert.same({}, names_below(place.home .. "/.claude/projects"))
    end))
  end)
end)
