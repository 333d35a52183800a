local answers = require "parley.command.chat.answer"
local helper = require "spec.helper"

describe("an answer on its way to a person", function()
  local written, answer

  local function new(paint)
    written = {}
    answer = answers.new { write = function(text) table.insert(written, text) end, paint = paint }
  end
  before_each(function() new() end)

  local function part(text, message) answer:add { type = "partial", message = message or "a", text = text } end
  local function shown() return table.concat(written) end

  it("is shown a line at a time, and the last when the message is there", function()
    part "one\ntw"
    assert.equal("one\n", shown())
    part "o\nthr"
    assert.equal("one\ntwo\n", shown())
    answer:block "one\ntwo\nthree\n\n"
    assert.equal("one\ntwo\nthree\n", shown())
  end)

  it("is shown whole where nothing of it has come", function()
    answer:block "one\n\ntwo  \n"
    answer:block " \n"
    answer:block "three"
    assert.same({ "one\n\ntwo\n", "three\n" }, written)
  end)

  it("leaves blank lines out that nothing follows", function()
    part "\none\n\n\n"
    assert.equal("\none\n", shown())
    part "two\n\n"
    answer:block "\none\n\n\ntwo\n\n"
    assert.equal("\none\n\n\ntwo\n", shown())
  end)

  it("ends a block where the message says so, though another has come behind it", function()
    part "firstsecond"
    answer:block "first"
    answer:block "second"
    assert.equal("first\nsecond\n", shown())
    new()
    part "one\ntwothree\nfour"
    answer:block "one\ntwo"
    answer:block "three\nfour"
    assert.equal("one\ntwothree\nfour\n", shown())
  end)

  it("stays as far as it went when it is cut off, and is told from the next", function()
    part "one\ntwo"
    part("other\n", "b")
    assert.equal("one\ntwo\nother\n", shown())
    part("more", "b")
    answer:finish()
    answer:finish()
    assert.equal("one\ntwo\nother\nmore\n", shown())
  end)

  it("may be longer than what was recorded of it", function()
    part "one\ntwo\nthree\n"
    answer:block "one\ntwo\n"
    answer:finish()
    assert.equal("one\ntwo\nthree\n", shown())
  end)

  it("is not mixed up with that of a message before, which was not shown as it came", function()
    part("one\n", "b")
    answer:block "before it"
    part("two", "b")
    answer:block "one\ntwo"
    assert.equal("one\nbefore it\ntwo\n", shown())
  end)

  it("shows the line that is not whole before something else is shown, and no part of it twice", function()
    part "one\nlet me"
    answer:flush()
    assert.equal("one\nlet me\n", shown())
    answer:block "one\nlet me run"
    assert.equal("one\nlet me\n run\n", shown())
  end)

  it("has its Markdown rendered, in blocks of code across pieces too", function()
    new(function(style, text) return text ~= "" and ("<%s:%s>"):format(style, text) or "" end)
    part "# Head\n```lua\nlocal **a**\n"
    part "\n```\n- **b**"
    answer:block "# Head\n```lua\nlocal **a**\n\n```\n- **b**"
    answer:block "**c**"
    assert.equal("<bold:Head>\n<dim:```lua>\n<cyan:local **a**>\n\n<dim:```>\n• <bold:b>\n<bold:c>\n", shown())
  end)

  it("shows no control character", function()
    part "a\27[2J\tb\r\nc\7\n"
    assert.is_nil(shown():find "[\27\7\t\r]")
    assert.equal("a\u{fffd}[2J    b\nc\u{fffd}\n", shown())
  end)

  it("is shown soon where it is next to nothing, and long", function()
    for _, text in pairs(helper.hollow) do
      helper.in_linear_time(function()
        new(function(_, shown_part) return shown_part end)
        for first = 1, #text, 100 do part(text:sub(first, first + 99)) end
        answer:finish()
        new()
        answer:block(text)
        answer:flush()
      end)
    end
    new()
    helper.in_linear_time(function()
      for _ = 1, 20000 do part "one word " end
      answer:finish()
    end)
    assert.equal(("one word "):rep(20000):sub(1, -2) .. "\n", shown())
  end)
end)
