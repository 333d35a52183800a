local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local opener = require "parley.sleep.opener"
local parley = require "parley"
local uv = require "luv"

describe("who has a session open", function()
  local ID = "0b9a3d1e-6f0c-4f4e-9b1e-3f1f0d5a7c11"
  local folder, environment

  before_each(function()
    folder = helper.temporary_folder()
    environment = { HOME = folder, CLAUDE_CONFIG_DIR = folder }
    assert(uv.fs_mkdir(folder .. "/sessions", 448))
  end)

  after_each(helper.remove_folders)

  --- Starts a process that has the session open, as its file says, with no variables but these.
  local function start(...)
    local argv = { "/usr/bin/env", "-i", ... }
    for _, word in ipairs { "/bin/sleep", "60" } do table.insert(argv, word) end
    local program = helper.start(argv)
    files.put(("%s/sessions/%d.json"):format(folder, program.pid),
      parley.json.encode { pid = program.pid, sessionId = ID }, "w")
    helper.eventually(function() -- `env` itself has the variables of this host
      return files.read(("/proc/%d/cmdline"):format(program.pid)) == "/bin/sleep\00060\0"
    end)
    return program
  end

  it("is a process that lives, and no other session's", helper.task(function()
    local program <close> = start()
    assert.equal(program.pid, opener.of(ID, environment))
    assert.is_nil(opener.of(core.uuid.generate(), environment))
    program:kill "sigkill"
    program:wait()
    assert.is_nil(opener.of(ID, environment))
  end))

  --- Looks who has it while the program lives, and ends it.
  local function settled_behind(program)
    local asking = parley.task.spawn(opener.settled, ID, environment)
    helper.tick()
    program:kill "sigkill"
    return asking:await()
  end

  it("is nobody once a program has ended whose host was killed", helper.task(function()
    local program <close> = start("PARLEY_SESSION=" .. core.uuid.generate())
    assert.is_nil(settled_behind(program))
  end))

  it("is nobody once a process has ended whose memory the kernel has taken away already", helper.task(function()
    local program <close> = start() -- it has no variables, as one that is dying
    assert.is_nil(settled_behind(program))
  end))

  it("is a person's program, which nobody waits for", helper.task(function()
    local program <close> = start("HOME=" .. folder)
    local started = parley.task.now()
    assert.equal(program.pid, opener.settled(ID, environment))
    assert.is_true(parley.task.now() - started < 1000)
  end))
end)
