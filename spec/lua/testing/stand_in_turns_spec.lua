--- The stand-in on a real pty: turns, the transcript, commands, resuming, the end.
local uv = require "luv"
local core = require "parley.core"
local testing = require "parley.testing"
local play = require "spec.lua.testing.play"

local scene, send, records = play.scene, play.send, play.records
local VERSIONS = { "2.1.50", "2.1.110", "2.1.197", "2.1.330" }
local ESCAPE, CTRL_C = "\27", "\3"
local null = core.json.null

local leaks
before_each(function() leaks = testing.leaks() end)
after_each(function() leaks:check() end)

--- A scene with one terminal under a session id of its own.
local function session(options, body)
  local of_kit = {}
  for name, value in pairs(options or {}) do of_kit[name] = value end
  local mode = of_kit.mode
  of_kit.mode = nil
  return scene(of_kit, function(kit, open)
    local id = core.uuid.generate()
    local words = { "--session-id", id }
    if mode then table.move({ "--permission-mode", mode }, 1, 2, 3, words) end
    body(kit, open(words), id, open)
  end)
end

--- What a record is, in a word or two.
local function label(record)
  local content = record.message and record.message.content
  local what = type(content) == "table" and content[1].type or record.subtype or (record.isMeta and "meta")
  return record.type .. (what and " " .. what or "")
end

--- The labels of the records that matter, in file order.
local function labels(kit, id)
  local list = {}
  for _, record in ipairs(kit:transcript(id)) do
    if record.type == "user" or record.type == "assistant" or record.type == "system" then
      table.insert(list, label(record))
    end
  end
  return list
end

