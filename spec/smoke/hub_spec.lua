-- What the real program calls back into: a permission policy is asked about each call, and the receipt comes first.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local smoke = require "spec.smoke.live"
local task = require "parley.base.task"

local say, is_fine = helper.say, smoke.is_fine

describe("the hub with the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function deciding(mode, decide, name, body, settings, script)
    it(name, function()
      local calls = {}
      local function noted(call)
        table.insert(calls, call)
        return decide(call)
      end
      smoke.conversation({ process = { permission_mode = mode }, settings = settings, script = script,
        session = { policies = { permission = { decide = noted } } } },
        function(live, server, home) body(live, server, home, calls) end)()
    end)
  end

  local function results_of(said)
    local results = {}
    for _, event in ipairs(said.events) do
      for _, block in ipairs(event.type == "user" and event:blocks "tool_result" or {}) do
        local text = type(block.content) == "string" and block.content or core.json.encode(block.content)
        table.insert(results, text)
      end
    end
    return results
  end

  local function only_a(call)
    if call.input.command == "echo A" then return { allow = true } end
    return { deny = "not this one" }
  end

  it("is called though the user has a plugin of the same name", function()
    local folder, seen = helper.temporary_folder(), 0
    assert(files.make_folder(folder .. "/.claude-plugin"))
    helper.write(folder .. "/.claude-plugin/plugin.json", '{"name":"parley","version":"1.0.0","description":"d"}')
    assert(files.make_folder(folder .. "/hooks"))
    helper.write(folder .. "/hooks/hooks.json", '{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"true"}]}]}}')
    smoke.conversation({ process = { extra_args = { "--plugin-dir", folder } },
      session = { hooks = { PostToolUse = function() seen = seen + 1 end } } }, function(live)
      assert.equal("success", say(live, "USETOOL please").verdict)
      assert.equal(1, seen)
    end)()
    helper.remove_folders()
  end)

  for _, mode in ipairs { "default", "bypassPermissions" } do
    deciding(mode, only_a, "allows one of two calls and denies the other by its input, in " .. mode,
      function(live, server, _, calls)
        local said = say(live, "TWOTOOLS please")
        assert.equal("success", said.verdict)
        assert.same({ "echo A", "echo B" }, { calls[1].input.command, calls[2].input.command })
        local results = table.concat(results_of(said), "|")
        local prefix = smoke.is_newest and "PreToolUse:Bash hook error: " or ""
        assert.is_truthy(("|" .. results .. "|"):find("|" .. prefix .. "not this one|", 1, true), results)
        assert.is_truthy(results:find "^A|" or results:find "|A$", results)
        assert.same({ "allow", "deny" }, { smoke.of_subtype(said, "permission")[1].decision,
          smoke.of_subtype(said, "permission")[2].decision })
        is_fine(live, server)
      end)
  end

  deciding("bypassPermissions", function(call)
    return { allow = true, input = { command = "echo changed-here", description = call.input.description } }
  end, "runs a changed input", function(live, server)
    assert.matches("changed%-here", results_of(say(live, "USETOOL please"))[1])
    is_fine(live, server)
  end)

  deciding("bypassPermissions", function()
    task.condition():wait(helper.long(3000, 90000)) -- for a person, who takes his time
    return { allow = true }
  end, "waits for a decision", function(live, server)
    local said = say(live, "USETOOL please")
    assert.equal("success", said.verdict)
    assert.matches("tool%-out", results_of(said)[1])
    is_fine(live, server)
  end)

  deciding("bypassPermissions", function() error "no idea" end, "raises what a policy raised, and nothing has run",
    function(live, _, home)
      local err = helper.failure_of("ValueError", say, live, "WRITETOOL please")
      assert.matches("^the policy 'permission' fails in 'decide': .*no idea$", err.message)
      assert.is_nil(files.read(home.cwd .. "/written.txt"))
      assert.is_false(live.process:is_alive())
    end)

  deciding("bypassPermissions", function() return { deny = "enough", interrupt = true } end, "ends a turn",
    function(live, server)
      local said = say(live, "USETOOL please")
      assert.equal("interrupted", said.verdict)
      assert.equal("enough", smoke.of_subtype(said, "permission")[1].message)
      assert.matches("^the policy 'permission' has interrupted it .*: enough$", said.result.message)
      is_fine(live, server)
    end)

  deciding("bypassPermissions", function() end, "lets run what would have run anyhow", function(live, server, home)
    local said = say(live, "WRITETOOL please")
    assert.equal("success", said.verdict)
    assert.equal("written\n", files.read(home.cwd .. "/written.txt"))
    is_fine(live, server)
  end)

  deciding("bypassPermissions", function() return { allow = true } end, "asks for a sub-agent's calls, too",
    function(live, _, _, calls)
      say(live, "AGENT please")
      assert.same({ "Agent", "Bash" }, { calls[1].name, (calls[2] or {}).name })
      assert.is_truthy(calls[2].agent or smoke.is_oldest)
    end, nil, { { on = "SUBPROMPT", times = 1, blocks = { { type = "tool_use", name = "Bash",
      input = { command = "echo sub", description = "x" } } } }, table.unpack(messages_api.rules) })

  local ASK = { permissions = { ask = { "Bash" } } }
  deciding("bypassPermissions", function() return { deny = "not this one" } end,
    "denies what the user's own rules would ask about", function(live, server)
      assert.matches("not this one", results_of(say(live, "USETOOL please"))[1])
      is_fine(live, server)
    end, ASK)

  deciding("bypassPermissions", function() return { allow = true } end,
    "comes second to what the user's own rules want a person to be asked about", function(live)
      assert.equal("permission", helper.failure_of("DialogError", say, live, "USETOOL please").dialog.kind)
    end, ASK)

  deciding("default", function() return { ask = true } end, "has a dialog come up, which is about one call",
    function(live)
      local err = helper.failure_of("DialogError", say, live, "TWOTOOLS please")
      assert.is_truthy(err.dialog.text:find(err.dialog.tool_use.input.command, 1, true), err.dialog.text)
    end)

  deciding("bypassPermissions", function() return { allow = true } end, "is an error where the user forbids hooks",
    function(live)
      local err = helper.failure_of("SessionError", say, live, "hello")
      assert.equal("hooks", err.reason)
    end, { disableAllHooks = true })

  it("stops a message that arrives changed before the model sees it", function()
    local delivery = {}
    function delivery.matches() return false end
    smoke.conversation({ session = { hooks = { PostToolUse = function() end }, policies = { delivery = delivery } } },
      function(live, server)
        local err = helper.failure_of("SessionError", say, live, "hello")
        assert.equal("delivery", err.reason)
        assert.equal(0, #server:turns())
      end)()
  end)

  it("tells of each event, and takes the answer", function()
    local seen = {}
    smoke.conversation({ session = { hooks = {
      PostToolUse = function(payload) table.insert(seen, payload.tool_input.command) end,
      Stop = function(payload) table.insert(seen, payload.last_assistant_message) end,
      UserPromptSubmit = function(payload) table.insert(seen, payload.prompt) end,
    } } }, function(live, server, home)
      say(live, "USETOOL please")
      if smoke.is_oldest then assert.matches("stop_hook_summary", files.read(live.jsonl_path)) end -- which ends a turn
      assert.same({ "USETOOL please", "echo tool-out" }, { seen[1], seen[2] })
      assert.equal(3, #seen)
      is_fine(live, server)
      is_fine(live, server, "one\nmore line")
      helper.write(home.cwd .. "/there.txt", "what is there\n")
      assert.equal("success", say(live, "look at @./there.txt please").verdict)
      assert.equal("success", smoke.run(live, "/cost").verdict)
      is_fine(live, server, ("a long line "):rep(200) .. "end")
    end)()
  end)
end)
