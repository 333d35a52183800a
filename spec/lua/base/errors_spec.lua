local core = require "parley.core"
local errors = require "parley.base.errors"
local helper = require "spec.helper"

describe("errors", function()
  it("makes objects with a code, a message and further fields", function()
    local err = errors.new("EX", "it broke", { path = "/x", cause = 5 })
    assert.same({ "EX", "it broke", "/x", 5 }, { err.code, err.message, err.path, err.cause })
  end)

  it("makes one that reads as one line", function()
    assert.equal("EX: it broke", tostring(errors.new("EX", "it broke")))
  end)

  it("copies the fields", function()
    local fields = { path = "/x" }
    local err = errors.new("EX", "it broke", fields)
    fields.path = "/y"
    assert.equal("/x", err.path)
    assert.is_nil(fields.code)
  end)

  it("has a constructor for each kind", function()
    local kinds = {
      value_error = "ValueError", cli_not_found_error = "CLINotFoundError", session_error = "SessionError",
      dialog_error = "DialogError", closed_error = "ClosedError", cancelled = "Cancelled",
    }
    for name, code in pairs(kinds) do
      local err = errors[name]("no", { extra = 1 })
      assert.same({ code, "no", 1 }, { err.code, err.message, err.extra })
      assert.is_true(errors.is(err, code))
    end
  end)

  describe("is", function()
    it("tells error objects, by their code when one is given", function()
      local err = errors.new("EX", "it broke")
      assert.is_true(errors.is(err))
      assert.is_true(errors.is(err, "EX"))
      assert.is_false(errors.is(err, "EY"))
    end)

    it("takes nothing else for one", function()
      for _, value in ipairs { "EX: it broke", 5, { code = "EX" }, print, true } do
        assert.is_false(errors.is(value), tostring(value))
      end
      assert.is_false(errors.is(nil))
    end)

    it("knows those that C makes", function()
      local _, err = core.json.decode "{"
      assert.is_true(errors.is(err))
      assert.equal(("%s: %s"):format(err.code, err.message), tostring(err))
    end)
  end)

  it("say something of whatever was raised", function()
    assert.equal("oops", errors.text "oops")
    assert.equal("ValueError: wrong", errors.text(errors.value_error "wrong"))
    assert.equal('an error without a text: {"a":1}', errors.text { a = 1 })
    assert.equal("an error without a text: 5", errors.text(5))
    assert.matches("^an error without a text: function: 0x", errors.text(print))
  end)

  it("say it without the code", function()
    assert.equal("wrong", errors.message(errors.value_error "wrong"))
    assert.equal("oops", errors.message "oops")
    assert.equal('an error without a text: {"message":5}', errors.message { message = 5 })
  end)

  it("quote the beginning of a text, in whole characters", function()
    assert.equal("日本", errors.beginning("日本語", 8))
    assert.equal("日本語", errors.beginning("日本語", 9))
    assert.equal("abc", errors.beginning("abcdef", 3))
    assert.equal("", errors.beginning(("\x80"):rep(9), 8))
  end)

  it("say it on one line", function()
    assert.equal("one  two | three", errors.on_one_line "one  two \n\n  three\n")
    for _, text in pairs(helper.hollow) do helper.in_linear_time(errors.on_one_line, text) end
  end)
end)
