-- What a turn makes of records and signs. The state machine below it has a spec of its own: spec/src/turn_spec.lua.
local errors = require "parley.base.errors"
local helper = require "spec.helper"
local turn = require "parley.session.turn"

local function matches(recorded, text) return recorded == text end

---Records of one conversation, chained as the program chains them.
local function writer()
  local self, count, parent = {}, 0, nil
  local function record(kind, fields)
    count = count + 1
    local all = { type = kind, uuid = "u" .. count, parentUuid = parent, timestamp = "9999-01-01T00:00:00.000Z" }
    for name, value in pairs(fields) do all[name] = value end
    parent = fields.uuid or all.uuid
    return all
  end
  function self.user(content, fields)
    local all = { message = { role = "user", content = content } }
    for name, value in pairs(fields or {}) do all[name] = value end
    return record("user", all)
  end
  function self.assistant(blocks, stop_reason, fields)
    local all = { message = { role = "assistant", id = "m" .. count, content = blocks, stop_reason = stop_reason,
      usage = { input_tokens = 2, output_tokens = 3 } } }
    for name, value in pairs(fields or {}) do all[name] = value end
    return record("assistant", all)
  end
  function self.text(text, stop_reason) return self.assistant({ { type = "text", text = text } }, stop_reason) end
  function self.call(id, name, input)
    return self.assistant({ { type = "tool_use", id = id, name = name or "Bash", input = input or {} } }, "tool_use")
  end
  function self.result(id, tool_use_result)
    return self.user({ { type = "tool_result", tool_use_id = id, content = "x" } }, { toolUseResult = tool_use_result })
  end
  function self.queued(text)
    return record("attachment", { attachment = { type = "queued_command", prompt = text, commandMode = "prompt" } })
  end
  function self.system(subtype, fields)
    local all = { subtype = subtype }
    for name, value in pairs(fields or {}) do all[name] = value end
    return record("system", all)
  end
  return self
end

---A turn whose message was sent, and what it was made of.
local function sent(text, options)
  options = options or {}
  local live = turn.new(text or "hi", matches, options.is_command)
  live:submit(options.withdrawn)
  return live, writer()
end

---The same, with its message in the transcript.
local function accepted()
  local live, write = sent()
  live:take(write.user "hi")
  table.remove(live.events)
  return live, write
end

local function types(live)
  local list = {}
  for i, event in ipairs(live.events) do list[i] = event.subtype or event.type end
  return list
end

