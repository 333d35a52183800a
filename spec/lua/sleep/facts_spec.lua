local event = require "parley.claude.event"
local facts = require "parley.sleep.facts"

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
    a1 = "Async agent launched successfully. (This tool result is internal)\nagentId: a1 (internal ID - do not mention",
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

  it("is one and the other in a turn", function()
    assert.same({}, facts.of({ result(BEGINS.b1), said "<task-notification><task-id>b1</task-id>" }).background)
  end)
end)
