local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local testing = require "parley.testing"

describe("parley ask", function()
  local check_leaks, kit

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit { script = { answers = { { on = "weather", text = "Sunny." } } } }
  end)
  after_each(function()
    kit:close()
    check_leaks()
    helper.remove_folders()
  end)

  --- Starts `parley ask` with the stand-in.
  local function start(arguments, input)
    local environment = { "PATH=" .. os.getenv "PATH" }
    for name, value in pairs(kit.environment) do table.insert(environment, name .. "=" .. value) end
    return helper.start({ helper.host, "ask", "--executable", kit.executable, table.unpack(arguments) },
      { env = environment, cwd = kit.cwd, input = input })
  end

  --- The same, to its end.
  local function ask(arguments, input)
    local program <close> = start(arguments, input)
    return program:wait()
  end

  it("prints the answer and nothing else", helper.task(function()
    local program = ask { "How is the weather?" }
    assert.equal("Sunny.\n", program.output)
    assert.equal("", program.errors)
    assert.equal(0, program.status)
    assert.same({ "How is the weather?" }, kit:taken())
    assert.same({}, kit:processes())
  end))

  it("prints an event a line with --json, the result last", helper.task(function()
    local events = {}
    for line in ask({ "--json", "USETOOL" }).output:gmatch "[^\n]+" do
      table.insert(events, (assert(json.decode(line))))
    end
    local types = {}
    for i, event in ipairs(events) do types[i] = event.type end
    assert.same({ "user", "assistant", "assistant", "user", "assistant", "result" }, types)
    assert.equal("success", events[6].subtype)
    assert.equal("end_turn", events[6].stop_reason)
    assert.equal("tool_use", events[3].content[1].type)
  end))

  it("reads the message from standard input", helper.task(function()
    local program = ask({ "-" }, "How is the weather\nin Rome?\n")
    assert.equal("Sunny.\n", program.output)
    assert.same({ "How is the weather\nin Rome?" }, kit:taken())
  end))

  it("takes a conversation that goes before", helper.task(function()
    local path = helper.write(helper.temporary_folder() .. "/talk.json",
      '[{"role":"user","content":"I live in Oslo."},{"role":"assistant","content":"Noted."}]')
    local output = ask({ "--json", "--history", path, "How is the weather?" }).output
    assert.same({ "How is the weather?" }, kit:taken())
    local answers = {}
    for _, record in ipairs(kit:transcript(output:match '"session_id":"([%x-]+)"')) do
      if record.type == "assistant" then table.insert(answers, record.message.content[1].text) end
    end
    assert.same({ "Noted.", "Sunny." }, answers)
  end))

  it("fails with a line on standard error when the turn ends in an error", helper.task(function()
    local program = ask { "ERR400" }
    assert.equal(1, program.status)
    assert.equal("", program.output)
    assert.truthy(program.errors:find "^parley: the turn ended with error_api: API Error: 400[^\n]*\n$")
  end))

  it("never answers the trust dialog by itself", helper.task(function()
    kit:close()
    kit = testing.kit { trusted = false }
    local program = ask { "hi" }
    assert.equal(1, program.status)
    assert.truthy(program.errors:find("DialogError: the program asks (trust:", 1, true))
    assert.truthy(program.errors:find("--accept trust", 1, true))
    local state = files.read(kit.home .. "/.claude.json")
    assert.falsy(state:find "hasTrustDialogAccepted")
    assert.same({}, kit:taken())
  end))

  it("answers it when it is told to", helper.task(function()
    kit:close()
    kit = testing.kit { trusted = false }
    local program = ask { "--accept", "trust", "hi" }
    assert.equal("echo: hi\n", program.output)
    assert.truthy(files.read(kit.home .. "/.claude.json"):find "hasTrustDialogAccepted")
  end))

  for name, case in pairs {
    ["a missing message"] = { {}, "missing argument 'message'" },
    ["an unknown option"] = { { "--jsn", "hi" }, "unknown option '%-%-jsn'.*%-%-json" },
    ["a bad number"] = { { "--turn-timeout", "soon", "hi" }, "'soon' is not a number of seconds" },
    ["a bad variable"] = { { "--env", "NAME", "hi" }, "NAME=VALUE" },
    ["a command as a message"] = { { "/help" }, "session:command" },
    ["a policy that is not there"] = { { "--policy", "routing=/nowhere.lua", "hi" }, "'routing' %(/nowhere.lua%)" },
    ["an empty history"] = { { "--history", "/dev/null", "hi" }, "/dev/null is empty: expected a list of messages" },
    ["a history that is not there"] = { { "--history", "/nowhere", "hi" }, "cannot read '/nowhere'" },
  } do
    it("tells of " .. name .. " in one line, before anything is started", helper.task(function()
      local program = ask(case[1])
      assert.equal(1, program.status)
      assert.truthy(program.errors:find("^parley: ValueError: [^\n]*" .. case[2] .. "[^\n]*\n$"), program.errors)
      assert.same({}, kit:events "started")
    end))
  end

  it("ends its claude and exits with 130 on Ctrl-C", helper.task(function()
    kit:use { answers = { { on = "wait", hang = true } } }
    local program <close> = start { "wait" }
    helper.eventually(function() return #kit:taken() == 1 end)
    program:kill "sigint"
    assert.equal(130, program:wait().status)
    assert.same({}, kit:processes())
  end))
end)
