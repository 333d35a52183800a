-- What the language server is told is what there is.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local launch = require "parley.claude.launch"
local policies = require "parley.policy"
local session = require "parley.session"
local turn = require "parley.session.turn"

--- The functions that a stub declares, by the local that they belong to, and the local that it returns.
local function declared(path)
  local functions, returned = {}, nil
  for line in io.lines(path) do
    local class, name = line:match "^function (%w+)[.:]([%w_]+)%("
    if class then
      functions[class] = functions[class] or {}
      table.insert(functions[class], name)
    end
    returned = line:match "^return (%w+)" or returned
  end
  for _, names in pairs(functions) do table.sort(names) end
  return functions, returned
end

local function sorted_names(values, wanted_type)
  local names = {}
  for name, value in pairs(values) do
    if not wanted_type or type(value) == wanted_type then table.insert(names, name) end
  end
  table.sort(names)
  return names
end

--- The fields that a class declares itself, and what it inherits from.
local function class_of(path, wanted)
  local fields, parent, is_inside = {}, nil, false
  for line in io.lines(path) do
    local name, above = line:match "^%-%-%-@class ([%w.]+):? ?([%w.]*)"
    if name then is_inside = name == wanted end
    if is_inside then
      parent = name and above or parent
      table.insert(fields, line:match "^%-%-%-@field ([%w_]+)")
    end
  end
  assert(parent, wanted .. " is not declared")
  return fields, parent
end

local function fields_of(class)
  local all = {}
  while class ~= "" do
    local fields, parent = class_of("lua/parley/types.lua", class)
    for _, name in ipairs(fields) do all[name] = true end
    class = parent
  end
  return sorted_names(all)
end

local function names_of_rules(...)
  local all = {}
  for _, rules in ipairs { ... } do
    for name in pairs(rules) do all[name] = true end
  end
  return all
end

describe("the type of a turn's facts", function()
  it("tells of every fact that a settling policy is given, and of no other", function()
    local told, of_core = {}, class_of("lua/parley/core/turn.lua", "parley.MachineFacts")
    for _, name in ipairs((class_of("lua/parley/policy/settling.lua", "parley.TurnFacts"))) do told[name] = true end
    local given = turn.new("text", function() return true end):facts()
    given.offers_duration, given.asking, given.given_back = false, false, false -- the session's
    given.stop_reason = "end_turn" -- an answer's
    for _, name in ipairs(sorted_names(told)) do assert.is_not_nil(given[name], name .. " is not given") end
    for _, name in ipairs(of_core) do told[name] = true end
    for _, name in ipairs(sorted_names(given)) do assert.is_true(told[name], name .. " is not told of") end
  end)
end)

describe("the stub of parley.core", function()
  it("has every module, and each of them a stub", function()
    local fields = class_of("lua/parley/core/core.lua", "parley.Core")
    table.sort(fields)
    assert.same(sorted_names(core), fields)
    local expected = { "README.md", "core.lua" }
    for _, name in ipairs(sorted_names(core, "table")) do
      if name ~= "error_metatable" then table.insert(expected, name .. ".lua") end
    end
    table.sort(expected)
    assert.same(expected, helper.names_in "lua/parley/core")
  end)

  for _, file in ipairs(helper.names_in "lua/parley/core") do
    local name = file:match "^(%w+)%.lua$"
    if name and name ~= "core" then
      it("declares exactly the functions of " .. name, function()
        local functions, returned = declared("lua/parley/core/" .. file)
        assert.same(sorted_names(core[name], "function"), functions[returned])
        functions[returned] = nil
        local class, methods = next(functions)
        local metatable = debug.getregistry()["parley." .. name]
        assert.equal(metatable ~= nil, class ~= nil)
        if class then assert.same(sorted_names(metatable.__index, "function"), methods) end
        assert.is_nil(next(functions, class))
      end)
    end
  end
end)

--- What else is in that room.
local NO_POLICIES = { init = true, contract = true, decision = true, README = true }

describe("the stub of the options", function()
  it("declares exactly those of a backend", function()
    local all = names_of_rules(launch.rules, session.rules, require("parley.backend").rules)
    for _, name in ipairs { "session_id", "resume_session_id", "fork_session", "base_env" } do all[name] = nil end
    assert.same(sorted_names(all), fields_of "parley.BackendOptions")
  end)

  it("declares exactly those of a session", function()
    assert.same(sorted_names(names_of_rules(launch.rules, session.rules)), fields_of "parley.SessionOptions")
  end)

  it("declares exactly the dialogs that may be answered", function()
    local alias = assert(files.read "lua/parley/types.lua"):match "@alias parley.Dialog.Kind ([^\n]*\n[-|\"%w_]*)"
    local kinds = {}
    for kind in alias:gmatch '"([%w_]+)"' do table.insert(kinds, kind) end
    assert.same(policies.acceptable(), kinds)
  end)

  it("declares exactly the policies", function()
    local names = {}
    for _, file in ipairs(helper.names_in "lua/parley/policy") do
      local name = file:match "^[%w_]+"
      if not NO_POLICIES[name] then names[name] = true end
    end
    assert.same(sorted_names(names), fields_of "parley.Policies")
  end)
end)
