local tui = require "parley.claude.tui"

local RULE = ("─"):rep(60)

---Rows with a composer below them that holds these lines.
local function screen(above, lines, below)
  local rows = { table.unpack(above or {}) }
  table.insert(rows, RULE)
  for i, line in ipairs(lines or { "" }) do table.insert(rows, (i == 1 and "❯\u{A0}" or "  ") .. line) end
  table.insert(rows, RULE)
  for _, row in ipairs(below or { "  ? for shortcuts" }) do table.insert(rows, row) end
  return rows
end

describe("tui.has_dialog_footer", function()
  it("knows the last rows of dialogs and panels", function()
    for _, row in ipairs { " Enter to confirm · Esc to cancel", " Esc to cancel · Tab to amend",
      "Enter to select · ↑/↓ to navigate · Esc to cancel", "  ←/→ to switch · Esc to close",
      "  Type to filter · ↑ to tabs · Esc to clear", "   ←/→ tab switch · ↓ return · Esc cancel",
      "  ←/→ switch tabs · ↑↓ navigate · Enter select · Esc close",
      "Press Enter to continue…" } do
      assert.is_true(tui.has_dialog_footer { "x", row, "" }, row)
    end
    for _, row in ipairs { "  ? for shortcuts", "  ⏵⏵ bypass permissions on · esc to interrupt",
      "  Esc again to clear" } do
      assert.is_false(tui.has_dialog_footer { "x", row }, row)
    end
  end)
end)

