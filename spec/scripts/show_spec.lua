local core = require "parley.core"
local helper = require "spec.helper"
local parley = require "parley"
local terminal = require "parley.testing.terminal"
local testing = require "parley.testing"
local uv = require "luv"

describe("parley show", function()
  local check_leaks, kit

  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit { script = { answers = {
      { on = "tool", tool = { name = "Bash", input = { command = "ls -l", description = "list" }, result = "one\ntwo" },
        after = "Two files." },
      { on = "escape", text = "a\27[31mred" },
      { on = "wrong", api_error = { status = 400, text = "API Error: 400 as asked" } },
    } } }
  end)

  after_each(function()
    kit:close()
    check_leaks()
    helper.remove_folders()
  end)

  local function run(words)
    return helper.run({ helper.host, table.unpack(words) }, { cwd = "/", env = helper.environment { HOME = kit.home } })
  end

  --- Holds a conversation with the stand-in. Returns its session id.
  local function talk(texts)
    local live <close> = parley.session(kit.options)
    live:start()
    for _, text in ipairs(texts) do
      for _ in live:send(text) do end
    end
    return live.session_id
  end

  --- Output without the times.
  local function timeless(text) return (text:gsub("  %d%d%d%d%-%d%d%-%d%d %d%d:%d%d\n", "\n")) end

  it("prints who said what, and tool calls in short", helper.task(function()
    local program = run { "show", talk { "hello", "a tool" } }
    assert.equal(0, program.status)
    assert.equal([[
you
  hello

claude
  echo: hello

you
  a tool

claude
  → [Bash] ls -l
  ← one (+1 line, 7 B)

  Two files.
]], timeless(program.output))
  end))

  it("takes the beginning of an id, and a file", helper.task(function()
    local id = talk { "hello" }
    local whole = run({ "show", id }).output
    assert.matches("echo: hello", whole, 1, true)
    assert.equal(whole, run({ "show", id:sub(1, 8) }).output)
    assert.equal(whole, run({ "show", kit:transcript_path(id) }).output)
  end))

  it("prints messages with --json, which ask takes as a history", helper.task(function()
    local id = talk { "hello", "a tool" }
    local program = run { "show", "--json", id }
    local messages = assert(core.json.decode(program.output))
    local roles = {}
    for i, message in ipairs(messages) do roles[i] = message.role end
    assert.same({ "user", "assistant", "user", "assistant", "user", "assistant" }, roles)
    assert.equal("tool_result", messages[5].content[1].type)
    local path = helper.write(helper.temporary_folder() .. "/history.json", program.output)
    local words = { "ask", "--executable", kit.executable, "--cwd", kit.cwd, "--history", path, "--json", "and now?" }
    for name, value in pairs(kit.environment) do
      table.insert(words, "--env")
      table.insert(words, name .. "=" .. value)
    end
    local asked = run(words)
    assert.equal("", asked.errors)
    assert.matches('echo: and now?', asked.output, 1, true)
    local resumed = kit:transcript(asked.output:match '"session_id":"([^"]+)"')
    assert.equal("hello", resumed[3].message.content) -- behind the two records that begin a seed
  end))

  it("prints messages with --json, which batch goes on from", helper.task(function()
    local messages = run({ "show", "--json", talk { "hello", "a tool" } }).output
    local words = { helper.host, "batch", "-", "--executable", kit.executable, "--cwd", kit.cwd }
    local program <close> = helper.start(words, { cwd = "/", env = helper.environment(kit.environment),
      input = ('{"id": "again", "messages": %s, "turns": ["and now?"]}'):format(messages:gsub("\n", " ")) })
    local result = assert(core.json.decode(program:wait().output))
    assert.equal("success", result.verdict)
    assert.equal(8, #result.messages)
    assert.same({ { type = "text", text = "echo: and now?" } }, result.messages[8].content)
  end))

  it("prints an empty list for a transcript in which nothing was said", helper.task(function()
    local path = helper.write(helper.temporary_folder() .. "/new.jsonl",
      '{"type":"permission-mode","permissionMode":"default","sessionId":"a"}\n')
    assert.same({}, core.json.decode(run({ "show", "--json", path }).output))
    local program = run { "show", path }
    assert.same({ 0, "", "" }, { program.status, program.output, program.errors })
  end))

  for what, text in pairs {
    ["an empty file"] = "",
    ["a package.json"] = '{"name":"x","type":"module","version":"1.0.0"}\n',
    ["a text"] = "hello\nworld\n",
    ["a history"] = '[{"role":"user","content":"hello"}]\n',
    ["a batch's results"] = '{"id":"a","line":1,"verdict":"success","messages":[]}\n',
  } do
    it("refuses " .. what .. ", which is no transcript", helper.task(function()
      local path = helper.write(helper.temporary_folder() .. "/other", text)
      for _, words in ipairs { { "show", path }, { "show", "--json", path } } do
        local program = run(words)
        assert.same({ 1, "" }, { program.status, program.output })
        assert.equal(("parley: ValueError: '%s' is no transcript: none of its lines is a record\n"):format(path),
          program.errors)
      end
    end))
  end

  it("names one that cannot be read once", helper.task(function()
    local socket, path = uv.new_pipe(false), kit.folder .. "/socket"
    assert(socket:bind(path))
    local program = run { "show", path }
    socket:close()
    assert.equal(("parley: ValueError: cannot read '%s': No such device or address\n"):format(path), program.errors)
  end))

  it("prints nothing that a terminal would obey", helper.task(function()
    local output = run({ "show", talk { "escape" } }).output
    assert.matches("a\u{FFFD}[31mred", output, 1, true)
    assert.not_matches("\27", output)
  end))

  describe("on a terminal", function()
    --- What a terminal gets to see.
    local function shown(id, more)
      local opened <close> = terminal.open { argv = { helper.host, "show", id }, cwd = "/",
        environment = helper.environment({ HOME = kit.home, TERM = "xterm-256color" }, more) }
      opened:exit()
      opened:wait_for(function() return opened.is_ended end)
      return opened.output
    end

    it("colours", helper.task(function()
      local output = shown(talk { "wrong" })
      assert.matches("\27[36myou\27[0m", output, 1, true)
      assert.matches("\27[31mAPI Error: 400 as asked\27[0m", output, 1, true)
    end))

    it("does not with NO_COLOR", helper.task(function()
      assert.not_matches("\27", shown(talk { "hello" }, { NO_COLOR = "1" }))
    end))
  end)

  it("names near ids for one that is unknown", helper.task(function()
    local id = talk { "hello" }
    local program = run { "show", id:sub(1, 9) .. "ffff" }
    assert.equal(1, program.status)
    assert.matches("^parley: [^\n]*no session and no file[^\n]*; there is [%x-]+\n$", program.errors)
    assert.matches("there is " .. id, program.errors, 1, true)
    assert.equal("", program.output)
  end))

  it("survives a transcript of other shapes", helper.task(function()
    local record = { type = "assistant", uuid = "a", message = { content = {
      { type = "text", text = core.json.null }, { type = "tool_use" }, { type = "tool_use", name = "X", input = { 1 } },
    } } }
    local answer = { type = "user", uuid = "b", parentUuid = "a", message = { content = {
      { type = "tool_result", content = { 5, { type = "image" } } } } } }
    local path = helper.write(helper.temporary_folder() .. "/odd.jsonl", core.json.encode(record) .. "\n"
      .. core.json.encode(answer) .. "\n")
    local program = run { "show", path }
    assert.equal("", program.errors)
    assert.equal(0, program.status)
  end))
end)
