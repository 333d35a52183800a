-- What a person has left open in a session's terminal, on the real program: the next message closes it.
local helper = require "spec.helper"
local smoke = require "spec.smoke.live"
local task = require "parley.base.task"

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

  for ending, verdict in pairs { success = "success", ["an interrupt"] = "interrupted" } do
    smoke.converses("while a turn runs keeps it not from its end, " .. ending, { script = {
      { on = "LATE", delay_ms = verdict == "success" and 4000 or 60000, blocks = { { type = "text", text = "done" } } },
    } }, function(live, server)
      helper.say(live, "first")
      local saying = task.spawn(helper.say, live, "LATE")
      helper.eventually(function() return live:state() == "busy" and #server:turns() == 2 end, 30000)
      live.process:write "\15"
      helper.eventually(function() return live.process.screen:text():find("detailed transcript", 1, true) end)
      if verdict == "interrupted" then live:interrupt() end
      assert.equal(verdict, saying:await().verdict)
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
