-- The completions in the shells themselves; all that bash's offers, a function that can be called by itself, is in
-- help_spec.lua.
local uv = require "luv"
local helper = require "spec.helper"
local terminal = require "parley.testing.terminal"
local testing = require "parley.testing"

describe("completion", function()
  local check_leaks, folder, environment

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
    uv.fs_mkdir(folder .. "/bin", 448)
    uv.fs_symlink(helper.host, folder .. "/bin/parley")
    environment = { PATH = folder .. "/bin:/usr/bin:/bin", HOME = folder, TERM = "xterm-256color", LANG = "C.UTF-8" }
  end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local completions = {}

  local function completion_for(shell, name)
    completions[shell] = completions[shell] or helper.run({ helper.host, "help", "--" .. shell }).output
    return helper.write(folder .. "/" .. name, completions[shell])
  end

  --- A kit in whose folder there was a conversation; its environment finds it.
  local function with_session(kit)
    local parley = require "parley"
    local backend <close> = parley.backend(kit.options)
    local id = backend:conversation():ask("What is it about?").result.session_id
    for name, value in pairs(kit.environment) do environment[name] = value end
    environment.PATH = folder .. "/bin:/usr/bin:/bin"
    return id
  end

  describe("in fish", function()
    local function complete(line, cwd)
      local path = completion_for("fish", "parley.fish")
      local program = helper.run({ "/usr/bin/fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", path,
        line }, { env = helper.environment(environment), cwd = cwd or folder })
      assert.equal("", program.errors)
      local words = {}
      for word in program.output:gmatch "([^\t\n]+)[^\n]*" do table.insert(words, word) end
      table.sort(words)
      return table.concat(words, " "), program.output
    end

    for line, expected in pairs {
      ["parley ses"] = "sessions",
      ["parley doctor --prob"] = "--probe --probe-turn",
      ["parley ask --accept tr"] = "trust",
      ["parley ask --accept trust,by"] = "trust,bypass",
      ["parley ask --accept=tr"] = "--accept=trust",
      ["parley ask --permission-mode p"] = "plan",
      ["parley ask -m ha"] = "haiku",
      ["parley ask --model=opusp"] = "--model=opusplan",
      ["parley ask --policy d"] = "delivery= dialogs=",
      ["parley ask --policy routing=par"] = "routing=parley.fish",
      ["parley ask --system-prompt "] = "",
      ["parley batch par"] = "parley.fish",
      ["parley batch parley.fish -o par"] = "parley.fish",
      ["parley ask --cwd b"] = "bin/",
      ["parley new "] = "batch policy spec",
      ["parley new policy --kind d"] = "delivery dialogs",
      ["parley new --kind permission "] = "batch policy spec",
      ["parley new --kind=permission p"] = "policy",
      ["parley --traceback doc"] = "doctor",
      ["parley show ask --prob"] = "",
    } do
      it(("offers for %q: %q"):format(line, expected), helper.task(function()
        assert.equal(expected, (complete(line)))
      end))
    end

    it("offers the sessions of the folder, with what was said first", helper.task(function()
      local kit <close> = testing.kit()
      local id = with_session(kit)
      for _, line in ipairs { "parley show ", "parley ask --session ", "parley chat --resume " } do
        local words, output = complete(line, kit.cwd)
        assert.equal(id, words, line)
        assert.matches("\t[^\n]*What is it about%?\n", output)
      end
    end))
  end)

  local round = 0

  --- Types a line and a tab, and waits for texts to be shown that were not typed.
  local function check(person, line, ...)
    person:write(line .. "\t")
    for _, text in ipairs { ... } do person:wait_for(text) end
    round = round + 1
    person:write(("\21clear; echo rou''nd %d\r"):format(round))
    person:wait_for(("round %d"):format(round))
  end

  describe("in bash", function()
    --- A person at a shell that has the completion.
    local function shell(cwd)
      local path = completion_for("bash", "parley.bash")
      local person = terminal.open { argv = { "/bin/bash", "--norc", "--noprofile", "-i" }, environment = environment,
        cwd = cwd or folder, columns = 160 }
      person:write(("bind 'set enable-bracketed-paste off'; PS1='%% '; source %s; clear; echo rea''dy\r"):format(path))
      person:wait_for "ready"
      return person
    end

    it("completes commands, options and what they take", helper.task(function()
      local person <close> = shell()
      check(person, "parley sess", "parley sessions")
      check(person, "parley doctor --prob\t\t", "--probe-turn") -- the second tab lists them
      check(person, "parley ask --accept tr", "--accept trust")
      check(person, "parley ask -m ha", "-m haiku")
      check(person, "parley ask --model=opusp", "--model=opusplan")
      check(person, "parley ask --policy rou", "--policy routing=")
      check(person, "parley ask --policy routing=par", "--policy routing=parley.bash")
      check(person, "parley new pol", "parley new policy")
      check(person, "parley new policy --kind perm", "--kind permission")
      check(person, "parley batch -o par", "-o parley.bash")
      check(person, "parley new --kind permission pol", "--kind permission policy")
    end))

    it("completes names with spaces, and leaves folders open", helper.task(function()
      uv.fs_mkdir(folder .. "/some where", 448)
      helper.write(folder .. "/some where/it is.lua", "")
      local person <close> = shell()
      check(person, "parley ask --cwd so", "--cwd some\\ where/")
      check(person, "parley batch -o some\\ where/it", "-o some\\ where/it\\ is.lua")
      check(person, "parley ask --policy routing=so\ti", "routing=some\\ where/it\\ is.lua")
    end))

    it("completes the sessions of the folder", helper.task(function()
      local kit <close> = testing.kit()
      local id = with_session(kit)
      local person <close> = shell(kit.cwd)
      check(person, "parley show ", "parley show " .. id)
      check(person, "parley ask --session " .. id:sub(1, 2), "--session " .. id)
      check(person, "parley ask --session=" .. id:sub(1, 2), "--session=" .. id)
      check(person, "parley chat --resume " .. id:sub(1, 2), "--resume " .. id)
    end))
  end)

  describe("in zsh", function()
    --- A person at a shell that has the completion.
    local function shell(cwd)
      completion_for("zsh", "_parley")
      local person = terminal.open { argv = { "/usr/bin/zsh", "-f", "-i" }, environment = environment,
        cwd = cwd or folder, columns = 160 }
      person:write(("PS1='%%%%' ; fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D; clear; print rea''dy\r")
        :format(folder))
      person:wait_for "ready"
      return person
    end

    it("completes commands, options and what they take", helper.task(function()
      local person <close> = shell()
      check(person, "parley sess", "parley sessions")
      check(person, "parley doctor --prob\t", "--probe-turn", "Send one message too") -- the second tab lists them
      check(person, "parley ask --accept tr", "--accept trust")
      check(person, "parley ask --accept trust,by", "--accept trust,bypass")
      check(person, "parley ask --permission-mode pl", "--permission-mode plan")
      check(person, "parley ask -m ha", "-m haiku")
      check(person, "parley ask --model=opusp", "--model=opusplan")
      check(person, "parley ask --policy rou", "--policy routing=")
      check(person, "parley ask --policy routing=_pa", "--policy routing=_parley")
      check(person, "parley batch --output _pa", "--output _parley")
      check(person, "parley batch _pa", "parley batch _parley")
      check(person, "parley ask --cwd b", "--cwd bin/")
      check(person, "parley new ", "batch", "policy", "spec")
      check(person, "parley new policy --kind perm", "--kind permission")
      check(person, "parley --traceback doct", "--traceback doctor")
    end))

    it("completes the sessions of the folder, with what was said first", helper.task(function()
      local kit <close> = testing.kit()
      local id = with_session(kit)
      local person <close> = shell(kit.cwd)
      check(person, "parley show ", "parley show " .. id)
      check(person, "parley ask --session " .. id:sub(1, 2), "--session " .. id)
      check(person, "parley chat --resume " .. id:sub(1, 2), "--resume " .. id)
    end))

    it("is found by compinit in a folder of fpath, and may be sourced, too", helper.task(function()
      local path = completion_for("zsh", "other")
      local person <close> = terminal.open { argv = { "/usr/bin/zsh", "-f", "-i" }, environment = environment,
        cwd = folder, columns = 160 }
      person:write(("autoload -Uz compinit; compinit -u -D; source %s; clear; print rea''dy\r"):format(path))
      person:wait_for "ready"
      check(person, "parley sess", "parley sessions")
    end))
  end)
end)
