local files = require "parley.base.files"
local helper = require "spec.helper"
local terminals = require "parley.testing.terminal"

describe("parley stand-in", function()
  local folder

  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  local function words(...) return { helper.host, "stand-in", ... } end

  it("can be looked at in a home of its own, and answers what its script says", helper.task(function()
    local script = helper.write(folder .. "/answers.lua", [[return { answers = { { on = "rain?", text = "Sun." } } }]])
    local person <close> = terminals.open { cwd = folder,
      argv = words("--new-home", "--script", script, "--log", folder .. "/log.jsonl"),
      environment = helper.environment { HOME = folder, TMPDIR = folder, TERM = "xterm-256color" } }
    person:wait_for "❯"
    helper.eventually(function() return (files.read(folder .. "/log.jsonl") or ""):find '"ready"' end)
    person:write "rain?"
    person:wait_for "❯\u{A0}rain?"
    person:write "\r"
    person:wait_for "Sun."
    person:write "\3"
    person:wait_for "again to exit"
    person:write "\3"
    assert.same({ exit_code = 0 }, person:exit())
    assert.same({ "answers.lua", "log.jsonl" }, helper.names_in(folder))
  end))

  it("gives claude's words to claude", helper.task(function()
    assert.equal("2.1.110 (Claude Code)\n", helper.run(words("--profile", "2.1.110", "--version")).output)
    assert.equal("error: unknown option '--nonsense'\n", helper.run(words "--nonsense").errors)
  end))

  for what, case in pairs {
    ["a version that it cannot be"] = { { "--profile", "9" }, "no profile '9'; there are 2.1.50" },
    ["an option without its value"] = { { "--profile" }, "option '--profile' requires an argument" },
    ["a script that is not there"] = { { "--script", "none.lua" }, "cannot read the script: cannot open none.lua" },
    ["a script that returns no table"] = { { "--script", "number.lua" }, "must return a table, not a number" },
  } do
    it("refuses " .. what .. " with one line", helper.task(function()
      helper.write(folder .. "/number.lua", "return 1")
      local program = helper.run(words(table.unpack(case[1])), { cwd = folder })
      assert.equal(1, program.status)
      assert.matches(case[2], program.errors, 1, true)
      assert.equal(1, select(2, program.errors:gsub("\n", "")))
    end))
  end
end)
