-- What the README shows runs as it stands there.
local files = require "parley.base.files"
local helper = require "spec.helper"
local testing = require "parley.testing"

--- The README's Lua block that has this text in it.
local function block_with(text)
  for block in assert(files.read "README.md"):gmatch "```lua\n(.-)```" do
    if block:find(text, 1, true) then return block end
  end
  error("README.md has no Lua block with " .. text)
end

describe("README.md", function()
  local kit, folder
  local hello, going_on = block_with "-- hello.lua", block_with "And in French?"

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
    local environment = { ("PATH=%s:%s"):format(kit.folder, os.getenv "PATH") }
    for name, value in pairs(kit.environment) do table.insert(environment, name .. "=" .. value) end
    local program <close> = helper.start({ helper.host, ... }, { env = environment, cwd = kit.cwd })
    return program:wait()
  end

  it("has a first script that answers, and one that goes on", helper.task(function()
    helper.write(kit.cwd .. "/hello.lua", hello .. going_on)
    local program = run "hello.lua"
    assert.equal("Hi.\nsuccess\tend_turn\nSalut.\n", program.output, program.errors)
    assert.equal(1, #kit:events "started")
  end))

  it("has tasks that ask side by side", helper.task(function()
    local first_lines = hello:match "^(.-local backend[^\n]*\n)"
    helper.write(kit.cwd .. "/tasks.lua", first_lines .. block_with "local function ask(text)")
    assert.equal("echo: One?\techo: Two?\n", run("tasks.lua").output)
    kit:use { answers = { { on = "One?", thinking = "hmm", text = "First." }, { on = "Two?", text = "let me run",
      tool = { name = "Bash", input = { command = "ls" }, result = "a" }, after = "Second." } } }
    assert.equal("First.\tSecond.\n", run("tasks.lua").output)
  end))

  it("has a routing script with a spec that passes", helper.task(function()
    helper.write(folder .. "/quick.lua", block_with "function M.route(request)")
    helper.write(folder .. "/quick_spec.lua", block_with "describe(\"quick.lua\"")
    local environment = { "PATH=" .. os.getenv "PATH", "HOME=" .. folder }
    local program <close> = helper.start({ helper.host, "test", "quick_spec.lua" }, { env = environment, cwd = folder })
    program:wait()
    assert.truthy(program.output:find "1 success", program.output .. program.errors)
    assert.equal(0, program.status)
  end))

  it("names every option of a backend", function()
    local text = assert(files.read "README.md")
    local launch, session = require "parley.claude.launch", require "parley.session"
    local internal = { session_id = true, resume_session_id = true, fork_session = true, base_env = true,
      capture_limit = true }
    for _, rules in ipairs { launch.rules, session.rules, require("parley.backend").rules } do
      for name in pairs(rules) do
        if not internal[name] then assert.truthy(text:find("`" .. name .. "`", 1, true), name) end
      end
    end
  end)
end)
