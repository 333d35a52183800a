-- parley batch on the real program: many conversations, each with its own answers.
local helper = require "spec.helper"
local files = require "parley.base.files"
local json = require("parley.core").json
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"

local claude = os.getenv "PARLEY_CLAUDE"

describe("parley batch", function()
  if not claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  after_each(helper.remove_folders)

  it("plays 20 conversations of three turns, four at a time", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local folder = helper.temporary_folder()
    local lines = {}
    for i = 1, 20 do
      lines[i] = assert(json.encode { id = "c" .. i, turns = { "one of " .. i, "two of " .. i, "three of " .. i } })
    end
    helper.write(folder .. "/in.jsonl", table.concat(lines, "\n") .. "\n")
    local arguments = { helper.host, "batch", folder .. "/in.jsonl", "-o", folder .. "/out.jsonl", "--jobs", "4",
      "--executable", claude, "--cwd", home.cwd }
    local environment = { "PATH=" .. os.getenv "PATH", "LANG=C.UTF-8" }
    for name, value in pairs(home.extra_env) do
      table.insert(environment, name .. "=" .. value)
      table.insert(arguments, "--env")
      table.insert(arguments, name .. "=" .. value)
    end
    local program = helper.run(arguments, { env = environment })
    assert.equal(0, program.status, program.errors)
    local seen = {}
    for line in assert(files.read(folder .. "/out.jsonl")):gmatch "[^\n]+" do
      local result = assert(json.decode(line))
      local number = result.id:match "^c(%d+)$"
      assert.is_nil(seen[number])
      seen[number] = true
      assert.equal("success", result.verdict)
      local texts = {}
      for i, message in ipairs(result.messages) do
        texts[i] = type(message.content) == "string" and message.content or message.content[1].text
      end
      assert.same({ "one of " .. number, "echo: one of " .. number, "two of " .. number, "echo: two of " .. number,
        "three of " .. number, "echo: three of " .. number }, texts)
    end
    for i = 1, 20 do assert.is_true(seen[tostring(i)]) end
  end))
end)
