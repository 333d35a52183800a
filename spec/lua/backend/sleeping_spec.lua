--- Who is put to sleep, and spare sessions: in a world whose memory and time are its own.
local clock = require "parley.base.clock"
local claude_event = require "parley.claude.event"
local helper = require "spec.helper"
local parley = require "parley"
local sleeping = require "parley.backend.sleeping"
local task = require "parley.base.task"
local testing = require "parley.testing"

--- An `it` in a world, with a backend of these options.
local function in_world(name, given, body)
  it(name, helper.task(function()
    local world <close> = testing.world { script = given.script }
    local set = {}
    for option, value in pairs(world.options) do set[option] = value end
    for option, value in pairs(given.options or {}) do set[option] = value end
    local backend <close> = parley.backend(set)
    body(backend, world)
  end))
end

local function of_subtype(answer, subtype)
  for _, event in ipairs(answer.events) do
    if event.subtype == subtype then return event end
  end
end

--- The world's time goes by.
local function pass(milliseconds) task.condition():wait(milliseconds) end

local MINUTE = 60000

--- A tool call after which something runs in the background.
local BEHIND = { on = "serve", tool = { name = "Bash", input = { command = "serve", run_in_background = true },
  result = "Command running in background with ID: b1. Output is being written to: /tmp/b1.output" } }