describe("turn", function()
  describe("with Stop hooks of the user's", function()
    it("is over when they have run", function()
      local live, write = accepted()
      live:take(write.text("done", "end_turn"))
      live:take(write.system "stop_hook_summary")
      live:observe("ready", true)
      assert.equal("certain", live:facts().certainty)
    end)

    it("goes on when they have the model go on", function()
      local live, write = accepted()
      live:take(write.text("done", "end_turn"))
      live:take(write.user("Stop hook feedback: not yet", { isMeta = true }))
      live:take(write.system "stop_hook_summary")
      live:observe("ready", true)
      assert.equal("likely", live:facts().certainty)
      live:take(write.text("now it is", "end_turn"))
      live:take(write.system "stop_hook_summary")
      assert.equal("certain", live:facts().certainty)
    end)
  end)

  describe("behind whose answer somebody has entered another message", function()
    it("is over", function()
      local live, write = accepted()
      live:take(write.text("done", "end_turn"))
      live:take(write.user "another")
      assert.equal("certain", live:facts().certainty)
      assert.same({ "assistant" }, types(live))
    end)

    it("is over where a turn of the program's own has begun, and goes on where the answer is none yet", function()
      for reason, certainty in pairs { end_turn = "certain", tool_use = "goes_on" } do
        local live, write = accepted()
        live:take(write.text("done", reason))
        live:take(write.user("<task-notification>x", { origin = { kind = "task-notification" } }))
        assert.equal(certainty, live:facts().certainty)
        assert.equal(reason == "end_turn" and 1 or 2, #live.events)
      end
    end)

    it("is not over for what a sub-agent is told", function()
      local live, write = accepted()
      live:take(write.text("done", "end_turn"))
      live:take(write.user("<task-notification>x", { origin = { kind = "task-notification" }, isSidechain = true }))
      assert.not_equal("certain", live:facts().certainty)
    end)

    it("goes on where the answer is none yet, or the record is no message", function()
      local cases = { { "tool_use", "x", "message_added" }, { "max_tokens", "x", "message_added" },
        { "end_turn", "<bash-stdout>x" } }
      for _, case in ipairs(cases) do
        local live, write = accepted()
        live:take(write.text("done", case[1]))
        live:take(write.user(case[2]))
        assert.equal("goes_on", live:facts().certainty)
        assert.same({ "assistant", "user", case[3] }, types(live))
      end
    end)

    it("goes on where a sub-agent is at work, where a channel has it, and where it is the one before", function()
      local live, write = accepted()
      live:take(write.call("t", "Agent"))
      live:take(write.result("t", { isAsync = true, status = "async_launched", agentId = "a1" }))
      live:take(write.text("it works", "end_turn"))
      live:take(write.user "another")
      assert.equal("goes_on", live:facts().certainty)
      live, write = accepted()
      live:take(write.text("done", "end_turn"))
      live:take(write.user("x", { origin = { kind = "channel" } }))
      assert.same({ "goes_on", "user" }, { live:facts().certainty, table.remove(types(live)) })
      live, write = sent("hi", { withdrawn = "former" })
      live:take(write.user "hi")
      live:take(write.text("done", "end_turn"))
      live:take(write.user "former")
      assert.same({ "goes_on", "user" }, { live:facts().certainty, table.remove(types(live)) })
    end)
  end)

  describe("that was sent", function()
    it("is accepted by the record of its message", function()
      local live, write = sent()
      live:take(write.user "hi")
      assert.equal("running", live:state())
      assert.same({ "user" }, types(live))
    end)

    it("passes over the summary of a compaction that makes room for the message", function()
      local live, write = sent()
      live:take(write.user("This session is being continued from", { isCompactSummary = true }))
      assert.equal("submitted", live:state())
      live:take(write.user "hi")
      assert.equal("running", live:state())
    end)

    it("takes words of the user's that the program could have written for the message", function()
      for _, words in ipairs { "[Request interrupted by user]: what is that?", "<bash-stdout>x</bash-stdout>",
        "<task-notification>?", "<local-command-stdout>?" } do
        local live, write = sent(words)
        live:take(write.user(words))
        assert.equal("running", live:state())
        assert.is_nil(live.events[1].is_meta)
      end
    end)

    it("tells what the program writes under the user's name from the conversation, an interruption apart", function()
      local live, write = accepted()
      live:take(write.call "t")
      live:take(write.result "t")
      live:take(write.system("compact_boundary", {}))
      live:take(write.user("This session is being continued from", { isCompactSummary = true }))
      for _, words in ipairs { "[Request interrupted by user]", "<local-command-stdout>x</local-command-stdout>",
        "<bash-stdout>x</bash-stdout>", "<command-name>/x</command-name>" } do live:take(write.user(words)) end
      local kept = {}
      for _, event in ipairs(live.events) do
        if event.type == "user" and not event.is_meta then table.insert(kept, event.content[1].type) end
      end
      assert.same({ "tool_result", "text" }, kept)
    end)

    it("fails when a hook has refused the message", function()
      local live, write = sent()
      local refusal = "UserPromptSubmit operation blocked by hook:\n[./check]: no secrets\n\n\nOriginal prompt: "
      live:take(write.system("informational", { content = refusal .. "another" }))
      assert.equal("submitted", live:state())
      local ok, err = pcall(live.take, live, write.system("informational", { content = refusal .. "hi" }))
      assert.is_false(ok)
      assert.same({ "refused", "hi" }, { err.reason, err.sent })
      assert.matches("no secrets$", tostring(err))
    end)

    it("fails when the hook's reason has the words that stand before the message, or the message itself", function()
      local reasons = { hi = "no. Original prompt: hi", ["Original prompt: x"] = "no Original prompt: here",
        ["x Original prompt:"] = "no" }
      for text, reason in pairs(reasons) do
        local live, write = sent(text)
        local ok, err = pcall(live.take, live, write.system("informational",
          { content = "UserPromptSubmit operation blocked by hook:\n" .. reason .. "\n\nOriginal prompt: " .. text }))
        assert.same({ false, "refused" }, { ok, err and err.reason })
        assert.equal("a hook (UserPromptSubmit) has refused the message: " .. reason, err.message)
      end
    end)

    it("is soon done with a refusal that is next to nothing", function()
      for _, text in pairs(helper.hollow) do
        helper.in_linear_time(function()
          local live, write = sent()
          live:take(write.system("informational", { content = "UserPromptSubmit operation blocked by hook: no" .. text
            .. "Original prompt: " .. text .. "x" }))
        end)
      end
    end)

    it("fails when the hook has its refusal leave the message out", function()
      local live, write = sent()
      local ok, err = pcall(live.take, live, write.system("informational",
        { content = "UserPromptSubmit operation blocked by hook:\nno secrets" }))
      assert.is_false(ok)
      assert.equal("refused", err.reason)
      assert.matches("no secrets$", tostring(err))
    end)

    it("ends with a verdict of its own when a hook has the program stop at it", function()
      for said, message in pairs { ["Operation stopped by hook: no secrets"] = "at the message: no secrets",
        ["Operation stopped by hook"] = "at the message" } do
        local live, write = sent()
        live:take(write.user "hi")
        live:take(write.user(said))
        assert.is_true(live:facts().stopped)
        assert.is_true(live.events[2].is_meta) -- no words of the user's
        live:conclude({ subtype = "error_hook" }, {})
        local result = live.events[#live.events]
        assert.is_true(result.is_error)
        assert.matches(message .. "$", result.message)
      end
    end)

    it("takes those words in an answered turn for no such thing", function()
      local live, write = sent()
      live:take(write.user "hi")
      live:take(write.text("yes", "end_turn"))
      live:take(write.user "Operation stopped by hook: enough")
      assert.is_false(live:facts().stopped)
    end)

    it("fails when the message arrives changed", function()
      local live, write = sent()
      local ok, err = pcall(live.take, live, write.user "ho")
      assert.is_false(ok)
      assert.is_true(errors.is(err, "SessionError"))
      assert.same({ "delivery", "hi", "ho" }, { err.reason, err.sent, err.received })
    end)

    it("passes over what nobody typed", function()
      local live, write = sent()
      live:take(write.user("hi", { isMeta = true }))
      live:take(write.user("hi", { promptSource = "system" }))
      live:take(write.user("hi", { isSidechain = true }))
      for _, text in ipairs { "<task-notification>x", "<command-name>/x</command-name>", "<local-command-stdout>",
        "[Request interrupted by user]" } do live:take(write.user(text)) end
      live:take(write.result "t")
      live:take { type = "something new" }
      assert.equal("submitted", live:state())
      assert.same({}, types(live))
    end)

    it("takes a message that only looks like what the program writes", function()
      for _, text in ipairs { "<task-notification>x", "<command-name>/x", "[Request interrupted by user]" } do
        local live, write = sent(text)
        live:take(write.user(text))
        assert.equal("running", live:state(), text)
        assert.is_false(live:facts().interrupted)
      end
    end)

    it("takes in what overtook its message in the file", function()
      local live, write = sent()
      local message, answer, duration = write.user "hi", write.text("a", "end_turn"), write.system "turn_duration"
      live:take(duration)
      live:take(answer)
      assert.same({}, types(live))
      live:take(message)
      assert.same({ "user", "assistant" }, types(live))
      assert.equal("certain", live:facts().certainty)
    end)

    it("knows that it is queued behind another turn", function()
      local live, write = sent()
      live:take { type = "queue-operation", operation = "enqueue", content = "<task-notification>" }
      assert.is_false(live:facts().queued)
      live:take { type = "queue-operation", operation = "enqueue", content = "hi" }
      assert.is_true(live:facts().queued)
      live:take(write.text("not mine", "end_turn"))
      live:take(write.system "turn_duration")
      live:take(write.user "hi")
      assert.equal("goes_on", live:facts().certainty)
      assert.same({ "user" }, types(live))
    end)

    it("is no longer queued once it has left the queue, though that is not named", function()
      local live = sent()
      live:take { type = "queue-operation", operation = "enqueue", content = "hi" }
      live:take { type = "queue-operation", operation = "remove", content = "another" }
      assert.is_true(live:facts().queued)
      live:take { type = "queue-operation", operation = "remove" }
      assert.is_false(live:facts().queued)
    end)

    it("takes what a result of a tool has carried to the model for its message", function()
      local live, write = sent()
      live:take { type = "queue-operation", operation = "enqueue", content = "hi" }
      live:take(write.call "t")
      live:take(write.result "t")
      live:take(write.queued "hi")
      assert.equal("running", live:state())
      assert.same({ "user", "message_joined" }, types(live))
      assert.equal("hi", live.events[1]:text())
      assert.is_string(live.events[1].uuid)
      live:take(write.text("mine", "end_turn"))
      live:take(write.system "turn_duration")
      assert.equal("certain", live:facts().certainty)
    end)

    it("passes over what the program has given to itself before Enter", function()
      local live, write = sent()
      for _, text in ipairs { "begin", "hi" } do
        live:take(write.user(text, { timestamp = "2000-01-01T00:00:00.000Z" }))
        assert.equal("submitted", live:state())
      end
      live:take(write.user "hi")
      assert.equal("running", live:state())
    end)

    it("passes over another while its own waits in the queue, and not behind that", function()
      local live, write = sent()
      live:take { type = "queue-operation", operation = "enqueue", content = "hi" }
      live:take(write.user "begin")
      assert.equal("submitted", live:state())
      live:take { type = "queue-operation", operation = "dequeue" }
      local err = helper.failure_of("SessionError", live.take, live, write.user "hj")
      assert.equal("delivery", err.reason)
      assert.matches("initialPrompt", err.message)
    end)

    it("passes over the late record of the message before, which was interrupted", function()
      local live, write = sent("hi", { withdrawn = "before" })
      live:take(write.user "before")
      assert.equal("submitted", live:state())
      live:take(write.user "hi")
      assert.equal("running", live:state())
    end)

    it("tells it from its own by the time, when they are alike", function()
      local live, write = sent("hi", { withdrawn = "hi" })
      live:take(write.user("hi", { timestamp = "2000-01-01T00:00:00.000Z" }))
      assert.equal("submitted", live:state())
      live:take(write.user "hi")
      assert.equal("running", live:state())
    end)
  end)

  describe("that runs", function()
    it("keeps the open calls in order", function()
      local live, write = accepted()
      live:take(write.call "a")
      live:take(write.call("b", "Write"))
      assert.same({ "a", "b" }, { live.open_tools[1].id, live.open_tools[2].id })
      assert.equal(2, live:facts().open_tools)
      live:take(write.result "a")
      assert.equal("b", live.open_tools[1].id)
      live:take(write.user "[Request interrupted by user for tool use]")
      assert.same({}, live.open_tools)
      assert.is_true(live:facts().interrupted)
    end)

    it("is over with its last record, and only with its own", function()
      local live, write = accepted()
      live:take(write.text("a", "end_turn"))
      live:take { type = "system", subtype = "turn_duration", uuid = "x", parentUuid = "of another" }
      assert.equal("goes_on", live:facts().certainty)
      live:take(write.system "turn_duration")
      assert.equal("certain", live:facts().certainty)
    end)

    it("counts each message of the API once in its usage", function()
      local live, write = accepted()
      local block = write.text("a", "end_turn")
      live:take(block)
      live:take(write.assistant({ { type = "text", text = "b" } }, "end_turn", { message = block.message }))
      live:take(write.text("c", "end_turn"))
      live:conclude({ subtype = "success" }, {})
      assert.same({ input_tokens = 4, output_tokens = 6 }, live.events[#live.events].usage)
    end)

    it("reports an API error with its kind and status", function()
      local live, write = accepted()
      live:take(write.assistant({ { type = "text", text = "API Error" } }, "stop_sequence",
        { isApiErrorMessage = true, error = "rate_limit", apiErrorStatus = 429 }))
      live:conclude({ subtype = "error_api" }, {})
      local result = live.events[#live.events]
      assert.same({ true, "rate_limit", 429, "API Error" }, { result.is_error, result.error, result.api_error_status,
        result.message })
    end)

    it("takes an error behind a call for no end, unless the API gave it in place of an answer", function()
      for status, certainty in pairs { [0] = "likely", [400] = "certain" } do
        for _, is_late in ipairs { false, true } do
          local live, write = accepted()
          local result = write.user({ { type = "tool_result", tool_use_id = "c", content = "x" } })
          local call = write.assistant({ { type = "tool_use", id = "c", name = "Bash", input = {} } }, "tool_use")
          live:take(call)
          live:take(write.assistant({ { type = "text", text = "b" } }, "tool_use", { message = {
            id = call.message.id, role = "assistant", content = { { type = "text", text = "b" } } } }))
          if not is_late then live:take(result) end
          live:take(write.assistant({ { type = "text", text = "API Error" } }, "stop_sequence",
            { isApiErrorMessage = true, error = "server_error", apiErrorStatus = status > 0 and status or nil }))
          live:apply "quiet"
          assert.equal(certainty, live:facts().certainty)
          assert.is_true(live:facts().api_error)
          if is_late then live:take(result) end
          live:take(write.text("a", "end_turn"))
          live:conclude({ subtype = "success" }, {})
          assert.is_nil(live.events[#live.events].message)
        end
      end
    end)

    it("takes an API error behind an interrupt for the interruption, and one before it for what it is", function()
      local live, write = accepted()
      local given = { { type = "text", text = "Prompt is too long" } }
      local function fail(timestamp)
        live:take(write.assistant(given, "stop_sequence", { isApiErrorMessage = true, timestamp = timestamp }))
      end
      fail "2025-01-01T00:00:00.000Z"
      live:apply "interrupt"
      assert.same({ true, false }, { live:facts().api_error, live:facts().interrupted })
      fail "2999-01-01T00:00:00.000Z"
      assert.same({ false, true }, { live:facts().api_error, live:facts().interrupted })
      live:stop_at { name = "max_tool_calls", message = "too many calls" }
      live:conclude({ subtype = "interrupted" }, {})
      local result = live.events[#live.events]
      assert.same({ "error_limit", "too many calls" }, { result.subtype, result.message })
    end)

    it("announces each retry once, from the screen or from the transcript", function()
      local live, write = accepted()
      live:announce_retry({ attempt = 1, max_attempts = 3, wait_ms = 1000, message = "API error" }, "s")
      live:announce_retry({ attempt = 1, max_attempts = 3, wait_ms = 0, message = "API error" }, "s")
      live:take(write.system("api_error", { retryAttempt = 1, maxRetries = 3, retryInMs = 500.5 }))
      assert.same({ "api_retry" }, types(live))
      live:take(write.system("api_error", { retryAttempt = 2, maxRetries = 3, retryInMs = 500.5,
        error = { status = 529 } }))
      assert.same({ "api_retry", "api_retry" }, types(live))
      assert.same({ 2, 3, 500 }, { live.events[2].attempt, live.events[2].max_attempts, live.events[2].wait_ms })
      assert.matches("529", live.events[2].message)
      assert.equal(2, live:retry().attempt)
      live:take(write.text("a", "end_turn"))
      assert.is_nil(live:retry())
    end)

    it("announces a retry once, though the result of a call is written behind it", function()
      local live, write = accepted()
      local retry = { attempt = 1, max_attempts = 3, wait_ms = 1000, message = "API error" }
      live:take(write.call "a")
      live:announce_retry(retry, "s")
      live:take(write.result "a")
      live:announce_retry(retry, "s")
      assert.same({ "assistant", "api_retry", "user" }, types(live))
      live:take(write.system "compact_boundary")
      live:announce_retry(retry, "s")
      assert.equal("api_retry", live.events[5].subtype)
    end)
  end)

  describe("with a sub-agent in the background", function()
    local NOTICE = "<task-notification>\n<task-id>a1</task-id>\n</task-notification>"

    local AGENT = { isAsync = true, status = "async_launched", agentId = "a1" }
    local SKILL = { status = "forked", background = true, agentId = "a1" }
    local WORKFLOW = { status = "async_launched", taskType = "local_workflow", taskId = "a1" }

    local function launched(as)
      local live, write = accepted()
      live:take(write.call("t", "Agent"))
      live:take(write.result("t", as or AGENT))
      live:take(write.text("it works", "end_turn"))
      live:take(write.system "turn_duration")
      return live, write
    end

    for name, as in pairs { ["a sub-agent"] = AGENT, ["a skill"] = SKILL, ["a workflow"] = WORKFLOW } do
      it(("is not over before %s has reported and was answered"):format(name), function()
        local live, write = launched(as)
        assert.equal(1, live:facts().agents)
        assert.equal("likely", live:facts().certainty)
        live:take(write.user(NOTICE, { promptSource = "system" }))
        assert.equal(0, live:facts().agents)
        assert.equal("goes_on", live:facts().certainty)
        assert.is_true(live.events[#live.events].is_meta)
        live:take(write.text("it is done", "end_turn"))
        live:take(write.system "turn_duration")
        assert.equal("certain", live:facts().certainty)
      end)
    end

    it("is over with a skill that does not work in the background", function()
      local live = launched { status = "forked", agentId = "a1", result = "done" }
      assert.same({ 0, "certain" }, { live:facts().agents, live:facts().certainty })
    end)

    it("waits no more for a workflow that the model has stopped", function()
      local live, write = launched(WORKFLOW)
      live:take(write.call("t2", "TaskStop"))
      live:take(write.result("t2", { message = "Successfully stopped task: a1 (d)", task_id = "a1",
        task_type = "local_workflow" }))
      live:take(write.text("it is stopped", "end_turn"))
      live:take(write.system "turn_duration")
      assert.same({ 0, "certain" }, { live:facts().agents, live:facts().certainty })
    end)

    it("waits on for a workflow where a person has stopped all sub-agents", function()
      local REPORT = NOTICE:gsub("a1", "w1"):gsub("\n</", "\n<result>It was stopped by the user.</result>\n</")
      local TOLD = 'Background agent "x" was stopped by the user.'
      for _, texts in ipairs { { TOLD, REPORT }, { REPORT, TOLD }, { "tick", TOLD, REPORT } } do
        local live, write = launched()
        live:take(write.call("t2", "Workflow"))
        live:take(write.result("t2", { status = "async_launched", taskType = "local_workflow", taskId = "w1" }))
        live:take(write.system "agents_killed")
        assert.equal(2, live:facts().agents) -- the workflow, and what is to be told of the sub-agent
        for _, text in ipairs(texts) do
          assert.is_true(live:facts().agents > 0)
          live:take(write.user(text, { promptSource = "system" }))
        end
        assert.equal(0, live:facts().agents)
      end
      local live, write = launched(WORKFLOW)
      live:take(write.system "agents_killed")
      live:take(write.user(TOLD, { promptSource = "system" }))
      assert.equal(1, live:facts().agents)
    end)

    it("hears of it in an attachment too", function()
      local live = launched()
      live:take { type = "attachment", uuid = "x", attachment = { type = "queued_command", prompt = NOTICE } }
      assert.equal(0, live:facts().agents)
    end)

    it("is over when a person has stopped all of them, and the model has answered that", function()
      for _, fields in ipairs { { promptSource = "system" }, { origin = { kind = "task-notification" } } } do
        local live, write = launched()
        live:take(write.system "agents_killed")
        assert.equal(1, live:facts().agents) -- until the model is told
        live:take(write.user('Background agent "x" was stopped by the user.', fields))
        assert.same({ 0, "goes_on" }, { live:facts().agents, live:facts().certainty })
        assert.is_true(live.events[#live.events].is_meta)
        live:take(write.text("it is stopped", "end_turn"))
        live:take(write.system "turn_duration")
        assert.equal("certain", live:facts().certainty)
      end
    end)

    it("is not over with an answer that streamed on while a person stopped them", function()
      local live, write = launched()
      live:take(write.system "agents_killed")
      live:take(write.text("and so on", "end_turn"))
      live:take(write.user("It was stopped by the user.", { origin = { kind = "task-notification" } }))
      assert.equal("goes_on", live:facts().certainty)
      live:take(write.text("it is stopped", "end_turn"))
      live:take(write.system "turn_duration")
      assert.equal("certain", live:facts().certainty)
      live = launched()
      live:take(write.system "agents_killed")
      live:take { type = "attachment", uuid = "x", attachment = { type = "queued_command",
        prompt = 'Background agent "x" was stopped by the user.' } }
      assert.equal(0, live:facts().agents)
    end)

    it("takes the stop of those of another turn for no news", function()
      local live, write = accepted()
      live:take(write.text("done", "end_turn"))
      live:take(write.system "turn_duration")
      live:take(write.system "agents_killed")
      assert.equal("certain", live:facts().certainty)
    end)

    it("is not over either where a command has started it", function()
      local live, write = sent("/skill", { is_command = true })
      live:take(write.system("local_command", { content = "<local-command-stdout>Running</local-command-stdout>\n"
        .. '<forked-skill-launch>{"agentId":"a1","skillName":"skill"}</forked-skill-launch>' }))
      live:observe("ready", true)
      assert.equal(1, live:facts().agents)
      assert.equal("likely", live:facts().certainty)
      live:take(write.user(NOTICE, { promptSource = "system" }))
      assert.equal(0, live:facts().agents)
      live:take(write.text("it is done", "end_turn"))
      live:take(write.system "turn_duration")
      assert.equal("certain", live:facts().certainty)
    end)

    it("does not wait for a command in the background", function()
      local live, write = accepted()
      live:take(write.call "t")
      live:take(write.result("t", { backgroundTaskId = "b1" }))
      assert.equal(0, live:facts().agents)
    end)
  end)

  describe("of a command", function()
    it("is accepted and ended by the records that commands leave", function()
      local live, write = sent("/help", { is_command = true })
      live:take(write.user "something typed")
      assert.equal("submitted", live:state())
      live:take(write.user "<command-name>/help</command-name>")
      assert.equal("running", live:state())
      live:take(write.system "local_command")
      assert.same({ true, false }, { live:facts().finished, live:facts().stop_hook })
      live:observe("ready", true)
      assert.equal("certain", live:facts().certainty)
    end)

    it("that the program does not know is accepted and ended by the one record of it, before the screen tells",
    function()
      local live, write = sent("/nosuch", { is_command = true })
      live:take(write.user "Unknown command: /nosuch")
      assert.same({ true, "running" }, { live:facts().finished, live:state() })
      live:observe("ready", true)
      assert.same({ "certain", "Unknown command: /nosuch" }, { live:facts().certainty, live.events[1]:text() })
    end)

    local REFUSED = "Error during compaction: API Error: 400 as asked"
    for name, told in pairs {
      ["as its error"] = { "system", "<local-command-stderr>%s</local-command-stderr>", REFUSED },
      ["as its error, from the user"] = { "user", "<local-command-stderr>%s</local-command-stderr>", REFUSED },
      ["where others have what they show"] = { "system", "<local-command-stdout>%s</local-command-stdout>", REFUSED },
      ["in other words there"] = { "system", "<local-command-stdout>%s</local-command-stdout>",
        "Compaction failed · conversation could not be reduced below the context limit" },
      ["by not knowing it"] = { "informational", "%s", "Unknown command: /compact" },
      ["by not knowing it, from the user"] = { "user", "%s", "Unknown command: /compact" },
    } do
      it("that has failed ends with what the program says, " .. name, function()
        local live, write = sent("/compact", { is_command = true })
        local kind, frame, words = table.unpack(told)
        local text = frame:format(words)
        if kind == "user" then
          live:take(write.user(text))
        else
          live:take(write.system(kind == "system" and "local_command" or kind, { content = text }))
        end
        live:observe("ready", true)
        assert.same({ "certain", true }, { live:facts().certainty, live:facts().failed })
        live:conclude({ subtype = "error_command" }, {})
        local result = live.events[#live.events]
        assert.same({ "error_command", true, words }, { result.subtype, result.is_error, result.message })
      end)
    end

    it("has not failed by what it shows, nor by words that the model answers", function()
      local live, write = sent("/cost", { is_command = true })
      live:take(write.system("local_command", { content = "<local-command-stdout>Error: $0</local-command-stdout>" }))
      assert.is_false(live:facts().failed)
      live, write = sent("/mine", { is_command = true })
      live:take(write.user "Unknown command: /is what it prints. Why?")
      live:take(write.text("who knows", "end_turn"))
      assert.is_false(live:facts().failed)
    end)

    it("does not take a message for one that has failed", function()
      local live, write = accepted()
      live:take(write.system("local_command", { content = "<local-command-stderr>no</local-command-stderr>" }))
      assert.is_false(live:facts().failed)
    end)
  end)

  describe("observes", function()
    it("that it is quiet only after something has happened", function()
      assert.is_true((accepted()):observe("ready", false))
      local live = sent()
      assert.is_false(live:observe("ready", false))
      assert.is_true(live:observe("ready", true))
      assert.is_true(live:observe("busy", true))
      assert.is_false(live:facts().quiet)
    end)

    it("a dialog once its message was accepted", function()
      local live = sent()
      assert.is_false(live:observe("dialog", true))
      live = accepted()
      assert.is_true(live:observe("dialog", true))
      assert.equal("waiting", live:state())
      live:observe("busy", true)
      assert.equal("running", live:state())
    end)

    it("no dialog that comes up behind its last record: that is the next turn's affair", function()
      local live, write = accepted()
      live:take(write.text("done", "end_turn"))
      live:take(write.system "turn_duration")
      assert.is_false(live:observe("dialog", true))
      assert.is_true(live:is_certain())
    end)
  end)

  it("that was interrupted while it was typed is over", function()
    local live = turn.new("hi", matches)
    live:apply "interrupt"
    assert.equal("certain", live:facts().certainty)
    live:conclude({ subtype = "interrupted" }, {})
    assert.is_false(live.events[1].is_error)
  end)
end)
