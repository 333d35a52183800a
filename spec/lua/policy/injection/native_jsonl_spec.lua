local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local native_jsonl = require "parley.policy.injection.native_jsonl"
local uv = require "luv"

local json = core.json
local ID = "11111111-2222-4333-8444-555555555555"

local folder, path, no_leaks
before_each(function()
  no_leaks = helper.leaks()
  folder = helper.temporary_folder()
  path = folder .. "/projects/-work/" .. ID .. ".jsonl"
end)
after_each(function()
  helper.remove_folders()
  no_leaks()
end)

local function text(words) return { type = "text", text = words } end
local function call(id) return { type = "tool_use", id = id, name = "Bash", input = { command = "ls" } } end
local function result(id, content) return { type = "tool_result", tool_use_id = id, content = content or "out" } end
local function user(content) return { role = "user", content = content } end
local function assistant(content) return { role = "assistant", content = content } end

local function request_of(history, more)
  local request = { history = history, text = "and now?", session_id = ID, jsonl_path = path, cwd = "/work",
    permission_mode = "plan" }
  for name, value in pairs(more or {}) do request[name] = value end
  return request
end

local function prepare(history, more) return native_jsonl.prepare(request_of(history, more)) end

--- The records of the seed.
local function written()
  return helper.json_lines(files.read(path))
end

