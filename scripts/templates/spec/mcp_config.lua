-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  local function read(path)
    local file <close> = assert(io.open(path))
    return parley.json.decode(file:read "a")
  end

  it("leaves out a server that is not installed, and removes its file", testing.task(function()
    local kit <close> = testing.kit()
    kit.options.policies = { mcp_config = "NAME.lua" }
    kit.options.mcp_servers = {
      here = { command = "sh" }, gone = { command = "no-such-program" },
      far = { type = "http", url = "http://localhost:9/mcp" },
    }
    local path
    do
      local backend <close> = parley.backend(kit.options)
      path = backend:mcp_config_argument()[1]
      local names = {}
      for name in pairs(read(path).mcpServers) do table.insert(names, name) end
      table.sort(names)
      assert.same({ "far", "here" }, names)
    end
    assert.is_nil(io.open(path))
  end))
end)
