-- What goes wrong in a batch, where it ends for that, and how it goes on.
local batch = require "parley.command.batch"
local batches = require "spec.batches"
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local testing = require "parley.testing"

local argv_of, environment_of, start, run, write_input, numbered, read_results, count_ids, wait_for_the_dead, basic =
  batches.argv_of, batches.environment_of, batches.start, batches.run, batches.write_input, batches.numbered,
  batches.read_results, batches.count_ids, batches.wait_for_the_dead, batches.basic

describe("parley batch, when something goes wrong,", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

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
        helper.write(kit.home .. "/.claude/.claude.json", json.encode { hasCompletedOnboarding = true,
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
end)
