-- Turns that end badly on the real program: time that runs out, an API that fails, a start that goes wrong.
local files = require "parley.base.files"
local helper = require "spec.helper"
local history = require "parley.base.history"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local paths = require "parley.claude.paths"
local smoke = require "spec.smoke.live"
local task = require "parley.base.task"
local uv = require "luv"

local say, run, failure_of, is_fine = helper.say, smoke.run, helper.failure_of, smoke.is_fine

describe("with the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local converses = smoke.converses

  describe("a turn ends", function()
    for _, status in ipairs { 401, 429, 529 } do
      converses(("by its deadline while it is tried again after %d"):format(status),
        { session = { turn_timeout_ms = 4000 } }, function(live)
          local err = failure_of("SessionError", say, live, ("ERR%d please"):format(status))
          assert.equal("timeout", err.reason)
          assert.is_true(err.retry.attempt >= 1)
          assert.is_true(err.retry.max_attempts > err.retry.attempt)
          assert.matches("tried again", tostring(err))
        end)
    end

    converses("when the prompt is too long", { variables = { CLAUDE_CODE_MAX_RETRIES = "1" }, script = {
      { on = "TOOLONG", status = 400, message = "prompt is too long: 250000 tokens > 200000 maximum" } } },
      function(live, server)
        is_fine(live, server, "one")
        local said = say(live, "TOOLONG please")
        assert.equal("error_api", said.verdict)
        assert.same({ "Prompt is too long" }, said.texts) -- 2.1.330 has compacted the conversation first, in vain
        assert.same({}, history.synthesize_turn_messages(said.events)) -- and the summary is no word of the user's
        is_fine(live, server)
      end)

    -- The program says that the connection was lost, runs the call, which was whole, and goes on. 2.1.110 may have
    -- asked once more, and runs both.
    converses("with the answer behind a call, where the connection was cut behind that", {
      variables = { CLAUDE_CODE_MAX_RETRIES = "1" }, script = {
        { on = "CUT", cut_behind_ms = 300, blocks = { { type = "text", text = "I look" },
          { type = "tool_use", name = "Bash", input = { command = "sleep 1; echo one", description = "x" } } } },
        { on = "CUT", step = 1, delay_ms = 1000, blocks = { { type = "text", text = "the answer" } } },
        { on = "CUT", step = 2, delay_ms = 1000, blocks = { { type = "text", text = "the answer" } } },
        { on = "FAIL", blocks = { { type = "tool_use", name = "Bash", input = { command = "true" } } } },
        { on = "FAIL", step = 1, status = 400 } } }, function(live, server)
      for _ = 1, 2 do
        local said = say(live, "CUT please")
        assert.equal("success", said.verdict)
        assert.equal("the answer", said.texts[#said.texts])
      end
      assert.equal("error_api", say(live, "FAIL please").verdict)
      is_fine(live, server)
    end)

    ---Says something that is answered late; ESC is pressed once the API has it.
    local function interrupted_by_person(live, server)
      is_fine(live, server, "one")
      local saying = task.spawn(say, live, "LATE please")
      server:wait_for(function(request) return request.text == "LATE please" end, 30000)
      helper.eventually(function() return live.turn:state() == "running" and live:state() == "busy" end, 30000)
      live.process:write "\27"
      return saying
    end

    converses("soon after a person has pressed ESC before the first word",
      { script = { { on = "LATE", delay_ms = 60000 } } }, function(live, server)
        local saying = interrupted_by_person(live, server)
        helper.eventually(function() return live:state() == "ready" end, 30000)
        local before = task.now()
        assert.equal("interrupted", saying:await().verdict)
        assert.is_true(task.now() - before < 8000) -- 10 s of silence would be no answer
        is_fine(live, server)
      end)

    converses("when a person takes the message back and sends another in its place",
      { script = { { on = "LATE", delay_ms = 10000 } } }, function(live, server)
        local saying = interrupted_by_person(live, server)
        helper.eventually(function()
          return live.process.screen:text():find("❯\u{A0}LATE please", 1, true) and live:state() == "ready"
        end, 30000)
        live.process:write " other"
        helper.eventually(function() return live.process.screen:text():find("please other", 1, true) end)
        live.process:write "\r"
        local said = saying:await()
        assert.same({ "interrupted", {} }, { said.verdict, said.texts })
        is_fine(live, server)
      end)

    converses("before a message that a person has entered meanwhile",
      { script = { { on = "LATE", delay_ms = 5000, blocks = { { type = "text", text = "mine" } } } } },
      function(live, server)
        is_fine(live, server, "one")
        local saying = task.spawn(say, live, "LATE please")
        server:wait_for(function(request) return request.text == "LATE please" end, 30000)
        live.process:write "another one"
        helper.eventually(function() return live.process.screen:text():find("another one", 1, true) end)
        live.process:write "\r"
        assert.same({ "mine" }, saying:await().texts)
        is_fine(live, server)
        assert.equal("another one", server:turns()[3].text)
      end)

    converses("where a compaction fails behind a call, without waiting for more", {
      process = { model = "claude-sonnet-4-5" }, variables = { CLAUDE_CODE_DISABLE_PRECOMPACT_SKIP = "1",
        CLAUDE_CODE_AUTO_COMPACT_WINDOW = "100000", CLAUDE_CODE_MAX_RETRIES = "1" },
      script = function(text, request)
        if #text > 400 and text:find("summary", 1, true) then return { blocks = {} } end
        if not text:find "^BIG" or request.step > 0 then return nil end
        return { usage = { input_tokens = 1195000, output_tokens = 50 }, blocks = { { type = "tool_use", name = "Bash",
          input = { command = "echo A", description = "d" } } } }
      end }, function(live, server)
        is_fine(live, server, "one")
        local said = say(live, "BIG please")
        assert.equal("error_api", said.verdict)
        assert.matches("^Prompt is too long", said.result.message)
        assert.is_false(live.turn:facts().broken_off)
      end)

    if not smoke.is_oldest then
      converses("behind the answer to a command of the user's, by its last record", { prepare = function(home)
        files.make_folder(home.cwd .. "/.claude/commands")
        helper.write(home.cwd .. "/.claude/commands/tidy.md", "Tidy up $ARGUMENTS, please.")
      end }, function(live, server)
        is_fine(live, server, "one")
        local said = run(live, "/tidy here")
        assert.same({ "success", { "echo: Tidy up here, please." } }, { said.verdict, said.texts })
        assert.is_true(live.turn:facts().duration)
        is_fine(live, server)
      end)
    end

    if smoke.is_newest then
      converses("with a word of a message that a person has sent into it", { script = {
        { on = "another one", blocks = { { type = "text", text = "both" } } }, { on = "LATE", delay_ms = 60000 } } },
        function(live, server)
          is_fine(live, server, "one")
          local saying = task.spawn(say, live, "LATE please")
          server:wait_for(function(request) return request.text == "LATE please" end, 30000)
          live.process:write "another one"
          helper.eventually(function() return live.process.screen:text():find("another one", 1, true) end)
          live.process:write "\r"
          helper.eventually(function() return live.process.screen:text():find("Press up to edit", 1, true) end)
          live.process:write "\24"
          live.process:write "\19"
          local said = saying:await()
          assert.same({ "both" }, said.texts)
          assert.equal(1, #smoke.of_subtype(said, "message_added"))
          is_fine(live, server)
        end)
    end

    converses("when the API is silent, though the spinner goes on counting", { session = { stall_timeout_ms = 4000 },
      script = { { on = "SILENT", delay_ms = 60000 } } }, function(live, server)
      is_fine(live, server)
      assert.matches("stall_timeout_ms", tostring(failure_of("SessionError", say, live, "SILENT please")))
    end)

    converses("not before a tool that says nothing for longer than that", { session = { stall_timeout_ms = 4000 },
      script = { { on = "QUIETTOOL", blocks = { { type = "tool_use", name = "Bash",
        input = { command = "sh -c 'sleep 9'", description = "waits" } } } } } }, function(live, server)
      assert.equal("success", say(live, "QUIETTOOL please").verdict)
      is_fine(live, server)
    end)

    converses("though ESC does something else, which is told of", { script = { { on = "QUIETTOOL", blocks = { {
      type = "tool_use", name = "Bash", input = { command = "sh -c 'sleep 9'", description = "waits" } } } } },
      prepare = function(home)
        helper.write(home.home .. "/.claude/keybindings.json",
          '{"bindings":[{"context":"Chat","bindings":{"escape":"chat:undo"}}]}')
      end }, function(live)
      local said = say(live, "QUIETTOOL please", function(event)
        if event.type == "assistant" then live:interrupt() end
      end)
      assert.same({ "success", 1 }, { said.verdict, #smoke.of_subtype(said, "interrupt_unheard") })
    end)

    converses("not while the model thinks for longer than that", { session = { stall_timeout_ms = 4000 },
      script = { { on = "DEEP", line_ms = 1500, blocks = { { type = "thinking", thinking = ("hm\n"):rep(8),
        signature = "c2ln" }, { type = "text", text = "done" } } } } }, function(live)
      assert.same({ "done" }, say(live, "DEEP please").texts)
    end)

    converses("when the program stands still", { session = { stall_timeout_ms = 1500 } }, function(live, server)
      is_fine(live, server)
      local err = failure_of("SessionError", say, live, "SLOW please", function(event)
        if event.type == "user" then uv.kill(live.process:pid(), "sigstop") end
      end)
      assert.equal("timeout", err.reason)
      assert.matches("stall_timeout_ms", tostring(err))
      assert.is_false(live.process:is_alive())
    end)
  end)

  describe("a start ends", function()
    local ID = "11111111-1111-4111-8111-111111111111"

    converses("at its deadline", { session = { startup_timeout_ms = 1500 }, is_not_started = true }, function(live)
      local stopper = task.spawn(function()
        helper.eventually(function() return live.process:pid() end)
        uv.kill(live.process:pid(), "sigstop")
      end)
      local err = failure_of("SessionError", live.start, live)
      stopper:await()
      assert.equal("timeout", err.reason)
      assert.matches("startup_timeout_ms", tostring(err))
      assert.is_false(live.process:is_alive())
    end)

    converses("when its session is there already", { is_not_started = true, process = { session_id = ID },
      prepare = function(home)
        local path = paths.resolve_jsonl_path(ID, home.cwd, { HOME = home.home })
        files.make_folder(path:match "^(.*)/")
        helper.write(path, "{}\n")
      end }, function(live)
      local err = failure_of("SessionError", live.start, live)
      assert.same({ "exit", 1 }, { err.reason, err.exit.exit_code })
      assert.matches("already in use", tostring(err))
    end)

    converses("when the session that it should resume is not there", { is_not_started = true,
      process = { resume_session_id = ID } }, function(live)
      local err = failure_of("SessionError", live.start, live)
      assert.same({ "exit", 1 }, { err.reason, err.exit.exit_code })
      assert.matches("No conversation found", tostring(err))
    end)
  end)

  describe("the program, killed", function()
    local function kill(live) uv.kill(live.process:pid(), "sigkill") end

    local function says_so(err, live)
      assert.same({ "exit", "SIGKILL" }, { err.reason, err.exit.signal })
      assert.is_false(live.process:is_alive())
    end

    converses("as it is interrupted, says so", function(live, server)
      local killer = task.spawn(function()
        server:wait_for(function(request) return request.text == "SLOW please" end)
        live:interrupt()
        kill(live)
      end)
      says_so(failure_of("SessionError", say, live, "SLOW please"), live)
      killer:await()
    end)

    converses("in a command, says so", function(live, server)
      is_fine(live, server, "one")
      local killer = task.spawn(function()
        helper.eventually(function() return live.turn.is_command and live.turn:state() == "submitted" end, 20000)
        kill(live)
      end)
      says_so(failure_of("SessionError", run, live, "/compact"), live)
      killer:await()
    end)
  end)

  describe("nobody", function()
    it("outlives a host that is killed", helper.task(function()
      local server <close> = messages_api.start()
      local home <close> = offline_home.new { base_url = server.url }
      local script = [[
        local kept = { executable = arg[1], cwd = arg[2], extra_env = {} }
        for i = 3, #arg do
          local name, value = arg[i]:match "^([^=]+)=(.*)$"
          kept.extra_env[name] = value
        end
        local live = require("parley").session(kept)
        live:start()
        print(live.process:pid())
        io.stdout:flush()
        for _ in live:send "SLOWTOOL please" do end
      ]]
      local arguments = { helper.host, helper.write(home.cwd .. "/host.lua", script), smoke.claude, home.cwd }
      for name, value in pairs(home.extra_env) do table.insert(arguments, name .. "=" .. value) end
      local host <close> = helper.start(arguments)
      host:expect "\n"
      local pid = tonumber(host.output)
      server:wait_for(function(request) return request.kind == "turn" end, 30000)
      host:kill "sigkill"
      helper.eventually(function() return helper.has_ended(pid) end, 5000, "the end of the program")
    end))

    converses("is woken by a session that is idle", function(live, server)
      is_fine(live, server)
      local state, looked = live.state, 0
      function live:state() -- whoever looks at the session asks for its state
        looked = looked + 1
        return state(self)
      end
      assert.equal("notify", live.transcript:mode())
      local changed = live.changed
      local is_quiet = false
      for _ = 1, 20 do -- the program's last words may come late
        is_quiet = is_quiet or not pcall(task.timeout, 1000, function() changed:wait() end)
      end
      assert.is_true(is_quiet)
      assert.equal(0, looked)
    end)

    converses("has to say which version it is", function(live, server)
      is_fine(live, server)
      assert.equal(smoke.version, live:view().version)
      assert.equal(not smoke.is_oldest, live.transcript.offers_duration)
    end)
  end)
end)
