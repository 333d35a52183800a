-- The first message as an argument of the real program: it arrives as it is, once, and no key is pressed for it.
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local parley = require "parley"
local smoke = require "spec.smoke.live"

local say = helper.say

local function ahead(more)
  local all = { first_message = "argument" }
  for name, value in pairs(more or {}) do all[name] = value end
  return all
end

describe("the first message as an argument of the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  ---An `it` with a session that is not started.
  local function converses(name, given, body)
    given.is_not_started, given.session = true, ahead(given.session)
    smoke.converses(name, given, body)
  end

  ---Starts with the message, and counts the pieces that were typed.
  local function begin(live, text)
    local pieces, write = 0, live.process.write
    function live.process.write(...)
      pieces = pieces + 1
      return write(...)
    end
    live:start(text)
    local said = say(live, text)
    live.process.write = nil
    return said, pieces
  end

  for name, text in pairs {
    ["a line"] = "hello there", ["the name of a command"] = "doctor", ["what it takes for a mistake"] = "code",
    ["what begins like a flag"] = "--settings={} is a flag", ["a flag"] = "-p",
    ["tabs and signs"] = "  a\tb `$HOME` 'x' \"y\" 日本 😀\n!ls\n# note \\", ["the end of a pop-up"] = "look @",
    ["60 lines"] = ("line\n"):rep(59) .. "end", ["100 kB"] = ("012345678 "):rep(10000) .. "end",
    ["what is too long for one"] = ("012345678 "):rep(13200) .. "end",
  } do
    converses("arrives: " .. name, {}, function(live, server)
      local said, pieces = begin(live, text)
      assert.equal("success", said.verdict)
      assert.equal(text, said.events[1]:text())
      assert.equal(text, smoke.last_text(server))
      local is_typed = text:find "^%-" ~= nil or not text:find "%s" or #text > 131071
      assert.equal(is_typed, pieces > 0)
      smoke.is_fine(live, server)
      assert.equal(2, #server:turns())
    end)
  end

  converses("waits for the dialogs of the start", { answers = { trust = false, bypass = false },
    session = { accept = { "trust", "bypass" } } }, function(live, server)
      assert.equal("success", begin(live, "hello there").verdict)
      smoke.is_fine(live, server)
      assert.equal(2, #server:turns())
    end)

  converses("is not taken where those are not answered", { answers = { trust = false } }, function(live, server)
    assert.equal("trust", helper.failure_of("DialogError", live.start, live, "hello there").dialog.kind)
    assert.equal(0, #server:turns())
  end)

  converses("is told of by the program", { session = { hooks = { PreToolUse = function() end } } },
    function(live, server)
      local said = begin(live, "USETOOL please")
      assert.equal("success", said.verdict)
      assert.equal(0, #smoke.of_subtype(said, "hooks_unavailable"))
      smoke.is_fine(live, server)
    end)

  converses("has its tool calls asked about with what they are", { process = { permission_mode = "default" },
    session = { policies = { dialogs = { decide = function(dialog)
      return dialog.tool_use and { choose = 1 } or { fail = "what is it?" }
    end } } } }, function(live)
      local said = begin(live, "WRITETOOL please")
      assert.equal("success", said.verdict)
      assert.equal(1, #smoke.of_subtype(said, "dialog_answered"))
    end)

  converses("can be interrupted", {}, function(live, server)
    live:start "SLOW please"
    local waiter = parley.task.spawn(function()
      server:wait_for(function(request) return request.text == "SLOW please" end)
      live:interrupt()
    end)
    assert.equal("interrupted", say(live, "SLOW please").verdict)
    waiter:await()
    smoke.is_fine(live, server)
  end)

  it("goes with a written history, and with the program's own", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local backend <close> = parley.backend(ahead { executable = smoke.claude, cwd = home.cwd,
      extra_env = home.extra_env })
    local talk = backend:conversation { { role = "user", content = "hello there" },
      { role = "assistant", content = "hi" } }
    assert.equal("echo: hello there", talk:ask("hello there").text)
    talk.options = { effort = "high" }
    assert.equal("echo: hello there", talk:ask("hello there").text)
    assert.equal("echo: and this is typed", talk:ask("and this is typed").text)
    assert.equal(3, #server:turns())
    assert.equal(8, #talk.messages)
  end, 120000))
end)
