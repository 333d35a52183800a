local core = require "parley.core"
local errors = require "parley.base.errors"
local claude_event = require "parley.claude.event"
local history = require "parley.base.history"
local helper = require "spec.helper"

local json = core.json
local hash = history.hash_history

local function text(words) return { type = "text", text = words } end
local function user(content) return { role = "user", content = content } end
local function assistant(content) return { role = "assistant", content = content } end
local function call(id, input)
  return { type = "tool_use", id = id, name = "Bash", input = input or { command = "ls" } }
end
local function result(id, content, more)
  local block = { type = "tool_result", tool_use_id = id, content = content }
  for name, value in pairs(more or {}) do block[name] = value end
  return block
end

local function image(data) return { type = "image", source = { data = data } } end

local HELLO = { user "say hi", assistant "hi" }

--- A copy that shares no table with the original, as a client makes by way of JSON.
local function copied(value) return json.decode(assert(json.encode(value))) end

local TOOL_CYCLE = {
  user "list it", assistant { text "let me", call "t1" }, user { result("t1", "a.lua") }, assistant "one file",
}

describe("hash_history", function()
  it("keeps its results from release to release", function()
    assert.equal("0be9b3a96dc4fa493fa069d20b4d400017242d9ab7610e81e930bd1918dc7929", hash {})
    assert.equal("1924d276327325b540a327efaa9aa7da28c02c9c5630d9355be162e614ef2969", hash(HELLO))
    assert.equal("bd6953df9c082b82265b5c52650233a31aaf4323b2a35ac5e75e5c32028d6558", hash(TOOL_CYCLE))
    local odd = { user { text "ü\0", { type = "image", sizes = { 1, 2.5, json.null, true } } } }
    assert.equal("d0596f67d30448402f84b3dcc80e9fd7bcbc480706c53ce7a4b08ccb77ba34e2", hash(odd))
    local long = {}
    for i = 1, 60 do long[i] = (i % 2 == 1 and user or assistant)(("%d "):format(i):rep(400)) end
    assert.equal("1e6226dae5c110d0b8690b5a3a4f7bd3af54b0bfcfe26b2b2251666dcb6f3789", hash(long))
  end)

  local same = {
    ["a text and its one block"] = { { user "hi" }, { user { text "hi" } } },
    ["null and absent fields"] = {
      { user { text "hi" } }, { user { { type = "text", text = "hi", citations = json.null } } } },
    ["is_error false and absent"] = {
      { user { result("t", "x") } }, { user { result("t", "x", { is_error = false }) } } },
    ["is_error null and absent"] = {
      { user { result("t", "x") } }, { user { result("t", "x", { is_error = json.null }) } } },
    ["a tool's result as a text and as a block"] = {
      { user { result("t", "x") } }, { user { result("t", { text "x" }) } } },
    ["a tool's empty result in every form"] = {
      { user { result("t", "") } }, { user { result("t", json.array {}) } } },
    ["with and without cache_control"] = {
      { user { text "hi" } }, { user { { type = "text", text = "hi", cache_control = { type = "ephemeral" } } } } },
    ["a call with and without cache_control"] = {
      { assistant { call "t" } },
      { assistant { { type = "tool_use", id = "t", name = "Bash", input = { command = "ls" }, cache_control = "x" } } },
    },
    ["a nested block with and without cache_control"] = {
      { user { result("t", { text "x" }) } },
      { user { result("t", { { type = "text", text = "x", cache_control = { type = "ephemeral" } } }) } } },
    ["with and without thinking"] = {
      { assistant "hi" },
      { assistant { { type = "thinking", thinking = "hm", signature = "s" }, { type = "redacted_thinking", data = "x" },
        text "hi" } } },
    ["with and without an empty text"] = { { assistant { text "", text "hi" } }, { assistant "hi" } },
    ["split and merged neighbours"] = { { user "a", user "b" }, { user { text "a", text "b" } } },
    ["neighbours around an empty message"] = { { user "a", assistant "", user "b" }, { user { text "a", text "b" } } },
    ["a call split off its text"] = {
      { assistant { text "let me", call "t" } }, { assistant "let me", assistant { call "t" } } },
    ["fields of the message beside role and content"] = {
      { assistant "hi" }, { { role = "assistant", content = "hi", id = "msg_1", usage = { input_tokens = 1 } } } },
    ["an integer in either spelling"] = {
      { assistant { call("t", { n = 1 }) } }, { assistant { call("t", { n = 1.0 }) } } },
    ["events' blocks and a client's copy"] = { TOOL_CYCLE, copied(TOOL_CYCLE) },
  }
  for what, pair in pairs(same) do
    it("is the same for " .. what, function() assert.equal(hash(pair[1]), hash(pair[2])) end)
  end

  it("is the same whatever the order of an object's keys", function()
    local forwards, backwards = {}, {}
    for i = 1, 40 do forwards["key" .. i] = i end
    for i = 40, 1, -1 do backwards["key" .. i] = i end
    assert.equal(hash { assistant { call("t", forwards) } }, hash { assistant { call("t", backwards) } })
  end)

  it("hashes an object of many keys about as fast as as many small ones", function()
    local input, started = {}, os.clock()
    for i = 1, 100000 do input["key" .. i * 7919 % 100003] = i end
    hash { assistant { call("t", input) } }
    assert.is_true(os.clock() - started < 10) -- exchanging neighbours takes minutes
  end)

  it("splits a long run of one role wherever it likes", function()
    local blocks, messages = {}, {}
    for i = 1, 50 do
      blocks[i] = text(("%d "):format(i):rep(500))
      messages[i] = user(blocks[i].text)
    end
    local one = { user(blocks), assistant "yes", user "go on" }
    local many = table.move(one, 2, 3, 51, messages)
    assert.equal(hash(one), hash(many))
    assert.equal(hash(one, 1), hash(many, 50))
    local around = { user { table.unpack(blocks, 1, 49) }, assistant { text "" }, user { blocks[50] }, one[2], one[3] }
    assert.equal(hash(one), hash(around))
  end)

  local different = {
    ["another role"] = { { user "hi" }, { assistant "hi" } },
    ["another text"] = { { user "hi" }, { user "ho" } },
    ["one message more"] = { { user "a" }, { user "a", assistant "b" } },
    ["another order"] = { { user "a", assistant "b" }, { assistant "b", user "a" } },
    ["texts cut elsewhere"] = { { user { text "ab", text "c" } }, { user { text "a", text "bc" } } },
    ["one text for two"] = { { user { text "a", text "b" } }, { user "a\nb" } },
    ["a text that spells a block"] = { { user { result("t", "x") } }, { user "{s7:content" } },
    ["a tool that failed"] = { { user { result("t", "x") } }, { user { result("t", "x", { is_error = true }) } } },
    ["a call of another id"] = { { assistant { call "t1" } }, { assistant { call "t2" } } },
    ["a tool's other input"] = { { assistant { call("t", { a = 1 }) } }, { assistant { call("t", { a = 2 }) } } },
    ["an input that has a cache_control"] = {
      { assistant { call("t", {}) } }, { assistant { call("t", { cache_control = "x" }) } } },
    ["an input that has an is_error"] = {
      { assistant { call("t", {}) } }, { assistant { call("t", { is_error = false }) } } },
    ["an empty list for an empty object"] = {
      { assistant { call("t", { a = {} }) } }, { assistant { call("t", { a = json.array {} }) } } },
    ["a number for its text"] = { { assistant { call("t", { a = 1 }) } }, { assistant { call("t", { a = "1" }) } } },
    ["an image for another"] = { { user { image "AA==" } }, { user { image "AB==" } } },
    ["citations"] = { { user { text "hi" } }, { user { { type = "text", text = "hi", citations = { "x" } } } } },
  }
  for what, pair in pairs(different) do
    it("differs by " .. what, function() assert.are_not.equal(hash(pair[1]), hash(pair[2])) end)
  end

  it("gives a prefix's fingerprint", function()
    for last = 0, #TOOL_CYCLE do
      local prefix = table.move(copied(TOOL_CYCLE), 1, last, 1, {})
      assert.equal(hash(prefix), hash(TOOL_CYCLE, last))
    end
  end)

  it("refuses what is no list", function()
    for _, bad in ipairs { "hi", false } do
      local ok, err = pcall(hash, bad or nil)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"), tostring(err))
    end
  end)

  it("refuses what is no message", function()
    for _, bad in ipairs { { "hi" }, { { role = "system", content = "x" } }, { { role = "user", content = 5 } } } do
      local ok, err = pcall(hash, bad)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
      assert.equal(1, err.index)
    end
    local ok, err = pcall(hash, { user { "words" } })
    assert.is_false(ok)
    assert.is_true(errors.is(err, "ValueError"))
  end)
end)

