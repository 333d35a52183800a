local uv = require "luv"
local tail = require "parley.claude.tail"

local DEADLINE_MS = 20000

---Run the loop until the predicate holds.
local function pump_until(predicate)
  local is_late = false
  local deadline = uv.new_timer()
  deadline:start(DEADLINE_MS, 0, function() is_late = true end)
  while not is_late and not predicate() do uv.run "once" end
  deadline:close()
  uv.run "nowait"
  assert.is_false(is_late, "nothing happened before the deadline")
end

---Run the loop while it has something to tell now.
local function pump()
  for _ = 1, 10 do uv.run "nowait" end
end

local function open_handles()
  local kinds = {}
  uv.walk(function(handle)
    if not handle:is_closing() then kinds[#kinds + 1] = handle:get_type() end
  end)
  return kinds
end

local function write(path, bytes, mode)
  local file <close> = assert(io.open(path, mode or "w"))
  assert(file:write(bytes))
end

local function append(path, bytes)
  write(path, bytes, "a")
end

local function make_folder(path)
  assert(uv.fs_mkdir(path, 448))
end

local function remove(path)
  assert.is_true(os.execute("rm -r " .. path))
end

---A maker of handles on which every watch fails.
local function failing_fs_event(code)
  return function()
    local handle = uv.new_fs_event()
    return {
      start = function() return nil, code .. ": refused", code end,
      stop = function() return 0 end,
      close = function() handle:close() end,
      is_closing = function() return handle:is_closing() end,
    }
  end
end

---A maker of real handles with something done just before or just after each watch is set.
local function meddled_fs_event(meddler)
  return function()
    local handle = uv.new_fs_event()
    return {
      start = function(_, path, ...)
        if meddler.before then meddler.before(path) end
        local ok, message, code = handle:start(path, ...)
        if meddler.after then meddler.after(path) end
        return ok, message, code
      end,
      stop = function() return handle:stop() end,
      close = function() handle:close() end,
      is_closing = function() return handle:is_closing() end,
    }
  end
end

describe("tail", function()
  local folder, path, file, is_woken, wakes, handles_before

  before_each(function()
    folder = assert(uv.fs_mkdtemp "/tmp/parley-tail-XXXXXX")
    path = folder .. "/a.jsonl"
    is_woken, wakes = false, 0
    handles_before = open_handles()
  end)

  after_each(function()
    if file then file:close() end
    file = nil
    uv.run "nowait"
    assert.same(handles_before, open_handles())
    remove(folder)
  end)

  ---Everything that is new: records as their `n`, other events by name.
  local function drain(events)
    repeat
      local event, record = file:next()
      assert.is_nil(not event and record or nil)
      events[#events + 1] = event == "record" and record.n or event
    until not event
    return events
  end

  ---Begin to watch; returns what the file holds already.
  local function open(options)
    options = options or {}
    options.path = options.path or path
    options.on_change = function()
      is_woken = true
      wakes = wakes + 1
    end
    file = tail.open(options)
    return drain {}
  end

  ---Check that these events come, looking only when woken.
  local function assert_told(...)
    local expected, events = { ... }, {}
    pump_until(function()
      if is_woken then
        is_woken = false
        drain(events)
      end
      return #events >= #expected
    end)
    assert.same(expected, events)
  end

  describe("next", function()
    it("gives what the file holds, decoded, with offsets", function()
      write(path, '{"n":1}\n{"n":[]}\n')
      file = tail.open { path = path }
      assert.same({ "record", { n = 1 }, 8 }, { file:next() })
      assert.same({ "record", { n = {} }, 17 }, { file:next() })
      assert.same({}, { file:next() })
      assert.equal(17, file:offset())
    end)

    it("starts at the offset given", function()
      write(path, '{"n":1}\n{"n":2}\n')
      assert.same({ 2 }, open { offset = 8 })
    end)

    it("reports a malformed line and passes over it", function()
      write(path, '{"n":1}\n{"n":' .. ("x"):rep(300) .. '\n{"n":3}\n')
      file = tail.open { path = path }
      assert.equal("record", (file:next()))
      local event, malformed, offset = file:next()
      assert.equal("malformed", event)
      assert.equal('{"n":' .. ("x"):rep(195), malformed.line)
      assert.equal("EJSON", malformed.error.code)
      assert.equal(5, malformed.error.offset)
      assert.equal(314, offset)
      assert.same({ "record", { n = 3 }, 322 }, { file:next() })
    end)

    it("takes nothing but an object for a record", function()
      for _, line in ipairs { "1", "null", "[]", "true", '"x"', "[{}]" } do
        write(path, line .. "\n")
        file = tail.open { path = path }
        local event, malformed = file:next()
        assert.equal("malformed", event)
        assert.equal(line, malformed.line)
        assert.equal("EJSON", malformed.error.code)
        file:close()
      end
    end)

    it("passes an error on and goes on after it", function()
      make_folder(path)
      file = tail.open { path = path }
      local event, err = file:next()
      assert.is_nil(event)
      assert.equal("EISDIR", err.code)
      remove(path)
      write(path, '{"n":1}\n')
      assert.same({ 1 }, drain {})
    end)
  end)

  for _, mode in ipairs { "notify", "poll" } do
    describe("in mode " .. mode .. ", on_change", function()
      local function open_in_mode(options)
        options = options or {}
        if mode == "poll" then
          options.new_fs_event = failing_fs_event "ENOSPC"
          options.poll_interval_ms = 2
        end
        local events = open(options)
        assert.equal(mode, file:mode())
        return events
      end

      it("tells of what is appended", function()
        write(path, '{"n":1}\n')
        assert.same({ 1 }, open_in_mode())
        append(path, '{"n":2}\n')
        assert_told(2)
        append(path, '{"n":3}\r\n\n{"n":4}\n')
        assert_told(3, 4)
      end)

      it("tells of a half line's rest, though a character was cut", function()
        write(path, '{"n":"\xE2\x82')
        assert.same({}, open_in_mode())
        append(path, '\xACx"}\n')
        assert_told "\u{20ac}x"
      end)

      it("tells of a malformed line", function()
        write(path, "")
        open_in_mode()
        append(path, '{"n":}\n{"n":1}\n')
        assert_told("malformed", 1)
      end)

      it("tells of truncation", function()
        write(path, '{"n":1}\n{"n":2}\n')
        assert.same({ 1, 2 }, open_in_mode())
        write(path, '{"n":3}\n')
        assert_told("truncated", 3)
      end)

      it("tells of replacement by rename, and of what is appended then", function()
        write(path, '{"n":1}\n')
        assert.same({ 1 }, open_in_mode())
        for n = 2, 4 do
          write(folder .. "/new", ('{"n":%d}\n'):format(n))
          assert(os.rename(folder .. "/new", path))
          assert_told("replaced", n)
          append(path, '{"n":9}\n')
          assert_told(9)
        end
      end)

      it("tells of removal and creation", function()
        write(path, '{"n":1}\n')
        assert.same({ 1 }, open_in_mode())
        assert(os.remove(path))
        pump_until(function() return is_woken end)
        assert.is_false(file:exists())
        assert.same({}, drain {})
        write(path, '{"n":2}\n')
        assert_told("replaced", 2)
        append(path, '{"n":3}\n')
        assert_told(3)
      end)

      it("tells of a file that comes", function()
        assert.same({}, open_in_mode())
        assert.is_false(file:exists())
        write(path, '{"n":1}\n')
        assert_told(1)
        append(path, '{"n":2}\n')
        assert_told(2)
      end)

      it("tells of a file whose folders come, one after the other", function()
        assert.same({}, open_in_mode { path = folder .. "/b/c/d.jsonl" })
        make_folder(folder .. "/b")
        pump()
        make_folder(folder .. "/b/c")
        pump()
        write(folder .. "/b/c/d.jsonl", '{"n":1}\n')
        assert_told(1)
        append(folder .. "/b/c/d.jsonl", '{"n":2}\n')
        assert_told(2)
      end)

      it("tells of a file that comes with its folders at once", function()
        assert.same({}, open_in_mode { path = folder .. "/b/c/d.jsonl" })
        make_folder(folder .. "/b")
        make_folder(folder .. "/b/c")
        write(folder .. "/b/c/d.jsonl", '{"n":1}\n')
        assert_told(1)
        append(folder .. "/b/c/d.jsonl", '{"n":2}\n')
        assert_told(2)
      end)

      it("tells of a folder that is removed and comes again, often", function()
        local deep = folder .. "/b/c"
        make_folder(folder .. "/b")
        make_folder(deep)
        write(deep .. "/d.jsonl", '{"n":0}\n')
        assert.same({ 0 }, open_in_mode { path = deep .. "/d.jsonl" })
        for n = 1, 3 do
          remove(folder .. "/b")
          if n ~= 2 then pump() end
          make_folder(folder .. "/b")
          if n ~= 2 then pump() end
          make_folder(deep)
          write(deep .. "/d.jsonl", ('{"n":%d}\n'):format(n))
          assert_told("replaced", n)
          append(deep .. "/d.jsonl", '{"n":9}\n')
          assert_told(9)
        end
      end)

      it("is not called while nothing changes", function()
        write(path, '{"n":1}\n')
        open_in_mode()
        pump()
        if mode == "poll" then
          for _ = 1, 5 do uv.run "once" end
        end
        assert.equal(0, wakes)
      end)

      it("is not called after close", function()
        write(path, "")
        open_in_mode()
        append(path, '{"n":1}\n')
        file:close()
        pump()
        assert.equal(0, wakes)
      end)

      it("may close the tail", function()
        write(path, "")
        file = tail.open {
          path = path,
          on_change = function()
            wakes = wakes + 1
            file:close()
          end,
          new_fs_event = mode == "poll" and failing_fs_event "ENOSPC" or nil,
          poll_interval_ms = 2,
        }
        append(path, '{"n":1}\n')
        assert(os.remove(path))
        pump_until(function() return wakes > 0 end)
        pump()
        assert.equal(1, wakes)
      end)
    end)
  end

  describe("the kernel's watches", function()
    it("are all there is: no timer runs", function()
      open()
      local kinds = open_handles()
      assert.equal(#handles_before + 2, #kinds)
      assert.equal("fs_event", kinds[#kinds])
      assert.equal("fs_event", kinds[#kinds - 1])
    end)

    it("do not tell of other files' growth", function()
      write(path, "")
      write(folder .. "/other", "")
      open()
      append(folder .. "/other", "x")
      append(folder .. "/other", "y")
      pump()
      assert.equal(0, wakes)
    end)

    it("do not tell of other files that come and go", function()
      write(path, "")
      open()
      write(folder .. "/other", "")
      make_folder(folder .. "/others")
      remove(folder .. "/other")
      pump()
      assert.equal(0, wakes)
    end)

    it("do not tell of what is not on the way to a file that is still missing", function()
      path = folder .. "/b/c/d.jsonl"
      open()
      make_folder(folder .. "/a")
      pump()
      assert.equal(0, wakes)
      make_folder(folder .. "/b")
      make_folder(folder .. "/b/c")
      write(path, '{"n":1}\n')
      pump_until(function() return is_woken end)
      assert_told(1)
    end)

    it("go on telling what is written to a removed file", function()
      local writer <close> = assert(io.open(path, "w"))
      writer:setvbuf "no"
      open()
      assert(os.remove(path))
      pump_until(function() return is_woken end)
      is_woken = false
      writer:write '{"n":1}\n'
      assert_told(1)
    end)

    it("miss nothing that happens just before or just after they are set", function()
      local steps = {
        function() make_folder(folder .. "/b") end,
        function() make_folder(folder .. "/b/c") end,
        function() write(folder .. "/b/c/d.jsonl", '{"n":1}\n') end,
        function() remove(folder .. "/b") end,
        function() make_folder(folder .. "/b") end,
        function() make_folder(folder .. "/b/c") end,
        function() write(folder .. "/b/c/d.jsonl", '{"n":1}\n') end,
      }
      for _, moment in ipairs { "before", "after" } do
        for at_once = 1, #steps do
          local done = 0
          local meddler = {}
          meddler[moment] = function()
            for _ = 1, at_once do
              done = done + 1
              if steps[done] then steps[done]() end
            end
          end
          is_woken = false
          open { path = folder .. "/b/c/d.jsonl", new_fs_event = meddled_fs_event(meddler) }
          while done < #steps do
            done = done + 1
            steps[done]()
          end
          drain {}
          pump()
          is_woken = false
          drain {}
          append(folder .. "/b/c/d.jsonl", '{"n":2}\n')
          assert_told(2)
          file:close()
          remove(folder .. "/b")
        end
      end
    end)

    it("serve several tails of one file, and outlive each other's closing", function()
      write(path, "")
      local others = {}
      for i = 1, 3 do others[i] = tail.open { path = path } end
      open()
      for i = 1, 3 do others[i]:close() end
      append(path, '{"n":1}\n')
      assert_told(1)
      write(folder .. "/new", '{"n":2}\n')
      assert(os.rename(folder .. "/new", path))
      assert_told("replaced", 2)
    end)
  end)

  describe("polling", function()
    it("takes over when a watch that worked is refused later", function()
      local refuses = false
      open {
        path = folder .. "/b/d.jsonl",
        poll_interval_ms = 2,
        new_fs_event = function()
          local handle = uv.new_fs_event()
          return {
            start = function(_, ...)
              if refuses then return nil, "ENOSPC: refused", "ENOSPC" end
              return handle:start(...)
            end,
            stop = function() return handle:stop() end,
            close = function() handle:close() end,
            is_closing = function() return handle:is_closing() end,
          }
        end,
      }
      assert.equal("notify", file:mode())
      refuses = true
      make_folder(folder .. "/b")
      pump_until(function() return file:mode() == "poll" end)
      write(folder .. "/b/d.jsonl", '{"n":1}\n')
      assert_told(1)
    end)
  end)

  describe("the object", function()
    it("closes once, is readable, and works with <close>", function()
      do
        local scoped <close> = tail.open { path = path }
        assert.equal("parley.Tail (" .. path .. ")", tostring(scoped))
        scoped:close()
        assert.error_matches(function() scoped:next() end, "closed")
      end
      uv.run "nowait"
      assert.same(handles_before, open_handles())
    end)

    it("follows a relative path from the working folder", function()
      local working_folder = uv.cwd()
      uv.chdir(folder)
      file = tail.open { path = "a.jsonl" }
      uv.chdir(working_folder)
      assert.equal(uv.fs_realpath(folder) .. "/a.jsonl", file.path)
      write(path, '{"n":1}\n')
      assert.same({ 1 }, drain {})
    end)

    it("refuses bad options by name", function()
      local function assert_refused(option, options)
        local ok, err = pcall(tail.open, options)
        assert.is_false(ok)
        assert.equal("ValueError", err.code)
        assert.equal(option, err.option)
      end
      assert_refused("path", {})
      assert_refused("path", { path = 1 })
      assert_refused("offset", { path = path, offset = -1 })
      assert_refused("on_change", { path = path, on_change = 1 })
      assert_refused("poll_interval_ms", { path = path, poll_interval_ms = 0 })
      assert_refused("onchange", { path = path, onchange = print })
    end)
  end)
end)
