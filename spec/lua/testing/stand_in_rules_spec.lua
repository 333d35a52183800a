--- The user's rules for tools and hooks, as the stand-in goes by them.
local backend_of = require "parley.backend"
local core = require "parley.core"
local helper = require "spec.helper"
local tables = require "parley.base.tables"
local testing = require "parley.testing"

--- What the result of a call of `rm x` says, whether it is an error, and which commands of hooks ran. Nobody answers a
--- dialog.
local function call(given)
  local ran = {}
  local world <close> = testing.world { settings = given.settings,
    script = { answers = { { tool = { name = "Bash", input = { command = "rm x" }, result = "removed" } } } },
    shell = function(command)
      table.insert(ran, command)
      local decision = { hookSpecificOutput = { hookEventName = "PreToolUse", permissionDecision = command } }
      return { status = 0, output = core.json.encode(decision), errors = "", milliseconds = 1 }
    end }
  local backend <close> = backend_of.new(tables.merged(world.options, given.options))
  local result
  for event in backend:complete { { role = "user", content = "go" } } do
    for _, block in ipairs(event.type == "user" and event:blocks "tool_result" or {}) do result = block end
  end
  return result.content, result.is_error == true, ran
end

local function hook(matcher, command)
  return { matcher = matcher, hooks = { { type = "command", command = command } } }
end

describe("the stand-in", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  for what, given in pairs {
    ["the command line"] = { options = { disallowed_tools = { "Write", "Bash" } } },
    ["the command line, by its command"] = { options = { disallowed_tools = { "Bash(rm x)" } } },
    ["the settings"] = { settings = { permissions = { deny = { "Bash" } } } },
    ["the settings, by the command's beginning"] = { settings = { permissions = { deny = { "Bash(rm:*)" } } } },
  } do
    it("denies a call that is forbidden by " .. what, helper.task(function()
      for _, mode in ipairs { "bypassPermissions", "default" } do
        given.options = tables.merged(given.options, { permission_mode = mode })
        local said, is_error = call(given)
        assert.matches("denied", said)
        assert.is_true(is_error)
      end
    end))
  end

  for what, given in pairs {
    ["the command line"] = { options = { allowed_tools = { "Bash(rm:*)" } } },
    ["the settings"] = { settings = { permissions = { allow = { "Bash(rm x)" }, deny = { "Bash(ls)", "Write" } } } },
  } do
    it("asks nobody about a call that is allowed by " .. what, helper.task(function()
      given.options = tables.merged(given.options, { permission_mode = "default" })
      local said, is_error = call(given)
      assert.same({ "removed", false }, { said, is_error })
    end))
  end

  it("runs the hooks whose matcher is for the tool", helper.task(function()
    local groups = {}
    for i, matcher in ipairs { "Bash", "Write", "Write|Bash", "*", "", "Ba.*", "^W", "Bas", "mcp__.*" } do
      groups[i] = hook(matcher, matcher)
    end
    table.insert(groups, hook(nil, "none"))
    local _, _, ran = call { settings = { hooks = { PreToolUse = groups, Stop = { hook("Write", "Stop") } } } }
    assert.same({ "Bash", "Write|Bash", "*", "", "Ba.*", "none", "Stop" }, ran)
  end))

  it("leaves out the settings that are no source of theirs", helper.task(function()
    local settings = { hooks = { Stop = { hook(nil, "stop") } }, permissions = { deny = { "Bash" } } }
    local said, _, ran = call { settings = settings, options = { extra_args = { "--setting-sources", "" } } }
    assert.same({ "removed", {} }, { said, ran })
    said, _, ran = call { settings = settings, options = { extra_args = { "--setting-sources", "project,user" } } }
    assert.matches("denied", said)
    assert.same({ "stop" }, ran)
  end))

  it("goes by the hook that denies, wherever it stands", helper.task(function()
    for _, order in ipairs { { "allow", "deny" }, { "deny", "allow" } } do
      local hooks = { hook("*", order[1]), hook("*", order[2]) }
      local said, is_error = call { settings = { hooks = { PreToolUse = hooks } } }
      assert.is_true(is_error, said)
    end
  end))
end)
