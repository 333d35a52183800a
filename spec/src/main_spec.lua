local files = require "parley.base.files"
local helper = require "spec.helper"
local task = require "parley.base.task"
local uv = require "luv"

local SIGNALS = { sighup = 1, sigint = 2, sigterm = 15 }

---Start the host with a line of Lua that prints "ready" when it is.
local function start(chunk, options) return helper.start({ helper.host, "-e", chunk }, options) end

-- A script that waits for ever, with a close on the way out.
local WAITING = [[
  local _ <close> = setmetatable({}, { __close = function() io.stdout:write "closed\n" end })
  local timer <close> = require("parley.base.task").closing(require("luv").new_timer())
  timer.handle:start(60000, 0, function() end)
  io.stdout:write "ready\n" io.stdout:flush()
  require("parley.base.task").condition():wait()]]

describe("the host", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  it("survives an error that raises another when it is to be printed", helper.task(function()
    local program = helper.run { helper.host, "-e",
      "local t; t = setmetatable({}, { __tostring = function() error(t) end }) error(t)" }
    assert.same({ 1, "parley: an error that has no text\n" }, { program.status, program.errors })
  end))

  it("needs no standard descriptor", helper.task(function()
    local closed = helper.run { "/bin/sh", "-c", [[exec "$0" -e "print(1) io.stderr:write(1) return 7" >&- 2>&-]],
      helper.host }
    assert.equal(7, closed.status)
    local lost = helper.run { "/bin/sh", "-c", [[exec "$0" -e "
      local uv = require 'luv'
      io.stderr:write(tostring(select(3, uv.fs_write(1, 'x'))))" >&-]], helper.host }
    assert.same({ 0, "EBADF" }, { lost.status, lost.errors })
    local empty = helper.run { "/bin/sh", "-c", 'exec "$0" - <&-', helper.host }
    assert.same({ 0, "", "" }, { empty.status, empty.output, empty.errors })
  end))

  describe("at a signal", function()
    for name, number in pairs(SIGNALS) do
      it(("%s cancels the main task, runs its closes and exits with %d"):format(name, 128 + number), helper.task(
        function()
          local program <close> = start(WAITING)
          program:expect "ready"
          program:kill(name)
          program:wait()
          assert.same({ 128 + number, 0, "ready\nclosed\n", "" },
            { program.status, program.signal, program.output, program.errors })
        end))
    end

    it("stops reading its script, or a message, from standard input", helper.task(function()
      for _, words in ipairs { { "-" }, { "ask", "-" } } do
        local program <close> = helper.start({ helper.host, table.unpack(words) }, { input = false })
        program:expect_handler(SIGNALS.sigterm)
        program:kill "sigterm"
        assert.same({ 143, "", "" }, { program:wait().status, program.output, program.errors })
      end
    end))

    it("tells the script which one it was", helper.task(function()
      local program <close> = start [[
        io.stdout:write "ready\n" io.stdout:flush()
        local timer = require("luv").new_timer()
        timer:start(60000, 0, function() end)
        local task = require "parley.base.task"
        local _, err = pcall(function() task.condition():wait() end)
        print(err.code, err.signal)]]
      program:expect "ready"
      program:kill "sigterm"
      assert.equal("ready\nCancelled\t15\n", program:wait().output)
      assert.equal(143, program.status)
    end))

    it("lets closes wait, shielded", helper.task(function()
      local program <close> = start [[
        local task = require "parley.base.task"
        local _ <close> = setmetatable({}, { __close = function()
          task.shield(function() task.condition():wait(2) end)
          print "closed"
        end })
        io.stdout:write "ready\n" io.stdout:flush()
        task.condition():wait(60000)]]
      program:expect "ready"
      program:kill "sigint"
      assert.equal("ready\nclosed\n", program:wait().output)
      assert.equal(130, program.status)
    end))

    for _, name in ipairs { "sighup", "sigterm" } do
      it(name .. " that comes twice at once, as from a shell and from the kernel, is one", helper.task(function()
        local program <close> = start [[
          local task = require "parley.base.task"
          local _ <close> = setmetatable({}, { __close = function()
            io.stdout:write "closing\n" io.stdout:flush()
            task.shield(function() task.condition():wait(200) end)
            print "closed"
          end })
          io.stdout:write "ready\n" io.stdout:flush()
          task.condition():wait(60000)]]
        program:expect "ready"
        program:kill(name)
        program:expect "closing"
        program:kill(name)
        assert.equal("ready\nclosing\nclosed\n", program:wait().output)
        assert.same({ 128 + SIGNALS[name], 0 }, { program.status, program.signal })
      end))

      it(name .. " that comes again ends a script that ignores its cancellation", helper.task(function()
        local program <close> = start [[
          local task = require "parley.base.task"
          io.stdout:write "ready\n" io.stdout:flush()
          task.shield(function() task.condition():wait(60000) end)]]
        program:expect "ready"
        program:kill(name)
        helper.eventually(function() return program.status or uv.kill(program.pid, name) ~= 0 end)
        assert.equal(SIGNALS[name], program:wait().signal)
      end))
    end

    it("cancels a main task inside the main task, too", helper.task(function()
      local program <close> = start([[require("parley.base.task").run(function() ]] .. WAITING .. " end)")
      program:expect "ready"
      program:kill "sigterm"
      helper.eventually(function() return program.status end, 30000, "its end, before that of what it waits for")
      assert.same({ 143, "ready\nclosed\n" }, { program:wait().status, program.output })
    end))

    it("that comes twice ends a script that never waits", helper.task(function()
      local program <close> = start [[io.stdout:write "ready\n" io.stdout:flush() while true do end]]
      program:expect "ready"
      program:kill "sigint"
      helper.eventually(function() return program.status or uv.kill(program.pid, "sigint") ~= 0 end)
      program:wait()
      assert.equal(SIGNALS.sigint, program.signal)
    end))

    it("that comes twice ends a script that ignores its cancellation", helper.task(function()
      local program <close> = start [[
        local task = require "parley.base.task"
        io.stdout:write "ready\n" io.stdout:flush()
        pcall(function() task.condition():wait(60000) end)
        io.stdout:write "ignored\n" io.stdout:flush()
        task.shield(function() task.condition():wait(60000) end)]]
      program:expect "ready"
      program:kill "sigint"
      program:expect "ignored"
      program:kill "sigint"
      assert.equal(SIGNALS.sigint, program:wait().signal)
    end))

    it("ends the program on its pty with it, when it has to end at once", helper.task(function()
      helper.write_script(folder .. "/claude", [[trap '' HUP INT TERM; echo ready; exec sleep 60]])
      local program <close> = start(([[
        local process = require "parley.claude.process"
        local child = process.new { executable = %q }
        child:start()
        while not child:captured_output():find "ready" do child.changed:wait() end
        print(child:pid()) print "ready" io.stdout:flush()
        while true do end]]):format(folder .. "/claude"))
      program:expect "ready"
      local pid = tonumber(program.output:match "%d+")
      program:kill "sigint"
      helper.eventually(function() return program.status or uv.kill(program.pid, "sigint") ~= 0 end)
      helper.eventually(function() return helper.has_ended(pid) end, 5000, "the end of the child")
    end))

    it("that was ignored from the start is ignored", helper.task(function()
      local program <close> = helper.start { "sh", "-c", [[trap '' INT; exec "$0" -e "$1"]], helper.host, WAITING }
      program:expect "ready"
      local file <close> = assert(io.open(("/proc/%d/status"):format(program.pid)))
      local ignored = tonumber(file:read("a"):match "SigIgn:%s*(%x+)", 16)
      assert.not_equal(0, ignored & 1 << SIGNALS.sigint - 1)
      program:kill "sigint"
      program:kill "sigterm"
      assert.equal(143, program:wait().status)
    end))
  end)

  it("that is killed takes the program on its pty along", helper.task(function()
    helper.write_script(folder .. "/claude", [[trap '' HUP INT TERM; echo ready; exec sleep 60]])
    local program <close> = start(([[
      local process = require "parley.claude.process"
      local child <close> = process.new { executable = %q }
      child:start()
      while not child:captured_output():find "ready" do child.changed:wait() end
      print(child:pid()) print "ready" io.stdout:flush()
      require("parley.base.task").condition():wait()]]):format(folder .. "/claude"))
    program:expect "ready"
    local pid = tonumber(program.output:match "%d+")
    assert.is_false(helper.has_ended(pid))
    program:kill "sigkill"
    assert.equal(9, program:wait().signal)
    helper.eventually(function() return helper.has_ended(pid) end, 5000, "the end of the child")
  end))

  it("that is interrupted ends the program on its pty by its closes", helper.task(function()
    helper.write_script(folder .. "/claude", [[trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done]])
    local program <close> = start(([[
      local process = require "parley.claude.process"
      local child = process.new { executable = %q }
      local _ <close> = setmetatable({}, { __close = function() print("exit", child:terminate().exit_code) end })
      child:start()
      while not child:captured_output():find "ready" do child.changed:wait() end
      print "ready" io.stdout:flush()
      require("parley.base.task").condition():wait()]]):format(folder .. "/claude"))
    program:expect "ready"
    program:kill "sigint"
    assert.equal("ready\nexit\t3\n", program:wait().output)
    assert.equal(130, program.status)
  end))

  it("asks for pages of two megabytes for its heap, and begins nothing in small ones", helper.task(function()
    if not files.is_folder "/sys/kernel/mm/transparent_hugepage" then return pending "this kernel has no such pages" end
    local listed = helper.run({ helper.host, "-e", "print(io.open('/proc/self/smaps'):read 'a')" }).output
    if listed:find "libasan" then return pending "the sanitizer has a heap of its own" end
    local small_kb, is_huge, in_heap, kb = 0, false, false, 0
    for line in listed:gmatch "[^\n]+" do
      if line:find "^%x+%-%x+ " then in_heap = line:find("[heap]", 1, true) ~= nil end
      kb = tonumber(line:match "^Rss: +(%d+) kB") or kb
      if in_heap and line:find "^VmFlags:" then
        if line:find " hg%f[%W]" then is_huge = true else small_kb = small_kb + kb end
      end
    end
    assert.is_true(is_huge)
    assert.is_true(small_kb < 200, small_kb .. " kB in small pages")
  end))

  it("gives back what it needed for a moment, and asks for little address space", helper.task(function()
    local told = helper.run({ helper.host, "-e", [[
      local held = {}
      for i = 1, 60 do held[i] = ("x"):rep(1 << 20) .. i end
      held = nil
      collectgarbage()
      print(io.open("/proc/self/maps"):read "a", io.open("/proc/self/status"):read "a")]] }).output
    if told:find "libasan" then return pending "the sanitizer keeps what was freed" end
    local held_kb, peak_kb = tonumber(told:match "VmRSS:%s+(%d+)"), tonumber(told:match "VmHWM:%s+(%d+)")
    assert.is_true(held_kb < peak_kb - 40000, held_kb .. " kB of " .. peak_kb)
    local limited = helper.run { "/bin/sh", "-c", [[ulimit -v 32768; exec "$0" -e "print(1)"]], helper.host }
    assert.same({ 0, "1\n" }, { limited.status, limited.output }, limited.errors)
  end))

  it("works from another folder with an empty environment", helper.task(function()
    local program = helper.run({ helper.host, "-e", [[
      local parley = require "parley"
      local task = require "parley.base.task"
      print(task.timeout(1000, function() return parley.json.encode { 1, 2 } end), next(require("luv").os_environ()))]]
    }, { cwd = folder, env = {} })
    assert.same({ 0, "[1,2]\tnil\n", "" }, { program.status, program.output, program.errors })
  end))

  it("survives a reader that went away", helper.task(function()
    local program = helper.run { "sh", "-c", [[{ "$0" -e '
      io.stdout:setvbuf "no"
      local ok, problem
      repeat ok, problem = io.write(("x"):rep(4096)) until not ok
      io.stderr:write(problem, "\n")'; echo "status $?" >&2; } | true]], helper.host }
    assert.equal("Broken pipe\nstatus 141\n", program.errors)
  end))

  it("survives a file that may not grow", helper.task(function()
    local program = helper.run { "sh", "-c", ([[ulimit -f 1; exec "$0" -e '
      local file <close> = io.open("%s/a", "w")
      file:setvbuf "no"
      local ok, problem
      repeat ok, problem = file:write(("x"):rep(4096)) until not ok
      print(problem)']]):format(folder), helper.host }
    assert.equal("File too large\n", program.output, program.errors)
  end))

  it("keeps its own descriptors from the programs that it starts", helper.task(function()
    helper.write_script(folder .. "/claude", [[ls /proc/self/fd | tr '\n' ' '; echo .]])
    local program = helper.run { helper.host, "-e", ([[
      local file <close> = io.open "/dev/null"
      local child <close> = require("parley.claude.process").new { executable = %q }
      child:start()
      while not child:captured_output():find "%%." do child.changed:wait() end
      print(child:captured_output())]]):format(folder .. "/claude") }
    assert.matches("^0 1 2 3 %.", program.output, program.errors)
  end))

  it("closes what a script left open, and exits", helper.task(function()
    local program = helper.run { helper.host, "-e", [[
      local uv = require "luv"
      uv.new_timer():start(60000, 60000, function() end)
      uv.new_pipe(false)
      uv.new_fs_event():start("/", {}, function() end)
      local pipe = uv.new_pipe(false)
      pipe:close(function() print "reported" end)
      print "end"]] }
    assert.same({ 0, "end\nreported\n", "" }, { program.status, program.output, program.errors })
  end))

  it("closes what callbacks open when a script is over, and exits", helper.task(function()
    local program = helper.run { helper.host, "-e", [[
      local uv = require "luv"
      uv.fs_stat("/", function() uv.new_timer():start(60000, 60000, function() end) end)
      print "end"]] }
    assert.same({ 0, "end\n", "" }, { program.status, program.output, program.errors })
  end))

  it("runs nothing that a finalizer begins when all is over", helper.task(function()
    local program = helper.run { helper.host, "-e", [[
      KEEP = setmetatable({}, { __gc = function()
        require("luv").new_timer():start(0, 0, function() print "late" end)
      end })
      print "end"]] }
    assert.same({ 0, 0, "end\n", "" }, { program.status, program.signal, program.output, program.errors })
  end))

  it("is ended by the first signal when a script is over that left a request behind", helper.task(function()
    assert.equal(0, helper.run({ "/usr/bin/mkfifo", folder .. "/fifo" }).status)
    local program <close> = start(([[
      require("luv").fs_open(%q, "r", 0, function() end) -- nobody writes there
      io.stdout:write "ready\n" io.stdout:flush()]]):format(folder .. "/fifo"))
    program:expect "ready"
    helper.eventually(function() -- the script is over: nobody catches it any more
      local status = assert(files.read(("/proc/%d/status"):format(program.pid)))
      return tonumber(status:match "SigCgt:%s*(%x+)", 16) & (1 << 14) == 0
    end)
    program:kill "sigterm"
    assert.equal(15, program:wait().signal)
  end))

  for how, before in pairs { ignored = "$SIG{CHLD} = 'IGNORE'",
    blocked = "use POSIX; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGCHLD))" } do
    it(("sees its children end where whoever started it has SIGCHLD %s"):format(how), helper.task(function()
      local program = helper.run { "/usr/bin/perl", "-e", before .. "; exec @ARGV", helper.host, "-e", [[
        print(select(3, os.execute "exit 3"))
        local child <close> = require("parley.claude.process").new { executable = "/bin/false" }
        child:start()
        require("parley.base.task").timeout(30000, function()
          child.changed:wait_until(function() return child.exit end)
        end)
        print(child.exit.exit_code)]] }
      assert.same({ 0, "3\n1\n", "" }, { program.status, program.output, program.errors })
    end))
  end

  it("starts many times without a failure", helper.task(function()
    local most = 8
    local semaphore = task.semaphore(most)
    local runs = {}
    for index = 1, helper.long(40, 200) do
      runs[index] = task.spawn(function()
        local _ <close> = semaphore:acquire()
        return helper.run({ helper.host, "-e", "return 5" }).status
      end)
    end
    for _, run in ipairs(runs) do assert.equal(5, run:await()) end
  end))
end)
