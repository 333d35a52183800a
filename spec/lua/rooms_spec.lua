-- The rooms of lua/parley: imports point down only, between rooms and within them.
local uv = require "luv"
local files = require "parley.base.files"
local helper = require "spec.helper"

--- From the top to the ground. What stands in lua/parley itself is the public face, above them all.
local ROOMS = { "command", "testing", "gateway", "backend", "sleep", "session", "hub", "policy", "claude", "base",
  "core" }
local FLOOR = {}
for index, room in ipairs(ROOMS) do FLOOR[room] = #ROOMS - index end

local function floor_of(name)
  local room = name:match "^parley%.([%w_]+)"
  return FLOOR[room] or #ROOMS
end

--- The modules of the library: name to the names that it requires.
local function read_modules()
  local modules = {}
  helper.each_source("lua/parley", function(path, text)
    local name, required = path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/", "."), {}
    text = text:gsub("%-%-[^\n]*", "")
    for each in text:gmatch "require%s*%(?%s*[\"'](parley[%w_.]*[%w_])[\"']" do table.insert(required, each) end
    modules[name:gsub("%.init$", "")] = required
  end)
  return modules
end

--- The arrows that point up, and the circles, as sentences.
local function problems_of(modules)
  local problems, seen, names = {}, {}, {}
  local function follow(name, way)
    if way[name] then
      table.insert(problems, ("%s requires itself in a circle by way of %s"):format(name, way.last))
    elseif not seen[name] then
      way[name] = true
      for _, required in ipairs(modules[name] or {}) do
        if floor_of(required) > floor_of(name) then
          table.insert(problems, ("%s requires %s, which stands above it"):format(name, required))
        end
        way.last = name
        follow(required, way)
      end
      way[name], seen[name] = nil, true
    end
  end
  for name in pairs(modules) do table.insert(names, name) end
  table.sort(names)
  for _, name in ipairs(names) do follow(name, {}) end
  return problems
end

--- What reads a clock or starts a timer; `parley.base.clock` alone may.
local TIME = { "uv%.now", "uv%.hrtime", "uv%.new_timer", "uv%.gettimeofday", "uv%.clock_gettime", "uv%.update_time",
  "uv%.timer_start", "os%.time", "os%.clock", "os%.date" }

--- What reaches out of the stand-in; its `outside.lua` alone may. For files it has `parley.base.files`.
local OUTSIDE = { "uv%.[%w_]+", "os%.[%w_]+", "io%.[%w_]+", "print", "require \"luv\"" }

--- The lines of a text that hold what is in a list, as `file:line: what`.
local function uses_of(patterns, path, text, found)
  local number = 0
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    number = number + 1
    local code = line:gsub("%-%-.*", "")
    for _, pattern in ipairs(patterns) do
      local name = code:match("%f[%w_]" .. pattern .. "%f[^%w_]")
      if name then table.insert(found, ("%s:%d: %s"):format(path, number, name)) end
    end
  end
  return found
end

--- What keys send, as Lua spells it: an escape sequence, or a control character alone.
local KEY_BYTES = { '"\\27', '"\\r"', '"\\11"', '"\\21"', '"\\127"' }

