--- The stand-in on a real pty, driven by raw keys: the command line, the start, the dialogs, the composer. What it
--- should do was measured on the published program.
local uv = require "luv"
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local testing = require "parley.testing"
local play = require "spec.lua.testing.play"

local scene, send, status_of, user_texts, read_json =
  play.scene, play.send, play.status_of, play.user_texts, play.read_json

local VERSIONS = { "2.1.50", "2.1.110", "2.1.197", "2.1.330" }
local UP, DOWN, ESCAPE, HOME, CTRL_A, CTRL_C, CTRL_D, CTRL_E, CTRL_U, DELETE, BACKSPACE =
  "\27[A", "\27[B", "\27", "\27[H", "\1", "\3", "\4", "\5", "\21", "\27[3~", "\127"

local function pasted(text) return "\27[200~" .. text .. "\27[201~" end

local leaks
before_each(function() leaks = testing.leaks() end)
after_each(function() leaks:check() end)

describe("the stand-in's command line", function()
  it("prints the version of its profile", scene({ profile = "2.1.197" }, function(_, open)
    local terminal = open({ "--version" }, { is_ready = false })
    assert.same({ exit_code = 0 }, terminal:exit())
    terminal:wait_for "2.1.197 (Claude Code)"
  end))

  local id = core.uuid.generate()
  for words, line in pairs {
    [{ "--session-id", "x" }] = "Error: Invalid session ID. Must be a valid UUID.",
    [{ "--resume", id }] = "No conversation found with session ID: " .. id,
    [{ "--no-such-flag" }] = "error: unknown option '--no-such-flag'",
    [{ "--permission-mode", "maybe" }] = "error: option '--permission-mode <mode>' argument 'maybe' is invalid.",
  } do
    it("refuses to start with one line and status 1: " .. table.concat(words, " "), scene(nil, function(_, open)
      local terminal = open(words, { is_ready = false })
      assert.same({ exit_code = 1 }, terminal:exit())
      terminal:wait_for(line)
    end))
  end

  it("refuses a session id that has a transcript", scene(nil, function(kit, open)
    local first = open { "--session-id", id }
    send(first, "hello")
    play.wait_for_answer(kit, id)
    first:signal "SIGTERM"
    first:exit()
    local second = open({ "--session-id", id }, { is_ready = false })
    assert.same({ exit_code = 1 }, second:exit())
    second:wait_for(("Error: Session ID %s is already in use."):format(id))
  end))

  it("refuses bypassPermissions to root outside a sandbox", scene({ extra_env = { IS_SANDBOX = "0" } },
    function(_, open)
      if uv.getuid() ~= 0 then return end
      local terminal = open({ "--permission-mode", "bypassPermissions" }, { is_ready = false })
      assert.same({ exit_code = 1 }, terminal:exit())
    end))
end)

