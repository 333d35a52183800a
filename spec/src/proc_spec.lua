local files = require "parley.base.files"
local helper = require "spec.helper"
local proc = require("parley.core").proc
local uv = require "luv"

describe("proc", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function listed(pid)
    local found
    for _, one in ipairs(proc.list()) do
      if one.pid == pid then
        assert.is_nil(found, "listed twice")
        found = one
      end
    end
    return found
  end

  it("offers what its stub says", function()
    local stub = dofile "lua/parley/core/proc.lua"
    for name in pairs(proc) do
      assert.is_function(stub[name], name)
      stub[name] = nil
    end
    assert.same({}, stub)
  end)

  it("tells of this process what the kernel does", function()
    local own = proc.get(uv.os_getpid())
    local stat = files.read "/proc/self/stat"
    local fields = {}
    for field in stat:match("^.*%) (.*)$"):gmatch "%S+" do table.insert(fields, field) end
    assert.same({ pid = uv.os_getpid(), parent = uv.os_getppid(), started = fields[20] }, own)
    assert.same(own, listed(own.pid))
  end)

  it("knows none under an id that is nobody's", function()
    for _, pid in ipairs { 1 << 22, 0, -1, math.maxinteger, math.mininteger } do assert.is_nil(proc.get(pid), pid) end
    assert.has_error(function() proc.get "self" end)
  end)

  it("is not misled by a name", helper.task(function()
    local program = helper.temporary_folder() .. "/a) Z 1 ("
    assert(uv.fs_symlink("/bin/sleep", program))
    local ended = false
    local child <const>, pid = assert(uv.spawn(program, { args = { "60" } }, function() ended = true end))
    local one = helper.eventually(function()
      return (files.read(("/proc/%d/comm"):format(pid)) or ""):find(") Z", 1, true) and proc.get(pid)
    end)
    assert.equal(uv.os_getpid(), one.parent)
    assert.same(one, listed(pid))
    child:kill "sigkill"
    helper.eventually(function() return ended end)
    child:close()
    assert.is_nil(proc.get(pid))
    assert.is_nil(listed(pid))
  end))

  it("leaves one out that has ended, and that nobody has waited for", helper.task(function()
    local ended = false
    local child <const>, pid = assert(uv.spawn("/bin/sh", { args = { "-c", ":" } }, function() ended = true end))
    local deadline = uv.hrtime() + 10e9
    repeat -- nobody waits for it as long as the loop does not run
      local state = files.read(("/proc/%d/stat"):format(pid)):match "%) (%a)"
    until state == "Z" or uv.hrtime() > deadline
    assert.is_nil(proc.get(pid))
    assert.is_nil(listed(pid))
    helper.eventually(function() return ended end)
    child:close()
  end))
end)
