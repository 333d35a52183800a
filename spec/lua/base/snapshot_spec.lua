local core = require "parley.core"
local snapshot = require "parley.base.snapshot"

describe("a snapshot", function()
  local screen

  before_each(function() screen = core.screen.new(6, 30) end)
  after_each(function() screen:close() end)

  --- What a terminal shows that sees the snapshot and what follows; it must be what the screen itself shows.
  local function check(rest)
    local copy <close> = core.screen.new(6, 30)
    copy:feed(snapshot.of(screen))
    if rest then
      copy:feed(rest)
      screen:feed(rest)
    end
    assert.same(screen:rows(), copy:rows())
    for row = 1, 6 do assert.same(screen:attributes(row), copy:attributes(row)) end
    assert.same({ screen:cursor() }, { copy:cursor() })
    assert.same(screen:modes(), copy:modes())
    assert.same(screen:pen(), copy:pen())
    assert.equal(screen:margins(), copy:margins())
    assert.equal(screen:title(), copy:title())
    assert.equal(screen:unfinished(), copy:unfinished())
  end

  it("of an empty screen is an empty screen", function() check() end)

  it("has the rows, where they stand, and the cursor", function()
    screen:feed "one\r\n\r\n   three  漢字 e\u{301} \u{1f469}\u{200d}\u{1f680}x\27[2;7H"
    check "more"
  end)

  it("has what characters look like", function()
    screen:feed "\27[1;3;4mbold\27[0;2;9mdim\27[0;7m rev \27[m\r\n\27[31;44mred\27[38;5;208mpalette"
    screen:feed "\27[48;2;1;2;3;38;2;255;254;253mtrue\27[m\r\n\27[41m   \27[m"
    check()
  end)

  it("has a row that is full to its edge", function()
    screen:feed(("x"):rep(30) .. "\r\n" .. ("─"):rep(30) .. "\r\nlast")
    check "\r\n"
  end)

  it("goes on with the style that the program has set", function()
    screen:feed "\27[1;38;2;9;8;7;44mhalf"
    check " a word"
  end)

  it("has cursor, modes and title", function()
    screen:feed "\27[?25l\27[?2004h\27[?1002h\27]0;a title\7"
    check()
  end)

  it("has margins, within which the screen scrolls on", function()
    screen:feed "a\r\nb\r\nc\r\nd\r\ne\r\nf\27[2;4r\27[4;1H"
    check "\nnew\27[r\27[1;1Htop"
    assert.equal("", screen:margins())
  end)

  it("has the alternate screen", function()
    screen:feed "primary\27[?1049h\27[Halternate"
    check " goes on"
  end)

  for what, text in pairs {
    ["between a character and its marks"] =
      "cafe\u{301}\u{323} \27[31me\27[m\u{301} 漢\u{3099} \u{302}x\27[2;3He\u{301}",
    ["at the end of a full row"] = ("x"):rep(29) .. "e\u{301}next \r\n" .. ("y"):rep(30) .. "\27[31mred",
    ["behind a wide character that fills a row"] = ("x"):rep(28) .. "漢\u{3099}字 and so on",
    ["on the last row"] = "\27[6;1H" .. ("x"):rep(28) .. "漢字\r\n" .. ("x"):rep(30) .. "e\u{301}",
  } do
    it("may be taken " .. what, function()
      for cut = 0, #text do
        screen:close()
        screen = core.screen.new(6, 30)
        screen:feed(text:sub(1, cut))
        check(text:sub(cut + 1))
      end
    end)
  end

  it("may be taken anywhere in what the program writes", function()
    local text = "ab\27[31mrot\27[1mfett\27[m \27]0;name\27\\漢\u{1f600}字\27[2;3Hdort\27[?2004h\27[?25l"
    for cut = 0, #text do
      screen:close()
      screen = core.screen.new(6, 30)
      screen:feed(text:sub(1, cut))
      check(text:sub(cut + 1))
    end
  end)
end)
