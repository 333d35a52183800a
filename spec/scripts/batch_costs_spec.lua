-- What a batch costs, and where it ends for that.
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local testing = require "parley.testing"

describe("parley batch, and what it costs", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function run(kit, ...)
    local argv = { helper.host, "batch", "--executable", kit.executable, "--cwd", kit.cwd, "in.jsonl", "-o",
      "out.jsonl", "--jobs", "1", ... }
    local program <close> = helper.start(argv, { cwd = kit.folder,
      env = helper.environment({ TERM = "xterm-256color" }, kit.environment) })
    return program:wait()
  end

  local function write_input(kit, count)
    local lines = {}
    for i = 1, count do lines[i] = json.encode { id = "c" .. i, turns = { "hello" } } .. "\n" end
    helper.write(kit.folder .. "/in.jsonl", table.concat(lines))
  end

  local function results_of(kit) return helper.json_lines(files.read(kit.folder .. "/out.jsonl")) end

  it("stands in each result and in the summary, when asked for", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, 2)
    local program = run(kit, "--costs")
    assert.equal(0, program.status, program.errors)
    for _, result in ipairs(results_of(kit)) do
      assert.is_true(math.abs(result.cost_usd - 0.00001) < 1e-9)
      assert.equal(result.cost_usd, result.result.cost_usd)
    end
    assert.matches("5? ?tokens in, 10 out, %$0%.0000\n", program.errors)
  end))

  it("ends it in order at --max-cost, and --resume goes on", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, 3)
    local program = run(kit, "--max-cost", "0.000015")
    assert.equal(1, program.status, program.errors)
    assert.matches("parley: %-%-max%-cost 1.5e%-05 is reached", program.errors)
    assert.matches("ended early; the same command with %-%-resume goes on", program.errors)
    assert.equal(2, #results_of(kit)) -- the second was begun before it was reached
    program = run(kit, "--max-cost", "0.000015", "--resume")
    assert.equal(0, program.status, program.errors)
    assert.not_matches("is reached", program.errors)
    assert.equal(3, #results_of(kit))
  end))

  it("is no matter where all was held anyhow", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, 1)
    local program = run(kit, "--max-cost", "0.00000999")
    assert.equal(0, program.status, program.errors)
    assert.not_matches("is reached", program.errors)
  end))

  it("ends the run where it cannot be known and there is a limit", helper.task(function()
    local kit <close> = testing.kit { script = { faults = { no_telemetry = true } } }
    write_input(kit, 2)
    local program = run(kit, "--max-cost", "1")
    assert.equal(1, program.status)
    assert.matches("it is not known what the turns cost", program.errors)
    assert.equal(0, #results_of(kit))
  end))

  it("must be a number of dollars", helper.task(function()
    local kit <close> = testing.kit()
    write_input(kit, 1)
    for _, text in ipairs { "0", "-1", "nan", "much", "1e999" } do
      local program = run(kit, "--max-cost=" .. text)
      assert.equal(1, program.status)
      assert.matches("is not a number of US dollars above 0", program.errors)
    end
  end))
end)
