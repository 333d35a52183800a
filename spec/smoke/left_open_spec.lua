-- What a person has left open in a session's terminal, on the real program: the next message closes it.
local helper = require "spec.helper"
local smoke = require "spec.smoke.live"

describe("what a person has left open in the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local KEYS = { ["the transcript's view (Ctrl+O)"] = "\15", ["a search of the history (Ctrl+R)"] = "\18",
    ["a program that is stopped (Ctrl+Z)"] = "\26" }
  for what, key in pairs(KEYS) do
    smoke.converses("is closed where it is " .. what, function(live, server)
      helper.say(live, "first")
      live.process:write(key)
      helper.eventually(function() return live:state() ~= "ready" end)
      smoke.is_fine(live, server)
      smoke.is_fine(live, server, "again")
    end)

    smoke.converses("is closed where it comes up meanwhile, and is " .. what, function(live, server)
      helper.say(live, "first")
      live.process:write(key)
      smoke.is_fine(live, server)
    end)
  end

  for _, command in ipairs { "/config", "/model" } do
    smoke.converses("is closed where it is " .. command, function(live, server)
      helper.say(live, "first")
      live.process:write(command)
      helper.eventually(function() return live.process.screen:text():find("❯\u{A0}" .. command, 1, true) end)
      live.process:write "\r"
      helper.eventually(function() return live:state() == "dialog" end)
      smoke.is_fine(live, server)
    end)
  end

  for accepted, word in pairs { ["nobody"] = "Staying in", ["the caller"] = "Moved to /tmp" } do
    if smoke.version ~= "2.1.110" then -- which has no /cd
      smoke.converses("and a command's question whether a folder is trusted is answered where it is accepted by "
        .. accepted, { session = { accept = accepted == "nobody" and {} or { "trust" } } }, function(live, server)
        helper.say(live, "first")
        local said = smoke.run(live, "/cd /tmp")
        assert.equal("success", said.verdict)
        assert.equal("trust", smoke.of_subtype(said, "dialog_answered")[1].kind)
        assert.truthy(live.process.screen:text():find(word, 1, true))
        smoke.is_fine(live, server)
      end)
    end
  end
end)