describe("hash_history in another locale", function()
  --- What localedef makes a locale from: B stands behind a, and a number has a comma.
  local LOCALE = [[
escape_char /
comment_char %
LC_CTYPE
END LC_CTYPE
LC_COLLATE
order_start forward
<U0061>
<U0042>
UNDEFINED
order_end
END LC_COLLATE
LC_NUMERIC
decimal_point "<U002C>"
thousands_sep ""
grouping -1
END LC_NUMERIC
]]
  local CHUNK = [[
    local content = { { type = "tool_use", id = "t", name = "x", input = { a = 0.5, B = -1e-9, list = { 2.5 } } } }
    local fingerprint = require("parley").hash_history
    local before = fingerprint { { role = "assistant", content = content } }
    assert(os.setlocale "odd" == "odd")
    assert("a" < "B" and tostring(0.5) == "0,5")
    print(before == fingerprint { { role = "assistant", content = content } })
  ]]

  after_each(helper.remove_folders)

  it("gives the same fingerprint", helper.task(function()
    local folder = helper.temporary_folder()
    local characters = { "<code_set_name> SMALL\n<mb_cur_min> 1\n<mb_cur_max> 1\n<escape_char> /\nCHARMAP" }
    for code = 0, 127 do table.insert(characters, ("<U%04X> /x%02x"):format(code, code)) end
    helper.write(folder .. "/characters", table.concat(characters, "\n") .. "\nEND CHARMAP\n")
    helper.write(folder .. "/source", LOCALE)
    helper.run { "localedef", "-c", "-f", folder .. "/characters", "-i", folder .. "/source", folder .. "/odd" }
    local program = helper.run({ helper.host, "-e", CHUNK }, { env = { "LOCPATH=" .. folder } })
    assert.equal("true\n", program.output, program.errors)
  end))
end)

