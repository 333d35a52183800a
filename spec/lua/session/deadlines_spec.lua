-- How long a turn is waited for, on fakes that move or only tick.
local clock = require "parley.base.clock"
local deadlines = require "parley.session.deadlines"
local errors = require "parley.base.errors"
local fake_process = require "parley.testing.fake_process"
local helper = require "spec.helper"
local in_no_time = require("spec.simulated_clock").task
local session = require "parley.session"
local task = require "parley.base.task"

describe("a turn's deadlines", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  ---A session on a fake that answers too late, started.
  local function late(options)
    local fake = fake_process.answering { jsonl_path = folder .. "/t.jsonl", status_folder = folder,
      environment = { CLAUDE_CONFIG_DIR = folder }, delay_ms = 60000 }
    local live = session.new(fake, options, { path = fake.jsonl_path })
    live:start()
    return live, fake
  end

  ---The text of the error that a message ends in.
  local function failure_of(live)
    local ok, err = pcall(function()
      for _ in live:send "hello" do end -- luacheck: ignore 542
    end)
    assert.is_false(ok)
    assert(errors.is(err), tostring(err))
    assert.equal("timeout", err.reason)
    return tostring(err)
  end

  ---A session on a program that shows these rows for ever, one each 20 ms, once it has a message.
  local function ticking(options, row_at, records)
    local live, fake = late(options)
    task.spawn(function()
      helper.eventually(function() return live.turn and live.turn:state() == "running" end)
      if records then records(fake) end
      local tick = 0
      local timer <close> = clock.every(20, function()
        tick = tick + 1
        if fake:is_alive() then fake:feed(("\27[1;1H%s\27[K"):format(row_at(tick))) end
      end)
      fake.changed:wait_until(function() return not fake:is_alive() end)
      assert(timer)
    end)
    return live, fake
  end

  local function counting(tick) return ("✻ Pondering… (%ds · ↓ 7 tokens)"):format(tick) end
  local BASH = { { type = "tool_use", id = "toolu_1", name = "Bash", input = { command = "make" } } }

  it("takes a spinner that only counts for no sign of life", in_no_time(function()
    local live = ticking({ stall_timeout_ms = 400, turn_timeout_ms = 60000 }, counting)
    assert.matches("stall_timeout_ms", failure_of(live))
  end))

  it("takes tokens that come for one", in_no_time(function()
    local live = ticking({ stall_timeout_ms = 1500, turn_timeout_ms = 4000 }, function(tick)
      return ("✻ Pondering… (7s · ↓ %d tokens)"):format(tick)
    end)
    assert.matches("turn_timeout_ms", failure_of(live))
  end))

  it("takes a spinner that counts for one while a tool runs, and not after it", in_no_time(function()
    local live = ticking({ stall_timeout_ms = 1500, turn_timeout_ms = 4000 }, counting, function(fake)
      fake:append_assistant(BASH, "tool_use")
    end)
    assert.matches("turn_timeout_ms", failure_of(live))
    live = ticking({ stall_timeout_ms = 1500, turn_timeout_ms = 60000 }, counting, function(fake)
      fake:append_assistant(BASH, "tool_use")
      fake.transcript:tool_result({ id = "toolu_1", name = "Bash", input = { command = "make" } }, "done", false)
    end)
    assert.matches("stall_timeout_ms", failure_of(live))
  end))

  it("gives up by the stall when the program shows nothing though a tool runs", in_no_time(function()
    local live = late({ stall_timeout_ms = 1500, turn_timeout_ms = 60000 })
    local fake = live.process
    task.spawn(function()
      helper.eventually(function() return live.turn and live.turn:state() == "running" end)
      fake:append_assistant(BASH, "tool_use")
    end)
    assert.matches("stall_timeout_ms", failure_of(live))
  end))

  it("do not count while a permission policy is at a call", function()
    local waits = deadlines.new { terminal = { fail = function() error "stalled" end },
      transcript = { problem = function() end }, options = { stall_timeout_ms = 10 }, now = 0 }
    assert.has_error(function() waits:stall_due({ agents = 0, asking = false }, 11) end, "stalled")
    assert.equal(math.huge, waits:stall_due({ agents = 0, asking = true }, 11))
  end)

  it("count what is shown of work in the background, and not that a row stands", function()
    local rule, generation = ("─"):rep(20), 1
    local function rows(said, below) return { "❯ go", said, "", rule, "❯\u{A0}", rule, below } end
    local SAID = rows("✻ Waiting for 1 background agent to finish", "")
    local shown = SAID
    local seen = deadlines.new { now = 0, options = {}, transcript = {}, terminal = {
      process = { screen = { generation = function() return generation end } },
      view = function() return { rows = shown } end } }
    local function still_since(now, has_happened, has_agents)
      seen:look_for_life(now, has_happened, false, has_agents)
      return seen:still_since { busy_seen = true }
    end
    assert.equal(1, still_since(1, true, true))
    assert.equal(1, still_since(2, false, true))
    generation = 2
    assert.equal(3, still_since(3, false, true))
    generation = 3
    assert.equal(3, still_since(4, false, false))
    shown = rows("✻ Baked for 2s", "")
    generation = 4
    assert.equal(3, still_since(5, false, true))
    shown = rows("● it works", "  1 local agent · ↓ to manage")
    assert.equal(6, still_since(6, false, true))
  end)
end)