describe("the stand-in while it starts", function()
  it("loses the keys typed before it is ready", scene({ script = { startup_delay_ms = 500 } }, function(kit, open)
    local terminal = open({ "--session-id", core.uuid.generate() }, { is_ready = false })
    testing.eventually(function() return #kit:events "started" == 1 end)
    terminal:write "early"
    testing.eventually(function() return kit:received() == "early" end)
    testing.eventually(function() return #kit:events "ready" == 1 end)
    assert.equal("", (terminal:wait_for(function() return terminal:composer() end)))
  end))

  it("switches bracketed paste on before it takes keys", scene({ script = { startup_delay_ms = 1000 } },
    function(kit, open)
      local terminal = open({}, { is_ready = false })
      terminal:wait_for(function() return terminal.screen:modes().bracketed_paste end)
      assert.equal(0, #kit:events "ready")
    end))

  it("shows its composer too early on 2.1.50", scene({ profile = "2.1.50", script = { startup_delay_ms = 1000 } },
    function(kit, open)
      local terminal = open({}, { is_ready = false })
      terminal:wait_for(function() return terminal:composer() end)
      assert.equal(0, #kit:events "ready")
    end))

  it("asks the terminal what it is, and minds no answer", scene(nil, function(_, open)
    local terminal = open()
    assert.truthy(terminal.output:find("\27[c", 1, true))
    terminal:write "\27[?62;c\27P>|xterm\27\\\27[I"
    send(terminal, "still there")
    terminal:wait_for "echo: still there"
  end))

  local kinds = { ["2.1.50"] = "none", ["2.1.110"] = "plain", ["2.1.197"] = "live", ["2.1.330"] = "live" }
  for version, kind in pairs(kinds) do
    it(("keeps a status file of the kind '%s' on %s"):format(kind, version), scene({ profile = version },
      function(kit, open)
        local terminal = open()
        local status = status_of(kit, terminal)
        assert.equal(kind ~= "none", status ~= nil)
        assert.equal(kind == "live" and "idle" or nil, status and status.status)
      end))
  end

  for folder, keeps_in in pairs { [""] = "work", ["../home/of/claude"] = "home/of/claude" } do
    it(("keeps its files where CLAUDE_CONFIG_DIR=%s says"):format(folder), scene(nil, function(kit, open)
      local state = files.read(kit.home .. "/.claude/.claude.json")
      files.make_folder(kit.home .. "/of/claude")
      files.put(folder == "" and kit.home .. "/.claude.json" or kit.home .. "/of/claude/.claude.json", state, "w")
      kit.environment.CLAUDE_CONFIG_DIR = folder
      open()
      assert.truthy(uv.fs_stat(("%s/%s/sessions"):format(kit.folder, keeps_in)))
    end))
  end

  it("uses the alternate screen on 2.1.330 only", scene({ profile = "2.1.330" }, function(kit, open)
    assert.is_true(open().screen:modes().alternate_screen)
    kit:use({}, "2.1.197")
    assert.is_false(open().screen:modes().alternate_screen)
  end))

  it("runs the SessionStart hook", scene({ settings = { hooks = { SessionStart = {
    { hooks = { { type = "command", command = "cat > $HOME/hook.json" } } } } } } }, function(kit, open)
    open()
    local input = testing.eventually(function()
      return uv.fs_stat(kit.home .. "/hook.json") and read_json(kit.home .. "/hook.json")
    end)
    assert.equal("startup", input.source)
    assert.equal("SessionStart", input.hook_event_name)
  end))
end)

describe("the stand-in's start-up dialogs", function()
  for _, version in ipairs(VERSIONS) do
    local is_new = version == "2.1.330"

    it("ask for trust, and remember the yes, on " .. version, scene({ profile = version, trusted = false },
      function(kit, open)
        local terminal = open({}, { is_ready = false })
        terminal:wait_for "Enter to confirm · Esc to cancel"
        assert.is_true(terminal:shows "Accessing workspace:")
        assert.is_true(terminal:shows(is_new and "❯ No, exit" or "❯ 1. Yes, I trust this folder"))
        assert.is_nil(status_of(kit, terminal))
        terminal:write(is_new and DOWN or UP .. DOWN)
        terminal:wait_for(is_new and "❯ Yes, I trust this folder" or "❯ 1. Yes, I trust this folder")
        terminal:write "\r"
        testing.eventually(function() return #kit:events "ready" == 1 end)
        assert.is_true(read_json(kit.home .. "/.claude/.claude.json").projects[kit.cwd].hasTrustDialogAccepted)
        open()
      end))

    it("exit with status 1 when the folder is not trusted, on " .. version, scene({ profile = version,
      trusted = false }, function(kit, open)
      local terminal = open({}, { is_ready = false })
      terminal:wait_for "Enter to confirm"
      terminal:write(is_new and "\r" or "2")
      assert.same({ exit_code = 1 }, terminal:exit())
      assert.is_nil(read_json(kit.home .. "/.claude/.claude.json").projects)
    end))

    it("end on Escape with the version's own status, on " .. version, scene({ profile = version, trusted = false },
      function(_, open)
        local terminal = open({}, { is_ready = false })
        terminal:wait_for "Enter to confirm"
        terminal:write(ESCAPE)
        assert.same({ exit_code = is_new and 0 or 1 }, terminal:exit())
      end))

    it("warn of bypassPermissions, and remember the yes, on " .. version, scene({ profile = version,
      bypass_accepted = false }, function(kit, open)
      local terminal = open({ "--permission-mode", "bypassPermissions" }, { is_ready = false })
      terminal:wait_for(is_new and "❯ No, exit" or "❯ 1. No, exit")
      terminal:write(DOWN)
      terminal:wait_for(is_new and "❯ Yes, I accept" or "❯ 2. Yes, I accept")
      terminal:write "\r"
      testing.eventually(function() return #kit:events "ready" == 1 end)
      assert.is_true(read_json(kit.home .. "/.claude/settings.json").skipDangerousModePermissionPrompt)
    end))

    it("ask about an API key, and go on without it, on " .. version, scene({ profile = version,
      extra_env = { ANTHROPIC_API_KEY = "sk-ant-0123456789-0123456789" } }, function(kit, open)
      local terminal = open({}, { is_ready = false })
      terminal:wait_for(is_new and "❯ No (recommended)" or "❯ 2. No (recommended)")
      terminal:write "\r"
      testing.eventually(function() return #kit:events "ready" == 1 end)
      assert.same({ "123456789-0123456789" }, setmetatable(
        read_json(kit.home .. "/.claude/.claude.json").customApiKeyResponses.rejected, nil))
    end))
  end

  it("take no digit on 2.1.330", scene({ trusted = false }, function(kit, open)
    local terminal = open({}, { is_ready = false })
    terminal:wait_for "❯ No, exit"
    terminal:write "2"
    terminal:write(DOWN)
    terminal:wait_for "❯ Yes, I trust this folder"
    assert.equal(0, #kit:events "ready")
    terminal:signal "SIGTERM"
    terminal:exit()
  end))

  it("show no trust dialog in bypassPermissions on 2.1.50", scene({ profile = "2.1.50", trusted = false },
    function(_, open)
      open { "--permission-mode", "bypassPermissions" }
    end))

  it("exit with status 1 when onboarding cannot reach the network", scene({ onboarded = false }, function(_, open)
    local terminal = open({}, { is_ready = false })
    assert.same({ exit_code = 1 }, terminal:exit())
    terminal:wait_for "Unable to connect to Anthropic services"
  end))

  it("stop at an unknown hook name on 2.1.50", scene({ profile = "2.1.50", settings = { hooks = { StopFailure = {
    { hooks = { { type = "command", command = "true" } } } } } } }, function(_, open)
    local terminal = open({}, { is_ready = false })
    terminal:wait_for "Settings Error"
    terminal:wait_for "❯ 1. Exit and fix manually"
    terminal:write "\r"
    assert.same({ exit_code = 1 }, terminal:exit())
  end))

  it("show what a script adds", scene({ script = { start_dialogs = {
    { title = "Something new", choices = { "Go on", "Leave" }, numbered = false, exit_on = { Leave = 7 } } } } },
    function(_, open)
      local terminal = open({}, { is_ready = false })
      terminal:wait_for "❯ Go on"
      terminal:write(DOWN)
      terminal:wait_for "❯ Leave"
      terminal:write "\r"
      assert.same({ exit_code = 7 }, terminal:exit())
    end))
end)

--- What is typed, a write each, and the user records that come of it. `versions` limits a rule, `only` is exact. DIR is
--- the working directory, with `README` and a picture in it.
local OLDER, NEWEST = { "2.1.110", "2.1.197" }, { "2.1.330" }
local long_line = ("x"):rep(801)
local rules = {
  { "takes a paste as it is", { pasted "a short text" }, "a short text" },
  { "keeps two line feeds", { pasted "one\ntwo\nthree" }, "one\ntwo\nthree" },
  { "makes line feeds of CRLF and CR", { pasted "cr\r\nlf\rend" }, "cr\nlf\nend" },
  { "makes four spaces of a pasted tab", { pasted "a\tb" }, "a    b" },
  { "loses a typed tab", { "a\tb" }, "ab" },
  { "trims the end, not the beginning", { pasted "\n  x  \n\u{A0}" }, "\n  x" },
  { "takes plain bytes", { "typed plain" }, "typed plain" },
  { "takes a line and its line feed in one write", { "one\n", "two\n", "three" }, "one\ntwo\nthree" },
  { "makes a new line of backslash and Return", { "one\\\r", "two" }, "one\ntwo" },
  { "makes a new line of Meta-Return", { "one\27\r", "two" }, "one\ntwo" },
  { "keeps a long paste on older versions", { pasted(long_line) }, long_line, versions = OLDER },
  { "keeps 800 units on all", { pasted(long_line:sub(2)) }, long_line:sub(2) },
  { "keeps four lines on older versions", { pasted "1\n2\n3\n4" }, "1\n2\n3\n4", versions = OLDER },
  { "wraps four lines on 2.1.330", { pasted "1\n2\n3\n4" }, wrapped = "1\n2\n3\n4", versions = NEWEST },
  { "wraps 801 units on 2.1.330", { pasted(long_line) }, wrapped = long_line, versions = NEWEST },
  { "wraps one long plain write on 2.1.330", { ("p"):rep(5000) }, wrapped = ("p"):rep(5000), versions = NEWEST },
  { "wraps a paste that names a cloud command on 2.1.330", { pasted "an Ultraplan, please" },
    wrapped = "an Ultraplan, please", versions = NEWEST },
  { "does not where two pastes make that word of it", { pasted "an Ultra", pasted "plan, please" },
    "an Ultraplan, please" },
  { "escapes what looks like its mark on 2.1.330", { pasted "a <pasted_content> b" }, "a <\\pasted_content> b",
    versions = NEWEST },
  { "keeps what looks like that mark on older versions", { pasted "a <pasted_content> b" }, "a <pasted_content> b",
    versions = OLDER },
  { "attaches pictures in place of their paths", { pasted "a\nDIR/shot.png \nb\n'DIR/shot.png'" },
    "[Image #1] [Image #2]a\nb" },
  { "keeps a picture's path that two pastes make", { pasted "a\nDIR/shot.p", pasted "ng" }, "a\nDIR/shot.png" },
  { "keeps a picture's path in a sentence", { pasted "see DIR/shot.png please" }, "see DIR/shot.png please" },
  { "keeps it at a sentence's end on 2.1.330", { pasted "see DIR/shot.png" }, "see DIR/shot.png", versions = NEWEST },
  { "attaches it there on older versions", { pasted "see DIR/shot.png" }, "[Image #1]see", versions = OLDER },
  { "keeps a path where no picture is", { pasted "a\n/no/such.png" }, "a\n/no/such.png" },
  { "takes pastes in one write on 2.1.330", { pasted "1\n2\n" .. pasted "3\n4\n" .. pasted "5" }, "1\n2\n3\n4\n5",
    versions = NEWEST },
  { "loses the paste before another on 2.1.110", { pasted "first" .. pasted "second" }, "second",
    versions = { "2.1.110" } },
  { "loses a paste before a typed line feed on 2.1.197", { pasted "first" .. "\n" .. pasted "second" }, "\nsecond",
    versions = { "2.1.197" } },
  { "ends a paste at its mark, and types the rest", { pasted "a\27[201~b\21c" }, "c", versions = NEWEST },
  { "strips other escape sequences", { pasted "a\27[31mb" }, "ab" },
  { "keeps control bytes on older versions", { pasted "a\1b" }, "a\1b", versions = OLDER },
  { "removes control and invisible characters on 2.1.330", { pasted "a\1b\u{200B}c" }, "abc", versions = NEWEST },
  { "keeps a joiner in emoji on 2.1.330", { pasted "👨\u{200D}👩" }, "👨\u{200D}👩", versions = NEWEST },
  { "makes line feeds of other breaks on 2.1.330", { pasted "a\u{2028}b\12c" }, "a\nb\nc", versions = NEWEST },
  { "replaces what is not UTF-8", { pasted "a\255b" }, "a\u{FFFD}b" },
  { "takes a path for text", { pasted "/etc/passwd is a file" }, "/etc/passwd is a file" },
  { "takes two slashes for text", { pasted "//x" }, "//x" },
  { "takes a command behind a space for text on older versions", { pasted " /help" }, " /help", versions = OLDER },
  { "takes a bang behind a space for text", { pasted " !ls" }, " !ls" },
  { "takes a bang whose space is deleted for text", { pasted " ! ls", CTRL_A, CTRL_D, CTRL_E }, "! ls" },
  { "takes a bang behind other text for text", { "say", "!" }, "say!" },
  { "takes Home and Delete for that too", { pasted " ! ls", HOME, DELETE }, "! ls" },
  { "takes `@` behind a word that names nothing", { pasted "see @nothing" }, "see @nothing" },
  { "closes the pop-up with a trailing space", { pasted "see @READ " }, "see @READ" },
  { "sends a word that names a file on 2.1.330", { pasted "see @READ" }, "see @READ", versions = NEWEST },
  { "sends a lone at-sign on 2.1.330", { pasted "@" }, "@", versions = NEWEST },
  { "deletes to the beginning of the line", { pasted "wrong", CTRL_U, pasted "right" }, "right" },
  { "takes plain bytes behind Ctrl-U", { "wrong" .. CTRL_U .. "right" }, "right" },
  { "clears everything with Ctrl-U and Backspace", { pasted "a\nb", (CTRL_U .. BACKSPACE):rep(5), "new" }, "new" },
  { "takes keys for keys in a long write, too", { pasted "a\nb", (CTRL_U .. BACKSPACE):rep(1000), "new" }, "new" },
  { "clears everything with Ctrl-C", { pasted "old", CTRL_C, "new" }, "new" },
  { "answers a lone slash by itself", { pasted "/ x" }, "Commands are in the form `/command [args]`" },
}

describe("the stand-in's composer", function()
  for _, rule in ipairs(rules) do
    local name, writes, expected = rule[1], rule[2], rule[3]
    for _, version in ipairs(rule.versions or { "2.1.110", "2.1.197", "2.1.330" }) do
      it(("%s (%s)"):format(name, version), scene({ profile = version }, function(kit, open)
        assert(io.open(kit.cwd .. "/README", "w")):close()
        helper.write(kit.cwd .. "/shot.png", "picture")
        local function placed(text) return text and text:gsub("DIR", kit.cwd) end
        local id = core.uuid.generate()
        local terminal = open { "--session-id", id }
        local received = 0
        for _, bytes in ipairs(writes) do
          bytes = placed(bytes)
          local before = terminal.screen:generation()
          terminal:write(bytes)
          received = received + #bytes
          testing.eventually(function() return #kit:received() == received end, nil, "the bytes")
          -- What they change is drawn a moment later; a few change nothing.
          pcall(terminal.wait_for, terminal, function() return terminal.screen:generation() ~= before end, 500)
          terminal:wait_for(function() return not terminal:shows "Pasting text…" end)
        end
        terminal:wait_for(function() return terminal:composer() ~= "" end)
        terminal:write "\r"
        local texts = testing.eventually(function()
          local texts = user_texts(kit, id)
          return texts[1] and texts
        end, 10000, "the user record")
        if rule.wrapped then
          local opening, closing = '^\n\n<pasted_content id="(%x%x%x%x)">\n', '\n</pasted_content id="(%x+)">\n$'
          local mark, content, end_mark = texts[1]:match(opening .. "(.*)" .. closing)
          assert.equal(rule.wrapped, content)
          assert.equal(mark, end_mark)
        else
          assert.same({ placed(expected) }, texts)
        end
      end))
    end
  end

  it("clears everything with two Escapes", scene(nil, function(_, open)
    local terminal = open()
    terminal:paste "old"
    terminal:wait_for(function() return terminal:composer() == "old" end)
    terminal:write(ESCAPE)
    terminal:wait_for "Esc again to clear"
    assert.equal("old", (terminal:composer()))
    terminal:write(ESCAPE)
    terminal:wait_for(function() return terminal:composer() == "" end)
  end))

  it("shows a collapsed paste as one word", scene(nil, function(_, open)
    local terminal = open()
    terminal:paste "1\n2\n3\n4\n5"
    terminal:wait_for(function() return terminal:composer() == "[Pasted text #1 +4 lines]" end)
    terminal:write(BACKSPACE)
    terminal:wait_for(function() return terminal:composer() == "" end)
  end))

  it("draws a prompt, a no-break space and continuation rows", scene(nil, function(_, open)
    local terminal = open()
    terminal:paste(("word "):rep(40) .. "\nnext")
    terminal:wait_for(function() return terminal:shows "  next" end)
    local text, prompt = terminal:composer()
    assert.equal("❯", prompt)
    assert.equal(3, #text:gsub("[^\n]", "") + 1)
    local row, column = terminal.screen:cursor()
    assert.equal("  next", terminal.screen:row(row))
    assert.equal(7, column)
  end))

  it("scrolls a tall text on 2.1.330", scene(nil, function(_, open)
    local terminal = open()
    terminal:write(pasted("row\n"):rep(20))
    terminal:wait_for "↑ 7 more"
  end))

  for _, swallowed in ipairs { { "2.1.110", true }, { "2.1.197", true }, { "2.1.330", false } } do
    local version, is_swallowed = swallowed[1], swallowed[2]
    it(("%s a Return in the write of the first paste on %s"):format(is_swallowed and "swallows" or "takes", version),
      scene({ profile = version }, function(kit, open)
        local terminal = open()
        terminal:write(pasted "hello" .. "\r")
        if not is_swallowed then
          terminal:wait_for "echo: hello"
          return
        end
        terminal:wait_for(function() return terminal:composer() == "hello" end)
        assert.same({}, kit:taken())
        terminal:write "\r"
        terminal:wait_for "echo: hello"
        assert.same({ "hello" }, kit:taken())
      end))
  end

  for _, case in ipairs {
    { "2.1.110", "see @READ", "see @README" }, { "2.1.197", "see @READ", "see @README" },
    { "2.1.330", "see @./READ", "see @./README" }, { "2.1.197", "@", "@README" },
    { "2.1.110", "one\\", "one\n" }, { "2.1.197", "one\\", "one\n" }, { "2.1.330", "one\\", "one\n" },
  } do
    local version, text, after = table.unpack(case)
    it(("sends nothing at Return behind '%s' on %s"):format(text, version), scene({ profile = version },
      function(kit, open)
        assert(io.open(kit.cwd .. "/README", "w")):close()
        local terminal = open()
        terminal:paste(text)
        terminal:wait_for(function() return terminal:composer() == text and not terminal:shows "Pasting text…" end)
        terminal:write "\r"
        terminal:wait_for(function() return terminal:composer() == after end)
        assert.same({}, kit:taken())
      end))
  end

  it("holds Return while a pop-up is open, wherever the cursor is, on 2.1.197", scene({ profile = "2.1.197" },
    function(kit, open)
      assert(io.open(kit.cwd .. "/README", "w")):close()
      local terminal = open()
      terminal:paste "see @READ"
      terminal:wait_for(function() return terminal:shows "+ README" and not terminal:shows "Pasting text…" end)
      terminal:write(CTRL_A)
      terminal:write "\r"
      testing.eventually(function() return kit:received():sub(-2) == CTRL_A .. "\r" end)
      terminal:write(CTRL_E)
      terminal:write " "
      terminal:wait_for(function() return not terminal:shows "+ README" end)
      assert.same({}, kit:taken())
      terminal:write "\r"
      terminal:wait_for "echo: see @READ"
    end))

  it("makes an emoji of `:smile` on 2.1.330", scene(nil, function(kit, open)
    local terminal = open()
    terminal:paste "so :smile"
    terminal:wait_for(function() return terminal:composer() == "so :smile" end)
    terminal:write "\r"
    terminal:wait_for(function() return terminal:composer() == "so 😄" end)
    assert.same({}, kit:taken())
  end))

  it("sends nothing for white space", scene(nil, function(kit, open)
    local terminal = open()
    terminal:paste "   "
    terminal:write "\r"
    send(terminal, "then")
    terminal:wait_for "echo: then"
    assert.same({ "then" }, kit:taken())
  end))

  it("asks to review what turns the direction of text on 2.1.330", scene(nil, function(kit, open)
    local terminal = open()
    terminal:paste "a\u{202E}b"
    terminal:wait_for(function() return terminal:composer() ~= "" end)
    terminal:write "\r"
    terminal:wait_for "review and press Enter to send"
    assert.same({}, kit:taken())
    terminal:write "\r"
    terminal:wait_for "echo: ab"
  end))

  it("runs a shell command behind a bang, for real", scene(nil, function(kit, open)
    local id = core.uuid.generate()
    local terminal = open { "--session-id", id }
    terminal:paste "! echo ran > proof"
    terminal:wait_for(function() return select(2, terminal:composer()) == "!" end)
    terminal:write "\r"
    testing.eventually(function() return uv.fs_stat(kit.cwd .. "/proof") end)
    testing.eventually(function() return user_texts(kit, id)[2] end)
    assert.same({ "<bash-input> echo ran > proof</bash-input>",
      "<bash-stdout></bash-stdout><bash-stderr></bash-stderr>" }, user_texts(kit, id))
  end))

  it("enters shell mode at a bang key before the text", scene(nil, function(_, open)
    local terminal = open()
    terminal:write "ls"
    terminal:write(CTRL_A)
    terminal:write "!"
    terminal:wait_for(function() return select(2, terminal:composer()) == "!" end)
    assert.equal("ls", (terminal:composer()))
  end))

  for version, stays in pairs { ["2.1.197"] = true, ["2.1.330"] = false } do
    it(("%s shell mode at Ctrl-U and Backspace in one write on %s"):format(stays and "keeps" or "leaves", version),
      scene({ profile = version }, function(_, open)
        local terminal = open()
        terminal:write "!ls"
        terminal:wait_for(function() return select(2, terminal:composer()) == "!" end)
        terminal:write((CTRL_U .. BACKSPACE):rep(3))
        terminal:wait_for(function() return terminal:composer() == "" end)
        assert.equal(stays and "!" or "❯", select(2, terminal:composer()))
        terminal:write(BACKSPACE)
        terminal:wait_for(function() return select(2, terminal:composer()) == "❯" end)
      end))
  end

  it("redraws in a new size", scene(nil, function(_, open)
    local terminal = open()
    terminal:resize(20, 60)
    terminal:wait_for(function() return terminal.screen:row(17) == ("─"):rep(60) and terminal:composer() == "" end)
  end))
end)
