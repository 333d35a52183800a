local descendants = require "parley.base.descendants"
local helper = require "spec.helper"
local process = require "parley.claude.process"
local uv = require "luv"

-- Shell scripts stand in for the program. Their `setsid` children are out of reach of a signal to the group, as those
-- of the real program's tools are.
describe("descendants", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  ---A process with a child in a session of its own, which has a child too and has told its number.
  local function with_tool(body)
    local child = process.new { executable = helper.write_script(folder .. "/claude", ([[
      setsid sh -c 'sh -c "%s; echo \$\$ >%s/pid; while :; do sleep 1; done"; :' & wait]]):format(body or ":", folder)),
      cwd = folder }
    child:start()
    local pid = helper.eventually(function()
      local file = io.open(folder .. "/pid")
      local number = file and file:read "n"
      if file then file:close() end
      return number
    end)
    return child, pid
  end

  local function pids_of(list)
    local pids = {}
    for _, one in ipairs(list) do pids[one.pid] = true end
    return pids
  end

  it("are found however deep, and whatever session they are in", helper.task(function()
    local child <close>, pid = with_tool()
    local found = descendants.of { child:pid() }
    assert.is_true(pids_of(found)[pid])
    assert.is_nil(pids_of(found)[child:pid()])
    assert.is_true(#found >= 2)
    assert.same({}, descendants.of { 1 << 22 })
  end))

  it("live as long as number and start time are both the same", helper.task(function()
    local own = { { pid = uv.os_getpid(), started = "0" }, { pid = 1 << 22, started = "1" } }
    assert.same({}, descendants.alive(own))
    assert.same({}, descendants.signal(own, "sigkill"))
  end))

  it("end with a process that is terminated", helper.task(function()
    local child, pid = with_tool()
    assert.equal("SIGTERM", child:terminate().signal)
    assert.is_true(helper.has_ended(pid))
  end))

  it("end by SIGKILL when they ignore SIGTERM", helper.task(function()
    local child, pid = with_tool "trap '' TERM"
    child:terminate()
    helper.eventually(function() return helper.has_ended(pid) end)
  end))

  it("end with a process that is retired", helper.task(function()
    local child, pid = with_tool()
    child:retire()
    helper.eventually(function() return helper.has_ended(pid) and child:exit_record() end)
  end))

  it("end with a process that is discarded", helper.task(function()
    local child, pid = with_tool()
    child:discard()
    helper.eventually(function() return helper.has_ended(pid) end)
  end))

  it("of others are left alone", helper.task(function()
    local other <close>, pid = with_tool()
    os.remove(folder .. "/pid")
    local child = process.new { executable = helper.write_script(folder .. "/claude2", "read x"), cwd = folder }
    child:start()
    child:terminate()
    assert.is_false(helper.has_ended(pid))
    assert.is_true(other:is_alive())
  end))
end)
