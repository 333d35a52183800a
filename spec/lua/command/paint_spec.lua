local paint = require "parley.command.paint"

describe("paint", function()
  describe("plain", function()
    it("leaves text and line feeds", function() assert.equal("é 日本 👍\nx", paint.plain "é 日本 👍\nx") end)

    it("takes out what a terminal would obey", function()
      assert.equal("\u{FFFD}[31mred\u{FFFD}", paint.plain "\27[31mred\7")
      assert.equal("a\u{FFFD}b\u{FFFD}", paint.plain "a\u{9B}b\127")
    end)

    it("takes out what would have text shown in another order", function()
      local marks = {}
      for _, range in ipairs { { 0x202A, 0x202E }, { 0x2066, 0x2069 } } do
        for code = range[1], range[2] do table.insert(marks, code) end
      end
      for _, code in ipairs(marks) do assert.equal("a\u{FFFD}b", paint.plain("a" .. utf8.char(code) .. "b")) end
      local text = "שלום\u{200F}\u{200D}\u{2026}\u{2065}" -- a mark has no reach: it stays
      assert.equal(text, paint.plain(text))
    end)

    it("spells tabs as spaces and takes carriage returns for line feeds", function()
      assert.equal("a    b\nc\nd", paint.plain "a\tb\r\nc\rd")
    end)
  end)

  describe("line", function()
    it("joins lines and white space", function() assert.equal("a b c", paint.line("  a\n\nb\t c ", 10)) end)

    it("cuts between characters, with a mark", function()
      assert.equal("éé…", paint.line("éééé", 3))
      assert.equal("ééé", paint.line("ééé", 3))
    end)
  end)

  it("colours nothing where there is no terminal", function()
    assert.equal("x", paint.painter(99, {})("red", "x")) -- no descriptor at all
  end)
end)
