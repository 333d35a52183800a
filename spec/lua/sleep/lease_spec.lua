local core = require "parley.core"
local errors = require "parley.base.errors"
local helper = require "spec.helper"
local index = require "parley.sleep.index"
local uv = require "luv"

describe("a lease", function()
  local check_leaks, path, store

  local function entry(fields)
    local made = { session_id = "one", keys = { "k" }, scope = "s", path = "/t", state = "live" }
    for name, value in pairs(fields or {}) do made[name] = value end
    return made
  end

  before_each(function()
    check_leaks = helper.leaks()
    path = helper.temporary_folder() .. "/state/sessions.db"
    store = assert(index.open { path = path })
  end)

  after_each(function()
    store:close()
    helper.remove_folders()
    check_leaks()
  end)

  --- A host that runs some Lua with the index in `store`.
  local function host(text, before)
    local words = before or {}
    for _, word in ipairs { helper.host, "-e", ([[
      local index, path = require "parley.sleep.index", %q
      local store = assert(index.open { path = path })
      io.stdout:setvbuf "line"
      ]]):format(path) .. text } do table.insert(words, word) end
    return helper.start(words)
  end

  local HOLD = [[
    local lease = assert(store:lease "one")
    assert(store:put { session_id = "one", keys = { "k" }, scope = "s", path = "/t", state = "live" })
    print "held"
    require("parley.task").condition():wait(60000)]]

  it("is one holder's at a time, in one index and in two of a process", function()
    local other <close> = assert(index.open { path = path })
    local lease = assert(store:lease "one")
    for _, asking in ipairs { store, other } do
      local second, owner = asking:lease "one"
      assert.is_nil(second)
      assert.equal(uv.os_getpid(), owner.pid)
      assert.equal("number", type(owner.since))
      assert.is_false(errors.is(owner))
    end
    assert.is_true(lease:release())
    assert.is_true(lease:release())
    assert(other:lease "one"):release()
    assert.is_nil(uv.fs_stat(path:match "^(.*)/" .. "/locks/one"))
  end)

  it("gives the entry as it stands now, and stores another when it is given back", function()
    store:put(entry { turns = 1 })
    local found = store:find("k")[1]
    store:put(entry { turns = 2 })
    local lease = assert(store:lease(found.session_id))
    assert.equal(2, lease.entry.turns)
    assert.same({ "live", uv.os_getpid() }, { store:get "one".state, store:get "one".owner.pid })
    assert.is_true(lease:release(entry { turns = 3, state = "asleep" }))
    local kept = store:get "one"
    assert.same({ 3, "asleep" }, { kept.turns, kept.state })
    assert.is_nil(kept.owner)
    assert.is_nil(assert(store:lease "another").entry)
  end)

  it("is given back where it goes out of sight, and when its index is closed", function()
    do
      local lease <close> = assert(store:lease "one")
      assert.is_not_nil(lease)
    end
    assert(store:lease "one")
    assert(store:lease "two")
    store:close()
    store = assert(index.open { path = path })
    assert(store:lease "one")
    assert(store:lease "two")
  end)

  it("of one session is not given back with the entry of another", function()
    local lease <close> = assert(store:lease "one")
    assert.equal("ValueError", helper.error_of(lease.release, lease, entry { session_id = "two" }).code)
    assert.is_nil((store:lease "one"))
  end)

  it("keeps others from forgetting its session, and not its holder", helper.task(function()
    local holder <close> = host(HOLD)
    holder:expect "held"
    local was_there, err = store:forget "one"
    assert.is_nil(was_there)
    assert.equal("leased", err.reason)
    assert.matches(("process %d"):format(holder.pid), err.message, 1, true)
    store:put(entry { session_id = "two" })
    local own <close> = assert(store:lease "two")
    assert.is_true(store:forget "two")
    assert.is_not_nil(own)
  end))

  it("ends with its process, whatever ends that", helper.task(function()
    local holder <close> = host(HOLD)
    holder:expect "held"
    local lease, owner = store:lease "one"
    assert.is_nil(lease)
    assert.equal(holder.pid, owner.pid)
    assert.equal("live", store:get "one".state)
    holder:kill "sigkill"
    holder:wait()
    local left = store:get "one"
    assert.same({ "asleep", left.used_at }, { left.state, left.since })
    lease = assert(store:lease "one")
    assert.equal(uv.os_getpid(), store:get "one".owner.pid)
    assert.is_true(lease:release(entry { state = "asleep" }))
  end))

  it("is not its holder's children's", helper.task(function()
    local holder <close> = host [[
      local lease = assert(store:lease "one")
      local uv = require "luv"
      local _, pid = uv.spawn("/bin/sleep", { args = { "600" }, detached = true }, function() end)
      print(pid)
      require("parley.task").condition():wait(60000)]]
    holder:expect "\n"
    holder:kill "sigkill"
    holder:wait()
    local lease = store:lease "one"
    uv.kill(tonumber(holder.output), "sigkill")
    assert.is_not_nil(lease)
  end))

  it("is told from one of an earlier process of that id, and of an earlier start of the machine", function()
    store:put(entry())
    local file <close> = assert(core.sqlite.open(path, 1000))
    local this = store.this
    local function state_of(fields)
      local row = setmetatable(fields, { __index = this })
      assert(file:query("REPLACE INTO leases VALUES ('one', ?, ?, ?, ?, 5000)", row.pid, row.started, row.boot,
        row.namespace))
      return store:get "one".state
    end
    assert.equal("live", state_of {})
    assert.equal("asleep", state_of { started = "1" })
    assert.equal("asleep", state_of { boot = "another" })
    assert.equal("live", state_of { namespace = "pid:[1]" }) -- which cannot be seen from here
    assert.same({ pid = this.pid, since = 5 }, store:get "one".owner)
    assert.is_not_nil(assert(store:lease "one").entry) -- the lock knows
  end)

  it("holds in another container, too", helper.task(function()
    local own = "-rpf" .. (uv.getuid() == 0 and "" or "U")
    if helper.run({ "/usr/bin/unshare", own, "true" }).status ~= 0 then return pending "no namespaces of our own" end
    local holder <close> = host(HOLD:gsub('print "held"', 'print("held", require("luv").os_getpid())'),
      { "/usr/bin/unshare", own, "--mount-proc", "--kill-child" })
    holder:expect "held"
    local lease, owner = store:lease "one"
    assert.is_nil(lease)
    assert.equal(tonumber(holder.output:match "%d+"), owner.pid)
    assert.equal("live", store:get "one".state)
    assert.equal("leased", select(2, store:forget "one").reason)
    holder:kill "sigkill"
    holder:wait()
    lease = helper.eventually(function() return (store:lease "one") end)
    assert.is_true(lease:release())
  end))

  it("is never two's, however many want it", helper.task(function()
    local PROCESSES, ROUNDS = 5, helper.long(40, 400)
    for i = 1, 3 do store:put(entry { session_id = "s" .. i, turns = 0 }) end
    local racing <close> = setmetatable({}, { __close = function(programs)
      for _, program in ipairs(programs) do program:__close() end
    end })
    for i = 1, PROCESSES do
      racing[i] = host(([[
        math.randomseed(%d)
        local done = 0
        while done < %d do
          local id = "s" .. math.random(3)
          local lease, other = store:lease(id)
          if lease then
            local entry = lease.entry
            assert(entry.owner.pid == require("luv").os_getpid())
            entry.turns, done = entry.turns + 1, done + 1
            assert(lease:release(entry))
          else
            assert(not other.code, other)
          end
        end
        print "done"]]):format(i, ROUNDS))
    end
    for _, program in ipairs(racing) do
      program:wait()
      assert.equal("done\n", program.output, program.errors)
    end
    local turns = 0
    for i = 1, 3 do turns = turns + store:get("s" .. i).turns end
    assert.equal(PROCESSES * ROUNDS, turns)
  end))

  it("leaves nothing to be cleaned up by an index that was abandoned", function()
    store:put(entry())
    local _ = assert(store:lease "one")
    store:abandon()
    store = assert(index.open { path = path })
    assert.is_not_nil(assert(store:lease "one").entry)
  end)
end)
