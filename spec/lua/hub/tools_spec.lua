local core = require "parley.core"
local errors = require "parley.base.errors"
local tools = require "parley.hub.tools"

local function run() return "done" end

--- A tool with some fields replaced; `false` leaves one out.
local function tool(changes)
  local given = { name = "weather", description = "tells the weather", run = run }
  for name, value in pairs(changes) do given[name] = value or nil end
  return given
end

local function message_of(given)
  local ok, err = pcall(tools.check, given, "parley.backend")
  assert.is_false(ok)
  assert.is_true(errors.is(err, "ValueError"), tostring(err))
  assert.equal("tools", err.option)
  return err.message
end

describe("the option tools", function()
  it("takes a tool with a name, a description and a function", function()
    local checked = tools.check({ tool {} }, "parley.backend")
    assert.same({ { name = "weather", description = "tells the weather", run = run,
      input_schema = { type = "object" } } }, checked)
  end)

  local endless = { type = "object" }
  endless.properties = { a = endless }
  local bad = {
    { "a tool alone", tool {}, "option 'tools' must be a list of tools" },
    { "an empty list", {}, "must be a list of tools" },
    { "a text", "weather", "must be a list of tools, not \"weather\"" },
    { "a text in the list", { "weather" }, "tools'[1] must be a table, not \"weather\"" },
    { "no name", { tool { name = false } },
      "tools'[1].name must be 1 to 64 letters, digits, '_' and '-', not nothing" },
    { "an empty name", { tool { name = "" } }, "not \"\"" },
    { "a name with a dot", { tool { name = "a.b" } }, "not \"a.b\"" },
    { "a name beyond ASCII", { tool { name = "wetter_für" } }, "letters, digits" },
    { "a name of 65 letters", { tool { name = ("x"):rep(65) } }, "1 to 64" },
    { "one name twice", { tool {}, tool {} }, "tools'[2].name is 'weather', which tools[1] has already" },
    { "no description", { tool { description = false } }, "('weather'): description must be a text, not nothing" },
    { "no function", { tool { run = false } }, "run must be a function, not nothing" },
    { "an unknown field", { tool { schema = {} } }, "has no field 'schema'" },
    { "a misspelt field", { tool { input_shema = {} } }, "did you mean 'input_schema'?" },
    { "a schema of a text", { tool { input_schema = { type = "string" } } },
      "input_schema.type must be \"object\", not \"string\"" },
    { "anyOf at a schema's root", { tool { input_schema = { type = "object", anyOf = { {} } } } },
      "must not have anyOf at its root" },
    { "oneOf at a schema's root", { tool { input_schema = { oneOf = {} } } }, "must not have oneOf at its root" },
    { "a known keyword with a bad value",
      { tool { input_schema = { type = "object", properties = { a = { type = "strnig" } } } } },
      "input_schema.properties.a.type must be one of object" },
    { "a schema that JSON cannot hold", { tool { input_schema = { type = "object", format = print } } },
      "cannot be written as JSON" },
    { "a schema that contains itself", { tool { input_schema = endless } },
      "('weather'): input_schema cannot be written as JSON: cannot encode the value: a table that contains itself" },
  }
  for _, each in ipairs(bad) do
    it("refuses " .. each[1], function()
      local message = message_of(each[2])
      assert.is_truthy(message:find(each[3], 1, true), message)
    end)
  end

  it("takes keywords that it does not know", function()
    local given = { type = "object", properties = { day = { type = "string", format = "date", pattern = "^2" } } }
    assert.same(given, tools.check({ tool { input_schema = given } }, "x")[1].input_schema)
  end)

  it("takes a schema whose metatable is locked", function()
    local given = setmetatable({ type = "object" }, { __metatable = "locked" })
    assert.same({ type = "object" }, tools.check({ tool { input_schema = given } }, "x")[1].input_schema)
  end)

  it("writes empty lists of a schema as lists, but for properties of such names", function()
    local given = { type = "object", required = {},
      properties = { required = {}, enum = { type = "array", items = {} } } }
    local checked = tools.check({ tool { input_schema = given } }, "x")
    assert.equal('{"properties":{"enum":{"items":{},"type":"array"},"required":{}},"required":[],"type":"object"}',
      core.json.encode(tools.described(checked)[1].inputSchema, { sort_keys = true }))
    assert.is_false(core.json.is_array(given.required))
  end)
end)

describe("the result of a tool", function()
  local PICTURE = { type = "image", source = { type = "base64", media_type = "image/png", data = "iVBORw==" } }

  it("may be a text", function() assert.same({ { type = "text", text = "ü" } }, tools.content "ü") end)

  it("may be one block, or several", function()
    assert.same({ { type = "image", data = "iVBORw==", mimeType = "image/png" } }, tools.content(PICTURE))
    assert.same({ { type = "text", text = "a" }, { type = "image", data = "iVBORw==", mimeType = "image/png" } },
      tools.content { { type = "text", text = "a" }, PICTURE })
  end)

  for described, each in pairs {
    ["nothing"] = { nil, "must be a text or blocks, not nothing" },
    ["a number"] = { 5, "not 5" },
    ["a table of another kind"] = { { temperature = 5 }, "not another table" },
    ["an empty list"] = { {}, "not another table" },
    ["a text that is not UTF-8"] = { "\xff", "is a text that is not UTF-8" },
    ["a block of another type"] = { { { type = "document" } },
      "a block of type \"document\": known are text and image" },
    ["a picture without a source"] = { { type = "image" }, "has an image whose source is not" },
    ["a picture that is not base64"] = { { type = "image", source = { type = "base64", media_type = "image/png",
      data = "\x89PNG" } }, "has an image whose source is not" },
  } do
    it("must not be " .. described, function()
      local content, problem = tools.content(each[1])
      assert.is_nil(content)
      assert.is_truthy(problem:find(each[2], 1, true), problem)
    end)
  end
end)
