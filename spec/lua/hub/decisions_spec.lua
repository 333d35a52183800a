-- A permission policy's word stands: whatever another hook does, and whatever the word is made of.
local core = require "parley.core"
local defer = require "parley.base.defer"
local files = require "parley.base.files"
local helper = require "spec.helper"
local http_client = require "parley.testing.http_client"
local hub = require "parley.hub"
local parley = require "parley"
local permission = require "parley.hub.permission"
local testing = require "parley.testing"

local RAN = "it has run"

--- Has a stand-in make a call, and gives what came of it.
local function play(options, text, of_kit)
  local kit <close> = testing.kit(of_kit)
  for key, value in pairs(kit.options) do options[key] = value end
  local backend <close> = parley.backend(options)
  local said = { results = {}, events = {} }
  said.ok, said.err = pcall(function()
    for event in backend:complete { { role = "user", content = text } } do
      table.insert(said.events, event)
      for _, block in ipairs(event.type == "user" and event:blocks "tool_result" or {}) do
        table.insert(said.results, tostring(block.content))
      end
    end
  end)
  return said
end

local function calling(command)
  return { answers = { { on = "go", tool = { name = "Bash", input = { command = command }, result = RAN } } } }
end

local function fails() error("my log is full", 0) end

describe("a denied call", function()
  for _, is_allowed in ipairs { false, true } do
    it("does not run where a hook of the caller's fails beside the policy"
      .. (is_allowed and ", though the user's rules allow it" or ""), helper.task(function()
        local said = play({ permission_mode = "default", allowed_tools = is_allowed and { "Bash" } or nil,
          policies = { permission = { decide = function() return { deny = "never" } end } },
          hooks = { PreToolUse = fails } }, "go",
          { script = calling "touch bad", settings = is_allowed and { permissions = { allow = { "Bash" } } } or nil })
        assert.equal(1, #said.results)
        assert.is_nil(said.results[1]:find(RAN, 1, true))
        local reported
        for _, event in ipairs(said.events) do reported = reported or event.subtype == "hook_failed" and event end
        assert.matches("my log is full", reported.message)
      end))
  end

  for name, decide in pairs {
    ["whose reason is cut within a character"] = function(call)
      return { deny = "not this: " .. call.input.command:sub(1, 8) }
    end,
    ["whose changed input is no text"] = function() return { allow = true, input = { command = "echo \xC3" } } end,
  } do
    it("does not run, " .. name .. ", and the policy's mistake is told", helper.task(function()
      local said = play({ permission_mode = "default", allowed_tools = { "Bash" },
        policies = { permission = { decide = decide } } }, "go", { script = calling "rm -rf é" })
      assert.is_nil(table.concat(said.results):find(RAN, 1, true))
      assert.is_false(said.ok)
      assert.equal("ValueError", said.err.code)
      assert.matches("cannot be written as JSON", said.err.message)
    end))
  end
end)

describe("a hook that fails", function()
  it("does not end a turn whose message has arrived", helper.task(function()
    local said = play({ hooks = { UserPromptSubmit = fails } }, "hello")
    assert.is_true(said.ok, tostring(said.err))
    assert.equal("success", said.events[#said.events].subtype)
  end))
end)

--- Arrays in each other, as text.
local function nested(depth) return ("["):rep(depth) .. ("]"):rep(depth) end

describe("a call that cannot be read", function()
  it("does not run, and that is told", helper.task(function()
    local failures = {}
    local one = hub.new { on_failure = function(event, err) table.insert(failures, event .. ": " .. err.message) end }
    one:on("PreToolUse", function() return { hookSpecificOutput = { permissionDecision = "allow" } } end)
    one:on("PostToolUse", function() end)
    local url
    one:open { argv = {}, environment = {}, prepare = function(_, changes)
      url = files.read(changes.arguments[2] .. "/hooks/hooks.json"):gsub("\\", ""):match '"(http://[^"]*/)PreToolUse"'
    end }
    local _ <close> = defer(function() one:close() end)
    local function answer(event, body)
      local said = http_client.request { url = url .. event, method = "POST", body = body }
      assert.equal(200, said.status)
      return (core.json.decode(said.body).hookSpecificOutput or {}).permissionDecision
    end
    assert.equal("allow", answer("PreToolUse", '{"tool_input":{}}'))
    assert.equal("deny", answer("PreToolUse", ('{"tool_input":{"a":%s}}'):format(nested(600))))
    assert.equal("deny", answer("PreToolUse", "7"))
    assert.is_nil(answer("PostToolUse", "{"))
    assert.equal(3, #failures)
    assert.matches("^PreToolUse: .*nested too deep", failures[1])
  end))

  it("is denied where it would be as deep only in the answer", helper.task(function()
    local desk = permission.new { mode = "default", on_decision = function() end,
      policy = { decide = function() return { allow = true, input = core.json.decode(nested(511)) } end } }
    local said = desk:ask { id = "t1", name = "t", input = {} }.hookSpecificOutput
    assert.equal("deny", said.permissionDecision)
  end))
end)

describe("a permission policy's word", function()
  it("is not joined with another input", helper.task(function()
    local desk = permission.new { mode = "default", on_decision = function() end,
      policy = { decide = function() return { allow = true } end } }
    local one = hub.new { on_failure = function() end }
    one:on("PreToolUse", function(payload)
      return desk:ask { id = payload.tool_use_id, name = payload.tool_name, input = payload.tool_input }
    end)
    one:on("PreToolUse", function()
      return { hookSpecificOutput = { hookEventName = "PreToolUse", updatedInput = { command = "rm -rf /" } } }
    end)
    local said = one:dispatch("PreToolUse", { tool_use_id = "t1", tool_name = "Bash", tool_input = { command = "ls" } })
    assert.equal("allow", said.hookSpecificOutput.permissionDecision)
    assert.is_nil(said.hookSpecificOutput.updatedInput)
  end))

  --- What a hub answers whose handlers say these things.
  local function joined(...)
    local one = hub.new { on_failure = error }
    for _, said in ipairs { ... } do one:on("PreToolUse", function() return said end) end
    return one:dispatch("PreToolUse", {}).hookSpecificOutput
  end

  it("is not joined with a part of another input", helper.task(function()
    local decided = { permissionDecision = "allow", updatedInput = { command = "ls" } }
    local other = { updatedInput = { command = "rm", dangerouslyDisableSandbox = true } }
    assert.same(decided, joined({ hookSpecificOutput = decided }, { hookSpecificOutput = other }))
    assert.same({ decision = { behavior = "deny" } }, joined(
      { hookSpecificOutput = { decision = { behavior = "deny" } } },
      { hookSpecificOutput = { decision = { behavior = "allow", updatedInput = { command = "ls" } } } }))
  end))

  it("is not joined with an input that another has given before it", helper.task(function()
    local allowed = { permissionDecision = "allow" }
    assert.same(allowed, joined({ hookSpecificOutput = { updatedInput = { command = "rm" } } },
      { hookSpecificOutput = allowed }))
  end))

  it("gives way to a hook's denial, and to nothing else", helper.task(function()
    local denied = { permissionDecision = "deny", permissionDecisionReason = "no" }
    for _, word in ipairs { "allow", "ask" } do
      local other = { permissionDecision = word, permissionDecisionReason = word, updatedInput = { command = "ls" } }
      assert.same(denied, joined({ hookSpecificOutput = other }, { hookSpecificOutput = denied }))
      assert.same(denied, joined({ hookSpecificOutput = denied }, { hookSpecificOutput = other }))
    end
    assert.equal("ask", joined({ hookSpecificOutput = { permissionDecision = "ask" } },
      { hookSpecificOutput = { permissionDecision = "allow" } }).permissionDecision)
  end))

  it("does not stay in what a hook beside it says each time", helper.task(function()
    local said = { hookSpecificOutput = { hookEventName = "PermissionRequest" } }
    for _, behavior in ipairs { "allow", "deny" } do
      local answer = joined(said, { hookSpecificOutput = { decision = { behavior = behavior } } })
      assert.equal(behavior, answer.decision.behavior)
    end
  end))

  for _, first in ipairs { { ask = true }, { deny = "no" } } do
    it(("about one call answers no dialog of another that is the same: %s"):format(next(first)), helper.task(function()
      local desk = permission.new { mode = "default", on_decision = function() end,
        policy = { decide = function(call) return call.agent and first or { allow = true } end } }
      local input = { command = "rm -rf build" }
      desk:ask { id = "of-agent", name = "Bash", input = input, agent = { id = "a1" } }
      desk:ask { id = "of-main", name = "Bash", input = input }
      assert.is_nil(desk:confirm("Bash", input))
    end))
  end
end)
