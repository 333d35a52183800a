local uv = require "luv"
local core = require "parley.core"
local helper = require "spec.helper"
local parley = require "parley"
local testing = require "parley.testing"

describe("parley sessions", function()
  local check_leaks, kit

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit()
  end)

  after_each(function()
    kit:close()
    check_leaks()
    helper.remove_folders()
  end)

  local function run(words, cwd)
    return helper.run({ helper.host, "sessions", table.unpack(words) }, { cwd = cwd or kit.cwd,
      env = { "HOME=" .. kit.home, "PATH=" .. os.getenv "PATH" } })
  end

  --- Holds a conversation with the stand-in. Returns its session id.
  local function talk(texts)
    local live <close> = parley.session(kit.options)
    live:start()
    for _, text in ipairs(texts) do
      for _ in live:send(text) do end
    end
    return live.session_id
  end

  local function set_age(id, seconds)
    local time = os.time() - seconds
    assert(uv.fs_utime(kit:transcript_path(id), time, time))
  end

  it("lists those of the working directory, newest first", helper.task(function()
    local old, new = talk { "the old one", "USETOOL" }, talk { "the new one" }
    set_age(old, 7200)
    set_age(new, 100)
    local program = run {}
    assert.equal(0, program.status)
    local lines = {}
    for line in program.output:gmatch "[^\n]+" do table.insert(lines, line) end
    assert.equal(3, #lines)
    assert.matches("^ID +AGE +TURNS +SIZE +FIRST WORDS$", lines[1])
    assert.matches("^" .. new:gsub("%-", "%%-") .. " +1 min +1 +[%d.]+ k?B  the new one$", lines[2])
    assert.matches("^" .. old:gsub("%-", "%%-") .. " +2 h +2 +[%d.]+ k?B  the old one$", lines[3])
  end))

  it("lists those of another folder", helper.task(function()
    local id = talk { "hello" }
    assert.matches(id, run({ kit.cwd }, "/").output, 1, true)
    assert.equal("", run({ "/" }).output)
  end))

  it("lists those of every folder with --all, and says which", helper.task(function()
    local id = talk { "hello" }
    local program = run({ "--all" }, "/")
    assert.matches(id, program.output, 1, true)
    assert.matches(kit.cwd .. ": hello", program.output, 1, true)
  end))

  it("lists no more than --limit", helper.task(function()
    local old, new = talk { "one" }, talk { "two" }
    set_age(old, 60)
    local program = run { "--limit", "1", "--json" }
    assert.equal(new, assert(core.json.decode(program.output)).id)
    assert.not_matches(old, program.output, 1, true)
  end))

  it("prints an object a line with --json", helper.task(function()
    local id = talk { "hello", "again" }
    local entry = assert(core.json.decode(run({ "--json" }).output))
    assert.equal(id, entry.id)
    assert.equal(kit:transcript_path(id), entry.path)
    assert.equal(kit.cwd, entry.cwd)
    assert.equal(2, entry.turns)
    assert.equal("hello", entry.first_words)
    assert.is_nil(entry.problem)
    assert.equal(assert(uv.fs_stat(entry.path)).size, entry.size)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", entry.modified)
  end))

  it("says of one that cannot be read why, and counts nothing in it", helper.task(function()
    local path = kit:transcript_path(talk { "hello" })
    assert(uv.fs_unlink(path))
    assert(uv.fs_symlink("/proc/self/mem", path)) -- nothing can be read at its beginning, not by root either
    assert.matches(" +%- +0 B  %(cannot be read: Input/output error%)\n$", run({}).output)
    local entry = assert(core.json.decode(run({ "--json" }).output))
    assert.same({ core.json.null, core.json.null, "Input/output error" },
      { entry.turns, entry.first_words, entry.problem })
  end))

  it("prints nothing that a terminal would obey", helper.task(function()
    local folder = kit:transcript_path("x"):match "^(.*)/"
    require("parley.base.files").make_folder(folder)
    helper.write(("%s/%s.jsonl"):format(folder, core.uuid.generate()), assert(core.json.encode {
      type = "user", uuid = "u", message = { content = "a\27]0;title\7b" } }) .. "\n")
    local output = run({}).output
    assert.not_matches("[\27\7]", output)
    assert.matches("a\u{FFFD}]0;title\u{FFFD}b", output, 1, true)
  end))

  it("says so when there are none", helper.task(function()
    local program = run {}
    assert.equal(0, program.status)
    assert.equal("", program.output)
    assert.matches("no sessions of this folder", program.errors, 1, true)
    assert.equal("", run({ "--json" }).output)
  end))

  it("names a folder that is not there", helper.task(function()
    local program = run { "/none/at/all" }
    assert.equal(1, program.status)
    assert.matches("'/none/at/all' cannot be used", program.errors, 1, true)
  end))
end)
