local helper = require "spec.helper"
local terminals = require "parley.testing.terminal"
local testing = require "parley.testing"
local tmux = require "spec.tmux"
local uv = require "luv"

local MARKDOWN = [[# Three **things**

- the `name` of it, which is 漢字 and 🙂
- **bold** words

```lua
local a = "**not bold**"
```
That is all.]]

describe("parley chat's", function()
  local check_leaks, kit

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit { script = { answers = { { on = "markdown", text = MARKDOWN } } } }
  end)
  after_each(function()
    helper.close_behind(kit)
    check_leaks()
    helper.remove_folders()
  end)

  local function command(arguments)
    return { helper.host, "chat", "--executable", kit.executable, table.unpack(arguments or {}) }
  end

  --- Starts it on a terminal and waits for the prompt.
  local function open(options)
    options = options or {}
    local terminal = terminals.open { argv = command(options.arguments), cwd = kit.cwd, rows = 24,
      columns = options.columns or 120, environment = helper.environment({ TERM = "xterm-256color" }, kit.environment,
        options.env) }
    terminal:wait_for "Ctrl-D leaves\n>"
    return terminal
  end

  local function say(terminal, text, expected)
    terminal:write(text .. "\r")
    terminal:wait_for(expected or "echo: " .. text .. "\n\n>")
  end

  local function it_does(sentence, fn) it(sentence, helper.task(fn, 40000)) end

  it_does("/undo takes turns back, on both sides", function()
    local terminal <close> = open()
    say(terminal, "/undo", "cannot take back 1 turns: the conversation has 0")
    for _, text in ipairs { "one", "two", "three" } do say(terminal, text) end
    say(terminal, "/undo 2", "took back 4 messages: two\n\n>")
    say(terminal, "COUNT", "\nturn ")
    local started = kit:events "started"
    local last = started[#started]
    local said = {}
    for _, record in ipairs(kit:transcript(last.session_id or table.concat(last.argv, " "):match "%-%-resume (%S+)")) do
      if record.type == "user" then
        local content = record.message.content
        table.insert(said, type(content) == "table" and content[1].text or content)
      end
    end
    assert.same({ "one", "COUNT" }, said)
    say(terminal, "/undo none", "how many turns? /undo 2, not 'none'")
  end)

  it_does("says how claude's own are run, where they are unknown, and where they are no text", function()
    local terminal <close> = open()
    say(terminal, "/compact", "no command '/compact' (/help lists them; /claude /compact runs claude's own)")
    say(terminal, "//compact it", "claude would run it as the command '/compact': /claude /compact runs claude's own")
    say(terminal, "/etc/passwd", "there is no command '/etc/passwd' (/help lists them; //etc/passwd sends it as text)")
    assert.same({}, kit:taken())
  end)

  it_does("/undo makes a saved conversation one that is not", function()
    local terminal <close> = open()
    say(terminal, "one")
    say(terminal, "/save talk.json", "wrote talk.json: 2 messages")
    say(terminal, "/undo", "took back 2 messages: one")
    say(terminal, "two")
    say(terminal, "/new", "this conversation is not saved (2 messages)")
  end)

  it_does("/save leaves a link to nothing as it is", function()
    assert(uv.fs_symlink("gone.json", kit.cwd .. "/link.json"))
    local terminal <close> = open()
    say(terminal, "one")
    say(terminal, "/save! link.json", "'link.json' is a link to 'gone.json', which is not there")
    assert.equal("gone.json", uv.fs_readlink(kit.cwd .. "/link.json"))
  end)

  it_does("/fork goes on with a copy, /back without it", function()
    local terminal <close> = open()
    say(terminal, "/back", "there is nothing to go back to: no /fork was made")
    say(terminal, "one")
    say(terminal, "/fork", "a copy of the conversation")
    say(terminal, "two")
    say(terminal, "/back", "this conversation is not saved (4 messages): /save FILE keeps it, /back! drops it")
    say(terminal, "/back!", "where the copy was made: 2 messages")
    say(terminal, "/save talk.json", "wrote talk.json: 2 messages")
  end)

  it_does("/model changes who answers, for this conversation and what follows it", function()
    local terminal <close> = open()
    say(terminal, "/model", "the program's own choice")
    say(terminal, "one")
    say(terminal, "/model haiku", "model          haiku; the last answer is claude-")
    say(terminal, "two")
    local started = kit:events "started"
    local argv = table.concat(started[#started].argv, " ")
    assert.matches("%-%-model haiku", argv)
    assert.matches("%-%-resume", argv)
    assert.same({ "one", "two" }, kit:taken())
    say(terminal, "/new!", "a new conversation")
    say(terminal, "/model", "model          haiku;")
  end)

  it_does("/pager has the terminal until it is left", function()
    helper.write(kit.folder .. "/pager", [[
#!/bin/sh
trap "" INT
cat > paged
echo "-- the pager --"
read -r key < /dev/tty
echo "-- has read $key --"
]])
    assert(uv.fs_chmod(kit.folder .. "/pager", 493))
    local terminal <close> = open { env = { PAGER = kit.folder .. "/pager" } }
    say(terminal, "/pager", "there is no answer yet")
    terminal:write "markdown\r"
    terminal:wait_for "That is all.\n\n>"
    say(terminal, "/pager", "-- the pager --")
    terminal:write "k\3q\r" -- of which nothing is the chat's
    terminal:wait_for "-- has read q --\n\n>"
    assert.equal(MARKDOWN .. "\n", require "parley.base.files".read(kit.cwd .. "/paged"))
    say(terminal, "more")
    assert.same({ "markdown", "more" }, kit:taken())
  end)

  it_does("/pager says when there is none", function()
    local terminal <close> = open { env = { PAGER = "no-such-program" } }
    say(terminal, "one")
    say(terminal, "/pager", "PAGER names no program: 'no-such-program'")
    say(terminal, "two")
  end)

  it_does("Tab completes commands, files and models", function()
    helper.write(kit.cwd .. "/talk one.json", "[]")
    helper.write(kit.cwd .. "/tale.txt", "x")
    helper.write(kit.cwd .. "/.hidden", "x")
    uv.fs_mkdir(kit.cwd .. "/deep", 448)
    helper.write(kit.cwd .. "/deep/漢字.c", "x")
    helper.write(kit.cwd .. "/deep/漢語.c", "x")
    local terminal <close> = open()
    terminal:write "/mod\thai\t"
    terminal:wait_for "> /model haiku"
    terminal:write "\3/load ta\t"
    terminal:wait_for "> /load tal"
    terminal:write "\t"
    terminal:wait_for "\ntale.txt       talk one.json\n> /load tal"
    terminal:write "k\t"
    terminal:wait_for "> /load talk one.json"
    terminal:write "\3look at @de\t"
    terminal:wait_for "> look at @deep/"
    terminal:write "\t"
    terminal:wait_for "> look at @deep/漢"
    terminal:write "\t"
    terminal:wait_for "漢字.c"
    terminal:wait_for "漢語.c"
    terminal:write "字\t!\r"
    terminal:wait_for "echo: look at @deep/漢字.c !"
    terminal:write "plain words\t stay\r"
    terminal:wait_for "echo: plain words stay"
  end)

  it_does("Tab completes what is in a home of any name", function()
    local home = kit.folder .. "/100%1"
    uv.fs_mkdir(home, 448)
    helper.write(home .. "/talk.json", "[]")
    local terminal <close> = open { env = { HOME = home } }
    terminal:write "/load ~/ta\t"
    terminal:wait_for "> /load ~/talk.json"
  end)

  describe("answers", function()
    it_does("have their Markdown rendered", function()
      local terminal <close> = open()
      terminal:write "markdown\r"
      terminal:wait_for("Three things\n\n• the name of it, which is 漢字 and 🙂\n• bold words\n\n"
        .. "```lua\nlocal a = \"**not bold**\"\n```\nThat is all.\n\n>")
    end)

    local plain = { ["--plain"] = { arguments = { "--plain" } }, NO_COLOR = { env = { NO_COLOR = "1" } } }
    for what, options in pairs(plain) do
      it_does("stand as they were written with " .. what, function()
        local terminal <close> = open(options)
        terminal:write "markdown\r"
        terminal:wait_for(MARKDOWN .. "\n\n>")
      end)
    end
  end)

  for _, columns in ipairs { 40, 80, 200 } do
    tmux.it(("looks right in tmux at %d columns"):format(columns), function()
      local person <close> = tmux.open(command(), { cwd = kit.cwd, folder = kit.folder, columns = columns, rows = 40,
        env = helper.environment({ TERM = "xterm-256color", PS1 = "" }, kit.environment) })
      person:expect "leaves\n>"
      person:type "markdown"
      person:press "Enter"
      local shown = person:expect "That is all.\n\n>"
      for row in shown:gmatch "[^\n]+" do assert.is_true(utf8.len(row) <= columns, row) end
      assert.truthy(shown:find("Three things\n\n• the name of it, which is 漢字 and 🙂\n• bold words\n", 1, true), shown)
      person:press "C-l"
      person:type "/help"
      person:press "Enter"
      shown = person:expect "line"
      for row in shown:gmatch "[^\n]+" do assert.is_true(utf8.len(row) <= columns, row) end
      person:press("C-d")
      person:expect "status 0"
    end)
  end
end)