local function wait_for_labels(kit, id, expected)
  testing.eventually(function() return #labels(kit, id) >= #expected end, 10000, #expected .. " records")
  assert.same(expected, labels(kit, id))
end

describe("the stand-in's transcript", function()
  it("lies where the real program puts it, closed to others", scene({ cwd = "ccü 日本 é😀" }, function(kit, open)
    local id = core.uuid.generate()
    send(open { "--session-id", id }, "hello")
    play.wait_for_answer(kit, id)
    assert.truthy(kit:transcript_path(id):find("work", 1, true) == nil)
    assert.truthy(kit:transcript_path(id):find "%-cc%-%-%-%-%-%-%-%-/")
    assert.equal(tonumber("600", 8), uv.fs_stat(kit:transcript_path(id)).mode & tonumber("777", 8))
  end))

  for _, version in ipairs(VERSIONS) do
    local has_duration = version == "2.1.197" or version == "2.1.330"

    it("has a line a block, with the stop reason of " .. version, session({ profile = version }, function(kit, terminal,
      id)
      send(terminal, "THINK")
      local blocks = play.wait_for_answer(kit, id, 3)
      assert.equal("thinking", blocks[1].message.content[1].type)
      assert.equal("second text", blocks[3].message.content[1].text)
      for _, record in ipairs(blocks) do
        assert.equal(blocks[1].message.id, record.message.id)
        assert.equal(version == "2.1.50" and null or "end_turn", record.message.stop_reason)
      end
    end))

    it(("ends a turn %s turn_duration on %s"):format(has_duration and "with" or "without", version),
      session({ profile = version }, function(kit, terminal, id)
        send(terminal, "first")
        play.wait_for_answer(kit, id, 1)
        send(terminal, "second")
        play.wait_for_answer(kit, id, 2)
        play.wait_for_records(kit, id, "last-prompt", nil, 2)
        assert.equal(has_duration and 2 or 0, #records(kit, id, "system", "turn_duration"))
      end))

    it("chains its records by parentUuid on " .. version, session({ profile = version }, function(kit, terminal, id)
      send(terminal, "USETOOL")
      play.wait_for_records(kit, id, "last-prompt")
      local by_uuid, roots = {}, 0
      for _, record in ipairs(kit:transcript(id)) do
        if record.uuid then by_uuid[record.uuid] = record end
      end
      for _, record in pairs(by_uuid) do
        if record.parentUuid == null then roots = roots + 1 else assert.truthy(by_uuid[record.parentUuid]) end
        assert.equal(id, record.sessionId)
        assert.equal(version, record.version)
      end
      assert.equal(1, roots)
    end))
  end

  it("has the system records of the first batch first on 2.1.197", session({ profile = "2.1.197",
    script = { flush_ms = 30 } }, function(kit, terminal, id)
    send(terminal, "hello")
    wait_for_labels(kit, id, { "assistant text", "system turn_duration", "user" })
  end))

  it("is written in batches, after the screen", session({ script = { flush_ms = 150 } }, function(kit, terminal, id)
    send(terminal, "hello")
    terminal:wait_for "● echo: hello"
    assert.same({}, labels(kit, id))
    wait_for_labels(kit, id, { "user", "assistant text", "system turn_duration" })
  end))

  for _, version in ipairs(VERSIONS) do
    it("is there before the first message is answered, on " .. version, session({ profile = version,
      script = { flush_ms = 5000 } }, function(kit, terminal, id)
      send(terminal, "hello")
      terminal:wait_for "● echo: hello"
      assert.is_true(#kit:transcript(id) > 0)
      assert.same({}, labels(kit, id))
    end))
  end

  it("is drawn without its control characters", session({ script = { answers = {
    { text = "be\27[2Jfore\7\u{9b}31m after" } } } }, function(_, terminal)
    send(terminal, "hello")
    terminal:wait_for "● be[2Jfore31m after"
    terminal:wait_for "✻ Baked"
    assert.truthy(terminal:shows "❯ hello")
  end))

  it("is later than the status by what a fault adds", session({ script = { faults = { late_flush_ms = 200 } } },
    function(kit, terminal, id)
      send(terminal, "hello")
      terminal:wait_for "✻ Baked"
      play.wait_for_status(kit, terminal, "idle")
      assert.same({}, labels(kit, id))
      play.wait_for_answer(kit, id)
    end))

  it("may have a line in two halves", session({ script = { flush_ms = 0, answers = { { half_line_ms = 150 } } } },
    function(kit, terminal, id)
      send(terminal, "hello")
      local function text()
        local file = io.open(kit:transcript_path(id))
        local bytes = file and file:read "a" or ""
        if file then file:close() end
        return bytes
      end
      testing.eventually(function() return text() ~= "" and text():sub(-1) ~= "\n" end, 10000, "half a line")
      assert.equal(0, #records(kit, id, "assistant"))
      play.wait_for_answer(kit, id)
    end))

  it("may have an answer and its end before the message", session({ script = { flush_ms = 0,
    answers = { { reorder = true } } } }, function(kit, terminal, id)
    send(terminal, "hello")
    wait_for_labels(kit, id, { "assistant text", "system turn_duration", "user" })
  end))

  it("may lack the end of a turn", session({ script = { answers = { { omit_turn_duration = true } } } },
    function(kit, terminal, id)
      send(terminal, "hello")
      play.wait_for_records(kit, id, "last-prompt")
      assert.same({ "user", "assistant text" }, labels(kit, id))
    end))
end)

describe("the stand-in's turn", function()
  it("takes its answer from the script", session({ script = { answers = {
    { on = "sun", text = "warm", times = 1 },
    { on = function(text, number) return text:find "rain" and number == 2 end, blocks = {
      { type = "text", text = "wet" }, { type = "text", text = "very" } } },
  } } }, function(kit, terminal, id)
    send(terminal, "sun")
    play.wait_for_answer(kit, id, 1)
    send(terminal, "rain")
    play.wait_for_answer(kit, id, 3)
    send(terminal, "sun")
    local texts = {}
    for index, record in ipairs(play.wait_for_answer(kit, id, 4)) do texts[index] = record.message.content[1].text end
    assert.same({ "warm", "wet", "very", "echo: sun" }, texts)
  end))

  for version, status in pairs { ["2.1.110"] = "none", ["2.1.330"] = "busy" } do
    it(("shows that it runs, and says so in the status file as '%s', on %s"):format(status, version),
      session({ profile = version, script = { answers = { { delay_ms = 10000 } } } }, function(kit, terminal)
        send(terminal, "wait")
        terminal:wait_for "esc to interrupt"
        terminal:wait_for(function() return terminal.screen:text():find "%S+…" end)
        assert.equal(status ~= "none" and status or nil, play.status_of(kit, terminal).status)
      end))
  end

  for word, expected in pairs {
    ["EMPTY"] = { "user", "user meta", "system turn_duration" },
    ["MAXTOK"] = { "user", "assistant text", "user meta", "assistant text", "system turn_duration" },
    ["REFUSE"] = { "user", "assistant text", "system informational", "user meta", "assistant text",
      "system turn_duration" },
    ["STOPSEQ"] = { "user", "assistant text", "system turn_duration" },
    ["PAUSE"] = { "user", "assistant text", "system turn_duration" },
    ["USETOOL"] = { "user", "assistant text", "assistant tool_use", "user tool_result", "assistant text",
      "system turn_duration" },
    ["TWOTOOLS"] = { "user", "assistant tool_use", "assistant tool_use", "user tool_result", "user tool_result",
      "assistant text", "system turn_duration" },
    ["ERR400"] = { "user", "assistant text" },
    ["CUT"] = { "user", "assistant text", "system turn_duration" },
  } do
    it("leaves the records of 2.1.330 for " .. word, session(nil, function(kit, terminal, id)
      send(terminal, word)
      play.wait_for_records(kit, id, "last-prompt")
      assert.same(expected, labels(kit, id))
    end))
  end

  for word, expected in pairs {
    ["EMPTY"] = { "user" },
    ["MAXTOK"] = { "user", "assistant text", "assistant text" },
    ["REFUSE"] = { "user", "assistant text", "assistant text" },
  } do
    it("leaves the records of 2.1.110 for " .. word, session({ profile = "2.1.110" }, function(kit, terminal, id)
      send(terminal, word)
      play.wait_for_records(kit, id, "last-prompt")
      assert.same(expected, labels(kit, id))
    end))
  end

  it("marks the line of an API error", session(nil, function(kit, terminal, id)
    send(terminal, "ERR413")
    local record = play.wait_for_answer(kit, id)[1]
    assert.is_true(record.isApiErrorMessage)
    assert.equal(413, record.apiErrorStatus)
    assert.equal("stop_sequence", record.message.stop_reason)
    terminal:wait_for "Resend your message to try again"
  end))

  it("says that nobody is logged in", session(nil, function(kit, terminal, id)
    send(terminal, "NOLOGIN")
    local record = play.wait_for_answer(kit, id)[1]
    assert.same({ true, "authentication_failed" }, { record.isApiErrorMessage, record.error })
    assert.is_nil(record.apiErrorStatus)
    assert.equal("Not logged in · Please run /login", record.message.content[1].text)
  end))

  for _, version in ipairs { "2.1.197", "2.1.330" } do
    local asks = version == "2.1.197"
    it(("says that the usage limit was hit, and %s on %s"):format(asks and "asks what to do" or "ends", version),
      session({ profile = version }, function(kit, terminal, id)
        send(terminal, "USAGELIMIT")
        local record = play.wait_for_answer(kit, id)[1]
        assert.same({ "rate_limit", 429 }, { record.error, record.apiErrorStatus })
        if asks then
          terminal:wait_for "❯ 1. Stop and wait for limit to reset"
          assert.is_truthy(terminal:shows "What do you want to do?")
          assert.equal(0, #records(kit, id, "system", "turn_duration"))
          terminal:write(ESCAPE)
        end
        play.wait_for_records(kit, id, "last-prompt")
        terminal:wait_for(function() return terminal:composer() end)
        assert.is_false(terminal:shows "What do you want to do?")
      end))
  end

  it("announces its tries on the screen, not in the transcript", session({ script = { answers = {
    { api_error = { status = 529, retry_ms = 100, retries = 3 } } } } }, function(kit, terminal, id)
    send(terminal, "try")
    terminal:wait_for "529 as asked · retrying in 1s · attempt 2/3"
    assert.equal(0, #records(kit, id, "assistant"))
    play.wait_for_answer(kit, id)
  end))

  it("fails with the status that is asked for", session({ script = { answers = {
    { api_error = { status = 503, retries = 0 } } } } }, function(_, terminal)
    send(terminal, "try")
    terminal:wait_for "API Error: 503 as asked"
  end))

  it("records its tries on 2.1.110", session({ profile = "2.1.110", script = { answers = {
    { api_error = { status = 529, retry_ms = 10, retries = 2 } } } } }, function(kit, terminal, id)
    send(terminal, "try")
    wait_for_labels(kit, id, { "user", "system api_error", "system api_error", "assistant text" })
  end))

  it("bounds its tries by CLAUDE_CODE_MAX_RETRIES", session({ profile = "2.1.110",
    extra_env = { CLAUDE_CODE_MAX_RETRIES = "1" },
    script = { answers = { { api_error = { status = 429, retry_ms = 1 } } } } },
    function(kit, terminal, id)
      send(terminal, "try")
      wait_for_labels(kit, id, { "user", "system api_error", "assistant text" })
    end))

  it("starts another by itself after a sub-agent on 2.1.330", session(nil, function(kit, terminal, id)
    send(terminal, "AGENT")
    play.wait_for_records(kit, id, "system", "turn_duration", 2)
    local own = records(kit, id, "user")
    assert.equal("system", own[#own].promptSource)
    assert.same({ "AGENT" }, kit:taken())
  end))

  it("queues what is sent meanwhile", session({ script = { answers = { { on = "one", delay_ms = 500 } } } },
    function(kit, terminal, id)
      send(terminal, "one")
      terminal:wait_for "esc to interrupt"
      send(terminal, "two")
      terminal:wait_for "Press up to edit queued messages"
      play.wait_for_answer(kit, id, 2)
      local operations = {}
      for _, record in ipairs(records(kit, id, "queue-operation")) do table.insert(operations, record.operation) end
      assert.same({ "enqueue", "dequeue" }, operations)
      assert.same({ "one", "two" }, play.user_texts(kit, id))
    end))

  it("never ends when it hangs, and minds no Escape", session({ script = { answers = { { hang = true } } } },
    function(kit, terminal, id)
      send(terminal, "hang")
      play.wait_for_records(kit, id, "user")
      terminal:write(ESCAPE)
      terminal:write "x"
      terminal:wait_for(function() return terminal:composer() == "" or terminal:composer() == "x" end)
      play.wait_for_status(kit, terminal, "busy")
    end))
end)

describe("the stand-in's hooks", function()
  it("run with what the event brings", session({ settings = play.recorder("UserPromptSubmit", "PreToolUse",
    "PostToolUse", "Stop", "SessionEnd") }, function(kit, terminal, id)
    send(terminal, "USETOOL")
    local summary = play.wait_for_records(kit, id, "system", "stop_hook_summary")
    assert.equal(1, summary[1].hookCount)
    terminal:signal "SIGTERM"
    terminal:exit()
    local inputs = play.recorded(kit)
    local events = {}
    for index, input in ipairs(inputs) do events[index] = input.hook_event_name end
    assert.same({ "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "SessionEnd" }, events)
    assert.equal("USETOOL", inputs[1].prompt)
    assert.equal("Bash", inputs[2].tool_name)
    assert.equal('echo: TOOLRESULT:"tool-out"', inputs[4].last_assistant_message)
    assert.equal(kit:transcript_path(id), inputs[4].transcript_path)
    assert.equal(records(kit, id, "user")[1].promptId, inputs[4].prompt_id)
    assert.equal("other", inputs[5].reason)
  end))

  it("are given with --settings too", scene(nil, function(kit, open)
    local settings = core.json.encode(play.recorder "Stop")
    send(open { "--settings", settings }, "hello")
    testing.eventually(function() return play.recorded(kit)[1] end)
  end))

  it("are StopFailure instead of Stop after an API error", session({ settings = play.recorder("Stop", "StopFailure") },
    function(kit, terminal)
      send(terminal, "ERR400")
      local input = testing.eventually(function() return play.recorded(kit)[1] end)
      assert.equal("StopFailure", input.hook_event_name)
      assert.equal("API Error: 400 as asked", input.last_assistant_message)
    end))

  it("carry no prompt id on 2.1.110", session({ profile = "2.1.110", settings = play.recorder "Stop" },
    function(kit, terminal)
      send(terminal, "hello")
      assert.is_nil(testing.eventually(function() return play.recorded(kit)[1] end).prompt_id)
    end))
end)

describe("the stand-in's permission prompt", function()
  for version, last in pairs { ["2.1.197"] = "3. No", ["2.1.330"] = "4. No" } do
    it("waits, and goes on after a yes, on " .. version, session({ profile = version, mode = "default",
      settings = play.recorder "PermissionRequest" }, function(kit, terminal, id)
      send(terminal, "TOUCH")
      terminal:wait_for "❯ 1. Yes"
      terminal:wait_for(last)
      assert.is_true(terminal:shows "Do you want to proceed?")
      assert.equal("permission prompt", play.wait_for_status(kit, terminal, "waiting").waitingFor)
      assert.equal("Bash", play.recorded(kit)[1].tool_name)
      assert.is_nil(terminal:composer())
      terminal:write "1"
      play.wait_for_records(kit, id, "system", "turn_duration")
      assert.is_false(records(kit, id, "user")[2].message.content[1].is_error)
    end))
  end

  for name, key in pairs { ["no"] = "4", ["Escape"] = ESCAPE } do
    it(("ends the turn after %s: two lines, no hook, no duration"):format(name), session({ mode = "default",
      settings = play.recorder "Stop" }, function(kit, terminal, id)
      send(terminal, "TOUCH")
      terminal:wait_for "❯ 1. Yes"
      terminal:write(key)
      play.wait_for_status(kit, terminal, "idle")
      wait_for_labels(kit, id, { "user", "assistant text", "assistant tool_use", "user tool_result", "user text" })
      assert.is_true(records(kit, id, "user")[2].message.content[1].is_error)
      assert.equal("[Request interrupted by user for tool use]", records(kit, id, "user")[3].message.content[1].text)
      assert.same({}, play.recorded(kit))
    end))
  end

  it("is not needed in bypassPermissions, nor for reading", session({ mode = "default" }, function(kit, terminal, id)
    send(terminal, "USETOOL")
    play.wait_for_records(kit, id, "system", "turn_duration")
    assert.is_false(terminal:shows "Do you want to proceed?")
  end))

  it("is answered by a hook's decision", session({ mode = "default", settings = { hooks = { PermissionRequest = { {
    hooks = { { type = "command",
      command = [[echo '{"hookSpecificOutput":{"decision":{"behavior":"allow"}}}']] } } } } } } },
    function(kit, terminal, id)
      send(terminal, "TOUCH")
      play.wait_for_records(kit, id, "system", "turn_duration")
      assert.is_false(records(kit, id, "user")[2].message.content[1].is_error)
    end))

  it("lets the Notification hook run when nobody answers", session({ mode = "default",
    script = { notification_ms = 20 }, settings = play.recorder "Notification" }, function(kit, terminal)
    send(terminal, "TOUCH")
    testing.eventually(function() return play.recorded(kit)[1] end)
    terminal:write(ESCAPE)
    play.wait_for_status(kit, terminal, "idle")
  end))

  it("may be a question of the model's", session({ mode = "default", script = { answers = { { tool = {
    name = "AskUserQuestion", question = { text = "Which colour?", choices = { "Red", "Blue" } } } } } } },
    function(kit, terminal, id)
      send(terminal, "ask")
      terminal:wait_for "❯ 1. Red"
      assert.equal("input needed", play.wait_for_status(kit, terminal, "waiting").waitingFor)
      terminal:write "2"
      play.wait_for_records(kit, id, "system", "turn_duration")
      assert.truthy(records(kit, id, "user")[2].message.content[1].content:find('"Which colour?"="Blue"', 1, true))
    end))
end)

describe("the stand-in when interrupted", function()
  it("gives the text back when there is no answer yet, to be glued to the next", session({ script = { answers = {
    { on = "one", delay_ms = 10000 } } } }, function(kit, terminal, id)
    send(terminal, "one")
    play.wait_for_records(kit, id, "user")
    terminal:write(ESCAPE)
    terminal:wait_for(function() return terminal:composer() == "one" end)
    play.wait_for_status(kit, terminal, "idle")
    assert.same({ "user" }, labels(kit, id))
    terminal:paste "two"
    terminal:wait_for(function() return terminal:composer() == "onetwo" end)
    local first = records(kit, id, "user")[1]
    terminal:write "\21"
    send(terminal, "three")
    play.wait_for_answer(kit, id)
    assert.same({ "one", "three" }, play.user_texts(kit, id))
    assert.equal(first.parentUuid, records(kit, id, "user")[2].parentUuid)
  end))

  for _, version in ipairs(VERSIONS) do
    it("keeps the blocks that were finished, without a stop reason, on " .. version, session({ profile = version,
      script = { answers = { { blocks = { { type = "text", text = "one" }, { type = "text", text = "two" } },
        block_delay_ms = 10000 } } } }, function(kit, terminal, id)
      send(terminal, "go")
      play.wait_for_records(kit, id, "user")
      testing.eventually(function() return terminal:shows "esc to interrupt" end)
      terminal:write(ESCAPE)
      wait_for_labels(kit, id, { "user", "assistant text", "user text" })
      assert.equal(null, records(kit, id, "assistant")[1].message.stop_reason)
      local interruption = records(kit, id, "user")[2]
      assert.equal("[Request interrupted by user]", interruption.message.content[1].text)
      local has_id = version == "2.1.197" or version == "2.1.330"
      assert.equal(has_id and records(kit, id, "assistant")[1].message.id or nil, interruption.interruptedMessageId)
      assert.equal("", (terminal:composer():gsub("^Try.*", "")))
    end))
  end

  it("rejects a tool that runs", session({ script = { answers = { { tool = { name = "Bash",
    input = { command = "sleep 9" }, duration_ms = 10000 } } } } }, function(kit, terminal, id)
    send(terminal, "go")
    play.wait_for_answer(kit, id)
    terminal:write(CTRL_C)
    wait_for_labels(kit, id, { "user", "assistant tool_use", "user tool_result", "user text" })
  end))

  it("goes on with what is queued", session({ script = { answers = { { on = "one", delay_ms = 10000 } } } },
    function(kit, terminal, id)
      send(terminal, "one")
      terminal:wait_for "esc to interrupt"
      send(terminal, "two")
      terminal:wait_for "Press up to edit"
      terminal:write(ESCAPE)
      play.wait_for_answer(kit, id)
      assert.equal("", (terminal:composer()))
      assert.equal("[Request interrupted by user]", records(kit, id, "user")[2].message.content[1].text)
    end))
end)

describe("the stand-in's commands", function()
  for version, word in pairs { ["2.1.110"] = "quit", ["2.1.197"] = " exit", ["2.1.330"] = "/exit" } do
    it(("end the program: %s on %s"):format(word, version), session({ profile = version }, function(kit, terminal)
      send(terminal, word)
      assert.same({ exit_code = 0 }, terminal:exit())
      assert.same({}, kit:taken())
    end))
  end

  for version, kind in pairs { ["2.1.110"] = "user", ["2.1.197"] = "system", ["2.1.330"] = "system" } do
    it("are unknown in a record of the type " .. kind .. " on " .. version, session({ profile = version },
      function(kit, terminal, id)
        send(terminal, "/nosuch x")
        terminal:wait_for "Unknown command: /nosuch"
        play.wait_for_records(kit, id, "system", "informational", kind == "system" and 2 or 1)
        assert.same(kind == "user" and { "Unknown command: /nosuch" } or {}, play.user_texts(kit, id))
        assert.same({}, kit:taken())
      end))
  end

  for version, runs in pairs { ["2.1.197"] = false, ["2.1.330"] = true } do
    it(("%s behind a space on %s"):format(runs and "work" or "are text", version), session({ profile = version },
      function(kit, terminal)
        send(terminal, " /help")
        terminal:wait_for(runs and "Esc to close" or "echo:  /help")
        assert.equal(runs and 0 or 1, #kit:taken())
      end))
  end

  it("show a dialog that waits: /help", session(nil, function(kit, terminal)
    send(terminal, "/help")
    assert.equal("dialog open", play.wait_for_status(kit, terminal, "waiting").waitingFor)
    terminal:wait_for(function() return not terminal:composer() end)
    terminal:write(ESCAPE)
    play.wait_for_status(kit, terminal, "idle")
    terminal:wait_for(function() return terminal:composer() == "" end)
  end))

  it("begin a new session: /clear", session(nil, function(kit, terminal, id)
    send(terminal, "hello")
    play.wait_for_answer(kit, id)
    play.wait_for_status(kit, terminal, "idle")
    send(terminal, "/clear")
    local new_id = testing.eventually(function()
      local status = play.status_of(kit, terminal)
      return status.sessionId ~= id and status.sessionId
    end)
    send(terminal, "again")
    play.wait_for_answer(kit, new_id)
    assert.equal(1, #records(kit, id, "assistant"))
  end))

  for version, told in pairs { ["2.1.110"] = { "stderr", "Error: Error" }, ["2.1.197"] = { "stdout", "Error" },
    ["2.1.330"] = { "stderr", "Error" } } do
    it("fail as the API has it: /compact on " .. version, session({ profile = version, script = { answers = {
      { on = "/compact", api_error = { status = 400 } } } } }, function(kit, terminal, id)
      send(terminal, "/compact")
      local stream, beginning = table.unpack(told)
      assert.equal(("<local-command-%s>%s during compaction: API Error: 400 as asked</local-command-%s>"):format(stream,
        beginning, stream), play.wait_for_records(kit, id, "system", "local_command")[1].content)
    end))
  end

  it("write a boundary: /compact", session(nil, function(kit, terminal, id)
    send(terminal, "/compact")
    play.wait_for_records(kit, id, "system", "compact_boundary")
    play.wait_for_status(kit, terminal, "idle")
  end))
end)

describe("the stand-in that resumes", function()
  it("goes on with its own transcript", session(nil, function(kit, terminal, id, open)
    send(terminal, "first")
    play.wait_for_records(kit, id, "last-prompt")
    terminal:signal "SIGKILL"
    terminal:exit()
    local again = open { "--resume", id }
    again:wait_for "echo: first"
    send(again, "second")
    play.wait_for_answer(kit, id, 2)
    local users = records(kit, id, "user")
    assert.equal(records(kit, id, "system", "turn_duration")[1].uuid, users[2].parentUuid)
  end))

  it("copies the lines of the session that it forks", session(nil, function(kit, terminal, id, open)
    send(terminal, "first")
    play.wait_for_records(kit, id, "last-prompt")
    local new_id, before = core.uuid.generate(), #kit:transcript(id)
    send(open { "--resume", id, "--fork-session", "--session-id", new_id }, "second")
    play.wait_for_answer(kit, new_id, 2)
    assert.equal(before, #kit:transcript(id))
    assert.equal(id, kit:transcript(new_id)[1].sessionId)
    assert.equal(new_id, records(kit, new_id, "user")[2].sessionId)
  end))

  --- Writes a transcript by hand, with some fields left out.
  local function seed(kit, id, without)
    local lines = {}
    for index, role in ipairs { "user", "assistant" } do
      local record = { type = role, uuid = core.uuid.generate(), timestamp = "2026-01-01T00:00:00.000Z", sessionId = id,
        message = { role = role, model = role == "assistant" and "m" or nil, content = { { type = "text",
          text = "seeded " .. role } } } }
      if without == "timestamp" then record.timestamp = nil end
      if without == "model" then record.message.model = nil end
      lines[index] = core.json.encode(record) .. "\n"
    end
    assert(os.execute(("mkdir -p '%s'"):format(kit:transcript_path(id):match "^(.*)/")))
    local file = assert(io.open(kit:transcript_path(id), "w"))
    file:write(table.concat(lines))
    file:close()
  end

  for _, version in ipairs(VERSIONS) do
    it("accepts a written transcript on " .. version, scene({ profile = version }, function(kit, open)
      local id = core.uuid.generate()
      seed(kit, id)
      local terminal = open { "--resume", id }
      terminal:wait_for "seeded assistant"
      send(terminal, "on")
      play.wait_for_answer(kit, id, 2)
    end))
  end

  for without, problem in pairs { timestamp = "No conversation found", model = "Failed to resume session" } do
    it(("refuses one without %s on 2.1.197, not on 2.1.330"):format(without), scene({ profile = "2.1.197" },
      function(kit, open)
        local id = core.uuid.generate()
        seed(kit, id, without)
        local terminal = open({ "--resume", id }, { is_ready = false })
        assert.same({ exit_code = 1 }, terminal:exit())
        terminal:wait_for(problem)
        kit:use({}, "2.1.330")
        open({ "--resume", id }):wait_for "seeded user"
      end))
  end
end)

describe("the stand-in's end", function()
  it("is status 143 at SIGTERM, without a status file", session(nil, function(kit, terminal, id)
    send(terminal, "hello")
    play.wait_for_answer(kit, id)
    terminal:signal "SIGTERM"
    assert.same({ exit_code = 143 }, terminal:exit())
    assert.is_nil(play.status_of(kit, terminal))
    terminal:wait_for("claude --resume " .. id)
  end))

  it("is status 0 at SIGINT", session(nil, function(_, terminal)
    terminal:signal "SIGINT"
    assert.same({ exit_code = 0 }, terminal:exit())
  end))

  it("comes at the second Ctrl-C", session(nil, function(_, terminal)
    terminal:write(CTRL_C)
    terminal:wait_for "Press Ctrl-C again to exit"
    terminal:write(CTRL_C)
    assert.same({ exit_code = 0 }, terminal:exit())
  end))

  it("comes when the terminal is closed", session(nil, function(kit, terminal)
    terminal:hang_up()
    assert.is_nil(terminal:exit().signal)
    assert.same({}, kit:processes())
  end))

  for when, seen in pairs {
    before_record = {}, after_user = { "user" }, after_answer = { "user", "assistant text" }, mid_line = { "user" },
  } do
    it("may be a crash: " .. when, session({ script = { flush_ms = 0, answers = { { crash = when } } } },
      function(kit, terminal, id)
        send(terminal, "hello")
        local record = terminal:exit()
        assert.equal("SIGKILL", record.signal)
        assert.same(seen, labels(kit, id))
        assert.truthy(play.status_of(kit, terminal))
      end))
  end

  it("may be a crash with a status", session({ script = { answers = { { crash = "during_tool", crash_status = 3,
    tool = { name = "Bash", input = { command = "ls" } } } } } }, function(kit, terminal, id)
    send(terminal, "hello")
    assert.same({ exit_code = 3 }, terminal:exit())
    assert.same({ "user", "assistant tool_use" }, labels(kit, id))
    assert.truthy(play.status_of(kit, terminal))
  end))
end)

describe("the stand-in's faults", function()
  it("lose keys and Returns", session({ script = { faults = { lose_keys = 1, lose_returns = 1 } } },
    function(kit, terminal)
      terminal:write "a"
      testing.eventually(function() return kit:received() == "a" end)
      send(terminal, "kept")
      testing.eventually(function() return kit:received():sub(-1) == "\r" end)
      assert.same({}, kit:taken())
      terminal:write "\r"
      terminal:wait_for "echo: kept"
    end))

  it("ignore SIGTERM", session({ script = { faults = { ignore_sigterm = true } } }, function(kit, terminal)
    terminal:signal "SIGTERM"
    send(terminal, "alive")
    terminal:wait_for "echo: alive"
    assert.equal(1, #kit:processes())
  end))

  it("survive a hang-up", scene({ script = { faults = { survive_hangup = true } } }, function(kit, open)
    local terminal = open()
    terminal:signal "SIGHUP"
    send(terminal, "alive")
    terminal:wait_for "echo: alive"
    assert.equal(1, #kit:processes())
  end))

  it("never get ready", scene({ script = { faults = { never_ready = true } } }, function(kit, open)
    local terminal = open({}, { is_ready = false })
    testing.eventually(function() return #kit:events "started" == 1 end)
    terminal:signal "SIGTERM"
    assert.same({ exit_code = 143 }, terminal:exit())
    assert.equal(0, #kit:events "ready")
  end))

  it("end the start with a line and a status", scene({ script = { faults = { startup_exit = { text = "no luck",
    status = 9 } } } }, function(_, open)
    local terminal = open({}, { is_ready = false })
    assert.same({ exit_code = 9 }, terminal:exit())
    terminal:wait_for "no luck"
  end))
end)
