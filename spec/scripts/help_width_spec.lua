-- Help as a terminal shows it, and as it is written for none.
local helper = require "spec.helper"
local terminal = require "parley.testing.terminal"

local MOST = 100

describe("help", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- Every help that there is, as a command line.
  local function all()
    local lists = { { "help" }, { "--help" }, { "help", "ask" } }
    local text = helper.run({ helper.host, "help" }, { env = helper.environment { COLUMNS = "200" } }).output
    for name in text:match("\nCommands.-(\n.*)$"):gmatch "\n  ([%w-]+) " do
      table.insert(lists, { name, "--help" })
    end
    assert.is_true(#lists > 15)
    return lists
  end

  local function written(words, environment)
    local program = helper.run({ helper.host, table.unpack(words) }, { env = helper.environment(environment) })
    assert.equal(0, program.status, program.errors)
    return program.output
  end

  local widely = {}

  --- As it is written where there is room.
  local function written_widely(words)
    local name = table.concat(words, " ")
    widely[name] = widely[name] or written(words, { COLUMNS = "100" })
    return widely[name]
  end

  --- The words in their order, whatever lines they stand on. Where the lines of a shell are broken, and where the
  --- comments of those stand, depends on the width.
  local function words_in(text)
    local before = text:match "^(.-)\nExamples:\n" or text
    return (before:gsub("%s+", " "):gsub(" $", ""))
  end

  --- What the examples run, with the comments left out.
  local function examples_in(text)
    local examples = (text .. "\n"):match "\nExamples:\n(.*)$" or ""
    return examples:gsub(" \\\n +", " "):gsub("%s*# [^\n]*", ""):gsub("^%s+", ""):gsub("\n+", "\n"):gsub("%s+$", "")
  end

  local function widest_line(text)
    local widest = 0
    for line in text:gmatch "[^\n]+" do widest = math.max(widest, utf8.len(line)) end
    return widest
  end

  for _, columns in ipairs { 40, 80, 200 } do
    it(("fills a terminal of %d columns, and cuts no word in two"):format(columns), helper.task(function()
      for _, words in ipairs(all()) do
        local name = table.concat(words, " ")
        local person <close> = terminal.open { argv = { helper.host, table.unpack(words) }, rows = 300,
          columns = columns, environment = helper.environment { TERM = "xterm-256color" } }
        person:wait_for(function() return person.is_ended end)
        assert.equal(0, person:exit().exit_code)
        local shown = person.screen:text()
        local expected = written_widely(words)
        assert.equal(words_in(expected), words_in(shown), name)
        assert.equal(examples_in(expected), examples_in(shown), name)
        -- Wrapped by the program, not by the terminal.
        local widest = widest_line((person.output:gsub("\r", "")))
        assert.is_nil(person.output:find " \r?\n", name .. " has blanks at the end of a line")
        assert.is_true(widest <= math.min(columns, MOST), name .. " has a line of " .. widest)
        if words[1] == "batch" then assert.is_true(widest > math.min(columns, MOST) * 0.9, widest) end
      end
    end))
  end

  it("puts what an option is under it at 40 columns, and beside it at 80", helper.task(function()
    assert.matches("\n   %-%-resume\n       Go on where", written({ "batch", "--help" }, { COLUMNS = "40" }))
    assert.matches("\n   %-%-resume +Go on where", written({ "batch", "--help" }, { COLUMNS = "80" }))
    assert.matches("\n  ask\n      Sends one", written({ "help" }, { COLUMNS = "40" }))
    assert.matches("\n  ask +Sends one", written({ "help" }, { COLUMNS = "80" }))
  end))

  it("keeps an option together with what it takes", helper.task(function()
    local usage = written({ "batch", "--help" }, { COLUMNS = "40" }):match "^(.-)\n\n"
    for line in usage:gmatch "[^\n]+" do
      assert.equal(select(2, line:gsub("%[%-", "")), select(2, line:gsub("%]%f[%s\0]", "")), line)
    end
  end))

  it("has examples whose notes are comments of a shell, before them where there is no room", helper.task(function()
    local narrow = written({ "batch", "--help" }, { COLUMNS = "40" })
    assert.matches("\n  # a message a line\n  parley batch questions.txt %-%-text \\\n    %-o", narrow)
    for _, words in ipairs(all()) do
      for line in examples_in(written_widely(words)):gmatch "[^\n]+" do
        assert.is_nil(line:find "%S   +[^#%s]", line)
      end
    end
  end))

  it("has examples that a shell takes at any width", helper.task(function()
    local examples = written({ "show", "--help" }, { COLUMNS = "40" }):match "\nExamples:\n(.*)$"
    local shell = helper.run({ "/bin/sh", "-c", ([[
      parley() { printf '<%%s>' parley "$@"; cat > /dev/null; echo; }
      jq() { printf '<%%s>' jq "$@" >&2; cat; }
      cd "$(mktemp -d)" && trap 'rm -r "$PWD"' EXIT
      %s]]):format(examples) })
    assert.equal("<jq><-c><{messages: ., turns: [\"Go on\"]}>", shell.errors)
  end))

  it("goes by COLUMNS where there is one, and else has 80 without a terminal", helper.task(function()
    local default = widest_line(written({ "batch", "--help" }, {}))
    assert.is_true(default <= 80 and default > 70, default)
    assert.is_true(widest_line(written({ "batch", "--help" }, { COLUMNS = "50" })) <= 50)
    for _, wrong in ipairs { "", "0", "-5", "wide", "1e400", "40.5" } do
      assert.equal(default, widest_line(written({ "batch", "--help" }, { COLUMNS = wrong })), wrong)
    end
    assert.is_true(widest_line(written({ "batch", "--help" }, { COLUMNS = "1" })) <= 40) -- an option and what it takes
  end))
end)