describe("tui.composer", function()
  it("reads one row", function()
    local composer = tui.composer(screen({ "❯ an old message" }, { "hello" }))
    assert.equal("hello", composer.text)
    assert.is_false(composer.is_empty)
    assert.is_false(composer.shell)
    assert.is_false(composer.scrolled)
    assert.same({ 3, 4 }, { composer.first_row, composer.last_row })
  end)

  it("reads several rows, blank ones among them", function()
    assert.equal("a\n\n  b", tui.composer(screen({}, { "a", "", "  b" })).text)
  end)

  it("is empty without text", function()
    assert.is_true(tui.composer(screen()).is_empty)
  end)

  it("is empty when the cursor stands before a hint", function()
    local rows = screen({}, { "Try something" })
    assert.is_true(tui.composer(rows, { row = 2, column = 3 }).is_empty)
    assert.is_false(tui.composer(rows, { row = 2, column = 16 }).is_empty)
  end)

  it("says how many rows are below the cursor", function()
    local rows = screen({ "above" }, { "a", "b", "c" })
    assert.equal(2, tui.composer(rows, { row = 3, column = 3 }).below)
    assert.equal(0, tui.composer(rows, { row = 5, column = 3 }).below)
    assert.equal(0, tui.composer(rows, { row = 7, column = 1 }).below)
    assert.equal(0, tui.composer(rows).below)
  end)

  it("is in shell mode behind a bang", function()
    local composer = tui.composer { RULE, "!\u{A0}ls", RULE }
    assert.is_true(composer.shell)
    assert.is_false(composer.is_empty)
  end)

  it("says how much is out of sight", function()
    local composer = tui.composer { "─── ↑ 46 more ───", "  the", "  tail", RULE }
    assert.is_true(composer.scrolled)
    assert.equal(46, composer.hidden)
    assert.equal("the\ntail", composer.text)
  end)

  it("is found without its prompt by the cursor in it, below what was the composer", function() -- 2.1.110, continued
    local rows = { RULE, "❯\u{A0}one", RULE, "  status", "", RULE, "  one", "  two", RULE, "  status" }
    local composer = tui.composer(rows, { row = 8, column = 6 })
    assert.equal("one\ntwo", composer.text)
    assert.equal(7, composer.first_row)
    assert.is_false(composer.is_empty)
    assert.is_false(composer.scrolled)
    assert.equal("one", tui.composer(rows, { row = 2, column = 6 }).text)
    assert.equal("one", tui.composer(rows).text)
  end)

  it("may have more out of sight when it has all the rows that it gets", function()
    local function composer_of(height, count)
      local rows = {}
      for i = 1, height - count - 3 do rows[i] = "" end
      table.insert(rows, RULE)
      for i = 1, count do table.insert(rows, (i == 1 and "❯\u{A0}" or "  ") .. "row " .. i) end
      table.insert(rows, RULE)
      table.insert(rows, "  ? for shortcuts")
      return tui.composer(rows)
    end
    for height, most in pairs { [24] = 7, [31] = 10, [40] = 15, [60] = 25 } do
      local full = composer_of(height, most)
      assert.is_true(full.scrolled)
      assert.matches("^row 1\n", full.text)
      assert.is_false(composer_of(height, most - 1).scrolled)
      assert.is_false(composer_of(height, most + 1).scrolled)
    end
    assert.is_false(composer_of(12, 1).scrolled)
  end)

  it("is known by its lower rule alone when it fills the screen", function()
    local rows = {}
    for i = 1, 20 do rows[i] = "  row " .. i end
    rows[21] = RULE
    assert.is_true(tui.composer(rows).scrolled)
    assert.is_true(tui.composer(rows, { row = 20, column = 9 }).scrolled)
  end)

  it("is not what stands of a long message above a menu, where the cursor is", function() -- 2.1.110
    local rows = {}
    for i = 1, 17 do rows[i] = "  row " .. i end
    table.move({ "", RULE, " Rewind", "", " ❯ 1. (current)", "", " Esc to exit" }, 1, 7, 18, rows)
    assert.is_nil(tui.composer(rows, { row = 22, column = 2 }))
  end)

  it("stands there while keys go to a search of the history", function() -- 2.1.110 and 2.1.197
    local function is_search(row)
      local rows = { RULE, "❯\u{A0}first", RULE, row }
      return tui.is_search(rows, tui.composer(rows))
    end
    assert.is_true(is_search "  search prompts: fir  ⏵⏵ bypass permissions on")
    assert.is_true(is_search "  no matching prompt: x")
    assert.is_false(is_search "  ? for shortcuts · search prompts: fir")
  end)

  it("is no dialog, and no old message between rules", function()
    assert.is_nil(tui.composer { RULE, "  ❯ 1. Yes", "    2. No", RULE })
    assert.is_nil(tui.composer { RULE, "❯\u{A0}", RULE, "Enter to confirm · Esc to cancel" })
    assert.is_nil(tui.composer { RULE, "❯ old", RULE })
    assert.is_nil(tui.composer {})
  end)
end)

