-- Who writes what: an object's fields are declared where it is made, and written by its own file alone.
local files = require "parley.base.files"
local helper = require "spec.helper"

--- The classes that this holds for: the file of each, and the names under which others hold such an object.
local CLASSES = {
  { name = "parley.Session", file = "lua/parley/session/init.lua", held_as = { "session", "live" } },
  { name = "parley.LiveTurn", file = "lua/parley/session/turn.lua", held_as = { "turn" } },
  { name = "parley.Course", file = "lua/parley/session/course.lua", held_as = { "course" } },
  { name = "parley.Deadlines", file = "lua/parley/session/deadlines.lua", held_as = { "deadlines" } },
  { name = "parley.Terminal", file = "lua/parley/session/terminal.lua", held_as = { "terminal" } },
  { name = "parley.Typist", file = "lua/parley/session/typist.lua", held_as = { "typist" } },
  { name = "parley.Dialogs", file = "lua/parley/session/dialog.lua", held_as = { "dialogs" } },
  { name = "parley.Backend", file = "lua/parley/backend/init.lua", held_as = { "backend" } },
  { name = "parley.Pool", file = "lua/parley/backend/pool.lua", held_as = { "pool" } },
  { name = "parley.Transcript", file = "lua/parley/session/transcript.lua", held_as = { "transcript" } },
}

--- The world that the specs simulate has turns, terminals and transcripts of its own.
local ELSEWHERE = "^lua/parley/testing/"

local function each_line(text)
  local number = 0
  return coroutine.wrap(function()
    for line in (text .. "\n"):gmatch "([^\n]*)\n" do
      number = number + 1
      coroutine.yield(number, line)
    end
  end)
end

local function without_comments(text) return (text:gsub("%-%-[^\n]*", "")) end

--- The fields that a class declares: name to whether it may be absent.
local function declared(text, class)
  local fields, is_inside = {}, false
  for _, line in each_line(text) do
    local name = line:match "^%-%-%-@class ([%w.]+)"
    if name then is_inside = name == class end
    if not line:find "^%-%-%-" then is_inside = false end
    local field, mark = line:gsub("@field package ", "@field "):match "^%-%-%-@field ([%w_]+)(%??)"
    if is_inside and field then fields[field] = mark == "?" end
  end
  return fields
end

--- What a text assigns to fields of variables: by the variable, lists of { number, field }.
local function all_assigned(text)
  local found = {}
  local function note(number, owner, field)
    found[owner] = found[owner] or {}
    table.insert(found[owner], { number = number, field = field })
  end
  for number, line in each_line(without_comments(text)) do
    for owner, field in line:gmatch "([%w_]+)%.([%w_]+)%s*=%f[^=]" do note(number, owner, field) end
    local several = line:match "^%s*([%w_.]+%s*,[%w_.%s,]*)=%f[^=]"
    for owner, field in (several and several:gsub("[^,]*$", "") or ""):gmatch "([%w_]+)%.([%w_]+)%s*," do
      note(number, owner, field)
    end
  end
  return found
end

local assigned_of = {} -- by text: each is looked at for every class

--- What a text assigns to fields of a variable: a list of { number, field }.
local function assigned(text, variable)
  assigned_of[text] = assigned_of[text] or all_assigned(text)
  return assigned_of[text][variable] or {}
end

--- The names in the table that the constructor gives to `setmetatable`.
local function constructed(text)
  local names = {}
  for list in without_comments(text):gmatch "setmetatable%((%b{}),%s*%u" do
    for name in ("," .. list:sub(2, -2):gsub("%b{}", ""):gsub("%b()", "")):gmatch ",%s*([%w_]+)%s*=%f[^=]" do
      names[name] = true
    end
  end
  return names
end

local function undeclared_of(class, text)
  local fields, problems, is_set = declared(text, class.name), {}, constructed(text)
  for name in pairs(is_set) do
    if fields[name] == nil then
      table.insert(problems, ("%s: %s is made with '%s'"):format(class.file, class.name, name))
    end
  end
  for _, one in ipairs(assigned(text, "self")) do
    is_set[one.field] = true
    if fields[one.field] == nil then
      table.insert(problems, ("%s:%d: '%s' is no declared field of %s"):format(class.file, one.number, one.field,
        class.name))
    end
  end
  for name, is_optional in pairs(fields) do
    if not is_set[name] then
      table.insert(problems, ("%s: nobody sets the declared field '%s'%s"):format(class.file, name,
        is_optional and ", which may be absent" or ""))
    end
  end
  table.sort(problems)
  return problems
end

--- Where a file that is not the class's own writes its fields.
local function strangers_of(class, path, text, problems)
  if path == class.file or path:find(ELSEWHERE) then return end
  local fields = declared(files.read(class.file), class.name)
  for _, variable in ipairs(class.held_as) do
    for _, one in ipairs(assigned(text, variable)) do
      if fields[one.field] ~= nil then
        table.insert(problems, ("%s:%d: writes %s.%s"):format(path, one.number, class.name, one.field))
      end
    end
  end
end

describe("the fields of", function()
  for _, class in ipairs(CLASSES) do
    it(class.name .. " are declared where it is made", function()
      local text = files.read(class.file)
      assert.truthy(next(declared(text, class.name)), "no field is declared")
      assert.same({}, undeclared_of(class, text))
    end)

    it(class.name .. " are written by its own file alone", function()
      local problems = {}
      for _, folder in ipairs { "lua", "scripts" } do
        helper.each_source(folder, function(path, text) strangers_of(class, path, text, problems) end)
      end
      assert.same({}, problems)
    end)
  end

  it("a class that others write, or that does not declare them, are told", function()
    local text = table.concat({
      "---@class parley.Thing", "---@field a integer", "---@field package b? string", "---@field c boolean",
      "local Thing = {}",
      "local function new() return setmetatable({ a = 1, d = { e = 2 } }, Thing) end",
      "function Thing:f() self.b, self.g = 1, 2 end -- self.h = 1",
      "function Thing:i()", "  self.b, self.g = 1, 2", "  if self.a == 1 then self.j = 1 end", "end",
    }, "\n")
    local thing = { name = "parley.Thing", file = "thing.lua", held_as = { "thing" } }
    assert.same({
      "thing.lua: nobody sets the declared field 'c'", "thing.lua: parley.Thing is made with 'd'",
      "thing.lua:10: 'j' is no declared field of parley.Thing",
      "thing.lua:7: 'g' is no declared field of parley.Thing",
      "thing.lua:9: 'g' is no declared field of parley.Thing",
    }, undeclared_of(thing, text))
    local session = CLASSES[1]
    local problems = {}
    strangers_of(session, "other.lua", "local x\nrun.session.closed = true\nif session.turn == x then return end\n"
      .. "live.turn, live.other = 1, 2\nlocal session = 1", problems)
    assert.same({ "other.lua:2: writes parley.Session.closed", "other.lua:4: writes parley.Session.turn" }, problems)
  end)
end)
