local uv = require "luv"
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local terminals = require "parley.testing.terminal"
local testing = require "parley.testing"
local tmux = require "spec.tmux"

local SCRIPT = {
  answers = {
    { on = "list it", after = "Three.",
      tool = { name = "Bash", input = { command = "ls -l" }, result = "one\ntwo\nthree" } },
    { on = "work hard", tool = { name = "Bash", input = { command = "make" }, result = "made", duration_ms = 60000 } },
    { on = "take long", text = "At last.", delay_ms = 60000 },
    { on = "take a second", text = "A second.", delay_ms = 2000 },
    { on = "beep", text = "a\27]0;title\7b\u{9b}31mc" },
    { on = "fail", api_error = { status = 400 } },
  },
}
local COLUMNS = 120 -- the first line names a folder, which may be long
local PASTE_BEGIN, PASTE_END = "\27[200~", "\27[201~"

describe("parley chat", function()
  local check_leaks, kit

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit { script = SCRIPT }
  end)
  after_each(function()
    helper.close_behind(kit)
    check_leaks()
    helper.remove_folders()
  end)

  local function environment(changes)
    return helper.environment({ TERM = "xterm-256color", PS1 = "" }, kit.environment, changes)
  end

  local function command(arguments)
    return { helper.host, "chat", "--executable", kit.executable, table.unpack(arguments or {}) }
  end

  local function open_terminal(argv, options)
    options = options or {}
    return terminals.open { argv = argv, environment = environment(options.env), cwd = kit.cwd,
      rows = options.rows or 24, columns = options.columns or 80 }
  end

  --- Starts it on a terminal and waits for the prompt.
  local function open(options)
    options = options or {}
    local terminal = open_terminal(command(options.arguments), { env = options.env, rows = options.rows,
      columns = options.columns or COLUMNS })
    terminal:wait_for "Ctrl-D leaves\n>"
    return terminal
  end

  --- The same below a shell that says afterwards how it ended and whether the terminal is as it was.
  local function open_below_shell(arguments)
    local script = [[before=$(stty -g); "$@"; echo "status $?"
      if [ "$(stty -g)" = "$before" ]; then echo "as before"; else stty -a; fi]]
    local argv = { "/bin/sh", "-c", script, "sh", table.unpack(command(arguments)) }
    local terminal = open_terminal(argv, { columns = COLUMNS })
    terminal:wait_for "Ctrl-D leaves\n>"
    return terminal
  end

  --- The process below the shell.
  local function child_of(terminal)
    local shell = terminal.pty:pid()
    return tonumber((files.read(("/proc/%d/task/%d/children"):format(shell, shell)) or ""):match "%d+")
  end

  --- Everything below the first line, which names a folder.
  local function body(terminal) return (terminal.screen:text():gsub("^[^\n]*\n", "")) end

  local function expect_body(terminal, text)
    local ok = pcall(helper.eventually, function() return body(terminal) == text end, 10000)
    if not ok then assert.equal(text, body(terminal)) end
  end

  local function it_does(sentence, fn) it(sentence, helper.task(fn, 120000)) end

  --- What stands for a long text in the line; its spaces are such as nobody types.
  local function name_of(number, lines, characters)
    local name = ("[text %d: %d lines, %d characters]"):format(number, lines, characters)
    return (name:gsub(" ", "\u{A0}"))
  end

  local function wait_for_claude()
    helper.eventually(function() return #kit:events "started" > 0 end, 10000, "the start of claude")
  end

  describe("on a terminal", function()
    it_does("shows the prompt before claude is ready", function()
      kit:use { startup_delay_ms = 700 }
      local terminal <close> = open()
      terminal:write "hello\r"
      terminal:wait_for "claude is starting"
      terminal:wait_for "echo: hello"
      assert.equal(1, #kit:events "started")
      terminal:write "\4"
      assert.same({ exit_code = 0 }, terminal:exit())
    end)

    it_does("shows answers, and tool calls in a line each", function()
      local terminal <close> = open()
      terminal:write "hello\r"
      terminal:wait_for "echo: hello\n\n>"
      terminal:write "list it\r"
      expect_body(terminal, "> hello\necho: hello\n\n> list it\n[Bash] ls -l\n  one (+2 lines, 13 B)\nThree.\n\n>")
      assert.same({ "hello", "list it" }, kit:taken())
    end)

    it_does("says what is waited for, and how long, and wipes that away", function()
      local terminal <close> = open()
      terminal:write "take a second\r"
      local WAITS = "\nwaiting for the answer, %d s %(Ctrl%-C interrupts%)"
      terminal:wait_for(function() return body(terminal):find(WAITS) end)
      expect_body(terminal, "> take a second\nA second.\n\n>")
      terminal:write "work hard\r"
      local function seconds() return tonumber(body(terminal):match "%[Bash%] make\nrunning Bash, (%d+) s") end
      local before = terminal:wait_for(seconds)
      terminal:wait_for(function() return (seconds() or 0) > before end)
    end)

    it_does("goes on when the terminal is resized in the middle of an answer", function()
      local terminal <close> = open()
      terminal:write "work hard\r"
      terminal:wait_for "running Bash"
      terminal:resize(10, 30)
      terminal:wait_for "running Bash, 1 s"
      terminal:write "\3"
      terminal:wait_for "(interrupted)\n\n>"
      terminal:write(("x"):rep(40))
      terminal:wait_for("\n> " .. ("x"):rep(28) .. "\n" .. ("x"):rep(12))
    end)

    it_does("paints the line anew when the terminal is resized while it is typed", function()
      local terminal <close> = open { columns = 40 }
      terminal:write(("abcdefghij"):rep(3))
      terminal:wait_for "> abcdefghij"
      terminal:resize(24, 60)
      terminal:write "klmno"
      terminal:wait_for(("abcdefghij"):rep(3) .. "klmno")
      local _, count = terminal.screen:text():gsub("\n> abc", "")
      assert.equal(1, count)
      terminal:write "\r"
      terminal:wait_for("echo: " .. ("abcdefghij"):rep(3) .. "klmno")
    end)

    it_does("keeps what is typed during an answer for the next message", function()
      local terminal <close> = open()
      terminal:write "take a second\r"
      terminal:wait_for "waiting for the answer"
      terminal:write "and then?\r"
      terminal:wait_for "echo: and then?"
      assert.same({ "take a second", "and then?" }, kit:taken())
    end)

    it_does("lets no control character of an answer act on the terminal", function()
      local terminal <close> = open()
      terminal:write "beep\r"
      terminal:wait_for "a\u{fffd}]0;title\u{fffd}b\u{fffd}31mc"
      assert.equal("", terminal.screen:title())
    end)

    it_does("colours, but not with NO_COLOR", function()
      do
        local terminal <close> = open()
        terminal:write "list it\r"
        terminal:wait_for "Three.\n\n>"
        assert.truthy(terminal.output:find("\27[2m", 1, true))
      end
      local terminal <close> = open { env = { NO_COLOR = "1" } }
      terminal:write "list it\r"
      terminal:wait_for "Three.\n\n>"
      assert.is_nil(terminal.output:find "\27%[[%d;]*m")
    end)

    it_does("tells of a turn that failed, and goes on", function()
      local terminal <close> = open()
      terminal:write "fail\r"
      terminal:wait_for "the turn ended with error_api: API Error: 400 as asked"
      terminal:wait_for "the message is not part of the conversation"
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
    end)

    it_does("leaves the conversation as it was when claude dies inside a tool call, and saves it so", function()
      local terminal <close> = open()
      terminal:write "hello\r"
      terminal:wait_for "echo: hello\n\n>"
      terminal:write "work hard\r"
      terminal:wait_for "running Bash"
      uv.kill(kit:processes()[1], "sigkill")
      terminal:wait_for "the message is not part of the conversation; Up brings it back\n\n>"
      terminal:write "again\r"
      terminal:wait_for "echo: again"
      terminal:write "/save it.json\r"
      terminal:wait_for "wrote it.json: 4 messages"
      local program = helper.run({ helper.host, "ask", "--executable", kit.executable, "--history", "it.json", "on" },
        { env = environment(), cwd = kit.cwd })
      assert.equal("echo: on\n", program.output, program.errors)
    end)

    it_does("tells at once that claude cannot be run, and stays", function()
      local terminal <close> = open_terminal { helper.host, "chat", "--executable", "/nowhere/claude" }
      terminal:wait_for "cannot run '/nowhere/claude': no such program"
      terminal:wait_for "\n>"
      terminal:write "/quit\r"
      assert.same({ exit_code = 0 }, terminal:exit())
    end)
  end)

  describe("Ctrl-C", function()
    it_does("interrupts the turn; the session and the conversation go on", function()
      local terminal <close> = open()
      terminal:write "work hard\r"
      terminal:wait_for "running Bash"
      terminal:write "\3"
      terminal:wait_for "(interrupted)\n\n>"
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
      assert.equal(1, #kit:events "started")
      assert.same({ "work hard", "hello" }, kit:taken())
    end)

    it_does("leaves a conversation that can be saved and gone on with after a tool was interrupted", function()
      local terminal <close> = open()
      terminal:write "work hard\r"
      terminal:wait_for "running Bash"
      terminal:write "\3"
      terminal:wait_for "(interrupted)\n\n>"
      terminal:write "/save it.json\r"
      terminal:wait_for "wrote it.json: 3 messages"
      local program = helper.run({ helper.host, "ask", "--executable", kit.executable, "--history", "it.json", "on" },
        { env = environment(), cwd = kit.cwd })
      assert.equal("echo: on\n", program.output, program.errors)
    end)

    it_does("withdraws a message that has no answer yet", function()
      local terminal <close> = open()
      terminal:write "take long\r"
      terminal:wait_for "waiting for the answer"
      helper.eventually(function() return #kit:taken() == 1 end)
      terminal:write "\3"
      terminal:wait_for "the message is not part of the conversation; Up brings it back\n\n>"
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
      terminal:write "/save it.json\r"
      terminal:wait_for "wrote it.json: 2 messages"
      assert.same({ "take long", "hello" }, kit:taken())
    end)

    it_does("leaves at the second time, with nothing left behind", function()
      local terminal <close> = open_below_shell()
      terminal:write "work hard\r"
      terminal:wait_for "running Bash"
      terminal:write "\3\3"
      terminal:wait_for "status 130\nas before"
      terminal:exit()
      assert.same({}, kit:processes())
    end)

    --- Waits until a set of signals of the program, as the kernel tells it, has one no more.
    local function wait_until_gone(terminal, set, number)
      helper.eventually(function()
        local status = files.read(("/proc/%d/status"):format(terminal:pid()))
        return tonumber(status:match(set .. ":%s*(%x+)"), 16) & 1 << number - 1 == 0
      end)
    end

    --- One that was left, and has given the terminal back, but waits for `claude`, which ends late.
    local function open_and_leave()
      kit:use { faults = { ignore_sigterm = true, survive_hangup = true } }
      local terminal = open()
      terminal:write "hello\r"
      terminal:wait_for "echo: hello\n\n>"
      terminal:write "\4"
      wait_until_gone(terminal, "SigCgt", 3) -- SIGQUIT is no more the editor's
      return terminal
    end

    it_does("does not cut short the end of claude at the first time", function()
      local terminal <close> = open_and_leave()
      terminal:write "\3"
      assert.same({ exit_code = 0 }, terminal:exit())
      assert.same({}, kit:processes())
    end)

    it_does("does so at the second", function()
      local terminal <close> = open_and_leave()
      uv.kill(terminal:pid(), "sigint")
      wait_until_gone(terminal, "ShdPnd", 2) -- a second one that pends would be the same
      uv.kill(terminal:pid(), "sigint")
      assert.same({ signal = "SIGINT", signal_number = 2 }, terminal:exit())
    end)

    it_does("clears the line, and leaves when pressed twice on an empty one", function()
      local terminal <close> = open_below_shell()
      terminal:write "half a mess\3"
      terminal:wait_for "> half a mess\n>"
      terminal:write "\3"
      terminal:wait_for "Ctrl-C again leaves, as Ctrl-D does\n>"
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
      terminal:write "\3\3"
      terminal:wait_for "status 130\nas before"
    end)
  end)

  describe("the terminal", function()
    it_does("is as it was after Ctrl-D", function()
      local terminal <close> = open_below_shell()
      terminal:write "\4"
      terminal:wait_for "status 0\nas before"
      assert.is_false(terminal.screen:modes().bracketed_paste)
    end)

    for signal, status in pairs { sigterm = 143, sighup = 129, sigquit = 1 } do
      it_does(("is as it was after %s, at the prompt and in a turn"):format(signal:upper()), function()
        for _, text in ipairs { "", "work hard\r" } do
          local terminal <close> = open_below_shell()
          terminal:write(text)
          if text ~= "" then terminal:wait_for "running Bash" end
          uv.kill(child_of(terminal), signal)
          terminal:wait_for(("status %d\nas before"):format(status))
        end
      end)
    end

    it_does("is as it was after an error", function()
      local folder = helper.temporary_folder()
      helper.write(folder .. "/bad.lua", [[return { judge = function()
        require("luv").new_timer():start(0, 0, function() error "the policy is broken" end)
        return nil, 100
      end }]])
      local terminal <close> = open_below_shell { "--policy", "settling=" .. folder .. "/bad.lua" }
      terminal:write "hello\r"
      terminal:wait_for "the policy is broken"
      terminal:wait_for "status 1\nas before"
    end)

    it_does("is given back while Ctrl-Z stops the program, and taken again", function()
      local script = '"$@"; echo; stty -a | grep -wo -e -icanon -e icanon; fg; echo "status $?"'
      local argv = { "/bin/sh", "-mc", script, "sh", table.unpack(command()) }
      local terminal <close> = open_terminal(argv)
      terminal:wait_for "Ctrl-D leaves\n>"
      terminal:write "hel\26"
      terminal:wait_for "\nicanon"
      terminal:wait_for "\n> hel"
      local _, marks_off = terminal.output:find("\27[?2004l", 1, true)
      assert.truthy(terminal.output:find("\27[?2004h", marks_off, true))
      terminal:write "lo\r"
      terminal:wait_for "echo: hello\n\n>"
      terminal:write "\4"
      terminal:wait_for "status 0"
    end)
  end)

  describe("line editing", function()
    it_does("edits and repeats", function()
      local terminal <close> = open()
      terminal:write "helo wurld\27[D\27[D\27[D\127o\27[Hxx\27[3~\27[1;5C\27[1;5D\27OF!\r"
      terminal:wait_for "echo: xxelo world!"
      terminal:write "\27[A"
      terminal:wait_for "\n\n> xxelo world!"
      terminal:write "?\r"
      terminal:wait_for "echo: xxelo world!?"
    end)

    it_does("takes no part of an unknown key as text", function()
      local terminal <close> = open()
      terminal:write "a\27[17;5~\27[?997;1nb\27Oz\27xc\r"
      terminal:wait_for "echo: abc"
    end)

    it_does("gives wide characters two columns", function()
      local terminal <close> = open()
      terminal:write "漢字é\27[D\27[D\127\u{1f600}"
      terminal:wait_for "> \u{1f600}字é"
      helper.eventually(function() return select(2, terminal.screen:cursor()) == 5 end)
      terminal:write "\r"
      terminal:wait_for "echo: \u{1f600}字é"
      assert.same({ "\u{1f600}字é" }, kit:taken())
    end)

    it_does("breaks a line at a backslash, Alt-Enter and Ctrl-J", function()
      local terminal <close> = open()
      terminal:write "one\\\rtwo\27\rthree\nfour"
      expect_body(terminal, "> one\ntwo\nthree\nfour")
      terminal:write "\27[A\27[A!\r"
      terminal:wait_for "echo: one"
      assert.same({ "one\ntwo!\nthree\nfour" }, kit:taken())
    end)

    it_does("keeps the lines of a paste and sends nothing for it", function()
      local terminal <close> = open()
      terminal:write(PASTE_BEGIN .. "first\r\nsecond\rthird\n" .. PASTE_END)
      expect_body(terminal, "> first\nsecond\nthird")
      assert.same({}, kit:taken())
      terminal:write "end\r"
      terminal:wait_for "echo: first"
      assert.same({ "first\nsecond\nthird\nend" }, kit:taken())
    end)

    it_does("says what of a paste no message may hold, and keeps the rest", function()
      local terminal <close> = open()
      terminal:write("a " .. PASTE_BEGIN .. "caf\xe9 \27[1mau lait" .. PASTE_END)
      expect_body(terminal, "2 of the pasted characters cannot be sent: U+FFFD stands for each\n"
        .. "> a caf\u{fffd} \u{fffd}[1mau lait")
      terminal:write "!\r"
      terminal:wait_for "echo: a caf\u{fffd}"
      assert.same({ "a caf\u{fffd} \u{fffd}[1mau lait!" }, kit:taken())
    end)

    it_does("names a long paste and sends it whole", function()
      local rows = {}
      for i = 1, 60 do rows[i] = "row " .. i end
      local text = table.concat(rows, "\n")
      local terminal <close> = open()
      terminal:write("see: " .. PASTE_BEGIN .. text:sub(1, 100))
      terminal:write(text:sub(101) .. PASTE_END)
      terminal:wait_for("> see: " .. name_of(1, 60, 410))
      terminal:write "\r"
      terminal:wait_for "row 60\n\n>"
      assert.same({ "see: " .. text }, kit:taken())
    end)

    it_does("takes no text for a long paste's name but the one that stands for it", function()
      local text = ("1\n"):rep(6) .. "7"
      local terminal <close> = open()
      terminal:write(PASTE_BEGIN .. text .. PASTE_END)
      terminal:wait_for("> " .. name_of(1, 7, 13))
      terminal:write "\r"
      terminal:wait_for "\n7\n\n>"
      terminal:write "what is [text 1: 7 lines, 13 characters]?\r"
      terminal:wait_for "echo: what is [text 1: 7 lines, 13 characters]?\n\n>"
      terminal:write(PASTE_BEGIN .. name_of(1, 7, 13) .. PASTE_END .. "\r")
      terminal:wait_for("echo: " .. name_of(1, 7, 13) .. "\n\n>")
      terminal:write "\27[A\r\27[A\27[A\27[A\r"
      helper.eventually(function() return #kit:taken() == 5 end)
      local said = { text, "what is [text 1: 7 lines, 13 characters]?", name_of(1, 7, 13), name_of(1, 7, 13), text }
      assert.same(said, kit:taken())
    end)

    it_does("takes a backslash that was pasted, or sent before, for text", function()
      local terminal <close> = open()
      terminal:write(PASTE_BEGIN .. "C:\\dir\\" .. PASTE_END .. "\r")
      terminal:wait_for "echo: C:\\dir\\\n\n>"
      terminal:write "\27[A\r"
      helper.eventually(function() return #kit:taken() == 2 end)
      terminal:write(PASTE_BEGIN .. "pasted" .. PASTE_END .. "\\ \127\rtyped\r")
      helper.eventually(function() return #kit:taken() == 3 end)
      assert.same({ "C:\\dir\\", "C:\\dir\\", "pasted\ntyped" }, kit:taken())
    end)

    it_does("remembers messages from one conversation to the next, privately", function()
      local path = kit.home .. "/.local/state/parley/chat_history.jsonl"
      do
        local terminal <close> = open()
        terminal:write "one\\\rtwo\r"
        terminal:wait_for "echo: one"
        terminal:write "\4"
        terminal:exit()
      end
      assert.equal('"one\\ntwo"\n', files.read(path))
      assert.equal(384, uv.fs_stat(path).mode & 511)
      local terminal <close> = open()
      terminal:write "\27[A"
      expect_body(terminal, "> one\ntwo")
      terminal:write "\3"
      terminal:write "on\18"
      expect_body(terminal, "> one\ntwo\n> one\ntwo")
    end)
  end)

  describe("the file of earlier messages", function()
    local function path() return kit.home .. "/.local/state/parley/chat_history.jsonl" end

    local function say_hello()
      local terminal <close> = open()
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
      terminal:write "\4"
      terminal:exit()
    end

    before_each(function() assert(files.make_folder(kit.home .. "/.local/state/parley")) end)

    it_does("stays where a link leads when it is shortened", function()
      local real, rows = kit.home .. "/synced.jsonl", {}
      for i = 1, 2100 do rows[i] = ('"m%d"\n'):format(i) end
      helper.write(real, table.concat(rows))
      assert(uv.fs_symlink(real, path()))
      say_hello()
      assert.equal("link", uv.fs_lstat(path()).type)
      assert.equal(table.concat(rows, "", 1101) .. '"hello"\n', files.read(real))
    end)

    it_does("loses no message behind a line that was half written", function()
      helper.write(path(), '"first"\n"half wri')
      say_hello()
      assert.equal('"first"\n"half wri\n"hello"\n', files.read(path()))
      local terminal <close> = open()
      terminal:write "\27[A"
      expect_body(terminal, "> hello")
    end)
  end)

  describe("commands", function()
    it_does("help", function()
      local terminal <close> = open()
      terminal:write "/help\r"
      terminal:wait_for "/save FILE"
      terminal:wait_for "Ctrl-R finds"
    end)

    it_does("names the near one for an unknown one, and sends what begins with two slashes", function()
      local terminal <close> = open()
      terminal:write "/sesion\r"
      terminal:wait_for "\nthere is no command '/sesion'; did you mean '/session'?"
      terminal:write "//etc/passwd is a file\r"
      terminal:wait_for "echo: /etc/passwd is a file"
      assert.same({ "/etc/passwd is a file" }, kit:taken())
    end)

    it_does("shows the session", function()
      local terminal <close> = open { columns = 200 }
      wait_for_claude()
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
      terminal:write "/session\r"
      terminal:wait_for "turns          1"
      local started = kit:events "started"[1]
      terminal:wait_for(("session        %s\ntranscript     %s\nprocess        %d\n"):format(started.session_id,
        kit:transcript_path(started.session_id), started.pid))
      terminal:wait_for "version        2.1.330\nstate          ready\n"
      terminal:wait_for "conversation   2 messages, not saved"
    end)

    it_does("shows claude's screen", function()
      local terminal <close> = open { rows = 60, columns = 130 }
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
      terminal:write "/screen\r"
      terminal:wait_for "❯ hello"
      terminal:wait_for "40 rows, 120 columns"
    end)

    it_does("runs a command of claude's", function()
      local terminal <close> = open()
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
      terminal:write "/claude compact\r"
      terminal:wait_for "\n\n> /claude compact"
      helper.eventually(function() return #kit:events "command" == 1 end, 10000)
      terminal:write "again\r"
      terminal:wait_for "echo: again"
      assert.equal(1, #kit:events "started")
    end)

    for _, profile in ipairs { "2.1.110", "2.1.197", "2.1.330" } do
      it_does("shows what a command of claude's shows, on " .. profile, function()
        kit:close()
        kit = testing.kit { script = { profile = profile } }
        local terminal <close> = open()
        terminal:write "hello\r"
        terminal:wait_for "echo: hello\n\n>"
        terminal:write "/claude /status\r"
        terminal:wait_for("Version:     " .. profile .. "\nSession ID: ")
        terminal:wait_for "\n\n>"
        terminal:write "/claude /cost\r"
        terminal:wait_for "Total cost: "
        terminal:write "/claude /nosuch\r"
        terminal:wait_for "> /claude /nosuch\nUnknown command: /nosuch\n\n>"
        terminal:write "/claude /model haiku\r"
        terminal:wait_for "/model changes the user's own settings"
        terminal:write "again\r"
        terminal:wait_for "echo: again\n\n>"
        local shown = terminal.screen:text()
        for _, text in ipairs { "dismissed", "Esc to", "Args from" } do
          assert.falsy(shown:find(text, 1, true), shown)
        end
      end)
    end

    it_does("saves and loads, and overwrites nothing of somebody else's", function()
      local path = kit.cwd .. "/talk.json"
      helper.write(path, "mine")
      do
        local terminal <close> = open()
        terminal:write "/save talk.json\r"
        terminal:wait_for "there is nothing to save yet"
        terminal:write "hello\r"
        terminal:wait_for "echo: hello"
        terminal:write "/save talk.json\r"
        terminal:wait_for "'talk.json' is there already, and not from this conversation: /save!"
        assert.equal("mine", files.read(path))
        terminal:write "/save! talk.json\r"
        terminal:wait_for "replaced talk.json: 2 messages"
        terminal:write "more\r"
        terminal:wait_for "echo: more"
        terminal:write "/load talk.json\r"
        terminal:wait_for "this conversation is not saved (4 messages): /save FILE keeps"
        terminal:write "/save talk.json\r"
        terminal:wait_for "replaced talk.json: 4 messages"
        terminal:write "\4"
        terminal:exit()
      end
      local messages = assert(core.json.decode(files.read(path)))
      assert.same({ role = "user", content = "hello" }, messages[1])
      assert.equal("echo: more", messages[4].content[1].text)
      local terminal <close> = open()
      terminal:write "/load talk.json\r"
      terminal:wait_for "loaded talk.json: 4 messages; the last is the assistant's: echo: more"
      terminal:write "COUNT\r"
      terminal:wait_for "\nturn "
      local started = kit:events "started"
      local id = table.concat(started[#started].argv, " "):match "%-%-resume (%S+)"
      local texts = {}
      for _, record in ipairs(kit:transcript(id)) do
        if record.type == "user" then
          local content = record.message.content
          table.insert(texts, type(content) == "table" and content[1].text or content)
        end
      end
      assert.same({ "hello", "more", "COUNT" }, texts)
    end)

    it_does("refuses a file that holds no conversation", function()
      helper.write(kit.cwd .. "/bad.json", '[{"role": "robot", "content": "x"}]')
      local terminal <close> = open()
      terminal:write "/load bad.json\r"
      terminal:wait_for 'messages[1] has the role "robot"'
      terminal:write "/load missing.json\r"
      terminal:wait_for "cannot read 'missing.json'"
      terminal:write "hello\r"
      terminal:wait_for "echo: hello"
    end)
  end)

  describe("on a terminal that can do nothing", function()
    it_does("reads lines, writes plain text, and interrupts", function()
      local terminal <close> = open_terminal(command(), { env = { TERM = "dumb" } })
      terminal:wait_for "Ctrl-D leaves\n>"
      terminal:write "one\\\ntwo\n"
      terminal:wait_for "echo: one\ntwo"
      terminal:write "work hard\n"
      terminal:wait_for "[Bash] make"
      terminal:write "\3"
      terminal:wait_for "(interrupted)"
      terminal:write "fail\n"
      terminal:wait_for "the message is not part of the conversation\n\n>"
      terminal:write "\4"
      assert.same({ exit_code = 0 }, terminal:exit())
      assert.is_nil(terminal.output:find("\27", 1, true))
    end)
  end)

  describe("on no terminal", function()
    local function filter(input, arguments)
      local program <close> = helper.start(command(arguments), { env = environment(), cwd = kit.cwd, input = input })
      return program:wait()
    end

    it_does("answers a message a line", function()
      local program = filter "hello\nlist it\n\none\\\ntwo\n//x/y is text"
      assert.equal("echo: hello\nThree.\necho: one\ntwo\necho: /x/y is text\n", program.output)
      assert.equal("[Bash] ls -l\n  one (+2 lines, 13 B)\n", program.errors)
      assert.equal(0, program.status)
      assert.same({ "hello", "list it", "one\ntwo", "/x/y is text" }, kit:taken())
      assert.equal(1, #kit:events "started")
    end)

    it_does("reads a long input in a time that grows as it does", function()
      local program = filter(("\n"):rep(600000) .. "hello")
      assert.equal("echo: hello\n", program.output)
      assert.equal(0, program.status)
    end)

    it_does("goes on with the last conversation of the folder", function()
      filter "hello\n"
      local path = helper.temporary_folder() .. "/talk.json"
      local program = filter("there\n/save " .. path .. "\n", { "--resume" })
      assert.equal("echo: there\n", program.output)
      assert.matches("wrote .*: 4 messages", program.errors)
      assert.matches("no session and no file 'nosuch'", filter("x\n", { "--resume", "nosuch" }).errors)
    end)

    it_does("reads a file", function()
      local path = helper.write(helper.temporary_folder() .. "/in", "hello\n/quit\nnot this\n")
      local argv = { "/bin/sh", "-c", '"$@" < ' .. path, "sh", table.unpack(command()) }
      local program <close> = helper.start(argv, { env = environment(), cwd = kit.cwd })
      assert.equal("echo: hello\n", program:wait().output)
      assert.same({ "hello" }, kit:taken())
    end)

    it_does("stops at the first thing that goes wrong", function()
      local program = filter "fail\nhello\n"
      assert.equal("", program.output)
      assert.equal("parley: SessionError: the turn ended with error_api: API Error: 400 as asked\n", program.errors)
      assert.equal(1, program.status)
      assert.same({ "fail" }, kit:taken())
      local missing <close> = helper.start({ helper.host, "chat", "--executable", "/nowhere/claude" },
        { env = environment(), cwd = kit.cwd, input = "hello\n" })
      assert.equal("", missing:wait().output)
      assert.matches("^parley: CLINotFoundError: [^\n]*\n$", missing.errors)
      assert.equal(1, missing.status)
      program = filter "/nonsense\nhello\n"
      assert.equal(1, program.status)
      assert.truthy(program.errors:find "there is no command '/nonsense'")
    end)

    for profile, beginning in pairs { ["2.1.110"] = "Error: Error", ["2.1.197"] = "Error", ["2.1.330"] = "Error" } do
      it_does("stops at a command that fails, on " .. profile, function()
        kit:use { profile = profile }
        local program = filter "one\n/claude /compact ERR400\nfour\n"
        assert.equal("echo: one\n", program.output)
        assert.equal("parley: SessionError: the turn ended with error_command: " .. beginning
          .. " during compaction: API Error: 400 as asked\n", program.errors)
        assert.equal(1, program.status)
        assert.same({ "one" }, kit:taken())
      end)
    end

    for _, profile in ipairs { "2.1.110", "2.1.330" } do
      it_does("stops at a command that claude does not know, on " .. profile, function()
        kit:use { profile = profile }
        local program = filter "/claude /nosuch\nhello\n"
        assert.equal("", program.output)
        assert.equal("parley: ValueError: Unknown command: /nosuch\n", program.errors)
        assert.equal(1, program.status)
        assert.same({}, kit:taken())
      end)
    end
  end)

  tmux.it("in tmux talks, is resized, interrupted and left", function()
    local person <close> = tmux.open(command(), { env = environment(), cwd = kit.cwd, folder = kit.folder })
    person:expect "Ctrl-D leaves\n>"
    person:type "漢字"
    person:press "M-Enter"
    person:type "two"
    person:expect "> 漢字\ntwo"
    person:press "Enter"
    person:expect "echo: 漢字\ntwo\n\n>"
    person:command("set-buffer", "pasted\nlines")
    person:command("paste-buffer", "-p")
    person:expect "> pasted\nlines"
    person:press "Enter"
    person:expect "echo: pasted\nlines\n\n>"
    person:press("work hard", "Enter")
    person:expect "running Bash"
    person:resize(40)
    person:expect "running Bash, 2 s"
    person:press "C-c"
    local shown = person:expect "(interrupted)"
    assert.is_nil(shown:find("running Bash", 1, true))
    person:expect "\n\n>"
    local digits = ("0123456789"):rep(5)
    person:type(digits)
    person:expect("> " .. digits:sub(1, 38) .. "\n" .. digits:sub(39))
    person:resize(70)
    person:type "A"
    shown = person:expect("> " .. digits .. "A")
    assert.equal(1, select(2, shown:gsub("\n> B?0123", "")))
    person:resize(30)
    person:press("Home", "B")
    shown = person:expect("\n> B" .. digits:sub(1, 27) .. "\n" .. digits:sub(28) .. "A")
    assert.equal(1, select(2, shown:gsub("\n> B?0123", "")))
    person:press("C-c", "C-c", "C-c")
    person:expect "status 130"
    assert.same({ "漢字\ntwo", "pasted\nlines", "work hard" }, kit:taken())
  end)
end)
