local uv = require "luv"
local files = require "parley.base.files"
local helper = require "spec.helper"
local results = require "spec.conformance.results"
local versions = require "spec.conformance.versions"

local ALL = { "2.1.110", "2.1.111", "2.1.113", "2.1.200", "2.1.201", "2.1.299", "2.1.300", "2.1.332" }

describe("the choice of versions", function()
  it("leaves out what is no native program and what is a trial", function()
    assert.same({ "2.1.110", "2.1.200", "2.2.0" },
      versions.native { "0.0.0", "2.1.109", "2.2.0", "2.1.200", "2.1.110", "2.1.201-beta.1" })
  end)

  it("takes patterns, names and words, each version once and in order", function()
    assert.same({ "2.1.200", "2.1.201", "2.1.299" }, versions.select(ALL, "2.1.2*", 1))
    assert.same({ "2.1.110", "2.1.300", "2.1.332" }, versions.select(ALL, "newest 2.1.300 2.1.110 2.1.30*", 1))
    assert.same(ALL, versions.select(ALL, "", 1))
    local ok, err = pcall(versions.select, ALL, "2.1.112", 1)
    assert.is_false(ok)
    assert.equal("no published version is 2.1.112", err.message)
  end)

  it("draws another version each day, and the same the whole day", function()
    local seen = {}
    for day = 1, #ALL do
      local chosen = versions.select(ALL, "drawn", day)
      assert.equal(1, #chosen)
      assert.same(chosen, versions.select(ALL, "drawn", day))
      seen[chosen[1]] = true
    end
    for _, version in ipairs(ALL) do assert.is_true(seen[version], version) end
  end)

  it("spreads a sample over all, the ends among it", function()
    assert.same({ "2.1.110", "2.1.332" }, versions.sample(ALL, 2))
    assert.same({ "2.1.110", "2.1.113", "2.1.201", "2.1.332" }, versions.sample(ALL, 4))
    assert.same(ALL, versions.sample(ALL, 20))
    assert.same({ "2.1.332" }, versions.sample(ALL, 1))
  end)
end)

describe("the results", function()
  local RESULT = { version = "2.1.200", date = "2026-11-29", seconds = 31, outcomes = { ready = { outcome = "ok" },
    tabs = { outcome = "-", reason = "four = 4 spaces" }, ["60 lines"] = { outcome = "wrong", reason = "lost: all" } } }

  it("are a line each that reads back", function()
    local line = results.encode(RESULT)
    assert.same(RESULT, results.decode(line))
    assert.is_nil(results.decode(line:sub(1, -2)))
  end)

  it("stand in a table beside those that were there, in order", function()
    local text = results.table_with({ ["2.1.1000"] = { date = "2026-01-01" }, ["2.1.200"] = { date = "2026-01-01" } },
      { RESULT })
    assert.same({ ["2.1.200"] = { date = "2026-11-29", short = "tabs", wrong = "60 lines" },
      ["2.1.1000"] = { date = "2026-01-01" } }, assert(load(text))())
    assert.is_true(text:find("2.1.200", 1, true) < text:find("2.1.1000", 1, true))
  end)

  it("are a matrix with each reason once", function()
    local other = results.decode((results.encode(RESULT):gsub("^2%.1%.200", "2.1.201")))
    local matrix = results.matrix { RESULT, other }
    assert.matches("\n2.1.200   . +X", matrix)
    assert.matches("\nX 60 lines: lost: all (2.1.200 … 2.1.201, 2 versions)\n- tabs: four", matrix, 1, true)
  end)
end)

describe("make conformance", function()
  local check_leaks, folder
  before_each(function()
    check_leaks, folder = helper.leaks(), helper.temporary_folder()
    helper.write_script(folder .. "/npm", "echo '[\"2.1.109\", \"2.1.110\", \"2.1.200\", \"2.1.300\"]'")
  end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  --- What takes the place of scripts/smoke.sh: it fetches, and a version has the outcomes that a file of its name says.
  local runner = [[
    here=${0%/*}
    mkdir -p "$BUILD/claude/$CLAUDE_VERSION" && : >"$BUILD/claude/$CLAUDE_VERSION/claude"
    [ "$2" != true ] || { echo "$CLAUDE_VERSION" >>"$here/fetched"; exit; }
    echo "$CLAUDE_VERSION" >>"$here/ran"
    ls "${BUILD%/*}" >>"$here/there"
    [ ! -e "$here/waits" ] || { trap 'exit 143' TERM; sleep 600 >/dev/null 2>&1 & echo $! >"$here/waits"; wait; }
    [ ! -e "$here/$CLAUDE_VERSION.out" ] || { cat "$here/$CLAUDE_VERSION.out"; exit 1; }
    printf 'ready\tok\t5\t\ntabs\t-\t5\tfour spaces\n' ]]

  local function start(more, with)
    helper.write(folder .. "/runner", with or runner)
    local environment = { "PATH=" .. folder .. ":" .. os.getenv "PATH", "RUNNER=" .. folder .. "/runner",
      "WORKERS=1", "BUILD=" .. folder .. "/build", "TABLE=" .. folder .. "/table.lua", "TMPDIR=" .. folder,
      table.unpack(more or {}) }
    return helper.start({ helper.host, "spec/conformance/run.lua" }, { env = environment })
  end

  local function run(more, with)
    local program <close> = start(more, with)
    return program:wait()
  end

  local function table_of_run() return dofile(folder .. "/table.lua") end

  it("checks what npm has, and leaves no program behind, each gone before the next", helper.task(function()
    local program = run()
    assert.equal(0, program.status, program.errors)
    for _, version in ipairs { "2.1.110", "2.1.200", "2.1.300" } do
      assert.matches("\n" .. version .. " +0 s  ok, but for tabs\n", "\n" .. program.output)
      assert.equal("tabs", table_of_run()[version].short)
    end
    assert.equal("2.1.110\n2.1.200\n2.1.300\n", files.read(folder .. "/fetched"))
    assert.equal("2.1.110\n2.1.200\n2.1.300\n", files.read(folder .. "/there")) -- one at a time
    assert.same({}, helper.names_in(folder .. "/build/conformance/fetched"))
  end))

  it("takes versions, and asks npm for nothing that is named", helper.task(function()
    helper.write_script(folder .. "/npm", "exit 1")
    assert.equal(0, run({ "VERSIONS=2.1.300 2.1.200" }).status)
    assert.equal("2.1.200\n2.1.300\n", files.read(folder .. "/ran"))
    local program = run { "VERSIONS=2.1.2*" }
    assert.equal(1, program.status)
    assert.matches("npm does not say which versions there are", program.errors, 1, true)
  end))

  it("is red when a check is, or something stays behind, or nothing is known", helper.task(function()
    helper.write(folder .. "/2.1.110.out", "ready\tok\t5\t\nturn\twrong\t5\tlost: all\nsmoke: claude 2.1.110: failed\n")
    helper.write(folder .. "/2.1.200.out", "ready\tok\t5\t\nsmoke: claude 2.1.200: left file x\n")
    helper.write(folder .. "/2.1.300.out", "")
    local program = run()
    assert.equal(1, program.status)
    assert.equal("leftovers", table_of_run()["2.1.200"].wrong)
    assert.matches("^turn", table_of_run()["2.1.110"].wrong)
    assert.is_nil(table_of_run()["2.1.300"])
    assert.matches("not run: 2.1.300: nothing was printed", program.output, 1, true)
    assert.matches("WRONG turn: lost: all", program.output, 1, true)
  end))

  it("goes on where it was cut off, and begins anew once it was through", helper.task(function()
    files.make_folder(folder .. "/build/conformance/fetched/0/2.1.300")
    local left = { version = "2.1.200", date = "2026-01-01", seconds = 9, outcomes = { ready = { outcome = "ok" } } }
    helper.write(folder .. "/build/conformance/unfinished.tsv", results.encode(left) .. "2.1.300\t2026-")
    assert.equal(0, run().status)
    assert.equal("2.1.110\n2.1.300\n", files.read(folder .. "/ran"))
    assert.equal("2026-01-01", table_of_run()["2.1.200"].date)
    assert.same({}, helper.names_in(folder .. "/build/conformance/fetched"))
    assert.equal(0, run({ "VERSIONS=2.1.200" }).status)
    assert.equal("2.1.110\n2.1.300\n2.1.200\n", files.read(folder .. "/ran"))
  end))

  it("says nothing of a version in which it is cut off", helper.task(function()
    helper.write(folder .. "/waits", "")
    local program <close> = start()
    local pid = helper.eventually(function() return tonumber(files.read(folder .. "/waits")) end)
    program:kill "sigterm"
    assert.equal(143, program:wait().status)
    assert.equal("", program.output)
    uv.kill(pid, "sigkill")
    files.remove(folder .. "/waits")
    assert.equal(0, run().status)
    assert.equal("2.1.110\n2.1.110\n2.1.200\n2.1.300\n", files.read(folder .. "/ran"))
  end))

  it("says what could not be fetched, and keeps it out of the table", helper.task(function()
    local missing = "echo 'smoke: cannot fetch it' >&2; exit 1"
    local program = run({ "VERSIONS=2.1.200" }, missing)
    assert.equal(1, program.status)
    assert.matches("not run: 2.1.200: smoke: cannot fetch it", program.output, 1, true)
    assert.same({}, table_of_run())
  end))

  it("names what is no count", helper.task(function()
    local program = run { "SAMPLE=some" }
    assert.equal(1, program.status)
    assert.matches("SAMPLE=some: a whole number", program.errors, 1, true)
  end))
end)
