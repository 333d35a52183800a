local uv = require "luv"
local core = require "parley.core"
local helper = require "spec.helper"
local probe = require "parley.command.probe"
local testing = require "parley.testing"

describe("parley doctor", function()
  local check_leaks, kit

  --- A kit whose user is logged in.
  local function set_up(given)
    if kit then kit:close() end
    kit = testing.kit(given)
    helper.write(kit.home .. "/.claude/.credentials.json", '{"claudeAiOauth":{"refreshToken":"secret-token"}}')
  end

  before_each(function()
    check_leaks = helper.leaks()
    set_up()
  end)

  after_each(function()
    kit:close()
    kit = nil
    check_leaks()
    helper.remove_folders()
  end)

  local function run(words, more)
    return helper.run({ helper.host, "doctor", "--executable", kit.executable, table.unpack(words) },
      { env = helper.environment(kit.environment, more), cwd = kit.cwd })
  end

  --- What --json says: the whole, and the findings by their checks.
  local function examine(words, more)
    local program = run({ "--json", table.unpack(words) }, more)
    assert.equal("", program.errors)
    local report = assert(core.json.decode(program.output))
    local by_check = {}
    for _, found in ipairs(report.findings) do by_check[found.check] = found end
    return report, by_check, program
  end

  local function transcripts()
    local folder = kit:transcript_path("x"):match "^(.*)/"
    local names = {}
    for _, name in ipairs(uv.fs_stat(folder) and helper.names_in(folder) or {}) do
      if name:find "%.jsonl$" then table.insert(names, name) end
    end
    return names
  end

  it("prints a line a finding, and starts nothing", helper.task(function()
    local program = run {}
    assert.equal(0, program.status)
    assert.matches("\nok       trust        " .. kit.cwd .. " is trusted\n", program.output, 1, true)
    assert.matches("^ok       executable   [^\n]+/claude, version 2%.1%.330\n", program.output)
    assert.not_matches("problem", program.output, 1, true)
    assert.same({}, kit:events "started")
  end))

  it("exits with 1 when there is a problem, and prints its remedy", helper.task(function()
    set_up { trusted = false }
    local program = run {}
    assert.equal(1, program.status)
    assert.matches("\nproblem  trust        " .. kit.cwd .. " is not trusted\n                      → run `claude`",
      program.output, 1, true)
    assert.equal("", program.errors)
  end))

  it("takes the options that start claude", helper.task(function()
    set_up { trusted = false }
    assert.equal(0, run({ "--accept", "trust" }).status)
    assert.equal("permission mode plan", select(2, examine { "--permission-mode", "plan" }).permissions.message)
    local program = run { "--cwd", "/none/at/all" }
    assert.equal(1, program.status)
    assert.matches("'/none/at/all' cannot be used", program.errors, 1, true)
    assert.equal("", program.output)
  end))

  it("prints one object with --json", helper.task(function()
    local report, found, program = examine {}
    assert.equal(0, program.status)
    assert.equal("ok", report.level)
    assert.equal("2.1.330", report.version)
    assert.equal(kit.cwd, report.cwd)
    assert.equal("ok", found.login.level)
    assert.not_matches("secret", program.output, 1, true)
  end))

  it("finds no problem with --stand-in", helper.task(function()
    for _, word in ipairs { "--json", "--probe-turn" } do
      local program = helper.run({ helper.host, "doctor", "--stand-in", word },
        { env = { "PATH=" .. os.getenv "PATH" } })
      assert.equal("", program.errors)
      assert.equal(0, program.status, program.output)
      assert.not_matches("problem", program.output, 1, true)
      assert.not_matches("warning", program.output, 1, true)
    end
  end))

  it("finds no program", helper.task(function()
    local report, found, program = examine { "--executable", "/none/claude", "--probe-turn" }
    assert.equal(1, program.status)
    assert.equal("problem", report.level)
    assert.equal("problem", found.executable.level)
    assert.is_nil(found.start)
  end))

  describe("--probe", function()
    it("tells when claude is ready, and sends nothing", helper.task(function()
      local _, found, program = examine { "--probe" }
      assert.equal(0, program.status)
      assert.matches("^ready for a message after %d+%.%d%d s$", found.start.message)
      assert.equal("the status file tells ready, busy and waiting", found.signals.message)
      assert.equal("closing leaves nothing behind", found.close.message)
      assert.is_nil(found.once)
      assert.same({}, kit:taken())
      assert.not_matches("pong", kit:received(), 1, true)
      assert.not_matches("\r", kit:received(), 1, true)
      assert.same({}, kit:processes())
      assert.same({}, transcripts())
    end))

    it("names a dialog that is in the way", helper.task(function()
      set_up { trusted = false }
      local _, found, program = examine { "--probe", "--permission-mode", "default" }
      assert.equal(1, program.status)
      assert.equal("seen: trust (not answered)", found.dialogs.message)
      assert.equal("the dialog 'trust' waits for an answer", found.start.message)
      assert.matches("--accept trust", found.start.remedy, 1, true)
      assert.same({}, kit:processes())
    end))

    it("names the dialogs that were answered", helper.task(function()
      set_up { trusted = false }
      local _, found, program = examine { "--probe", "--permission-mode", "default", "--accept", "trust" }
      assert.equal(0, program.status)
      assert.equal("seen: trust (answered)", found.dialogs.message)
    end))

    it("tells a program that ends at once", helper.task(function()
      kit:use { faults = { startup_exit = { text = "Error: no", status = 3 } } }
      local _, found, program = examine { "--probe" }
      assert.equal(1, program.status)
      assert.matches("exited with status 3", found.start.message, 1, true)
      assert.is_nil(found.signals)
    end))

    it("tells one that is never ready", helper.task(function()
      kit:use { faults = { never_ready = true } }
      local _, found, program = examine { "--probe", "--startup-timeout", "0.5" }
      assert.equal(1, program.status)
      assert.matches("within 500 ms", found.start.message, 1, true)
      assert.same({}, kit:processes())
    end))

    it("notices a key that a wrapper brings back", helper.task(function()
      kit:use {}
      local text = require("parley.base.files").read(kit.executable):gsub("\nexec ", "\nANTHROPIC_BASE_URL=x exec ")
      helper.write(kit.executable, text, "700")
      local _, found, program = examine({ "--probe" }, { ANTHROPIC_BASE_URL = "y" })
      assert.equal(1, program.status)
      assert.equal("problem", found.environment.level)
      assert.matches("ANTHROPIC_BASE_URL", found.environment.message, 1, true)
    end))
  end)

  describe("--probe-turn", function()
    it("sends one message and finds every promise kept", helper.task(function()
      local _, found, program = examine { "--probe-turn" }
      assert.equal(0, program.status)
      assert.equal("the message is once in the transcript", found.once.message)
      assert.equal("ok", found.verbatim.level)
      assert.matches("^accepted after %d+ ms, answered after %d+ ms, over after %d+ ms$", found.answer.message)
      assert.equal("certain, by turn_duration", found["end"].message)
      assert.equal("ready for the next message", found.again.message)
      assert.equal("closing and cancelling leave nothing behind", found.close.message)
      assert.same({ probe.MESSAGE }, kit:taken())
      assert.same({}, kit:processes())
      assert.same({}, transcripts())
    end))

    it("says when an end is only likely", helper.task(function()
      kit:use({}, "2.1.110")
      local report, found, program = examine { "--probe-turn" }
      assert.equal(0, program.status)
      assert.equal("warning", report.level)
      assert.equal("warning", found["end"].level)
      assert.matches("ms of silence", found["end"].message, 1, true)
    end))

    it("keeps the transcript when something is wrong", helper.task(function()
      kit:use { answers = { { api_error = { status = 400, text = "API Error: 400 as asked" } } } }
      local _, found, program = examine { "--probe-turn" }
      assert.equal(1, program.status)
      assert.equal("the turn ended with error_api: API Error: 400 as asked", found.answer.message)
      assert.equal(1, #transcripts())
      assert.matches(transcripts()[1], found.transcript.message, 1, true)
    end))

    it("tells a program that dies in the turn", helper.task(function()
      kit:use { answers = { { crash = "after_user" } } }
      local _, found, program = examine { "--probe-turn" }
      assert.equal(1, program.status)
      assert.matches("SIGKILL", found.start.message, 1, true)
      assert.equal("the message is once in the transcript", found.once.message)
    end))
  end)
end)
