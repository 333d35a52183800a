local core = require "parley.core"
local event = require "parley.claude.event"
local facts = require "parley.sleep.facts"
local helper = require "spec.helper"

local function result(text)
  return event.new { type = "user", content = { { type = "tool_result", tool_use_id = "t", content = text } } }
end

local function said(text) return event.new { type = "user", content = { { type = "text", text = text } } } end

local function answer(usage) return event.new { type = "assistant", content = {}, model = "m", usage = usage } end

describe("what a turn tells of its session", function()
  it("is how long the conversation is for the model, by its last answer", function()
    local told = facts.of { answer { input_tokens = 1, output_tokens = 1 }, answer { input_tokens = 10,
      cache_read_input_tokens = 200, cache_creation_input_tokens = 3000, output_tokens = 40000 } }
    assert.equal(43210, told.tokens)
    assert.equal("m", told.model)
    assert.is_nil(facts.of({ answer(nil) }).tokens)
  end)

  it("is how long its cache stays: five minutes, an hour where that was asked for, as before where nothing is told",
    function()
      assert.equal(300000, facts.of({ answer {} }).cache_ms)
      local told = facts.of { answer { cache_creation = { ephemeral_1h_input_tokens = 5 } } }
      assert.equal(3600000, told.cache_ms)
      assert.equal(3600000, facts.of({}, told).cache_ms)
    end)

  local BEGINS = {
    b1 = "Command running in background with ID: b1. Output is being written to: /tmp/x",
    b2 = "Command did not complete within its 120s timeout and was moved to the background (ID: b2). Output is",
    b3 = "Command was manually backgrounded by user with ID: b3. Output is being written to: /tmp/x",
    m1 = "Monitor started (task m1, expires in 1m unless the source ends first; you get one notice at expiry",
    c1 = "Scheduled recurring job c1 (every minute). Session-only", c2 = "Scheduled one-shot task c2 (at noon). x",
  }
  for id, text in pairs(BEGINS) do
    it(("is that something runs on: %s"):format(text:sub(1, 40)), function()
      assert.same({ id }, facts.of({ result(text) }).background)
      assert.same({}, facts.of({ said(text) }).background) -- the user's own words
    end)
  end

  for _, text in ipairs { "<task-notification>\n<task-id>b1</task-id>\n<status>completed</status>", "Cancelled job b1.",
    "Successfully killed shell: b1 (serve)", '{"message":"Successfully stopped task: b1 (serve)"}' } do
    it(("is that it does no longer: %s"):format(text:sub(1, 40):gsub("\n", " ")), function()
      assert.same({ "b2" }, facts.of({ result(text) }, { background = { "b1", "b2" } }).background)
    end)
  end

  it("is that a skill goes on, which is a sub-agent", function()
    local skill = { status = "forked", background = true, agentId = "s1" }
    local record = { type = "user", toolUseResult = skill, message = { content = { { type = "tool_result",
      content = 'Skill "apart" launched (forked execution, running in the background).' } } } }
    assert.same({ "s1" }, facts.of({ event.new { type = "user", content = {}, record = record } }).background)
    skill.background = nil
    assert.same({}, facts.of({ event.new { type = "user", content = {}, record = record } }).background)
  end)

  it("is that sub-agents do no longer, where a person has stopped them all, and the others do", function()
    local function launched(as)
      return event.new { type = "user", content = {}, record = { type = "user", toolUseResult = as,
        message = { content = {} } } }
    end
    local told = facts.of { launched { isAsync = true, agentId = "a1" }, result(BEGINS.b1),
      launched { status = "forked", background = true, agentId = "s1" },
      launched { taskType = "local_workflow", taskId = "w1" } }
    assert.same({ "a1", "b1", "s1", "w1" }, told.background)
    local killed = event.new { type = "system", record = { type = "system", subtype = "agents_killed" } }
    assert.same({ "b1", "w1" }, facts.of({ killed }, told).background)
    assert.same({ "b1", "w1" }, facts.of({ killed }, facts.of({}, told)).background)
  end)

  it("is that one has ended of which a monitor beside it tells something", function()
    local function note(id, rest)
      return ("<task-notification><task-id>%s</task-id>%s</task-notification>"):format(id, rest)
    end
    local told = { background = { "b1", "m1" } }
    local seen, ended = note("m1", "<event><status>fine</status></event>"), note("b1", "<status>completed</status>")
    assert.same({ "m1" }, facts.of({ said(seen .. ended) }, told).background)
    assert.same({ "m1" }, facts.of({ said(ended .. seen) }, told).background)
    seen = note("m1", "<event>a log: <task-id>b1</task-id> <status>completed</status></event>")
    assert.same({ "b1", "m1" }, facts.of({ said(seen) }, told).background)
  end)

  for text, is_over in pairs {
    ["<summary>Monitor event: \"look\"</summary>\n<event>one</event>"] = false,
    ["<summary>Monitor event: \"look\"</summary>\n<event>[Monitor expired after 3s with no events]</event>"] = true,
    ["<status>completed</status>\n<summary>Monitor \"look\" stream ended</summary>"] = true,
    ["<status>completed</status>\n<result>it says <event></result>"] = true,
  } do
    it(("is that a monitor goes on or not: %s"):format(text), function()
      local note = "<task-notification>\n<task-id>m1</task-id>\n" .. text .. "\n</task-notification>"
      assert.same(is_over and {} or { "m1" }, facts.of({ said(note) }, { background = { "m1" } }).background)
    end)
  end

  it("is nothing that stands in what is no block", function()
    local odd = core.json.decode
      '{"role":"user","content":[null,1,"x",{"type":7},{"type":"tool_result","content":null}]}'
    assert.same({}, facts.of({ event.new { type = "user", content = {}, record = { type = "user", message = odd } } })
      .background)
    local cron = core.json.decode '{"content":[{"type":"tool_use","name":"CronCreate","input":{"prompt":null}}]}'
    local told = facts.of { event.new { type = "assistant", content = {}, record = { message = cron } },
      result(BEGINS.c2) }
    assert.same({ c2 = "" }, told.once)
  end)

  it("is one and the other in a turn", function()
    assert.same({}, facts.of({ result(BEGINS.b1), said "<task-notification><task-id>b1</task-id>" }).background)
  end)
end)

