-- The session layer on the real program: what DESIGN.md promises, against our Messages API.
local clock = require "parley.base.clock"
local core = require "parley.core"
local default_dialogs = require "parley.policy.dialogs"
local defer = require "parley.base.defer"
local descendants = require "parley.base.descendants"
local files = require "parley.base.files"
local helper = require "spec.helper"
local history = require "parley.base.history"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local smoke = require "spec.smoke.live"
local task = require "parley.base.task"
local transcript = require "parley.claude.transcript"
local uv = require "luv"

local claude, is_oldest, is_newest = smoke.claude, smoke.is_oldest, smoke.is_newest
local say, run, of_subtype, failure_of = helper.say, smoke.run, smoke.of_subtype, helper.failure_of
local recorded, last_text, is_fine = smoke.recorded, smoke.last_text, smoke.is_fine

local DENY = { decide = function() return { deny = "not here" } end }

describe("a session of the real program", function()
  if not claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local converses = smoke.converses

  it("answers `parley ask`", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local program = helper.run({ helper.host, "ask", "--executable", claude, "--preserve-provider-env", "say hi" },
      { env = helper.environment({ LANG = "C.UTF-8" }, home.extra_env), cwd = home.cwd })
    assert.equal("echo: say hi\n", program.output, program.errors)
    assert.equal(0, program.status)
  end))

  converses("knows its message by its record, though everybody's clock is set back right behind Enter", {
    session = { file_wait_timeout_ms = 8000 } }, function(live, server)
      local wall, enter = clock.wall, live.typist.enter
      local _ <close> = defer(function() clock.use() end)
      clock.use { wall = function() return wall() + 60000 end }
      function live.typist.enter(...)
        clock.use()
        return enter(...)
      end
      assert.same({ "echo: hello" }, say(live, "hello").texts)
      live.typist.enter = nil
      is_fine(live, server)
    end)

  for what, folder in pairs { relative = "../home/of/claude", empty = "" } do
    converses("keeps its files where it is looked for, with a CLAUDE_CONFIG_DIR that is " .. what, {
      variables = { CLAUDE_CONFIG_DIR = folder }, prepare = function(home)
        if folder == "" then return end
        assert(files.make_folder(home.home .. "/of/claude"))
        for _, path in ipairs { "/.claude.json", "/.claude/settings.json" } do
          local text = assert(files.read(home.home .. path))
          files.write(home.home .. "/of/claude/" .. path:match "[^/]*$", text)
        end
      end,
    }, function(live, _, home)
      assert.equal("success", say(live, "hello").verdict)
      local config = folder == "" and home.home .. "/.claude" or home.home .. "/of/claude"
      assert.equal(config, uv.fs_realpath(live.jsonl_path):match "^(.*)/projects/")
      assert.is_nil(files.size(home.cwd .. "/projects"))
    end)
  end

  --- Messages in short, without what the program says to the model.
  local function in_short(messages)
    local list = {}
    for _, message in ipairs(messages) do
      local parts = { message.role }
      for _, block in ipairs(history.blocks_of(message.content)) do
        local is_own = block.type == "text" and block.text:find "^<system%-reminder>"
        if not is_own then table.insert(parts, block.type == "text" and block.text:sub(1, 30) or block.type) end
      end
      if message.role ~= "system" then table.insert(list, table.concat(parts, " ")) end
    end
    return list
  end

  for where, word in pairs { ["in mid-turn"] = "BIG TOOL", ["before a message"] = "BIG" } do
    converses("is read back as the model has it, compacted " .. where, { process = { model = "claude-sonnet-4-5" },
      variables = { CLAUDE_CODE_DISABLE_PRECOMPACT_SKIP = "1", CLAUDE_CODE_AUTO_COMPACT_WINDOW = "100000" },
      script = function(said, request)
        local is_compaction = #said > 400 and said:find("summary", 1, true) ~= nil
        if is_compaction then
          return { blocks = { { type = "text", text = request.step == 0 and "<summary>s</summary>" or "done" } } }
        end
        local answer = { blocks = { { type = "text", text = "echo: " .. said } } }
        if said:find "^BIG" then answer.usage = { input_tokens = 1195000, output_tokens = 50 } end
        if said:find "^BIG TOOL" and request.step == 0 then
          answer.blocks[2] = { type = "tool_use", name = "Bash", input = { command = "echo A", description = "d" } }
        end
        return answer
      end }, function(live, server)
      for _, text in ipairs { "one", word, "three" } do assert.equal("success", say(live, text).verdict) end
      local told
      helper.eventually(function() -- a record may be written late
        told = in_short(transcript.messages(transcript.read(live.jsonl_path)))
        return told[1]:find "^user This session is being"
      end)
      assert.equal("success", say(live, "four").verdict)
      table.insert(told, "user four")
      assert.same(in_short(server:turns()[#server:turns()].body.messages), told)
    end)
  end

  describe("ends a turn with all its blocks", function()
    converses("of every kind", function(live, server)
      local said = say(live, "THINK about it")
      assert.equal("success", said.verdict)
      assert.equal("end_turn", said.result.stop_reason)
      assert.same({ "first text", "second text" }, said.texts)
      local kinds = {}
      for _, event in ipairs(said.events) do
        if event.type == "assistant" then table.insert(kinds, event.content[1].type) end
      end
      assert.same({ "thinking", "text", "text" }, kinds)

      said = say(live, "USETOOL now")
      assert.equal("success", said.verdict)
      assert.same({ "let me run that", "echo: USETOOL now" }, said.texts)
      said = say(live, "TWOTOOLS now")
      local results = 0
      for _, event in ipairs(said.events) do results = results + #event:blocks "tool_result" end
      assert.equal(2, results)
      assert.equal("success", said.verdict)

      said = say(live, "EMPTY please")
      assert.equal("error_no_output", said.verdict)
      assert.same({}, said.texts)

      said = say(live, "MAXTOK please")
      assert.equal("success", said.verdict)
      assert.equal("end_turn", said.result.stop_reason)
      assert.equal(2, #said.texts)
      for word, reason in pairs { STOPSEQ = "stop_sequence", PAUSE = "pause_turn" } do
        said = say(live, word .. " please")
        assert.equal("success", said.verdict)
        assert.equal(reason, said.result.stop_reason)
      end
      assert.same({ "let me run that", "echo: USETOOL again" }, say(live, "USETOOL again").texts)
      assert.equal(100000, #say(live, "LONG please").texts[1])
      said = say(live, "THINK and DRIP")
      assert.same({ "first text", "second text" }, said.texts)
      is_fine(live, server)
    end)

    converses("after a refusal", function(live, server)
      local said = say(live, "REFUSE please")
      assert.equal(is_newest and "success" or "error_api", said.verdict)
      is_fine(live, server)
    end)

    converses("after an error of the API", { variables = { CLAUDE_CODE_MAX_RETRIES = "1" } }, function(live, server)
      for _, status in ipairs { 400, 413 } do
        local said = say(live, ("ERR%d please"):format(status))
        assert.equal("error_api", said.verdict)
        assert.is_true(said.result.is_error)
        assert.equal(1, #said.texts)
      end
      for status, kind in pairs { [401] = "authentication_failed", [429] = "rate_limit", [500] = "server_error",
        [529] = "server_error" } do
        local said = say(live, ("ERR%d please"):format(status))
        assert.equal("error_api", said.verdict)
        assert.equal(kind, said.result.error, status)
        local retries = of_subtype(said, "api_retry")
        assert.equal(1, #retries, status)
        assert.equal(1, retries[1].attempt)
        assert.equal(1, retries[1].max_attempts)
      end
      local said = say(live, "CUT please") -- some versions ask again without streaming, and once too often here
      assert.is_truthy(said.verdict == "success" or said.verdict == "error_api", said.verdict)
      said = say(live, "RETRYONCE please")
      assert.equal("success", said.verdict)
      assert.equal(1, #of_subtype(said, "api_retry"))
      is_fine(live, server)
    end)

    converses("of a sub-agent, which may work in the background", function(live, server)
      local said = say(live, "AGENT please")
      assert.equal("success", said.verdict)
      local asked = 0
      for _, request in ipairs(server:turns()) do
        if request.text:find("SUBPROMPT", 1, true) then asked = asked + 1 end
      end
      assert.is_true(asked >= 1)
      is_fine(live, server)
      is_fine(live, server, "and again")
      assert.same({ "still there?", "and again" }, { table.unpack(recorded(live), #recorded(live) - 1) })
    end)

    converses("in its time, or says that it did not", { session = { turn_timeout_ms = 8000 },
      script = { { on = "SLOW", delay_ms = 90000 } } }, function(live)
      local err = failure_of("SessionError", say, live, "SLOW please")
      assert.equal("timeout", err.reason)
      assert.matches("turn_timeout_ms", tostring(err))
      assert.matches("SLOW please", err.screen)
    end)
  end)

  describe("delivers verbatim or refuses", function()
    local corpus = require "spec.smoke.corpus"

    local function picture(home) helper.write(home.cwd .. "/shot.png", smoke.PICTURE) end

    for name, messages in pairs(corpus(smoke.version)) do
      converses(name, { prepare = picture }, function(live, server, home)
        local expected, problems, writes = {}, {}, 0
        local write = live.process.write
        live.process.write = function(...)
          writes = writes + 1
          return write(...)
        end
        for _, message in ipairs(messages) do
          message.text = message.text:gsub("PICTURE", home.cwd .. "/shot.png")
          if message.refused then
            local before, written = #server.requests, writes
            local err = failure_of("ValueError", live.send, live, message.text)
            assert.matches("cannot be sent", tostring(err))
            assert.same({ before, written }, { #server.requests, writes })
          else
            local wanted = message.arrives or message.text
            table.insert(expected, wanted)
            local ok, said = pcall(say, live, message.text)
            if not ok then
              error(("%q: %s\n%s"):format(message.text:sub(1, 60), said, live.process.screen:text()), 0)
            end
            if said.verdict ~= "success" then table.insert(problems, ("%q: %s"):format(wanted, said.verdict)) end
            if last_text(server) ~= wanted then
              table.insert(problems, ("the API got %q for %q"):format(last_text(server):sub(1, 90), wanted:sub(1, 60)))
            end
          end
        end
        assert.same({}, problems)
        local texts = recorded(live, expected)
        assert.equal(#expected, #texts)
        for i, wanted in ipairs(expected) do assert.equal(wanted, texts[i]) end
      end)
    end

    if not is_oldest then -- which takes no keys any more after it was stopped
      converses("a text once, though the program was held up and shows it late", function(live, server)
        local pid, writes, write = live.process:pid(), 0, live.process.write
        function live.process.write(...)
          local is_written = write(...)
          writes = writes + 1
          if writes == 2 then uv.kill(pid, "sigcont") end -- what is typed when the first keys are not shown
          return is_written
        end
        for i = 1, 3 do
          assert.is_true(live:wait_until_ready())
          writes = 0
          uv.kill(pid, "sigstop")
          is_fine(live, server, "held up " .. i)
          assert.is_true(writes > 2)
        end
      end)
    end

    converses("a text of 60 kB", function(live, server)
      local text = ("0123456789 "):rep(6000):sub(1, 60000) .. "end"
      is_fine(live, server, text)
    end)
  end)

  describe("runs commands", function()
    converses("and goes on", function(live, server)
      is_fine(live, server, "one")
      assert.equal("success", run(live, "/compact").verdict)
      is_fine(live, server, "two")
      assert.equal("success", run(live, "/help").verdict)
      is_fine(live, server, "three")
      local before = live.session_id
      assert.equal("success", run(live, "/clear").verdict)
      is_fine(live, server, "four")
      assert.are_not.equal(before, live.session_id)
      assert.same({ "four" }, recorded(live))
      local said = run(live, "/nosuchcommand")
      assert.equal("error_command", said.verdict)
      assert.matches("^Unknown command: /nosuchcommand", said.result.message)
      is_fine(live, server, "five")
    end)

    local function own_commands(home)
      assert(files.make_folder(home.home .. "/.claude/commands"))
      for name, text in pairs { ["deploy-prod"] = "description: deploys\n---\nDEPLOY $ARGUMENTS",
        greet = "description: greets\narguments: [who, what]\n---\nGREET $who $what" } do
        helper.write(("%s/.claude/commands/%s.md"):format(home.home, name), "---\n" .. text)
      end
    end
    converses("as they were typed, or not at all", { prepare = own_commands }, function(live, server)
      is_fine(live, server, "one")
      for _, name in ipairs { "/deploy", "/deploy-prd", "/foo" } do
        local said = run(live, name)
        assert.equal("error_command", said.verdict)
        assert.matches("^Unknown command: " .. name:gsub("%-", "%%-"), said.result.message)
      end
      assert.equal("one", last_text(server))
      assert.equal("success", run(live, "/deploy-prod now").verdict)
      assert.equal("DEPLOY now", last_text(server))
      is_fine(live, server, "two")
    end)

    converses("whose arguments are missing", { prepare = own_commands }, function(live, server)
      is_fine(live, server, "one")
      for command, text in pairs { ["/greet"] = "GREET", ["/greet Bob"] = "GREET Bob",
        ["/greet Bob well"] = "GREET Bob well" } do
        assert.equal("success", run(live, command).verdict)
        assert.equal(text, last_text(server):match "^.*%S")
      end
    end)

    for _, name in ipairs { "/new", "/reset", is_oldest and "/fork" or nil } do
      converses("of another name, " .. name .. ", and goes on", function(live, server)
        is_fine(live, server, "one")
        local before = live.session_id
        assert.equal("success", run(live, name).verdict)
        assert.are_not.equal(before, live.session_id)
        is_fine(live, server, "two")
      end)
    end

    converses("and tells nothing again of what a branch has copied", function(live, server)
      is_fine(live, server, "one")
      local before, used = live.session_id, live.used.output_tokens
      local said = run(live, "/branch")
      assert.equal("success", said.verdict)
      assert.same({}, said.texts)
      assert.equal(used, live.used.output_tokens)
      assert.are_not.equal(before, live.session_id)
      is_fine(live, server, "two")
    end)
  end)

  converses("goes on though the status file was torn in a turn", { session = { stall_timeout_ms = 60000 } },
    function(live, server, home)
      local function tear(event)
        local path = ("%s/.claude/sessions/%d.json"):format(home.home, live.process:pid())
        if event.type == "user" then helper.write(path, '{"pid":') end
      end
      assert.equal("success", helper.say(live, "USETOOL", tear).verdict)
      is_fine(live, server, "two")
    end)

  describe("at a dialog of the start", function()
    local function mcp_server(home)
      helper.write(home.cwd .. "/.mcp.json", '{"mcpServers":{"foo":{"command":"true"}}}')
    end
    local function imports(home)
      helper.write(home.cwd .. "/../outside.md", "outside\n")
      helper.write(home.cwd .. "/CLAUDE.md", "@../outside.md\n")
    end
    local dialogs = {
      trust = { answers = { trust = false } },
      api_key = { answers = { api_key = false } },
      bypass = { answers = { bypass = false } },
      imports = { prepare = imports },
      onboarding = { answers = { onboarding = false } },
      settings_warning = not is_newest and { settings = { hooks = { NoSuchHook = {} } } } or nil,
    }
    if not is_oldest then dialogs.mcp = { prepare = mcp_server, process = { permission_mode = "default" } } end

    for kind, given in pairs(dialogs) do
      given.is_not_started = true
      converses(kind .. ", unanswered, raises DialogError", given, function(live, _, home)
        local started = task.now()
        local err = failure_of("DialogError", live.start, live)
        assert.equal(kind, err.dialog.kind)
        assert.is_true(task.now() - started < 30000) -- and not the 60 s that a start may take
        assert.is_false(live.process:is_alive())
        local state = assert(core.json.decode(files.read(home.home .. "/.claude.json")))
        if kind == "trust" then assert.is_falsy(state.projects[home.cwd].hasTrustDialogAccepted) end
        if kind == "api_key" then
          local answers = state.customApiKeyResponses or {} -- one that nobody gave is not kept
          assert.is_nil((answers.approved or {})[1])
          assert.is_nil((answers.rejected or {})[1])
        end
        if kind == "bypass" then
          assert.is_nil(files.read(home.home .. "/.claude/settings.json"):find "skipDangerous")
        end
      end)

      local accepting = { session = { accept = { kind } } }
      for name, value in pairs(given) do accepting[name] = value end
      converses(kind .. ", accepted, goes on", accepting, function(live, server)
        live:start()
        is_fine(live, server)
      end)
    end

    converses("all of them, accepted, goes on", {
      answers = { trust = false, api_key = false, bypass = false }, prepare = imports, is_not_started = true,
      session = { accept = { "trust", "api_key", "bypass", "imports" } },
    }, function(live, server)
      live:start()
      is_fine(live, server)
    end)

    if is_newest then
      converses("what it offers behind that is declined", { process = { permission_mode = "default" },
        settings = { permissions = { defaultMode = "plan" } } }, function(live, server, home)
        helper.eventually(function() return live.process.screen:text():find("Make auto mode your default", 1, true) end)
        is_fine(live, server)
        assert.is_truthy(files.read(home.home .. "/.claude/settings.json"):find '"plan"')
      end)
    end

    -- Where an earlier version was used before, it comes up at three starts. 2.1.110 has none.
    converses("what the program itself offers is declined", { is_not_started = true,
      variables = { CLAUDE_CODE_FORCE_FULLSCREEN_UPSELL = "1" } }, function(live, server, home)
      live:start()
      is_fine(live, server)
      helper.eventually(function() -- it is written a moment later
        local state = core.json.decode(files.read(home.home .. "/.claude.json"))
        return is_oldest or state and state.fullscreenUpsellSeenCount == 3
      end, 30000)
      assert.is_nil(files.read(home.home .. "/.claude/settings.json"):find "tui")
    end)

    converses("onboarding, accepted, ends where the network is missing", {
      answers = { onboarding = false, api_key = false }, is_not_started = true,
      session = { accept = { "onboarding", "api_key" } },
    }, function(live)
      local err = failure_of("SessionError", live.start, live)
      assert.equal("exit", err.reason)
      assert.matches("Unable to connect to Anthropic services", err.screen)
    end)

    converses("a broken .claude.json raises DialogError", { is_not_started = true, prepare = function(home)
      helper.write(home.home .. "/.claude.json", '{"theme": ')
    end }, function(live)
      local err = failure_of("DialogError", live.start, live)
      assert.equal("configuration_error", err.dialog.kind)
    end)
  end)

  describe("at a dialog of a turn", function()
    local by_default = { permission_mode = "default" }

    converses("raises DialogError, which names tool and input", { process = by_default }, function(live, _, home)
      local err = failure_of("DialogError", say, live, "WRITETOOL please")
      assert.equal("permission", err.dialog.kind)
      assert.equal("Write", err.dialog.tool_use.name)
      assert.equal(home.cwd .. "/written.txt", err.dialog.tool_use.input.file_path)
      assert.matches("written.txt", tostring(err))
      assert.is_nil(files.read(home.cwd .. "/written.txt"))
    end)

    converses("is denied by a policy", { process = by_default, session = { policies = { dialogs = DENY } } },
      function(live, server, home)
        local said = say(live, "WRITETOOL please")
        assert.equal("interrupted", said.verdict)
        local answered = of_subtype(said, "dialog_answered")
        assert.equal(1, #answered)
        assert.equal("not here", answered[1].denied)
        assert.matches("^the policy 'dialogs' has answered 'No.*' %(permission: Write .*%): not here$",
          said.result.message)
        assert.is_nil(files.read(home.cwd .. "/written.txt"))
        is_fine(live, server)
      end)

    converses("is allowed", { process = by_default, session = { accept = { "permission" } } },
      function(live, server, home)
        assert.equal("success", say(live, "WRITETOOL please").verdict)
        assert.equal("written\n", files.read(home.cwd .. "/written.txt"))
        assert.equal("success", say(live, "EDITTOOL please").verdict)
        is_fine(live, server)
      end)

    converses("answers a question", { process = by_default, session = { policies = { dialogs = {
      decide = function(dialog)
        assert(dialog.kind == "question", dialog.kind)
        for i, label in ipairs(dialog.choices) do
          if label:find "Blue" then return { choose = i } end
        end
        return { fail = "there is no Blue" }
      end } } } }, function(live, server)
      local said = say(live, "ASKUSER please")
      assert.equal("success", said.verdict)
      local answer = assert(core.json.encode(server:last_messages()))
      assert.matches("=.?\"Blue", answer)
    end)

    do
      local function question(name, several, preview)
        local options = {}
        for i, label in ipairs { "Ham", "Egg", "Cheese" } do
          options[i] = { label = label, description = label:lower(), preview = preview and preview .. label }
        end
        return { question = ("Which %s?"):format(name), header = name, multiSelect = several, options = options }
      end
      local wanted = { ["Which top?"] = { Egg = true, Cheese = true }, ["Which base?"] = { Ham = true },
        ["Which look?"] = { Egg = true }, ["Which sides?"] = { Cheese = true } }
      local asked = {}
      local function decide(dialog)
        table.insert(asked, { dialog.kind, dialog.tool_use and dialog.tool_use.name })
        for text, labels in pairs(wanted) do
          for i, label in ipairs(dialog.text:find(text, 1, true) and not dialog.text:find "Review" and dialog.choices
            or {}) do
            if labels[label] and not (dialog.checked and dialog.checked[i]) then return { choose = i } end
          end
        end
        return { choose = not dialog.checked and "Submit answers" or dialog.choices[5] }
      end
      for name, questions in pairs {
        ["one that takes several answers"] = { question("top", true) },
        ["several questions"] = { question("top", true), question("base"), question("sides", true) },
        ["one with previews"] = { question("look", false, "+---+\n|") },
      } do
        converses("answers a question: " .. name, { process = by_default,
          session = { policies = { dialogs = { decide = decide } } },
          script = { { on = "ask me", blocks = { { type = "tool_use", name = "AskUserQuestion",
            input = { questions = core.json.array(questions) } } } } } }, function(live, server)
          asked = {}
          assert.equal("success", say(live, "ask me").verdict)
          local answer = assert(core.json.encode(server:last_messages())):gsub('\\"', '"')
          for _, each in ipairs(questions) do
            local labels = {}
            for _, option in ipairs(each.options) do
              if wanted[each.question][option.label] then table.insert(labels, option.label) end
            end
            assert.truthy(answer:find(("%q=%q"):format(each.question, table.concat(labels, ", ")), 1, true), answer)
          end
          for _, each in ipairs(asked) do assert.same({ "question", "AskUserQuestion" }, each) end
        end)
      end
    end

    converses("does not answer a question unasked", { process = by_default,
      session = { accept = { "permission", "plan", "trust" } } }, function(live)
      local err = failure_of("DialogError", say, live, "ASKUSER please")
      assert.equal("question", err.dialog.kind)
      assert.equal("AskUserQuestion", err.dialog.tool_use.name)
    end)

    do
      local described = ("a long description of it "):rep(20)
      local question = { question = ("Which one of them? "):rep(20), header = "Colour", multiSelect = false, options = {
        { label = "Red", description = described }, { label = "Blue", description = described } } }
      converses("does not close a question that is taller than the screen", {
        process = { permission_mode = "default", dimensions = { rows = 24, columns = 80 } },
        script = { { on = "ask me", blocks = { { type = "tool_use", name = "AskUserQuestion",
          input = { questions = { question } } } } } } }, function(live)
        local dialog = failure_of("DialogError", say, live, "ask me").dialog
        assert.same({ "question", true }, { dialog.kind, dialog.is_cut })
      end)
    end

    do
      local kinds = {}
      converses("takes no choices for a dialog's that an answer quotes above a panel", { process = by_default,
        session = { policies = { dialogs = { decide = function(dialog, accept)
          table.insert(kinds, dialog.kind)
          return default_dialogs.decide(dialog, accept)
        end } } },
        script = { { on = "quote", blocks = { { type = "text",
          text = "It says:\n\n```\nDo you want to proceed?\n❯ 1. Yes\n  2. No\n```" } } } },
      }, function(live, server)
        say(live, "quote")
        run(live, "/help")
        assert.same({ "panel" }, kinds)
        is_fine(live, server)
      end)
    end

    do
      local text = "UserPromptSubmit operation blocked by hook:\nno secrets\n\nOriginal prompt: say it"
      converses("takes no answer for a hook's refusal that reads like one", {
        script = { { on = "say it", blocks = { { type = "text", text = text } } } } }, function(live)
        for _ = 1, 2 do
          local said = say(live, "say it")
          assert.same({ "success", { text } }, { said.verdict, said.texts })
        end
      end)
    end

    converses("approves a plan", { process = { permission_mode = "plan" }, session = { accept = { "plan" } } },
      function(live)
        assert.equal("success", say(live, "PLAN please").verdict)
      end)

    converses("does not approve a plan unasked", { process = { permission_mode = "plan" },
      session = { accept = { "permission" } } }, function(live)
      local err = failure_of("DialogError", say, live, "PLAN please")
      assert.equal("plan", err.dialog.kind)
    end)
  end)

  describe("interrupts", function()
    converses("text that streams", { script = { { on = "LINES", line_ms = 400, delay_ms = 1500,
      blocks = { { type = "text", text = ("I shall\n"):rep(30) } } } } }, function(live, server)
      is_fine(live, server)
      local waiter = task.spawn(function()
        helper.eventually(function() return live.process.screen:text():find("● I shall\n", 1, true) end, 30000)
        task.condition():wait(1000)
        live:interrupt()
      end)
      local said = say(live, "LINES please")
      waiter:await()
      assert.equal("interrupted", said.verdict)
      assert.equal("aborted", server:turns()[#server:turns()].state)
      is_fine(live, server)
    end)

    local function is_compaction(text) return #text > 400 and text:find("summary", 1, true) ~= nil end

    converses("a compaction of the program's own", { process = { model = "claude-sonnet-4-5" }, script = function(said)
      if is_compaction(said) then return { delay_ms = 60000, blocks = { { type = "text", text = "x" } } } end
      local input_tokens = said:find "^BIG" and 1195000 or 10
      return { usage = { input_tokens = input_tokens, output_tokens = 5 }, blocks = { { type = "text", text = "ok" } } }
    end, variables = { CLAUDE_CODE_DISABLE_PRECOMPACT_SKIP = "1", CLAUDE_CODE_AUTO_COMPACT_WINDOW = "100000" } },
    function(live, server)
      say(live, "one")
      say(live, "BIG two")
      local waiter = task.spawn(function()
        server:wait_for(function(request) return request.kind == "turn" and is_compaction(request.text) end)
        task.condition():wait(500)
        live:interrupt()
      end)
      assert.equal("interrupted", say(live, "three").verdict)
      waiter:await()
    end)

    converses("before the first token, twice in a row", function(live, server)
      for number = 1, 2 do
        local text = "SLOW number " .. number
        local waiter = task.spawn(function()
          server:wait_for(function(request) return request.text == text end)
          assert.is_true(live:interrupt())
          assert.is_true(live:interrupt())
        end)
        assert.equal("interrupted", say(live, text).verdict)
        waiter:await()
      end
      is_fine(live, server)
      local seen = assert(core.json.encode(server:last_messages()))
      assert.is_nil(seen:find("SLOW", 1, true))
    end)

    converses("right after Enter, and sends the same again", function(live, server)
      for _ = 1, 3 do
        local waiter = task.spawn(function()
          helper.eventually(function() return live.turn and live.turn:state() == "submitted" end)
          live:interrupt()
        end)
        assert.equal("interrupted", say(live, "SLOW again").verdict)
        waiter:await()
      end
      is_fine(live, server)
    end)

    converses("in a tool", function(live, server)
      local said = say(live, "SLOWTOOL please", function(event)
        if #event:blocks "tool_use" > 0 then live:interrupt() end
      end)
      assert.equal("interrupted", said.verdict)
      assert.is_true(said.result.duration_ms < 15000)
      is_fine(live, server)
    end)

    converses("in the middle of an answer", function(live, server)
      local waiter = task.spawn(function()
        server:wait_for(function(request) return request.text == "COUNT please" end)
        helper.eventually(function() return live.process.screen:text():find "\n%s+9\n" end, nil, "a count to be seen")
        live:interrupt()
      end)
      assert.equal("interrupted", say(live, "COUNT please").verdict)
      waiter:await()
      is_fine(live, server)
    end)

    converses("while it types", function(live, server)
      local waiter = task.spawn(function()
        helper.eventually(function() return live.turn and live.turn:state() == "typing" end)
        live:interrupt()
      end)
      local said = say(live, ("0123456789\n"):rep(600))
      waiter:await()
      assert.equal("interrupted", said.verdict)
      is_fine(live, server)
      assert.equal(1, #server:turns())
    end)

    converses("as the turn ends by itself", function(live, server)
      for number = 1, 5 do
        local said = say(live, "quick " .. number, function(event)
          if event.type == (number % 2 == 0 and "user" or "assistant") then live:interrupt() end
        end)
        assert.is_truthy(said.verdict == "success" or said.verdict == "interrupted", said.verdict)
        if said.verdict == "success" then assert.same({ "echo: quick " .. number }, said.texts) end
      end
      is_fine(live, server)
    end)
  end)

  describe("when the program is killed", function()
    local function kill(live) uv.kill(live.process:pid(), "sigkill") end

    local function says_so(err, live)
      assert.equal("exit", err.reason)
      assert.equal("SIGKILL", err.exit.signal)
      assert.is_string(err.screen)
      assert.is_false(live.process:is_alive())
    end

    converses("as it starts, says so", { is_not_started = true }, function(live)
      local killer = task.spawn(function()
        helper.eventually(function() return live.process:pid() end)
        kill(live)
      end)
      says_so(failure_of("SessionError", live.start, live), live)
      killer:await()
    end)

    for _, state in ipairs { "typing", "submitted", "running" } do
      converses(state .. ", says so", function(live)
        local killer = task.spawn(function()
          helper.eventually(function() return live.turn and live.turn:state() == state end, 20000, state)
          kill(live)
        end)
        local text = state == "typing" and ("0123456789\n"):rep(300) or "SLOW please"
        says_so(failure_of("SessionError", say, live, text), live)
        killer:await()
      end)
    end

    converses("waiting, says so", { process = { permission_mode = "default" }, session = { policies = { dialogs = {
      decide = function() return { keys = "" } end } } } }, function(live)
      local killer = task.spawn(function()
        helper.eventually(function() return live.turn and live.turn:state() == "waiting" end, 20000, "the dialog")
        kill(live)
      end)
      says_so(failure_of("SessionError", say, live, "WRITETOOL please"), live)
      killer:await()
    end)

    converses("between two turns, says so", function(live, server)
      is_fine(live, server)
      kill(live)
      says_so(failure_of("SessionError", say, live, "too late"), live)
    end)
  end)

  converses("goes on from a transcript that ends in half a line", function(live, server, home)
    is_fine(live, server, "hello")
    live:close()
    files.put(live.jsonl_path, '{"type":"last-prompt","la', "a") -- its program was killed
    local again <close> = smoke.new(home, { process = { resume_session_id = live.session_id } })
    again:start()
    for _, text in ipairs { "one", "two" } do is_fine(again, server, text) end
    assert.same({ "hello", "echo: hello", "one", "echo: one", "two", "echo: two" }, helper.texts_in(live.jsonl_path))
    local is_ended = files.read(live.jsonl_path):find '"type":"last%-prompt","la\n' ~= nil
    assert.equal(is_newest, is_ended) -- the others write the next record behind it
  end)

  converses("converses where the user has set the mode for screen readers", { settings = { axScreenReader = true },
    process = { base_env = { PATH = os.getenv "PATH", CLAUDE_AX_SCREEN_READER = "1" } } }, function(live, server)
    is_fine(live, server)
  end)

  converses("converses on the smallest screen that may be asked for", { process = { dimensions = { 20, 40 } } },
    function(live, server)
      is_fine(live, server, ("some words that are long "):rep(12) .. "end")
      is_fine(live, server, "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten")
      is_fine(live, server)
    end)

  converses("takes along what a tool has started when it ends", function(live)
    local started
    local ok, err = pcall(say, live, "SLOWTOOL please", function(event)
      if #event:blocks "tool_use" == 0 then return end
      helper.eventually(function()
        started = descendants.of { live.process:pid() }
        for _, one in ipairs(started) do
          local words = files.read(("/proc/%d/cmdline"):format(one.pid)) or ""
          if words:find("sleep\0" .. "30", 1, true) then return true end
        end
      end, 10000, "the tool")
      live:close()
    end)
    assert.is_false(ok)
    assert.equal("ClosedError", err.code, tostring(err))
    assert.same({}, descendants.alive(started))
  end)
end)
