-- How a turn's events become the client's message: what was streamed is what the transcript has, or an error.
local claude_event = require "parley.claude.event"
local composers = require "parley.gateway.composer"
local helper = require "spec.helper"
local replies = require "parley.gateway.reply"

describe("the composer", function()
  local composer, reply

  before_each(function()
    composer, reply = composers.new(false), replies.new "sonnet"
    composer.reply = reply
  end)

  local function partial(text, message)
    composer:partial(claude_event.new { type = "partial", text = text, message = message or "m1" })
  end

  local function answer(block, id, more)
    local fields = { type = "assistant", content = { block }, message_id = id or "msg_1", stop_reason = "end_turn",
      usage = { input_tokens = 1, output_tokens = 2 } }
    for name, value in pairs(more or {}) do fields[name] = value end
    composer:assistant(claude_event.new(fields))
  end

  local function text(said) return { type = "text", text = said } end

  --- What was sent: a word for each event, with what it brings.
  local function sent()
    local list = {}
    for i, item in ipairs { table.unpack(reply.items, 2) } do
      local delta = item.delta or item.content_block or {}
      list[i] = ("%s %d %s"):format(item.type:match "[^_]+$", item.index or -1,
        delta.text or delta.thinking or delta.signature or ""):gsub(" $", "")
    end
    return list
  end

  it("streams text, and sends the rest when the transcript has it", function()
    partial "one\n"
    answer(text "one\ntwo")
    composer:check_end()
    assert.same({ "start 0", "delta 0 one\n", "delta 0 two", "stop 0" }, sent())
  end)

  it("raises when the transcript has something else", function()
    partial "one\n"
    local err = helper.failure_of("ApiError", answer, text "another")
    assert.same({ 500, "stream" }, { err.status, err.reason })
  end)

  it("raises when the turn ends without what was streamed", function()
    partial "one\n"
    assert.equal("stream", helper.failure_of("ApiError", composer.check_end, composer).reason)
  end)

  it("keeps two blocks in one where they were streamed without a mark", function()
    partial "onetwo"
    answer(text "one")
    answer(text "two")
    composer:check_end()
    assert.same({ "start 0", "delta 0 onetwo", "stop 0" }, sent())
    assert.same({ text "one", text "two" }, { table.unpack(reply.content) })
  end)

  it("holds the text of a later message until the one before is confirmed", function()
    partial("one\n", "m1")
    partial("later", "m2")
    assert.same({ "start 0", "delta 0 one\n" }, sent())
    answer(text "one\nrest", "msg_1")
    answer(text "later", "msg_2")
    composer:check_end()
    assert.same({ "start 0", "delta 0 one\n", "delta 0 rest", "stop 0", "start 1", "delta 1 later", "stop 1" }, sent())
  end)

  it("puts thinking behind text that was streamed before the transcript had it", function()
    partial "one"
    answer { type = "thinking", thinking = "hmm", signature = "c2ln" }
    answer(text "one")
    composer:check_end()
    assert.same({ "start 0", "delta 0 one", "stop 0", "start 1", "delta 1 hmm", "delta 1 c2ln", "stop 1" }, sent())
    assert.equal("thinking", reply.content[1].type) -- the whole message has it where it was
  end)

  it("holds all text where thinking is to come first", function()
    composer = composers.new(true)
    composer.reply = reply
    partial "one"
    answer { type = "thinking", thinking = "", signature = "c2ln" } -- one with a signature alone counts
    answer(text "one")
    composer:check_end()
    assert.same({ "start 0", "delta 0 c2ln", "stop 0", "start 1", "delta 1 one", "stop 1" }, sent())
  end)

  it("gathers the calls of the client's tools, and passes over the program's own", function()
    answer({ type = "tool_use", id = "t1", name = "mcp__parley__probe", input = {} }, "msg_1",
      { tool_names = { t1 = "probe" } })
    answer { type = "tool_use", id = "t2", name = "Bash", input = {} }
    assert.same({ { type = "tool_use", id = "t1", name = "probe", input = {} } }, composer.calls)
    composer:forget_call "t1"
    assert.same({}, composer.calls)
  end)

  it("tells the last call's usage, and all calls'", function()
    answer(text "a", "msg_1")
    answer(text "b", "msg_1")
    answer(text "c", "msg_2", { usage = { input_tokens = 10, output_tokens = 20 } })
    local last, all = composer:used()
    assert.same({ 10, 20 }, { last.input_tokens, last.output_tokens })
    assert.same({ 11, 22 }, { all.input_tokens, all.output_tokens })
  end)

  it("passes over reports of errors", function()
    answer(text "API Error", "msg_1", { is_error = true })
    composer:check_end()
    assert.same({}, sent())
  end)
end)
