-- Answers as they come, in `parley chat`.
local helper = require "spec.helper"
local terminals = require "parley.testing.terminal"
local testing = require "parley.testing"
local tmux = require "spec.tmux"

local HEAD = "# A **head** of which there is so much that it takes two rows: 漢字\n"
local TEXT = HEAD .. "\n- one\n- `two`\n\n```\n**not bold**\n```\nThe end."
local SHOWN = "\n\n• one\n• two\n\n```\n**not bold**\n```\nThe end.\n\n>"

local SCRIPT = { answers = {
  { on = "all of it", text = TEXT, line_ms = 30 },
  { on = "a bit of it", text = TEXT, line_ms = 600000 },
  { on = "broken", text = TEXT, line_ms = 30, breaks_off = HEAD .. "\n- one\n- tw" },
  { on = "before a call", steps = {
    { text = "I make a file:\nthis one", line_ms = 30, tool = { name = "Bash", permission = true, result = "made",
      input = { command = "touch made" } } },
    { text = "It is made.\nYes.", line_ms = 30, delay_ms = 300 } } }, -- as a model takes its time
} }

describe("parley chat, while an answer comes,", function()
  local check_leaks, kit

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.close_behind(kit)
    check_leaks()
    helper.remove_folders()
  end)

  local function command(arguments)
    return { helper.host, "chat", "--executable", kit.executable, table.unpack(arguments or {}) }
  end

  local function open(options)
    kit = testing.kit { script = SCRIPT, profile = options.profile }
    local terminal = terminals.open { argv = command(options.arguments), cwd = kit.cwd, rows = 30,
      columns = options.columns or 120, environment = helper.environment({ TERM = "xterm-256color" }, kit.environment,
        options.env) }
    terminal:wait_for "Ctrl-D leaves\n>"
    return terminal
  end

  local function it_does(sentence, options, fn)
    it(sentence, helper.task(function()
      local terminal <close> = open(options)
      fn(terminal)
    end, 40000))
  end

  for _, profile in ipairs { "2.1.330", "2.1.197" } do
    it_does("shows its lines above the status row, and what came of it stays, " .. profile, { profile = profile },
      function(terminal)
        terminal:write "a bit of it\r"
        terminal:wait_for "A head of which there is so much that it takes two rows: 漢字\nanswering, "
        terminal:write "\3"
        local shown = "A head of which there is so much that it takes two rows: 漢字\n(interrupted)\n\n>"
        terminal:wait_for(shown)
        terminal:write "all of it\r"
        terminal:wait_for(SHOWN)
        local _, count = terminal.screen:text():gsub("A head", "")
        assert.equal(2, count)
        terminal:write "/save it.json\r"
        terminal:wait_for "wrote it.json: 5 messages"
      end)

    it_does("shows that of an attempt that broke off, and the answer behind it, " .. profile, { profile = profile },
      function(terminal)
        terminal:write "broken\r"
        terminal:wait_for(SHOWN)
        local _, count = terminal.screen:text():gsub("A head", "")
        assert.equal(profile == "2.1.330" and 2 or 1, count) -- which shows both
      end)
  end

  it_does("waits for the end where the program tells of nothing before", { profile = "2.1.110" }, function(terminal)
    terminal:write "all of it\r"
    terminal:wait_for(SHOWN)
  end)

  for what, options in pairs { ["--plain"] = { arguments = { "--plain" } }, NO_COLOR = { env = { NO_COLOR = "1" } } } do
    it_does("leaves it as it was written with " .. what, options, function(terminal)
      terminal:write "all of it\r"
      terminal:wait_for(TEXT .. "\n\n>")
    end)
  end

  it_does("asks about a call with its line out of the way of what was said before it",
    { arguments = { "--permission-mode", "default" } }, function(terminal)
      terminal:write "before a call\r"
      terminal:wait_for "this one\n"
      terminal:wait_for "[Bash] touch made"
      terminal:wait_for "\nallow it? yes, always, or what to tell the model:"
      terminal:write "yes\r"
      terminal:wait_for "It is made.\nYes.\n\n>"
      local text = terminal.screen:text()
      for _, line in ipairs { "I make a file:", "this one", "It is made" } do
        assert.equal(1, select(2, text:gsub(line, "")), text)
      end
    end)

  it_does("tells what it costs", { arguments = { "--costs" } }, function(terminal)
    terminal:write "/cost\r"
    terminal:wait_for "there was no turn yet"
    for _, text in ipairs { "one", "two" } do
      terminal:write(text .. "\r")
      terminal:wait_for("echo: " .. text)
      terminal:wait_for "($0.0000)\n\n>"
    end
    terminal:write "/cost\r"
    terminal:wait_for "last turn      $0.0000\nconversation   $0.0000\n\n>"
  end)

  it_does("says how to know what it costs", {}, function(terminal)
    terminal:write "/co\t\r"
    terminal:wait_for "> /cost\nit is not asked what the turns cost: parley chat --costs does so\n\n>"
  end)

  it("prints nothing before its end into a pipe", helper.task(function()
    kit = testing.kit { script = SCRIPT }
    local program <close> = helper.start(command(), { cwd = kit.cwd, input = "all of it\n",
      env = helper.environment({ TERM = "xterm-256color" }, kit.environment) })
    assert.equal(TEXT .. "\n", program:wait().output)
    assert.is_nil(table.concat(kit:events "started"[1].argv, " "):find("--plugin-dir", 1, true))
  end))

  for _, columns in ipairs { 40, 80, 200 } do
    tmux.it(("looks right in tmux at %d columns"):format(columns), function()
      kit = testing.kit { script = SCRIPT }
      local person <close> = tmux.open(command(), { cwd = kit.cwd, folder = kit.folder, columns = columns, rows = 40,
        env = helper.environment({ TERM = "xterm-256color", PS1 = "" }, kit.environment) })
      person:expect "leaves\n>"
      person:type "a bit of it"
      person:press "Enter"
      local shown = person:expect("\nanswering, %d+ s %(Ctrl%-C interrupts%)$", true)
      local rows = shown:match "> a bit of it\n(.*)$"
      assert.matches("^A head of which there is so much", rows)
      assert.matches("\nanswering, %d+ s %(Ctrl%-C interrupts%)$", rows)
      assert.equal(columns == 40 and 3 or 2, select(2, rows:gsub("\n", "")) + 1, rows)
      person:press "C-c"
      person:expect "(interrupted)\n\n>"
      person:type "all of it"
      person:press "Enter"
      shown = person:expect(SHOWN)
      for row in shown:gmatch "[^\n]+" do assert.is_true(utf8.len(row) <= columns, row) end
      assert.equal(2, select(2, shown:gsub("A head", "")))
      person:press "C-d"
      person:expect "status 0"
    end)
  end
end)
