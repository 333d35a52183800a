local uv = require "luv"
local batch = require "parley.command.batch"
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local task = require "parley.base.task"
local terminal = require "parley.testing.terminal"
local testing = require "parley.testing"
local tmux = require "spec.tmux"

--- The environment of a command that finds the kit's `claude` and home.
local function environment_of(kit)
  return helper.environment({ TERM = "xterm-256color" }, kit.environment)
end

local function argv_of(kit, words)
  local argv = { helper.host, "batch", "--executable", kit.executable, "--cwd", kit.cwd }
  return table.move(words, 1, #words, #argv + 1, argv)
end

--- Starts `parley batch` with the kit's `claude`.
local function start(kit, words, input)
  return helper.start(argv_of(kit, words), { env = environment_of(kit), cwd = kit.folder, input = input })
end

local function run(kit, words, input)
  local program <close> = start(kit, words, input)
  return program:wait()
end

--- Writes an input of tables; a text goes in as it is.
local function write_input(kit, items)
  local lines = {}
  for i, item in ipairs(items) do lines[i] = type(item) == "string" and item or assert(json.encode(item)) end
  helper.write(kit.folder .. "/in.jsonl", table.concat(lines, "\n") .. "\n")
end

local function numbered(count, format)
  local items = {}
  for i = 1, count do items[i] = { id = ("c%d"):format(i), turns = { (format or "hello %d"):format(i) } } end
  return items
end

--- The whole lines of an output, decoded, and by id.
local function read_results(kit, name)
  local ordered, by_id = helper.json_lines(files.read(kit.folder .. "/" .. (name or "out.jsonl"))), {}
  for _, result in ipairs(ordered) do
    by_id[result.id] = result
  end
  return ordered, by_id
end

local function count_ids(kit)
  local times, count = {}, 0
  for _, result in ipairs((read_results(kit))) do
    if not times[result.id] then count = count + 1 end
    times[result.id] = (times[result.id] or 0) + 1
  end
  return count, times
end

local function wait_for_the_dead(kit)
  helper.eventually(function() return #kit:processes() == 0 end, nil, "the end of every stand-in")
end

local BASIC = { "in.jsonl", "-o", "out.jsonl" }

local function basic(...)
  return table.move({ ... }, 1, select("#", ...), #BASIC + 1, table.move(BASIC, 1, #BASIC, 1, {}))
end

describe("parley batch", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  it("sends pictures, and names the line and the file of one that is missing or none", helper.task(function()
    local kit <close> = testing.kit()
    local function picture(path) return { type = "image", source = { type = "file", path = path } } end
    local function turn(block) return { { { type = "text", text = "Look" }, block } } end
    helper.write(kit.folder .. "/a.png", "one")
    helper.write(kit.folder .. "/b.png", "two")
    local function inline(data)
      return { type = "image", source = { type = "base64", media_type = "image/png", data = data } }
    end
    local two = inline "dHdv"
    write_input(kit, {
      { id = "file", turns = turn(picture "a.png") },
      { id = "data", messages = { { role = "user", content = { two } } } },
      { id = "missing", turns = turn(picture "no.png") }, { id = "none", turns = turn(picture "in.jsonl") },
      { id = "bad", turns = turn(inline "") },
    })
    assert.equal(1, run(kit, basic()).status)
    local by_line = {}
    for _, result in ipairs((read_results(kit))) do by_line[result.line] = result end
    assert.same({ "success", "success" }, { by_line[1].verdict, by_line[2].verdict })
    assert.equal("b25l", by_line[1].messages[1].content[2].source.data)
    assert.equal(2, select(2, table.concat(kit:taken(), "\n"):gsub("@/%S+%.png", "")))
    for line, expected in pairs { [3] = "'no.png' cannot be read: No such file", [4] = "'in.jsonl' is no picture",
      [5] = "content[2] is a block of type 'image'" } do
      local message = by_line[line].error.message
      assert.truthy(message:find(expected, 1, true), message)
    end
    assert.equal(2, #kit:events "started")
  end))

  it("holds the conversations of its input and writes a line each", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, {
      { id = "turns", turns = { "one", "COUNT two", "COUNT three" }, expect = "turn 3", metadata = { tag = "x" } },
      { id = "history", messages = { { role = "user", content = "my name is Ada" },
        { role = "assistant", content = "hello Ada" }, { role = "user", content = "and now?" } } },
      { id = "tools", turns = { "USETOOL" }, expect = { { contains = "TOOLRESULT" }, { pattern = "^echo" } } },
    })
    local program = run(kit, basic())
    assert.equal(0, program.status, program.errors)
    local ordered, results = read_results(kit)
    assert.equal(3, #ordered)
    for _, result in ipairs(ordered) do assert.equal("success", result.verdict) end

    local turns = results.turns
    assert.same({ 1, 1, 3, 6, "x" },
      { turns.line, turns.attempts, #turns.turn_ms, #turns.messages, turns.metadata.tag })
    assert.same({ role = "user", content = "COUNT three" }, turns.messages[5])
    assert.same({ { type = "text", text = "turn 3" } }, turns.messages[6].content)
    assert.same({ "success", 3 }, { turns.result.subtype, turns.result.num_turns }) -- one session for all
    assert.is_true(turns.usage.output_tokens > turns.result.usage.output_tokens)
    assert.is_truthy(turns.started_at:find "^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
    assert.is_true(turns.duration_ms >= turns.turn_ms[1] + turns.turn_ms[2] + turns.turn_ms[3] - 3)

    assert.equal(4, #results.history.messages)
    assert.equal("tool_use", results.tools.messages[2].content[2].type)
    assert.is_truthy(program.errors:find("3 succeeded, 0 failed", 1, true))
    assert.equal(0, #kit:processes())
  end))

  it("starts a conversation with the options of its own", helper.task(function()
    local kit <close> = testing.kit()
    uv.fs_mkdir(kit.cwd .. "/below", 448)
    helper.write(kit.home .. "/.claude.json", json.encode { hasCompletedOnboarding = true, theme = "dark",
      projects = { [kit.cwd] = { hasTrustDialogAccepted = true },
        [kit.cwd .. "/below"] = { hasTrustDialogAccepted = true } } })
    write_input(kit, { { id = "own", turns = { "x" }, model = "opus", system_prompt = "Be brief.",
      cwd = kit.cwd .. "/below" }, { id = "common", turns = { "x" } } })
    local program = run(kit, basic("--jobs", "1", "--model", "haiku"))
    assert.equal(0, program.status, program.errors)
    local started = kit:events "started"
    local words = table.concat(started[1].argv, " ")
    assert.is_truthy(words:find("--model opus --system-prompt Be brief.", 1, true), words)
    assert.equal(kit.cwd .. "/below", started[1].cwd)
    assert.is_truthy(table.concat(started[2].argv, " "):find("--model haiku", 1, true))
    assert.equal(kit.cwd, started[2].cwd)
  end))

  it("loads a policy once for all, and tells it whose turn it is", helper.task(function()
    local kit <close> = testing.kit()
    helper.write(kit.folder .. "/routing.lua", [[
      local count = 0
      return { route = function(request)
        count = count + 1
        return { options = { model = ("%s-%s-%d"):format(request.id, request.metadata.tag, count) } }
      end }]])
    write_input(kit, { { id = "a", turns = { "x" }, metadata = { tag = "t" } },
      { id = "b", turns = { "x" }, metadata = { tag = "u" } } })
    local program = run(kit, basic("--jobs", "1", "--policy", "routing=routing.lua"))
    assert.equal(0, program.status, program.errors)
    local words = {}
    for i, event in ipairs(kit:events "started") do words[i] = table.concat(event.argv, " "):match "%-%-model (%S+)" end
    assert.same({ "a-t-1", "b-u-2" }, words)
  end))

  it("lets a Lua file decide the next turn from the last answer", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "guess 1", text = "higher" },
      { on = "guess 2", text = "higher" }, { on = "guess 3", text = "right" } } } }
    helper.write(kit.folder .. "/game.lua", [[
      local function play(answer, turn_number)
        if answer ~= "right" then return "guess " .. turn_number end
      end
      return coroutine.wrap(function()
        for game = 1, 2 do
          coroutine.yield { id = "game-" .. game, turns = play, expect = function(text) return text == "right" end }
        end
      end)
    ]])
    local program = run(kit, { "game.lua", "-o", "out.jsonl" })
    assert.equal(0, program.status, program.errors)
    local _, results = read_results(kit)
    assert.same({ "success", 6 }, { results["game-2"].verdict, #results["game-2"].messages })
  end))

  it("reports malformed lines with their numbers and runs the rest", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, { { id = "a", turns = { "x" } }, "{nonsense", '{"id":"b","turn":["x"]}',
      { id = "a", turns = { "again" } }, { id = "c", turns = { "x" } } })
    local program = run(kit, basic())
    assert.equal(1, program.status)
    local ordered, results = read_results(kit)
    assert.same({ 5, "success", "success" }, { #ordered, results.a.verdict, results.c.verdict })
    local failed = {}
    for _, result in ipairs(ordered) do
      if result.verdict == "failed" then failed[result.line] = result.error.code end
    end
    assert.same({ [2] = "ValueError", [3] = "ValueError", [4] = "DuplicateId" }, failed)
    for _, text in ipairs { "line 2 failed: ValueError: not JSON", "line 3 failed",
      'line 4 failed: DuplicateId: the id "a"', "2 succeeded, 3 failed" } do
      assert.is_truthy(program.errors:find(text, 1, true), program.errors)
    end
    assert.same({ "x", "x" }, kit:taken())
  end))

  it("has values of a schema, asked for once more if need be, and looks at answers by one", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "does not fit", text = "[2]" },
      { on = "bad", text = "seven" }, { on = "list", text = '[1, "a"]' }, { on = "number", text = "7" } } } }
    local number = { type = "integer" }
    write_input(kit, {
      { id = "value", turns = { "first", "a number" }, schema = number },
      { id = "message", messages = { { role = "user", content = "a number" } }, schema = number },
      { id = "again", turns = { "a list" }, schema = { type = "array", items = number } },
      { id = "never", turns = { "bad" }, schema = number },
      { id = "expected", turns = { "number" }, expect = { json = number } },
      { id = "unexpected", turns = { "list" }, expect = { json = number } },
      { id = "wrong", turns = { "x" }, schema = { type = "int" } },
      { id = "wrong too", turns = { "x" }, expect = { json = { typ = "string" } } },
    })
    local program = run(kit, basic())
    local _, results = read_results(kit)
    assert.equal(7, results.value.value, program.errors)
    assert.equal(7, results.message.value)
    assert.same({ { 2 }, 4 }, { results.again.value, #results.again.messages })
    assert.same({ "ValidationError", 2 }, { results.never.error.code, results.never.error.turn })
    assert.equal("success", results.expected.verdict)
    assert.equal("ExpectationError", results.unexpected.error.code)
    assert.matches("%$ must be of type integer", results.unexpected.error.message)
    local sent = {}
    for _, text in ipairs(kit:taken()) do sent[text:match "^[^\n]*"] = text end
    assert.matches("fits this JSON Schema", sent["a number"])
    assert.equal("first", sent.first)
    assert.matches("schema%.type must be one of", program.errors)
    assert.matches("expect: 'json' has the keyword 'typ'.*did you mean 'type'", program.errors)
  end))

  it("keeps a conversation's failure to itself", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "crash", crash = "after_user" },
      { on = "never", hang = true } } } }
    write_input(kit, { { id = "crash", turns = { "fine", "crash" } }, { id = "api", turns = { "ERR400" } },
      { id = "late", turns = { "never" } }, { id = "empty", turns = { "EMPTY" } },
      { id = "unexpected", turns = { "x" }, expect = "y" }, { id = "folder", turns = { "x" }, cwd = "/no/such" },
      { id = "good", turns = { "x" } } })
    local program = run(kit, basic("--turn-timeout", "5")) -- a good turn takes less, on a busy machine too
    assert.equal(1, program.status)
    local ordered, results = read_results(kit)
    assert.equal(7, #ordered)
    local found = {}
    for id, result in pairs(results) do found[id] = (result.error or {}).code or result.verdict end
    assert.same({ crash = "SessionError", api = "error_api", late = "SessionError", empty = "error_no_output",
      unexpected = "ExpectationError", folder = "ValueError", good = "success" }, found)
    assert.same({ "exit", 2, 3 }, { results.crash.error.reason, results.crash.error.turn, #results.crash.messages })
    assert.equal("timeout", results.late.error.reason)
    assert.is_string(results.late.error.screen)
    wait_for_the_dead(kit)
  end))

  it("plays a conversation that failed again with --retries", helper.task(function()
    local kit <close> = testing.kit()
    helper.write(kit.folder .. "/faulty.lua", [[
      local path = ... or ""
      return { startup_delay_ms = 20, flush_ms = 5, answers = { {
        on = function(text)
          if text ~= "second" then return false end
          local seen = io.open("]] .. kit.folder .. [[/seen")
          if not seen then io.open("]] .. kit.folder .. [[/seen", "w"):close() end
          return not seen
        end, crash = "after_user" } } } ]])
    kit:use(kit.folder .. "/faulty.lua")
    write_input(kit, { { id = "a", turns = { "first", "second" } } })
    local program = run(kit, basic("--retries", "2", "--retry-wait", "0"))
    assert.equal(0, program.status, program.errors)
    local _, results = read_results(kit)
    assert.same({ "success", 2, 4 }, { results.a.verdict, results.a.attempts, #results.a.messages })
    assert.same({ "first", "second", "first", "second" }, kit:taken())
  end))

  it("ends at the first failure with --fail-fast, and goes on with --resume", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true } } } }
    write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "never" } },
      { id = "c", turns = { "ERR400" } }, { id = "d", turns = { "x" } } })
    local program = run(kit, basic("--jobs", "2", "--fail-fast"))
    assert.equal(1, program.status)
    local ordered, results = read_results(kit)
    assert.same({ 2, "success", "failed" }, { #ordered, results.a.verdict, results.c.verdict })
    assert.is_truthy(program.errors:find("--resume goes on", 1, true))
    wait_for_the_dead(kit)

    kit:use {}
    program = run(kit, basic("--resume"))
    assert.equal(1, program.status) -- for the failure that stands in the output
    assert.is_truthy(program.errors:find("2 succeeded, 0 failed, 2 done before (1 of them failed)", 1, true))
    assert.equal(4, #read_results(kit))
  end))

  it("forgets the failure of a line that was mended", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, { { id = "a", turns = { "x" } }, "{nonsense", "more nonsense", { id = "a", turns = { "y" } } })
    assert.equal(1, run(kit, basic()).status)
    write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "x" } }, "more nonsense",
      { id = "a", turns = { "y" } } })
    local program = run(kit, basic "--resume")
    assert.equal(1, program.status)
    assert.is_truthy(program.errors:find("1 succeeded, 0 failed, 3 done before (2 of them failed)", 1, true),
      program.errors)
    local lines = {}
    for _, result in ipairs((read_results(kit))) do lines[result.line] = result.verdict end
    assert.same({ "success", "success", "failed", "failed" }, lines)

    write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "x" } }, { id = "c", turns = { "x" } } })
    program = run(kit, basic "--resume")
    assert.equal(0, program.status, program.errors)
    assert.same({ 3, 3 }, { count_ids(kit), #read_results(kit) })
    assert.same({ "x", "x", "x" }, kit:taken())
  end))

  describe("--retry-failed", function()
    local FAULTY = { answers = { { on = "c2", api_error = { status = 400 } }, { on = "c3", crash = "after_user" } } }

    it("runs again what has failed, and nothing else, and replaces its result", helper.task(function()
      local kit <close> = testing.kit { script = FAULTY }
      write_input(kit, numbered(4, "c%d"))
      local program = run(kit, basic())
      assert.equal(1, program.status)
      assert.is_truthy(program.errors:find("--retry-failed runs the failed ones again", 1, true), program.errors)
      kit:use { answers = { FAULTY.answers[1] } }
      program = run(kit, basic "--retry-failed")
      assert.equal(1, program.status) -- c2 has failed again
      assert.is_truthy(program.errors:find("1 succeeded, 1 failed, 2 done before (0 of them failed)", 1, true),
        program.errors)
      local ordered, results = read_results(kit)
      assert.same({ 4, "failed", "success" }, { #ordered, results.c2.verdict, results.c3.verdict })
      kit:use {}
      program = run(kit, basic("--resume", "--retry-failed"))
      assert.equal(0, program.status, program.errors)
      assert.is_nil(program.errors:find "retry%-failed")
      ordered, results = read_results(kit)
      assert.same({ 4, "success" }, { #ordered, results.c2.verdict })
      local taken = kit:taken()
      table.sort(taken)
      assert.same({ "c1", "c2", "c2", "c2", "c3", "c3", "c4" }, taken)
    end))

    it("keeps the old result of one that it did not come to", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { api_error = { status = 400 } } } } }
      write_input(kit, numbered(3, "c%d"))
      run(kit, basic())
      kit:use { answers = { { on = "c2", hang = true } } }
      local program <close> = start(kit, basic("--retry-failed", "--jobs", "1"))
      helper.eventually(function() return #kit:taken() == 5 end)
      program:kill "sigint"
      assert.equal(130, program:wait().status)
      assert.is_truthy(program.errors:find("ended early; the same command goes on", 1, true), program.errors)
      local ordered, results = read_results(kit)
      assert.same({ 3, "success", "failed", "failed" }, { #ordered, results.c1.verdict, results.c2.verdict,
        results.c3.verdict })
    end))

    it("works with shards", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { api_error = { status = 400 } } } } }
      write_input(kit, numbered(6, "c%d"))
      local function run_shards(...)
        for index = 1, 2 do
          run(kit, { "in.jsonl", "-o", ("part-%d.jsonl"):format(index), "--shard", index .. "/2", ... })
        end
      end
      run_shards()
      kit:use {}
      run_shards "--retry-failed"
      local seen = 0
      for index = 1, 2 do
        for _, result in ipairs((read_results(kit, ("part-%d.jsonl"):format(index)))) do
          assert.same({ "success", index }, { result.verdict, batch.shard_of(result.id, 2) })
          seen = seen + 1
        end
      end
      assert.same({ 6, 12 }, { seen, #kit:taken() })
    end))
  end)

  it("runs each conversation in one of the shards", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, numbered(12))
    local seen = {}
    for index = 1, 3 do
      local name = ("part-%d.jsonl"):format(index)
      local program = run(kit, { "in.jsonl", "-o", name, "--shard", index .. "/3" })
      assert.equal(0, program.status, program.errors)
      for _, result in ipairs((read_results(kit, name))) do
        assert.is_nil(seen[result.id])
        assert.equal(index, batch.shard_of(result.id, 3))
        seen[result.id] = true
      end
    end
    for i = 1, 12 do assert.is_true(seen["c" .. i]) end
  end))

  it("reads standard input and writes standard output", helper.task(function()
    local kit <close> = testing.kit()
    local program = run(kit, { "-" }, '{"id":"a","turns":["x"]}\n{"id":"b","turns":["y"]}')
    assert.equal(0, program.status, program.errors)
    local ids = {}
    for line in program.output:gmatch "[^\n]+" do ids[json.decode(line).id] = true end
    assert.same({ a = true, b = true }, ids)
  end))

  for what, case in pairs {
    ["an option's bad value"] = { { "in.jsonl", "--jobs", "0" }, "'0' is not a whole number from 1 on" },
    ["a shard behind the last"] = { { "in.jsonl", "--shard", "4/3" }, "'4/3' is not of the form I/N" },
    ["a shard before the first"] = { { "in.jsonl", "--shard", "0/3" }, "'0/3' is not of the form I/N" },
    ["a missing input"] = { { "none.jsonl", "-o", "out.jsonl" }, "cannot read 'none.jsonl'" },
    ["an input that is the output"] = { { "in.jsonl", "-o", "in.jsonl" }, "both the input and the output" },
    ["an output in no folder"] = { { "in.jsonl", "-o", "no/out.jsonl" },
      "ENOENT: cannot write 'no/out.jsonl': no such file" },
    ["an output that is a folder"] = { { "in.jsonl", "-o", "work" }, "EISDIR: cannot write 'work': " },
    ["to resume what is no output of a batch"] = { { "in.jsonl", "--resume", "-o", "in.jsonl.txt" },
      "'in.jsonl.txt' cannot be resumed: its line 1 is no result" },
    ["to run again what failed on standard output"] = { { "in.jsonl", "--retry-failed" }, "give --output" },
    ["an output that holds results"] = { { "in.jsonl", "-o", "full.jsonl" }, "'full.jsonl' holds results already" },
    ["a bad option of the backend"] = { { "in.jsonl", "--permission-mode", "x" }, "permission_mode" },
    ["a policy of an unknown name"] = { { "in.jsonl", "--policy", "rooting=none.lua" }, "no policy 'rooting'" },
    ["a policy that is none"] = { { "in.jsonl", "--policy", "routing=none.lua" }, "the policy 'routing'" },
  } do
    it("refuses " .. what .. " with one line, before anything is started", helper.task(function()
      local kit <close> = testing.kit()
      write_input(kit, numbered(3))
      helper.write(kit.folder .. "/full.jsonl", '{"id":"c1","line":1,"verdict":"success"}\n')
      helper.write(kit.folder .. "/in.jsonl.txt", "Dear diary,\n")
      local program = run(kit, case[1])
      assert.equal("Dear diary,\n", files.read(kit.folder .. "/in.jsonl.txt"))
      assert.equal(1, program.status)
      assert.is_truthy(program.errors:find(case[2], 1, true), program.errors)
      assert.same({ 1, "" }, { select(2, program.errors:gsub("\n", "")), program.output })
      assert.same({}, kit:events "started")
      assert.is_nil(uv.fs_stat(kit.folder .. "/out.jsonl"))
    end))
  end

  it("ends when there is no claude, and blames no conversation for it", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, numbered(3))
    local program = run(kit, basic("--executable", "/no/such/claude"))
    assert.equal(1, program.status)
    assert.is_truthy(program.errors:find("cannot run '/no/such/claude'", 1, true), program.errors)
    assert.same({}, (read_results(kit)))
  end))

  describe("ends at what every conversation would meet, and goes on with --resume:", function()
    --- A run that ends with this error, and one that goes on when it is gone.
    local function check_systemic(kit, words, message, mend)
      write_input(kit, numbered(4))
      local program = run(kit, basic("--jobs", "2", table.unpack(words)))
      assert.equal(1, program.status)
      assert.is_truthy(program.errors:find("0 succeeded, 0 failed", 1, true), program.errors)
      assert.is_truthy(program.errors:find("the same command with --resume goes on", 1, true), program.errors)
      assert.is_truthy(program.errors:find("\nparley: " .. message .. "[^\n]*\n$"), program.errors)
      assert.same({}, (read_results(kit)))
      wait_for_the_dead(kit)
      mend()
      program = run(kit, basic "--resume")
      assert.equal(0, program.status, program.errors)
      assert.same({ 4, 4 }, { count_ids(kit), #read_results(kit) })
    end

    it("a folder that is not trusted", helper.task(function()
      local kit <close> = testing.kit { trusted = false }
      check_systemic(kit, {}, "DialogError: the program asks %(trust: .*%-%-accept trust", function()
        helper.write(kit.home .. "/.claude.json", json.encode { hasCompletedOnboarding = true,
          projects = { [kit.cwd] = { hasTrustDialogAccepted = true } } })
      end)
      assert.same(4, #kit:taken())
    end))

    it("a folder that is not there", helper.task(function()
      local kit <close> = testing.kit()
      check_systemic(kit, { "--cwd", "none" }, "ValueError: the working directory 'none' cannot be used: no such file",
        function() end)
    end))

    it("a flag that the program does not take", helper.task(function()
      local kit <close> = testing.kit { script = { faults = { startup_exit = { status = 1,
        text = "error: unknown option '--bogus'" } } } }
      check_systemic(kit, { "--extra-arg=--bogus" },
        "SessionError: the program exited with status 1; [^\n]*error: unknown option '%-%-bogus'",
        function() kit:use {} end)
    end))

    local LOGIN = { error = "authentication_failed", text = "Not logged in · Please run /login" }
    local LIMIT = { status = 429, error = "rate_limit", retries = 0,
      text = "You've hit your session limit · resets 10:42pm (UTC)" }
    for what, case in pairs {
      ["nobody is logged in"] = { LOGIN, "2.1.330" },
      ["a usage limit"] = { LIMIT, "2.1.330" },
      ["a usage limit, behind which a dialog comes up"] = { LIMIT, "2.1.197" },
    } do
      it(what, helper.task(function()
        local kit <close> = testing.kit { profile = case[2], script = { answers = { { api_error = case[1] } } } }
        check_systemic(kit, {}, "error_api: " .. case[1].text:gsub("%p", "%%%0"), function() kit:use {} end)
      end))
    end
  end)

  it("fails a conversation whose own folder is not trusted, and no other", helper.task(function()
    local kit <close> = testing.kit()
    uv.fs_mkdir(kit.cwd .. "/below", 448)
    write_input(kit, { { id = "own", turns = { "x" }, cwd = kit.cwd .. "/below" },
      { id = "none", turns = { "x" }, cwd = "/no/such" }, { id = "common", turns = { "x" } } })
    local program = run(kit, basic("--jobs", "1"))
    assert.equal(1, program.status)
    local _, results = read_results(kit)
    assert.same({ "DialogError", "ValueError", "success" },
      { results.own.error.code, results.none.error.code, results.common.verdict })
  end))

  it("fails a conversation whose tool call nothing may allow, and no other", helper.task(function()
    local kit <close> = testing.kit { script = { answers = {
      { on = "make", tool = { name = "Bash", input = { command = "make" }, permission = true } } } } }
    write_input(kit, { { id = "asks", turns = { "make" } }, { id = "good", turns = { "x" } } })
    local program = run(kit, basic("--jobs", "1", "--permission-mode", "default"))
    assert.equal(1, program.status)
    local _, results = read_results(kit)
    assert.same({ "DialogError", "success" }, { results.asks.error.code, results.good.verdict })
  end))

  describe("when the disk is full", function()
    --- Three results of which only the first fits into 64 KiB.
    local function large_input(kit)
      local items = numbered(3)
      for _, item in ipairs(items) do item.metadata = ("x"):rep(40000) end
      write_input(kit, items)
    end

    local function check_full(kit, program, code)
      assert.equal(1, program.status)
      assert.is_truthy(program.errors:find(code .. ": cannot write 'out.jsonl': ", 1, true), program.errors)
      assert.is_truthy(program.errors:find("1 succeeded, 0 failed", 1, true), program.errors)
      assert.equal(1, select(2, files.read(kit.folder .. "/out.jsonl"):gsub("\n", "")))
      assert.equal("\n", files.read(kit.folder .. "/out.jsonl"):sub(-1))
      wait_for_the_dead(kit)
      program = run(kit, basic("--resume"))
      assert.equal(0, program.status, program.errors)
      local count = count_ids(kit)
      assert.same({ 3, 3 }, { count, #read_results(kit) })
    end

    it("stops with one error and nothing half-written, at a limit on file sizes", helper.task(function()
      local kit <close> = testing.kit()
      large_input(kit)
      local argv = argv_of(kit, basic("--jobs", "1"))
      local program <close> = helper.start({ "/bin/sh", "-c", 'ulimit -f 128; exec "$@"', "sh", table.unpack(argv) },
        { env = environment_of(kit), cwd = kit.folder })
      check_full(kit, program:wait(), "EFBIG")
    end))

    local function can_mount()
      return helper.run({ "/usr/bin/env", "unshare", "-rm", "sh", "-c",
        "mount -t tmpfs none /mnt && mount -o remount,ro /mnt" }).status == 0
    end

    it("stops with one error and nothing half-written, on a small tmpfs", helper.task(function()
      if not can_mount() then return pending "nothing can be mounted here" end
      local kit <close> = testing.kit()
      large_input(kit)
      local argv = argv_of(kit, basic("--jobs", "1"))
      local program <close> = helper.start({ "/usr/bin/env", "unshare", "-rm", "sh", "-c", [[
        mkdir small && mount -t tmpfs -o size=64k none small && cp in.jsonl whole && cd small &&
        ln -s ../in.jsonl in.jsonl && "$@"
        status=$?
        cp out.jsonl ..
        exit $status]], "sh", table.unpack(argv) }, { env = environment_of(kit), cwd = kit.folder })
      check_full(kit, program:wait(), "ENOSPC")
    end))

    it("starts nothing on a file system that takes no writing", helper.task(function()
      if not can_mount() then return pending "nothing can be mounted here" end
      local mounts = "mkdir still && mount -t tmpfs none still && cp in.jsonl still && %s mount -o remount,ro still"
      for _, prepare in ipairs { "", "touch still/out.jsonl &&" } do
        local kit <close> = testing.kit()
        write_input(kit, numbered(1))
        local program = helper.run({ "/usr/bin/env", "unshare", "-rm", "sh", "-c",
          mounts:format(prepare) .. [[ && cd still && "$@"]], "sh",
          table.unpack(argv_of(kit, basic("--resume"))) }, { env = environment_of(kit), cwd = kit.folder })
        assert.equal(1, program.status)
        assert.is_truthy(program.errors:find("^parley: EROFS: cannot write 'out.jsonl': [^\n]+\n$"), program.errors)
        assert.same({}, kit:events "started")
      end
    end))

    for name, case in pairs {
      ["a device that takes nothing"] = { '"$@" -o /dev/full', 1, "parley: ENOSPC: cannot write '/dev/full': " },
      ["a standard output that takes nothing"] = { '"$@" >/dev/full', 1,
        "parley: ENOSPC: cannot write to standard output: " },
      ["a closed standard output"] = { '"$@" >&-', 1, "parley: EBADF: cannot write to standard output: it is closed" },
      ["a standard output without a reader"] = { 'mkfifo gone && exec 3<>gone 4>gone 3<&- && "$@" >&4 4>&-', 141, "" },
    } do
      it("stops at once with " .. name, helper.task(function()
        local kit <close> = testing.kit()
        write_input(kit, numbered(3))
        local program <close> = helper.start({ "/bin/sh", "-c", case[1], "sh",
          table.unpack(argv_of(kit, { "in.jsonl", "--jobs", "1" })) },
          { env = environment_of(kit), cwd = kit.folder })
        program:wait()
        assert.equal(case[2], program.status)
        local problem = program.errors:match "0 succeeded, 0 failed[^\n]*\n(.*)$"
        problem = problem and problem:gsub("^parley: ended early[^\n]*\n", "")
        assert.is_truthy(problem, program.errors)
        assert.equal(case[3], problem:sub(1, math.max(#case[3], 1)))
        assert.equal(1, #kit:taken())
        wait_for_the_dead(kit)
      end))
    end
  end)

  it("lets one process write a file, and the next one once it is dead", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true } } } }
    write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "never" } } })
    local first <close> = start(kit, basic "--resume")
    helper.eventually(function() return #read_results(kit) == 1 end)
    local second = run(kit, basic "--resume")
    assert.equal(1, second.status)
    assert.is_truthy(second.errors:find(("'out.jsonl' is being written by process %d"):format(first.pid), 1, true),
      second.errors)
    first:kill "sigkill"
    first:wait()
    wait_for_the_dead(kit)
    kit:use {}
    local third = run(kit, basic "--resume")
    assert.equal(0, third.status, third.errors)
    assert.equal(2, #read_results(kit))
    for _, name in ipairs(helper.names_in(kit.folder)) do assert.is_nil(name:find ".lock") end
  end))

  for _, signal in ipairs { "sigint", "sigterm" } do
    it("finishes cleanly at " .. signal .. ", to be resumed", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true } } } }
      write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "x", "never" } },
        { id = "c", turns = { "never" } }, { id = "d", turns = { "x" } } })
      local program <close> = start(kit, basic("--jobs", "2"))
      helper.eventually(function() return #read_results(kit) == 1 and #kit:taken() == 4 end)
      program:kill(signal)
      program:wait()
      assert.equal(signal == "sigint" and 130 or 143, program.status)
      assert.is_truthy(program.errors:find("1 succeeded, 0 failed", 1, true), program.errors)
      assert.is_truthy(program.errors:find("--resume goes on", 1, true), program.errors)
      assert.equal(0, #kit:processes())
      assert.equal(1, #read_results(kit))
      kit:use {}
      local resumed = run(kit, basic "--resume")
      assert.equal(0, resumed.status, resumed.errors)
      assert.same({ 4, 4 }, { count_ids(kit), #read_results(kit) })
    end))
  end

  describe("over SIGKILLs at random moments", function()
    --- Runs a batch that is killed so often, until it is done; what is over is not to be run again.
    local function kill_often(kit, words, most, on_kill)
      local seed = tonumber(os.getenv "PARLEY_SEED") or uv.hrtime() & 0xffffffff
      io.stderr:write(("seed %d (PARLEY_SEED repeats it)\n"):format(seed))
      math.randomseed(seed)
      local over, taken, kills = {}, #kit:taken(), 0
      while true do
        local program <close> = start(kit, words)
        local deadline = task.now() + math.random(10, 200)
        while kills < most and not program.status and task.now() < deadline do
          program.changed:wait(deadline - task.now())
        end
        if kills < most then
          assert.is_nil(program.status, "the batch was done before its last kill: " .. program.errors)
          program:kill "sigkill"
          kills = kills + 1
        end
        program:wait()
        wait_for_the_dead(kit)
        local texts = kit:taken()
        for i = taken + 1, #texts do
          local id = texts[i]:match "^%S+"
          assert.is_nil(over[id], "run again though it stood in the output: " .. id)
        end
        taken = #texts
        local ordered = read_results(kit)
        for _, result in ipairs(ordered) do over[result.id] = result.verdict == "success" or nil end
        if on_kill then on_kill(ordered) end
        if program.signal == 0 then
          assert.equal(0, program.status, program.errors)
          return assert.equal(most, kills)
        end
      end
    end

    local function check_complete(kit, count)
      local ids, times = count_ids(kit)
      assert.equal(count, ids)
      for id, number in pairs(times) do assert.equal(1, number, id) end
      for _, result in ipairs((read_results(kit))) do
        assert.same({ "success", 4 }, { result.verdict, #result.messages })
      end
    end

    local function two_turns(count)
      local items = {}
      for i = 1, count do
        items[i] = { id = "c" .. i, turns = { ("c%d first"):format(i), ("c%d second"):format(i) } }
      end
      return items
    end

    it("loses nothing and repeats nothing", helper.task(function()
      local kit <close> = testing.kit()
      local count = helper.long(40, 240)
      write_input(kit, two_turns(count))
      kill_often(kit, basic("--resume", "--jobs", "4"), helper.long(5, 20))
      check_complete(kit, count)
    end, 300000))

    it("loses no failure before its conversation has run again", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { api_error = { status = 400 } } } } }
      local count = helper.long(30, 120)
      write_input(kit, two_turns(count))
      assert.equal(1, run(kit, basic("--jobs", "4")).status)
      kit:use {}
      kill_often(kit, basic("--retry-failed", "--jobs", "4"), helper.long(4, 20), function(ordered)
        local stands = {}
        for _, result in ipairs(ordered) do stands[result.id] = true end
        for i = 1, count do assert.is_true(stands["c" .. i], "lost: c" .. i) end
      end)
      check_complete(kit, count)
    end, 300000))
  end)

  it("holds many conversations, 8 at a time", helper.task(function()
    local kit <close> = testing.kit()
    local count = helper.long(24, 1000)
    write_input(kit, numbered(count))
    local program <close> = start(kit, basic("--jobs", "8"))
    local most = 0
    while not program.status do
      local children = files.read(("/proc/%d/task/%d/children"):format(program.pid, program.pid)) or ""
      most = math.max(most, select(2, children:gsub("%d+", "")))
      program.changed:wait(20)
    end
    program:wait()
    assert.equal(0, program.status, program.errors)
    assert.is_true(most > 4 and most <= 8, "at most " .. most) -- one may always be ending
    local _, results = read_results(kit)
    assert.equal(count, (count_ids(kit)))
    for i = 1, count do
      assert.same({ { type = "text", text = "echo: hello " .. i } }, results["c" .. i].messages[2].content)
    end
  end, 300000))

  describe("on a terminal", function()
    local function open(kit, words, columns)
      return terminal.open { argv = argv_of(kit, words), environment = environment_of(kit), cwd = kit.folder,
        rows = 12, columns = columns or 100 }
    end

    local SLOW = { answers = { { on = "slow", text = "well", delay_ms = 1200 } } }

    it("shows a bar, which makes way for messages and is gone at the end", helper.task(function()
      local kit <close> = testing.kit { script = SLOW }
      write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "ERR400" } },
        { id = "c", turns = { "slow" } }, { id = "d", turns = { "slow" } } })
      local person <close> = open(kit, basic("--jobs", "2"))
      person:wait_for "[============            ] 2 of 4 done  1 failed  2 running"
      assert.is_truthy(person:shows "left")
      assert.equal(1, person:exit(10000).exit_code)
      person:wait_for "3 succeeded, 1 failed"
      assert.is_truthy(person:shows "line 2 (b) failed: error_api: API Error: 400")
      person:wait_for(function() return not person:shows "2 running" and not person:shows "[=" end)
    end))

    it("keeps the bar on one row when the window becomes narrow", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true } } } }
      write_input(kit, { { id = "a", turns = { "never" } } })
      local person <close> = open(kit, basic())
      person:wait_for "[                        ] 0 of 1 done  0 failed  1 running"
      person:resize(12, 30)
      person:wait_for(function() return person.screen:text():match "^0 of 1 done  0 failed%s*$" end)
      person:write "\3"
      assert.equal(130, person:exit().exit_code)
      wait_for_the_dead(kit)
    end))

    tmux.it("in tmux draws its bar over itself, through failures, another width and Ctrl-C", function()
      local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true },
        { on = "slow", text = "well", delay_ms = 2500 } } } }
      write_input(kit, { { id = "a", turns = { "x" } }, "no conversation", { id = "c", turns = { "slow" } },
        { id = "d", turns = { "never" } } })
      local person <close> = tmux.open(argv_of(kit, basic("--jobs", "2")), { env = environment_of(kit),
        cwd = kit.folder, folder = kit.folder, columns = 100, rows = 12 })
      local shown = person:expect(
        "%[============            %] 2 of 4 done  1 failed  2 running  [%d.]+/%a+  %d:%d%d left$", true)
      assert.equal(2, select(2, shown:gsub("\n", "")) + 1, shown) -- the failure and the bar
      assert.is_truthy(shown:find("^parley: line 2 failed: ValueError: not JSON"), shown)
      person:resize(30)
      shown = person:expect("\n3 of 4 done  1 failed$", true)
      assert.equal(1, select(2, shown:gsub("of 4 done", "")), shown)
      person:press "C-c"
      shown = person:expect "status 130"
      assert.is_nil(shown:find("of 4 done", 1, true), shown)
      assert.is_truthy(shown:find("parley: 2 succeeded, 1 failed", 1, true), shown)
      assert.equal(3, #read_results(kit))
      wait_for_the_dead(kit)
    end)

    it("is ended by Ctrl-C with a summary and how to go on", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true } } } }
      write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "never" } } })
      local person <close> = open(kit, basic())
      person:wait_for "1 of 2 done"
      person:write "\3"
      assert.equal(130, person:exit().exit_code)
      person:wait_for "1 succeeded, 0 failed"
      person:wait_for "--resume goes on"
      assert.equal(1, #read_results(kit))
      assert.equal(0, #kit:processes())
    end))
  end)
end)
