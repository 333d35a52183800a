local core = require("parley.core")
local uv = require("luv")
local helper = require("spec.helper")

local DEADLINE_MS = 20000

local function list(path)
  local names = {}
  local scan = assert(uv.fs_scandir(path))
  for name in
    function()
      return uv.fs_scandir_next(scan)
    end
  do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local function descriptor_count()
  return #list("/proc/self/fd")
end

-- Zombies too.
local function children()
  local file <close> = assert(io.open("/proc/thread-self/children"))
  return file:read("a")
end

-- Runs the loop until `is_done` says so; an error after the deadline. Something must wake the loop.
local function pump(is_done, what)
  local is_late = false
  local timer = uv.new_timer()
  timer:start(DEADLINE_MS, 0, function()
    is_late = true
  end)
  while not is_done() and not is_late do
    uv.run("once")
  end
  timer:close()
  uv.run("nowait")
  assert(not is_late, "deadline passed, waiting for " .. what)
end

-- Reads until `is_enough(output)`, or until the child closes the terminal. The end is the error EIO, or libuv's end of
-- file when the hang-up and the last bytes arrive together.
local function read_until(pty, is_enough)
  local pipe = uv.new_pipe(false)
  local output, has_ended = "", false
  assert(pipe:open(assert(pty:duplicate())))
  pipe:read_start(function(err, bytes)
    assert(not err or err == "EIO", err)
    output = output .. (bytes or "")
    has_ended = has_ended or not bytes
    while has_ended do -- libuv takes the hang-up for the end, and leaves what is still there
      local rest = pty:read()
      if not rest then break end
      output = output .. rest
    end
  end)
  pump(function()
    return has_ended or is_enough and is_enough(output)
  end, "the child's output")
  pipe:close()
  uv.run("nowait")
  return (output:gsub("\r\n", "\n"))
end

local function await_exit(pty)
  local signal = uv.new_signal()
  local record
  signal:start("sigchld")
  pump(function()
    record = pty:poll_exit()
    return record
  end, "exit")
  signal:close()
  uv.run("nowait")
  return record
end

-- Waits until a process that is not a child of ours has died. Somebody else reaps it.
local function await_death(pid)
  local tick = uv.new_timer()
  tick:start(1, 1, function() end)
  pump(function()
    local file <close> = io.open("/proc/" .. pid .. "/stat")
    local state = file and file:read("a"):match("%) (%a)") or "X"
    return state == "Z" or state == "X"
  end, "a death")
  tick:close()
  uv.run("nowait")
end