local function key_bytes(path, text, found)
  local number = 0
  for line in (text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    local code = line:gsub("%-%-.*", "")
    for _, bytes in ipairs(KEY_BYTES) do
      if code:find(bytes, 1, true) then table.insert(found, ("%s:%d: %s"):format(path, number, bytes)) end
    end
  end
end

describe("the rooms of the library", function()
  local modules = read_modules()

  it("are those of the list, and the hall holds the public face alone", function()
    local found, hall = {}, {}
    local scan = assert(uv.fs_scandir "lua/parley")
    for name, kind in function() return uv.fs_scandir_next(scan) end do
      table.insert(kind == "directory" and found or hall, name)
    end
    table.sort(found)
    table.sort(hall)
    local rooms = { table.unpack(ROOMS) }
    table.sort(rooms)
    assert.same(rooms, found)
    assert.same({ "http.lua", "init.lua", "task.lua", "types.lua" }, hall)
  end)

  it("import downwards only", function()
    assert.truthy(#modules["parley"] > 5 and #modules["parley.session"] > 5) -- the imports are found
    assert.same({}, problems_of(modules))
  end)

  it("have one door to time", function()
    local found = {}
    for _, folder in ipairs { "lua", "scripts" } do
      helper.each_source(folder, function(path, text)
        if path ~= "lua/parley/base/clock.lua" then uses_of(TIME, path, text, found) end
      end)
    end
    assert.same({}, found)
    assert.truthy(#uses_of(TIME, "clock", files.read "lua/parley/base/clock.lua", {}) > 3) -- they are found
    assert.same({ "a.lua:2: uv.new_timer", "a.lua:4: os.time" },
      uses_of(TIME, "a.lua", "local a\nlocal t = uv.new_timer()\n-- os.clock\nreturn os.time()", {}))
  end)

  it("have one door to folders, for what luv reads of them it may keep", function()
    local found, scans = {}, { "uv%.fs_scandir", "uv%.fs_opendir" }
    for _, folder in ipairs { "lua", "scripts" } do
      helper.each_source(folder, function(path, text)
        if path ~= "lua/parley/base/files.lua" then uses_of(scans, path, text, found) end
      end)
    end
    assert.same({}, found)
    assert.same(1, #uses_of(scans, "files", files.read "lua/parley/base/files.lua", {}))
  end)

  it("have specs that wait for events, and for no time", function()
    local found, sleeps = {}, { "task%.sleep" }
    helper.each_source("spec", function(path, text) uses_of(sleeps, path, text, found) end)
    assert.same({}, found)
    assert.same({ "a.lua:2: task" .. ".sleep" }, uses_of(sleeps, "a.lua", "local task\ntask" .. ".sleep(5)", {}))
  end)

  it("know in one place what a key of the program's sends", function()
    local found, known = {}, {}
    for _, room in ipairs { "backend", "session", "policy", "claude" } do
      helper.each_source("lua/parley/" .. room, function(path, text)
        key_bytes(path, text, path == "lua/parley/claude/keys.lua" and known or found)
      end)
    end
    assert.same({}, found)
    assert.truthy(#known > 3) -- they are found
    local bytes = {}
    key_bytes("a.lua", 'press "\\r"\nfold "\\r\\n?" -- "\\27"\npress "\\27[200~"', bytes)
    assert.same({ 'a.lua:1: "\\r"', 'a.lua:3: "\\27' }, bytes)
  end)

  it("have one door out of the stand-in", function()
    local found, door = {}, {}
    local function look(path, text)
      uses_of(OUTSIDE, path, text, path == "lua/parley/testing/stand_in/outside.lua" and door or found)
    end
    helper.each_source("lua/parley/testing/stand_in", look)
    look("lua/parley/testing/stand_in.lua", files.read "lua/parley/testing/stand_in.lua")
    assert.same({}, found)
    assert.truthy(#door > 10) -- they are found
  end)

  it("name what they require by a module that is there", function()
    local missing = {}
    for name, required in pairs(modules) do
      for _, each in ipairs(required) do
        if not modules[each] and each ~= "parley.core" and each ~= "parley.bundle" then
          table.insert(missing, name .. " requires " .. each)
        end
      end
    end
    assert.same({}, missing)
  end)

  it("each say what they are for", function()
    for _, room in ipairs(ROOMS) do
      local text = files.read(("lua/parley/%s/README.md"):format(room))
      assert.truthy(text and #text > 80, room .. " has no README.md that says what it is for")
    end
  end)

  it("are told of an arrow that points up, and of a circle", function()
    assert.same({ "parley.base.files requires parley.claude.paths, which stands above it" }, problems_of {
      ["parley.base.files"] = { "parley.claude.paths" }, ["parley.claude.paths"] = {},
    })
    assert.same({ "parley.base.a requires itself in a circle by way of parley.base.b" }, problems_of {
      ["parley.base.a"] = { "parley.base.b" }, ["parley.base.b"] = { "parley.base.a" },
    })
    assert.same({ "parley.session requires parley, which stands above it" }, problems_of {
      ["parley.session"] = { "parley" }, ["parley"] = {},
    })
  end)
end)
