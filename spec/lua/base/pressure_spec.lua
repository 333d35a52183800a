local files = require "parley.base.files"
local helper = require "spec.helper"
local pressure = require "parley.base.pressure"

describe("memory pressure", function()
  after_each(helper.remove_folders)

  --- The files of a kernel: names below the folder to their texts.
  local function kernel(texts)
    local folder = helper.temporary_folder()
    for name, text in pairs(texts) do
      assert(files.make_folder((folder .. "/" .. name):match "^(.*)/"))
      helper.write(folder .. "/" .. name, text)
    end
    return pressure.read(folder .. "/proc", folder .. "/groups")
  end

  it("is what the kernel measures", function()
    assert.same({ some = 12.5, full = 3.25 }, kernel { ["proc/pressure/memory"] =
      "some avg10=12.50 avg60=1.00 avg300=0.10 total=5\nfull avg10=3.25 avg60=0.00 avg300=0.00 total=2\n" })
  end)

  it("is nothing where it is not told", function() assert.same({}, kernel {}) end)

  it("has the use of the group that is nearest to its limit, its own or one above", function()
    local own = { ["proc/self/cgroup"] = "0::/a/b\n", ["groups/a/b/memory.max"] = "1000\n",
      ["groups/a/b/memory.current"] = "500\n", ["groups/a/memory.max"] = "max\n",
      ["groups/a/memory.current"] = "900\n" }
    assert.same({ used = 500, limit = 1000 }, kernel(own))
    own["groups/a/memory.max"] = "950\n"
    assert.same({ used = 900, limit = 950 }, kernel(own))
  end)

  it("knows the groups of older kernels, and their word for no limit", function()
    local own = { ["proc/self/cgroup"] = "4:memory:/box\n1:cpu:/\n0::/\n",
      ["groups/memory/box/memory.limit_in_bytes"] = "2000\n", ["groups/memory/box/memory.usage_in_bytes"] = "70\n",
      ["groups/memory/memory.limit_in_bytes"] = "9223372036854771712\n",
      ["groups/memory/memory.usage_in_bytes"] = "5000\n" }
    assert.same({ used = 70, limit = 2000 }, kernel(own))
  end)
end)
