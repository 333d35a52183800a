local contract = require "parley.policy.contract"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local policies = require "parley.policy"

local function refused(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "nothing was raised")
  assert.is_true(errors.is(err, "ValueError"), tostring(err))
  assert.is_nil(err.message:find "\n")
  return err
end

describe("policies.load", function()
  after_each(helper.remove_folders)

  it("puts the defaults behind what is given", function()
    local policy = policies.load("delivery", { clear = function() return "mine" end, enter = "\n" })
    local default = require "parley.policy.delivery"
    assert.equal("mine", policy.clear())
    assert.equal("\n", policy.enter)
    assert.equal("\n", policies.load("delivery", { enter = "\n" }).enter)
    assert.equal(default.holds, policy.holds)
    assert.equal("the policy 'delivery'", policy.described)
  end)

  it("takes tables whose metatable is locked, as a policy and as what it is given", function()
    for _, lock in ipairs { false, 5, "locked" } do
      local policy = policies.load("delivery", setmetatable({ argument = function(text) return text.word end },
        { __metatable = lock }))
      assert.equal("x", policy.argument(setmetatable({ word = "x" }, { __metatable = lock })))
    end
  end)

  it("gives back one that was loaded", function()
    local policy = policies.load("readiness", { state = function() return "busy" end })
    assert.equal(policy, policies.load("readiness", policy))
  end)

  it("leaves the caller's table as it was", function()
    local own = { state = function() return "busy" end }
    policies.load("readiness", own)
    assert.is_nil(getmetatable(own))
    assert.is_nil(own.described)
  end)

  it("refuses a field of another type", function()
    assert.equal("the policy 'delivery': 'enter' must be a string, not a number",
      refused(policies.load, "delivery", { enter = 5 }).message)
    assert.equal("the policy 'routing': 'route' must be a function, not a string",
      refused(policies.load, "routing", { route = "x" }).message)
  end)

  it("refuses what of a delivery cannot be used, naming the function", function()
    local function complaint_of(field, result)
      return refused(policies.load("delivery", { [field] = function() return result end })[field], "x", {}).message
    end
    assert.equal("the policy 'delivery' must return a string, or nil and a reason from 'prepare', not an empty one",
      complaint_of("prepare", ""))
    assert.equal("the policy 'delivery' must return a string, or nil and a reason from 'prepare', not 5",
      complaint_of("prepare", 5))
    assert.equal("the policy 'delivery' must return a string, or nil from 'argument', not one with a NUL byte",
      complaint_of("argument", "a\0b"))
    assert.matches("or nil from 'argument', not an empty one$", complaint_of("argument", ""))
    assert.equal("the policy 'delivery': 'enter' must not be empty",
      refused(policies.load, "delivery", { enter = "" }).message)
    assert.matches("or nil from 'argument', not true$", complaint_of("argument", true))
    for rest_ms, words in pairs { [math.huge] = "inf", [-1] = "-1", [-math.huge] = "-inf" } do
      assert.matches("from 'keystrokes', not a step whose 'rest_ms' is " .. words,
        complaint_of("keystrokes", { { keys = "x", holds = "x", rest_ms = rest_ms } }), 1, true)
    end
    assert.matches("not a step whose 'rest_ms' is %-?nan$",
      complaint_of("keystrokes", { { keys = "x", holds = "x", rest_ms = 0 / 0 } }))
    assert.matches("not a list whose item 1 is one whose 'rest_ms' is \"5\"$",
      complaint_of("keystrokes", { { keys = "x", holds = "x", rest_ms = "5" } }))
  end)

  it("names the file of a policy that fails, or that returns something else", function()
    local path = helper.write(helper.temporary_folder() .. "/mine.lua",
      "return { state = function(view) if view then return 'fine' end error 'oops' end }")
    local policy = policies.load("readiness", path)
    local err = refused(policy.state, {})
    assert.equal(("the policy 'readiness' (%s) must return one of starting, ready, busy, dialog from 'state', "
      .. 'not "fine"'):format(path), err.message)
    assert.equal("readiness", err.policy)
    err = refused(policy.state)
    assert.matches(("the policy 'readiness' (%s) fails in 'state': "):format(path), err.message, 1, true)
    assert.matches("oops", err.cause)
  end)

  it("lets error objects through", function()
    local mine = errors.session_error "mine"
    local policy = policies.load("readiness", { state = function() error(mine, 0) end })
    assert.equal(mine, select(2, pcall(policy.state)))
  end)
end)

-- The results of each function: those that are taken, and those that are not.
local NOTHING = {}
local DIALOG = { kind = "mine", text = "?", choices = { "yes", "no" } }
local STEP = { keys = "x", holds = "x" }
local function changed(base, fields)
  local copy = {}
  for name, value in pairs(base) do copy[name] = value end
  for name, value in pairs(fields) do copy[name] = value end
  return copy
end

