local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local process = require "parley.claude.process"
local task = require "parley.base.task"
local helper = require "spec.helper"

local ID = "6d1c9e3a-8f62-4a86-9c5e-0f3d2b7a4e11"

local error_of = helper.error_of

-- Small shell scripts stand in for the program. `read` waits on the terminal: it ends when the terminal is closed.
describe("process", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  ---A process whose program is this script, not started.
  local function new(script, given)
    given = given or {}
    given.executable = helper.write_script(folder .. "/claude", script)
    given.cwd = given.cwd or folder
    return process.new(given)
  end

  ---The same, started.
  local function start(script, given)
    local child = new(script, given)
    child:start()
    return child
  end

  local function wait_for_output(child, text)
    helper.eventually(function()
      return child:captured_output():find(text, 1, true)
    end, nil, ("output %q"):format(text))
  end

  local function wait_for_exit(child)
    return helper.eventually(function() return child:exit_record() end, nil, "the exit")
  end

  describe("that was not started", function()
    it("has its argument vector and its session", function()
      local child = new("exit", { session_id = ID, model = "opus" })
      assert.same({ folder .. "/claude", "--session-id", ID, "--permission-mode", "bypassPermissions", "--model",
        "opus" }, child.argv)
      assert.equal(ID, child.session_id)
    end)

    it("reports a session id that it made, and the resumed one", function()
      local fresh = new "exit"
      assert.is_true(core.uuid.is_valid(fresh.session_id))
      assert.equal(fresh.argv[3], fresh.session_id)
      assert.equal(ID, new("exit", { resume_session_id = ID }).session_id)
      local fork = new("exit", { resume_session_id = ID, fork_session = true })
      assert.not_equal(ID, fork.session_id)
    end)

    it("is not alive, has no pid, no exit record and no output", function()
      local child = new "exit"
      assert.is_false(child:is_alive())
      assert.is_nil(child:pid())
      assert.is_nil(child:exit_record())
      assert.equal("", child:captured_output())
    end)

    it("terminates with a record that says so", function()
      assert.same({ not_started = true }, new("exit"):close())
    end)

    it("takes no input", helper.task(function()
      local child = new "exit"
      local err = error_of(child.write, child, "x")
      assert.same({ "SessionError", "exit" }, { err.code, err.reason })
    end))

    it("ignores signals, a new size and its end", function()
      local child = new "exit"
      child:signal "SIGINT"
      child:resize(10, 20)
      child:discard()
    end)
  end)

  it("refuses a working directory that does not exist", function()
    local err = error_of(process.new, { cwd = folder .. "/missing" })
    assert.same({ "ValueError", "cwd" }, { err.code, err.option })
  end)

  it("refuses bad options", function()
    assert.equal("modle", error_of(process.new, { modle = "opus" }).option)
  end)

  describe("start", function()
    it("gives the program its arguments, as they are", helper.task(function()
      local child <close> = start([[for word; do printf '<%s>' "$word"; done; read -r _]],
        { session_id = ID, system_prompt = "two\nlines ü", extra_args = { "", "--x y" } })
      wait_for_output(child, "<--x y>")
      local expected = {}
      for index = 2, #child.argv do expected[index - 1] = "<" .. child.argv[index] .. ">" end
      assert.equal(table.concat(expected):gsub("\n", "\r\n"), child:captured_output())
    end))

    it("gives it its environment, working directory and terminal", helper.task(function()
      local child <close> = start([[printf '%s\n' "$TERM $NO_COLOR $NEW $CLAUDECODE" "$PWD" "$(stty size)" end
        read -r _]], { base_env = { PATH = os.getenv "PATH", CLAUDECODE = "1" }, extra_env = { NEW = "new" },
        dimensions = { 24, 80 } })
      wait_for_output(child, "end")
      assert.equal(("xterm-256color 1 new \r\n%s\r\n24 80\r\nend\r\n"):format(folder), child:captured_output())
    end))

    it("makes it alive, under its pid", helper.task(function()
      local child <close> = start [[echo "pid $$"; read -r _]]
      assert.is_true(child:is_alive())
      wait_for_output(child, ("pid %d\r\n"):format(child:pid()))
    end))

    it("finds a program on the PATH of its environment", helper.task(function()
      helper.write_script(folder .. "/on-path", "echo found")
      local child <close> = process.new { executable = "on-path", extra_env = { PATH = folder } }
      child:start()
      wait_for_output(child, "found")
    end))

    it("finds a relative one from the host's folder, wherever the program runs", helper.task(function()
      local up = ("../"):rep(select(2, uv.cwd():gsub("/", "")))
      helper.write_script(folder .. "/claude", "pwd")
      local child <close> = process.new { executable = up .. folder:sub(2) .. "/claude", cwd = "/" }
      child:start()
      wait_for_output(child, "/\r\n")
    end))

    it("raises CLINotFoundError that names a missing executable", helper.task(function()
      local text = helper.write(folder .. "/text", "text")
      for _, name in ipairs { folder .. "/missing", "no-such-claude", text .. "/claude" } do
        local child <close> = process.new { executable = name, cwd = folder }
        local err = error_of(child.start, child)
        assert.same({ "CLINotFoundError", name }, { err.code, err.executable })
        assert.equal(("cannot run '%s': no such program (is it installed, and on PATH?)"):format(name), err.message)
        assert.equal("ENOENT", err.cause.code)
        assert.is_false(child:is_alive())
        assert.is_nil(child:pid())
        assert.same({ not_started = true }, child:close())
      end
    end))

    it("raises SessionError for one that is there and cannot be executed", helper.task(function()
      for code, mode in pairs { EACCES = "600", ENOEXEC = "700" } do
        local name = helper.write(folder .. "/text", "text", mode)
        local child <close> = process.new { executable = name, cwd = folder }
        local err = error_of(child.start, child)
        assert.same({ "SessionError", "start", name, code }, { err.code, err.reason, err.executable, err.cause.code })
        assert.matches("the program did not start: cannot execute '" .. name .. "'", err.message, 1, true)
        assert.is_nil(err.message:find "installed")
      end
    end))

    it("raises SessionError when the working directory has gone meanwhile", helper.task(function()
      assert(uv.fs_mkdir(folder .. "/gone", 448))
      local child <close> = new("exit", { cwd = folder .. "/gone" })
      assert(uv.fs_rmdir(folder .. "/gone"))
      local err = error_of(child.start, child)
      assert.same({ "SessionError", "start", "ENOENT" }, { err.code, err.reason, err.cause.code })
    end))

    it("raises SessionError when nothing can be had that would end what it leaves running", helper.task(function()
      local child, start_survivor, registry = new "read -r _", core.survivor.start, debug.getregistry()
      local guarded <close> = setmetatable({ registry["parley.guarded"] }, { __close = function(kept)
        registry["parley.guarded"], core.survivor.start = kept[1], start_survivor
      end })
      registry["parley.guarded"] = nil
      function core.survivor.start() return nil, { code = "EMFILE", message = "cannot make a pipe: too many" } end
      local err = error_of(child.start, child)
      assert.same({ "SessionError", "start", "EMFILE" }, { err.code, err.reason, err.cause.code })
      assert.is_truthy(guarded)
      assert.is_false(child:is_alive())
    end))

    it("raises for a second time", helper.task(function()
      local child <close> = start "read -r _"
      assert.equal("SessionError", error_of(child.start, child).code)
      assert.is_true(child:is_alive())
    end))
  end)

  describe("write", function()
    it("types into the terminal", helper.task(function()
      local child <close> = start [[read -r line; echo "got $line"; read -r _]]
      child:write "hello\r"
      wait_for_output(child, "got hello")
    end))

    it("waits until the kernel has taken all of a long text, and can be cancelled", helper.task(function()
      local child <close> = start "stty raw -echo; echo ready; trap '' TERM; read -r _ </dev/null; kill -STOP $$"
      wait_for_output(child, "ready")
      local writer = task.spawn(child.write, child, ("x"):rep(1 << 20))
      helper.tick()
      writer:cancel()
      assert.equal("Cancelled", error_of(writer.await, writer).code)
      child:close(0)
    end))

    it("raises SessionError with the exit and the screen when the program has ended", helper.task(function()
      local child <close> = start "echo goodbye; exit 3"
      wait_for_exit(child)
      wait_for_output(child, "goodbye")
      local err = error_of(child.write, child, "x")
      assert.same({ "SessionError", "exit", { exit_code = 3 } }, { err.code, err.reason, err.exit })
      assert.matches("goodbye", err.screen)
    end))

    it("raises SessionError after the end", helper.task(function()
      local child = start "read -r _"
      child:close()
      assert.equal("SessionError", error_of(child.write, child, "x").code)
    end))
  end)

  it("knows how the program ended by itself", helper.task(function()
    local child <close> = start "exit 7"
    assert.same({ exit_code = 7 }, wait_for_exit(child))
    assert.is_false(child:is_alive())
    assert.equal("integer", math.type(child:pid()))
    assert.same({ exit_code = 7 }, child:close())
  end))

  it("shows on its screen what a person would see", helper.task(function()
    local child <close> = start [[printf '\033[2;3Hhello'; read -r _]]
    helper.eventually(function() return child.screen:text():find("  hello", 1, true) end)
  end))

  it("gives the terminal's replies to the program", helper.task(function()
    local child <close> = start [[stty raw -echo; printf '\033[6n'; printf 'reply %s' "$(dd bs=1 count=6 2>/dev/null |
      tr '\033' '^')"; read -r _]]
    wait_for_output(child, "reply ^[1;1R")
  end))

  it("lets few replies wait for a program that never reads them", helper.task(function()
    local child <close> = start [[stty raw -echo; printf '\033[6n%.0s' $(seq 30000); echo asked
      stty min 0 time 10; printf 'got %d bytes' "$(cat | wc -c)"; sleep 60]]
    wait_for_output(child, "asked")
    wait_for_output(child, "bytes")
    local count = tonumber(child:captured_output():match "got (%d+) bytes")
    assert.is_true(count > 600 and count < 60000, count) -- of 180,000: what the kernel holds, and a little
  end))

  describe("whose program is stopped", function()
    local LONG = "\27[200~" .. ("x"):rep(1 << 20) .. "\27[201~"

    ---A program that copies its input to a file, and is stopped before it has any.
    local function stopped()
      local child = start(("stty raw -echo; echo ready; exec cat >'%s/input'"):format(folder))
      wait_for_output(child, "ready")
      child:signal "SIGSTOP"
      return child
    end

    ---What the program has, once it ends so.
    local function input_until(ending)
      return helper.eventually(function()
        local text = files.read(folder .. "/input")
        return text and text:sub(-#ending) == ending and text
      end, 30000, "the input")
    end

    it("gives up a write, and nothing of the rest follows", helper.task(function()
      local child <close> = stopped()
      local waits, last = 0, nil
      assert.is_false(child:write(LONG, function(gone)
        waits, last = waits + 1, gone
        if waits == 3 then return false end
        child.changed:wait(100)
      end))
      assert.is_true(last > 0 and last < #LONG)
      child:signal "SIGCONT"
      assert.is_true(child:write "next")
      local input = input_until "next"
      assert.matches("^\27%[200~x+\27%[201~next$", input)
      assert.equal(last + #"\27[201~next", #input)
    end))

    it("gives up a write when its task is cancelled", helper.task(function()
      local child <close> = stopped()
      local writer = task.spawn(function() child:write(LONG) end)
      helper.tick()
      writer:cancel()
      assert.is_false((pcall(writer.await, writer)))
      child:signal "SIGCONT"
      child:write "next"
      local input = input_until "next"
      assert.matches("^\27%[200~x+\27%[201~next$", input)
      assert.is_true(#input < #LONG)
    end))

    it("goes on with a write when it goes on", helper.task(function()
      local child <close> = stopped()
      local writer = task.spawn(function() return child:write(LONG) end)
      helper.tick()
      child:signal "SIGCONT"
      assert.is_true(writer:await())
      assert.is_true(LONG == input_until "\27[201~")
    end))

    it("ends a write when it ends", helper.task(function()
      local child <close> = stopped()
      local writer = task.spawn(function() return pcall(child.write, child, LONG) end)
      helper.tick()
      child:signal "SIGKILL"
      local ok, err = writer:await()
      assert.is_false(ok)
      assert.equal("exit", err.reason)
    end))

    it("ends a write when it is discarded", helper.task(function()
      local child <close> = stopped()
      local writer = task.spawn(function() return pcall(child.write, child, LONG) end)
      helper.tick()
      child:discard()
      local ok, err = writer:await()
      assert.is_false(ok)
      assert.equal("exit", err.reason)
    end))
  end)

  it("notifies `changed` at output and at the exit", helper.task(function()
    local child <close> = start "read -r _; echo out; read -r _"
    child:write "\r"
    while not child:captured_output():find "out" do assert.is_true(child.changed:wait(4000)) end
    child:write "\r"
    while child:is_alive() do assert.is_true(child.changed:wait(4000)) end
  end))

  it("resizes the terminal and the screen", helper.task(function()
    local child <close> = start [[trap 'stty size' WINCH; echo ready
      while :; do read -r _ || [ $? -gt 128 ] || exit; done]]
    wait_for_output(child, "ready")
    child:resize(10, 33)
    child:write "\r"
    wait_for_output(child, "10 33")
    assert.same({ 10, 33 }, { child.screen:size() })
  end))

  it("sends signals", helper.task(function()
    local child <close> = start [[trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done]]
    wait_for_output(child, "ready")
    child:signal "SIGINT"
    assert.same({ exit_code = 5 }, wait_for_exit(child))
    child:signal "SIGINT"
  end))

  describe("captured_output", function()
    it("holds the last bytes and no more than its limit", helper.task(function()
      local child <close> = start([[i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; echo end
        read -r _]], { capture_limit = 1000 })
      wait_for_output(child, "end")
      local output = child:captured_output()
      assert.equal(1000, #output)
      assert.equal("line 2998\r\nline 2999\r\nend\r\n", output:sub(-27))
    end))

    it("keeps all that comes below the limit", helper.task(function()
      local child <close> = start "echo one; read -r _; echo two; read -r _"
      wait_for_output(child, "one")
      child:write "\r"
      wait_for_output(child, "two")
      assert.equal("one\r\n\r\ntwo\r\n", child:captured_output())
    end))

    it("has the last words of a program, however many", helper.task(function()
      for _ = 1, 20 do
        local child <close> = start [[head -c 9000 /dev/zero | tr '\0' x; printf end; exit]]
        child:drain(5000)
        assert.equal(("x"):rep(9000) .. "end", child:captured_output())
      end
    end))

    it("is not waited for when the terminal was closed meanwhile", helper.task(function()
      local child = start "read -r _"
      local draining = task.spawn(child.drain, child, 600000)
      helper.tick()
      child:discard()
      task.timeout(10000, draining.await, draining)
    end))

    it("can be had after the end", helper.task(function()
      local child = start "echo last words; exit"
      wait_for_exit(child)
      child:close()
      assert.equal("last words\r\n", child:captured_output())
    end))
  end)

  describe("close", function()
    it("lets the program end by itself first", helper.task(function()
      local child = start [[trap 'echo bye; exit 143' TERM; echo ready; while :; do sleep 0.05; done]]
      wait_for_output(child, "ready")
      assert.same({ exit_code = 143 }, child:close())
      assert.matches("bye", child:captured_output())
      assert.is_true(helper.has_ended(child:pid()))
    end))

    it("reports the signal that ended it", helper.task(function()
      local child = start "echo ready; read -r _"
      wait_for_output(child, "ready")
      local record = child:close()
      assert.equal("SIGTERM", record.signal)
    end))

    it("kills what ignores it when the grace is over", helper.task(function()
      local child = start [[trap '' TERM HUP; echo ready; while :; do read -r _ </dev/null; done]]
      wait_for_output(child, "ready")
      local before = task.now()
      local record = child:close(50)
      assert.equal("SIGKILL", record.signal)
      assert.is_true(task.now() - before >= 50)
      assert.is_true(helper.has_ended(child:pid()))
    end))

    it("waits no longer than the program takes", helper.task(function()
      local child = start "echo ready; read -r _"
      wait_for_output(child, "ready")
      local before = task.now()
      child:close(60000)
      assert.is_true(task.now() - before < 5000)
    end))

    it("gives the same record a second time, and to two who ask at once", helper.task(function()
      local child = start [[trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done]]
      wait_for_output(child, "ready")
      local one, two = task.spawn(child.close, child), task.spawn(child.close, child)
      local record = one:await()
      assert.same({ exit_code = 9 }, record)
      assert.equal(record, two:await())
      assert.equal(record, child:close())
      assert.equal(record, child:exit_record())
    end))

    it("is not cut short by a cancellation", helper.task(function()
      local child = start [[trap '' TERM HUP; echo ready; while :; do read -r _ </dev/null; done]]
      wait_for_output(child, "ready")
      local terminator = task.spawn(function() return child:close(50) end)
      helper.tick()
      terminator:cancel()
      assert.equal("SIGKILL", terminator:await().signal)
      assert.is_true(helper.has_ended(child:pid()))
    end))

    it("takes the program's own children along", helper.task(function()
      local child = start [[trap '' TERM HUP; sleep 60 & echo "child $!."; while :; do read -r _ </dev/null; done]]
      wait_for_output(child, ".")
      local grandchild = tonumber(child:captured_output():match "child (%d+)")
      child:close(0)
      helper.eventually(function() return helper.has_ended(grandchild) end, nil, "the grandchild's end")
    end))
  end)

  it("says what was expected of a wrong argument", helper.task(function()
    local child = start "read -r _"
    for message, call in pairs {
      ["the bytes to write must be a value of type string, not 5"] = { "write", 5 },
      ["rows and columns must be whole numbers from 1 to 1000, not 0"] = { "resize", 0, 5 },
      ['rows and columns must be whole numbers from 1 to 1000, not "a"'] = { "resize", 5, "a" },
      ["a signal must be a value of type string, not nothing"] = { "signal" },
      ["no signal is sent: unknown signal 'SIGFOO'"] = { "signal", "SIGFOO" },
      ["the time to wait must be a value of type milliseconds, not nothing"] = { "drain" },
      ['the grace time must be a value of type milliseconds, not "x"'] = { "close", "x" },
    } do
      assert.equal("ValueError: " .. message, tostring(error_of(child[call[1]], child, table.unpack(call, 2))))
    end
    child:close()
  end))

  describe("close where nobody can wait", function()
    it("ends the program from a libuv callback, one that minds no SIGTERM too", helper.task(function()
      local polite = start "echo up; read -r _"
      wait_for_output(polite, "up")
      local stubborn = start [[trap '' TERM; echo up; while :; do read -r _ || sleep 1; done]]
      wait_for_output(stubborn, "up")
      local timer, has_called = uv.new_timer(), false
      timer:start(0, 0, function()
        timer:close()
        polite:close(60000)
        stubborn:close(50)
        stubborn:close(50)
        has_called = true
      end)
      helper.eventually(function() return has_called end)
      assert.equal("SIGTERM", wait_for_exit(polite).signal)
      assert.equal("SIGKILL", wait_for_exit(stubborn).signal)
    end))

    it("ends the program and waits for it outside of any task", function()
      local child
      task.run(function() child = start "read -r _" end)
      assert.equal("SIGTERM", child:close().signal)
    end)
  end)

  describe("in a close variable", function()
    it("ends with the block", helper.task(function()
      local pid
      do
        local child <close> = start "read -r _"
        pid = child:pid()
      end
      assert.is_true(helper.has_ended(pid))
    end))

    it("ends with an error that leaves the block, which stays the same", helper.task(function()
      for _, problem in ipairs { errors.new("EX", "it broke"), "a string", 17 } do
        local pid
        local ok, err = pcall(function()
          local child <close> = start "read -r _"
          pid = child:pid()
          error(problem, 0)
        end)
        assert.is_false(ok)
        assert.equal(problem, err)
        assert.is_true(helper.has_ended(pid))
      end
    end))

    it("ends with a cancellation", helper.task(function()
      local pid
      local waiting = task.spawn(function()
        local child <close> = start "read -r _"
        pid = child:pid()
        task.condition():wait()
      end)
      helper.tick()
      waiting:cancel()
      pcall(waiting.await, waiting)
      assert.is_true(helper.has_ended(pid))
    end))
  end)

  it("can be killed at once by who cannot wait", helper.task(function()
    local child = start [[trap '' TERM HUP; echo ready; while :; do read -r _ </dev/null; done]]
    wait_for_output(child, "ready")
    child:discard()
    assert.equal("SIGKILL", child:exit_record().signal)
    assert.is_false(child:is_alive())
    helper.eventually(function() return helper.is_reaped(child:pid()) end, nil, "its end")
  end))

  it("starts and ends many times and leaves nothing", helper.task(function()
    for _ = 1, helper.long(60, 200) do start("read -r _"):close() end
  end))
end)
