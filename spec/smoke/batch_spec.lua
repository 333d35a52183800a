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

  --- Runs so many conversations of three turns in a folder.
  local function run(home, folder, count, ...)
    local lines = {}
    for i = 1, count do
      lines[i] = assert(json.encode { id = "c" .. i, turns = { "one of " .. i, "two of " .. i, "three of " .. i } })
    end
    helper.write(folder .. "/in.jsonl", table.concat(lines, "\n") .. "\n")
    local arguments = { helper.host, "batch", folder .. "/in.jsonl", "-o", folder .. "/out.jsonl", "--jobs", "4",
      "--executable", claude, "--cwd", home.cwd, ... }
    for name, value in pairs(home.extra_env) do
      table.insert(arguments, "--env")
      table.insert(arguments, name .. "=" .. value)
    end
    return helper.run(arguments, { env = helper.environment({ LANG = "C.UTF-8" }, home.extra_env) })
  end

  describe("ends at what every conversation would meet, and goes on with --resume:", function()
    local ACCOUNT = { claudeAiOauth = { accessToken = "made-up", refreshToken = "made-up", expiresAt = 4102444800000,
      scopes = json.array { "user:inference", "user:profile" }, subscriptionType = "max" } }
    local LIMIT = { on = "of", status = 429, message = "This would exceed your account's rate limit.", headers = {
      ["anthropic-ratelimit-unified-status"] = "rejected", ["anthropic-ratelimit-unified-fallback"] = "unavailable",
      ["anthropic-ratelimit-unified-reset"] = tostring(os.time() + 7200), ["x-should-retry"] = "false",
      ["anthropic-ratelimit-unified-representative-claim"] = "five_hour" } }

    for what, case in pairs {
      ["nobody is logged in"] = { message = "error_api: Not logged in · Please run /login",
        variables = { ANTHROPIC_API_KEY = "" } },
      ["a wrong key"] = { message = "error_api: Invalid API key",
        script = { { on = "of", status = 401, message = "invalid x-api-key" } },
        variables = { CLAUDE_CODE_MAX_RETRIES = "1" } },
      ["a usage limit"] = { message = "error_api: You've hit your [%w-]+ limit", script = { LIMIT },
        variables = { ANTHROPIC_API_KEY = "" }, account = ACCOUNT },
      ["a folder that is not trusted"] = { message = "DialogError: the program asks %(trust",
        answers = { trust = false } },
      ["a flag that it does not take"] = { message = "SessionError: the program exited with status 1; [^\n]*%-%-bogus",
        word = "--extra-arg=--bogus" },
    } do
      it(what, helper.task(function()
        local server <close> = messages_api.start { script = case.script }
        local home <close> = offline_home.new { base_url = server.url, answers = case.answers,
          variables = case.variables }
        if case.account then
          helper.write(home.home .. "/.claude/.credentials.json", assert(json.encode(case.account)))
        end
        local folder = helper.temporary_folder()
        local program = run(home, folder, 2, case.word)
        assert.equal(1, program.status)
        assert.is_truthy(program.errors:find("\nparley: " .. case.message .. "[^\n]*\n$"), program.errors)
        assert.equal("", files.read(folder .. "/out.jsonl"))

        local healthy <close> = messages_api.start()
        local other_home <close> = offline_home.new { base_url = healthy.url }
        program = run(other_home, folder, 2, "--resume")
        assert.equal(0, program.status, program.errors)
        assert.equal(2, select(2, files.read(folder .. "/out.jsonl"):gsub('"verdict":"success"', "")))
      end, 300000))
    end
  end)

  it("plays 20 conversations of three turns, four at a time", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }
    local folder = helper.temporary_folder()
    local program = run(home, folder, 20)
    assert.equal(0, program.status, program.errors)
    local seen = {}
    for _, result in ipairs(helper.json_lines(files.read(folder .. "/out.jsonl"))) do
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
