-- `parley chat` with the real program: what a person sees, an interruption, a command, a saved conversation loaded.
local helper = require "spec.helper"
local json = require("parley.core").json
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local terminals = require "spec.terminal"

local claude = os.getenv "PARLEY_CLAUDE"

describe("parley chat with the real program", function()
  if not claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  local function open(home)
    local environment = { "PATH=" .. os.getenv "PATH", "LANG=C.UTF-8", "TERM=xterm-256color", "NO_COLOR=1" }
    for name, value in pairs(home.extra_env) do table.insert(environment, name .. "=" .. value) end
    local terminal = terminals.open({ helper.host, "chat", "--executable", claude, "--preserve-provider-env" },
      { env = environment, cwd = home.cwd, rows = 60, columns = 200 })
    terminal:expect "Ctrl-D leaves\n>"
    return terminal
  end

  local function leave(terminal)
    terminal:type "\4"
    assert.same({ exit_code = 0 }, terminal:wait())
  end

  it("talks, is interrupted, goes on, saves and loads", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    do
      local terminal <close> = open(home)
      terminal:type "hello 漢字\r"
      terminal:expect "echo: hello 漢字\n\n>"
      terminal:type "USETOOL please\r"
      terminal:expect "[Bash] echo tool-out\n  tool-out\n"
      terminal:expect "\necho: USETOOL please\n\n>"
      terminal:type "/session\r"
      terminal:expect "turns          2\n\n>"
      local pid = terminal.screen:text():match "process +(%d+)"
      terminal:type "SLOWTOOL\r"
      terminal:expect "running Bash, "
      terminal:type "\3"
      terminal:expect "(interrupted)\n\n>"
      terminal:type "are you there?\r"
      terminal:expect "echo: are you there?\n\n>"
      terminal:type "/session\r"
      terminal:expect "turns          4\n\n>"
      assert.truthy(terminal.screen:text():find("turns          2.*process +" .. pid .. ".*turns          4"))
      terminal:type "SLOW\r"
      terminal:expect "waiting for the answer"
      helper.eventually(function() return #server:turns() == 6 end, 20000)
      terminal:type "\3"
      terminal:expect "Up brings it back\n\n>"
      terminal:type "and now?\r"
      terminal:expect "echo: and now?\n\n>"
      terminal:type "/save talk.json\r"
      terminal:expect "wrote talk.json"
      leave(terminal)
    end
    local terminal <close> = open(home)
    terminal:type "/load talk.json\r"
    terminal:expect "the last is the assistant's: echo: and now?\n\n>"
    terminal:type "one more\r"
    terminal:expect "echo: one more\n\n>"
    local first = server:last_messages()[1].content
    local text = type(first) == "string" and first or first[#first].text
    assert.truthy(text:find("hello 漢字", 1, true))
    leave(terminal)
  end))

  it("shows what commands show, and the model nothing of it", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local terminal <close> = open(home)
    terminal:type "hello\r"
    terminal:expect "echo: hello\n\n>"
    for number, seen in ipairs { { "/status", "Session ID: " }, { "/cost", "otal code changes: " },
      { "/help", "For more help: " }, { "/config", "onfig" }, { "/permissions", "ermissions" },
      { "/nosuch", "Unknown command: /nosuch" } } do
      terminal:type(("/claude %s\r"):format(seen[1]))
      terminal:expect(("> /claude %s\n"):format(seen[1]))
      terminal:expect(seen[2])
      terminal:type(("again %d\r"):format(number))
      terminal:expect(("echo: again %d\n\n>"):format(number))
      local told = assert(json.encode(server:last_messages()))
      assert.falsy(told:find("dismissed", 1, true), told)
      assert.falsy(told:find("Unknown command", 1, true), told)
    end
    assert.falsy(terminal.screen:text():find("dismissed", 1, true))
    leave(terminal)
  end, 300000))
end)
