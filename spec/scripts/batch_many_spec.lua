-- Many conversations, and a host that is killed between them.
local batches = require "spec.batches"
local files = require "parley.base.files"
local helper = require "spec.helper"
local task = require "parley.base.task"
local testing = require "parley.testing"
local uv = require "luv"

local start, run, write_input, numbered, read_results, count_ids, wait_for_the_dead, basic = batches.start,
  batches.run, batches.write_input, batches.numbered, batches.read_results, batches.count_ids,
  batches.wait_for_the_dead, batches.basic

describe("parley batch, with many conversations,", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

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
      local count = helper.long(24, 240)
      write_input(kit, two_turns(count))
      kill_often(kit, basic("--resume", "--jobs", "4"), helper.long(3, 20))
      check_complete(kit, count)
    end, 300000))

    it("loses no failure before its conversation has run again", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { api_error = { status = 400 } } } } }
      local count = helper.long(18, 120)
      write_input(kit, two_turns(count))
      assert.equal(1, run(kit, basic("--jobs", "4")).status)
      kit:use {}
      kill_often(kit, basic("--retry-failed", "--jobs", "4"), helper.long(2, 20), function(ordered)
        local stands = {}
        for _, result in ipairs(ordered) do stands[result.id] = true end
        for i = 1, count do assert.is_true(stands["c" .. i], "lost: c" .. i) end
      end)
      check_complete(kit, count)
    end, 300000))
  end)

  it("holds many conversations, 8 at a time", helper.task(function()
    local kit <close> = testing.kit()
    local count = helper.long(20, 1000)
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
end)
