-- The window on the real program: what is seen is what its terminal shows, what a person types is typed, and it is
-- given back as what its transcript says.
local core = require "parley.core"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local live = require "spec.smoke.live"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local viewers = require "parley.gateway.window.viewer"

local LONG = {}
for i = 1, 80 do LONG[i] = ("- item **%d** of a `long` answer"):format(i) end
local RULES = { { on = "long", blocks = { { type = "text", text = table.concat(LONG, "\n") } }, line_ms = 20 } }

local function process_of(gateway)
  return (select(2, next(gateway.server.backend:live_sessions())))
end

describe("the window, on the real program,", function()
  if not live.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  local function serves(name, body)
    it(name, helper.task(function()
      local api <close> = messages_api.start { script = RULES }
      local home <close> = offline_home.new { base_url = api.url, variables = { CLAUDE_CODE_MAX_RETRIES = "0" } }
      local gateway <close> = gateways.start { plain_folder = home.home .. "/plain",
        backend = { executable = live.claude, cwd = home.cwd, extra_env = home.extra_env } }
      body(gateway)
    end, 600000))
  end

  local function post(gateway, id, what, body, hold)
    return gateway:request(("/sessions/%s/%s"):format(id, what), body or "", { ["parley-hold"] = hold })
  end

  local function messages_of(gateway, id) return gateway:request(("/sessions/%s/messages"):format(id)).json end

  serves("shows at any moment of an answer what the terminal shows", function(gateway)
    gateway:ask "hello"
    local process = process_of(gateway)
    local viewer <close> = viewers.new(process)
    local shown, to, looks = nil, nil, { snapshot = 0, bytes = 0 }
    local function drain()
      for look in function() return viewer:take() end do
        looks[look.kind] = looks[look.kind] + 1
        if look.kind == "snapshot" then shown = core.screen.new(look.rows, look.columns) end
        shown:feed(look.bytes)
        to = look.to
      end
      if to ~= process.received then return end -- this watcher was told before the viewer
      assert.same(process.screen:rows(), shown:rows())
      for row = 1, (shown:size()) do assert.same(process.screen:attributes(row), shown:attributes(row)) end
    end
    local pieces = 0
    local stop = process:watch(function()
      pieces = pieces + 1
      if pieces % 3 ~= 0 then return end
      local late <close> = viewers.new(process) -- one who comes now
      local look = late:take()
      local copy <close> = core.screen.new(look.rows, look.columns)
      copy:feed(look.bytes)
      assert.same(process.screen:rows(), copy:rows())
      assert.same({ process.screen:cursor() }, { copy:cursor() })
      drain()
    end)
    local answer = gateway:ask { { role = "user", content = "hello" }, { role = "assistant", content = "echo: hello" },
      { role = "user", content = "long" } }
    stop()
    assert.equal(200, answer.status, answer.body)
    drain()
    assert.equal(process.received, to)
    assert.equal(1, looks.snapshot)
    assert.is_true(looks.bytes > 0)
  end)

  serves("is typed into by hand, and given back as what its transcript says", function(gateway)
    gateway:ask "one"
    local id = gateway:request "/sessions".json[1].id
    local hold = post(gateway, id, "take").json.hold
    local process = process_of(gateway)
    assert.equal(200, post(gateway, id, "keys", "by hand", hold).status)
    helper.eventually(function() return process.screen:text():find("by hand", 1, true) end, 30000)
    assert.equal(200, post(gateway, id, "keys", "\r", hold).status)
    helper.eventually(function() return #messages_of(gateway, id) == 4 end, 60000)
    assert.equal(200, post(gateway, id, "keys", "\27[Z", hold).status) -- another permission mode
    post(gateway, id, "keys", "half a text", hold)
    helper.eventually(function() return post(gateway, id, "give-back", nil, hold).status == 200 end, 60000)
    assert.are_not.equal(process, process_of(gateway))
    local messages = messages_of(gateway, id)
    table.insert(messages, { role = "user", content = "three" })
    local answer = gateway:ask(messages)
    assert.equal(200, answer.status, answer.body)
    assert.equal("echo: three", gateways.text_of(answer.json))
    local lines = gateway:request "/sessions".json
    assert.equal(1, #lines)
    assert.equal(id, lines[1].id)
    assert.equal(6, #messages_of(gateway, id))
  end)

  serves("is given back as another session where a person has begun one", function(gateway)
    gateway:ask "one"
    local id = gateway:request "/sessions".json[1].id
    local hold = post(gateway, id, "take").json.hold
    local process = process_of(gateway)
    post(gateway, id, "keys", "/clear", hold)
    helper.eventually(function() return process.screen:text():find("/clear", 1, true) end, 30000)
    post(gateway, id, "keys", "\r", hold)
    helper.eventually(function() return not process.screen:text():find("echo: one", 1, true) end, 30000)
    post(gateway, id, "keys", "anew", hold)
    helper.eventually(function() return process.screen:text():find("anew", 1, true) end, 30000)
    post(gateway, id, "keys", "\r", hold)
    helper.eventually(function() return process.screen:text():find("echo: anew", 1, true) end, 60000)
    helper.eventually(function() return post(gateway, id, "give-back", nil, hold).status == 200 end, 60000)
    local lines = gateway:request "/sessions".json
    assert.equal(1, #lines)
    local messages = messages_of(gateway, lines[1].id)
    assert.equal(2, #messages)
    table.insert(messages, { role = "user", content = "on" })
    assert.equal("echo: on", gateways.text_of(gateway:ask(messages).json))
    assert.equal(1, #gateway:request "/sessions".json)
  end)
end)
