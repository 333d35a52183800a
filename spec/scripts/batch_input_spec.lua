-- What a batch takes besides lines of JSON, and what a line may set for itself.
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local testing = require "parley.testing"

local TOOLS = [[
  local count = 0
  return { { name = "weather", description = "tells the weather",
    input_schema = { type = "object", properties = { city = { type = "string" } } },
    run = function(input)
      count = count + 1
      return ("WEATHER in %s, call %d"):format(input.city, count)
    end } }]]

describe("parley batch", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  --- Runs it with the kit's `claude`; the results by their line.
  local function run(kit, words, input)
    local argv = { helper.host, "batch", "--executable", kit.executable, "--cwd", kit.cwd, "--jobs", "1" }
    table.move(words, 1, #words, #argv + 1, argv)
    local program = helper.run(argv, { env = helper.environment({ TERM = "dumb" }, kit.environment), cwd = kit.folder,
      input = input })
    local by_line = {}
    for _, result in ipairs(helper.json_lines(program.output)) do by_line[result.line] = result end
    return by_line, program
  end

  local function said(result) return result.messages[#result.messages].content[1].text end

  it("takes plain text, a message a line", helper.task(function()
    local kit <close> = testing.kit()
    local results, program = run(kit, { "-", "--text" }, "hello\n\n{ not JSON\n")
    assert.equal(0, program.status, program.errors)
    assert.same({ "line-1", "echo: hello", "line-3", "echo: { not JSON" },
      { results[1].id, said(results[1]), results[3].id, said(results[3]) })
  end))

  it("takes a JSON array, from a pipe too", helper.task(function()
    local kit <close> = testing.kit()
    local results, program = run(kit, { "-" }, '[\n  {"id": "a", "turns": ["one"]},\n  {"turns": ["two"]}\n]\n')
    assert.equal(0, program.status, program.errors)
    assert.same({ "a", "echo: one", "line-2", "echo: two" },
      { results[1].id, said(results[1]), results[2].id, said(results[2]) })
  end))

  it("ends with one error when what begins as an array is none", helper.task(function()
    local kit <close> = testing.kit()
    local _, program = run(kit, { "-" }, '[{"turns": ["one"]},')
    assert.equal(1, program.status)
    assert.matches("standard input begins with '[' and is no JSON array: ", program.errors, 1, true)
  end))

  it("gives a line the permission mode, the allowed tools and the time limit of its own", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "slow", hang = true } } } }
    local results, program = run(kit, { "-", "--permission-mode", "plan" }, table.concat({
      '{"turns": ["x"], "permission_mode": "acceptEdits", "allowed_tools": ["Read", "Bash(ls:*)"]}',
      '{"turns": ["x"]}', '{"turns": ["slow"], "timeout": 0.5}' }, "\n"))
    assert.equal(1, program.status, program.errors)
    local started = kit:events "started"
    local first, second = table.concat(started[1].argv, " "), table.concat(started[2].argv, " ")
    assert.matches("--permission-mode acceptEdits --allowedTools Read,Bash(ls:*)", first, 1, true)
    assert.matches("--permission-mode plan", second, 1, true)
    assert.not_matches("--allowedTools", second, 1, true)
    assert.same({ "success", "success", "failed" }, { results[1].verdict, results[2].verdict, results[3].verdict })
    assert.matches("500 ms", results[3].error.message, 1, true)
  end))

  it("fails a line alone whose own permission mode nobody has agreed to", helper.task(function()
    local kit <close> = testing.kit { bypass_accepted = false }
    local results, program = run(kit, { "-", "--permission-mode", "default" },
      '{"turns": ["x"], "permission_mode": "bypassPermissions"}\n{"turns": ["x"]}\n')
    assert.equal(1, program.status, program.errors)
    assert.same({ "DialogError", "success" }, { results[1].error.code, results[2].verdict })
  end))

  describe("with tools in Lua", function()
    local ANSWERS = { answers = { { on = "call", tool = { name = "weather", input = { city = "Ulm" } } } } }

    local function write(kit, name, weather)
      return helper.write(kit.folder .. "/" .. name, (TOOLS:gsub("WEATHER", weather)))
    end

    it("gives them to every conversation, or to a line its own; a file is run once", helper.task(function()
      local kit <close> = testing.kit { script = ANSWERS }
      write(kit, "common.lua", "sun")
      write(kit, "own.lua", "rain")
      local results, program = run(kit, { "-", "--tools", "common.lua" }, '{"id": "a", "turns": ["call"]}\n'
        .. '{"id": "b", "turns": ["call"], "tools": "own.lua"}\n{"id": "c", "turns": ["call"]}\n')
      assert.equal(0, program.status, program.errors)
      assert.same({ "echo: TOOLRESULT sun in Ulm, call 1", "echo: TOOLRESULT rain in Ulm, call 1",
        "echo: TOOLRESULT sun in Ulm, call 2" }, { said(results[1]), said(results[2]), said(results[3]) })
    end))

    it("names what is wrong with the file: for all at once, of a line alone", helper.task(function()
      local kit <close> = testing.kit()
      helper.write(kit.folder .. "/number.lua", "return 7")
      helper.write(kit.folder .. "/bare.lua", "return { { name = 'x' } }")
      helper.write(kit.folder .. "/raises.lua", "error 'boo'")
      for name, problem in pairs { ["none.lua"] = "the tools 'none.lua' cannot be loaded: ",
        ["number.lua"] = "the tools 'number.lua' must return a list of tools, not a number",
        ["raises.lua"] = "the tools 'raises.lua' fail when they are loaded: ", ["bare.lua"] = "option 'tools'" } do
        local _, program = run(kit, { "-", "--tools", name }, '{"turns": ["x"]}\n')
        assert.equal(1, program.status)
        assert.matches(problem, program.errors, 1, true)
        assert.equal("", program.output)
        local results = run(kit, { "-" }, json.encode { turns = { "x" }, tools = name } .. '\n{"turns": ["x"]}\n')
        assert.same({ "failed", "ValueError", "success" },
          { results[1].verdict, results[1].error.code, results[2].verdict })
        assert.matches(problem, results[1].error.message, 1, true)
      end
      assert.is_nil(files.read(kit.folder .. "/none.lua"))
    end))
  end)
end)
