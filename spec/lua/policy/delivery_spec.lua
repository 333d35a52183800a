local delivery = require "parley.policy.delivery"
local helper = require "spec.helper"

local NEWEST = { version = "2.1.330", status = { status = "idle" }, modes = { alternate_screen = true } }
local MIDDLE = { version = "2.1.197", status = { status = "idle" }, modes = { alternate_screen = false } }
local OLDEST = { version = "2.1.110", status = {}, modes = { alternate_screen = false } }

local function prepare(text, options, view) return delivery.prepare(text, options or {}, view) end

local function composer(text, changes)
  local all = { text = text, shell = false, scrolled = false, cursor = "end", below = 0, is_empty = text == "",
    hidden = 0 }
  for name, value in pairs(changes or {}) do all[name] = value end
  return all
end

---The pasted texts of the keys, joined.
local function pasted(keys)
  local texts = {}
  for text in keys:gmatch "\27%[200~(.-)\27%[201~" do table.insert(texts, text) end
  return table.concat(texts), #texts
end

describe("policy.delivery", function()
  describe("normalises", function()
    for _, case in ipairs {
      { "line breaks", "a\r\nb\rc", "a\nb\nc" }, { "tabs", "\ta\tb", "    a    b" },
      { "white space at the end", "a \n\t\r\n", "a" },
      { "wide white space at the end", "a\u{A0}\u{3000} \u{2003}", "a" },
      { "to composed characters", "e\u{301}", "é" }, { "nothing else", "  a\n\n b", "  a\n\n b" },
    } do
      it(case[1], function() assert.equal(case[3], prepare(case[2])) end)
    end
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
      for _, text in ipairs { "@README", "see @src/x.c", "a\n@~/x" } do
        refuses(text, "mentions a file", { mentions = "refuse" })
        assert.is_truthy(prepare(text, { mentions = "allow" }))
      end
      assert.is_truthy(prepare("me@example.org", { mentions = "refuse" }))
    end)

    it("long texts, when told to, where they would be wrapped", function()
      local text = ("word "):rep(30000) .. "end"
      refuses(text, "bytes", { long_text = "refuse" }, NEWEST)
      assert.is_truthy(prepare(text, { long_text = "refuse" }, MIDDLE))
      assert.is_truthy(prepare(text, { long_text = "typed" }, NEWEST))
    end)
  end)

  it("takes time in proportion for long runs of one character", function()
    for _, run in ipairs { " ", "\n", "\t", "<", "< " } do
      local text, started = "a" .. run:rep(200000) .. "b", os.clock()
      assert.equal(run == "\t" and text:gsub("\t", "    ") or text, prepare(text .. "  \n"))
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

    it("a long text in pieces that are not collapsed, the first of them alone, on the newest", function()
      local text = ("12345 "):rep(1000) .. ("line\n"):rep(50) .. "😀"
      local steps = delivery.keystrokes(text, NEWEST, {})
      assert.equal(2, #steps)
      assert.equal(1, select(2, pasted(steps[1].keys)))
      assert.equal((pasted(steps[1].keys)), steps[1].holds)
      local keys = steps[1].keys .. steps[2].keys
      assert.same({ text .. " ", text }, { (pasted(keys)), steps[2].holds })
      for piece in keys:gmatch "\27%[200~(.-)\27%[201~" do
        assert.is_true(utf8.len(piece) <= 800)
        assert.is_true(select(2, piece:gsub("\n", "")) <= 2)
      end
    end)

    it("first as much of a long text as can be seen", function()
      local steps = delivery.keystrokes(("\n"):rep(9) .. ("word "):rep(300) .. "end", NEWEST, {})
      assert.equal(2, #steps)
      assert.is_truthy(steps[1].holds:find("word", 1, true))
      steps = delivery.keystrokes(("\n"):rep(9) .. "end", NEWEST, {})
      assert.equal(1, #steps)
      assert.equal(("\n"):rep(9) .. "end ", (pasted(steps[1].keys)))
    end)

    it("a long text in one paste where that arrives as it is", function()
      local steps = delivery.keystrokes(("line\n"):rep(50) .. "end", MIDDLE, {})
      assert.same({ ("line\n"):rep(50) .. "end", 1 }, { pasted(steps[1].keys) })
    end)

    it("a text too long for pieces in one paste, unless told otherwise", function()
      local text = ("word "):rep(30000) .. "end"
      assert.equal(1, select(2, pasted(delivery.keystrokes(text, NEWEST, { long_text = "pasted" })[1].keys)))
      assert.is_true(select(2, pasted(delivery.keystrokes(text, NEWEST, { long_text = "typed" })[2].keys)) > 100)
    end)

    it("plain keys on the oldest, which swallows Enter after a paste", function()
      assert.same({ { keys = "hello ", holds = "hello" } }, delivery.keystrokes("hello", OLDEST, {}))
      local steps = delivery.keystrokes("a\nb", OLDEST, {})
      assert.equal("\27[200~a\nb \27[201~", steps[1].keys)
      assert.is_true(steps[1].rest_ms >= 110)
    end)

    it("a bang behind a space, which is deleted once it is seen", function()
      for _, view in ipairs { NEWEST, MIDDLE, OLDEST } do
        local steps = delivery.keystrokes("!ls", view, {})
        assert.equal(5, #steps)
        assert.equal("\27[200~ !\27[201~", steps[1].keys)
        assert.same({ "\27[H", "\27[3~", "\27[F" }, { steps[2].keys, steps[3].keys, steps[4].keys })
        assert.same({ "start", "start", "end" }, { steps[2].cursor, steps[3].cursor, steps[4].cursor })
        assert.equal("!ls", steps[5].holds)
      end
    end)
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
    end)

    it("another one", function()
      assert.equal("other", holds("hell", "hello"))
      assert.equal("other", holds("hellohello", "hello"))
      assert.equal("other", holds("hello", " hello"))
      assert.equal("other", holds("hello", "hello", { shell = true }))
      assert.equal("other", holds("日", "日本語のテキスト"))
    end)

    it("a collapsed paste by its lines", function()
      assert.equal("whole", holds("[Pasted text #1 +4 lines]", "a\nb\nc\nd\ne"))
      assert.equal("other", holds("[Pasted text #1 +4 lines]", "a\nb\nc\nd"))
      assert.equal("whole", holds("[Pasted text #2]", ("x"):rep(900)))
      assert.equal("other", holds("x[Pasted text #2]", ("y"):rep(900)))
    end)

    it("a text that only looks like a collapsed paste", function()
      assert.equal("whole", holds("[Pasted text #1 +3 lines]", "[Pasted text #1 +3 lines]"))
      assert.equal("other", holds("[Pasted text #1 +3 lines]", "hello"))
    end)

    it("the end of a long one", function()
      assert.equal("whole", holds("tail of it", "x\ny\ntail of it", { scrolled = true }))
      assert.equal("other", holds("tail of", "x\ny\ntail of it", { scrolled = true }))
    end)
  end)

  describe("of what the program looks for in pastes", function()
    local PATTERNS = { "ultraplan", "%.png", "%.jpg", "%.jpeg", "%.gif", "%.webp" }

    it("types no paste that holds it, on any version", function()
      local short = "Ultraplan: an ULTRAPLAN of\n/tmp/a.png and\n/tmp/b.P\\NG, c.jpeg c.jpg"
      local long = ("x.gif\ny.webp\nultraplan "):rep(200) .. "end"
      for _, view in ipairs { NEWEST, MIDDLE, OLDEST } do
        for _, text in ipairs { short, view == NEWEST and long or short } do
          local keys = {}
          for _, step in ipairs(delivery.keystrokes(text, view, {})) do table.insert(keys, step.keys) end
          local joined = table.concat(keys)
          assert.equal(text .. " ", (pasted(joined)))
          for paste in joined:gmatch "\27%[200~(.-)\27%[201~" do
            for _, pattern in ipairs(PATTERNS) do
              assert.is_nil(paste:gsub("\\", ""):lower():find(pattern), paste)
            end
          end
        end
      end
    end)

    it("refuses the mark of a paste, but where the version is known to have none", function()
      for _, text in ipairs { 'a <pasted_content id="x">', "</pasted_content>", "<Pasted-Content", "< !pasted_content>",
        "\u{FF1C}pasted_content>" } do
        for _, view in ipairs { NEWEST, { version = "2.1.290", modes = {} }, { modes = {} } } do
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

    describe("and a picture's path in a text that is pasted as a whole,", function()
      local folder

      before_each(function() folder = helper.temporary_folder() end)
      after_each(helper.remove_folders)

      local function long(text, size) return ("word\n"):rep(size or 3) .. text .. "\nend" end

      it("refuses it where the program would attach it", function()
        local path = folder .. "/shot one.PNG"
        helper.write(path, "picture")
        local lines = { path, "  " .. path .. " ", '"' .. path .. '"', "'" .. path .. "'", (path:gsub(" ", "\\ ")),
          "/tmp/x.txt " .. path }
        for _, line in ipairs(lines) do
          for _, case in ipairs { { long(line), MIDDLE }, { long(line, 25000), NEWEST } } do
            local prepared, why = prepare(case[1], nil, case[2])
            assert.is_nil(prepared, line)
            assert.matches(path, why, 1, true)
          end
          assert.is_truthy(prepare(long(line), nil, NEWEST)) -- it goes in pieces
        end
        assert.is_nil(prepare(long("look at " .. path), nil, MIDDLE))
        assert.is_truthy(prepare(long("look at " .. path, 25000), nil, NEWEST))
      end)

      it("takes what is no picture", function()
        helper.write(folder .. "/note.txt", "text")
        helper.write(folder .. "/empty.png", "")
        local paths = { "/note.txt", "/empty.png", "/missing.png" }
        for _, name in ipairs(paths) do assert.is_truthy(prepare(long(folder .. name), nil, MIDDLE)) end
        assert.is_truthy(prepare(long "shot.png", nil, MIDDLE))
      end)
    end)
  end)

  describe("compares the receipt", function()
    it("with the text", function()
      assert.is_true(delivery.matches("a\nb", "a\nb"))
      assert.is_true(delivery.matches("a ", "a"))
      assert.is_false(delivery.matches("ab", "a"))
      assert.is_false(delivery.matches(" a", "a"))
    end)

    it("inside the mark of a paste, where the text was to go in one", function()
      local long = ("word "):rep(30000) .. "end"
      local function marked(text)
        return ('\n\n<pasted_content id="cf34">\n%s\n</pasted_content id="cf34">\n'):format(text)
      end
      assert.is_true(delivery.matches(marked(long), long, { long_text = "pasted" }))
      assert.is_false(delivery.matches(marked(long), long .. "x", { long_text = "pasted" }))
      assert.is_false(delivery.matches(marked(long), long, { long_text = "typed" }))
      assert.is_false(delivery.matches(marked "TEXT", "TEXT", { long_text = "pasted" }))
      assert.is_false(delivery.matches(marked "TEXT", "TEXT"))
    end)
  end)
end)
