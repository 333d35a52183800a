local uv = require "luv"
local helper = require "spec.helper"
local input = require "parley.command.batch.input"
local lines = require "parley.command.batch.lines"
local task = require "parley.base.task"

local function all_of(source)
  local items = {}
  for item in source do table.insert(items, item) end
  return items
end

describe("a batch's input", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function read(text, name)
    local source <close> = input.open(helper.write(folder .. "/" .. (name or "in.jsonl"), text))
    return all_of(source), source
  end

  local function problem_of(line)
    local item = read(line)[1]
    return item.error and item.error.message
  end

  describe("of lines", function()
    it("is one conversation a line, with its number", function()
      local items, source = read '{"id":"a","turns":["x","y"]}\n{"id":7,"messages":[{"role":"user","content":"z"}]}\n'
      assert.same({ "a", 1, "y" }, { items[1].id, items[1].line, items[1].turns[2] })
      assert.same({ 7, 2, "z" }, { items[2].id, items[2].line, items[2].messages[1].content })
      assert.equal(2, source.total)
    end)

    it("passes over blank lines, and counts them", function()
      local items, source = read '\n{"id":"a","turns":["x"]}\n  \t\r\n{"turns":["x"]}'
      assert.same({ 2, 4 }, { items[1].line, items[2].line })
      assert.equal(2, source.total)
    end)

    it("takes the line's number where there is no id", function()
      assert.equal("line-1", read('{"turns":["x"]}')[1].id)
      assert.equal("line-1", read('{"id":null,"turns":["x"]}')[1].id)
    end)

    it("keeps the options, the expectation and the metadata of a conversation", function()
      local item = read('{"turns":["x"],"cwd":"/","model":"m","system_prompt":"s","expect":"e","metadata":false}')[1]
      assert.same({ cwd = "/", model = "m", system_prompt = "s" }, item.options)
      assert.same({ "e", false }, { item.expect, item.metadata })
    end)

    it("may have a permission mode, allowed tools, a time limit and tools of its own", function()
      local item = read('{"turns":["x"],"permission_mode":"plan","allowed_tools":["Read"],"timeout":1.5,'
        .. '"tools":"t.lua"}')[1]
      assert.same({ permission_mode = "plan", allowed_tools = { "Read" }, turn_timeout_ms = 1500, tools = "t.lua" },
        item.options)
      assert.same({}, read('{"turns":["x"],"allowed_tools":[]}')[1].options.allowed_tools)
    end)

    for line, problem in pairs {
      ["nonsense"] = "not JSON: ",
      ['{"id":"a","turns":["x"]'] = "not JSON: ",
      ['{"id":"a","turns":["\xff"]}'] = "not JSON: ",
      ['["x"]'] = "not an object",
      ["7"] = "not an object",
      ['{"id":"a"}'] = "neither messages nor turns",
      ['{"id":{},"turns":["x"]}'] = "id must be a text or a whole number",
      ['{"id":1.5,"turns":["x"]}'] = "id must be a text or a whole number",
      ['{"turns":"x"}'] = "turns must be a list of texts",
      ['{"turns":["x",7]}'] = "turns[2] must be a text",
      ['{"messages":{}}'] = "messages must be a list",
      ['{"turns":["x"],"model":7}'] = "model must be a text",
      ['{"turns":["x"],"permission_mode":"plam"}'] = "permission_mode must be one of acceptEdits, auto",
      ['{"turns":["x"],"allowed_tools":"Read"}'] = "allowed_tools must be a list of texts",
      ['{"turns":["x"],"allowed_tools":["Read",7]}'] = "allowed_tools must be a list of texts",
      ['{"turns":["x"],"timeout":"5"}'] = "timeout must be a number of seconds above 0",
      ['{"turns":["x"],"timeout":0}'] = "timeout must be a number of seconds above 0",
      ['{"turns":["x"],"tools":["Read"]}'] = "tools must be the path of a Lua file that returns a list of tools",
      ['{"turn":["x"]}'] = "unknown field 'turn'; did you mean 'turns'?",
      ['{"turns":["x"],"expect":7}'] = "expect must be a text",
      ['{"turns":["x"],"expect":[]}'] = "expect must be a text",
      ['{"turns":["x"],"expect":{"contain":"x"}}'] = "unknown field 'contain'",
      ['{"turns":["x"],"expect":{"pattern":"[x"}}'] = 'the pattern "[x" is wrong',
    } do
      it("says of " .. line:gsub("\xff", "a bad byte") .. ": " .. problem, function()
        assert.equal(problem, (problem_of(line) or "nothing"):sub(1, #problem) == problem and problem
          or problem_of(line):match(problem:gsub("%p", "%%%0")))
      end)
    end

    it("says what is wrong with a pattern, wherever in it", function()
      for pattern, problem in pairs { ["a[x"] = "a set lacks its ']'", ["a[%]"] = "a set lacks its ']'",
        ["x%"] = "it ends with '%'", ["a%b("] = "no two characters follow its '%b'",
        ["a%fb"] = "no set follows its '%f'", ["a(b"] = "a '(' is not closed", ["a.)"] = "a ')' closes nothing",
        ["a(b%1)"] = "'%1' names no capture before it",
        ["a" .. ("()"):rep(33)] = "it has too many captures" } do
        assert.equal(("expect: the pattern %q is wrong: %s"):format(pattern, problem),
          problem_of(('{"turns":["x"],"expect":{"pattern":"%s"}}'):format(pattern)))
      end
      for _, pattern in ipairs { "^a[]%]^]-(b()c)%2%b()%f[%w].+$", "[^]x]*", "a)", "[%a-z]", ("()"):rep(32) } do
        assert.is_nil(problem_of(('{"turns":["x"],"expect":{"pattern":"%s"}}'):format(pattern)), pattern)
      end
    end)

    it("may be one JSON array, whose elements are numbered", function()
      local items, source = read '\n [\n {"id":"a","turns":["x"]},\n\n 7, {"turns":\n["x"]} ]\n'
      assert.same({ "a", "not an object with messages or turns", "line-3", 3 },
        { items[1].id, items[2].error.message, items[3].id, items[3].line })
      assert.equal(3, source.total)
      assert.same({}, (read "[]"))
    end)

    it("says so when what begins as an array is none", function()
      for text, problem in pairs { ['[{"turns":["x"]}'] = "begins with '[' and is no JSON array: ",
        ['["x"]\n{"turns":["x"]}'] = "begins with '[' and is no JSON array: ", ['["\xff"]'] = "no JSON array: " } do
        local ok, err = pcall(read, text)
        assert.is_false(ok)
        assert.matches("'" .. folder .. "/in.jsonl' ", err.message, 1, true)
        assert.matches(problem, err.message, 1, true)
      end
    end)

    it("is a message a line when it is text, whatever its name", function()
      local path = helper.write(folder .. "/in.lua", 'What is 1?\r\n\n  {"turns": 7}\n\xff\n')
      local source <close> = input.open(path, { text = true })
      local items = all_of(source)
      assert.same({ { "What is 1?" }, { '  {"turns": 7}' } }, { items[1].turns, items[2].turns })
      assert.same({ "line-1", "line-3", 3 }, { items[1].id, items[2].id, source.total })
      assert.matches("turns cannot be written as JSON", items[3].error.message)
    end)

    it("may begin with a byte order mark, whatever it is", function()
      local item = '{"turns":["x"]}'
      for text, count in pairs { [item] = 1, ["[" .. item .. "]"] = 1, ["\n" .. item] = 1, [""] = 0 } do
        local items, source = read("\xEF\xBB\xBF" .. text)
        assert.same({ count, count }, { #items, source.total }, text)
        assert.is_nil(count > 0 and items[1].error or nil)
      end
      local path = helper.write(folder .. "/in.txt", "\xEF\xBB\xBFWhat is 1?")
      local source <close> = input.open(path, { text = true })
      assert.same({ "What is 1?" }, all_of(source)[1].turns)
    end)

    it("goes on after a malformed line", function()
      local items = read 'x\n{"id":"a","turns":["x"]}\n'
      assert.same({ 1, 2, "a" }, { items[1].line, items[2].line, items[2].id })
    end)

    it("is an error when there is no such file, and when it is a folder", function()
      for _, path in ipairs { folder .. "/none.jsonl", folder } do
        local ok, err = pcall(input.open, path)
        assert.is_false(ok)
        assert.equal("ValueError", err.code)
        assert.is_truthy(err.message:find(path, 1, true))
      end
    end)
  end)

  describe("of a Lua file", function()
    it("tells of an error that is a table", function()
      local ok, err = pcall(read, "error { my = 'trouble' }", "in.lua")
      assert.is_false(ok)
      assert.matches("in.lua' fails: an error without a text: {\"my\":\"trouble\"}", err.message, 1, true)
    end)

    for what, text in pairs {
      ["an iterator"] = [[
        local n = 0
        return function()
          n = n + 1
          if n <= 2 then return { id = "c" .. n, turns = { "x" } } end
        end]],
      ["a function that returns an iterator"] = [[
        return function()
          return coroutine.wrap(function()
            for n = 1, 2 do coroutine.yield { id = "c" .. n, turns = { "x" } } end
          end)
        end]],
      ["a list"] = [[return { { id = "c1", turns = { "x" } }, { id = "c2", turns = { "x" } } }]],
      ["what a generic for takes"] = [[
        return ipairs { { id = "c1", turns = { "x" } }, { id = "c2", turns = { "x" } } }]],
    } do
      it("takes " .. what, function()
        local items = read(text, "in.lua")
        assert.same({ "c1", 1, "c2", 2 }, { items[1].id, items[1].line, items[2].id, items[2].line })
        assert.equal(2, #items)
      end)
    end

    for what, text in pairs {
      ["an empty list"] = "return {}",
      ["a function that returns one"] = "return function() return {} end",
      ["an iterator that ends at once"] = "return function() end",
    } do
      it("may hold no conversation: " .. what, function() assert.same({}, (read(text, "in.lua"))) end)
    end

    it("refuses an iterator that begins with an empty table", function()
      for _, rest in ipairs { "", "coroutine.yield { turns = { 'x' } }" } do
        local ok, err = pcall(read, ("return coroutine.wrap(function() coroutine.yield {} %s end)"):format(rest),
          "in.lua")
        assert.is_false(ok)
        assert.matches("in.lua' gives an empty table as its first conversation: it must have messages or turns",
          err.message, 1, true)
      end
    end)

    for field, value in pairs {
      id = '"\\xff"', metadata = "{ tag = print }", messages = "{ { role = 'user', content = 0/0 } }",
      turns = '{ "one", "\\xff" }',
    } do
      it("is told of a field that the output could not hold: " .. field, function()
        local conversation = ('return { { %s = %s, %s } }'):format(field, value, field == "turns" and "id = 1"
          or 'turns = { "x" }')
        if field == "messages" then conversation = ("return { { messages = %s } }"):format(value) end
        local item = read(conversation, "in.lua")[1]
        assert.equal("ValueError", item.error and item.error.code)
        assert.is_truthy(item.error.message:find("^" .. field .. " cannot be written as JSON: "), item.error.message)
      end)
    end

    it("is told what a schema of its own raises, whatever that is", function()
      local schema = "setmetatable({}, { __index = function() error { my = 'trouble' } end })"
      for _, field in ipairs { "schema = " .. schema, "expect = { json = " .. schema .. " }" } do
        local item = read(("return { { turns = { 'x' }, %s } }"):format(field), "in.lua")[1]
        assert.equal("an error without a text: {\"my\":\"trouble\"}", item.error and item.error.message, field)
      end
    end)

    it("may give tables whose metatable is locked", function()
      local item = read([[local function locked(list) return setmetatable(list, { __metatable = true }) end
        return { locked { turns = locked { "x" }, expect = locked { contains = "y" } } }]], "in.lua")[1]
      assert.same({ nil, { "x" }, { contains = "y" } }, { item.error, item.turns, item.expect })
    end)

    it("may give functions for turns and expect", function()
      local item = read("return { { turns = function() end, expect = function() end } }", "in.lua")[1]
      assert.is_nil(item.error)
      assert.equal("function", type(item.turns))
    end)

    it("is an error that names the script when it fails", function()
      for _, text in ipairs { "return {", "error 'boo'", "return function() error 'boo' end", "return 7" } do
        local ok, err = pcall(read, text, "in.lua")
        assert.is_false(ok)
        assert.equal("ValueError", err.code)
        assert.is_truthy(err.message:find("in.lua", 1, true), err.message)
      end
    end)
  end)

  describe("from a pipe", function()
    it("is read as it comes, while others run", helper.task(function()
      local ends = assert(uv.pipe({}, {}))
      local writer <close> = task.closing(uv.new_pipe(false))
      assert(writer.handle:open(ends.write))
      local source <close> = input.open("/proc/self/fd/" .. ends.read)
      local seen = {}
      local reader = task.spawn(function()
        for item in source do table.insert(seen, item.id) end
      end)
      helper.tick() -- the reader waits now, and we go on
      writer.handle:write '{"id":"a","turns":["x"]}\n{"id":"b",'
      helper.eventually(function() return #seen == 1 end)
      writer.handle:write('"turns":["x"]}', function() writer.handle:close() end)
      reader:await()
      uv.fs_close(ends.read)
      assert.same({ "a", "b" }, seen)
    end))
  end)

  it("cuts lines wherever its chunks end", function()
    local text = "one\n\ntwo three\r\nfour"
    for size = 1, #text + 1 do
      local position = 1
      local reader = lines.new(function()
        local chunk = text:sub(position, position + size - 1)
        position = position + size
        return chunk ~= "" and chunk or nil
      end)
      local found = {}
      for line, has_break in function() return reader:next() end do
        table.insert(found, ("%d %d %q %s"):format(reader.number, reader.offset, line, has_break))
      end
      assert.same({ '1 4 "one" true', '2 5 "" true', '3 16 "two three\\13" true', '4 20 "four" false' }, found)
    end
  end)
end)
