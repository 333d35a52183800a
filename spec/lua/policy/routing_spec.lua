local history = require "parley.base.history"
local routing = require "parley.policy.routing"

local function text(words) return { type = "text", text = words } end

local function request_of(messages)
  return { messages = messages, history = table.move(messages, 1, #messages - 1, 1, {}), last = messages[#messages] }
end

--- The keys after an answer, as a set.
local function keys_of(messages, answer)
  local keys = {}
  for _, key in ipairs(routing.keys(request_of(messages), { messages = answer, events = {}, result = {} })) do
    keys[key] = true
  end
  return keys
end

--- Whether the session of a conversation is found by a client that keeps the answer like this.
local function is_found(keys, messages, kept)
  local next_one = table.move(messages, 1, #messages, 1, {})
  table.move(kept, 1, #kept, #next_one + 1, next_one)
  table.insert(next_one, { role = "user", content = "and now?" })
  return keys[routing.route(request_of(next_one)).key] == true
end

local ASKED = { { role = "user", content = "list it" } }
local CALL = { type = "tool_use", id = "t1", name = "Bash", input = { command = "ls" } }
local RESULT = { type = "tool_result", tool_use_id = "t1", content = "a.lua", is_error = false }
local CYCLE = {
  { role = "assistant", content = { text "let me", CALL } },
  { role = "user", content = { RESULT } },
  { role = "assistant", content = { { type = "thinking", thinking = "hm" }, text "one", text "file" } },
}

describe("the default routing policy", function()
  it("routes by the fingerprint of all but the last message", function()
    local messages = { { role = "user", content = "a" }, { role = "assistant", content = "b" },
      { role = "user", content = "c" } }
    assert.same({ key = history.hash_history { messages[1], messages[2] } }, routing.route(request_of(messages)))
    assert.same({ key = history.hash_history {} }, routing.route(request_of { messages[1] }))
  end)

  for what, kept in pairs {
    ["everything"] = CYCLE,
    ["everything but thinking"] = { CYCLE[1], CYCLE[2], { role = "assistant", content = { text "one", text "file" } } },
    ["everything, a message a block"] = {
      { role = "assistant", content = "let me" }, { role = "assistant", content = { CALL } }, CYCLE[2],
      { role = "assistant", content = "one" }, { role = "assistant", content = "file" } },
    ["the final text"] = { { role = "assistant", content = "onefile" } },
    ["the final text, a line a block"] = { { role = "assistant", content = "one\nfile" } },
  } do
    it("finds the session of a client that keeps " .. what, function()
      assert.is_true(is_found(keys_of(ASKED, CYCLE), ASKED, kept))
    end)
  end

  for what, kept in pairs {
    ["nothing"] = {},
    ["another answer"] = { { role = "assistant", content = "two files" } },
    ["half of the cycle"] = { CYCLE[1], CYCLE[2] },
    ["another result"] = {
      CYCLE[1], { role = "user", content = { { type = "tool_result", tool_use_id = "t1", content = "b" } } },
      CYCLE[3] },
  } do
    it("does not find it for " .. what, function()
      assert.is_false(is_found(keys_of(ASKED, CYCLE), ASKED, kept))
    end)
  end

  it("finds the session of a turn without an answer", function()
    assert.is_true(is_found(keys_of(ASKED, {}), ASKED, {}))
  end)

  it("leaves the messages that it was given as they were", function()
    local messages = { ASKED[1] }
    keys_of(messages, CYCLE)
    assert.same({ { role = "user", content = "list it" } }, messages)
    assert.equal(3, #CYCLE)
  end)
end)
