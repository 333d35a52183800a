local files = require "parley.base.files"
local helper = require "spec.helper"
local testing = require "parley.testing"

describe("parley report", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function run(kit, ...)
    return helper.run({ helper.host, ... }, { env = helper.environment({ TERM = "dumb" }, kit.environment),
      cwd = kit.folder })
  end

  local function batch(kit, ...)
    return run(kit, "batch", "in.jsonl", "--executable", kit.executable, "--cwd", kit.cwd, ...)
  end

  it("makes the page that batch --report writes at the end", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "ask", tool = { name = "Bash",
      input = { command = "x" }, permission = true } } } } }
    helper.write(kit.folder .. "/in.jsonl", '{"id":"<a>","turns":["hello"]}\n'
      .. '{"id":"b","turns":["hello"],"expect":"<x>"}\n'
      .. '{"id":"c","turns":["ask"],"permission_mode":"default"}\n')
    local program = batch(kit, "-o", "out.jsonl", "--report", "report.html")
    assert.equal(1, program.status, program.errors)
    local page = assert(files.read(kit.folder .. "/report.html"))
    assert.matches("<b>3</b><span class=dim>conversations", page, 1, true)
    assert.matches("<bdi>&lt;a&gt;</bdi>", page, 1, true)
    assert.matches("<b>ExpectationError</b> the answer does not contain &quot;&lt;x&gt;&quot;", page, 1, true)
    assert.matches("<b>DialogError</b>.*<p class=dim>the last screen</p><pre>[^<]*Bash", page)

    assert.equal(page, run(kit, "report", "out.jsonl").output)
    assert.equal("", run(kit, "report", "out.jsonl", "-o", "again.html").output)
    assert.equal(page, files.read(kit.folder .. "/again.html"))
  end))

  it("goes to standard output where batch is told so, and the results do not", helper.task(function()
    local kit <close> = testing.kit()
    helper.write(kit.folder .. "/in.jsonl", '{"turns":["hello"]}\n')
    local program = batch(kit, "-o", "out.jsonl", "--report", "-")
    assert.equal(0, program.status, program.errors)
    assert.equal(run(kit, "report", "out.jsonl").output, program.output)
    assert.matches("--report needs a file of results", batch(kit, "--report", "-").errors, 1, true)
    assert.is_nil(files.size(kit.folder .. "/-"))
  end))

  it("is written of a run that has ended early, too", helper.task(function()
    local kit <close> = testing.kit { trusted = false }
    helper.write(kit.folder .. "/in.jsonl", '{"turns":["hello"]}\n')
    local program = batch(kit, "-o", "out.jsonl", "--report", "report.html")
    assert.equal(1, program.status)
    assert.matches("There is no result", files.read(kit.folder .. "/report.html"), 1, true)
  end))

  it("is refused before anything is started where it cannot be written", helper.task(function()
    local kit <close> = testing.kit()
    helper.write(kit.folder .. "/in.jsonl", '{"turns":["hello"]}\n')
    for words, problem in pairs { [{ "--report", "r.html" }] = "--report needs a file of results: give --output",
      [{ "-o", "o.jsonl", "--report", "none/r.html" }] = "there is no folder 'none'",
      [{ "-o", "o.jsonl", "--report", "o.jsonl" }] = "holds the batch itself" } do
      local program = batch(kit, table.unpack(words))
      assert.equal(1, program.status)
      assert.matches(problem, program.errors, 1, true)
    end
    assert.same({}, kit:events "started")
    local program = run(kit, "report", "none.jsonl")
    assert.matches("cannot read 'none.jsonl'", program.errors, 1, true)
  end))
end)
