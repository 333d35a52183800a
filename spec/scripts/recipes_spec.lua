-- The recipes for many machines in scripts/README.md, run as they stand there.
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local testing = require "parley.testing"
local uv = require "luv"

local COUNT = helper.long(12, 24)

describe("the recipe for", function()
  local check_leaks, page

  before_each(function()
    check_leaks = helper.leaks()
    page = assert(files.read "scripts/README.md")
  end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  --- A folder with questions, and an environment in which `parley` is the one under test with the kit's `claude`.
  local function set_up(kit)
    local lines = {}
    for i = 1, COUNT do lines[i] = json.encode { id = "q" .. i, turns = { "question " .. i } } end
    helper.write(kit.folder .. "/questions.jsonl", table.concat(lines, "\n") .. "\n")
    uv.fs_mkdir(kit.folder .. "/bin", 448)
    helper.write_script(kit.folder .. "/bin/parley", ([[command=$1; shift
exec '%s' "$command" --executable '%s' --cwd '%s' "$@"]]):format(helper.host, kit.executable, kit.cwd))
    return helper.environment({ TERM = "dumb" }, kit.environment,
      { PATH = kit.folder .. "/bin:/usr/bin:/bin", HOME = kit.home })
  end

  --- Each question has one result, a success, in one of the parts.
  local function check_parts(kit, parts)
    local seen, count = {}, 0
    for i = 1, parts do
      for _, result in ipairs(helper.json_lines(files.read(("%s/part-%d.jsonl"):format(kit.folder, i)) or "")) do
        assert.equal("success", result.verdict)
        assert.is_nil(seen[result.id], result.id)
        seen[result.id], count = true, count + 1
      end
    end
    assert.equal(COUNT, count)
  end

  it("GNU parallel runs every shard, here on two places of this machine", helper.task(function()
    local kit <close> = testing.kit()
    local environment = set_up(kit)
    helper.write(kit.folder .. "/machines", "2/:\n") -- this machine, without ssh
    local recipe = page:match "\n    (parallel %-%-sshloginfile.-)\n\n"
    local program = helper.run({ "/bin/sh", "-c", recipe }, { env = environment, cwd = kit.folder })
    assert.equal(0, program.status, program.errors)
    check_parts(kit, 10)
    assert.equal(COUNT, #kit:taken())
    -- The same command again runs nothing.
    assert.equal(0, helper.run({ "/bin/sh", "-c", recipe }, { env = environment, cwd = kit.folder }).status)
    assert.equal(COUNT, #kit:taken())
  end))

  it("a Kubernetes Job runs every index, and goes on with one that was killed", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "question", hang = true, times = 1 } } } }
    local environment = set_up(kit)
    local command = page:match "\n            %- (exec parley batch.-)\n          volumeMounts":gsub("\n%s+", " ")
      :gsub("/data/", kit.folder .. "/")
    local function start(index)
      return helper.start({ "/bin/sh", "-c", command },
        { env = helper.environment(environment, { JOB_COMPLETION_INDEX = tostring(index) }), cwd = "/" })
    end
    local killed
    for index = 0, 9 do
      local program <close> = start(index)
      if not killed then -- the first question has no answer; killed before that is noted, the next would have none
        helper.eventually(function() return program.status or #helper.names_in(kit.folder .. "/uses-1") > 0 end)
      end
      if not killed and not program.status then
        killed = index
        program:kill "sigkill"
        program:wait()
        assert.equal(9, program.signal) -- it is parley itself, for the shell has made way
      else
        assert.equal(0, program:wait().status, program.errors)
      end
    end
    local again <close> = start(killed)
    assert.equal(0, again:wait().status, again.errors)
    check_parts(kit, 10)
  end))
end)
