local core = require("parley.core")

describe("screen", function()
  local screen

  before_each(function()
    screen = core.screen.new(5, 20)
  end)

  after_each(function()
    screen:close()
  end)

  describe("text", function()
    it("keeps rows apart and cuts blanks at the end", function()
      screen:feed("one  \r\n\r\n  three   ")
      assert.same({ "one", "", "  three", "", "" }, screen:rows())
      assert.equal("one\n\n  three", screen:text())
      assert.equal("  three", screen:row(3))
    end)

    it("keeps a no-break space at the end", function()
      screen:feed("> \u{a0}  ")
      assert.equal("> \u{a0}", screen:row(1))
    end)

    it("is empty at first", function()
      assert.equal("", screen:text())
    end)

    it("reads again what has changed, whatever changed it", function()
      local changes = {
        "one\r\ntwo\r\nthree\r\nfour\r\nfive", "\27[2;2HX", "\27[3;1H\27[K", "\27[5;1H\r\nsix", "\27[2;1H\27[M",
        "\27[2;1H\27[L", "\27[2;4r\27[4;1H\nin", "\27M\27[r", "\27[1;1H漢字", "\27[1;2HA",
        "\27[3;1He\27[0m\u{301}", "\27[1;1H\27[2P", "\27[1;1H\27[2@", "\27[2X", "\27[?1049h", "other", "\27[?1049l",
        "\27[4;19Hab\u{301}", "\27#8", "\27[?5h", "\27[2J", "\27c",
        "once more", "\27[1;5H\27[1J",
      }
      for _, change in ipairs(changes) do
        screen:feed(change)
        local rows = screen:rows()
        for i = 1, 5 do assert.equal(screen:row(i), rows[i], ("%q, row %d"):format(change, i)) end
        rows[1] = "the caller's own"
      end
      screen:feed "\27[1;1Hwide enough"
      screen:rows()
      screen:resize(6, 8)
      assert.same({ "wide eno", "", "", "", "", "" }, screen:rows())
    end)

    it("gives wide characters two columns", function()
      screen:feed("漢字x")
      assert.equal("漢字x", screen:row(1))
      assert.equal(6, select(2, screen:cursor()))
    end)

    it("shows a blank where a character replaced half of a wide one", function()
      screen:feed("漢字\rA")
      assert.equal("A 字", screen:row(1))
    end)

    it("joins a combining mark with the character before it", function()
      screen:feed("e\u{301}!")
      assert.equal("e\u{301}!", screen:row(1))
      assert.equal(3, select(2, screen:cursor()))
    end)

    it("joins a Japanese voicing mark with its character", function()
      screen:feed("か\u{3099}!")
      assert.equal("か\u{3099}!", screen:row(1))
      assert.equal(4, select(2, screen:cursor()))
    end)

    it("gives an emoji sequence two columns, however long", function()
      local family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}"
      screen:feed(family .. "\u{1f44d}\u{1f3fd}!")
      assert.equal(family .. "\u{1f44d}\u{1f3fd}!", screen:row(1))
      assert.equal(6, select(2, screen:cursor()))
    end)

    it("keeps a joiner within a word", function()
      screen:feed("\u{915}\u{94d}\u{200d}\u{937}")
      assert.equal("\u{915}\u{94d}\u{200d}\u{937}", screen:row(1))
    end)

    it("does not mind where the bytes are cut", function()
      local bytes = "a漢\27[1mé\27[0m\27]2;t\27\\\u{1f469}\u{200d}\u{1f4bb}\27[?2004h"
      for byte in bytes:gmatch(".") do
        screen:feed(byte)
      end
      assert.equal("a漢é\u{1f469}\u{200d}\u{1f4bb}", screen:row(1))
      assert.equal("t", screen:title())
      assert.is_true(screen:modes().bracketed_paste)
    end)

    it("shows U+FFFD for what is not UTF-8", function()
      screen:feed("a\xffb\xe6\xbc!\xed\xa0\x80")
      assert.equal("a\u{fffd}b\u{fffd}!\u{fffd}", screen:row(1))
    end)

    it("is read by rows that exist", function()
      assert.error_matches(function()
        screen:row(6)
      end, "rows 1 to 5")
      assert.error_matches(function()
        screen:attributes(0)
      end, "rows 1 to 5")
    end)
  end)

  describe("cursor", function()
    it("counts from 1 and can be hidden", function()
      assert.same({ 1, 1, true }, { screen:cursor() })
      screen:feed("\27[3;7H\27[?25l")
      assert.same({ 3, 7, false }, { screen:cursor() })
    end)
  end)

  describe("replies", function()
    it("answer once what the program asks", function()
      screen:feed("\27[2;3H\27[6n\27[5n\27[c")
      assert.equal("\27[2;3R\27[0n\27[?1;2c", screen:replies())
      assert.equal("", screen:replies())
    end)

    it("tell a setting, or that there is none such", function()
      screen:feed("\27P$q q\27\\\27[1m\27P$qm\7\27P$qxyz\7\27P$q\27\\")
      local no = "\27P0$r\27\\"
      assert.equal("\27P1$r1 q\27\\\27P1$r1m\27\\" .. no .. no, screen:replies())
    end)

    it("tell the state of a mode", function()
      screen:feed("\27[?2004h\27[?2004$p\27[?2026$p")
      assert.equal("\27[?2004;1$y\27[?2026;0$y", screen:replies())
    end)

    it("survive a look at the modes", function()
      screen:feed("\27[?2004h\27[5n")
      screen:modes()
      assert.equal("\27[0n", screen:replies())
    end)

    it("are none for questions that this terminal does not know", function()
      screen:feed("\27[>0q\27[?2031h\27[?u\27[>1u\27[<u\27[?1004h\27]11;?\7\27P+q544e\27\\\27_Gi=1\27\\ok")
      assert.equal("", screen:replies())
      assert.equal("ok", screen:text())
    end)

    it("do not grow without end", function()
      screen:feed(("\27[5n"):rep(100000))
      assert.is_true(#screen:replies() <= 65536)
    end)
  end)

  describe("modes", function()
    it("are off at first, the cursor visible", function()
      assert.same(
        { bracketed_paste = false, alternate_screen = false, cursor_visible = true, mouse = "none" },
        screen:modes()
      )
    end)

    it("follow the program", function()
      screen:feed("\27[?2004h\27[?25l\27[?1003h\27[?1049h")
      assert.same(
        { bracketed_paste = true, alternate_screen = true, cursor_visible = false, mouse = "move" },
        screen:modes()
      )
      screen:feed("\27[?2004l\27[?25h\27[?1003l\27[?1049l")
      assert.same(
        { bracketed_paste = false, alternate_screen = false, cursor_visible = true, mouse = "none" },
        screen:modes()
      )
    end)

    it("are all seen when one sequence sets several", function()
      screen:feed("\27[?25;2004;1002h\27[?1049;25l")
      assert.same(
        { bracketed_paste = true, alternate_screen = false, cursor_visible = false, mouse = "drag" },
        screen:modes()
      )
    end)

    it("end with a reset", function()
      screen:feed("\27[?2004h\27[?1000h\27[?1049h\27[?25lx\27c")
      assert.same(
        { bracketed_paste = false, alternate_screen = false, cursor_visible = true, mouse = "none" },
        screen:modes()
      )
      assert.equal("", screen:text())
    end)
  end)

  describe("the alternate screen", function()
    it("hides the primary one, and gives it back with its cursor", function()
      screen:feed("one\r\n\u{1f469}\u{200d}\u{1f4bb}漢\27[?1049h\27[Hother")
      assert.equal("other", screen:text())
      screen:feed("\27[5;1Hx\n\n\27[?1049l")
      assert.equal("one\n\u{1f469}\u{200d}\u{1f4bb}漢", screen:text())
      assert.same({ 2, 5, true }, { screen:cursor() })
      assert.equal(0, screen:scrolled())
    end)

    it("goes by its older names too", function()
      for _, mode in ipairs({ "47", "1047" }) do
        screen:feed("one\27[?" .. mode .. "h")
        assert.is_true(screen:modes().alternate_screen)
        screen:feed("\27[?" .. mode .. "l\27[2J\27[H")
        assert.is_false(screen:modes().alternate_screen)
      end
    end)
  end)

  describe("title", function()
    it("is what was set last", function()
      assert.equal("", screen:title())
      screen:feed("\27]0;first\7\27]2;漢 second\27\\")
      assert.equal("漢 second", screen:title())
    end)
  end)

  describe("attributes", function()
    it("tell dim, reverse and coloured cells from plain ones", function()
      screen:feed("ab \27[2mdim\27[22m\27[7m \27[27m\27[1;3;4;9mall\27[m")
      assert.same({
        { from = 1, to = 3, text = "ab " },
        { from = 4, to = 6, text = "dim", dim = true },
        { from = 7, to = 7, text = " ", reverse = true },
        { from = 8, to = 10, text = "all", bold = true, italic = true, underline = true, strike = true },
      }, screen:attributes(1))
    end)

    it("name colours by index and by value", function()
      screen:feed("\27[31ma\27[38;5;246mb\27[38;2;2;22;255;48;5;7mc\27[0;2md")
      assert.same({
        { from = 1, to = 1, text = "a", foreground = 1 },
        { from = 2, to = 2, text = "b", foreground = 246 },
        { from = 3, to = 3, text = "c", foreground = "#0216ff", background = 7 },
        { from = 4, to = 4, text = "d", dim = true },
      }, screen:attributes(1))
    end)

    it("do not take a colour's numbers for styles", function()
      screen:feed("\27[38;5;2ma\27[48;2;2;2;2mb\27[4:2mc")
      for _, run in ipairs(screen:attributes(1)) do
        assert.is_nil(run.dim)
      end
    end)

    it("count the columns of wide characters", function()
      screen:feed("漢\27[1m字\27[mx   ")
      assert.same({
        { from = 1, to = 2, text = "漢" },
        { from = 3, to = 4, text = "字", bold = true },
        { from = 5, to = 5, text = "x" },
      }, screen:attributes(1))
    end)

    it("show a cursor that the program draws at the end of a row", function()
      screen:feed("> \27[7m \27[27m   ")
      local cursor = { from = 3, to = 3, text = " ", reverse = true }
      assert.same({ { from = 1, to = 2, text = "> " }, cursor }, screen:attributes(1))
    end)

    it("are none for an empty row", function()
      assert.same({}, screen:attributes(2))
    end)
  end)

  describe("scrolled", function()
    it("counts the lines that left at the top", function()
      screen:feed(("line\r\n"):rep(7))
      assert.equal(3, screen:scrolled())
    end)

    it("does not count the alternate screen's", function()
      screen:feed("\27[?1049h" .. ("line\r\n"):rep(7))
      assert.equal(0, screen:scrolled())
    end)
  end)

  describe("generation", function()
    local function is_changed_by(action)
      local before = screen:generation()
      action()
      return screen:generation() ~= before
    end
    local function feeding(bytes)
      return is_changed_by(function()
        screen:feed(bytes)
      end)
    end

    it("changes with cells, cursor, modes, title and size", function()
      local changes = { "x", "\27[2K", "\27[H", "\27[?25l", "\27[?2004h", "\27[?1000h", "\27[?1049h", "\27]2;t\7" }
      for _, bytes in ipairs(changes) do
        assert.is_true(feeding(bytes), ("%q"):format(bytes))
      end
      assert.is_true(is_changed_by(function()
        screen:resize(6, 20)
      end))
    end)

    it("stays when nothing to be seen changes", function()
      for _, bytes in ipairs({ "", "\27[5n", "\27[1m", "\27[?2026h", "\27[" }) do
        assert.is_false(feeding(bytes), ("%q"):format(bytes))
      end
      assert.is_false(is_changed_by(function()
        screen:resize(5, 20)
        screen:rows()
        screen:modes()
      end))
    end)
  end)

  describe("resize", function()
    it("keeps the text that fits, and the cursor inside", function()
      screen:feed("one\r\ntwo\27[5;20H")
      screen:resize(3, 10)
      assert.same({ 3, 10 }, { screen:size() })
      local row, column = screen:cursor()
      assert.is_true(row <= 3 and column <= 10)
      screen:resize(5, 20)
      assert.same(5, #screen:rows())
    end)

    it("brings back inside a cursor that scrolling or restoring leaves outside", function()
      screen:feed("\27[5;20H\0277\27[5;1Hbottom\27[H")
      screen:resize(2, 10)
      assert.same({ 1, 1, true }, { screen:cursor() })
      screen:feed("\0278")
      assert.same({ 2, 10, true }, { screen:cursor() })
      screen:feed("\27[?1049h\27[2;10H")
      screen:resize(1, 5)
      screen:feed("\27[?1049l")
      assert.same({ 1, 5, true }, { screen:cursor() })
    end)

    it("forgets margins that lie outside", function()
      screen:feed("\27[4;5r")
      screen:resize(2, 20)
      screen:feed("\27[2;1H\n\nx")
      assert.equal("x", screen:row(2))
    end)
  end)

  describe("hostile output", function()
    it("does no harm", function()
      local bytes = {
        "\27[9b", -- libvterm hangs
        "\27[1;18H漢\27[9b", -- libvterm crashes
        "か" .. ("\u{3099}"):rep(100),
        "\27]2;" .. ("x"):rep(2 ^ 24) .. "\7",
        "\27[" .. ("1;"):rep(40) .. "m",
        "\r\u{85}\27[K",
        "\27[2147483647B\27[99999999999999999999C\27[2147483647@",
        "\27[" .. (" "):rep(100000) .. "m",
        "\27(]x\27(Px\27#6漢",
      }
      for _, sequence in ipairs(bytes) do
        screen:feed(sequence)
        screen:feed("\27c\27[Hstill here")
        assert.equal("still here", screen:text())
      end
    end)

    it("is passed over, and the text after it is not", function()
      screen:feed("\27]2;" .. ("x"):rep(5000) .. "\7a\27[" .. ("1;"):rep(99) .. "mb\27(]c\27[1<md")
      assert.equal("abcd", screen:text())
      assert.equal("", screen:title())
    end)

    it("in strings of unknown kinds, or of none, is passed over", function()
      screen:feed("a\27P\7b\27P1;2\27\\c\27]\7d\27]99999999999;x\7e\27]52;c;eA==\7f\27]02;t\7")
      assert.equal("abcdef", screen:text())
      assert.equal("", screen:title())
      assert.equal("", screen:replies())
    end)

    it("does not reset modes behind the host's back", function()
      screen:feed("\27[?2004h\27[?1000h\27[?25l\27[!p")
      assert.same(
        { bracketed_paste = true, alternate_screen = false, cursor_visible = false, mouse = "click" },
        screen:modes()
      )
    end)

    it("in random order does no harm either", function()
      local parts = {
        "\27[", "\27]", "\27P", "\27", "\7", "\27\\", "漢", "か\u{3099}", "\u{200d}", "\u{1f4bb}", "A", " ", "\n", "\r",
        "\t", "?", ";", "1", "2", "9", "24", "99", "69h", "6h", "4h", "1049h", "1049l", "48", "m", "H", "J", "K",
        "L", "M", "P", "@", "X", "S", "T", "r", "s", "b", "n", "\27#6", "\0277", "\0278", "\27M", "\27c", "\14",
        "'}", "'~", "\27[?69h", "\27[?6h", "\27[5;3r", "\27[5;9s", "\27[?7l", "\27[99C", "\xff", "\xe3",
      }
      math.randomseed(1)
      for _ = 1, 300 do
        local small <close> = core.screen.new(math.random(1, 12), math.random(2, 30))
        for _ = 1, 6 do
          local bytes = {}
          for i = 1, 40 do
            bytes[i] = parts[math.random(#parts)]
          end
          small:feed(table.concat(bytes))
          local seen = small:rows()
          for row = 1, #seen do assert.equal(small:row(row), seen[row]) end
          small:resize(math.random(1, 12), math.random(2, 30))
          local rows, columns = small:size()
          local row, column = small:cursor()
          assert.is_true(row >= 1 and row <= rows and column >= 1 and column <= columns)
          small:text()
          small:attributes(row)
        end
      end
    end)
  end)

  describe("memory", function()
    it("is under 300 kB for 40 rows of 120 columns, the alternate screen included", function()
      local large <close> = core.screen.new(40, 120)
      large:feed(("x"):rep(4800) .. "\27[?1049h" .. ("漢"):rep(2400))
      assert.is_true(large:memory() < 300000)
    end)

    it("does not grow with what passes by", function()
      screen:feed("\27]2;title\7" .. ("line\r\n"):rep(10))
      local before = screen:memory()
      screen:feed(("line \27[1mbold\27[m 漢字\r\n"):rep(10000))
      assert.equal(before, screen:memory())
    end)
  end)

  describe("closed", function()
    it("may be closed again, and refuses anything else", function()
      screen:close()
      screen:close()
      assert.equal("parley.screen (closed)", tostring(screen))
      for name, method in pairs(getmetatable(screen).__index) do
        if name ~= "close" then
          assert.error_matches(function()
            method(screen, 1, 1)
          end, "closed")
        end
      end
    end)
  end)

  it("names itself", function()
    assert.equal("parley.screen (5 rows, 20 columns)", tostring(screen))
  end)

  it("has a size within limits", function()
    for _, size in ipairs({ { 0, 80 }, { 24, 1 }, { 1001, 80 }, { 24, 1001 }, { 2.5, 80 }, { "x", 80 } }) do
      assert.has_error(function()
        core.screen.new(size[1], size[2])
      end)
      assert.has_error(function()
        screen:resize(size[1], size[2])
      end)
    end
  end)
end)
