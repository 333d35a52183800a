--- The world with a clock of its own, as a user's spec sees it.
local backend_of = require "parley.backend"
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local play = require "spec.simulation.play"
local plans = require "spec.simulation.plan"
local process = require "parley.claude.process"
local task = require "parley.base.task"
local testing = require "parley.testing"
local transcript = require "parley.claude.transcript"
local tui = require "parley.claude.tui"
local version = require "parley.claude.version"

local function ask(backend, text)
  local said = { texts = {} }
  for event in backend:complete { { role = "user", content = text } } do
    if event.type == "assistant" then table.insert(said.texts, event:text()) end
    if event.type == "result" then said.verdict = event.subtype end
  end
  return said
end

local function in_world(given, body)
  return helper.task(function()
    local world <close> = testing.world(given)
    body(world)
  end)
end

describe("testing.world", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  it("answers through the whole backend", in_world({}, function(world)
    local backend <close> = backend_of.new(world.options)
    local said = ask(backend, "hello")
    assert.same({ "echo: hello" }, said.texts)
    assert.equal("success", said.verdict)
    assert.same({ "hello" }, world:taken())
  end))

  it("lets ten minutes pass in no time", in_world({ script = { answers = { { text = "late", delay_ms = 590000 } } } },
    function(world)
      local set = { turn_timeout_ms = 600000 }
      for name, value in pairs(world.options) do set[name] = value end
      local backend <close> = backend_of.new(set)
      assert.same({ "late" }, ask(backend, "hello").texts)
      assert.truthy(clock.now() > 590000)
    end))

  it("tells the watches of a folder of what changes in it, each once, and of nothing else", in_world({},
    function(world)
      local kernel = require "parley.claude.kernel"
      local told, folder = {}, world.folder .. "/watched"
      files.make_folder(folder)
      local watches = {}
      for place = 1, 2 do
        watches[place] = kernel.new_watch()
        watches[place]:start(folder, {}, function(_, name, events)
          table.insert(told, ("%d %s %s"):format(place, name, events.rename and "new" or "changed"))
        end)
      end
      files.make_folder(folder) -- it is there
      files.put(folder .. "/a", "1", "w")
      task.condition():wait(100)
      assert.same({ "1 a new", "2 a new" }, told)
      watches[1]:stop()
      files.put(folder .. "/a", "2", "w")
      task.condition():wait(100)
      assert.same({ "1 a new", "2 a new", "2 a changed" }, told)
      for _, watch in ipairs(watches) do watch:close() end
    end))

  it("ends a turn that takes longer than it may", in_world({ script = { answers = { { text = "x", hang = true } } } },
    function(world)
      local set = { turn_timeout_ms = 600000 }
      for name, value in pairs(world.options) do set[name] = value end
      local backend <close> = backend_of.new(set)
      local ok, err = pcall(ask, backend, "hello")
      assert.is_false(ok)
      assert.equal("timeout", err.reason)
    end))

  it("tells the same story for the same seed, and another for another", function()
    local stories = {}
    for place, seed in ipairs { 11, 11, 12 } do
      local plan = plans.random(11)
      plan.seed = seed
      local outcome = play.play(plan)
      assert.is_nil(outcome.problem)
      stories[place] = outcome.world:told()
    end
    assert.equal(stories[1], stories[2])
    assert.not_equal(stories[1], stories[3])
  end)

  it("tells the same story in another process", function()
    local chunk = ([[
      local plans, play = require "spec.simulation.plan", require "spec.simulation.play"
      for seed = 21, %d do print(seed, play.play(plans.random(seed)).world:told()) end
      print(play.play(plans.random(20261215)).world:told()) -- a closed backend cancels several requests at once
    ]]):format(helper.long(35, 60))
    task.run(function()
      local first = helper.run { helper.host, "-e", chunk }
      local second = helper.run { helper.host, "-e", chunk }
      assert.equal("", first.errors)
      assert.truthy(#first.output > 1000)
      assert.equal(first.output, second.output)
    end)
  end)

  it("stops a program and continues it", in_world({}, function(world)
    local live <close> = process.new(world.options)
    live:start()
    live.changed:wait_until(function() return live.screen:text():find("❯", 1, true) end, 10000)
    live:signal "SIGSTOP"
    live:write "hello"
    assert.falsy(live.changed:wait_until(function() return live.screen:text():find("hello", 1, true) end, 60000))
    live:signal "SIGCONT"
    assert.truthy(live.changed:wait_until(function() return live.screen:text():find("hello", 1, true) end, 1000))
    assert.same({ exit_code = 143 }, live:close())
  end))

  it("draws 2.1.110's composer anew where it is continued, without the prompt, until it is empty",
    in_world({ profile = "2.1.110" }, function(world)
      local live <close> = process.new(world.options)
      live:start()
      live.changed:wait_until(function() return #world:events "ready" > 0 end, 10000)
      local function shows(...)
        local wanted = {}
        for i, row in ipairs { ... } do wanted[i] = row:gsub("[^%w%s]", "%%%0") end
        local pattern = table.concat(wanted, "[^\n]*\n") .. "[^\n]*\n─"
        return live.changed:wait_until(function() return live.screen:text():find(pattern) end, 10000)
      end
      live:write "one\\\r"
      live:write "two"
      assert.truthy(shows("❯\u{A0}one", "  two"))
      live:signal "SIGSTOP"
      live:signal "SIGCONT"
      assert.truthy(shows("─\n  one", "  two"))
      local row, column = live.screen:cursor()
      assert.equal("one\ntwo", tui.composer(live.screen:rows(), { row = row, column = column }).text)
      live:write(("\127"):rep(4) .. "!")
      assert.truthy(shows "─\n  one!")
      live:write(("\127"):rep(4))
      assert.truthy(shows "❯\u{A0}")
      live:write "anew"
      assert.truthy(shows "❯\u{A0}anew")
    end))

  it("kills a program as SIGKILL does", in_world({}, function(world)
    local live <close> = process.new(world.options)
    live:start()
    live.changed:wait_until(function() return #world:events "ready" > 0 end, 10000)
    live:signal "SIGKILL"
    assert.is_true(live.changed:wait_until(function() return not live:is_alive() end, 1000))
    assert.same({ signal = "SIGKILL" }, live:exit_record())
    assert.truthy(files.size(("%s/.claude/sessions/%d.json"):format(world.home, live:pid())))
  end))

  it("takes no more than a terminal's buffer from one who does not read", in_world(
    { script = { faults = { stop_reading = true } } }, function(world)
      local live <close> = process.new(world.options)
      live:start()
      assert.is_true(live.changed:wait_until(function() return #world:events "deaf" > 0 end, 10000))
      assert.is_false(live:write(("x"):rep(10000), function(gone)
        assert.truthy(gone >= 4096 and gone < 10000)
        return false
      end))
    end))

  it("has a fault at the times that are asked for", in_world({ faults = { slow = { 3 } } }, function(world)
    local live <close> = process.new(world.options)
    live:start()
    live.changed:wait_until(function() return #world:events "ready" > 0 end, 10000)
    local slow = 0
    for number = 1, 6 do
      local text, began = "text" .. number, clock.now()
      live:write(text)
      live.changed:wait_until(function() return world:received():find(text, 1, true) end, 60000)
      local took = clock.now() - began
      slow = slow + (took >= 1000 and 1 or 0)
      assert.is_true(took < 7000)
    end
    assert.equal(1, slow)
  end))

  it("leaves a line of the transcript without its end", in_world({ faults = { torn = { 1 } } }, function(world)
    local set, torn = { turn_timeout_ms = 20000 }, 0
    for name, value in pairs(world.options) do set[name] = value end
    function world.on_torn() torn = torn + 1 end
    local backend <close> = backend_of.new(set)
    local _, err = pcall(ask, backend, "hello")
    assert.equal(1, torn)
    assert.same({ "hello" }, world:taken())
    local broken = 0
    for line in files.read(world:transcript_path(world:events("taken")[1].session_id)):gmatch "[^\n]+" do
      broken = broken + (core.json.decode(line) and 0 or 1)
    end
    assert.equal(1, broken)
    assert.truthy(err)
  end))

  it("writes 2.1.197's first answer before its message, and it is read behind it", in_world({ profile = "2.1.197" },
    function(world)
      local backend <close> = backend_of.new(world.options)
      ask(backend, "one")
      local path = world:transcript_path(world:events("taken")[1].session_id)
      local text = files.read(path)
      assert.truthy(text:find('"type":"assistant"', 1, true) < text:find('"type":"user"', 1, true))
      local roles = {}
      for i, message in ipairs(transcript.messages(transcript.read(path))) do roles[i] = message.role end
      assert.same({ "user", "assistant" }, roles)
    end))

  it("says what was left behind", helper.task(function()
    local ok, err = pcall(function()
      local world <close> = testing.world {}
      local live = process.new(world.options)
      live:start()
    end)
    assert.is_false(ok)
    assert.equal("Leak", err.code)
    assert.same({ "a pipe", "a signal handler", "a terminal", "program #1", "the files of editor" }, err.found)
  end))

  it("says what went wrong in the shell of the spec's own", helper.task(function()
    local function fail(raised)
      local world <close> = testing.world { shell = function() error("the shell has failed", 0) end,
        settings = { hooks = { UserPromptSubmit = { { hooks = { { type = "command", command = "x" } } } } } } }
      local backend <close> = backend_of.new(world.options)
      if not pcall(ask, backend, "hello") and raised then error(raised, 0) end
      backend:close()
      ask(backend, "hello")
    end
    assert.matches("ClosedError: .*the shell has failed", tostring(helper.error_of(fail)))
    local _, err = pcall(fail, "the spec's own")
    assert.matches("^the spec's own\n.*the shell has failed", err)
  end))

  it("puts everything back that it has taken the place of", helper.task(function()
    local before = clock.now()
    do
      local world <close> = testing.world {}
      assert.is_false(task.condition():wait(3600000))
      assert.equal(3600000, world.time.now)
    end
    assert.truthy(clock.now() - before < 60000)
    local kit <close> = testing.kit {}
    local backend <close> = backend_of.new(kit.options)
    assert.equal("success", ask(backend, "hello").verdict)
  end))

  local ENDLESS = [[
    local testing, task = require "parley.testing", require "parley.task"
    testing.task(function()
      local world <close> = testing.world {}
      print "up"
      io.stdout:flush()
      while true do task.condition():wait(1000) end
    end, { timeout_ms = %d })()]]

  it("lets a spec that never ends in it meet its deadline", helper.task(function()
    local program <close> = helper.start { helper.host, "-e", ENDLESS:format(100) }
    assert.truthy(program.changed:wait_until(function() return program.status end, 30000))
    assert.equal(1, program.status)
    assert.matches("ETIMEDOUT: it took longer than 100 ms", program:wait().errors, 1, true)
  end))

  it("lets a signal end it", helper.task(function()
    local program <close> = helper.start { helper.host, "-e", ENDLESS:format(600000) }
    program:expect "up"
    program:kill "sigterm"
    assert.truthy(program.changed:wait_until(function() return program.status end, 30000))
    assert.equal(143, program.status)
  end))

  it("refuses what means nothing", helper.task(function()
    for _, given in ipairs { { sed = 1 }, { faults = { losst = 1 } }, { faults = { lost = -1 } },
      { faults = { lost = { 0 } } }, { faults = { cut = 0.5 } }, { faults = { late_ms = { 1 } } },
      { script = "file.lua" }, { settings = { f = print } }, { cwd = "a/../b" },
      { extra_env = { CLAUDE_CONFIG_DIR = "/c" } },
      { profile = "2.0.0" }, { script = { anwers = {} } } } do
      local ok, err = pcall(testing.world, given)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
    end
    local world <close> = testing.world {}
    assert.is_false(pcall(testing.world, {}))
    assert.same({}, world:taken())
    for message, call in pairs {
      ["World:use takes a script, not nothing"] = { world.use, world },
      ["World:use: option 'script' must be a value of type table or function, not \"a.lua\""] =
        { world.use, world, "a.lua" },
      ["the script has 'answer', which means nothing there; did you mean 'answers'?"] =
        { world.use, world, { answer = {} } },
      ["World:use: option 'profile' must be one of 2.1.50, 2.1.110, 2.1.197, 2.1.330, not \"9.9\""] =
        { world.use, world, {}, "9.9" },
      ["World:events takes one of started, ready, received, taken, command, deaf, ended, asked, answered, returned, "
        .. "not \"takne\"; did you mean 'taken'?"] = { world.events, world, "takne" },
    } do
      assert.equal(message, helper.failure_of("ValueError", table.unpack(call)).message)
    end
    world:use(function() return { answer = {} } end)
    local live = process.new(world.options)
    assert.matches("did you mean 'answers'?", helper.failure_of("SessionError", live.start, live).message, 1, true)
  end))

  it("leaves chance to others when it is closed", helper.task(function()
    local numbers = {}
    for i = 1, 2 do
      local world <close> = testing.world {}
      world:close()
      numbers[i] = math.random(0)
    end
    assert.not_equal(numbers[1], numbers[2])
  end))

  it("is of the profile that is asked for, whatever its script says, and says so", helper.task(function()
    local function seen(given)
      local world <close> = testing.world(given)
      local backend <close> = backend_of.new(world.options)
      ask(backend, "hello")
      local said = version.of(world.options.executable, world.options.extra_env)
      assert.equal(said, world.programs[1].script.profile)
      return said
    end
    local function of_function() return { profile = "2.1.110" } end
    assert.equal("2.1.197", seen { profile = "2.1.197", script = { profile = "2.1.110" } })
    assert.equal("2.1.197", seen { profile = "2.1.197", script = of_function })
    assert.equal("2.1.110", seen { script = { profile = "2.1.110" } })
    assert.equal("2.1.110", seen { script = of_function })
    local world <close> = testing.world {}
    local function said() return version.of(world.options.executable, world.options.extra_env) end
    assert.equal("2.1.330", said())
    world:use({}, "2.1.197")
    assert.equal("2.1.197", said())
  end))

  it("goes on though things are late, in pieces and lost", in_world({ seed = 3,
    faults = { late_ms = 20, disk_late_ms = 30, cut = 5, full = 5, lost = 20, unseen = 5, half = 5 } }, function(world)
      local backend <close> = backend_of.new(world.options)
      for number = 1, 20 do
        local text = "message " .. number
        assert.same({ "echo: " .. text }, ask(backend, text).texts)
      end
      assert.equal(20, #world:taken())
    end))
end)
