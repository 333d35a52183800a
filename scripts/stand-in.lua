-- Behaves as claude does, for tests: a simulated claude on this terminal.
local core = require "parley.core"
local errors = require "parley.errors"
local profiles = require "parley.testing.stand_in.profiles"
local stand_in = require "parley.testing.stand_in"

local USAGE = [[
usage: parley stand-in [--profile VERSION] [--script FILE] [--log FILE] [claude's flags…]

Behaves as `claude` does, on the terminal that it runs on. VERSION is one of %s.
FILE of --script is a Lua file that returns what lua/parley/testing/init.lua describes; without it every message is
echoed. --log appends what was received and taken, one JSON object a line.]]

local words = { ... }
if words[1] == "--help" then
  print(USAGE:format(table.concat(profiles.versions, ", ")))
  return 0
end
local own = { ["--profile"] = true, ["--script"] = true, ["--log"] = true }
local given = {}
while own[words[1]] do
  local name = table.remove(words, 1)
  given[name] = table.remove(words, 1) or error(errors.value_error(name .. " needs a value"), 0)
end

local script = {}
if given["--script"] then
  local chunk, problem = loadfile(given["--script"])
  if not chunk then error(errors.value_error("cannot read the script: " .. problem), 0) end
  script = chunk()
  if type(script) == "function" then script = script(core) end
end
script.profile = given["--profile"] or script.profile
script.log = given["--log"] or script.log
if not profiles.get(script.profile) then
  error(errors.value_error(("no profile '%s'; there are %s"):format(script.profile,
    table.concat(profiles.versions, ", "))), 0)
end
return stand_in.run(words, script)
