local commands = require "parley.claude.commands"
local errors = require "parley.base.errors"
local event = require "parley.claude.event"

describe("claude.commands", function()
  local function refusal_of(text)
    local ok, err = pcall(commands.check, text)
    assert.is_false(ok, text)
    assert.is_true(errors.is(err, "ValueError"))
    return err.message
  end

  it("takes commands that act on the conversation, or show something", function()
    for _, text in ipairs { "/compact", "/status", "/cost", "/config", "/permissions", "/add-dir /tmp",
      "/mine:own x" } do
      commands.check(text)
    end
  end)

  it("refuses what is no command", function()
    for _, text in ipairs { "help", "/", "/ x", "/help\nx", "/help\27", "" } do
      assert.matches("a command is one line", refusal_of(text))
    end
    assert.matches("not nothing", refusal_of(nil))
  end)

  it("refuses those that change the user's settings, and says what to use", function()
    assert.matches("/model changes the user's own settings, .* the option `model`", refusal_of "/model haiku")
    assert.matches("the option `effort`", refusal_of "/effort high")
    assert.matches("`settings = { … }`", refusal_of "/config verbose=true")
    for _, text in ipairs { "/model", "/Model haiku", "/theme", "/theme dark", "/output-style Explanatory", "/vim",
      "/fast on", "/focus", "/statusline", "/keybindings", "/logout", "/permissions x", "/allowed-tools x",
      "/plugin install x", "/plugins install x", "/marketplace add x", "/voice", "/voice off" } do
      assert.matches("changes the user's own settings", refusal_of(text), text)
    end
  end)

  it("tells which one the program says it runs", function()
    local function name_in(fields) return commands.name_in(event.new(fields)) end
    local call = "<command-name>/clear</command-name>\n<command-message>clear</command-message>"
    local function user(text) return name_in { type = "user", content = { { type = "text", text = text } } } end
    assert.equal("clear", user(call))
    assert.equal("mine:deploy", user "<command-message>x</command-message>\n<command-name>mine:deploy</command-name>")
    assert.equal("branch", name_in { type = "system", subtype = "local_command", content = {},
      message = "<command-name>/branch</command-name>" })
    assert.is_nil(user("see " .. call))
    assert.is_nil(name_in { type = "system", subtype = "informational", content = {}, message = call })
  end)

  it("knows a command by its names", function()
    for text, name in pairs { ["/clear"] = "clear", ["/Clear now"] = "clear", ["/new"] = "clear", ["/cost"] = "usage",
      ["/deploy it"] = "mine:deploy" } do
      assert.is_true(commands.is_named(text, name), text)
    end
    for text, name in pairs { ["/deploy"] = "deploy-prod", ["/ploy"] = "mine:deploy", ["/foo"] = "loop" } do
      assert.is_false(commands.is_named(text, name), text)
    end
  end)
end)