describe("the links that hash_history remembers", function()
  --- A history of messages that each make a link.
  local function long_history(count)
    local messages = {}
    for i = 1, count do
      local words = ("%d "):format(i):rep(9000)
      messages[i] = { role = i % 2 == 1 and "user" or "assistant", content = i % 3 == 0 and { text(words) } or words }
    end
    return messages
  end

  it("agree with what is hashed anew, for every prefix", function()
    local messages = long_history(7)
    hash(messages)
    for last = 0, 7 do assert.equal(hash(copied(messages), last), hash(messages, last)) end
  end)

  it("are not taken for messages that follow others", function()
    local messages = long_history(4)
    hash(messages)
    local other = { user "another beginning", assistant "yes" }
    table.move(messages, 1, 4, 3, other)
    assert.equal(hash(copied(other)), hash(other))
  end)

  for what, change in pairs {
    ["a content that was replaced"] = function(message) message.content = "new" end,
    ["a role that was replaced"] = function(message) message.role = "user" end,
    ["a block that was replaced"] = function(message) message.content = { text "old" } end,
  } do
    it("notice " .. what, function()
      local messages = long_history(4)
      hash(messages)
      change(messages[2])
      assert.equal(hash(copied(messages)), hash(messages))
    end)
  end

  it("do not hide that a block is none any more", function()
    local messages = long_history(4)
    hash(messages)
    messages[3].content[1] = 5
    assert.equal("ValueError", helper.error_of(hash, messages).code)
    messages[3].content = text "one block, and no list"
    assert.matches("not one block", helper.failure_of("ValueError", hash, messages).message)
  end)

  it("notice a block's new text, and a block that was added", function()
    local messages = long_history(4) -- the third has a list of blocks
    hash(messages)
    messages[3].content[1].text = "new"
    assert.equal(hash(copied(messages)), hash(messages))
    hash(messages)
    table.insert(messages[3].content, text "more")
    assert.equal(hash(copied(messages)), hash(messages))
  end)

  for field, value in pairs { source = { type = "base64", media_type = "image/png", data = "new" }, is_error = true,
    tool_use_id = "toolu_2", name = "Other" } do
    it("notice another '" .. field .. "' of a block that is no text", function()
      local messages = long_history(4)
      local kind = field == "source" and "image" or field == "name" and "tool_use" or "tool_result"
      messages[3].content[2] = { type = kind,
        source = { type = "base64", media_type = "image/png", data = "old" }, tool_use_id = "toolu_1",
        id = "toolu_1", name = "Bash", input = {}, content = "x" }
      messages[3].role = field == "name" and "assistant" or "user"
      hash(messages)
      messages[3].content[2][field] = value
      assert.equal(hash(copied(messages)), hash(messages))
    end)
  end

  it("end where another message follows that says something", function()
    local messages = long_history(3)
    hash(messages)
    messages[4] = { role = "user", content = "goes with the third" }
    assert.equal(hash(copied(messages)), hash(messages))
    messages[4] = { role = "assistant", content = { text "" } }
    messages[5] = { role = "user", content = "goes with the third, too" }
    assert.equal(hash(copied(messages)), hash(messages))
  end)

  it("make the second turn hash only what is new", function()
    local messages, hashed = long_history(100), 0
    local blake2b = core.digest.blake2b
    finally(function() core.digest.blake2b = blake2b end)
    core.digest.blake2b = function(bytes, size)
      hashed = hashed + #bytes
      return blake2b(bytes, size)
    end
    hash(messages)
    assert.is_true(hashed > 2000000)
    hashed = 0
    table.insert(messages, user "next")
    hash(messages)
    assert.is_true(hashed < 100, hashed)
  end)

  it("keep no message alive", function()
    local messages = long_history(40)
    hash(messages)
    local held = setmetatable({}, { __mode = "k" })
    for _, message in ipairs(messages) do held[message] = true end
    messages = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(held))
  end)
