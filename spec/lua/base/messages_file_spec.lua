local uv = require "luv"
local errors = require "parley.base.errors"
local helper = require "spec.helper"
local messages_file = require "parley.base.messages_file"

local MESSAGES = { { role = "user", content = "hello" }, { role = "assistant", content = "hi" } }
local USER, ASSISTANT = '{"role":"user","content":"hello"}', '{"role":"assistant","content":"hi"}'

describe("messages_file.decode", function()
  local function decode(text) return messages_file.decode(text, "history.json") end

  it("takes a list of messages", function()
    assert.same(MESSAGES, decode(("[%s,\n%s]"):format(USER, ASSISTANT)))
    assert.same({}, decode "[]")
  end)

  it("takes an object with messages, as batch writes it", function()
    assert.same(MESSAGES, decode(('{"id":"a","messages":[%s,%s]}'):format(USER, ASSISTANT)))
  end)

  it("takes one message a line, and empty lines between", function()
    assert.same(MESSAGES, decode(USER .. "\n\n \t\n" .. ASSISTANT .. "\n"))
  end)

  it("takes a single message", function() assert.same({ MESSAGES[1] }, decode(USER .. "\n")) end)

  it("refuses what is empty: a conversation without messages is []", function()
    for _, text in ipairs { "", " \n\t\n" } do
      local ok, err = pcall(decode, text)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
      assert.equal("history.json is empty: expected a list of messages", err.message)
    end
  end)

  it("refuses what is no JSON, and says where", function()
    for text, message in pairs {
      hello = "^history.json is no JSON: ",
      ["[" .. USER] = "^history.json is no JSON: .* at byte 34",
      ["[\n" .. USER .. ",\n}\n]"] = "^history.json is no JSON: .* at byte 37",
      [USER .. "\n\nhello"] = "^line 3 of history.json is no JSON: ",
      ['[{"role":"user","content":"a","content":"b"}]'] = '^history.json is no JSON: the key "content" comes twice',
    } do
      local ok, err = pcall(decode, text)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
      assert.matches(message, err.message)
    end
  end)

  it("refuses JSON that is no conversation", function()
    for _, text in ipairs { "5", '"hello"', "null", "{}", '{"messages":5}' } do
      local ok, err = pcall(decode, text)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
      assert.equal("history.json holds no conversation: expected a list of messages", err.message)
    end
  end)

  it("reads what an editor has marked as UTF-8", function()
    assert.same({ MESSAGES[1], MESSAGES[1] }, decode("\u{FEFF}" .. USER .. "\n" .. USER .. "\n"))
    assert.same({ MESSAGES[1] }, decode("\u{FEFF}[" .. USER .. "]"))
  end)

  it("is soon done with empty lines", function()
    helper.in_linear_time(function() assert.same({ MESSAGES[1] }, decode(USER .. helper.hollow.lines_alone)) end)
  end)
end)

describe("messages_file.write", function()
  after_each(helper.remove_folders)

  it("goes through a link, and leaves one that leads nowhere", function()
    local folder = helper.temporary_folder()
    assert(uv.fs_symlink("real.json", folder .. "/link.json"))
    local err = helper.failure_of("ValueError", messages_file.write, folder .. "/link.json", MESSAGES)
    assert.equal(("'%s/link.json' is a link to 'real.json', which is not there"):format(folder), err.message)
    assert.same({ "link.json" }, helper.names_in(folder))
    assert.equal("link", uv.fs_lstat(folder .. "/link.json").type)
    helper.write(folder .. "/real.json", "[]")
    messages_file.write(folder .. "/link.json", MESSAGES)
    assert.equal("link", uv.fs_lstat(folder .. "/link.json").type)
    assert.same(MESSAGES, messages_file.read(folder .. "/real.json"))
  end)
end)
