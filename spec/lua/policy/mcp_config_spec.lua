local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local mcp_config = require "parley.policy.mcp_config"
local uv = require "luv"

local no_leaks
before_each(function() no_leaks = helper.leaks() end)
after_each(function() no_leaks() end)

local function mode(path) return assert(uv.fs_stat(path)).mode & 511 end

describe("the default mcp_config policy", function()
  it("writes the servers into a private file", function()
    local path = mcp_config.write { files = { command = "mcp-files", args = { "--root", "/" } } }
    finally(function() mcp_config.remove(path) end)
    assert.equal('{"mcpServers":{"files":{"args":["--root","/"],"command":"mcp-files"}}}', files.read(path))
    assert.equal(tonumber("600", 8), mode(path))
    assert.equal(tonumber("700", 8), mode(path:match "^(.*)/"))
  end)

  it("keeps empty lists lists, and makes one of empty arguments", function()
    local servers = { a = { args = core.json.array {} }, b = { args = {}, env = {} } }
    local path = mcp_config.write(servers)
    finally(function() mcp_config.remove(path) end)
    assert.equal('{"mcpServers":{"a":{"args":[]},"b":{"args":[],"env":{}}}}', files.read(path))
    assert.is_false(core.json.is_array(servers.b.args))
  end)

  it("removes the file and its folder", function()
    local path = mcp_config.write {}
    mcp_config.remove(path)
    assert.is_nil(uv.fs_stat(path))
    assert.is_nil(uv.fs_stat(path:match "^(.*)/"))
    mcp_config.remove(path)
  end)

  it("leaves what it did not write", function()
    local path = helper.write(helper.temporary_folder() .. "/mcp.json", "{}")
    finally(helper.remove_folders)
    mcp_config.remove(path)
    assert.equal("{}", files.read(path))
  end)

  it("refuses what JSON cannot hold, and leaves nothing", function()
    local made = files.temporary_folder
    finally(function() files.temporary_folder = made end)
    files.temporary_folder = function() error "nothing is made for this" end
    local ok, err = pcall(mcp_config.write, { a = { command = print } })
    assert.is_false(ok)
    assert.is_true(errors.is(err, "ValueError"))
    assert.matches("mcp_servers cannot be written as JSON", err.message)
  end)

  it("leaves nothing when it cannot write", function()
    local folder, made = nil, files.temporary_folder
    local write = uv.fs_write
    finally(function() files.temporary_folder, uv.fs_write = made, write end)
    files.temporary_folder = function(name)
      folder = made(name)
      return folder
    end
    uv.fs_write = function() return nil, "ENOSPC: no space left on device", "ENOSPC" end
    local ok, err = pcall(mcp_config.write, {})
    assert.is_false(ok)
    assert.equal("ENOSPC", err.code)
    assert.is_nil(uv.fs_stat(folder))
  end)
end)
