local dialogs = require "parley.policy.dialogs"

local RULE = ("─"):rep(60)

local function start(...) return { rows = { ... }, has_started = false } end
local function turn(...) return { rows = { RULE, ... }, has_started = true } end
local function recognize(view, call) return dialogs.recognize(view, call) end

local INNER = ("╌"):rep(60)

local TRUST = start(" Accessing workspace:", "", " /work", "", " ❯ No, exit", "   Yes, I trust this folder", "",
  " Enter to confirm · Esc to cancel")
local BASH = turn(" Bash command", "", "   rm x", "   clean up", "", " Do you want to proceed?", " ❯ 1. Yes",
  "   2. Yes, and always allow access", "   3. No", "", " Esc to cancel · Tab to amend")

describe("policy.dialogs", function()
  describe("recognizes at the start", function()
    local anchors = {
      trust = "Accessing workspace:", bypass = "WARNING: Claude Code running in Bypass Permissions mode",
      api_key = "Do you want to use this API key?", mcp = "New MCP server found in this project: foo",
      imports = "Allow external CLAUDE.md file imports?", settings_error = "Settings Error",
      settings_warning = "Settings Warning", configuration_error = "Configuration error",
      resume = "This session is 2h 5m old and 123k tokens.",
      login = "Select login method:", onboarding = "Choose the text style that looks best with your terminal",
    }
    for kind, anchor in pairs(anchors) do
      it(kind, function()
        local dialog = recognize(start("  " .. anchor, "", "  ❯ 1. One", "    2. Two", "", "  Enter to confirm"))
        assert.equal(kind, dialog.kind)
        assert.same({ "One", "Two" }, dialog.choices)
        assert.equal(1, dialog.selected)
        assert.is_truthy(dialog.remedy)
      end)
    end

    it("by the uppermost row that tells: a name in one below may say anything", function()
      local dialog = recognize(start(" New MCP server found in this project: aaaaaaaaaaaaaaaaaaaaaa",
        " Choose the text style that looks best", "", " ❯ 1. Use this server", "   2. Continue without", "",
        " Enter to confirm"))
      assert.equal("mcp", dialog.kind)
      assert.is_string(dialogs.decide(dialog, { "onboarding" }).fail)
    end)

    it("an offer that nobody has asked for, which is declined", function()
      local offer = recognize(start("  Try the new fullscreen renderer?", "", "  ❯ 1. Yes, try it", "    2. Not now",
        "", "  Enter to confirm · Esc to cancel"))
      assert.equal("offer", offer.kind)
      assert.same({ keys = "\27" }, dialogs.decide(offer, {}))
      assert.equal("unknown", recognize(start(" Try the new fullscreen renderer? No", "  ❯ 1. One", "    2. Two")).kind)
    end)

    for title, label in pairs { ["Try the new fullscreen renderer?"] = "Yes, try it",
      ["Make auto mode your default permission mode?"] = "Yes, set auto mode as my default permission mode" } do
      it("an offer by its title and its first label: " .. title, function()
        assert.equal("offer", recognize(start("an answer", RULE, "  " .. title, "", "  ❯ " .. label, "    No")).kind)
        assert.equal("unknown", recognize(start(RULE, "  " .. title, "", "  ❯ Approve", "    Exit")).kind)
        assert.is_nil(recognize(start(RULE, "  " .. title, "", "  Esc to exit")))
        assert.equal("unknown", recognize(start(RULE, "  A file says:", "  " .. title, "", "  ❯ " .. label)).kind)
      end)
    end

    it("the security notes of the first start, which want a key", function()
      local notes = recognize(start("Security notes:", " 1. Claude can make mistakes", " Press Enter to continue…"))
      assert.same({ "onboarding", {} }, { notes.kind, notes.choices })
      assert.same({ keys = "\r" }, dialogs.decide(notes, { "onboarding" }))
      assert.is_string(dialogs.decide(notes, { "trust" }).fail)
    end)

    it("the first start's themes, whose labels alone are consented to", function()
      local row, auto, dark = " Choose the text style that looks best with your terminal", "Auto (match terminal)",
        "Dark mode ✔"
      local function decide(...)
        return dialogs.decide(recognize(start(row, " ❯ 1. " .. ..., "   2. " .. select(2, ...))), { "onboarding" })
      end
      assert.same({ choose = 1 }, decide(auto, dark))
      assert.same({ choose = 2 }, decide("Light mode", dark))
      assert.same({ choose = 1 }, dialogs.decide(recognize(start(row, " ❯ ✔ " .. auto, "     Dark mode")),
        { "onboarding" }))
      assert.is_string(decide("Run what this project wants", "Do not").fail)
    end)

    it("one that is not known", function()
      assert.equal("unknown", recognize(start("Something new", "", " ❯ Go", "   Stop", "", " Enter to confirm")).kind)
    end)

    it("nothing where there are no choices", function()
      assert.is_nil(recognize(start "Loading"))
    end)
  end)

  describe("recognizes in a turn", function()
    it("a permission prompt, by the row above its choices", function()
      assert.equal("permission", recognize(BASH).kind)
      assert.equal("permission", recognize(BASH, { name = "Bash", input = {} }).kind)
    end)

    it("that of a workflow, by the row above its choices and the first of them", function()
      local rows = { " Run a dynamic workflow?", "", "  d", "", "  This dynamic workflow will spin up subagents:",
        "    1. step", "", "  Dynamic workflows can use a lot of tokens quickly, or disable dynamic workflows in",
        "  /config.", "", "  ❯ 1. Yes, run it", "    2. View raw script", "    3. No", "",
        "  Esc to cancel · Tab to amend", "  ctrl+g to edit script in $EDITOR" }
      local dialog = recognize(turn(table.unpack(rows)))
      assert.equal("permission", dialog.kind)
      assert.same({ choose = 1 }, dialogs.decide(dialog, { "permission" }))
      assert.is_string(dialogs.decide(dialog, { "plan" }).fail)
      rows[9] = "  Stop a running workflow with /workflows, or disable dynamic workflows in /config."
      assert.equal("permission", recognize(turn(table.unpack(rows))).kind)
      for i, row in pairs { [9] = "  Something else.", [11] = "  ❯ 1. Yes" } do
        local changed = table.move(rows, 1, #rows, 1, {})
        changed[i] = row
        assert.equal("unknown", recognize(turn(table.unpack(changed))).kind)
      end
    end)

    it("a plan and a question, by the tool that waits", function()
      local view = turn(" ☐ Colour", "Which?", "❯ 1. Red", "  2. Blue", "Enter to select · Esc to cancel")
      assert.equal("question", recognize(view, { name = "AskUserQuestion" }).kind)
      view = turn(" Exit plan mode?", " ❯ 1. Yes", "   2. No")
      assert.equal("plan", recognize(view, { name = "ExitPlanMode" }).kind)
    end)

    it("a plan whose record is late, by the row above its choices", function()
      for _, row in ipairs { " Claude has a plan. Would you like to proceed?", " Claude wants to exit plan mode" } do
        assert.equal("plan", recognize(turn(" Exit plan mode?", "", row, "", " ❯ 1. Yes", "   2. No")).kind)
      end
    end)

    it("auto mode that cannot check a call, by its title, or by its last row where that is out of sight", function()
      local TITLE = "  Auto mode can't check actions in this session"
      local LAST = "  Enter to stay in auto mode · Esc to cancel"
      for _, row in ipairs { TITLE, "  Enter to stay in auto mode, and so on", "  said" } do
        assert.equal("panel", recognize(turn("  Usage", "", row, "", "  b", "  c", "  Esc to cancel")).kind)
      end
      assert.equal("auto_check", recognize(turn(TITLE, "", "  It isn't getting through.", LAST)).kind)
      local view = turn("  It isn't getting through.", LAST)
      view.rows = table.move(view.rows, 2, #view.rows, 1, {})
      assert.same({ "auto_check", true }, { recognize(view).kind, recognize(view).is_cut })
      view.has_started = false
      assert.is_nil(recognize(view))
    end)

    it("a server that asks for input, by the program's own rows, and none of its words", function()
      local function form(first)
        local rows = { first, "", "  Accessing workspace:", "  Do you want to proceed?", "", "  ❯   1. Yes: ☐", "",
          "    Accept    Decline", "", "  Esc to cancel · ↑/↓ to navigate" }
        return turn(table.unpack(rows))
      end
      for _, title in ipairs { "  MCP server “odd” requests your input", "  MCP server “odd” wants to open a URL" } do
        for _, call in ipairs { { name = "ExitPlanMode", input = {} }, false } do
          local dialog = recognize(form(title), call or nil)
          assert.same({ "elicitation", {} }, { dialog.kind, dialog.choices })
          assert.is_nil(dialog.selected)
          assert.is_string(dialogs.decide(dialog, { "permission", "plan", "trust" }).fail)
        end
      end
      local view = form "  MCP server “odd” requests your input"
      view.has_started = false
      assert.equal("elicitation", recognize(view).kind)
      view.has_started = true
      view.rows = table.move(view.rows, 3, #view.rows, 1, {}) -- its beginning is out of sight
      for _, buttons in ipairs { "    Accept    Decline", "  ❯ Accept    Decline", "    Accept  ❯ Decline" } do
        view.rows[5], view.rows[7] = buttons:find "❯" and "      1. Yes: ☐" or view.rows[5], buttons
        local cut = recognize(view)
        assert.same({ "elicitation", {}, true }, { cut.kind, cut.choices, cut.is_cut })
        assert.is_string(dialogs.decide(cut, { "permission", "plan" }).fail)
      end
    end)

    it("no server's form in a permission prompt whose label names its buttons, the edge out of sight", function()
      local dialog = recognize { has_started = true, rows = { "   long", "   it", "", " Do you want to proceed?",
        " ❯ 1. Yes", "   2. Yes, and don’t ask again for: " .. ("abcdefgh "):rep(9), "      Accept    Decline",
        "   3. No", "", " Esc to cancel · Tab to amend" } }
      assert.same({ "permission", true, 3 }, { dialog.kind, dialog.is_cut, #dialog.choices })
    end)

    it("a question whose text looks like a server's that asks for input", function()
      for _, call in ipairs { { name = "AskUserQuestion", input = {} }, false } do
        local dialog = recognize(turn(" ☐ Colour", "", "───", "  MCP server “odd” requests your input", "", "❯ 1. Red",
          "  2. Blue", "  3. Type something.", RULE, "  4. Chat about this", "",
          "Enter to select · ↑/↓ to navigate · Esc to cancel"), call or nil)
        assert.same({ "question", { "Red", "Blue", "Type something.", "Chat about this" } },
          { dialog.kind, dialog.choices })
      end
    end)

    it("a permission prompt whose command looks like other dialogs", function()
      for _, text in ipairs { "Accessing workspace:", "Would you like to proceed?", RULE, "Settings Warning",
        "Exit plan mode?", "Do you want to use this API key?" } do
        local view = turn(" Bash command", "", "   echo '", "  " .. text, "  '", "", " Do you want to proceed?",
          " ❯ 1. Yes", "   2. No", "", " Esc to cancel")
        assert.equal("permission", recognize(view, { name = "Bash", input = {} }).kind, text)
      end
    end)

    it("all of what is shown, wherever the program draws its rules", function()
      for _, inner in ipairs { INNER, "" } do
        local view = turn(" Bash command", " it", inner, " │ echo '", " │ ──────────", " │ ╌╌╌╌╌╌╌╌╌╌",
          " │ ' > x; rm -rf victim", inner, " a reason", "", " Do you want to proceed?", " ❯ 1. Yes", "   2. No")
        local dialog = recognize(view)
        assert.same({ "permission", "Bash command\nit\n│ echo '\n│ ──────────\n│ ╌╌╌╌╌╌╌╌╌╌\n│ ' > x; rm -rf victim\n"
          .. "a reason\nDo you want to proceed?\n1. Yes\n2. No" }, { dialog.kind, dialog.text })
        assert.is_nil(dialog.is_cut)
      end
    end)

    it("one that is taller than the screen, and says so", function()
      local view = turn(" │ line", " │ rm -rf victim", INNER, "", " Do you want to proceed?", " ❯ 1. Yes", "   2. No",
        " ↑ 36 more lines", " Esc to cancel · Tab to amend")
      table.remove(view.rows, 1)
      local dialog = recognize(view)
      assert.same({ "permission", true }, { dialog.kind, dialog.is_cut })
      assert.matches("rm %-rf victim", dialog.text)
    end)

    it("a question that is taller than the screen, though there is a rule below what it describes at length", function()
      for _, last in ipairs { "  4. Chat about this", "  Chat about this" } do
        local dialog = recognize { has_started = true, rows = { "❯ 1. Red", "     a", "     b", "     c", "     d",
          "     e", "  2. Blue", "     f", "  3. Type something.", RULE, last, "",
          "Enter to select · ↑/↓ to navigate · Esc to cancel" } }
        assert.same({ "question", true }, { dialog.kind, dialog.is_cut })
        assert.is_string(dialogs.decide(dialog, { "permission" }).fail)
      end
    end)

    it("no panel in a question whose pointer is out of sight", function()
      assert.is_nil(recognize(turn("  5. Chat about this", " ↑ 13 more lines",
        "Enter to select · Tab/Arrow keys to navigate · Esc to cancel")))
    end)

    it("no permission in what an answer quotes above a panel", function()
      local view = { has_started = true, is_command = true, rows = { "● It says:", "  Do you want to proceed?",
        "  ❯ 1. Yes", "    2. No", "", RULE, "  Help", "", "  Esc to cancel" } }
      assert.equal("panel", recognize(view).kind)
    end)

    it("no permission in what a question asks whose call is not known", function()
      for _, title in ipairs { " ☐ Sure", "←  ☒ Sure  ☐ Really  ✔ Submit  →" } do
        assert.equal("question", recognize(turn(title, "", "Do you want to proceed?", "", "❯ 1. Yes", "  2. No")).kind)
      end
      local view = turn(" Bash command", " it", INNER, " ls", INNER, "Do you want to proceed?", "", "❯ 1. Yes",
        "  2. No", "", "Enter to select · ↑/↓ to navigate · Esc to cancel")
      assert.equal("question", recognize(view).kind)
    end)

    it("no permission in what a question asks", function()
      local view = turn(" ☐ Sure", "Do you want to proceed?", "❯ 1. Yes", "  2. No", "Enter to select")
      assert.equal("question", recognize(view, { name = "AskUserQuestion" }).kind)
    end)

    it("what is asked when the usage limit was hit, by the first label, too", function()
      local rows = { "  What do you want to do?", "", "  ❯ 1. Stop and wait for limit to reset",
        "    2. Upgrade your plan", "", "  Enter to confirm · Esc to cancel" }
      assert.equal("usage_limit", recognize(turn(table.unpack(rows))).kind)
      assert.equal("question", recognize(turn(table.unpack(rows)), { name = "AskUserQuestion" }).kind)
      rows[3] = "  ❯ 1. Go home"
      assert.equal("unknown", recognize(turn(table.unpack(rows))).kind)
    end)

    it("a panel without choices", function()
      assert.equal("panel", recognize(turn("  general  commands", "", "  Esc to cancel")).kind)
      local view = { rows = { "x" }, has_started = true, status = { waitingFor = "dialog open" } }
      assert.equal("panel", recognize(view).kind)
    end)

    it("a panel with choices, where a command shows it or it says that ESC closes it", function()
      local function kind_of(footer, is_command)
        local view = turn(" Settings", "", " ❯ Auto-compact   true", "   Show tips   true", "", footer)
        view.is_command = is_command
        return recognize(view).kind
      end
      assert.equal("panel", kind_of(" ↓ to navigate · Esc to close", false))
      assert.equal("panel", kind_of(" Enter/Space to change · Esc to cancel", true))
      assert.equal("unknown", kind_of(" Enter/Space to change · Esc to cancel", false))
      assert.equal("unknown", kind_of(" Enter to confirm · Esc to cancel", true))
    end)

    it("what a person has left open, before a message of ours, and no other", function()
      local function kind_of(is_before_message, title, footer)
        local view = turn(title, "", " ❯ 1. One", "   2. Other", "", footer)
        view.is_before_message, view.status = is_before_message, { waitingFor = "dialog open" }
        return recognize(view).kind
      end
      local SETTINGS = " Settings  Status   Config   Usage   Stats"
      for _, footer in ipairs { " ↓ to navigate · ↑ to switch tabs · Esc to go back", " / to search · Esc to clear",
        " Enter to save · Esc to cancel", " Enter to confirm · Esc to exit" } do
        for _, title in ipairs { SETTINGS, SETTINGS:gsub("Settings ", ""), " Select model" } do
          assert.equal("panel", kind_of(true, title, footer))
          assert.equal("unknown", kind_of(false, title, footer))
        end
        assert.equal("unknown", kind_of(true, " Updated terms", footer))
        assert.equal("unknown", kind_of(true, " Do you want to make this edit to", footer))
      end
    end)

    it("what a command asks about another folder, which ESC refuses", function()
      local view = turn(" Moving to a new directory:", "", " Security guide", "", " ❯ No, stay put",
        "   Yes, move here", "", " Enter to confirm · Esc to cancel")
      view.is_command = true
      local dialog = recognize(view)
      assert.same({ "trust", { keys = "\27" } }, { dialog.kind, dialogs.decide(dialog, {}) })
      assert.same({ choose = 2 }, dialogs.decide(dialog, { "trust" }))
      view.is_before_message = true -- a person's
      assert.same({ keys = "\27" }, dialogs.decide(recognize(view), { "trust" }))
    end)

    it("the menu of two presses of ESC", function()
      assert.equal("panel", recognize(turn(" Rewind", "", " ❯ (current)", "", " Enter to continue")).kind)
    end)
  end)

  it("gives the same text wherever the pointer is", function()
    local there = recognize(start(" Accessing workspace:", "", "   No, exit", " ❯ Yes, I trust this folder"))
    local here = recognize(start(" Accessing workspace:", "", " ❯ No, exit", "   Yes, I trust this folder"))
    assert.equal(here.text, there.text)
  end)

  describe("decides", function()
    it("to answer nothing that accept does not name", function()
      assert.is_truthy(dialogs.decide(recognize(TRUST), {}).fail)
      assert.is_truthy(dialogs.decide(recognize(TRUST), { "bypass", "permission" }).fail)
      assert.is_truthy(dialogs.decide(recognize(BASH), { "trust", "plan" }).fail)
    end)

    it("by the label, wherever it stands", function()
      assert.same({ choose = 2 }, dialogs.decide(recognize(TRUST), { "trust" }))
      assert.same({ choose = 1 }, dialogs.decide(recognize(BASH), { "permission" }))
    end)

    it("for the plain yes, never for one that changes more", function()
      local view = turn(" Do you want to proceed?", " ❯ 1. Yes, and always", "   2. Yes", "   3. No")
      assert.same({ choose = 2 }, dialogs.decide(recognize(view), { "permission" }))
      view = turn(" Do you want to proceed?", " ❯ 1. Yes, and always", "   2. No")
      assert.is_truthy(dialogs.decide(recognize(view), { "permission" }).fail)
    end)

    it("never for an unknown one, even when it is named", function()
      local view = start("Something new", "", " ❯ Yes", "   No", "", " Enter to confirm")
      assert.is_truthy(dialogs.decide(recognize(view), { "unknown" }).fail)
    end)

    it("to close what is asked at the usage limit, which waits", function()
      assert.same({ keys = "\27" }, dialogs.decide(recognize(turn("  What do you want to do?", "",
        "  ❯ 1. Stop and wait for limit to reset", "    2. Upgrade your plan", "", "  Esc to cancel")), {}))
    end)

    it("to close a panel", function()
      assert.same({ keys = "\27" }, dialogs.decide(recognize(turn("  x", "  Esc to cancel")), {}))
    end)
  end)
end)
