-- The permission mode that the settings forbid, on the stand-in, in a world with a clock of its own.
local helper = require "spec.helper"
local mode = require "parley.session.mode"
local promise = require "spec.promise"

local say = helper.say

local function lacks_in(said)
  local found = {}
  for _, event in ipairs(said.events) do
    if event.subtype == "permission_mode_unavailable" then table.insert(found, { event.wanted, event.has }) end
  end
  return found
end

describe("a permission mode", function()
  promise.check_leaks()

  local NO_BYPASS = { permissions = { disableBypassPermissionsMode = "disable" } }
  for version, has in pairs { ["2.1.110"] = "default", ["2.1.197"] = "default", ["2.1.330"] = "auto" } do
    promise.on({ version }, "that the settings forbid is told of, once", { settings = NO_BYPASS }, function(live)
      assert.same({ { "bypassPermissions", has } }, lacks_in(say(live, "hello")))
      assert.same({}, lacks_in(say(live, "again")))
    end)
  end

  promise.each("that the settings forbid is told of, where they forbid auto mode, too", { settings = { permissions = {
    disableBypassPermissionsMode = "disable", disableAutoMode = "disable" } } }, function(live)
    assert.same({ { "bypassPermissions", "default" } }, lacks_in(say(live, "hello")))
  end)

  for _, wanted in ipairs { "bypassPermissions", "default", "plan" } do
    promise.each("that is had is not told of: " .. wanted, { process = { permission_mode = wanted } }, function(live)
      assert.same({}, lacks_in(say(live, "hello")))
    end)
  end

  it("that was left for another one is not told of, nor one of the caller's own words", function()
    local process = { permission_mode = "bypassPermissions" }
    assert.equal("auto", mode.lack(process, "auto").has)
    for _, has in ipairs { "plan", "acceptEdits", "bypassPermissions" } do assert.is_nil(mode.lack(process, has)) end
    assert.is_nil(mode.lack(process, nil))
    for _, word in ipairs { "--permission-mode", "--permission-mode=auto" } do
      process.set = { extra_args = { word } }
      assert.is_nil(mode.lack(process, "auto"))
    end
  end)
end)
