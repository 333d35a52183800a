-- What comes too late for a session: a decision, an interrupt, an answer that never comes.
local clock = require "parley.base.clock"
local fake_process = require "parley.testing.fake_process"
local helper = require "spec.helper"
local in_no_time = require("spec.simulated_clock").task
local parley = require "parley"
local session = require "parley.session"
local tables = require "parley.base.tables"
local task = require "parley.base.task"
local testing = require "parley.testing"

local NUMBERED = { " Do you want to proceed?", " ❯ 1. Yes", "   2. Yes, and always", "   3. No", "", " Esc to cancel" }
local HOUR = 3600 * 1000

local folder
before_each(function() folder = helper.temporary_folder() end)
after_each(helper.remove_folders)

local function answering(options)
  local given = { jsonl_path = folder .. "/t.jsonl", status_folder = folder,
    environment = { CLAUDE_CONFIG_DIR = folder } }
  for name, value in pairs(options) do given[name] = value end
  local fake = fake_process.answering(given)
  return session.new(fake, {}, { path = fake.jsonl_path }), fake
end

describe("a decision that comes too late", function()
  local function before(rows, decide)
    local fake = fake_process.new { jsonl_path = folder .. "/t.jsonl", environment = { CLAUDE_CONFIG_DIR = folder } }
    local live = session.new(fake, { policies = { dialogs = { decide = decide } } }, { path = fake.jsonl_path })
    fake:start()
    fake:feed("\27[2J\27[H" .. table.concat(rows, "\r\n"))
    return live, fake
  end

  for what, decision in pairs { choice = { choose = 1 }, keys = { keys = "y" } } do
    it("presses nothing behind an interrupt: " .. what, in_no_time(function()
      local is_interrupted = false
      local live, fake = before(NUMBERED, function()
        is_interrupted = true -- by another task, while a person thinks
        task.condition():wait(10)
        return decision
      end)
      live.terminal.is_interrupted = function() return is_interrupted end
      live.dialogs:answer {}
      assert.same({}, fake.writes)
      live:close()
    end))

    it("says that the session is closed: " .. what, in_no_time(function()
      local live
      live = before(NUMBERED, function()
        live:close()
        return decision
      end)
      assert.equal("ClosedError", helper.error_of(live.dialogs.answer, live.dialogs, {}).code)
    end))
  end
end)

describe("an interrupt", function()
  it("raises nothing where the program has just ended: the turn says so", helper.task(function()
    local live <close>, fake = answering { delay_ms = 60000 }
    live:start()
    local turn = task.spawn(pcall, helper.say, live, "hello")
    helper.eventually(function() return live.turn and live.turn:state() == "running" end)
    fake:exit { signal = "SIGKILL" }
    assert.is_boolean(live:interrupt())
    local _, failure = turn:await()
    assert.equal("exit", failure.reason)
  end))
end)

describe("in a world", function()
  it("an interrupt raises nothing where the program has gone, and nobody knows that yet", helper.task(function()
    for late_ms = 0, 60, 2 do
      local world <close> = testing.world { seed = 3, faults = { late_ms = 40 },
        script = { answers = { { delay_ms = HOUR } } } }
      local backend <close> = parley.backend(world.options)
      local turn = backend:conversation():send "hello"
      local reading = task.spawn(pcall, function() for _ in turn do end end)
      helper.eventually(function() return world:taken()[1] end)
      task.condition():wait(1500)
      world.programs[1]:kill "SIGKILL"
      task.condition():wait(late_ms)
      assert.is_boolean(turn:interrupt())
      local ok, err = select(2, pcall(reading.await, reading))
      assert.same({ false, "exit" }, { ok, err.reason })
    end
  end))

  it("what a program is doing is known though the kernel has not told of it", helper.task(function()
    for seed = 1, 10 do
      local world <close> = testing.world { seed = seed, faults = { unseen = 3, disk_late_ms = 100 } }
      local backend <close> = parley.backend(tables.merged(world.options, { idle_timeout_ms = 1000 }))
      backend:conversation():ask "hello"
      helper.eventually(function() return world.programs[1].is_dead end, 60000)
    end
  end))
end)

describe("a turn with a sub-agent in the background", function()
  it("ends though the program hangs at work", in_no_time(function()
    local live <close>, fake = answering { delay_ms = 1e12 }
    live:start()
    local call = { type = "tool_use", id = "toolu_1", name = "Agent", input = { prompt = "go" } }
    task.spawn(function()
      helper.eventually(function() return live.turn and live.turn:state() == "running" end)
      fake:append_assistant({ call }, "tool_use")
      fake:append { type = "user", uuid = "u-1", sessionId = live.session_id, timestamp = "2026-01-01T00:00:00.000Z",
        toolUseResult = { isAsync = true, status = "async_launched", agentId = "a1" },
        message = { role = "user", content = { { type = "tool_result", tool_use_id = "toolu_1", content = "on" } } } }
    end)
    local began, has_ended = clock.now(), false
    local ticking = task.spawn(function() -- time goes in steps, so that what the kernel tells comes first
      while not has_ended do task.condition():wait(60000) end
    end)
    local err = helper.error_of(task.timeout, 6 * HOUR, helper.say, live, "hello")
    has_ended = true
    ticking:cancel()
    assert.same({ "SessionError", "timeout" }, { err.code, err.reason })
    assert.matches("with sub%-agents in the background, has shown no sign of life for 1800000 ms", err.message)
    assert.is_true(clock.now() - began < HOUR)
  end))
end)
