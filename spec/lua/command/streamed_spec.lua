local streamed = require "parley.command.streamed"

describe("streamed answers", function()
  local out, answers
  before_each(function()
    out = {}
    answers = streamed.new(function(text) table.insert(out, text) end)
  end)
  local function part(message, text) answers:add { type = "partial", message = message, text = text } end
  local function printed() return table.concat(out) end

  it("are printed once", function()
    part("a", "one\n")
    part("a", "two")
    assert.equal("one\ntwo", printed())
    answers:answer "one\ntwo"
    assert.equal("one\ntwo\n", printed())
  end)

  it("are printed whole where nothing came before", function()
    answers:answer "one"
    answers:answer "two"
    assert.equal("one\ntwo\n", printed())
  end)

  it("have what is missing of them printed", function()
    part("a", "one\n")
    answers:answer "one\ntwo"
    assert.equal("one\ntwo\n", printed())
  end)

  it("have blocks of which all came before", function()
    part("a", "onetwo")
    answers:answer "one"
    answers:answer "two"
    assert.equal("onetwo\n", printed())
  end)

  it("that were cut off are left where they are", function()
    part("a", "cut")
    answers:answer "another"
    part("b", "next")
    answers:finish { type = "result" }
    assert.equal("cut\nanother\nnext\n", printed())
  end)
end)
