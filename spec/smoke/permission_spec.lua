-- A permission policy that the real program cannot hear: nothing runs, and the turn says so.
local broken = require "spec.broken_permission"
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local smoke = require "spec.smoke.live"

describe("with the real program a permission policy", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  for _, mode in ipairs { "default", "bypassPermissions" } do
    for name, case in pairs(broken.cases) do
      it(("%s has nothing run, in %s"):format(name, mode), helper.task(function()
        local server <close> = messages_api.start()
        local home <close> = offline_home.new { base_url = server.url }
        broken.run(case, home.cwd, function(policy, hold)
          local live <close> = smoke.new(home, { process = { permission_mode = mode },
            session = { policies = { permission = policy } } })
          live:start()
          function hold.interrupt() live:interrupt() end
          return helper.say(live, "WRITETOOL please").result
        end)
        assert.equal(1, #server:turns()) -- the model got no result either
      end))
    end
  end

  it("has nothing run that it denies, whatever becomes of a hook beside it", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local live <close> = smoke.new(home, { process = { allowed_tools = { "Write" } }, session = {
      policies = { permission = { decide = function(call) return { deny = "not " .. call.name } end } },
      hooks = { PreToolUse = function() error("my log is full", 0) end } } })
    live:start()
    local said = helper.say(live, "WRITETOOL please")
    assert.is_nil(files.size(home.cwd .. "/written.txt"))
    assert.equal(1, #smoke.of_subtype(said, "hook_failed"))
    for _, event in ipairs(smoke.of_subtype(said, "permission")) do assert.equal("deny", event.decision) end
    local results = 0
    for _, event in ipairs(said.events) do results = results + #event:blocks "tool_result" end
    assert.equal(1, results)
  end))

  it("has a call denied that is too deep to be read", helper.task(function()
    local input, ran, asked = {}, 0, 0
    for _ = 1, 511 do input = { a = input } end
    local server <close> = messages_api.start { script = { { on = "DEEP", blocks = {
      { type = "tool_use", name = "mcp__parley__probe", input = input } } } } }
    local home <close> = offline_home.new { base_url = server.url }
    local live <close> = smoke.new(home, { process = { allowed_tools = { "mcp__parley__probe" } }, session = {
      policies = { permission = { decide = function()
        asked = asked + 1
        return { deny = "no" }
      end } },
      tools = { { name = "probe", description = "notes that it was called", run = function()
        ran = ran + 1
        return "ran"
      end } } } })
    live:start()
    local said = helper.say(live, "DEEP")
    assert.same({ 0, 0, 1 }, { ran, asked, #smoke.of_subtype(said, "hook_failed") })
  end))

  for theirs, ours in pairs { allow = "deny", deny = "allow" } do
    it(("%ss what a hook of the user's %ss, and nothing runs"):format(ours, theirs), helper.task(function()
      local server <close> = messages_api.start()
      local home <close> = offline_home.new { base_url = server.url }
      local decision = core.json.encode { hookSpecificOutput = { hookEventName = "PreToolUse",
        permissionDecision = theirs, permissionDecisionReason = "the user's own" } }
      local hook = { type = "command", command = ("echo '%s'"):format(decision:gsub("'", [['\'']])) }
      local policy = { decide = function() return { [ours] = ours == "allow" or "no" } end }
      local live <close> = smoke.new(home, { session = { policies = { permission = policy } },
        process = { settings = { hooks = { PreToolUse = { { matcher = "*", hooks = { hook } } } } } } })
      live:start()
      helper.say(live, "WRITETOOL please")
      assert.is_nil(files.size(home.cwd .. "/written.txt"))
    end))
  end
end)
