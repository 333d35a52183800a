-- What NAME.lua decides, tried on the simulated claude: no account is needed.
--
--   parley test spec/BASE_spec.lua
local parley = require "parley"
local testing = require "parley.testing"

describe("NAME.lua", function()
  --- What is decided when the model calls a tool: "allow", "deny" or "ask", and the word for the model.
  local function decision_on(name, input)
    -- A script says what the simulated program does: it calls a tool, and says "Done." after the result.
    local call = { name = name, input = input, result = "fine" }
    local kit <close> = testing.kit { script = { answers = { { tool = call, after = "Done." } } } }
    kit.options.policies = { permission = "NAME.lua" }
    local backend <close> = parley.backend(kit.options)
    local answer = backend:conversation():ask "Look around."
    assert.equal("Done.", answer.text)
    for _, event in ipairs(answer.events) do
      if event.subtype == "permission" then return event.decision, event.message end
    end
  end

  it("lets the model read", testing.task(function()
    assert.equal("allow", decision_on("Read", { file_path = "README.md" }))
  end))

  it("lets it run a command of the list", testing.task(function()
    assert.equal("allow", decision_on("Bash", { command = "git status" }))
  end))

  it("denies any other, and one of the list with something behind it, and says why", testing.task(function()
    for _, command in ipairs { "rm -r src", "git status; rm -r src" } do
      local decision, why = decision_on("Bash", { command = command })
      assert.equal("deny", decision)
      assert.matches("only reading", why)
    end
  end))
end)
