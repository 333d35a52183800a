local core = require "parley.core"
local errors = require "parley.base.errors"
local claude_event = require "parley.claude.event"
local helper = require "spec.helper"
local history = require "parley.base.history"
local native_jsonl = require "parley.policy.injection.native_jsonl"
local promise = require "spec.promise"
local transcript = require "parley.claude.transcript"

local json = core.json

describe("transcript", function()
  local folder, lines, last

  before_each(function()
    folder, lines, last = helper.temporary_folder(), {}, json.null
  end)

  after_each(helper.remove_folders)

  --- Appends a record of the tree, behind the last one unless told otherwise. Returns its uuid.
  local function record(kind, fields)
    local all = { type = kind, uuid = core.uuid.generate(), parentUuid = last, isSidechain = false }
    for name, value in pairs(fields) do all[name] = value end
    last = all.uuid
    lines[#lines + 1] = assert(json.encode(all))
    return all.uuid
  end

  local function user(content, fields)
    local all = { message = { role = "user", content = content } }
    for name, value in pairs(fields or {}) do all[name] = value end
    return record("user", all)
  end

  local function assistant(block, fields)
    local all = { message = { role = "assistant", id = fields and fields.id or core.uuid.generate(),
      content = { type(block) == "string" and { type = "text", text = block } or block } } }
    for name, value in pairs(fields or {}) do all[name] = value end
    all.id = nil
    return record("assistant", all)
  end

  local function call(id) return { type = "tool_use", id = id, name = "Bash", input = { command = "echo " .. id } } end

  local function result(id, fields)
    return user({ { type = "tool_result", tool_use_id = id, content = "out " .. id } }, fields)
  end

  local function messages()
    return transcript.messages(transcript.read(helper.write(folder .. "/t.jsonl", table.concat(lines, "\n") .. "\n")))
  end

  --- The messages in short: the role's first letter, then texts, calls and results.
  local function told()
    local list = {}
    for i, message in ipairs(messages()) do
      local parts = {}
      for _, block in ipairs(message.content) do
        table.insert(parts, block.text or block.id or block.tool_use_id or block.type)
      end
      list[i] = message.role:sub(1, 1) .. ": " .. table.concat(parts, ", ")
    end
    return list
  end

  it("tells the conversation as messages", function()
    user "hello"
    assistant "hi"
    user "how are you?"
    assistant "well"
    assert.same({ "u: hello", "a: hi", "u: how are you?", "a: well" }, told())
  end)

  it("merges neighbours of one role", function()
    user "hello"
    assistant({ type = "thinking", thinking = "hm", signature = "c2ln" }, { id = "m1" })
    assistant("one", { id = "m1" })
    assistant("two", { id = "m1" })
    assert.same({ "u: hello", "a: thinking, one, two" }, told())
  end)

  it("tells them in the order of the tree where lines stand in another", function() -- as 2.1.197 may write the first
    user "one"
    assistant "first"
    record("system", { subtype = "turn_duration" })
    table.insert(lines, table.remove(lines, 1))
    user "two"
    assistant "second"
    assert.same({ "u: one", "a: first", "u: two", "a: second" }, told())
    table.insert(lines, #lines - 1, table.remove(lines))
    assert.same({ "u: one", "a: first", "u: two", "a: second" }, told())
  end)

  it("leaves out a message that was taken back before its answer", function()
    user "hello"
    local answer = assistant "hi"
    user "taken back"
    last = answer
    user "instead"
    assistant "yes"
    assert.same({ "u: hello", "a: hi", "u: instead", "a: yes" }, told())
  end)

  it("follows the tree through records that are no messages", function()
    user "hello"
    record("attachment", { attachment = { type = "x" } })
    assistant "hi"
    record("system", { subtype = "turn_duration" })
    user "again"
    assert.same({ "u: hello", "a: hi", "u: again" }, told())
  end)

  it("has the message that a result of a tool has carried to the model", function()
    user "before"
    assistant(call "A")
    result "A"
    record("attachment", { attachment = { type = "queued_command", prompt = "hello", commandMode = "prompt" } })
    assistant "hi"
    assert.same({ "u: before", "a: A", "u: A, hello", "a: hi" }, told())
  end)

  it("leaves out sub-agents and what the program wrote for itself", function()
    user "hello"
    local answer = assistant "hi"
    user("for the agent", { isSidechain = true })
    assistant("from the agent", { isSidechain = true })
    last = answer
    user("Output token limit hit", { isMeta = true })
    assistant "more"
    user "[Request interrupted by user]"
    assert.same({ "u: hello", "a: hi, more" }, told())
  end)

  it("does not end in a sub-agent", function()
    user "hello"
    assistant "hi"
    last = json.null
    user("for the agent", { isSidechain = true })
    assert.same({ "u: hello", "a: hi" }, told())
  end)

  it("leaves out reports of API errors", function()
    user "hello"
    assistant("API Error: 400", { isApiErrorMessage = true })
    user "again"
    assistant "hi"
    assert.same({ "u: hello, again", "a: hi" }, told())
  end)

  it("fetches back parallel calls from the branch that leads nowhere", function() -- as 2.1.330 writes them
    user "two tools"
    local first = assistant(call "A", { id = "m1" })
    local second = assistant(call "B", { id = "m1" })
    result("B", { parentUuid = second })
    result("A", { parentUuid = first })
    assistant "done"
    assert.same({ "u: two tools", "a: A, B", "u: B, A", "a: done" }, told())
  end)

  it("puts a message together whose first call was answered before its last block", function()
    user "two tools"
    assistant(call "A", { id = "m1" })
    result "A"
    assistant(call "B", { id = "m1" })
    result "B"
    assistant "done"
    assert.same({ "u: two tools", "a: A, B", "u: A, B", "a: done" }, told())
  end)

  it("begins with the summary after a compaction, as for the model", function()
    user "long ago"
    local old = assistant "forgotten"
    last = json.null
    record("system", { subtype = "compact_boundary", logicalParentUuid = old })
    user("what went before", { isCompactSummary = true })
    assistant "I see"
    assert.same({ "u: what went before", "a: I see" }, told())
    local first = transcript.read(folder .. "/t.jsonl")[1]
    assert.equal("long ago", first:text())
  end)

  describe("after a compaction that has kept the end of what was said", function()
    local KEPT = { "u: what went before", "a: working, A", "u: A", "a: done", "u: three", "a: echo: three" }

    --- A turn that is compacted behind its call. Returns the uuids of what is kept.
    local function long_turn()
      user "long ago"
      assistant "forgotten"
      user "two"
      return { assistant("working", { id = "m1" }), assistant(call "A", { id = "m1" }), (result "A") }
    end

    local function boundary(kept, logical_parent)
      last = json.null
      return record("system", { subtype = "compact_boundary", logicalParentUuid = logical_parent,
        compactMetadata = { trigger = "auto", preservedMessages = { uuids = kept } } })
    end

    local function summary() return user("what went before", { isCompactSummary = true }) end

    local function three()
      assistant "done"
      user "three"
      assistant "echo: three"
    end

    it("has that behind the summary", function()
      local kept = long_turn()
      boundary(kept, kept[3])
      summary()
      three()
      assert.same(KEPT, told())
    end)

    it("has so where the boundary names a record behind it as what came before (2.1.332)", function()
      local kept, behind = long_turn(), core.uuid.generate()
      boundary(kept, behind)
      summary()
      record("attachment", { uuid = behind })
      three()
      assert.same(KEPT, told())
      assert.equal("long ago", transcript.read(folder .. "/t.jsonl")[1]:text())
    end)

    it("has so where what came next hangs on what was kept", function()
      local kept = long_turn()
      boundary(kept, kept[3])
      summary()
      last = kept[3]
      three()
      assert.same(KEPT, told())
    end)

    it("has so where an answer is written before the summary (2.1.197)", function()
      local kept = long_turn()
      local start = boundary(kept, kept[3])
      last = kept[3]
      local done = assistant "done"
      user("what went before", { isCompactSummary = true, parentUuid = start })
      last = done
      user "three"
      assistant "echo: three"
      assert.same(KEPT, told())
    end)

    it("has an answer that is written before the summary, which is the last that was written (2.1.197)", function()
      user "long ago"
      assistant "forgotten"
      user "two"
      local kept = { assistant "echo: two", (user "three") }
      local start = boundary(kept, kept[2])
      last = kept[2]
      assistant "echo: three"
      user("what went before", { isCompactSummary = true, parentUuid = start })
      assert.same({ "u: what went before", "a: echo: two", "u: three", "a: echo: three" }, told())
    end)

    it("has so where the message itself was kept", function()
      user "long ago"
      assistant "forgotten"
      user "two"
      local kept = { assistant "echo: two", (user "three") }
      boundary(kept, kept[2])
      summary()
      assistant "echo: three"
      assert.same({ "u: what went before", "a: echo: two", "u: three", "a: echo: three" }, told())
    end)

    it("has what the last of two has kept", function()
      local kept = long_turn()
      boundary(kept, kept[3])
      summary()
      three()
      user "four"
      local end_of_it = { assistant "echo: four" }
      boundary(end_of_it, end_of_it[1])
      user("all of it", { isCompactSummary = true })
      user "five"
      assistant "echo: five"
      assert.same({ "u: all of it", "a: echo: four", "u: five", "a: echo: five" }, told())
    end)

    it("has what was said before it, when that was gone on with", function()
      user "one"
      local answer = assistant "echo: one"
      user "two"
      local kept = { assistant "echo: two" }
      boundary(kept, kept[1])
      summary()
      last = answer
      user "instead of two"
      assistant "echo: instead"
      assert.same({ "u: one", "a: echo: one", "u: instead of two", "a: echo: instead" }, told())
    end)
  end)

  describe("with slash commands", function()
    local command = "<command-message>review</command-message>\n<command-name>/review</command-name>\n"
      .. "<command-args>src lib</command-args>"

    it("keeps one that the model has answered, as it was typed", function()
      user(command)
      user("the command's prompt", { isMeta = true })
      assistant "reviewed"
      assert.same({ "u: /review src lib", "a: reviewed" }, told())
    end)

    it("leaves out one that it has not", function()
      user(command)
      user "<local-command-stdout>done</local-command-stdout>"
      user "hello"
      assistant "hi"
      assert.same({ "u: hello", "a: hi" }, told())
    end)
  end)

  describe("of a turn that was cut off", function()
    before_each(function()
      user "hello"
      assistant "hi"
      user "use a tool"
    end)

    it("keeps the question", function()
      assistant(call "A")
      assert.same({ "u: hello", "a: hi", "u: use a tool" }, told())
    end)

    it("keeps what was said before the open call", function()
      assistant("let me see", { id = "m1" })
      assistant(call "A", { id = "m1" })
      result "A"
      assert.same({ "u: hello", "a: hi", "u: use a tool", "a: let me see" }, told())
    end)

    it("makes a history that can be injected", function()
      assistant(call "A")
      result "A"
      user "[Request interrupted by user for tool use]"
      local list = messages()
      table.insert(list, { role = "user", content = "go on" })
      history.check(list)
      table.remove(list)
      local seed = native_jsonl.prepare { history = list, text = "go on", session_id = core.uuid.generate(),
        jsonl_path = folder .. "/seed.jsonl", cwd = folder }
      assert.equal("use a tool\ngo on", seed.text)
    end)
  end)

  it("leaves out the result of a call whose line is torn, and makes a history that can be injected", function()
    user "hello"
    assistant(call "A")
    lines[#lines] = lines[#lines]:sub(1, 40)
    result "A"
    assistant "done"
    assert.same({ "a: done" }, told())
    local seed = native_jsonl.prepare { history = messages(), text = "go on", session_id = core.uuid.generate(),
      jsonl_path = folder .. "/seed.jsonl", cwd = folder }
    assert.equal("go on", seed.text)
  end)

  it("passes over lines that are no JSON, and a half one", function()
    user "hello"
    table.insert(lines, '{"uuid": broken')
    assistant "hi"
    table.insert(lines, '{"type":"user","uuid":"12')
    assert.same({ "u: hello", "a: hi" }, told())
  end)

  it("survives content of other shapes", function()
    user { 5, { type = "text", text = "hello" } }
    record("assistant", { message = "gone" })
    record("user", { message = { role = "user" } })
    assert.equal("u: hello", told()[1]:gsub(", *$", ""))
  end)

  it("is empty before anything is said", function()
    for _, key in ipairs { "sessionId", "messageId" } do
      lines[1] = ('{"type":"file-history-snapshot","%s":"a"}'):format(key)
      assert.same({}, messages())
    end
  end)

  it("raises ValueError for what cannot be read, and for what is none", function()
    local other = helper.write(folder .. "/other.jsonl", '\n5\n{"type":"module"}\n{"uuid":"a"}\n')
    for _, path in ipairs { folder, folder .. "/none.jsonl", other } do
      local ok, err = pcall(transcript.read, path)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
      assert.matches(path, err.message, 1, true)
    end
  end)

  it("says what each user record is", function()
    user "typed"
    user("meta", { isMeta = true })
    user "<command-name>/x</command-name>"
    user "<local-command-stdout>x</local-command-stdout>"
    user "<task-notification>x</task-notification>"
    user "<bash-input>ls</bash-input>"
    user("by the program", { promptSource = "system" })
    user("summary", { isCompactSummary = true })
    result "A"
    messages()
    local kinds = {}
    for i, event in ipairs(transcript.read(folder .. "/t.jsonl")) do kinds[i] = claude_event.kind(event) end
    assert.same({ "typed", "program", "command", "program", "notification", "notification", "notification", "summary",
      "results" }, kinds)
  end)
end)

describe("the transcript of a program that compacts in mid-turn", function()
  promise.check_leaks()

  promise.each("is read back with the summary, what is kept and what was answered", { script = { answers = {
    { on = "one", steps = { { tool = { name = "Bash", input = { command = "ls" }, result = "a" } },
      { text = "done", compacts = true } } },
  } } }, function(live)
    helper.say(live, "one")
    helper.say(live, "two")
    local texts = {}
    for _, message in ipairs(transcript.messages(transcript.read(live.jsonl_path))) do
      for _, block in ipairs(message.content) do table.insert(texts, (block.text or block.type):match "^[%w: ]*") end
    end
    assert.same({ "This session is being continued from a previous conversation", "tool", "tool", "done", "two",
      "echo: two" }, texts)
  end)
end)
