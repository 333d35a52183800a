-- parley ask on the real program: going on with a session in its own transcript.
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"

local claude = os.getenv "PARLEY_CLAUDE"

describe("parley ask --continue", function()
  if not claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  it("resumes the session: the model gets its tool calls and their results", helper.task(function()
    local server <close> = messages_api.start()
    local home <close> = offline_home.new { base_url = server.url }

    --- The id of the session that answered.
    local function ask(...)
      local arguments = { helper.host, "ask", "--json", "--executable", claude, "--cwd", home.cwd, ... }
      for name, value in pairs(home.extra_env) do
        table.insert(arguments, "--env")
        table.insert(arguments, name .. "=" .. value)
      end
      local program = helper.run(arguments, { env = helper.environment({ LANG = "C.UTF-8" }, home.extra_env) })
      assert.equal(0, program.status, program.errors)
      assert.equal("", program.errors)
      local events = helper.json_lines(program.output)
      return events[#events].session_id
    end

    local id = ask "USETOOL please"
    assert.equal(id, ask("--continue", "and then?"))
    local seen = {}
    for _, message in ipairs(server:last_messages()) do
      for _, block in ipairs(type(message.content) == "table" and message.content or {}) do
        seen[block.type] = block.content or true
      end
    end
    assert.is_true(seen.tool_use)
    assert.equal("tool-out", seen.tool_result)
    assert.equal(id, ask("--session", id:sub(1, 8), "once more"))
  end))
end)
