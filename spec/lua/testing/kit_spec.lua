--- The test kit itself: the kit, tasks, waiting, leaks.
local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local process = require "parley.claude.process"
local source = require "parley.testing.source"
local task = require "parley.base.task"
local testing = require "parley.testing"

local leaks
before_each(function() leaks = testing.leaks() end)
after_each(function() leaks:check() end)

local function is_folder(path)
  local stat = uv.fs_stat(path)
  return stat ~= nil and stat.type == "directory"
end

describe("testing.kit", function()
  it("has a home, a working directory and an executable, all private", testing.task(function()
    local kit <close> = testing.kit()
    assert.is_true(is_folder(kit.home))
    assert.is_true(is_folder(kit.cwd))
    assert.equal(tonumber("700", 8), uv.fs_stat(kit.folder).mode & tonumber("777", 8))
    assert.equal(tonumber("700", 8), uv.fs_stat(kit.executable).mode & tonumber("777", 8))
    assert.equal(uv.fs_realpath(kit.cwd), kit.cwd)
  end))

  it("keeps to its home, wherever the user's own claude has its files", helper.task(function()
    local folder = helper.temporary_folder()
    finally(helper.remove_folders)
    local program = helper.run({ helper.host, "ask", "--stand-in", "hello" }, { env = { "PATH=" .. os.getenv "PATH",
      "HOME=" .. folder .. "/home", "CLAUDE_CONFIG_DIR=" .. folder .. "/config", "TMPDIR=" .. folder } })
    assert.same({ "echo: hello\n", "" }, { program.output, program.errors })
    assert.same({}, helper.names_in(folder))
  end))

  it("says what it needs where it is used without the host", helper.task(function()
    local lua = helper.run({ "/usr/bin/env", "lua5.4", "-e", "require('parley.testing').kit()" },
      { env = helper.plain_lua_environment() })
    assert.equal(1, lua.status)
    assert.matches("ValueError: the simulated claude needs parley: run this with `parley test`", lua.errors, 1, true)
  end))

  it("gives options with which a process runs", testing.task(function()
    local kit <close> = testing.kit()
    local claude <close> = process.new(kit.options)
    claude:start()
    testing.eventually(function() return kit:events("ready")[1] end)
    assert.same({ claude:pid() }, kit:processes())
    claude:close()
    assert.same({}, kit:processes())
  end))

  it("knows a stand-in from another process that has got its id", testing.task(function()
    local kit <close> = testing.kit()
    local claude <close> = process.new(kit.options)
    claude:start()
    testing.eventually(function() return kit:events("ready")[1] end)
    local started = kit:events("started")[1]
    started.born = "1" -- long ago
    files.write(kit.log_path, assert(core.json.encode(started)) .. "\n", true)
    assert.same({}, kit:processes())
    kit:close() -- and kills nobody
    assert.is_true(claude:is_alive())
  end))

  it("tells what was received, taken and recorded", testing.task(function()
    local kit <close> = testing.kit()
    local terminal <close> = kit:terminal()
    terminal:write "h\195"
    terminal:write "\169"
    terminal:wait_for(function() return terminal:composer() == "hé" end)
    terminal:write "\r"
    terminal:wait_for "echo: hé"
    assert.equal("hé\r", kit:received())
    assert.same({ "hé" }, kit:taken())
    local id = kit:events("ready")[1].session_id
    testing.eventually(function() return #kit:transcript(id) > 3 end)
    assert.equal("mode", kit:transcript(id)[1].type)
  end))

  it("has no records of a session that has none", testing.task(function()
    local kit <close> = testing.kit()
    assert.same({}, kit:transcript "nobody")
    assert.same({}, kit:events())
  end))

  it("leaves the start-up dialogs unanswered that it is told to", testing.task(function()
    local kit <close> = testing.kit { trusted = false }
    local terminal <close> = kit:terminal({}, { is_ready = false })
    terminal:wait_for "Accessing workspace:"
  end))

  it("takes the path of a script, which may be a function", testing.task(function()
    local kit <close> = testing.kit()
    local path = kit.folder .. "/mine.lua"
    local file = assert(io.open(path, "w"))
    file:write "return function() return { startup_delay_ms = 1, answers = { { text = 'from a file' } } } end"
    file:close()
    kit:use(path)
    local terminal <close> = kit:terminal()
    terminal:write "x\r"
    terminal:wait_for "from a file"
  end))

  it("takes a path from where the host is, and has its own delays for it, too", testing.task(function()
    local folder, here = helper.temporary_folder(), uv.cwd()
    finally(helper.remove_folders)
    helper.write(folder .. "/mine.lua", "return { flush_ms = 7, answers = { { text = 'from a file' } } }")
    assert(uv.chdir(folder))
    local ok, kit = pcall(testing.kit, { script = "mine.lua" })
    assert(uv.chdir(here))
    assert.is_true(ok, tostring(kit))
    local _ <close> = kit
    local terminal <close> = kit:terminal()
    terminal:write "x\r"
    terminal:wait_for "from a file"
    local script = dofile(kit.script_path)
    assert.same({ 20, 7, 5 }, { script.startup_delay_ms, script.flush_ms, script.connect_delay_ms })
  end))

  it("changes the script between two processes", testing.task(function()
    local kit <close> = testing.kit { script = { answers = { { text = "before" } } } }
    kit:use({ answers = { { text = "after" } } }, "2.1.197")
    local terminal <close> = kit:terminal()
    terminal:write "x\r"
    terminal:wait_for "● after"
    assert.is_true(terminal:shows "v2.1.197")
  end))

  it("says no to what it does not know, and makes nothing", testing.task(function()
    local temporary, folder = os.getenv "TMPDIR", helper.temporary_folder()
    uv.os_setenv("TMPDIR", folder)
    finally(function()
      if temporary then uv.os_setenv("TMPDIR", temporary) else uv.os_unsetenv "TMPDIR" end
      helper.remove_folders()
    end)
    local function refused(given, ...)
      local ok, err = pcall(testing.kit, given)
      assert.is_false(ok)
      assert.equal("ValueError", err.code)
      for _, words in ipairs { ... } do assert.matches(words, err.message, 1, true) end
    end
    refused({ profile = "9.9.9" }, "option 'profile' must be one of 2.1.50,", 'not "9.9.9"')
    refused({ scirpt = {} }, "testing.kit has no option 'scirpt'; did you mean 'script'?")
    refused({ trusted = "no" }, "option 'trusted' must be a value of type boolean")
    refused({ script = { answer = {} } }, "the script has 'answer', which means nothing there; did you mean 'answers'?")
    refused({ script = "/no/such.lua" }, "cannot read the script: ", "/no/such.lua")
    refused({ script = { answers = { { on = function() return is_folder end } } } }, "the local 'is_folder' around it")
    refused({ settings = { f = print } }, "option 'settings' must be what JSON can hold: ")
    for _, cwd in ipairs { "", ".", "./w", "a/../b", "/w" } do
      refused({ cwd = cwd }, "option 'cwd' must be the name of a folder")
    end
    refused({ extra_env = { CLAUDE_CONFIG_DIR = "/c" } }, "option 'extra_env' must be without CLAUDE_CONFIG_DIR")
    refused({ extra_env = { PARLEY_STAND_IN_LOG = "/l" } }, "option 'extra_env' must be without PARLEY_STAND_IN_LOG")
    assert.same({}, helper.names_in(folder))
    local kit <close> = testing.kit()
    local ok, err = pcall(kit.use, kit, {}, "9.9.9")
    assert.is_false(ok)
    assert.matches("Kit:use: option 'profile'", err.message)
    assert.is_false((pcall(kit.use, kit, { answers = { { txt = "x" } } })))
  end))

  it("counts the uses of an answer over all its processes, and anew for each script", testing.task(function()
    local script = { answers = { { text = "first", times = 1 }, { on = "x", text = "then", times = 2 } } }
    local kit <close> = testing.kit { script = script }
    local function answers(...)
      local terminal <close> = kit:terminal()
      for _, answer in ipairs { ... } do
        terminal:write "x"
        terminal:wait_for(function() return terminal:composer() == "x" end)
        terminal:write "\r"
        terminal:wait_for("● " .. answer)
      end
    end
    answers("first", "then")
    answers("then", "echo: x")
    answers "echo: x"
    kit:use(script)
    answers "first"
  end))

  it("removes its folders when it is closed", testing.task(function()
    local kit = testing.kit()
    kit:close()
    kit:close()
    assert.is_nil(uv.fs_stat(kit.folder))
  end))

  it("kills a stand-in that is left alive, and raises", testing.task(function()
    local kit = testing.kit()
    local terminal <close> = kit:terminal()
    local ok, err = pcall(kit.close, kit)
    assert.is_false(ok)
    assert.equal("Leak", err.code)
    assert.same({ terminal:pid() }, err.pids)
    assert.equal("stand-ins left alive: " .. terminal:pid(), err.message)
    assert.equal("SIGKILL", terminal:exit().signal)
    assert.is_nil(uv.fs_stat(kit.folder))
  end))

  it("does not hide the error of the spec behind its own", testing.task(function()
    local mine = errors.new("Mine", "the spec failed")
    local terminal
    local ok, err = pcall(function()
      local kit <close> = testing.kit()
      terminal = kit:terminal()
      error(mine, 0)
    end)
    assert.is_false(ok)
    assert.equal(mine, err)
    terminal:exit()
    terminal:close()
  end))
end)

describe("testing.task", function()
  it("runs the function as a task", function()
    local seen
    testing.task(function()
      task.spawn(function() end):await()
      seen = task.current()
    end)()
    assert.truthy(seen)
  end)

  it("raises what the function raised, unchanged", function()
    local thrown = setmetatable({}, { __tostring = function() return "thrown" end })
    local ok, err = pcall(testing.task(function() error(thrown, 0) end))
    assert.is_false(ok)
    assert.equal(thrown, err)
  end)

  it("raises what a child task raised", function()
    local ok, err = pcall(testing.task(function()
      task.spawn(error, errors.new("Child", "from the child"), 0)
    end))
    assert.is_false(ok)
    assert.equal("Child", err.code)
  end)

  it("fails with a child task whose error says nothing", function()
    for _, nothing in ipairs { table.pack(nil), table.pack(false) } do
      local ok, err = pcall(testing.task(function()
        task.spawn(function() error(nothing[1]) end)
      end))
      assert.is_false(ok)
      assert.matches("an error without a text", err)
    end
  end)

  it("ends at its deadline", function()
    local ok, err = pcall(testing.task(function() task.condition():wait(60000) end, { timeout_ms = 20 }))
    assert.is_false(ok)
    assert.equal("ETIMEDOUT", err.code)
  end)
end)

describe("testing.eventually", function()
  it("gives what the predicate gave", testing.task(function()
    local calls = 0
    assert.equal("third", testing.eventually(function()
      calls = calls + 1
      return calls == 3 and "third"
    end))
  end))

  it("names what did not happen", testing.task(function()
    local ok, err = pcall(testing.eventually, function() return false end, 10, "the miracle")
    assert.is_false(ok)
    assert.equal("ETIMEDOUT", err.code)
    assert.truthy(err.message:find("the miracle", 1, true))
  end))
end)

describe("a wrong call of the kit", function()
  it("is named", testing.task(function()
    local kit <close> = testing.kit()
    for message, call in pairs {
      ["testing.task takes a function, not nothing"] = { testing.task },
      ["testing.task takes a table of options, not 5"] = { testing.task, print, 5 },
      ["testing.task has no option 'timeout'"] = { testing.task, print, { timeout = 5 } },
      ["testing.eventually takes a function, not nothing"] = { testing.eventually },
      ['testing.eventually takes a number or nothing, not "x"'] = { testing.eventually, print, "x" },
      ["Kit:use takes a script, not nothing"] = { kit.use, kit },
      ['Kit:events takes one of started, ready, received, taken, command, deaf, ended, not "take"; did you mean '
        .. "'taken'?"] = { kit.events, kit, "take" },
    } do
      local ok, err = pcall(table.unpack(call))
      assert.is_false(ok)
      assert.equal("ValueError: " .. message, tostring(err))
    end
  end))
end)

describe("testing.leaks", function()
  it("finds nothing after the first kit of a process", helper.task(function()
    local folder = helper.temporary_folder()
    finally(helper.remove_folders)
    local path = helper.write(folder .. "/first_spec.lua", [[
      local testing, parley = require "parley.testing", require "parley"
      it("leaks nothing", testing.task(function()
        local leaks = testing.leaks()
        local kit <close> = testing.kit()
        local backend = parley.backend(kit.options)
        for _ in backend:complete { { role = "user", content = "hi" } } do end
        backend:close()
        leaks:check()
      end))]])
    local program = helper.run({ helper.host, "test", path })
    assert.equal(0, program.status, program.output)
    assert.matches("1 success", program.output)
  end))

  it("finds nothing when nothing was left", function()
    assert.same({}, testing.leaks():found())
  end)

  it("finds a descriptor", function()
    local stock = testing.leaks()
    local file <close> = assert(io.open "/dev/null")
    assert.equal(1, #stock:found())
    assert.truthy(stock:found()[1]:find("descriptor %d+ /dev/null"))
    assert.truthy(file)
  end)

  it("finds a handle", function()
    local stock = testing.leaks()
    local timer <close> = task.closing(uv.new_timer())
    assert.truthy(stock:found()[1]:find "handle")
    assert.has_error(function() stock:check() end)
    assert.truthy(timer)
  end)

  it("finds a child that nobody reaped", testing.task(function()
    local stock = testing.leaks()
    local kit <close> = testing.kit()
    local terminal = kit:terminal({ "--version" }, { is_ready = false })
    testing.eventually(function() return terminal.is_ended end)
    assert.truthy(table.concat(stock:found(), " "):find("child " .. terminal:pid(), 1, true))
    terminal:exit()
    terminal:close()
    stock:check()
  end))
end)

describe("testing.source", function()
  it("makes a value again", function()
    local value = { 1, "a\n\0b", true, nested = { [2.5] = false } }
    assert.same(value, load("return " .. source.of(value))())
  end)

  it("sends functions that use nothing around them", function()
    local copy = load("return " .. source.of { fn = function(text) return #text + 1 end })()
    assert.equal(4, copy.fn "abc")
  end)

  for name, value in pairs {
    ["a function with an upvalue"] = { { on = function() return is_folder end }, "[on]" },
    ["a thread"] = { { coroutine.create(print) }, "[1]" },
  } do
    it("refuses " .. name .. " and says where it is", function()
      local ok, err = pcall(source.of, value[1])
      assert.is_false(ok)
      assert.equal("ValueError", err.code)
      assert.truthy(err.message:find(value[2], 1, true))
    end)
  end

  it("refuses a table that holds itself", function()
    local loop = {}
    loop.again = loop
    assert.is_false(pcall(source.of, loop))
  end)
end)
