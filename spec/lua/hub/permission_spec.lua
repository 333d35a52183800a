local broken = require "spec.broken_permission"
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local listener = require "parley.hub.listener"
local parley = require "parley"
local settling = require "parley.policy.settling"
local testing = require "parley.testing"

local function two_calls()
  return { answers = { { on = "both", steps = {
    { tools = { { name = "Bash", input = { command = "touch good" }, result = "good-out" },
      { name = "Bash", input = { command = "touch bad" }, result = "bad-out" } } },
    { text = "done" } } } } }
end

describe("a permission policy", function()
  local check_leaks, kit, version

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    assert.is_false(listener.is_open())
    check_leaks()
    helper.remove_folders()
  end)

  local function each_version(make, name, script, fn)
    for _, profile in ipairs { "2.1.330", "2.1.197", "2.1.110" } do
      it(name .. " (" .. profile .. ")", helper.task(function()
        local given = script and script() or {}
        given.profile = profile
        kit = make { script = given }
        version = profile
        local _ <close> = kit
        fn(kit)
      end))
    end
  end

  --- In a world, where the clock is its own.
  local function spec(...) each_version(testing.world, ...) end
  --- On a real terminal, with a real connection to the hub.
  local function on_pty(...) each_version(testing.kit, ...) end

  --- Sends one message with a policy. Returns the events by type, or what was raised.
  local function say(text, decide, options, request)
    local given = { policies = { permission = { decide = decide } }, permission_mode = "bypassPermissions" }
    for key, value in pairs(kit.options) do given[key] = value end
    for key, value in pairs(options or {}) do given[key] = value end
    local backend <close> = parley.backend(given)
    local events, results, decisions = {}, {}, {}
    local ok, err = pcall(function()
      for event in backend:complete({ { role = "user", content = text } }, request) do
        table.insert(events, event)
        for _, block in ipairs(event.type == "user" and event:blocks "tool_result" or {}) do
          table.insert(results, block)
        end
        if event.subtype == "permission" then table.insert(decisions, event) end
      end
    end)
    return { events = events, results = results, decisions = decisions, result = events[#events], err = not ok and err }
  end

  --- What a version makes of a reason.
  local function denial()
    return (version == "2.1.330" and "PreToolUse:Bash hook error: " or "") .. "not this one"
  end

  local function by_command(call)
    if call.input.command == "touch good" then return { allow = true } end
    return { deny = "not this one" }
  end

  spec("is heard by the model, which says what it was told", nil, function()
    local said = say("USETOOL", function() return { deny = "not this one" } end)
    assert.equal("echo: TOOLRESULT " .. denial(), said.events[#said.events - 1]:text())
  end)

  for name, play in pairs { [""] = spec, [", on a real connection"] = on_pty } do
    for _, mode in ipairs { "default", "bypassPermissions" } do
      play("allows one call and denies the other by its input, in " .. mode .. name, two_calls, function()
        local said = say("both", by_command, { permission_mode = mode })
        assert.is_false(said.err)
        assert.equal("success", said.result.subtype)
        assert.same({ "good-out", denial() },
          { said.results[1].content, said.results[2].content })
        assert.is_true(said.results[2].is_error)
        assert.same({ "allow", "deny" }, { said.decisions[1].decision, said.decisions[2].decision })
      end)
    end
  end

  spec("is told of in the events' order: behind the call, before its result", two_calls, function()
    local order = {}
    for _, event in ipairs(say("both", by_command).events) do
      for _, block in ipairs(event.content or {}) do
        if block.type == "tool_use" then table.insert(order, "call " .. block.input.command) end
        if block.type == "tool_result" then table.insert(order, "result") end
      end
      if event.subtype == "permission" then table.insert(order, event.decision .. " " .. event.input.command) end
    end
    local position = {}
    for i, word in ipairs(order) do position[word] = position[word] or i end
    assert.is_true(position["call touch good"] < position["allow touch good"])
    assert.is_true(position["call touch bad"] < position["deny touch bad"])
    assert.is_true(position["allow touch good"] < position["result"])
  end)

  spec("gets the whole call, and what the caller has passed", two_calls, function()
    local calls = {}
    say("both", function(call)
      table.insert(calls, call)
      return { allow = true }
    end, { policies = nil }, { who = "me" })
    assert.equal(2, #calls)
    assert.same({ "Bash", "touch good", "bypassPermissions", "me" },
      { calls[1].name, calls[1].input.command, calls[1].permission_mode, calls[1].request.who })
    assert.is_true(core.uuid.is_valid(calls[1].session_id))
    assert.is_string(calls[1].id)
  end)

  spec("may change the input that runs", two_calls, function()
    local said = say("both", function() return { allow = true, input = { command = "touch other" } } end)
    assert.matches("changed: .*touch other", said.results[1].content)
    assert.same({ command = "touch other" }, said.decisions[1].changed_input)
  end)

  on_pty("may wait, and nothing runs meanwhile", two_calls, function()
    local began = parley.task.now()
    local said = say("both", function(call)
      parley.task.condition():wait(helper.long(2500, 25000)) -- for a person, who takes his time
      return by_command(call)
    end, { stall_timeout_ms = 2000 })
    assert.is_false(said.err)
    assert.is_true(parley.task.now() - began >= helper.long(5000, 50000))
    assert.same({ "good-out", denial() },
        { said.results[1].content, said.results[2].content })
  end)

  on_pty("that waits keeps the settling policy from being asked", two_calls, function()
    local was_asked = false
    local watching = { judge = function(facts, still_ms)
      was_asked = was_asked or facts.asking
      return settling.judge(facts, still_ms)
    end }
    local function decide()
      parley.task.condition():wait_until(function() return was_asked end, 200)
      return { allow = true }
    end
    local said = say("both", decide, { policies = { settling = watching, permission = { decide = decide } } })
    assert.equal("success", said.result.subtype)
    assert.is_false(was_asked)
  end)

  for what, given in pairs {
    ["that raises"] = { function() error "no idea" end, "^the policy 'permission' fails in 'decide': .*no idea$" },
    ["that breaks its promise"] = { function() return { allow = true, deny = "both" } end,
      "^the policy 'permission' must return .* not one with several of allow, deny and ask$" },
    ["that has a field of another type"] = { function() return { allow = "yes" } end,
      "not one whose 'allow' is \"yes\"$" },
  } do
    spec(what .. " fails the turn, and nothing has run", two_calls, function()
      local said = say("both", given[1])
      assert.equal("ValueError", said.err.code)
      assert.matches(given[2], said.err.message)
      local id = table.concat(kit:events "started"[1].argv, " "):match "%-%-session%-id (%S+)"
      local text = files.read(kit:transcript_path(id))
      assert.is_nil(text:find "good%-out" or text:find "bad%-out" or text:find "the policy")
    end)
  end

  spec("may end the turn", two_calls, function()
    local said = say("both", function() return { deny = "enough", interrupt = true } end)
    assert.equal("interrupted", said.result.subtype)
    assert.equal("enough", said.decisions[1].message)
    assert.equal("the policy 'permission' has interrupted it at a call of Bash: enough", said.result.message)
  end)

  spec("that says nothing leaves it to the program's own rules", two_calls, function()
    assert.equal("good-out", say("both", function() end).results[1].content)
    local said = say("both", function() end, { permission_mode = "default" })
    assert.equal("DialogError", said.err.code)
  end)

  spec("may have a dialog come up, for the dialogs policy", two_calls, function()
    local asked = {}
    local dialogs = { decide = function(dialog)
      table.insert(asked, dialog.tool_use and dialog.tool_use.input.command)
      return { choose = 1 }
    end }
    local said = say("both", function() return { ask = true } end, { policies = { dialogs = dialogs,
      permission = { decide = function() return { ask = true } end } } })
    assert.is_false(said.err)
    assert.same({ "touch good", "touch bad" }, asked)
  end)

  for _, mode in ipairs { "default", "bypassPermissions" } do
    for name, case in pairs(broken.cases) do
      on_pty(("%s has nothing run, in %s"):format(name, mode), function()
        return { answers = { { tool = { name = "Write", result = "written",
          input = { file_path = "written.txt", content = "x" }, leaves = "echo written >written.txt" } } } }
      end, function()
        broken.run(case, kit.cwd, function(policy, hold)
          local given = { permission_mode = mode, policies = { permission = policy } }
          for key, value in pairs(kit.options) do given[key] = given[key] or value end
          local backend <close> = parley.backend(given)
          local turn <close> = backend:complete { { role = "user", content = "go" } }
          function hold.interrupt() turn:interrupt() end
          return turn:result()
        end)
      end)
    end
  end

  on_pty("whose question the program drops is an error, and nothing runs", function()
    local script = two_calls()
    script.faults = { drop_hooks_ms = 1500 }
    return script
  end, function()
    local said = say("both", function()
      helper.until_cancelled()
    end)
    assert.same({ "SessionError", "hooks", "touch good" }, { said.err.code, said.err.reason,
      said.err.tool_use.input.command })
    assert.same({}, said.results)
  end)

  it("that the user's settings forbid to be asked is an error", helper.task(function()
    for _, settings in ipairs { { disableAllHooks = true }, { allowedHttpHookUrls = { "https://example.com/*" } } } do
      kit = testing.kit { script = two_calls() }
      local _ <close> = kit
      local said = say("both", function() return { allow = true } end, { settings = settings })
      assert.equal("SessionError", said.err.code)
      assert.equal("hooks", said.err.reason)
      assert.matches("permission policy", tostring(said.err))
    end
  end))

  it("is asked beside a proxy of the user's, and beside the user's own hooks", helper.task(function()
    kit = testing.kit { script = two_calls() }
    local _ <close> = kit
    local environment = { HTTP_PROXY = "http://127.0.0.1:9", NO_PROXY = "example.com" }
    for key, value in pairs(kit.options.extra_env) do environment[key] = value end
    local said = say("both", by_command, { extra_env = environment, settings = { hooks = {
      PreToolUse = { { hooks = { { type = "command", command = "cat >>$HOME/seen" } } } } } } })
    assert.is_false(said.err)
    assert.matches("touch good", files.read(kit.home .. "/seen"))
  end))

  it("comes second to what the user's own rules want a person to be asked about", helper.task(function()
    kit = testing.kit { script = two_calls(), settings = { permissions = { ask = { "Bash" } } } }
    local _ <close> = kit
    local said = say("both", function() return { allow = true } end)
    assert.equal("DialogError", said.err.code)
    assert.equal("touch good", said.err.dialog.tool_use.input.command)
    assert.equal("deny", say("both", function() return { deny = "no" } end).decisions[1].decision)
  end))

  it("cannot be kept in a mode in which the program runs what it hears nothing about", function()
    for _, options in ipairs { { permission_mode = "auto" }, { permission_mode = "acceptEdits" },
      { extra_args = { "--permission-mode=auto" } } } do
      options.policies = { permission = { decide = function() end } }
      local ok, err = pcall(parley.backend, options)
      assert.is_false(ok)
      assert.equal("ValueError", err.code)
    end
  end)
end)
