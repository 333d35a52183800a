local helper = require "spec.helper"
local parley = require "parley"
local paths = require "parley.claude.paths"
local tables = require "parley.base.tables"
local testing = require "parley.testing"
local uv = require "luv"

local ID = "6d1c9e3a-8f62-4a86-9c5e-0f3d2b7a4e11"

local error_of = helper.error_of

-- The expected names were measured with the real program (CLAUDE-CODE.md).
describe("paths.encode_project", function()
  it("keeps ASCII letters and digits and replaces the rest", function()
    assert.equal("-home-me-My-Project-2-0", paths.encode_project "/home/me/My Project_2.0")
  end)

  it("replaces each UTF-16 unit, so that an emoji gives two", function()
    assert.equal("-tmp-cc--------", paths.encode_project "/tmp/ccü/日本/é😀")
  end)

  it("keeps a name of 200 units whole", function()
    assert.equal(("-%s"):format(("a"):rep(199)), paths.encode_project("/" .. ("a"):rep(199)))
  end)

  it("hashes a longer one", function()
    local folders = {}
    for _ = 1, 5 do table.insert(folders, ("d"):rep(50)) end
    local path = "/tmp/" .. table.concat(folders, "/")
    assert.equal(259, #path)
    local name = paths.encode_project(path)
    assert.equal(path:gsub("/", "-"):sub(1, 200) .. "-2gz2nb", name)
  end)

  it("hashes another one", function()
    local folders = {}
    for _ = 1, 4 do table.insert(folders, ("e"):rep(49)) end
    local path = "/tmp/" .. table.concat(folders, "/") .. "/fffff"
    assert.equal(210, #path)
    assert.equal(path:gsub("/", "-"):sub(1, 200) .. "-fci5tj", paths.encode_project(path))
  end)

  it("drops the sign of a hash that is negative", function() -- not measured: by JavaScript's Math.abs(h).toString(36)
    assert.equal(("-%s-b6ymvl"):format(("a"):rep(199)), paths.encode_project("/" .. ("a"):rep(200)))
  end)

  it("counts units, not bytes, up to the limit", function()
    assert.equal(("-"):rep(200), paths.encode_project("/" .. ("日"):rep(199)))
    assert.equal(("-"):rep(200), paths.encode_project(("😀"):rep(100)))
    assert.matches("^" .. ("%-"):rep(201) .. "%w+$", paths.encode_project(("😀"):rep(101)))
  end)

  it("takes a path that is not UTF-8", function()
    assert.equal("-tmp--x", paths.encode_project "/tmp/\xffx")
  end)
end)

describe("paths.config_folder", function()
  it("is CLAUDE_CONFIG_DIR, else .claude in the home", function()
    assert.equal("/c", paths.config_folder { CLAUDE_CONFIG_DIR = "/c", HOME = "/h" })
    assert.equal("/h/.claude", paths.config_folder { HOME = "/h" })
    assert.equal("/h/.claude", paths.config_folder { CLAUDE_CONFIG_DIR = "", HOME = "/h" })
  end)

  it("starts from the program's folder where it is relative", function()
    assert.equal("/w/c", paths.config_folder({ CLAUDE_CONFIG_DIR = "c" }, "/w"))
    assert.equal("/c", paths.config_folder({ CLAUDE_CONFIG_DIR = "/c" }, "/w"))
    assert.equal("/h/.claude", paths.config_folder({ CLAUDE_CONFIG_DIR = "", HOME = "/h" }, "/w"))
  end)

  it("is relative to a folder that is not the host's, for the program and for who reads its files",
    helper.task(function()
      local kit <close> = testing.kit {}
      kit.options.extra_env = tables.merged(kit.options.extra_env, { CLAUDE_CONFIG_DIR = "../home/.claude" })
      local backend <close> = parley.backend(kit.options)
      assert.equal("echo: one", backend:conversation():ask("one").text)
    end))

  it("has no slash at its end", function()
    assert.equal("/c/d", paths.config_folder { CLAUDE_CONFIG_DIR = "/c/d//" })
    assert.equal("/", paths.config_folder { CLAUDE_CONFIG_DIR = "/" })
  end)

  it("asks the system for a home that the environment does not name", function()
    assert.matches("^/.*/%.claude$", paths.config_folder {})
  end)
end)

describe("paths.real_folder", function()
  local folder
  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  it("resolves symbolic links", function()
    assert(uv.fs_mkdir(folder .. "/real", 448))
    assert(uv.fs_symlink(folder .. "/real", folder .. "/link"))
    assert.equal(folder .. "/real", paths.real_folder(folder .. "/link"))
    assert.equal(folder .. "/real", paths.real_folder(folder .. "/link/../real/."))
  end)

  it("is the host's own by default", function()
    assert.equal(assert(uv.fs_realpath(uv.cwd())), paths.real_folder())
  end)

  it("refuses the host's own when that was removed", helper.task(function()
    assert(uv.fs_mkdir(folder .. "/gone", 448))
    local chunk = "require('parley.claude.paths').real_folder()"
    local script = ('cd %s/gone && rmdir ../gone && exec %s -e "%s"'):format(folder, helper.host, chunk)
    local program = helper.run { "/bin/sh", "-c", script }
    assert.matches("the working directory '.' cannot be used: no such file or directory", program.errors)
    assert.equal(1, program.status)
  end))

  it("refuses what is missing or no folder, and names it", function()
    helper.write(folder .. "/file", "")
    for _, name in ipairs { "/missing", "/file", "/file/below" } do
      local err = error_of(paths.real_folder, folder .. name)
      assert.same({ "ValueError", "cwd" }, { err.code, err.option })
      assert.truthy(err.message:find(folder .. name, 1, true), err.message)
    end
  end)
end)

describe("paths.resolve_jsonl_path", function()
  local folder
  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  it("follows from the config folder, the real working directory and the session", function()
    assert(uv.fs_mkdir(folder .. "/ü", 448))
    assert(uv.fs_symlink(folder .. "/ü", folder .. "/link"))
    local expected = ("/c/projects/%s--/%s.jsonl"):format(folder:gsub("[^%w]", "-"), ID)
    assert.equal(expected, paths.resolve_jsonl_path(ID, folder .. "/link", { CLAUDE_CONFIG_DIR = "/c" }))
  end)

  it("uses the host's folder and environment by default", function()
    local path = paths.resolve_jsonl_path(ID)
    local project = paths.encode_project(paths.real_folder())
    assert.equal(("%s/projects/%s/%s.jsonl"):format(paths.config_folder(uv.os_environ()), project, ID), path)
  end)

  it("refuses a session id that could name another path", function()
    local refused = { "", "..", "../x", "/etc/passwd", ID .. "/..", "../" .. ID, ID .. "\0", ID:gsub("-", "/"), 5, {} }
    for _, id in ipairs(refused) do
      assert.equal("ValueError", error_of(paths.resolve_jsonl_path, id, folder, {}).code)
    end
    assert.equal("ValueError", error_of(paths.resolve_jsonl_path, nil, folder, {}).code)
  end)

  it("refuses a working directory that does not exist", function()
    assert.equal("cwd", error_of(paths.resolve_jsonl_path, ID, folder .. "/missing", {}).option)
  end)
end)

describe("paths.relative", function()
  for path, relative in pairs {
    ["/a/b/project/sub/new.txt"] = "sub/new.txt", ["/a/b/project"] = "", ["/a/b/projects/y"] = "../projects/y",
    ["/a/b/other/old.txt"] = "../other/old.txt", ["/made.txt"] = "../../../made.txt",
    ["/a/b/project/../near.txt"] = "../near.txt", ["/a/./b//project/c"] = "c", ["sub/new.txt"] = "sub/new.txt",
  } do
    it("leads from a folder to " .. path, function() assert.equal(relative, paths.relative("/a/b/project", path)) end)
  end
end)

describe("paths.status_file", function()
  it("is named after the process", function()
    assert.equal("/c/sessions/1234.json", paths.status_file(1234, { CLAUDE_CONFIG_DIR = "/c" }))
  end)
end)

describe("paths.transcript_problem", function()
  local folder, path

  before_each(function()
    folder = helper.temporary_folder()
    path = folder .. "/projects/-work/" .. ID .. ".jsonl"
  end)

  after_each(helper.remove_folders)

  local function make_folders()
    assert(uv.fs_mkdir(folder .. "/projects", 448))
    assert(uv.fs_mkdir(folder .. "/projects/-work", 448))
  end

  it("has none with a transcript, nor with folders that are missing", function()
    assert.is_nil(paths.transcript_problem(path))
    make_folders()
    assert.is_nil(paths.transcript_problem(path))
    helper.write(path, "")
    assert.is_nil(paths.transcript_problem(path))
    assert.is_nil(paths.transcript_problem(ID .. ".jsonl"))
  end)

  it("names a file that stands where a folder should", function()
    helper.write(folder .. "/projects", "")
    assert.equal(("'%s/projects' is not a folder"):format(folder), paths.transcript_problem(path))
  end)

  it("has none with a folder that another program makes meanwhile", function()
    local stat = uv.fs_stat
    function uv.fs_stat(name)
      local found = stat(name)
      if name == folder .. "/projects/-work" then
        uv.fs_stat = stat
        make_folders()
      end
      return found
    end
    assert.is_nil(paths.transcript_problem(path))
  end)

  it("names a link that leads nowhere", function()
    assert(uv.fs_symlink("/nowhere/at/all", folder .. "/projects"))
    assert.equal(("'%s/projects' is a link that leads nowhere"):format(folder), paths.transcript_problem(path))
  end)

  it("names what is no file in the transcript's place", function()
    make_folders()
    assert(uv.fs_mkdir(path, 448))
    assert.equal(("'%s' is not a file"):format(path), paths.transcript_problem(path))
  end)

  it("names a folder of a file system that is read-only", helper.task(function()
    local own = uv.getuid() == 0 and "-m" or "-rm"
    if helper.run({ "/usr/bin/unshare", own, "true" }).status ~= 0 then return pending "no mounts of our own" end
    local script = helper.write(folder .. "/look.lua", [[
      print(require("parley.claude.paths").transcript_problem(...))]])
    local ran = helper.run { "/usr/bin/unshare", own, "sh", "-c", [[mkdir "$1/mnt" && mount -t tmpfs -o ro none "$1/mnt"
      exec "$2" "$3" "$1/mnt/projects/x.jsonl"]], "sh", folder, helper.host, script }
    assert.equal("", ran.errors)
    assert.equal(("the folder '%s/mnt' may not be written\n"):format(folder), ran.output)
  end))
end)

describe("paths.scratch_problem", function()
  local folder
  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  it("names a folder for temporary files that is missing, or is none", function()
    local function problem_of(name) return paths.scratch_problem({ TMPDIR = name }, folder) end
    assert.equal("there is no folder '/no/such'", problem_of "/no/such")
    assert.equal(("there is no folder '%s/none'"):format(folder), problem_of "none")
    assert.equal("'/dev/null' is not a folder", problem_of "/dev/null")
    assert(uv.fs_mkdir(folder .. "/some", 448))
    assert.is_nil(problem_of "some")
    local own = helper.write(("%s/some/claude-%d"):format(folder, uv.getuid()), "")
    assert.equal(("'%s' is not a folder"):format(own), problem_of "some")
  end)
end)