describe("tui looks above the composer", function()
  it("for what says that a turn runs", function()
    for _, row in ipairs { "✻ Baking…", "· Baking… (3s · esc to interrupt)", "* Compacting conversation… (running)" } do
      assert.is_true(tui.is_busy(screen({ "❯ hi", row, "  ⎿  Tip: x" }, { "" })))
    end
  end)

  it("and at the title, whose glyph turns while text streams and no spinner is there", function()
    for _, title in ipairs { "⠂ Claude Code", "⠐ what it is about" } do
      assert.is_true(tui.is_busy(screen { "● line 1" }, title), title)
    end
    for _, title in ipairs { "✳ Claude Code", "Claude ⠂ Code", "⠂", "" } do
      assert.is_false(tui.is_busy(screen { "● line 1" }, title), title)
    end
  end)

  it("and below it for the program's hint, where there is no title", function()
    for _, row in ipairs { "  esc to interrupt", "  ⏵⏵ accept edits on (shift+tab to cycle) · esc to interrupt",
      "  ⏵⏵ bypass permissions on (shift+tab to cycle) · es…", "  ⏸ plan mode on (shift+tab to      ·" } do
      assert.is_true(tui.is_busy(screen({}, { "" }, { row }), ""), row)
      assert.is_false(tui.is_busy(screen({}, { "" }, { row }), "✳ Claude Code"), row)
      assert.is_false(tui.is_busy(screen({}, { "" }, { "  a status line", row }), ""), row)
    end
    for _, row in ipairs { "  a · esc to interrupt", "  ? for shortcuts",
      "  ⏵⏵ bypass permissions on (shift+tab to cycle)   Failed to install · Will retry" } do
      assert.is_false(tui.is_busy(screen({ "  esc to interrupt" }, { "" }, { row }), ""), row)
    end
  end)

  it("and at the title, too, for the list of sessions", function()
    for title, expected in pairs { ["claude agents"] = true, ["1 awaiting input · claude agents"] = true,
      ["✳ Configure claude agents"] = false } do
      assert.equal(expected, tui.shows_agents(title), title)
    end
  end)

  it("knows that the program waits for what works in the background", function()
    local rule = ("─"):rep(60)
    local function said(row, below)
      return { "❯ go", "", row, "", ("%50s"):format "◐ medium · /effort", rule, "❯\u{A0}", rule,
        below or "  ? for shortcuts" }
    end
    for _, what in ipairs { "1 dynamic workflow", "2 background agents", "1 background agent and 1 workflow" } do
      local row = ("✻ Waiting for %s to finish"):format(what)
      assert.equal("said", tui.awaits_background(said(row)))
      local rows = said(row)
      for _, behind in ipairs { "", "❯ /cost", "  ⎿  Total cost: $0", "" } do table.insert(rows, 4, behind) end
      assert.equal("said", tui.awaits_background(rows))
      table.insert(rows, 4, "✻ Baked for 2s")
      assert.is_nil(tui.awaits_background(rows))
    end
    for _, row in ipairs { "✻ Baked for 2s", "● ✻ Waiting for 1 agent to finish",
      "  ✻ Waiting for 1 agent to finish" } do
      assert.is_nil(tui.awaits_background(said(row)))
    end
    for below, expected in pairs { ["  ⏵⏵ bypass permissions on · 2 local agents · ctrl+x ctrl+k to stop"] = "counted",
      ["  ⏵⏵ bypass permissions on · 1 local agent · ↓ to manage"] = "counted", ["  2 local agents"] = "counted",
      ["  1 local agent · ↓ to manage"] = "counted", ["  2 local agentsmiths"] = false,
      ["  x 2 local agents"] = false } do
      assert.equal(expected or nil, tui.awaits_background(said("● it works", below)))
    end
    assert.is_nil(tui.awaits_background { "✻ Waiting for 1 dynamic workflow to finish" })
  end)

  it("knows the notice of an editor that the program has opened, in the composer's place", function()
    for _, notice in ipairs { "Save and close editor to continue...", "Save and close the editor to continue…" } do
      local rule = ("─"):rep(60)
      local rows = { "● said", rule, "          " .. notice, rule, "" }
      assert.is_true(tui.is_editing(rows))
      assert.is_nil(tui.composer(rows, { row = 3, column = 1 }))
      assert.is_false(tui.is_editing { "● said", notice, rule, "❯\u{A0}", rule, "  ? for shortcuts" })
      local with_an_old_one = table.move(rows, 1, #rows, 4, { "❯\u{A0}", rule, "  ? for shortcuts" })
      assert.is_true(tui.is_editing(with_an_old_one))
      assert.is_nil(tui.composer(with_an_old_one, { row = 6, column = 1 }))
    end
    assert.is_false(tui.is_editing {})
  end)

  it("and not at what a message says, nor at a status line", function()
    local said = { "❯ * x…", "● esc to interrupt", "  * one…", "✻ Baked for 3s" }
    assert.is_false(tui.is_busy(screen(said, { "* x…" }, { "✻ Baking…", "  esc to interrupt" })))
    assert.is_false(tui.is_busy { "✻ Baking…" })
  end)

  it("for a hook's refusal of the message, when that is the last", function()
    local rows = { "❯ before", "", "● UserPromptSubmit operation blocked by hook:", "  [./check]: no", "  secrets", "",
      "  Original prompt: my secret", "" }
    assert.equal("[./check]: no secrets", tui.refusal(screen(rows, { "" })))
    table.insert(rows, "● an answer")
    assert.is_nil(tui.refusal(screen(rows, { "" })))
    assert.is_nil(tui.refusal(screen({ "❯ UserPromptSubmit operation blocked by hook:", "  x" }, { "" })))
  end)
end)

describe("tui.refuses_to_resume", function()
  it("finds what the program says of a session that it does not know, or cannot read", function()
    assert.is_true(tui.refuses_to_resume "No conversation found with session ID: 1234\n")
    assert.is_true(tui.refuses_to_resume "Failed to resume session 1234")
    assert.is_true(tui.refuses_to_resume "No conversation fou\nnd with session ID:\n 1234")
    assert.is_false(tui.refuses_to_resume "Error: Session ID 1234 is already in use.")
    assert.is_false(tui.refuses_to_resume "")
  end)
end)

describe("tui.failure", function()
  local FRAMES = {
    " - <anonymous> (/$bunfs/root/src/entrypoints/cli.js:9247:5663)",
    " - async JR (/$bunfs/root/src/entryp", "oints/cli.js:492:63749)", "", "^[[?1;2c",
  }

  it("finds what a program says that has failed in its own code, or that it did", function()
    local said = { "", "  ERROR  UKH is not a function.", "", FRAMES[1], FRAMES[2] }
    assert.equal("UKH is not a function.", tui.failure(said))
    assert.equal("what it was is out of sight", tui.failure(FRAMES))
  end)

  it("does not take an answer for it, nor one place in the code, nor what a dialog shows", function()
    local shown = {}
    for i, row in ipairs(FRAMES) do shown[i] = "  " .. row end
    assert.is_nil(tui.failure(shown))
    assert.is_nil(tui.failure { "", FRAMES[1] })
    assert.is_nil(tui.failure { FRAMES[1], FRAMES[2], "Esc to cancel" })
    assert.is_nil(tui.failure(screen(FRAMES, { "ab" })))
  end)
end)

describe("tui.has_changed_text", function()
  local HINT = "Removed 2 invisible characters · review and press Enter to send"

  it("finds the hint above or below the composer", function()
    assert.is_true(tui.has_changed_text(screen({ "", HINT }, { "ab" })))
    assert.is_true(tui.has_changed_text(screen({}, { "ab" }, { HINT })))
  end)

  it("does not take the composer's own text for it", function()
    assert.is_false(tui.has_changed_text(screen({}, { HINT })))
    assert.is_false(tui.has_changed_text { HINT })
  end)
end)

describe("tui.choices", function()
  it("reads numbered ones, with explanations between", function()
    local choices = tui.choices { "Which?", "❯ 1. Red", "     like fire", "  2. Blue", "     like sky", "",
      "  3. Other" }
    assert.same({ "Red", "Blue", "Other" }, choices.labels)
    assert.same({ 1, 1, 2 }, { choices.selected, choices.first_number, choices.first_row })
  end)

  it("reads those without numbers, with the pointer below", function()
    local choices = tui.choices { " Accessing workspace:", "", "   Yes, I trust this folder", " ❯ No, exit", "",
      " Enter" }
    assert.same({ "Yes, I trust this folder", "No, exit" }, choices.labels)
    assert.equal(2, choices.selected)
    assert.is_nil(choices.first_number)
  end)

  it("counts from the first that is in sight", function()
    local choices = tui.choices { "  2. b", "❯ 3. c" }
    assert.same({ 2, 2 }, { choices.selected, choices.first_number })
  end)

  it("does not take an old message for one", function()
    assert.is_nil(tui.choices { "❯ hello", "● echo: hello" })
  end)

  it("are none that an answer quotes above a panel", function()
    for _, edge in ipairs { "─", "▔" } do
      assert.is_nil(tui.choices { "● It says:", "", "  ❯ 1. Yes", "    2. No", "", edge:rep(60), "  Help",
        "  Esc to close" })
    end
  end)

  it("are those of a question, which goes on below a rule of its own", function()
    local rule = ("─"):rep(60)
    local rows = { rule, " ☐ Colour", "Which?", "❯ 1. Red", "  2. Blue", rule, "  3. Chat about this" }
    assert.same({ "Red", "Blue", "Chat about this" }, tui.choices(rows).labels)
    assert.same({ "Red", "Blue", "Chat about this" }, tui.choices(table.move(rows, 2, 7, 1, {})).labels)
  end)
end)

describe("tui.choices whose labels go on", function()
  local EDGE = ("─"):rep(60)
  local START, END = "Yes, and always allow access to", "/a/long/folder/of/some/user from here"
  for version, rows in pairs {
    ["2.1.332"] = { " ❯ 1. Yes", "   2. " .. START, "      " .. END, "   3. No" },
    ["2.1.197"] = { " ❯ 1. Yes", "   2." .. START, "     " .. END, "   3. No" },
    ["2.1.110"] = { " ❯ 1. Yes", "  2." .. START, "    " .. END, "   3. No" },
  } do
    it("has them whole, on " .. version, function()
      local choices = tui.choices { EDGE, " Bash command", " Do you want to proceed?", table.unpack(rows) }
      assert.same({ "Yes", START .. " " .. END, "No" }, choices.labels)
      assert.same({ 1, 1 }, { choices.selected, choices.first_number })
    end)
  end

  local FULL = START .. " /a/folder/of/some/user"
  for version, rows in pairs {
    ["2.1.332"] = { "   1. Yes", "   2. " .. FULL, "      ", "   3. No" },
    ["2.1.197"] = { "   1. Yes", "   2." .. FULL, "     ", "   3. No" },
    ["2.1.110"] = { "   1. Yes", "  2." .. FULL, "    ", "   3. No" },
  } do
    for selected, pointed in pairs { 1, 2, [3] = 4 } do
      it(("are no numbers of that, on %s, at the pointer's %d"):format(version, selected), function()
        for _, number in ipairs { 2, 3 } do
          local rest = number .. ". later/ from this project"
          local shown = { EDGE, " Bash command", " Do you want to proceed?", table.unpack(rows) }
          shown[6] = rows[3] .. rest
          shown[3 + pointed] = shown[3 + pointed]:gsub("^ ( ?) ", " ❯%1")
          local choices = tui.choices(shown)
          assert.same({ "Yes", FULL .. " " .. rest, "No" }, choices.labels)
          assert.same({ selected, 1, 4, 7 }, { choices.selected, choices.first_number, choices.first_row,
            choices.last_row })
        end
      end)
    end
  end

  for version, rows in pairs {
    ["2.1.332"] = { "❯ 1. " .. ("abcd "):rep(10) .. "abc", "     efghi jkl", "     this explains it",
      "  2. " .. ("日本"):rep(13) .. "日", "     本語", "     explained" },
    ["2.1.197"] = { "❯ 1." .. ("abcd "):rep(10) .. "abc", "    efghi jkl", "     this explains it",
      "  2." .. ("日本"):rep(13) .. "日", "    本語", "     explained" },
    ["2.1.110"] = { "❯1. " .. ("abcd "):rep(10) .. "abc", "    efghi jkl", "     this explains it",
      " 2. " .. ("日本"):rep(13) .. "日", "    本語", "     explained" },
  } do
    it("has them without what explains them, on " .. version, function()
      local all = { EDGE, " ☐ Which", "", "Which?", "", table.unpack(rows) }
      table.move({ "  3. Type something.", EDGE, "  4. Chat about this", "",
        "Enter to select · ↑/↓ to navigate · Esc to cancel" }, 1, 5, #all + 1, all)
      local choices = tui.choices(all)
      assert.same({ ("abcd "):rep(10) .. "abc efghi jkl", ("日本"):rep(14) .. "語", "Type something.",
        "Chat about this" }, choices.labels)
      assert.equal(1, choices.selected)
    end)
  end
end)

describe("tui.choices of a question", function()
  local FOOTER = "Enter to select · ↑/↓ to navigate · Esc to cancel"

  local function several(pointed, footer)
    local rows = { RULE, "←  ☐ Top  ✔ Submit  →", "", "Which?", "", "  1. [ ] Ham", "         smoked", "  2. [✔] Egg",
      "  boiled", "  3. [ ] Type something", "     Submit", RULE, "  4. Chat about this", "", footer or FOOTER }
    rows[pointed] = rows[pointed]:gsub("^ ", "❯")
    return tui.choices(rows)
  end

  it("that takes several answers are without boxes, and with the one that goes on", function()
    local choices = several(6)
    assert.same({ "Ham", "Egg", "Type something", "Submit", "Chat about this" }, choices.labels)
    assert.same({ false, true, false }, choices.checked)
    assert.same({ 6, 13 }, { choices.first_row, choices.last_row })
    assert.is_nil(choices.first_number) -- a digit would tick "Chat about this" by another number
    for i, row in ipairs { 6, 8, 10, 11, 13 } do assert.equal(i, several(row).selected) end
  end)

  it("with previews are without these, and take no digits", function()
    local rows = { RULE, " ☐ Lay", "", "Which?", "", "  1. A ham of a length that is    ┌─────┐",
      "    not at all usual here         │ +-+ │", "❯ 2. Egg                          └─────┘",
      "  3. Bacon                        Notes: press n to add notes", "", RULE, "  Chat about this", "",
      "Enter to select · ↑/↓ to navigate · n to add notes · Esc to cancel" }
    local choices = tui.choices(rows)
    assert.same({ "A ham of a length that is not at all usual here", "Egg", "Bacon", "Chat about this" },
      choices.labels)
    assert.same({ 2 }, { choices.selected, choices.first_number, choices.checked })
    rows[12] = "❯ Chat about this" -- the pointer is there, and is drawn where it was, too
    assert.equal(4, tui.choices(rows).selected)
  end)

  for version, second in pairs { ["2.1.110"] = "    ", ["2.1.197"] = "   " } do
    it("with previews have labels that go on, on " .. version, function()
      local rows = { RULE, " ☐ H", "", "which?", "", " 1. long label long label long    ┌─────┐",
        second .. "label long label         │ +-+ │", "   label one                      └─────┘",
        " 2. abcdefghijk lmnopqrstu vw     Notes: press n to add notes", "   two", "❯ 3. Short", "", RULE,
        "  Chat about this", "", "Enter to select · ↑/↓ to navigate · n to add notes · Esc to cancel" }
      local choices = tui.choices(rows)
      assert.same({ "long label long label long label long label label one", "abcdefghijk lmnopqrstu vw two", "Short",
        "Chat about this" }, choices.labels)
      assert.equal(3, choices.selected)
    end)
  end

  it("take no digits where one may type", function()
    local rows = { RULE, " ☐ Colour", "", "Which?", "", "  1. Red", "     like a rose", "❯ 2. Type something.", RULE,
      "  3. Chat about this", "", FOOTER }
    assert.equal(1, tui.choices(rows).first_number)
    rows[12] = "Enter to select · ↑/↓ to navigate · ctrl+g to edit in Vim · Esc to cancel"
    assert.is_nil(tui.choices(rows).first_number)
    assert.same({ "Red", "Type something.", "Chat about this" }, tui.choices(rows).labels)
  end)

  it("are not the numbers of the question", function()
    local rows = { RULE, " ☐ Colour", "", "Which?", "  1. Not this", "  2. Nor this", "", "❯ 1. Red", "  2. Blue", "",
      FOOTER }
    assert.same({ "Red", "Blue" }, tui.choices(rows).labels)
  end)
end)

describe("tui.version", function()
  it("is the banner's", function()
    assert.equal("2.1.330", tui.version { " x  Claude Code v2.1.330", "" })
    assert.is_nil(tui.version { "Claude Code" })
  end)
end)

-- Rows of 2.1.110, 2.1.197 and 2.1.330.
describe("tui.signs_of_life", function()
  local function signs(above, below) return tui.signs_of_life(screen(above, { "" }, below)) end

  for name, pair in pairs {
    ["the seconds and the glyph"] = { "✶ Perambulating… (3s)", "· Perambulating… (1m 4s)" },
    ["the seconds, once there are some"] = { "✻ Razzmatazzing…", "* Razzmatazzing… (17s)" },
    ["the seconds behind tokens"] = { "✻ Pondering… (42s · ↓ 390 tokens)", "✽ Pondering… (59s · ↓ 390 tokens)" },
    ["the words for a long thought"] = { "✢ Pondering… (46s · ↓ 390 tokens · thinking some more)",
      "✢ Pondering… (47s · ↓ 390 tokens · deep in thought)" },
    ["the seconds of a program that moves nothing"] = { "● Pondering… (3s · esc to interrupt)",
      "● Pondering… (4s · esc to interrupt)" },
  } do
    it("are none: " .. name, function()
      assert.equal(signs { "❯ hello", "", pair[1] }, signs { "❯ hello", "", pair[2] })
    end)
  end

  for name, pair in pairs {
    ["tokens that come"] = { "✻ Pondering… (42s · ↓ 1.2k tokens)", "✻ Pondering… (42s · ↓ 1.3k tokens)" },
    ["another attempt"] = { "✻ API error · Retrying in 9s · attempt 5/10",
      "✻ API error · Retrying in 9s · attempt 6/10" },
    ["the seconds of a thought without tokens"] = { "✢ Considering… (44s · thinking some more)",
      "✢ Considering… (45s · thinking some more)" },
    ["a tool's own clock"] = { "  ⎿  $ make (4s)", "  ⎿  $ make (5s)" },
    ["text"] = { "● one", "● one two" },
    ["digits"] = { "  12", "  13" },
  } do
    it("are some: " .. name, function()
      assert.not_equal(signs { "❯ hello", "", pair[1] }, signs { "❯ hello", "", pair[2] })
    end)
  end

  it("are not what stands in the composer or below it", function()
    local rows = { "❯ hello", "", "✻ Pondering…" }
    assert.equal(signs(rows), tui.signs_of_life(screen(rows, { "typed" }, { "  12:00:01 · my status line" })))
  end)

  it("are all there is without a composer", function()
    assert.equal("one\ntwo", tui.signs_of_life { "one", "two" })
  end)
end)

describe("tui.is_at_rest", function()
  it("goes by the status, and where there is none by the title", function()
    assert.is_true(tui.is_at_rest({ status = "idle" }, "⠂ working"))
    assert.is_true(tui.is_at_rest({ status = "shell" }, ""))
    assert.is_false(tui.is_at_rest({ status = "busy" }, "✳ Claude Code"))
    assert.is_true(tui.is_at_rest({}, "✳ Claude Code"))
    assert.is_true(tui.is_at_rest(nil, "✳ Claude Code"))
    for _, title in ipairs { "⠂ Claude Code", "⠐ a topic", "" } do assert.is_false(tui.is_at_rest(nil, title)) end
  end)
end)

describe("tui.offers_commands", function()
  it("sees the list above the composer, or below it", function()
    assert.is_true(tui.offers_commands(screen({ "● done", "", "  ❯ /deploy-prod     deploy", "    /deploy        it" },
      { "/dep" })))
    assert.is_true(tui.offers_commands(screen({ "● done" }, { "/dep" }, { "/deploy-prod    deploy" })))
    assert.is_false(tui.offers_commands(screen({ "● done", "  /usr/bin" }, { "/dep" }, { "  ⏵⏵ bypass permissions" })))
    assert.is_false(tui.offers_commands { "❯ /deploy", "no composer" })
  end)
end)
