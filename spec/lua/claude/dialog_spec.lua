-- Which tool call a dialog shows. The rows are those of the real program at 60 columns.
local dialog = require "parley.claude.dialog"
local tui = require "parley.claude.tui"

local EDGE, INNER = ("─"):rep(60), ("╌"):rep(60)
local END = { " Do you want to proceed?", " ❯ 1. Yes", "   2. No", "", " Esc to cancel · Tab to amend" }

local function screen(...)
  local rows = { "● An answer", "", EDGE, ... }
  return table.move(END, 1, #END, #rows + 1, rows)
end

--- 2.1.290 and later.
local function framed(title, head, ...)
  local rows = { title, INNER, ... }
  if head then table.insert(rows, 2, head) end
  table.insert(rows, INNER)
  table.insert(rows, " Rule Bash from command line arguments says to ask.")
  table.insert(rows, "")
  return screen(table.unpack(rows))
end

--- 2.1.110 to 2.1.197.
local function plain(title, ...)
  local rows = { title, "", ... }
  table.insert(rows, "")
  table.insert(rows, " Permission rule Bash requires confirmation for this command.")
  table.insert(rows, "")
  return screen(table.unpack(rows))
end

local function shows(rows, name, input)
  local call = { type = "tool_use", id = "t", name = name, input = input }
  return dialog.shows(rows, assert(tui.choices(rows)), call, "/proj")
end

local function bash(command, description) return "Bash", { command = command, description = description or "it" } end

describe("claude.dialog", function()
  it("finds the rule above a dialog, and none that the model has drawn", function()
    local rows = framed(" Bash command", " it", " │ echo '", " │ ──────────", " │ ╌╌╌╌╌╌╌╌", " │ ❯ 1. Yes'")
    assert.equal(3, dialog.upper_edge(rows, tui.choices(rows)))
    rows = plain(" Bash command", "   echo '", "   ──────────", "   ❯ 1. Yes'", "   it")
    assert.equal(3, dialog.upper_edge(rows, tui.choices(rows)))
    assert.is_nil(dialog.upper_edge({ " │ line", " Do you want to proceed?", " ❯ 1. Yes" }, { first_row = 3 }))
  end)

  describe("knows a command", function()
    it("of one row", function()
      assert.is_true(shows(framed(" Bash command", " it", " ls -la"), bash "ls -la"))
      assert.is_true(shows(plain(" Bash command", "   ls -la", "   it"), bash "ls -la"))
    end)

    it("with characters that are invisible, however the screen shows them", function()
      local command = "touch ❤️ a\u{200B}b é"
      for _, shown in ipairs { command, "touch ❤ a\u{FFFD}b é", "touch ❤️ ab é" } do
        assert.is_true(shows(framed(" Bash command", " it", " " .. shown), bash(command)))
      end
      assert.is_false(shows(framed(" Bash command", " it", " touch e"), bash "touch e\u{301}"))
      assert.is_false(shows(framed(" Bash command", " it", " touch e"), bash "touch e\27"))
      assert.is_true(shows(framed(" Bash command", " it", " touch ab"), bash "touch a\u{AD}b"))
      for _, other in ipairs { "touch ❤ a b é", "touch ❤ a\u{FFFD}b e", "touch a\u{FFFD}b é" } do
        assert.is_false(shows(framed(" Bash command", " it", " " .. other), bash(command)))
      end
    end)

    it("below what the program says of its auto mode", function()
      local first, rest = " Tip: auto mode handles these prompts for you — choose", ' "switch to auto mode" below'
      local rows = framed(" Bash command", first, " ls")
      table.insert(rows, 6, rest)
      table.insert(rows, 7, " it")
      assert.is_true(shows(rows, bash "ls"))
      assert.is_false(shows(rows, bash("ls", "below it")))
      assert.is_false(shows(rows, bash "ls -l"))
    end)

    local function below_tip(...)
      local rows = framed(" Bash command", ' Tip: auto mode handles these prompts for you — choose', " ls")
      for i, row in ipairs { ' "switch to auto mode" below', ... } do table.insert(rows, 5 + i, row) end
      return rows
    end

    it("whose only row begins like one with a bar, and no other", function()
      assert.is_true(shows(framed(" Bash command", " it", " │ ls"), bash "│ ls"))
      assert.is_false(shows(framed(" Bash command", " it", " │ ls"), bash "ls"))
      assert.is_true(shows(plain(" Bash command", "   │ ls", "   it"), bash "│ ls"))
      assert.is_false(shows(plain(" Bash command", "   │ ls", "   it"), bash "ls"))
      for _, rows in ipairs { framed(" Bash command", " │ it", " ls"), below_tip " │ it" } do
        assert.is_true(shows(rows, bash("ls", "│ it")))
        assert.is_false(shows(rows, bash "ls"))
      end
    end)

    it("whose description has several rows below that", function()
      local rows = below_tip(" │ " .. ("abcdefghi "):rep(5), " │ │ klm")
      assert.is_true(shows(rows, bash("ls", ("abcdefghi "):rep(5) .. "│ klm")))
      assert.is_false(shows(rows, bash("ls", ("abcdefghi "):rep(5) .. "klm")))
    end)

    it("that begins like one with bars in some of its rows only", function()
      local rows = framed(" Bash command", " it", " cat <<E", " │ x")
      assert.is_false(shows(rows, bash "cat <<E\nx"))
    end)

    it("whose description has several rows", function()
      local rows = framed(" Bash command", " │ " .. ("abcdefghi "):rep(5), " ls")
      table.insert(rows, 6, " │ │ klm")
      assert.is_true(shows(rows, bash("ls", ("abcdefghi "):rep(5) .. "│ klm")))
      assert.is_false(shows(rows, bash("ls", ("abcdefghi "):rep(5) .. "klm")))
    end)

    it("whose characters are two columns wide", function()
      local rows = framed(" Bash command", " it", " │ touch " .. ("日本語"):rep(8), " │ " .. ("日本語"):rep(9),
        " │ 日本語")
      assert.is_true(shows(rows, bash("touch " .. ("日本語"):rep(18))))
      assert.is_false(shows(rows, bash("touch " .. ("日本語"):rep(17))))
    end)

    it("whose emoji are two columns wide, and whose letters beyond the basic plane are one", function()
      local rows = framed(" Bash command", " it", " │ echo " .. ("✅"):rep(25), " │ " .. ("✅"):rep(5))
      assert.is_true(shows(rows, bash("echo " .. ("✅"):rep(30))))
      local letters = ("𝐀"):rep(22)
      rows = framed(" Bash command", " it", " │ echo " .. letters, " │ rm -rf x")
      assert.is_true(shows(rows, bash("echo " .. letters .. "\nrm -rf x")))
      assert.is_false(shows(rows, bash("echo " .. letters .. " rm -rf x")))
    end)

    it("that has no description", function()
      assert.is_true(shows(framed(" Bash command", " Run shell command", " ls"), "Bash", { command = "ls" }))
      assert.is_true(shows(plain(" Bash command", "   ls", "   Run shell command"), "Bash", { command = "ls" }))
    end)

    it("of several lines, with a tab and an empty one", function()
      local text = "for f in a b; do\n  touch x$f\n\n\techo\ndone"
      assert.is_true(shows(framed(" Bash command", " it", " │ for f in a b; do", " │   touch x$f", " │",
        " │         echo", " │ done"), bash(text)))
      assert.is_true(shows(plain(" Bash command", "   for f in a b; do", "     touch x$f", "", "        echo",
        "   done", "   it"), bash(text)))
    end)

    it("that goes on in the next row, between two words or within one", function()
      local words = ("abcdefghi "):rep(5) .. "klmnopqrs"
      assert.is_true(shows(framed(" Bash command", " it", " │ " .. ("abcdefghi "):rep(4) .. "abcdefghi",
        " │ klmnopqrs"), bash(words)))
      local word = ("x"):rep(55)
      assert.is_true(shows(plain(" Bash command", "   " .. word, "   yz", "   it"), bash(word .. "yz")))
    end)

    it("that has bars and no rules, as on 2.1.250", function()
      local rows = plain(" Bash command", "   │ cat > x <<E", "   │   a", "   │", "   │ E", "   it")
      assert.is_true(shows(rows, bash "cat > x <<E\n  a\n\nE"))
      assert.is_false(shows(rows, bash "cat > x <<E\n  a\n\nE\nit"))
      assert.is_false(shows(rows, bash "cat > x <<E\n  a"))
    end)

    it("whose text has rules and a choice in it", function()
      assert.is_true(shows(framed(" Bash command", " it", " │ echo '", " │ ╌╌╌╌╌╌", " │ ─────", " │ ❯ 1. Yes", " │ '"),
        bash "echo '\n╌╌╌╌╌╌\n─────\n❯ 1. Yes\n'"))
    end)
  end)

  describe("does not take for a command", function()
    local rm_framed = framed(" Bash command", " clean up", " rm -rf tools")
    local rm_plain = plain(" Bash command", "   rm -rf tools", "   clean up")

    it("one whose input is a part of what is shown", function()
      for _, rows in ipairs { rm_framed, rm_plain } do
        for _, command in ipairs { "ls", "tools", "rm", "rm -rf", "rm -rf tool", "m -rf tools", "" } do
          assert.is_false(shows(rows, bash(command, "clean up")), command)
        end
        assert.is_true(shows(rows, bash("rm -rf tools", "clean up")))
        assert.is_false(shows(rows, bash("rm -rf tools", "a")))
        assert.is_false(shows(rows, "Bash", { command = "rm -rf tools" }))
      end
    end)

    it("one that is longer than what is shown", function()
      for _, rows in ipairs { rm_framed, rm_plain } do
        assert.is_false(shows(rows, bash("rm -rf tools x", "clean up")))
        assert.is_false(shows(rows, bash("rm -rf tools\n", "clean up; more")))
      end
    end)

    it("one that has a space, or a line's end, in another place", function()
      assert.is_false(shows(framed(" Bash command", " it", " rm -rf /tmp/a b"), bash "rm -rf /tmp/ab"))
      assert.is_false(shows(framed(" Bash command", " it", " rm -rf /tmp/ab"), bash "rm -rf /tmp/a b"))
      local rows = framed(" Bash command", " it", " │ cat a", " │ rm -rf b")
      assert.is_false(shows(rows, bash "cat a rm -rf b"))
      assert.is_false(shows(rows, bash "cat arm -rf b"))
      assert.is_true(shows(rows, bash "cat a\nrm -rf b"))
      assert.is_false(shows(framed(" Bash command", " it", " cat a rm -rf b"), bash "cat a\nrm -rf b"))
    end)

    it("one whose beginning is out of sight", function()
      local rows = { " │ line", " │ rm x", INNER, " a reason", "", table.unpack(END) }
      assert.is_false(shows(rows, bash "rm x"))
      rows = { "   rm x", "   it", "", " a reason", "", table.unpack(END) }
      assert.is_false(shows(rows, bash "rm x"))
    end)

    it("another tool's, or the model's own question", function()
      assert.is_false(shows(rm_framed, "Read", { file_path = "rm -rf tools" }))
      local rows = { EDGE, " Bash command", " it", INNER, " ls", INNER, "Do you want to proceed?", "", "❯ 1. Yes",
        "  2. No", "", "Enter to select · ↑/↓ to navigate · Esc to cancel" }
      assert.is_false(shows(rows, bash "ls"))
    end)

    it("anything, where the input is not as it should be", function()
      assert.is_false(shows(rm_framed, "Bash", {}))
      assert.is_false(shows(rm_framed, "Bash", { command = 1 }))
      assert.is_false(shows(rm_framed, "Bash", { command = "rm -rf tools", description = 7 }))
    end)
  end)

  it("knows a file that is read by its path", function()
    for _, rows in ipairs { framed(" Read file", nil, " Read(/etc/hostname)"),
      framed(" Read file" .. (" "):rep(43) .. "1 of 2", nil, " Read(/etc/hostname)"),
      plain(" Read file", "  Read(/etc/hostname)") } do
      assert.is_true(shows(rows, "Read", { file_path = "/etc/hostname" }))
      assert.is_false(shows(rows, "Read", { file_path = "/etc/host" }))
    end
  end)

  it("knows a new file by its path and all that is in it", function()
    local rows = framed(" Create file", " sub/new.txt", "  1 one", "  2 two", "  3", "  4 42 " .. ("x "):rep(23) .. "x",
      "    y")
    local content = "one\ntwo\n\n42 " .. ("x "):rep(24) .. "y\n"
    assert.is_true(shows(rows, "Write", { file_path = "/proj/sub/new.txt", content = content }))
    assert.is_false(shows(rows, "Write", { file_path = "/other/sub/new.txt", content = content }))
    assert.is_false(shows(rows, "Write", { file_path = "/proj/new.txt", content = content }))
    assert.is_false(shows(rows, "Write", { file_path = "/proj/sub/new.txt", content = "one\ntwo\n" }))
    assert.is_false(shows(rows, "Write", { file_path = "/proj/sub/new.txt", content = content .. "more\n" }))
  end)

  it("knows an edit by its path and what it replaces", function()
    local rows = framed(" Edit file", " there.txt", " 1  alpha", " 2 -beta", " 2 +gamma", " 3  delta")
    local function edits(old, new) return shows(rows, "Edit", { file_path = "/proj/there.txt", old_string = old,
      new_string = new }) end
    assert.is_true(edits("beta", "gamma"))
    assert.is_true(edits("alpha\nbet", "alpha\ngamm"))
    assert.is_false(edits("beta", "gammas"))
    assert.is_false(edits("alpha", "gamma"))
    assert.is_false(edits("", "gamma"))
    assert.is_false(shows(rows, "Edit", { file_path = "/proj/here.txt", old_string = "beta", new_string = "gamma" }))
  end)

  it("knows what is fetched", function()
    local input = { url = "http://a/x", prompt = "what?" }
    for _, rows in ipairs {
      framed(" Fetch", " Claude wants to fetch content from a", " url: http://a/x", " prompt: what?"),
      plain(" Fetch", '   url: "http://a/x", prompt: "what?"', "   Claude wants to fetch content from a"),
      plain(" Fetch", "   │ url: http://a/x", "   │ prompt: what?", "   Claude wants to fetch content from a"),
      plain(" Fetch", "   http://a/x", "   Claude wants to fetch content from a"),
    } do
      assert.is_true(shows(rows, "WebFetch", input))
      local shows_prompt = table.concat(rows):find("prompt", 1, true) ~= nil
      assert.equal(not shows_prompt, shows(rows, "WebFetch", { url = "http://a/x", prompt = "what" }))
      assert.is_false(shows(rows, "WebFetch", { url = "http://a/", prompt = "what?" }))
    end
  end)

  it("knows what is fetched with a prompt of several lines", function()
    local rows = framed(" Fetch" .. (" "):rep(47) .. "2 of 2", " Claude wants to fetch content from a",
      " url: http://a", " │ prompt: what?", " │", " │ │ 1. Yes")
    assert.is_true(shows(rows, "WebFetch", { url = "http://a", prompt = "what?\n\n│ 1. Yes" }))
    assert.is_false(shows(rows, "WebFetch", { url = "http://a", prompt = "what?\n\n1. Yes" }))
  end)

  it("knows a question of several lines", function()
    local rows = { EDGE, " ☐ Colour", "", "│ Which?", "│", "│ This?", "", "❯ 1. Red", "  2. Blue", EDGE, "",
      "Enter to select · ↑/↓ to navigate · Esc to cancel" }
    local options = { { label = "Red" }, { label = "Blue" } }
    local function asks(text)
      return shows(rows, "AskUserQuestion", { questions = { { question = text, options = options } } })
    end
    assert.is_true(asks "Which?\n\nThis?")
    assert.is_false(asks "Which?\n\nThat?")
  end)

  it("knows a question by its text and its answers", function()
    local rows = { EDGE, " ☐ Colour", "", "Which?", "", "❯ 1. Red", "     like a rose", "  2. Blue",
      "  3. Type something.", EDGE, "  4. Chat about this", "", "Enter to select · ↑/↓ to navigate · Esc to cancel" }
    local function asks(text, ...)
      local options = {}
      for i, label in ipairs { ... } do options[i] = { label = label } end
      return shows(rows, "AskUserQuestion", { questions = { { question = text, options = options } } })
    end
    assert.is_true(dialog.is_question(rows, tui.choices(rows)))
    assert.is_true(asks("Which?", "Red", "Blue"))
    assert.is_false(asks("Which", "Red", "Blue"))
    assert.is_false(asks("Which?", "Red", "Green"))
  end)

  it("knows the page behind several answers as a question's", function()
    local rows = { EDGE, "←  ☒ Colour  ✔ Submit  →", "", "Review your answers", "", " ● Which?", "   → Red", "",
      "❯ 1. Submit answers", "  2. Cancel" }
    local input = { questions = { { question = "Which?", options = { { label = "Red" } } } } }
    assert.is_true(shows(rows, "AskUserQuestion", input))
    assert.is_false(shows(rows, "Bash", { command = "ls" }))
    rows[4] = "Another page"
    assert.is_false(shows(rows, "AskUserQuestion", input))
  end)

  it("takes what the model asks for a question only where it is one", function()
    local rows = { EDGE, " ☐ Colour", "", "Which?", "", "❯ 1. Red", "  2. Blue", EDGE, "",
      "Enter to select · ↑/↓ to navigate · Esc to cancel" }
    for _, question in ipairs { 5, "Which?", true, { question = "Which?" }, { question = "Which?", options = 5 },
      { question = "Which?", options = { 5, "Blue" } } } do
      assert.is_false(shows(rows, "AskUserQuestion", { questions = { question } }))
    end
  end)

  it("knows a plan by its letters, and takes no other prompt for one", function()
    local rows = { EDGE, " Ready to code?", "", " Here is Claude's plan:", INNER, " The plan", " 1. Do it.", INNER, "",
      " Would you like to proceed?", "", " ❯ 1. Yes", "   2. No" }
    assert.is_true(shows(rows, "ExitPlanMode", { plan = "# The plan\n\n1. Do **it**.\n" }))
    assert.is_false(shows(rows, "ExitPlanMode", { plan = "# Another plan\n" }))
    assert.is_false(shows(framed(" Bash command", " it", " ls"), "ExitPlanMode", {}))
  end)

  it("knows no call where a server asks for input", function()
    local rows = { EDGE, "  MCP server “odd” requests your input", "", "  Would you like to proceed?", "",
      "  ❯ Accept    Decline", "", "  Esc to cancel · ↑/↓ to navigate" }
    assert.is_false(shows(rows, "ExitPlanMode", {}))
    assert.is_true(dialog.is_about_other(rows, assert(tui.choices(rows)), { name = "mcp__odd__ask", input = {} }))
  end)

  it("knows no call of a tool whose prompt was never seen", function()
    assert.is_false(shows(framed(" Tool use", " serv — Delete It Tool: (MCP)", ' name: "x"'), "mcp__serv__delete_it",
      { name = "x" }))
  end)
end)
