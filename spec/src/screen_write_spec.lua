--- What a screen shows is a matter of the bytes, never of how they were cut into reads.
local core = require "parley.core"

local json = core.json

--- All that can be seen of a screen.
local function look(screen)
  local view = { text = screen:text(), title = screen:title(), replies = screen:replies(), modes = screen:modes(),
    cursor = { screen:cursor() }, scrolled = screen:scrolled(), attributes = {} }
  for row = 1, (screen:size()) do view.attributes[row] = screen:attributes(row) end
  return assert(json.encode(view, { sort_keys = true, indent = 1 }))
end

--- What a screen shows that was fed pieces whose lengths `next_length` gives.
local function fed(rows, columns, bytes, next_length)
  local screen <close> = core.screen.new(rows, columns)
  local at = 1
  while at <= #bytes do
    local length = next_length()
    screen:feed(bytes:sub(at, at + length - 1))
    at = at + length
  end
  return look(screen)
end

--- Feeds the bytes whole, byte by byte, and in two pieces cut at every place.
---@return parley.Screen screen  that got them whole
local function feed_in_every_way(rows, columns, bytes)
  local screen = core.screen.new(rows, columns)
  screen:feed(bytes)
  local whole = fed(rows, columns, bytes, function() return #bytes end)
  assert.equal(whole, fed(rows, columns, bytes, function() return 1 end))
  for length = 1, #bytes - 1 do
    local cut = length
    assert.equal(whole, fed(rows, columns, bytes, function()
      local next_length = cut
      cut = #bytes
      return next_length
    end))
  end
  return screen
end

describe("what a screen shows wherever reads are cut", function()
  --- Of three rows of ten columns.
  local cases = {
    ["a mark in the last column"] = { "abcdefghie\u{301}", "abcdefghi\u{e9}" },
    ["a mark in the last column, and text behind it"] = { "abcdefghie\u{301}x", "abcdefghi\u{e9}\nx" },
    ["marks of a wide character in the last columns"] = { "abcdefgh漢\u{301}\u{323}x", "abcdefgh漢\u{323}\u{301}\nx" },
    ["a mark behind a coloured character in the last column"] = { "abcdefghi\27[1me\27[m\u{301}", "abcdefghi\u{e9}" },
    ["a mark in the last column without wrapping"] = { "\27[?7labcdefghixe\u{301}", "abcdefghi\u{e9}" },
    ["an emoji sequence in the last columns"] =
      { "abcdefgh\u{1f469}\u{200d}\u{1f4bb}!", "abcdefgh\u{1f469}\u{200d}\u{1f4bb}\n!" },
    ["a mark in the last column, in a set of line drawing"] = { "\27(0aaaaaaaaaq\u{301}", "▒▒▒▒▒▒▒▒▒─\u{301}" },
    ["a mark in the last column, in the ASCII set"] = { "\27(Babcdefghie\u{301}", "abcdefghi\u{e9}" },
    ["a voicing mark in the last columns, which libvterm cannot hold"] = { "abcdefghか\u{3099}x", "abcdefghか\nx" },
    ["line drawing behind a character beyond ASCII"] = { "\27(0é┤qqq\27(B!", "é┤───!" },
    ["a mark that nothing stands before"] = { "\u{301}a\27[2;3H\u{301}b\r\n\u{301}", "a\n  b" },
    ["a mark behind a line feed on the last row"] = { "\n\ne\n\u{301}x", "\ne\n x" },
    ["more marks than a cell has room for"] = { "e" .. ("\u{323}"):rep(40) .. "x", "e" .. ("\u{323}"):rep(5) .. "x" },
    ["line drawing over half of a wide character"] = { "漢字\r─", "─ 字" },
  }
  for name, case in pairs(cases) do
    it("is the same for " .. name, function()
      local screen <close> = feed_in_every_way(3, 10, case[1])
      assert.equal(core.text.nfc(case[2]), core.text.nfc(screen:text()))
    end)
  end

  local parts = {
    "\27[", "\27]", "\27P", "\27", "\7", "\27\\", "漢", "か\u{3099}", "\u{200d}", "\u{1f4bb}", "A", " ", "\n", "\r", "\t",
    "?", ";", "1", "2", "9", "24", "99", "69h", "6h", "4h", "48", "m", "H", "J", "K", "L", "M", "P", "@", "X", "S", "T",
    "r", "s", "b", "n", "\27#6", "\0277", "\0278", "\27M", "\27c", "\14", "\15", "'}", "'~", "\27[?69h", "\27[?6h",
    "\27[5;3r", "\27[5;9s", "\27[?7l", "\27[?7h", "\27[99C", "\xff", "\xe3", "abcdefghi", "e", "\u{301}", "\8", "qqq",
    "\u{300}\u{301}", "\u{fe0f}", "\u{1f3fd}", "\u{1f469}", "\u{e0101}", "\27(0", "\27(B", "é", "─", "\27N", "\27O",
    "\27[?1049h", "\27[?1049l", "\27[1m", "\27[m", "\27[2;3H", "\r\n", "\27]2;tü\7", "\u{302a}", "\27[4h", "\27[4l",
    "\27[?2004h", "\27[6n", "\27[?25l", "\24",
  }

  it("is the same for random output in random pieces (seed 20261125)", function()
    math.randomseed(20261125)
    for _ = 1, 3000 do
      local rows, columns, list = math.random(1, 6), math.random(2, 12), {}
      for i = 1, math.random(1, 40) do list[i] = parts[math.random(#parts)] end
      local bytes = table.concat(list)
      local whole = fed(rows, columns, bytes, function() return #bytes end)
      local most = math.random(1, 9)
      local cut = fed(rows, columns, bytes, function() return math.random(most) end)
      assert(whole == cut, ("%d rows, %d columns: %q"):format(rows, columns, bytes))
    end
  end)
end)

describe("the primary screen, when the alternate one is left,", function()
  it("has its text back, however it was composed", function()
    local rows = {
      "plain, and é漢か\u{3099} e\u{301}",
      "x\u{200d}", -- the joiner joins nothing, nor does it when the rows are put again
      "\u{1f4bb} \u{1f469}\u{200d}\u{1f4bb}",
      "\u{1f3fd} tone",
      "─────────────────e\u{301}",
      "0123456789012345678901234567890123456789"
    }
    local screen <close> = core.screen.new(7, 20)
    screen:feed(table.concat(rows, "\r\n"))
    local before = look(screen)
    screen:feed "\27[?1049h\27[Hother\u{1f469}\u{200d}\u{1f52c}\27(0\27[4h\27[?6h\27[2;4r\27[?1049l"
    assert.equal(before, look(screen))
  end)

  it("has no character in it that was never there", function()
    -- Each cell was written apart; side by side they would be one emoji, and the table of those is full of others.
    local screen <close> = feed_in_every_way(3, 20, "a\u{200d}\27[1;2H\u{1f469}\27[1;4Hb\27[2;1H\u{1f3fd}\27[?1049h"
      .. "\u{1f3fe}\u{1f469}\u{200d}\u{1f680}\27[?1049l\27[3;1H\u{1f468}\u{200d}\u{1f692}")
    assert.equal("a\u{200d}\u{1f469}b\n\u{1f3fd}\n\u{1f468}\u{200d}\u{1f692}", screen:text())
    assert.is_nil(screen:text():find("\0", 1, true))
  end)

  it("reaches as far as the screen does by then", function()
    local screen <close> = core.screen.new(4, 10)
    screen:feed "0123456789\r\n01234漢字\u{301}x\r\ne\u{301}\r\nlast\27[?1049h"
    screen:resize(3, 8)
    screen:feed "\27[?1049l"
    assert.equal("01234567\n01234漢\ne\u{301}", screen:text())
    assert.equal(0, screen:scrolled())
  end)
end)

describe("a screen", function()
  it("shows no selector for another's emoji when there are too many to remember", function()
    local screen <close> = core.screen.new(3, 20)
    for code = 0x1f300, 0x1f300 + 300 do screen:feed("\r\u{1f469}\u{200d}" .. utf8.char(code)) end
    screen:feed "\27[2J\27[Hx\u{e0101}\u{e0102}y"
    assert.equal("xy", screen:text())
  end)

  it("takes marks without end in time and memory that do not grow with them", function()
    local screen <close> = core.screen.new(3, 20)
    local memory, started = screen:memory(), os.clock()
    screen:feed("e" .. ("\u{301}\27[m"):rep(200000) .. ("\u{301}"):rep(1000000))
    assert.equal("e" .. ("\u{301}"):rep(5), screen:text())
    assert.is_true(os.clock() - started < 10)
    assert.is_true(screen:memory() <= memory + 1000)
  end)

  it("writes lines all at once as it does one by one", function()
    local texts = {
      ("─"):rep(20), ("─"):rep(21) .. "x", "a" .. ("│"):rep(18) .. "b", ("═"):rep(19) .. "\u{301}",
      ("─"):rep(20) .. "\u{301}!", "▐▛███▜▌", ("─"):rep(3) .. "漢" .. ("─"):rep(15) .. "漢",
      "\27[4h" .. ("─"):rep(5) .. "\27[1G──", ("▀▄"):rep(300),
    }
    for _, text in ipairs(texts) do
      local whole <close> = core.screen.new(5, 20)
      local pieces <close> = core.screen.new(5, 20)
      whole:feed(text)
      for _, code in utf8.codes(text) do pieces:feed(utf8.char(code)) end
      assert.same(pieces:rows(), whole:rows())
      assert.same({ pieces:cursor() }, { whole:cursor() })
    end
  end)
end)