describe("the sleeping policy", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local asked = {}
  local function record(sessions, pressure)
    table.insert(asked, { sessions = sessions, pressure = pressure })
    if pressure.places == 0 then return {} end
    return { sessions[#sessions].session_id }
  end

  in_world("says whose place a request gets, told of what each session is like",
    { options = { max_sessions = 2, policies = { sleeping = { choose = record } } } }, function(backend)
      asked = {}
      local one, other = backend:conversation(), backend:conversation()
      local first, second = one:ask("one").result.session_id, other:ask("two").result.session_id
      pass(MINUTE)
      backend:conversation():ask "three"
      local last = asked[#asked]
      assert.equal(1, last.pressure.places)
      local told = last.sessions[1]
      assert.equal(first, told.session_id)
      assert.equal(1, told.turns)
      assert.is_true(told.idle_ms >= MINUTE and told.idle_ms < 2 * MINUTE)
      assert.is_true(told.is_warm and told.cools_ms < 4 * MINUTE and told.size > 0 and told.tokens > 0)
      assert.is_nil(backend:live_sessions()[second]) -- the last of the list
      assert.is_truthy(backend:live_sessions()[first])
    end)

  in_world("is asked from time to time, and is not obeyed about others", { options = { policies = { sleeping = {
    choose = function(sessions) return { "nobody", sessions[1].session_id } end } } } }, function(backend)
      backend:conversation():ask "one"
      assert.equal(1, backend:live_session_count())
      pass(MINUTE)
      assert.equal(0, backend:live_session_count())
    end)

  in_world("that fails is told of in the next turn", { options = { policies = { sleeping = {
    choose = function() error "no idea" end } } } }, function(backend)
      local talk = backend:conversation()
      talk:ask "one"
      pass(MINUTE)
      assert.matches("no idea", of_subtype(talk:ask "two", "policy_failed").message)
    end)

  in_world("is no matter to one whose transcript the program moves in its first turn, before it was read", {
    script = { answers = { { on = "enter", tool = { name = "EnterWorktree", enters = "wt" } } } },
    options = { max_sessions = 1 },
  }, function(backend)
    local talk = backend:conversation()
    local id = talk:ask("enter").result.session_id
    talk:ask "one"
    backend:conversation():ask "other"
    local answer = talk:ask "two"
    assert.same({ id, 3 }, { answer.result.session_id, answer.result.num_turns })
    assert.is_nil(of_subtype(answer, "sleep_missed"))
  end)

  it("tells a request of what has ended in the background only where there was something", function()
    local made, lease = sleeping.new {}, {}
    local live = { session_id = "one", state = function() return "busy" end } -- its status is behind its last record
    assert.equal(live, made:choose({ live }, lease))
    assert.is_nil(lease.ended)
    live.background = 2
    assert.equal(live, made:choose({ live }, lease))
    assert.same({ session_id = "one", background = 2 }, lease.ended)
  end)

  in_world("asks about a session whose status is behind the end of its turn",
    { script = { faults = { late_status_ms = 200 } },
      options = { max_sessions = 1, policies = { sleeping = { choose = record } } } }, function(backend)
      asked = {}
      local id = backend:conversation():ask("one").result.session_id
      backend:conversation():ask "two"
      assert.same({ 1, id }, { #asked, asked[1].sessions[1].session_id })
    end)

  it("counts a session as quiet whose status is only behind its last record", helper.task(function()
    local _ <close> = testing.world {}
    local made, state, stamp = sleeping.new {}, "busy", clock.wall()
    local live = { session_id = "one", state = function() return state, stamp end }
    local function note(...) made:note(live, { ... }, { cost_usd = 0 }) end
    assert.is_false(made:may_sleep(live)) -- nothing has been told of it
    note()
    assert.is_false(made:may_sleep(live)) -- nor when anything was said
    pass(50)
    note(claude_event.new { type = "assistant", timestamp = clock.timestamp() }, claude_event.new { type = "system" })
    assert.is_true(made:may_sleep(live))
    local written = stamp
    for _, other in ipairs { clock.wall() + 1, false } do -- a turn of the program's own, or nobody says when
      stamp = other or nil
      assert.is_false(made:may_sleep(live))
    end
    stamp = written
    assert.is_true(made:may_sleep(live))
    pass(1000)
    assert.is_false(made:may_sleep(live))
    state, stamp = "ready", nil
    assert.is_true(made:may_sleep(live))
    made:close()
  end))

  for _, profile in ipairs { "2.1.110", "2.1.197", "2.1.330" } do
    in_world("asks about no session that has begun a turn of its own at once: " .. profile,
      { script = { profile = profile, answers = { { on = "one", text = "said",
          own_turn = { text = "<task-notification>x", after_ms = 1 } },
        { on = "task-notification", text = "about it", delay_ms = 3000 } } },
        options = { max_sessions = 2, policies = { sleeping = { choose = record } } } }, function(backend)
        asked = {}
        local quiet = backend:conversation():ask("two").result.session_id
        backend:conversation():ask "one"
        pass(200)
        backend:conversation():ask "three"
        assert.same({ 1, quiet }, { #asked[1].sessions, asked[1].sessions[1].session_id })
      end)
  end

  in_world("puts nobody to sleep by default while there is memory", {}, function(backend)
    backend:conversation():ask "one"
    pass(60 * MINUTE)
    assert.equal(1, backend:live_session_count())
  end)

  in_world("ends one after the other by default when memory is short, the warm ones only when that is dire", {},
    function(backend, world)
      local one = backend:conversation()
      local id = one:ask("one").result.session_id
      pass(6 * MINUTE)
      backend:conversation():ask "two"
      backend:conversation():ask "three"
      world.memory = { some = 15 }
      pass(20000)
      assert.equal(2, backend:live_session_count()) -- their caches are warm
      world.memory = { some = 15, used = 98, limit = 100 }
      pass(6000)
      assert.equal(1, backend:live_session_count())
      world.memory = nil
      assert.equal(id, one:ask("on").result.session_id)
    end)

  in_world("keeps an hour what is cached for an hour", { script = { answers = {
    { on = "long", text = "cached" } } } }, function(backend, world)
      local facts = require "parley.sleep.facts"
      local of = facts.of
      finally(function() facts.of = of end)
      facts.of = function(events, before)
        for _, event in ipairs(events) do
          if event.type == "assistant" then event.usage.cache_creation = { ephemeral_1h_input_tokens = 7 } end
        end
        return of(events, before)
      end
      backend:conversation():ask "long"
      pass(30 * MINUTE)
      world.memory = { some = 15 }
      pass(MINUTE)
      assert.equal(1, backend:live_session_count())
      pass(30 * MINUTE)
      assert.equal(0, backend:live_session_count())
    end)

  in_world("is not asked about what has something running in the background",
    { script = { answers = { BEHIND } }, options = { max_sessions = 2, idle_timeout_ms = MINUTE } },
    function(backend, world)
      local id = backend:conversation():ask("serve it").result.session_id
      backend:conversation():ask "two"
      backend:conversation():ask "three"
      assert.is_truthy(backend:live_sessions()[id]) -- the least recently used
      world.memory = { some = 90 }
      pass(20 * MINUTE)
      assert.same({ id }, (function()
        local ids = {}
        for each in pairs(backend:live_sessions()) do table.insert(ids, each) end
        return ids
      end)())
    end)

  in_world("lets what runs in the background be ended when there is no other place, and that is told",
    { script = { answers = { BEHIND } }, options = { max_sessions = 1 } }, function(backend)
      local id = backend:conversation():ask("serve it").result.session_id
      local event = of_subtype(backend:conversation():ask "two", "background_ended")
      assert.equal(id, event.ended)
      assert.matches("running in the background %(1%)", event.message)
    end)

  local KILLED = { on = "done", tool = { name = "KillShell", input = {},
    result = "Successfully killed shell: b1 (serve)" } }

  in_world("may end it once that has ended",
    { script = { answers = { BEHIND, KILLED } }, options = { max_sessions = 1 } }, function(backend)
      local talk = backend:conversation()
      talk:ask "serve it"
      talk:ask "done with it"
      assert.is_nil(of_subtype(backend:conversation():ask "two", "background_ended"))
    end)

  --- What a program does by itself, soon after a turn: before sessions are looked at for the first time.
  local function own_turn(text) return { text = text, after_ms = 1000 } end

  local CRON = { name = "CronCreate", input = { cron = "0 12 * * *", prompt = "fire now", recurring = false },
    result = "Scheduled one-shot task once1 (0 12 * * *). Next run: Nov 29 12pm." }

  for what, answer in pairs {
    ["a task that was to fire once has fired"] = { on = "later", tool = CRON, own_turn = own_turn "fire now" },
    ["a command has ended between two turns"] = { on = "later", tool = BEHIND.tool,
      own_turn = own_turn "<task-notification>\n<task-id>b1</task-id>\n<status>completed</status>" },
  } do
    in_world("may end it once " .. what, { script = { answers = { answer } }, options = { max_sessions = 1 } },
      function(backend)
        backend:conversation():ask "later"
        pass(3000)
        assert.is_nil(of_subtype(backend:conversation():ask "two", "background_ended"))
      end)

    in_world("does not end it before " .. what, { script = { answers = { answer } }, options = { max_sessions = 1 } },
      function(backend)
        backend:conversation():ask "later"
        pass(100)
        assert.is_truthy(of_subtype(backend:conversation():ask "two", "background_ended"))
      end)

    in_world("knows with the next turn that " .. what, { script = { answers = { answer } },
      options = { max_sessions = 1 } }, function(backend)
        local talk = backend:conversation()
        talk:ask "later"
        pass(3000)
        talk:ask "on"
        assert.is_nil(of_subtype(backend:conversation():ask "two", "background_ended"))
      end)
  end

  local hooks = { Stop = function() end } -- so that the program tells of the end of its turns

  for _, behind in ipairs { { tasks = 2 }, { crons = 2 }, { tasks = 1, crons = 1 } } do
    in_world(("believes what the program says at the end of a turn: %d and %d"):format(behind.tasks or 0,
      behind.crons or 0), { script = { answers = { { on = "begin", text = "begun", behind = behind } } },
      options = { max_sessions = 1, hooks = hooks } }, function(backend)
        local id = backend:conversation():ask("begin").result.session_id
        local event = of_subtype(backend:conversation():ask "two", "background_ended")
        assert.equal(id, event.ended)
        assert.matches("running in the background %(2%)", event.message)
      end)
  end

  in_world("believes it, too, when it says that nothing is left", { script = { answers = {
    { on = "begin", text = "begun", behind = { tasks = 1 } } } }, options = { max_sessions = 1, hooks = hooks } },
    function(backend)
      local talk = backend:conversation()
      talk:ask "begin"
      talk:ask "on"
      assert.is_nil(of_subtype(backend:conversation():ask "two", "background_ended"))
    end)
end)

describe("spare sessions", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function started(world) return #world:events "started" end

  in_world("are made while nothing else goes on, and a new conversation takes one", { options = { spares = 1 } },
    function(backend, world)
      pass(5000)
      assert.equal(1, backend:live_session_count())
      local id = next(backend:live_sessions())
      local talk = backend:conversation()
      assert.equal(id, talk:ask("one").result.session_id)
      pass(5000)
      assert.equal(2, started(world)) -- the next one
      assert.equal(id, talk:ask("two").result.session_id)
      assert.equal(2, backend:live_session_count())
    end)

  in_world("are the first to go when a place is needed", { options = { spares = 1, max_sessions = 2 } },
    function(backend)
      pass(5000)
      local id = backend:conversation():ask("one").result.session_id
      pass(5000)
      assert.equal(2, backend:live_session_count()) -- with a new spare one
      local history = { { role = "user", content = "a" }, { role = "assistant", content = "b" } }
      assert.equal("echo: c", backend:conversation(history):ask("c").text)
      assert.is_truthy(backend:live_sessions()[id])
      pass(5000)
      assert.equal(2, backend:live_session_count()) -- and no place for another
    end)

  in_world("are for no history and for no other options", { options = { spares = 1 } }, function(backend)
    pass(5000)
    local spare = next(backend:live_sessions())
    local history = { { role = "user", content = "a" }, { role = "assistant", content = "b" } }
    assert.not_equal(spare, backend:conversation(history):ask("c").result.session_id)
    assert.not_equal(spare, backend:conversation(nil, { model = "haiku" }):ask("d").result.session_id)
    assert.equal(spare, backend:conversation():ask("e").result.session_id)
  end)

  in_world("give up a place while they are being made", { options = { spares = 1, max_sessions = 1 },
    script = { startup_delay_ms = 2000 } }, function(backend)
      pass(500)
      local history = { { role = "user", content = "a" }, { role = "assistant", content = "b" } }
      local began = task.now()
      assert.equal("echo: c", backend:conversation(history):ask("c").text)
      assert.is_true(task.now() - began < 3500)
    end)

  in_world("are not tried again and again when they cannot be made", { options = { spares = 1,
    executable = "/nowhere/claude" } }, function(backend)
      pass(60000)
      assert.equal(0, backend:live_session_count())
      local talk = backend:conversation()
      helper.failure_of("CLINotFoundError", talk.ask, talk, "one")
    end)
end)
