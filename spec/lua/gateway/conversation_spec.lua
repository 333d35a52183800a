local claude_event = require "parley.claude.event"
local conversation = require "parley.gateway.window.conversation"
local helper = require "spec.helper"

local function assistant(...) return claude_event.new { type = "assistant", content = { ... } } end

describe("the conversation beside a terminal", function()
  after_each(helper.remove_folders)

  it("has texts, calls in a line and results", function()
    local pieces = conversation.pieces {
      claude_event.new { type = "user", content = { { type = "text", text = "do it" } } },
      assistant({ type = "thinking", thinking = "hm" }, { type = "text", text = "I do" },
        { type = "tool_use", id = "1", name = "Bash", input = { command = "make\ntest", timeout = 5 } }),
      claude_event.new { type = "user", content = { { type = "tool_result", tool_use_id = "1",
        content = { { type = "text", text = "fine" }, { type = "image" } } } } },
      assistant { type = "tool_use", id = "2", name = "Odd", input = {} },
    }
    assert.same({ { who = "you", text = "do it" }, { who = "claude", text = "I do" },
      { who = "call", text = "Bash: make" }, { who = "result", text = "fine\n[image]" },
      { who = "call", text = "Odd" } }, pieces)
  end)

  it("has a result that is none", function()
    local pieces = conversation.pieces { claude_event.new { type = "user", content = { { type = "tool_result",
      tool_use_id = "1", content = { 5, { type = "text", text = 7 }, "x" } } } } }
    assert.same({ { who = "result", text = "[number]\n[text]\n[string]" } }, pieces)
  end)

  it("is bounded, and cut between characters", function()
    local events = {}
    for i = 1, 400 do events[i] = assistant { type = "text", text = tostring(i) } end
    events[400] = assistant { type = "text", text = ("漢"):rep(9000) }
    local pieces = conversation.pieces(events)
    assert.equal(300, #pieces)
    assert.equal("101", pieces[1].text)
    assert.is_true(#pieces[300].text <= 8010)
    assert.is_truthy(utf8.len(pieces[300].text))
  end)

  it("is told of as far as it has changed", function()
    local a, b, c = { who = "you", text = "a" }, { who = "claude", text = "b" }, { who = "claude", text = "c" }
    assert.is_nil(conversation.changes({ a, b }, { a, b }))
    assert.same({ from = 1, pieces = { b } }, conversation.changes({ a, b }, { a }))
    assert.same({ from = 1, pieces = { c } }, conversation.changes({ a, c }, { a, b, b }))
    assert.same({ from = 1, pieces = {} }, conversation.changes({ a }, { a, b }))
  end)

  it("of a transcript that is not there is empty, and comes when it is", function()
    local path = helper.temporary_folder() .. "/a.jsonl"
    local talk = conversation.new()
    assert.same({}, talk:read(path))
    helper.write(path, '{"type":"user","uuid":"1","message":{"role":"user","content":"hello"}}\n')
    assert.same({ { who = "you", text = "hello" } }, talk:read(path))
  end)
end)
