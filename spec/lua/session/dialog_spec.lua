-- Dialogs between a session and its policy: what is pressed, and above all what is not.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local fake_process = require "parley.testing.fake_process"
local helper = require "spec.helper"
local in_no_time = require("spec.simulated_clock").task
local session = require "parley.session"
local task = require "parley.base.task"

local NUMBERED = { " Do you want to proceed?", " ❯ 1. Yes", "   2. Yes, and always", "   3. No", "", " Esc to cancel" }

local function plain(selected)
  local rows = { " Accessing workspace:", "", " /work", "" }
  for i, label in ipairs { "No, exit", "Yes, I trust this folder" } do
    table.insert(rows, (i == selected and " ❯ " or "   ") .. label)
  end
  table.insert(rows, "")
  table.insert(rows, " Enter to confirm · Esc to cancel")
  return rows
end

describe("a session's dialogs", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function draw(fake, rows) fake:feed("\27[2J\27[H" .. table.concat(rows, "\r\n")) end

  ---Answers the dialog that is up; `calls` are those that wait.
  local function answer(live, calls) return live.dialogs:answer(calls or {}) end

  ---A session before these rows. `on_write` gets the fake and the keys.
  local function before(rows, options, on_write)
    local fake = fake_process.new { jsonl_path = folder .. "/t.jsonl", environment = { CLAUDE_CONFIG_DIR = folder },
      on_write = on_write }
    local live = session.new(fake, options, { path = fake.jsonl_path })
    fake:start()
    draw(fake, rows)
    return live, fake
  end

  local function failure(live, calls)
    local ok, err = pcall(answer, live, calls)
    assert.is_false(ok, "no error was raised")
    assert(errors.is(err), tostring(err))
    return err
  end

  it("presses nothing when nothing may answer, and says what would help", in_no_time(function()
    local live, fake = before(plain(1))
    local err = failure(live)
    assert.equal("DialogError", err.code)
    assert.equal("trust", err.dialog.kind)
    assert.same({ "No, exit", "Yes, I trust this folder" }, err.dialog.choices)
    assert.matches("accept = ", tostring(err))
    assert.matches("Accessing workspace", err.screen)
    assert.equal("", fake:written())
  end))

  it("presses nothing on an unknown dialog", in_no_time(function()
    local live, fake = before({ "Something new", "", " ❯ Yes", "   No", "", " Enter to confirm" },
      { accept = { "trust", "bypass", "permission" } })
    assert.equal("unknown", failure(live).dialog.kind)
    assert.equal("", fake:written())
  end))

  it("moves the pointer to the choice, and looks before it presses Enter", in_no_time(function()
    local live, fake = before(plain(1), { accept = { "trust" } }, function(fake, keys)
      if keys == "\27[B" then draw(fake, plain(2)) else draw(fake, { "thanks" }) end
    end)
    answer(live)
    assert.same({ "\27[B", "\r" }, fake.writes)
  end))

  it("presses Enter only where the pointer stays", in_no_time(function()
    local live, fake = before(plain(1), { accept = { "trust" } }, function(fake, keys)
      if keys == "\27[B" then draw(fake, plain(2)) else draw(fake, { "thanks" }) end
    end)
    local terminal = live.terminal
    local view, wait, is_seen = terminal.view, terminal.wait, false
    function terminal:view()
      is_seen = is_seen or self.process.screen:text():find "❯ Yes" ~= nil
      return view(self)
    end
    function terminal:wait(deadline)
      if is_seen and #fake.writes == 1 then draw(fake, plain(1)) end
      wait(self, deadline)
    end
    answer(live)
    assert.same({ "\27[B", "\27[B", "\r" }, fake.writes)
  end))

  it("waits for a pointer that a busy program moves late, and presses Enter behind it", in_no_time(function()
    local selected, picked, unread = 1, nil, {}
    local live = before(plain(1), { accept = { "trust" } }, function(fake, keys)
      table.insert(unread, keys)
      if unread[2] then return end
      clock.after(7000, function()
        for _, key in ipairs(unread) do
          if key == "\r" then picked = selected else selected = 2 end
        end
        unread = {}
        draw(fake, picked and { "thanks" } or plain(selected))
      end)
    end)
    answer(live)
    helper.eventually(function() return picked end)
    assert.equal(2, picked)
  end))

  it("does not press Enter when another dialog takes its place", in_no_time(function()
    local live, fake = before(plain(1), { policies = { dialogs = { decide = function(seen)
      if seen.kind == "trust" then return { choose = 2 } end
      return { fail = "not this one" }
    end } } }, function(fake)
      draw(fake, { "WARNING: Claude Code running in Bypass Permissions mode", "", " ❯ No, exit", "   Yes, I accept", "",
        " Enter to confirm" })
    end)
    answer(live)
    assert.equal("bypass", failure(live).dialog.kind)
    assert.same({ "\27[B" }, fake.writes)
  end))

  it("picks a numbered choice by its number", in_no_time(function()
    local live, fake = before(NUMBERED, { accept = { "permission" } }, function(fake) draw(fake, { "thanks" }) end)
    live.terminal.has_started = true
    answer(live)
    assert.same({ "1" }, fake.writes)
  end))

  it("presses nothing when the dialog has gone while the policy decided", in_no_time(function()
    local live, fake
    live, fake = before(NUMBERED, { policies = { dialogs = { decide = function()
      draw(fake, { "gone" })
      return { choose = 3 }
    end } } })
    live.terminal.has_started = true
    answer(live)
    assert.same({}, fake.writes)
  end))

  it("presses nothing, and tells of no answer, when another has come meanwhile", in_no_time(function()
    local function prompt(mark, command)
      return { "───", " Bash command", "", "   " .. command, "", " Do you want to proceed?", " ❯ " .. mark .. "Yes",
        "   " .. mark:gsub("1", "2") .. "No", "", " Esc to cancel" }
    end
    for _, mark in ipairs { "1. ", "" } do
      local asked, live, fake = {}
      live, fake = before(prompt(mark, "ls"), { policies = { dialogs = { decide = function(seen)
        table.insert(asked, seen.text:match "command\n([^\n]*)")
        if asked[2] then return { fail = "not this one" } end
        draw(fake, prompt(mark, "rm -rf x"))
        return { choose = 1 }
      end } } })
      live.terminal.has_started = true
      assert.is_nil(answer(live))
      assert.equal("DialogError", failure(live).code)
      assert.same({ "ls", "rm -rf x" }, asked)
      assert.same({}, fake.writes)
    end
  end))

  it("asks no longer about one that has gone, or in whose place another stands; one that is drawn anew stays the same",
    in_no_time(function()
      local asked, live, fake = {}
      local function prompt(command)
        return { "───", " Bash command", "", "   " .. command, "", " Do you want to proceed?", " ❯ 1. Yes", "   2. No",
          "", " Esc to cancel" }
      end
      local function decide(seen)
        table.insert(asked, (seen.text:match "command\n([^\n]*)"))
        return not task.condition():wait(60000) and { choose = 2 } or nil
      end
      live, fake = before(prompt "ls", { policies = { dialogs = { decide = decide } } })
      live.terminal.has_started = true
      local began = clock.now()
      clock.after(5000, function() draw(fake, { "half of it" }) end)
      clock.after(5200, function() draw(fake, prompt "ls") end)
      clock.after(20000, function() draw(fake, prompt "rm -rf x") end)
      assert.is_nil(answer(live))
      clock.after(20000, function() draw(fake, { "gone" }) end)
      assert.is_nil(answer(live))
      assert.same({ "ls", "rm -rf x" }, asked)
      assert.is_true(clock.now() - began < 45000)
      assert.same({}, fake.writes)
    end))

  it("answers one dialog once, however long its rows stay", in_no_time(function()
    local asked = 0
    local live, fake
    live, fake = before(plain(2), { policies = { dialogs = { decide = function()
      asked = asked + 1
      return { choose = 2 }
    end } } }, function() end)
    answer(live)
    local ok = pcall(require("parley.base.task").timeout, 500, answer, live)
    assert.is_false(ok)
    assert.equal(1, asked)
    assert.same({ "\r" }, fake.writes)
  end))

  it("answers one once that its pointer changes, however long it stays", in_no_time(function()
    local selected, asked = 1, 0
    local function previews()
      local rows = { "───", " ☐ Lay", "", "Which?", "", "  1. Ham        ┌─" .. selected .. "─┐",
        "  2. Egg        └───┘", "", "Enter to select · ↑/↓ to navigate · n to add notes · Esc to cancel" }
      rows[5 + selected] = rows[5 + selected]:gsub("^ ", "❯")
      return rows
    end
    local live, fake = before(previews(), { policies = { dialogs = { decide = function()
      asked = asked + 1
      return { choose = 2 }
    end } } }, function(fake, keys)
      selected = keys == "\27[B" and 2 or selected
      draw(fake, previews())
    end)
    live.terminal.has_started = true
    answer(live)
    local ok = pcall(require("parley.base.task").timeout, 1500, answer, live)
    assert.is_false(ok)
    assert.equal(1, asked)
    assert.same({ "\27[B", "\r" }, fake.writes)
  end))

  describe("answers one that stays again", function()
    local function numbered(selected)
      local rows = { "Something to decide", "" }
      for i, label in ipairs { "Later", "Now" } do
        table.insert(rows, (i == selected and " ❯ " or "   ") .. i .. ". " .. label)
      end
      return rows
    end

    local function choosing(choice)
      return { policies = { dialogs = { decide = function() return { choose = choice } end } } }
    end

    it("where the first key was lost: the pointer has gone and come back by then", in_no_time(function()
      for _, case in ipairs { { draw = plain, key = "\r" }, { draw = numbered, key = "2" } } do
        local selected, count = 2, 0
        local live, fake = before(case.draw(2), choosing(2), function(fake, keys)
          count = count + 1
          if count == 1 then return end
          selected = keys == "\27[A" and 1 or keys == "\27[B" and 2 or selected
          draw(fake, keys == "\r" and { "thanks" } or case.draw(selected))
        end)
        answer(live)
        answer(live)
        assert.same({ case.key, "\27[A", "\27[B", "\r" }, fake.writes)
      end
    end))

    it("where no pointer says what was read: after half a minute, and not behind an interrupt", in_no_time(function()
      local function decide() return { keys = "\r" } end
      local rows = { "Security notes:", "", "Press Enter to continue" }
      local live, fake = before(rows, { policies = { dialogs = { decide = decide,
        recognize = function(view) return { kind = "onboarding", text = view.rows[1], choices = {} } end } } })
      live.terminal.state = function() return "dialog" end
      local began = clock.now()
      answer(live)
      answer(live)
      assert.same({ "\r", "\r" }, fake.writes)
      assert.is_true(clock.now() - began > 30000)
      local is_interrupted = false
      live.terminal.is_interrupted = function() return is_interrupted end
      clock.after(5000, function()
        is_interrupted = true
        fake.changed:notify()
      end)
      began = clock.now()
      assert.is_nil(answer(live))
      assert.is_true(clock.now() - began < 6000)
      assert.equal(2, #fake.writes)
    end))

    it("where it is read late: nothing of it answers the next one, though that looks alike", in_no_time(function()
      local nexts = { plain = { "WARNING: Claude Code running in Bypass Permissions mode", "", " ❯ No, exit",
        "   Yes, I accept", "", " Enter to confirm" }, numbered = { "Another thing", "", " ❯ 1. Later", "   2. Now" } }
      for name, case in pairs { plain = { draw = plain, key = "\r" }, numbered = { draw = numbered, key = "2" } } do
        local live, fake = before(case.draw(2), choosing(2), function(fake, keys)
          if keys == "\27[A" then draw(fake, nexts[name]) end -- both keys are read now
        end)
        answer(live)
        assert.is_nil(answer(live))
        assert.same({ case.key, "\27[A" }, fake.writes)
      end
    end))
  end)

  describe("tells the policy which call a dialog is about:", function()
    local PROMPT = { ("─"):rep(80), " Bash command", " it", ("╌"):rep(80), " rm -rf tools", ("╌"):rep(80), "",
      " Do you want to proceed?", " ❯ 1. Yes", "   2. No", "", " Esc to cancel · Tab to amend" }

    local function bash(id, command, more)
      local input = { command = command, description = "it" }
      for name, value in pairs(more or {}) do input[name] = value end
      return { type = "tool_use", id = id, name = "Bash", input = input }
    end

    ---What a policy is told while these calls are open.
    local function told(...)
      local seen
      local live = before(PROMPT, { policies = { dialogs = { decide = function(asked)
        seen = asked
        return { fail = "seen" }
      end } } })
      live.terminal.has_started = true
      local err = failure(live, { ... })
      assert.matches("rm %-rf tools", tostring(err))
      assert.matches("\nrm %-rf tools\n", seen.text)
      return seen.tool_use and seen.tool_use.id
    end

    it("the one that it shows, wherever it stands", in_no_time(function()
      assert.equal("b", told(bash("a", "ls"), bash("b", "rm -rf tools"), bash("c", "tools")))
    end))

    it("none that it does not show whole, though no other is open", in_no_time(function()
      assert.is_nil(told(bash("a", "ls")))
      assert.is_nil(told(bash("a", "tools")))
      assert.is_nil(told())
    end))

    it("either of two that are the same, none of two that differ in what is not shown", in_no_time(function()
      assert.equal("a", told(bash("a", "rm -rf tools"), bash("b", "rm -rf tools")))
      assert.is_nil(told(bash("a", "rm -rf tools"), bash("b", "rm -rf tools", { run_in_background = true })))
    end))
  end)

  it("writes the keys that a policy wants", in_no_time(function()
    local policy = { decide = function() return { keys = "\27" } end }
    local live, fake = before(NUMBERED, { policies = { dialogs = policy } },
      function(fake) draw(fake, { "closed" }) end)
    live.terminal.has_started = true
    answer(live)
    assert.same({ "\27" }, fake.writes)
  end))

  it("refuses a policy that decides nothing, or a choice that is not there", in_no_time(function()
    for _, decision in ipairs { "yes", { choose = 9 } } do
      local live, fake = before(plain(1), { policies = { dialogs = { decide = function() return decision end } } })
      assert.matches("the policy 'dialogs' must return {allow = ", failure(live).message)
      assert.equal("", fake:written())
    end
  end))

  it("gives up on a choice that no pointer leads to", in_no_time(function()
    local seen = { kind = "mine", text = "which?", choices = { "this", "that" } }
    local live, fake = before(plain(1), { policies = { dialogs = { recognize = function() return seen end,
      decide = function() return { choose = 2 } end } } })
    assert.equal("dialog", failure(live).reason)
    assert.equal("", fake:written())
  end))
end)
