local uv = require "luv"
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local lock = require "parley.command.batch.lock"
local output = require "parley.command.batch.output"

local A, B = '{"id":"a","line":1,"verdict":"success"}', '{"id":"b","line":2,"verdict":"failed"}'

local error_of = helper.error_of

describe("a batch's output", function()
  local folder, path, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
    path = folder .. "/out.jsonl"
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  --- What a resumed file holds, and what was said of it.
  local function replay()
    local results <close> = output.open(path, { resume = true })
    local ids, warnings = {}, {}
    results:replay(function(result) table.insert(ids, result.id) end,
      function(text) table.insert(warnings, text) end)
    results:append { id = "new", line = 9, verdict = "success" }
    return ids, warnings
  end

  it("is a line a result, what people look at first in front", function()
    do
      local results <close> = output.open(path)
      results:append { messages = json.array {}, verdict = "success", line = 3, id = "a" }
      results:append { id = 7, line = 4, verdict = "failed", error = { code = "X", message = "two\nlines" } }
    end
    assert.equal('{"id":"a","line":3,"verdict":"success","messages":[]}\n'
      .. '{"id":7,"line":4,"verdict":"failed","error":{"code":"X","message":"two\\nlines"}}\n', files.read(path))
  end)

  it("is refused when it holds results, unless it is resumed", function()
    helper.write(path, A .. "\n")
    assert.is_truthy(error_of(output.open, path).message:find("--resume", 1, true))
    assert.equal(A .. "\n", files.read(path))
    assert.same({ "a" }, (replay()))
  end)

  it("is made when it is resumed before it was begun", function()
    assert.same({}, (replay()))
    assert.equal('{"id":"new","line":9,"verdict":"success"}\n', files.read(path))
  end)

  it("loses a half-written last line when it is resumed", function()
    for _, id in ipairs { '"b"', [["\\\"b\\"]], "-7", "null" } do
      local line = ('{"id":%s,"line":2,"verdict":"success"}'):format(id)
      for length = 1, #line - 1 do
        for _, zeros in ipairs { 0, 3 } do
          helper.write(path, A .. "\n" .. line:sub(1, length) .. ("\0"):rep(zeros))
          local ids, warnings = replay()
          assert.same({ "a" }, ids)
          assert.is_truthy(warnings[1]:find(("cut %d bytes"):format(length + zeros), 1, true))
          assert.equal(A .. "\n" .. '{"id":"new","line":9,"verdict":"success"}\n', files.read(path))
        end
      end
    end
  end)

  it("keeps a whole last line that lacks only its line feed", function()
    helper.write(path, A .. "\n" .. B)
    assert.same({ "a", "b" }, (replay()))
    assert.equal(A .. "\n" .. B .. "\n" .. '{"id":"new","line":9,"verdict":"success"}\n', files.read(path))
  end)

  it("may hold blank lines", function()
    helper.write(path, "\n" .. A .. "\n \t\n" .. B .. "\n\n")
    assert.same({ "a", "b" }, (replay()))
  end)

  for what, case in pairs {
    ["a text"] = { "hello\n", 1 },
    ["a text without a line feed"] = { "hello", 1 },
    ["a package.json"] = { '{\n  "name": "x"\n}\n', 1 },
    ["JSON on one line"] = { '{"name":"x"}', 1 },
    ["objects with an id"] = { '{"id":"a","name":"x"}\n', 1 },
    ["objects with an id, cut off"] = { '{"id":"a","name":"x', 1 },
    ["objects with an id and a line"] = { '{"id":"a","line":1}\n', 1 },
    ["a list"] = { "[1]", 1 },
    ["something behind results"] = { A .. "\n" .. B .. "\nhello\n", 3 },
    ["something behind results, without a line feed"] = { A .. "\n" .. B .. "\nhello", 3 },
    ["its own input"] = { '{"id":"a","turns":["x"]}\n', 1 },
  } do
    it("is not resumed, and left as it is, when it is " .. what, function()
      helper.write(path, case[1])
      local err = error_of(replay)
      assert.equal("ValueError", err.code)
      assert.equal(("'%s' cannot be resumed: its line %d is no result of a batch"):format(path, case[2]), err.message)
      assert.equal(case[1], files.read(path))
      assert.same({ "out.jsonl" }, helper.names_in(folder))
    end)
  end

  describe("keep_last", function()
    local OLD, NEW = '{"id":"b","line":2,"verdict":"failed"}', '{"id":"b","line":2,"verdict":"success"}'

    local function keep_last(name_of)
      local results <close> = output.open(path, { resume = true })
      results:keep_last(name_of or function(result) return result.id end)
      results:append { id = "new", line = 9, verdict = "success" }
    end

    it("leaves of the results about the same the last, in their order and as they are written", function()
      helper.write(path, OLD .. "\n\n" .. A .. "\n" .. NEW .. "\n", "640")
      keep_last()
      assert.equal(A .. "\n" .. NEW .. "\n" .. '{"id":"new","line":9,"verdict":"success"}\n', files.read(path))
      assert.equal(tonumber("640", 8), uv.fs_stat(path).mode & 511)
      assert.same({ "out.jsonl" }, helper.names_in(folder))
    end)

    it("drops what is about nothing", function()
      helper.write(path, A .. "\n" .. OLD .. "\n")
      keep_last(function(result) return result.id == "b" and "b" or nil end)
      assert.equal(OLD .. "\n" .. '{"id":"new","line":9,"verdict":"success"}\n', files.read(path))
    end)

    it("follows a link, and takes away what a killed process has left", function()
      local real = helper.write(folder .. "/real.jsonl", OLD .. "\n" .. NEW .. "\n")
      helper.write(real .. ".parley-tmp", "half")
      assert(uv.fs_symlink(real, path))
      keep_last()
      assert.equal(real, uv.fs_readlink(path))
      assert.equal(NEW .. "\n" .. '{"id":"new","line":9,"verdict":"success"}\n', files.read(real))
      assert.same({ "out.jsonl", "real.jsonl" }, helper.names_in(folder))
    end)

    it("leaves the file as it is where it cannot be written", function()
      helper.write(path, OLD .. "\n" .. NEW .. "\n")
      for _, name in ipairs { "fs_write", "fs_fsync", "fs_rename" } do
        local results <close> = output.open(path, { resume = true })
        local before = uv[name]
        uv[name] = function() return nil, "ENOSPC: no space left on device", "ENOSPC" end
        local ok, err = pcall(results.keep_last, results, function(result) return result.id end)
        uv[name] = before
        assert.same({ false, "ENOSPC" }, { ok, err.code })
        assert.equal(OLD .. "\n" .. NEW .. "\n", files.read(path))
        results:close()
        assert.same({ "out.jsonl" }, helper.names_in(folder))
      end
    end)
  end)

  it("writes a result that JSON cannot hold as failed", function()
    do
      local results <close> = output.open(path)
      results:append { id = "a", line = 1, verdict = "success", metadata = print }
    end
    local result = json.decode(files.read(path))
    assert.same({ "a", "failed", "EJSON" }, { result.id, result.verdict, result.error.code })
  end)

  describe("write", function()
    local fs_write = uv.fs_write

    after_each(function() uv.fs_write = fs_write end) -- luacheck: ignore 122

    --- Lets the system take so many bytes in all; counts the calls.
    local function limit_to(bytes)
      local calls = {}
      uv.fs_write = function(descriptor, text, offset) -- luacheck: ignore 122
        table.insert(calls, text)
        if bytes == 0 then return nil, "ENOSPC: no space left on device", "ENOSPC" end
        local part = text:sub(1, bytes)
        bytes = bytes - #part
        return fs_write(descriptor, part, offset)
      end
      return calls
    end

    it("is one for a whole line", function()
      local results <close> = output.open(path)
      local calls = limit_to(1000)
      results:append { id = "a", line = 1, verdict = "success" }
      assert.same({ '{"id":"a","line":1,"verdict":"success"}\n' }, calls)
    end)

    it("leaves nothing of a line that does not fit", function()
      for room = 0, 40 do
        local name = ("%s/%d"):format(folder, room)
        local results <close> = output.open(name)
        results:append { id = "a", line = 1 }
        limit_to(room)
        local ok, err = pcall(results.append, results, { id = "b", line = 2, verdict = "success" })
        uv.fs_write = fs_write -- luacheck: ignore 122
        if room < 40 then
          assert.same({ false, "ENOSPC" }, { ok, err.code })
          assert.equal('{"id":"a","line":1}\n', files.read(name))
        else
          assert.equal('{"id":"a","line":1}\n{"id":"b","line":2,"verdict":"success"}\n', files.read(name))
        end
      end
    end)
  end)

  it("raises the system's error when the disk is full", function()
    local results <close> = output.open "/dev/full"
    local err = error_of(results.append, results, { id = "a" })
    assert.equal("ENOSPC", err.code)
    assert.is_truthy(err.message:find("/dev/full", 1, true))
  end)

  it("raises the system's error when it cannot be opened", function()
    assert.equal("ENOENT", error_of(output.open, folder .. "/no/out.jsonl").code)
    assert.equal("EISDIR", error_of(output.open, folder).code)
  end)

  it("cannot be resumed when it is no file", function()
    assert.equal("ValueError", error_of(output.open, "-", { resume = true }).code)
    assert.equal("ValueError", error_of(output.open, "/dev/null", { resume = true }).code)
  end)

  for _, length in ipairs { 180, 181, 255 } do
    it(("may have a name of %d bytes"):format(length), function()
      path = folder .. "/" .. ("o"):rep(length)
      local results <close> = output.open(path)
      assert.equal("EBUSY", error_of(output.open, path).code)
      results:append { id = "a", line = 1, verdict = "success" }
      results:keep_last(function(result) return result.id end)
      results:close()
      assert.same({ ("o"):rep(length) }, helper.names_in(folder))
      assert.equal('{"id":"a","line":1,"verdict":"success"}\n', files.read(path))
    end)
  end

  describe("lock", function()
    local function claim_of(fields)
      local own = lock.take(path)
      local name
      for _, found in ipairs(helper.names_in(folder)) do name = found:match "^out%.jsonl%.lock%-(.*)$" or name end
      own.close()
      local parts = {}
      for part in name:gmatch "[^-]+" do table.insert(parts, part) end
      local order = { "host", "boot", "namespace", "pid", "started" }
      for index, field in ipairs(order) do parts[index] = fields[field] or parts[index] end
      return helper.write(path .. ".lock-" .. table.concat(parts, "-"), "")
    end

    before_each(function() helper.write(path, "") end)

    it("keeps a second writer out, and is gone with the first", function()
      local first = output.open(path)
      assert.equal("EBUSY", error_of(output.open, path).code)
      first:close()
      assert.same({ "out.jsonl" }, helper.names_in(folder))
      output.open(path):close()
    end)

    it("names the process that holds it", function()
      local pid = math.tointeger(uv.os_getppid())
      local stat = files.read(("/proc/%d/stat"):format(pid))
      local rest, fields = stat:match "^.*%) (.*)$", {}
      for field in rest:gmatch "%S+" do table.insert(fields, field) end
      claim_of { pid = pid, started = fields[20] }
      local err = error_of(lock.take, path)
      assert.same({ "EBUSY", pid }, { err.code, err.pid })
      assert.equal(2, #helper.names_in(folder)) -- our own claim is withdrawn
    end)

    for what, fields in pairs {
      ["a process that has ended"] = { pid = 4194305 },
      ["a process whose number another has now"] = { pid = 1, started = "1" },
      ["this machine before it was started again"] = { boot = "00000000" },
      ["a container in whose place this one runs"] = { namespace = "1" },
    } do
      it("is taken over from " .. what, function()
        local claim = claim_of(fields)
        lock.take(path).close()
        assert.is_nil(uv.fs_stat(claim))
      end)
    end

    it("is not taken over from another machine, which may live", function()
      local claim = claim_of { host = "00000000" }
      local err = error_of(lock.take, path)
      assert.equal("EBUSY", err.code)
      assert.is_truthy(err.message:find(claim:match "[^/]+$", 1, true))
    end)

    it("is the same by every path of the file", function()
      assert(uv.fs_symlink(path, folder .. "/link"))
      local held <close> = lock.take(path)
      assert.is_table(held)
      assert.equal("EBUSY", error_of(lock.take, folder .. "/link").code)
    end)
  end)
end)
