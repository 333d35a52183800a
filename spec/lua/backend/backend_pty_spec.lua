--- The backend over the stand-in on a real pty: what the specs over fake processes cannot show.
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local fake_backends = require "spec.fake_backends"
local files = require "parley.base.files"
local helper = require "spec.helper"
local kernel = require "parley.claude.kernel"
local parley = require "parley"
local task = require "parley.base.task"
local testing = require "parley.testing"
local transcript_of = require "parley.claude.transcript"
local uv = require "luv"

local user, assistant, with_history = fake_backends.user, fake_backends.assistant, fake_backends.with_history
local collect, raised = fake_backends.collect, helper.failure_of
local talk, types = fake_backends.talk, fake_backends.types

local no_leaks
before_each(function() no_leaks = helper.leaks() end)
after_each(function() no_leaks() end)

--- An `it` with a kit and a backend on it, once a profile: one on a real pty, one in a world; or both on a real
--- one, where a process is killed.
local function on_pty(name, given, body)
  local makes = { ["2.1.330"] = testing.kit, ["2.1.197"] = given.is_killed and testing.kit or testing.world }
  for profile, make in pairs(makes) do
    it(("%s (%s)"):format(name, profile), helper.task(function()
      local kit <close> = make { profile = profile, script = given.script }
      for option, value in pairs(given.options or {}) do kit.options[option] = value end
      local backend <close> = parley.backend(kit.options)
      body(kit, backend)
    end))
  end
end

--- The pids of the stand-ins that were started.
local function started(kit)
  local pids = {}
  for i, entry in ipairs(kit:events "started") do pids[i] = entry.pid end
  return pids
end

local function transcript(kit, id) return helper.json_lines(files.read(kit:transcript_path(id))) end

local function has_flag(kit, index, flag)
  for _, word in ipairs(kit:events "started"[index].argv) do
    if word == flag then return true end
  end
  return false
end

