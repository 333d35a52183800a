-- The official clients, from npm, against a gateway on the simulated claude.
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local uv = require "luv"

local CLIENTS = uv.cwd() .. "/build/clients"
local NODE = "/usr/bin/node"

--- What makes a client's scenarios happen.
local SCRIPT = { answers = {
  { on = "lines", blocks = { { type = "text", text = "one\ntwo\nthree" } }, line_ms = 200 },
  { on = "work", steps = {
    { text = "let me see", tool = { name = "probe", input = { n = 1 } } },
    { tools = { { name = "probe", input = { n = 2 } }, { name = "probe", input = { n = 3 } } } },
    { tool = { name = "probe", input = { n = 4 } } },
    { text = "all done" },
  } },
  { on = "limited", api_error = { status = 429, text = "as asked", retries = 0 } },
  { on = "overloaded", api_error = { status = 529, text = "as asked", retries = 0 } },
  { on = "late", api_error = { status = 529, text = "as asked", retries = 1, retry_ms = 1500 } },
  { on = "endless", blocks = { { type = "text", text = ("line\n"):rep(600) } }, line_ms = 50 },
  { on = "once", times = 1, api_error = { status = 529, text = "as asked", retries = 0 } },
} }

describe("the official client of", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function runs(name, file)
    if not uv.fs_stat(NODE) or not uv.fs_stat(CLIENTS .. "/node_modules") then
      return it(name, function() pending "needs node and npm's clients: run make clients" end)
    end
    it(name, helper.task(function()
      local gateway <close> = gateways.start { kit = { script = SCRIPT }, max_sessions = 8, queue = 200,
        grace_ms = 300 }
      local program = helper.run({ NODE, file }, { env = helper.environment { CLIENTS = CLIENTS,
        BASE_URL = "http://127.0.0.1:" .. gateway.server.port, TOKEN = gateways.TOKEN, COUNT = helper.long("10", "50"),
        TURNS = helper.long("3", "10") } })
      assert.equal(0, program.status, program.output .. program.errors)
      assert.matches("ok whole\n", program.output)
      assert.matches("ok many at a time\n", program.output)
      -- Nothing was said twice but what was made again on purpose.
      local seen = {}
      for _, text in ipairs(gateway.kit:taken()) do
        if text:find "turn %d" then
          assert.is_nil(seen[text], "twice: " .. text)
          seen[text] = true
        end
      end
    end, 600000))
  end

  runs("Anthropic's API goes through all of it", "spec/clients/anthropic.mjs")
  runs("OpenAI's API goes through all of it", "spec/clients/openai.mjs")
end)