end)

describe("synthesize_turn_messages", function()
  local function event(kind, content, more)
    local fields = { type = kind, content = type(content) == "string" and { text(content) } or content }
    for name, value in pairs(more or {}) do fields[name] = value end
    return claude_event.new(fields)
  end

  it("leaves out the prompt's echo and keeps the answer", function()
    local events = { event("user", "hi"), event("assistant", "ho"), claude_event.new { type = "result" } }
    assert.equal(hash { assistant "ho" }, hash(history.synthesize_turn_messages(events)))
  end)

  it("keeps the whole tool cycle, one message a role", function()
    local events = {
      event("user", "go"), event("assistant", { text "let me" }), event("assistant", { call "t1" }),
      event("system", nil, { subtype = "x" }), event("user", { result("t1", "out") }),
      event("assistant", "done"),
    }
    assert.same({
      { role = "assistant", content = { text "let me", call "t1" } },
      { role = "user", content = { result("t1", "out") } },
      { role = "assistant", content = { text "done" } },
    }, history.synthesize_turn_messages(events))
  end)

  it("leaves out what the program wrote under the user's name, and API errors", function()
    local events = {
      event("user", "go"), event("assistant", "a"), event("user", "go on", { is_meta = true }),
      event("assistant", "b"), event("assistant", "API Error", { is_error = true }),
    }
    assert.same({ { role = "assistant", content = { text "a", text "b" } } }, history.synthesize_turn_messages(events))
  end)

  it("gives an empty list for a turn without an answer", function()
    assert.same({}, history.synthesize_turn_messages { event("user", "go"), claude_event.new { type = "result" } })
    assert.same({}, history.synthesize_turn_messages {})
  end)

  it("leaves out a tool's result whose call was lost, which no history may have", function()
    local events = { event("user", "go"), event("assistant", { call "t1" }), event("user", { result("t1", "out") }),
      event("user", { result("t2", "lost") }), event("assistant", "done") }
    assert.same({ { role = "assistant", content = { call "t1" } }, { role = "user", content = { result("t1", "out") } },
      { role = "assistant", content = { text "done" } } }, history.synthesize_turn_messages(events))
  end)

  it("can be encoded as JSON", function()
    local messages = history.synthesize_turn_messages { event("user", "go"), event("assistant", {}) }
    assert.equal('[{"content":[],"role":"assistant"}]', json.encode(messages, { sort_keys = true }))
  end)
end)

