-- Permission prompts of the real program: a decision is about the call that is asked about, and about no other.
local clock = require "parley.base.clock"
local core = require "parley.core"
local files = require "parley.base.files"
local dialogs = require "parley.policy.dialogs"
local helper = require "spec.helper"
local smoke = require "spec.smoke.live"
local task = require "parley.base.task"
local uv = require "luv"

local READ_ONLY = require "spec.read_only_dialogs"
local ASK = { permission_mode = "default",
  settings = { permissions = { ask = { "Bash", "Read", "Write", "Edit", "WebFetch" } } } }

local function call(name, input) return { type = "tool_use", name = name, input = input } end
local function bash(command, description) return call("Bash", { command = command, description = description }) end

describe("a permission prompt of the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function has_victim(home) return uv.fs_stat(home.cwd .. "/victim/precious") ~= nil end
  local function make_victim(home)
    assert(uv.fs_mkdir(home.cwd .. "/victim", 448))
    helper.write(home.cwd .. "/victim/precious", "precious\n")
  end

  ---A policy that does what another one does, or denies, and notes what it was asked.
  local function noting(asked, policy)
    return { decide = function(dialog, accept)
      table.insert(asked, dialog)
      return policy and policy.decide(dialog, accept) or { deny = "not here" }
    end }
  end

  for text, commands in pairs {
    ["each of two"] = { "ls -la", "rm -rf victim" },
    ["one that is a part of another"] = { "ls", "rm -rf victim tools" },
  } do
    local asked = {}
    it(text .. " is judged by what it does", smoke.conversation({ process = ASK, prepare = make_victim,
      session = { policies = { dialogs = noting(asked, READ_ONLY) } },
      script = { { on = "DOIT", blocks = { bash(commands[1], "list"), bash(commands[2], "clean up") } } },
    }, function(live, server, home)
      local events = smoke.of_subtype(helper.say(live, "DOIT please"), "dialog_answered")
      assert.is_true(has_victim(home))
      assert.same({ "Yes", "No" }, { events[1].choice, events[2].choice })
      assert.same(commands, { asked[1].tool_use.input.command, asked[2].tool_use.input.command })
      for i, command in ipairs(commands) do
        for _, shown in ipairs { asked[i].text, events[i].text } do
          assert.truthy(("\n" .. shown .. "\n"):find("\n" .. command .. "\n", 1, true), shown)
        end
      end
      smoke.is_fine(live, server)
    end))
  end

  --- A program stands still for so long.
  local function stop_for(process, milliseconds)
    local pid = process:pid()
    uv.kill(pid, "sigstop")
    clock.after(milliseconds, function() uv.kill(pid, "sigcont") end)
  end

  --- What is typed into a program from now on, in `text`.
  local function typed_into(process)
    local typed, write = { text = "" }, process.write
    function process.write(self, bytes, wait)
      typed.text = typed.text .. bytes
      return write(self, bytes, wait)
    end
    return typed
  end

  do
    local asked, starting = {}, nil
    local function decide(dialog, accept)
      if not asked[dialog.kind] then stop_for(starting, 6000) end
      asked[dialog.kind] = true
      return dialogs.decide(dialog, accept)
    end
    it("of its start, too, gets nothing of the answer to the one before", smoke.conversation({ is_not_started = true,
      answers = { trust = false, bypass = false }, process = { permission_mode = "bypassPermissions" },
      session = { accept = { "trust", "bypass" }, policies = { dialogs = { decide = decide } } },
    }, function(live, server)
      starting = live.process
      local typed = typed_into(starting)
      live:start()
      assert.is_true(asked.bypass)
      local picks = typed.text:gsub("\27%[%a", "")
      assert.equal(asked.trust and 2 or 1, select(2, picks:gsub("[\r%d]", "")), picks) -- one for each dialog
      smoke.is_fine(live, server)
    end))
  end

  do
    local asked, live_process = {}, nil
    local function decide(dialog, accept)
      if not asked[1] then stop_for(live_process, 6000) end
      table.insert(asked, dialog)
      return READ_ONLY.decide(dialog, accept)
    end
    it("gets nothing of an answer to the one before that the program has read late", smoke.conversation({ process = ASK,
      prepare = make_victim, session = { policies = { dialogs = { decide = decide } } },
      script = { { on = "DOIT", blocks = { bash("ls -la", "list"), bash("rm -rf victim", "clean up") } } },
    }, function(live, server, home)
      live_process = live.process
      local typed = typed_into(live_process)
      local events = smoke.of_subtype(helper.say(live, "DOIT please"), "dialog_answered")
      assert.is_true(has_victim(home))
      assert.equal("No", events[#events].choice)
      local answers = typed.text:match "DOIT please.*\27%[201~(.*)$" or typed.text:match "DOIT please (.*)$"
      assert.equal(1, select(2, answers:gsub("1", "")), answers) -- the next one could have it, were it repeated
      assert.equal("rm -rf victim", asked[#asked].tool_use.input.command)
      smoke.is_fine(live, server)
    end))
  end

  do
    local asked = {}
    it("is no call's when its beginning is out of sight", smoke.conversation({ prepare = make_victim,
      process = { permission_mode = "default", settings = ASK.settings, dimensions = { 24, 80 } },
      session = { accept = { "permission" }, policies = { dialogs = noting(asked, READ_ONLY) } },
      script = { { on = "DOIT", blocks = { bash(("ls\n"):rep(30) .. "rm -rf victim", "list") } } },
    }, function(live, _, home)
      assert.equal("No", smoke.of_subtype(helper.say(live, "DOIT please"), "dialog_answered")[1].choice)
      assert.same({ "permission", true }, { asked[1].kind, asked[1].is_cut })
      assert.is_nil(asked[1].tool_use)
      assert.is_true(has_victim(home))
    end))
  end

  local LONG = "printf '%s' " .. ("abcdefghij klmnop "):rep(14) .. ("x"):rep(150) .. " > long.txt"
  local calls = {
    bash("rm victim"), bash(LONG, "a long one"), bash("cat > x <<E\n  a\n\n\tb\n╌╌╌╌╌╌\n──────\n❯ 1. Yes\nE", "lines"),
    bash "touch ❤️ 1️⃣ ☎︎ a\u{200B}b x\u{FEFF}y a\u{AD}b", call("Read", { file_path = "/etc/hostname" }),
    call("Write", { file_path = "CWD/sub/new.txt", content = "one\n  two\n\n" .. ("word "):rep(40) .. "\n" }),
    call("Write", { file_path = "CWD/../home/out.txt", content = "x\n" }),
    call("WebFetch", { url = "http://127.0.0.1:1/x", prompt = "what does it say" }),
  }
  local script, asked, folder = {}, {}, nil
  for i, one in ipairs(calls) do
    table.insert(script, { on = ("DOIT%d."):format(i), blocks = function()
      local input = {}
      for name, value in pairs(one.input) do input[name] = value:gsub("CWD", folder) end
      return { call(one.name, input) }
    end })
  end
  it("tells of each tool its input, whole", smoke.conversation({ process = ASK, script = script,
    session = { policies = { dialogs = noting(asked) } } }, function(live, _, home)
    folder = home.cwd
    for i, one in ipairs(calls) do
      asked[1] = nil
      helper.say(live, ("DOIT%d."):format(i))
      assert(asked[1], one.name)
      assert(asked[1].tool_use, asked[1].text)
      assert.equal(one.name, asked[1].tool_use.name)
      assert.is_nil(asked[1].is_cut)
    end
  end))

  if not smoke.is_oldest then -- which has no workflows
    local WORKFLOW = call("Workflow", { script = 'export const meta = { name: "w", description: "d" }\n'
      .. 'return await agent("SUBPROMPT")' })

    local ALLOWING = { decide = function() return { allow = true } end }
    for answer, texts in pairs { allow = 2, deny = 0 } do
      for _, hooks in ipairs { "with", "without" } do
        local seen = {}
        it(("of a workflow is one (%s, %s hooks)"):format(answer, hooks), smoke.conversation({
          process = { permission_mode = "default" }, script = { { on = "WORK", blocks = { WORKFLOW } } },
          session = { hooks = hooks == "with" and { Stop = function() end } or nil,
            policies = { dialogs = noting(seen, answer == "allow" and ALLOWING) } },
        }, function(live, server)
          local said = helper.say(live, "WORK please")
          assert.same({ "permission", texts }, { seen[1].kind, #said.texts })
          assert.equal(answer == "allow" and "success" or "interrupted", said.verdict)
          local named = seen[1].tool_use and seen[1].tool_use.name
          assert.equal(hooks == "with" and "Workflow" or nil, named) -- its prompt does not show the script whole
          smoke.is_fine(live, server)
        end))
      end
    end
  end

  it("that a person answers at the terminal is waited for no longer", smoke.conversation({ process = ASK,
    script = { { on = "DOIT", blocks = { bash("echo done", "say it") } } },
    session = { policies = { dialogs = { decide = helper.until_cancelled } } } }, function(live, server)
    local saying = task.spawn(helper.say, live, "DOIT please")
    helper.eventually(function() return live:state() == "dialog" end, 30000)
    task.condition():wait(1500) -- until it has stood still, and the policy is at it
    live.process:write "1"
    local said = saying:await()
    assert.equal("success", said.verdict)
    assert.same({}, smoke.of_subtype(said, "dialog_answered"))
    smoke.is_fine(live, server)
  end))

  do
    local several = { bash("touch a b", "make"), bash("touch a b", "│ make"), bash("│ touch", "one"),
      bash("touch " .. ("✅⚡"):rep(60) .. ("👍🏽"):rep(60), "emoji"),
      bash("touch " .. ("日本語"):rep(60), ("long "):rep(40) .. "one"),
      call("Read", { file_path = "/etc/hostname" }), call("Read", { file_path = "/etc/passwd" }),
      call("WebFetch", { url = "http://127.0.0.1:1/", prompt = "p" }),
      call("WebFetch", { url = "http://127.0.0.1:1/x", prompt = "what\n❯ 1. Yes" }),
      call("AskUserQuestion", { questions = core.json.array { { question = "1. Which?\n2. Or", header = "H",
        multiSelect = false, options = core.json.array { { label = "Red", description = "d" },
          { label = "Blue", description = "d" } } } } }) }
    local told = {}
    local policy = { decide = function(dialog)
      local input = assert(dialog.tool_use, dialog.text).input
      told[core.json.encode(input, { sort_keys = true })] = true
      return { choose = 1 }
    end }
    it("tells of each of several calls, where no rule of the user's asks", smoke.conversation({
      process = { permission_mode = "default" }, session = { policies = { dialogs = policy } },
      script = { { on = "DOIT", blocks = several } },
    }, function(live, server)
      assert.equal("success", helper.say(live, "DOIT please").verdict)
      for _, one in ipairs(several) do
        local input = core.json.encode(one.input, { sort_keys = true })
        assert.is_true(told[input], input)
      end
      smoke.is_fine(live, server)
    end))
  end

  do
    local WORDS = ("long label "):rep(20)
    local option = { { label = WORDS .. "one", description = ("desc "):rep(60) },
      { label = WORDS .. "two", description = "d" }, { label = "Short", description = "d" } }
    local steps = { [0] = bash(("touch abcdefg "):rep(6) .. "\nwget y", "it"), call("AskUserQuestion", {
      questions = core.json.array { { question = "which?", header = "H", multiSelect = false,
        options = core.json.array(option) } } }) }
    local labels = {}
    local policy = { decide = function(dialog)
      table.insert(labels, dialog.choices)
      return { choose = dialog.kind == "question" and WORDS .. "two" or 1 }
    end }
    it("has its labels whole, which go on in the next row", smoke.conversation({
      process = { permission_mode = "default" }, session = { policies = { dialogs = policy } },
      script = function(text, request) return text:find "DOIT" and { blocks = { steps[request.step] } } end,
    }, function(live, server)
      assert.equal("success", helper.say(live, "DOIT please").verdict)
      assert.matches("^Yes, and don't ask again for .*/work$", labels[1][2])
      assert.matches("^No", labels[1][#labels[1]])
      assert.same({ WORDS .. "two", "Short" }, { labels[2][2], labels[2][3] })
      smoke.is_fine(live, server)
    end))
  end

  do
    local LABEL, labels = "long label long label long label one", nil
    local options = core.json.array { { label = "Short", description = "d", preview = "+-+" },
      { label = LABEL, description = "d", preview = "+--+" } }
    local question = call("AskUserQuestion", { questions = core.json.array { { question = "which?", header = "H",
      multiSelect = false, options = options } } })
    it("has its labels whole beside a preview", smoke.conversation({
      session = { policies = { dialogs = { decide = function(dialog)
        labels = dialog.choices
        return { choose = 1 }
      end } } },
      script = { { on = "DOIT", blocks = { question } } },
    }, function(live, server)
      assert.equal("success", helper.say(live, "DOIT please").verdict)
      assert.same({ "Short", LABEL }, { labels[1], labels[2] })
      smoke.is_fine(live, server)
    end))
  end

  for name, decide in pairs {
    ["is answered by no word of its own"] = dialogs.decide,
    ["is answered no by a policy that denies"] = function(dialog)
      return dialog.kind == "elicitation" and { deny = "not now" } or { fail = "what is it?" }
    end,
  } do
    it("of a server that asks for input " .. name, smoke.conversation({
      process = { mcp_config = "mcp.json" },
      session = { accept = { "plan", "permission", "trust" }, policies = { dialogs = { decide = decide } },
        turn_timeout_ms = 60000 },
      script = { { on = "CALL", blocks = { call("mcp__odd__ask", core.json.decode "{}") } } },
      prepare = function(home)
        local arguments = core.json.array { uv.cwd() .. "/spec/smoke/asking_server.lua" }
        local server = { command = uv.exepath(), args = arguments }
        helper.write(home.cwd .. "/mcp.json", core.json.encode { mcpServers = { odd = server } })
      end,
    }, function(live)
      local function has(text) return (files.read(live.jsonl_path) or ""):find(text, 1, true) ~= nil end
      local err
      for i = 1, 20 do -- 2.1.197 waits for no server
        local ok, said = pcall(helper.say, live, ("CALL %d"):format(i))
        err = not ok and said or nil
        if err or has "it says " then break end
      end
      if decide ~= dialogs.decide then
        assert.is_nil(err)
        assert.is_true(has "it says cancel")
      else
        assert.same({ "DialogError", "elicitation", {} }, { err.code, err.dialog.kind, err.dialog.choices })
        assert.matches("Would you like to proceed", err.dialog.text)
      end
    end))
  end

  it("of the start that a policy denies ends the program, and says so", smoke.conversation({
    answers = { trust = false }, is_not_started = true,
    session = { policies = { dialogs = { decide = function() return { deny = "not here" } end } } },
  }, function(live)
    local err = helper.failure_of("SessionError", live.start, live)
    assert.equal("exit", err.reason)
    assert.matches("exited with status %d, as the policy 'dialogs' has answered 'No.*' %(trust: .*%): not here;",
      err.message)
  end))

  it("tells of an edit what it replaces", smoke.conversation({ process = { permission_mode = "default" },
    prepare = function(home) helper.write(home.cwd .. "/there.txt", "alpha\nbeta\ndelta\n") end,
    session = { policies = { dialogs = noting(asked) } },
    script = function(text, request)
      if not text:find "DOIT" or request.step > 1 then return nil end
      local path = folder .. "/there.txt"
      if request.step == 0 then return { blocks = { call("Read", { file_path = path }) } } end
      return { blocks = { call("Edit", { file_path = path, old_string = "beta", new_string = "gamma" }) } }
    end,
  }, function(live, _, home)
    folder, asked[1] = home.cwd, nil
    assert.equal("No", smoke.of_subtype(helper.say(live, "DOIT please"), "dialog_answered")[1].choice)
    assert.same({ "Edit", "gamma" }, { asked[1].tool_use.name, asked[1].tool_use.input.new_string })
    assert.equal("alpha\nbeta\ndelta\n", files.read(home.cwd .. "/there.txt"))
  end))

  if smoke.is_newest then
    for name, dimensions in pairs { [""] = { 40, 120 }, [", on a small screen"] = { 24, 80 } } do
      it("is not taken for a panel where auto mode cannot check the call" .. name, smoke.conversation({
        process = { permission_mode = "auto", dimensions = dimensions },
        script = { { on = "DOIT", blocks = { bash("touch made.txt; curl -s http://127.0.0.1:1/", "x") } } },
      }, function(live)
        local err = helper.failure_of("DialogError", helper.say, live, "DOIT please")
        assert.equal("auto_check", err.dialog.kind)
        assert.matches("permission_mode", tostring(err))
      end))
    end
  end
end)
