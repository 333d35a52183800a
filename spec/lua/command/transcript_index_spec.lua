local uv = require "luv"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local index = require "parley.command.transcript_index"

local IDS = { "11111111-aaaa-4000-8000-000000000001", "11112222-aaaa-4000-8000-000000000002",
  "99999999-aaaa-4000-8000-000000000003" }

local function line(fields)
  fields.uuid = fields.uuid or core.uuid.generate()
  return assert(core.json.encode(fields)) .. "\n"
end

local function typed(text, more)
  local fields = { type = "user", message = { role = "user", content = text }, cwd = "/src" }
  for name, value in pairs(more or {}) do fields[name] = value end
  return line(fields)
end

describe("transcript_index", function()
  local folder

  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  local function put(id, text, seconds, project)
    local place = folder .. "/projects/" .. (project or "one")
    files.make_folder(place)
    local path = helper.write(place .. "/" .. id .. ".jsonl", text)
    assert(uv.fs_utime(path, seconds, seconds))
    return path
  end

  describe("list", function()
    it("gives a folder's transcripts, newest first", function()
      put(IDS[1], "x", 1000)
      put(IDS[2], "xyz", 2000)
      local entries = index.list(folder .. "/projects/one")
      assert.same({ IDS[2], IDS[1] }, { entries[1].id, entries[2].id })
      assert.equal(3, entries[1].size)
      assert.equal(2000, entries[1].modified)
    end)

    it("passes over what is no transcript", function()
      put("notes", "x", 1000)
      put("agent-12", "x", 1000)
      files.make_folder(folder .. "/projects/one/" .. IDS[1] .. ".jsonl")
      assert.same({}, index.list(folder .. "/projects/one"))
    end)

    it("gives none for a folder that is not there", function() assert.same({}, index.list(folder .. "/none")) end)

    it("gives those of every project in one order", function()
      put(IDS[1], "x", 1000, "one")
      put(IDS[2], "x", 3000, "two")
      put(IDS[3], "x", 2000, "one")
      local ids = {}
      for i, entry in ipairs(index.list_all(folder)) do ids[i] = entry.id end
      assert.same({ IDS[2], IDS[3], IDS[1] }, ids)
    end)
  end)

  describe("summary", function()
    local function summary(text) return assert(index.summary(put(IDS[1], text, 1000))) end

    it("counts what was typed and keeps the first words, on one line", function()
      local found = summary(typed "hello\n\n  there" .. line { type = "assistant", message = { content = {} } }
        .. typed "again")
      assert.same({ turns = 2, first_words = "hello there", cwd = "/src" }, found)
    end)

    it("does not count results, meta records, commands and sub-agents", function()
      local result = { { type = "tool_result", tool_use_id = "A", content = "x" } }
      local text = typed(result) .. typed("meta", { isMeta = true }) .. typed "<command-name>/x</command-name>"
        .. typed("agent", { isSidechain = true }) .. typed "yes"
      assert.equal(1, summary(text).turns)
    end)

    it("is not taken in by a message that looks like a record", function()
      local text = line { type = "assistant", message = { content = { { type = "text", text = typed "no" } } } }
      assert.same({ turns = 0 }, summary(text))
    end)

    it("finds the lines on both sides of a block's end", function()
      local parts = {}
      for i = 1, 20 do table.insert(parts, typed(("message %d "):format(i):rep(30000))) end
      assert.equal(20, summary(table.concat(parts)).turns)
    end)

    it("passes over a half line at the end", function()
      assert.equal(1, summary(typed "hello" .. typed("half"):sub(1, -20)).turns)
    end)

    it("cuts first words between characters", function()
      local found = summary(typed(("é"):rep(150)))
      assert.equal(100, utf8.len(found.first_words))
    end)

    it("keeps little of a big file in memory", function()
      local path = put(IDS[1], "", 1000)
      local file <close> = assert(io.open(path, "wb"))
      local padding = line { type = "attachment", text = ("x"):rep(100000) }
      for i = 1, 300 do file:write(typed("message " .. i), padding) end
      file:flush()
      -- The collector must not wait for the heap, which other specs have filled, to double.
      local mode = collectgarbage("incremental", 120, 400)
      collectgarbage()
      local before = collectgarbage "count"
      local turns = index.summary(path).turns
      local growth = collectgarbage "count" - before
      collectgarbage "incremental"
      collectgarbage(mode)
      assert.equal(300, turns)
      assert.is_true(growth < 12000)
    end)

    it("says why a file cannot be read", function()
      local found, problem = index.summary(folder .. "/none")
      assert.is_nil(found)
      assert.equal("No such file or directory", problem)
      found, problem = index.summary "/proc/self/mem" -- it is opened, and has nothing at its beginning
      assert.is_nil(found)
      assert.equal("Input/output error", problem)
    end)
  end)

  describe("find", function()
    local entries

    before_each(function()
      for _, id in ipairs(IDS) do put(id, "x", 1000) end
      entries = index.list(folder .. "/projects/one")
    end)

    local function failure(word)
      local ok, err = pcall(index.find, word, entries)
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
      return err.message
    end

    it("takes an id, in either case", function()
      assert.matches(IDS[2], index.find(IDS[2], entries), 1, true)
      assert.matches(IDS[1], index.find(IDS[1]:upper(), entries), 1, true)
    end)

    it("takes the beginning of one", function() assert.matches(IDS[3], index.find("9999", entries), 1, true) end)

    it("takes a file", function()
      local path = helper.write(folder .. "/some.jsonl", "")
      assert.equal(path, index.find(path, entries))
    end)

    it("names the ids that a beginning fits", function()
      local message = failure "1111"
      assert.matches("begins the ids of 2 sessions", message, 1, true)
      assert.matches(IDS[1], message, 1, true)
      assert.matches(IDS[2], message, 1, true)
    end)

    it("names the near ids for one that is unknown", function()
      local message = failure "11111111-aaaa-4000-8000-00000000000f"
      assert.matches("no session and no file", message, 1, true)
      assert.matches("there is " .. IDS[1], message, 1, true)
    end)

    it("names none when none is near", function()
      assert.equal("no session and no file 'zzzz' (parley sessions --all lists them)", failure "zzzz")
    end)
  end)
end)