--- The messages of the seed, neighbouring lines of an answer in one.
local function messages_of(records)
  local messages = {}
  for _, record in ipairs(records) do
    local message = record.message
    local last = messages[#messages]
    if message and last and last.id and last.id == message.id then
      table.move(message.content, 1, #message.content, #last.content + 1, last.content)
    elseif message then
      table.insert(messages, { role = message.role, id = message.id, content = message.content })
    end
  end
  for _, message in ipairs(messages) do message.id = nil end
  return messages
end

--- What the seed of a history has for the model.
local function told(history)
  prepare(history)
  return messages_of(written())
end

local function refused(history)
  local ok, err = pcall(prepare, history)
  assert.is_false(ok)
  assert.is_true(errors.is(err, "ValueError"), tostring(err))
  assert.is_nil(uv.fs_stat(path))
  return err.message
end

describe("native_jsonl", function()
  it("writes nothing for a first message", function()
    assert.same({ text = "and now?" }, prepare {})
    assert.same({}, helper.names_in(folder))
  end)

  it("writes permission-mode, file-history-snapshot and the messages, each chained to the one before", function()
    local prepared = prepare({ user "hi", assistant "ho" }, { model = "opus" })
    assert.same({ text = "and now?", resume = true, start_offset = #files.read(path) }, prepared)
    local mode, snapshot, first, second, more = table.unpack(written())
    assert.is_nil(more)
    assert.same({ type = "permission-mode", permissionMode = "plan", sessionId = ID }, mode)
    assert.equal("file-history-snapshot", snapshot.type)
    assert.equal(first.uuid, snapshot.messageId)
    for _, record in ipairs { first, second } do
      assert.is_true(core.uuid.is_valid(record.uuid))
      assert.equal(ID, record.sessionId)
      assert.equal("/work", record.cwd)
      assert.equal("external", record.userType)
      assert.is_false(record.isSidechain)
      assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", record.timestamp)
    end
    assert.equal(json.null, first.parentUuid)
    assert.equal(first.uuid, second.parentUuid)
    assert.same({ role = "user", content = "hi" }, first.message)
    assert.equal("opus", second.message.model)
    assert.equal("end_turn", second.message.stop_reason)
    assert.matches("^msg_%x+$", second.message.id)
  end)

  it("tells a tool cycle as it was, a line for each block of an answer", function()
    local history = { user "list it", assistant { text "let me", call "t1" }, user { result "t1" },
      assistant { text "done" } }
    assert.same(history, told(history))
    local records = written()
    assert.equal(7, #records)
    assert.equal(records[4].message.id, records[5].message.id)
    assert.equal("tool_use", records[4].message.stop_reason)
    for i = 4, 7 do assert.equal(records[i - 1].uuid, records[i].parentUuid) end
  end)

  it("gives a call whose id is another's an id of its own, and its result the same", function()
    local history = {}
    for _, id in ipairs { "call_0", "call_0", "call_0-2", "call_0" } do
      table.move({ user "go", assistant { text "let me", call(id) }, user { result(id, "out of " .. #history) },
        assistant { text "done" } }, 1, 4, #history + 1, history)
    end
    local before = json.encode(history, { sort_keys = true })
    local messages, ids = told(history), {}
    for i = 1, #messages, 4 do
      local block, answer = messages[i + 1].content[2], messages[i + 2].content[1]
      assert.equal(block.id, answer.tool_use_id)
      assert.equal("out of " .. i - 1, answer.content)
      table.insert(ids, block.id)
    end
    assert.same({ "call_0", "call_0-2", "call_0-2-2", "call_0-3" }, ids)
    assert.equal(before, json.encode(history, { sort_keys = true })) -- the client's own stay as they are
  end)

  it("refuses two calls of one id in a message, which no API would take", function()
    assert.matches("two calls of the id 't1'", refused { user "go", assistant { call "t1", call "t1" },
      user { result "t1" }, assistant { text "done" } })
  end)

  it("has the records' times in their order, none of the future", function()
    local history = {}
    for i = 1, 2500 do history[i] = (i % 2 == 1 and user or assistant) "x" end
    prepare(history)
    local before = ""
    for _, record in ipairs(written()) do
      if record.timestamp then
        assert.is_true(record.timestamp > before)
        before = record.timestamp
      end
    end
    assert.is_true(before <= os.date "!%Y-%m-%dT%H:%M:%S.999Z")
  end)

  describe("repairs:", function()
    it("1. neighbours of one role are one message", function()
      assert.same({ user { text "a", text "b" }, assistant { text "c", text "d" } },
        told { user "a", user "b", assistant "c", assistant { text "d" } })
    end)

    it("2. empty texts and messages are left out", function()
      assert.same({ user { text "a", text "b" }, assistant { text "c" } },
        told { user { text "a", text "" }, assistant " \n", user "b", assistant { text "c" } })
    end)

    it("3. unsigned thinking and cache_control are left out", function()
      local marked = { type = "text", text = "hi", cache_control = { type = "ephemeral" } }
      local signed = { type = "thinking", thinking = "hm", signature = "sig" }
      assert.same({ user { text "hi", text "you" }, assistant { signed, text "ho" } },
        told { user { marked, text "you" }, assistant {
          { type = "thinking", thinking = "x" }, { type = "thinking", thinking = "x", signature = "" },
          { type = "thinking", thinking = "x", signature = json.null }, signed, text "ho" } })
      assert.same({ type = "ephemeral" }, marked.cache_control)
    end)

    it("4. a user's message begins with its tool results", function()
      assert.same(user { result "t1", result "t2", text "look" },
        told { user "a", assistant { call "t1", call "t2" }, user { text "look", result "t1", result "t2" },
          assistant "b" }[3])
    end)

    it("5. a call without a result gets one that says so", function()
      local content = told { user "a", assistant { call "t1", call "t2" }, user { result "t2", text "go on" },
        assistant "b" }[3].content
      assert.equal("t2", content[1].tool_use_id)
      assert.equal("t1", content[2].tool_use_id)
      assert.is_true(content[2].is_error)
      assert.matches("no result", content[2].content)
      assert.same(text "go on", content[3])
    end)

    it("6. the user's words at the end go in front of the message", function()
      local prepared = prepare { user "a", assistant "b", user "c", user { text "d" } }
      assert.equal("c\nd\nand now?", prepared.text)
      assert.same({ user "a", assistant { text "b" } }, messages_of(written()))
    end)

    it("6. and nothing is written when they are all there is", function()
      assert.same({ text = "a\nand now?" }, prepare { user "a", assistant "" })
      assert.same({}, helper.names_in(folder))
    end)

    it("7. a tool that was interrupted at the end gets the answer that the program gives it", function()
      local marker = text "[Request interrupted by user for tool use]"
      local history = { user "a", assistant { call "t1" }, user { result "t1" }, user { marker } }
      local prepared = prepare(history)
      assert.equal("and now?", prepared.text)
      assert.same({ user "a", assistant { call "t1" }, user { result "t1", marker },
        assistant { text "No response requested." } }, messages_of(written()))
      table.insert(history, user "wait")
      prepared = prepare(history)
      assert.equal("wait\nand now?", prepared.text)
      assert.same({ role = "assistant", content = { text "No response requested." } }, messages_of(written())[4])
    end)

    it("keeps images within", function()
      local image = { type = "image", source = { type = "base64", data = "AA==" } }
      assert.same({ user { text "see", image }, assistant { text "a cat" } },
        told { user { text "see", image }, assistant "a cat" })
    end)
  end)

  describe("refuses", function()
    it("a tool result without its call", function()
      assert.matches("'t9' without its tool_use", refused { user "a", assistant { call "t1" }, user { result "t9" } })
      assert.matches("'t1' without its tool_use", refused { user { result "t1" }, assistant "b" })
      assert.matches("'t1' without its tool_use", refused { user "a", assistant { call "t1" }, user { result "t1" },
        assistant "b", user { result "t1" }, assistant "c" })
    end)

    it("two results for one call", function()
      assert.matches("two tool_results for 't1'",
        refused { user "a", assistant { call "t1" }, user { result "t1", result "t1" }, assistant "b" })
    end)

    it("a call at the end", function()
      assert.matches("ends with the call of a tool %('t1'%)", refused { user "a", assistant { call "t1" } })
    end)

    it("a tool result at the end, whatever words follow", function()
      local start = { user "a", assistant { call "t1" } }
      assert.matches("ends with a tool_result", refused { start[1], start[2], user { result "t1", text "go on" } })
      assert.matches("ends with a tool_result", refused { user "a", assistant { call "t1" }, user { result "t1" } })
    end)

    it("an image at the end", function()
      assert.matches("a block of type 'image'", refused { user "a", assistant "b", user { { type = "image" } } })
    end)

    it("what JSON cannot hold", function()
      local image = { type = "image", source = print }
      assert.matches("cannot be written as JSON", refused { user { image }, assistant "b" })
    end)
  end)

  describe("writes the seed privately and whole:", function()
    local HISTORY = { user "hi", assistant "ho" }

    local function with(replaced)
      local kept = {}
      for name, fn in pairs(replaced) do
        kept[name] = uv[name]
        uv[name] = fn
      end
      finally(function()
        for name, fn in pairs(kept) do uv[name] = fn end
      end)
    end

    it("mode 0600 in folders of mode 0700, nothing beside it", function()
      prepare(HISTORY)
      assert.equal(tonumber("600", 8), uv.fs_stat(path).mode & 511)
      assert.equal(tonumber("700", 8), uv.fs_stat(folder .. "/projects/-work").mode & 511)
      assert.same({ ID .. ".jsonl" }, helper.names_in(folder .. "/projects/-work"))
    end)

    it("under a temporary name, then renamed", function()
      local rename, names = uv.fs_rename, nil
      with { fs_rename = function(from, to)
        names = { from, to }
        assert.is_nil(uv.fs_stat(to))
        assert.equal(tonumber("600", 8), uv.fs_stat(from).mode & 511)
        assert.matches('"content":"hi"', files.read(from))
        return rename(from, to)
      end }
      prepare(HISTORY)
      assert.equal(path, names[2])
      assert.are_not.equal(path, names[1])
    end)

    for what, replaced in pairs {
      ["a full disk"] = { code = "ENOSPC", fs_write = function() return nil, "ENOSPC: no space left", "ENOSPC" end },
      ["a disk that cannot sync"] = { code = "EIO", fs_fsync = function() return nil, "EIO: i/o error", "EIO" end },
      ["a rename that fails"] = { code = "EXDEV", fs_rename = function() return nil, "EXDEV: no", "EXDEV" end },
    } do
      it("raises and leaves nothing on " .. what, function()
        local code = replaced.code
        local functions = {}
        for name, fn in pairs(replaced) do functions[name] = name ~= "code" and fn or nil end
        with(functions)
        local ok, err = pcall(prepare, HISTORY)
        assert.is_false(ok)
        assert.equal(code, err.code)
        assert.same({}, helper.names_in(folder .. "/projects/-work"))
      end)
    end

    it("raises where the folder cannot be made", function()
      helper.write(folder .. "/projects", "a file")
      local ok, err = pcall(prepare, HISTORY)
      assert.is_false(ok)
      assert.is_true(errors.is(err))
      assert.matches("cannot make the folder", err.message)
      assert.same({ "projects" }, helper.names_in(folder))
    end)

    it("raises where the folder cannot be written to", function()
      local ok, err = pcall(prepare, HISTORY, { jsonl_path = "/proc/self/" .. ID .. ".jsonl" }) -- not by root either
      assert.is_false(ok)
      assert.is_true(errors.is(err))
      assert.matches("cannot write '/proc/self/", err.message)
    end)
  end)
end)