describe("complete on a pty", function()
  on_pty("2. types a message once into a fresh session", {}, function(kit, backend)
    local events = collect(backend, { user "say hi" })
    assert.equal("user", events[1].type)
    assert.equal("echo: say hi", events[2]:text())
    local result = events[#events]
    assert.equal("success", result.subtype)
    assert.equal("end_turn", result.stop_reason)
    assert.equal(1, result.num_turns)
    assert.same({ "say hi" }, kit:taken())
    assert.equal(1, select(2, kit:received():gsub("say hi", "")))
    assert.equal(1, #started(kit))
    assert.is_true(has_flag(kit, 1, "--session-id"))
    local process = backend:live_sessions()[result.session_id]
    assert.equal(started(kit)[1], process:pid())
  end)

  on_pty("4. goes on in the live session, tool cycle and all", {}, function(kit, backend)
    local result, _, messages = talk(backend, { user "USETOOL one" })
    assert.equal(1, result.num_turns)
    table.insert(messages, user "two")
    local said
    result, said, messages = talk(backend, messages)
    assert.equal(2, result.num_turns)
    assert.equal("echo: two", said)
    table.insert(messages, user "THINK three")
    assert.equal(3, talk(backend, messages).num_turns)
    assert.equal(1, #started(kit))
    assert.same({ "USETOOL one", "two", "THINK three" }, kit:taken())
  end)

  on_pty("5. resumes from an unknown history", {}, function(kit, backend)
    local events = collect(backend, with_history())
    assert.equal("What is my name?", events[1]:text())
    assert.is_nil(types(events):find "user.*user")
    local result = events[#events]
    assert.equal(1, result.num_turns)
    assert.same({ "What is my name?" }, kit:taken())
    assert.is_true(has_flag(kit, 1, "--resume"))
    local kinds = {}
    for i, record in ipairs(transcript(kit, result.session_id)) do kinds[i] = record.type end
    assert.same({ "permission-mode", "file-history-snapshot", "user", "assistant" }, { table.unpack(kinds, 1, 4) })
  end)

  on_pty("5. has the model in a written history that it has without one", {}, function(kit, backend)
    local function model_of(events)
      for _, record in ipairs(transcript(kit, events[#events].session_id)) do
        local message = record.type == "assistant" and record.message
        if message and message.content[1].text:find "^echo:" then return message.model end
      end
    end
    local usual = model_of(collect(backend, { user "hello" }))
    assert.is_string(usual)
    assert.equal(usual, model_of(collect(backend, with_history())))
  end)

  on_pty("6. puts a history into the message", { options = { history_injection_mode = "concat_message" } },
    function(kit, backend)
      local result, _, messages = talk(backend, with_history())
      assert.same({ "Previous conversation context:\n[User]: My name is Beaver.\n[Assistant]: Hello, Beaver.\n"
        .. "Continue from here. New user message: What is my name?" }, kit:taken())
      assert.is_false(has_flag(kit, 1, "--resume"))
      table.insert(messages, user "And mine?")
      assert.equal(result.session_id, talk(backend, messages).session_id)
    end)

  on_pty("7. goes the other way when a seed is not resumed from", { script = { faults = {} } }, function(kit, backend)
    local native_jsonl = require "parley.policy.injection.native_jsonl"
    local policies = { injection = { prepare = function(request)
      local prepared = native_jsonl.prepare(request)
      helper.write(request.jsonl_path, "{}\n")
      return prepared
    end } }
    kit.options.policies = policies
    local broken <close> = parley.backend(kit.options)
    local events = collect(broken, with_history())
    assert.equal("injection_fallback", events[1].subtype)
    assert.matches("^Previous conversation context:", kit:taken()[1])
    assert.equal(2, #started(kit))
    assert.equal(0, backend:live_session_count())
  end)

  on_pty("7. goes the other way when the program fails in its own code over a seed", { script = {
    profile_changes = { version = "2.1.120", fails_on_resume = true } } }, function(kit, backend)
    local events = collect(backend, with_history())
    assert.equal("injection_fallback", events[1].subtype)
    assert.equal("crash", events[1].cause.reason)
    assert.matches("^Previous conversation context:", kit:taken()[1])
    assert.equal(2, #started(kit))
  end)

  on_pty("7. resumes from a seed again when the program was killed at its start", { script = {
    startup_delay_ms = 60000 } }, function(kit, backend)
    local killer = task.spawn(function()
      local pid = helper.eventually(function() return started(kit)[1] end, 20000)
      kit:use {}
      uv.kill(pid, "sigkill")
    end)
    local events = collect(backend, with_history())
    killer:await()
    assert.equal("What is my name?", events[1]:text())
    assert.same({ "What is my name?" }, kit:taken())
    assert.equal(2, #started(kit))
    assert.is_true(has_flag(kit, 2, "--resume"))
  end)

  on_pty("runs a command in the session of a conversation", {}, function(kit, backend)
    local _, _, messages = talk(backend, { user "one" })
    local result
    for event in backend:command(messages, "/compact") do result = event end
    assert.equal("success", result.subtype)
    table.insert(messages, user "two")
    assert.equal(3, talk(backend, messages).num_turns)
    assert.equal(1, #started(kit))
    for _ in backend:command({}, "/clear") do end -- luacheck: ignore 542
    assert.equal(2, #started(kit))
    assert.equal(1, backend:live_session_count()) -- what /clear goes on with is nobody's conversation
  end)

  on_pty("goes on in the same session behind a command that has failed", {}, function(kit, backend)
    local conversation = backend:conversation()
    conversation:ask "one"
    local err = raised("SessionError", function() conversation:command "/compact ERR400":check() end)
    assert.same({ "error_command", "error_command" }, { err.reason, err.result.subtype })
    assert.matches("the turn ended with error_command: Error during compaction: API Error: 400 as asked", err.message)
    assert.equal(2, #conversation.messages)
    assert.equal(3, conversation:ask "two".result.num_turns)
    assert.equal(1, #started(kit))
  end)

  on_pty("goes on behind a compaction in mid-turn, of which the history has nothing", { script = { answers = {
    { on = "one", steps = { { tool = { name = "Bash", input = { command = "ls" }, result = "a" } },
      { text = "done", compacts = true } } },
    { on = "two", compacts = true },
  } } }, function(kit, backend)
    local messages = { user "one" }
    local events = collect(backend, messages)
    local boundaries = 0
    for _, event in ipairs(events) do boundaries = boundaries + (event.subtype == "compact_boundary" and 1 or 0) end
    assert.equal(1, boundaries)
    for _, added in ipairs(parley.synthesize_turn_messages(events)) do table.insert(messages, added) end
    assert.equal(4, #messages)
    assert.same({ "tool_result" }, { messages[3].content[1].type, messages[3].content[2] })
    local kept = transcript_of.messages(transcript_of.read(kit:transcript_path(events[#events].session_id)))
    assert.matches("^This session is being continued", kept[1].content[1].text)
    table.remove(kept, 1)
    assert.equal(parley.hash_history(table.move(messages, 2, 4, 1, {})), parley.hash_history(kept))
    table.insert(messages, user "two")
    local result, said, longer = talk(backend, messages)
    assert.equal("echo: two", said)
    assert.equal(2, result.num_turns)
    assert.equal(6, #longer)
    table.insert(messages, assistant(said)) -- what was said, and nothing else, as a client has it that keeps texts
    table.insert(messages, user "three")
    assert.equal(3, talk(backend, messages).num_turns)
    assert.equal(1, #started(kit))
  end)

  on_pty("runs no command where the history would go with a message",
    { options = { history_injection_mode = "concat_message" } }, function(kit, backend)
      local err = raised("ValueError", function()
        for _ in backend:command({ user "a", assistant "b" }, "/compact") do end -- luacheck: ignore 542
      end)
      assert.matches("/compact needs a session that has the history", err.message)
      assert.equal(0, backend:live_session_count())
      assert.same({}, kit:taken())
    end)

  on_pty("keeps no session whose turn ended with an API error", { script = { answers = {
    { on = "400", api_error = { status = 400 } } } } }, function(kit, backend)
    local messages = { user "400" }
    assert.equal("error_api", talk(backend, messages).subtype)
    assert.equal(0, backend:live_session_count())
    assert.same({}, kit:processes())
    table.insert(messages, user "again")
    assert.equal(1, talk(backend, messages).num_turns)
  end)

  on_pty("keeps a session that was interrupted in its answer, and none that was before it", {}, function(kit, backend)
    --- Takes a turn and interrupts it as soon as something is there.
    local function interrupted(words, is_there)
      local turn <close> = backend:complete { user(words) }
      local waiter = task.spawn(function()
        helper.eventually(is_there)
        turn:interrupt()
      end)
      local result
      for event in turn do result = event end
      waiter:await()
      assert.equal("interrupted", result.subtype)
    end
    interrupted("SLOW", function() return kit:taken()[1] end)
    assert.equal(0, backend:live_session_count())
    interrupted("SLOWTOOL", function()
      for _, record in ipairs(transcript(kit, next(backend:live_sessions()))) do
        if record.type == "assistant" then return true end
      end
    end)
    assert.equal(1, backend:live_session_count())
  end)

  describe("9. cancelled", function()
    local function is_clean(kit, backend)
      for _, pid in ipairs(started(kit)) do assert.equal("ESRCH", select(3, uv.kill(pid, 0))) end
      assert.equal(0, backend:live_session_count())
      assert.equal(1, talk(backend, { user "next" }).num_turns)
    end
    local PHASES = {
      ["while its program starts"] = {
        script = { startup_delay_ms = 3000 }, is_there = function(kit) return started(kit)[1] end,
      },
      ["while its turn runs"] = { is_there = function(kit) return kit:taken()[1] end },
    }
    for what, phase in pairs(PHASES) do
      for _, way in ipairs { "task:cancel", "task.timeout", "backend:close" } do
        on_pty(what .. " by " .. way, { script = phase.script }, function(kit, backend)
          local victim = way == "backend:close" and parley.backend(kit.options) or backend
          local running = task.spawn(pcall, task.timeout, way == "task.timeout" and 400 or nil, collect, victim,
            { user "SLOW mine" })
          if way ~= "task.timeout" then helper.eventually(function() return phase.is_there(kit) end) end
          if way == "task:cancel" then running:cancel() end
          if way == "backend:close" then victim:close() end
          local ok, raised_here, err = pcall(running.await, running)
          if ok then
            assert.is_false(raised_here)
            assert.equal(way == "task.timeout" and "ETIMEDOUT" or "Cancelled", err.code)
          end
          assert.equal(0, victim:live_session_count())
          if phase.script then kit:use {} end
          is_clean(kit, backend)
        end)
      end
    end

    on_pty("by leaving the loop", {}, function(kit, backend)
      for event in backend:complete { user "SLOW mine" } do
        if event.type == "user" then break end
      end
      is_clean(kit, backend)
    end)

    on_pty("by SIGINT of the host", { is_killed = true }, function(kit)
      local options = { executable = kit.executable, cwd = kit.cwd, extra_env = kit.environment }
      local script = helper.write(kit.folder .. "/host.lua", [[
        local parley = require "parley"
        local backend = parley.backend(parley.json.decode((...)))
        local ok, err = pcall(function()
          for _ in backend:complete { { role = "user", content = "SLOW mine" } } do end
        end)
        print(ok, err.code, backend:live_session_count())
        error(err, 0)]])
      local program <close> = helper.start { helper.host, script, assert(parley.json.encode(options)) }
      helper.eventually(function() return kit:taken()[1] end)
      program:kill "sigint"
      program:wait()
      assert.equal("false\tCancelled\t0\n", program.output)
      assert.equal(130, program.status)
      assert.same({}, kit:processes())
    end)
  end)

  describe("10.", function()
    on_pty("keeps conversations apart, and no more processes than max_sessions", { options = { max_sessions = 2 } },
      function(kit, backend)
        local most, turns = 0, {}
        for i = 1, 4 do
          turns[i] = task.spawn(function()
            local messages = {}
            for turn = 1, 2 do
              local words = ("conversation %d turn %d"):format(i, turn)
              table.insert(messages, user(words))
              local _, said, longer = talk(backend, messages)
              most = math.max(most, #kit:processes())
              assert.equal("echo: " .. words, said)
              messages = longer
            end
          end)
        end
        for i = 1, 4 do turns[i]:await() end
        assert.is_true(most <= 2, most)
        assert.equal(8, #kit:taken())
        assert.is_true(backend:live_session_count() <= 2)
      end)

    on_pty("ends quiet sessions", { options = { idle_timeout_ms = 50 } }, function(kit, backend)
      talk(backend, { user "hi" })
      helper.eventually(function() return #kit:processes() == 0 end)
      helper.eventually(function() return backend:live_session_count() == 0 end)
    end)

    on_pty("starts no program once it is closed, though one was asked for its version", { options = { policies = {
      permission = { decide = function() return { allow = true } end } } } }, function(kit, backend)
        local ask, is_asking, goes_on = kernel.ask_version, false, task.condition()
        local _ <close> = defer(function() kernel.ask_version = ask end)
        function kernel.ask_version(...)
          is_asking = true
          goes_on:wait()
          return ask(...)
        end
        local running = task.spawn(pcall, collect, backend, { user "hi" })
        helper.eventually(function() return is_asking end)
        backend:close()
        goes_on:notify()
        assert.is_false((running:await()))
        assert.equal(0, #started(kit))
      end)

    on_pty("never leases a session whose process was killed", { is_killed = true }, function(kit, backend)
      local _, _, messages = talk(backend, { user "one" })
      table.insert(messages, user "two")
      uv.kill(started(kit)[1], "sigkill") -- and nobody has noticed yet
      local result, said = talk(backend, messages)
      assert.equal("echo: two", said)
      assert.equal(2, result.num_turns)
      assert.equal(2, #started(kit))
      assert.same({ "one", "two" }, kit:taken())
    end)

    on_pty("raises when the program dies in mid-turn", { script = { answers = {
      { on = "die", crash = "after_user" } } } }, function(_, backend)
      local err = raised("SessionError", collect, backend, { user "die" })
      assert.equal("exit", err.reason)
      assert.is_true(errors.is(err))
      assert.equal(0, backend:live_session_count())
    end)
  end)
end)
