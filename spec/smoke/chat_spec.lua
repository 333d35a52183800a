-- `parley chat` with the real program: what a person sees, an interruption, a command, a saved conversation loaded.
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local terminals = require "parley.testing.terminal"

local claude = os.getenv "PARLEY_CLAUDE"

describe("parley chat with the real program", function()
  if not claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  local function open(home, ...)
    local terminal = terminals.open { cwd = home.cwd, rows = 60, columns = 200,
      argv = { helper.host, "chat", "--executable", claude, "--preserve-provider-env", ... },
      environment = helper.environment({ LANG = "C.UTF-8", TERM = "xterm-256color", NO_COLOR = "1" }, home.extra_env) }
    terminal:wait_for "Ctrl-D leaves\n>"
    return terminal
  end

  local function leave(terminal)
    terminal:write "\4"
    assert.same({ exit_code = 0 }, terminal:exit())
  end

  it("talks, is interrupted, goes on, saves and loads", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    do
      local terminal <close> = open(home)
      terminal:write "hello 漢字\r"
      terminal:wait_for "echo: hello 漢字\n\n>"
      terminal:write "USETOOL please\r"
      terminal:wait_for "[Bash] echo tool-out\n  tool-out\n"
      terminal:wait_for "\necho: USETOOL please\n\n>"
      terminal:write "/session\r"
      terminal:wait_for "turns          2\n\n>"
      local pid = terminal.screen:text():match "process +(%d+)"
      terminal:write "SLOWTOOL\r"
      terminal:wait_for "running Bash, "
      terminal:write "\3"
      terminal:wait_for "(interrupted)\n\n>"
      terminal:write "are you there?\r"
      terminal:wait_for "echo: are you there?\n\n>"
      terminal:write "/session\r"
      terminal:wait_for "turns          4\n\n>"
      assert.truthy(terminal.screen:text():find("turns          2.*process +" .. pid .. ".*turns          4"))
      terminal:write "SLOW\r"
      terminal:wait_for "waiting for the answer"
      helper.eventually(function() return #server:turns() == 6 end, 20000)
      terminal:write "\3"
      terminal:wait_for "Up brings it back\n\n>"
      terminal:write "and now?\r"
      terminal:wait_for "echo: and now?\n\n>"
      terminal:write "/save talk.json\r"
      terminal:wait_for "wrote talk.json"
      leave(terminal)
    end
    local terminal <close> = open(home)
    terminal:write "/load talk.json\r"
    terminal:wait_for "the last is the assistant's: echo: and now?\n\n>"
    terminal:write "one more\r"
    terminal:wait_for "echo: one more\n\n>"
    local first = server:last_messages()[1].content
    local text = type(first) == "string" and first or first[#first].text
    assert.truthy(text:find("hello 漢字", 1, true))
    leave(terminal)
  end))

  it("shows an answer as it comes, asks about a call, and tells what it costs", helper.task(function()
    local script = { { on = "a bit", line_ms = 600000,
      blocks = { { type = "text", text = "A **line** 漢字\nand one" } } }, table.unpack(messages_api.rules) }
    local server <close> = messages_api.start { script = script }
    local home <close> = offline_home.new { base_url = server.url }
    local terminal <close> = open(home, "--permission-mode", "default", "--costs")
    if os.getenv "PARLEY_CLAUDE_VERSION" ~= "2.1.110" then
      terminal:write "a bit\r"
      terminal:wait_for "\nA **line** 漢字\nanswering, "
      terminal:write "\3"
      terminal:wait_for "(interrupted)\n\n>"
      assert.matches("\nA %*%*line%*%* 漢字\n%(", terminal.screen:text())
    end
    terminal:write "WRITETOOL please\r"
    terminal:wait_for "\nallow it? yes, always, or what to tell the model:"
    terminal:write "yes\r"
    terminal:wait_for "\necho: WRITETOOL please\n($"
    assert.equal("written\n", files.read(home.cwd .. "/written.txt"))
    terminal:wait_for "\n\n>"
    terminal:write "/cost\r"
    terminal:wait_for "\nlast turn      $0."
    leave(terminal)
  end))

  it("stops at a command that fails, on no terminal, and goes on behind it at one", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local program <close> = helper.start({ helper.host, "chat", "--executable", claude, "--preserve-provider-env" },
      { env = helper.environment({}, home.extra_env), cwd = home.cwd,
        input = "one\ntwo\n/claude /compact ERR400 please\nthree\n" })
    program:wait()
    assert.equal("echo: one\necho: two\n", program.output)
    assert.matches("^parley: SessionError: the turn ended with error_command: .*compaction: API Error: 400",
      program.errors)
    assert.equal(1, program.status)
    local terminal <close> = open(home)
    for _, text in ipairs { "one", "two" } do
      terminal:write(text .. "\r")
      terminal:wait_for(("echo: %s\n\n>"):format(text))
    end
    terminal:write "/claude /compact ERR400 please\r"
    terminal:wait_for "the turn ended with error_command: "
    terminal:write "three\r"
    terminal:wait_for "echo: three\n\n>"
    assert.truthy(assert(json.encode(server:last_messages())):find("echo: one", 1, true))
    terminal:write "/session\r"
    terminal:wait_for "turns          3\n\n>"
    leave(terminal)
  end, 300000))

  it("shows what commands show, and the model nothing of it", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local terminal <close> = open(home)
    terminal:write "hello\r"
    terminal:wait_for "echo: hello\n\n>"
    for number, seen in ipairs { { "/status", "Session ID: " }, { "/cost", "otal code changes: " },
      { "/help", "For more help: " }, { "/config", "onfig" }, { "/permissions", "ermissions" },
      { "/nosuch", "Unknown command: /nosuch" } } do
      terminal:write(("/claude %s\r"):format(seen[1]))
      terminal:wait_for(("> /claude %s\n"):format(seen[1]))
      terminal:wait_for(seen[2])
      terminal:write(("again %d\r"):format(number))
      terminal:wait_for(("echo: again %d\n\n>"):format(number))
      local told = assert(json.encode(server:last_messages()))
      assert.falsy(told:find("dismissed", 1, true), told)
      assert.falsy(told:find("Unknown command", 1, true), told)
    end
    assert.falsy(terminal.screen:text():find("dismissed", 1, true))
    leave(terminal)
  end, 300000))
end)
