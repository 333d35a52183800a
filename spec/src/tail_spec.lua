local helper = require "spec.helper"
local uv = require "luv"
local tail = require("parley.core").tail

---Write a file anew, or with mode "a" at its end, through its name.
local function write(path, bytes, mode)
  local file <close> = assert(io.open(path, mode or "w"))
  assert(file:write(bytes))
end

local function append(path, bytes)
  write(path, bytes, "a")
end

local function open_descriptors()
  local count = 0
  local request = assert(uv.fs_scandir("/proc/self/fd"))
  while uv.fs_scandir_next(request) do
    count = count + 1
  end
  return count
end

describe("core.tail", function()
  local folder, path, file

  before_each(function()
    folder = assert(uv.fs_mkdtemp("/tmp/parley-tail-XXXXXX"))
    path = folder .. "/a.jsonl"
  end)

  after_each(function()
    if file then
      file:close()
      file = nil
    end
    assert.is_true(os.execute("rm -rf " .. folder))
  end)

  ---Check that these are the events that come now: a line's text, or an event's name in brackets.
  local function assert_events(...)
    local expected, events = { ... }, {}
    repeat
      local event, text = file:next()
      assert.is_nil(not event and text or nil)
      events[#events + 1] = event == "line" and text or event and "[" .. event .. "]"
    until not event
    assert.same(expected, events)
  end

  it("offers what its stub says", function()
    local stub = dofile("lua/parley/core/tail.lua")
    assert.is_function(stub.open)
    assert.is_function(tail.open)
    assert.is_nil(next(tail, next(tail)))
  end)

  describe("lines", function()
    it("come whole, in order, with the offset after them", function()
      write(path, "one\ntwo\n")
      file = assert(tail.open(path))
      assert.same({ "line", "one", 4 }, { file:next() })
      assert.equal(4, file:offset())
      assert.same({ "line", "two", 8 }, { file:next() })
      assert.same({}, { file:next() })
      append(path, "three\n")
      assert.same({ "line", "three", 14 }, { file:next() })
      assert.equal(14, file:offset())
      assert_events()
    end)

    it("wait until they are whole", function()
      write(path, "one\nhal")
      file = assert(tail.open(path))
      assert_events("one")
      assert.equal(4, file:offset())
      assert.equal(3, file:held())
      append(path, "f a line")
      assert_events()
      assert.equal(11, file:held())
      append(path, "\nnext")
      assert_events("half a line")
      assert.equal(16, file:offset())
      assert.equal(4, file:held())
      append(path, "\n")
      assert_events("next")
    end)

    it("are whole when a read cuts a character", function()
      write(path, "a\xE2\x82")
      file = assert(tail.open(path))
      assert_events()
      append(path, "\xACb\n")
      assert_events("a\u{20ac}b")
    end)

    it("are byte for byte what was written", function()
      local bytes = {}
      for byte = 0, 255 do
        bytes[#bytes + 1] = byte ~= 10 and string.char(byte) or ""
      end
      local line = table.concat(bytes)
      write(path, line .. "\n" .. line:rep(1000) .. "\n")
      file = assert(tail.open(path))
      assert_events(line, line:rep(1000))
    end)

    it("end in LF or CRLF", function()
      write(path, "one\r\ntwo\rx\nthree\r")
      file = assert(tail.open(path))
      assert_events("one", "two\rx")
      append(path, "\n")
      assert_events("three")
      assert.equal(18, file:offset())
    end)

    it("are skipped when blank", function()
      write(path, "\n\none\n \t \n\r\ntwo\n\n")
      file = assert(tail.open(path))
      assert_events("one", "two")
      assert.equal(17, file:offset())
    end)

    it("of every length around a read's size come through", function()
      local lines = {}
      for length = 65530, 65540 do
        lines[#lines + 1] = ("x"):rep(length)
        lines[#lines + 1] = tostring(length)
      end
      write(path, table.concat(lines, "\n") .. "\n")
      file = assert(tail.open(path))
      assert_events(table.unpack(lines))
    end)

    it("come in great number", function()
      local lines = {}
      for i = 1, 50000 do
        lines[i] = "line " .. i
      end
      write(path, table.concat(lines, "\n") .. "\n")
      file = assert(tail.open(path))
      for i = 1, #lines do
        local _, text = file:next()
        assert.equal(lines[i], text)
      end
      assert_events()
    end)

    it("start at the offset given", function()
      write(path, "one\ntwo\nthree\n")
      file = assert(tail.open(path, 4))
      assert.equal(4, file:offset())
      assert.same({ "line", "two", 8 }, { file:next() })
      assert_events("three")
    end)
  end)

  describe("a giant line #large", function()
    local giant = 64 * 1024 * 1024

    it("comes whole at a cost that is linear, though it grows piece by piece", function()
      local piece = ("x"):rep(65535) .. "y"
      local writer <close> = assert(io.open(path, "w"))
      writer:setvbuf("no")
      file = assert(tail.open(path))
      local quarter, times = helper.long(giant // 4, giant) // #piece // 4, {}
      for i = 1, 4 do
        local started = os.clock()
        for _ = 1, quarter do
          writer:write(piece)
          assert.is_nil(file:next())
        end
        times[i] = os.clock() - started
      end
      writer:write("\nnext\n")
      local _, text, offset = file:next()
      -- Where all that is held were searched again for every piece, the last quarter would take seven times the first.
      assert.is_true(times[4] < 3 * times[1] + 0.1, ("%.2f s, then %.2f s"):format(times[1], times[4]))
      assert.equal(4 * quarter * #piece + 1, offset)
      assert.is_true(text == piece:rep(4 * quarter))
      assert_events("next")
    end)

    it("leaves no memory behind", function()
      write(path, ("x"):rep(giant) .. "\n")
      file = assert(tail.open(path))
      collectgarbage()
      local before = uv.resident_set_memory()
      local event = file:next()
      assert.equal("line", event)
      assert.is_nil(file:next())
      collectgarbage()
      assert.is_true(uv.resident_set_memory() - before < 4 * 1024 * 1024)
    end)
  end)

  describe("truncation", function()
    it("is told, and reading starts again", function()
      write(path, "one\ntwo\n")
      file = assert(tail.open(path))
      assert_events("one", "two")
      write(path, "new\n")
      assert_events("[truncated]", "new")
      assert.equal(4, file:offset())
    end)

    it("drops a half line", function()
      write(path, "one\nhalf")
      file = assert(tail.open(path))
      assert_events("one")
      write(path, "x\n")
      assert_events("[truncated]", "x")
    end)

    it("to nothing is told once", function()
      write(path, "one\n")
      file = assert(tail.open(path))
      assert_events("one")
      write(path, "")
      assert_events("[truncated]")
      assert_events()
    end)

    it("is what an offset beyond the end looks like", function()
      write(path, "one\n")
      file = assert(tail.open(path, 100))
      assert_events("[truncated]", "one")
    end)
  end)

  describe("replacement", function()
    local function replace(bytes)
      write(path .. ".new", bytes)
      assert(os.rename(path .. ".new", path))
    end

    it("by rename is told after the rest of the old file", function()
      write(path, "one\n")
      file = assert(tail.open(path))
      assert_events("one")
      append(path, "two\nhalf")
      replace("three\n")
      assert_events("two", "[replaced]", "three")
      assert.equal(6, file:offset())
      append(path, "four\n")
      assert_events("four")
    end)

    it("by a longer file is told too", function()
      write(path, "one\n")
      file = assert(tail.open(path))
      assert_events("one")
      replace("one\ntwo\nthree\n")
      assert_events("[replaced]", "one", "two", "three")
    end)

    it("by removal and creation is told", function()
      write(path, "one\n")
      file = assert(tail.open(path))
      assert_events("one")
      assert(os.remove(path))
      assert_events()
      assert.is_false(file:exists())
      write(path, "two\n")
      assert_events("[replaced]", "two")
      assert.is_true(file:exists())
    end)

    it("is none while only the old file is gone", function()
      local writer <close> = assert(io.open(path, "w"))
      writer:setvbuf("no")
      file = assert(tail.open(path))
      assert_events()
      assert(os.remove(path))
      writer:write("late\n")
      assert_events("late")
    end)

    it("many times over leaks no descriptor", function()
      write(path, "")
      file = assert(tail.open(path))
      assert_events()
      local before = open_descriptors()
      for i = 1, 50 do
        replace(i .. "\n")
        assert_events("[replaced]", tostring(i))
      end
      assert.equal(before, open_descriptors())
    end)
  end)

  describe("a missing file", function()
    it("is no error, nor is a missing folder", function()
      file = assert(tail.open(folder .. "/b/c/d.jsonl"))
      assert_events()
      assert.is_false(file:exists())
      assert(uv.fs_mkdir(folder .. "/b", 448))
      assert_events()
      assert(uv.fs_mkdir(folder .. "/b/c", 448))
      write(folder .. "/b/c/d.jsonl", "one\n")
      assert_events("one")
      assert.is_true(file:exists())
    end)

    it("is read from the offset given when it comes", function()
      file = assert(tail.open(path, 4))
      assert_events()
      write(path, "one\ntwo\n")
      assert_events("two")
    end)
  end)

  describe("what cannot be read", function()
    local function assert_error(code)
      local event, err = file:next()
      assert.is_nil(event)
      assert.equal(code, err.code)
      assert.truthy(err.message:find(folder, 1, true))
    end

    it("is an error: a folder", function()
      file = assert(tail.open(folder))
      assert_error("EISDIR")
    end)

    it("is an error: a path through a file", function()
      write(path, "")
      file = assert(tail.open(path .. "/b"))
      assert_error("ENOTDIR")
    end)

    it("is an error: a FIFO, without waiting for a writer", function()
      assert.is_true(os.execute("mkfifo " .. path))
      file = assert(tail.open(path))
      assert_error("EINVAL")
    end)

    it("is an error until it can be read: a loop of links", function()
      assert(uv.fs_symlink(path, path))
      file = assert(tail.open(path))
      assert_error("ELOOP")
      assert_error("ELOOP")
      assert(os.remove(path))
      write(path, "one\n")
      assert_events("one")
    end)

    it("is an error: a file of somebody else's", function()
      if uv.getuid() == 0 then
        return -- root may read everything
      end
      write(path, "one\n")
      assert(uv.fs_chmod(path, 0))
      file = assert(tail.open(path))
      assert_error("EACCES")
    end)

    it("is an error: a folder put in the file's place", function()
      write(path, "one\n")
      file = assert(tail.open(path))
      assert_events("one")
      assert(os.remove(path))
      assert(uv.fs_mkdir(path, 448))
      assert_error("EISDIR")
      assert_error("EISDIR")
      assert(uv.fs_rmdir(path))
      write(path, "two\n")
      assert_events("[replaced]", "two")
    end)
  end)

  describe("the object", function()
    it("closes once, and is unusable then", function()
      write(path, "one\n")
      file = assert(tail.open(path))
      assert.equal("parley.tail (" .. path .. ")", tostring(file))
      file:close()
      file:close()
      assert.equal("parley.tail (closed)", tostring(file))
      for _, method in ipairs { "next", "offset", "exists" } do
        assert.error_matches(function() file[method](file) end, "closed")
      end
    end)

    it("is closed by <close> and by the collector", function()
      write(path, "one\n")
      local leaver
      do
        local scoped <close> = assert(tail.open(path))
        leaver = scoped
        scoped:next()
      end
      assert.error_matches(function() leaver:next() end, "closed")
      collectgarbage()
      local before = open_descriptors()
      for _ = 1, 100 do
        tail.open(path):next()
      end
      collectgarbage()
      assert.equal(before, open_descriptors())
    end)

    it("hides its descriptor from children", function()
      write(path, "one\n")
      file = assert(tail.open(path))
      file:next()
      local listing <close> = assert(io.popen("ls -l /proc/self/fd"))
      assert.is_nil(listing:read("a"):find("a.jsonl", 1, true))
    end)

    it("raises on misuse", function()
      assert.error_matches(function() tail.open() end, "string expected")
      assert.error_matches(function() tail.open("") end, "path")
      assert.error_matches(function() tail.open("a\0b") end, "NUL")
      assert.error_matches(function() tail.open("a", -1) end, "negative")
      assert.error_matches(function() tail.open("a", "x") end, "number expected")
      file = assert(tail.open(path))
      assert.error_matches(function() file.next(io.stdout) end, "parley.tail")
    end)
  end)
end)
