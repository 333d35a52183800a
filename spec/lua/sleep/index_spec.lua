local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local index = require "parley.sleep.index"
local uv = require "luv"

describe("the index of conversations", function()
  local check_leaks, folder, store, now

  local function open(options)
    options = options or {}
    options.path = folder .. "/state/sessions.db"
    return assert(index.open(options))
  end

  local function entry(id, fields)
    local made = { session_id = id, keys = { "key of " .. id }, scope = "scope", path = "/transcripts/" .. id,
      state = "asleep" }
    for name, value in pairs(fields or {}) do made[name] = value end
    return made
  end

  local function ids(entries)
    local list = {}
    for i, one in ipairs(entries) do list[i] = one.session_id end
    return list
  end

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
    now = 1700000000.25
    clock.use { wall = function() return now * 1000 end }
    store = open()
  end)

  after_each(function()
    store:close()
    clock.use()
    helper.remove_folders()
    check_leaks()
  end)

  it("gives back what was stored, after it was opened anew, too", function()
    local stored = entry("one", { keys = { "a", "b" }, size = 12, digest = "ab", cwd = "/here",
      options = { model = "haiku", add_dir = { "/x" }, costs = true }, argv = { "--model", "haiku" },
      env_names = { "HOME" }, model = "haiku", turns = 3, tokens = 400, cost_usd = 0.25, created_at = 1699999999.125,
      used_at = 1699999999.5 })
    assert.is_true(store:put(stored))
    store:close()
    store = open()
    local found = store:get "one"
    stored.since = now
    assert.same(stored, found)
    assert.is_true(store:put(found))
    assert.same(stored, store:get "one")
  end)

  it("fills in what is not said", function()
    store:put(entry "one")
    local found = store:get "one"
    assert.same({ 0, "", 0, 0, now, now, {}, {}, {} }, { found.size, found.digest, found.turns, found.tokens,
      found.created_at, found.used_at, found.options, found.argv, found.env_names })
    assert.is_nil(store:get "two")
  end)

  it("puts an entry in the place of the older one, with its keys, and keeps when it began", function()
    store:put(entry("one", { keys = { "a", "b" }, turns = 5, model = "haiku" }))
    now = now + 10
    store:put(entry("one", { keys = { "b", "c" } }))
    assert.same({}, store:find("a", "scope"))
    assert.same({ "one" }, ids(store:find("b", "scope")))
    assert.same({ "one" }, ids(store:find("c", "scope")))
    local found = store:get "one"
    assert.same({ now - 10, now, 0 }, { found.created_at, found.used_at, found.turns })
    assert.is_nil(found.model)
  end)

  it("finds by a key, the last used one first, and none of another scope", function()
    store:put(entry("old", { keys = { "k" }, used_at = now - 2 }))
    store:put(entry("new", { keys = { "k" }, used_at = now - 1 }))
    store:put(entry("other", { keys = { "k" }, scope = "another" }))
    assert.same({ "new", "old" }, ids(store:find("k", "scope")))
    assert.same({ "other" }, ids(store:find("k", "another")))
    assert.same({ "other", "new", "old" }, ids(store:find "k"))
    assert.same({}, store:find("x", "scope"))
  end)

  it("finds 16 at most", function()
    for i = 1, 20 do store:put(entry("s" .. i, { keys = { "k" }, used_at = now + i })) end
    local found = store:find("k", "scope")
    assert.equal(16, #found)
    assert.equal("s20", found[1].session_id)
  end)

  it("lists all by their last use, in pages", function()
    for i = 1, 1100 do store:put(entry(("s%04d"):format(i), { used_at = now + i % 7 })) end
    local seen, last = {}, math.huge
    for one in store:each() do
      assert.is_true(one.used_at <= last)
      assert.is_nil(seen[one.session_id])
      seen[one.session_id], last = true, one.used_at
    end
    assert.equal(1100, #store:list())
    assert.equal(3, #store:list(3))
    assert.is_true(seen.s0001 and seen.s1100)
  end)

  it("forgets", function()
    store:put(entry "one")
    assert.is_true(store:forget "one")
    assert.is_false(store:forget "one")
    assert.same({}, store:find "key of one")
  end)

  it("makes nothing to look into", function()
    local nothing <close> = assert(index.open { path = folder .. "/none/sessions.db" })
    assert.same({ {}, {}, {} }, { nothing:find "k", nothing:list(), nothing:prune() })
    assert.is_nil(nothing:get "one")
    assert.is_false(nothing:forget "one")
    assert.is_nil(nothing:each()())
    assert.is_nil(uv.fs_stat(folder .. "/none"))
    assert.is_true(nothing:put(entry "one"))
    assert.same({ "one" }, ids(nothing:find "key of one"))
  end)

  it("is private, and needs no umask for it", function()
    store:put(entry "one")
    assert.equal(448, uv.fs_stat(folder .. "/state").mode & 511)
    for _, name in ipairs { "sessions.db", "sessions.db-wal", "sessions.db-shm" } do
      assert.equal(384, uv.fs_stat(folder .. "/state/" .. name).mode & 511, name)
    end
  end)

  it("stands in the user's folder for states", function()
    assert.equal("/s/parley/sessions.db", index.default_path { XDG_STATE_HOME = "/s", HOME = "/h" })
    assert.equal("/h/.local/state/parley/sessions.db", index.default_path { HOME = "/h" })
    assert.equal("/h/.local/state/parley/sessions.db", index.default_path { XDG_STATE_HOME = "rel", HOME = "/h" })
  end)

  it("sees what others store, and shows them what it does", function()
    local other <close> = open { durability = "power" }
    other:put(entry "one")
    assert.same({ "one" }, ids(store:find "key of one"))
    store:forget "one"
    assert.is_nil(other:get "one")
  end)

  it("waits for the disk at each commit when it is to survive the machine's failure, and else at times", function()
    local function synchronous(of)
      of:put(entry "one")
      return of.database:query("PRAGMA synchronous")[1].synchronous
    end
    local other <close> = open { durability = "power" }
    assert.same({ 1, 2 }, { synchronous(store), synchronous(other) }) -- NORMAL, FULL
    assert.equal("wal", store.database:query("PRAGMA journal_mode")[1].journal_mode)
  end)

  it("begins anew where its file is taken away", function()
    store:put(entry "one")
    files.remove_tree(folder .. "/state")
    assert.is_nil(store:get "one")
    assert.is_true(store:put(entry "two"))
    local lease = assert(store:lease "two")
    lease:release()
    local other <close> = open()
    assert.is_not_nil(other:get "two")
  end)

  it("says that it is closed", function()
    store:close()
    store:close()
    assert.equal("ClosedError", helper.error_of(store.get, store, "one").code)
  end)

  describe("with a retention", function()
    local function reopen(retention)
      store:close()
      store = open { retention = retention }
    end

    it("finds nothing that is past its days, and forgets it when it prunes", function()
      reopen { days = 2 }
      store:put(entry("old", { used_at = now - 2 * 86400 - 1 }))
      store:put(entry("new", { used_at = now - 2 * 86400 + 1 }))
      assert.same({}, store:find "key of old")
      assert.same({ "new" }, ids(store:find "key of new"))
      assert.same({ "old" }, ids(store:prune()))
      assert.same({ "new" }, ids(store:list()))
      assert.same({}, store:prune())
    end)

    it("keeps so many, and those that were used last", function()
      reopen { count = 2 }
      for i = 1, 5 do store:put(entry("s" .. i, { used_at = now + i })) end
      assert.same({ "s1", "s2", "s3" }, ids(store:prune()))
      assert.same({ "s5", "s4" }, ids(store:list()))
      assert.same({}, store:find "key of s1")
    end)

    it("keeps so many bytes of transcripts", function()
      reopen { bytes = 100 }
      for i = 1, 4 do store:put(entry("s" .. i, { used_at = now + i, size = 50 })) end
      assert.same({ "s1", "s2" }, ids(store:prune()))
    end)

    it("forgets 200 at a time, and nobody who is live", function()
      reopen { count = 1 }
      for i = 1, 205 do store:put(entry("s" .. i, { used_at = now + i })) end
      local own, other <close> = assert(store:lease "s1"), open()
      local theirs = assert(other:lease "s2")
      assert.same({ 198, 4 }, { #store:prune(), #store:prune() })
      assert.same({ "s205", "s2", "s1" }, ids(store:list()))
      assert.same({}, store:prune())
      own:release()
      theirs:release()
      assert.same({ "s1", "s2" }, ids(store:prune()))
    end)
  end)

  describe("used wrongly", function()
    local function refused(text, fn, ...)
      local err = helper.failure_of("ValueError", fn, ...)
      assert.matches(text, err.message, 1, true)
    end

    it("names the thing and says what was expected", function()
      refused("no option 'paht'", index.open, { paht = "/x" })
      refused("an absolute path", index.open, { path = "x" })
      refused("one of power, process", index.open, { durability = "none" })
      refused("retention: option 'days'", index.open, { retention = { days = 0 } })
      refused("retention has no option 'age'", index.open, { retention = { age = 1 } })
      refused("must have 'session_id'", store.put, store, {})
      refused("must have 'scope'", store.put, store, { session_id = "a", keys = {}, path = "/x", state = "live" })
      refused("an id", store.put, store, entry "../x")
      refused("one of live, asleep", store.put, store, entry("a", { state = "dead" }))
      refused("list of strings", store.put, store, entry("a", { keys = { 1 } }))
      refused("option 'options'", store.put, store, entry("a", { options = { f = print } }))
      refused("0 or more", store.put, store, entry("a", { size = -1 }))
      refused("a session's id expected", store.lease, store, "a/b")
      assert.is_nil(store:get "a")
      local nowhere = assert(index.open { path = "/proc/none/x.db" })
      assert.is_true(errors.is(select(2, nowhere:put(entry "a")), "StateError"))
      assert.is_true(errors.is(select(2, nowhere:lease "a"), "StateError"))
    end)
  end)
end)
