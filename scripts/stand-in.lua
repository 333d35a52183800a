-- a simulated claude for tests: parley stand-in [--profile VERSION] [--script FILE] [claude's flags…]
local core = require "parley.core"
local errors = require "parley.errors"
local profiles = require "parley.testing.stand_in.profiles"
local stand_in = require "parley.testing.stand_in"

local words = { ... }
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
