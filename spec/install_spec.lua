-- What `make install` puts where, and that it works from there.
local files = require "parley.base.files"
local helper = require "spec.helper"

describe("make install", function()
  local build = helper.host:match "^.*/"
  local folder

  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  --- Runs make without building anything: the program that runs these specs is the one that is installed.
  local function make(target, ...)
    for _, name in ipairs { "parley.1", "parley.bash", "parley.zsh", "parley.fish" } do
      files.remove(build .. name) -- may be an older program's
    end
    local program = helper.run({ "/usr/bin/env", "make", "-s", "-o", "all", "-o", helper.host,
      "B=" .. build:sub(1, -2), target, ... }, { env = { "PATH=" .. os.getenv "PATH" } })
    assert.equal(0, program.status, program.output .. program.errors)
  end

  local function has(path) return files.read(folder .. path) ~= nil end

  it("puts the program, the library, the man page and the completions below PREFIX", helper.task(function()
    make("install", "DESTDIR=" .. folder, "PREFIX=/usr")
    local version = helper.run { folder .. "/usr/bin/parley", "--version" }
    assert.equal(helper.run({ helper.host, "--version" }).output, version.output)
    assert.equal(files.read "lua/parley/types.lua", files.read(folder .. "/usr/share/lua/5.4/parley/types.lua"))
    assert.is_true(has "/usr/share/lua/5.4/parley/core/json.lua")
    local page = assert(files.read(folder .. "/usr/share/man/man1/parley.1"))
    assert.equal(helper.run({ helper.host, "help", "--man" }).output, page)
    local completion = helper.run { "/bin/bash", "--norc", "-c",
      'source "$1" && complete -p parley', "bash", folder .. "/usr/share/bash-completion/completions/parley" }
    assert.matches("^complete .*parley\n$", completion.output)
    for option, path in pairs { ["--zsh"] = "zsh/site-functions/_parley",
      ["--fish"] = "fish/vendor_completions.d/parley.fish" } do
      assert.equal(helper.run({ helper.host, "help", option }).output, files.read(folder .. "/usr/share/" .. path))
    end
    make("uninstall", "DESTDIR=" .. folder, "PREFIX=/usr")
    assert.equal("", helper.run({ "/usr/bin/env", "find", folder, "-type", "f" }).output)
  end))

  it("gives plain Lua the library, in the folders that the rockspec names", helper.task(function()
    local version = helper.run({ helper.host, "--version" }).output:match "^parley (%S+)\n$"
    local rockspec = {}
    assert(loadfile(("parley-%s-1.rockspec"):format(version), "t", rockspec))()
    assert.equal(version .. "-1", rockspec.version)
    local words = {}
    for name, value in pairs(rockspec.build.install_variables) do
      assert.equal(("$(%s)"):format(name), value)
      table.insert(words, ("%s=%s/%s"):format(name, folder, name))
    end
    make(rockspec.build.install_target, table.unpack(words))
    local environment = helper.plain_lua_environment()
    table.insert(environment, ("LUA_PATH_5_4=%s/LUADIR/?.lua;%s/LUADIR/?/init.lua;;"):format(folder, folder))
    table.insert(environment, ("LUA_CPATH_5_4=%s/LIBDIR/?.so;;"):format(folder))
    local lua = helper.run({ "/usr/bin/env", "lua5.4", "-e", [[
      local parley = require "parley"
      print(parley.json.encode { package.searchpath("parley", package.path) })]] }, { env = environment, cwd = "/" })
    assert.equal(('["%s/LUADIR/parley/init.lua"]\n'):format(folder), lua.output, lua.errors)
    assert.is_true(has "/PREFIX/bin/parley")
  end))
end)
