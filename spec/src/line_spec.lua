local helper = require "spec.helper"
local terminals = require "parley.testing.terminal"

--- Runs a chunk with a line editor on a terminal of its own, in a locale that is not UTF-8. Each piece says when it is
--- done, and the next begins at a key.
local PRELUDE = [[
  local line = assert(require("parley.core").line.open())
  local function text() return (("%q %d"):format(line:text()):gsub("\n", "n")) end
  local function pause() io.stdout:flush(); io.read(1) end
  local function say(...) io.stdout:write("\n", ...) io.stdout:write("\n") io.stdout:flush() end
]]

describe("line", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function run(chunk, options)
    return terminals.open { argv = { helper.host, "-e", PRELUDE .. chunk }, rows = 12,
      columns = options and options.columns or 40,
      environment = { TERM = "xterm", LC_ALL = "C", PATH = "/usr/bin:/bin" } }
  end

  local function it_does(sentence, chunk, expected, options)
    it(sentence, helper.task(function()
      local terminal <close> = run(chunk, options)
      terminal:wait_for(function() return terminal.screen:text() == expected end)
    end))
  end

  it("has exactly the actions that its stub documents", helper.task(function()
    local file <close> = assert(io.open "lua/parley/core/line.lua")
    local alias = file:read "a":match "(%-%-%-@alias.-)\n\n"
    local terminal <close> = run(([[
      line:begin ""
      for name in (%q):gmatch '"([%%w_]+)"' do line:act(name) end
      say(select(2, pcall(line.act, line, "dance")))]]):format(alias))
    terminal:wait_for "the line editor has no action 'dance'"
  end))

  it("refuses what is no terminal", helper.task(function()
    local program = helper.run { helper.host, "-e", [[
      local line, err = require("parley.core").line.open()
      print(line, err.code)]] }
    assert.equal("nil\tENOTTY\n", program.output)
  end))

  it("bears a finalizer that closes it in the middle of a call", helper.task(function()
    for call, expected in pairs {
      ["pcall(line.insert, line, 12.5)"] = "false the line editor is closed",
      ["pcall(line.begin, line, 12.5)"] = "false the line editor is closed",
      ["pcall(line.act, line, 12.5)"] = "false the line editor is closed",
      ["pcall(line.remember, line, 12.5)"] = "false the line editor is closed",
      ["line:text()"] = "hello 5",
    } do
      local terminal <close> = run(([[
        line:begin ""
        line:insert "hello"
        local function show(...) say(table.concat({ tostring((...)), (select(2, ...)) }, " ")) end
        collectgarbage "stop"
        setmetatable({}, { __gc = function() line:close() end })
        collectgarbage("incremental", 1, 1000, 200)
        collectgarbage "restart"
        show(%s)
        say(tostring(line))]]):format(call))
      terminal:wait_for(expected)
      terminal:wait_for "parley.line (closed)"
    end
  end))

  it_does("paints the prompt and the text", [[
    line:begin "> "
    line:insert "hello"
    pause()]], "> hello")

  it_does("takes what stands between \\1 for no text", [[
    line:begin "\1\27[1m\1>\1\27[0m\1 "
    line:insert "ab"
    line:act "home"
    line:insert "x"
    pause()]], "> xab")

  it_does("edits at the cursor, wide characters too", [[
    line:begin "> "
    line:insert "漢字é"
    line:act "left"
    line:act "erase"
    line:insert "ü"
    local seen = text()
    line:act "end"
    say(seen)
    pause()]], '> 漢üé\n"漢üé" 5')

  it_does("moves between the lines of the text", [[
    line:begin "> "
    line:insert "one\ntwo\nthree"
    line:act "line_up"
    line:act "line_up"
    line:insert "!"
    pause()]], "> one!\ntwo\nthree")

  it_does("goes through the history and back to what was typed", [[
    line:remember "first"
    line:remember "second\nline"
    line:begin "> "
    line:insert "draft"
    line:act "history_back"
    line:act "history_back"
    local oldest = text()
    line:act "history_forward"
    local newer = text()
    line:act "history_forward"
    say(oldest, newer, text())
    pause()]], '> draft\n"first" 5"second\\nline" 11"draft" 5')

  it("brings back what was typed, however long", helper.task(function()
    local terminal <close> = run [[
      local seen = {}
      for _, length in ipairs { 1023, 1024, 1025, 5000 } do
        local long = ("漢"):rep(length)
        line:remember(long .. "!")
        for _, way in ipairs { "history", "search" } do
          line:begin ""
          line:insert(long)
          line:act(way .. "_back")
          local is_away = line:text() == long .. "!"
          line:act(way .. "_forward")
          table.insert(seen, (is_away and line:text() == long) and "kept" or "lost")
        end
      end
      say(table.concat(seen, " "))]]
    terminal:wait_for("kept " .. ("kept "):rep(6) .. "kept")
  end))

  it_does("forgets its place in the history at a new line", [[
    line:remember "first"
    line:remember "second"
    line:begin "> "
    line:act "history_back"
    line:act "history_back"
    say()
    line:begin "> "
    line:act "history_back"
    pause()]], "> first\n\n> second")

  it_does("finds the message that begins alike", [[
    line:remember "apple"
    line:remember "pear"
    line:begin "> "
    line:insert "ap"
    line:act "search_back"
    pause()]], "> apple")

  it_does("searches on for the same, until something else is done", [[
    for _, text in ipairs { "one a", "two b", "three a" } do line:remember(text) end
    line:begin "> "
    line:insert "a"
    line:act "search_back"
    line:act "search_back"
    local oldest = text()
    line:act "search_forward"
    local newest = text()
    for _ = 1, #"three a" do line:act "erase" end
    line:insert "b"
    line:act "search_back"
    say(oldest, newest, text())
    pause()]], '> two b\n"one a" 5"three a" 7"two b" 5')

  for what, text in pairs {
    ["tabs"] = "\t\t\tabc", ["control characters"] = ("x\u{85}"):rep(7), ["wide characters"] = ("日"):rep(10),
    ["what cannot be printed"] = ("\u{2028}"):rep(4), ["full rows"] = ("x"):rep(18) .. "\n" .. ("y"):rep(20) .. "\n",
  } do
    it_does("leaves nothing behind of " .. what, ([[
      line:begin "> "
      line:insert %q
      line:hide()
      io.stdout:write "above\r\n"
      pause()]]):format(text), "above", { columns = 20 })
  end

  it_does("hides and shows the line, however many rows it has", [[
    line:begin "> "
    line:insert(("0123456789"):rep(5) .. "\nlast")
    line:hide()
    io.stdout:write "above\r\n"
    line:show()
    pause()]], "above\n> 012345678901234567\n89012345678901234567\n890123456789\nlast", { columns = 20 })

  it_does("never waits for a key", [[
    line:begin "> "
    for _ = 1, 3 do line:act "erase" end
    for _, name in ipairs { "history_back", "search_back", "yank", "line_up", "transpose" } do line:act(name) end
    say "done"
    pause()]], ">\ndone")

  it("puts the terminal back when it is collected", helper.task(function()
    local terminal <close> = terminals.open { argv = { "/bin/sh", "-c", [[before=$(stty -g)
      "$1" -e 'require("parley.core").line.open(); collectgarbage() collectgarbage()
        os.execute "stty -g > modes"'
      [ "$(cat modes)" = "$before" ] && echo "as before"; rm modes]], "sh", helper.host },
      environment = { TERM = "xterm", PATH = "/usr/bin:/bin" }, cwd = helper.temporary_folder() }
    terminal:wait_for "as before"
    helper.remove_folders()
  end))

  it("rejects a closed one", helper.task(function()
    local terminal <close> = run [[line:close() line:close() print(line, pcall(line.text, line))]]
    terminal:wait_for "parley.line (closed)"
    terminal:wait_for "the line\n editor is closed"
  end))
end)