describe("check", function()
  local function refused(messages)
    local ok, err = pcall(history.check, messages)
    assert.is_false(ok)
    assert.is_true(errors.is(err, "ValueError"), tostring(err))
    return err
  end

  it("wants a list that is not empty", function()
    assert.matches("messages is empty", refused({}).message)
    assert.equal('messages must be a list, not "hi"', refused("hi").message)
    assert.equal("messages must be a list, not nothing", refused(nil).message)
  end)

  it("wants a list without holes", function()
    assert.matches("messages%[2%] must be a table .*, not a nil", refused({ user "a", nil, user "b" }).message)
  end)

  local itself = { type = "image" }
  itself.itself = itself
  local result_of_itself = result "t"
  result_of_itself.content = { result_of_itself }
  local bad = {
    { "hi", "must be a table with role and content, not a string" },
    { { content = "x" }, "has no role" },
    { { role = "system", content = "x" }, 'has the role "system"' },
    { { role = "user" }, "has no content" },
    { { role = "user", content = json.null }, "has no content" },
    { { role = "user", content = {} }, "has no content" },
    { { role = "user", content = 5 }, "content must be a string or a list of blocks, not a number" },
    { { role = "user", content = "\xff" }, "byte 1 is not valid UTF%-8" },
    { { role = "user", content = { text = "x" } }, "content must be a list of blocks" },
    { { role = "user", content = { "x" } }, "content%[1%] must be a block, a table, not a string" },
    { { role = "user", content = { text "a", {} } }, "content%[2%] has no type" },
    { { role = "user", content = { { type = "text" } } }, "'text' must be a string, not absent" },
    { { role = "user", content = { { type = "text", text = 5 } } }, "'text' must be a string, not a number" },
    { { role = "user", content = { text "\xff" } }, "content%[1%].text.*: byte 1 is not valid UTF%-8" },
    { { role = "user", content = { { type = "tool_result" } } }, "'tool_use_id' must be a string, not absent" },
    { { role = "user", content = { result("t", 5) } }, "content must be a string or a list of blocks, not a number" },
    { { role = "user", content = { result("t", { "x" }) } }, "content%[1%].content%[1%] must be a block" },
    { { role = "user", content = { result("t", "\xff") } }, "byte 1 is not valid UTF%-8" },
    { { role = "assistant", content = { { type = "tool_use", name = "x", input = {} } } }, "'id' must be a string" },
    { { role = "assistant", content = { { type = "tool_use", id = "x", input = {} } } }, "'name' must be a string" },
    { { role = "assistant", content = { { type = "tool_use", id = "x", name = "x" } } }, "'input' must be a table" },
    { { role = "assistant", content = { call("t", { f = print }) } }, "content%[1%].input: .*f" },
    { { role = "assistant", content = { { type = "tool_use", id = "x", name = "a\xff", input = {} } } },
      "content%[1%].name: byte 2 is not valid UTF%-8" },
    { { role = "assistant", content = { { type = "thinking" } } }, "'thinking' must be a string" },
    { user { itself }, "content%[1%]: .*" },
    { user { result_of_itself }, "content%[1%].content: .* contains itself" },
  }
  for _, case in ipairs(bad) do
    it("names the index of a message that " .. case[2]:gsub("%%", ""), function()
      local err = refused { user "a", assistant "b", case[1], user "last" }
      assert.equal(3, err.index)
      assert.matches("^messages%[3%]", err.message)
      assert.matches(case[2], err.message)
    end)
  end

  it("wants the user's message last", function()
    local err = refused { user "a", assistant "b" }
    assert.equal(2, err.index)
    assert.matches("messages%[2%], the last one, must be the user's, not the assistant's", err.message)
  end)

  it("lets a whole tool cycle and unknown blocks pass", function()
    local messages = copied(TOOL_CYCLE)
    table.insert(messages, user { { type = "image", source = {} } })
    history.check(messages)
  end)
end)

