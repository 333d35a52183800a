local errors = require "parley.base.errors"
local options = require "parley.base.options"

local rules = {
  model = { type = "string" },
  rounds = { type = "positive integer", default = 3 },
  wait_ms = { type = "milliseconds" },
  tools = { type = "list of strings", default = { "Read" } },
  files = { type = { "string", "list of strings" } },
  extra_env = { type = "map of strings" },
  on_event = { type = "callable" },
  count = { type = "integer" },
  is_loud = { type = "boolean", default = false },
  colour = { type = "string", check = options.one_of { "red", "green" } },
  state = { type = "table", copy = false },
}

local function check(given) return options.check(rules, given, "parley.thing") end

---Check that the options are refused with this message, and which one is named.
local function assert_refused(message, name, given)
  local ok, err = pcall(check, given)
  assert.is_false(ok, "was accepted")
  assert.is_true(errors.is(err, "ValueError"), tostring(err))
  assert.equal(message, err.message)
  assert.equal(name, err.option)
end

describe("options.check", function()
  it("fills in the defaults", function()
    assert.same({ rounds = 3, tools = { "Read" }, is_loud = false }, check {})
    assert.same(check {}, check(nil))
  end)

  it("takes what fits", function()
    local given = {
      model = "opus", rounds = 1, wait_ms = 0.5, tools = {}, files = { "a", "b" }, extra_env = { A = "1" },
      on_event = print, count = -1, is_loud = true, colour = "red", state = {},
    }
    assert.same(given, check(given))
    assert.equal("a", check({ files = "a" }).files)
  end)

  it("takes an object that can be called", function()
    local callable = setmetatable({}, { __call = function() return 7 end })
    assert.equal(7, check({ on_event = callable }).on_event())
  end)

  it("takes tables whose metatable is locked", function()
    for _, lock in ipairs { false, 5, "locked" } do
      local function locked(value) return setmetatable(value, { __metatable = lock, __call = value.call }) end
      local checked = check(locked { tools = locked { "a" }, extra_env = locked { A = "1" },
        on_event = locked { call = function() return 7 end } })
      assert.same({ { "a" }, { A = "1" }, 7 }, { checked.tools, checked.extra_env, checked.on_event() })
    end
  end)

  it("does not change the caller's table", function()
    local given = { tools = { "Bash" } }
    local checked = check(given)
    checked.tools[1], checked.rounds, checked.extra = "Edit", 9, 1
    assert.same({ tools = { "Bash" } }, given)
  end)

  it("does not hand out the defaults themselves", function()
    check({}).tools[1] = "Bash"
    assert.same({ "Read" }, check({}).tools)
  end)

  it("keeps the caller's own table where the rule says so", function()
    local state = {}
    assert.equal(state, check({ state = state }).state)
  end)

  it("keeps false apart from not given", function()
    assert.is_false(options.check({ on = { type = "boolean", default = true } }, { on = false }, "x").on)
  end)

  describe("refuses", function()
    it("an unknown name and suggests the near one", function()
      assert_refused("parley.thing has no option 'modle'; did you mean 'model'?", "modle", { modle = "opus" })
    end)

    it("an unknown name that nothing is near to", function()
      assert_refused("parley.thing has no option 'temperature'", "temperature", { temperature = 1 })
    end)

    it("a value at a number", function()
      assert_refused("parley.thing has no option '1'", 1, { "opus" })
    end)

    it("what is no table", function()
      assert_refused([[parley.thing takes a table of options, not "opus"]], nil, "opus")
      assert_refused("parley.thing takes a table of options, not 5", nil, 5)
    end)

    it("a wrong type", function()
      assert_refused("parley.thing: option 'model' must be a value of type string, not 5", "model", { model = 5 })
      assert_refused("parley.thing: option 'is_loud' must be a value of type boolean, not \"yes\"", "is_loud",
        { is_loud = "yes" })
      assert_refused("parley.thing: option 'on_event' must be a value of type callable, not a table", "on_event",
        { on_event = {} })
    end)

    it("what none of several types fits", function()
      assert_refused("parley.thing: option 'files' must be a value of type string or list of strings, not true",
        "files", { files = true })
    end)

    it("numbers that are not of the kind", function()
      local refused = {
        rounds = { 0, -1, 1.5, 2.0, "3" }, count = { 1.0, "1" }, wait_ms = { -1, 0 / 0, "5" },
      }
      for name, values in pairs(refused) do
        for _, value in ipairs(values) do
          local ok, err = pcall(check, { [name] = value })
          assert.is_false(ok, name .. " " .. tostring(value))
          assert.equal(name, err.option)
        end
      end
    end)

    it("lists that are not of strings only", function()
      for _, value in ipairs { "a", { 1 }, { "a", 2 }, { a = "b" }, { "a", b = "c" }, { [1] = "a", [3] = "c" } } do
        assert.is_false((pcall(check, { tools = value })))
      end
    end)

    it("maps that are not of strings only", function()
      for _, value in ipairs { "a", { "a" }, { A = 1 }, { [1] = "a" }, { A = "1", B = false } } do
        assert.is_false((pcall(check, { extra_env = value })))
      end
    end)

    it("strings that hold a NUL byte", function()
      assert_refused([[parley.thing: option 'model' must be without NUL bytes, not "a\0b"]], "model",
        { model = "a\0b" })
      for name, value in pairs { tools = { "a", "b\0" }, files = "\0", extra_env = { A = "\0" } } do
        assert_refused(("parley.thing: option '%s' must be without NUL bytes%s"):format(name,
          type(value) == "string" and [[, not "\0"]] or ""), name, { [name] = value })
      end
      assert.is_false((pcall(check, { extra_env = { ["A\0"] = "1" } })))
      local state = { text = "a\0b" }
      state.itself = state
      assert.equal(state, check({ state = state }).state) -- what a table holds is its owner's affair
    end)

    it("a value that the rule's check does not take", function()
      assert_refused([[parley.thing: option 'colour' must be one of red, green, not "blue"]], "colour",
        { colour = "blue" })
    end)
  end)
end)

describe("options.merge", function()
  it("joins tables of rules", function()
    local one, two = { a = { type = "string" } }, { b = { type = "string" } }
    assert.same({ a = one.a, b = two.b }, options.merge(one, two))
    assert.is_nil(one.b)
  end)

  it("refuses a name that two of them have", function()
    assert.error_matches(function() options.merge({ a = {} }, { a = {} }) end, "a")
  end)
end)
