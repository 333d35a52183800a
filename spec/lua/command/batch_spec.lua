local batch = require "parley.command.batch"
local errors = require "parley.base.errors"
local event = require "parley.claude.event"
local history = require "parley.base.history"
local helper = require "spec.helper"
local input = require "parley.command.batch.input"
local json = require("parley.core").json
local memory = require "parley.command.batch.memory"
local output = require "parley.command.batch.output"
local task = require "parley.base.task"

--- A backend that answers what `answer(text, about)` gives: a text, or the fields of a result.
local function backend_of(answer, log)
  return function(options)
    local backend = { options = options }
    if log then table.insert(log, backend) end
    function backend.complete(_, messages, about)
      local reply = answer(messages[#messages].content, about, messages)
      local events = { event.new { type = "user", content = { { type = "text", text = "the echo" } } } }
      local result = { type = "result", subtype = "success", duration_ms = 1, usage = { output_tokens = 2 } }
      if type(reply) == "string" then
        table.insert(events, event.new { type = "assistant", content = { { type = "text", text = reply } } })
      else
        for name, value in pairs(reply) do result[name] = value end
      end
      table.insert(events, event.new(result))
      return function() return table.remove(events, 1) end
    end
    local function close() backend.is_closed = true end
    backend.close = close
    return setmetatable(backend, { __close = close })
  end
end

local function echo(text) return "re: " .. text end

--- Runs conversations given as tables; the results by id, and in the order in which they were written.
local function run(items, options)
  local results, ordered, index = {}, {}, 0
  local all = { jobs = 2, retry_wait_ms = 0, new_backend = backend_of(echo) }
  for name, value in pairs(options or {}) do all[name] = value end
  all.source = function()
    index = index + 1
    return items[index] and input.conversation(items[index], index)
  end
  local write = all.write
  function all.write(result)
    if write then write(result) end
    table.insert(ordered, result)
    results[result.id] = result
  end
  local counts, stopped = batch.run(all)
  return results, counts, ordered, stopped
end

local function numbered(count)
  local items = {}
  for i = 1, count do items[i] = { id = "c" .. i, turns = { "say " .. i } } end
  return items
end

describe("a batch", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  describe("conversation", function()
    it("plays its turns in order, in one backend", helper.task(function()
      local log = {}
      local results = run({ { id = "a", turns = { "one", "two" } } }, { new_backend = backend_of(echo, log) })
      local said = {}
      for i, message in ipairs(results.a.messages) do
        said[i] = message.role .. " " .. history.text_of(message)
      end
      assert.same({ "user one", "assistant re: one", "user two", "assistant re: two" }, said)
      assert.same({ "success", 1, 2, 4 },
        { results.a.verdict, #log, #results.a.turn_ms, results.a.usage.output_tokens })
    end))

    it("has its list of times and its usage without a backend, too", helper.task(function()
      local results = run({ { id = "a", turns = { "x" } } }, { new_backend = function()
        error(errors.value_error "no such model", 0)
      end })
      assert.matches('"turn_ms":[],"usage":{}', output.line_of(results.a), 1, true)
    end))

    it("sends its last message, and then its turns", helper.task(function()
      local sent = {}
      local results = run({ { id = "a", messages = { { role = "user", content = "0" },
        { role = "assistant", content = "-" }, { role = "user", content = "1" } }, turns = { "2" } },
        { id = "b", messages = { { role = "user", content = "0" }, { role = "assistant", content = "-" } },
          turns = { "3" } } }, { jobs = 1, new_backend = backend_of(function(text, _, messages)
        table.insert(sent, #messages .. ":" .. text)
        return text
      end) })
      assert.same({ "3:1", "5:2", "3:3" }, sent)
      assert.same({ 6, 4 }, { #results.a.messages, #results.b.messages })
    end))

    it("lets a function decide the next turn from the last answer", helper.task(function()
      local asked = {}
      local results = run { { id = "a", turns = function(answer, number, messages)
        table.insert(asked, ("%s %d %d"):format(answer, number, #messages))
        return number < 3 and (answer or "start") .. "!" or nil
      end } }
      assert.same({ "nil 1 0", "re: start! 2 2", "re: re: start!! 3 4" }, asked)
      assert.equal("success", results.a.verdict)
    end))

    it("has the options of its own", helper.task(function()
      local log = {}
      run({ { turns = { "x" }, cwd = "/a", model = "m" }, { turns = { "x" } } },
        { jobs = 1, new_backend = backend_of(echo, log) })
      assert.same({ { cwd = "/a", model = "m" }, {} }, { log[1].options, log[2].options })
    end))

    it("is over before its backend is closed, and closes it", helper.task(function()
      local log, open_at_write = {}, nil
      run({ { id = "a", turns = { "x" } } }, { new_backend = backend_of(echo, log), write = function()
        open_at_write = not log[1].is_closed
      end })
      assert.is_true(open_at_write)
      assert.is_true(log[1].is_closed)
    end))

    it("tells the routing policy whose turn it is", helper.task(function()
      local told
      run({ { id = "a", turns = { "x" }, metadata = { tag = 1 } } }, { new_backend = backend_of(function(_, about)
        told = about
        return "y"
      end) })
      assert.same({ id = "a", metadata = { tag = 1 }, turn = 1 }, told)
    end))

    for what, expectation in pairs {
      ["a text"] = { "re: x", "nope", 'the answer does not contain "nope"' },
      ["contains"] = { { contains = ": x" }, { contains = "%a" }, 'the answer does not contain "%a"' },
      ["a pattern"] = { { pattern = "^re: %a$" }, { pattern = "^x" }, 'the answer does not match "^x"' },
      ["a list"] = { { "re", { contains = "x" } }, { "re", { pattern = "z" } }, 'the answer does not match "z"' },
      ["a function"] = { function(text) return text == "re: x" end, function() return false, "no good" end, "no good" },
    } do
      it("fails when its last answer is not as expected, by " .. what, helper.task(function()
        local results = run { { id = "good", turns = { "w", "x" }, expect = expectation[1] },
          { id = "bad", turns = { "w", "x" }, expect = expectation[2] } }
        assert.equal("success", results.good.verdict)
        assert.same({ "failed", "ExpectationError", expectation[3], 2 }, { results.bad.verdict, results.bad.error.code,
          results.bad.error.message, results.bad.error.turn })
      end))
    end

    it("fails with what its turn ended with, and keeps what was said", helper.task(function()
      local results = run({ { id = "a", turns = { "one", "bad", "three" } } }, { new_backend = backend_of(function(text)
        return text == "bad" and { subtype = "error_api", message = "overloaded", is_error = true } or text
      end) })
      assert.same({ "failed", "error_api", "overloaded", 2, 3 }, { results.a.verdict, results.a.error.code,
        results.a.error.message, results.a.error.turn, #results.a.messages })
      assert.equal("error_api", results.a.result.subtype)
    end))

    it("fails when a function of its own does", helper.task(function()
      local results = run { { id = "a", turns = function() error "boo" end },
        { id = "b", turns = function() return 7 end }, { id = "c", turns = function() error { my = "trouble" } end } }
      assert.same({ "ScriptError", "ValueError" }, { results.a.error.code, results.b.error.code })
      assert.is_truthy(results.a.error.message:find "boo")
      assert.equal('an error without a text: {"my":"trouble"}', results.c.error.message)
    end))

    it("fails without a turn", helper.task(function()
      local results = run { { id = "a", turns = function() end }, { id = "b", turns = json.array {} } }
      assert.same({ "failed", "failed" }, { results.a.verdict, results.b.verdict })
    end))
  end)

  it("holds no more conversations at a time than jobs, and as many", helper.task(function()
    local running, most = 0, 0
    local _, counts = run(numbered(20), { jobs = 3, new_backend = backend_of(function(text)
      running = running + 1
      most = math.max(most, running)
      for _ = 1, 5 do helper.tick() end
      running = running - 1
      return text
    end) })
    assert.same({ 3, 20, 0 }, { most, counts.succeeded, counts.running })
  end))

  it("starts a task for each conversation, however many jobs are allowed", helper.task(function()
    local spawn, spawned = task.spawn, 0
    local _ <close> = setmetatable({}, { __close = function() task.spawn = spawn end })
    task.spawn = function(...)
      spawned = spawned + 1
      return spawn(...)
    end
    local _, counts = run(numbered(3), { jobs = 1000000 })
    assert.same({ 3, 4 }, { counts.succeeded, spawned }) -- and one for all of them
  end))

  it("reads no further ahead than it works", helper.task(function()
    local read, begun, ahead = 0, 0, 0
    batch.run { jobs = 2, write = function() end,
      source = function()
        read = read + 1
        return read <= 50 and input.conversation({ turns = { "x" } }, read) or nil
      end,
      new_backend = backend_of(function(text)
        begun = begun + 1
        ahead = math.max(ahead, read - begun)
        helper.tick()
        return text
      end) }
    assert.is_true(ahead <= 4, "read ahead by " .. ahead)
  end))

  it("writes results as they finish", helper.task(function()
    local go, is_fast_over = task.condition(), false
    local _, _, ordered = run({ { id = "slow", turns = { "slow" } }, { id = "fast", turns = { "fast" } } }, {
      new_backend = backend_of(function(text)
        if text == "slow" then go:wait_until(function() return is_fast_over end) end
        return text
      end),
      write = function(result)
        is_fast_over = is_fast_over or result.id == "fast"
        go:notify()
      end })
    assert.same({ "fast", "slow" }, { ordered[1].id, ordered[2].id })
  end))

  it("does not stop at a failure", helper.task(function()
    local _, counts = run(numbered(10), { new_backend = backend_of(function(text)
      if text:find "[37]$" then error(errors.session_error("it fell", { reason = "exit", screen = "last" }), 0) end
      return text
    end) })
    assert.same({ 8, 2 }, { counts.succeeded, counts.failed })
  end))

  it("reports malformed items with their line, and runs the rest", helper.task(function()
    local _, counts, ordered = run({ "nonsense", { id = "a", turns = { "x" } } }, { jobs = 1 })
    assert.same({ json.null, 1, "failed", "ValueError" }, { ordered[1].id, ordered[1].line, ordered[1].verdict,
      ordered[1].error.code })
    assert.same({ 1, 1 }, { counts.succeeded, counts.failed })
  end))

  it("rejects an id that was given before", helper.task(function()
    local sent = {}
    local _, counts, ordered = run({ { id = "a", turns = { "x" } }, { id = "a", turns = { "y" } },
      { id = 1, turns = { "z" } }, { id = "1", turns = { "z" } } }, { jobs = 1, new_backend = backend_of(function(text)
      table.insert(sent, text)
      return text
    end) })
    assert.same({ "x", "z" }, sent)
    assert.equal(2, counts.failed)
    for _, result in ipairs(ordered) do
      if result.error then assert.same({ json.null, "DuplicateId" }, { result.id, result.error.code }) end
    end
  end))

  describe("with retries", function()
    local function failing(times, fail)
      local calls = 0
      return function(text)
        calls = calls + 1
        if calls <= times then return fail() end
        return text
      end
    end

    it("plays a conversation that failed again, from its beginning, in a new backend", helper.task(function()
      local log, starts = {}, 0
      local results = run({ { id = "a", turns = function(_, number)
        if number == 1 then starts = starts + 1 end
        return number <= 2 and "x" or nil
      end } }, { retries = 2, new_backend = backend_of(failing(2, function()
        error(errors.session_error("it fell", { reason = "exit" }), 0)
      end), log) })
      assert.same({ "success", 3, 3, 3, 4 },
        { results.a.verdict, results.a.attempts, starts, #log, #results.a.messages })
      assert.is_nil(results.a.error)
    end))

    it("gives up after so many", helper.task(function()
      local overloaded = backend_of(failing(9, function()
        return { subtype = "error_api", message = "overloaded" }
      end))
      local results = run({ { id = "a", turns = { "x" } } }, { retries = 2, new_backend = overloaded })
      assert.same({ "failed", 3, "error_api" }, { results.a.verdict, results.a.attempts, results.a.error.code })
      assert.equal(6, results.a.usage.output_tokens) -- what the attempts have cost is counted
    end))

    it("does not repeat bad input", helper.task(function()
      local refusing = backend_of(failing(9, function() error(errors.value_error "no", 0) end))
      local results = run({ { id = "a", turns = { "x" } } }, { retries = 2, new_backend = refusing })
      assert.equal(1, results.a.attempts)
    end))

    it("waits longer before each", helper.task(function()
      local began = task.now()
      run({ { id = "a", turns = { "x" } } }, { retries = 2, retry_wait_ms = 20, new_backend = backend_of(failing(2,
        function() return { subtype = "error_api" } end)) })
      assert.is_true(task.now() - began > 50) -- 20 and 40; without the doubling 40 in all
    end))
  end)

  describe("that resumes", function()
    it("runs nothing that is over, and counts it", helper.task(function()
      local known = memory.new()
      known:see { id = "c2", line = 2, verdict = "success" }
      known:see { id = "c3", line = 3, verdict = "failed" }
      known:see { id = json.null, line = 5, verdict = "failed",
        error = { message = "not an object with messages or turns" } }
      local items = numbered(4)
      items[5] = "nonsense"
      local results, counts = run(items, { memory = known })
      assert.same({ "success", "success" }, { results.c1.verdict, results.c4.verdict })
      assert.is_nil(results.c2 or results.c3)
      assert.same({ 2, 0, 3, 2 }, { counts.succeeded, counts.failed, counts.resumed, counts.resumed_failed })
    end))

    it("runs an id of which only the duplicate was reported", helper.task(function()
      local known = memory.new()
      known:see { id = json.null, line = 2, verdict = "failed",
        error = { message = 'the id "a" was given on an earlier line' } }
      local results, counts = run({ { id = "a", turns = { "x" } }, { id = "a", turns = { "y" } } }, { memory = known })
      assert.same({ "success", 1, 0, 1 }, { results.a.verdict, counts.succeeded, counts.failed, counts.resumed })
    end))
  end)

  describe("of a shard", function()
    it("leaves in a shared output what another has written of a line that is no conversation", helper.task(function()
      local line, index = 2, batch.shard_of("line-2", 2)
      local known, items = memory.new(), { { line = line, error = errors.value_error "not JSON" } }
      known:see { id = json.null, line = line, verdict = "failed", error = { message = "not JSON" } }
      batch.run { source = function() return table.remove(items) end, write = error, new_backend = error, jobs = 1,
        memory = known, shard = { index = 3 - index, count = 2 } }
      assert.is_false(known:has_leftovers())
    end))

    it("runs each conversation in one shard of all", helper.task(function()
      local seen, least = {}, math.huge
      for index = 1, 4 do
        local _, counts, ordered = run(numbered(200), { shard = { index = index, count = 4 } })
        for _, result in ipairs(ordered) do
          assert.is_nil(seen[result.id])
          seen[result.id] = true
        end
        least = math.min(least, counts.succeeded)
      end
      assert.is_true(least > 30, "a shard of 200 by 4 has only " .. least)
      for i = 1, 200 do assert.is_true(seen["c" .. i]) end
    end))

    it("is the same one wherever an id stands, today and tomorrow", function()
      assert.same({ 6, 5, 1, 1 }, { batch.shard_of("a", 10), batch.shard_of("b", 10), batch.shard_of(7, 10),
        batch.shard_of("x", 1) })
      assert.equal(batch.shard_of("7", 10), batch.shard_of(7, 10))
    end)

    it("reports a malformed line once", helper.task(function()
      local failed = 0
      for index = 1, 4 do
        local _, counts = run({ "nonsense" }, { shard = { index = index, count = 4 } })
        failed = failed + counts.failed
      end
      assert.equal(1, failed)
    end))
  end)

  describe("that ends early", function()
    it("writes none of the running ones with fail_fast", helper.task(function()
      local log = {}
      local _, counts, ordered, stopped = run(numbered(20), { jobs = 3, fail_fast = true,
        new_backend = backend_of(function(text)
          if text == "say 5" then return { subtype = "error_api" } end
          if text == "say 6" or text == "say 7" then task.condition():wait() end
          return text
        end, log) })
      assert.is_true(stopped)
      assert.same({ 4, 1, 0, 5 }, { counts.succeeded, counts.failed, counts.running, #ordered })
      for _, backend in ipairs(log) do assert.is_true(backend.is_closed) end
    end))

    it("raises what the output raises, and starts nothing more", helper.task(function()
      local log, written = {}, 0
      local ok, err = pcall(run, numbered(20), { new_backend = backend_of(echo, log), write = function()
        written = written + 1
        if written == 3 then error(errors.new("ENOSPC", "full"), 0) end
      end })
      assert.same({ false, "ENOSPC" }, { ok, err.code })
      assert.is_true(#log <= 6, #log .. " were started")
      for _, backend in ipairs(log) do assert.is_true(backend.is_closed) end
    end))

    it("raises when the program is not there or cannot be executed, which is nobody's failure", helper.task(function()
      local denied = errors.new("EACCES", "denied", { step = "exec" })
      for _, failure in ipairs { errors.cli_not_found_error "no claude",
        errors.session_error("not started", { reason = "start", cause = denied }) } do
        local written = 0
        local ok, err = pcall(run, numbered(20), { retries = 3, write = function() written = written + 1 end,
          new_backend = backend_of(function() error(failure, 0) end) })
        assert.same({ false, failure.code, 0 }, { ok, err.code, written })
      end
    end))

    it("finishes what is running when its source fails", helper.task(function()
      local written, read = {}, 0
      local ok, err = pcall(batch.run, { jobs = 2, new_backend = backend_of(function(text)
        helper.tick()
        return text
      end), write = function(result) table.insert(written, result.id) end, source = function()
        read = read + 1
        if read == 3 then error(errors.value_error "the script fails", 0) end
        return input.conversation({ id = read, turns = { "x" } }, read)
      end })
      assert.same({ false, "the script fails", { 1, 2 } }, { ok, err.message, written })
    end))

    it("writes none of the running ones when it is cancelled, and closes them", helper.task(function()
      local log, written = {}, 0
      local running = task.spawn(pcall, run, numbered(20), { jobs = 3, new_backend = backend_of(function(text)
        if tonumber(text:match "%d+") > 4 then task.condition():wait() end
        return text
      end, log), write = function() written = written + 1 end })
      helper.eventually(function() return written == 4 end)
      running:cancel()
      local _, ok, err = pcall(running.await, running)
      assert.same({ false, "Cancelled" }, { ok, err.code })
      assert.equal(4, written)
      for _, backend in ipairs(log) do assert.is_true(backend.is_closed) end
    end))
  end)

  it("runs a great many conversations in constant memory", helper.task(function()
    local folder = helper.temporary_folder()
    local path, count = folder .. "/in.jsonl", helper.long(8000, 100000)
    local step = count // 10
    local file = assert(io.open(path, "w"))
    for i = 1, count do
      file:write(('{"id":"conversation-%d","turns":["%s"],"metadata":%d}\n'):format(i, ("word "):rep(60), i))
    end
    file:close()
    local source <close> = input.open(path)
    local results <close> = output.open(folder .. "/out.jsonl")
    local finished, early, most = 0, nil, 0
    local counts = batch.run { source = source, jobs = 8, new_backend = backend_of(echo), write = function(result)
      results:append(result)
      finished = finished + 1
      if finished % step == 0 then
        collectgarbage()
        most = math.max(most, collectgarbage "count" * 1024)
        early = early or most
      end
    end }
    assert.equal(count, counts.succeeded)
    -- What stays of a conversation is its id's hash: some 100 bytes, where its line has 350 and its result 900.
    local growth = (most - early) / (count - step)
    assert.is_true(growth < 150, ("%.0f bytes a conversation stay"):format(growth))
  end, helper.long(120000, 600000)))
end)