describe("pty", function()
  local ptys, descriptors_before, handles_before

  local function handle_count()
    local count = 0
    uv.walk(function()
      count = count + 1
    end)
    return count
  end

  setup(function()
    -- libuv opens descriptors of its own on the first use of a pipe and a signal, and keeps them.
    local pty <close> = assert(core.pty.spawn({ argv = { "true" } }))
    read_until(pty)
    await_exit(pty)
  end)

  local function spawn(options)
    local pty = assert(core.pty.spawn(options))
    ptys[#ptys + 1] = pty
    return pty
  end

  local function shell(script, options)
    options = options or {}
    options.argv = { "sh", "-c", script }
    return spawn(options)
  end

  -- Runs a chunk in a Lua of its own, on a pty, started by `prefix`.
  local function inner_host(prefix, chunk)
    local environment = helper.plain_lua_environment()
    table.insert(environment, "CHUNK=" .. chunk)
    return shell(("exec %s lua5.4 -e \"$CHUNK\""):format(prefix), { env = environment })
  end

  before_each(function()
    ptys = {}
    collectgarbage()
    assert.equal("", children())
    descriptors_before, handles_before = descriptor_count(), handle_count()
  end)

  after_each(function()
    for _, pty in ipairs(ptys) do
      pty:close()
      await_exit(pty)
    end
    assert.equal("", children())
    assert.equal(descriptors_before, descriptor_count())
    assert.equal(handles_before, handle_count())
  end)

  describe("the child", function()
    it("reads what is typed, with echo", function()
      local pty = shell([[read line; echo "got $line"]])
      assert.equal(6, pty:write("hello\n"))
      assert.equal("hello\ngot hello\n", read_until(pty))
    end)

    it("erases a whole character of UTF-8", function()
      local pty = shell([[read line; printf %s "$line" | od -An -tx1]])
      pty:write("a漢\u{7f}b\n")
      assert.matches("61 62\n$", read_until(pty))
    end)

    it("sees the size it was given", function()
      assert.equal("33 101\n", read_until(shell("stty size", { rows = 33, columns = 101 })))
      assert.equal("24 80\n", read_until(shell("stty size")))
    end)

    it("has the terminal as its controlling one and is its foreground group", function()
      local pty = shell([[tty; : < /dev/tty && echo opened; ps -o pid=,pgid=,sid=,tpgid= -p $$]])
      local output = read_until(pty)
      local pid = pty:pid()
      assert.matches("^/dev/pts/%d+\nopened\n", output)
      assert.matches(("%s +%s +%s +%s\n"):format(pid, pid, pid, pid), output)
    end)

    it("has exactly the environment it was given", function()
      local pty = spawn({ argv = { "/usr/bin/env" }, env = { "ONE=1", "EMPTY=", "漢=x=y" } })
      assert.equal("ONE=1\nEMPTY=\n漢=x=y\n", read_until(pty))
    end)

    it("inherits the environment when none is given", function()
      assert.equal(os.getenv("PATH") .. "\n", read_until(shell([[echo "$PATH"]])))
    end)

    it("is looked up on the PATH of its own environment", function()
      local _, err = core.pty.spawn({ argv = { "sh" }, env = { "PATH=/nonexistent" } })
      assert.equal("ENOENT", err.code)
      local pty = spawn({ argv = { "sh", "-c", "echo $0" }, env = { "PATH=/nonexistent::/bin" } })
      assert.equal("sh\n", read_until(pty))
    end)

    it("passes over a namesake that may not be executed", function()
      local folder = assert(uv.fs_mkdtemp("/tmp/pty_spec.XXXXXX"))
      assert(io.open(folder .. "/sh", "w")):close()
      local env = { ("PATH=%s:/bin"):format(folder) }
      assert.equal("found\n", read_until(spawn({ argv = { "sh", "-c", "echo found" }, env = env })))
      local _, err = core.pty.spawn({ argv = { "sh" }, env = { ("PATH=%s:/nonexistent"):format(folder) } })
      assert.equal("EACCES", err.code)
      os.remove(folder .. "/sh")
      uv.fs_rmdir(folder)
    end)

    it("is missing where a folder of PATH cannot be looked into", function()
      local folder = assert(uv.fs_mkdtemp("/tmp/pty_spec.XXXXXX"))
      assert(uv.fs_symlink("loop", folder .. "/loop")) -- for root, too
      local env = { ("PATH=%s/loop"):format(folder) }
      local _, err = core.pty.spawn({ argv = { "sh" }, env = env })
      assert.equal("ENOENT", err.code)
      _, err = core.pty.spawn({ argv = { folder .. "/loop/sh" } })
      assert.equal("ELOOP", err.code)
      os.remove(folder .. "/loop")
      uv.fs_rmdir(folder)
    end)

    it("runs in the folder it was given", function()
      assert.equal("/usr\n", read_until(shell("pwd -P", { cwd = "/usr" })))
      assert.equal("/usr\n", read_until(spawn({ argv = { "bin/sh", "-c", "pwd -P" }, cwd = "/usr" })))
    end)

    it("gets no descriptor but its standard streams", function()
      local file = assert(io.open("/dev/null"))
      local leaky = assert(uv.pipe({}, {})) -- no close-on-exec on these
      local output = read_until(spawn({ argv = { "ls", "/proc/self/fd" } }))
      file:close()
      uv.fs_close(leaky.read)
      uv.fs_close(leaky.write)
      assert.same({ "0", "1", "2", "3" }, { output:match("^(%d)%s+(%d)%s+(%d)%s+(%d)%s*$") }) -- 3 is the folder itself
    end)

    it("has every signal at its default and none blocked, whatever the host's are", function()
      local output = read_until(inner_host("env --ignore-signal --block-signal", [[
        local pty <close> = require("parley.core").pty.spawn({ argv = { "grep", "^Sig[BI]", "/proc/self/status" } })
        local output = ""
        repeat
          local bytes, err = pty:read()
          output = output .. (bytes or "")
        until err and err.code == "EIO"
        io.write(output)]]))
      local blocked, ignored = output:match("SigBlk:%s*(%x+)%s+SigIgn:%s*(%x+)")
      assert.equal(0, tonumber(blocked, 16))
      assert.equal(0, tonumber(ignored, 16) & ~(3 << 31)) -- 32 and 33 belong to the C library, which guards them
    end)
  end)

  describe("a failed start", function()
    local function fail(options)
      local pty, err = core.pty.spawn(options)
      assert.is_nil(pty)
      return err
    end

    it("names a missing program", function()
      local err = fail({ argv = { "no-such-program", "-x" } })
      assert.equal("ENOENT", err.code)
      assert.equal("exec", err.step)
      assert.equal("no-such-program", err.executable)
      assert.equal("cannot execute 'no-such-program': no such file or directory", err.message)
    end)

    it("tells a program that may not be executed from a missing one", function()
      local path = os.tmpname()
      assert.equal("EACCES", fail({ argv = { path } }).code)
      os.remove(path)
      assert.equal("ENOENT", fail({ argv = { path } }).code)
      assert.equal("ENOENT", fail({ argv = { "" } }).code)
    end)

    it("tells what is no program", function()
      local path = os.tmpname()
      assert(uv.fs_chmod(path, 448))
      local err = fail({ argv = { path } })
      os.remove(path)
      assert.equal("ENOEXEC", err.code)
      assert.equal(("cannot execute '%s': not a program of this machine"):format(path), err.message)
    end)

    it("is one wherever descriptors run out", function()
      local environment = helper.plain_lua_environment()
      table.insert(environment, "CHUNK=" .. [[
        local pty, err = require("parley.core").pty.spawn({ argv = { "true" } })
        local record = err
        while not record do record = pty:poll_exit() end
        print("spawn", err and err.code or record.exit_code)]])
      local output = read_until(shell([[limit=4
        while [ $((limit += 1)) -lt 24 ]; do (ulimit -n $limit; exec lua5.4 -e "$CHUNK"); done]],
        { env = environment }))
      local seen = {}
      for outcome in output:gmatch("spawn%s+(%w+)") do
        seen[outcome] = true
      end
      assert.same({ EMFILE = true, ["0"] = true }, seen)
    end)

    it("names a missing folder", function()
      local err = fail({ argv = { "true" }, cwd = "/no/such/folder" })
      assert.equal("ENOENT", err.code)
      assert.equal("chdir", err.step)
      assert.equal("/no/such/folder", err.cwd)
      assert.matches("/no/such/folder", err.message)
    end)
  end)

  describe("misuse", function()
    local function refuses(options, pattern)
      assert.error_matches(function()
        core.pty.spawn(options)
      end, pattern)
    end

    it("is an error that names the option", function()
      refuses(nil, "table expected")
      refuses({}, "argv must be a list")
      refuses({ argv = {} }, "argv is empty")
      refuses({ argv = { "echo", 1 } }, "argv%[2%] must be a string, not number")
      refuses({ argv = { "a\0b" } }, "argv%[1%] has a NUL byte")
      refuses({ argv = { "true" }, environment = {} }, "unknown option 'environment'")
      refuses({ argv = { "true" }, env = "A=1" }, "env must be a list")
      refuses({ argv = { "true" }, env = { "A=1", "B" } }, "'B' is not NAME=value")
      refuses({ argv = { "true" }, env = { "=B" } }, "'=B' is not NAME=value")
      refuses({ argv = { "true" }, cwd = 1 }, "cwd must be a string")
      refuses({ argv = { "true" }, cwd = "/\0" }, "cwd has a NUL byte")
      refuses({ argv = { "true" }, rows = 0 }, "rows must be an integer from 1 to 65535")
      refuses({ argv = { "true" }, columns = 65536 }, "columns must be an integer from 1 to 65535")
      refuses({ argv = { "true" }, columns = "80" }, "columns must be an integer")
    end)
  end)

  describe("resize", function()
    it("tells the child by SIGWINCH", function()
      local pty = shell([[trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done]])
      read_until(pty, function(output)
        return output:find("ready")
      end)
      assert.is_true(pty:resize(50, 132))
      assert.same({ 50, 132 }, { pty:size() })
      assert.matches("50 132\n", read_until(pty))
    end)

    it("refuses what is no size", function()
      local pty = shell("read x")
      assert.error_matches(function()
        pty:resize(0, 80)
      end, "rows must be")
      assert.error_matches(function()
        pty:resize(24)
      end, "columns must be")
    end)
  end)

  describe("poll_exit", function()
    it("tells the exit code, every time", function()
      local pty = shell("exit 7")
      assert.same({ exit_code = 7 }, await_exit(pty))
      assert.same({ exit_code = 7 }, pty:poll_exit())
      pty:close()
      assert.same({ exit_code = 7 }, pty:poll_exit())
    end)

    it("tells the signal", function()
      assert.same({ signal = "SIGTERM", signal_number = 15 }, await_exit(shell("kill -TERM $$")))
      assert.same({ signal = "SIG34", signal_number = 34 }, await_exit(shell("kill -34 $$")))
    end)

    it("is nil while the child runs", function()
      assert.is_nil(shell("read x"):poll_exit())
    end)

    it("says so when somebody else reaped the child", function()
      -- Where SIGCHLD is ignored the kernel does.
      local output = read_until(inner_host("env --ignore-signal=CHLD", [[
        local pty = require("parley.core").pty.spawn({ argv = { "true" } })
        local record
        repeat record = pty:poll_exit() until record
        print(record.error, record.exit_code, select(2, pty:signal("SIGKILL")).code)]]))
      assert.equal("ECHILD\tnil\tESRCH\n", output)
    end)
  end)

  describe("signal", function()
    it("reaches the whole process group", function()
      local pty = shell([[(trap 'echo background; exit' TERM; echo one; while :; do sleep 0.01; done) &
        trap 'wait; echo leader; exit 3' TERM; echo two; wait]])
      read_until(pty, function(output)
        return output:find("one") and output:find("two")
      end)
      assert.is_true(pty:signal("SIGTERM"))
      assert.matches("background\nleader\n$", read_until(pty))
      assert.same({ exit_code = 3 }, await_exit(pty))
    end)

    it("takes a number", function()
      local pty = shell("read x")
      assert.is_true(pty:signal(0))
      assert.is_true(pty:signal(9))
      assert.same({ signal = "SIGKILL", signal_number = 9 }, await_exit(pty))
    end)

    it("signals nobody once the child has ended", function()
      local pty = shell("exit")
      await_exit(pty)
      local ok, err = pty:signal("SIGKILL")
      assert.is_nil(ok)
      assert.equal("ESRCH", err.code)
    end)

    it("refuses what is no signal", function()
      local pty = shell("read x")
      for _, signal in ipairs({ "TERM", "SIGNONE", -1, 65, 1.5 }) do
        assert.has_error(function()
          pty:signal(signal)
        end)
      end
    end)
  end)

  describe("read and write", function()
    it("do not wait", function()
      local pty = shell("stty raw -echo; echo ready; sleep 100")
      read_until(pty, function(output)
        return output:find("ready")
      end)
      local bytes, err = pty:read()
      assert.is_nil(bytes)
      assert.equal("EAGAIN", err.code)
      local written, total
      total = 0
      repeat
        written, err = pty:write(("x"):rep(4096))
        total = total + (written or 0)
      until not written or total > 2 ^ 20
      assert.equal("EAGAIN", err and err.code)
    end)

    it("read no more than was asked for", function()
      local pty = shell("printf abcdef")
      await_exit(pty)
      assert.equal("abcd", pty:read(4))
      assert.equal("ef", pty:read())
      assert.equal("EIO", select(2, pty:read()).code)
      assert.has_error(function()
        pty:read(0)
      end)
    end)
  end)

  describe("duplicate", function()
    it("gives a descriptor of its own that no other program inherits", function()
      local pty = shell("read x")
      local descriptor = pty:duplicate()
      assert.not_equal(pty:descriptor(), descriptor)
      for _, one in ipairs({ descriptor, pty:descriptor() }) do
        local file <close> = assert(io.open("/proc/self/fdinfo/" .. one))
        local flags = tonumber(file:read("a"):match("flags:%s*(%d+)"), 8)
        assert.equal(8 ^ 6 * 2, flags & tonumber("2000000", 8)) -- O_CLOEXEC
        assert.equal(8 ^ 3 * 4, flags & tonumber("4000", 8)) -- O_NONBLOCK
      end
      pty:close()
      assert.truthy(uv.fs_fstat(descriptor))
      uv.fs_close(descriptor)
    end)
  end)

  describe("close", function()
    it("kills and reaps a child that ignores a hang-up, and its group", function()
      local pty = shell([[trap "" HUP TERM; (trap "" HUP; echo $(exec sh -c 'echo $PPID'); while :; do sleep 1; done) &
        echo ready; while :; do sleep 1; done]])
      local output = read_until(pty, function(text)
        return text:find("ready") and text:find("%d+\r\n")
      end)
      pty:close()
      assert.same({ signal = "SIGKILL", signal_number = 9 }, await_exit(pty))
      local background = tonumber(output:match("%d+"))
      await_death(background)
    end)

    it("leaves a few methods usable, and makes the others errors", function()
      local pty = shell("exit 3")
      local pid = pty:pid()
      await_exit(pty)
      assert.is_true(pty:close())
      assert.is_true(pty:close())
      assert.equal(pid, pty:pid())
      assert.same({ exit_code = 3 }, pty:poll_exit())
      assert.equal("ESRCH", select(2, pty:signal("SIGTERM")).code)
      assert.equal(("parley.pty (pid %d, closed)"):format(pid), tostring(pty))
      for _, name in ipairs({ "descriptor", "duplicate", "resize", "size", "read", "write" }) do
        assert.error_matches(function()
          pty[name](pty, 1, 1)
        end, "the pty is closed", nil, nil, name)
      end
    end)

    it("leaves the child to what the terminal's end makes of it, where only that is asked for", function()
      local pty = shell("trap 'exit 7' HUP; echo up; while :; do sleep 60 & wait; done")
      read_until(pty, function(output)
        return output:find("up")
      end)
      pty:hang_up()
      pty:hang_up()
      assert.same({ exit_code = 7 }, await_exit(pty))
      assert.is_true(pty:close())
    end)

    it("comes with the end of a scope", function()
      local outer
      do
        local pty <close> = shell("read x")
        outer = pty
      end
      assert.equal("SIGKILL", await_exit(outer).signal)
    end)

    it("comes with collection, and the next start reaps", function()
      local pid = core.pty.spawn({ argv = { "sleep", "100" } }):pid()
      collectgarbage()
      collectgarbage()
      assert.equal(descriptors_before, descriptor_count())
      await_death(pid)
      await_exit(shell("exit"))
      assert.equal("", children())
    end)

    it("does not stand still until the child is dead", function()
      local switches, count = 0, 50
      for _ = 1, count do
        local pty = spawn({ argv = { "sleep", "100" } })
        local before = uv.getrusage().nvcsw
        pty:close()
        switches = switches + uv.getrusage().nvcsw - before
      end
      assert.is_true(switches < count, switches .. " waits")
    end)
  end)

  it("leaves nothing behind after 200 children", function()
    for i = 1, 200 do
      local pty <close> = spawn({ argv = { "sleep", "100" } })
      if i % 2 == 0 then
        assert.is_true(pty:signal("SIGTERM"))
      end
    end
    for _, pty in ipairs(ptys) do
      await_exit(pty)
    end
    assert.equal("", children())
    assert.equal(descriptors_before, descriptor_count())
  end)

  it("costs a large host no more than a small one", function()
    local objects = {}
    for i = 1, 200000 do
      objects[i] = {}
    end
    collectgarbage()
    await_exit(spawn({ argv = { "true" } }))
    local before = uv.getrusage().minflt
    collectgarbage() -- writes to every object: a page fault for each page that a fork has shared
    local faults = uv.getrusage().minflt - before
    assert.is_true(faults < 1000, faults .. " page faults")
    assert.equal(200000, #objects)
  end)

  it("takes the child along when the host is killed", function()
    local host = inner_host("", [[
      local argv = { "sh", "-c", "trap '' HUP; echo ready; exec sleep 1000" }
      local pty = assert(require("parley.core").pty.spawn({ argv = argv }))
      local text = ""
      repeat text = text .. (pty:read() or "") until text:find("ready") -- it may come in pieces
      print("pid " .. pty:pid() .. " .")
      io.read()]])
    local output = read_until(host, function(text)
      return text:find("pid %d+ %.")
    end)
    local pid = tonumber(output:match("pid (%d+)"))
    assert.truthy(uv.kill(pid, 0))
    host:signal("SIGKILL")
    await_exit(host)
    await_death(pid)
  end)

  it("names itself", function()
    local pty = shell("read x")
    assert.equal(("parley.pty (pid %d)"):format(pty:pid()), tostring(pty))
  end)
end)
