-- The ground that the other smoke specs stand on: the real program, in its namespace, talks to our Messages API.
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local uv = require "luv"

local claude = os.getenv "PARLEY_CLAUDE"

local function run(arguments, home)
  return helper.run({ claude, table.unpack(arguments) },
    { env = helper.environment({ LANG = "C.UTF-8" }, home.extra_env), cwd = home.cwd })
end

describe("the real program", function()
  if not claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  local function talks(name, body)
    it(name, helper.task(function()
      local server <close> = messages_api.start()
      local home <close> = offline_home.new { base_url = server.url }
      body(server, home)
    end))
  end

  talks("is the version that was asked for", function(_, home)
    assert.equal(os.getenv "PARLEY_CLAUDE_VERSION", run({ "--version" }, home).output:match "^%S+")
  end)

  talks("gets an echo from our Messages API", function(server, home)
    local program = run({ "-p", "hello" }, home)
    assert.equal("echo: hello\n", program.output)
    assert.equal(0, program.status)
    assert.equal(1, #server:turns())
  end)

  talks("runs the tool that our API asks for", function(server, home)
    local program = run({ "--permission-mode", "bypassPermissions", "-p", "USETOOL please" }, home)
    assert.equal("echo: USETOOL please\n", program.output)
    local results = {}
    for _, message in ipairs(server:last_messages()) do
      for _, block in ipairs(type(message.content) == "table" and message.content or {}) do
        if block.type == "tool_result" then table.insert(results, block.content) end
      end
    end
    assert.same({ "tool-out" }, results)
  end)

  talks("cannot reach anything but loopback", function()
    local names = {}
    for name in pairs(uv.interface_addresses()) do table.insert(names, name) end
    assert.same({ "lo" }, names)
  end)
end)
