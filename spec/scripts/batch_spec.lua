local batches = require "spec.batches"
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local testing = require "parley.testing"
local uv = require "luv"

local run, write_input, numbered, read_results, basic = batches.run, batches.write_input, batches.numbered,
  batches.read_results, batches.basic

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
    helper.write(kit.folder .. "/a.png", "GIF89a one")
    helper.write(kit.folder .. "/b.png", "GIF89a two")
    local function inline(data)
      return { type = "image", source = { type = "base64", media_type = "image/png", data = data } }
    end
    local two = inline "R0lGODlhIHR3bw=="
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
    assert.equal("R0lGODlhIG9uZQ==", by_line[1].messages[1].content[2].source.data)
    assert.equal(2, select(2, table.concat(kit:taken(), "\n"):gsub("@/%S+%.png", "")))
    for line, expected in pairs { [3] = "'no.png' cannot be read: No such file", [4] = "'in.jsonl' is no picture",
      [5] = "content[2] is a block of type 'image'" } do
      local message = by_line[line].error.message
      assert.truthy(message:find(expected, 1, true), message)
    end
    assert.equal(2, #kit:events "started")
  end))

  it("fails a conversation whose picture the model was not given", helper.task(function()
    local kit <close> = testing.kit { script = { faults = { no_attachments = true } } }
    helper.write(kit.folder .. "/a.png", "GIF89a one")
    write_input(kit, { { id = "one", turns = { { { type = "text", text = "Look" },
      { type = "image", source = { type = "file", path = "a.png" } } } } } })
    assert.equal(1, run(kit, basic()).status)
    local result = read_results(kit)[1]
    assert.same({ "failed", "attachment_missing" }, { result.verdict, result.error.code })
    assert.equal("success", result.result.subtype)
  end))

  it("says once that the settings forbid the permission mode", helper.task(function()
    local kit <close> = testing.kit { settings = { permissions = { disableBypassPermissionsMode = "disable" } } }
    write_input(kit, numbered(3))
    local program = run(kit, basic())
    assert.equal(0, program.status, program.errors)
    local _, count = program.errors:gsub("parley: the program is in the permission mode 'auto' and not in "
      .. "'bypassPermissions'", "")
    assert.equal(1, count, program.errors)
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
    helper.write(kit.home .. "/.claude/.claude.json", json.encode { hasCompletedOnboarding = true, theme = "dark",
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
    assert.same({ 5, "success", "success" }, { #ordered, results.a.verdict, results.c.verdict }, program.errors)
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

  it("reads standard input and writes standard output", helper.task(function()
    local kit <close> = testing.kit()
    local program = run(kit, { "-" }, '{"id":"a","turns":["x"]}\n{"id":"b","turns":["y"]}')
    assert.equal(0, program.status, program.errors)
    local ids = {}
    for line in program.output:gmatch "[^\n]+" do ids[json.decode(line).id] = true end
    assert.same({ a = true, b = true }, ids)
    helper.write(kit.folder .. "/-", "a file of this name is neither")
    assert.equal(0, run(kit, { "-" }, '{"id":"a","turns":["x"]}').status)
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
end)
