local text = require("parley.core").text

--- The code points of a text, as a test of the Unicode Consortium writes them.
local function points(string)
  local list = {}
  for _, code in utf8.codes(string) do table.insert(list, ("%04X"):format(code)) end
  return table.concat(list, " ")
end

local function composed(string) return points(assert(text.nfc(string))) end

describe("text", function()
  it("offers what its stub says", function()
    local stub = dofile "lua/parley/core/text.lua"
    for name in pairs(text) do
      assert.is_function(stub[name], name)
      stub[name] = nil
    end
    assert.same({}, stub)
  end)

  describe("nfc", function()
    it("composes what can be composed", function()
      for string, expected in pairs {
        [""] = "",
        ["a\0b"] = "0061 0000 0062",
        ["e\u{301}"] = "00E9",
        ["\u{1E0A}\u{323}"] = "1E0C 0307",
        ["\u{1E9B}\u{323}"] = "1E9B 0323",
        ["\u{212B}"] = "00C5", -- Ångström's sign
        ["\u{1100}\u{1161}\u{11A8}"] = "AC01",
        ["\u{AC00}\u{11A8}"] = "AC01",
        ["\u{915}\u{93C}"] = "0915 093C", -- excluded from composition
        ["\u{958}"] = "0915 093C",
        ["\u{1F82}"] = "1F82",
        ["\u{3B1}\u{345}\u{300}\u{313}"] = "1FB2 0313",
        ["\u{1D15E}"] = "1D157 1D165",
        ["\u{344}"] = "0308 0301",
      } do
        assert.equal(expected, composed(string))
      end
    end)

    it("puts marks in the order of their classes, those of one class as they came", function()
      assert.equal("00E0 05AE 0300 0315 0062", composed "a\u{315}\u{300}\u{5AE}\u{300}b")
      assert.equal("0061 034F 05AE 0300 0315", composed "a\u{34F}\u{315}\u{300}\u{5AE}")
      assert.equal("0300 0301 0315", composed "\u{315}\u{300}\u{301}")
      assert.equal("00E9 0315 000A 0323 0301", composed "e\u{315}\u{301}\n\u{301}\u{323}")
    end)

    it("does the same to what was done already", function()
      local marks = { "\u{300}", "\u{301}", "\u{315}", "\u{323}", "\u{5AE}", "\u{345}", "\u{59A}", "\u{94D}" }
      math.randomseed(20261125)
      for _ = 1, 2000 do
        local parts = {}
        for i = 1, math.random(1, 30) do parts[i] = math.random(6) == 1 and "a" or marks[math.random(#marks)] end
        local once = assert(text.nfc(table.concat(parts)))
        assert.equal(once, text.nfc(once))
      end
    end)

    it("takes time in proportion to a run of marks", function()
      local started = os.clock()
      local run = "a" .. ("\u{315}\u{5AE}\u{300}"):rep(200000)
      local expected = "\u{E0}" .. ("\u{5AE}"):rep(200000) .. ("\u{300}"):rep(199999) .. ("\u{315}"):rep(200000)
      assert.is_true(expected == text.nfc(run))
      -- Exchanging neighbours takes an hour.
      assert.is_true(os.clock() - started < 10)
    end)

    it("refuses what is not UTF-8", function()
      for _, bytes in ipairs { "a\xFF", "\xC3", "\xED\xA0\x80", "\xC0\x80", "\xF4\x90\x80\x80", "\x80" } do
        local composition, err = text.nfc(bytes)
        assert.is_nil(composition)
        assert.equal("EILSEQ", err.code)
      end
    end)
  end)

  it("knows pictographs", function()
    for _, code in utf8.codes "❤☺©👨🏴🔥" do assert.is_true(text.is_pictograph(code)) end
    for _, code in utf8.codes "a1#→日א\u{200D}\u{FE0F}🏽" do assert.is_false(text.is_pictograph(code)) end
    for _, code in ipairs { -1, 0x110000 } do assert.is_false((pcall(text.is_pictograph, code))) end
  end)

  it("knows how many columns a text takes", function()
    for shown, columns in pairs { [""] = 0, abc = 3, ["é"] = 1, ["e\u{301}"] = 1, ["日本"] = 4, ["─│❯·"] = 4, ["𝐀x"] = 2,
      ["✅⚡"] = 4, ["👍🏽a"] = 5, ["👨\u{200D}👩"] = 4, ["❤\u{FE0F}❤"] = 2, ["a\xFFb"] = 3 } do
      assert.equal(columns, text.width(shown), shown)
    end
  end)

  describe("precedes", function()
    it("compares by bytes", function()
      local sorted = { "", "\0", "A", "B", "a", "a\0", "ab", "b", "\u{E9}", "\u{FFFD}", "\u{10000}" }
      for i, left in ipairs(sorted) do
        for j, right in ipairs(sorted) do assert.equal(i < j, text.precedes(left, right)) end
      end
    end)
  end)

  describe("base64", function()
    it("is what RFC 4648 says, both ways", function()
      for bytes, base64 in pairs {
        [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy",
        ["\0"] = "AA==", ["\xFB\xFF\xBF"] = "+/+/",
      } do
        assert.equal(base64, text.to_base64(bytes))
        assert.equal(bytes, text.from_base64(base64))
      end
    end)

    it("passes over white space", function()
      assert.equal("foobar", text.from_base64 " Zm9v\r\n\tYm\v\fFy\n")
      assert.equal("fo", text.from_base64 "Zm8\n=\n")
    end)

    it("is none with another character, too few or too many, or bits behind the end", function()
      for _, none in ipairs { "Zg", "Zg=", "Zg===", "Z", "Zm9v=", "Zm9v\0", "Zm\0v", "Zm-_", "Zh==", "=", "é" } do
        assert.is_nil(text.from_base64(none), none)
      end
    end)

    it("takes 25 MB without a halt", function()
      local bytes = ("0123456789"):rep(1876543)
      local began = os.clock()
      assert.is_true(bytes == text.from_base64(text.to_base64(bytes)))
      assert.is_true(os.clock() - began < 5) -- in Lua it took 50 s
    end)
  end)
end)
