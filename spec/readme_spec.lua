-- What the README and the pages of the folders show runs as it stands there.
local files = require "parley.base.files"
local helper = require "spec.helper"
local testing = require "parley.testing"
local uv = require "luv"

local FRONT, LIBRARY, COMMANDS = "README.md", "lua/README.md", "scripts/README.md"
local POLICIES = "scripts/examples/README.md"
local PAGES = { FRONT, LIBRARY, COMMANDS, POLICIES, "spec/README.md", "src/README.md",
  "lua/parley/testing/README.md", "lua/parley/hub/README.md" }

--- The Lua block of a page that has this text in it.
local function block_with(page, text)
  for block in assert(files.read(page)):gmatch "```lua\n(.-)```" do
    if block:find(text, 1, true) then return block end
  end
  error(page .. " has no Lua block with " .. text)
end

describe("the pages", function()
  local kit, folder
  local hello, going_on = block_with(FRONT, "-- hello.lua"), block_with(FRONT, "talk:send")

  before_each(function()
    kit = testing.kit { script = { answers = { { on = "Say hi", text = "Hi." }, { on = "French", text = "Salut." } } } }
    folder = helper.temporary_folder()
  end)
  after_each(function()
    kit:close()
    helper.remove_folders()
  end)

  --- Runs a script in the folder, with the stand-in as the claude on PATH.
  local function run(...)
    local path = { PATH = ("%s:%s"):format(kit.folder, os.getenv "PATH") }
    local program <close> = helper.start({ helper.host, ... },
      { env = helper.environment(kit.environment, path), cwd = kit.cwd })
    return program:wait()
  end

  it("has a first script of five lines, and one that goes on", helper.task(function()
    assert.equal(6, select(2, hello:gsub("\n", ""))) -- with its name
    kit:use { answers = { { on = "Say hi", text = "Hi." }, { on = "French", text = "Salut." },
      { on = "files", text = "7" }, { on = "risky", text = "4" } } }
    helper.write(kit.cwd .. "/hello.lua", hello .. going_on)
    local program = run "hello.lua"
    assert.equal("Hi.\nSalut.\n7\nsuccess\tend_turn\n5\t8\n", program.output, program.errors)
    assert.equal(1, #kit:events "started")
  end))

  it("has both run without an account, with the kit that it names", helper.task(function()
    local answers = assert(files.read(FRONT)):match "`(kit { script = .-)` says"
    helper.write(kit.cwd .. "/hello.lua", ((hello .. going_on)
      :gsub("parley.backend {.-}", "parley.backend(kit.options)")
      :gsub("local backend", ('local kit <close> = require("parley.testing").%s\n%%0'):format(answers))))
    assert.matches("^echo: Say hi.\necho: And in French%?\necho: Count .*\n5\t8\n$", run("hello.lua").output)
  end))

  for what, case in pairs {
    conversation = { "talk:fork()", "echo: What is riskiest in it%?\techo: What is best in it%?\n4\n" },
    ["turn that is watched and interrupted"] = { "turn:interrupt()", "true\n",
      { on = "Count", tool = { name = "Bash", input = { command = "x" }, result = "", duration_ms = 60000 } } },
    ["answer of a shape"] = { "answer.value", "a.c\thigh\n", { text = '[{"file":"a.c","risk":"high"}]' } },
  } do
    it("has a " .. what, helper.task(function()
      kit:use { answers = { case[3] } }
      local first_lines = hello:match "^(.-local backend[^\n]*\n)"
      helper.write(kit.cwd .. "/shown.lua", first_lines .. block_with(LIBRARY, case[1]))
      local program = run "shown.lua"
      assert.matches("^" .. case[2] .. "$", program.output, nil, nil, program.errors)
    end))
  end

  it("has tasks that ask side by side", helper.task(function()
    local first_lines = hello:match "^(.-local backend[^\n]*\n)"
    helper.write(kit.cwd .. "/tasks.lua", first_lines .. block_with(LIBRARY, "local function ask(text)"))
    assert.equal("echo: One?\techo: Two?\n", run("tasks.lua").output)
    kit:use { answers = { { on = "One?", thinking = "hmm", text = "First." }, { on = "Two?", text = "let me run",
      tool = { name = "Bash", input = { command = "ls" }, result = "a" }, after = "Second." } } }
    assert.equal("First.\tSecond.\n", run("tasks.lua").output)
  end))

  it("has a server that asks for its clients", helper.task(function()
    local first_lines = hello:match "^(.-local backend[^\n]*\n)"
    helper.write(kit.cwd .. "/serve.lua", first_lines .. block_with(LIBRARY, "http.serve {") .. [[
      local socket, answer = require("luv").new_tcp(), ""
      parley.task.suspend(function(wake) socket:connect("127.0.0.1", server.port, wake) end)
      socket:write "POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\nOne?"
      parley.task.suspend(function(wake)
        socket:read_start(function(_, bytes) if bytes then answer = answer .. bytes else wake() end end)
      end)
      socket:close()
      print(answer)]])
    local program = run "serve.lua"
    assert.matches("text/event%-stream.*event: assistant\ndata: echo: One%?\n\n.*event: result\n", program.output,
      nil, nil, program.errors)
  end))

  it("has a tool that the model calls", helper.task(function()
    kit:use { answers = { { on = "Bern", tool = { name = "weather", input = { city = "Bern" } } } } }
    helper.write(kit.cwd .. "/tools.lua", "local parley = require 'parley'\n"
      .. block_with("lua/parley/hub/README.md", "name = \"weather\""))
    assert.equal("\necho: TOOLRESULT sunny in Bern\n", run("tools.lua").output)
  end))

  --- Runs a spec in a folder without a spec/.
  local function passes(spec, count)
    local environment = { "PATH=" .. os.getenv "PATH", "HOME=" .. folder }
    local program <close> = helper.start({ helper.host, "test", spec }, { env = environment, cwd = folder })
    program:wait()
    assert.truthy(program.output:find(count .. " success", 1, true), program.output .. program.errors)
    assert.equal(0, program.status)
  end

  it("has a routing script with a spec that passes", helper.task(function()
    helper.write(folder .. "/quick.lua", block_with(FRONT, "function M.route(request)"))
    helper.write(folder .. "/quick_spec.lua", block_with(FRONT, "describe(\"quick.lua\""))
    passes("quick_spec.lua", 1)
  end))

  it("has a spec of a dialogs policy that passes", helper.task(function()
    helper.write(folder .. "/git_only.lua", assert(files.read "scripts/examples/git_only.lua"))
    helper.write(folder .. "/git_only_spec.lua", block_with(POLICIES, "describe(\"git_only.lua\""))
    passes("git_only_spec.lua", 2)
  end))

  it("names every kind of dialog", function()
    local text = assert(files.read(POLICIES))
    for _, entry in ipairs(require("parley.claude.dialog_kinds").all) do
      assert.truthy(text:find("`" .. entry.kind .. "`", 1, true), entry.kind)
    end
  end)

  it("names every option of a backend", function()
    local text = assert(files.read(LIBRARY))
    local launch, session = require "parley.claude.launch", require "parley.session"
    for _, rules in ipairs { launch.rules, session.rules, require("parley.backend").rules } do
      for name in pairs(rules) do
        assert.truthy(text:find("`" .. name .. "`", 1, true), name)
      end
    end
  end)

  it("names every keyword of a schema", function()
    local text = assert(files.read(LIBRARY))
    local _, err = pcall(require("parley.base.schema").check, { nonsense = true }, "schema")
    for name in err.message:match("known are (.*)$"):gmatch "[^, ]+" do
      assert.truthy(text:find("`" .. name .. "`", 1, true), name)
    end
  end)

  it("has batch turns decided by a script, which compile", function()
    assert(load(block_with(COMMANDS, "local function interview")))
  end)

  it("link to what is there", function()
    local broken = {}
    for _, page in ipairs(PAGES) do
      for target in assert(files.read(page)):gmatch "%]%(([^)#]+)" do
        local path = page:match "^(.*/)[^/]*$" or ""
        if not target:find "^https?:" and not uv.fs_stat(path .. target) then
          table.insert(broken, page .. ": " .. target)
        end
      end
    end
    assert.same({}, broken)
  end)

  it("begin with a front page of at most 150 lines, and a picture under 100 kB", function()
    local _, lines = assert(files.read(FRONT)):gsub("\n", "")
    assert.is_true(lines <= 150, lines)
    assert.is_true(#assert(files.read "scripts/chat.svg") < 100000)
  end)
end)
