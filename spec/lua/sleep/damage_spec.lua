local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local index = require "parley.sleep.index"
local uv = require "luv"

describe("the index of conversations", function()
  local check_leaks, folder, path, events

  local function open(options)
    options = options or {}
    options.path, options.on_event = path, function(event) table.insert(events, event) end
    return index.open(options)
  end

  local function entry(id)
    return { session_id = id, keys = { "k" .. id }, scope = "s", path = "/t/" .. id, state = "asleep",
      options = { filler = ("x"):rep(300) } }
  end

  local function fill(count)
    local store <close> = assert(open())
    for i = 1, count do assert(store:put(entry("s" .. i))) end
  end

  local function damaged_files()
    local found = {}
    for _, name in ipairs(files.names(folder)) do
      if name:find "damaged" and not name:find "%-[shmwal]+$" then table.insert(found, name) end
    end
    return found
  end

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder() .. "/state"
    path, events = folder .. "/sessions.db", {}
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  describe("whose file is damaged", function()
    it("moves it aside and begins anew, and says so", function()
      assert(files.make_folder(folder))
      helper.write(path, ("no database "):rep(1000))
      local store <close> = assert(open())
      assert.is_true(store:put(entry "one"))
      assert.equal(1, #events)
      assert.same({ "index_moved_aside", path }, { events[1].type, events[1].path })
      assert.matches("is damaged (", events[1].reason, 1, true)
      assert.equal(("%s; it was moved to '%s', and a new one begun"):format(events[1].reason, events[1].aside),
        events[1].message)
      assert.equal(("no database "):rep(1000), files.read(events[1].aside))
    end)

    it("does so when it comes to light later, and several have it open", function()
      fill(300)
      local size = uv.fs_stat(path).size
      assert.is_true(size > 40000)
      -- By another process: a descriptor of this one, closed, would let go of SQLite's locks.
      assert(os.execute(("dd if=/dev/urandom of='%s' bs=4096 seek=1 count=%d conv=notrunc 2>/dev/null"):format(path,
        size // 4096 - 1)))
      local first <close> = assert(open())
      local second <close> = assert(open())
      assert.same({}, events)
      local lease <close> = assert(second:lease "s5")
      assert.is_nil(lease.entry)
      assert.is_true(first:put(entry "one"))
      assert.is_true(second:put(entry "two"))
      assert.equal(2, #assert(first:list()))
      assert.equal(1, #events)
      assert.equal(1, #damaged_files())
      assert.is_nil((first:lease "s5")) -- the lock is where it was
    end)
  end)

  it("goes on where its making was cut off", function()
    for _, begun in ipairs { "", "PRAGMA journal_mode = WAL", "PRAGMA application_id = 0x5061726c" } do
      assert(files.make_folder(folder))
      helper.write(path, "")
      local file = assert(core.sqlite.open(path))
      if begun ~= "" then assert(file:query(begun)) end
      file:close()
      local store = assert(open())
      assert.is_true(store:put(entry "one"))
      store:close()
      files.remove_tree(folder)
    end
    assert.same({}, events)
  end)

  it("leaves a newer one's file alone", function()
    fill(1)
    local file = assert(core.sqlite.open(path))
    file:script "PRAGMA user_version = 99"
    file:close()
    local store, err = open()
    assert.is_nil(store)
    assert.equal("newer", err.reason)
    assert.matches("newer Parley (version 99, this one knows 1)", err.message, 1, true)
    file = assert(core.sqlite.open(path))
    assert.equal(1, #file:query "SELECT * FROM sessions")
    file:close()
    assert.same({}, events)
  end)

  it("leaves another program's file alone", function()
    assert(files.make_folder(folder))
    local file = assert(core.sqlite.open(path))
    file:script "CREATE TABLE theirs (a)"
    file:close()
    assert.equal("foreign", select(2, open()).reason)
    assert.same({ "sessions.db" }, files.names(folder))
  end)

  it("says that others can reach into its folder, and what to do", function()
    assert(files.make_folder(folder))
    uv.fs_chmod(folder, 493) -- 0755
    local _, err = open()
    assert.equal("folder", err.reason)
    assert.matches(("(mode 755): chmod 700 '%s'"):format(folder), err.message, 1, true)
    assert.same({}, files.names(folder))
    uv.fs_chmod(folder, 448)
    if uv.getuid() ~= 0 then return end
    uv.fs_chown(folder, 1, 1)
    _, err = open()
    assert.equal("folder", err.reason)
    assert.matches("belongs to user 1, not to this one, 0", err.message, 1, true)
  end)

  it("makes its own file private where it was not", function()
    fill(1)
    uv.fs_chmod(path, 420)
    local store <close> = assert(open())
    assert.equal(384, uv.fs_stat(path).mode & 511)
    assert.is_not_nil(store:get "s1")
  end)

  it("says that something else is in the way", function()
    helper.write(folder, "")
    assert.equal("folder", select(2, open()).reason)
    uv.fs_unlink(folder)
    assert(files.make_folder(path))
    local _, err = open()
    assert.equal("io", err.reason)
    assert.matches(path, err.message, 1, true)
  end)

  describe("on a disk of its own", function()
    local function on_disk(options, text)
      local own = "-m" .. (uv.getuid() == 0 and "" or "r")
      if helper.run({ "/usr/bin/unshare", own, "true" }).status ~= 0 then return nil end
      assert(files.make_folder(folder))
      local ran = helper.run { "/usr/bin/unshare", own, "sh", "-c",
        'mount -t tmpfs -o mode=700,"$1" none "$2" && exec "$3" -e "$4"', "sh", options, folder, helper.host, ([[
        local index, path = require "parley.sleep.index", %q
        local function mount(how) assert(os.execute(("mount -o remount,mode=700,%%s '%s'"):format(how))) end
        local function named(err) return (err.message:gsub("'[^']*db'", "PATH"):gsub("%%(.*%%)", "(…)")) end
        local function entry(i)
          return { session_id = "s" .. i, keys = { "k" .. i }, scope = "s", path = "/t", state = "asleep",
            options = { filler = ("x"):rep(1000) } }
        end
        %s]]):format(path, folder, text) }
      assert.equal(0, ran.status, ran.errors)
      return ran.output
    end

    it("says that it is full, loses nothing, and goes on where there is room again", helper.task(function()
      local output = on_disk("size=400k", [[
        local store = assert(index.open { path = path, durability = "power" })
        local stored, err = 0, nil
        repeat
          local ok
          ok, err = store:put(entry(stored + 1))
          if ok then stored = stored + 1 end
        until not ok
        print(err.code, err.reason, named(err))
        print(stored > 5, store:get("s" .. stored) ~= nil, store:get("s" .. stored + 1))
        assert(#store:list() == stored)
        mount "size=4m"
        assert(store:put(entry(stored + 1)))
        assert(store:lease "s2"):release()
        store:close()
        store = assert(index.open { path = path })
        print(#store:list() == stored + 1, store.database:query("PRAGMA integrity_check")[1].integrity_check)]])
      if not output then return pending "no mounts of our own" end
      local lines = {}
      for line in output:gmatch "[^\n]+" do table.insert(lines, line) end
      assert.same({
        "StateError\tfull\tthe index of conversations PATH cannot grow, the disk is full (…); what it holds is safe",
        "true\ttrue\tnil", "true\tok",
      }, lines)
    end))

    it("says that it cannot be written", helper.task(function()
      local output = on_disk("size=2m", [[
        local store = assert(index.open { path = path })
        assert(store:put(entry(1)))
        store:close()
        mount "ro"
        local other, err = index.open { path = path }
        if other then _, err = other:put(entry(2)) end
        print(err.code, err.reason, named(err))]])
      if not output then return pending "no mounts of our own" end
      assert.equal("StateError\tread_only\tthe index of conversations PATH cannot be written (…): make its folder and "
        .. "its files writable, or name another folder in XDG_STATE_HOME\n", output)
    end))
  end)

  it("has all that was acknowledged, whenever its process is killed", helper.task(function()
    local ROUNDS, acknowledged = helper.long(40, 200), 0
    math.randomseed(20261129)
    for round = 1, ROUNDS do
      -- It goes on where the last one was killed; few pages in the log have the kills hit checkpoints, too.
      local writer <close> = helper.start { helper.host, "-e", ([[
        local index = require "parley.sleep.index"
        local store = assert(index.open { path = %q, durability = %q })
        assert(store:put { session_id = "first", keys = {}, scope = "s", path = "/t", state = "asleep" })
        store.database:script "PRAGMA wal_autocheckpoint = 8"
        for i = %d, 100000 do
          assert(store:put { session_id = "s" .. i %% 500, keys = { "k" .. i }, scope = "s", path = "/t",
            state = "live", turns = i })
          io.stdout:write(i, "\n")
          io.stdout:flush()
        end]]):format(path, round % 2 == 0 and "power" or "process", acknowledged + 1) }
      writer:expect(("%d\n"):format(acknowledged + math.random(30)))
      writer:kill "sigkill"
      writer:wait()
      local last = tonumber(writer.output:match "(%d+)\n[^\n]*$") -- the last whole line
      assert.is_true(last > acknowledged)
      acknowledged = last
      local store <close> = assert(open())
      assert.equal("ok", store.database:query("PRAGMA integrity_check")[1].integrity_check)
      for i = math.max(1, acknowledged - (round == ROUNDS and 400 or 40)), acknowledged do
        local found = store:get("s" .. i % 500)
        assert.is_true(found.turns == i or found.turns == acknowledged + 1, i)
        if found.turns == i then assert.equal("s" .. i % 500, store:find("k" .. i)[1].session_id) end
      end
    end
    assert.same({}, events)
  end))
end)
