local errors = require "parley.base.errors"
local helper = require "spec.helper"
local json = require("parley.core").json
local schema = require "parley.base.schema"

describe("a schema", function()
  local function problem(given, text)
    schema.check(given, "schema")
    return schema.problem(given, (json.decode(text)))
  end

  local CASES = {
    { { type = "object" }, { "{}", '{"a":1}' }, { "[]", "1", '"x"', "null" } },
    { { type = "array" }, { "[]", "[1]" }, { "{}", "1" } },
    { { type = "string" }, { '""' }, { "1", "null" } },
    { { type = "integer" }, { "1", "1.0", "-3" }, { "1.5", '"1"', "true" } },
    { { type = "number" }, { "1", "1.5" }, { '"1"' } },
    { { type = "boolean" }, { "true", "false" }, { "0", "null" } },
    { { type = "null" }, { "null" }, { "false", "{}" } },
    { { type = { "string", "null" } }, { '"x"', "null" }, { "1" } },
    { { enum = { "a", 1, json.null } }, { '"a"', "1", "null", "1.0" }, { '"b"', "2", "false" } },
    { { enum = { { 1, 2 } } }, { "[1,2]" }, { "[1]", "[1,2,3]", "{}" } },
    { { const = { a = { b = 1 } } }, { '{"a":{"b":1}}' }, { '{"a":{"b":2}}', '{"a":{}}', '{"a":{"b":1},"c":1}' } },
    { { const = false }, { "false" }, { "true", "null" } },
    { { minimum = 1, maximum = 3 }, { "1", "3", '"not a number"' }, { "0", "3.5" } },
    { { exclusiveMinimum = 1, exclusiveMaximum = 3 }, { "2" }, { "1", "3" } },
    { { minLength = 2, maxLength = 3 }, { '"ab"', '"äöü"' }, { '"a"', '"abcd"' } },
    { { minItems = 1, maxItems = 2 }, { "[1]" }, { "[]", "[1,2,3]" } },
    { { items = { type = "string" } }, { "[]", '["a"]', "1" }, { '["a",1]' } },
    { { properties = { a = { type = "string" } } }, { "{}", '{"a":"x","b":1}' }, { '{"a":1}' } },
    { { required = { "a" } }, { '{"a":null}' }, { "{}", '{"b":1}' } },
    { { properties = { a = {} }, additionalProperties = false }, { '{"a":1}', "{}" }, { '{"b":1}' } },
    { { additionalProperties = { type = "integer" } }, { '{"a":1}' }, { '{"a":"x"}' } },
    { { anyOf = { { type = "string" }, { type = "integer", minimum = 3 } } }, { '"a"', "3" }, { "1", "null" } },
    { {}, { "1", "{}", "null" }, {} },
  }
  for i, case in ipairs(CASES) do
    it(("%d: takes what fits %s, and nothing else"):format(i, json.encode(case[1], { sort_keys = true })), function()
      for _, text in ipairs(case[2]) do assert.is_nil(problem(case[1], text), text) end
      for _, text in ipairs(case[3]) do assert.is_string(problem(case[1], text), text) end
    end)
  end

  it("says where, what was expected and what there is", function()
    local given = { type = "object", required = { "name", "files" }, additionalProperties = false, properties = {
      name = { type = "string" }, files = { type = "array", items = { type = "object", properties = {
        line = { type = "integer", minimum = 1 } } } } } }
    assert.equal("$.files[1].line must be at least 1, not 0",
      problem(given, '{"name":"a","files":[{"line":3},{"line":0}]}'))
    assert.equal("$ lacks 'name'; $.files must be of type array, not 7; "
      .. "$.fils is one too many: there may be files, name", problem(given, '{"fils":1,"files":7}'))
    assert.matches("; and 2 more$", problem({ items = { type = "string" } }, "[1,2,3,4,5,6,7]"))
  end)

  for what, case in pairs {
    ["a keyword that is not known"] = { { pattern = "x" }, "schema has the keyword 'pattern', which is not supported" },
    ["one that is spelt wrong"] = { { requierd = {} }, "did you mean 'required'" },
    ["one below"] = { { properties = { a = { items = { oneOf = {} } } } },
      "schema%.properties%.a%.items has the keyword 'oneOf'" },
    ["one in a choice"] = { { anyOf = { {}, { format = "x" } } }, "schema%.anyOf%[1%] has the keyword 'format'" },
    ["no choices"] = { { anyOf = {} }, "schema%.anyOf must be a list of schemas" },
    ["a type that is none"] = { { type = "int" }, "schema%.type must be one of object, .* not \"int\"" },
    ["a list of no types"] = { { type = {} }, "schema%.type must be one of" },
    ["a required that is no list"] = { { required = "a" }, "schema%.required must be a list of names, not \"a\"" },
    ["properties that are none"] = { { properties = { a = "string" } },
      "schema%.properties%.a must be a JSON Schema, a table, not \"string\"" },
    ["an enum that is empty"] = { { enum = {} }, "schema%.enum must be a list of values" },
    ["a count that is none"] = { { minItems = -1 }, "schema%.minItems must be a whole number, not %-1" },
    ["a bound that is none"] = { { minimum = "1" }, "schema%.minimum must be a number, not \"1\"" },
    ["true as a schema"] = { { properties = { a = true } }, "schema%.properties%.a must be a JSON Schema, a table" },
    ["false as that of items"] = { { items = false }, "schema%.items must be a schema, a table, not false" },
    ["what is no schema"] = { "string", "schema must be a JSON Schema, a table, not \"string\"" },
    ["a list"] = { { { type = "string" } }, "schema must be a JSON Schema, a table, not a table" },
    ["what JSON cannot hold"] = { { const = print }, "schema cannot be written as JSON" },
  } do
    it("refuses " .. what, function()
      local ok, err = pcall(schema.check, case[1], "schema")
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"))
      assert.matches(case[2], err.message)
    end)
  end

  it("refuses one that contains itself, and says where", function()
    local given = { properties = { a = { items = {} } } }
    given.properties.a.items.items = given.properties.a
    local ok, err = pcall(schema.check, given, "schema")
    assert.is_false(ok)
    assert.equal("schema cannot be written as JSON: cannot encode properties.a: a table that contains itself",
      err.message)
  end)

  it("may have keywords that another reads, and then only those that are known are held", function()
    local given = { properties = { a = { format = "date", type = "string" } }, oneOf = {},
      anyOf = { { pattern = "x" } } }
    schema.check(given, "schema", true)
    assert.equal("input.a must be of type string, not 5", schema.problem(given, { a = 5 }, "input"))
    assert.is_nil(schema.problem(given, { a = "no date" }))
    assert.is_false((pcall(schema.check, { properties = { a = { format = "date", type = "text" } } }, "schema", true)))
  end)

  local PASSED_OVER = {
    { { patternProperties = { ["^S_"] = {} }, properties = { a = { type = "string" } }, additionalProperties = false },
      { '{"S_name":1}', '{"a":"x"}' }, { '{"a":1}' } },
    { { patternProperties = { ["^S_"] = {} }, additionalProperties = { type = "string" } }, { '{"S_name":1}' }, {} },
    { { prefixItems = { { type = "string" } }, items = { type = "number" } }, { '["a",1]', '["a"]', "[]" },
      { '["a","b"]' } },
    { { prefixItems = { {}, {} }, items = false }, { "[1,2]", "[1]" }, { "[1,2,3]" } },
    { { properties = { a = true, b = false }, additionalProperties = { type = "string" } }, { '{"a":1,"c":"x"}' },
      { '{"b":"x"}', '{"c":1}' } },
    { { items = true, anyOf = { false, { type = "array" } } }, { "[1]" }, { "{}" } },
  }
  for i, case in ipairs(PASSED_OVER) do
    it(("%d: is right with keywords that another reads: %s"):format(i, json.encode(case[1], { sort_keys = true })),
      function()
        schema.check(case[1], "schema", true)
        for _, text in ipairs(case[2]) do assert.is_nil(schema.problem(case[1], (json.decode(text))), text) end
        for _, text in ipairs(case[3]) do assert.is_string(schema.problem(case[1], (json.decode(text))), text) end
      end)
  end

  it("says of a choice what is wrong with the nearest", function()
    local given = { anyOf = { { required = { "a", "b" } }, { required = { "c" } } } }
    assert.equal("$ lacks 'c'", problem(given, "{}"))
  end)

  it("reads the whole text, or the last block in it", function()
    local any = {}
    assert.same({ a = 1 }, schema.read(any, ' {"a":1}\n'))
    assert.same(2, schema.read(any, "First:\n```json\n1\n```\nthen:\n```\n2\n```\ndone"))
    assert.equal(json.null, schema.read(any, "null"))
    assert.equal(false, schema.read(any, "false"))
    assert.matches("it is no JSON", select(2, schema.read(any, "The answer is 4.")))
    assert.matches("its last block is no JSON", select(2, schema.read(any, "```json\n{\n```")))
  end)

  it("is soon done with a block that is next to nothing", function()
    for _, text in pairs(helper.hollow) do
      helper.in_linear_time(function()
        assert.matches("it is no JSON", select(2, schema.read({}, "```json" .. text)))
        assert.equal(5, schema.read({}, text .. "\n```json\n5\n```"))
      end)
    end
  end)
end)