describe("what comes into a transcript between two turns", function()
  local path
  before_each(function()
    path = helper.temporary_folder() .. "/transcript.jsonl"
    helper.write(path, "")
  end)
  after_each(helper.remove_folders)

  --- What runs after these records, the last of which may be half a line.
  local function running_after(told, records, rest)
    local lines = { ("x"):rep(told.offset) }
    for _, record in ipairs(records) do table.insert(lines, core.json.encode(record) .. "\n") end
    helper.write(path, table.concat(lines) .. (rest or ""))
    facts.catch_up(told, path)
    return told.background
  end

  local function user(content, fields)
    local record = { type = "user", message = { role = "user", content = content } }
    for name, value in pairs(fields or {}) do record[name] = value end
    return record
  end

  --- A turn that has left a task in the background, one that is to fire once, and one that fires again and again.
  local function turn()
    local told = facts.of {
      event.new { type = "assistant", content = { { type = "tool_use", id = "t1", name = "CronCreate",
        input = { cron = "0 12 * * *", prompt = "fire now", recurring = false } } } },
      event.new { type = "user", content = { { type = "tool_result", tool_use_id = "t1",
        content = "Scheduled one-shot task once1 (0 12 * * *). Next run: Nov 29 12pm." } } },
      event.new { type = "user", content = { { type = "tool_result", tool_use_id = "t2",
        content = "Scheduled recurring job every1 (every minute)." } } },
      result "Command running in background with ID: b1. Output is being written to: /tmp/x",
    }
    told.offset = 100
    return told
  end

  local ALL = { "b1", "every1", "once1" }

  it("is nothing", function()
    assert.same(ALL, turn().background)
    assert.same(ALL, running_after(turn(), {}))
    assert.same(ALL, running_after(turn(), { user "fire now", user("on", { isMeta = true }) }))
  end)

  local FIRED = { type = "system", subtype = "scheduled_task_fire", content = "Running scheduled task (Nov 29 12pm)" }
  for name, fields in pairs {
    ["2.1.332"] = { isMeta = true, promptSource = "system", scheduledTaskId = "once1" },
    ["2.1.197"] = { isMeta = true, promptSource = "system" }, ["2.1.110"] = { isMeta = true },
  } do
    it("is that a task has fired that was to fire once, as " .. name .. " writes it", function()
      assert.same({ "b1", "every1" }, running_after(turn(), { FIRED, user("fire now", fields) }))
    end)
  end

  describe("of a loop that wakes up by itself", function()
    local function scheduled(id, prompt)
      return { type = "assistant", message = { content = { { type = "tool_use", id = id, name = "ScheduleWakeup",
        input = { delaySeconds = 60, prompt = prompt } } } } },
        user { { type = "tool_result", tool_use_id = id,
          content = "Next wakeup scheduled for 03:09:00 (in 96s). If you owe the user a status update" } }
    end

    local function loop()
      local told, call, taken = turn(), scheduled("t4", "wake now")
      assert.same({ "b1", "every1", "once1", "wakeup" }, running_after(told, { call, taken }))
      return told
    end

    local function result_of(text) return user { { type = "tool_result", tool_use_id = "t5", content = text } } end

    it("is that it will", function() loop() end)

    it("is that it will not, where the loop is over", function()
      local not_scheduled = "Wakeup not scheduled. The loop reached its maximum duration"
      assert.same(ALL, running_after(turn(), { result_of(not_scheduled) }))
      assert.same(ALL, running_after(loop(), { result_of "Loop stopped — cancelled 1 pending wakeup(s)" }))
    end)

    for name, records in pairs {
      ["2.1.332"] = { user("wake now", { isMeta = true, promptSource = "system", scheduledTaskId = "38fda1c5",
        wakeupSource = "loop_wakeup" }) },
      ["2.1.332, whose prompt stands for another"] = { user("go on", { isMeta = true, promptSource = "system",
        scheduledTaskId = "38fda1c5", wakeupSource = "loop_wakeup" }) },
      ["2.1.197"] = { { type = "system", subtype = "scheduled_task_fire",
        content = "Claude resuming /loop wakeup (Dec 1 3:09am)" } },
      ["a version that gives the prompt alone"] = { user("wake now", { isMeta = true }) },
    } do
      it("is that it has, as " .. name .. " writes it", function() assert.same(ALL, running_after(loop(), records)) end)
    end

    it("is that it has, and not that a task with the same prompt has", function()
      local told, call, taken = turn(), scheduled("t4", "fire now")
      running_after(told, { call, taken })
      assert.same(ALL, running_after(told, { { type = "system", subtype = "scheduled_task_fire",
        content = "Claude resuming /loop wakeup (Dec 1 3:09am)" }, user("<task-notification>", { isMeta = true }),
        user("fire now", { isMeta = true }) }))
      running_after(told, { call, taken })
      assert.same({ "b1", "every1" }, running_after(told, { { type = "system", subtype = "scheduled_task_fire",
        content = "Claude resuming /loop wakeup (Dec 1 3:09am)" }, user("x", { isMeta = true,
          scheduledTaskId = "once1" }) }))
    end)

    it("is that it will again", function()
      local call, taken = scheduled("t6", "wake now")
      local woken = user("wake now", { isMeta = true, wakeupSource = "loop_wakeup" })
      assert.same({ "b1", "every1", "once1", "wakeup" }, running_after(loop(), { woken, call, taken }))
    end)
  end)

  it("is that one has fired that fires again", function()
    assert.same(ALL, running_after(turn(), { user("tick", { isMeta = true, scheduledTaskId = "every1" }) }))
  end)

  it("is that a task has ended, in a message or beside one", function()
    local note = "<task-notification>\n<task-id>b1</task-id>\n<status>completed</status>"
    assert.same({ "every1", "once1" }, running_after(turn(), { user(note, { promptSource = "system" }) }))
    local beside = { type = "attachment", attachment = { type = "queued_command", prompt = note } }
    assert.same({ "every1", "once1" }, running_after(turn(), { beside }))
  end)

  it("is that another has begun", function()
    local begun = user { { type = "tool_result", tool_use_id = "t3",
      content = "Command running in background with ID: b2. Output" } }
    assert.same({ "b1", "b2", "every1", "once1" }, running_after(turn(), { begun }))
  end)

  it("is read once, and half a line when it is whole", function()
    local told, note = turn(), user "<task-id>b1</task-id>"
    local text = core.json.encode(note)
    assert.same(ALL, running_after(told, {}, text:sub(1, 20)))
    assert.equal(100, told.offset)
    assert.same({ "every1", "once1" }, running_after(told, { note }))
    assert.equal(100 + #text + 1, told.offset)
  end)

  it("is nothing where the transcript is gone, or nobody knows how far it was read", function()
    local told = turn()
    facts.catch_up(told, "/nowhere/transcript.jsonl")
    told.offset = nil
    facts.catch_up(told, path)
    assert.same(ALL, told.background)
  end)
end)
