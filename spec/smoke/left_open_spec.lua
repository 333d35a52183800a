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
end)
