local uv = require "luv"
local files = require "parley.base.files"
local task = require "parley.base.task"
local helper = require "spec.helper"

local function mode_of(path) return assert(uv.fs_stat(path)).mode & 511 end

local error_of = helper.error_of

describe("files", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  describe("save", function()
    it("writes a file that another program makes meanwhile", function()
      local stat = uv.fs_stat
      function uv.fs_stat(name)
        uv.fs_stat = stat
        local found = stat(name)
        files.put(name, "theirs", "w")
        return found
      end
      files.save(folder .. "/new", "ours")
      assert.equal("ours", files.read(folder .. "/new"))
    end)

    it("goes through a link, and refuses one that leads nowhere", function()
      assert(uv.fs_symlink("real", folder .. "/link"))
      local err = helper.failure_of("ValueError", files.save, folder .. "/link", "x")
      assert.equal(("'%s/link' is a link to 'real', which is not there"):format(folder), err.message)
      files.write(folder .. "/real", "old")
      files.save(folder .. "/link", "new")
      assert.same({ "new", "link" }, { files.read(folder .. "/real"), uv.fs_lstat(folder .. "/link").type })
    end)

    it("keeps the mode of a file that it replaces, and gives a new one to nobody else", function()
      local path = folder .. "/page"
      files.save(path, "new")
      assert.equal("600", ("%o"):format(mode_of(path)))
      for _, mode in ipairs { "644", "400", "664" } do
        assert(uv.fs_chmod(path, tonumber(mode, 8)))
        files.save(path, mode)
        assert.same({ mode, mode }, { files.read(path), ("%o"):format(mode_of(path)) })
      end
    end)

    it("lets nobody into what takes the place of another's file", function()
      local path = helper.write(folder .. "/page", "old", "664")
      if not uv.fs_chown(path, 12345, 12345) then return pending "root alone gives files away" end
      files.save(path, "new")
      assert.equal("600", ("%o"):format(mode_of(path)))
    end)

    it("leaves a pipe where it is, and writes into it", helper.task(function()
      assert.equal(0, helper.run({ "/usr/bin/mkfifo", folder .. "/pipe" }).status)
      local reader <close> = helper.start { "/bin/cat", folder .. "/pipe" }
      files.save(folder .. "/pipe", "a page")
      assert.equal("a page", reader:wait().output)
      assert.equal("fifo", uv.fs_lstat(folder .. "/pipe").type)
    end))

    it("says what it cannot write", function()
      assert.matches("^cannot write '", helper.failure_of("ENOENT", files.save, folder .. "/none/x", "x").message)
      assert.matches("^cannot write '", helper.failure_of("EISDIR", files.save, folder, "x").message)
    end)
  end)

  describe("check_save", function()
    it("leaves all as it was where a file can be written", function()
      files.write(folder .. "/old", "old")
      assert(uv.fs_symlink("old", folder .. "/link"))
      for _, path in ipairs { "/old", "/link", "/new" } do files.check_save(folder .. path) end
      files.check_save "/dev/null"
      assert.same({ "link", "old" }, helper.names_in(folder))
      assert.equal("old", files.read(folder .. "/old"))
    end)

    it("raises what save would raise", function()
      assert(uv.fs_symlink("nowhere", folder .. "/link"))
      for _, path in ipairs { folder .. "/none/x", folder .. "/link", "/sys/parley-spec", folder .. "/"
        .. ("x"):rep(255) } do
        assert.equal(tostring(error_of(files.save, path, "x")), tostring(error_of(files.check_save, path)))
      end
    end)
  end)

  describe("write", function()
    it("writes the bytes, readable by nobody else", function()
      files.write(folder .. "/a", "one\0two\n")
      assert.equal("one\0two\n", files.read(folder .. "/a"))
      assert.equal("600", ("%o"):format(mode_of(folder .. "/a")))
    end)

    it("writes an empty file, and a large one", function()
      local large = ("0123456789abcdef"):rep(200000)
      files.write(folder .. "/empty", "")
      files.write(folder .. "/large", large)
      assert.equal("", files.read(folder .. "/empty"))
      assert.is_true(files.read(folder .. "/large") == large)
    end)

    it("replaces a file as a whole: whoever has the old one open reads it on", function()
      helper.write(folder .. "/a", "old", "644")
      local old <close> = assert(io.open(folder .. "/a"))
      files.write(folder .. "/a", "new")
      assert.same({ "old", "new" }, { old:read "a", files.read(folder .. "/a") })
      assert.equal("600", ("%o"):format(mode_of(folder .. "/a")))
    end)

    it("leaves nothing beside it", function()
      files.write(folder .. "/a", "x")
      assert.same({ "a" }, helper.names_in(folder))
    end)

    it("is not disturbed by what a killed process of the same number left", function()
      helper.write(("%s/a.%d.tmp"):format(folder, uv.os_getpid()), "half")
      files.write(folder .. "/a", "whole")
      assert.equal("whole", files.read(folder .. "/a"))
      assert.same({ "a" }, helper.names_in(folder))
    end)

    it("in a missing folder raises ENOENT that names the file", function()
      local path = folder .. "/missing/a"
      local err = error_of(files.write, path, "x")
      assert.same({ "ENOENT", path }, { err.code, err.path })
      assert.equal(("ENOENT: cannot write '%s': no such file or directory"):format(path), tostring(err))
      assert.same({}, helper.names_in(folder))
    end)

    it("below a file raises ENOTDIR", function()
      helper.write(folder .. "/file", "")
      assert.equal("ENOTDIR", error_of(files.write, folder .. "/file/a", "x").code)
      assert.same({ "file" }, helper.names_in(folder))
    end)

    it("over a folder raises, and leaves it and no temporary file", function()
      assert(uv.fs_mkdir(folder .. "/a", 448))
      assert.equal("EISDIR", error_of(files.write, folder .. "/a", "x").code)
      assert.same({ "a" }, helper.names_in(folder))
    end)

    it("where nobody may write raises the system's code", function()
      local codes = { EACCES = true, EPERM = true, EROFS = true } -- root gets one of these, too
      local err = error_of(files.write, "/sys/parley-spec", "x")
      assert.is_true(codes[err.code], tostring(err))
    end)

    it("that fails half-way keeps the old file and no temporary one", helper.task(function()
      helper.write(folder .. "/a", "old")
      local program = helper.run { "sh", "-c", ([[ulimit -f 1; exec "$0" -e '
        local stock = require("parley.testing").leaks()
        local ok, err = pcall(require("parley.base.files").write, "%s/a", ("x"):rep(100000))
        print(ok, err.code, #stock:found())']]):format(folder), helper.host }
      assert.equal("false\tEFBIG\t0\n", program.output, program.errors)
      assert.equal("old", files.read(folder .. "/a"))
      assert.same({ "a" }, helper.names_in(folder))
    end))
  end)

  describe("put", function()
    it("writes behind what is there, in its place, or only where nothing is", function()
      local path = folder .. "/a"
      assert.is_true(files.put(path, "one", "a"))
      assert.equal(384, mode_of(path))
      assert.is_true(files.put(path, " two", "a"))
      assert.equal("one two", files.read(path))
      local problem = select(2, files.put(path, "x", "wx"))
      assert.truthy(problem:find "^EEXIST")
      assert.is_true(files.put(path, "three", "w"))
      assert.equal("three", files.read(path))
      assert.is_true(files.put(folder .. "/b", "x", "wx"))
    end)

    it("leaves nothing where nothing was when that cannot be written", helper.task(function()
      local program = helper.run { "sh", "-c", ([[ulimit -f 0; exec "$0" -e '
        io.stderr:write(select(3, require("parley.base.files").put("%s/a", "x", "wx")))']]):format(folder),
        helper.host }
      assert.equal("EFBIG", program.errors)
      assert.same({}, helper.names_in(folder))
    end))

    it("gives nil and a problem where it cannot", function()
      local ok, problem = files.put(folder .. "/missing/a", "x", "a")
      assert.is_nil(ok)
      assert.truthy(problem:find "^ENOENT")
      ok, problem = files.put("/dev/full", "x", "a")
      assert.is_nil(ok)
      assert.truthy(problem:find "^ENOSPC")
    end)
  end)

  describe("size", function()
    it("is that of the file, and nil when nothing is there", function()
      helper.write(folder .. "/a", "abc")
      assert.equal(3, files.size(folder .. "/a"))
      assert.is_nil(files.size(folder .. "/b"))
    end)
  end)

  describe("entries", function()
    it("are what is in a folder, with their kinds", function()
      assert(files.make_folder(folder .. "/inside"))
      helper.write(folder .. "/file", "")
      local kinds = {}
      for _, entry in ipairs(files.entries(folder)) do kinds[entry.name] = entry.type end
      assert.same({ inside = "directory", file = "file" }, kinds)
      assert.same({}, files.entries(folder .. "/missing"))
      assert.same({}, files.entries(folder .. "/file"))
    end)

    it("say whether they are all", function()
      assert.is_true((select(2, files.entries(folder))))
      assert.is_false((select(2, files.entries(folder .. "/missing"))))
    end)

    it("are all of them in a large folder", function()
      for i = 1, 600 do helper.write(("%s/%d"):format(folder, i), "") end
      assert.equal(600, #files.entries(folder))
    end)

    it("leave nothing behind in luv", function()
      local function kept()
        collectgarbage()
        collectgarbage()
        local count = 0
        for key in next, debug.getregistry() do count = count + (type(key) == "number" and 1 or 0) end
        return count
      end
      local before = kept()
      for _ = 1, 20 do
        files.entries(folder)
        files.entries(folder .. "/missing")
      end
      assert.equal(before, kept())
    end)
  end)

  describe("names", function()
    it("are those in a folder, sorted, and none when it is not there", function()
      for _, name in ipairs { "b", "c", "a" } do helper.write(folder .. "/" .. name, "") end
      assert.same({ "a", "b", "c" }, files.names(folder))
      assert.same({}, files.names(folder .. "/missing"))
    end)
  end)

  describe("read", function()
    it("gives nil and a problem for what is not there or no file", function()
      for _, path in ipairs { folder .. "/missing", folder } do
        local text, problem = files.read(path)
        assert.is_nil(text)
        assert.is_string(problem)
      end
    end)
  end)

  describe("make_folder", function()
    it("makes it and those above it for the user alone", function()
      assert.is_true(files.make_folder(folder .. "/a/b/c"))
      for _, path in ipairs { "/a", "/a/b", "/a/b/c" } do
        assert.equal("700", ("%o"):format(mode_of(folder .. path)))
      end
    end)

    it("takes a path that ends with slashes", function()
      assert.is_true(files.make_folder(folder .. "/a/b/c//"))
      assert.equal("directory", uv.fs_stat(folder .. "/a/b/c").type)
    end)

    it("is content with one that exists, and leaves its mode", function()
      assert(uv.fs_mkdir(folder .. "/a", tonumber("755", 8)))
      assert.is_true(files.make_folder(folder .. "/a"))
      assert.equal("755", ("%o"):format(mode_of(folder .. "/a")))
    end)

    it("makes one below the working folder", helper.task(function()
      local program = helper.run({ helper.host, "-e", [[
        local files = require "parley.base.files"
        for _, path in ipairs { "a/b/", "c", "c/../d//e", ".", "/", "//" } do
          print(path, files.make_folder(path))
        end]] }, { cwd = folder })
      assert.equal("a/b/\ttrue\nc\ttrue\nc/../d//e\ttrue\n.\ttrue\n/\ttrue\n//\ttrue\n", program.output)
      for _, path in ipairs { "/a/b", "/c", "/d/e" } do
        assert.equal("directory", uv.fs_stat(folder .. path).type)
      end
    end))

    it("makes one behind a link to a folder", function()
      assert(uv.fs_mkdir(folder .. "/a", 448))
      assert(uv.fs_symlink(folder .. "/a", folder .. "/link"))
      assert.is_true(files.make_folder(folder .. "/link/b"))
      assert.is_true(files.make_folder(folder .. "/link"))
      assert.equal("directory", uv.fs_stat(folder .. "/a/b").type)
    end)

    -- Each in a process of its own, for what never ends cannot be interrupted.
    local long = ("n"):rep(300)
    local in_the_way = {
      ["dangling"] = { "EEXIST", "'%s/dangling' is a link to nothing" },
      ["dangling/"] = { "EEXIST", "'%s/dangling' is a link to nothing" },
      ["dangling/a"] = { "EEXIST", "'%s/dangling' is a link to nothing" },
      ["dangling/a/b/c"] = { "EEXIST", "'%s/dangling' is a link to nothing" },
      ["loop"] = { "EEXIST", "'%s/loop' is a link that leads back to itself" },
      ["loop/a/b"] = { "ELOOP", "'%s/loop' is a link that leads back to itself" },
      ["file"] = { "EEXIST", "'%s/file' is a file" },
      ["file//"] = { "EEXIST", "'%s/file' is a file" },
      ["file/a/b"] = { "ENOTDIR", "'%s/file' is a file" },
      [long] = { "ENAMETOOLONG", "name too long in '%s'" },
      [long .. "/a/b"] = { "ENAMETOOLONG", "name too long in '%s'" },
      [("n/"):rep(3000)] = { "ENAMETOOLONG", "name too long in '%s'" },
      ["/proc/a/b"] = { "ENOENT", "no such file or directory in '/proc'" },
      [""] = { "ENOENT", "no such file or directory in '.'" },
    }
    for path, expected in pairs(in_the_way) do
      it(("says what is in the way of '%s'"):format(path:sub(1, 20)), helper.task(function()
        helper.write(folder .. "/file", "")
        assert(uv.fs_symlink(folder .. "/none/at/all", folder .. "/dangling"))
        assert(uv.fs_symlink("loop", folder .. "/loop"))
        local whole = path:find "^[%l]" and folder .. "/" .. path or path
        local program = helper.run { helper.host, "-e", [[
          local made, err = require("parley.base.files").make_folder(...)
          print(made, err.code)
          print(err.message)]], whole }
        assert.equal(("nil\t%s\ncannot make the folder '%s': %s\n"):format(expected[1], whole:gsub("(.)/+$", "%1"),
          expected[2]:format(folder)), program.output, program.errors)
      end, 30000))
    end

    it("says where nothing may be made", helper.task(function()
      assert(uv.fs_mkdir(folder .. "/closed", 320))
      local word = [[print(select(2, require("parley.base.files").make_folder(...)).message)]]
      local argv = { helper.host, "-e", word, folder .. "/closed/a/b" }
      if uv.getuid() == 0 then -- who may do everything becomes nobody, who must reach the host
        local able = helper.run { "/bin/sh", "-c", 'setpriv --reuid=65534 --clear-groups "$0" --version', helper.host }
        if able.status ~= 0 then return pending "needs setpriv" end
        assert(uv.fs_chown(folder, 65534, 65534))
        assert(uv.fs_chown(folder .. "/closed", 65534, 65534))
        table.move({ "setpriv", "--reuid=65534", "--clear-groups", table.unpack(argv) }, 1, #argv + 3, 1, argv)
      end
      local program = helper.run(argv)
      local said = ("cannot make the folder '%s/a/b': permission denied in '%s'\n"):gsub("%%s", folder .. "/closed")
      assert.equal(said, program.output, program.errors)
    end))
  end)

  describe("temporary_folder", function()
    it("is new each time, and private", function()
      local one, two = files.temporary_folder "parley-spec", files.temporary_folder "parley-spec"
      local modes = { mode_of(one), mode_of(two) }
      files.remove_tree(one)
      files.remove_tree(two)
      assert.not_equal(one, two)
      assert.matches("/parley%-spec%-%w+$", one)
      assert.same({ 448, 448 }, modes)
    end)

    it("raises with the system's code where none can be made", helper.task(function()
      local program = helper.run({ helper.host, "-e", [[
        print(select(2, pcall(require("parley.base.files").temporary_folder, "x")))]] },
        { env = { "TMPDIR=" .. folder .. "/missing" } })
      assert.equal(("ENOENT: cannot make a folder in '%s/missing': no such file or directory\n"):format(folder),
        program.output)
    end))
  end)

  describe("remove_tree", function()
    it("removes a folder and all below it", function()
      files.make_folder(folder .. "/t/a/b")
      helper.write(folder .. "/t/a/b/file", "")
      helper.write(folder .. "/t/.hidden", "")
      files.remove_tree(folder .. "/t")
      assert.same({}, helper.names_in(folder))
    end)

    it("removes links, not what they point to", function()
      files.make_folder(folder .. "/kept")
      helper.write(folder .. "/kept/file", "")
      files.make_folder(folder .. "/t")
      assert(uv.fs_symlink(folder .. "/kept", folder .. "/t/link"))
      files.remove_tree(folder .. "/t")
      assert.same({ "kept" }, helper.names_in(folder))
      assert.same({ "file" }, helper.names_in(folder .. "/kept"))
    end)

    it("removes a link that it is given, and nothing behind it", function()
      files.make_folder(folder .. "/kept")
      helper.write(folder .. "/kept/file", "")
      for _, path in ipairs { "/link", "/link/" } do
        assert(uv.fs_symlink(folder .. "/kept", folder .. "/link"))
        files.remove_tree(folder .. path)
        assert.same({ "kept" }, helper.names_in(folder))
        assert.same({ "file" }, helper.names_in(folder .. "/kept"))
      end
    end)

    it("is content with what is not there", function()
      files.remove_tree(folder .. "/missing")
    end)
  end)

  it("never waits, so it works outside of a task", function()
    local ran
    local timer = uv.new_timer()
    timer:start(0, 0, function()
      timer:close()
      files.write(folder .. "/a", "x")
      ran = files.read(folder .. "/a")
    end)
    task.run(helper.eventually, function() return ran end)
    assert.equal("x", ran)
  end)
end)