local RESULTS = {
  { "routing", "route",
    { {}, { key = "a", options = { model = "m" } }, { key = "a", wait = true, pin = true } },
    { NOTHING, "x", 5, true, { key = 5 }, { options = "x" }, { key = "a", wait = 1 }, { pin = "yes" }, { wait = true },
      { opts = {} } } },
  { "routing", "keys", { {}, { "a", "b" } }, { NOTHING, "a", { 5 }, { a = "b" } } },
  { "injection", "prepare", { { text = "a" }, { text = "a", resume = true, start_offset = 3 } },
    { NOTHING, "a", {}, { text = 5 }, { text = "a", resume = "yes" }, { text = "a", start_offset = 1.5 },
      { text = "a", start_offset = -1 } } },
  { "mcp_config", "write", { "/a" }, { NOTHING, 5, {}, false } },
  { "readiness", "state", { "starting", "ready", "busy", "dialog" }, { NOTHING, "idle", true, {} } },
  { "dialogs", "recognize", { NOTHING, DIALOG, changed(DIALOG, { selected = 1, first_number = 1, remedy = "r" }) },
    { "mine", true, {}, changed(DIALOG, { kind = 5 }), changed(DIALOG, { text = true }),
      changed(DIALOG, { choices = "yes" }), changed(DIALOG, { choices = { 1 } }), changed(DIALOG, { selected = "1" }),
      changed(DIALOG, { remedy = 5 }) } },
  { "dialogs", "decide", { { choose = 2 }, { keys = "y" }, { fail = "no" }, { deny = "no" } },
    { NOTHING, "yes", {}, { choose = 0 }, { choose = 3 }, { choose = "1" }, { keys = 5 }, { fail = true },
      { chose = 2 }, { keys = "y", chose = 2 } } },
  { "delivery", "prepare", { "text" }, { NOTHING, 5, {}, true } },
  { "delivery", "keystrokes", { { STEP }, { { editor = "x", holds = "x" }, changed(STEP, { rest_ms = 5 }) } },
    { NOTHING, "x", {}, { "x" }, { STEP, { keys = "x" } }, { { holds = "x" } }, { changed(STEP, { editor = "x" }) },
      { { editor = 5, holds = "x" } }, { changed(STEP, { rest_ms = "5" }) } } },
  { "delivery", "holds", { "whole", "empty", "other" }, { NOTHING, true, "all" } },
  { "delivery", "clear", { "", "x" }, { NOTHING, 5 } },
  { "sleeping", "choose", { {}, { "an-id" } }, { NOTHING, "an-id", { 5 }, { id = "an-id" } } },
  { "settling", "judge", { NOTHING, { subtype = "success" }, { subtype = "error_mine", stop_reason = "end_turn" } },
    { true, "success", {}, { subtype = "sucess" }, { subtype = 5 }, { subtype = "success", stop_reason = 5 },
      { subtype = "success", reason = "end_turn" } } },
}

describe("the page of the policies", function()
  it("says of every function what it must return", function()
    local told = {}
    for name, words in files.read("scripts/examples/README.md"):gmatch "\n| `([%w_.]+)%([^|]*%)` | `([^\n]*)` |" do
      told[name] = words:gsub("\\|", "|")
    end
    local promised = {}
    for _, policy in ipairs { "routing", "injection.native_jsonl", "mcp_config", "readiness", "dialogs", "delivery",
      "settling", "permission", "sleeping" } do
      for field, promise in pairs(require("parley.policy." .. policy).contract) do
        local name = policy:match "^[%w_]+" .. "." .. field
        if promise.returns then promised[name] = contract.words(promise) end
      end
    end
    assert.same(promised, told)
  end)
end)

describe("what a policy returns", function()
  for _, case in ipairs(RESULTS) do
    local name, field, good, bad = table.unpack(case)
    --- Calls the function with this result; the first argument is a dialog, for those that want one.
    local function returning(result)
      local function own()
        if result ~= NOTHING then return result end
      end
      return policies.load(name, { [field] = own })[field](DIALOG, {})
    end

    it(("is taken when it is right: %s.%s"):format(name, field), function()
      for _, result in ipairs(good) do assert.equal(result ~= NOTHING and result or nil, (returning(result))) end
    end)

    it(("is one error when it is wrong: %s.%s"):format(name, field), function()
      for _, result in ipairs(bad) do
        local err = refused(returning, result)
        assert.matches(("the policy '%s' must return "):format(name), err.message, 1, true)
        assert.matches((" from '%s', not "):format(field), err.message, 1, true)
        assert.equal(name, err.policy)
      end
    end)
  end

  it("is nothing and a second result where that is right", function()
    local function own(name, field, second)
      return policies.load(name, { [field] = function() return nil, second end })[field]
    end
    assert.same({ nil, "why" }, { own("routing", "route", "why")() })
    assert.same({ nil, "why" }, { own("delivery", "prepare", "why")() })
    assert.same({ nil, 20 }, { own("settling", "judge", 20)() })
    refused(own("routing", "route", 5))
    refused(own("delivery", "prepare", 5))
    refused(own("settling", "judge", "soon"))
  end)
end)

describe("policies.check_accept", function()
  local function check(accept, given) policies.check_accept(accept, given or {}, "parley.thing") end

  it("takes every dialog that is known how to answer", function()
    local kinds = policies.acceptable()
    assert.same({ "trust", "bypass", "api_key", "onboarding", "mcp", "imports", "settings_error", "settings_warning",
      "resume", "plan", "permission" }, kinds)
    check(kinds)
    check {}
  end)

  it("refuses another, with the near one", function()
    local err = refused(check, { "trust", "bypas" })
    assert.equal("accept", err.option)
    assert.matches("parley.thing: option 'accept' must name dialogs, each one of trust, bypass, .*, not 'bypas'; "
      .. "did you mean 'bypass'%?", err.message)
    refused(check, { "login" }) -- nobody can consent to that
  end)

  it("takes any for a dialogs policy of the caller's own", function()
    check({ "weather" }, { dialogs = { decide = print } })
  end)

  it("is asked by whoever takes the option", function()
    local session, fake_process = require "parley.session", require "parley.testing.fake_process"
    local parley = require "parley"
    refused(parley.backend, { accept = { "trsut" } })
    refused(parley.session, { accept = { "trsut" } })
    refused(session.new, fake_process.new(), { accept = { "trsut" } })
  end)
end)
