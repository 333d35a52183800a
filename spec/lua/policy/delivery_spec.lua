local delivery = require "parley.policy.delivery"
local helper = require "spec.helper"

local NEWEST = { version = "2.1.330", status = { status = "idle" },
  modes = { alternate_screen = true }, has_editor = true }
local MIDDLE = { version = "2.1.197", status = { status = "idle" }, modes = { alternate_screen = false },
  has_editor = true }
local OLDEST = { version = "2.1.110", status = {}, modes = { alternate_screen = false }, has_editor = true }

local function prepare(text, options, view) return delivery.prepare(text, options or {}, view) end

local function composer(text, changes)
  local all = { text = text, shell = false, scrolled = false, below = 0, is_empty = text == "",
    hidden = 0 }
  for name, value in pairs(changes or {}) do all[name] = value end
  return all
end

---A copy of a view with changes.
local function changed(view, changes)
  local all = {}
  for name, value in pairs(view) do all[name] = value end
  for name, value in pairs(changes) do all[name] = value end
  return all
end

describe("policy.delivery", function()
  describe("normalises", function()
    for _, case in ipairs {
      { "line breaks", "a\r\nb\rc", "a\nb\nc" }, { "no tabs", "\ta\tb", "\ta\tb" },
      { "white space at the end", "a \n\t\r\n", "a" },
      { "wide white space at the end", "a\u{A0}\u{3000} \u{2003}", "a" },
      { "to composed characters", "e\u{301}", "é" }, { "nothing else", "  a\n\n b", "  a\n\n b" },
    } do
      it(case[1], function() assert.equal(case[3], prepare(case[2])) end)
    end

    it("much wide white space at the end, and is soon done with it", function()
      helper.in_linear_time(function() assert.equal("a", prepare("a" .. ("\u{A0}"):rep(150000))) end)
    end)
  end)

  describe("refuses", function()
    local function refuses(text, why, options, view)
      local prepared, problem = prepare(text, options, view)
      assert.is_nil(prepared, ("%q"):format(text))
      assert.matches(why, problem)
    end

    it("what is no UTF-8, saying where", function()
      refuses("ab\xFF", "byte 3")
      refuses("\xED\xA0\x80", "UTF%-8")
    end)

    it("nothing, and only white space", function()
      for _, text in ipairs { "", " ", "\n\t", "\u{A0}", "\u{3000} " } do refuses(text, "nothing") end
    end)

    it("lines with tabs that are wider than the screen, where those are not shown", function()
      local wide = "x\n" .. ("a\t"):rep(16) .. "e"
      refuses(wide, "line 2 is wider than the screen", {}, changed(MIDDLE, { columns = 120 }))
      refuses("\t\t" .. ("word "):rep(40) .. "end", "line 1", {}, changed(OLDEST, { columns = 120 }))
      for _, text in ipairs { "\t" .. ("x"):rep(105), ("x"):rep(130) .. "\ty", ("word "):rep(40) } do
        assert.is_string(prepare(text, {}, changed(MIDDLE, { columns = 120 })))
      end
      assert.equal(wide, prepare(wide, {}, changed(MIDDLE, { columns = 140 })))
      assert.equal(wide, prepare(wide, {}, changed(NEWEST, { columns = 120 })))
    end)

    it("control characters", function()
      for code = 0, 159 do
        local is_control = code < 32 or code >= 127
        if is_control and code ~= 9 and code ~= 10 and code ~= 13 then
          refuses("a" .. utf8.char(code) .. "b", ("U%%+%04X at byte 2"):format(code))
        end
      end
    end)

    it("invisible characters, where they are taken out", function()
      for _, code in ipairs { 0xAD, 0x200B, 0x2060, 0xFEFF, 0x2028, 0xE0041, 0xE0100, 0x200C, 0x200D, 0x200E, 0x202E,
        0x2066, 0x61C } do
        refuses("a" .. utf8.char(code) .. "b", "invisible")
      end
      for _, text in ipairs { "👨\u{200D}", "👨\u{200D}a", "👨\u{200D} x", "☺️\u{200D} b", "👨\u{200C}👩", "→\u{200D}→",
        "א\u{200C}א", "א\u{200D} b", "a\u{FE0F}", "1\u{FE0F} b", "\u{FE0F}", "日\u{FE0F}", "x🏴\u{E0067}\u{E007F}",
        "ש\u{202B}x\u{202C}", "ש\u{2067}x\u{2069}" } do refuses(text, "invisible") end
    end)

    it("no invisible characters where they mean something", function()
      local england = "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}"
      for _, text in ipairs { "👨\u{200D}👩", "❤️\u{200D}🔥", "👩🏽\u{200D}💻", "❤️", "☺\u{FE0E}", "©️", "1️⃣", "#️⃣",
        england, "می\u{200C}خواهم", "क्\u{200D}ष", "ب\u{200D}", "ש\u{200F}x", "ش\u{61C}x" } do
        assert.equal(text, prepare(text))
      end
    end)

    it("a character that would be cut in two in a long text, on the versions that do that", function()
      local text = ("x"):rep(499) .. "😀" .. ("y"):rep(9600)
      refuses(text, "begins with its UTF%-16 unit 500", {}, NEWEST)
      for _, other in ipairs { "x" .. text, text:sub(2), text:sub(1, 9000) } do assert.equal(other, prepare(other)) end
      assert.equal(text, prepare(text, {}, MIDDLE))
    end)

    it("words that end the program", function()
      for _, word in ipairs { "exit", "quit", ":q", ":wq!", " exit", "exit\n", "\u{A0}quit" } do
        refuses(word, "ends itself")
      end
    end)

    it("commands", function()
      for _, text in ipairs { "/help", "/help me", "/nosuch\nx", "/", "/ x", " /help", "\n/help", "\u{A0}/help" } do
        refuses(text, "command")
      end
    end)

    it("whatever may be taken for a command", function()
      for _, text in ipairs { "/exitx", "/exit.", "/exité x" } do refuses(text, "command", {}, NEWEST) end
      refuses("/etc/passwd is a file", "command", {}, OLDEST)
      assert.is_truthy(prepare("//x", {}, OLDEST))
      assert.is_truthy(prepare("/etc/passwd is a file", {}, MIDDLE))
    end)

    it("mentions, when told to", function()
      for _, text in ipairs { "@README", "see @src/x.c", "a\n@~/x", "see\u{A0}@x", "lies\u{3000}@x", "読む。@x",
        "see @日本/x", 'ada@"/x" please' } do
        refuses(text, "mentions a file", { mentions = "refuse" })
        assert.is_truthy(prepare(text, { mentions = "allow" }))
      end
      for _, text in ipairs { "me@example.org", "zoë@example.org", "a @ b" } do
        assert.is_truthy(prepare(text, { mentions = "refuse" }))
      end
    end)

    it("the name of a paste in a long text, where that would be replaced", function()
      local long = ("w "):rep(6000)
      for _, name in ipairs { "[Pasted text #1 +3 lines]", "[Pasted text #1]", "[...Truncated text #1 +2 lines...]" } do
        refuses(long .. name, "names pastes", {}, MIDDLE)
        for _, text in ipairs { name, long .. name:gsub("#1", "#2") } do
          assert.is_truthy(prepare(text, {}, MIDDLE))
        end
        assert.is_truthy(prepare(long .. name, {}, NEWEST))
      end
    end)

    it("what cannot be typed, where the editor does not open", function()
      local view = changed(NEWEST, { has_editor = false })
      for _, text in ipairs { ("x"):rep(900), "a\n\n\nb", "a\tb", "!ls", "an ultraplan" } do
        refuses(text, "keybindings.json", {}, view)
        assert.is_truthy(prepare(text, {}, NEWEST))
      end
      assert.equal("hello", prepare("hello", {}, view))
      view = changed(view, { editor_problem = "ENOSPC: no space left" })
      refuses("!ls", "editor, which does not open: ENOSPC: no space left", {}, view)
    end)
  end)

  it("takes time in proportion for long runs of one character", function()
    for _, run in ipairs { " ", "\n", "\t", "<", "< " } do
      local text, started = "a" .. run:rep(200000) .. "b", os.clock()
      assert.equal(text, prepare(text .. "  \n"))
      assert.is_true(os.clock() - started < 10, run) -- of the processor's; it was minutes
    end
    assert.matches("pasted_content", select(2, prepare("a pasted_content <" .. (" "):rep(200000) .. "pasted_content>")))
  end)

  it("takes joiners, flags and direction marks where they belong", function()
    for _, text in ipairs { "👨‍👩‍👧", "می‌خواهم", "क्‍ष", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "שלום\u{200F}", "❤️" } do
      assert.equal(text, prepare(text))
    end
  end)

  describe("types", function()
    it("a short text in one paste, with a space that closes pop-ups", function()
      local steps = delivery.keystrokes("a\nb", NEWEST, {})
      assert.same({ { keys = "\27[200~a\nb \27[201~", holds = "a\nb" } }, steps)
    end)

    it("plain keys on the oldest, which swallows Enter after a paste", function()
      assert.same({ { keys = "hello ", holds = "hello" } }, delivery.keystrokes("hello", OLDEST, {}))
      local steps = delivery.keystrokes("a\nb", OLDEST, {})
      assert.equal("\27[200~a\nb \27[201~", steps[1].keys)
      assert.is_true(steps[1].rest_ms >= 110)
    end)

  end)

  it("has the editor take what is not short and plain, with the same space behind it", function()
    for _, text in ipairs { ("x"):rep(800), "a\n\n\nb", "a\tb", "!ls", "an Ultraplan", "/tmp/a.png",
      "see /x.J\\PeG" } do
      for _, view in ipairs { NEWEST, MIDDLE, OLDEST } do
        assert.same({ { editor = text .. " ", holds = text } }, delivery.keystrokes(text, view))
        local steps, why = delivery.keystrokes(text, changed(view, { has_editor = false }))
        assert.is_nil(steps)
        assert.matches("chat:externalEditor", why)
      end
    end
    assert.is_nil(delivery.keystrokes(("x"):rep(799), NEWEST)[1].editor)
  end)

  describe("clears", function()
    it("as many lines as there are, seen or not", function()
      local function presses(it_holds) return select(2, delivery.clear(it_holds):gsub("\21", "")) end
      assert.is_true(presses(composer(("x\n"):rep(50))) > 50)
      assert.is_true(presses(composer("x", { scrolled = true, hidden = 600 })) > 600)
      assert.is_true(presses(composer("x", { scrolled = true })) >= 1000)
    end)

    it("what is behind the cursor, too, with keys of one byte where nothing is below it", function()
      assert.is_nil(delivery.clear(composer("x")):find("\27", 1, true))
      assert.equal(3, select(2, delivery.clear(composer("x\ny\nz", { below = 2 })):gsub("\11", "")))
    end)

    it("a few lines behind the cursor where some may be out of sight", function()
      local scrolled = composer("x", { scrolled = true, hidden = 50 })
      assert.is_true(select(2, delivery.clear(scrolled):gsub("\11", "")) > 30)
    end)

    it("the shell mode with a key of its own", function()
      assert.equal("\127", delivery.clear(composer("", { shell = true })))
    end)
  end)

  describe("sees in the composer", function()
    local function holds(shown, text, changes) return delivery.holds(composer(shown, changes), text) end

    it("the whole text, however it is wrapped", function()
      assert.equal("whole", holds("hello", "hello"))
      assert.equal("whole", holds("hello\nworld", "hello world"))
      assert.equal("empty", holds("", "hello"))
    end)

    it("one whose first word was wrapped behind its indent", function()
      assert.equal("whole", holds("\n" .. ("x"):rep(130), "    " .. ("x"):rep(130)))
      assert.equal("other", holds(("x"):rep(130), "    " .. ("x"):rep(130)))
      assert.equal("whole", holds("      x", "\tx"))
    end)

    it("the beginning of one that is cut for its tabs, line by line, and of no other", function()
      local function is_held(shown, text, changes)
        local all = { columns = 120 }
        for name, value in pairs(changes or {}) do all[name] = value end
        return holds(shown, text, all) == "whole"
      end
      local row, cells = ("a\t"):rep(16) .. "e", ("a       "):rep(16)
      for _, text in ipairs { row, row .. "\nmore", row .. ("b"):rep(1000) } do
        assert.is_true(is_held(cells:sub(1, 117) .. "…", text))
      end
      assert.is_true(is_held("first\n" .. cells:sub(1, 109) .. "…", "first\n" .. row))
      assert.is_true(is_held("x\n\n" .. cells:sub(1, 115) .. "…", "x\t\n\n" .. row))
      assert.is_true(is_held(("x"):rep(89) .. "…\n", ("x"):rep(90) .. "\n" .. row))
      assert.is_true(is_held("x\n" .. ("y"):rep(17) .. "…", "x\n" .. ("y"):rep(20) .. "\n" .. row))
      assert.is_true(is_held(("日      "):rep(14) .. "日   …", ("日\t"):rep(16)))
      assert.is_true(is_held(cells:sub(17, 133) .. "…", "x\ny\n" .. row, { scrolled = true }))

      for _, shown in ipairs { cells:sub(1, 117), cells:sub(1, 40) .. "…", cells:sub(1, 118) .. "…",
        "b" .. cells:sub(2, 117) .. "…", "first" .. cells:sub(1, 112) .. "…", "\n" .. cells:sub(1, 117) .. "…",
        " " .. cells:sub(1, 116) .. "…", cells:sub(1, 117) .. "…\nmore", "a…", "…" } do
        assert.is_false(is_held(shown, row), shown)
      end
      assert.is_false(is_held("firsta" .. cells:sub(2, 112) .. "…", "first\n" .. row))
      assert.is_false(is_held(cells:sub(1, 117) .. "…", (row:gsub("\t", " "))))
      assert.is_false(is_held(cells:sub(1, 117) .. "…", ("a\n\t"):rep(16) .. "e"))
      assert.is_false(is_held("b" .. cells:sub(2, 117) .. "…", "x\n" .. row, { scrolled = true }))
      assert.is_false(is_held("a…", "x\n" .. row, { scrolled = true }))
      assert.equal("other", holds(cells:sub(1, 117) .. "…", row, { columns = 120, shell = true }))
    end)

    it("another one", function()
      assert.equal("other", holds("hell", "hello"))
      assert.equal("other", holds("hellohello", "hello"))
      assert.equal("other", holds("hello", " hello"))
      assert.equal("other", holds("hello", "hello", { shell = true }))
      assert.equal("other", holds("日", "日本語のテキスト"))
    end)

    it("a long one whose middle is left out", function()
      local text = ("first\n"):rep(100) .. ("x"):rep(200000) .. "\nlast one"
      local function shown(first, last) return first .. "[...Truncated text #1 +99 lines...]" .. last end
      assert.equal("whole", holds(shown("first\nfirst", "xx\nlast one"), text))
      assert.equal("whole", holds("fir[Pasted text #1 +99 lines]xx\nlast one", text))
      assert.equal("whole", holds("fir[Pasted text #12 +99 lines]xx\nlast one", text))
      assert.equal("whole", holds("first\nfirst[...Truncated text #12 +99 lines...]xx\nlast one", text))
      assert.equal("other", holds("fir[Pasted text #1 +99 lines]xx\nlast one", "first" .. ("x"):rep(900)))
      assert.equal("other", holds(shown("First", "xx\nlast one"), text))
      assert.equal("other", holds(shown("first", "xx\nlast on"), text))
      assert.equal("whole", holds(shown("rst\nfirst", "xx\nlast one"), text, { scrolled = true }))
      for _, name in ipairs { "#1 +99 lines...]", "lines...]", "text #12 +99 lines]" } do -- it wraps at its spaces
        assert.equal("whole", holds(name .. "xx\nlast one", text, { scrolled = true }))
        assert.equal("other", holds(name .. "xx\nlast on", text, { scrolled = true }))
        assert.equal("other", holds(name .. "xx\nlast one", text))
      end
    end)

    it("a text that only looks like a paste", function()
      assert.equal("whole", holds("[Pasted text #1 +3 lines]", "[Pasted text #1 +3 lines]"))
      assert.equal("other", holds("[Pasted text #1 +3 lines]", "hello"))
    end)

    it("the end of a long one", function()
      assert.equal("whole", holds("tail of it", "x\ny\ntail of it", { scrolled = true }))
      assert.equal("other", holds("tail of", "x\ny\ntail of it", { scrolled = true }))
      local long, started = ("word "):rep(1000000) .. "end", os.clock()
      for _ = 1, 100 do assert.equal("whole", holds("word word end", long, { scrolled = true })) end
      assert.is_true(os.clock() - started < 5) -- of the processor's
    end)
  end)

    it("refuses the mark of a paste, but where the version is known to have none", function()
      for _, text in ipairs { 'a <pasted_content id="x">', "</pasted_content>", "<Pasted-Content", "< !pasted_content>",
        "\u{FF1C}pasted_content>" } do
        for _, view in ipairs { NEWEST, { version = "2.1.290", modes = {}, has_editor = true },
          { modes = {}, has_editor = true } } do
          local prepared, why = prepare(text, nil, view)
          assert.is_nil(prepared, text)
          assert.matches("<pasted_content", why, 1, true)
        end
        assert.is_nil(prepare(text))
        assert.equal(text, prepare(text, nil, MIDDLE))
      end
      for _, text in ipairs { "a pasted_content block", "<pasted content>", "<pasted_contents>", "<b> pasted" } do
        assert.equal(text, prepare(text, nil, NEWEST))
      end
    end)

  describe("makes an argument of a text", function()
    it("as it is", function()
      assert.equal("a b", delivery.argument "a b")
      assert.equal("a\nb \\", delivery.argument "a\nb \\")
    end)

    it("but not of one that may be a flag or a command, or is longer than one may be", function()
      assert.is_nil(delivery.argument "doctor")
      assert.is_nil(delivery.argument " doctor\n")
      assert.is_nil(delivery.argument "--settings={} x")
      assert.is_nil(delivery.argument "-p")
      local longest = ("a "):rep(65535)
      assert.equal(longest .. "b", delivery.argument(longest .. "b"))
      assert.is_nil(delivery.argument(longest .. "bc"))
    end)
  end)

  describe("compares the receipt", function()
    it("with the text", function()
      assert.is_true(delivery.matches("a\nb", "a\nb"))
      assert.is_true(delivery.matches("a ", "a"))
      assert.is_false(delivery.matches("ab", "a"))
      assert.is_false(delivery.matches(" a", "a"))
    end)

  end)
end)
