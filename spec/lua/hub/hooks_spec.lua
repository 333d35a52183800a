local files = require "parley.base.files"
local helper = require "spec.helper"
local listener = require "parley.hub.listener"
local parley = require "parley"
local task = require "parley.base.task"
local testing = require "parley.testing"
local uv = require "luv"

describe("what the program calls", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    assert.is_false(listener.is_open())
    check_leaks()
  end)

  --- A spec with a kit and a backend, whose options are `given`.
  local function spec(name, given, body, kit_options)
    it(name, helper.task(function()
      local kit <close> = testing.kit(kit_options)
      for key, value in pairs(given) do kit.options[key] = value end
      local backend <close> = parley.backend(kit.options)
      body(backend, kit)
    end))
  end

  local function say(backend, text)
    local events = {}
    for event in backend:complete { { role = "user", content = text } } do table.insert(events, event) end
    return events
  end

  local function of_subtype(events, subtype)
    for _, event in ipairs(events) do
      if event.subtype == subtype then return event end
    end
  end

  local function plugin_of(backend)
    local _, process = next(backend:live_sessions())
    for i, word in ipairs(process.argv) do
      if word == "--plugin-dir" then return process.argv[i + 1], process end
    end
  end

  for _, profile in ipairs { "2.1.330", "2.1.197", "2.1.110" } do
    local seen = {}
    spec("is each event that somebody wants, with its payload (" .. profile .. ")", { hooks = {
      PostToolUse = function(payload) table.insert(seen, payload.tool_name) end,
      UserPromptSubmit = function(payload) table.insert(seen, payload.prompt) end,
      Stop = function(payload) table.insert(seen, payload.last_assistant_message) end,
    } }, function(backend)
      local events = say(backend, "USETOOL please")
      assert.same({ "USETOOL please", "Bash", 'echo: TOOLRESULT:"tool-out"' }, seen)
      assert.equal("success", events[#events].subtype)
    end, { profile = profile })

    spec("has a turn end for certain (" .. profile .. ")", { hooks = { PostToolUse = function() end } },
      function(backend, kit)
        say(backend, "hello")
        local text = files.read(kit:transcript_path((next(backend:live_sessions()))))
        assert.is_truthy(text:find(profile == "2.1.110" and "stop_hook_summary" or "turn_duration"))
      end, { profile = profile })
  end

  spec("takes a function's answer", { hooks = { UserPromptSubmit = function()
    return { decision = "block", reason = "not today" }
  end } }, function(backend)
    local err = helper.failure_of("SessionError", say, backend, "hello")
    assert.equal("refused", err.reason)
    assert.matches("not today", tostring(err))
  end)

  spec("goes on where a function raises, and says so", { hooks = { PostToolUse = function() error "no idea" end } },
    function(backend)
      local events = say(backend, "USETOOL please")
      assert.equal("success", events[#events].subtype)
      local failed = of_subtype(events, "hook_failed")
      assert.equal("PostToolUse", failed.event)
      assert.matches("no idea", failed.message)
    end)

  local changes = { matches = function() return false end }
  spec("stops a message that arrives changed before the model sees it", { policies = { delivery = changes },
    hooks = { PostToolUse = function() end } }, function(backend, kit)
    local err = helper.failure_of("SessionError", say, backend, "hello")
    assert.same({ "delivery", "hello", "hello" }, { err.reason, err.sent, err.received })
    for _, id in ipairs(files.names(kit.home .. "/.claude/projects")) do
      local folder = kit.home .. "/.claude/projects/" .. id
      for _, name in ipairs(files.names(folder)) do
        assert.is_nil(files.read(folder .. "/" .. name):find('"assistant"', 1, true))
      end
    end
  end)

  spec("stands in a private folder beside the user's own, which is gone at the end", {
    hooks = { PostToolUse = function() end }, extra_args = { "--plugin-dir", "/nowhere" } }, function(backend, kit)
    say(backend, "hello")
    local _, process = plugin_of(backend)
    local folder = process.argv[#process.argv]
    assert.equal(tonumber("700", 8), uv.fs_stat(folder).mode & 511)
    assert.equal(tonumber("600", 8), uv.fs_stat(folder .. "/hooks/hooks.json").mode & 511)
    assert.is_nil(table.concat(process.argv, " "):find("127.0.0.1", 1, true)) -- anybody can read that
    assert.matches("127.0.0.1", process.environment.NO_PROXY)
    backend:close()
    assert.is_nil(uv.fs_stat(folder))
    assert(kit)
  end)

  it("is called though the user has a plugin of the same name", helper.task(function()
    finally(helper.remove_folders)
    local folder, seen = helper.temporary_folder(), 0
    for name, text in pairs { [".claude-plugin/plugin.json"] = '{"name":"parley"}', ["hooks/hooks.json"] =
      '{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"true"}]}]}}' } do
      assert(files.make_folder(folder .. "/" .. name:match "^[^/]+"))
      helper.write(folder .. "/" .. name, text)
    end
    local kit <close> = testing.kit { }
    kit.options.extra_args = { "--plugin-dir", folder }
    kit.options.hooks = { PostToolUse = function() seen = seen + 1 end }
    local backend <close> = parley.backend(kit.options)
    say(backend, "USETOOL please")
    assert.equal(1, seen)
  end))

  spec("leaves nothing behind a start that failed", { hooks = { PostToolUse = function() end } }, function(backend)
    helper.failure_of("DialogError", say, backend, "hello")
    assert.is_false(listener.is_open())
  end, { trusted = false })

  spec("is nothing where nobody wants anything", {}, function(backend)
    say(backend, "hello")
    assert.is_nil((plugin_of(backend)))
    assert.is_false(listener.is_open())
  end)

  spec("is an error where the version has not what is wanted", { hooks = { MessageDisplay = function() end } },
    function(backend)
      local err = helper.failure_of("SessionError", say, backend, "hello")
      assert.equal("hooks", err.reason)
      assert.matches("2.1.110.*MessageDisplay", tostring(err))
    end, { profile = "2.1.110" })

  spec("is an error where the user's settings forbid it", { hooks = { PostToolUse = function() end } },
    function(backend) assert.equal("hooks", helper.failure_of("SessionError", say, backend, "hello").reason) end,
    { settings = { disableAllHooks = true } })

  it("has names, and a near one for others", function()
    for name, said in pairs { PostTooluse = "PostToolUse", SessionStart = "only commands", Whatever = "no event" } do
      local err = helper.failure_of("ValueError", parley.backend, { hooks = { [name] = function() end } })
      assert.matches(said, tostring(err))
    end
    helper.failure_of("ValueError", parley.backend, { hooks = { Stop = "a string" } })
  end)

  spec("belongs to a session: another's secret and its end are not its own", { hooks = { Stop = function() end } },
    function(backend)
      local first = task.spawn(say, backend, "SLOW one")
      local second = task.spawn(say, backend, "two")
      local events = second:await()
      assert.equal("success", events[#events].subtype)
      events = first:await()
      assert.equal("success", events[#events].subtype)
    end)
end)
