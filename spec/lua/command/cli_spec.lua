local argparse = require "argparse"
local cli = require "parley.command.cli"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local parley = require "parley"
local policies = require "parley.policy"

describe("cli", function()
  after_each(helper.remove_folders)

  --- A command whose `main` hands its arguments over.
  local function command(define)
    local seen = {}
    local function main(arguments)
      seen.arguments = arguments
      return 7
    end
    return { name = "try", summary = "Tries.", examples = "  parley try", define = define or function() end,
      main = main }, seen
  end

  local function with_backend()
    return command(function(parser)
      parser:argument("message"):args "?"
      cli.backend_options(parser)
    end)
  end

  local function failure(given, ...)
    local ok, err = pcall(cli.run, given, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(err, "ValueError"))
    return err.message
  end

  it("names every dialog that --accept takes, as the README of the library does", function()
    local parser = argparse "try"
    cli.backend_options(parser)
    local row = files.read("lua/README.md"):match "\n| `accept` |[^\n]*"
    for _, kind in ipairs(policies.acceptable()) do
      assert.truthy(parser:get_help():find(kind, 1, true), kind)
      assert.truthy(row:find(('"%s"'):format(kind), 1, true), kind)
    end
  end)

  describe("run", function()
    it("gives main the arguments, and returns its status", function()
      local given, seen = command(function(parser) parser:argument "word" end)
      assert.equal(7, cli.run(given, "hello"))
      assert.equal("hello", seen.arguments.word)
    end)

    for what, case in pairs {
      ["an option's argument that begins with a dash"] = { { "--extra-arg", "--verbose", "hi" },
        "unknown option '--verbose'; as the argument of --extra-arg it is joined to it: '--extra-arg=--verbose'" },
      ["one that is an option itself"] = { { "--model", "--stand-in", "hi" },
        "option '--model' requires an argument; one that begins with a dash is joined to it: '--model=--stand-in'" },
      ["a message that begins with a dash"] = { { "-5 is a number" },
        "'-5 is a number' is taken for an option; what begins with a dash stands behind --: parley try -- "
          .. "'-5 is a number'" },
      ["a long one"] = { { "- one\n- two" },
        "'- one …' is taken for an option; what begins with a dash stands behind --: parley try -- '- one …'" },
    } do
      it("says how to write " .. what, function()
        local given, seen = with_backend()
        assert.equal(case[2] .. " (see parley try --help)", failure(given, table.unpack(case[1])))
        assert.is_nil(seen.arguments)
      end)
    end

    it("takes what it says", function()
      local given, seen = with_backend()
      cli.run(given, "--extra-arg=--verbose", "--", "-5 is a number")
      assert.same({ "--verbose" }, seen.arguments.extra_arg)
      assert.equal("-5 is a number", seen.arguments.message)
    end)

    it("raises ValueError for a bad command line, with the way to the help", function()
      local given, seen = command(function(parser) parser:flag "--loud" end)
      local message = failure(given, "--lood")
      assert.matches("unknown option '--lood'", message, 1, true)
      assert.matches("; did you mean '--loud'?", message, 1, true)
      assert.matches("(see parley try --help)", message, 1, true)
      assert.not_matches("\n", message)
      assert.is_nil(seen.arguments)
    end)

    it("prints the help and runs nothing", helper.task(function()
      for _, word in ipairs { "--help", "-h" } do
        local program = helper.run { helper.host, "ask", word }
        assert.equal(0, program.status)
        assert.matches("^Usage: parley ask ", program.output)
        assert.matches("Examples:", program.output, 1, true)
        assert.equal("", program.errors)
      end
    end))

    it("prints the help before anything else is complained of", helper.task(function()
      assert.matches("^Usage: ", helper.run({ helper.host, "ask", "--nonsense", "--help" }).output)
    end))

    it("leaves --help behind -- to the command", function()
      local given, seen = command(function(parser) parser:argument "word" end)
      assert.equal(7, cli.run(given, "--", "--help"))
      assert.equal("--help", seen.arguments.word)
    end)
  end)

  describe("an option's value", function()
    it("is seconds, whole or not", function()
      assert.equal(0.5, cli.seconds "0.5")
      for _, text in ipairs { "-1", "soon", "" } do
        assert.same({ nil, ("'%s' is not a number of seconds"):format(text) }, { cli.seconds(text) })
      end
    end)

    it("is a whole number from some number on", function()
      local convert = cli.count_from(1)
      assert.equal(8, convert "8")
      for _, text in ipairs { "0", "1.5", "many" } do
        assert.same({ nil, ("'%s' is not a whole number from 1 on"):format(text) }, { convert(text) })
      end
    end)
  end)

  describe("describe", function()
    it("gives the parser of a command, which does not run", function()
      local given, seen = command(function(parser) parser:flag "--loud" end)
      local parser, same = cli.describe(function() return cli.run(given) end)
      assert.equal(given, same)
      assert.matches("--loud", parser:get_help(), 1, true)
      assert.is_nil(seen.arguments)
    end)

    it("lets commands run again afterwards, also after a failure", function()
      assert.has_error(function() cli.describe(function() error("broken", 0) end) end, "broken")
      assert.equal(7, cli.run((command())))
    end)
  end)

  describe("to_backend", function()
    local function options(...)
      local given, seen = with_backend()
      cli.run(given, ...)
      return cli.to_backend(seen.arguments)
    end

    it("names nothing that was not given", function() assert.same({}, options()) end)

    it("names what was given, in the backend's words", function()
      assert.same({
        cwd = "/src", model = "m", system_prompt = "s", append_system_prompt = "a", permission_mode = "plan",
        accept = { "trust", "bypass", "mcp" }, allowed_tools = { "Read", "Bash" }, disallowed_tools = { "Write" },
        mcp_config = { "one.json", "two.json" }, add_dir = { "/x" }, effort = "high", settings = "{}",
        executable = "/bin/claude", extra_args = { "--strict-mcp-config" }, extra_env = { A = "1", B = "x=y" },
        preserve_provider_env = true, startup_timeout_ms = 2500, turn_timeout_ms = 60000,
        history_injection_mode = "concat_message",
        first_message = "argument", policies = { routing = "r.lua" },
      }, options("--cwd", "/src", "--model", "m", "--system-prompt", "s", "--append-system-prompt", "a",
        "--permission-mode", "plan", "--accept", "trust,bypass", "--accept", "mcp", "--allowed-tools", "Read,Bash",
        "--disallowed-tools", "Write", "--mcp-config", "one.json", "--mcp-config", "two.json", "--add-dir", "/x",
        "--effort", "high", "--settings", "{}", "--executable", "/bin/claude", "--extra-arg=--strict-mcp-config",
        "--env", "A=1", "--env", "B=x=y", "--preserve-provider-env", "--startup-timeout", "2.5", "--turn-timeout", "60",
        "--injection", "concat_message", "--first-message", "argument", "--policy", "routing=r.lua"))
    end)

    it("gives options that a backend takes", function()
      local backend <close> = parley.backend(options("--model", "m", "--accept", "trust", "--turn-timeout", "5"))
      assert.equal(5000, backend.options.turn_timeout_ms)
    end)

    it("refuses values of the wrong form", function()
      assert.matches("'soon' is not a number of seconds", failure(with_backend(), "--turn-timeout", "soon"), 1, true)
      assert.matches("'-1' is not a number of seconds", failure(with_backend(), "--turn-timeout=-1"), 1, true)
      assert.matches("'FOO' is not of the form NAME=VALUE", failure(with_backend(), "--env", "FOO"), 1, true)
    end)
  end)

  describe("read", function()
    it("reads a file as it is", function()
      local path = helper.write(helper.temporary_folder() .. "/x", "a\r\n\0b")
      assert.equal("a\r\n\0b", cli.read(path))
    end)

    it("raises ValueError for what cannot be read", function()
      for _, path in ipairs { "/none/at/all", "/" } do
        local ok, err = pcall(cli.read, path)
        assert.is_false(ok)
        assert.is_true(errors.is(err, "ValueError"))
        assert.matches(("cannot read '%s': "):format(path), err.message, 1, true)
      end
    end)
  end)

  it("says when standard output takes nothing", helper.task(function()
    local program = helper.run { "/bin/sh", "-c", "exec '" .. helper.host .. "' help --bash > /dev/full" }
    assert.equal(1, program.status)
    assert.matches("cannot write to standard output: no space left on device", program.errors, 1, true)
  end))

  it("shows no progress where there is no terminal", helper.task(function()
    local check_leaks = helper.leaks()
    do
      local progress <close> = cli.progress(function() error "asked" end)
      progress.clear()
    end
    check_leaks()
  end))
end)
