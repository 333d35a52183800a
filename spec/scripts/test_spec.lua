local uv = require "luv"
local files = require "parley.base.files"
local helper = require "spec.helper"

local SPEC = [[
local testing = require "parley.testing"
local parley = require "parley"
local routing = require "routing"

describe("my routing", function()
  it("answers %s", testing.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "weather", text = "sunny" } } } }
    local live <close> = parley.session(kit.options)
    live:start()
    assert.is_true(live.process:is_alive())
    assert.equal("%s", routing.name)
  end))
end)
]]

describe("parley test", function()
  local folder

  before_each(function()
    folder = helper.temporary_folder()
    files.make_folder(folder .. "/spec")
  end)

  after_each(helper.remove_folders)

  local function run(words, more)
    return helper.run({ helper.host, "test", table.unpack(words) }, { cwd = folder,
      env = { "PATH=/usr/bin:/bin", "HOME=" .. folder, table.unpack(more or {}) } })
  end

  local function write_spec(name, module_name)
    return helper.write(("%s/spec/%s_spec.lua"):format(folder, name), SPEC:format(name, module_name or "mine"))
  end

  it("runs the specs of a folder with the kit and the user's own modules", helper.task(function()
    helper.write(folder .. "/routing.lua", 'return { name = "mine" }')
    write_spec "one"
    local program = run {}
    assert.matches("1 success / 0 failures / 0 errors", program.output, 1, true)
    assert.equal("", program.errors)
    assert.equal(0, program.status)
  end))

  it("finds modules in lua/ too, and init.lua", helper.task(function()
    for _, path in ipairs { "/lua/routing.lua", "/routing/init.lua", "/lua/routing/init.lua" } do
      files.make_folder((folder .. path):match "^(.*)/")
      helper.write(folder .. path, 'return { name = "mine" }')
      write_spec "one"
      assert.equal(0, run({}).status, path)
      assert(uv.fs_unlink(folder .. path))
    end
  end))

  it("exits with 1 when a spec fails", helper.task(function()
    helper.write(folder .. "/routing.lua", 'return { name = "another" }')
    write_spec "one"
    local program = run {}
    assert.equal(1, program.status)
    assert.matches("0 successes / 1 failure / 0 errors", program.output, 1, true)
    assert.equal("", program.errors)
  end))

  it("names the spec's line for what the library has raised", helper.task(function()
    helper.write(folder .. "/spec/one_spec.lua", [[
local testing = require "parley.testing"
describe("a turn", function()
  it("fails", testing.task(function()
    local kit <close> = testing.kit()
    local backend <close> = require("parley").backend(kit.options)
    local answer = backend:conversation():ask "ERR400"
    assert.equal("", answer.text)
  end))
  it("fails in a task of its own", testing.task(function()
    require("parley").task.spawn(function()
      require("parley").backend { modle = "x" }
    end):await()
  end))
end)
]])
    local program = run {}
    assert.equal(1, program.status)
    assert.matches("\nspec/one_spec.lua:6: SessionError: the turn ended with error_api", program.output, 1, true)
    assert.matches("\nspec/one_spec.lua:11: ValueError: parley.backend has no option 'modle'", program.output, 1, true)
  end))

  it("exits with 1 when a spec does not load", helper.task(function()
    write_spec "one"
    local program = run {}
    assert.equal(1, program.status)
    assert.matches("module 'routing' not found", program.output, 1, true)
  end))

  it("passes files and options on to busted", helper.task(function()
    helper.write(folder .. "/routing.lua", 'return { name = "mine" }')
    write_spec "one"
    write_spec("two", "not this")
    local program = run { "spec/one_spec.lua", "-o", "TAP" }
    assert.matches("ok 1 - my routing answers one", program.output, 1, true)
    assert.equal(0, program.status)
    assert.equal(0, run({ "--filter", "one" }).status)
    assert.equal(1, run({ "--filter=two" }).status)
  end))

  it("says when an option is unknown to busted", helper.task(function()
    local program = run { "--nonsense" }
    assert.equal(1, program.status)
    assert.matches("busted: error: unknown/bad flag: --nonsense", program.errors, 1, true)
  end))

  it("says when there are no specs", helper.task(function()
    assert(uv.fs_rmdir(folder .. "/spec"))
    local program = run {}
    assert.equal(1, program.status)
    assert.equal(("parley: ValueError: there is no folder 'spec' in %s: name a file or a folder of specs\n"):format(
      uv.fs_realpath(folder)), program.errors)
    assert.matches("Cannot find file or directory: my_spec.lua", run({ "my_spec.lua" }).output, 1, true)
  end))

  describe("without busted", function()
    --- A search path on which only these modules are.
    local function path_of(modules)
      for name, place in pairs(modules) do
        local target = folder .. "/modules/" .. name .. ".lua"
        files.make_folder(target:match "^(.*)/")
        helper.write(target, assert(files.read(place)))
      end
      return { "LUA_PATH=" .. folder .. "/modules/?.lua", "LUA_PATH_5_4=" .. folder .. "/modules/?.lua" }
    end

    local function place(name) return assert(package.searchpath(name, package.path)) end

    it("says how to get it", helper.task(function()
      local program = run({}, path_of { argparse = place "argparse" })
      assert.equal(1, program.status)
      assert.matches("^parley: [^\n]*busted is not installed %(apt install lua%-busted[^\n]*\n$", program.errors)
    end))

    it("names the part that is missing", helper.task(function()
      local program = run({}, path_of { argparse = place "argparse", ["busted/runner"] = place "busted.runner" })
      assert.equal(1, program.status)
      assert.matches("its module 'pl.path' is missing", program.errors, 1, true)
    end))
  end)
end)
