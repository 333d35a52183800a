-- The ten promises of DESIGN.md, on the stand-in over a real pty. Each spec fails when its promise is broken.
local backend = require "parley.backend"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local process = require "parley.claude.process"
local session = require "parley.session"
local task = require "parley.base.task"
local testing = require "parley.testing"
local uv = require "luv"

local PROFILES = { "2.1.110", "2.1.197", "2.1.330" }
local ENDS = { "2.1.110", "2.1.330" } -- where those between them can be no different

local function failure_of(code, fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "no error was raised")
  assert(errors.is(err), tostring(err))
  assert.equal(code, err.code, tostring(err))
  return err
end

---Sends a message to its result.
local function say(live, text, on_event)
  local said = { texts = {}, events = {} }
  for event in live:send(text) do
    table.insert(said.events, event)
    if event.type == "assistant" and event:text() ~= "" then table.insert(said.texts, event:text()) end
    if event.type == "result" then said.result = event end
    if on_event then on_event(event) end
  end
  said.verdict = said.result.subtype
  return said
end

local function count_of(said, subtype)
  local count = 0
  for _, event in ipairs(said.events) do count = count + (event.subtype == subtype and 1 or 0) end
  return count
end

describe("promise", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  ---A session on a kit's stand-in, not started.
  local function new(kit, options, of_process)
    local all = {}
    for name, value in pairs(kit.options) do all[name] = value end
    for name, value in pairs(of_process or {}) do all[name] = value end
    return session.new(process.new(all), options)
  end

  ---A spec with a stand-in of each of these profiles. `given`: `script`, `session`, `process`, the kit's options.
  local function on(profiles, name, given, body)
    for _, profile in ipairs(profiles) do
      it(("%s (%s)"):format(name, profile), helper.task(function()
        local of_kit = {}
        for key, value in pairs(given) do of_kit[key] = value end
        of_kit.session, of_kit.process, of_kit.is_not_started = nil, nil, nil
        of_kit.script = { profile = profile }
        for key, value in pairs(given.script or {}) do of_kit.script[key] = value end
        local kit <close> = testing.kit(of_kit)
        local live <close> = new(kit, given.session, given.process)
        if not given.is_not_started then live:start() end
        body(live, kit, profile)
      end))
    end
  end

  local function each(name, given, body) on(PROFILES, name, given, body) end

  describe("1, once:", function()
    each("a message is taken once, though keys and Enter are lost",
      { script = { faults = { lose_keys = 1, lose_returns = 1 } } }, function(live, kit)
        assert.equal("success", say(live, "hello").verdict)
        assert.same({ "hello" }, kit:taken())
        assert.equal("success", say(live, "hello").verdict)
        assert.same({ "hello", "hello" }, kit:taken())
      end)

    each("a message is taken once, though a dialog comes up and takes its Enter",
      { script = { faults = { dialog_at_return = true } } }, function(live, kit)
        assert.equal("success", say(live, "hello").verdict)
        assert.same({ "hello" }, kit:taken())
      end)

    on(ENDS, "a message whose record comes late is not sent again",
      { script = { faults = { late_flush_ms = 2000 } } }, function(live, kit)
        assert.equal("success", say(live, "hello").verdict)
        assert.same({ "hello" }, kit:taken())
      end)

    on({ "2.1.330" }, "Enter is not pressed again for one whose record comes very late",
      { script = { faults = { late_flush_ms = 6000 } } }, function(live, kit)
        assert.equal("success", say(live, "hello").verdict)
        assert.equal(1, select(2, kit:received():gsub("\r", "")))
      end)

    on({ "2.1.330" }, "the time that a dialog takes is not the message's", {
      script = { faults = { lose_returns = 1, dialog_ms = 300 } },
      session = { file_wait_timeout_ms = 6500,
        policies = { dialogs = { decide = function() return { choose = 1 } end } } },
    }, function(live, kit)
      local said = say(live, "hello")
      assert.equal("success", said.verdict)
      assert.equal(1, count_of(said, "dialog_answered"))
      assert.same({ "hello" }, kit:taken())
    end)

    each("a command whose Enter was lost is not taken for one that ran because a dialog comes up", {
      script = { faults = { lose_returns = 1, dialog_ms = 300 } },
      session = { policies = { dialogs = { decide = function(dialog)
        return dialog.choices[1] and { choose = 1 } or { keys = "\27" }
      end } } },
    }, function(live, kit)
      for _ in live:command "/cost" do end -- luacheck: ignore 542
      assert.equal(1, #kit:events "command")
    end)

    on({ "2.1.330" }, "one that is not taken is an error that says so",
      { script = { faults = { lose_keys = 100000 } } }, function(live, kit)
        local err = failure_of("SessionError", say, live, "hello")
        assert.equal("delivery", err.reason)
        assert.same({}, kit:taken())
      end)

    on({ "2.1.330" }, "behind a turn of the program's own it is taken once, and has its own answer", {
      script = { answers = { { on = "first", text = "one", own_turn = { text = "<task-notification>x", after_ms = 1 } },
        { on = "task-notification", text = "about it", delay_ms = 700 } } },
    }, function(live, kit)
      assert.same({ "one" }, say(live, "first").texts)
      local said = say(live, "second")
      assert.same({ "echo: second" }, said.texts)
      assert.equal("success", said.verdict)
      assert.same({ "first", "second" }, kit:taken())
    end)
  end)

  describe("2, verbatim:", function()
    each("what arrives is what was sent, or nothing is", {}, function(live, kit)
      local expected = {}
      for _, text in ipairs { "hello", "  two\n\nlines", "tail \\", "a @", "! ls", "!a\nb\nc\nd", "# x", "naïve 日本 😀",
        ("y"):rep(801), ("line\n"):rep(30) .. "end", ("é "):rep(2000) .. "end", "[Pasted text #1 +3 lines]" } do
        assert.equal("success", say(live, text).verdict, text:sub(1, 20))
        table.insert(expected, text)
      end
      for text, arrives in pairs { ["a\r\nb"] = "a\nb", ["a\tb"] = "a    b", ["e\u{301} \n"] = "é" } do
        say(live, text)
        table.insert(expected, arrives)
      end
      for _, text in ipairs { "a\27[201~b", "a\0b", "\xFF", " ", "a\u{200B}b" } do
        failure_of("ValueError", live.send, live, text)
      end
      assert.same(expected, kit:taken())
    end)

    each("nothing is attached, marked or escaped that the program looks for in pastes", {}, function(live, kit)
      local path, rows = kit.cwd .. "/shot.png", ("row\n"):rep(70)
      helper.write(path, "picture")
      local texts = { "see:\n" .. path .. "\nand '" .. path .. "'", "an Ultraplan, or two ultraplans, in a message",
        "see " .. path .. " please", rows .. "see " .. path .. " please", rows .. "an ultraplan" }
      for _, text in ipairs(texts) do assert.equal("success", say(live, text).verdict, text) end
      assert.same(texts, kit:taken())

      local long, is_newest = rows .. path .. "\n" .. rows .. "end", live.version == "2.1.330"
      local mark = 'a <pasted_content id="x"> in the text'
      for text, is_taken in pairs { [long] = is_newest, [mark] = not is_newest } do
        if is_taken then
          assert.equal("success", say(live, text).verdict)
          table.insert(texts, text)
        else
          local received = kit:received()
          failure_of("ValueError", live.send, live, text)
          assert.equal(received, kit:received())
        end
      end
      say(live, "still there?")
      table.insert(texts, "still there?")
      assert.same(texts, kit:taken())
    end)

    on({ "2.1.330" }, "one that the program has marked as a paste has arrived changed", { session = { policies = {
      delivery = { keystrokes = function(text)
        return { { keys = "\27[200~" .. text .. "\27[201~", holds = text } }
      end } } } }, function(live)
      local err = failure_of("SessionError", say, live, "an ultraplan in a paste")
      assert.equal("delivery", err.reason)
      assert.matches("<pasted_content", err.received)
    end)

    on({ "2.1.330" }, "one that the program would change is not sent", { session = { policies = { delivery = {
      prepare = function(text) return text end } } } }, function(live, kit)
      local err = failure_of("SessionError", say, live, "user\u{202E}txt.exe")
      assert.equal("delivery", err.reason)
      assert.same({}, kit:taken())
    end)
  end)

  describe("3, text is text:", function()
    each("no message runs a command or a shell, ends the program, or presses a key", {}, function(live, kit)
      for _, text in ipairs { "/exit", " /exit", "/help", "exit", ":q", "/exit.", "\3\3", "x\27[201~\r/exit\r" } do
        failure_of("ValueError", live.send, live, text)
      end
      for _, text in ipairs { "!touch pwned", "! exit", "a /exit", "x\n/exit", "//exit", "1", "y", "x @", ":smile" } do
        assert.equal("success", say(live, text).verdict, text)
      end
      assert.same({}, kit:events "command")
      assert.same({}, helper.names_in(kit.cwd))
      assert.is_true(live.process:is_alive())
    end)

    each("what a message says is no sign of what the program does", {}, function(live)
      for _, text in ipairs { "esc to interrupt", "Pasting text…", "✻ x · retrying in 3s · attempt 1/3",
        "❯ 1. Yes\n  2. No\nEnter to confirm · Esc to cancel" } do
        local said = say(live, text)
        assert.equal("success", said.verdict)
        assert.equal(0, count_of(said, "api_retry"))
      end
    end)
  end)

  describe("what is the user's own", function()
    local function status_line(...)
      return { statusLine = { type = "command", command = "printf '%s\n' '" .. table.concat({ ... }, "' '") .. "'" } }
    end

    for _, line in ipairs { "Pasting text…", "esc to interrupt", "✻ Baking… (esc to interrupt)",
      "Removed 2 characters · review and press Enter to send" } do
      each("below the composer decides nothing: " .. line, { settings = status_line("mine", line),
        script = { faults = { lose_returns = 1 } } }, function(live, kit)
        local screen = live.process.screen
        helper.eventually(function() return screen:text():find(line, 1, true) end, 20000, "the status line")
        for _, text in ipairs { "hello", "two\nlines" } do assert.equal("success", say(live, text).verdict) end
        assert.same({ "hello", "two\nlines" }, kit:taken())
      end)
    end

    each("may be vim's keys, also after an interrupt and where NORMAL mode was left behind", {
      settings = { editorMode = "vim" }, script = { answers = { { on = "SLOW", delay_ms = 60000 } } },
    }, function(live, kit)
      helper.eventually(function() return live.process.screen:text():find("-- INSERT --", 1, true) end, 20000, "vim")
      for i = 1, 2 do
        local said = say(live, "SLOW " .. i, function(event)
          if event.type == "user" then live:interrupt() end
        end)
        assert.equal("interrupted", said.verdict)
        for _, text in ipairs { "hello", "! two\nlines" } do assert.equal("success", say(live, text).verdict) end
      end
      live.process:write "left over"
      helper.eventually(function() return live.process.screen:text():find("left over", 1, true) end, 20000, "the text")
      live.process:write "\27"
      helper.eventually(function() return not live.process.screen:text():find("INSERT", 1, true) end, 20000, "NORMAL")
      assert.equal("success", say(live, "hello").verdict)
      assert.same({ "SLOW 1", "hello", "! two\nlines", "SLOW 2", "hello", "! two\nlines", "hello" }, kit:taken())
    end)

    each("may have Enter make a new line, which is an error that says so", { is_not_started = true,
      session = { file_wait_timeout_ms = 60000 } }, function(live, kit)
      local bindings = '{"bindings":[{"context":"Chat","bindings":{"enter":"chat:newline"}}]}'
      helper.write(kit.home .. "/.claude/keybindings.json", bindings)
      live:start()
      local err = failure_of("SessionError", say, live, "hello")
      assert.equal("delivery", err.reason)
      assert.matches("keybindings.json", tostring(err), 1, true)
      assert.same({}, kit:taken())
      assert.equal(1, select(2, kit:received():gsub("\r", "")))
    end)

    ---Settings with a hook that does this with a message in which "secret" stands.
    local function hook(command)
      local all = { type = "command", command = "grep -q secret || exit 0; " .. command }
      return { hooks = { UserPromptSubmit = { { hooks = { all } } } } }
    end

    for name, command in pairs {
      ["with its status"] = 'echo "no secrets" >&2; exit 2',
      ["in JSON"] = [[echo '{"decision":"block","reason":"no secrets"}']],
      ["in JSON that hides the message"] = [[echo '{"decision":"block","reason":"no secrets",]]
        .. [["hookSpecificOutput":{"hookEventName":"UserPromptSubmit","suppressOriginalPrompt":true}}']],
    } do
      for _, count in ipairs { 0, 1 } do
        each(("refuses the message, as a hook, %s, after %d others"):format(name, count), { settings = hook(command),
          session = { file_wait_timeout_ms = 60000 } }, function(live, kit)
          for _ = 1, count do say(live, "hello") end
          local started = task.now()
          local err = failure_of("SessionError", say, live, "my secret is 17")
          assert.equal("refused", err.reason)
          assert.matches("no secrets", tostring(err))
          assert.is_true(task.now() - started < 30000)
          assert.equal(count + 1, #kit:taken())
        end)
      end
    end

    each("has the program stop at the message, as a hook, which is a verdict of its own", {
      settings = hook [[echo '{"continue":false,"stopReason":"no secrets"}']] }, function(live, kit)
      local said = say(live, "my secret is 17")
      assert.equal("error_hook", said.verdict)
      assert.is_true(said.result.is_error)
      assert.matches("stop at the message: no secrets", said.result.message)
      for _, event in ipairs(said.events) do
        if event.type == "user" and not event.is_meta then assert.equal("my secret is 17", event:text()) end
      end
      assert.equal("success", say(live, "hello").verdict)
      assert.same({ "my secret is 17", "hello" }, kit:taken())
    end)

    each("takes its time with the message, as a hook, which is not lost by that", { settings = hook "sleep 4",
      session = { file_wait_timeout_ms = 1500 } }, function(live, kit)
      assert.same({ "echo: my secret is 17" }, say(live, "my secret is 17").texts)
      assert.same({ "my secret is 17" }, kit:taken())
    end)

    on(ENDS, "takes more time than a turn may take, as a hook", { settings = hook "sleep 20",
      session = { turn_timeout_ms = 3000 } }, function(live)
      local err = failure_of("SessionError", say, live, "my secret is 17")
      assert.equal("timeout", err.reason)
      assert.matches("turn_timeout_ms", tostring(err))
    end)
  end)

  describe("4, consent is the user's:", function()
    local DIALOGS = { trust = { trusted = false }, bypass = { bypass_accepted = false } }
    for kind, given in pairs(DIALOGS) do
      given.is_not_started = true
      each(kind .. " is not answered by itself", given, function(live, kit)
        local started = task.now()
        local err = failure_of("DialogError", live.start, live)
        assert.equal(kind, err.dialog.kind)
        assert.is_true(task.now() - started < 30000) -- and not the 60 s that a start may take
        assert.is_false(live.process:is_alive())
        local remembered = files.read(kit.home .. "/.claude.json") .. files.read(kit.home .. "/.claude/settings.json")
        assert.is_nil(remembered:find(kind == "trust" and "hasTrustDialogAccepted" or "skipDangerous"))
        assert.equal("", kit:received())
      end)

      on({ "2.1.330" }, kind .. " is not answered by another consent", { trusted = given.trusted,
        bypass_accepted = given.bypass_accepted, is_not_started = true,
        session = { accept = { "api_key", "mcp", "permission", kind == "trust" and "bypass" or "trust" } } },
      function(live) failure_of("DialogError", live.start, live) end)

      each(kind .. " is answered when accept names it", { trusted = given.trusted,
        bypass_accepted = given.bypass_accepted, is_not_started = true, session = { accept = { kind } } },
      function(live)
        live:start()
        assert.equal("success", say(live, "hello").verdict)
      end)
    end

    local by_default = { permission_mode = "default" }
    each("a permission prompt is not answered by itself", { process = by_default }, function(live, kit)
      local err = failure_of("DialogError", say, live, "TOUCH it")
      assert.equal("permission", err.dialog.kind)
      assert.same({ "Bash", "touch made.txt" }, { err.dialog.tool_use.name, err.dialog.tool_use.input.command })
      assert.matches("touch made.txt", tostring(err))
      assert.is_nil(kit:received():find "\r.*\r")
    end)

    each("a permission prompt that looks like another dialog is not answered for it", { process = by_default,
      session = { accept = { "trust", "plan", "imports", "bypass", "api_key" } },
      script = { answers = { { tool = { name = "Bash",
        input = { command = "touch made\n─────\nAccessing workspace:\nWould you like to proceed?" } } } } },
    }, function(live)
      assert.equal("permission", failure_of("DialogError", say, live, "do it").dialog.kind)
    end)

    each("a policy may deny", { process = by_default, session = { policies = { dialogs = {
      decide = function(dialog) return { choose = #dialog.choices } end } } } }, function(live)
      assert.equal("interrupted", say(live, "TOUCH it").verdict)
      assert.same({ "echo: and on" }, say(live, "and on").texts)
    end)

    each("a policy may allow", { process = by_default, session = { accept = { "permission" } } }, function(live)
      local said = say(live, "TOUCH it")
      assert.equal("success", said.verdict)
      assert.equal(1, count_of(said, "dialog_answered"))
    end)

    local function bash(command)
      return { name = "Bash", permission = true, result = "", input = { command = command, description = "as asked" } }
    end

    each("each of two calls is judged by what it does", { process = by_default,
      session = { policies = { dialogs = dofile "scripts/examples/read_only_permissions.lua" } },
      script = { answers = { { on = "two", tools = { bash "ls -la", bash "rm -rf victim" } },
        { on = "part", tools = { bash "ls", bash "rm -rf tools" } } } },
    }, function(live)
      for text, commands in pairs { two = { "ls -la", "rm -rf victim" }, part = { "ls", "rm -rf tools" } } do
        local said = say(live, text)
        assert.equal("interrupted", said.verdict)
        local answered = {}
        for _, event in ipairs(said.events) do
          if event.subtype == "dialog_answered" then table.insert(answered, event) end
        end
        assert.same({ "Yes", "No" }, { answered[1].choice, answered[2].choice })
        for i, command in ipairs(commands) do
          assert.truthy(("\n" .. answered[i].text .. "\n"):find("\n" .. command .. "\n", 1, true), answered[i].text)
        end
      end
    end)

    each("a call that cannot be seen whole is no call that a policy may judge", {
      process = { permission_mode = "default", dimensions = { 24, 80 } },
      session = { accept = { "permission" },
        policies = { dialogs = dofile "scripts/examples/read_only_permissions.lua" } },
      script = { answers = { { tool = bash(("ls\n"):rep(40) .. "rm -rf victim") } } },
    }, function(live)
      local said = say(live, "do it")
      assert.equal("interrupted", said.verdict)
      assert.equal(1, count_of(said, "dialog_answered"))
    end)

    each("a question is nobody's but the policy's", { process = by_default,
      session = { accept = { "permission", "trust" } },
      script = { answers = { { tool = { name = "AskUserQuestion", input = {},
        question = { text = "Do you want to proceed?", choices = { "Yes", "No" } } } } } },
    }, function(live)
      assert.equal("question", failure_of("DialogError", say, live, "ask").dialog.kind)
    end)

    on(ENDS, "nothing is pressed on a dialog that nobody knows", { session = { accept = { "trust", "permission" } },
      script = { answers = { { dialog = { title = "A new thing", choices = { "Yes", "No" } }, text = "x" } } } },
    function(live, kit)
      assert.equal("unknown", failure_of("DialogError", say, live, "hello").dialog.kind)
      assert.equal(1, select(2, kit:received():gsub("\r", "")))
    end)
  end)

  describe("5, a turn ends, and not early:", function()
    each("with all its blocks and its verdict", {}, function(live)
      assert.same({ "first text", "second text" }, say(live, "THINK").texts)
      assert.same({ "let me run", 'echo: TOOLRESULT:"tool-out"' }, say(live, "USETOOL").texts)
      assert.equal('echo: TOOLRESULT:"A" TOOLRESULT:"B"', say(live, "TWOTOOLS").texts[1])
      assert.equal("error_no_output", say(live, "EMPTY").verdict)
      assert.equal("end_turn", say(live, "MAXTOK").result.stop_reason)
      assert.equal("stop_sequence", say(live, "STOPSEQ").result.stop_reason)
      assert.equal("pause_turn", say(live, "PAUSE").result.stop_reason)
      assert.same({ "drop one", "echo: DRIP" }, say(live, "DRIP").texts)
      assert.is_truthy(say(live, "REFUSE").verdict)
      assert.same({ "echo: fine" }, say(live, "fine").texts)
    end)

    each("when lines come late, in halves and out of order", { script = { answers = {
      { on = "half", half_line_ms = 100,
        blocks = { { type = "text", text = "one" }, { type = "text", text = "two" } } },
      { on = "order", reorder = true, text = "in order" },
      { on = "without", text = "no last record", omit_turn_duration = true } }, faults = { late_flush_ms = 150 } } },
    function(live)
      assert.same({ "one", "two" }, say(live, "half").texts)
      assert.same({ "in order" }, say(live, "order").texts)
      assert.same({ "no last record" }, say(live, "without").texts)
    end)

    each("on errors of the API, used up or not", { script = { answers = {
      { on = "401", api_error = { status = 401, retries = 2, retry_ms = 150 } },
      { on = "400", api_error = { status = 400 } },
      { on = "once", retries = 1, retry_ms = 150, text = "after all" } } } }, function(live)
      local said = say(live, "401")
      assert.equal("error_api", said.verdict)
      assert.same({ "authentication_failed", 401, true }, { said.result.error, said.result.api_error_status,
        said.result.is_error })
      assert.equal(2, count_of(said, "api_retry"))
      assert.equal("error_api", say(live, "400").verdict)
      said = say(live, "once")
      assert.equal("success", said.verdict)
      assert.equal(1, count_of(said, "api_retry"))
    end)

    each("by its deadline, with what was tried", { session = { turn_timeout_ms = 1500 }, script = { answers = {
      { api_error = { status = 529, retries = 50, retry_ms = 300 } } } } }, function(live)
      local err = failure_of("SessionError", say, live, "hello")
      assert.equal("timeout", err.reason)
      assert.is_truthy(err.retry)
      assert.is_string(err.screen)
    end)

    on(ENDS, "when the program hangs", { session = { turn_timeout_ms = 1200 },
      script = { answers = { { hang = true } } } }, function(live)
      assert.equal("timeout", failure_of("SessionError", say, live, "hello").reason)
    end)

    each("when it hangs and its spinner goes on counting", { session = { stall_timeout_ms = 2500,
      turn_timeout_ms = 60000 }, script = { answers = { { hang = true } } } }, function(live)
      assert.matches("stall_timeout_ms", tostring(failure_of("SessionError", say, live, "hello")))
    end)

    on(ENDS, "but not when a tool takes longer than the program may be silent", { session = { stall_timeout_ms = 3000 },
      script = { answers = { { tool = { name = "Bash", input = { command = "make" }, result = "made",
        duration_ms = 7000 }, after = "done" } } } }, function(live)
      assert.equal("success", say(live, "hello").verdict)
    end)

    for _, point in ipairs { "before_record", "after_user", "mid_line", "during_tool" } do
      on(ENDS, "when the program dies: " .. point, { script = { answers = { { on = "die", crash = point, text = "x",
        tool = point == "during_tool" and { name = "Bash", input = { command = "x" } } or nil } } } },
      function(live)
        local err = failure_of("SessionError", say, live, "die")
        assert.same({ "exit", "SIGKILL" }, { err.reason, err.exit.signal })
        assert.is_false(live.process:is_alive())
      end)
    end

    on({ "2.1.197", "2.1.330" }, "a sub-agent's report is a part of it", {}, function(live, kit)
      assert.equal("success", say(live, "AGENT").verdict)
      assert.same({ "echo: next" }, say(live, "next").texts)
      assert.same({ "AGENT", "next" }, kit:taken())
    end)

    on(ENDS, "a program that never gets ready", { is_not_started = true, session = { startup_timeout_ms = 400 },
      script = { faults = { never_ready = true } } }, function(live)
      assert.equal("timeout", failure_of("SessionError", live.start, live).reason)
    end)
  end)

  -- A paste of that size does not fit into what the kernel holds for a program that does not read.
  local LONG = ("line\n"):rep(100000)

  on({ "2.1.330" }, "5, a turn ends, though the program is stopped and its terminal full",
    { session = { turn_timeout_ms = 1500 } }, function(live)
      live.process:signal "SIGSTOP"
      local before = task.now()
      local err = failure_of("SessionError", say, live, LONG)
      assert.equal("timeout", err.reason)
      assert.matches("turn_timeout_ms", tostring(err))
      assert.is_true(task.now() - before < 60000)
    end)

  describe("6, cancel is clean:", function()
    on(ENDS, "what was cut off by an interrupt, in a program that is stopped, joins nothing", {}, function(live, kit)
      live.process:signal "SIGSTOP"
      local waiter = task.spawn(function()
        helper.eventually(function() return live.keys_may_follow end)
        live:interrupt()
      end)
      assert.equal("interrupted", say(live, LONG).verdict)
      waiter:await()
      live.process:signal "SIGCONT"
      assert.same({ "echo: next" }, say(live, "next").texts)
      assert.same({ "next" }, kit:taken())
    end)

    each("a loop that is left leaves nothing", {}, function(live, kit)
      for _ in live:send "SLOW" do break end -- luacheck: ignore 512
      assert.is_false(live.process:is_alive())
      assert.same({}, kit:processes())
    end)

    each("a task that is cancelled leaves nothing", {}, function(live, kit)
      local talk = task.spawn(function() say(live, "SLOW") end)
      helper.eventually(function() return live.turn and live.turn:state() == "running" end)
      talk:cancel()
      pcall(talk.await, talk)
      assert.same({}, kit:processes())
    end)

    each("an interrupted message is not glued to the next", {}, function(live, kit)
      for number = 1, 3 do
        local waiter = task.spawn(function()
          helper.eventually(function() return #kit:taken() == number and live.turn:state() ~= "typing" end)
          live:interrupt()
        end)
        assert.equal("interrupted", say(live, "SLOW").verdict)
        waiter:await()
      end
      assert.same({ "echo: next" }, say(live, "next").texts)
      assert.same({ "SLOW", "SLOW", "SLOW", "next" }, kit:taken())
    end)

    each("an interrupt in a tool, or in the typing, is one too", {}, function(live, kit)
      assert.equal("interrupted", say(live, "SLOWTOOL", function(event)
        if #event:blocks "tool_use" > 0 then live:interrupt() end
      end).verdict)
      local waiter = task.spawn(function()
        helper.eventually(function() return live.turn:state() == "typing" end)
        live:interrupt()
      end)
      assert.equal("interrupted", say(live, ("line\n"):rep(200)).verdict)
      waiter:await()
      assert.same({ "echo: next" }, say(live, "next").texts)
      assert.same({ "SLOWTOOL", "next" }, kit:taken())
    end)
  end)

  describe("7, no orphans:", function()
    on({ "2.1.330" }, "the program does not outlive a host that is killed", { is_not_started = true }, function(_, kit)
      -- The end of the terminal ends most programs, whoever holds the other end; not this one.
      local deaf = helper.write_script(kit.folder .. "/deaf", "trap '' HUP TERM; while :; do sleep 0.1; done")
      local script = [[local p = require("parley.claude.process").new { executable = %q, cwd = %q }
        p:start() print(p:pid()) io.stdout:flush() require("parley.base.task").sleep(60000)]]
      local host <close> = helper.start { helper.host, "-e", script:format(deaf, kit.cwd) }
      host:expect "\n"
      local pid = tonumber(host.output)
      host:kill "sigkill"
      helper.eventually(function() return helper.has_ended(pid) end, 5000, "the end of the program")
    end)
  end)

  describe("8, private:", function()
    on({ "2.1.330" }, "what is written is its owner's alone, and is gone afterwards", { is_not_started = true },
      function(_, kit)
        local before = helper.names_in(uv.os_tmpdir())
        local of_backend = { history_injection_mode = "native_jsonl" }
        for name, value in pairs(kit.options) do of_backend[name] = value end
        local talks = backend.new(of_backend)
        local messages = { { role = "user", content = "a" }, { role = "assistant", content = "b" },
          { role = "user", content = "c" } }
        for _ in talks:complete(messages) do end -- luacheck: ignore 542
        local id = next(talks:live_sessions())
        local path = kit:transcript_path(id)
        assert.equal(tonumber("600", 8), uv.fs_stat(path).mode & tonumber("777", 8))
        assert.equal(tonumber("700", 8), uv.fs_stat(path:match "^(.*)/").mode & tonumber("777", 8))
        talks:close()
        local after = {}
        for _, name in ipairs(helper.names_in(uv.os_tmpdir())) do after[name] = true end
        for _, name in ipairs(before) do after[name] = nil end
        for name in pairs(after) do assert.is_nil(name:find "^parley%-[^ks]", name) end
      end)

    it("a session id cannot name a path, and provider keys stay outside", function()
      failure_of("ValueError", process.new, { session_id = "../../etc/passwd" })
      failure_of("ValueError", process.new, { resume_session_id = "a/b" })
      local child = process.new { base_env = { ANTHROPIC_API_KEY = "x", ANTHROPIC_BASE_URL = "y", PATH = "z" } }
      assert.is_nil(child.environment.ANTHROPIC_API_KEY)
      assert.is_nil(child.environment.ANTHROPIC_BASE_URL)
      assert.equal("z", child.environment.PATH)
    end)
  end)

  describe("9, quiet:", function()
    each("an idle session wakes nobody", {}, function(live)
      say(live, "hello")
      local looked = 0
      local state = live.state
      function live:state() -- whoever looks at the session asks for its state
        looked = looked + 1
        return state(self)
      end
      assert.equal("notify", live.watcher:mode())
      uv.walk(function(handle)
        if uv.handle_get_type(handle) == "timer" and handle:is_active() then assert.equal(0, handle:get_repeat()) end
      end)
      local before = uv.getrusage()
      pcall(task.timeout, 300, function() task.condition():wait() end)
      local after = uv.getrusage()
      local used = (after.utime.sec - before.utime.sec) * 1e6 + after.utime.usec - before.utime.usec
      assert.equal(0, looked)
      assert.is_true(used < 30000, ("%d µs of CPU"):format(used))
    end)
  end)

  describe("10, versions:", function()
    each("what a version offers is observed", {}, function(live, _, profile)
      assert.equal("success", say(live, "hello").verdict)
      assert.equal(profile, live:view().version)
      assert.equal(profile ~= "2.1.110", live.offers_duration == true)
    end)

    on({ "2.1.110" }, "a turn without a last record ends soon all the same", {}, function(live)
      say(live, "warm")
      local said = say(live, "hello")
      assert.is_true(said.result.duration_ms < 3000) -- so long an end that is owed would be waited for
    end)

    on({ "2.1.330" }, "a version that is not known, without status and last record, works as the oldest does",
      { script = { profile_changes = { version = "9.9.9", status_file = "none", turn_duration = false } } },
      function(live)
        assert.same({ "echo: hello" }, say(live, "hello").texts)
        assert.same({ "first text", "second text" }, say(live, "THINK").texts)
      end)
  end)
end)
