local core = require "parley.core"
local helper = require "spec.helper"
local index = require "parley.sleep.index"
local parley = require "parley"
local testing = require "parley.testing"
local uv = require "luv"

describe("parley sessions, of what is kept,", function()
  local check_leaks, kit, store

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit()
    store = assert(index.open { path = kit.home .. "/.local/state/parley/sessions.db" })
  end)

  after_each(function()
    store:close()
    kit:close()
    check_leaks()
    helper.remove_folders()
  end)

  local function run(...)
    return helper.run({ helper.host, "sessions", ... }, { cwd = kit.cwd,
      env = { "HOME=" .. kit.home, "PATH=" .. os.getenv "PATH" } })
  end

  local function refused(text, ...)
    local program = run(...)
    assert.equal(1, program.status)
    assert.equal("", program.output)
    assert.matches(text, program.errors, 1, true)
  end

  local function put(id, fields)
    local entry = { session_id = id, keys = {}, scope = "s", path = "/t/" .. id, state = "asleep", cwd = "/src/thing",
      model = "haiku", turns = 3, tokens = 400, size = 50 }
    for name, value in pairs(fields or {}) do entry[name] = value end
    assert(store:put(entry))
  end

  local function lines(text)
    local list = {}
    for line in text:gmatch "[^\n]+" do table.insert(list, line) end
    return list
  end

  it("lists all, live and asleep, while others have the index open", helper.task(function()
    put("old", { used_at = os.time() - 7200 })
    put("new", { model = "op\27us", cwd = "/a\7b" })
    local lease <close> = assert(store:lease "new")
    local listed = lines(run("--kept").output)
    assert.equal(3, #listed)
    assert.matches("^ID +AGE +TURNS +STATE +MODEL +FOLDER$", listed[1])
    assert.matches("^new +%S+ ?s? +3 live %S.* +op\u{FFFD}us +/a\u{FFFD}b$", listed[2])
    assert.matches("^old +2 h +3 asleep %S.* haiku +/src/thing$", listed[3])
    local one = assert(core.json.decode(run("--kept", "--json", "--limit", "1").output))
    assert.same({ "new", "live", uv.os_getpid(), "/t/new", 3, 400, 50, core.json.null },
      { one.id, one.state, one.process, one.path, one.turns, one.tokens, one.size, one.cost_usd })
    for _, name in ipairs { "since", "created", "used" } do
      assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", one[name])
    end
    assert.is_not_nil(lease)
  end))

  it("says that there is none, and makes nothing to look into", helper.task(function()
    assert.matches("no sessions are kept in " .. kit.home, run("--kept").errors, 1, true)
    local empty = helper.temporary_folder()
    local program = helper.run({ helper.host, "sessions", "--kept" },
      { env = { "XDG_STATE_HOME=" .. empty, "HOME=/" } })
    assert.equal(0, program.status)
    assert.matches(empty .. "/parley/sessions.db", program.errors, 1, true)
    assert.same({}, helper.names_in(empty))
  end))

  it("shows the states among the transcripts of a folder", helper.task(function()
    local live <close> = parley.session(kit.options)
    live:start()
    for _ in live:send "hello" do end
    put(live.session_id)
    local listed = lines(run().output)
    assert.matches("^ID +AGE +TURNS +SIZE +STATE +FIRST WORDS$", listed[1])
    assert.matches("^" .. live.session_id:gsub("%-", "%%-") .. " .* asleep %S.*  hello$", listed[2])
    local one = assert(core.json.decode(run("--json").output))
    assert.same({ live.session_id, "asleep", "haiku", 1 }, { one.id, one.state, one.model, one.turns })
  end))

  it("lists the transcripts where the index cannot be used, and says why", helper.task(function()
    local live <close> = parley.session(kit.options)
    live:start()
    for _ in live:send "hello" do end
    put "one"
    store:close()
    uv.fs_chmod(kit.home .. "/.local/state/parley", 493)
    local program = run()
    assert.equal(0, program.status)
    assert.matches("hello", program.output, 1, true)
    assert.matches("chmod 700", program.errors, 1, true)
    refused("chmod 700", "--kept")
  end))

  it("forgets one, by the beginning of its id, and none that is live", helper.task(function()
    put "abcd-1"
    put "abcd-2"
    put "bcde-1"
    local program = run("forget", "bcde")
    assert.same({ 0, "bcde-1\n" }, { program.status, program.output })
    assert.is_nil(store:get "bcde-1")
    refused("'abcd' begins the ids of several sessions: abcd-", "forget", "abcd")
    refused("no session 'none' is kept", "forget", "none")
    local lease = assert(store:lease "abcd-1")
    refused(("'abcd-1' is live, in process %d"):format(uv.os_getpid()), "forget", "abcd-1")
    lease:release()
    assert.equal("abcd-1\n", run("forget", "abcd-1").output)
    assert.equal(1, #store:list())
  end))

  it("prunes by age, by number and by size, and only when it is told what to keep", helper.task(function()
    for i = 1, 300 do put(("s%03d"):format(i), { used_at = os.time() - i * 86400 + 3600 }) end
    assert.equal(200, #lines(run("prune", "--days", "100").output))
    assert.equal(100, #store:list())
    run("prune", "--count", "10", "--days", "200")
    assert.equal(10, #store:list())
    assert.equal("s010\ns009\n", run("prune", "--bytes", "400").output)
    assert.equal("", run("prune", "--count", "8").output)
    refused("say what is to be kept: --days, --count or --bytes", "prune")
  end))

  it("says what stands in the wrong place", helper.task(function()
    refused("parley sessions forget ID", "forget")
    refused("an ID, 'x', stands behind 'forget' alone", "/src", "x")
    refused("are for parley sessions prune", "--days", "3")
    refused("'0' is not a whole number from 1 on", "prune", "--days", "0")
  end))
end)
