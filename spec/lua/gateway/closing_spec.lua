-- A gateway that is closed, whatever is under way: when it has closed, no program of its lives.
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local task = require "parley.base.task"

local TOOLS = { { name = "probe", input_schema = { type = "object" } } }
local CALL = { script = { answers = { { tool = { name = "probe", input = {} } } } } }
local SLOW_START = { script = { startup_delay_ms = 60000 } }
local STUBBORN = { script = { faults = { ignore_sigterm = true }, answers = { { on = "hang", hang = true } } } }

describe("a gateway that is closed", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- A client, who is left alone.
  local function ask(gateway, ...) return task.spawn(pcall, gateway.ask, gateway, ...) end

  local function starts(gateway) return #gateway.kit:events "started" end

  local function sleeps(gateway)
    helper.eventually(function() return gateway.server.backend:live_session_count() == 0 end)
  end

  local under_way = {
    ["while a session starts"] = { { kit = SLOW_START }, function(gateway)
      local asking = ask(gateway, "one")
      helper.eventually(function() return starts(gateway) == 1 end)
      return asking
    end },
    ["while a call of a client's tool is held"] = { { kit = CALL }, function(gateway)
      assert.equal("tool_use", gateway:ask("one", { tools = TOOLS }).json.stop_reason)
    end },
    ["while one answers that does not end when it is asked to"] = { { kit = STUBBORN }, function(gateway)
      local asking = ask(gateway, "hang")
      helper.eventually(function() return gateway.kit:taken()[1] end)
      return asking
    end },
    ["while an idle one ends"] = { { kit = STUBBORN, idle_timeout_ms = 1 }, function(gateway)
      gateway:ask "one"
      local _, process = next(gateway.server.backend:live_sessions())
      helper.eventually(function() return not process or process.ending end)
    end },
    ["while somebody waits for the place of one that ends, and goes away"] = { { kit = STUBBORN, idle_timeout_ms = 1,
      max_sessions = 1, grace_ms = 1 }, function(gateway)
      gateway:ask "one"
      local body = { model = "sonnet", messages = { { role = "user", content = "two" } } }
      local reader = gateway:open("/v1/messages", body)
      helper.eventually(function() return gateway.server.desk.running == 1 end)
      reader:close()
      helper.eventually(function() return gateway.server.desk.running == 0 end)
    end },
    ["while a conversation is woken"] = { { idle_timeout_ms = 1 }, function(gateway)
      gateway:ask "one"
      sleeps(gateway)
      gateway.kit:use(SLOW_START.script)
      local asking = ask(gateway, { { role = "user", content = "one" }, { role = "assistant", content = "echo: one" },
        { role = "user", content = "two" } })
      helper.eventually(function() return starts(gateway) == 2 end)
      return asking
    end },
  }

  for when, case in pairs(under_way) do
    it(gateways.serves(when .. " leaves no program", case[1], function(gateway)
      local asking = case[2](gateway)
      gateway.server:close()
      assert.same({}, gateway.kit:processes())
      if asking then asking:await() end
    end))
  end
end)
