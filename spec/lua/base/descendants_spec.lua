local descendants = require "parley.base.descendants"
local files = require "parley.base.files"
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

  local function told_pid()
    return helper.eventually(function()
      local file = io.open(folder .. "/pid")
      local number = file and file:read "n"
      if file then file:close() end
      return number
    end)
  end

  ---A process with a child in a session of its own, which has a child too and has told its number.
  local function with_tool(body)
    local child = process.new { executable = helper.write_script(folder .. "/claude", ([[
      setsid sh -c 'sh -c "%s; echo \$\$ >%s/pid; while :; do sleep 1; done"; :' & wait]]):format(body or ":", folder)),
      cwd = folder }
    child:start()
    return child, told_pid()
  end

  ---A process with a descendant whose parents between the two have ended, and which has told its number.
  local function with_orphan(body, ending)
    local child = process.new { executable = helper.write_script(folder .. "/claude", ([[
      (setsid sh -c '%s; echo $$ >%s/pid; while :; do sleep 1; done' >/dev/null 2>&1 &)
      %s]]):format(body or ":", folder, ending or "read _")), cwd = folder }
    child:start()
    local pid = told_pid()
    helper.eventually(function() return not descendants.of({ child:pid() })[1] end, nil, "the end of those between")
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
    assert.equal("SIGTERM", child:close().signal)
    assert.is_true(helper.has_ended(pid))
  end))

  it("end by SIGKILL when they ignore SIGTERM", helper.task(function()
    local child, pid = with_tool "trap '' TERM"
    child:close()
    helper.eventually(function() return helper.has_ended(pid) end)
  end))

  it("end with a process that is retired", helper.task(function()
    local child, pid = with_tool()
    child:kill()
    helper.eventually(function() return helper.has_ended(pid) and child:exit_record() end)
  end))

  it("end with a process that is discarded", helper.task(function()
    local child, pid = with_tool()
    child:discard()
    helper.eventually(function() return helper.has_ended(pid) end)
  end))

  describe("whose parent has ended", function()
    it("are found by the mark that they carry", helper.task(function()
      local child <close>, pid = with_orphan()
      assert.is_true(pids_of(descendants.of({ child:pid() }, child.mark))[pid])
      assert.is_nil(pids_of(descendants.of({ child:pid() }, child.mark .. "0"))[pid])
      assert.is_nil(pids_of(descendants.of({ child:pid() }, child.mark))[child:pid()])
    end))

    it("bring their own children along, which carry none", helper.task(function()
      local child <close> = with_orphan(("env -i /bin/sleep 1000 & echo $! >%s/other"):format(folder))
      local other = tonumber(files.read(folder .. "/other"))
      assert.is_true(pids_of(descendants.of({}, child.mark))[other])
      child:close()
      assert.is_true(helper.has_ended(other))
    end))

    local ENDINGS = {
      terminated = function(child) child:close() end, retired = function(child) child:kill() end,
      discarded = function(child) child:discard() end,
      ["killed, then terminated"] = function(child)
        child:signal "SIGKILL"
        helper.eventually(function() return child:exit_record() end)
        child:close()
      end,
    }
    for name, stop in pairs(ENDINGS) do
      it("end with a process that is " .. name, helper.task(function()
        local child, pid = with_orphan()
        stop(child)
        helper.eventually(function() return helper.has_ended(pid) and helper.is_reaped(child:pid()) end)
      end))
    end

    it("end by SIGKILL when they ignore SIGTERM", helper.task(function()
      local child, pid = with_orphan "trap : TERM"
      child:close()
      helper.eventually(function() return helper.has_ended(pid) end)
    end))

    it("may clean up at SIGTERM", helper.task(function()
      local said
      for _ = 1, 5 do -- a machine may be so busy that the shell does not come to it in time
        local child = with_orphan(('trap "echo over >%s/over; exit" TERM'):format(folder))
        child:close()
        said = files.read(folder .. "/over")
        if said then break end
        files.remove(folder .. "/pid")
      end
      assert.equal("over\n", said)
    end))

    it("end when the program starts them as it ends", helper.task(function()
      local child = process.new { executable = helper.write_script(folder .. "/claude", ([[
        trap '(setsid sh -c "echo \$\$ >%s/pid; exec sleep 1000" >/dev/null 2>&1 &)
          until [ -s %s/pid ]; do sleep 0.01; done; exit' TERM
        echo ready; while :; do sleep 0.01; done]]):format(folder, folder)), cwd = folder }
      child:start()
      helper.eventually(function() return child:captured_output():find "ready" end)
      child:close(20000)
      local pid = told_pid()
      helper.eventually(function() return helper.has_ended(pid) end)
    end))
  end)

  it("of others are left alone", helper.task(function()
    local other <close>, pid = with_tool()
    os.remove(folder .. "/pid")
    local child = process.new { executable = helper.write_script(folder .. "/claude2", "read x"), cwd = folder }
    child:start()
    child:close()
    assert.is_false(helper.has_ended(pid))
    assert.is_true(other:is_alive())
  end))
end)
