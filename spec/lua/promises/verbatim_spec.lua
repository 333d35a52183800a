-- Promise 2 of the README, on the stand-in, in a world with a clock of its own. Each spec fails when the
-- promise is broken.
local clock = require "parley.base.clock"
local helper = require "spec.helper"
local promise = require "spec.promise"

local failure_of, say, on, each = helper.failure_of, helper.say, promise.on, promise.each

describe("promise 2, verbatim:", function()
  promise.check_leaks()

  each("what arrives is what was sent, or nothing is", {}, function(live, kit)
    local expected = {}
    for _, text in ipairs { "hello", "  two\n\nlines", "tail \\", "a @", "! ls", "!a\nb\nc\nd", "# x", "naïve 日本 😀",
      ("y"):rep(801), ("line\n"):rep(30) .. "end", ("é "):rep(2000) .. "end",
      ("0123456789"):rep(1000), "[Pasted text #1 +3 lines]",
      "\tif x:\n\t\ty\t1", ("row of it\n"):rep(200) .. "end",
      ("word "):rep(20000) .. "end", ("שלום "):rep(300) .. "." } do
      assert.equal("success", say(live, text).verdict, text:sub(1, 20))
      table.insert(expected, text)
    end
    for text, arrives in pairs { ["a\r\nb"] = "a\nb", ["e\u{301} \n"] = "é" } do
      say(live, text)
      table.insert(expected, arrives)
    end
    for _, text in ipairs { "a\27[201~b", "a\0b", "\xFF", " ", "a\u{200B}b" } do
      failure_of("ValueError", live.send, live, text)
    end
    assert.same(expected, kit:taken())
  end)

  each("a long text, time and again", {}, function(live, kit)
    local texts = {}
    for i = 1, 3 do texts[i] = ("word "):rep(3000) .. "end " .. i end
    for _, text in ipairs(texts) do assert.equal("success", say(live, text).verdict) end
    assert.same(texts, kit:taken())
  end)

  each("a long text, whatever stands at its ends", {}, function(live, kit)
    local texts = { "2024年、" .. ("日本語のテキスト。"):rep(1200), "1 " .. ("שלום "):rep(2500) .. "ש",
      ("y"):rep(9600) .. "😀" .. ("x"):rep(498), "a [...Truncated text #7 +0 lines...] " .. ("y"):rep(10050),
      ("😀"):rep(5001) }
    if live:view().version == "2.1.110" then table.remove(texts, 4) end -- which would replace that
    for _, text in ipairs(texts) do assert.equal("success", say(live, text).verdict, text:sub(1, 20)) end
    assert.same(texts, kit:taken())
  end)

  on({ "2.1.330" }, "one of which the program shows the end, and does not say so", { script = {
    profile_changes = { composer_rows = 15, counts_hidden_rows = false } } }, function(live, kit)
    local words = {}
    for i = 1, 1500 do words[i] = tostring(i) end
    local texts = { table.concat(words, " "), table.concat(words, "\n") }
    for _, text in ipairs(texts) do assert.equal("success", say(live, text).verdict) end
    assert.same(texts, kit:taken())
  end)

  each("nothing is attached, marked or escaped that the program looks for in pastes", {}, function(live, kit)
    local path, rows = kit.cwd .. "/shot.png", ("row\n"):rep(70)
    helper.write(path, "picture")
    local texts = { "see:\n" .. path .. "\nand '" .. path .. "'", "an Ultraplan, or two ultraplans, in a message",
      "see " .. path .. " please", rows .. "see " .. path .. " please", rows .. "an ultraplan" }
    for _, text in ipairs(texts) do assert.equal("success", say(live, text).verdict, text) end
    assert.same(texts, kit:taken())

    local long, is_newest = rows .. path .. "\n" .. rows .. "end", live:view().version == "2.1.330"
    local mark, name = 'a <pasted_content id="x"> in the text', ("w "):rep(6000) .. "[Pasted text #1 +3 lines]"
    for text, is_taken in pairs { [long] = true, [mark] = not is_newest, [name] = is_newest } do
      if is_taken then
        assert.equal("success", say(live, text).verdict)
        table.insert(texts, text)
      else
        local received = kit:received()
        failure_of("ValueError", live.send, live, text)
        assert.equal(received, kit:received())
      end
    end
    say(live, "still there?")
    table.insert(texts, "still there?")
    assert.same(texts, kit:taken())
  end)

  each("lines that their tabs make wider than the screen, where the program shows their beginning", {},
    function(live, kit)
      local row, taken = ("a\t"):rep(16) .. "e", {}
      local is_newest = live:view().version == "2.1.330"
      for _, text in ipairs { row, "first\n" .. row .. "\nlast", (("x"):rep(30) .. "\n"):rep(6) .. row,
        ("prose "):rep(40) .. "\n" .. row, row .. "\n" .. ("word "):rep(40) .. "end",
        (("cell\t"):rep(30) .. "\n"):rep(20) .. "e", "\t\t" .. ("word "):rep(40) .. "end",
        ("12\t34\t"):rep(1800) .. "e" } do
        if is_newest then
          assert.equal("success", say(live, text).verdict)
          table.insert(taken, text)
        else
          local received = kit:received()
          assert.matches("wider than the screen", failure_of("ValueError", live.send, live, text).message)
          assert.equal(received, kit:received())
        end
      end
      for _, text in ipairs { "name\tcount\n\tone", "still there?" } do
        assert.equal("success", say(live, text).verdict)
        table.insert(taken, text)
      end
      assert.same(taken, kit:taken())
    end)

  ---Notes what is pressed, a text for each write.
  local function keys_of(live)
    local write, keys = live.process.write, {}
    function live.process.write(process, bytes, ...)
      table.insert(keys, bytes)
      return write(process, bytes, ...)
    end
    return keys
  end

  each("one that the editor has taken, where the program is late to draw the conversation anew", { script = {
    faults = { late_redraw_ms = 12000 } } }, function(live, kit)
    local keys = keys_of(live)
    assert.equal("success", say(live, "1 .\n2 .\n3 .\n4 . @").verdict)
    assert.same({ "1 .\n2 .\n3 .\n4 . @" }, kit:taken())
    assert.same({ "\7", "\r" }, keys)
  end)

  for _, text in ipairs { "1 .\n2 .\n3 .\n4 . @", ("word "):rep(2500) .. "end" } do
    each(("one of %d bytes that the editor takes late, where that is late, too"):format(#text), { script = {
      profile_changes = { first_editor_ms = 2500 }, faults = { late_redraw_ms = 20000 } } }, function(live, kit)
      local keys, began = keys_of(live), clock.now()
      assert.equal("success", say(live, text).verdict)
      assert.same({ text }, kit:taken())
      for _, key in ipairs(keys) do assert.not_equal("\27", key) end -- the program would take it behind the text
      assert.is_true(clock.now() - began < 30000)
    end)
  end

  each("tabs, where the editor opens late and keys have been typed behind them", { script = {
    profile_changes = { first_editor_ms = 2500 } } }, function(live, kit)
    local is_newest = live:view().version == "2.1.330"
    local text = is_newest and ("a\t"):rep(16) .. "e" or "name\tcount\n\tone"
    assert.equal("success", say(live, text).verdict)
    assert.same({ text }, kit:taken())
  end)

  on({ "2.1.330" }, "one that the program has marked as a paste has arrived changed", { session = { policies = {
    delivery = { keystrokes = function(text)
      return { { keys = "\27[200~" .. text .. "\27[201~", holds = text } }
    end } } } }, function(live)
    local err = failure_of("SessionError", say, live, "an ultraplan in a paste")
    assert.equal("delivery", err.reason)
    assert.matches("<pasted_content", err.received)
  end)

  on({ "2.1.330" }, "one that the program would change is not sent", { session = { policies = { delivery = {
    prepare = function(text) return text end } } } }, function(live, kit)
    local err = failure_of("SessionError", say, live, "user\u{202E}txt.exe")
    assert.equal("delivery", err.reason)
    assert.same({}, kit:taken())
  end)
end)
