--- What the specs of the promises share: sessions on the stand-in, a version's profile at a time, in a world with a
--- clock of its own; over a real pty where the promise is about what only the kernel does.
local busted = require "busted"
local helper = require "spec.helper"
local process = require "parley.claude.process"
local session = require "parley.session"
local testing = require "parley.testing"

local M = { on_pty = false }

M.PROFILES = { "2.1.110", "2.1.197", "2.1.330" }
M.ENDS = { "2.1.110", "2.1.330" } -- where those between them can be no different

--- Has the specs of a `describe` fail when they leave a descriptor, a child or a handle behind.
function M.check_leaks()
  local check
  busted.before_each(function() check = helper.leaks() end)
  busted.after_each(function() check() end)
end

--- How many events of this subtype there were.
---@return integer
function M.count_of(said, subtype)
  local count = 0
  for _, event in ipairs(said.events) do count = count + (event.subtype == subtype and 1 or 0) end
  return count
end

--- A session on a stand-in, not started.
---@param kit parley.testing.World|parley.testing.Kit
---@param options? table     of the session
---@param of_process? table  options of its process beside the kit's
---@return parley.Session
function M.new(kit, options, of_process)
  local all = {}
  for name, value in pairs(kit.options) do all[name] = value end
  for name, value in pairs(of_process or {}) do all[name] = value end
  return session.new(process.new(all), options)
end

--- An `it` for each of these profiles, with a stand-in of that version.
---@param profiles string[]
---@param name string
---@param given table  `script`, `session`, `process`, `is_not_started`, and the options of the world or the kit
---@param body fun(live: parley.Session, kit: parley.testing.World|parley.testing.Kit, profile: string)
function M.on(profiles, name, given, body)
  for _, profile in ipairs(profiles) do
    local on_pty = M.on_pty
    busted.it(("%s (%s)"):format(name, profile), helper.task(function()
      local of_kit = {}
      for key, value in pairs(given) do of_kit[key] = value end
      of_kit.session, of_kit.process, of_kit.is_not_started = nil, nil, nil
      of_kit.script = { profile = profile }
      for key, value in pairs(given.script or {}) do of_kit.script[key] = value end
      local kit <close> = on_pty and testing.kit(of_kit) or testing.world(of_kit)
      local live <close> = M.new(kit, given.session, given.process)
      if not given.is_not_started then live:start() end
      body(live, kit, profile)
    end))
  end
end

--- The same on all of them.
function M.each(name, given, body) M.on(M.PROFILES, name, given, body) end

return M
