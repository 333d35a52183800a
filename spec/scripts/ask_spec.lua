local files = require "parley.base.files"
local helper = require "spec.helper"
local terminal = require "parley.testing.terminal"
local testing = require "parley.testing"

describe("parley ask", function()
  local check_leaks, kit

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit { script = { answers = { { on = "weather", text = "Sunny." } } } }
  end)
  after_each(function()
    kit:close()
    check_leaks()
    helper.remove_folders()
  end)

  --- Starts `parley ask` with the stand-in.
  local function start(arguments, input)
    return helper.start({ helper.host, "ask", "--executable", kit.executable, table.unpack(arguments) },
      { env = helper.environment(kit.environment), cwd = kit.cwd, input = input })
  end

  --- The same, to its end.
  local function ask(arguments, input)
    local program <close> = start(arguments, input)
    return program:wait()
  end

  it("prints the answer and nothing else", helper.task(function()
    local program = ask { "How is the weather?" }
    assert.equal("Sunny.\n", program.output)
    assert.equal("", program.errors)
    assert.equal(0, program.status)
    assert.same({ "How is the weather?" }, kit:taken())
    assert.same({}, kit:processes())
  end))

  it("prints the answer as it comes, and once, with --partial", helper.task(function()
    assert.equal("Sunny.\n", ask({ "--partial", "How is the weather?" }).output)
    local types, shown = {}, ""
    for _, event in ipairs(helper.json_lines(ask({ "--partial", "--json", "weather" }).output)) do
      if event.type == "partial" then -- on a busy machine the answer may be whole before it is told of
        assert.equal("user", types[#types])
        shown = shown .. event.text
      else
        table.insert(types, event.type)
      end
    end
    assert.same({ "user", "assistant", "result" }, types)
    assert.equal(shown, ("Sunny."):sub(1, #shown))
  end))

  it("puts the message on the command line of the program where that is asked for", helper.task(function()
    assert.equal("Sunny.\n", ask({ "--first-message", "argument", "How is the weather?" }).output)
    local words = kit:events "started"[1].argv
    assert.equal("How is the weather?", words[#words])
    assert.same({ "How is the weather?" }, kit:taken())
  end))

  it("prints an event a line with --json, the result last", helper.task(function()
    local events, types = helper.json_lines(ask({ "--json", "USETOOL" }).output), {}
    for i, event in ipairs(events) do types[i] = event.type end
    assert.same({ "user", "assistant", "assistant", "user", "assistant", "result" }, types)
    assert.equal("success", events[6].subtype)
    assert.equal("end_turn", events[6].stop_reason)
    assert.equal("tool_use", events[3].content[1].type)
  end))

  it("goes on with the last conversation of the folder, or with a session's", helper.task(function()
    ask { "My name is Ada" }
    assert.equal("echo: And now?\n", ask({ "--continue", "And now?" }).output)
    local last = kit:events "started"[2]
    assert.truthy(table.concat(last.argv, " "):find("--resume", 1, true))
    local id = table.concat(kit:events "started"[1].argv, " "):match "%-%-session%-id (%S+)"
    assert.equal("echo: once more\n", ask({ "--session", id:sub(1, 13), "once more" }).output)
    local both = ask { "--session", id, "--continue", "x" }
    assert.equal(1, both.status)
    assert.matches("one of %-%-history, %-%-continue and %-%-session", both.errors)
  end))

  it("says that there is nothing to go on with", helper.task(function()
    local program = ask { "--continue", "And now?" }
    assert.equal(1, program.status)
    assert.matches("there is no conversation of the folder", program.errors)
    assert.same({}, kit:events "started")
  end))

  it("sends files with their names, and has short names for model and system prompt", helper.task(function()
    helper.write(kit.cwd .. "/a.txt", "alpha\n")
    helper.write(kit.cwd .. "/b.txt", "beta\n")
    ask { "-m", "haiku", "-s", "Be brief.", "-f", "a.txt", "-f", "b.txt", "Compare" }
    assert.equal("Compare\n\na.txt:\nalpha\n\n\nb.txt:\nbeta", kit:taken()[1])
    local argv = table.concat(kit:events "started"[1].argv, " ")
    assert.truthy(argv:find("--model haiku --system-prompt Be brief.", 1, true))
  end))

  it("prints the JSON of a schema, or says why there is none", helper.task(function()
    kit:use { answers = { { on = "number", text = "```json\n7\n```" }, { text = "none" } } }
    local path = helper.write(kit.home .. "/schema.json", '{"type":"integer"}')
    assert.equal("7\n", ask({ "--schema", path, "a number" }).output)
    local program = ask { "--schema", path, "else" }
    assert.equal(1, program.status)
    assert.matches("ValidationError", program.errors)
    helper.write(path, '{"type":"int"}')
    assert.matches("schema.type must be one of", ask({ "--schema", path, "x" }).errors)
  end))

  it("sends pictures with the message", helper.task(function()
    local path = helper.write(kit.home .. "/shot.PNG", "GIF89a and so on")
    assert.equal(0, ask({ "--image", path, "Look at it." }).status)
    assert.matches("^Look at it.\n@/%S+/parley%-attached%-[%w-]+/%x+%.png$", kit:taken()[1])
    for _, name in ipairs { "note.txt", helper.write(kit.home .. "/note.png", "a picture, by its name") } do
      local program = ask { "--image", name, "Look at it." }
      assert.equal(1, program.status)
      assert.matches(("'%s' is no picture"):format(name), program.errors, 1, true)
    end
  end))

  it("says of a picture that the model was not given it", helper.task(function()
    kit:use { answers = { { text = "7" } }, faults = { no_attachments = true } }
    local path = helper.write(kit.home .. "/shot.png", "GIF89a and so on")
    local schema = helper.write(kit.home .. "/schema.json", '{"type":"integer"}')
    for _, more in ipairs { {}, { "--schema", schema } } do
      local program = ask { "--image", path, "Look at it.", table.unpack(more) }
      assert.equal("7\n", program.output)
      assert.matches("^parley: the program has not attached the picture", program.errors)
    end
  end))

  it("reads the message from standard input", helper.task(function()
    local program = ask({ "-" }, "How is the weather\nin Rome?\n")
    assert.equal("Sunny.\n", program.output)
    assert.same({ "How is the weather\nin Rome?" }, kit:taken())
  end))

  it("puts what is piped in behind the message, as claude -p does", helper.task(function()
    local program = ask({ "Sum it up:" }, "- old\n+ new\n")
    assert.equal("", program.errors)
    assert.same({ "Sum it up:\n- old\n+ new" }, kit:taken())
  end))

  it("takes what is piped in for the message where there is none", helper.task(function()
    assert.equal("Sunny.\n", ask({}, "How is the weather?\n").output)
    assert.same({ "How is the weather?" }, kit:taken())
  end))

  it("waits for all that is piped in, once something has come", helper.task(function()
    local program <close> = start({ "Sum it up:" }, false)
    program:expect_handler(15)
    program.streams[1]:write "one\n"
    helper.eventually(function() return program.streams[1]:get_write_queue_size() == 0 end)
    program.streams[1]:write "two\n"
    program.streams[1]:shutdown()
    program:wait()
    assert.same({ "Sum it up:\none\ntwo" }, kit:taken())
  end))

  it("goes without where nothing is piped in, and where standard input cannot be read", helper.task(function()
    for _, redirection in ipairs { "</dev/null", "<&-", "</", "0>/dev/null" } do
      local program = helper.run({ "/bin/sh", "-c", 'exec "$@" ' .. redirection, "sh", helper.host, "ask",
        "--executable", kit.executable, "weather" }, { env = helper.environment(kit.environment), cwd = kit.cwd })
      assert.same({ 0, "Sunny.\n", "" }, { program.status, program.output, program.errors }, redirection)
    end
    local program <close> = start({ "weather" }, false) -- a pipe that nobody writes to
    assert.equal("Sunny.\n", program:wait().output)
    assert.matches("nothing has come on standard input for 3 s", program.errors, 1, true)
  end))

  it("says on a terminal what it waits for", helper.task(function()
    local environment = helper.environment(kit.environment)
    kit:use { answers = { { on = "weather", hang = true } } }
    local opened <close> = terminal.open { argv = { helper.host, "ask", "--executable", kit.executable, "-" },
      cwd = kit.cwd, environment = environment }
    opened:wait_for "type the message; Ctrl-D on an empty line ends it"
    opened:write "weather\r\4"
    opened:wait_for(function() return opened.screen:text():find "busy, [1-9]%d* s" end)
    opened:signal "SIGINT"
    opened:exit()
    local piped <close> = terminal.open { cwd = kit.cwd, environment = environment, argv = { "/bin/sh", "-c",
      '(echo Rome; exec sleep 60) | "$0" ask --executable "$1" weather', helper.host, kit.executable } }
    piped:wait_for(function() return piped.screen:text():find "reading standard input, [1-9]%d* s" end)
  end))

  it("takes a conversation that goes before", helper.task(function()
    local path = helper.write(helper.temporary_folder() .. "/talk.json",
      '[{"role":"user","content":"I live in Oslo."},{"role":"assistant","content":"Noted."}]')
    local output = ask({ "--json", "--history", path, "How is the weather?" }).output
    assert.same({ "How is the weather?" }, kit:taken())
    local answers = {}
    for _, record in ipairs(kit:transcript(output:match '"session_id":"([%x-]+)"')) do
      if record.type == "assistant" then table.insert(answers, record.message.content[1].text) end
    end
    assert.same({ "Noted.", "Sunny." }, answers)
  end))

  it("writes nothing to a terminal that it would obey, and to a pipe what was said", helper.task(function()
    local said = "a\27[0m \u{9b}31m\tb"
    kit:use { answers = { { on = "weather", text = said }, { on = "wrong",
      api_error = { status = 400, text = "API Error: 400 " .. said } } } }
    assert.equal(said .. "\n", ask({ "weather" }).output)
    assert.matches("error_api: API Error: 400 a\u{fffd}[0m \u{fffd}31m    b\n", ask({ "wrong" }).errors, 1, true)
    local shown <close> = terminal.open { argv = { helper.host, "ask", "--executable", kit.executable, "weather" },
      cwd = kit.cwd, environment = helper.environment(kit.environment) }
    shown:wait_for "a\u{fffd}[0m \u{fffd}31m    b"
    shown:exit()
  end))

  it("fails with a line on standard error when the turn ends in an error", helper.task(function()
    local program = ask { "ERR400" }
    assert.equal(1, program.status)
    assert.equal("", program.output)
    assert.truthy(program.errors:find "^parley: the turn ended with error_api: API Error: 400[^\n]*\n$")
  end))

  it("fails, as chat and batch do, where something else than a person has interrupted the turn", helper.task(function()
    local policy = helper.write(kit.cwd .. "/git_only.lua",
      'return { decide = function() return { deny = "git only" } end }')
    local common = { "--executable", kit.executable, "--permission-mode", "default", "--policy", "dialogs=" .. policy }
    local input = helper.write(kit.cwd .. "/in.jsonl", '{"turns":["TOUCH"]}\n')
    for _, words in ipairs { { "ask", "TOUCH" }, { "chat" }, { "batch", input } } do
      local argv = { helper.host, words[1], table.unpack(common) }
      table.insert(argv, words[2])
      local program = helper.run(argv, { env = helper.environment(kit.environment), cwd = kit.cwd,
        input = "TOUCH\nnot this\n" })
      assert.equal(1, program.status)
      assert.matches("interrupted: the policy 'dialogs' %(.*git_only.lua%) has answered 'No' "
        .. "%(permission: Bash {.*}%): git only\n", program.errors)
      assert.not_matches("not this", program.output, 1, true)
    end
    local program = ask { "--permission-mode", "default", "--policy", "dialogs=" .. policy, "TOUCH" }
    assert.matches("^parley: [^\n]*\n$", program.errors)
  end))

  it("names the cure, as chat and batch do, where a key is kept from claude without a login", helper.task(function()
    kit:use { answers = { { api_error = { error = "authentication_failed",
      text = "Not logged in · Please run /login" } } } }
    local environment = helper.environment(kit.environment, { ANTHROPIC_API_KEY = "secret" })
    local input = helper.write(kit.cwd .. "/in.jsonl", '{"turns":["hi"]}\n')
    for _, words in ipairs { { "ask", "hi" }, { "chat" }, { "batch", input } } do
      local program = helper.run({ helper.host, words[1], "--executable", kit.executable, table.unpack(words, 2) },
        { env = environment, cwd = kit.cwd, input = "hi\n" })
      assert.equal(1, program.status)
      assert.truthy(program.errors:find("Not logged in · Please run /login (ANTHROPIC_API_KEY is kept from claude: "
        .. "preserve_provider_env = true (--preserve-provider-env), or run `claude` once and log in)", 1, true))
      assert.not_matches("secret", program.errors .. program.output, 1, true)
    end
  end))

  it("never answers the trust dialog by itself", helper.task(function()
    kit:close()
    kit = testing.kit { trusted = false }
    local program = ask { "hi" }
    assert.equal(1, program.status)
    assert.truthy(program.errors:find("DialogError: the program asks (trust:", 1, true))
    assert.truthy(program.errors:find("--accept trust", 1, true))
    local state = files.read(kit.home .. "/.claude/.claude.json")
    assert.falsy(state:find "hasTrustDialogAccepted")
    assert.same({}, kit:taken())
  end))

  it("answers it when it is told to", helper.task(function()
    kit:close()
    kit = testing.kit { trusted = false }
    local program = ask { "--accept", "trust", "hi" }
    assert.equal("echo: hi\n", program.output)
    assert.truthy(files.read(kit.home .. "/.claude/.claude.json"):find "hasTrustDialogAccepted")
  end))

  for name, case in pairs {
    ["a missing message"] = { {}, "missing argument 'message'" },
    ["an unknown option"] = { { "--jsn", "hi" }, "unknown option '%-%-jsn'.*%-%-json" },
    ["a bad number"] = { { "--turn-timeout", "soon", "hi" }, "'soon' is not a number of seconds" },
    ["a bad variable"] = { { "--env", "NAME", "hi" }, "NAME=VALUE" },
    ["a command as a message"] = { { "/help" }, "session:command" },
    ["a policy that is not there"] = { { "--policy", "routing=/nowhere.lua", "hi" }, "'routing' %(/nowhere.lua%)" },
    ["an empty history"] = { { "--history", "/dev/null", "hi" }, "/dev/null is empty: expected a list of messages" },
    ["a history that is not there"] = { { "--history", "/nowhere", "hi" }, "cannot read '/nowhere'" },
  } do
    it("tells of " .. name .. " in one line, before anything is started", helper.task(function()
      local program = ask(case[1])
      assert.equal(1, program.status)
      assert.truthy(program.errors:find("^parley: ValueError: [^\n]*" .. case[2] .. "[^\n]*\n$"), program.errors)
      assert.same({}, kit:events "started")
    end))
  end

  it("ends its claude and exits with 130 on Ctrl-C", helper.task(function()
    kit:use { answers = { { on = "wait", hang = true } } }
    local program <close> = start { "wait" }
    helper.eventually(function() return #kit:taken() == 1 end)
    program:kill "sigint"
    assert.equal(130, program:wait().status)
    assert.same({}, kit:processes())
  end))
end)
