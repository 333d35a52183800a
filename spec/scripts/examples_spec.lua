-- The examples are read and copied: each does what its head says.
local files = require "parley.base.files"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local parley = require "parley"
local read_only = dofile "scripts/examples/read_only_permissions.lua"
local terminal = require "parley.testing.terminal"
local testing = require "parley.testing"
local uv = require "luv"

local function example(name) return ("scripts/examples/%s.lua"):format(name) end

describe("scripts/examples", function()
  local check_leaks, kit, backend

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit()
  end)
  after_each(function()
    if backend then parley.run(backend.close, backend) end
    backend = nil
    kit:close()
    check_leaks()
    helper.remove_folders()
  end)

  local function with(policies, options)
    options = options or {}
    for name, value in pairs(kit.options) do options[name] = value end
    options.policies = policies
    backend = parley.backend(options)
  end

  --- Sends a conversation of texts, user and assistant by turns.
  local function ask(texts, request)
    local messages, answer, result = {}, nil, nil
    for i, text in ipairs(texts) do messages[i] = { role = i % 2 == 1 and "user" or "assistant", content = text } end
    for event in backend:complete(messages, request) do
      if event.type == "assistant" then answer = event:text() end
      if event.type == "result" then result = event end
    end
    return answer, result
  end

  local function argv_of(session_id) return table.concat(backend:live_sessions()[session_id].argv, " ") end

  it("are short, and each has a spec", function()
    local specs = assert(files.read "spec/scripts/examples_spec.lua")
    for _, name in ipairs(helper.names_in "scripts/examples") do
      local stem = name:match "^([%w_]+)%.lua$"
      if stem then
        local text = assert(files.read("scripts/examples/" .. name))
        assert.is_true(select(2, text:gsub("\n", "")) < 60, name)
        assert.is_truthy(specs:find('it%("' .. stem .. " ") or specs:find('describe%("' .. stem .. '"'), name)
      end
    end
  end)

  it("route_by_tag picks model and folder by the tag, and refuses one that it does not know", helper.task(function()
    with({ routing = example "route_by_tag" }, { accept = { "trust" } })
    local _, docs = ask({ "one" }, { tag = "docs" })
    assert.equal("/usr/share/doc", kit:events "started"[1].cwd)
    assert.truthy(argv_of(docs.session_id):find("--model sonnet", 1, true))
    local _, quick = ask({ "one" }, { tag = "quick" })
    local _, plain = ask { "one" }
    assert.truthy(argv_of(quick.session_id):find("--model haiku", 1, true))
    assert.falsy(argv_of(plain.session_id):find("--model", 1, true))
    local _, again = ask({ "one", "echo: one", "two" }, { tag = "quick" })
    assert.equal(quick.session_id, again.session_id)
    assert.equal(2, again.num_turns)
    local _, err = pcall(ask, { "one" }, { tag = "nosuch" })
    assert.truthy(tostring(err):find("there is no tag 'nosuch'", 1, true))
  end))

  it("gateway_routes goes by the client's token and the model that it names", helper.task(function()
    local gateway <close> = gateways.start { backend = { policies = { routing = example "gateway_routes" } },
      tokens = { { name = "ada", token = gateways.TOKEN }, { name = "ci", token = "ci-token-0123" },
        { name = "guest", token = "guest-token-0123" } } }
    local function model_of(fields, token)
      local answer = gateway:ask("hello", fields, { ["x-api-key"] = token })
      assert.equal(200, answer.status, answer.body)
      local models = {}
      for _, process in pairs(gateway.server.backend:live_sessions()) do
        models[table.concat(process.argv, " "):match "%-%-model (%S+)"] = true
      end
      return models
    end
    assert.same({ sonnet = true }, model_of { model = "sonnet" })
    assert.same({ sonnet = true, opus = true }, model_of { model = "gpt-5" })
    assert.same({ sonnet = true, opus = true, haiku = true }, model_of({ model = "opus" }, "ci-token-0123"))
    local answer = gateway:ask("hello", nil, { ["x-api-key"] = "guest-token-0123" })
    assert.equal(403, answer.status)
    assert.truthy(answer.json.error.message:find("from nine to five", 1, true))
    assert.equal(403, gateway:ask("hello", nil, { ["user-agent"] = "curl/7.88" }).status)
    with { routing = example "gateway_routes" }
    local _, err = pcall(ask, { "one" })
    assert.truthy(tostring(err):find("it is for parley serve", 1, true))
  end))

  it("sticky_by_user keeps a user's session whatever the history, up to the cap", helper.task(function()
    with { routing = example "sticky_by_user" }
    local _, first = ask({ "one" }, { user = "ada" })
    local _, second = ask({ "quite", "another", "history" }, { user = "ada" })
    local _, other = ask({ "one" }, { user = "bob" })
    assert.equal(first.session_id, second.session_id)
    assert.not_equal(first.session_id, other.session_id)
    for _ = 3, 20 do ask({ "more" }, { user = "ada" }) end
    local _, fresh = ask({ "after the cap" }, { user = "ada" })
    assert.not_equal(first.session_id, fresh.session_id)
    assert.equal(1, fresh.num_turns)
    local _, err = pcall(ask, { "one" })
    assert.truthy(tostring(err):find("needs a user", 1, true))
  end))

  it("sticky_by_user lets her requests have the one session, one after the other", helper.task(function()
    with { routing = example "sticky_by_user" }
    local asked = {}
    for i = 1, 3 do asked[i] = parley.task.spawn(ask, { "request " .. i }, { user = "ada" }) end
    local seen = {}
    for i = 1, 3 do
      local answer, result = asked[i]:await()
      seen[i] = ("%s %d"):format(answer, result.num_turns)
    end
    assert.same({ "echo: request 1 1", "echo: request 2 2", "echo: request 3 3" }, seen)
    assert.equal(1, #kit:events "started")
  end))

  it("sticky_by_user keeps her session when others need a place, and frees it after the cap", helper.task(function()
    with({ routing = example "sticky_by_user" }, { max_sessions = 2 })
    local _, first = ask({ "one" }, { user = "ada" })
    ask({ "one" }, { user = "bob" })
    local _, err = pcall(ask, { "one" }, { user = "eve" })
    assert.truthy(tostring(err):find("kept by sessions that are pinned", 1, true))
    local _, second = ask({ "two" }, { user = "ada" })
    assert.equal(first.session_id, second.session_id)
    for _ = 3, 20 do ask({ "more" }, { user = "ada" }) end
    local _, other = ask({ "one" }, { user = "eve" })
    assert.equal(1, other.num_turns)
  end))

  it("injection_by_size puts a short history into the message, a long one into a transcript", helper.task(function()
    with { injection = example "injection_by_size" }
    ask { "short", "history", "now" }
    assert.truthy(kit:taken()[1]:find "^Previous conversation context:")
    ask { ("long "):rep(500), "history", "now" }
    assert.equal("now", kit:taken()[2])
  end))

  it("mcp_by_message starts the session with the servers that the message speaks of", helper.task(function()
    with { routing = example "mcp_by_message" }
    local _, plain = ask { "hello" }
    assert.falsy(argv_of(plain.session_id):find("--mcp-config", 1, true))
    local _, with_server = ask { "look into the database" }
    local path = argv_of(with_server.session_id):match "%-%-mcp%-config (%S+)"
    local text = files.read(path)
    assert.truthy(text:find("mcp-postgres", 1, true))
    assert.falsy(text:find("tracker", 1, true))
    local _, again = ask { "look into the database", "echo: look into the database", "once more" }
    assert.equal(with_server.session_id, again.session_id)
  end))

  --- The results of the tool calls of a turn.
  local function results_of(text, request)
    local results, result = {}, nil
    for event in backend:complete({ { role = "user", content = text } }, request) do
      for _, block in ipairs(event.type == "user" and event:blocks "tool_result" or {}) do
        table.insert(results, block.content)
      end
      if event.type == "result" then result = event end
    end
    return results, result
  end

  describe("read_only_permissions", function()
    local function decide(name, input) return read_only.decide { name = name, input = input } end

    it("allows tools and commands that only read", function()
      assert.same({ allow = true }, decide("Read", {}))
      assert.same({ allow = true }, decide("Bash", { command = "ls -l /tmp" }))
    end)

    it("denies all others, and what hides behind a harmless one", function()
      assert.truthy(decide("Write", {}).deny)
      for _, command in ipairs { "rm -r x", "ls; rm x", "cat x > y", "ls $(rm x)", "ls `rm x`", "cat x\nrm y", 7 } do
        assert.truthy(decide("Bash", { command = command }).deny, command)
      end
    end)

    it("denies a call by the program, and the model is told why", helper.task(function()
      with { permission = example "read_only_permissions" }
      local results, result = results_of "TOUCH"
      assert.equal("success", result.subtype)
      assert.matches("only what reads", results[1])
    end))
  end)

  describe("write_below", function()
    local below = dofile(example "write_below")

    local function decide(folder, path, name)
      return below.decide { name = name or "Write", input = { file_path = path }, cwd = kit.cwd,
        request = folder and { folder = folder } or nil }
    end

    it("allows files below the folder, those that are not there yet, too", function()
      assert.same({ allow = true }, decide(nil, kit.cwd .. "/a.txt"))
      assert.same({ allow = true }, decide(nil, "new/deep/a.txt"))
      assert.same({ allow = true }, decide(kit.home, kit.home .. "/a.txt"))
      assert.is_nil(decide(nil, "x", "Read"))
    end)

    it("denies those elsewhere, by .. and by a link too", function()
      assert(uv.fs_symlink(kit.home, kit.cwd .. "/link"))
      for _, path in ipairs { kit.home .. "/a.txt", "../a.txt", kit.cwd .. "/new/../../a.txt", "link/a.txt", kit.cwd,
        kit.cwd .. "-beside/a.txt" } do
        assert.truthy(decide(nil, path).deny, path)
      end
      assert.truthy(below.decide { name = "Bash", input = { command = "ls" }, cwd = kit.cwd }.deny)
    end)
  end)

  describe("git_only", function()
    local policy = dofile(example "git_only")

    local function decide(name, input, kind)
      return policy.decide({ kind = kind or "permission", text = "?", choices = { "Yes", "No" },
        tool_use = name and { name = name, input = input } }, { "trust" })
    end

    it("judges the call, where that is known", function()
      assert.same({ allow = true }, decide("Bash", { command = "git status" }))
      for _, command in ipairs { "git status; rm x", "git push", "ls", 5 } do
        assert.truthy(decide("Bash", { command = command }).deny, command)
      end
      assert.truthy(decide("Write", { file_path = "x" }).deny)
      assert.truthy(decide().fail)
      assert.truthy(decide("Bash", { command = "git status" }, "question").fail)
    end)

    it("leaves the start to `accept`", function()
      local trust = { kind = "trust", text = "?", choices = { "No, exit", "Yes, I trust this folder" } }
      assert.same({ choose = 2 }, policy.decide(trust, { "trust" }))
      assert.truthy(policy.decide(trust, {}).fail)
    end)
  end)

  describe("answer_questions", function()
    local policy = dofile(example "answer_questions")

    it("answers each question of a call as it should be", helper.task(function()
      local function question(text, ...)
        local options = {}
        for i, label in ipairs { ... } do options[i] = { label = label } end
        return { name = "AskUserQuestion", input = { questions = { { question = text, options = options } } },
          question = { text = text, choices = { ... } } }
      end
      local top, bread = question("What shall be on top?", "Ham", "Egg", "Cheese"), question("Which bread?", "Rye")
      top.question.several = true
      kit:use { answers = { { on = "top", tool = top }, { on = "bread", tool = bread } } }
      with({ dialogs = example "answer_questions" }, { permission_mode = "default" })
      for text, answer in pairs { ["on top"] = "Egg, Cheese", ["what bread"] = "Rye" } do
        local _, result = ask { text }
        assert.equal("success", result.subtype)
        local said = assert(files.read(kit:transcript_path(result.session_id)))
        assert.truthy(said:gsub("\\", ""):find(('="%s"'):format(answer), 1, true))
      end
    end))

    it("answers nothing else", function()
      local dialog = { kind = "question", text = "Whose?", choices = { "Mine" }, tool_use = { name = "AskUserQuestion",
        input = { questions = { { question = "Whose?", options = {} } } } } }
      assert.truthy(policy.decide(dialog, {}).fail)
      assert.truthy(policy.decide({ kind = "permission", text = "?", choices = { "Yes", "No" } }, {}).fail)
    end)
  end)

  it("call_budget ends the turn that calls too often", helper.task(function()
    local budget = dofile(example "call_budget")
    for _ = 1, 20 do assert.is_nil(budget.decide { session_id = "one" }) end
    assert.same({ deny = "20 tool calls are enough", interrupt = true }, budget.decide { session_id = "one" })
    assert.is_nil(budget.decide { session_id = "two" })
    with { permission = example "call_budget" }
    local results = results_of "TWOTOOLS"
    assert.same({ "A", "B" }, results)
  end))

  it("sleep_early lets go of those whose cache has gone, and gives the largest one's place away", function()
    local policy = dofile(example "sleep_early")
    local function session(id, memory, idle_ms, is_warm)
      return { session_id = id, memory = memory, idle_ms = idle_ms, is_warm = is_warm }
    end
    local function all()
      return { session("warm", 9, 1000, true), session("small", 1, 400000, false), session("large", 5, 400000, false),
        session("new", 7, 1000, false) }
    end
    assert.same({ "large", "small" }, policy.choose(all(), { places = 0 }))
    assert.same({ "new", "large", "small", "warm" }, policy.choose(all(), { places = 1 }))
  end)

  --- `parley ask` with a policy, on a terminal.
  local function run_on_terminal(policy, given, ...)
    kit:close()
    kit = testing.kit(given)
    local name, file = policy:match "^(.*)=(.*)$"
    return terminal.open {
      argv = { helper.host, "ask", "--executable", kit.executable, "--cwd", kit.cwd, "--policy",
        name .. "=" .. example(file), ... },
      environment = helper.environment(kit.environment),
    }
  end

  local function ask_on_terminal(given, ...) return run_on_terminal("dialogs=ask_on_terminal", given, ...) end

  for _, answer in ipairs { "y", "not today" } do
    it("ask_about_calls shows the whole call and takes the answer: " .. answer, helper.task(function()
      local opened <close> = run_on_terminal("permission=ask_about_calls", nil, "TOUCH")
      opened:wait_for "what to tell the model"
      assert.matches("the model calls Bash.*touch made.txt", opened.screen:text())
      opened:write(answer .. "\r")
      opened:wait_for "echo: TOOLRESULT"
      opened:exit()
    end))
  end

  it("ask_about_calls and ask_on_terminal take no answer that was typed before the question", helper.task(function()
    do
      local opened <close> = run_on_terminal("permission=ask_about_calls", nil, "TOUCH")
      opened:write "yes\r"
      opened:wait_for "what to tell the model"
      opened:write "no\r"
      opened:wait_for "the user says: no"
      opened:exit()
    end
    local opened <close> = ask_on_terminal(nil, "--permission-mode", "default", "TOUCH")
    opened:write "1\r"
    opened:wait_for "your choice"
    opened:write "\r"
    opened:wait_for "nobody answered it"
    opened:exit()
  end))

  it("ask_on_terminal shows the command that it asks about", helper.task(function()
    local opened <close> = ask_on_terminal(nil, "--permission-mode", "default", "TOUCH")
    opened:wait_for "your choice"
    assert.matches("\ntouch made.txt\n.*Do you want to proceed", opened.screen:text())
    opened:write "\r"
    opened:exit()
  end))

  it("ask_on_terminal offers nothing where the beginning is out of sight", function()
    local policy = dofile(example "ask_on_terminal")
    assert.matches("out of sight", policy.decide({ is_cut = true, text = "x", choices = { "Yes" } }).fail)
  end)

  it("ask_on_terminal brings the dialog to the terminal and does what is typed there", helper.task(function()
    local opened <close> = ask_on_terminal({ trusted = false }, "hi")
    opened:wait_for "your choice"
    local number = opened.screen:text():match "(%d)  Yes, I trust"
    opened:write(number .. "\r")
    opened:wait_for "echo: hi"
    opened:exit()
  end))

  it("line_server talks with each of its clients, line by line", helper.task(function()
    local environment = { "PATH=" .. os.getenv "PATH", "PARLEY_CLAUDE=" .. kit.executable }
    for name, value in pairs(kit.environment) do table.insert(environment, name .. "=" .. value) end
    local program <close> = helper.start({ helper.host, uv.cwd() .. "/" .. example "line_server", "0" },
      { env = environment, cwd = kit.cwd })
    helper.eventually(function() return program.output:find "port %d+" end)
    local port = tonumber(program.output:match "port (%d+)")
    local function connect()
      local client = { socket = uv.new_tcp(), received = "" }
      parley.task.suspend(function(wake) client.socket:connect("127.0.0.1", port, wake) end)
      client.socket:read_start(function(_, bytes) client.received = client.received .. (bytes or "(end)") end)
      return client, parley.task.closing(client.socket)
    end
    local first, first_closer = connect()
    local second, second_closer = connect()
    local _ <close> = first_closer
    local _ <close> = second_closer
    first.socket:write "one\ntw"
    second.socket:write "/exit\nleft\n"
    helper.eventually(function() return first.received ~= "" end)
    first.socket:write "o\n"
    first.socket:shutdown()
    helper.eventually(function() return first.received:find "end" and second.received:find "left" end)
    assert.equal("echo: one\necho: two\n(end)", first.received)
    assert.matches("^ValueError: .*command.*\necho: left\n$", second.received)
    assert.equal(2, #kit:events "started")
    program:kill "sigterm"
    program:wait()
  end))

  it("fork_at asks each question at the same place of a conversation", helper.task(function()
    local path = helper.write(helper.temporary_folder() .. "/talk.json", [==[
      [{"role":"user","content":"one"},{"role":"assistant","content":"echo: one"},{"role":"user","content":"two"}]]==])
    local program = helper.run({ helper.host, uv.cwd() .. "/" .. example "fork_at", path, "2", "left?", "right?" },
      { env = helper.environment(kit.environment, { PARLEY_CLAUDE = kit.executable }), cwd = kit.cwd })
    assert.equal("> left?\necho: left?\n\n> right?\necho: right?\n\n", program.output)
    assert.equal(0, program.status)
  end))

  it("tool_lookup has the model look into a file, and tells of what fails", helper.task(function()
    kit:use { answers = { { on = "apples", tool = { name = "lookup", input = { word = "Apple" } } },
      { on = "bad", tool = { name = "lookup", input = { word = "a" } } } } }
    local list = helper.write(helper.temporary_folder() .. "/prices.csv", "apple,2\npear,3\npineapple,9\n")
    local function run(question)
      return helper.run({ helper.host, uv.cwd() .. "/" .. example "tool_lookup", list, question },
        { env = helper.environment(kit.environment, { PARLEY_CLAUDE = kit.executable }), cwd = kit.cwd })
    end
    assert.matches("echo: TOOLRESULT apple,2\npineapple,9\n$", run("What do ten apples cost?").output)
    assert.equal("lookup: input.word must have at least 2 characters, not 1\n", run("bad").errors)
  end))

  --- Runs an example as a script, in the folder of the kit.
  local function run(name, ...)
    return helper.run({ helper.host, uv.cwd() .. "/" .. example(name), ... },
      { env = helper.environment(kit.environment, { PARLEY_CLAUDE = kit.executable }), cwd = kit.cwd })
  end

  it("as_it_comes prints each line when it is there, and the whole once", helper.task(function()
    local text = "one\ntwo\nthree"
    kit:use { answers = { { on = "Explain", text = text, line_ms = 300 } } }
    local program <close> = helper.start({ helper.host, uv.cwd() .. "/" .. example "as_it_comes", "Explain it." },
      { env = helper.environment(kit.environment, { PARLEY_CLAUDE = kit.executable }), cwd = kit.cwd })
    program:expect "one\n"
    assert.is_nil(program.status)
    program:wait()
    assert.equal(text .. "\n", program.output)
    kit:use { profile = "2.1.110", answers = { { on = "Explain", text = text } } } -- tells of no parts
    assert.equal(text .. "\n", run("as_it_comes", "Explain it.").output)
  end))

  it("many_at_once holds twenty conversations side by side, and goes on when one fails", helper.task(function()
    kit:use { answers = { { on = "Is 7 prime", api_error = { status = 400, text = "no" } },
      { on = "prime", text = "Who knows?", delay_ms = 2000 } } }
    local lines, began = {}, parley.task.now()
    for line in run("many_at_once", "Is %d prime?").output:gmatch "[^\n]+" do table.insert(lines, line) end
    assert.equal(20, #lines)
    for i, line in ipairs(lines) do
      assert.matches(i == 7 and "^7\tfailed: .*error_api" or ("^%d\tWho knows%%?$"):format(i), line)
    end
    assert.equal(20, #kit:events "started")
    assert.is_true(parley.task.now() - began < 30000) -- one after the other they take 38 s
  end))

  it("guarded lets the model read, and denies all else with a word", helper.task(function()
    kit:use { answers = { { on = "tests", after = "Two.", tools = {
      { name = "Read", input = { file_path = "a.lua" }, result = "x" },
      { name = "Bash", input = { command = "rm -r ." }, result = "gone" } } } } }
    local program = run("guarded", "Which tests are missing?")
    assert.equal("Two.\n", program.output, program.errors)
    assert.equal("Read: allow\nBash: deny\n", program.errors)
    local records = kit:transcript(kit:events("started")[1].session_id)
    assert.matches("Bash is not allowed: only reading is", parley.json.encode(records))
  end))
end)
