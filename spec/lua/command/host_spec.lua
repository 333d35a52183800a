local bundle = require "parley.bundle"
local helper = require "spec.helper"

---Run the host to its end.
local function parley(...) return helper.run { helper.host, ... } end

---The names of the bundled commands.
local function commands()
  local names = {}
  for _, path in ipairs(bundle.files) do table.insert(names, path:match "^scripts/([%w-]+)%.lua$") end
  return names
end

---Check exit status, standard output and standard error, all exact.
local function assert_run(status, output, errors, program)
  assert.same({ status = status, output = output, errors = errors },
    { status = program.status, output = program.output, errors = program.errors })
end

describe("parley", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function script(text, name) return helper.write(folder .. "/" .. (name or "script.lua"), text) end

  describe("SCRIPT", function()
    it("runs a file with its arguments, in `...` and in `arg`", helper.task(function()
      local path = script [[print(select("#", ...), ..., arg[0], #arg, arg[2], arg[-1])]]
      assert_run(0, ("2\t-x\t%s\t2\ttwo words\tnil\n"):format(path), "", parley(path, "-x", "two words"))
    end))

    it("runs it as a task, which may wait", helper.task(function()
      local path = script [[
        local task = require "parley.base.task"
        print(task.spawn(function() return task.condition():wait(1) end):await())]]
      assert_run(0, "false\n", "", parley(path))
    end))

    it("waits for the tasks that it started", helper.task(function()
      assert_run(0, "main\nchild\n", "", parley(script [[
        require("parley.base.task").spawn(print, "child")
        print "main"]]))
    end))

    it("passes over a first line that begins with #, and counts it", helper.task(function()
      assert_run(1, "", "parley: script.lua:2: oops\n", helper.run({ helper.host,
        script("#!/usr/bin/env parley\nerror 'oops'"):match "[^/]*$" }, { cwd = folder }))
    end))

    it("runs a file without .lua at its end", helper.task(function()
      assert_run(0, "ran\n", "", helper.run({ helper.host, script("print 'ran'", "plain"):match "[^/]*$" },
        { cwd = folder }))
    end))

    it("that is missing is one line that names it", helper.task(function()
      local path = folder .. "/missing.lua"
      assert_run(1, "", ("parley: ValueError: cannot read the script: %s: No such file or directory\n"):format(path),
        parley(path))
    end))

    it("that is a folder is one line that names it", helper.task(function()
      local program = parley(folder)
      assert.equal(1, program.status)
      assert.matches("^parley: ValueError: cannot read the script: [^\n]+\n$", program.errors)
      assert.truthy(program.errors:find(folder, 1, true))
    end))

    it("that does not compile is one line with the place, and nothing runs", helper.task(function()
      local path = script "print 'ran'\nlocal = 5"
      assert_run(1, "", ("parley: SyntaxError: %s:2: <name> expected near '='\n"):format(path), parley(path))
    end))

    it("that is compiled already is refused", helper.task(function()
      local program = parley(script(string.dump(function() end)))
      assert.equal(1, program.status)
      assert.matches("^parley: SyntaxError: [^\n]+\n$", program.errors)
    end))
  end)

  describe("-e", function()
    it("runs a line with arguments", helper.task(function()
      assert_run(0, "hello\t-e\tx\n", "", parley("-e", "print('hello', ...)", "-e", "x"))
    end))

    it("needs the line", helper.task(function()
      assert_run(1, "", "parley: ValueError: -e needs a line of Lua (see parley --help)\n", parley "-e")
    end))

    it("names itself in errors", helper.task(function()
      assert_run(1, "", "parley: (command line):1: oops\n", parley("-e", "error 'oops'"))
    end))
  end)

  it("- runs what it reads from standard input", helper.task(function()
    local program = helper.run({ helper.host, "-", "one" }, { input = "print('read', ..., arg[0])\nerror 'oops'" })
    assert_run(1, "read\tone\t-\n", "parley: stdin:2: oops\n", program)
    local path = script "print 'from a file'"
    assert_run(0, "from a file\n", "", helper.run { "/bin/sh", "-c", '"$0" - <"$1"', helper.host, path })
    assert_run(1, "", "parley: ValueError: standard input cannot be read\n",
      helper.run { "/bin/sh", "-c", '"$0" - <"$1"', helper.host, folder })
  end))

  describe("COMMAND", function()
    it("that is unknown is one line that suggests the near one", helper.task(function()
      local name = commands()[1]
      assert_run(1, "", ("parley: ValueError: no command and no file '%sx'; did you mean '%s'? (see parley --help)\n")
        :format(name, name), parley(name .. "x"))
    end))

    it("that is unknown and near to none is one line", helper.task(function()
      assert_run(1, "", "parley: ValueError: no command and no file 'entirely-different' (see parley --help)\n",
        parley "entirely-different")
    end))

    it("runs a bundled script, every one of which explains itself", helper.task(function()
      for _, name in ipairs(commands()) do
        local program = parley(name, "--help")
        assert.equal(0, program.status, name .. ": " .. program.errors)
        assert.matches("%w", program.output)
      end
    end))

    it("needs no Lua module of this machine", helper.task(function()
      local program = helper.run({ helper.host, "ask", "--help" }, { env = { "LUA_PATH=/nowhere/?.lua" } })
      assert.same({ 0, "" }, { program.status, program.errors })
    end))
  end)

  it("--version prints it", helper.task(function()
    assert_run(0, ("parley %s\n"):format(bundle.version), "", parley "--version")
    assert.matches("^%d+%.%d+%.%d+$", bundle.version)
  end))

  it("--help prints the usage and every command with its summary", helper.task(function()
    local program = parley "--help"
    assert.same({ 0, "" }, { program.status, program.errors })
    assert.matches("^Usage:\n  parley ", program.output)
    for _, name in ipairs(commands()) do
      assert.matches("\n  " .. name:gsub("%-", "%%-") .. " +%S", program.output)
    end
  end))

  it("without arguments prints the usage as an error", helper.task(function()
    local program = parley()
    assert.same({ 1, "" }, { program.status, program.output })
    assert.matches("^Usage:\n  parley ", program.errors)
  end))

  it("refuses an unknown option and suggests the near one", helper.task(function()
    assert_run(1, "", "parley: ValueError: unknown option '--versoin'; did you mean '--version'? (see parley --help)\n",
      parley "--versoin")
  end))

  it("leaves a pipe on standard input as it was, for who reads it next", helper.task(function()
    for _, chunk in ipairs { 'local _ <close> = require("parley.command.stdin").open(function() end)',
      'local lines <close> = require("parley.command.batch.lines").open "-"; lines:next()' } do
      local shown = helper.run { "/bin/sh", "-c", ': | { "$0" -e "$1"; cat /proc/self/fdinfo/0; }', helper.host, chunk }
      local flags = tonumber(shown.output:match "flags:%s*(%d+)", 8)
      assert.equal(0, flags & 2048, shown.output) -- O_NONBLOCK
    end
  end))

  describe("an error", function()
    it("is one line on standard error and status 1", helper.task(function()
      assert_run(1, "before\n", "parley: (command line):1: oops\n", parley("-e", "print 'before' error 'oops'"))
    end))

    it("object is one line with its code", helper.task(function()
      assert_run(1, "", "parley: SessionError: it is gone\n",
        parley("-e", "error(require('parley.base.errors').session_error('it is gone'))"))
    end))

    it("of several lines becomes one", helper.task(function()
      assert_run(1, "", "parley: one | two\n", parley("-e", [[error("one\n  two\n", 0)]]))
    end))

    it("is nothing that the terminal would obey", helper.task(function()
      assert_run(1, "", "parley: a\u{fffd}[2Jb\u{fffd}c\n", parley("-e", [[error("a\27[2Jb\u{9b}c", 0)]]))
    end))

    it("of a child task or a raw callback is one line, too", helper.task(function()
      assert_run(1, "", "parley: (command line):1: oops\n", parley("-e",
        [[require("parley.base.task").spawn(function() error "oops" end)]]))
      assert_run(1, "", "parley: (command line):1: oops\n", parley("-e",
        [[local t = require("luv").new_timer() t:start(0, 0, function() t:close() error "oops" end)
          require("parley.base.task").condition():wait()]]))
    end))

    it("of other kinds is one line", helper.task(function()
      assert_run(1, "", "parley: mine\n", parley("-e",
        "error(setmetatable({}, { __tostring = function() return 'mine' end }))"))
      for chunk, text in pairs { ["error()"] = "nil", ["error {}"] = "{}", ["error { a = 1 }"] = '{"a":1}' } do
        assert_run(1, "", "parley: an error without a text: " .. text .. "\n", parley("-e", chunk))
      end
      assert.matches("^parley: an error without a text: function: %S+\n$", parley("-e", "error(print)").errors)
    end))

    it("for want of anything to wait for is one line", helper.task(function()
      for _, shape in ipairs { "%s()", "require('parley.base.task').shield(%s)" } do
        local chunk = shape:format "(function() require('parley.base.task').condition():wait() end)"
        local program = parley("-e", chunk)
        assert.equal(1, program.status)
        assert.matches("^parley: EDEADLK: [^\n]+\n$", program.errors)
      end
    end))

    it("has its traceback with --traceback", helper.task(function()
      local program = parley("--traceback", script "local function culprit() error 'oops' end\nculprit()\nreturn 1")
      assert.equal(1, program.status)
      assert.matches("^parley: [^\n]*script%.lua:1: oops\nstack traceback:\n", program.errors)
      assert.matches("culprit", program.errors)
    end))

    it("object has its traceback and its screen with --traceback", helper.task(function()
      local program = parley("--traceback", script [[
        local function culprit()
          error(require("parley.base.errors").session_error("it is gone", { screen = "the last screen" }))
        end
        culprit()
        return 1]])
      assert.matches("^parley: SessionError: it is gone\nstack traceback:\n", program.errors)
      assert.matches("culprit", program.errors)
      assert.matches("last screen:\nthe last screen\n$", program.errors)
    end))
  end)

  describe("the exit status", function()
    it("is the integer or the boolean that the script returns, else 0", helper.task(function()
      local cases = { ["return 7"] = 7, ["return 0"] = 0, ["return"] = 0, ["return '7'"] = 0, ["return true"] = 0,
        ["return false"] = 1, ["return 255"] = 255 }
      for chunk, status in pairs(cases) do assert_run(status, "", "", parley("-e", chunk)) end
    end))

    it("is what os.exit was given", helper.task(function()
      local cases = { ["os.exit(3)"] = 3, ["os.exit()"] = 0, ["os.exit(true)"] = 0, ["os.exit(false)"] = 1 }
      for chunk, status in pairs(cases) do assert_run(status, "", "", parley("-e", chunk .. " print 'on'")) end
    end))

    it("is never cut to a byte", helper.task(function()
      for chunk, what in pairs {
        ["return 256"] = "the script returned 256", ["return -1"] = "the script returned -1",
        ["os.exit(256)"] = "os.exit was called with 256", ["os.exit 'x'"] = "os.exit was called with x",
      } do
        assert_run(1, "", ("parley: ValueError: %s: expected an exit status, 0 to 255, or a boolean\n"):format(what),
          parley("-e", chunk))
      end
    end))
  end)

  describe("os.exit", function()
    it("closes what is open on the way out", helper.task(function()
      assert_run(4, "closed\n", "", parley("-e", [[
        local _ <close> = setmetatable({}, { __close = function() print "closed" end })
        os.exit(4)]]))
    end))

    it("in a child ends all tasks with their closes", helper.task(function()
      assert_run(4, "closed\n", "", parley("-e", [[
        local task = require "parley.base.task"
        local _ <close> = setmetatable({}, { __close = function() print "closed" end })
        task.spawn(os.exit, 4)
        task.condition():wait()]]))
    end))

    it("in a raw callback does, too", helper.task(function()
      assert_run(4, "closed\n", "", parley("-e", [[
        local _ <close> = setmetatable({}, { __close = function() print "closed" end })
        local timer = require("luv").new_timer()
        timer:start(0, 0, function() os.exit(4) end)
        require("parley.base.task").condition():wait()]]))
    end))

    it("is not undone by a pcall around it", helper.task(function()
      assert_run(4, "", "", parley("-e", [[
        pcall(os.exit, 4)
        require("parley.base.task").condition():wait(1)
        print "on"]]))
    end))
  end)

  describe("standard output", function()
    local outputs = {
      closed = 'exec "$@" >&-',
      full = 'exec "$@" >/dev/full',
      ["without a reader"] = [[mkfifo "$FOLDER/gone"; exec 3<>"$FOLDER/gone" 4>"$FOLDER/gone" 3<&-
        exec "$@" >&4 4>&-]],
    }
    local endings = {
      closed = { 1, "parley: EBADF: cannot write to standard output: it is closed\n" },
      full = { 1, "parley: ENOSPC: cannot write to standard output: no space left on device\n" },
      ["without a reader"] = { 141, "" },
    }

    local function run_with(output, ...)
      return helper.run({ "/bin/sh", "-c", outputs[output], "sh", helper.host, ... },
        { env = { "PATH=" .. os.getenv "PATH", "FOLDER=" .. folder, "HOME=" .. folder } })
    end

    for output, ending in pairs(endings) do
      it(("that is %s is noticed by every command and by --version and --help"):format(output), helper.task(function()
        local lines = { { "--version" }, { "--help" }, { "help" }, { "help", "--man" }, { "doctor" }, { "demo" },
          { "ask", "--stand-in", "hi" }, { "-e", "io.write 'unflushed'" },
          { "-e", "require('parley.command.cli').write(('x'):rep(100000))" } }
        for _, name in ipairs(commands()) do table.insert(lines, { name, "--help" }) end
        for _, line in ipairs(lines) do
          local program = run_with(output, table.unpack(line))
          assert.same(ending, { program.status, program.errors }, table.concat(line, " "))
          os.remove(folder .. "/gone")
        end
      end))

      it(("that is %s is noticed where a script prints, however it ends well"):format(output), helper.task(function()
        local chunks = { "print(1)", "io.stdout:setvbuf 'no' io.write(1)", "io.write(('x'):rep(100000))",
          "print(1) os.exit(0)", "print(1) return true" }
        for _, chunk in ipairs(chunks) do
          local program = run_with(output, "-e", chunk)
          assert.equal(ending[1], program.status, chunk)
          local said = output == "full" and "EIO: cannot write to standard output: not all of it could be written"
          assert.equal(said and ("parley: %s\n"):format(said) or ending[2], program.errors)
          os.remove(folder .. "/gone")
        end
        local program = run_with(output, "-e", "print(1) return 7")
        assert.same({ 7, "" }, { program.status, program.errors })
      end))
    end

    it("gets what was printed before in its order", helper.task(function()
      assert_run(0, "one two three", "", parley("-e", [[
        io.write "one "
        require("parley.command.cli").write "two "
        io.write "three"]]))
    end))

    it("that does not wait for its reader gets all of it", helper.task(function()
      local program <close> = helper.start({ "/bin/sh", "-c", 'exec "$@" <&1', "sh", helper.host, "-e", [[
        local input = require("luv").new_pipe(false)
        input:open(0)
        require("parley.command.cli").write(("0123456789abcdef"):rep(1 << 17))]] })
      assert.is_true(program:wait().output == ("0123456789abcdef"):rep(1 << 17), program.errors)
    end))
  end)

  it("carries the library inside and prefers it", helper.task(function()
    helper.write(folder .. "/parley.lua", "error 'not this one'")
    assert_run(0, "function\n", "", helper.run({ helper.host, "-e", "print(type(require('parley').run))" },
      { cwd = folder, env = { "LUA_PATH=" .. folder .. "/?.lua" } }))
  end))

  it("loads other modules from where Lua looks", helper.task(function()
    helper.write(folder .. "/mine.lua", "return { name = 'mine' }")
    assert_run(0, "mine\n", "", helper.run({ helper.host, "-e", "print(require('mine').name)" }, { cwd = folder }))
  end))

  it("says what is missing when a module is nowhere", helper.task(function()
    local program = parley("-e", "require 'parley.nothing'")
    assert.equal(1, program.status)
    assert.matches("^parley: [^\n]*module 'parley.nothing' not found[^\n]*nothing in the host", program.errors)
  end))
end)
