local concat_message = require "parley.policy.injection.concat_message"
local delivery = require "parley.policy.delivery"
local errors = require "parley.base.errors"
local helper = require "spec.helper"

local function prepare(history, text)
  return concat_message.prepare { history = history, text = text or "and now?", session_id = "x", cwd = "/",
    jsonl_path = "/nowhere/x" }
end

local function user(content) return { role = "user", content = content } end
local function assistant(content) return { role = "assistant", content = content } end

describe("concat_message", function()
  it("leaves a first message alone", function()
    assert.same({ text = "hi" }, prepare({}, "hi"))
  end)

  it("puts the conversation in front of the message", function()
    assert.same({ text = "Previous conversation context:\n[User]: My name is Beaver.\n[Assistant]: Hello, Beaver.\n"
      .. "Continue from here. New user message: and now?" },
      prepare { user "My name is Beaver.", assistant "Hello, Beaver." })
  end)

  it("gives tool blocks a readable form", function()
    local prepared = prepare {
      user "list it",
      assistant { { type = "text", text = "let me" },
        { type = "tool_use", id = "t", name = "Bash", input = { command = "ls", all = true } } },
      user { { type = "tool_result", tool_use_id = "t", content = "a.lua" } },
      user { { type = "tool_result", tool_use_id = "u", is_error = true, content = {
        { type = "text", text = "no" }, { type = "image", source = {} } } } },
      assistant "done",
    }
    assert.equal([=[
Previous conversation context:
[User]: list it
[Assistant]: let me
[used the tool Bash with {"all":true,"command":"ls"}]
[User]: [the tool answered: a.lua]
[User]: [the tool failed: no
[image]]
[Assistant]: done
Continue from here. New user message: and now?]=], prepared.text)
  end)

  it("names blocks that have no text, and leaves thinking and empty messages out", function()
    local prepared = prepare { user { { type = "image", source = {} } },
      assistant { { type = "thinking", thinking = "hm" }, { type = "redacted_thinking", data = "x" } } }
    assert.equal("Previous conversation context:\n[User]: [image]\nContinue from here. New user message: and now?",
      prepared.text)
  end)

  it("is always something that can be typed", function()
    local every = {}
    for code = 0, 0x2FF do every[#every + 1] = utf8.char(code) end
    for code = 0x2000, 0x206F do every[#every + 1] = utf8.char(code) end
    table.insert(every, "\u{FEFF}\u{E0041}e\u{200D}\27[201~\r\n\tend")
    local prepared = prepare { user { { type = "tool_result", tool_use_id = "t", content = table.concat(every) } } }
    assert.is_string(delivery.prepare(prepared.text, {}))
    assert.matches("!\"#$%%&'%(%)", prepared.text) -- what can be typed is as it was
    assert.matches("\n    end", prepared.text)
    assert.is_nil(prepared.text:find "[\0-\9\11-\31\127]")
  end)

  it("has no mark of the program's in it", function()
    local text = prepare({ user "<pasted_content id=1>", user "my pasted_content" }).text
    assert.is_string(delivery.prepare(text, {}, { version = "2.1.330", modes = {}, has_editor = true }))
    assert.matches("<pasted content id=1>", text, 1, true)
    assert.matches("my pasted_content", text, 1, true)
  end)

  it("keeps emoji that are joined, beside a joiner that joins nothing, too", function()
    assert.matches("a👩‍👩‍👧b\u{FFFD}c", prepare({ user "a👩‍👩‍👧b\u{200D}c" }).text, 1, true)
  end)

  it("is soon done with many kinds of characters that cannot be typed", function()
    local every = {}
    for code = 0xE0000, 0xE0FFF do table.insert(every, utf8.char(code)) end
    helper.in_linear_time(prepare, { user(table.concat(every):rep(20)) })
  end)

  it("refuses a tool's input that is no JSON", function()
    local ok, err = pcall(prepare, { assistant { { type = "tool_use", id = "t", name = "x", input = { f = print } } } })
    assert.is_false(ok)
    assert.is_true(errors.is(err, "ValueError"))
  end)

  it("has nothing attached again that was mentioned before", function()
    local prepared = prepare({ user "@a.txt and\n@b.txt, me@example.org", assistant "see (@c)" },
      "now @d")
    assert.matches("[User]: @ a.txt and\n@ b.txt, me@example.org\n[Assistant]: see (@ c)\n", prepared.text, 1, true)
    assert.matches("New user message: now @d", prepared.text, 1, true)
  end)
end)
