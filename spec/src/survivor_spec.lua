local core = require "parley.core"
local helper = require "spec.helper"
local uv = require "luv"

describe("survivor", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function written(name)
    return helper.eventually(function()
      local file <close> = io.open(folder .. "/" .. name)
      local text = file and file:read "a" or ""
      return text:find "\n$" and text
    end, nil, name)
  end

  ---A host that starts a script which writes `ready`, waits for the host's end, and writes `over`.
  local function host_with_survivor(ending)
    return helper.start { helper.host, "-e", ([[
      local script = "{ echo $$ >%s/ready; read -r _ <&3; echo \"$1\" >%s/over; } &"
      assert(require("parley.core").survivor.start(script, "an argument"))
      %s]]):format(folder, folder, ending) }
  end

  it("runs on when its process is killed, and notices", helper.task(function()
    local host <close> = host_with_survivor [[require("parley.task").condition():wait(60000)]]
    written "ready"
    assert.is_nil(uv.fs_stat(folder .. "/over"))
    host:kill "sigkill"
    assert.equal("an argument\n", written "over")
  end))

  it("notices that its process has ended by itself", helper.task(function()
    local host <close> = host_with_survivor "return 3"
    assert.equal(3, host:wait().status)
    assert.equal("an argument\n", written "over")
  end))

  it("holds nothing of its process", helper.task(function()
    local leaky = assert(uv.pipe({}, {})) -- no close-on-exec on these
    local descriptor = assert(core.survivor.start(([[{ cd %s
      { ls -l /proc/self/fd; ps -o sid= -p $$; cat /proc/self/environ; echo; } >all; mv all facts; read -r _ <&3; } &]]
    ):format(folder)))
    local facts = written "facts"
    uv.fs_close(leaky.read)
    uv.fs_close(leaky.write)
    uv.fs_close(descriptor)
    local streams = {}
    for number, target in facts:gmatch "(%d+) %-> (%a*:?[^%s%[]*)" do
      if not target:find "^/proc/" then streams[number] = target end -- but for the folder itself
    end
    assert.same({ ["0"] = "/dev/null", ["1"] = folder .. "/all", ["2"] = "/dev/null", ["3"] = "pipe:" }, streams)
    assert.matches("PATH=" .. os.getenv "PATH" .. "\0", facts, 1, true)
    assert.is_nil(facts:find "HOME=")
  end))

  it("is told by the end of the descriptor, which no other program inherits", helper.task(function()
    local descriptor = assert(core.survivor.start(("{ read -r _ <&3; echo over >%s/over; } &"):format(folder)))
    local other <close> = helper.start { "sleep", "60" }
    uv.fs_close(descriptor)
    assert.equal("over\n", written "over")
    assert.is_nil(other.status)
  end))

  it("is nil and an error where descriptors run out", helper.task(function()
    local program = helper.run({ "sh", "-c", [[ulimit -n 4; exec lua5.4 -e '
      local descriptor, err = require("parley.core").survivor.start(":")
      print(descriptor, err.code)']] }, { env = helper.plain_lua_environment() })
    assert.equal("nil\tEMFILE\n", program.output, program.errors)
  end))

  it("refuses what is no script", function()
    assert.error_matches(function() core.survivor.start() end, "string expected")
  end)
end)
