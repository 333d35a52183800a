--- Any allocation of Lua may run a finalizer, and a finalizer may do anything: change the table that C is reading, or
--- close the object whose bytes C is handing over. What C finds then may surprise, but it is never memory that is gone.
--- (`make asan` sees what an ordinary build only suffers now and then.)
local core = require "parley.core"
local helper = require "spec.helper"

local json = core.json

--- Calls `use(object)` with a finalizer that runs `change(object)` at the first allocation, then anew at the second,
--- and so on until there is no such allocation. Each step of the collector is a whole cycle meanwhile.
---@param make fun(): any
---@param use fun(object: any)
---@param change fun(object: any)
---@return integer places  how many allocations there were
local function change_at_each_allocation(make, use, change)
  local place = 0
  local reached
  repeat
    place, reached = place + 1, 0
    local object, is_armed = make(), true
    local function arm()
      setmetatable({}, { __gc = function()
        if not is_armed then return end
        reached = reached + 1
        if reached == place then change(object) else arm() end
      end })
    end
    collectgarbage "stop"
    arm()
    local mode = collectgarbage("incremental", 1, 1000, 200)
    collectgarbage "restart"
    local debt = {}
    for i = 1, 100 do rawset(debt, i, i) end -- what a table grows by is made up for at the next allocation
    local ok, err = pcall(use, object)
    is_armed = false
    collectgarbage("incremental", 200, 100, 13)
    collectgarbage(mode)
    assert(ok or type(err) == "string", err)
  until reached < place
  return place - 1
end

--- A table of strings that nobody else holds, so that they go when the table lets go of them.
local function strings(count, name)
  local list = {}
  for i = 1, count do list[name and name .. i or i] = ("%s=%d"):format(("x"):rep(100), i) end
  return list
end

local function clear(list)
  for key in pairs(list) do list[key] = nil end
  collectgarbage()
end

local function grow(list)
  for i = 1, 5000 do list["grown" .. i], list[i] = i, i end
end

