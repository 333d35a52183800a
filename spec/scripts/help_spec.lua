local helper = require "spec.helper"

--- Every command that the host lists.
local function commands(text)
  local names = {}
  for name in text:match("\nCommands.-(\n.*)$"):gmatch "\n  ([%w-]+) " do table.insert(names, name) end
  return names
end

describe("parley help", function()
  after_each(helper.remove_folders)

  --- Of one width, whatever the terminal of the specs is like.
  local function run(...)
    return helper.run({ helper.host, ... }, { env = helper.environment { COLUMNS = "100" } })
  end

  it("prints the same as parley --help", helper.task(function()
    local program = run "help"
    assert.equal(0, program.status)
    assert.equal(run("--help").output, program.output)
    assert.matches("\n  doctor +Looks for ", program.output)
  end))

  it("says what each command does in a sentence of its own", helper.task(function()
    local listed = helper.run({ helper.host, "help" }, { env = helper.environment { COLUMNS = "100" } }).output
    listed = (listed:match "\nCommands[^\n]*\n(.*)$"):gsub("\n    +", " ")
    for line in listed:gmatch "[^\n]+" do assert.matches("^  [%w-]+ +%u.*%.$", line) end
  end))

  it("prints the help of each command, with examples", helper.task(function()
    for _, name in ipairs(commands(run("--help").output)) do
      local program = run("help", name)
      assert.equal(0, program.status)
      assert.matches("^Usage: parley " .. name:gsub("-", "%%-") .. " ", program.output)
      assert.matches("\nExamples:\n  [^\n]*parley " .. name:gsub("-", "%%-"), program.output)
      assert.equal(run(name, "--help").output, program.output)
    end
  end))

  it("names each option at the same place of its line", helper.task(function()
    for _, name in ipairs(commands(run("--help").output)) do
      for line in run("help", name).output:match("\nOptions:\n(.-)\n\n"):gmatch "[^\n]+" do
        assert.equal("   ", line:match "^( +)%-" or "   ", name .. ": " .. line)
      end
    end
    assert.matches("\n   %-o, %-%-output FILE  +Where", run("help", "batch").output)
  end))

  it("suggests the near one for a command that is none", helper.task(function()
    local program = run("help", "docter")
    assert.equal(1, program.status)
    assert.matches("no command 'docter'; did you mean 'doctor'?", program.errors, 1, true)
  end))

  describe("--man", function()
    it("makes a page with every command's help", helper.task(function()
      local page = run("help", "--man").output
      assert.matches('^.TH PARLEY 1 "" "parley %d', page)
      for _, name in ipairs(commands(run("--help").output)) do
        assert.matches("\n.SS parley " .. name:gsub("-", "\\-") .. "\n", page, 1, true)
      end
      assert.matches("\\-\\-probe\\-turn", page, 1, true)
      assert.matches("\n  parley show \\-\\-json 3f2a > history.json\n", page, 1, true) -- an example, unwrapped
    end))

    it("makes one that man takes without a warning", helper.task(function()
      local path = helper.temporary_folder() .. "/parley.1"
      helper.write(path, run("help", "--man").output)
      local checked = helper.run({ "/bin/sh", "-c",
        "command -v groff > /dev/null || exit 77; groff -ww -man -Tutf8 -P-c -z '" .. path .. "'" }, {
        env = { "PATH=/usr/bin:/bin" } })
      if checked.status == 77 then return pending "needs groff" end
      assert.equal("", checked.errors)
      assert.equal(0, checked.status)
    end))

    it("writes lines that begin with a dot as text", helper.task(function()
      assert.not_matches("\n%.[^%uf]", (run("help", "--man").output:gsub("\n%.nf", "")))
    end))
  end)

  describe("--bash", function()
    local completion

    --- What bash offers for a line of words, the last one being completed.
    local function complete(...)
      local path = helper.temporary_folder() .. "/parley"
      completion = completion or run("help", "--bash").output
      helper.write(path, completion)
      local program = helper.run({ "/bin/bash", "--norc", "-c", [[
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _parley
        echo "${COMPREPLY[*]}"
      ]], "bash", path, ... }, { env = { "PATH=/usr/bin:/bin" } })
      assert.equal("", program.errors)
      local words = {}
      for word in program.output:gmatch "%S+" do words[word] = true end
      return words
    end

    it("completes every command", helper.task(function()
      local words = complete("parley", "")
      for _, name in ipairs(commands(run("--help").output)) do assert.is_true(words[name], name) end
    end))

    it("completes the beginning of one", helper.task(function()
      assert.same({ sessions = true }, complete("parley", "ses"))
    end))

    local function sorted(words)
      local list = {}
      for word in pairs(words) do table.insert(list, word) end
      table.sort(list)
      return table.concat(list, " ")
    end

    it("completes what an option takes", helper.task(function()
      assert.equal("trust", sorted(complete("parley", "ask", "--accept", "tr")))
      assert.equal("trust,bypass", sorted(complete("parley", "chat", "--accept", "trust,by")))
      assert.equal("trust", sorted(complete("parley", "ask", "--accept", "=", "tr")))
      assert.equal("concat_message native_jsonl", sorted(complete("parley", "ask", "--injection", "")))
      assert.equal("concat_message native_jsonl", sorted(complete("parley", "ask", "--injection", "=")))
      assert.equal("plan", sorted(complete("parley", "ask", "--permission-mode", "p")))
      assert.equal("2.1.197", sorted(complete("parley", "stand-in", "--profile", "2.1.19")))
      assert.equal("scripts scripts/", sorted(complete("parley", "ask", "--cwd", "script"))
        .. " " .. sorted(complete("parley", "ask", "--history", "script")) .. "/")
    end))

    it("offers nothing where nobody can guess", helper.task(function()
      assert.equal("", sorted(complete("parley", "ask", "--system-prompt", "")))
      assert.equal("", sorted(complete("parley", "ask", "--turn-timeout", "-")))
    end))

    it("completes models, and policies with their files", helper.task(function()
      assert.equal("haiku", sorted(complete("parley", "ask", "-m", "ha")))
      assert.equal("delivery= dialogs=", sorted(complete("parley", "ask", "--policy", "d")))
      for _, words in ipairs { { "routing", "=", "script" }, { "=", "routing", "=", "script" } } do
        assert.equal("scripts", sorted(complete("parley", "ask", "--policy", table.unpack(words))))
      end
      assert.is_true(complete("parley", "ask", "--policy", "routing", "=").scripts)
    end))

    it("completes an argument at its place", helper.task(function()
      assert.equal("batch policy spec", sorted(complete("parley", "new", "")))
      assert.is_nil(complete("parley", "new", "policy", "").policy)
      assert.equal("delivery dialogs", sorted(complete("parley", "new", "policy", "--kind", "d")))
      assert.equal("batch policy spec", sorted(complete("parley", "new", "--kind", "permission", "")))
      assert.equal("batch policy spec", sorted(complete("parley", "new", "--kind", "=", "permission", "")))
    end))

    it("completes the command that help explains", helper.task(function()
      assert.equal("doctor", sorted(complete("parley", "help", "doc")))
    end))

    it("offers the host's own options only before a command", helper.task(function()
      assert.equal("--traceback", sorted(complete("parley", "--tr")))
      assert.equal("", sorted(complete("parley", "ask", "--tr")))
      assert.equal("", sorted(complete("parley", "sessions", "--vers")))
      assert.equal("ask", sorted(complete("parley", "--traceback", "as")))
    end))

    it("offers nothing that is refused", helper.task(function()
      local function is_taken(option, value)
        local program = run("doctor", "--stand-in", option, value)
        assert.not_matches("ValueError", program.errors, 1, true)
        assert.matches("executable", program.output, 1, true)
      end
      is_taken("--accept", (sorted(complete("parley", "doctor", "--accept", "")):gsub(" ", ",")))
      for _, option in ipairs { "--injection", "--long-text", "--permission-mode" } do
        for value in pairs(complete("parley", "doctor", option, "")) do is_taken(option, value) end
      end
      for _, name in ipairs(commands(run("--help").output)) do
        local help = run(name, "--help").output
        for option in pairs(complete("parley", name, "-")) do assert.matches(option, help, 1, true) end
      end
    end))

    it("completes a command's options", helper.task(function()
      assert.same({ ["--probe"] = true, ["--probe-turn"] = true }, complete("parley", "doctor", "--prob"))
      assert.same({ ["--limit"] = true }, complete("parley", "sessions", "--json", "--li"))
      assert.same({ ["--profile"] = true }, complete("parley", "stand-in", "--pro"))
      assert.same({}, complete("parley", "sessions", "--prob"))
    end))
  end)
end)
