local helper = require "spec.helper"
local scope = require "parley.sleep.scope"

describe("the scope of a session", function()
  after_each(helper.remove_folders)
  local BASE = { cwd = "/", extra_env = { HOME = "/home/a" } }

  local function with(changes)
    local set = {}
    for name, value in pairs(BASE) do set[name] = value end
    for name, value in pairs(changes) do set[name] = value end
    return scope.of(set)
  end

  for name, value in pairs { cwd = "/tmp", system_prompt = "x", append_system_prompt = "x", allowed_tools = { "Read" },
    disallowed_tools = { "Read" }, mcp_config = "{}", add_dir = "/tmp", settings = "{}", extra_args = { "--verbose" },
    mcp_servers = { one = { command = "x" } }, extra_env = { HOME = "/home/a", OTHER = "x" } } do
    it("differs by " .. name, function() assert.not_equal(scope.of(BASE), with { [name] = value }) end)
  end

  for name, value in pairs { model = "haiku", effort = "low", permission_mode = "plan", executable = "/claude",
    dimensions = { rows = 50, columns = 90 }, extra_env = { HOME = "/home/b" }, max_sessions = 3 } do
    it("does not differ by " .. name, function() assert.equal(scope.of(BASE), with { [name] = value }) end)
  end

  it("is the same for a list of one and the one", function()
    assert.equal(with { add_dir = "/tmp" }, with { add_dir = { "/tmp" } })
  end)

  it("is of the folder itself, however it is named", function()
    local folder = helper.temporary_folder()
    assert.equal(with { cwd = folder }, with { cwd = folder .. "/../" .. folder:match "[^/]*$" })
  end)

  it("says names alone of the variables", function()
    assert.same({ "A", "B" }, scope.env_names { extra_env = { B = "2", A = "1" } })
  end)
end)
