-- Checks one version: the program that PARLEY_CLAUDE names, as scripts/smoke.sh runs it, offline. Prints a line for
-- each check: its name, the outcome, the milliseconds that it took and the reason, with tabs between.
--   usage: scripts/smoke.sh --run build/parley spec/conformance/one.lua [CHECK…]
local json = require("parley.core").json
local checks = require "spec.conformance.checks"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local task = require "parley.base.task"

---@return conformance.World
local function make_world(given)
  local server = messages_api.start {}
  local home = offline_home.new { base_url = server.url, answers = given.answers, variables = given.variables }
  local world = { options = { executable = os.getenv "PARLEY_CLAUDE", cwd = home.cwd, extra_env = home.extra_env } }
  function world.taken()
    local texts = {}
    for _, request in ipairs(server:turns()) do
      if request.step == 0 then table.insert(texts, request.text) end
    end
    return texts
  end
  function world.shown() return (assert(json.encode(server:last_messages()))) end
  function world.close()
    home:close()
    server:close()
  end
  return setmetatable(world, { __close = world.close })
end

local began = task.now()
checks.run(make_world, function(name, outcome, reason)
  local now = task.now()
  reason = (reason or ""):gsub("\n.*", ""):gsub("\t", " "):sub(1, 200)
  io.write(("%s\t%s\t%d\t%s\n"):format(name, outcome, (now - began) // 1, reason))
  io.flush()
  began = now
end, ... and { ... })