describe("hash_history", function()
  it("refuses a block that contains itself, and one that is nested without an end", function()
    local picture = image "x"
    picture.source = picture
    local nested = result("t", { result "u" })
    nested.content[1].content = { nested }
    local call_of_itself = call("t", { list = {} })
    table.insert(call_of_itself.input.list, call_of_itself.input)
    for _, block in ipairs { picture, nested, call_of_itself } do
      local ok, err = pcall(history.hash_history, { user { block } })
      assert.is_false(ok)
      assert.equal("ValueError: a content block contains itself, or is nested more than 512 deep", tostring(err))
    end
  end)
end)

describe("text_of", function()
  it("joins the text blocks", function()
    assert.equal("a\nb", history.text_of(user { text "a", call "t", text "", text "b" }))
    assert.equal("a", history.text_of(user "a"))
    assert.equal("a", history.text_of(user { { type = "text", text = json.null }, { type = "text" }, text "a" }))
  end)
end)

describe("a wrong call", function()
  local MESSAGE = { role = "user", content = "hi" }

  local function complaint_of(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok, "nothing was raised")
    assert.equal("ValueError", err.code, tostring(err))
    return err.message
  end

  it("with one message instead of a list says so", function()
    for _, fn in ipairs { history.check, history.hash_history } do
      assert.equal("messages must be a list of messages, not one message: put it into a list, {{…}}",
        complaint_of(fn, MESSAGE))
      assert.equal("messages must be a list, not a table with the field 'first'", complaint_of(fn, { first = MESSAGE }))
      assert.equal("messages must be a list, not nothing", complaint_of(fn))
    end
    assert.equal("messages is empty: there is nothing to send", complaint_of(history.check, {}))
  end)

  it("with a message that has no role, or a wrong one, says so", function()
    assert.equal('messages[1] has no role, which must be "user" or "assistant"',
      complaint_of(history.check, { { content = "x" } }))
    assert.equal('messages[1] has no role, which must be "user" or "assistant"',
      complaint_of(history.check, { { role = core.json.null, content = "x" } }))
    assert.equal('messages[1] has the role 5, which must be "user" or "assistant"',
      complaint_of(history.check, { { role = 5, content = "x" } }))
  end)

  it("of the others says what was expected", function()
    assert.equal("how many messages to hash must be a whole number, not \"1\"",
      complaint_of(history.hash_history, { MESSAGE }, "1"))
    assert.equal("a message must be a table with role and content, not nothing", complaint_of(history.text_of))
    assert.equal("a content block must be a table, not 5", complaint_of(history.text_of, user { 5 }))
    assert.equal("a message must be a table with role and content, not a list",
      complaint_of(history.text_of, { MESSAGE }))
    assert.equal("a message must be a table with role and content, not one whose content is 5",
      complaint_of(history.text_of, { role = "user", content = 5 }))
    assert.equal("the events of a turn must be a list, not nothing", complaint_of(history.synthesize_turn_messages))
    assert.equal("the events of a turn must be a list, not one event",
      complaint_of(history.synthesize_turn_messages, claude_event.new { type = "assistant", content = {} }))
  end)
end)