describe("a finalizer that runs", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  describe("while JSON is written", function()
    for name, change in pairs { empties = clear, enlarges = grow } do
      for _, options in ipairs { {}, { sort_keys = true }, { indent = 2 } } do
        it(("and %s the object does no harm, %s"):format(name, json.encode(options)), function()
          local function use(value)
            local text, err = json.encode(value, options)
            assert(text or err.code == "EJSON")
          end
          local function object() return strings(300, "key") end
          assert.is_true(change_at_each_allocation(object, use, change) > 0)
          assert.is_true(change_at_each_allocation(function() return strings(300) end, use, change) > 0)
        end)
      end
    end

    it("and takes away what is still to come is refused by name", function()
      local seen = {}
      change_at_each_allocation(function() return { a = 1, b = 2 } end, function(value)
        local text, err = json.encode(value, { sort_keys = true })
        seen[text or err.message] = true
      end, function(value) value.b = nil end)
      assert.is_true(seen["cannot encode b: nil"])
    end)
  end)

  describe("while a child's options are read", function()
    local function make()
      return { argv = { "/nonexistent/" .. ("x"):rep(100), strings(20)[7] }, env = strings(20), cwd = "/" }
    end

    for name, change in pairs { empties = clear, enlarges = grow } do
      it(("and %s their lists does no harm"):format(name), function()
        local codes = {}
        local places = change_at_each_allocation(make, function(options)
          local _, err = core.pty.spawn(options)
          codes[err.code] = true
        end, function(options)
          change(options.env)
          change(options.argv)
        end)
        assert.is_true(places > 0)
        assert.same({ ENOENT = true }, codes)
      end)
    end
  end)

  describe("while a screen is read", function()
    local function make()
      local screen = core.screen.new(4, 20)
      screen:feed(("漢字 \27[1mbold\27[m "):rep(50))
      return screen
    end

    local changes = {
      closes = function(screen) screen:close() end,
      shrinks = function(screen) if tostring(screen):find "rows" then screen:resize(1, 2) end end,
      enlarges = function(screen) if tostring(screen):find "rows" then screen:resize(200, 200) end end,
    }
    for _, method in ipairs { "rows", "text", "row", "attributes", "replies", "title", "modes", "cursor" } do
      for name, change in pairs(changes) do
        it(("by `%s` and %s it does no harm"):format(method, name), function()
          change_at_each_allocation(make, function(screen) screen[method](screen, 1) end, change)
        end)
      end
    end

    it("leaves the reply to what was asked meanwhile", function()
      local questions, replies = ("\27[5n"):rep(20), {}
      local places = change_at_each_allocation(make, function(screen)
        screen:feed(questions)
        table.insert(replies, screen:replies())
        collectgarbage "stop"
        table.insert(replies, screen:replies())
      end, function(screen) screen:feed(questions) end)
      assert.is_true(places > 0)
      assert.equal(("\27[0n"):rep(20 * (places * 2 + 1)), table.concat(replies))
    end)
  end)

  it("while a screen is fed a number, and closes it, does no harm", function()
    local places = change_at_each_allocation(function() return core.screen.new(5, 20) end,
      function(screen) screen:feed(12.5) end, function(screen) screen:close() end)
    assert.is_true(places > 0)
  end)

  describe("while rows are read", function()
    local function make()
      local database = assert(core.sqlite.open ":memory:")
      assert(database:script "CREATE TABLE t (a); INSERT INTO t VALUES ('some words'), ('others')")
      return database
    end

    --- Reads them while a finalizer changes something, to the end.
    local function places_of(change)
      return change_at_each_allocation(make, function(database)
        local rows = assert(database:query "SELECT a || 'x' AS a FROM t")
        database:close()
        assert(#rows == 2 and rows[1].a == "some wordsx" and rows[2].a == "othersx") -- which allocates nothing
      end, change)
    end

    it("and closes does so behind them", function()
      assert.is_true(places_of(function(database) database:close() end) > 3)
    end)

    it("and asks is refused", function()
      local refusals = {}
      places_of(function(database)
        local ok, problem = pcall(database.query, database, "SELECT 2")
        if not ok then refusals[problem:match "in the middle of a query" or problem] = true end
      end)
      assert.is_true(refusals["in the middle of a query"])
    end)
  end)

  describe("while a request", function()
    local REQUEST = "POST /one HTTP/1.1\r\nHost: x\r\nName: a value\r\nName: b\r\nContent-Length: 4\r\n\r\nbody"
    local CHANGES = {
      closes = function(parser) parser:close() end,
      ["goes on to the next"] = function(parser)
        local next = 1
        repeat
          local event
          event, next = parser:feed(REQUEST, next)
        until not event or event == "more"
      end,
    }

    local function after_head()
      local parser = core.http.new(1000, 10)
      assert(parser:feed(REQUEST) == "head")
      return parser
    end

    for name, change in pairs(CHANGES) do
      it("'s head is read, and the parser " .. name .. ", it is whole or refused", function()
        local places = change_at_each_allocation(after_head, function(parser)
          local ok, head = pcall(parser.head, parser)
          collectgarbage "stop"
          parser:close()
          assert(not ok or head.target .. head.headers.host .. head.headers.name == "/onexa value, b", head)
        end, change)
        assert.is_true(places > 3)
      end)
    end

    it("'s body is read, and the parser closes, it is whole or refused", function()
      local places = change_at_each_allocation(after_head, function(parser)
        local event, _, body = parser:feed "body"
        collectgarbage "stop"
        parser:close()
        assert(not event or body == "body", event)
      end, CHANGES.closes)
      assert.is_true(places > 0)
    end)
  end)

  it("while a line is handed over, and closes or reads on, does no harm", function()
    finally(helper.remove_folders)
    local path = helper.temporary_folder() .. "/lines"
    helper.write(path, ("x"):rep(5000) .. "\n" .. ("y"):rep(90000) .. "\n")
    for _, change in ipairs {
      function(tail) tail:close() end,
      function(tail) repeat until not tail:next() end,
    } do
      local places = change_at_each_allocation(function() return assert(core.tail.open(path)) end, function(tail)
        local event, line = tail:next()
        tail:close()
        assert.equal(event and ("x"):rep(5000), line)
      end, change)
      assert.is_true(places > 1)
    end
  end)
end)
