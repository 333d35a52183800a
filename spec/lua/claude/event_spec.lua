local core = require "parley.core"
local claude_event = require "parley.claude.event"

---The event of a line of a transcript.
local function read(line) return claude_event.from_record(assert(core.json.decode(line))) end

describe("event.from_record", function()
  it("reads an assistant line", function()
    local event = read [[{"type":"assistant","uuid":"u1","sessionId":"s1","timestamp":"2025-11-22T02:20:00.000Z",
      "isSidechain":false,"message":{"id":"m1","model":"opus","role":"assistant","stop_reason":"end_turn",
      "usage":{"output_tokens":3},"content":[{"type":"text","text":"hello"}]}}]]
    assert.same({ "assistant", "u1", "s1", "2025-11-22T02:20:00.000Z", "m1", "opus", "end_turn" }, {
      event.type, event.uuid, event.session_id, event.timestamp, event.message_id, event.model,
      event.stop_reason,
    })
    assert.same({ output_tokens = 3 }, event.usage)
    assert.same({ { type = "text", text = "hello" } }, event.content)
    assert.is_nil(event.is_error)
    assert.equal("hello", event:text())
  end)

  it("reads null as absent", function()
    local event = read [[{"type":"assistant","uuid":null,"isSidechain":null,"isApiErrorMessage":null,
      "message":{"id":null,"stop_reason":null,"usage":null,"content":[]}}]]
    assert.same({}, { event.uuid, event.message_id, event.stop_reason, event.usage })
    assert.is_nil(event.is_error)
  end)

  it("reads an API error", function()
    local event = read [[{"type":"assistant","isApiErrorMessage":true,"error":"invalid_request",
      "apiErrorStatus":400,"message":{"content":[{"type":"text","text":"API Error: 400"}],
      "stop_reason":"stop_sequence"}}]]
    assert.same({ true, "invalid_request", 400, "stop_sequence" },
      { event.is_error, event.error, event.api_error_status, event.stop_reason })
  end)

  it("reads a user line, its text as one block", function()
    local event = read [[{"type":"user","message":{"role":"user","content":"say hi"}}]]
    assert.same({ { type = "text", text = "say hi" } }, event.content)
    assert.is_nil(event.is_meta)
  end)

  it("reads the results of tools", function()
    local event = read [[{"type":"user","message":{"content":[
      {"type":"tool_result","tool_use_id":"t1","content":"ok","is_error":false}]}}]]
    assert.same({ { type = "tool_result", tool_use_id = "t1", content = "ok", is_error = false } },
      event:blocks "tool_result")
  end)

  it("reads what was sent to a program at work as the user's, and nothing else of the kind", function()
    local line = [[{"type":"attachment","uuid":"u1","attachment":{"type":"queued_command","prompt":"say hi",%s}}]]
    for _, fields in ipairs { [["commandMode":"prompt"]], [["commandMode":"prompt","origin":{"kind":"human"}]] } do
      local event = read(line:format(fields))
      assert.same({ "user", "u1", "say hi" }, { event.type, event.uuid, event:text() })
      assert.equal("typed", claude_event.kind(event))
    end
    for _, fields in ipairs { [["commandMode":"task-notification"]], [["commandMode":"prompt","isMeta":true]],
      [["commandMode":"prompt","origin":{"kind":"task-notification"}]] } do
      assert.is_nil(read(line:format(fields)))
    end
    assert.is_nil(read [[{"type":"attachment","attachment":{"type":"date","date":"2026-11-30"}}]])
  end)

  it("marks what the program wrote itself", function()
    assert.is_true(read([[{"type":"user","isMeta":true,"message":{"content":"go on"}}]]).is_meta)
    assert.is_nil(read([[{"type":"user","isMeta":false,"message":{"content":"go on"}}]]).is_meta)
  end)

  it("tells the summary of a compaction from the user's words", function()
    local summary = read [[{"type":"user","isCompactSummary":true,"message":{"content":"continued from"}}]]
    assert.is_true(summary.is_meta)
    assert.equal("summary", claude_event.kind(summary))
  end)

  it("reads a system line", function()
    local event = read [[{"type":"system","subtype":"turn_duration","content":"took 3 s","uuid":"u1"}]]
    assert.same({ "system", "turn_duration", "took 3 s", "u1" },
      { event.type, event.subtype, event.message, event.uuid })
  end)

  it("keeps the record, and blocks of unknown types as they came", function()
    local record = core.json.decode [[
      {"type":"assistant","novel":1,"message":{"content":[{"type":"hologram","x":[1]}]}}]]
    local event = claude_event.from_record(record)
    assert.equal(record, event.record)
    assert.same({ { type = "hologram", x = { 1 } } }, event.content)
  end)

  it("passes over unknown types and book-keeping", function()
    local types = {
      "attachment", "summary", "mode", "permission-mode", "file-history-snapshot", "queue-operation", "last-prompt",
      "something-new", "", "result", "text",
    }
    for _, name in ipairs(types) do
      assert.is_nil(claude_event.from_record { type = name, message = { content = "x" } }, name)
    end
    assert.is_nil(claude_event.from_record {})
    assert.is_nil(read [[{"type":null}]])
    assert.is_nil(read [[{"type":{}}]])
  end)

  it("takes nothing of a type that it has not", function()
    local event = read [[{"type":"assistant","timestamp":5,"message":{"id":7,"stop_reason":true,"usage":"much",
      "content":[null,"x",{"type":"text","text":null},{"type":"text"},{"type":"text","text":"said"}]}}]]
    assert.same({}, { event.timestamp, event.message_id, event.stop_reason, event.usage })
    assert.same({ { type = "text", text = "said" } }, event.content)
    assert.equal("[]", core.json.encode(read([[{"type":"user","message":{"content":[]}}]]).content))
  end)

  it("tells what a person types from what the program writes under their name", function()
    for text, kind in pairs {
      ["[Request interrupted by user] is what I see. Why?"] = "typed", ["<local-command x"] = "typed",
      ["<command-line> is what gcc says. Why?"] = "typed", ["<bash- x"] = "typed",
      ["<command-name>/clear</command-name> what is this?"] = "typed",
      ["<command-name>/clear</command-name>\n  <command-message>clear</command-message>"] = "command",
      ["<command-message>x</command-message>\n<command-name>/x</command-name>"] = "command",
      ["<command-name>/x</command-name>"] = "command", ["<local-command-stdout>x</local-command-stdout>"] = "program",
      ["[Request interrupted by user]"] = "program", ["[Request interrupted by user for tool use]"] = "program",
    } do
      local event = claude_event.from_record { type = "user", message = { role = "user", content = text } }
      assert.equal(kind, claude_event.kind(event), text)
    end
  end)

  it("passes over a sub-agent's lines", function()
    assert.is_nil(read [[{"type":"assistant","isSidechain":true,"message":{"content":[]}}]])
  end)

  it("passes over lines whose message is none", function()
    for _, message in ipairs { "null", "5", "true", [["text"]] } do
      assert.is_nil(read(([[{"type":"user","message":%s}]]):format(message)), message)
      assert.is_nil(read(([[{"type":"assistant","message":%s}]]):format(message)), message)
    end
    assert.is_nil(read [[{"type":"user"}]])
  end)

  it("passes over lines whose content is none", function()
    for _, content in ipairs { "null", "5", "false" } do
      for _, type in ipairs { "user", "assistant" } do
        assert.is_nil(read(([[{"type":"%s","message":{"content":%s}}]]):format(type, content)), content)
      end
    end
    assert.is_nil(read [[{"type":"assistant","message":{"usage":{"output_tokens":5}}}]]) -- the middle of it is gone
    assert.same({}, read([[{"type":"user","message":{"content":[]}}]]).content)
  end)
end)

describe("an event", function()
  local event = claude_event.new {
    type = "assistant", content = {
      { type = "thinking", thinking = "hm" }, { type = "text", text = "one" }, { type = "tool_use", name = "Bash" },
      { type = "text", text = "two" }, { type = "text" }, "stray", 5,
    },
  }

  it("joins its texts by lines", function()
    assert.equal("one\ntwo", event:text())
  end)

  it("finds blocks by their type", function()
    assert.same({ { type = "tool_use", name = "Bash" } }, event:blocks "tool_use")
    assert.same({}, event:blocks "image")
  end)

  it("has no text and no blocks without content", function()
    local empty = claude_event.new { type = "result" }
    assert.equal("", empty:text())
    assert.same({}, empty:blocks "text")
  end)
end)
