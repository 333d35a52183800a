--- The backend over fake processes, under the real watcher and the real turn.
local core = require "parley.core"
local errors = require "parley.errors"
local fake_process = require "parley.testing.fake_process"
local files = require "parley.files"
local helper = require "spec.helper"
local parley = require "parley"
local session = require "parley.session"
local task = require "parley.task"
local uv = require "luv"

local json = core.json

local folder, home, cwd, fakes, no_leaks
before_each(function()
  no_leaks = helper.leaks()
  folder = helper.temporary_folder()
  home, cwd, fakes = folder .. "/home", folder .. "/work", {}
  assert(files.make_folder(home .. "/.claude"))
  assert(files.make_folder(cwd))
end)
after_each(function()
  for _, fake in ipairs(fakes) do assert.is_false(fake:is_alive()) end
  helper.remove_folders()
  no_leaks()
end)

local function user(content) return { role = "user", content = content } end
local function assistant(content) return { role = "assistant", content = content } end
local function text(words) return { type = "text", text = words } end

local HISTORY = { user "My name is Beaver.", assistant "Hello, Beaver." }
local function with_history(words) return { HISTORY[1], HISTORY[2], user(words or "What is my name?") } end

--- A backend whose sessions have fake processes, which are listed in `fakes`.
---@param options? table     of parley.backend
---@param of_fakes? table    of fake_process.answering; `prepare(fake, count)` changes one before it starts
---@param of_sessions? table
local function fake_backend(options, of_fakes, of_sessions)
  local all = { cwd = cwd, extra_env = { HOME = home } }
  for name, value in pairs(options or {}) do all[name] = value end
  function all.session_factory(_, id, is_resumed, path, offset)
    local given = { session_id = id, jsonl_path = path, cwd = cwd, environment = { HOME = home },
      status_folder = home .. "/.claude" }
    for name, value in pairs(of_fakes or {}) do given[name] = value end
    local fake = fake_process.answering(given)
    fake.is_resumed, fake.start_offset = is_resumed, offset
    table.insert(fakes, fake)
    if given.prepare then given.prepare(fake, #fakes) end
    return session.new(fake, of_sessions, path, offset)
  end
  return parley.backend(all)
end

local function collect(backend, messages, request)
  local events = {}
  for event in backend:complete(messages, request) do table.insert(events, event) end
  return events
end

--- Takes a turn: its result, what the assistant said, and the messages for the next one.
local function talk(backend, messages, request)
  local events = collect(backend, messages, request)
  local going_on, said = table.move(messages, 1, #messages, 1, {}), {}
  for _, message in ipairs(parley.synthesize_turn_messages(events)) do table.insert(going_on, message) end
  for _, event in ipairs(events) do
    if event.type == "assistant" then table.insert(said, event:text()) end
  end
  return events[#events], table.concat(said, "|"), going_on
end

local function types(events)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.type end
  return table.concat(list, " ")
end

--- The error that a function raises, which must have this code.
local function raised(code, fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "nothing was raised")
  assert.is_true(errors.is(err, code), tostring(err))
  return err
end

--- What was typed and sent: what the fake took as messages.
local function taken(fake)
  local texts = {}
  for line in (files.read(fake.jsonl_path) or ""):sub(fake.start_offset + 1):gmatch "([^\n]*)\n" do
    local record = assert(json.decode(line))
    if record.type == "user" and type(record.message.content) == "string" then
      table.insert(texts, record.message.content)
    end
  end
  return texts
end

local function names_below(path)
  local names = {}
  local function walk(place)
    for _, name in ipairs(uv.fs_stat(place) and helper.names_in(place) or {}) do
      if uv.fs_stat(place .. "/" .. name).type == "directory" then
        walk(place .. "/" .. name)
      else
        table.insert(names, name)
      end
    end
  end
  walk(path)
  return names
end

describe("complete", function()
  describe("1. refuses, and starts nothing:", function()
    local CASES = {
      { "no messages", {}, "empty" },
      { "no list", "hi", "must be a list" },
      { "an assistant's last message", { user "a", assistant "b" }, "must be the user's", 2 },
      { "an unknown role", { { role = "system", content = "x" }, user "a" }, "system", 1 },
      { "a missing content", { user "a", assistant "b", { role = "user" } }, "no content", 3 },
      { "a malformed block", { user { { type = "text" } } }, "'text' must be a string", 1 },
      { "an image to be typed", { user { text "see", { type = "image" } } }, "type 'image', which cannot be typed", 1 },
      { "a tool result to be typed", { user "a", assistant "b", user { { type = "tool_result", tool_use_id = "t" } } },
        "type 'tool_result'", 3 },
      { "nothing but white space", { user " \n" }, "nothing in it", 1 },
      { "a key", { user "a", assistant "b", user "\27[201~" }, "U%+001B", 3 },
      { "a command", { user "/exit" }, "command", 1 },
      { "bytes that are no text", { user "\xff" }, "UTF%-8", 1 },
    }
    for _, case in ipairs(CASES) do
      it(case[1], helper.task(function()
        local backend <close> = fake_backend()
        local err = raised("ValueError", backend.complete, backend, case[2])
        assert.matches(case[3], err.message)
        assert.equal(case[4], err.index)
        if case[4] then assert.matches(("messages[%d]"):format(case[4]), err.message, 1, true) end
        assert.same({}, fakes)
      end))
    end

    it("a request that is no table", helper.task(function()
      local backend <close> = fake_backend()
      raised("ValueError", backend.complete, backend, { user "hi" }, "tag")
    end))

    it("anything once it is closed", helper.task(function()
      local backend = fake_backend()
      backend:close()
      raised("ClosedError", backend.complete, backend, { user "hi" })
      backend:close()
      assert.same({}, fakes)
    end))

    it("a factory that makes no session", helper.task(function()
      local backend <close> = parley.backend { cwd = cwd, session_factory = function() return 5 end }
      local err = raised("ValueError", collect, backend, { user "hi" })
      assert.matches("session_factory must return a session, not a number", err.message)
    end))
  end)

  describe("2. of one message", function()
    it("types it once into a fresh session and reports the turn", helper.task(function()
      local backend <close> = fake_backend()
      local events = collect(backend, { user "say hi" })
      assert.equal("user assistant result", types(events))
      assert.equal("echo: say hi", events[2]:text())
      local result = events[3]
      assert.equal("success", result.subtype)
      assert.equal("end_turn", result.stop_reason)
      assert.equal(fakes[1].session_id, result.session_id)
      assert.equal(1, result.num_turns)
      assert.equal(1, #fakes)
      assert.is_false(fakes[1].is_resumed)
      assert.equal(0, fakes[1].start_offset)
      assert.same({ "say hi" }, taken(fakes[1]))
      assert.equal(1, select(2, fakes[1]:written():gsub("say hi", "")))
    end))

    it("sends the text blocks of a message, a line each", helper.task(function()
      local backend <close> = fake_backend()
      talk(backend, { user { text "a", text "b" } })
      assert.same({ "a\nb" }, taken(fakes[1]))
    end))

    it("starts nothing before the first event is asked for", helper.task(function()
      local backend <close> = fake_backend()
      local step, _, _, handle = backend:complete { user "hi" }
      assert.same({}, fakes)
      getmetatable(handle).__close(handle)
      assert.is_nil(step())
      assert.same({}, fakes)
    end))
  end)

  it("3. live_sessions shows a session while its turn runs, idle, and not after close", helper.task(function()
    local backend <close> = fake_backend()
    assert.same({}, backend:live_sessions())
    for event in backend:complete { user "hi" } do
      if event.type == "user" then
        assert.same({ [fakes[1].session_id] = fakes[1] }, backend:live_sessions())
        assert.equal(1, backend:live_session_count())
      end
    end
    assert.same({ [fakes[1].session_id] = fakes[1] }, backend:live_sessions())
    assert.same({ [fakes[1].session_id] = "ready" }, backend:session_states())
    backend:close()
    assert.same({}, backend:live_sessions())
    assert.equal(0, backend:live_session_count())
  end))

  describe("4. of a conversation that goes on", function()
    local CYCLE = {
      { type = "thinking", thinking = "hm", signature = "c2ln" }, text "let me",
      { type = "tool_use", id = "toolu_1", name = "Bash", input = { command = "ls", description = "d" } },
    }

    --- A fake that uses a tool in its first turn.
    local function with_tool(message, fake)
      if message ~= "list it" then return "echo: " .. message end
      fake:append_assistant(CYCLE, "tool_use")
      fake.transcript:tool_result(CYCLE[3], "a.lua", false, core.uuid.generate())
      return { { type = "thinking", thinking = "so", signature = "c2ln" }, text "one", text "file" }
    end

    it("types the new text only, into the same session", helper.task(function()
      local backend <close> = fake_backend()
      local _, _, messages = talk(backend, { user "one" })
      table.insert(messages, user "two")
      local result, said = talk(backend, messages)
      assert.equal("echo: two", said)
      assert.equal(2, result.num_turns)
      assert.equal(1, #fakes)
      assert.same({ "one", "two" }, taken(fakes[1]))
      assert.equal(1, backend:live_session_count())
    end))

    local prompt, call, results = user "list it", CYCLE[3], { type = "tool_result", tool_use_id = "toolu_1" }
    local function result_of(fields)
      local block = {}
      for name, value in pairs(results) do block[name] = value end
      for name, value in pairs(fields) do block[name] = value end
      return block
    end
    local function copied(value) return (json.decode(assert(json.encode(value)))) end
    for what, history in pairs {
      ["what the events said, block by block"] = { prompt, assistant { CYCLE[1], CYCLE[2], call },
        user { result_of { content = "a.lua", is_error = false } },
        assistant { { type = "thinking", thinking = "so", signature = "c2ln" }, text "one", text "file" } },
      ["no thinking, is_error absent"] = { user { text "list it" }, assistant { CYCLE[2], call },
        user { result_of { content = { text "a.lua" } } }, assistant { text "one", text "file" } },
      ["split messages, is_error null, keys in another order"] = { prompt, assistant "let me",
        assistant { copied(call) },
        user { result_of { content = "a.lua", is_error = json.null } }, assistant "one", assistant "file" },
      ["cache_control on everything"] = {
        user { { type = "text", text = "list it", cache_control = { type = "ephemeral" } } },
        assistant { CYCLE[2], call }, user { result_of { content = "a.lua", cache_control = { type = "ephemeral" } } },
        assistant { text "one", { type = "text", text = "file", cache_control = { type = "ephemeral" } } } },
      ["the final text, as one"] = { prompt, assistant "onefile" },
      ["the final text, a line a block"] = { prompt, assistant "one\nfile" },
    } do
      it("finds the session of a client that keeps " .. what, helper.task(function()
        local backend <close> = fake_backend({}, { reply = with_tool })
        talk(backend, { prompt })
        local messages = table.move(history, 1, #history, 1, {})
        table.insert(messages, user "go on")
        assert.equal(2, talk(backend, messages).num_turns)
        assert.equal(1, #fakes)
      end))
    end

    for what, answer in pairs {
      ["another answer"] = { assistant "two files" },
      ["another tool result"] = { assistant { CYCLE[2], call }, user { result_of { content = "b" } },
        assistant { text "one", text "file" } },
    } do
      it("does not take it for one with " .. what, helper.task(function()
        local backend <close> = fake_backend({}, { reply = with_tool })
        talk(backend, { prompt })
        local messages = table.move(answer, 1, #answer, 2, { prompt })
        table.insert(messages, user "go on")
        assert.equal(1, talk(backend, messages).num_turns)
        assert.equal(2, #fakes)
      end))
    end

    it("does not mind what the caller does to its own list meanwhile", helper.task(function()
      local backend <close> = fake_backend()
      local messages = { user "one" }
      for event in backend:complete(messages) do
        if event.type == "assistant" then table.insert(messages, assistant(event.content)) end
      end
      table.insert(messages, user "two")
      assert.equal(2, talk(backend, messages).num_turns)
    end))

    it("keeps a session whose turn had no output", helper.task(function()
      local backend <close> = fake_backend({}, { reply = function(message)
        return message == "hush" and {} or "loud"
      end })
      local result, _, messages = talk(backend, { user "hush" })
      assert.equal("error_no_output", result.subtype)
      table.insert(messages, user "now")
      assert.equal(2, talk(backend, messages).num_turns)
    end, 10000))
  end)

  describe("5. of an unknown history", function()
    it("writes it as a transcript, resumes, and reports nothing of it", helper.task(function()
      local backend <close> = fake_backend()
      local events = collect(backend, with_history())
      assert.equal("user assistant result", types(events))
      assert.equal("What is my name?", events[1]:text())
      assert.equal(1, events[3].num_turns)
      local fake = fakes[1]
      assert.is_true(fake.is_resumed)
      local path = parley.resolve_jsonl_path(fake.session_id, cwd, { HOME = home })
      assert.equal(path, fake.jsonl_path)
      local seed = files.read(path):sub(1, fake.start_offset)
      local kinds = {}
      for line in seed:gmatch "([^\n]*)\n" do table.insert(kinds, (json.decode(line)).type) end
      assert.same({ "permission-mode", "file-history-snapshot", "user", "assistant" }, kinds)
      assert.equal("bypassPermissions", json.decode(seed:match "[^\n]*").permissionMode)
      assert.same({ "What is my name?" }, taken(fake))
      assert.equal(tonumber("600", 8), uv.fs_stat(path).mode & 511)
    end))

    it("goes on in the same session afterwards", helper.task(function()
      local backend <close> = fake_backend()
      local _, _, messages = talk(backend, with_history())
      table.insert(messages, user "And mine?")
      assert.equal(2, talk(backend, messages).num_turns)
      assert.equal(1, #fakes)
    end))

    it("raises and leaves nothing when the seed cannot be written", helper.task(function()
      local backend <close> = fake_backend()
      helper.write(home .. "/.claude/projects", "in the way")
      local ok, err = pcall(collect, backend, with_history())
      assert.is_false(ok)
      assert.is_true(errors.is(err))
      assert.same({}, fakes)
      assert.equal(0, backend:live_session_count())
      assert(uv.fs_unlink(home .. "/.claude/projects"))
      assert.equal(1, talk(backend, with_history()).num_turns)
    end))

    it("leaves no seed of a session that was never made, or did not start", helper.task(function()
      local backend <close> = parley.backend { cwd = cwd, extra_env = { HOME = home },
        executable = folder .. "/no-such-program" }
      local err = raised("CLINotFoundError", collect, backend, with_history())
      assert.equal(folder .. "/no-such-program", err.executable)
      assert.same({}, names_below(home .. "/.claude/projects"))
      local other <close> = parley.backend { cwd = cwd, extra_env = { HOME = home },
        session_factory = function() error("no", 0) end }
      assert.equal("no", select(2, pcall(collect, other, with_history())))
      assert.same({}, names_below(home .. "/.claude/projects"))
    end))
  end)

  it("6. with concat_message puts the history into the first message and writes nothing", helper.task(function()
    local backend <close> = fake_backend { history_injection_mode = "concat_message" }
    local _, _, messages = talk(backend, with_history())
    assert.same({ "Previous conversation context:\n[User]: My name is Beaver.\n[Assistant]: Hello, Beaver.\n"
      .. "Continue from here. New user message: What is my name?" }, taken(fakes[1]))
    assert.is_false(fakes[1].is_resumed)
    assert.equal(0, fakes[1].start_offset)
    table.insert(messages, user "And mine?")
    assert.equal(2, talk(backend, messages).num_turns)
    assert.same("And mine?", taken(fakes[1])[2])
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
      local backend <close> = fake_backend({ max_sessions = 1 }, { prepare = refuses_to_resume })
      local events = collect(backend, with_history())
      assert.equal("system user assistant result", types(events))
      assert.equal("injection_fallback", events[1].subtype)
      assert.equal(fakes[2].session_id, events[1].session_id)
      assert.is_true(errors.is(events[1].cause, "SessionError"))
      assert.matches("^Previous conversation context:", taken(fakes[2])[1])
      assert.equal(2, #fakes)
      assert.is_nil(uv.fs_stat(fakes[1].jsonl_path))
      assert.equal(1, backend:live_session_count())
      local messages = { HISTORY[1], HISTORY[2], user "What is my name?", assistant(events[3].content), user "More?" }
      assert.equal(2, talk(backend, messages).num_turns)
    end))

    it("raises when the second start fails, too", helper.task(function()
      local backend <close> = fake_backend({ max_sessions = 1 }, { prepare = function(fake, count)
        if count > 2 then return end
        fake.options.on_start = function() fake:exit { exit_code = 1 } end
      end })
      raised("SessionError", collect, backend, with_history())
      assert.equal(2, #fakes)
      assert.equal(0, backend:live_session_count())
      assert.equal(1, talk(backend, { user "hi" }).num_turns)
    end))

    it("does not for a fresh session without a history", helper.task(function()
      local backend <close> = fake_backend({}, { prepare = function(fake)
        fake.options.on_start = function() fake:exit { exit_code = 1 } end
      end })
      raised("SessionError", collect, backend, { user "hi" })
      assert.equal(1, #fakes)
    end))

    it("refuses a history that cannot be told, before anything is started", helper.task(function()
      local backend <close> = fake_backend()
      local call = { type = "tool_use", id = "t", name = "Bash", input = {} }
      local err = raised("ValueError", collect, backend, { user "a", assistant { call }, user "go on" })
      assert.matches("ends with the call of a tool", err.message)
      raised("ValueError", collect, backend, { user "/exit", user "go on" }) -- would be typed in front of it
      assert.same({}, fakes)
      assert.equal(0, backend:live_session_count())
      assert.same({}, names_below(home .. "/.claude/projects"))
    end))
  end)

  describe("8. a turn that raises", function()
    it("ends its session and stores nothing", helper.task(function()
      local backend <close> = fake_backend({}, { reply = function(message, fake)
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
      local backend <close> = fake_backend({}, { delay_ms = 60000 }, { turn_timeout_ms = 50 })
      local err = raised("SessionError", collect, backend, { user "slow" })
      assert.equal("timeout", err.reason)
      assert.equal(0, backend:live_session_count())
      assert.is_false(fakes[1]:is_alive())
    end))

    it("by an error in the loop's body ends its process, too", helper.task(function()
      local backend <close> = fake_backend({}, { delay_ms = 60000 })
      local ok, err = pcall(function()
        for _ in backend:complete { user "slow" } do error("mine", 0) end
      end)
      assert.is_false(ok)
      assert.equal("mine", err)
      assert.equal(0, backend:live_session_count())
    end))

    it("ends after its result: the iterator gives nothing more", helper.task(function()
      local backend <close> = fake_backend({}, { delay_ms = 60000 }, { turn_timeout_ms = 50 })
      local step = backend:complete { user "slow" }
      assert.equal("user", step().type)
      raised("SessionError", step)
      assert.is_nil(step())
    end))
  end)

  describe("9. cancelled while", function()
    --- A phase: how a fake is made to stay in it, and how it is known.
    local PHASES = {
      ["it waits for a place"] = { max_sessions = 1, waits = true, is_there = function() return true end },
      ["its program starts"] = {
        prepare = function(fake) fake.options.on_start = nil end,
        is_there = function() return fakes[1] and fakes[1]:pid() end,
      },
      ["its message is typed"] = {
        prepare = function(fake) fake.options.on_write = function() end end,
        is_there = function() return fakes[1] and #fakes[1].writes > 0 end,
      },
      ["its turn runs"] = {
        prepare = function(fake) fake.options.delay_ms = 60000 end,
        is_there = function() return fakes[1] and #taken(fakes[1]) > 0 end,
      },
    }
    local function next_call_works(backend, count)
      for _, fake in ipairs(fakes) do assert.is_false(fake:is_alive()) end
      assert.equal(0, backend:live_session_count())
      assert.equal(1, talk(backend, { user "next" }).num_turns)
      assert.equal(count + 1, #fakes)
    end

    for what, phase in pairs(PHASES) do
      --- The turn in this phase, as a task, with the one before it that has the place.
      local function begin(fn)
        local backend = fake_backend({ max_sessions = phase.max_sessions }, { prepare = function(fake, count)
          if phase.waits and count == 1 then fake.options.delay_ms = 60000 end
          if phase.prepare and count == 1 then phase.prepare(fake) end
        end })
        local holder
        if phase.waits then
          holder = task.spawn(pcall, collect, backend, { user "first" })
          helper.eventually(function() return fakes[1] and #taken(fakes[1]) > 0 end)
        end
        local running = task.spawn(pcall, fn or collect, backend, { user "mine" })
        helper.eventually(phase.is_there)
        helper.tick()
        return backend, running, holder
      end
      local function after(backend, holder)
        if holder then
          assert.is_true(fakes[1]:is_alive())
          holder:cancel()
          holder:await()
        end
        next_call_works(backend, #fakes)
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
        for _, fake in ipairs(fakes) do assert.is_false(fake:is_alive()) end
      end))
    end

    it("its consumer sees Cancelled", helper.task(function()
      local backend <close> = fake_backend({}, { delay_ms = 60000 })
      local seen
      local running = task.spawn(function()
        local ok, err = pcall(collect, backend, { user "mine" })
        seen = not ok and err
        error(err, 0)
      end)
      helper.eventually(function() return fakes[1] and #taken(fakes[1]) > 0 end)
      running:cancel()
      raised("Cancelled", running.await, running)
      assert.is_true(errors.is(seen, "Cancelled"))
    end))

    for _, kind in ipairs { "user", "assistant" } do
      it("its loop is left after the first event of type " .. kind, helper.task(function()
        local backend <close> = fake_backend({}, { prepare = function(fake, count)
          if count == 1 and kind == "user" then fake.options.delay_ms = 60000 end
        end })
        for event in backend:complete { user "mine" } do
          if event.type == kind then break end
        end
        next_call_works(backend, 1)
      end))
    end

    it("its loop is left after the result: the session stays", helper.task(function()
      local backend <close> = fake_backend()
      local answer
      for event in backend:complete { user "one" } do
        answer = event.type == "assistant" and event.content or answer
        if event.type == "result" then break end
      end
      assert.equal(2, talk(backend, { user "one", assistant(answer), user "two" }).num_turns)
    end))

    it("its loop closes the backend", helper.task(function()
      local backend = fake_backend({}, { delay_ms = 60000 })
      raised("Cancelled", function()
        for _ in backend:complete { user "mine" } do backend:close() end
      end)
      assert.equal(0, backend:live_session_count())
    end))
  end)

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
      helper.eventually(function() return #fakes == count and #taken(fakes[count]) > 0 end)
    end

    it("runs them at the same time", helper.task(function()
      local backend <close> = fake_backend({}, { prepare = held })
      local turns = {}
      for i = 1, 3 do turns[i] = task.spawn(talk, backend, { user("conversation " .. i) }) end
      all_run(3)
      assert.equal(3, backend:live_session_count())
      for i = 3, 1, -1 do
        fakes[i].answer()
        assert.equal("now", select(2, turns[i]:await()))
      end
    end))

    it("gives two calls with one history a session each", helper.task(function()
      local backend <close> = fake_backend()
      local _, _, messages = talk(backend, { user "one" })
      table.insert(messages, user "two")
      local first, second = task.spawn(talk, backend, messages), task.spawn(talk, backend, messages)
      local numbers = { first:await().num_turns, second:await().num_turns }
      table.sort(numbers)
      assert.same({ 1, 2 }, numbers)
      assert.equal(2, #fakes)
      local _, _, longer = talk(backend, messages) -- both wait under the history before: none is left for it
      assert.equal(4, #longer)
      assert.equal(3, #fakes)
    end))

    it("keeps several sessions under one fingerprint", helper.task(function()
      local backend <close> = fake_backend({}, { reply = function() return "same" end })
      local first, second = task.spawn(talk, backend, { user "one" }), task.spawn(talk, backend, { user "one" })
      local _, _, messages = first:await()
      second:await()
      table.insert(messages, user "two")
      local third, fourth = task.spawn(talk, backend, messages), task.spawn(talk, backend, messages)
      assert.equal(2, third:await().num_turns)
      assert.equal(2, fourth:await().num_turns)
      assert.equal(2, #fakes)
    end))

    it("ends the idle session least recently used beyond max_sessions", helper.task(function()
      local backend <close> = fake_backend { max_sessions = 2 }
      local _, _, first = talk(backend, { user "first" })
      local _, _, second = talk(backend, { user "second" })
      table.insert(first, user "more")
      _, _, first = talk(backend, first)
      talk(backend, { user "third" })
      assert.equal(3, #fakes)
      assert.is_true(fakes[1]:is_alive())
      assert.is_false(fakes[2]:is_alive())
      assert.equal(2, backend:live_session_count())
      table.insert(first, user "and more")
      assert.equal(3, talk(backend, first).num_turns)
      table.insert(second, user "more")
      assert.equal(1, talk(backend, second).num_turns) -- from a seed
      assert.is_true(fakes[4].is_resumed)
    end))

    it("waits its turn, first come first served", helper.task(function()
      local backend <close> = fake_backend({ max_sessions = 1 }, { prepare = held })
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
        fakes[i].answer()
      end
      for i = 1, 4 do pcall(turns[i].await, turns[i]) end
      assert.same({ 1, 3, 4 }, order)
      assert.same({ "turn 3" }, taken(fakes[2]))
    end))

    it("lets a conversation that goes on wait behind those who came first", helper.task(function()
      local backend <close> = fake_backend({ max_sessions = 1 }, { prepare = function(fake, count)
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
      fakes[1].answer()
      mine:await()
      other:await()
      assert.same({ "mine 1", "other", "mine 2", "mine 3" }, order)
    end))

    it("ends quiet sessions after idle_timeout_ms", helper.task(function()
      local backend <close> = fake_backend { idle_timeout_ms = 30 }
      local _, _, messages = talk(backend, { user "one" })
      helper.eventually(function() return not fakes[1]:is_alive() end)
      assert.equal(0, backend:live_session_count())
      table.insert(messages, user "two")
      assert.equal(1, talk(backend, messages).num_turns)
    end))

    it("never leases an idle session whose process has died", helper.task(function()
      local backend <close> = fake_backend { max_sessions = 1 }
      local _, _, messages = talk(backend, { user "one" })
      fakes[1]:exit { signal = "SIGKILL" }
      assert.same({}, backend:live_sessions())
      table.insert(messages, user "two")
      assert.equal(1, talk(backend, messages).num_turns)
      assert.is_true(fakes[2].is_resumed)
    end))

    it("starts anew when the idle session is found dead before anything was sent", helper.task(function()
      local backend <close> = fake_backend { max_sessions = 1 }
      local _, _, messages = talk(backend, { user "one" })
      fakes[1].options.on_write = function(fake) fake:exit { signal = "SIGKILL" } end -- its death was not noticed yet
      table.insert(messages, user "two")
      local events = collect(backend, messages)
      assert.equal("user assistant result", types(events))
      assert.equal(1, events[3].num_turns)
      assert.equal(2, #fakes)
      assert.equal(1, backend:live_session_count())
    end))

    it("does not start anew once Enter was pressed", helper.task(function()
      local backend <close> = fake_backend()
      local _, _, messages = talk(backend, { user "one" })
      local on_write = fakes[1].options.on_write
      fakes[1].options.on_write = function(fake, bytes)
        if bytes == "\r" then return fake:exit { signal = "SIGKILL" } end
        on_write(fake, bytes)
      end
      table.insert(messages, user "two")
      raised("SessionError", collect, backend, messages)
      assert.equal(1, #fakes)
    end))
  end)
end)

describe("11. mcp_servers", function()
  local SERVERS = { files = { command = "mcp-files", args = json.array {} } }

  it("becomes a private file on first use, the same on later calls, removed by close", helper.task(function()
    local backend = parley.backend { cwd = cwd, mcp_servers = SERVERS }
    local list = backend:mcp_config_argument()
    assert.equal(1, #list)
    assert.equal('{"mcpServers":{"files":{"args":[],"command":"mcp-files"}}}', files.read(list[1]))
    assert.equal(tonumber("600", 8), uv.fs_stat(list[1]).mode & 511)
    assert.equal(tonumber("700", 8), uv.fs_stat(list[1]:match "^(.*)/").mode & 511)
    assert.same(list, backend:mcp_config_argument())
    backend:close()
    assert.is_nil(uv.fs_stat(list[1]:match "^(.*)/"))
    raised("ClosedError", backend.mcp_config_argument, backend)
  end))

  it("stands behind the files of mcp_config", helper.task(function()
    local backend <close> = parley.backend { cwd = cwd, mcp_servers = SERVERS, mcp_config = "/a.json" }
    local list = backend:mcp_config_argument()
    assert.equal("/a.json", list[1])
    assert.equal(2, #list)
  end))

  it("is nothing without either", helper.task(function()
    local backend <close> = parley.backend { cwd = cwd }
    assert.same({}, backend:mcp_config_argument())
  end))

  it("is refused when JSON cannot hold it, and nothing is started", helper.task(function()
    local backend <close> = parley.backend { cwd = cwd, executable = "/none", mcp_servers = { a = { print } } }
    local err = raised("ValueError", collect, backend, { user "hi" })
    assert.matches("mcp_servers cannot be written as JSON", err.message)
    assert.equal("mcp_servers", err.option)
  end))

  it("is written once by two calls at once, though the policy waits", helper.task(function()
    local written, removed = 0, {}
    local backend = parley.backend { cwd = cwd, mcp_servers = SERVERS, policies = { mcp_config = {
      write = function()
        written = written + 1
        helper.tick()
        return "/written"
      end,
      remove = function(path) table.insert(removed, path) end,
    } } }
    local first = task.spawn(backend.mcp_config_argument, backend)
    local second = task.spawn(backend.mcp_config_argument, backend)
    assert.same({ "/written" }, first:await())
    assert.same({ "/written" }, second:await())
    assert.equal(1, written)
    backend:close()
    assert.same({ "/written" }, removed)
  end))

  for what, chunk in pairs {
    ["ends without closing it"] = "",
    ["ends with an error"] = "error 'oops'",
    ["is ended by a signal"] = "require('luv').kill(require('luv').os_getpid(), 'sigterm') parley.task.sleep(60000)",
  } do
    it("leaves nothing when the host " .. what, helper.task(function()
      assert(files.make_folder(folder .. "/tmp"))
      local program = helper.run({ helper.host, "-e", ([[
        parley = require "parley"
        backend = parley.backend { mcp_servers = { a = { command = "x" } } }
        io.stdout:write(backend:mcp_config_argument()[1])
        io.stdout:flush()
        %s]]):format(chunk) }, { env = { "TMPDIR=" .. folder .. "/tmp", "HOME=" .. home } })
      assert.matches("/tmp/parley%-mcp", program.output)
      assert.same({}, helper.names_in(folder .. "/tmp"))
    end))
  end
end)

describe("12. policies", function()
  local function policy_file(body) return helper.write(folder .. "/mine.lua", body) end

  it("are replaced by tables", helper.task(function()
    local seen
    local backend <close> = fake_backend { policies = { injection = { prepare = function(request)
      seen = request
      return { text = "in my words: " .. request.text }
    end } } }
    talk(backend, with_history())
    assert.same({ "in my words: What is my name?" }, taken(fakes[1]))
    assert.same(HISTORY, seen.history)
    assert.equal(fakes[1].session_id, seen.session_id)
    assert.equal(fakes[1].jsonl_path, seen.jsonl_path)
    assert.equal(cwd, seen.cwd)
  end))

  it("are replaced by files", helper.task(function()
    local path = policy_file [[return { prepare = function(request) return { text = "mine: " .. request.text } end }]]
    local backend <close> = fake_backend { policies = { injection = path } }
    talk(backend, with_history "x")
    assert.same({ "mine: x" }, taken(fakes[1]))
  end))

  it("are looked at when the backend is made, those of its sessions too", helper.task(function()
    local seen = {}
    local backend <close> = fake_backend { policies = { delivery = { prepare = function(words)
      table.insert(seen, words)
      return nil, "not today"
    end } } }
    assert.matches("messages%[1%] cannot be sent: not today",
      raised("ValueError", backend.complete, backend, { user "hi" }).message)
    assert.same({ "hi" }, seen)
  end))

  it("leave the caller's tables as they were", helper.task(function()
    local own = { prepare = function(words) return words end }
    local backend <close> = fake_backend { policies = { delivery = own } }
    backend:complete { user "hi" }
    assert.is_nil(getmetatable(own))
    assert.is_nil(own.described)
  end))

  describe("that are wrong are one clear error:", function()
    local function refused(policies)
      local err = raised("ValueError", parley.backend, { cwd = cwd, policies = policies })
      assert.is_nil(err.message:find "\n")
      return err.message
    end

    it("a file that is not there", function()
      assert.matches("the policy 'routing' %(/no/such.lua%) cannot be loaded: .*/no/such.lua",
        refused { routing = "/no/such.lua" })
    end)

    it("a file that is no Lua", function()
      local path = policy_file "return {"
      assert.matches("the policy 'routing' (" .. path .. ") cannot be loaded", refused { routing = path }, 1, true)
    end)

    it("a file that raises", function()
      local path = policy_file "error 'oops'"
      assert.matches("the policy 'injection' (" .. path .. ") fails when it is loaded", refused { injection = path }, 1,
        true)
    end)

    it("a file that returns something else", function()
      assert.matches("must be a table of functions, not a number", refused { mcp_config = policy_file "return 5" })
      assert.matches("must be a table of functions, not a nil", refused { mcp_config = policy_file "" })
    end)

    it("a function that is none", function()
      assert.matches("the policy 'routing': 'route' must be a function, not a string",
        refused { routing = { route = "x" } })
    end)

    it("a table without any of the functions", function()
      assert.matches("the policy 'routing' has none of the functions of such a policy: 'keys', 'route'",
        refused { routing = { rout = print } })
      assert.matches("'state'", refused { readiness = {} })
    end)

    it("a policy that there is not", function()
      assert.matches("there is no policy 'weather': it must be one of routing, injection", refused { weather = {} })
    end)

    local function fails(policies, pattern)
      local backend <close> = fake_backend { policies = policies }
      local err = raised("ValueError", collect, backend, with_history())
      assert.matches(pattern, err.message)
      assert.equal(0, backend:live_session_count())
      return err
    end

    it("one that raises when it is called", helper.task(function()
      local function oops() error "oops" end
      assert.matches("oops", fails({ routing = { route = oops } }, "the policy 'routing' fails in 'route': .*oops").cause)
      fails({ routing = { keys = function() return {} .. "x" end } }, "the policy 'routing' fails in 'keys'")
      fails({ injection = { prepare = oops } }, "the policy 'injection' fails in 'prepare': .*oops")
      fails({ injection = policy_file "return { prepare = function() error 'oops' end }" },
        "the policy 'injection' %(.*/mine.lua%) fails in 'prepare'")
    end))

    it("one that returns the wrong shape", helper.task(function()
      fails({ routing = { route = function() return "key" end } }, "the policy 'routing' must return {key = string")
      fails({ routing = { route = function() return { key = 5 } end } }, "must return {key = string")
      fails({ routing = { keys = function() return "key" end } }, "the policy 'routing' must return a list of strings")
      fails({ routing = { keys = function() return { 5 } end } }, "the policy 'routing' must return a list of strings")
      fails({ injection = { prepare = function() return "text" end } }, "the policy 'injection' must return {text = ")
      fails({ injection = { prepare = function() return {} end } }, "the policy 'injection' must return {text = ")
      local backend <close> = parley.backend { cwd = cwd, mcp_servers = {},
        policies = { mcp_config = { write = function() end } } }
      assert.matches("the policy 'mcp_config' must return a path from 'write'",
        raised("ValueError", backend.mcp_config_argument, backend).message)
    end))

    it("one that sets options wrongly", helper.task(function()
      local function sets(options) return { routing = { route = function() return { options = options } end } } end
      fails(sets { modle = "x" }, "the options from the policy 'routing' has no option 'modle'.*model")
      fails(sets { model = 5 }, "option 'model' must be a value of type string")
      fails(sets { max_sessions = 3 }, "has no option 'max_sessions'")
      fails(sets { policies = {} }, "has no option 'policies'")
      fails(sets { session_id = "x" }, "has no option 'session_id'")
      fails(sets { permission_mode = "plan", dangerously_skip_permissions = true }, "not both")
    end))
  end)

  it("of routing get the request, with what the caller adds", helper.task(function()
    local seen
    local backend <close> = fake_backend { policies = { routing = { route = function(request)
      seen = request
      return {}
    end } } }
    local messages = with_history()
    talk(backend, messages, { tag = "blue", id = 7, messages = "not these" })
    assert.equal("blue", seen.tag)
    assert.equal(7, seen.id)
    assert.same(messages, seen.messages)
    assert.same(HISTORY, seen.history)
    assert.same(messages[3], seen.last)
  end))

  it("of routing choose by a tag, and may store under several keys", helper.task(function()
    local backend <close> = fake_backend { policies = { routing = {
      route = function(request) return { key = request.tag } end,
      keys = function(_, answer) return { "blue", "green", "after " .. answer.result.subtype } end,
    } } }
    local function turns(tag) return talk(backend, { user "hi" }, { tag = tag }).num_turns end
    assert.equal(1, turns "blue")
    assert.equal(2, turns "green")
    assert.equal(3, turns "after success")
    assert.equal(1, turns "red")
    assert.equal(1, turns(nil))
  end))

  it("of routing may refuse", helper.task(function()
    local backend <close> = fake_backend { policies = { routing = { route = function() return nil, "too late" end } } }
    assert.matches("the policy 'routing' refuses the request: too late",
      raised("ValueError", backend.complete, backend, { user "hi" }).message)
    assert.same({}, fakes)
  end))

  it("of routing may wait", helper.task(function()
    local backend <close> = fake_backend { policies = { routing = {
      route = function()
        helper.tick()
        return { key = "x" }
      end,
      keys = function()
        helper.tick()
        return { "x" }
      end,
    } } }
    talk(backend, { user "hi" })
    assert.equal(2, talk(backend, { user "hi" }).num_turns)
  end))

  it("never mix up sessions of different options", helper.task(function()
    local backend <close> = fake_backend { policies = { routing = {
      route = function(request) return { key = "same", options = request.model and { model = request.model } } end,
      keys = function() return { "same" } end,
    } } }
    local function turns(model) return talk(backend, { user "hi" }, { model = model }).num_turns end
    assert.equal(1, turns "opus")
    assert.equal(1, turns "haiku")
    assert.equal(1, turns(nil))
    assert.equal(2, turns "opus")
    assert.equal(2, turns(nil))
  end))

  it("of a message that cannot be sent with their options are refused", helper.task(function()
    local backend <close> = fake_backend { policies = { routing = {
      route = function() return { options = { mentions = "refuse" } } end } } }
    local err = raised("ValueError", backend.complete, backend, { user "see @/etc/passwd" })
    assert.matches("mentions a file", err.message)
  end))

  it("that fail after the turn lose no session and no place", helper.task(function()
    local is_bad = true
    local backend <close> = fake_backend { max_sessions = 1, policies = { routing = { keys = function()
      return is_bad and 5 or {}
    end } } }
    raised("ValueError", collect, backend, { user "hi" })
    assert.equal(0, backend:live_session_count())
    is_bad = false
    assert.equal(1, talk(backend, { user "hi" }).num_turns)
  end))
end)

describe("13. what is public", function()
  it("makes the same key from events as the backend stores", helper.task(function()
    local stored
    local routing = require "parley.policy.routing"
    local backend <close> = fake_backend { policies = { routing = { keys = function(request, answer)
      stored = routing.keys(request, answer)
      return stored
    end } } }
    local events = collect(backend, { user "hi" })
    local messages = parley.synthesize_turn_messages(events)
    table.insert(messages, 1, user "hi")
    assert.equal(stored[1], parley.hash_history(messages))
  end))
end)

describe("a turn's handle", function()
  it("interrupts the turn and keeps the session for the next", helper.task(function()
    local backend <close> = fake_backend({}, { delay_ms = 60000 })
    local step, _, _, handle = backend:complete { user "slow" }
    local closer <close> = handle -- luacheck: ignore 211
    assert.is_false(handle.interrupt())
    assert.equal("user", step().type)
    assert.is_true(handle.interrupt())
    assert.matches("\27", fakes[1]:written())
  end))
end)

describe("prepare", function()
  it("starts a session that complete finds ready", helper.task(function()
    local backend <close> = fake_backend()
    assert.is_true(backend:prepare(HISTORY))
    assert.equal(1, backend:live_session_count())
    assert.equal(1, talk(backend, with_history()).num_turns)
    assert.equal(1, #fakes)
    assert.is_true(backend:prepare {})
    assert.equal(1, talk(backend, { user "hi" }).num_turns)
    assert.equal(2, #fakes)
  end))

  it("keeps nothing when the history would go with the message, or the start fails", helper.task(function()
    local backend <close> = fake_backend { history_injection_mode = "concat_message" }
    assert.is_false(backend:prepare(HISTORY))
    assert.equal(0, backend:live_session_count())
    local other <close> = fake_backend({ max_sessions = 1 }, { prepare = function(fake)
      fake.options.on_start = function() fake:exit() end
    end })
    for _ = 1, 2 do raised("SessionError", other.prepare, other, {}) end
    raised("ValueError", other.prepare, other, "hi")
  end))
end)
