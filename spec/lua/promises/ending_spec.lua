-- Promise 5 of the README, on the stand-in, in a world with a clock of its own. Each spec fails when the
-- promise is broken.
local clock = require "parley.base.clock"
local core = require "parley.core"
local task = require "parley.base.task"
local helper = require "spec.helper"
local promise = require "spec.promise"

local ENDS, failure_of, say, count_of = promise.ENDS, helper.failure_of, helper.say, promise.count_of
local on, each = promise.on, promise.each

describe("promise 5, a turn ends, and not early:", function()
  promise.check_leaks()

  each("with all its blocks and its verdict", {}, function(live)
    assert.same({ "first text", "second text" }, say(live, "THINK").texts)
    assert.same({ "let me run", 'echo: TOOLRESULT:"tool-out"' }, say(live, "USETOOL").texts)
    assert.equal('echo: TOOLRESULT:"A" TOOLRESULT:"B"', say(live, "TWOTOOLS").texts[1])
    assert.equal("error_no_output", say(live, "EMPTY").verdict)
    assert.equal("end_turn", say(live, "MAXTOK").result.stop_reason)
    assert.equal("stop_sequence", say(live, "STOPSEQ").result.stop_reason)
    assert.equal("pause_turn", say(live, "PAUSE").result.stop_reason)
    assert.same({ "drop one", "echo: DRIP" }, say(live, "DRIP").texts)
    assert.is_truthy(say(live, "REFUSE").verdict)
    assert.same({ "echo: fine" }, say(live, "fine").texts)
  end)

  each("when its text takes longer than a program is waited for that stands still", { script = { answers = {
    { on = "COUNT", text = ("line\n"):rep(70) .. "the end", line_ms = 200, delay_ms = 2000 } } } }, function(live)
    assert.same({ ("line\n"):rep(70) .. "the end" }, say(live, "COUNT").texts)
    assert.same({ "echo: fine" }, say(live, "fine").texts)
  end)

  each("when lines come late, in halves and out of order", { script = { answers = {
    { on = "half", half_line_ms = 100,
      blocks = { { type = "text", text = "one" }, { type = "text", text = "two" } } },
    { on = "order", reorder = true, text = "in order" },
    { on = "without", text = "no last record", omit_turn_duration = true } }, faults = { late_flush_ms = 150 } } },
  function(live)
    assert.same({ "one", "two" }, say(live, "half").texts)
    assert.same({ "in order" }, say(live, "order").texts)
    assert.same({ "no last record" }, say(live, "without").texts)
  end)

  each("when the disk is slow, and a line takes its time to become whole", {
    faults = { half = 1, disk_late_ms = 3000 },
    script = { answers = { { on = "halves", half_line_ms = 5, text = "one" }, -- each of which may come in halves
      { blocks = { { type = "text", text = "one" }, { type = "text", text = "two" } } } } },
  }, function(live)
    for _ = 1, 20 do
      assert.same({ "one", "two" }, say(live, "hello").texts)
      assert.same({ "one" }, say(live, "halves").texts)
    end
  end)

  each("on errors of the API, used up or not", { script = { answers = {
    { on = "401", api_error = { status = 401, retries = 2, retry_ms = 150 } },
    { on = "400", api_error = { status = 400 } },
    { on = "once", retries = 1, retry_ms = 150, text = "after all" } } } }, function(live)
    local said = say(live, "401")
    assert.equal("error_api", said.verdict)
    assert.same({ "authentication_failed", 401, true }, { said.result.error, said.result.api_error_status,
      said.result.is_error })
    assert.equal(2, count_of(said, "api_retry"))
    assert.equal("error_api", say(live, "400").verdict)
    said = say(live, "once")
    assert.equal("success", said.verdict)
    assert.equal(1, count_of(said, "api_retry"))
  end)

  local CALL = { name = "Bash", input = { command = "echo one" }, result = "one", duration_ms = 400 }
  local LAST = { text = "the answer", delay_ms = 1000 }
  each("with the answer behind a call, where the connection was cut behind that", { script = { flush_ms = 100,
    answers = { { on = "cut", steps = { { text = "I look", tool = CALL, cut_behind_calls = true }, LAST } },
      { on = "twice", steps = { { tool = CALL, cut_behind_calls = true }, { tool = CALL, cut_behind_calls = true },
        LAST } },
      { on = "lost", api_error = { error = "server_error", text = "API Error: Connection error.", retries = 0 } } } },
  }, function(live)
    for _, message in ipairs { "cut", "twice", "cut again" } do
      local said = say(live, message)
      assert.same({ "success", false, "end_turn" }, { said.verdict, said.result.is_error, said.result.stop_reason })
      assert.equal("the answer", said.texts[#said.texts])
    end
    assert.equal("error_api", say(live, "lost").verdict)
  end)

  each("at once where a compaction fails behind a call", { script = {
    answers = { { on = "full", steps = { { text = "I look", tool = CALL }, { compaction_fails = true } } } } },
  }, function(live)
    local before = task.now()
    local said = say(live, "full")
    assert.same({ "error_api", "Prompt is too long" }, { said.verdict, said.result.message })
    assert.is_true(task.now() - before < 1500)
    assert.equal("success", say(live, "next").verdict)
  end)

  on({ "2.1.197", "2.1.330" }, "at once behind the answer to a command that gives the model a text", { script = {
    flush_ms = 100, commands = { tidy = { text = "# Tidy" } },
    answers = { { on = "# Tidy up", delay_ms = 3000, text = "done" } } },
  }, function(live)
    say(live, "first")
    local before = task.now()
    local said = say(live, "/tidy up", nil, true)
    assert.same({ "success", { "done" } }, { said.verdict, said.texts })
    assert.is_true(task.now() - before < 4000)
  end)

  each("on a command that fails, or that is unknown, and the session goes on", { script = { answers = {
    { on = "no room", api_error = { status = 400 } } } } }, function(live, kit)
    assert.same({ "echo: one" }, say(live, "one").texts)
    local said = say(live, "/compact no room", nil, true)
    assert.same({ "error_command", true }, { said.verdict, said.result.is_error })
    assert.matches("^[^<>]*Error during compaction: API Error: 400 as asked$", said.result.message)
    assert.same({ "echo: two" }, say(live, "two").texts)
    said = say(live, "/nosuch x", nil, true)
    assert.same({ "error_command", true, "Unknown command: /nosuch" }, { said.verdict, said.result.is_error,
      said.result.message })
    assert.equal("success", say(live, "/compact", nil, true).verdict)
    assert.same({ "echo: three" }, say(live, "three").texts)
    assert.same({ "one", "two", "three" }, kit:taken())
  end)

  each("by its deadline, with what was tried", { session = { turn_timeout_ms = 1500 }, script = { answers = {
    { api_error = { status = 529, retries = 50, retry_ms = 300 } } } } }, function(live)
    local err = failure_of("SessionError", say, live, "hello")
    assert.equal("timeout", err.reason)
    assert.is_truthy(err.retry)
    assert.is_string(err.screen)
  end)

  on(ENDS, "when the program hangs", { session = { turn_timeout_ms = 1200 },
    script = { answers = { { hang = true } } } }, function(live)
    assert.equal("timeout", failure_of("SessionError", say, live, "hello").reason)
  end)

  each("when it hangs and its spinner goes on counting", { session = { stall_timeout_ms = 2500,
    turn_timeout_ms = 60000 }, script = { answers = { { hang = true } } } }, function(live)
    assert.matches("stall_timeout_ms", tostring(failure_of("SessionError", say, live, "hello")))
  end)

  on(ENDS, "but not when a tool takes longer than the program may be silent", { session = { stall_timeout_ms = 3000 },
    script = { answers = { { tool = { name = "Bash", input = { command = "make" }, result = "made",
      duration_ms = 7000 }, after = "done" } } } }, function(live)
    assert.equal("success", say(live, "hello").verdict)
  end)

  for _, point in ipairs { "before_record", "after_user", "mid_line", "during_tool" } do
    on(ENDS, "when the program dies: " .. point, { script = { answers = { { on = "die", crash = point, text = "x",
      tool = point == "during_tool" and { name = "Bash", input = { command = "x" } } or nil } } } },
    function(live)
      local err = failure_of("SessionError", say, live, "die")
      assert.same({ "exit", "SIGKILL" }, { err.reason, err.exit.signal })
      assert.is_false(live.process:is_alive())
    end)
  end

  each("the answer of a skill that runs as a sub-agent is a part of its command's", {
    script = { answers = { { on = "/skill x", fork = { text = "the skill's answer", after_ms = 3000 } } } },
  }, function(live, kit)
    local said = say(live, "/skill x", nil, true)
    assert.equal("success", said.verdict)
    local last
    for _, event in ipairs(said.events) do
      local text = event.type == "user" and event:text() or ""
      if text:find "the skill's answer" then last = event end
    end
    assert.is_table(last)
    say(live, "next")
    assert.same({ "next" }, kit:taken())
  end)

  on({ "2.1.197", "2.1.330" }, "a sub-agent's report is a part of it", {}, function(live, kit)
    assert.equal("success", say(live, "AGENT").verdict)
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "AGENT", "next" }, kit:taken())
  end)

  for name, key in pairs { ESC = "\27", ["Ctrl+C"] = "\3" } do
    each("when a person interrupts before the first word: " .. name, { script = { answers = {
      { on = "slow", delay_ms = 60000 } } } }, function(live, kit)
      local saying = task.spawn(say, live, "slow")
      helper.eventually(function() return live.turn and live.turn:state() == "running" end)
      task.condition():wait(3000)
      local before = task.now()
      live.process:write(key)
      assert.equal("interrupted", saying:await().verdict)
      assert.is_true(task.now() - before < 4000)
      assert.same({ "echo: next" }, say(live, "next").texts)
      assert.same({ "slow", "next" }, kit:taken())
    end)
  end

  on({ "2.1.110" }, "and not where the screen alone tells, and is late: the message is none that was given back", {
    script = { answers = { { on = "slow", delay_ms = 5000, text = "one" } } } }, function(live)
    local is_late, state, shows = true, live.terminal.turn_state, live.typist.shows
    live.terminal.turn_state = function(...) return is_late and "ready" or state(...) end
    live.typist.shows = function(...) return is_late or shows(...) end
    local saying = task.spawn(say, live, "slow")
    helper.eventually(function() return live.turn and live.turn:state() == "running" end)
    local deadlines, since = live.course.deadlines, task.now()
    deadlines.still_since = function() return since end -- nothing moves on that screen
    task.condition():wait(3000)
    is_late, deadlines.still_since = false, nil
    local said = saying:await()
    assert.same({ "success", { "one" } }, { said.verdict, said.texts })
  end)

  on({ "2.1.197", "2.1.330" }, "without an answer, though a late screen shows the message behind the last record", {},
    function(live)
      local shows = live.typist.shows
      live.typist.shows = function(...) return live.turn:state() == "running" or shows(...) end
      assert.equal("error_no_output", say(live, "EMPTY").verdict)
    end)

  each("before a message that a person has entered meanwhile, whose answer is none of its own", { script = { answers = {
    { on = "slow", delay_ms = 5000, text = "one" }, { on = "mine", delay_ms = 3000, text = "two" } } } },
  function(live, kit)
    local saying = task.spawn(say, live, "slow")
    helper.eventually(function() return live:state() == "busy" end)
    live.process:write "mine"
    helper.eventually(function() return live.process.screen:text():find("mine", 1, true) end)
    live.process:write "\r"
    local said = saying:await()
    assert.same({ "success", { "one" } }, { said.verdict, said.texts })
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "slow", "mine", "next" }, kit:taken())
  end)

  on({ "2.1.330" }, "with a word of a message that a person has sent into it (Ctrl+X Ctrl+S)", { script = { answers = {
    { on = "slow", delay_ms = 5000, text = "one" }, { on = "mine", delay_ms = 3000, text = "both" } } } },
  function(live, kit)
    local saying = task.spawn(say, live, "slow")
    helper.eventually(function() return live.turn and live.turn:state() == "running" end)
    live.process:write "mine"
    helper.eventually(function() return live.process.screen:text():find("mine", 1, true) end)
    live.process:write "\r"
    helper.eventually(function() return live.process.screen:text():find("Press up to edit", 1, true) end)
    live.process:write "\24\19"
    local said = saying:await()
    assert.same({ "success", { "both" } }, { said.verdict, said.texts })
    assert.equal(1, count_of(said, "message_added"))
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "slow", "mine", "next" }, kit:taken())
  end)

  local function agents(count, works_ms)
    local tools = {}
    for i = 1, count do
      tools[i] = { name = "Agent", input = { description = "agent " .. i }, result = "report " .. i,
        works_ms = works_ms }
    end
    return { script = { answers = { { on = "go", steps = { { tools = tools }, { text = "they work" } } } } } }
  end

  ---Checks that the turn ends behind so many reports, each of which was answered.
  local function hears_of(reports, live)
    local said = say(live, "go")
    assert.same({ "success", "they work", 1 + reports }, { said.verdict, said.texts[1], #said.texts })
    assert.same({ "echo: next" }, say(live, "next").texts)
  end

  each("with what the model says to the report of each sub-agent that works in the background", agents(2, 60000),
    function(live) hears_of(2, live) end)

  each("where it is interrupted while a sub-agent works, which goes on", agents(1, 600000), function(live)
    local saying = task.spawn(say, live, "go")
    helper.eventually(function() return live.turn and live.turn:facts().agents == 1
      and live.process.screen:text():find("they work", 1, true) end)
    task.condition():wait(5000)
    local began = clock.now()
    assert.is_true(live:interrupt())
    local said = saying:await()
    assert.same({ "success", { "they work" } }, { said.verdict, said.texts })
    assert.is_true(clock.now() - began < 5000)
    assert.same({ "echo: next" }, say(live, "next").texts)
  end)

  for _, mode in ipairs { "bypassPermissions", "default" } do
    local given = agents(1, 100 * 60000)
    given.process = { permission_mode = mode }
    each(("with the report of one that works for long (%s)"):format(mode), given,
      function(live) hears_of(1, live) end)
  end

  for _, name in ipairs { "Skill", "Workflow" } do
    on(name == "Skill" and { "2.1.330" } or { "2.1.197", "2.1.330" }, -- those before have none that goes on
      ("with what the model says to the report of what works in the background (%s)"):format(name), { script = {
        answers = { { on = "go", steps = { { tool = { name = name, input = { skill = "apart" }, result = "report",
          works_ms = 60000 } }, { text = "they work" } } } } } }, function(live) hears_of(1, live) end)
  end

  for count, words in ipairs { 'Background agent "agent 1" was stopped', "2 background agents were stopped" } do
    each(("with what the model says to %d that a person has stopped (Ctrl+X Ctrl+K)"):format(count),
      agents(count, 40 * 60000), function(live)
        local began = clock.now()
        local saying = task.spawn(say, live, "go")
        helper.eventually(function() return live.turn and live.turn:facts().agents == count
          and live.process.screen:text():find("they work", 1, true) end)
        for _ = 1, 2 do
          live.process:write "\24\11"
          task.condition():wait(300)
        end
        local said = saying:await()
        assert.same({ "success", "they work", 2 }, { said.verdict, said.texts[1], #said.texts })
        assert.matches(words, said.texts[2])
        assert.is_true(clock.now() - began < 60000)
        assert.same({ "echo: next" }, say(live, "next").texts)
      end)
  end

  on({ "2.1.197", "2.1.330" }, "with the report of a workflow, though a person has stopped all sub-agents beside it", {
    script = { answers = { { on = "go", steps = { { tools = {
      { name = "Agent", input = { description = "one" }, works_ms = 90 * 60000 },
      { name = "Workflow", result = "report", works_ms = 60000 } } }, { text = "they work" } } } } },
  }, function(live)
    local saying = task.spawn(say, live, "go")
    helper.eventually(function() return live.turn and live.turn:facts().agents == 2
      and live.process.screen:text():find("they work", 1, true) end)
    task.condition():wait(1000)
    for _ = 1, 2 do
      live.process:write "\24\11"
      task.condition():wait(300)
    end
    local said = saying:await()
    assert.same({ "success", "they work", 3 }, { said.verdict, said.texts[1], #said.texts })
    assert.matches("report", said.texts[3])
    local counts = {}
    for line in io.lines(live.jsonl_path) do
      local record = core.json.decode(line)
      if record.subtype == "turn_duration" then
        table.insert(counts, { record.pendingBackgroundAgentCount, record.pendingWorkflowCount })
      end
    end
    assert.same({ { 1, 1 }, { nil, 1 }, {} }, counts)
  end)

  each("with a word of a message that a person has entered while a tool ran", { script = { answers = { { on = "work",
    after = "both", tool = { name = "Bash", input = { command = "true" }, result = "", duration_ms = 5000 } } } } },
  function(live, kit)
    local saying = task.spawn(say, live, "work")
    helper.eventually(function() return live.turn and live.turn.open_tools[1] end)
    live.process:write "mine"
    helper.eventually(function() return live.process.screen:text():find("mine", 1, true) end)
    live.process:write "\r"
    local said = saying:await()
    assert.same({ "success", 1 }, { said.verdict, count_of(said, "message_added") })
    assert.same({ "work", "mine" }, kit:taken())
  end)

  each("interrupted, when a person takes the message back and sends another in its place", { script = { answers = {
    { on = "other", delay_ms = 3000, text = "to the other" }, { on = "slow", delay_ms = 60000 } } } },
  function(live, kit)
    say(live, "before")
    local saying = task.spawn(say, live, "slow")
    helper.eventually(function() return live.turn:state() == "running" end)
    task.condition():wait(2000)
    live.process:write "\27"
    task.condition():wait(400)
    live.process:write " other"
    task.condition():wait(300)
    live.process:write "\r"
    local said = saying:await()
    assert.same({ "interrupted", {} }, { said.verdict, said.texts })
    assert.equal(0, count_of(said, "message_added"))
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "before", "slow", "slow other", "next" }, kit:taken())
  end)

  for name, finish in pairs {
    ["the turn is interrupted"] = function(live) live:interrupt() end,
    ["the program dies"] = function(live) live.process:signal "SIGKILL" end,
    ["the session is closed"] = function(live) live:kill() end,
    ["the turn's time is over"] = function() end,
  } do
    each("though a dialogs policy waits for a person, when " .. name, { process = { permission_mode = "default" },
      session = { turn_timeout_ms = 20000, policies = { dialogs = { decide = helper.until_cancelled } } } },
    function(live)
      local before = task.now()
      task.spawn(function()
        task.condition():wait(15000)
        finish(live)
      end)
      local ok, said = pcall(say, live, "TOUCH it")
      assert.equal(name == "the turn is interrupted", ok and said.verdict == "interrupted")
      assert.is_true(task.now() - before < 30000)
    end)
  end

  each("though a dialogs policy waits for a person, when another one answers at the terminal", {
    process = { permission_mode = "default" },
    session = { policies = { dialogs = { decide = helper.until_cancelled } } },
  }, function(live, kit)
    local saying = task.spawn(say, live, "TOUCH it")
    helper.eventually(function() return live:state() == "dialog" end)
    task.condition():wait(15000)
    live.process:write "1"
    local said = saying:await()
    assert.equal("success", said.verdict)
    assert.equal(0, count_of(said, "dialog_answered"))
    assert.same({ "echo: next" }, say(live, "next").texts)
    assert.same({ "TOUCH it", "next" }, kit:taken())
  end)

  for name, tool in pairs {
    ["a call that is known"] = { name = "Bash", input = { command = "ls" } },
    ["one that is not"] = { name = "Bash", input = { command = ("echo a line of it\n"):rep(60) } },
    ["an MCP tool's"] = { name = "mcp__db__query", input = { sql = "select 1" } },
  } do
    tool.permission, tool.result = true, "done"
    local function about(options)
      return { process = { permission_mode = "default" }, session = options,
        script = { answers = { { tool = tool, after = "after the tool" } } } }
    end
    on(ENDS, "though a person takes longer for a dialog than the program may be silent, about " .. name, about {
      stall_timeout_ms = 20000, policies = { dialogs = { decide = function()
        task.condition():wait(90000)
        return { choose = 1 }
      end } } }, function(live) assert.equal("success", say(live, "do it").verdict) end)

    on(ENDS, "when a dialog does not go away, about " .. name, about { stall_timeout_ms = 20000,
      policies = { dialogs = { decide = function() return { keys = "z" } end } } }, function(live)
        local before = task.now()
        local err = failure_of("SessionError", say, live, "do it")
        assert.equal("timeout", err.reason)
        assert.is_true(task.now() - before < 90000)
      end)
  end

  each("after a start at which a person takes longer for a dialog than the program may", { is_not_started = true,
    script = { start_dialogs = { { title = "Odd question", lines = { "Do it?" }, choices = { "Yes", "No" } } } },
    session = { startup_timeout_ms = 20000, policies = { dialogs = { decide = function()
      task.condition():wait(90000)
      return { choose = 1 }
    end } } } }, function(live)
    live:start()
    assert.same({ "echo: hello" }, say(live, "hello").texts)
  end)

  on(ENDS, "a program that never gets ready", { is_not_started = true, session = { startup_timeout_ms = 400 },
    script = { faults = { never_ready = true } } }, function(live)
    assert.equal("timeout", failure_of("SessionError", live.start, live).reason)
  end)

  -- A paste of that size does not fit into what the kernel holds for a program that does not read.
  local LONG = ("line\n"):rep(100000)

  on({ "2.1.330" }, "though the program is stopped and its terminal full",
    { session = { turn_timeout_ms = 1500 } }, function(live)
      live.process:signal "SIGSTOP"
      local before = task.now()
      local err = failure_of("SessionError", say, live, LONG)
      assert.equal("timeout", err.reason)
      assert.matches("turn_timeout_ms", tostring(err))
      assert.is_true(task.now() - before < 60000)
    end)
end)
