local core = require "parley.core"
local helper = require "spec.helper"
local uv = require "luv"

describe("lock", function()
  local check_leaks, path

  before_each(function()
    check_leaks = helper.leaks()
    path = helper.temporary_folder() .. "/lock"
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  it("is one holder's at a time, within a process", function()
    local lock = assert(core.lock.take(path))
    local second, err = core.lock.take(path)
    assert.is_nil(second)
    assert.equal("EAGAIN", err.code)
    assert.equal(384, uv.fs_stat(path).mode & 511)
    lock:release()
    lock:release()
    assert.equal("parley.lock (released)", tostring(lock))
    assert.is_nil(uv.fs_stat(path))
    local third <close> = assert(core.lock.take(path))
    assert.equal(("parley.lock (%s)"):format(path), tostring(third))
  end)

  it("ends with the process, and is not its children's", helper.task(function()
    local holder <close> = helper.start { helper.host, "-e", ([[
      local lock = assert(require("parley.core").lock.take(%q))
      local uv = require "luv"
      local _, pid = uv.spawn("/bin/sleep", { args = { "600" }, detached = true }, function() end)
      print(pid)
      require("parley.task").condition():wait(60000)]]):format(path) }
    holder:expect "\n"
    assert.equal("EAGAIN", select(2, core.lock.take(path)).code)
    holder:kill "sigkill"
    holder:wait()
    local lock <close> = helper.eventually(function() return (core.lock.take(path)) end)
    assert.is_not_nil(lock)
    uv.kill(tonumber(holder.output), "sigkill")
  end))

  it("is not taken away by who had the file before", function()
    local lock = assert(core.lock.take(path))
    assert(uv.fs_unlink(path))
    local second <close> = assert(core.lock.take(path))
    lock:release()
    assert.equal("EAGAIN", select(2, core.lock.take(path)).code)
    assert.is_not_nil(second)
  end)

  it("is let go by the collector", function()
    assert(core.lock.take(path))
    collectgarbage()
    collectgarbage()
    assert(core.lock.take(path)):release()
  end)

  it("says why it cannot be taken", function()
    assert.equal("ENOENT", select(2, core.lock.take(path .. "/none/here")).code)
    assert(uv.fs_symlink("/etc/passwd", path))
    assert.equal("ELOOP", select(2, core.lock.take(path)).code)
    assert.error_matches(function() core.lock.take "" end, "without NUL")
    assert.error_matches(function() core.lock.take "a\0b" end, "without NUL")
  end)
end)
