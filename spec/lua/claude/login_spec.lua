local login = require "parley.claude.login"

local NOT_LOGGED_IN = "Not logged in · Please run /login"

describe("login", function()
  local function explained(given, host_environment, changes)
    local result = { type = "result", is_error = true, error = "authentication_failed", message = NOT_LOGGED_IN }
    for name, value in pairs(changes or {}) do result[name] = value end
    given.base_env = host_environment
    login.explain(result, given)
    return result.message
  end

  it("names the cure where a key is kept from the program", function()
    for _, name in ipairs { "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK" } do
      assert.equal(NOT_LOGGED_IN .. " (" .. name .. " is kept from claude: preserve_provider_env = true "
        .. "(--preserve-provider-env), or run `claude` once and log in)", explained({}, { [name] = "x" }))
    end
  end)

  it("names the other where there is no key, an empty one, or one that the program gets", function()
    local expected = NOT_LOGGED_IN .. " (run `claude` once and log in)"
    assert.equal(expected, explained({}, {}))
    assert.equal(expected, explained({}, { ANTHROPIC_API_KEY = "" }))
    assert.equal(expected, explained({ preserve_provider_env = true }, { ANTHROPIC_API_KEY = "x" }))
    assert.equal(expected, explained({ extra_env = { ANTHROPIC_API_KEY = "y" } }, { ANTHROPIC_API_KEY = "x" }))
  end)

  it("leaves all other results as they are", function()
    local environment = { ANTHROPIC_API_KEY = "x" }
    assert.equal("API Error: 400", explained({}, environment, { message = "API Error: 400" }))
    assert.equal("/login", explained({}, environment, { message = "/login", error = "invalid_request" }))
    local success = { type = "result", subtype = "success" }
    login.explain(success, { base_env = environment })
    assert.same({ type = "result", subtype = "success" }, success)
  end)
end)
